"""Compilation, arguments and limits: what is refused before anything runs."""

import ctypes

import numpy as np
import pytest

from gpugrad import cudasim
from gpugrad.cudasim import ArgumentError, CompileError, compile_cuda

AXPY = r"""
extern "C" __global__ void axpy(float* y, const float* x, float a, int n, long long step) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i * step] += a * x[i * step];
}"""


def arrays():
    return np.zeros(32, np.float32), np.ones(32, np.float32)


GOOD = (np.float32(2), np.int32(32), np.int64(1))


def test_exact_types_are_taken_in_many_forms(module):
    kernel = module(AXPY)["axpy"]
    for a, n, step in [GOOD, (ctypes.c_float(2), ctypes.c_int(32), ctypes.c_longlong(1)), (np.float32(2), np.uint32(32), 1)]:
        y, x = arrays()
        kernel.launch(1, 32, (y, x, a, n, step))
        assert (y == 2).all()


@pytest.mark.parametrize(("place", "value", "words"), [
    (2, 2.0, "argument 2 `a` must be 4 bytes (float), got float 2.0 of 8 bytes, which is an 8-byte double. "
             "Pass np.float32(2.0)"),
    (2, np.float64(2), "argument 2 `a` must be 4 bytes (float), got float64"),
    (2, np.int32(2), "argument 2 `a` must be 4 bytes (float), got int32"),
    (3, 32, "argument 3 `n` must be 4 bytes (integer), got int 32 of 8 bytes, which is an 8-byte long long. "
            "Pass np.int32(32)"),
    (3, np.float32(32), "argument 3 `n` must be 4 bytes (integer), got float32"),
    (3, True, "argument 3 `n` must be 4 bytes (integer), got bool"),
    (4, np.int32(1), "argument 4 `step` must be 8 bytes"),
    (4, 1.5, "argument 4 `step` must be 8 bytes (integer or pointer), got float 1.5"),
    (1, np.int32(5), "argument 1 `x` must be 8 bytes (integer or pointer), got int32"),
    (2, np.ones(1, np.float32), "argument 2 `a` must be 4 bytes (float), got an array (float32[1])"),
    (0, "y", "argument 0 `y` must be an array, a number or a struct, got str"),
])
def test_wrongly_sized_argument(module, place, value, words):
    args = [*arrays(), *GOOD]
    args[place] = value
    with pytest.raises(ArgumentError) as caught:
        module(AXPY)["axpy"].launch(1, 32, args)
    assert str(caught.value).startswith(f"axpy: {words}")


@pytest.mark.parametrize("count", [0, 4, 6])
def test_wrong_number_of_arguments(module, count):
    args = [*arrays(), *GOOD, np.int32(0)][:count]
    with pytest.raises(ArgumentError, match=rf"axpy: 5 arguments were expected \(y, x, a, n, step\), got {count}"):
        module(AXPY)["axpy"].launch(1, 32, args)


@pytest.mark.parametrize(("grid", "block", "words"), [
    (0, 32, "the grid must lie within"), (1, 0, "the block must lie within"), (1, 2048, "the block must lie within"),
    ((1, 70000), 32, "the grid must lie within"), (1, (32, 32, 2), "a block must have at most 1024 threads, got 2048"),
    ((1, 1, 1, 1), 32, "the grid must be an int or up to three"), (1.5, 32, "must be an int"),
])
def test_shapes_that_no_device_takes(module, grid, block, words):
    with pytest.raises((ArgumentError, TypeError), match=words):
        module(AXPY)["axpy"].launch(grid, block, (*arrays(), *GOOD))


def test_launch_bounds_are_kept(module):
    source = """extern "C" __global__ void __launch_bounds__(64) small(int* y) { y[threadIdx.x] = 1; }"""
    with pytest.raises(ArgumentError, match="small: a block must have at most 64 threads, got 65"):
        module(source)["small"].launch(1, 65, (np.zeros(65, np.int32),))


def test_shared_memory_has_the_limit_of_the_architecture(module):
    source = """extern "C" __global__ void big(int* y) {
      extern __shared__ int s[]; s[threadIdx.x] = 1; y[0] = s[threadIdx.x]; }"""
    y = np.zeros(1, np.int32)
    module(source, "sm_90")["big"].launch(1, 1, (y,), shared=200_000)
    with pytest.raises(ArgumentError, match="big: shared memory must be at most 65536 bytes on sm_75, got 0 static and 200000"):
        module(source, "sm_75")["big"].launch(1, 1, (y,), shared=200_000)


def test_compile_error_shows_the_line_of_the_source():
    with pytest.raises(CompileError) as caught:
        compile_cuda("extern \"C\" __global__ void k(float* y) {\n  y[0] = undefined_name;\n}\n")
    assert 'identifier "undefined_name" is undefined' in str(caught.value)
    assert "line 2: y[0] = undefined_name;" in str(caught.value)
    assert "undefined_name" in caught.value.log


def test_unknown_architecture_and_option_are_compile_errors():
    with pytest.raises(CompileError, match="sm_70"):
        compile_cuda("__global__ void k() {}", arch="sm_70")
    with pytest.raises(CompileError, match="no-such-option"):
        compile_cuda("__global__ void k() {}", options=("--no-such-option",))
    with pytest.raises(CompileError, match=r"Check the name expressions|error"):
        compile_cuda("template <class T> __global__ void k(T* y) {}", names=("missing<float>",))


def test_unknown_kernel_lists_those_there_are(module):
    with pytest.raises(KeyError, match=r"got 'axpi'. The module has axpy"):
        module(AXPY)["axpi"]


def test_plain_name_of_a_mangled_kernel(module):
    source = "__global__ void one(int* y) { *y = 1; }\n__global__ void two(int* y) { *y = 2; }"
    y = np.zeros(1, np.int32)
    module(source)["two"].launch(1, 1, (y,))
    assert y[0] == 2


def test_options_reach_the_compiler():
    source = 'extern "C" __global__ void k(int* y) { *y = VALUE; }'
    y = np.zeros(1, np.int32)
    compile_cuda(source, options=("-DVALUE=42",))["k"].launch(1, 1, (y,))
    assert y[0] == 42


@pytest.mark.parametrize("make", [lambda a: a[::2], lambda a: a[4:], lambda a: a.reshape(8, 8).T, np.asfortranarray])
def test_views_pass_the_address_of_their_first_element(module, make):
    source = """extern "C" __global__ void first(float* y) { y[0] = 5; }"""
    base = np.zeros(64, np.float32)
    view = make(base)
    module(source)["first"].launch(1, 1, (view,))
    assert view.flat[0] == 5


def test_struct_of_pointers_and_numbers(module):
    source = """struct Job { float* y; const float* x; int n; float a; };
    extern "C" __global__ void run(Job job) { for (int i = threadIdx.x; i < job.n; i += 32) job.y[i] = job.a * job.x[i]; }"""
    y, x = np.zeros(50, np.float32), np.arange(50, dtype=np.float32)
    layout = np.dtype([("y", "u8"), ("x", "u8"), ("n", "i4"), ("a", "f4")])
    job = np.array((cudasim.address(y), cudasim.address(x), 50, 3), layout)[()]
    module(source)["run"].launch(1, 32, (job,))
    np.testing.assert_array_equal(y, 3 * x)
    with pytest.raises(ArgumentError, match="run: argument 0 `job` must be a struct of 24 bytes, got"):
        module(source)["run"].launch(1, 32, (y,))


def test_struct_is_indexed_where_it_lies(module):
    source = """struct Table { int cell[16]; };
    extern "C" __global__ void look(int* y, const __grid_constant__ Table t) { y[threadIdx.x] = t.cell[y[threadIdx.x]]; }"""
    y = np.arange(16, dtype=np.int32)[::-1].copy()
    module(source)["look"].launch(1, 16, (y, (100 + np.arange(16, dtype=np.int32)).tobytes()))
    np.testing.assert_array_equal(y, 115 - np.arange(16))


def test_counters_print_as_a_table(module):
    y, x = arrays()
    text = str(module(AXPY)["axpy"].launch(1, 32, (y, x, *GOOD)))
    assert text.startswith("axpy: 1 blocks, 32 threads (simulated)\n")
    assert "global_sectors" in text
    assert "thread instructions" in text


def test_decoded_kernel_shows_the_python_it_runs(module):
    assert "def block_0(lanes):" in module(AXPY)["axpy"].python_source


TYPED = """template <class T> __global__ void any(T* y) { y[0] = 1; }
extern "C" __global__ void typed(float* __restrict__ f, const double *d, int* i, // a comment, with commas
                                 const unsigned int* u, long long* l, void* v) { f[0] = d[0] + i[0] + u[0] + l[0]; }"""


@pytest.mark.parametrize(("position", "dtype", "words"), [
    (0, np.float64, r"argument 0 `f` must be an array of float32, got float64\[4\]"),
    (1, np.float32, "`d` must be an array of float64"),
    (2, np.int64, "`i` must be an array of int32, got int64"), (3, np.uint64, "`u` must be an array of uint32"),
    (4, np.int32, "`l` must be an array of int64, got int32"),
])
def test_arrays_of_the_other_width_are_refused(module, position, dtype, words):
    args = [np.ones(4, kind) for kind in (np.float32, np.float64, np.int32, np.uint32, np.int64, np.uint8)]
    module(TYPED)["typed"].launch(1, 1, args)
    assert args[0][0] == 4
    args[position] = np.ones(4, dtype)
    with pytest.raises(ArgumentError, match=words):
        module(TYPED)["typed"].launch(1, 1, args)


def test_bytes_may_be_meant_differently(module):
    args = [np.ones(4, kind) for kind in (np.complex64, np.float64, np.uint32, np.uint8, np.int64, np.float64)]
    module(TYPED)["typed"].launch(1, 1, args)
    module(TYPED, names=("any<float>",))["any<float>"].launch(1, 1, (np.ones(4),))


def test_a_struct_of_eight_bytes_is_called_one(module):
    source = """extern "C" __global__ void k(float* y, float2 v) { y[0] = v.x; }"""
    with pytest.raises(ArgumentError, match="argument 1 `v` must be a struct of 8 bytes, got float32"):
        module(source)["k"].launch(1, 1, (np.zeros(1, np.float32), np.float32(3)))
