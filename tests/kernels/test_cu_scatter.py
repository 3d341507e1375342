"""kernels/scatter.cu on the simulated device, against numpy.add.at in float64."""
import numpy as np
import pytest
from cu_support import assert_near, blank, i64, launch, placed, stored, thinned, values, wide

DTYPES = ("float32", "float64", "float16", pytest.param("bfloat16", marks=pytest.mark.slow))


def run(g, keys, rows, dtype, width, shift=0, before=None, in_order=False):
    count, columns = g.shape
    order = None if in_order else np.argsort(keys, kind="stable")
    ascending = keys if in_order else keys[order]
    out = placed(np.zeros((rows, columns)) if before is None else before, None if before is not None else dtype, shift)
    chunks, lanes = -(-count // 32), 1
    while lanes < 32 and lanes * width < columns:
        lanes *= 2
    partial = blank((2, chunks, columns), "float64" if dtype == "float64" else "float32")
    grid, block = (-(-chunks // (256 // lanes)), -(-columns // (lanes * width))), (lanes, 256 // lanes)
    targs = (dtype, width, "int" if keys.dtype == np.int32 else "long long")
    ascending = placed(ascending)
    first = launch("scatter.cu", "scatter_chunks", targs, grid, block,
                   (placed(g, g.dtype.name, shift), ascending, order, out, partial, i64(count), i64(columns), i64(rows)))
    launch("scatter.cu", "scatter_joins", targs, grid, block, (ascending, partial, out, i64(count), i64(columns), i64(rows)))
    return out, first


def key_sets(rng, count):
    """Distinct keys, many repeats, one key only, a run of many chunks between short ones."""
    yield rng.permutation(count).astype(np.int64), count
    yield rng.integers(0, 7, count, dtype=np.int32), 9
    yield np.full(count, 2, np.int64), 4
    yield np.where(rng.random(count) < 0.8, 5, rng.integers(0, 50, count)).astype(np.int32), 50


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", thinned([(1, 1), (31, 3), (33, 1), (32, 8), (65, 127), (129, 16), (200, 33), (1009, 40),
                                           (300, 300)]))
def test_rows_of_equal_keys_are_added(shape, dtype):
    rng = np.random.default_rng(shape)
    g = stored(rng.standard_normal(shape), dtype)
    gv = values(g, dtype)
    for keys, rows in key_sets(rng, shape[0]):
        before = stored(rng.standard_normal((rows, shape[1])), dtype)
        wanted, size = values(before, dtype).copy(), np.abs(values(before, dtype))
        np.add.at(wanted, keys, gv)
        np.add.at(size, keys, np.abs(gv))
        for width, shift in [(1, 1), *([(wide(dtype), 0)] if shape[1] % wide(dtype) == 0 else [])]:
            out, _ = run(g, keys, rows, dtype, width, shift, before)
            assert_near(out, wanted, dtype, shape[0], size)


def test_keys_outside_are_skipped_and_sorted_keys_need_no_order():
    g = np.ones((70, 4), np.float32)
    keys = np.sort(np.r_[np.full(34, -1), np.arange(8), np.full(28, 9)])
    out, _ = run(g, keys, 8, "float32", 4, in_order=True)
    np.testing.assert_array_equal(out, 1)


def test_the_order_of_a_sum_is_that_of_the_keys():
    """Within a chunk one after another: 1e8 + 1 - 1e8 in float32 is 0, and 1e8 - 1e8 + 1 is 1."""
    g = np.array([[1e8], [1], [-1e8], [1e8], [-1e8], [1]], np.float32)
    out, _ = run(g, np.array([0, 0, 0, 1, 1, 1]), 2, "float32", 1)
    np.testing.assert_array_equal(out[:, 0], [0, 1])


def test_distinct_keys_of_wide_rows_ask_for_no_needless_sector():
    g = np.random.default_rng(0).standard_normal((128, 256)).astype(np.float32)
    _, counters = run(g, np.random.default_rng(1).permutation(128), 128, "float32", 4)
    assert counters.bytes_written == g.nbytes
    assert counters.sector_efficiency > 0.9
