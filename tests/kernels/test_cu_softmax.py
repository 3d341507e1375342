"""kernels/softmax.cu on the simulated device, against NumPy in float64."""
import numpy as np
import pytest
from cu_support import assert_near, blank, i64, launch, placed, stored, thinned, values, wide

from gpugrad.kernels.geometry import row_plan

DTYPES = ("float32", "float64", "float16", pytest.param("bfloat16", marks=pytest.mark.slow))
SHAPES = [(1, 1), (9, 10), (3, 31), (8, 32), (17, 33), (5, 127), (4, 128), (3, 129), (2, 600), (2, 1009), (2, 4096)]


def softmax(x, log):
    with np.errstate(invalid="ignore"):
        z = x - x.max(axis=1, keepdims=True)
        total = np.exp(z).sum(axis=1, keepdims=True)
        return z - np.log(total) if log else np.exp(z) / total


def pull(g, y, log):
    return g - np.exp(y) * g.sum(axis=1, keepdims=True) if log else y * (g - (g * y).sum(axis=1, keepdims=True))


def run(kernel, arrays, dtype, width, shift, log, long=False, in_place=False):
    rows, columns = arrays[0].shape
    given = [placed(a, a.dtype.name, shift) for a in arrays]
    out = given[0] if in_place else blank((rows, columns), dtype, shift)
    plan = None if long else row_plan(columns, width, dtype)
    if plan is None:
        counters = launch("softmax.cu", f"softmax_long{kernel}", (dtype, width, log), rows, 512, (*given, out, i64(columns)))
    else:
        packs, block, each = plan
        counters = launch("softmax.cu", f"softmax_row{kernel}", (dtype, width, packs, log), -(-rows // each), block,
                          (*given, out, i64(rows), np.int32(columns)))
    return out, counters


def paths(dtype, columns):
    vector = [(wide(dtype), 0)] if columns % wide(dtype) == 0 else []
    return [(width, shift, long) for width, shift in [*vector, (1, 0), (1, 1)] for long in (False, True)]


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", thinned(SHAPES))
def test_softmax_and_its_pullback_by_warps_by_blocks_and_in_two_readings(shape, dtype, log):
    rng = np.random.default_rng(shape)
    x, g = stored(4 * rng.standard_normal(shape) + 100, dtype), stored(rng.standard_normal(shape), dtype)
    xv, gv = values(x, dtype), values(g, dtype)
    z = np.abs(xv - xv.max(axis=1, keepdims=True))
    for width, shift, long in paths(dtype, shape[1]):
        y, _ = run("", (x,), dtype, width, shift, log, long)
        wanted = softmax(xv, log)
        assert_near(y, wanted, dtype, shape[1], (1 + z) * (1 if log else np.abs(wanted)))
        dx, _ = run("_pull", (g, y), dtype, width, shift, log, long)
        wanted = pull(gv, values(y, dtype), log)
        share = np.exp(values(y, dtype)) if log else values(y, dtype)
        assert_near(dx, wanted, dtype, shape[1], np.abs(gv) + (4 + z) * share * (1 + np.abs(gv).sum(axis=1, keepdims=True)))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("long", [False, True])
def test_infinities_and_nan_as_in_numpy(log, long):
    x = np.tile(np.linspace(-3, 3, 70), (7, 1))
    x[0, 5] = -np.inf
    x[1, 5] = np.inf
    x[2, 5] = np.nan
    x[3] = -np.inf
    x[4], x[4, 69] = -np.inf, 1
    x[5, :40] = -1e30
    x[6] *= 1e5
    y, _ = run("", (x.astype(np.float32),), "float32", 1, 0, log, long)
    wanted = softmax(x, log)
    np.testing.assert_allclose(y, wanted, rtol=2e-5, atol=2e-7)
    np.testing.assert_array_equal(np.isnan(y).all(axis=1), [False, True, True, True, False, False, False])


@pytest.mark.parametrize("long", [False, True])
def test_a_row_may_be_overwritten_and_a_shifted_row_is_unchanged(long):
    x = np.random.default_rng(0).integers(-8, 8, (5, 256)).astype(np.float32)
    y, _ = run("", (x,), "float32", 4, 0, False, long)
    moved, _ = run("", (x + 1000,), "float32", 4, 0, False, long, in_place=True)
    np.testing.assert_array_equal(y, moved)
    dx, _ = run("_pull", (x, y), "float32", 4, 0, False, long)
    again, _ = run("_pull", (x, y), "float32", 4, 0, False, long, in_place=True)
    np.testing.assert_array_equal(dx, again)


def test_traffic_of_registers_is_one_reading_and_every_sector_is_needed():
    rows, columns = 64, 1024
    x = np.random.default_rng(1).standard_normal((rows, columns)).astype(np.float32)
    y, counters = run("", (x,), "float32", 4, 0, False)
    assert counters.bytes_read == counters.bytes_written == 4 * rows * columns
    assert counters.sector_efficiency == 1 and counters.bank_conflicts == 0
    _, counters = run("_pull", (x, y), "float32", 4, 0, False)
    assert (counters.bytes_read, counters.bytes_written) == (8 * rows * columns, 4 * rows * columns)
    _, counters = run("", (x,), "float32", 4, 0, False, long=True)
    assert counters.bytes_read == 2 * counters.unique_bytes_read == 8 * rows * columns
