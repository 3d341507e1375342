"""Rows added at repeated places through scatter.cu on the simulated device, against numpy.add.at."""
import numpy as np
import pytest

from gpugrad.cudasim import cupy
from gpugrad.kernels.record import recording
from gpugrad.kernels.scatter import add_rows

pytestmark = pytest.mark.usefixtures("sim")


def normal(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape)).astype(dtype) if np.dtype(dtype).kind == "c" else x.astype(dtype)


def added(g, rows, n):
    y = np.zeros((n, g.shape[1]), "D" if g.dtype.kind == "c" else "d")
    np.add.at(y, rows, g)
    return y


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "complex64", "complex128"])
@pytest.mark.parametrize(("count", "width", "n"), [(1, 1, 1), (31, 3, 5), (33, 8, 4), (200, 16, 7), (300, 1, 300)])
def test_rows_at_equal_places_add_up(dtype, count, width, n):
    g, rows = normal((count, width), dtype), np.random.default_rng(1).integers(0, n, count)
    y = add_rows(cupy, cupy.asarray(g), cupy.asarray(rows), n)
    tolerance = {"float16": 2e-2, "float32": 1e-5, "complex64": 1e-5}.get(dtype, 1e-12)
    assert y.shape == (n, width) and y.dtype == dtype
    np.testing.assert_allclose(y.get(), added(g, rows, n), rtol=tolerance, atol=tolerance)


def test_the_sum_has_the_same_bits_each_time_and_takes_two_launches():
    g, rows = cupy.asarray(normal((500, 4), "float32")), cupy.asarray(np.random.default_rng(2).integers(0, 3, 500))
    with recording() as log:
        first = add_rows(cupy, g, rows, 3)
    assert [launch.name for launch in log.launches] == [f"scatter_{part}<float, 4, long long>" for part in ("chunks", "joins")]
    np.testing.assert_array_equal(first.get(), add_rows(cupy, g, rows, 3).get())


def test_a_run_within_a_chunk_needs_no_join():
    with recording() as log:
        add_rows(cupy, cupy.asarray(normal((20, 4), "float32")), cupy.asarray(np.zeros(20, np.int64)), 2)
    assert len(log.launches) == 1


@pytest.mark.parametrize(("count", "width", "n"), [(0, 3, 4), (5, 0, 4), (0, 3, 0)])
def test_nothing_to_add_is_zeros(count, width, n):
    y = add_rows(cupy, cupy.asarray(normal((count, width), "float32")), cupy.asarray(np.zeros(count, np.int64)), n)
    assert y.shape == (n, width) and not y.get().any()
