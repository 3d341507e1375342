"""mov, cvt, cvta and their kin: moving bits between registers and values between types."""

import numpy as np

from . import rounding
from .decode import copied, opcode
from .layout import WINDOWS
from .ops_half import HALF_TYPES, from_float32, from_float64, to_float32
from .small_floats import PAIRS, decoded, encoded
from .syntax import Group
from .types import NUMPY, UNSIGNED, halves128, high_half, joined128, low_half, pack

INTEGRAL = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@opcode("mov")
def mov(i):
    target, source = i.operands
    kind = i.type
    if isinstance(source, Group):
        return packing(i, source)
    if isinstance(target, Group):
        return unpacking(i, target)
    return i.step(copied, [kind], [kind], "move")


def packing(i, source):
    """mov.b64 d, {a, b}: the first element lowest."""
    if i.type == "b128":
        return i.step(joined128, ["b64", "b64"], ["b128"], "move")
    size = NUMPY[i.type].itemsize // len(source.items)
    part, whole = UNSIGNED[size], UNSIGNED[size * len(source.items)]

    def run(*parts):
        out = parts[0].astype(whole)
        for k, value in enumerate(parts[1:], 1):
            out = out | (value.astype(whole) << whole.type(8 * size * k))
        return out
    return i.step(run, [f"b{part.itemsize * 8}"] * len(source.items), [i.type], "move")


def unpacking(i, target):
    if i.type == "b128":
        return i.step(halves128, ["b128"], ["b64", "b64"], "move")
    size = NUMPY[i.type].itemsize // len(target.items)
    part, whole = UNSIGNED[size], NUMPY[i.type]

    def run(value):
        return tuple((value >> whole.type(8 * size * k)).astype(part) for k in range(len(target.items)))
    return i.step(run, [i.type], [f"b{size * 8}"] * len(target.items), "move")


@opcode("cvta")
def cvta(i):
    """Between a state space and generic addresses: a fixed offset for shared, local and parameter memory."""
    offset = np.uint64(next((WINDOWS[part.split("-")[0]] for part in i.parts if part.split("-")[0] in WINDOWS), 0))
    sign = np.subtract if i.has("to") else np.add
    return i.step(lambda a: sign(a, offset), ["u64"], ["u64"], "move")


@opcode("isspacep")
def isspacep(i):
    space = next(part.split("-")[0] for part in i.parts[1:] if part.split("-")[0] in (*WINDOWS, "global", "const"))
    base = WINDOWS.get(space)

    def run(address):
        window = address >> np.uint64(40)
        return window == np.uint64(base >> 40) if base else window > np.uint64(3)
    return i.step(run, ["u64"], ["pred"], "move")


@opcode("cvt")
def cvt(i):
    if i.has("pack"):
        return pack_integers(i)
    result, source = i.types[-2:]
    if len(i.types) != 2 or i.has("rs", "scaled"):
        return None
    if result in PAIRS:
        return to_small_floats(i, result[:-2], source)
    if source in PAIRS:
        return from_small_floats(i, result, source[:-2])
    if result in ("f16x2", "bf16x2") and source == "f32":
        single, mode = result[:-2], i.rounding

        def packed(high, low):
            high, low = (relu(i, saturated_finite(i, x, single)) for x in (high, low))
            return pack(*(np.asarray(from_float32(x, single, mode)).view(np.uint16) for x in (low, high)))
        return i.step(packed, ["f32", "f32"], [result], "conversion")
    if result == "tf32":
        return i.step(lambda x: relu(i, to_tf32(x, i.rounding, i.has("satfinite"))), ["f32"], ["tf32"], "conversion")
    function = conversion(i, result, source)
    return None if function is None else i.step(function, [source], [result], "conversion")


def relu(i, x):
    """x with negative numbers as zeros where the instruction says .relu."""
    if not i.has("relu"):
        return x
    wide = x.view(np.float32)
    return np.where(wide > 0, x, np.where(np.isnan(wide), x, x.dtype.type(0)))


LARGEST = {"f16": np.float32(65504), "bf16": np.uint32(0x7F7F0000).view(np.float32)}


def saturated_finite(i, x, kind):
    """What is too large for a 16-bit float as the largest of them, where the instruction says .satfinite."""
    return np.clip(x, -LARGEST[kind], LARGEST[kind]) if i.has("satfinite") else x


def to_small_floats(i, kind, source):
    """Two numbers into the bytes of a half word, or the halves of a byte, the first operand highest."""
    shift = np.uint16(4 if kind == "e2m1" else 8)
    dtype = np.uint8 if kind == "e2m1" else np.uint16

    def both(high, low):
        codes = (encoded(relu(i, x).astype(np.float64), kind).astype(np.uint16) for x in (high, low))
        high, low = codes
        return (high << shift | low).astype(dtype)
    if not i.has("satfinite"):
        return None
    if source == "f32":
        return i.step(both, ["f32", "f32"], [f"{kind}x2"], "conversion")
    single = source.removesuffix("x2")

    def from_pair(word):
        low, high = (to_float32(half(word).view(NUMPY[single]), single) for half in (low_half, high_half))
        return both(high, low)
    return i.step(from_pair, [source], [f"{kind}x2"], "conversion") if source in ("f16x2", "bf16x2") else None


def from_small_floats(i, result, kind):
    shift = np.uint16(4 if kind == "e2m1" else 8)

    def run(word):
        low, high = word.astype(np.uint16), word.astype(np.uint16) >> shift
        return pack(*(from_float32(relu(i, decoded(x, kind).astype(np.float32)), result[:-2]) for x in (low, high)))
    return i.step(run, [f"{kind}x2"], [result], "conversion") if result in ("f16x2", "bf16x2") else None


def pack_integers(i):
    """cvt.pack: two s32 clamped to 16, 8, 4 or 2 bits, side by side in front of what the third operand holds of them."""
    kind = i.parts[i.parts.index("pack") + 2]
    bits, signed, behind = int(kind[1:]), kind[0] == "s", len(i.operands) > 3
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)

    def run(a, b, c=np.False_):
        a, b = (np.clip(x, low, high).astype(np.int64) & ((1 << bits) - 1) for x in (a, b))
        return ((c.astype(np.int64) << 2 * bits | a << bits | b) & 0xFFFFFFFF).astype(np.uint32)
    return i.step(run, ["s32", "s32"] + ["b32"] * behind, ["b32"], "conversion")


def to_tf32(x, mode, finite=False):
    """float32 with 10 fraction bits, nearest: ties away from zero for .rna, to even for .rn; if finite, none overflows."""
    bits = np.asarray(x).view(np.uint32)
    if mode == "rna":
        rounded = bits + np.uint32(0x1000)
    elif mode == "rn":
        rounded = bits + np.uint32(0x0FFF) + ((bits >> np.uint32(13)) & np.uint32(1))
    else:
        rounded = bits
    if finite:
        rounded = np.where(np.abs(x) > MOST_TF32, np.copysign(MOST_TF32, x).view(np.uint32), rounded)
        return np.where(np.isnan(x), bits, rounded) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(x), rounded, bits) & np.uint32(0xFFFFE000)


MOST_TF32 = np.uint32(0x7F7FE000).view(np.float32)


def conversion(i, result, source):
    floats = ("f32", "f64", *HALF_TYPES)
    if result in floats and source in floats:
        return float_to_float(i, result, source)
    if source in floats:
        return float_to_integer(i, result, source)
    if result in floats:
        return integer_to_float(i, result, source)
    return integer_to_integer(i, result)


def widened(source):
    """A 16-bit float as float32, others as they are."""
    return (lambda x: to_float32(x, source)) if source in HALF_TYPES else (lambda x: x)


def float_to_float(i, result, source):
    read = widened(source)
    integral = next((INTEGRAL[part] for part in i.parts if part in INTEGRAL), None)
    mode = i.rounding
    if i.has("satfinite") and result not in LARGEST:
        return None

    def run(x):
        x = flushed(i, read(x))
        if i.has("satfinite"):
            x = saturated_finite(i, x, result)
        if integral is not None:
            x = integral(x)
        elif result == source:
            x = copied(x)
        if i.has("sat"):
            x = np.where(x > 0, np.minimum(x, x.dtype.type(1)), x.dtype.type(0))
        if i.has("relu"):
            x = relu(i, x)
        if result in HALF_TYPES:
            if x.dtype == np.float64:
                return from_float64(x, result, mode)
            return from_float32(x, result, mode)
        if x.dtype == NUMPY[result]:
            return copied(x)
        return flushed(i, rounding.round_to(NUMPY[result], x, mode=mode))
    return run


def flushed(i, x):
    if not i.has("ftz") or x.dtype != np.float32:
        return x
    return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x)


def float_to_integer(i, result, source):
    """Rounded as the modifier says, clamped to the range; NaN gives 0, or the lowest bit pattern for 64-bit results."""
    read = widened(source)
    integral = next((INTEGRAL[part] for part in i.parts if part in INTEGRAL), np.trunc)
    dtype = NUMPY[result]
    info = np.iinfo(dtype)
    low, high = np.float64(info.min), np.float64(info.max)  # high rounds up to 2**63 or 2**64 for 64 bits
    of_nan = info.min if dtype.itemsize == 8 and source != "f64" else 0
    of_nan = dtype.type(1 << 63) if result == "u64" else dtype.type(info.min if result == "s64" else of_nan)

    def run(x):
        whole = integral(flushed(i, read(x)).astype(np.float64))
        inside = (whole > low) & (whole < high)
        out = np.where(inside, whole, 0.0).astype(dtype)
        out = np.where(whole >= high, dtype.type(info.max), np.where(whole <= low, dtype.type(info.min), out))
        return np.where(np.isnan(whole), of_nan, out)
    return run


def integer_to_float(i, result, source):
    mode = i.rounding
    if result in HALF_TYPES and i.has("sat"):
        return None

    def run(x):
        if result in HALF_TYPES:
            wide = x.astype(np.float64)
            if x.dtype.itemsize == 8:
                # Rounded to odd in float64, so that a tie is no tie by accident.
                wide = odd_from_integer(x, wide)
            return from_float64(wide, result, mode)
        out = x.astype(NUMPY[result])
        if mode in (None, "rn"):
            return saturated(i, out)
        error = difference(x, out)
        return saturated(i, rounding.nudge(out, error, mode))
    return run


def saturated(i, x):
    return np.where(x > 0, np.minimum(x, x.dtype.type(1)), x.dtype.type(0)) if i.has("sat") else x


def difference(x, nearest):
    """The sign of integer x minus a float near it, exactly: the float is an integer too once it has lost bits."""
    as_python = np.frompyfunc(lambda n, f: float((int(n) > int(f)) - (int(n) < int(f))), 2, 1)
    return np.asarray(as_python(x, nearest), np.float64)[()]


def odd_from_integer(x, wide):
    error = difference(x, wide)
    bits = np.asarray(wide).view(np.int64)
    step = np.where((error > 0) == (wide > 0), np.int64(1), np.int64(-1))
    return np.where((error != 0) & (bits & 1 == 0), bits + step, bits).view(np.float64)


def integer_to_integer(i, result):
    dtype = NUMPY[result]
    info = np.iinfo(dtype)

    def run(x):
        if not i.has("sat"):
            return x.astype(dtype)
        source = np.iinfo(x.dtype)
        low, high = max(info.min, source.min), min(info.max, source.max)
        return np.clip(x, x.dtype.type(low), x.dtype.type(high)).astype(dtype)
    return run
