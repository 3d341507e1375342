"""Functions that choose, interpolate and take complex numbers apart: NumPy's results, and no NaN across a choice."""
import numpy as np
import pytest
from agreement import agrees, normal, same
from on_device import assert_close, assert_equal, host, hosted, placed, xp
from samples import sample

import gpugrad as gg
from gpugrad import numpy as gnp
from gpugrad.errors import ArgumentError, DtypeError, ShapeError

pytestmark = pytest.mark.usefixtures("device")

# choosing -------------------------------------------------------------------------------------------------------------

def test_where_shields_a_branch_from_the_other():
    x = gg.tensor([-1.0, 0.0, 4.0], requires_grad=True)
    with np.errstate(all="ignore"):
        gg.where(x > 0, 1.0, gg.where(x > 0, gg.exp(x * 1e6), x)).sum().backward()
    assert_equal(x.grad.numpy()[:2], [1, 1])
    g = gg.vjp(lambda a, b: gg.where(xp.array([True, False]), a, b), xp.ones(2), xp.ones(2))[1](xp.array([np.nan, np.inf]))
    assert_equal(g[0], [np.nan, 0])
    assert_equal(g[1], [0, np.inf])


@pytest.mark.parametrize("dtype", ["?", "i4", "f2", "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("n", [7, 5000])
def test_where_is_numpys_for_small_and_large_arrays(dtype, n):
    c = np.random.default_rng(0).random(n) < 0.5
    a, b = sample(dtype, n, 1), sample(dtype, n, 2)
    there, x, y = placed((c, a, b))
    same(gnp.where(there, x, y), np.where(c, a, b), "where")
    same(gnp.where(gg.tensor(there), x, 2), np.where(c, a, 2), "where")
    same(gnp.where(there.astype(int), x, y), np.where(c, a, b), "where")
    same(gnp.where(there, np.nan, np.inf), np.where(c, np.nan, np.inf), "where")


def test_where_with_a_condition_alone_is_nonzero():
    same(gnp.where(xp.array([0, 3, 0, 4])), np.where(xp.array([0, 3, 0, 4])), "where")


def test_clip_is_numpys_and_slopes_one_at_the_bounds():
    x = normal(20)
    agrees("clip", x, -0.5, 0.5, orders=2)
    agrees("clip", x, None, normal(20, seed=2))
    agrees("clip", x, normal(3, 20, seed=2), None)
    same(gnp.clip(x, min=0.1), np.clip(x, min=0.1), "clip")
    same(gnp.clip(x), np.clip(x), "clip")
    same(gnp.clip(xp.arange(5), 1, 3), np.clip(xp.arange(5), 1, 3), "clip")
    same(gg.tensor(x).clip(0, 1), x.clip(0, 1), "clip")
    assert_equal(gg.grad(lambda x: gg.clip(x, 0, 1).sum())(xp.array([-1, 0, 0.5, 1, 2])), [0, 1, 1, 1, 0])
    z = gg.tensor([0.0, 0.0], requires_grad=True)
    assert gnp.clip([3.0, -3.0], 0, 1, out=z).tolist() == [1, 0]


def test_equal_inputs_share_the_slope_of_extremes():
    for name in ("maximum", "minimum", "fmax", "fmin"):
        f = getattr(gg, name)
        assert gg.grad(f, argnums=(0, 1))(2.0, 2.0) == (0.5, 0.5)
        assert gg.grad(lambda x, f=f: f(x, x))(2.0) == 1
        assert gg.grad(lambda x, f=f: f(x, 0.0))(-np.inf if name.endswith(("min", "minimum")) else np.inf) == 1


def test_select_takes_the_first_that_holds():
    x = normal(30)
    conditions = [x < -0.5, x < 0.5]
    same(gnp.select(conditions, [x, x ** 2], 7), np.select(conditions, [x, x ** 2], 7), "select")
    same(gnp.select(conditions, [x.astype("f4"), 1]), np.select(conditions, [x.astype("f4"), 1]), "select")
    g = gg.grad(lambda x: gg.select([x < -0.5, x < 0.5], [x, x ** 2], 7).sum())(x)
    assert_close(g, np.select(conditions, [np.ones(30), 2 * x], 0))


def test_piecewise_runs_each_function_on_its_own_elements():
    x = xp.array([-4.0, 0.0, 4.0])
    with np.errstate(all="raise"):
        y = gg.grad(lambda x: gg.piecewise(x, [x < 0, x > 0], [lambda v: -v, gg.sqrt]).sum())(x)
    assert_equal(y, [-1, 0, 0.25])
    for functions in ([1, 2], [1, 2, 3], [lambda v: v * 2, lambda v: v + 1, lambda v: v ** 2]):
        same(gnp.piecewise(x, [x < 0, x > 0], functions), np.piecewise(host(x), hosted([x < 0, x > 0]), functions), "piecewise")
    same(gnp.piecewise(x, x < 0, [1, 2]), np.piecewise(host(x), host(x < 0), [1, 2]), "piecewise")
    line = [lambda v, k, s: k * v + s]
    same(gnp.piecewise(x, [x < 0], line, 3, s=1), np.piecewise(host(x), [host(x) < 0], line, 3, s=1), "piecewise")
    same(gnp.piecewise(2.0, [True, False], [3, 4]), np.piecewise(2.0, [True, False], [3, 4]), "piecewise")


def test_nan_to_num_is_numpys_and_stops_slopes_at_replaced_elements():
    for dtype in ("f4", "f8", "c8", "c16", "i4"):
        x = sample(dtype, 50)
        same(gnp.nan_to_num(x), np.nan_to_num(x), "nan_to_num")
        same(gnp.nan_to_num(x, nan=1, posinf=2, neginf=3), np.nan_to_num(x, nan=1, posinf=2, neginf=3), "nan_to_num")
    g = gg.grad(lambda x: (gg.nan_to_num(x) * xp.array([1, np.nan, np.inf])).sum())(xp.array([1.0, np.nan, np.inf]))
    assert_equal(g, [1, 0, 0])


# between knots, and along an axis -------------------------------------------------------------------------------------

KNOTS, HEIGHTS = np.array([-1.0, 0.5, 1.0, 4.0]), np.array([2.0, -1.0, 3.0, 0.5])


@pytest.mark.parametrize("options", [{}, {"left": -9.0}, {"right": 9.0}, {"left": 5, "right": 6}, {"period": 2.5},
                                     {"period": -360}])
def test_interp_is_numpys(options):
    x = np.concatenate([np.linspace(-3, 6, 41), KNOTS])
    grid, waves = x.reshape(5, 9), HEIGHTS + 1j
    for args in ((x, KNOTS, HEIGHTS), (grid, KNOTS, waves), (0.25, KNOTS, HEIGHTS), (x, [1.0], [2.0])):
        same(gnp.interp(*placed(args), **options), np.interp(*args, **options), "interp", rtol=1e-13)


def test_interp_has_slopes_to_places_knots_and_heights():
    x = xp.array([-2.0, -0.3, 0.7, 0.9, 2.0, 3.5, 7.0])
    knots, heights = placed((KNOTS, HEIGHTS))
    gg.check_grads(gnp.interp, (x, knots, heights), order=2)
    gg.check_grads(lambda x, f: gnp.interp(x, knots, f, period=5.5), (x, heights), order=2)
    gg.check_grads(lambda f: gnp.interp(x, knots, f, left=1.0), (heights + 1j,), order=2)
    assert gg.grad(lambda x: gnp.interp(x, knots, heights))(0.5) == 8          # the right slope at a knot


def test_interp_inside_vmap_is_a_loop():
    x, f = normal(3, 5), normal(3, 4)
    y = gg.vmap(lambda x, f: gnp.interp(x, KNOTS, f))(x, f)
    assert_close(y, [np.interp(a, KNOTS, b) for a, b in zip(x, f, strict=True)])


def test_unwrap_is_numpys_with_slope_one():
    p = np.cumsum(normal(3, 20) * 3, axis=1) % (2 * np.pi)
    for options in ({}, {"axis": 0}, {"discont": 4.0}, {"period": 4.0}):
        same(gnp.unwrap(p, **options), np.unwrap(p, **options), "unwrap")
    same(gnp.unwrap(xp.array([0, 3, 1, 4]), period=4), np.unwrap(xp.array([0, 3, 1, 4]), period=4), "unwrap")
    assert_equal(gg.grad(lambda p: gnp.unwrap(p).sum())(xp.asarray(p)), np.ones_like(p))


# equality -------------------------------------------------------------------------------------------------------------

def test_equality_of_arrays_is_numpys():
    a, b = xp.array([1.0, np.nan, 3.0]), xp.array([1.0 + 1e-9, np.nan, 3.0])
    for equal_nan in (True, False):
        same(gnp.isclose(a, b, equal_nan=equal_nan), np.isclose(a, b, equal_nan=equal_nan), "isclose")
        assert gnp.allclose(a, b, equal_nan=equal_nan) is np.allclose(host(a), host(b), equal_nan=equal_nan)
        assert gnp.array_equal(a, a, equal_nan=equal_nan) is np.array_equal(host(a), host(a), equal_nan=equal_nan)
    assert not gnp.array_equal([1], [1, 1])
    assert gnp.array_equiv([1], [1, 1])
    assert not gnp.array_equiv([1, 2, 3], [1, 1])
    assert not gnp.isclose(gg.tensor(a, requires_grad=True), b).requires_grad


# complex numbers ------------------------------------------------------------------------------------------------------

def test_abs_and_angle_of_complex_numbers_point_along_steepest_ascent():
    z = xp.array([3 + 4j, -2j, -1 + 0j, 0])
    unit = xp.array([v / abs(v) if v else 0 for v in host(z)])
    assert_close(gg.grad(lambda z: gg.abs(z).sum())(z), unit)
    around = xp.array([1j / np.conj(v) if v else 0 for v in host(z)])
    assert_close(gg.grad(lambda z: gg.angle(z).sum())(z), around)
    assert_close(gg.grad(lambda z: gg.angle(z, deg=True).sum())(z), around * 180 / np.pi)


def test_parts_of_complex_and_real_numbers():
    z, x = normal(4) + 1j * normal(4, seed=1), normal(4)
    for name in ("real", "imag", "conj", "angle", "iscomplex", "isreal", "sign", "abs"):
        same(getattr(gnp, name)(z), getattr(np, name)(z), name)
        same(getattr(gnp, name)(x), getattr(np, name)(x), name)
    same(gnp.angle(-x, deg=True), np.angle(-x, deg=True), "angle")
    assert gnp.iscomplexobj(z)
    assert gnp.isrealobj(x)
    c = gg.tensor(x, requires_grad=True)
    assert gnp.conj(c)._data is not c._data                            # NumPy's conj copies
    gnp.imag(c * 1j).sum().backward()
    assert_equal(c.grad.numpy(), xp.ones(4))


def test_real_if_close_looks_at_the_imaginary_parts():
    for z in (xp.array([1 + 1e-15j]), xp.array([1 + 1e-3j]), xp.array([2.0])):
        for tol in (100, 1e-2):
            same(gnp.real_if_close(z, tol), np.real_if_close(host(z), tol), "real_if_close")
    z = gg.tensor([2 + 0j], requires_grad=True)
    gnp.real_if_close(z).sum().backward()
    assert z.grad.dtype == complex


# bad arguments -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("call", "kind", "message"), [
    (lambda: gnp.where([True], 1.0), ArgumentError, "where: expected both x and y or neither, got one"),
    (lambda: gnp.select([[True]], [1, 2]), ArgumentError, "select: expected as many choices as conditions"),
    (lambda: gnp.select([], []), ArgumentError, "select: expected as many choices as conditions, at least one"),
    (lambda: gnp.select([[1.0]], [[2.0]]), DtypeError, "select: expected conditions of bools, got dtype float64"),
    (lambda: gnp.piecewise([1.0], [[True]], [1, 2, 3]), ArgumentError, "piecewise: expected 1 or 2 functions for 1 "),
    (lambda: gnp.piecewise([1.0, 2.0], [[True]], [1]), ShapeError, r"piecewise: expected conditions of shape \(2,\), got \(1,\)"),
    (lambda: gnp.clip([1.0], 0, min=0), ArgumentError, "clip: expected each bound once"),
    (lambda: gnp.interp(1.0, [0.0, 1.0], [0.0]), ShapeError, r"interp: expected xp and fp of one shape"),
    (lambda: gnp.interp(1.0, [], []), ShapeError, r"interp: expected xp and fp of one shape \(n,\) with n >= 1"),
    (lambda: gnp.interp(1.0, [0.0], [0.0], period=0), ArgumentError, "interp: expected a period other than 0"),
    (lambda: gnp.unwrap([1.0], axis=1), ShapeError, "unwrap: expected an axis from -1 to 0, got 1"),
])
def test_bad_arguments(call, kind, message):
    with pytest.raises(kind, match=f"^{message}"):
        call()
