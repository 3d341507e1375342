"""Sums over any axes through reduce.cu on the simulated device, against NumPy in float64."""
import itertools
import math

import numpy as np
import pytest
from cu_support import eps

from gpugrad.cudasim import cupy
from gpugrad.kernels.record import recording
from gpugrad.kernels.reduce import means, plan_for, sums

pytestmark = pytest.mark.usefixtures("sim")


def normal(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape)).astype(dtype) if np.dtype(dtype).kind == "c" else x.astype(dtype)


def assert_sum(y, x, axis, keepdims, scale=1.0):
    wide = x.astype("D" if x.dtype.kind == "c" else "d")
    size = np.abs(wide).sum(axis=axis, keepdims=keepdims) * scale
    assert y.shape == size.shape and y.dtype == x.dtype
    error = np.abs(y.get() - wide.sum(axis=axis, keepdims=keepdims) * scale)
    assert (error <= 4 * eps(x.dtype) * size).all(), error.max()


def axes_of(rank):
    return itertools.chain.from_iterable(itertools.combinations(range(rank), r) for r in range(1, rank + 1))


@pytest.mark.parametrize("dtype", ["float32", "complex128"])
@pytest.mark.parametrize("shape", [(5,), (4, 6), (3, 4, 5), (2, 3, 4, 2), (1, 5, 1), (600, 7), (2, 9000)])
def test_sums_over_any_axes_in_any_order(shape, dtype):
    x = normal(shape, dtype)
    memory = cupy.asarray(x)
    for axis in axes_of(x.ndim):
        for numpys, view in ((x, memory), (x.T, memory.T)):
            if plan_for(view, axis) is None:
                assert math.prod(view.shape[a] for a in axis) == 1                       # nothing to sum
                continue
            for keepdims in (False, True):
                assert_sum(sums(cupy)(view, axis, keepdims), numpys, axis, keepdims)
                assert_sum(means(cupy)(view, axis, keepdims), numpys, axis, keepdims,
                           1 / math.prod(x.shape[a] for a in axis) if view is memory else
                           1 / math.prod(x.T.shape[a] for a in axis))


@pytest.mark.parametrize(("shape", "axis", "names"), [
    ((64, 32), (0,), ["sum_middle<float, 4>"]),
    ((64, 32), (1,), ["sum_last<float, 4>"]),
    ((6, 5, 32), (0, 1), ["sum_middle<float, 4>"]),
    ((6, 5, 32), (0, 1, 2), ["sum_last<float, 4>"]),
    ((6, 5, 32), (0, 2), ["sum_last<float, 4>", "sum_middle<float, 1>"]),
    ((9000,), (0,), ["sum_last<float, 4>"])])
def test_neighbouring_axes_are_one_launch(shape, axis, names):
    x = normal(shape, "float32")
    with recording() as log:
        y = sums(cupy)(cupy.asarray(x), axis, False)
    assert [launch.name for launch in log.launches] == names
    assert_sum(y, x, axis, False)
    assert log.launches[0].bytes_read == x.nbytes


def test_half_precision_is_summed_in_float():
    x = np.full(3000, 0.1, np.float16)
    y = sums(cupy)(cupy.asarray(x), (0,), False)
    assert y.get()[()] == np.float16(3000 * float(np.float16(0.1)))


def test_what_the_kernel_does_not_take_is_not_planned():
    x = np.zeros((4, 6), np.float32)
    assert plan_for(x[:, ::2], (0,)) is None
    assert plan_for(x[::2], (0,)) is None
    assert plan_for(np.broadcast_to(x[:1], (4, 6)), (0,)) is None
    assert plan_for(x.astype(np.float16).reshape(2, 2, 6), (0, 2)) is None              # would round between two passes


def test_the_same_sum_has_the_same_bits():
    x = cupy.asarray(normal((2, 9000), "float32"))
    first, second = (sums(cupy)(x, (1,), False).get() for _ in range(2))
    np.testing.assert_array_equal(first, second)
