"""float32 and float64 instructions, comparisons and selections."""

import copy

import numpy as np

from . import approx, rounding
from .decode import Step, opcode
from .definedness import selected
from .ops_half import HALF_TYPES, half_arithmetic, half_unary, signed_zeros, to_float32
from .ops_integer import INTEGER
from .syntax import parts_of
from .types import NUMPY, high_half, low_half, pack

TINY = {np.dtype(np.float32): np.float32(2.0**-126), np.dtype(np.float64): np.float64(2.0**-1022)}
KIND = {"f32": "float32", "f64": "float64"}


def flush(x):
    """Subnormal values as zeros of the same sign."""
    return np.where(np.abs(x) < TINY[x.dtype], np.copysign(x.dtype.type(0), x), x)


def saturate(x):
    """x clipped to [0, 1]; NaN becomes 0."""
    return np.where(x > 0, np.minimum(x, x.dtype.type(1)), x.dtype.type(0))


def dressed(i, function):
    """The function with the .ftz and .sat of its instruction."""
    if i.has("ftz"):
        plain = function

        def function(*xs):
            return flush(plain(*(flush(x) for x in xs)))
    if i.has("sat"):
        unclipped = function

        def function(*xs):
            return saturate(unclipped(*xs))
    return function


def float_step(i, function, sources):
    return i.step(dressed(i, function), [i.type] * sources, [i.type], KIND[i.type])


def directed(i, nearest, by_width):
    """`nearest` for .rn, else the function of this width with the instruction's rounding mode."""
    if i.rounding in (None, "rn"):
        return nearest
    mode = i.rounding
    return lambda *xs: by_width[i.type](*xs, mode)


def dispatch(name, floats, halves=None):
    """Register an opcode whose meaning depends on its type."""
    @opcode(name)
    def handler(i):
        if i.type == "f32x2":
            return paired(i, floats)
        if i.type in KIND:
            return floats(i)
        if i.type in HALF_TYPES:
            return halves(i) if halves else None
        return INTEGER[name](i) if name in INTEGER and i.type is not None else None
    return handler


def paired(i, floats):
    """An instruction on two float32 in one 64-bit register (sm_100)."""
    single = copy.copy(i)
    single.type, single.types = "f32", ["f32"]
    step = floats(single)

    def run(*words):
        low = step.call(*(word.astype(np.uint32).view(np.float32) for word in words))
        high = step.call(*((word >> np.uint64(32)).astype(np.uint32).view(np.float32) for word in words))
        return low.view(np.uint32).astype(np.uint64) | high.view(np.uint32).astype(np.uint64) << np.uint64(32)
    return Step(run, [(operand, "b64") for operand, _ in step.reads], [(target, "b64") for target, _ in step.writes], "float32")


def subtract_from(function):
    return lambda a, b, mode: function(a, -b, mode)


def add(i):
    return float_step(i, directed(i, np.add, {"f32": rounding.add32, "f64": rounding.add64}), 2)


def sub(i):
    by_width = {"f32": subtract_from(rounding.add32), "f64": subtract_from(rounding.add64)}
    return float_step(i, directed(i, np.subtract, by_width), 2)


def mul(i):
    return float_step(i, directed(i, np.multiply, {"f32": rounding.mul32, "f64": rounding.mul64}), 2)


def fma(i):
    function = {"f32": rounding.fma32, "f64": rounding.fma64}[i.type]
    mode = i.rounding or "rn"
    return float_step(i, function if mode == "rn" else lambda a, b, c: function(a, b, c, mode), 3)


def div(i):
    if i.has("approx", "full"):
        return float_step(i, lambda a, b: approx.divide(a, b, i.exact, i.has("full")), 2)
    return float_step(i, directed(i, np.divide, {"f32": rounding.div32, "f64": rounding.div64}), 2)


def extremum(i):
    low = i.parts[0] == "min"
    propagating, ignoring = (np.minimum, np.fmin) if low else (np.maximum, np.fmax)
    function = signed_zeros(propagating if i.has("NaN") else ignoring, np.bitwise_or if low else np.bitwise_and)
    if i.has("xorsign"):
        return float_step(i, xor_sign(function), 2)
    if i.has("abs"):  # of three operands
        plain = function

        def function(a, b):
            return plain(np.abs(a), np.abs(b))
    if len(i.operands) == 4:
        return float_step(i, lambda a, b, c: function(function(a, b), c), 3)
    return float_step(i, function, 2)


def xor_sign(function):
    """min and max of magnitudes, with the product of the signs."""
    def run(a, b):
        out = function(np.abs(a), np.abs(b))
        return np.where(np.signbit(a) != np.signbit(b), -out, out)
    return run


def copysign(i):
    # copysign.f32 d, a, b: the magnitude of b with the sign of a.
    return i.step(lambda a, b: np.copysign(b, a), [i.type] * 2, [i.type], KIND[i.type])


def sqrt(i):
    if i.has("approx"):
        return float_step(i, lambda x: approx.sqrt(x, i.exact), 1)
    return float_step(i, directed(i, np.sqrt, {"f32": rounding.sqrt32, "f64": rounding.sqrt64}), 1)


def rcp(i):
    if i.has("approx"):
        function = approx.rcp if i.type == "f32" else approx.rcp64
        return float_step(i, lambda x: function(x, i.exact), 1)
    divide = directed(i, np.divide, {"f32": rounding.div32, "f64": rounding.div64})
    return float_step(i, lambda x: divide(np.ones_like(x), x), 1)


def approximate(function):
    """A handler for an instruction that exists as .approx.f32 alone."""
    return lambda i: float_step(i, lambda x: function(x, i.exact), 1) if i.type == "f32" else None


def rsqrt(i):
    if i.type == "f32":
        return float_step(i, lambda x: approx.rsqrt(x, i.exact), 1)
    return i.step(lambda x: approx.rsqrt64(x, i.exact, i.has("ftz")), ["f64"], ["f64"], "float64")


dispatch("add", add, half_arithmetic)
dispatch("sub", sub, half_arithmetic)
dispatch("mul", mul, half_arithmetic)
dispatch("fma", fma, half_arithmetic)
dispatch("mad", fma)
dispatch("div", div)
dispatch("min", extremum, half_arithmetic)
dispatch("max", extremum, half_arithmetic)
dispatch("abs", lambda i: float_step(i, np.abs, 1), half_unary)
dispatch("neg", lambda i: float_step(i, np.negative, 1), half_unary)
dispatch("copysign", copysign)
dispatch("sqrt", sqrt)
dispatch("rcp", rcp)
dispatch("rsqrt", rsqrt)
dispatch("ex2", approximate(approx.ex2), half_unary)
dispatch("lg2", approximate(approx.lg2))
dispatch("sin", approximate(approx.sine))
dispatch("cos", approximate(approx.cosine))
dispatch("tanh", approximate(approx.tanh), half_unary)


# --- comparison and selection ----------------------------------------------------------------------------------------


def ordered(function):
    return lambda a, b: function(a, b) & ~(np.isnan(a) | np.isnan(b))


def unordered(function):
    return lambda a, b: function(a, b) | np.isnan(a) | np.isnan(b)


COMPARE = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}
FLOAT_COMPARE = {
    **{name: COMPARE[name] for name in ("eq", "lt", "le", "gt", "ge")}, "ne": ordered(np.not_equal),
    **{name + "u": unordered(COMPARE[name]) for name in ("eq", "lt", "le", "gt", "ge")}, "neu": np.not_equal,
    "num": lambda a, b: ~(np.isnan(a) | np.isnan(b)), "nan": lambda a, b: np.isnan(a) | np.isnan(b),
}
COMBINE = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def as_float(kind):
    """How a value of a 16-bit float type is widened for a comparison."""
    return (lambda x: x) if kind not in HALF_TYPES else lambda x: to_float32(x, kind)


def comparison(i, kind):
    """The function of a comparison modifier for operands of a type, and the type in which to read them."""
    floating = kind in KIND or kind in HALF_TYPES
    name = next(part for part in i.parts[1:] if part in (FLOAT_COMPARE if floating else COMPARE))
    function = (FLOAT_COMPARE if floating else COMPARE)[name]
    if kind in HALF_TYPES:
        widen = as_float(kind)
        return lambda a, b: function(widen(a), widen(b))
    if i.has("ftz"):
        return lambda a, b: function(flush(a), flush(b))
    return function


@opcode("setp")
def setp(i):
    kind = i.types[-1]
    combine = next((COMBINE[part] for part in i.parts[2:3] if part in COMBINE), None)
    targets = len(parts_of(i.operands[0]))
    if kind in ("f16x2", "bf16x2"):
        return setp_packed(i, kind, combine, targets)
    compare = comparison(i, kind)

    def run(a, b, c=None):
        p = compare(a, b)
        q = ~p if targets == 2 else None
        if combine is not None:
            p, q = combine(p, c), combine(q, c) if q is not None else None
        return p if targets == 1 else (p, q)
    return i.step(run, [kind, kind] + ["pred"] * (combine is not None), ["pred"] * targets, "comparison")


def setp_packed(i, kind, combine, targets):
    single = kind[:-2]
    compare, dtype = comparison(i, single), NUMPY[single]

    def run(a, b, c=None):
        pair = [compare(half(a).view(dtype), half(b).view(dtype)) for half in (low_half, high_half)]
        pair = pair if combine is None else [combine(p, c) for p in pair]
        return tuple(pair) if targets == 2 else pair[0]
    return i.step(run, [kind, kind] + ["pred"] * (combine is not None), ["pred"] * targets, "comparison")


@opcode("set")
def set_value(i):
    result, kind = i.types[-2], i.types[-1]
    combine = next((COMBINE[part] for part in i.parts[2:3] if part in COMBINE), None)
    sources = [kind, kind] + ["pred"] * (combine is not None)
    if kind in ("f16x2", "bf16x2"):
        compare, dtype = comparison(i, kind[:-2]), NUMPY[kind[:-2]]
        one = np.uint16(0x3C00 if result == "f16x2" else 0x3F80 if result == "bf16x2" else 0xFFFF)

        def packed(a, b, c=np.True_):
            hits = (compare(half(a).view(dtype), half(b).view(dtype)) for half in (low_half, high_half))
            return pack(*(np.where(combine(hit, c) if combine else hit, one, np.uint16(0)) for hit in hits))
        return i.step(packed, sources, [result], "comparison")
    compare, dtype = comparison(i, kind), NUMPY[result]
    true = np.array(0x3F80 if result == "bf16" else 1 if dtype.kind == "f" else -1).astype(dtype)

    def run(a, b, c=np.True_):
        hit = compare(a, b)
        return np.where(combine(hit, c) if combine else hit, true, dtype.type(0))
    return i.step(run, sources, [result], "comparison")


@opcode("selp")
def selp(i):
    step = i.step(lambda a, b, p: np.where(p, a, b), [i.type, i.type, "pred"], [i.type], "comparison")
    step.marked = selected(step.call)
    return step


@opcode("slct")
def slct(i):
    result, kind = i.types[-2], i.types[-1]
    return i.step(lambda a, b, c: np.where(c >= 0, a, b), [result, result, kind], [result], "comparison")


@opcode("testp")
def testp(i):
    tests = {
        "finite": np.isfinite, "infinite": np.isinf, "number": lambda x: ~np.isnan(x), "notanumber": np.isnan,
        "normal": lambda x: np.isfinite(x) & (np.abs(x) >= TINY[x.dtype]),
        "subnormal": lambda x: (np.abs(x) < TINY[x.dtype]) & (x != 0),
    }
    return i.step(tests[i.parts[1]], [i.type], ["pred"], "comparison")
