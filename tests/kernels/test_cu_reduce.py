"""kernels/reduce.cu on the simulated device, against NumPy in float64."""
import numpy as np
import pytest
from cu_support import assert_near, blank, i64, launch, placed, stored, tickets, values, wide

DTYPES = ("float32", "float64", "float16", pytest.param("bfloat16", marks=pytest.mark.slow))


def sum_last(x, dtype, width, shift=0, slice_size=None, scale=1.0, before=None, seed=0):
    outer, length = x.shape
    y = blank(outer, dtype, shift) if before is None else placed(before, before.dtype.name, shift)
    slices = 1 if slice_size is None else max(1, -(-length // slice_size))
    accumulator = "float64" if dtype == "float64" else "float32"
    warp_each = slices == 1 and length <= 1024
    grid, block = (-(-outer // 8), (32, 8)) if warp_each else ((outer, slices), (256, 1))
    partial, ticket = (blank((outer, slices), accumulator), np.zeros(outer, np.uint32)) if slices > 1 else (None, None)
    counters = launch("reduce.cu", "sum_last", (dtype, width), grid, block,
                      (placed(x, x.dtype.name, shift), y, partial, ticket, i64(outer), i64(length), i64(slice_size or length),
                       np.float64(scale), before is not None), seed=seed)
    assert ticket is None or not ticket.any()
    return y, counters


def lanes_for(inner, width):
    """The block's width in sum_middle."""
    lanes = 1
    while lanes < 32 and lanes * width < inner:
        lanes *= 2
    return lanes


def sum_middle(x, dtype, width, shift=0, slice_size=None, scale=1.0, before=None, seed=0):
    outer, length, inner = x.shape
    y = blank((outer, inner), dtype, shift) if before is None else placed(before, before.dtype.name, shift)
    lanes = lanes_for(inner, width)
    tiles, slices = -(-inner // (lanes * width)), 1 if slice_size is None else max(1, -(-length // slice_size))
    accumulator = "float64" if dtype == "float64" else "float32"
    partial = blank((slices, width, outer * tiles * lanes), accumulator) if slices > 1 else None
    ticket = tickets(slices, outer * tiles) if slices > 1 else None
    counters = launch("reduce.cu", "sum_middle", (dtype, width), (outer * tiles, slices), (lanes, 256 // lanes),
                      (placed(x, x.dtype.name, shift), y, partial, ticket, i64(length), i64(inner), i64(slice_size or length),
                       np.int32(tiles), np.float64(scale), before is not None), seed=seed)
    assert ticket is None or not ticket.any()
    return y, counters


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (9, 32), (8, 33), (17, 127), (5, 128), (40, 129), (2, 1009), (3, 4096),
                                   (1, 5003), (1, 20000)])
def test_sum_over_the_last_axis_by_warps_by_blocks_and_by_slices(shape, dtype):
    rng = np.random.default_rng(shape)
    x = stored(rng.standard_normal(shape), dtype)
    xv = values(x, dtype)
    norm = np.sqrt((xv ** 2).sum(axis=1))
    for width, shift in [(1, 0), (1, 1), *([(wide(dtype), 0)] if shape[0] == 1 or shape[1] % wide(dtype) == 0 else [])]:
        for slice_size in (None, 64, 1032):
            y, _ = sum_last(x, dtype, width, shift, slice_size)
            assert_near(y, xv.sum(axis=1), dtype, shape[1], norm)
        before = stored(rng.standard_normal(shape[0]), dtype)
        y, _ = sum_last(x, dtype, width, shift, 512, scale=0.25, before=before)
        assert_near(y, xv.sum(axis=1) / 4 + values(before, dtype), dtype, shape[1], norm + np.abs(values(before, dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 3), (2, 31, 10), (1, 33, 32), (3, 5, 127), (1, 129, 64), (1, 300, 256),
                                   (2, 64, 1000), (1, 1009, 8), (5, 1, 40), (1, 70, 129)])
def test_sum_over_the_middle_axis_for_narrow_and_wide_rows(shape, dtype):
    rng = np.random.default_rng(shape)
    x = stored(rng.standard_normal(shape), dtype)
    xv = values(x, dtype)
    norm = np.sqrt((xv ** 2).sum(axis=1))
    for width, shift in [(1, 0), (1, 1), *([(wide(dtype), 0)] if shape[2] % wide(dtype) == 0 else [])]:
        for slice_size in (None, 8, 50):
            y, _ = sum_middle(x, dtype, width, shift, slice_size)
            assert_near(y, xv.sum(axis=1), dtype, shape[1], norm)
        before = stored(rng.standard_normal((shape[0], shape[2])), dtype)
        y, _ = sum_middle(x, dtype, width, shift, 16, scale=1 / shape[1], before=before)
        assert_near(y, xv.mean(axis=1) + values(before, dtype), dtype, shape[1], norm + np.abs(values(before, dtype)))


def test_separated_axes_are_two_launches():
    x = np.random.default_rng(0).standard_normal((6, 5, 32))
    inner, _ = sum_last(x.reshape(30, 32), "float64", 2)
    y, _ = sum_middle(inner.reshape(1, 6, 5), "float64", 1)
    np.testing.assert_allclose(y[0], x.sum(axis=(0, 2)), rtol=1e-13)


def test_sum_of_nothing_is_zero():
    y, _ = sum_last(np.empty((3, 0), np.float32), "float32", 1)
    np.testing.assert_array_equal(y, 0)
    y, _ = sum_middle(np.empty((2, 0, 3), np.float32), "float32", 1)
    np.testing.assert_array_equal(y, 0)


def test_nan_and_infinities_spread_as_in_numpy():
    x = np.ones((8, 64), np.float32)
    x[1, 3], x[2, 4], x[3, 5], x[4, 5] = np.nan, np.inf, np.inf, -np.inf
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(sum_last(x, "float32", 4)[0], x.sum(axis=1))
        np.testing.assert_array_equal(sum_middle(x[None], "float32", 4)[0][0], x.sum(axis=0))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sums_repeat_bit_for_bit_whichever_block_is_last(dtype):
    x = stored(np.random.default_rng(3).standard_normal((1, 600, 72)), dtype)
    assert len({sum_middle(x, dtype, 1, 0, 25, seed=s)[0].tobytes() for s in range(4)}) == 1
    assert len({sum_last(x.reshape(1, -1), dtype, 1, 0, 1000, seed=s)[0].tobytes() for s in range(4)}) == 1


@pytest.mark.parametrize(("rows", "columns", "slice_size"), [(256, 1024, 8), (2048, 768, 48)])
def test_column_sums_of_the_benchmark_shapes_fill_an_h100_and_read_once(rows, columns, slice_size):
    x = np.random.default_rng(4).standard_normal((1, rows, columns)).astype(np.float32)
    y, counters = sum_middle(x, "float32", 4, 0, slice_size)
    assert_near(y, x.astype(np.float64).sum(axis=1), "float32", rows, np.sqrt(rows))
    assert counters.blocks / (132 * -(-counters.blocks // 132)) > 0.95
    slices, tiles = -(-rows // slice_size), columns // 128
    again = 0 if slices <= 32 else -(-slices // 32)               # sums of 32 slices each, added up in turn
    tickets_read = 4 * tiles * (slices + again)
    assert counters.bytes_read == 4 * rows * columns + 4 * (slices + again) * columns + tickets_read
    assert counters.sector_efficiency > 0.999
    assert counters.bank_conflicts == 0


def test_narrow_columns_waste_no_sector():
    x = np.random.default_rng(5).standard_normal((1, 256, 16)).astype(np.float32)
    _, counters = sum_middle(x, "float32", 4)
    assert counters.sector_efficiency == 1 and counters.bank_conflicts == 0
