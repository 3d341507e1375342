"""Names of kernels and variables: as the source has them, mangled, and as expressions of templates."""

import numpy as np
import pytest

from gpugrad.cudasim import OutOfBounds
from gpugrad.cudasim.names import qualified, short

SOURCE = r"""
namespace a { namespace b { __device__ int deep = 7; } __managed__ int shared_with_host = 6; }
namespace { __constant__ float anonymous[2] = {1, 2}; }
static __device__ int hidden = 4;
template <class T> __device__ T zero = T(3);
namespace q {
  template <class T, int N> __global__ void tiles(T* y) {
    __shared__ T tile[N]; tile[threadIdx.x] = 1; y[0] = tile[N - 1 + (int)y[1]]; }
  __global__ void plain(int* y) { static __device__ int calls; y[0] = a::b::deep + a::shared_with_host + hidden + zero<int>
      + (int)anonymous[1] + atomicAdd(&calls, 1); }
}"""
NAMES = ("q::tiles<float, 8>", "q::tiles<int, -4 + 6>", "&zero<int>")


@pytest.mark.parametrize(("mangled", "plain"), [
    ("saxpy", "saxpy"), ("_Z4copyIfEvPT_", "copy"), ("_ZN1a1b4deepE", "a::b::deep"), ("_Z1kIfLi8EEvPT_", "k"),
    ("_ZN1q5tilesIfLi8EEEvPT_", "q::tiles"), ("_ZZ1kIfLi8EEvPT_E4tile", "tile"), ("_ZZN1q5plainEPiE5calls", "calls"),
    ("_ZZ1kvE1s_0", "s"), ("_ZN1a1SIN1b1TIiEEE3runEPS1_", "a::S::run"), ("_Z2tvIdE", "tv"),
    ("_ZN39_INTERNAL_00000000_9_kernel_cu_265263346hiddenE", "hidden"),
])
def test_mangled_names_read_as_in_the_source(mangled, plain):
    assert qualified(mangled) == plain
    assert short(mangled) == plain.rsplit("::", 1)[-1]


@pytest.mark.parametrize("name", ["q::plain", "plain", "_ZN1q5plainEPi"])
def test_a_kernel_goes_by_its_name_with_its_namespace_or_without(module, name):
    y = np.zeros(1, np.int32)
    loaded = module(SOURCE, names=NAMES)
    loaded.variable("calls", np.int32)[:] = 0
    loaded[name].launch(1, 1, (y,))
    assert y[0] == 7 + 6 + 4 + 3 + 2


def test_spaces_in_a_template_do_not_matter(module):
    loaded = module(SOURCE, names=NAMES)
    assert loaded["q::tiles<float,8>"] is loaded["q::tiles<float, 8>"]
    with pytest.raises(KeyError, match=r"The module has q::plain, q::tiles<float,8>, q::tiles<int,-4\+6>;"):
        loaded["q::tiles<int,3>"]


@pytest.mark.parametrize(("name", "value"), [
    ("deep", 7), ("a::b::deep", 7), ("a::shared_with_host", 6), ("hidden", 4), ("zero<int>", 3)])
def test_variables_go_by_their_names_too(module, name, value):
    assert module(SOURCE, names=NAMES).variable(name, np.int32).tolist() == [value]


def test_an_unknown_variable_lists_those_there_are(module):
    with pytest.raises(KeyError, match=r"got 'depth'. The module has .*a::b::deep"):
        module(SOURCE, names=NAMES).variable("depth")


def test_a_shared_variable_of_a_template_is_told_by_its_name(module):
    y = np.ones(2, np.float32)
    with pytest.raises(OutOfBounds, match="0 bytes past the end of `tile` \\(32 bytes\\)"):
        module(SOURCE, names=NAMES)["q::tiles<float, 8>"].launch(1, 8, (y,))


def test_the_dimensions_of_a_launch_may_be_an_array(module):
    source = """extern "C" __global__ void k(int* y) { atomicAdd(y, 1); }"""
    y = np.zeros(1, np.int32)
    module(source)["k"].launch(np.array([2, 3]), [np.int64(4), 5], (y,))
    assert y[0] == 120
