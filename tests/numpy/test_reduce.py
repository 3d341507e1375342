"""Reductions, scans and order statistics: NumPy's results for NumPy's arguments, and derivatives at awkward points."""
import itertools
import warnings

import numpy as np
import pytest
from agreement import agrees, normal, same
from on_device import assert_close, on_cpu, placed, xp

import gpugrad as gg
from gpugrad import numpy as gnp
from gpugrad.errors import ArgumentError, AxisError, ConversionError, DtypeError, ShapeError

pytestmark = pytest.mark.usefixtures("device")

AXES = [{}, {"axis": 0}, {"axis": -1, "keepdims": True}, {"axis": (2, 0)}, {"axis": (0, 1, 2), "keepdims": True}, {"axis": ()}]
MASK = np.random.default_rng(5).random((2, 3, 4)) < 0.7
MASK[0] = ~MASK[1]                                  # something of every slice counts
MASK[:, 0, 0] = MASK[:, 1, 1] = MASK[:, 2, 2] = MASK[:, 0, 3] = True
INTEGERS = np.random.default_rng(6).integers(-3, 4, size=(2, 3, 4))
COMPLEX = normal(3, 4) + 1j * normal(3, 4, seed=1)


def with_nan(*shape):
    x = normal(*shape)
    x[np.random.default_rng(7).random(shape) < 0.3] = np.nan
    return x


@pytest.mark.parametrize("kwargs", AXES, ids=str)
@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std", "max", "min", "amax", "amin", "ptp", "all", "any",
                                  "count_nonzero"])
def test_reduction_agrees_with_numpy(name, kwargs):
    degenerate = name in ("var", "std", "ptp") and kwargs.get("axis") == ()        # constant: no slope to measure
    agrees(name, normal(2, 3, 4), orders=0 if degenerate else 1, **kwargs)
    agrees(name, INTEGERS, **kwargs)
    if name != "ptp":
        agrees(name, INTEGERS > 0, **kwargs)
    agrees(name, 1.5, orders=0)


@pytest.mark.parametrize("seed", range(20))
def test_random_shapes_axes_and_layouts_agree_with_numpy(seed):
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 5))
    x = rng.normal(size=rng.integers(1, 5, size=rank)).transpose(rng.permutation(rank))[..., ::rng.choice([-1, 1])]
    axis = tuple(int(a) for a in rng.permutation(rank)[:rng.integers(1, rank + 1)] - rank * rng.integers(0, 2))
    keepdims = bool(rng.integers(0, 2))
    for name in ("sum", "prod", "mean", "max", "min", "median", "any"):
        agrees(name, x, axis=axis, keepdims=keepdims)
    for name in ("cumsum", "cumprod", "argmax", "diff", "var", "std"):
        agrees(name, x, axis=axis[0], orders=x.shape[axis[0]] > 1)


@pytest.mark.parametrize("kwargs", AXES[:-1], ids=str)
@pytest.mark.parametrize("name", ["sum", "prod", "mean", "std", "max", "min", "all", "any"])
def test_mask_agrees_with_numpy(name, kwargs):
    initial = {"initial": 0.1} if name in ("max", "min") else {}
    agrees(name, normal(2, 3, 4), where=MASK, **initial, **kwargs)
    agrees(name, normal(2, 3, 4), where=MASK[:, :1], **initial, **kwargs)


@pytest.mark.parametrize(("name", "kwargs"), [
    ("sum", {"initial": 2.5}), ("prod", {"initial": 2.5, "axis": 1}), ("max", {"initial": 0.3, "axis": 0}),
    ("min", {"initial": -0.3, "axis": 0}), ("sum", {"dtype": "f4", "orders": 0}), ("sum", {"dtype": int}),
    ("mean", {"dtype": "f4", "orders": 0}), ("var", {"ddof": 1, "axis": 0}), ("std", {"correction": 1.5, "axis": 1}),
    ("var", {"mean": normal(2, 1, 4, seed=3), "axis": 1}), ("var", {"ddof": 1, "where": MASK, "axis": (0, 1)}),
    ("std", {"ddof": 1, "where": MASK, "axis": (0, 1)}), ("average", {}), ("average", {"axis": (0, 2), "keepdims": True}),
    ("average", {"weights": MASK + 0.5}), ("average", {"axis": 1, "weights": [1.0, 2, 3]}),
    ("average", {"axis": (2, 0), "weights": normal(4, 2) ** 2}), ("average", {"axis": 0, "returned": True}),
    ("average", {"axis": 0, "weights": [1, 3], "returned": True}),
], ids=str)
def test_further_arguments_agree_with_numpy(name, kwargs):
    agrees(name, normal(2, 3, 4), **kwargs)


@pytest.mark.parametrize("dtype", ["i4", "u1", "i8", "?", "f4", "c8"])
@pytest.mark.parametrize("name", ["sum", "prod", "mean", "cumsum", "cumprod"])
def test_dtype_of_the_result_is_the_one_asked_for(name, dtype):
    for x in (INTEGERS, INTEGERS > 0, INTEGERS.astype("u1")) if dtype == "u1" else (INTEGERS, normal(2, 3, 4) * 4):
        if name != "mean" or dtype not in ("?", "u1"):
            agrees(name, x, axis=1, dtype=dtype, orders=0)


@pytest.mark.parametrize("scale", [0.01, 100])
def test_spread_of_many_half_precision_numbers(scale):
    x = (normal(300, 300) * scale).astype("f2")
    for name in ("var", "std"):
        expected = getattr(np, name)(x.astype("f8"))
        found = getattr(gnp, name)(xp.asarray(x))
        assert found.dtype == np.float16
        assert_close(found.data, expected, rtol=2e-3)


@pytest.mark.parametrize("name", ["var", "std"])
def test_slopes_of_spread_of_more_numbers_than_half_precision_counts(name):
    x = np.tile(np.linspace(-400, 400, 1000), 140).astype("f2")
    found = gg.grad(getattr(gnp, name))(xp.asarray(x))
    assert found.dtype == np.float16
    assert_close(found, gg.grad(getattr(gnp, name))(x.astype("f8")), rtol=5e-3, atol=1e-7)


def test_logcumsumexp_neither_overflows_nor_loses_digits():
    agrees("logcumsumexp", normal(3, 50), axis=1, reference=np.logaddexp.accumulate)
    x = xp.asarray(np.array([1e4, 1.0, 1e4 + 30, -np.inf]))
    assert_close(gg.logcumsumexp(x).data, [1e4, 1e4, 1e4 + 30, 1e4 + 30], rtol=1e-15)
    assert_close(gg.grad(lambda x: gg.logcumsumexp(x)[2])(x), [np.exp(-30), 0, 1, 0], rtol=1e-12)


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "var", "std", "cumsum", "cumprod"])
def test_complex_reduction_agrees_with_numpy(name):
    agrees(name, COMPLEX, axis=0)
    agrees(name, COMPLEX)


@pytest.mark.parametrize("dtype", ["f4", "f2"])
@pytest.mark.parametrize("name", ["sum", "mean", "prod", "max", "std", "cumsum", "median"])
def test_precision_is_kept_by_values_and_gradients(name, dtype):
    x = gg.tensor(placed(normal(4).astype(dtype)), requires_grad=True)
    y = getattr(gnp, name)(x)
    y.sum().backward()
    assert (y.dtype, x.grad.dtype) == (np.dtype(dtype), np.dtype(dtype))


def test_float16_is_added_up_in_float32():
    ones = xp.ones((5000, 3), "f2")
    assert gnp.sum(ones, axis=0).tolist() == [5000] * 3
    assert gg.grad(lambda b: ((b + ones) * (ones / 1000)).sum())(xp.zeros(3, "f2")).tolist() == pytest.approx([5] * 3, rel=2e-3)
    many = xp.zeros(70000, "f2")
    assert float(gg.grad(gnp.mean)(many)[0]) == pytest.approx(1 / 70000, rel=3e-3)
    assert gnp.logsumexp(many).item() == pytest.approx(np.log(70000), rel=1e-3)
    assert gg.nn.softmax(many).tolist()[0] == pytest.approx(1 / 70000, rel=3e-3)
    assert gg.compile(lambda x: gg.sum(x * 1, axis=0))(ones).tolist() == [5000] * 3
    for f in (gnp.cumsum, gg.compile(gnp.cumsum)):
        assert float(f(ones[:, 0])[-1]) == 5000
    assert gg.compile(gnp.cumsum, backend="numpy")(np.ones(5000, "f2"))[-1] == 5000


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1])
def test_argmax_and_argmin_agree_with_numpy_and_leave_the_graph(axis, keepdims):
    for name in ("argmax", "argmin", "nanargmax", "nanargmin"):
        agrees(name, INTEGERS, axis=axis, keepdims=keepdims)
        agrees(name, normal(2, 3, 4), axis=axis, keepdims=keepdims)
    assert not gnp.argmax(gg.tensor(normal(3), requires_grad=True)).requires_grad


def test_reductions_of_nothing_have_numpys_values():
    empty = normal(0, 3)
    for name in ("sum", "prod", "all", "any", "cumsum", "cumprod", "count_nonzero"):
        agrees(name, empty, axis=0)
        agrees(name, empty)
    agrees("max", empty, axis=1)
    agrees("max", empty, axis=0, initial=1.0)
    for name in ("mean", "std", "var"):
        with pytest.warns(RuntimeWarning):
            assert np.isnan(getattr(gnp, name)(empty).item())


def test_equal_extremes_share_the_gradient():
    x = xp.array([[3.0, 1.0, 3.0], [2.0, 2.0, 2.0]])
    same(gg.grad(lambda x: gnp.max(x, axis=1).sum())(gg.tensor(x)), xp.array([[0.5, 0, 0.5], [1 / 3] * 3]), "max")
    same(gg.grad(lambda x: gnp.min(x))(gg.tensor(x)), xp.array([[0, 1.0, 0], [0, 0, 0]]), "min")
    same(gg.jvp(lambda x: gnp.max(x, axis=1), gg.tensor(x), gg.tensor(xp.eye(2, 3)))[1], xp.array([0.5, 1 / 3]), "tangent")


@pytest.mark.parametrize("x", [[0.0, 2, 3], [0.0, 0, 3], [0.0, 0, 0], [5.0, 0, 2, 0]], ids=str)
def test_derivatives_of_products_are_exact_with_zeros_to_third_order(x):
    """The derivative of a product by some of its factors is the product of the rest, or 0 where a factor comes twice."""
    factors, x, n = x, xp.array(x), len(x)
    rest = lambda *gone: np.prod(np.delete(factors, gone)) if len(set(gone)) == len(gone) else 0.0
    expected = [xp.array([rest(*at) for at in itertools.product(range(n), repeat=k)]).reshape((n,) * k) for k in (1, 2, 3)]
    for f in (gnp.prod, lambda x: gnp.cumprod(x)[-1]):
        same(gg.tensor(gg.grad(f)(x)), expected[0], "first")
        same(gg.tensor(gg.hessian(f)(x)), expected[1], "second")
        same(gg.tensor(gg.jacobian(gg.hessian(f))(x)), expected[2], "third")


def test_deviation_of_a_constant_has_slope_zero_in_both_modes_and_to_second_order():
    x = xp.full(4, 2.0)
    for f in (gnp.std, lambda x: gnp.std(x, where=xp.ones(4, bool))):
        assert gg.grad(f)(x).tolist() == [0, 0, 0, 0]
        assert gg.jvp(f, x, xp.arange(4.0))[1] == 0
        assert not gg.hessian(f)(x).any()


@on_cpu
def test_logsumexp_neither_overflows_nor_loses_small_sums():
    assert gnp.logsumexp(xp.array([1000.0, 1000.0])).item() == 1000 + np.log(2)
    assert gnp.logsumexp(xp.array([-1000.0, -1000.0])).item() == -1000 + np.log(2)
    assert gnp.logsumexp(xp.array([np.inf, 0.0])).item() == np.inf
    assert gg.grad(gnp.logsumexp)(xp.array([-np.inf, 0.0, 0.0])).tolist() == [0, 0.5, 0.5]
    assert gg.grad(gnp.logsumexp)(xp.full(4, -1e20)).tolist() == [0.25] * 4
    with np.errstate(invalid="ignore"):
        assert gg.grad(gnp.logsumexp)(xp.array([1.0, np.inf, 3.0])).tolist()[::2] == [0, 0]
    with pytest.warns(RuntimeWarning):
        assert gnp.logsumexp(xp.full(2, -np.inf)).item() == -np.inf
    agrees("logsumexp", normal(2, 3, 4), axis=(0, 2), keepdims=True, orders=2,
           reference=lambda x, **k: np.log(np.sum(np.exp(x), **k)))


@pytest.mark.parametrize("kwargs", AXES[:4], ids=str)
@pytest.mark.parametrize("name", ["nansum", "nanprod", "nanmean", "nanvar", "nanstd", "nanmax", "nanmin"])
def test_reduction_without_nan_agrees_with_numpy(name, kwargs):
    x = with_nan(4, 3, 4)
    x[:2] = normal(2, 3, 4)                            # at least two numbers in each slice
    x[:, :, :2] = normal(4, 3, 2, seed=2)
    same(getattr(gnp, name)(x, **kwargs), getattr(np, name)(x, **kwargs), name)
    agrees(name, normal(2, 3, 4), **kwargs)
    agrees(name, INTEGERS, **kwargs)
    g = gg.grad(lambda x: getattr(gnp, name)(x, **kwargs).sum())(x)
    assert not g[np.isnan(x)].any()
    assert np.isfinite(g).all()


def test_slice_of_nothing_but_nan_gives_nan_or_the_neutral_element():
    x = xp.array([[np.nan, np.nan], [1.0, np.nan]])
    assert [np.isnan(v) for v in gnp.nanmax(x, axis=1).tolist()] == [True, False]
    same(gnp.nansum(x, axis=1), xp.array([0.0, 1.0]), "nansum")
    same(gnp.nanprod(x, axis=1), xp.array([1.0, 1.0]), "nanprod")
    same(gnp.nancumsum(x, axis=1), np.nancumsum(x, axis=1), "nancumsum")
    same(gnp.nancumprod(x, axis=1), np.nancumprod(x, axis=1), "nancumprod")


SCANS = [
    ("cumsum", (normal(3, 4),), {}), ("cumsum", (normal(3, 4), 1), {}), ("cumsum", (INTEGERS, -1), {}),
    ("cumsum", (INTEGERS > 0,), {}), ("cumprod", (normal(3, 4),), {}), ("cumprod", (normal(3, 4), 0), {"orders": 2}),
    ("cumulative_sum", (normal(3),), {}), ("cumulative_sum", (normal(3, 4),), {"axis": 1, "include_initial": True}),
    ("cumulative_prod", (normal(3, 4),), {"axis": 0, "include_initial": True}), ("cumulative_prod", (INTEGERS,), {"axis": 1}),
    ("diff", (normal(3, 4),), {}), ("diff", (normal(5, 2),), {"n": 3, "axis": 0}), ("diff", (normal(3),), {"n": 0}),
    ("diff", (INTEGERS > 0,), {}), ("diff", (normal(3, 4),), {"prepend": 0.0, "append": normal(3, 2)}),
    ("diff", (normal(2),), {"n": 4}),
    ("ediff1d", (normal(2, 3),), {}), ("ediff1d", (normal(4),), {"to_begin": 9.0, "to_end": [1.0, 2.0]}),
    ("ediff1d", (normal(1),), {}),
    ("gradient", (normal(5),), {}), ("gradient", (normal(5), 0.5), {}), ("gradient", (normal(2),), {}),
    ("gradient", (normal(5), np.array([0.0, 1, 3, 3.5, 5])), {}), ("gradient", (normal(4, 5),), {}),
    ("gradient", (normal(4, 5), 2.0, np.array([0.0, 1, 3, 3.5, 5])), {"edge_order": 2}),
    ("gradient", (normal(4, 5),), {"axis": 1}),
    ("gradient", (normal(4, 5), 0.5), {"axis": (1, 0), "edge_order": 2}),
    ("gradient", (np.array([1, 4, 9, 16]),), {"edge_order": 2}),
    ("trapezoid", (normal(5),), {}), ("trapezoid", (normal(3, 4), np.array([0.0, 1, 3, 4])), {}), ("trapezoid", (INTEGERS,), {}),
    ("trapezoid", (normal(3, 4),), {"dx": 0.5, "axis": 0}), ("trapezoid", (normal(3, 4), normal(3, 4, seed=1)), {"axis": 0}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), SCANS, ids=[f"{i}-{scan[0]}" for i, scan in enumerate(SCANS)])
def test_scan_agrees_with_numpy(name, args, kwargs):
    agrees(name, *args, **kwargs)


def test_long_cumprod_gradient_matches_the_loop():
    rng = np.random.default_rng(3)
    x, g = rng.normal(size=100) * (rng.random(100) > 0.1), rng.normal(size=100)
    expected = [sum(g[k] * np.prod(np.delete(x[:k + 1], i)) for k in range(i, 100)) for i in range(100)]
    assert_close(gg.grad(lambda x: (gnp.cumprod(x) * g).sum())(x), expected, rtol=1e-12, atol=1e-12)


QUANTILES = [(normal(7), 0.3, {}), (normal(6), [0.0, 0.25, 0.5, 1.0], {}), (normal(2, 3, 4), 0.4, {"axis": 1}),
             (normal(2, 3, 4), [[0.1, 0.9]], {"axis": (2, 0), "keepdims": True}), (normal(2, 3, 4), [0.5], {"axis": -1}),
             (INTEGERS, 0.7, {"axis": 0}), (normal(1), 0.7, {})]


@pytest.mark.parametrize("method", ["inverted_cdf", "averaged_inverted_cdf", "closest_observation", "interpolated_inverted_cdf",
                                    "hazen", "weibull", "linear", "median_unbiased", "normal_unbiased", "lower", "higher",
                                    "midpoint", "nearest"])
def test_quantile_agrees_with_numpy(method):
    for x, q, kwargs in QUANTILES:
        expected = xp.asarray(np.quantile(x, q, method=method, **kwargs))
        found = gnp.quantile(x, q, method=method, **kwargs)
        assert found.shape == expected.shape
        assert_close(found.data, expected, rtol=1e-12, atol=1e-12)
    agrees("quantile", normal(6, 2), q=0.35, axis=0, method=method)
    agrees("quantile", INTEGERS, q=0.35, axis=0, method=method)
    agrees("nanquantile", INTEGERS.astype("i4"), q=[0.35, 0.5], axis=(0, 2), method=method)


def test_quantiles_that_are_elements_keep_large_integers():
    x = np.array([2**62 + 1, 2**62 + 3, 2**62 + 5])
    agrees("quantile", x, q=0.5, method="nearest")
    agrees("quantile", x > 2**62 + 2, q=0.5, method="lower")


def test_median_of_complex_numbers_and_of_nothing_is_numpys():
    agrees("median", normal(3, 4) + 1j * normal(3, 4, seed=1), axis=1)
    agrees("nanmedian", np.array([1, 0, 1]) + 1j * normal(3, seed=1), orders=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")                     # mean of an empty slice
        agrees("median", normal(0))
        agrees("median", normal(3, 0), axis=1, keepdims=True)
        agrees("nanmedian", normal(3, 0), axis=0)


@pytest.mark.parametrize("kwargs", AXES[:5], ids=str)
def test_median_and_percentile_agree_with_numpy(kwargs):
    agrees("median", normal(2, 3, 4), **kwargs)
    agrees("percentile", normal(2, 3, 4), q=[20, 50.0], **kwargs)
    for x in (with_nan(5, 3, 4), with_nan(4, 4, 5)):
        x[:, :2] = 1.5
        same(gnp.median(x, **kwargs), np.median(x, **kwargs), "median")
        same(gnp.nanmedian(x, **kwargs), np.nanmedian(x, **kwargs), "nanmedian")
        same(gnp.nanpercentile(x, [30, 60], **kwargs), np.nanpercentile(x, [30, 60], **kwargs), "nanpercentile")
        same(gnp.nanquantile(x, 0.3, **kwargs), np.nanquantile(x, 0.3, **kwargs), "nanquantile")


def test_quantile_between_infinities_stays_where_it_is():
    same(gnp.median(xp.array([np.inf, np.inf, 1.0])), np.inf, "median")
    same(gnp.quantile(xp.array([1.0, np.inf]), 0.0), 1.0, "quantile")
    same(gnp.median(xp.array([-np.inf, 1.0])), -np.inf, "median")
    same(gnp.quantile(xp.array([-np.inf, 1.0, 2.0]), 0.4), -np.inf, "quantile")
    same(gnp.quantile(xp.array([-np.inf, 1.0, 2.0]), 0.5, method="averaged_inverted_cdf"), 1.0, "quantile")


@pytest.mark.parametrize("kwargs", [{}, {"rowvar": False}, {"bias": True}, {"ddof": 0}, {"fweights": [1, 2, 1, 3]},
                                    {"aweights": [0.5, 1.0, 2.0, 1.0]},
                                    {"fweights": [1, 2, 1, 3], "aweights": [0.5, 1.0, 2.0, 1.0]}],
                         ids=str)
def test_cov_agrees_with_numpy(kwargs):
    agrees("cov", normal(3, 4) if kwargs.get("rowvar", True) else normal(4, 3), **kwargs)


def test_cov_of_vectors_and_pairs_agrees_with_numpy():
    agrees("cov", normal(4))
    agrees("cov", normal(4), normal(4, seed=1))
    agrees("cov", COMPLEX)
    agrees("corrcoef", normal(3, 5))
    agrees("corrcoef", normal(5), normal(5, seed=1))
    agrees("corrcoef", COMPLEX)


def test_out_is_assigned_and_keeps_the_graph():
    x, out = gg.tensor(normal(3), requires_grad=True), gnp.empty(())
    assert gnp.sum(x * x, out=out) is out
    out.backward()
    assert_close(x.grad.data, 2 * x.detach().data)
    with pytest.raises(ShapeError, match=r"mean: expected a result of shape \(2,\)"):
        gnp.mean(x, out=gnp.empty(2))


def test_initial_and_mask_may_be_tensors_and_initial_has_a_gradient():
    start = gg.tensor(2.0, requires_grad=True)
    (gnp.sum(xp.ones(3), initial=start) + gnp.prod(xp.full(2, 3.0), initial=start)).backward()
    assert start.grad.item() == 10
    same(gnp.sum(xp.arange(4.0), where=gg.tensor([True, False, True, True])), 5.0, "sum")


@pytest.mark.parametrize("name", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("dtype", ["i4", "u1", "?", "f4", "c8"])
def test_initial_does_not_change_the_dtype(name, dtype):
    for shape in ((2, 3), (0, 3)):
        x = np.ones(shape, dtype)
        agrees(name, x, axis=0, initial=np.float64(2.5), orders=0)
        agrees(name, x, axis=0, initial=3, orders=0)


def test_initial_outside_the_dtype_is_an_error():
    with pytest.raises(ArgumentError, match="max: expected initial within uint8, got -5"):
        gnp.max(xp.ones(3, dtype="u1"), initial=-5)


def test_reductions_inside_vmap_leave_the_batch_alone():
    x = normal(5, 3, 4)
    for name, kwargs in [("sum", {}), ("max", {"axis": -1}), ("std", {"axis": (0, 1)}), ("prod", {"axis": 0}),
                         ("median", {"axis": 0}),
                         ("argmax", {}), ("cumprod", {"axis": 1}), ("nanmean", {}), ("logsumexp", {"axis": 0})]:
        f = getattr(gnp, name)
        assert_close(gg.vmap(lambda r, f=f, k=kwargs: f(r, **k))(x), np.stack([f(r, **kwargs).data for r in x]))


@on_cpu
@pytest.mark.peers
def test_gradients_agree_with_torch():
    torch = pytest.importorskip("torch")
    x = normal(4, 5)
    x[1, 2] = x[2, 2] = 0
    for ours, theirs in [(lambda a: gnp.prod(a, axis=0), lambda a: a.prod(0)),
                         (lambda a: gnp.cumprod(a, axis=0), lambda a: a.cumprod(0)),
                         (lambda a: gnp.std(a, axis=1, ddof=1), lambda a: a.std(1)),
                         (lambda a: gnp.max(a, axis=1), lambda a: a.amax(1)),
                         (lambda a: gnp.logsumexp(a, axis=0), lambda a: a.logsumexp(0)),
                         (lambda a: gnp.quantile(a, 0.3, axis=0), lambda a: a.quantile(0.3, 0))]:
        t = torch.tensor(x, requires_grad=True)
        (theirs(t) ** 2).sum().backward()
        assert_close(gg.grad(lambda a, f=ours: (f(a) ** 2).sum())(x), t.grad.numpy(), rtol=1e-10, atol=1e-12)


BAD = [
    (lambda: gnp.sum(normal(2, 3), axis=2), AxisError, "sum: expected an axis from -2 to 1, got 2"),
    (lambda: gnp.sum(normal(2, 3), axis=(0, -2)), AxisError, r"sum: expected different axes, got \(0, -2\)"),
    (lambda: gnp.sum(normal(2, 3), axis=0.5), DtypeError, "sum: expected an int as axis, got 0.5"),
    (lambda: gnp.sum(normal(2), where=normal(2)), ArgumentError, "sum: expected a mask of bools as where, got dtype float64"),
    (lambda: gnp.sum(normal(2), dtype="text"), DtypeError, "sum: expected a dtype, got 'text'"),
    (lambda: gnp.sum(normal(2), out=np.empty(())), ConversionError, "sum: expected a Tensor as out"),
    (lambda: gnp.sum(object()), DtypeError, "sum: expected an array or numbers"),
    (lambda: gnp.max(normal(0, 2), axis=0), ShapeError,
     r"max: expected at least one element along each axis, got shape \(0, 2\)"),
    (lambda: gnp.max(normal(2), where=[True, False]), ArgumentError, "max: expected initial= beside where=, got none"),
    (lambda: gnp.argmin(normal(0)), ShapeError, "argmin: expected at least one element"),
    (lambda: gnp.std(normal(3), dtype=int), DtypeError, "std: expected a float or complex dtype, got int64"),
    (lambda: gnp.var(normal(3), ddof=1, correction=1), ArgumentError, "var: expected ddof or correction"),
    (lambda: gnp.average(normal(2, 3), weights=normal(3)), ShapeError, r"average: expected weights of shape \(2, 3\)"),
    (lambda: gnp.quantile(normal(3), 1.5), ArgumentError, "quantile: expected q from 0 to 1, got 1.5"),
    (lambda: gnp.percentile(normal(3), 101), ArgumentError, "percentile: expected q from 0 to 100, got 101"),
    (lambda: gnp.quantile(normal(3), 0.5, method="cubic"), ArgumentError, "quantile: expected method to be one of"),
    (lambda: gnp.quantile(COMPLEX, 0.5), ArgumentError, "quantile: expected real elements"),
    (lambda: gnp.quantile(normal(0), 0.5), ShapeError, "quantile: expected at least one element"),
    (lambda: gnp.quantile(normal(3), gg.tensor(1.5, requires_grad=True)), ArgumentError, "quantile: expected q from 0 to 1"),
    (lambda: gnp.cov(normal(2, 2, 2)), ShapeError, "cov: expected at most two axes"),
    (lambda: gnp.cov(normal(2, 3), fweights=[1, 2]), ShapeError, "cov: expected a weight for each of 3 observations"),
    (lambda: gnp.cov(np.ones((2, 3)), fweights=np.array([1, 1.5, 2])), ArgumentError, "cov: expected whole numbers as fweights"),
    (lambda: gnp.cov(np.ones((2, 3)), aweights=np.array([1, -1, 2])), ArgumentError, "cov: expected aweights of at least 0"),
    (lambda: gnp.cumulative_sum(normal(2, 2)), ArgumentError, "cumulative_sum: expected axis= for an array of 2 axes"),
    (lambda: gnp.logcumsumexp(COMPLEX, 0), DtypeError, "logcumsumexp: expected real elements, got complex128"),
    (lambda: gnp.diff(1.0), ShapeError, "diff: expected at least one axis"),
    (lambda: gnp.diff(normal(3), n=-1), ArgumentError, "diff: expected n of at least 0, got -1"),
    (lambda: gnp.gradient(normal(1)), ShapeError, "gradient: expected at least 2 samples along axis 0"),
    (lambda: gnp.gradient(normal(3), edge_order=3), ArgumentError, "gradient: expected edge_order 1 or 2, got 3"),
    (lambda: gnp.gradient(normal(3), normal(4)), ShapeError, "gradient: expected 3 coordinates along axis 0"),
    (lambda: gnp.gradient(normal(3, 3), 1.0, 2.0, 3.0), ArgumentError, "gradient: expected no distance, one, or 2, got 3"),
    (lambda: gnp.trapezoid(normal(3), normal(4)), ShapeError, "trapezoid: expected coordinates for samples"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_argument_is_an_error_that_says_what_was_expected(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_quantile_moves_with_q_by_the_gap_between_its_neighbours():
    a = xp.asarray([1.0, 3.0, 7.0, 20.0])
    assert float(gg.grad(lambda q: gnp.quantile(a, q))(0.3)) == pytest.approx(6)
    assert float(gg.grad(lambda q: gnp.percentile(a, q))(30.0)) == pytest.approx(0.06)
    assert float(gg.grad(lambda q: gnp.quantile(a, q, method="lower"))(0.3)) == 0
    gg.check_grads(lambda q: gnp.quantile(a, q), (np.array([0.1, 0.6]),), order=2)
    assert_close(gnp.quantile(xp.asarray([1.0, 2.0, np.inf]), 0.5).data, 2.0)


@on_cpu
@pytest.mark.eager("looks at values, which a program does not")
def test_a_moving_q_is_looked_at():
    with pytest.raises(ArgumentError, match="quantile: expected q from 0 to 1"):
        gg.grad(lambda q: gnp.quantile(np.arange(4.0), q))(1.3)
