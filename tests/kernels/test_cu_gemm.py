"""kernels/gemm.cu on the simulated device, against numpy.matmul in float64."""
import numpy as np
import pytest
from cu_support import assert_near, blank, i64, launch, placed, stored, thinned, values, wide

DTYPES = ("float32", "float64", "float16", pytest.param("bfloat16", marks=pytest.mark.slow))
SIZES = [(1, 1, 1), (3, 5, 7), (31, 33, 32), (65, 10, 129), (128, 72, 40)]
TRANSPOSES = [(False, False), (True, False), (False, True), (True, True)]


def bits(gates):
    padded = np.zeros((gates.shape[0], -(-gates.shape[1] // 32) * 32), np.uint64)
    padded[:, : gates.shape[1]] = gates
    return placed((padded.reshape(gates.shape[0], -1, 32) << np.arange(32, dtype=np.uint64)).sum(axis=2).astype(np.uint32))


def run(a, b, dtype, width, ta=False, tb=False, shift=0, masked=0, gates=None, alpha=1.0, beta=0.0, before=None, slice_size=None,
        room=0, seed=0):
    """a, b as stored: (batches, rows, columns). `room` columns stand unused behind each stored row."""
    batches = a.shape[0]
    m, k = a.shape[:0:-1] if ta else a.shape[1:]
    n = b.shape[1] if tb else b.shape[2]
    hold = []
    for x in (a, b, before):
        if x is None:
            hold.append(blank((batches, m, n + room), dtype, shift))
        else:
            whole = np.zeros((*x.shape[:2], x.shape[2] + room), x.dtype)
            whole[..., : x.shape[2]] = x
            hold.append(placed(whole, x.dtype.name, shift))
    slices = 1 if slice_size is None else max(1, -(-k // slice_size))
    tiles = -(-m // 64) * -(-n // 64)
    partial = blank((slices, m, n), "float64" if dtype == "float64" else "float32") if slices > 1 else None
    ticket = np.zeros(tiles, np.uint32) if slices > 1 else None
    counters = launch("gemm.cu", "gemm", (dtype, width, ta, tb, masked), (tiles, slices, batches), 256,
                      (hold[0], hold[1], None if gates is None else bits(gates), hold[2], partial, ticket, i64(m), i64(n), i64(k),
                       *(i64(h.shape[2]) for h in hold), *(i64(h.shape[1] * h.shape[2]) for h in hold), np.uint32(batches),
                       *(i64(0) for _ in hold), i64(slice_size or max(k, 1)), np.float64(alpha), np.float64(beta)), seed=seed)
    assert ticket is None or not ticket.any()
    return hold[2][..., :n], counters


def op(x, transposed):
    return np.swapaxes(x, 1, 2) if transposed else x


def operands(rng, size, dtype, ta, tb, batches=1):
    m, n, k = size
    a = rng.standard_normal((batches, k, m) if ta else (batches, m, k))
    b = rng.standard_normal((batches, n, k) if tb else (batches, k, n))
    return stored(a, dtype), stored(b, dtype)


def check(d, wanted, a, b, dtype, terms):
    assert_near(d, wanted, dtype, terms, np.abs(a) @ np.abs(b) + np.abs(wanted))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("ta", "tb"), TRANSPOSES)
@pytest.mark.parametrize("size", thinned(SIZES))
def test_product_of_all_transposes_on_both_paths(size, ta, tb, dtype):
    rng = np.random.default_rng(size)
    a, b = operands(rng, size, dtype, ta, tb, batches=2)
    av, bv = op(values(a, dtype), ta), op(values(b, dtype), tb)
    before = stored(rng.standard_normal((2, *size[:2])), dtype)
    vector = [(wide(dtype), 0, 8)] if all(n % wide(dtype) == 0 for n in size) else []
    for width, shift, room in [*vector, (1, 1, 3)]:
        d, _ = run(a, b, dtype, width, ta, tb, shift, room=room)
        check(d, av @ bv, av, bv, dtype, size[2])
        d, _ = run(a, b, dtype, width, ta, tb, shift, room=room, alpha=-0.5, beta=2.0, before=before)
        check(d, -0.5 * av @ bv + 2 * values(before, dtype), av, bv, dtype, size[2])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("width", ["scalar", "vector"])
@pytest.mark.parametrize("size", thinned([(40, 16, 72), (72, 136, 24), (128, 64, 96)]))
def test_relu_mask_on_the_way_in_gives_both_gradients_of_a_layer(size, width, dtype):
    batch, inputs, outputs = size
    rng = np.random.default_rng(size)
    x, w, g = (stored(rng.standard_normal((1, *s)), dtype) for s in ((batch, inputs), (inputs, outputs), (batch, outputs)))
    gates = rng.random((batch, outputs)) < 0.5
    g[0][~gates] = np.nan                                     # a closed gate is 0 whatever stands there
    masked = np.where(gates, values(g, dtype), 0)
    width = wide(dtype) if width == "vector" else 1
    xv, wv = values(x, dtype), values(w, dtype)
    dx, _ = run(g, w, dtype, width, False, True, masked=1, gates=gates)
    check(dx, masked @ op(wv, True), masked, op(wv, True), dtype, outputs)
    before = stored(rng.standard_normal((1, inputs, outputs)), dtype)
    dw, _ = run(x, g, dtype, width, True, False, masked=2, gates=gates, beta=1.0, before=before)
    check(dw, op(xv, True) @ masked + values(before, dtype), op(xv, True), masked, dtype, batch)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_slices_of_k_add_up_in_order_whichever_block_is_last(dtype):
    rng = np.random.default_rng(0)
    a, b = operands(rng, (70, 33, 300), dtype, True, False)
    runs = [run(a, b, dtype, 1, True, False, slice_size=64, seed=s)[0] for s in range(3)]
    check(runs[0], op(a, True).astype(float) @ b, op(a, True), b, dtype, 300)
    assert len({np.ascontiguousarray(r).tobytes() for r in runs}) == 1


def test_empty_sum_is_zero_or_what_was_there():
    a, b = np.zeros((1, 5, 0), np.float32), np.zeros((1, 0, 6), np.float32)
    d, _ = run(a, b, "float32", 1)
    np.testing.assert_array_equal(d, np.zeros((1, 5, 6)))
    d, _ = run(a, b, "float32", 1, beta=2.0, before=np.ones((1, 5, 6), np.float32))
    np.testing.assert_array_equal(d, 2)


def test_nan_in_the_result_is_gone_without_beta_and_in_an_operand_stays_in_its_row():
    a, b = np.ones((1, 8, 8), np.float32), np.ones((1, 8, 8), np.float32)
    a[0, 2, 3] = np.nan
    d, _ = run(a, b, "float32", 4, beta=0.0, before=np.full((1, 8, 8), np.nan, np.float32))
    np.testing.assert_array_equal(np.isnan(d[0]).all(axis=1), np.arange(8) == 2)
    np.testing.assert_array_equal(d[0, :2], 8)


@pytest.mark.parametrize(("ta", "tb"), TRANSPOSES)
def test_aligned_products_meet_no_bank_conflict_and_need_every_sector(ta, tb):
    a, b = operands(np.random.default_rng(1), (128, 128, 64), "float32", ta, tb)
    _, counters = run(a, b, "float32", 4, ta, tb)
    assert counters.bank_conflicts == 0
    assert counters.sector_efficiency == 1
    assert counters.bytes_read == 2 * 2 * 4 * 128 * 64        # each operand for two tiles
