"""The optimisers on simulated device memory: one launch for all parameters, and the numbers of the CPU."""
import numpy as np
import pytest

import gpugrad as gg
from gpugrad.cudasim import cupy
from gpugrad.graph.tensor import Tensor
from gpugrad.kernels.record import recording

pytestmark = pytest.mark.usefixtures("sim")

SHAPES = [(3, 5), (1030,), (), (0, 4), (33, 7)]
HOW = {
    "sgd": (gg.optim.SGD, {"lr": 0.1}),
    "momentum": (gg.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (gg.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (gg.optim.Adam, {"lr": 0.01, "weight_decay": 0.01}),
    "adamw": (gg.optim.AdamW, {"lr": 0.01}),
    "amsgrad": (gg.optim.Adam, {"lr": 0.01, "amsgrad": True})}


def parameters(arrays, place):
    tensors = [Tensor(place(x.copy())) for x in arrays]
    for t in tensors:
        t.requires_grad = True
    return tensors


def normal(rng, shape, dtype):
    x = rng.standard_normal(shape)
    return np.asarray(x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


class Pair:
    """The same model on the CPU and on the device, stepped with the same gradients."""

    def __init__(self, how, dtype="float32"):
        self.rng, self.dtype = np.random.default_rng(0), dtype
        self.kind, self.options = HOW[how]
        arrays = [normal(self.rng, s, dtype) for s in SHAPES]
        self.cpu, self.gpu = parameters(arrays, np.asarray), parameters(arrays, cupy.asarray)
        self.cpu_optim, self.gpu_optim = self.kind(self.cpu, **self.options), self.kind(self.gpu, **self.options)

    def step(self, without=()):
        for k, (a, b) in enumerate(zip(self.cpu, self.gpu, strict=True)):
            g = normal(self.rng, a.shape, self.dtype)
            a._grad, b._grad = (None, None) if k in without else (Tensor(g), Tensor(cupy.asarray(g)))
        self.cpu_optim.step()
        with recording() as log:
            self.gpu_optim.step()
        return [launch.name for launch in log.launches]

    def assert_same(self):
        for a, b in zip(self.cpu, self.gpu, strict=True):
            wide = "d" if np.dtype(self.dtype).itemsize // (1 + (self.dtype[0] == "c")) == 8 else "f"
            tolerance = 1e-12 if wide == "d" else 2e-5
            assert b.shape == a.shape and b.dtype == a.dtype
            np.testing.assert_allclose(b._data.get(), a._data, rtol=tolerance, atol=tolerance)
        for a, b in zip(self.cpu_optim._slots.values(), self.gpu_optim._slots.values(), strict=True):
            assert a.step == b.step and list(a.arrays) == list(b.arrays)
            for name, kept in a.arrays.items():
                assert b.arrays[name].shape == kept.shape
                np.testing.assert_allclose(b.arrays[name].get(), kept, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("how", HOW)
def test_a_step_is_one_launch_and_gives_the_numbers_of_the_cpu(how):
    pair = Pair(how)
    kernel = "sgd" if pair.kind is gg.optim.SGD else "adam"
    for _ in range(3):
        assert pair.step() == [f"{kernel}<float, 4>"]
        pair.assert_same()


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_other_dtypes(dtype):
    pair = Pair("adamw", dtype)
    for _ in range(2):
        assert len(pair.step()) == 1
        pair.assert_same()


@pytest.mark.parametrize("how", ["momentum", "adam"])
def test_a_parameter_without_a_gradient_is_left_alone(how):
    pair = Pair(how)
    pair.step(without=(1,))
    pair.assert_same()
    launches = pair.step()                               # the second step of some, the first of one
    assert len(launches) == 2
    pair.assert_same()


def test_the_learning_rate_may_change_and_data_may_be_replaced():
    pair = Pair("momentum")
    pair.step()
    pair.cpu_optim.lr = pair.gpu_optim.lr = 0.5
    pair.cpu[0]._data = np.ones((3, 5), "f")
    pair.gpu[0]._data = cupy.asarray(np.ones((3, 5), "f"))
    pair.step()
    pair.assert_same()


def test_parameters_are_the_users_tensors_in_one_arena():
    pair = Pair("adam")
    pair.step()
    first = pair.gpu[0]._data
    pair.step()
    assert pair.gpu[0]._data is first
