"""Ufuncs: NumPy's values, dtypes and arguments for many inputs; right slopes, also where formulas would divide by 0."""
import functools
import math
import operator

import numpy as np
import pytest
from agreement import normal, same
from on_device import assert_close, assert_equal, host, on_cpu, placed, xp
from samples import sample

import gpugrad as gg
from gpugrad import numpy as gnp
from gpugrad.errors import ArgumentError, ConversionError, DtypeError, ShapeError
from gpugrad.numpy.elementwise import UFUNCS

pytestmark = pytest.mark.usefixtures("device")

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


def ordinary(*inputs):
    """Where the results are compared: CuPy has its own for zeros, infinities and NaN."""
    if gg.default_device().kind != "cuda":
        return True
    return functools.reduce(np.logical_and, [np.isfinite(x) & (np.asarray(x) != 0) for x in inputs])


def matches(found, expected, what, where=True):
    if isinstance(expected, type):
        assert isinstance(found, type), f"{what}: {expected.__name__} expected, got {found}"
        return
    parts = zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
    for f, e in parts:
        e = xp.asarray(e)
        assert (f.shape, f.dtype) == (e.shape, e.dtype), f"{what}: {e.shape} {e.dtype} expected, got {f.shape} {f.dtype}"
        f, e = np.where(where, f.numpy(), 0), np.where(where, host(e), 0)
        assert_close(f, e, rtol=8 * np.finfo(e.dtype).eps if e.dtype.kind in "fc" else 0, message=what)


# NumPy's ufuncs -------------------------------------------------------------------------------------------------------

@pytest.mark.eager("compares the functions themselves")
def test_every_ufunc_has_its_function():
    assert set(NUMPYS) - set(UFUNCS) == OTHERS
    assert all(getattr(gnp, name) is function for name, function in UFUNCS.items())


@pytest.mark.eager("compares the functions themselves")
def test_other_names_are_the_same_functions():
    for name, other in [("abs", "absolute"), ("conj", "conjugate"), ("mod", "remainder"), ("pow", "power"), ("acos", "arccos"),
                        ("atan2", "arctan2"), ("degrees", "rad2deg"), ("radians", "deg2rad"), ("bitwise_invert", "invert"),
                        ("bitwise_left_shift", "left_shift"), ("true_divide", "divide")]:
        assert getattr(gnp, name) is getattr(gnp, other)


@pytest.mark.parametrize("name", UNARY)
def test_unary_is_numpys_for_every_dtype(name):
    for dtype in DTYPES[name == "conjugate":]:               # NumPy makes int8 of a conjugated bool
        if (name, dtype) == ("spacing", "f2") and xp.ndarray is not np.ndarray:      # NumPy's own of halves has no sign
            continue
        for shape in ((), (40,), (0, 3)):
            x = sample(dtype, shape)
            matches(quiet(UFUNCS[name], placed(x)), quiet(NUMPYS[name], x), f"{name} {dtype} {shape}", ordinary(x))


@pytest.mark.parametrize("name", BINARY)
def test_binary_is_numpys_for_every_pair_of_dtypes(name):
    for k, left in enumerate(DTYPES):
        for right in DTYPES:
            a, b = sample(left, (3, 7), seed=k), sample(right, (7,), seed=99)
            matches(quiet(UFUNCS[name], *placed((a, b))), quiet(NUMPYS[name], a, b), f"{name} {left} {right}", ordinary(a, b))


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("dtype", ["i8", "f4", "c8"])
def test_python_numbers_do_not_widen(name, dtype):
    x = sample(dtype, (20,), seed=3)
    if dtype == "c8" and xp.ndarray is not np.ndarray:                 # CuPy's complex powers of infinities are NaN
        x = x[np.isfinite(x)]
    reference = operator.pow if name == "power" else NUMPYS[name]      # ** knows 0.5 and 2 as roots and squares
    for number in (2, True, 0.5, 1 + 1j):
        t = gg.tensor(placed(x))
        matches(quiet(UFUNCS[name], t, number), quiet(reference, x, number), f"{name} x, {number}", ordinary(x))
        matches(quiet(UFUNCS[name], number, t), quiet(reference, number, x), f"{name} {number}, x", ordinary(x))


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("first", [True, False])
def test_gradient_beside_a_python_number_keeps_its_dtype(name, first):
    x = gg.tensor(xp.asarray([0.5, 0.25, 0.75], "f4"), requires_grad=True)
    y = quiet(UFUNCS[name], *((x, 2) if first else (2, x)))
    if isinstance(y, type | tuple) or not y.requires_grad:
        return
    assert y.dtype == (np.float64 if name == "float_power" else np.float32)
    y.backward(xp.ones(3, y.dtype))
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
        same(gnp.exp(xp.arange(3), dtype=dtype), np.exp(xp.arange(3), dtype=dtype), "exp", rtol=1e-6)
        same(gnp.add(np.float32([1, 2]), 3, dtype=dtype), np.add(np.float32([1, 2]), 3, dtype=dtype), "add")
    same(gnp.less(1.0, [2.0], dtype=bool), np.less(1.0, [2.0], dtype=bool), "less")
    x = gg.tensor(xp.asarray([1, 2], "f4"), requires_grad=True)
    gnp.square(x, dtype="f8").sum().backward()
    assert x.grad.dtype == np.float32


def test_out_is_given_the_result_and_its_graph():
    x, out = gg.tensor([1.0, 2.0], requires_grad=True), gg.tensor([0.0, 0.0])
    assert gnp.exp(x, out) is out
    assert gnp.exp(x, out=out) is out
    assert gnp.exp(x, out=(out,)) is out
    out.sum().backward()
    assert_close(x.grad.numpy(), np.exp([1.0, 2.0]))
    low = gg.tensor(xp.asarray([0, 0], "f4"))
    assert gnp.add(x, 1, out=low).dtype == np.float32
    parts = gg.tensor([0.0, 0.0]), gg.tensor([0.0, 0.0])
    assert gnp.modf([1.5, -2.25], out=parts)[1] is parts[1]
    same(parts, np.modf([1.5, -2.25]), "modf")


def test_where_computes_only_under_the_mask():
    x = gg.tensor([-1.0, 0.0, 4.0], requires_grad=True)
    y = gnp.log(x, where=x > 0)                              # no warning: warnings are errors here
    same(y, xp.array([0.0, 0.0, np.log(4.0)]), "log")
    y.sum().backward()
    assert_equal(x.grad.numpy(), [0, 0, 0.25])


def test_where_keeps_what_out_holds():
    mask = np.array([[True], [False]])
    a, b, old = normal(2, 3), normal(3), normal(2, 3, seed=5)
    expected, twice = np.add(a, b, where=mask, out=old.copy()), np.where(mask, a + 2, 0)
    a, b, old, mask = placed((a, b, old, mask))
    out, base = gg.tensor(old, requires_grad=True), None
    base = out + 0
    same(gnp.add(a, b, where=mask, out=base), expected, "add")
    base.sum().backward()
    assert_equal(out.grad.numpy(), np.broadcast_to(~mask, (2, 3)))
    same(gnp.add(gg.tensor(a), 2, where=mask), twice, "add")
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
        return x ** (xp.array(float(b)) if as_array else b)
    factor = 1.0
    for order in range(4):
        exponent = b - order
        expected = 0.0 if factor == 0 else factor * a ** exponent
        assert float(f(a)) == pytest.approx(expected, rel=1e-14, abs=1e-14), f"order {order}"
        factor, f = factor * exponent, gg.grad(f)


def test_integer_arrays_as_exponents():
    x = xp.array([0.0, 0.0, 0.0, -2.0, -2.0, 2.0])
    n = xp.array([0, 1, 2, 0, 3, -1])
    assert_close(gg.grad(lambda x: (x ** n).sum())(x), [0, 1, 0, 0, 12, -0.25])


def test_slope_of_a_power_to_its_exponent():
    b = xp.array([0.0, 1.0, 2.5])
    assert_close(gg.grad(lambda b: (2 ** b).sum())(b), 2 ** b * np.log(2))
    assert_equal(gg.grad(lambda b: (0 ** b).sum())(b), 0)
    assert_equal(gg.grad(lambda b: (xp.zeros(3) ** b).sum())(b), 0)
    assert np.isnan(gg.grad(lambda b: (-2.0) ** b)(2.0))               # real powers of -2 exist at whole b only
    mixed = gg.grad(gg.grad(lambda a, b: a ** b, argnums=0), argnums=1)
    assert mixed(2.0, 0.0) == 0.5                                      # d/db of b a^(b-1) at b = 0 is 1 / a, not 0


def test_complex_powers_of_negative_numbers_have_slopes_to_the_exponent():
    b = xp.array([0.3 + 0.2j, 0.5 - 1j])
    for base in (xp.array([-1.2, 0.7]), -1.2):
        gg.check_grads(lambda b, base=base: base ** b, (b,), order=2)


@pytest.mark.parametrize("b", [3, 4])
def test_small_powers_are_within_two_roundings(b):
    x = normal(1000).astype("f4")
    exact = x.astype("f8") ** b
    assert_close((gg.tensor(x) ** b).numpy(), exact, rtol=2 * np.finfo("f4").eps)


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
    assert float(f(x)) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.filterwarnings("ignore:overflow")
def test_the_slope_of_i0_overflows_to_infinity():
    assert float(gg.grad(gg.i0)(xp.asarray(1e38, "f4"))) == np.inf


def test_i0_has_bessel_derivatives_near_and_far():
    from scipy.special import iv
    x = xp.array([-40.0, -3.0, -1e-9, 0.0, 1e-9, 0.7, 29.9, 30.1, 200.0, 700.0])
    value, pull = gg.vjp(gg.i0, x)
    assert_close(value, np.i0(host(x)), rtol=1e-14)
    assert_close(pull(xp.ones_like(x))[0], iv(1, host(x)), rtol=1e-13)
    second = gg.grad(lambda x: gg.grad(lambda x: gg.i0(x).sum())(x).sum())(x)
    assert_close(second, (iv(0, host(x)) + iv(2, host(x))) / 2, rtol=1e-13)


def test_expm1_slope_keeps_its_digits():
    assert gg.grad(gg.expm1)(-40.0) == math.exp(-40)


def test_powers_of_signed_zeros_stay_on_their_side_of_zero_and_of_the_branch_cut():
    """Of -0.0 ** -2 the slope is +inf; below the cut, (-1 - 0j) ** 1j is exp(pi)."""
    with np.errstate(divide="ignore"):
        assert gg.grad(lambda x: (x ** xp.array([-2.0])).sum())(xp.array([-0.0]))[0] == np.inf
    z = xp.array([complex(-1, -0.0)])
    y, pull = gg.vjp(lambda z, w: z ** w, z, xp.array([1j]))
    assert_close(y, [math.exp(math.pi)])
    dz, dw = pull(xp.ones(1, complex))
    assert_close(dz, np.conj([-1j * math.exp(math.pi)]), rtol=1e-13, atol=1e-13)
    assert_close(dw, np.conj([-1j * math.pi * math.exp(math.pi)]), rtol=1e-13, atol=1e-13)


def test_logaddexp_of_distant_and_infinite_terms():
    x = xp.array([0.0, 1000.0, -np.inf, -1000.0])
    g = gg.grad(lambda x: gg.logaddexp(x, xp.array([0.0, 0.0, 0.0, -np.inf])).sum())(x)
    assert_equal(g, [0.5, 1, 0, 1])


@pytest.mark.parametrize(("f", "curvature"), [(gg.logaddexp, 0.25), (gg.logaddexp2, math.log(2) / 4)])
def test_logaddexp_is_curved_where_its_terms_are_equal(f, curvature):
    for h in (lambda x: f(x, 0).sum(), lambda x: f(0, x).sum(), lambda x: f(2 * x, x).sum()):
        assert_close(gg.hessian(h)(xp.zeros(1)), [[curvature]])


@pytest.mark.parametrize(("f", "x", "curvature"), [
    (gg.arcsin, 1, np.inf), (gg.arcsin, -1, -np.inf), (gg.arccos, 1, -np.inf), (gg.arccos, -1, np.inf), (gg.arctanh, 1, np.inf),
    (gg.arctanh, -1, -np.inf), (gg.arccosh, 1, -np.inf), (gg.sqrt, 0, -np.inf), (gg.log, 0, -np.inf), (gg.log1p, -1, -np.inf),
    (gg.reciprocal, 0, np.inf)])
def test_curvature_at_the_edge_of_the_domain_is_the_limit_in_every_mode(f, x, curvature):
    x = xp.asarray(float(x))
    slope = (lambda f: gg.grad(f), lambda f: lambda x: gg.jvp(f, (x,), (xp.ones(()),))[1])
    with np.errstate(all="ignore"):
        for outer in slope:
            for inner in slope:
                assert_equal(outer(inner(f))(x), curvature)


# peers ----------------------------------------------------------------------------------------------------------------

@on_cpu
@pytest.mark.peers
@pytest.mark.parametrize("name", ["sin", "cos", "tan", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "arcsinh", "arctanh",
                                  "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "square", "reciprocal",
                                  "abs", "sinc", "i0"])
def test_slopes_are_torchs(name):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).uniform(0.05, 0.95, size=50)
    t = torch.tensor(x, requires_grad=True)
    getattr(torch, name)(t).sum().backward()
    assert_close(gg.grad(lambda x: getattr(gg, name)(x).sum())(x), t.grad.numpy(), rtol=1e-11)


@on_cpu
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
    assert_close(g, t.grad.numpy(), rtol=1e-11)


@pytest.mark.parametrize("other", [np.int8(3), np.uint8(3), True], ids=["int8", "uint8", "bool"])
@pytest.mark.parametrize("name", ["divide", "multiply", "power", "fmax", "fmin", "maximum", "arctan2", "hypot", "logaddexp"])
def test_narrow_integers_and_bools_beside_float32_do_not_widen_the_gradient(name, other):
    f, x, b = getattr(gnp, name), xp.ones(3, dtype="f4"), xp.asarray([other] * 3)
    for g in (lambda x: f(x, b), lambda x: f(b, x)):
        assert gg.grad(lambda x, g=g: np.sum(g(x)))(x).dtype == np.float32
        assert gg.jvp(g, (x,), (x,))[1].dtype == np.float32
        assert gg.hvp(lambda x, g=g: np.sum(g(x)), x, x).dtype == np.float32


def test_division_by_pythons_zero_is_numpys():
    with np.errstate(divide="ignore", invalid="ignore"):
        f = lambda x: np.sum(x / 0)
        assert_equal(gg.grad(f)(xp.ones(2)), [np.inf, np.inf])
        assert gg.jvp(f, (xp.ones(2),), (xp.ones(2),))[1] == np.inf
        assert_equal(gg.grad(lambda x: np.sum(x / -0.0))(xp.ones(2)), [-np.inf, -np.inf])
