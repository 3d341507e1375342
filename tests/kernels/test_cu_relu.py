"""kernels/relu.cu on the simulated device, against NumPy in float64."""
import numpy as np
import pytest
from cu_support import (
    LENGTHS,
    assert_near,
    blank,
    flushed,
    i64,
    launch,
    placed,
    stored,
    thinned,
    tickets,
    values,
    wide,
)

from gpugrad.kernels.geometry import flat_grid

DTYPES = ("float32", "float64", "float16", pytest.param("bfloat16", marks=pytest.mark.slow))
AWKWARD = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-310, -1e-310, 1e-42, -1e-42, 3.0, -3.0]
SHAPES = [(1, 1), (3, 31), (8, 32), (9, 33), (5, 127), (7, 128), (2, 129), (33, 10), (16, 300), (131, 257), (64, 1024)]


def paths(dtype, columns=None):
    """(V, shift): the vector path where it may run, the scalar path at an aligned and at a shifted address."""
    both = [(1, 0), (1, 1)]
    return both if columns is not None and columns % wide(dtype) else [(wide(dtype), 0), *both]


def sample(rng, shape, dtype):
    x = rng.standard_normal(shape)
    x.flat[: len(AWKWARD)] = AWKWARD[: x.size]
    return stored(rng.permutation(x.ravel()).reshape(shape), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_relu_is_numpys_maximum_and_its_pullback_the_gate(n, dtype):
    rng = np.random.default_rng(n)
    x, g = sample(rng, n, dtype), sample(rng, n, dtype)
    xv, gv = values(x, dtype), values(g, dtype)
    for width, shift in paths(dtype):
        dx, y = blank(n, dtype, shift), blank(n, dtype, shift)
        grid = flat_grid(n, width)
        launch("relu.cu", "relu", (dtype, width), grid, 256, (placed_as(x, shift), y, i64(n)))
        np.testing.assert_array_equal(values(y, dtype), np.maximum(flushed(xv, dtype), 0))
        launch("relu.cu", "relu_pull", (dtype, width), grid, 256, (placed_as(g, shift), y, dx, i64(n)))
        np.testing.assert_array_equal(values(dx, dtype), np.where(flushed(xv, dtype) > 0, gv, 0))


def placed_as(x, shift):
    return placed(x, x.dtype.name, shift)


def bits_of(mask, columns):
    bits = (mask[:, :, None] >> np.arange(32, dtype=np.uint32) & 1).reshape(mask.shape[0], -1)
    assert not bits[:, columns:].any()
    return bits[:, :columns].astype(bool)


def forward(x, b, dtype, width, shift):
    rows, columns = x.shape
    y, mask = blank(x.shape, dtype, shift), blank((rows, -(-columns // 32)), "uint32")
    grid = -(-rows // 8) * -(-columns // (32 * width))
    shifted = None if b is None else placed_as(b, shift)
    counters = launch("relu.cu", "bias_relu", (dtype, width), grid, (32, 8),
                      (placed_as(x, shift), shifted, y, mask, i64(rows), np.int32(columns)))
    return y, mask, counters


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", thinned(SHAPES))
def test_bias_relu_writes_the_output_and_one_bit_an_element(shape, dtype):
    rng = np.random.default_rng(shape)
    x, b = sample(rng, shape, dtype), stored(rng.standard_normal(shape[1]), dtype)
    for width, shift in paths(dtype, shape[1]):
        for bias in (b, None):
            wanted = values(x, dtype) + (0 if bias is None else values(b, dtype))
            y, mask, _ = forward(x, bias, dtype, width, shift)
            assert_near(y, np.maximum(wanted, 0), dtype)
            np.testing.assert_array_equal(bits_of(mask, shape[1]), values(y, dtype) > 0)


def backward(g, mask, dtype, width, shift, slice_rows, seed=0, db=True, before=None):
    rows, columns = g.shape
    slices, tiles = max(1, -(-rows // slice_rows)), -(-columns // (32 * width))
    dx = blank(g.shape, dtype, shift)
    sums = blank(columns, dtype, shift) if before is None else placed_as(before, shift)
    accumulator = np.float64 if dtype == "float64" else np.float32
    partial, ticket = (blank((slices, width, tiles * 32), accumulator), tickets(slices, tiles)) if slices > 1 else (None, None)
    counters = launch("relu.cu", "bias_relu_pull", (dtype, width), (tiles, slices), (32, 8),
                      (placed_as(g, shift), mask, dx, sums if db else None, partial, ticket, i64(rows), np.int32(columns),
                       i64(slice_rows), before is not None), seed=seed)
    if slices > 1:
        assert not ticket.any() or not db
    return dx, sums, counters


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", thinned(SHAPES))
def test_masked_pullback_and_bias_gradient_in_one_pass(shape, dtype):
    rng = np.random.default_rng(shape)
    g = stored(rng.standard_normal(shape), dtype)
    open_gates = rng.random(shape) < 0.5
    mask = mask_of(open_gates)
    wanted = np.where(open_gates, values(g, dtype), 0)
    terms = np.sqrt((wanted ** 2).sum(axis=0))
    for width, shift in paths(dtype, shape[1]):
        for slice_rows in (shape[0], 8, 24):
            dx, db, _ = backward(g, mask, dtype, width, shift, slice_rows)
            np.testing.assert_array_equal(values(dx, dtype), wanted)
            assert_near(db, wanted.sum(axis=0), dtype, shape[0], terms)
        before = stored(rng.standard_normal(shape[1]), dtype)
        dx, db, _ = backward(g, mask, dtype, width, shift, 16, before=before)
        assert_near(db, wanted.sum(axis=0) + values(before, dtype), dtype, shape[0], terms + np.abs(values(before, dtype)))
        dx, _, _ = backward(g, mask, dtype, width, shift, 16, db=False)
        np.testing.assert_array_equal(values(dx, dtype), wanted)


def mask_of(gates):
    padded = np.zeros((gates.shape[0], -(-gates.shape[1] // 32) * 32), np.uint64)
    padded[:, : gates.shape[1]] = gates
    words = (padded.reshape(gates.shape[0], -1, 32) << np.arange(32, dtype=np.uint64)).sum(axis=2)
    return placed(words.astype(np.uint32))


def test_infinite_gradient_behind_a_closed_gate_is_zero_and_nan_stays_in_its_column():
    g = np.ones((16, 64), np.float32)
    g[3, 5], g[4, 6] = np.inf, np.nan
    gates = np.ones(g.shape, bool)
    gates[3, 5] = False
    dx, db, _ = backward(g, mask_of(gates), "float32", 4, 0, 8)
    assert dx[3, 5] == 0 and np.isnan(dx[4, 6])
    assert np.isnan(db[6]) and db[5] == 15 and np.isnan(db).sum() == 1


def test_rows_may_be_overwritten_in_place():
    rng = np.random.default_rng(0)
    x, b = placed(rng.standard_normal((40, 256)).astype(np.float32)), placed(rng.standard_normal(256).astype(np.float32))
    wanted, mask = np.maximum(x + b, 0), blank((40, 8), "uint32")
    launch("relu.cu", "bias_relu", ("float32", 4), 5 * 2, (32, 8), (x, b, x, mask, i64(40), np.int32(256)))
    np.testing.assert_array_equal(x, wanted)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_bias_gradient_repeats_bit_for_bit_whichever_block_is_last(dtype):
    rng = np.random.default_rng(1)
    g, mask = stored(rng.standard_normal((300, 256)), dtype), mask_of(rng.random((300, 256)) < 0.5)
    runs = [backward(g, mask, dtype, wide(dtype), 0, 16, seed=seed)[1].tobytes() for seed in range(4)]
    assert len(set(runs)) == 1


def test_traffic_is_what_the_header_says_and_every_sector_is_needed():
    rows, columns, slices = 256, 1024, 32
    rng = np.random.default_rng(2)
    x = rng.standard_normal((rows, columns)).astype(np.float32)
    _, mask, counters = forward(x, x[0], "float32", 4, 0)
    assert counters.unique_bytes_read == 4 * rows * columns + 4 * columns
    assert counters.bytes_written == 4 * rows * columns + rows * columns // 8
    assert counters.sector_efficiency == 1
    _, _, counters = backward(x, mask, "float32", 4, 0, rows // slices)
    partial = 4 * slices * columns
    assert counters.unique_bytes_read == 4 * rows * columns + rows * columns // 8 + partial + 4 * (columns // 128)
    assert counters.bank_conflicts == 0
    assert counters.sector_efficiency > 0.99
