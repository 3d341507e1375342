"""Devices with CuPy's wheel but no driver, without any CuPy, and what the array layer owns."""
import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.arrays import changed_since, exclusive, mark_changed
from gpugrad.graph.state import clock

HAS_CUPY = importlib.util.find_spec("cupy") is not None
WITHOUT_CUPY = "import sys; sys.modules['cupy'] = None; import gpugrad as gg; "


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_without_cupy_everything_on_the_cpu_works():
    out = run(WITHOUT_CUPY + "import numpy as np; print(gg.grad(lambda x: np.sum(x ** 2))(np.ones(2)), gg.default_device())")
    assert out == "[2. 2.] cpu"


def test_without_cupy_asking_for_cuda_says_so():
    out = run(WITHOUT_CUPY + "\ntry: gg.device('cuda')\nexcept gg.DeviceError as e: print(e)")
    assert out == ("device: expected a usable CUDA device for 'cuda', got none: CuPy is not installed. Install CuPy for your "
                   "driver: pip install gpugrad[cuda13], or gpugrad[cuda12]; or use device='cpu'.")
    assert run(WITHOUT_CUPY + "print(gg.cuda.is_available(), gg.cuda.device_count())") == "False 0"


@pytest.mark.skipif(not HAS_CUPY or gg.cuda.is_available(), reason="needs CuPy's wheel and no driver")
def test_cupy_without_a_driver_counts_as_none_with_its_own_reason():
    assert gg.default_device() == "cpu"
    with pytest.raises(gg.DeviceError, match=r"CuPy finds no usable driver \(cudaErrorInsufficientDriver"):
        gg.tensor([1.0], device="cuda")
    assert gg.tensor([1.0]).device == "cpu"


def test_first_gradient_does_not_import_cupy_where_there_is_no_driver():
    if gg.cuda.is_available():
        pytest.skip("this machine has CUDA")
    assert run("import gpugrad as gg, sys; x = gg.tensor([1.0], requires_grad=True); (x * x).sum().backward(); "
               "print('cupy' in sys.modules)") == "False"


def test_a_device_is_a_context_manager_and_equals_its_name():
    with gg.device("cpu") as d:
        assert d == "cpu"
        assert gg.default_device() == d
        assert gg.zeros(2).device == "cpu"
    assert str(d) == "cpu"
    assert gg.tensor([1.0]).to("cpu").device == d
    assert {d, gg.device("cpu")} == {d}
    gg.synchronize()
    gg.synchronize("cpu")


def test_exclusive_sees_every_other_holder():
    a = np.ones(3)
    assert exclusive(a)
    view = a[1:]
    assert not exclusive(a)
    assert not exclusive(view)
    del view
    other = a
    assert not exclusive(a)
    assert exclusive(a, 2)
    del other
    whole = np.ones(6).reshape(2, 3)
    assert exclusive(whole)                              # nobody but this view sees the array it views
    assert not exclusive(np.broadcast_to(np.ones(()), (3,)))


def test_a_change_is_known_by_owner_and_time():
    a = np.ones((2, 2))
    before = clock()
    assert not changed_since(a, before)
    mark_changed(a.T[0], clock())
    assert changed_since(a, before)
    assert changed_since(a[1:], before)
    assert not changed_since(a, clock())
    assert not changed_since(np.ones((2, 2)), before)
