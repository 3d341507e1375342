"""Smooth elementwise operations: one line each, the partial derivatives as formulas over m, y and the inputs.

Formulas prefer arrays to numbers (x + x, not 2 * x): on small arrays NumPy spends more on the number than on the sum.
"""
import cmath
import math
import operator

from gpugrad.arrays import choose, short
from gpugrad.errors import ArgumentError
from gpugrad.graph.primitive import Primitive, aligned, elementwise

LN2 = math.log(2)
LN10 = math.log(10)

def inverse(b):
    """1 / b, also of Python's 0, by which an array may be divided."""
    if hasattr(b, "dtype") or b:
        return 1 / b
    return math.copysign(math.inf, b) if not isinstance(b, complex) else complex(math.nan, math.nan)


# arithmetic ------------------------------------------------------------------------------------------------------------

elementwise("add", 1, 1)
elementwise("subtract", 1, -1)
elementwise("multiply", lambda m, y, a, b: b, lambda m, y, a, b: a)
elementwise("divide", lambda m, y, a, b: inverse(b), lambda m, y, a, b: -y / b)
elementwise("negative", -1)
elementwise("positive", 1)
elementwise("reciprocal", lambda m, y, x: -y * y)
elementwise("square", lambda m, y, x: x + x)
elementwise("remainder", 1, lambda m, y, a, b: -m.floor_divide(a, b))
elementwise("fmod", 1, lambda m, y, a, b: -m.rint((a - y) / b))


# powers and roots ------------------------------------------------------------------------------------------------------

def power(xp):
    """a ** b. NumPy's own takes fifty times as long as products for whole exponents above 2."""
    def run(a, b):
        if type(b) is int:
            if 2 < b < 5:
                square = a * a
                return square * a if b == 3 else square * square
            if b < 0 and a.dtype.kind in "iu":                    # NumPy's refusal, where CuPy has none
                raise negative(b)
        try:
            return operator.pow(a, b)
        except ValueError as error:
            raise (negative(b) if "negative" in str(error) else error) from error
    return run


def negative(b):
    return ArgumentError(f"power: expected exponents of at least 0 for integers, got {short(b)}. Use a float base.")


def power_base(m, y, a, b):
    """b * a ** (b - 1), which is 0 for b = 0 also at a = 0."""
    if hasattr(b, "dtype"):
        return b * m.where((a == 0) & (b == 0), 1, a) ** (b - 1)
    return 0 if b == 0 else a + a if b == 2 else b * a ** (b - 1)


def power_exponent(m, y, a, b):
    """y * log(a), which is 0 at a = 0 for b > 0, and is taken as 0 there for b = 0. NaN for real a < 0, where y has gaps."""
    if hasattr(a, "dtype"):
        if y.dtype.kind == "c" and a.dtype.kind != "c":
            a = m.astype(a, dtype=y.dtype)
        return y * m.log(m.where((a == 0) & ((m.real(b) if hasattr(b, "dtype") else b.real) >= 0), 1, a))
    if a == 0:
        return y * 0
    if isinstance(a, complex) or y.dtype.kind == "c":
        return y * cmath.log(a)
    return y * (math.log(a) if a > 0 else math.nan)


elementwise("power", power_base, power_exponent, impl=power)
elementwise("float_power", power_base, power_exponent)
elementwise("sqrt", lambda m, y, x: 0.5 / y)                                           # slope +inf at 0
elementwise("cbrt", lambda m, y, x: 1 / (3 * y * y))                                   # slope +inf at 0

# exponentials and logarithms -------------------------------------------------------------------------------------------

elementwise("exp", lambda m, y, x: y)
elementwise("exp2", lambda m, y, x: y * LN2)
elementwise("expm1", lambda m, y, x: m.exp(x))                                         # y + 1 would lose all digits for x << 0
elementwise("log", lambda m, y, x: m.reciprocal(x))
elementwise("log2", lambda m, y, x: 1 / (x * LN2))
elementwise("log10", lambda m, y, x: 1 / (x * LN10))
elementwise("log1p", lambda m, y, x: m.reciprocal(1 + x))


def surplus(m, a, b):
    """a - b, and 0 where both are the same infinity, for which inf - inf would warn."""
    same = (a == b) & m.isinf(a if hasattr(a, "dtype") else b)
    return m.where(same, 0, m.where(same, 0, a) - b if hasattr(a, "dtype") else a - m.where(same, 0, b))


# exp(a - y) would lose the digits that y does where |a| is large: at a = b = 1e20 both slopes would be 1
elementwise("logaddexp", lambda m, y, a, b: m.sigmoid(surplus(m, a, b)), lambda m, y, a, b: m.sigmoid(surplus(m, b, a)))
elementwise("logaddexp2",
            lambda m, y, a, b: m.sigmoid(surplus(m, a, b) * LN2), lambda m, y, a, b: m.sigmoid(surplus(m, b, a) * LN2))

# circles and hyperbolas ------------------------------------------------------------------------------------------------

elementwise("sin", lambda m, y, x: m.cos(x))
elementwise("cos", lambda m, y, x: -m.sin(x))
elementwise("tan", lambda m, y, x: 1 + y * y)
# (1 - x) * (1 + x), since 1 - x * x would lose digits near 1; whose slope as a product would be inf * 0 for arcsin'' at 1
elementwise("one_minus_square", lambda m, y, x: -x - x, impl=lambda xp: lambda x: (1 - x) * (1 + x))
elementwise("arcsin", lambda m, y, x: 1 / m.sqrt(m.one_minus_square(x)))
elementwise("arccos", lambda m, y, x: -1 / m.sqrt(m.one_minus_square(x)))
elementwise("arctan", lambda m, y, x: m.reciprocal(1 + x * x))
elementwise("sinh", lambda m, y, x: m.cosh(x))
elementwise("cosh", lambda m, y, x: m.sinh(x))
tanh = elementwise("tanh", lambda m, y, x: 1 - y * y)
tanh.pull = lambda m, g, want, y, xs, params: (g - y * y * g if g.dtype.kind != "c" else m.conj(1 - y * y) * g,)    # no number
elementwise("arcsinh", lambda m, y, x: 1 / m.sqrt(1 + x * x))
elementwise("arccosh", lambda m, y, x: 1 / m.sqrt(x - 1) / m.sqrt(x + 1))              # one root would leave the branch cut
elementwise("arctanh", lambda m, y, x: m.reciprocal(m.one_minus_square(x)))
elementwise("deg2rad", math.pi / 180)
elementwise("rad2deg", 180 / math.pi)


def off_zero(x):
    """x, with 1 in place of 0: a divisor for what is 0 there itself."""
    return x + (x == 0)


def over_square(x, r):
    """x / r**2 without overflow; 0 at r = 0, where x is 0 too."""
    r = off_zero(r)
    return x / r / r


elementwise("hypot", lambda m, y, a, b: a / off_zero(y), lambda m, y, a, b: b / off_zero(y),           # 0 at the origin
            impl=choose.of_reals("hypot"))
elementwise("arctan2",                                                                                 # 0 at the origin
            lambda m, y, a, b: over_square(b, m.hypot(a, b)), lambda m, y, a, b: -over_square(a, m.hypot(a, b)),
            impl=choose.of_reals("arctan2"))

# parts of a floating-point number ----------------------------------------------------------------------------------------

elementwise("copysign", lambda m, y, a, b: m.sign(a) * m.sign(y), None,                # 0 at a = 0
            impl=choose.of_reals("copysign"))
elementwise("nextafter", 1, None, impl=choose.of_reals("nextafter"))
Primitive("ldexp", lambda m, g, want, y, x, i: (m.fit(m.ldexp(g, i), x), None),        # x * 2**i, exactly
          jvp=lambda m, ts, y, x, i: m.like(m.ldexp(ts[0], i), y), keep="i", batch=aligned("ldexp"))
Primitive("frexp", lambda m, g, want, y, x: (m.ldexp(g[0], -y[1]),),                   # x = y[0] * 2**y[1]
          jvp=lambda m, ts, y, x: (m.ldexp(ts[0], -y[1]), None), keep="y", outputs=2, batch=aligned("frexp"))
Primitive("modf", lambda m, g, want, y, x: (g[0],),                                    # the whole part does not move
          jvp=lambda m, ts, y, x: (ts[0], None), outputs=2, batch=aligned("modf"))
