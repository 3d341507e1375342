"""Ufuncs: NumPy's values, dtypes and arguments for many inputs; right slopes, also where formulas would divide by 0."""
import math
import operator

import numpy as np
import pytest
from agreement import agrees, normal, same

import gpugrad as gg
from gpugrad import numpy as gnp
from gpugrad.errors import ArgumentError, ConversionError, DtypeError, ShapeError
from gpugrad.numpy.elementwise import UFUNCS

OTHERS = {"matmul", "matvec", "vecmat", "vecdot", "isnat"}             # not elementwise, or of dates
NUMPYS = {f.__name__: f for f in vars(np).values() if isinstance(f, np.ufunc)}
UNARY = sorted(name for name in UFUNCS if NUMPYS[name].nin == 1)
BINARY = sorted(name for name in UFUNCS if NUMPYS[name].nin == 2)
DTYPES = ["?", "i1", "u2", "i8", "f2", "f4", "f8", "c8", "c16"]


def quiet(function, *args, **kwargs):
    """The function's result, or the kind of error it raises; NumPy's warnings at poles are not the subject."""
    with np.errstate(all="ignore"):
        try:
            return function(*args, **kwargs)
        except (TypeError, ValueError) as error:
            return TypeError if isinstance(error, TypeError) else ValueError


def sample(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == "?":
        return rng.random(shape) < 0.5
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 7, size=shape).astype(dtype)
    x = rng.choice([0.0, 0.5, -0.5, 1.0, -1.0, 2.0, 3.25, np.inf, -np.inf, np.nan], size=shape)
    y = np.array(x, dtype)
    if y.dtype.kind == "c":
        y.imag = rng.permutation(x.ravel()).reshape(x.shape)
    return y


def matches(found, expected, what):
    if isinstance(expected, type):
        assert isinstance(found, type), f"{what}: {expected.__name__} expected, got {found}"
        return
    parts = zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
    for f, e in parts:
        e = np.asarray(e)
        assert (f.shape, f.dtype) == (e.shape, e.dtype), f"{what}: {e.shape} {e.dtype} expected, got {f.shape} {f.dtype}"
        np.testing.assert_allclose(f.numpy(), e, rtol=4 * np.finfo(e.dtype).eps if e.dtype.kind in "fc" else 0, err_msg=what)


# NumPy's ufuncs -------------------------------------------------------------------------------------------------------

def test_every_ufunc_has_its_function():
    assert set(NUMPYS) - set(UFUNCS) == OTHERS
    assert all(getattr(gnp, name) is function for name, function in UFUNCS.items())


def test_other_names_are_the_same_functions():
    for name, other in [("abs", "absolute"), ("conj", "conjugate"), ("mod", "remainder"), ("pow", "power"), ("acos", "arccos"),
                        ("atan2", "arctan2"), ("degrees", "rad2deg"), ("radians", "deg2rad"), ("bitwise_invert", "invert"),
                        ("bitwise_left_shift", "left_shift"), ("true_divide", "divide")]:
        assert getattr(gnp, name) is getattr(gnp, other)


@pytest.mark.parametrize("name", UNARY)
def test_unary_is_numpys_for_every_dtype(name):
    for dtype in DTYPES[name == "conjugate":]:               # NumPy makes int8 of a conjugated bool
        for shape in ((), (40,), (0, 3)):
            x = sample(dtype, shape)
            matches(quiet(UFUNCS[name], x), quiet(NUMPYS[name], x), f"{name} {dtype} {shape}")


@pytest.mark.parametrize("name", BINARY)
def test_binary_is_numpys_for_every_pair_of_dtypes(name):
    for k, left in enumerate(DTYPES):
        for right in DTYPES:
            a, b = sample(left, (3, 7), seed=k), sample(right, (7,), seed=99)
            matches(quiet(UFUNCS[name], a, b), quiet(NUMPYS[name], a, b), f"{name} {left} {right}")


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", ["i8", "f4", "c8"])
def test_python_numbers_do_not_widen(name, dtype):
    x = sample(dtype, (20,), seed=3)
    reference = operator.pow if name == "power" else NUMPYS[name]      # ** knows 0.5 and 2 as roots and squares
    for number in (2, True, 0.5, 1 + 1j):
        matches(quiet(UFUNCS[name], gg.tensor(x), number), quiet(reference, x, number), f"{name} x, {number}")
        matches(quiet(UFUNCS[name], number, gg.tensor(x)), quiet(reference, number, x), f"{name} {number}, x")


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("first", [True, False])
def test_gradient_beside_a_python_number_keeps_its_dtype(name, first):
    x = gg.tensor(np.float32([0.5, 0.25, 0.75]), requires_grad=True)
    y = quiet(UFUNCS[name], *((x, 2) if first else (2, x)))
    if isinstance(y, type | tuple) or not y.requires_grad:
        return
    assert y.dtype == (np.float64 if name == "float_power" else np.float32)
    y.backward(np.ones(3, y.dtype))
    if x.grad is None:
        assert (name, first) in [("heaviside", True), ("copysign", False), ("nextafter", False)]
        return
    assert x.grad.dtype == np.float32
    assert np.isfinite(x.grad.numpy()).all()


def test_lists_and_numbers_become_tensors():
    same(gnp.exp([0.0, 1.0]), np.exp([0.0, 1.0]), "exp")
    same(gnp.add(1, 2), np.add(1, 2), "add")
    same(gnp.multiply([[1, 2]], np.float32([3, 4])), np.multiply([[1, 2]], np.float32([3, 4])), "multiply")
    assert gnp.add([gg.tensor(1.0, requires_grad=True), 2.0], 1).requires_grad


def test_constants_leave_the_graph():
    x = gg.tensor([0.5, 1.5], requires_grad=True)
    for name in ("floor", "isnan", "rint", "signbit", "logical_not", "fix", "round"):
        assert not getattr(gnp, name)(x).requires_grad, name
    for name in ("less", "equal", "logical_or", "floor_divide"):
        assert not getattr(gnp, name)(x, 1.0).requires_grad, name


# their arguments ------------------------------------------------------------------------------------------------------

def test_dtype_is_computed_in():
    for dtype in ("f4", "f8", "c8"):
        same(gnp.exp(np.arange(3), dtype=dtype), np.exp(np.arange(3), dtype=dtype), "exp", rtol=1e-6)
        same(gnp.add(np.float32([1, 2]), 3, dtype=dtype), np.add(np.float32([1, 2]), 3, dtype=dtype), "add")
    same(gnp.less(1.0, [2.0], dtype=bool), np.less(1.0, [2.0], dtype=bool), "less")
    x = gg.tensor(np.float32([1, 2]), requires_grad=True)
    gnp.square(x, dtype="f8").sum().backward()
    assert x.grad.dtype == np.float32


def test_out_is_given_the_result_and_its_graph():
    x, out = gg.tensor([1.0, 2.0], requires_grad=True), gg.tensor([0.0, 0.0])
    assert gnp.exp(x, out) is out
    assert gnp.exp(x, out=out) is out
    assert gnp.exp(x, out=(out,)) is out
    out.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.exp([1.0, 2.0]))
    low = gg.tensor(np.float32([0, 0]))
    assert gnp.add(x, 1, out=low).dtype == np.float32
    parts = gg.tensor([0.0, 0.0]), gg.tensor([0.0, 0.0])
    assert gnp.modf([1.5, -2.25], out=parts)[1] is parts[1]
    same(parts, np.modf([1.5, -2.25]), "modf")


def test_where_computes_only_under_the_mask():
    x = gg.tensor([-1.0, 0.0, 4.0], requires_grad=True)
    y = gnp.log(x, where=x > 0)                              # no warning: warnings are errors here
    same(y, np.array([0.0, 0.0, np.log(4.0)]), "log")
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 0, 0.25])


def test_where_keeps_what_out_holds():
    mask = np.array([[True], [False]])
    a, b, old = normal(2, 3), normal(3), normal(2, 3, seed=5)
    expected = np.add(a, b, where=mask, out=old.copy())
    out, base = gg.tensor(old, requires_grad=True), None
    base = out + 0
    same(gnp.add(a, b, where=mask, out=base), expected, "add")
    base.sum().backward()
    np.testing.assert_array_equal(out.grad.numpy(), np.broadcast_to(~mask, (2, 3)))
    same(gnp.add(gg.tensor(a), 2, where=mask), np.where(mask, a + 2, 0), "add")
    same(gnp.add(gg.tensor(a), b, where=False), np.zeros((2, 3)), "add")


@pytest.mark.parametrize(("call", "kind", "message"), [
    (lambda: gnp.add([1.0, 2.0], [1.0, 2.0, 3.0]), ShapeError, "add: expected shapes that fit"),
    (lambda: gnp.add([1.0, 2.0], [1.0, 2.0, 3.0], where=[True, False]), ShapeError, "add: expected shapes that broadcast"),
    (lambda: gnp.exp("text"), DtypeError, "exp: expected"),
    (lambda: gnp.exp(None), DtypeError, "exp: expected"),
    (lambda: gnp.exp([1.0], casting="no"), ArgumentError, "exp: expected casting='same_kind', got 'no'"),
    (lambda: gnp.exp([1.0], signature="d->d"), ArgumentError, "exp: expected only out, where and dtype, got signature="),
    (lambda: gnp.exp([1.0], dtype="no such"), DtypeError, "exp: expected a dtype"),
    (lambda: gnp.exp([1j], dtype="f8"), DtypeError, "exp: expected a dtype that complex128 can be cast to, got dtype=float64"),
    (lambda: gnp.exp([1.0], dtype=bool), DtypeError, "exp: expected a dtype for float64 results, got bool"),
    (lambda: gnp.exp([1.0], where=[1.0]), DtypeError, "exp: expected bools as where, got dtype float64"),
    (lambda: gnp.exp([1.0], out=np.zeros(1)), ConversionError, "exp: expected a Tensor as out"),
    (lambda: gnp.exp([1.0], out=gg.tensor([0.0, 0.0])), ShapeError, "exp: expected a result of shape"),
    (lambda: gnp.modf([1.0], where=[True]), ArgumentError, "modf: expected no where for several results"),
    (lambda: gnp.invert([1.0]), DtypeError, "invert: expected dtypes that NumPy accepts"),
    (lambda: gnp.power([2, 3], -1), ArgumentError, "power: expected exponents of at least 0 for integers, got -1"),
    (lambda: gnp.round([1.0], 0.5), DtypeError, "round: expected an int as decimals, got 0.5"),
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


# powers ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("b", [-2, -1, 0, 1, 2, 3, 4, 5, 0.0, 1.0, 2.0, 3.0, -1.0])
@pytest.mark.parametrize("a", [-2.0, -0.5, 0.0, 1.0, 3.0])
@pytest.mark.parametrize("as_array", [False, True])
def test_whole_powers_have_exact_derivatives_of_every_order(a, b, as_array):
    if a == 0 and b < 0:
        return

    def f(x):
        return x ** (np.array(float(b)) if as_array else b)
    factor = 1.0
    for order in range(4):
        exponent = b - order
        expected = 0.0 if factor == 0 else factor * a ** exponent
        assert float(f(a)) == pytest.approx(expected, rel=1e-14, abs=1e-14), f"order {order}"
        factor, f = factor * exponent, gg.grad(f)


def test_integer_arrays_as_exponents():
    x = np.array([0.0, 0.0, 0.0, -2.0, -2.0, 2.0])
    n = np.array([0, 1, 2, 0, 3, -1])
    np.testing.assert_allclose(gg.grad(lambda x: (x ** n).sum())(x), [0, 1, 0, 0, 12, -0.25])


def test_slope_of_a_power_to_its_exponent():
    b = np.array([0.0, 1.0, 2.5])
    np.testing.assert_allclose(gg.grad(lambda b: (2 ** b).sum())(b), 2 ** b * np.log(2))
    np.testing.assert_array_equal(gg.grad(lambda b: (0 ** b).sum())(b), 0)
    np.testing.assert_array_equal(gg.grad(lambda b: (np.zeros(3) ** b).sum())(b), 0)
    assert np.isnan(gg.grad(lambda b: (-2.0) ** b)(2.0))               # real powers of -2 exist at whole b only
    mixed = gg.grad(gg.grad(lambda a, b: a ** b, argnums=0), argnums=1)
    assert mixed(2.0, 0.0) == 0.5                                      # d/db of b a^(b-1) at b = 0 is 1 / a, not 0


@pytest.mark.parametrize("b", [3, 4])
def test_small_powers_are_within_two_roundings(b):
    x = normal(1000).astype("f4")
    exact = x.astype("f8") ** b
    np.testing.assert_allclose((gg.tensor(x) ** b).numpy(), exact, rtol=2 * np.finfo("f4").eps)


# smooth at awkward points ---------------------------------------------------------------------------------------------

def test_sinc_is_smooth_at_zero_to_every_order():
    f = gg.sinc
    for order in range(9):
        expected = 0 if order % 2 else (-1) ** (order // 2) * math.pi ** order / (order + 1)
        assert float(f(0.0)) == pytest.approx(expected, rel=1e-13, abs=1e-12), f"order {order}"
        f = gg.grad(f)


@pytest.mark.parametrize("x", [1e-8, 1e-3, 0.3, 0.95, 0.96, 1.5, 7.25, -0.4])
def test_fourth_derivative_of_sinc(x):
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(60):
        expected = float(mpmath.diff(lambda t: mpmath.sinc(mpmath.pi * t), x, 4))
    f = gg.grad(gg.grad(gg.grad(gg.grad(gg.sinc))))
    assert f(x) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_i0_has_bessel_derivatives_near_and_far():
    from scipy.special import iv
    x = np.array([-40.0, -3.0, -1e-9, 0.0, 1e-9, 0.7, 29.9, 30.1, 200.0, 700.0])
    value, pull = gg.vjp(gg.i0, x)
    np.testing.assert_allclose(value, np.i0(x), rtol=1e-14)
    np.testing.assert_allclose(pull(np.ones_like(x))[0], iv(1, x), rtol=1e-13)
    second = gg.grad(lambda x: gg.grad(lambda x: gg.i0(x).sum())(x).sum())(x)
    np.testing.assert_allclose(second, (iv(0, x) + iv(2, x)) / 2, rtol=1e-13)


def test_expm1_slope_keeps_its_digits():
    assert gg.grad(gg.expm1)(-40.0) == math.exp(-40)


def test_logaddexp_of_distant_and_infinite_terms():
    x = np.array([0.0, 1000.0, -np.inf, -1000.0])
    g = gg.grad(lambda x: gg.logaddexp(x, np.array([0.0, 0.0, 0.0, -np.inf])).sum())(x)
    np.testing.assert_array_equal(g, [0.5, 1, 0, 1])


# complex numbers ------------------------------------------------------------------------------------------------------

def test_abs_and_angle_of_complex_numbers_point_along_steepest_ascent():
    z = np.array([3 + 4j, -2j, -1 + 0j, 0])
    with np.errstate(invalid="ignore"):
        unit = np.where(z == 0, 0, z / np.abs(z))
    np.testing.assert_allclose(gg.grad(lambda z: gg.abs(z).sum())(z), unit)
    around = np.array([1j / np.conj(v) if v else 0 for v in z])
    np.testing.assert_allclose(gg.grad(lambda z: gg.angle(z).sum())(z), around)
    np.testing.assert_allclose(gg.grad(lambda z: gg.angle(z, deg=True).sum())(z), around * 180 / np.pi)


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
    np.testing.assert_array_equal(c.grad.numpy(), np.ones(4))


def test_real_if_close_looks_at_the_imaginary_parts():
    for z in (np.array([1 + 1e-15j]), np.array([1 + 1e-3j]), np.array([2.0])):
        for tol in (100, 1e-2):
            same(gnp.real_if_close(z, tol), np.real_if_close(z, tol), "real_if_close")
    z = gg.tensor([2 + 0j], requires_grad=True)
    gnp.real_if_close(z).sum().backward()
    assert z.grad.dtype == complex


# choosing -------------------------------------------------------------------------------------------------------------

def test_where_shields_a_branch_from_the_other():
    x = gg.tensor([-1.0, 0.0, 4.0], requires_grad=True)
    with np.errstate(all="ignore"):
        gg.where(x > 0, 1.0, gg.where(x > 0, gg.exp(x * 1e6), x)).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy()[:2], [1, 1])
    g = gg.vjp(lambda a, b: gg.where(np.array([True, False]), a, b), np.ones(2), np.ones(2))[1](np.array([np.nan, np.inf]))
    np.testing.assert_array_equal(g[0], [np.nan, 0])
    np.testing.assert_array_equal(g[1], [0, np.inf])


@pytest.mark.parametrize("dtype", ["?", "i4", "f2", "f4", "f8", "c8", "c16"])
@pytest.mark.parametrize("n", [7, 5000])
def test_where_is_numpys_for_small_and_large_arrays(dtype, n):
    c = np.random.default_rng(0).random(n) < 0.5
    a, b = sample(dtype, n, 1), sample(dtype, n, 2)
    same(gnp.where(c, a, b), np.where(c, a, b), "where")
    same(gnp.where(gg.tensor(c), a, 2), np.where(c, a, 2), "where")
    same(gnp.where(c.astype(int), a, b), np.where(c, a, b), "where")
    same(gnp.where(c, np.nan, np.inf), np.where(c, np.nan, np.inf), "where")


def test_where_with_a_condition_alone_is_nonzero():
    same(gnp.where(np.array([0, 3, 0, 4])), np.where(np.array([0, 3, 0, 4])), "where")


def test_clip_is_numpys_and_slopes_one_at_the_bounds():
    x = normal(20)
    agrees("clip", x, -0.5, 0.5, orders=2)
    agrees("clip", x, None, normal(20, seed=2))
    agrees("clip", x, normal(3, 20, seed=2), None)
    same(gnp.clip(x, min=0.1), np.clip(x, min=0.1), "clip")
    same(gnp.clip(x), np.clip(x), "clip")
    same(gnp.clip(np.arange(5), 1, 3), np.clip(np.arange(5), 1, 3), "clip")
    same(gg.tensor(x).clip(0, 1), x.clip(0, 1), "clip")
    np.testing.assert_array_equal(gg.grad(lambda x: gg.clip(x, 0, 1).sum())(np.array([-1, 0, 0.5, 1, 2])), [0, 1, 1, 1, 0])
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
    np.testing.assert_allclose(g, np.select(conditions, [np.ones(30), 2 * x], 0))


def test_piecewise_runs_each_function_on_its_own_elements():
    x = np.array([-4.0, 0.0, 4.0])
    with np.errstate(all="raise"):
        y = gg.grad(lambda x: gg.piecewise(x, [x < 0, x > 0], [lambda v: -v, gg.sqrt]).sum())(x)
    np.testing.assert_array_equal(y, [-1, 0, 0.25])
    for functions in ([1, 2], [1, 2, 3], [lambda v: v * 2, lambda v: v + 1, lambda v: v ** 2]):
        same(gnp.piecewise(x, [x < 0, x > 0], functions), np.piecewise(x, [x < 0, x > 0], functions), "piecewise")
    same(gnp.piecewise(x, x < 0, [1, 2]), np.piecewise(x, x < 0, [1, 2]), "piecewise")
    line = [lambda v, k, s: k * v + s]
    same(gnp.piecewise(x, [x < 0], line, 3, s=1), np.piecewise(x, [x < 0], line, 3, s=1), "piecewise")
    same(gnp.piecewise(2.0, [True, False], [3, 4]), np.piecewise(2.0, [True, False], [3, 4]), "piecewise")


def test_nan_to_num_is_numpys_and_stops_slopes_at_replaced_elements():
    for dtype in ("f4", "f8", "c8", "c16", "i4"):
        x = sample(dtype, 50)
        same(gnp.nan_to_num(x), np.nan_to_num(x), "nan_to_num")
        same(gnp.nan_to_num(x, nan=1, posinf=2, neginf=3), np.nan_to_num(x, nan=1, posinf=2, neginf=3), "nan_to_num")
    g = gg.grad(lambda x: (gg.nan_to_num(x) * np.array([1, np.nan, np.inf])).sum())(np.array([1.0, np.nan, np.inf]))
    np.testing.assert_array_equal(g, [1, 0, 0])


# between knots, and along an axis -------------------------------------------------------------------------------------

KNOTS, HEIGHTS = np.array([-1.0, 0.5, 1.0, 4.0]), np.array([2.0, -1.0, 3.0, 0.5])


@pytest.mark.parametrize("options", [{}, {"left": -9.0}, {"right": 9.0}, {"left": 5, "right": 6}, {"period": 2.5},
                                     {"period": -360}])
def test_interp_is_numpys(options):
    x = np.concatenate([np.linspace(-3, 6, 41), KNOTS])
    grid, waves = x.reshape(5, 9), HEIGHTS + 1j
    same(gnp.interp(x, KNOTS, HEIGHTS, **options), np.interp(x, KNOTS, HEIGHTS, **options), "interp", rtol=1e-13)
    same(gnp.interp(grid, KNOTS, waves, **options), np.interp(grid, KNOTS, waves, **options), "interp", rtol=1e-13)
    same(gnp.interp(0.25, KNOTS, HEIGHTS, **options), np.interp(0.25, KNOTS, HEIGHTS, **options), "interp")
    same(gnp.interp(x, [1.0], [2.0], **options), np.interp(x, [1.0], [2.0], **options), "interp")


def test_interp_has_slopes_to_places_knots_and_heights():
    x = np.array([-2.0, -0.3, 0.7, 0.9, 2.0, 3.5, 7.0])
    gg.check_grads(gnp.interp, (x, KNOTS, HEIGHTS), order=2)
    gg.check_grads(lambda x, f: gnp.interp(x, KNOTS, f, period=5.5), (x, HEIGHTS), order=2)
    gg.check_grads(lambda f: gnp.interp(x, KNOTS, f, left=1.0), (HEIGHTS + 1j,), order=2)
    assert gg.grad(lambda x: gnp.interp(x, KNOTS, HEIGHTS))(0.5) == 8          # the right slope at a knot


def test_interp_inside_vmap_is_a_loop():
    x, f = normal(3, 5), normal(3, 4)
    y = gg.vmap(lambda x, f: gnp.interp(x, KNOTS, f))(x, f)
    np.testing.assert_allclose(y, [np.interp(a, KNOTS, b) for a, b in zip(x, f, strict=True)])


def test_unwrap_is_numpys_with_slope_one():
    p = np.cumsum(normal(3, 20) * 3, axis=1) % (2 * np.pi)
    for options in ({}, {"axis": 0}, {"discont": 4.0}, {"period": 4.0}):
        same(gnp.unwrap(p, **options), np.unwrap(p, **options), "unwrap")
    same(gnp.unwrap(np.array([0, 3, 1, 4]), period=4), np.unwrap(np.array([0, 3, 1, 4]), period=4), "unwrap")
    np.testing.assert_array_equal(gg.grad(lambda p: gnp.unwrap(p).sum())(p), np.ones_like(p))


# equality -------------------------------------------------------------------------------------------------------------

def test_equality_of_arrays_is_numpys():
    a, b = np.array([1.0, np.nan, 3.0]), np.array([1.0 + 1e-9, np.nan, 3.0])
    for equal_nan in (True, False):
        same(gnp.isclose(a, b, equal_nan=equal_nan), np.isclose(a, b, equal_nan=equal_nan), "isclose")
        assert gnp.allclose(a, b, equal_nan=equal_nan) is np.allclose(a, b, equal_nan=equal_nan)
        assert gnp.array_equal(a, a, equal_nan=equal_nan) is np.array_equal(a, a, equal_nan=equal_nan)
    assert not gnp.array_equal([1], [1, 1])
    assert gnp.array_equiv([1], [1, 1])
    assert not gnp.array_equiv([1, 2, 3], [1, 1])
    assert not gnp.isclose(gg.tensor(a, requires_grad=True), b).requires_grad


# peers ----------------------------------------------------------------------------------------------------------------

@pytest.mark.peers
@pytest.mark.parametrize("name", ["sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh", "arctanh",
                                  "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "square", "reciprocal",
                                  "abs", "sinc", "i0"])
def test_slopes_are_torchs(name):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).uniform(0.05, 0.95, size=50)
    t = torch.tensor(x, requires_grad=True)
    getattr(torch, name)(t).sum().backward()
    np.testing.assert_allclose(gg.grad(lambda x: getattr(gg, name)(x).sum())(x), t.grad.numpy(), rtol=1e-11)


@pytest.mark.peers
@pytest.mark.parametrize("name", ["abs", "angle", "real", "imag", "sin", "exp", "log", "sqrt", "tanh", "sgn"])
def test_complex_gradients_are_torchs(name):
    torch = pytest.importorskip("torch")
    z = normal(20) + 1j * normal(20, seed=1)
    c = normal(20, seed=2) + 1j * normal(20, seed=3)
    t = torch.tensor(z, requires_grad=True)
    y = getattr(torch, name)(t)
    y.backward(torch.tensor(c if y.is_complex() else c.real))
    ours = getattr(gg, "sign" if name == "sgn" else name)
    g = gg.vjp(ours, z)[1](c if y.is_complex() else c.real)[0]
    np.testing.assert_allclose(g, t.grad.numpy(), rtol=1e-11)
