"""NumPy's ufuncs: one line each. They take Tensors, arrays, lists and numbers, and give Tensors.

Where a function has no derivative at a point, its line says which slope stands there. Comparisons, rounding and bit
operations have no derivative, and their results do not belong to the graph.
"""
from __future__ import annotations

from typing import Any

import numpy

from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.numpy._arguments import as_inexact, as_int, as_tensor, write_out
from gpugrad.numpy._ufunc import binary, unary

# arithmetic ------------------------------------------------------------------------------------------------------------

add = binary("add", "a + b.")
subtract = binary("subtract", "a - b.")
multiply = binary("multiply", "a * b.")
divide = true_divide = binary("divide", "a / b.")
negative = unary("negative", "-x.")
positive = unary("positive", "+x, a copy.")
reciprocal = unary("reciprocal", "1 / x.")
square = unary("square", "x * x.")
floor_divide = binary("floor_divide", "floor(a / b), a constant.")
remainder = mod = binary("remainder", "a - floor(a / b) * b, with the sign of b.")
fmod = binary("fmod", "a - trunc(a / b) * b, with the sign of a.")
divmod = binary("divmod", "(a // b, a % b).", lambda a, b: (T.floor_divide(a, b), T.remainder(a, b)))

# powers, exponentials, logarithms --------------------------------------------------------------------------------------


def wide(x: Any) -> Any:
    """In double precision, as float_power computes."""
    return T.astype(x, dtype=numpy.dtype("c16" if x.dtype.kind == "c" else "f8")) if isinstance(x, Tensor) else x


power = pow = binary("power", "a ** b. The slope of a ** 0 is 0 everywhere, that of 0 ** b with respect to b too for b >= 0.")
float_power = binary("float_power", "a ** b in double precision.", lambda a, b: T.float_power(wide(a), wide(b)))
sqrt = unary("sqrt", "The square root; slope +inf at 0.")
cbrt = unary("cbrt", "The cube root; slope +inf at 0.")
exp = unary("exp", "e ** x.")
exp2 = unary("exp2", "2 ** x.")
expm1 = unary("expm1", "e ** x - 1, exact near 0.")
log = unary("log", "The natural logarithm.")
log2 = unary("log2", "The logarithm to base 2.")
log10 = unary("log10", "The logarithm to base 10.")
log1p = unary("log1p", "log(1 + x), exact near 0.")
logaddexp = binary("logaddexp", "log(e ** a + e ** b) without overflow. Of two equal ones each has slope 1/2.")
logaddexp2 = binary("logaddexp2", "log2(2 ** a + 2 ** b) without overflow. Of two equal ones each has slope 1/2.")
i0 = unary("i0", "The modified Bessel function I_0 of a real argument.", lambda x: T.i0(as_inexact(x)))

# circles and hyperbolas ------------------------------------------------------------------------------------------------

sin = unary("sin", "The sine of x radians.")
cos = unary("cos", "The cosine of x radians.")
tan = unary("tan", "The tangent of x radians.")
arcsin = asin = unary("arcsin", "The inverse sine, in radians; slope +inf at -1 and 1.")
arccos = acos = unary("arccos", "The inverse cosine, in radians; slope -inf at -1 and 1.")
arctan = atan = unary("arctan", "The inverse tangent, in radians.")
arctan2 = atan2 = binary("arctan2", "The angle of the point (b, a), in radians; slope 0 at the origin.")
hypot = binary("hypot", "sqrt(a**2 + b**2) without overflow; slope 0 at the origin.")
sinh = unary("sinh", "The hyperbolic sine.")
cosh = unary("cosh", "The hyperbolic cosine.")
tanh = unary("tanh", "The hyperbolic tangent.")
arcsinh = asinh = unary("arcsinh", "The inverse hyperbolic sine.")
arccosh = acosh = unary("arccosh", "The inverse hyperbolic cosine; slope +inf at 1.")
arctanh = atanh = unary("arctanh", "The inverse hyperbolic tangent.")
deg2rad = radians = unary("deg2rad", "Degrees to radians: x * pi / 180.")
rad2deg = degrees = unary("rad2deg", "Radians to degrees: x * 180 / pi.")
sinc = unary("sinc", "sin(pi x) / (pi x), smooth at 0 to every order.", lambda x: T.sinc(as_inexact(x)))

# modulus, sign, parts --------------------------------------------------------------------------------------------------


def conjugated(x: Tensor) -> Tensor:
    """T.conj of a real array is the array; NumPy's is a copy."""
    if x.dtype.kind == "b":
        return T.discretise(x, dtype=x.dtype)
    return T.conj(x) if x.dtype.kind == "c" else T.positive(x)


abs = absolute = unary("abs", "The modulus; slope 0 at 0. Of complex z the gradient is z / |z|.")
fabs = unary("fabs", "The modulus of a real array, as a float; slope 0 at 0.")
sign = unary("sign", "-1, 0 or 1; of complex z, z / |z|, which turns with z.")
conjugate = conj = unary("conjugate", "The complex conjugate.", conjugated)
copysign = binary("copysign", "|a| with the sign of b; slope 0 at a = 0.")
heaviside = binary("heaviside", "0 where a < 0, b where a == 0, 1 where a > 0; constant in a.")
ldexp = binary("ldexp", "a * 2**b for whole b, exactly.")
frexp = unary("frexp", "(mantissa, exponent): x = mantissa * 2**exponent. The exponent is constant.")
modf = unary("modf", "(fractional part, whole part), both with the sign of x. The whole part is constant.")
nextafter = binary("nextafter", "The next number after a towards b: moves as a does.")
spacing = unary("spacing", "The distance from x to the next number, a constant.")

# choosing --------------------------------------------------------------------------------------------------------------

maximum = binary("maximum", "The larger of a and b, or NaN; equal ones share the slope.")
minimum = binary("minimum", "The smaller of a and b, or NaN; equal ones share the slope.")
fmax = binary("fmax", "The larger of a and b that is not NaN; equal ones share the slope.")
fmin = binary("fmin", "The smaller of a and b that is not NaN; equal ones share the slope.")

# constants -------------------------------------------------------------------------------------------------------------

equal = binary("equal", "a == b, as bools.")
not_equal = binary("not_equal", "a != b, as bools.")
less = binary("less", "a < b, as bools.")
less_equal = binary("less_equal", "a <= b, as bools.")
greater = binary("greater", "a > b, as bools.")
greater_equal = binary("greater_equal", "a >= b, as bools.")
logical_and = binary("logical_and", "Whether both are not 0.")
logical_or = binary("logical_or", "Whether one is not 0.")
logical_xor = binary("logical_xor", "Whether just one is not 0.")
logical_not = unary("logical_not", "Whether x is 0.")
bitwise_and = binary("bitwise_and", "a & b.")
bitwise_or = binary("bitwise_or", "a | b.")
bitwise_xor = binary("bitwise_xor", "a ^ b.")
invert = bitwise_not = bitwise_invert = unary("invert", "~x.")
left_shift = bitwise_left_shift = binary("left_shift", "a << b.")
right_shift = bitwise_right_shift = binary("right_shift", "a >> b.")
bitwise_count = unary("bitwise_count", "The number of 1 bits of |x|.")
gcd = binary("gcd", "The greatest common divisor.")
lcm = binary("lcm", "The least common multiple.")
isfinite = unary("isfinite", "Whether x is neither infinite nor NaN.")
isinf = unary("isinf", "Whether x is infinite.")
isnan = unary("isnan", "Whether x is NaN.")
isneginf = unary("isneginf", "Whether x is -inf.")
isposinf = unary("isposinf", "Whether x is +inf.")
iscomplex = unary("iscomplex", "Whether x has an imaginary part that is not 0.")
isreal = unary("isreal", "Whether x has no imaginary part.")
signbit = unary("signbit", "Whether the sign bit is set; true for -0.0.")
floor = unary("floor", "The largest whole number not above x, a constant.")
ceil = unary("ceil", "The smallest whole number not below x, a constant.")
trunc = unary("trunc", "The whole part of x, a constant.")
fix = unary("fix", "The whole part of x, a constant.", T.trunc)
rint = unary("rint", "The nearest whole number, a constant; halves go to the even one.")


def round(a: Any, decimals: int = 0, out: Tensor | None = None) -> Tensor:
    """a rounded to that many decimals, a constant; halves go to the even digit."""
    return write_out("round", out, T.round(as_tensor("round", a), decimals=as_int("round", "decimals", decimals)))


around = round

__all__ = sorted(name for name, value in globals().items() if callable(value) and not name.startswith("_") and name not in (
    "Any", "Tensor", "T", "as_inexact", "as_int", "as_tensor", "binary", "conjugated", "unary", "wide", "write_out"))

#: NumPy's ufuncs by the name each calls itself -> the function here.
UFUNCS = {value.__name__: globals()[name] for name, value in vars(numpy).items()
          if isinstance(value, numpy.ufunc) and name in __all__}
