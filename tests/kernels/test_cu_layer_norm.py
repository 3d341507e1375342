"""kernels/layer_norm.cu on the simulated device, against NumPy in float64."""
import numpy as np
import pytest
from cu_support import assert_near, blank, i64, launch, placed, stored, thinned, tickets, values, wide

from gpugrad.kernels.geometry import row_plan

DTYPES = ("float32", "float64", "float16", pytest.param("bfloat16", marks=pytest.mark.slow))
SHAPES = [(1, 1), (9, 10), (3, 31), (8, 32), (17, 33), (5, 127), (4, 128), (2, 129), (3, 1009), (2, 4096)]
EPS = 1e-5


def acc(dtype):
    return "float64" if dtype == "float64" else "float32"


def forward(x, dtype, width, shift=0, long=False, residual=None, gamma=None, beta=None, centre=True, want_u=False):
    rows, columns = x.shape
    y, u = blank(x.shape, dtype, shift), blank(x.shape, dtype, shift) if want_u else None
    mean, rstd = blank(rows, acc(dtype)), blank(rows, acc(dtype))
    given = [None if a is None else placed(a, a.dtype.name, shift) for a in (x, residual, gamma, beta)]
    plan = None if long else row_plan(columns, width, dtype)
    if plan is None:
        counters = launch("layer_norm.cu", "layer_norm_long", (dtype, width), rows, 512,
                          (*given, y, u, mean, rstd, i64(columns), np.float64(EPS), centre))
    else:
        packs, block, each = plan
        counters = launch("layer_norm.cu", "layer_norm_row", (dtype, width, packs), -(-rows // each), block,
                          (*given, y, u, mean, rstd, i64(rows), np.int32(columns), np.float64(EPS), centre))
    return {"y": y, "u": u, "mean": mean, "rstd": rstd}, counters


def pull_plan(columns, width, dtype):
    """(N, threads a row, rows at a time) of layer_norm_row_pull, or None."""
    for most in (4, 8) if dtype == "float64" else (8,):
        packs = max(1, most // width)
        lanes = -(-columns // (width * packs * 32)) * 32
        if lanes <= 512:
            rows = 1
            while 2 * rows * lanes <= 256:
                rows *= 2
            return packs, lanes, rows
    return None


def backward(g, x, mean, rstd, dtype, width, shift=0, long=False, gamma=None, extra=None, centre=True, slice_rows=None,
             before=None, params=True, seed=0):
    rows, columns = x.shape
    slice_rows = slice_rows or rows
    slices = -(-rows // slice_rows)
    dx = blank(x.shape, dtype, shift)
    dgamma, dbeta = (blank(columns, dtype, shift) if b is None else placed(b, b.dtype.name, shift)
                     for b in before or (None, None))
    g, x, gamma, extra = (None if a is None else placed(a, a.dtype.name, shift) for a in (g, x, gamma, extra))
    grads = (dgamma, dbeta) if params else (None, None)
    plan = None if long else pull_plan(columns, width, dtype)
    if plan is not None:
        packs, lanes, side = plan
        partial = blank((slices, 2 * packs * width, lanes), acc(dtype)) if slices > 1 else None
        ticket = tickets(slices) if slices > 1 else None
        counters = launch("layer_norm.cu", "layer_norm_row_pull", (dtype, width, packs), (1, slices), (lanes, side),
                          (g, x, gamma, mean, rstd, extra, dx, *grads, partial, ticket, i64(rows), np.int32(columns),
                           i64(slice_rows), centre, before is not None), seed=seed)
    else:
        counters = launch("layer_norm.cu", "layer_norm_long_pull", (dtype, width), rows, 512,
                          (g, x, gamma, mean, rstd, extra, dx, i64(columns), centre))
        tiles = -(-columns // (32 * width))
        partial = blank((slices, 2 * width, tiles * 32), acc(dtype)) if slices > 1 else None
        ticket = tickets(slices, tiles) if slices > 1 else None
        if params:
            launch("layer_norm.cu", "layer_norm_columns", (dtype, width), (tiles, slices), (32, 8),
                   (g, x, mean, rstd, *grads, partial, ticket, i64(rows), i64(columns), i64(slice_rows), before is not None),
                   seed=seed)
    assert ticket is None or not ticket.any()
    return {"dx": dx, "dgamma": dgamma, "dbeta": dbeta}, counters


def reference(u, gamma, beta, centre):
    mean = u.mean(axis=1, keepdims=True) * centre
    rstd = 1 / np.sqrt(((u - mean) ** 2).mean(axis=1, keepdims=True) + EPS)
    n = (u - mean) * rstd
    return mean, rstd, n, n * (1 if gamma is None else gamma) + (0 if beta is None else beta)


def reference_pull(g, n, rstd, gamma, extra, centre):
    h = g * (1 if gamma is None else gamma)
    dx = rstd * (h - centre * h.mean(axis=1, keepdims=True) - n * (h * n).mean(axis=1, keepdims=True))
    return dx + (0 if extra is None else extra), (g * n).sum(axis=0), g.sum(axis=0), h


def paths(dtype, columns):
    vector = [(wide(dtype), 0)] if columns % wide(dtype) == 0 else []
    return [(width, shift, long) for width, shift in [*vector, (1, 0), (1, 1)] for long in (False, True)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "centre"), thinned([(shape, k % 3 != 1) for k, shape in enumerate(SHAPES)]))
def test_norm_with_and_without_residual_scale_and_shift(shape, centre, dtype):
    rng = np.random.default_rng(shape)
    x, residual = (stored(rng.standard_normal(shape) + 3, dtype) for _ in range(2))
    gamma, beta = (stored(rng.standard_normal(shape[1]), dtype) for _ in range(2))
    for width, shift, long in paths(dtype, shape[1]):
        for with_residual, scale, offset in [(residual, gamma, beta), (None, None, None)]:
            out, _ = forward(x, dtype, width, shift, long, with_residual, scale, offset, centre, want_u=True)
            plain = values(x, dtype) + (0 if with_residual is None else values(residual, dtype))
            u = values(stored(plain, dtype), dtype)
            np.testing.assert_array_equal(values(out["u"], dtype), u)
            mean, rstd, n, y = reference(u, *(None if a is None else values(a, dtype) for a in (scale, offset)), centre)
            biggest = np.abs(u).max(axis=1, keepdims=True)
            assert_near(out["mean"], mean[:, 0], acc(dtype), shape[1], biggest[:, 0])
            wobble = 1 + biggest * rstd                       # an error in the mean moves n by its multiple
            assert_near(out["rstd"], rstd[:, 0], acc(dtype), shape[1], (rstd * wobble ** 2)[:, 0])
            weight = 1 if scale is None else np.abs(values(scale, dtype))
            assert_near(out["y"], y, dtype, shape[1], weight * wobble ** 2 * (1 + np.abs(n)) + np.abs(y) + 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "centre"), thinned([(shape, k % 3 != 2) for k, shape in enumerate(SHAPES)]))
def test_all_gradients(shape, centre, dtype):
    rng = np.random.default_rng(shape)
    rows, columns = shape
    x, g, extra = (stored(rng.standard_normal(shape), dtype) for _ in range(3))
    gamma = stored(rng.standard_normal(columns), dtype)
    xv, gv, ev, scale = (values(a, dtype) for a in (x, g, extra, gamma))
    mean, rstd, n, _ = reference(xv, None, None, centre)
    mean_, rstd_ = placed(mean[:, 0], acc(dtype)), placed(rstd[:, 0], acc(dtype))
    stored_n = stored(n, dtype)
    for width, shift, long in paths(dtype, columns):
        for slice_rows in (None, 4):
            before = (stored(rng.standard_normal(columns), dtype), stored(rng.standard_normal(columns), dtype))
            cases = [
                (x, mean_, n, {"gamma": gamma, "extra": extra}),
                (x, mean_, n, {"before": before}),
                (stored_n, None, values(stored_n, dtype), {"gamma": gamma}),
            ]
            for source, middle, at, how in cases:
                out, _ = backward(g, source, middle, rstd_, dtype, width, shift, long, centre=centre,
                                  slice_rows=slice_rows, **how)
                dx, dgamma, dbeta, h = reference_pull(gv, at, values(rstd_, acc(dtype))[:, None],
                                                      scale if "gamma" in how else None, ev if "extra" in how else None, centre)
                size = rstd * (np.abs(h) + (1 + np.abs(at)) ** 2 * np.abs(h).max(axis=1, keepdims=True))
                assert_near(out["dx"], dx, dtype, columns, 4 * size * (1 + rstd) + np.abs(dx))
                was = [values(b, dtype) for b in how.get("before", (stored([0], dtype),) * 2)]
                sizes = np.sqrt((gv ** 2 * (1 + (1 + rstd) * np.abs(at)) ** 2).sum(axis=0))
                assert_near(out["dgamma"], dgamma + was[0], dtype, rows, 2 * sizes + np.abs(was[0]))
                assert_near(out["dbeta"], dbeta + was[1], dtype, rows, sizes + np.abs(was[1]))


def test_large_offset_does_not_cancel():
    x = (np.random.default_rng(0).integers(-8, 8, (4, 256)) + 2.0 ** 20).astype(np.float32)
    for long in (False, True):
        y = forward(x, "float32", 4, long=long)[0]["y"]
        np.testing.assert_allclose(y, reference(x.astype(float), None, None, True)[3], rtol=1e-3, atol=1e-3)


def test_constant_row_is_zero_and_nan_stays_in_its_row():
    x = np.ones((3, 64), np.float32)
    x[1, 7] = np.nan
    x[2, 7] = np.inf
    for long in (False, True):
        y = forward(x, "float32", 4, long=long)[0]["y"]
        np.testing.assert_array_equal(y[0], 0)
        assert np.isnan(y[1]).all()
        assert np.isnan(y[2]).any()


def test_dx_alone_and_in_several_slices_levels_deep():
    rng = np.random.default_rng(1)
    x, g = (rng.standard_normal((300, 64)).astype(np.float32) for _ in range(2))
    mean, rstd, n, _ = reference(x.astype(float), None, None, True)
    mean, rstd_ = placed(mean[:, 0], "float32"), placed(rstd[:, 0], "float32")
    runs = [backward(g, x, mean, rstd_, "float32", 4, slice_rows=4, seed=s)[0] for s in range(3)]     # 75 slices: 3, then 1
    _dx, dgamma, dbeta, _ = reference_pull(g.astype(float), n, rstd, None, None, True)
    np.testing.assert_allclose(runs[0]["dgamma"], dgamma, atol=1e-4)
    np.testing.assert_allclose(runs[0]["dbeta"], dbeta, atol=1e-4)
    assert len({r["dgamma"].tobytes() + r["dbeta"].tobytes() + r["dx"].tobytes() for r in runs}) == 1
    alone, _ = backward(g, x, mean, rstd_, "float32", 4, slice_rows=4, params=False)
    np.testing.assert_array_equal(alone["dx"], runs[0]["dx"])


def test_traffic_is_one_reading_of_each_array():
    rows, columns, slice_rows = 256, 768, 16
    rng = np.random.default_rng(2)
    x, g = (rng.standard_normal((rows, columns)).astype(np.float32) for _ in range(2))
    size = 4 * rows * columns
    out, counters = forward(x, "float32", 4)
    assert counters.bytes_read == size
    assert counters.bytes_written == size + 8 * rows
    assert counters.bank_conflicts == 0
    _, counters = backward(g, x, out["mean"], out["rstd"], "float32", 4, slice_rows=slice_rows)
    slices = rows // slice_rows
    assert counters.unique_bytes_written == size + 4 * slices * 2 * columns + 8 * columns + 4
    assert counters.unique_bytes_read == 2 * size + 8 * rows + 4 * slices * 2 * columns + 4
    assert counters.bank_conflicts == 0
    assert counters.sector_efficiency > 0.98
