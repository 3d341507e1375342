"""float16 and bfloat16, single and packed in pairs.

A float16 value is a NumPy float16; a bfloat16 value is its bits as uint16. Sums and products are formed in float32, which
holds more than twice their bits, so that rounding twice changes nothing; a fused multiply-add goes through a float64
rounded to odd.
"""

import numpy as np

from . import approx, rounding
from .types import NUMPY, UNSIGNED, high_half, low_half, pack

FINITE = np.float64(np.finfo(np.float32).max)
HALF_TYPES = ("f16", "f16x2", "bf16", "bf16x2")


def to_float32(x, kind):
    """float16 or bfloat16 as float32, exactly."""
    if kind.startswith("f16"):
        return x.astype(np.float32)
    return (x.astype(np.uint32) << np.uint32(16)).view(np.float32)


def from_float32(x, kind, mode="rn"):
    """float32 rounded to float16 or to bfloat16 bits."""
    if kind.startswith("f16"):
        if mode in ("rn", None):
            return x.astype(np.float16)
        return rounding.round_to(np.float16, x.astype(np.float64), mode=mode)
    bits = x.view(np.uint32)
    if mode in ("rn", None):
        rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    elif mode == "rz":
        rounded = bits
    else:
        negative = bits >> np.uint32(31) != 0
        away = negative if mode == "rm" else ~negative
        rounded = np.where(away, bits + np.uint32(0xFFFF), bits)
    out = (rounded >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(x), np.uint16(0x7FFF), out)


def from_float64(x, kind, mode="rn"):
    """float64 rounded once to float16 or to bfloat16 bits."""
    if kind.startswith("f16"):
        return x.astype(np.float16) if mode in ("rn", None) else rounding.round_to(np.float16, x, mode=mode)
    # By way of a float32 rounded to odd, so that the second rounding decides as the first would have.
    near = np.where(np.isfinite(x), np.clip(x, -FINITE, FINITE), x).astype(np.float32)
    rest = x - near.astype(np.float64)
    bits = np.asarray(near).view(np.int32)
    step = np.where((rest > 0) == (x > 0), np.int32(1), np.int32(-1))  # x, since near may be 0
    fix = (rest != 0) & np.isfinite(near) & (bits & 1 == 0)
    return from_float32(np.where(fix, bits + step, bits).view(np.float32), kind, mode)


def pairwise(i, function):
    """For a packed type, the function of single values applied to both halves."""
    if not i.type.endswith("x2"):
        return function
    dtype = NUMPY[i.type[:-2]]

    def packed(*words):
        return pack(function(*(low_half(w).view(dtype) for w in words)),
                    function(*(high_half(w).view(dtype) for w in words)))
    return packed


def in_float32(i, function):
    """A half-precision function computed in float32, with the instruction's .ftz, .sat and .relu."""
    kind = i.type

    def run(*xs):
        return finish(i, from_float32(function(*(flushed(i, to_float32(x, kind)) for x in xs)), kind))
    return run


def flushed(i, wide):
    """A half as float32, with subnormal ones as zeros where the instruction says .ftz."""
    if not i.has("ftz"):
        return wide
    tiny = np.float32(2.0**-14 if i.type.startswith("f16") else 2.0**-126)
    return np.where(np.abs(wide) < tiny, np.copysign(np.float32(0), wide), wide)


def finish(i, value):
    if not i.has("ftz", "sat", "relu"):
        return value
    wide = flushed(i, to_float32(value, i.type))
    if i.has("sat"):
        wide = np.where(wide > 0, np.minimum(wide, np.float32(1)), np.float32(0))
    if i.has("relu"):
        wide = np.where(wide > 0, wide, np.where(np.isnan(wide), wide, np.float32(0)))
    return from_float32(wide, i.type)


def fused(i):
    kind = i.type

    def run(a, b, c):
        a, b, c = (flushed(i, to_float32(x, kind)).astype(np.float64) for x in (a, b, c))
        return finish(i, from_float64(rounding.odd_sum(a * b, c), kind))
    return run


def signed_zeros(function, combine):
    """fmin and fmax that order -0 below +0: equal operands differ in nothing but their sign bits."""
    def ordered(a, b):
        bits = UNSIGNED[a.dtype.itemsize]
        either = combine(a.view(bits), b.view(bits)).view(a.dtype)
        return np.where(a == b, either, function(a, b))
    return ordered


def half_arithmetic(i):
    """add, sub, mul, fma, min and max."""
    if len([t for t in i.types if t != i.type]):
        return None
    name = i.parts[0]
    if name == "fma":
        return i.step(pairwise(i, fused(i)), [i.type] * 3, [i.type], "float16")
    if name in ("min", "max"):
        propagating, ignoring = (np.minimum, np.fmin) if name == "min" else (np.maximum, np.fmax)
        function = signed_zeros(propagating if i.has("NaN") else ignoring, np.bitwise_or if name == "min" else np.bitwise_and)
        if i.has("xorsign"):
            magnitudes = function

            def function(a, b):
                return np.copysign(magnitudes(np.abs(a), np.abs(b)), np.copysign(1, a) * np.copysign(1, b))
        return i.step(pairwise(i, in_float32(i, function)), [i.type] * 2, [i.type], "float16")
    function = {"add": np.add, "sub": np.subtract, "mul": np.multiply}[name]
    return i.step(pairwise(i, in_float32(i, function)), [i.type] * 2, [i.type], "float16")


def half_unary(i):
    """abs, neg, ex2.approx and tanh.approx."""
    name, kind = i.parts[0], i.type
    if name in ("abs", "neg"):
        # Sign bits alone change, so that NaN keeps its payload; negation of a packed pair flips both signs.
        dtype = NUMPY[kind]
        bits = UNSIGNED[dtype.itemsize]
        sign = bits.type(0x8000 if dtype.itemsize == 2 else 0x80008000)
        if name == "neg":
            return i.step(lambda x: (x.view(bits) ^ sign).view(dtype), [kind], [kind], "float16")
        return i.step(lambda x: (x.view(bits) & ~sign).view(dtype), [kind], [kind], "float16")
    # Documented relative errors: ex2 2**-9.9 (f16) and 2**-7 (bf16), tanh 2**-10.987 (f16) and 2**-8 (bf16).
    bound = {"ex2": (2.0**-9.9, 2.0**-7), "tanh": (2.0**-10.987, 2.0**-8)}[name][kind.startswith("bf16")]
    half_ulp = 2.0**-9 if kind.startswith("bf16") else 2.0**-12
    function = {"ex2": np.exp2, "tanh": np.tanh}[name]

    def run(x):
        wide = flushed(i, to_float32(x, kind)).astype(np.float64)
        moved = 0.0 if i.exact else approx.noise(x) * max(bound - half_ulp, 0.0)
        return finish(i, from_float64(np.where(wide == 0, function(wide), function(wide) * (1 + moved)), kind))
    return i.step(pairwise(i, run), [kind], [kind], "float16")
