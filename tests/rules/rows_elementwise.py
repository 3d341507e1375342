"""Elementwise operations: smooth ones, choices, parts of complex numbers, series, and constants."""
import numpy as np
import scipy.special
from rows import UNARY_SHAPES, Row, above_one, booleans, integers, nonzero, normal, off_grid, positive, unit

INF, NAN = np.inf, np.nan


def few(rng, shape):
    """Whole numbers with many ties."""
    return rng.integers(0, 3, size=shape).astype(float)


SMOOTH = [
    Row("add", complex_ok=True),
    Row("subtract", complex_ok=True),
    Row("multiply", complex_ok=True),
    Row("divide", sample=nonzero, complex_ok=True),
    Row("negative", complex_ok=True),
    Row("positive", complex_ok=True),
    Row("reciprocal", sample=nonzero, complex_ok=True),
    Row("square", complex_ok=True),
    Row("remainder", sample=(off_grid, lambda rng, shape: rng.choice([1.0, -2.0], size=shape))),
    Row("fmod", sample=(off_grid, lambda rng, shape: rng.choice([1.0, -2.0], size=shape))),
    Row("power", sample=positive, complex_ok=True, edges=[
        ((0.0, 2.0), (0, 0)), ((0.0, 1.0), (1, 0)), ((0.0, 0.0), (0, 0)), ((0.0, 3.0), (0, 0)), ((2.0, 0.0), (0, np.log(2))),
        ((0.0, 0.5), (INF, 0)), ((0.0, 2), (0,)), ((0.0, 0), (0,)), ((0.0, 1), (1,)), ((-2.0, 3), (12,)), ((-2.0, 0), (0,)),
        ((-2.0, -1), (-0.25,)), ((0, 2.0), (0,)), ((1, 3.0), (0,))]),
    Row("power", "integers", args=lambda rng: (nonzero(rng, (3, 7)), np.arange(-3, 4)), dtypes=("float64",), complex_ok=True),
    Row("float_power", sample=positive, dtypes=("float64",), complex_ok=True, edges=[((0.0, 0.0), (0, 0)), ((0.0, 2.0), (0, 0))]),
    Row("sqrt", sample=positive, complex_ok=True, edges=[((0.0,), (INF,))]),
    Row("cbrt", sample=nonzero, edges=[((0.0,), (INF,))]),
    Row("exp", complex_ok=True),
    Row("exp2", complex_ok=True),
    Row("expm1", complex_ok=True, edges=[((-40.0,), (np.exp(-40.0),))]),
    Row("log", sample=positive, complex_ok=True),
    Row("log2", sample=positive, complex_ok=True),
    Row("log10", sample=positive, complex_ok=True),
    Row("log1p", sample=unit, complex_ok=True),
    Row("logaddexp", edges=[((-INF, -INF), (0.5, 0.5)), ((INF, INF), (0.5, 0.5)), ((1e20, 1e20), (0.5, 0.5)),
                            ((INF, 0.0), (1, 0)), ((-INF, 1.0), (0, 1)), ((800.0, -800.0), (1, 0))]),
    Row("logaddexp2", edges=[((-INF, 1.0), (0, 1)), ((3.0, 3.0), (0.5, 0.5)), ((-1e20, -1e20), (0.5, 0.5))]),
    Row("sin", complex_ok=True),
    Row("cos", complex_ok=True),
    Row("tan", sample=unit, complex_ok=True),
    Row("one_minus_square", complex_ok=True, ref=lambda x: 1 - x * x),
    Row("arcsin", sample=unit, complex_ok=True),
    Row("arccos", sample=unit, complex_ok=True),
    Row("arctan", complex_ok=True),
    Row("sinh", complex_ok=True),
    Row("cosh", complex_ok=True),
    Row("tanh", complex_ok=True),
    Row("arcsinh", complex_ok=True),
    Row("arccosh", sample=above_one, complex_ok=True),
    Row("arctanh", sample=unit, complex_ok=True),
    Row("deg2rad"),
    Row("rad2deg"),
    Row("hypot", sample=nonzero, edges=[((0.0, 0.0), (0, 0)), ((3.0, 4.0), (0.6, 0.8)), ((3e200, 4e200), (0.6, 0.8))]),
    Row("arctan2", sample=nonzero, edges=[((0.0, 0.0), (0, 0)), ((1e200, 1e200), (5e-201, -5e-201)), ((1.0, 0.0), (0, -1))]),
    Row("copysign", sample=nonzero, edges=[((0.0, -2.0), (0, 0)), ((3.0, -0.0), (-1, 0))]),
    Row("nextafter"),
    Row("ldexp", sample=(normal, integers(-3, 4))),
    Row("frexp", sample=positive),
    Row("modf", sample=off_grid),
]

SERIES = [
    Row("sinc", complex_ok=True, edges=[((0.0,), (0,)), ((1e-9,), (-np.pi ** 2 / 3 * 1e-9,))]),
    Row("sinc_slope", "1", sample=nonzero, params={"order": 1}, complex_ok=True,
        ref=lambda x, order: (np.cos(np.pi * x) - np.sinc(x)) / x, edges=[((0.0,), (-np.pi ** 2 / 3,))]),
    Row("sinc_slope", "2", sample=nonzero, params={"order": 2}, loose=16,      # the reference cancels near 0
        ref=lambda x, order: (2 * np.sinc(x) - 2 * np.cos(np.pi * x)) / x ** 2 - np.pi * np.sin(np.pi * x) / x),
    Row("i0", edges=[((0.0,), (0,))]),
    Row("bessel_i", "0", params={"n": 0}, ref=lambda x, n: scipy.special.iv(n, x)),
    Row("bessel_i", "1", params={"n": 1}, ref=lambda x, n: scipy.special.iv(n, x), edges=[((0.0,), (0.5,))]),
    Row("bessel_i", "4", params={"n": 4}, ref=lambda x, n: scipy.special.iv(n, x)),
    Row("bessel_i", "large", sample=lambda rng, shape: rng.uniform(28, 34, size=shape), params={"n": 2}, shapes=[(20,)],
        ref=lambda x, n: scipy.special.iv(n, x)),
]

COMPLEX = [
    Row("real", complex_ok=True),
    Row("imag", complex_ok=True),
    Row("conj", complex_ok=True),
    Row("abs", sample=nonzero, complex_ok=True, edges=[((0.0,), (0,)), ((3 + 4j,), (0.6 + 0.8j,)), ((0j,), (0,))]),
    Row("fabs", sample=nonzero, edges=[((0.0,), (0,))]),
    Row("sign", sample=nonzero, complex_ok=True, edges=[((0.0,), (0,)), ((0j,), (0,)), ((2j,), (0.5,))]),
]

CHOICES = [
    Row("maximum", edges=[((1.0, 1.0), (0.5, 0.5)), ((INF, INF), (0.5, 0.5)), ((-INF, -INF), (0.5, 0.5)), ((2.0, 1.0), (1, 0))]),
    Row("minimum", edges=[((1.0, 1.0), (0.5, 0.5)), ((INF, INF), (0.5, 0.5)), ((2.0, 1.0), (0, 1))]),
    Row("fmax", edges=[((NAN, 1.0), (0, 1)), ((1.0, NAN), (1, 0)), ((2.0, 1.0), (1, 0)), ((1.0, 1.0), (0.5, 0.5))]),
    Row("fmin", edges=[((NAN, 1.0), (0, 1)), ((1.0, NAN), (1, 0)), ((2.0, 1.0), (0, 1)), ((1.0, 1.0), (0.5, 0.5))]),
    Row("clip", sample=(normal, normal, positive), edges=[
        ((0.0, 0.0, 1.0), (1, 0, 0)), ((1.0, 0.0, 1.0), (1, 0, 0)), ((2.0, 0.0, 1.0), (0, 0, 1)), ((-2.0, 0.0, 1.0), (0, 1, 0)),
        ((0.5, 2.0, 1.0), (0, 0, 1)), ((5.0, 2.0, 1.0), (0, 0, 1))]),
    Row("heaviside", sample=(nonzero, normal), edges=[((0.0, 0.3), (0, 1)), ((1.0, 0.3), (0, 0))]),
    Row("where", sample=(booleans, normal, normal), complex_ok=True,
        shapes=[(5,), (), (3, 4), ((3, 1), (1, 4), ()), ((3, 4), (4,), (3, 1)), ((), (2, 3), (3,)), (0, 3), (80, 60)]),
    Row("masked", sample=(normal, booleans), complex_ok=True, shapes=[(5,), (), (3, 4), ((3, 1), (1, 4)), (0, 3)],
        ref=lambda x, c: np.where(c, x, 0)),
    Row("nan_to_num", params={"nan": 7.0, "posinf": 8.0, "neginf": 9.0},
        edges=[((NAN,), (0,)), ((INF,), (0,)), ((-INF,), (0,)), ((2.0,), (1,))]),
    Row("unwrap", sample=lambda rng, shape: rng.uniform(-9, 9, size=shape), shapes=[(5,), (3, 4), (0, 3)],
        params={"axis": 0, "discont": None, "period": 2 * np.pi}, ref=np.unwrap),
]

WHOLE = integers(0, 20)
CONSTANT = [
    *[Row(name) for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")],
    *[Row(name, "integers", sample=(WHOLE, WHOLE)) for name in ("equal", "less", "greater_equal", "floor_divide", "gcd", "lcm",
                                                                "bitwise_and", "bitwise_or", "bitwise_xor")],
    *[Row(name, "bools", sample=(booleans, booleans)) for name in ("logical_and", "logical_or", "logical_xor", "bitwise_and")],
    *[Row(name, sample=(WHOLE, integers(0, 5))) for name in ("left_shift", "right_shift")],
    *[Row(name, sample=WHOLE) for name in ("invert", "bitwise_count")],
    *[Row(name, sample=off_grid) for name in ("floor", "ceil", "trunc", "rint", "signbit", "logical_not", "isfinite", "isinf",
                                              "isnan", "isneginf", "isposinf", "iscomplex", "isreal")],
    Row("spacing", dtypes=("float64",)),
    Row("floor_divide", sample=(off_grid, lambda rng, shape: rng.choice([1.0, -2.0], size=shape))),
    Row("round", params={"decimals": 1}, dtypes=("float64",), ref=np.round),
    Row("isclose", params={"rtol": 0.5, "atol": 0.1, "equal_nan": False}, sample=(normal, normal), shapes=UNARY_SHAPES),
    Row("ahead", sample=(few, few), ref=lambda a, b: np.heaviside(np.subtract(a, b), 0.5)),
]

ROWS = SMOOTH + SERIES + COMPLEX + CHOICES + CONSTANT
