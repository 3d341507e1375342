"""exp, log, tanh, sin and their like on vectors of float32 and float64, as LLVM functions without libm.

libm takes one element at a time and costs five times as much. All are free of branches, save sin, cos and tan, whose arguments
above REDUCIBLE go to libm (no program that trains has them). NaN, infinities, signed zeros and subnormals come out as IEEE
and NumPy have them. Errors in units in the last place are within these, over the ranges that tests/flat/test_llvm_math.py
tries, for float32 and float64 alike:

    exp 1, exp2 1, expm1 2, log 1, log2 2, log10 3, log1p 1, tanh 3, sigmoid 2, erf 3, sin 2, cos 2, tan 5, sinh 4, cosh 2,
    arcsinh 3, arctanh 3
"""
from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy

from gpugrad.flat.llvm import Body, Node
from gpugrad.kernels.erf import FAR, NEAR, ONE_FROM


@dataclass(frozen=True)
class Format:
    """What a function must know of its floating-point format."""

    char: str                  # NumPy's, which names the tables of erf
    mantissa: int              # explicit bits
    bias: int
    magic: float               # x + magic - magic rounds x to an integer, which the low bits of x + magic hold
    ln2: tuple[float, ...]     # high part with zeros at the end: n * high is exact
    exp_range: tuple[float, float]
    exp_terms: int             # Taylor on |r| <= ln(2) / 2
    log_terms: int             # atanh's series on |s| <= 0.172
    half_pi: tuple[float, ...]
    sin_terms: int             # Taylor on |r| <= pi / 4
    reducible: float


def parts(value: float, rest: float, kind: type, bits: int, count: int) -> tuple[float, ...]:
    """value + rest as numbers of `kind`, all but the last with `bits` bits: their products with small integers are exact."""
    found = []
    for _ in range(count - 1):
        scale = 2.0 ** (bits - math.frexp(value)[1])
        piece = math.floor(value * scale) / scale
        found.append(piece)
        value, rest = (value - piece) + rest, rest - (((value - piece) + rest) - (value - piece))
    return (*found, float(kind(value)))


LN2_REST, HALF_PI_REST = 2.3190468138462996e-17, 6.123233995736766e-17          # what the doubles of ln 2 and pi/2 lack

FORMATS = {
    "f32": Format("f", 23, 127, 1.5 * 2**23, parts(math.log(2), LN2_REST, numpy.float32, 14, 2), (-104.0, 89.0), 7, 5,
                  parts(math.pi / 2, HALF_PI_REST, numpy.float32, 12, 4), 6, 4096.0),
    "f64": Format("d", 52, 1023, 1.5 * 2**52, parts(math.log(2), LN2_REST, numpy.float64, 40, 2), (-746.0, 710.0), 13, 11,
                  parts(math.pi / 2, HALF_PI_REST, numpy.float64, 33, 3), 10, 2.0**18),
}


# pieces ----------------------------------------------------------------------------------------------------------------

def polynomial(b: Body, x: Node, coefficients: Iterable[float]) -> Node:
    """Highest first."""
    first, *rest = coefficients
    total = x.like(first)
    for c in rest:
        total = b.fma(total, x, c)
    return total


def magnitude(b: Body, x: Node) -> Node:
    return b.intrinsic("fabs", x)


def signed_as(b: Body, y: Node, x: Node) -> Node:
    return b.intrinsic("copysign", y, x)


def power_of_two(n: Node, f: Format) -> Node:
    """2**n for integers n of a normal result."""
    return ((n + f.bias) << f.mantissa).floating()


def clamped(x: Node, low: float, high: float) -> Node:
    """x within the bounds; NaN stays."""
    x = x.compare("olt", low).where(low, x)
    return x.compare("ogt", high).where(high, x)


def reduced_by_ln2(b: Body, x: Node, f: Format) -> tuple[Node, Node]:
    """(n, r): x = n ln 2 + r with |r| <= ln(2) / 2; n an integer."""
    shifted = b.fma(x, 1 / math.log(2), f.magic)
    n = shifted - f.magic
    r = b.fma(n, -f.ln2[0], x)
    return shifted.bits() - bits_of(f.magic, f), b.fma(n, -f.ln2[1], r)


def is_zero(x: Node) -> Node:
    return x.compare("oeq", 0.0)


# exponentials ----------------------------------------------------------------------------------------------------------

def exp(b: Body, x: Node, f: Format) -> Node:
    """2^n e^r, scaled in two steps so that subnormal results are rounded once."""
    n, r = reduced_by_ln2(b, clamped(x, *f.exp_range), f)
    half = n >> 1
    y = polynomial(b, r, [1 / math.factorial(k) for k in range(f.exp_terms, -1, -1)])
    return y * power_of_two(half, f) * power_of_two(n - half, f)


def exp2(b: Body, x: Node, f: Format) -> Node:
    """2^n e^(r ln 2) with r = x - n, which is exact."""
    x = clamped(x, *(float(math.floor(limit / math.log(2))) for limit in f.exp_range))
    shifted = x + f.magic
    n = shifted.bits() - bits_of(f.magic, f)
    r = (x - (shifted - f.magic)) * math.log(2)
    half = n >> 1
    y = polynomial(b, r, [1 / math.factorial(k) for k in range(f.exp_terms, -1, -1)])
    return y * power_of_two(half, f) * power_of_two(n - half, f)


def expm1(b: Body, x: Node, f: Format) -> Node:
    """2 (2^(n-1) (e^r - 1) + (2^(n-1) - 1/2)): n may be as large as the format's exponent."""
    n, r = reduced_by_ln2(b, clamped(x, -40.0, f.exp_range[1]), f)
    q = polynomial(b, r, [1 / math.factorial(k) for k in range(f.exp_terms + 1, 1, -1)])
    scale = power_of_two(n - 1, f)
    y = b.fma(scale, b.fma(r * r, q, r), scale - 0.5)
    return is_zero(x).where(x, y + y)


def tanh(b: Body, x: Node, f: Format) -> Node:
    """e / (e + 2), e = expm1(2 |x|)."""
    e = expm1(b, clamped(magnitude(b, x) * 2.0, 0.0, 44.0), f)
    return signed_as(b, e / (e + 2.0), x)


def hyperbolic(odd: bool) -> Callable:
    """(t + t / (t + 1)) / 2 with t = expm1(|x|), or (w + 1 / w) / 2 with w = exp(|x|); (e^(|x|/2) / 2) e^(|x|/2) where that is
    as good and e^|x| may overflow."""
    def run(b: Body, x: Node, f: Format) -> Node:
        z = magnitude(b, x)
        far = f.exp_range[1] - 3.0
        root = exp(b, z * 0.5, f)
        large = root * 0.5 * root
        near = clamped(z, 0.0, far)
        if odd:
            t = expm1(b, near, f)
            y = (t + t / (t + 1.0)) * 0.5
        else:
            w = exp(b, near, f)
            y = w * 0.5 + 0.5 / w
        y = z.compare("ogt", far).where(large, y)
        return signed_as(b, y, x) if odd else y
    return run


def sigmoid(b: Body, x: Node, f: Format) -> Node:
    """1 / (1 + z) or z / (1 + z), z = exp(-|x|)."""
    z = exp(b, -magnitude(b, x), f)
    return x.compare("oge", 0.0).where(1.0, z) / (z + 1.0)


# logarithms ------------------------------------------------------------------------------------------------------------

#: log10(2), its high part with zeros at the end.
LOG10_2 = {"f": parts(math.log10(2), -2.8037281277851704e-18, numpy.float32, 14, 2),
           "d": parts(math.log10(2), -2.8037281277851704e-18, numpy.float64, 40, 2)}
ROOT_HALF_BITS = {"f32": 0x3f3504f3, "f64": 0x3fe6a09e667f3bcd}


def split(b: Body, x: Node, f: Format) -> tuple[Node, Node, Node, Node]:
    """(k, t, t^2 / 2, q) of normal or subnormal x > 0: x = 2^k (1 + t), log(1 + t) = t - (t^2 / 2 - q).

    q is s (t^2 / 2 + series), from log(1 + t) = 2 atanh(s), s = t / (2 + t).
    """
    smallest, up = 2.0 ** (1 - f.bias), f.mantissa + 1
    tiny = x.compare("olt", smallest)
    scaled = tiny.where(x * 2.0**up, x)
    root = ROOT_HALF_BITS[x.element]
    offset = scaled.bits() - root
    k = offset >> f.mantissa
    t = ((offset & ((1 << f.mantissa) - 1)) + root).floating() - 1.0
    kf = (k + bits_of(f.magic, f)).floating() - f.magic
    kf = tiny.where(kf - float(up), kf)
    s = t / (t + 2.0)
    z = s * s
    series = polynomial(b, z, [2 / (2 * i + 1) for i in range(f.log_terms, 0, -1)]) * z
    half_square = t * t * 0.5
    return kf, t, half_square, s * (half_square + series)


def log_with(b: Body, x: Node, f: Format, correction: Node | None = None) -> Node:
    """log(x) + correction for normal or subnormal x > 0."""
    kf, t, half_square, q = split(b, x, f)
    low = kf * f.ln2[1] + q
    if correction is not None:
        low = low + correction
    return b.fma(kf, f.ln2[0], t - (half_square - low))


def log_of_base(base: int) -> Callable:
    """k log(2) / log(base) + log(1 + t) / log(base)."""
    def run(b: Body, x: Node, f: Format) -> Node:
        kf, t, half_square, q = split(b, x, f)
        y = (t - (half_square - q)) * (1 / math.log(base))
        if base == 2:
            return with_edges(kf + y, x, 0.0)
        high, low = LOG10_2[f.char]
        return with_edges(b.fma(kf, high, b.fma(kf, low, y)), x, 0.0)
    return run


def bits_of(value: float, f: Format) -> int:
    return int.from_bytes(struct.pack("<" + f.char, value), "little")


def with_edges(y: Node, x: Node, zero: float) -> Node:
    """The logarithm y where x - zero is positive and finite, and its limits elsewhere. NaN fails every comparison."""
    y = x.compare("oeq", math.inf).where(math.inf, y)
    y = x.compare("oeq", zero).where(-math.inf, y)
    return x.compare("oge", zero).where(y, x.like(math.nan))


def log(b: Body, x: Node, f: Format) -> Node:
    return with_edges(log_with(b, x, f), x, 0.0)


def log1p(b: Body, x: Node, f: Format) -> Node:
    """log(u) + c / u, u = 1 + x rounded and c what the rounding lost."""
    u = x + 1.0
    lost = x.compare("ogt", 1.0).where(1.0 - (u - x), x - (u - 1.0))
    y = with_edges(log_with(b, u, f, lost / u), x, -1.0)
    return is_zero(x).where(x, y)


def arctanh(b: Body, x: Node, f: Format) -> Node:
    """log1p(2 |x| / (1 - |x|)) / 2"""
    z = magnitude(b, x)
    return signed_as(b, log1p(b, (z + z) / (1.0 - z), f) * 0.5, x)


def arcsinh(b: Body, x: Node, f: Format) -> Node:
    """log1p(|x| + x^2 / (1 + sqrt(x^2 + 1))); log(2 |x|) where the square may overflow."""
    z = magnitude(b, x)
    far = 2.0 ** (f.mantissa + 2)
    near = clamped(z, 0.0, far)
    square = near * near
    y = log1p(b, near + square / (b.intrinsic("sqrt", square + 1.0) + 1.0), f)
    return signed_as(b, z.compare("ogt", far).where(log(b, z, f) + math.log(2), y), x)


# error function: the tables of gpugrad/kernels/erf.py ---------------------------------------------------------------------

def erf(b: Body, x: Node, f: Format) -> Node:
    z = magnitude(b, x)
    near = x * polynomial(b, z * z, NEAR[f.char])
    w = clamped(z, 1.0, ONE_FROM[f.char])
    below = w + 2.0
    far = 1.0 - exp(b, -(w * w), f) * (polynomial(b, (w - 2.0) / below, FAR[f.char]) / below)
    return z.compare("ogt", 1.0).where(signed_as(b, far, x), near)


# circles ---------------------------------------------------------------------------------------------------------------

def sine(quarter: int) -> Callable:
    """sin(x + quarter pi/2): x = n pi/2 + r, and n + quarter says which of +-sin r, +-cos r it is."""
    def run(b: Body, x: Node, f: Format) -> Node:
        shifted = b.fma(x, 2 / math.pi, f.magic)
        n = shifted - f.magic
        r = x
        for part in f.half_pi:
            r = b.fma(n, -part, r)
        turns = shifted.bits() + quarter
        z = r * r
        odd = [(-1) ** k / math.factorial(2 * k + 1) for k in range(f.sin_terms, 0, -1)]
        even = [(-1) ** k / math.factorial(2 * k) for k in range(f.sin_terms + 1, 1, -1)]
        s = b.fma(r * z, polynomial(b, z, odd), r)
        half = z * 0.5
        w = 1.0 - half
        c = w + b.fma(z * z, polynomial(b, z, even), (1.0 - w) - half)
        flip = (turns & 2) << (f.mantissa + (7 if f.char == "f" else 10))
        y = ((turns & 1).compare("eq", 0).where(s, c).bits() ^ flip).floating()
        if not quarter:
            y = is_zero(x).where(x, y)
        return beyond(b, x, y, f.reducible, "cos" if quarter else "sin")
    return run


def tan(b: Body, x: Node, f: Format) -> Node:
    return sine(0)(b, x, f) / sine(1)(b, x, f)


def beyond(b: Body, x: Node, y: Node, limit: float, name: str) -> Node:
    """y, but libm's values where |x| > limit."""
    far = magnitude(b, x).compare("ugt", limit)
    some = far
    if x.lanes > 1:
        kind = f"v{x.lanes}i1"
        b.module.declare(f"declare i1 @llvm.vector.reduce.or.{kind}({far.type})")
        some = b.write(f"call i1 @llvm.vector.reduce.or.{kind}({far})", "i1")
    slow, done, before = b.fresh("slow"), b.fresh("done"), b.label
    b.do(f"br {some}, label %{slow}, label %{done}")
    b.mark(slow)
    chosen = far.where(b.intrinsic(name, x), y)
    b.do(f"br label %{done}")
    b.mark(done)
    return b.write(f"phi {x.type} [ {y.name}, %{before} ], [ {chosen.name}, %{slow} ]", x.element, x.lanes)


FUNCTIONS: dict[str, Callable[[Body, Node, Format], Node]] = {
    "exp": exp, "expm1": expm1, "log": log, "log1p": log1p, "tanh": tanh, "sigmoid": sigmoid, "erf": erf,
    "sin": sine(0), "cos": sine(1), "tan": tan, "exp2": exp2, "log2": log_of_base(2), "log10": log_of_base(10),
    "sinh": hyperbolic(True), "cosh": hyperbolic(False), "arctanh": arctanh, "arcsinh": arcsinh,
}


def apply(b: Body, name: str, x: Node) -> Node:
    """FUNCTIONS[name] of x, as a call of a function that the module gets once per type."""
    function = f"gg.{name}.v{x.lanes}{x.element}{'' if b.inlines else '.shared'}"
    if function not in b.module.parts:
        b.module.parts[function] = ""                                  # holds its place, so that callees stand before callers
        inner = Body(b.module)
        y = FUNCTIONS[name](inner, Node(inner, "%x", x.element, x.lanes), FORMATS[x.element])
        inner.do(f"ret {y}")
        b.module.function(function, x.type, f"{x.type} %x", inner, how="alwaysinline" if b.inlines else "noinline",
                          linkage="internal ")
    return b.call(function, x)
