"""kernels/cross_entropy.cu on the simulated device, against NumPy in float64."""
import numpy as np
import pytest
from cu_support import assert_near, blank, i64, launch, placed, stored, thinned, values, wide

from gpugrad.kernels.geometry import row_plan

DTYPES = ("float32", "float64", "float16", pytest.param("bfloat16", marks=pytest.mark.slow))
SHAPES = [(1, 1), (33, 10), (3, 31), (8, 32), (17, 33), (5, 127), (4, 128), (3, 129), (3, 600), (2, 1009), (2, 4096)]
IGNORE = -100


def reference(x, labels, smoothing=0.0, g=None, scale=1.0, ignore=IGNORE):
    """(loss, p, dx, total) in float64."""
    rows, columns = x.shape
    z = x - x.max(axis=1, keepdims=True)
    total = np.exp(z).sum(axis=1, keepdims=True)
    p = np.exp(z) / total
    valid = labels != ignore
    target = np.full(x.shape, smoothing / columns)
    target[valid, labels[valid]] += 1 - smoothing
    picked = z[np.arange(rows), np.where(valid, labels, 0)]
    loss = np.log(total[:, 0]) - (1 - smoothing) * picked - (smoothing * z.mean(axis=1) if smoothing else 0)
    loss = np.where(valid, loss, 0)
    w = scale * (np.ones(rows) if g is None else g) * valid
    return loss, p, w[:, None] * (p - target), scale * loss.sum()


def run(x, labels, dtype, width, shift=0, long=False, b=None, g=None, count=None, smoothing=0.0, scale=1.0,
        want=("p", "dx", "total"), in_place=False, ignore=IGNORE, seed=0):
    rows, columns = x.shape
    accumulator = "float64" if dtype == "float64" else "float32"
    x, b, g = (None if a is None else placed(a, a.dtype.name, shift) for a in (x, b, g))
    out = {"p": blank((rows, columns), dtype, shift), "dx": blank((rows, columns), dtype, shift), "total": blank(1, dtype, shift),
           "db": blank(columns, dtype, shift), "loss": blank(rows, accumulator)}
    if in_place:
        out["dx"] = x
    given = {name: out[name] if name in want else None for name in ("p", "dx", "total", "db")}
    ticket = np.zeros(1, np.uint32)
    label_type = "int" if labels.dtype == np.int32 else "long long"
    plan = None if long else row_plan(columns, width, dtype)
    tail = (np.float64(scale), np.float64(smoothing), i64(ignore))
    if plan is None:
        assert b is None and "db" not in want
        counters = launch("cross_entropy.cu", "cross_entropy_long", (dtype, width, label_type), rows, 512,
                          (x, labels, g, count, out["loss"], given["p"], given["dx"], given["total"], ticket, i64(rows),
                           i64(columns), *tail), seed=seed)
    else:
        packs, block, each = plan
        counters = launch("cross_entropy.cu", "cross_entropy_row", (dtype, width, packs, label_type), -(-rows // each), block,
                          (x, b, labels, g, count, out["loss"], given["p"], given["dx"], given["total"], given["db"], ticket,
                           i64(rows), np.int32(columns), *tail), seed=seed)
    assert not ticket.any()
    return out, counters


def check(out, x, labels, dtype, **how):
    loss, p, dx, total = reference(x, labels, **how)
    z = np.abs(x - x.max(axis=1, keepdims=True))
    columns, accumulator = x.shape[1], "float64" if dtype == "float64" else "float32"
    worst = z.max(axis=1) + 2
    assert_near(out["loss"], loss, accumulator, columns, worst)
    assert_near(out["p"], p, dtype, columns, (2 + z) * p)
    weight = np.abs(how.get("scale", 1) * how.get("g", np.ones(len(labels))))[:, None]
    assert_near(out["dx"], dx, dtype, columns, weight * ((2 + z) * p + np.abs(dx) + 1))
    assert_near(out["total"], np.array([total]), dtype, columns, abs(how.get("scale", 1)) * worst.sum())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", thinned(SHAPES))
def test_loss_gradient_and_total_of_one_launch(shape, dtype):
    rng = np.random.default_rng(shape)
    x, g = stored(3 * rng.standard_normal(shape) + 20, dtype), stored(rng.standard_normal(shape[0]), dtype)
    xv, gv = values(x, dtype), values(g, dtype)
    labels = rng.integers(0, shape[1], shape[0])
    labels[rng.random(shape[0]) < 0.2] = IGNORE
    vector = [(wide(dtype), 0)] if shape[1] % wide(dtype) == 0 else []
    for width, shift in [*vector, (1, 0), (1, 1)]:
        for long in (False, True):
            out, _ = run(x, labels, dtype, width, shift, long, scale=1 / shape[0])
            check(out, xv, labels, dtype, scale=1 / shape[0])
            out, _ = run(x, labels.astype(np.int32), dtype, width, shift, long, g=g, smoothing=0.1)
            check(out, xv, labels, dtype, g=gv, smoothing=0.1)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", [(37, 10), (3, 16), (20, 40), (300, 10)])
def test_bias_in_and_its_gradient_out(shape, dtype):
    rng = np.random.default_rng(shape)
    x, b = stored(rng.standard_normal(shape), dtype), stored(rng.standard_normal(shape[1]), dtype)
    labels = rng.integers(0, shape[1], shape[0])
    out, _ = run(x, labels, dtype, 1, b=b, scale=0.5, want=("p", "dx", "total", "db"))
    check(out, values(x, dtype) + values(b, dtype), labels, dtype, scale=0.5)
    dx = values(out["dx"], dtype)
    assert_near(out["db"], dx.sum(axis=0), dtype, shape[0], np.sqrt((dx ** 2).sum(axis=0)))


@pytest.mark.parametrize("long", [False, True])
def test_outputs_are_optional_and_logits_may_be_overwritten(long):
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((9, 256)).astype(np.float32), rng.integers(0, 256, 9)
    full, _ = run(x, labels, "float32", 4, long=long, smoothing=0.2)
    bare, _ = run(x, labels, "float32", 4, long=long, smoothing=0.2, want=())
    np.testing.assert_array_equal(full["loss"], bare["loss"])
    over, _ = run(x, labels, "float32", 4, long=long, smoothing=0.2, want=("dx", "total"), in_place=True)
    np.testing.assert_array_equal(full["dx"], over["dx"])
    np.testing.assert_array_equal(full["total"], over["total"])


def test_mean_over_the_labels_that_count():
    rng = np.random.default_rng(1)
    x, labels = rng.standard_normal((50, 20)).astype(np.float32), rng.integers(0, 20, 50)
    labels[::3] = IGNORE
    count = blank(1, "int64")
    launch("cross_entropy.cu", "count_labels", ("long long",), 1, 1024, (labels, count, i64(50), i64(IGNORE)))
    assert count[0] == (labels != IGNORE).sum()
    out, _ = run(x, labels, "float32", 4, count=count)
    check(out, x.astype(float), labels, "float32", scale=1 / count[0])


@pytest.mark.parametrize("long", [False, True])
def test_label_out_of_range_is_nan_and_touches_no_other_row(long):
    x = np.random.default_rng(2).standard_normal((6, 40)).astype(np.float32)
    labels = np.array([0, 40, 39, -1, IGNORE, 2**40])
    out, _ = run(x, labels, "float32", 1, long=long, want=("p", "dx"))
    bad = [False, True, False, True, False, True]
    np.testing.assert_array_equal(np.isnan(out["loss"]), bad)
    np.testing.assert_array_equal(np.isnan(out["dx"]).all(axis=1), bad)
    assert np.isfinite(out["p"]).all()
    assert out["loss"][4] == 0 and not out["dx"][4].any()


@pytest.mark.parametrize("long", [False, True])
def test_infinite_and_nan_logits(long):
    x = np.zeros((5, 33), np.float32)
    x[0, 1], x[1, 0], x[2, 3], x[3, 4], x[4] = -np.inf, -np.inf, np.nan, np.inf, -np.inf
    with np.errstate(all="ignore"):
        loss, p, dx, _ = reference(x.astype(float), np.zeros(5, int))
    out, _ = run(x, np.zeros(5, np.int64), "float32", 1, long=long)
    for name, wanted in (("loss", loss), ("p", p), ("dx", dx)):
        np.testing.assert_allclose(out[name], wanted, rtol=1e-6)
    assert out["loss"][1] == np.inf and np.isnan(out["loss"][2:]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 10), (9, 128), (3, 300)])
def test_pullback_from_the_probabilities(shape, dtype):
    rng = np.random.default_rng(shape)
    rows, columns = shape
    x, labels = rng.standard_normal(shape), rng.integers(0, columns, rows)
    labels[0] = IGNORE
    p = stored(reference(x, labels)[1], dtype)
    for width, shift in [(1, 1), *([(wide(dtype), 0)] if columns % wide(dtype) == 0 else [])]:
        for g in (stored(rng.standard_normal(rows), dtype), stored([0.5], dtype)):
            dx = blank(shape, dtype, shift)
            launch("cross_entropy.cu", "cross_entropy_pull", (dtype, width, "long long"),
                   -(-rows // 8) * -(-columns // (32 * width)), (32, 8),
                   (g, placed(p, p.dtype.name, shift), labels, None, dx, i64(rows), np.int32(columns), g.size == rows,
                    np.float64(0.25), np.float64(0.1), i64(IGNORE)))
            target = np.full(shape, 0.1 / columns)
            target[np.arange(rows), np.where(labels == IGNORE, 0, labels)] += np.where(labels == IGNORE, 0, 0.9)
            w = 0.25 * values(g, dtype) * (labels != IGNORE)
            assert_near(dx, w[:, None] * (values(p, dtype) - target), dtype, 4, np.abs(w[:, None]))


def test_mean_and_bias_gradient_repeat_bit_for_bit_whichever_block_is_last():
    rng = np.random.default_rng(3)
    x, labels = rng.standard_normal((700, 10)).astype(np.float32), rng.integers(0, 10, 700)
    runs = [run(x, labels, "float32", 1, want=("dx", "total", "db"), seed=s)[0] for s in range(4)]
    assert len({r["total"].tobytes() + r["db"].tobytes() for r in runs}) == 1


def test_traffic_is_the_logits_once_and_the_gradient_once():
    rows, columns = 64, 1024
    rng = np.random.default_rng(4)
    x, labels = rng.standard_normal((rows, columns)).astype(np.float32), placed(rng.integers(0, columns, rows))
    _, counters = run(x, labels, "float32", 4, want=("dx",))
    assert counters.unique_bytes_read == 4 * rows * columns + 8 * rows
    assert counters.bytes_written == 4 * rows * columns + 4 * rows
    assert counters.bank_conflicts == 0
    assert counters.sector_efficiency > 0.99
