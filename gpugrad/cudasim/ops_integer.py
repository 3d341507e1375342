"""Integer arithmetic. It wraps, so signed and unsigned mostly share one function."""

import numpy as np

from .decode import opcode
from .errors import DivisionByZero, show_index
from .syntax import Register
from .types import NUMPY, SIGNED, UNSIGNED

CARRY = Register("%cc", "pred")
WIDE = {"u16": "u32", "s16": "s32", "u32": "u64", "s32": "s64"}
PACKED = ("u16x2", "s16x2")


def unsigned(kind):
    """The unsigned PTX type of the same width."""
    return f"u{NUMPY[kind].itemsize * 8}"


def width(kind):
    return NUMPY[kind].itemsize * 8


def by_type(*names):
    """Register a handler for integer types, leaving floats to whoever registered the same opcode for them."""
    def register(handler):
        for name in names:
            INTEGER[name] = handler
        return handler
    return register


INTEGER: dict = {}


def halves(function, kind):
    """Apply a function of 16-bit integers to both halves of 32-bit words."""
    half = NUMPY[kind[:3]]

    def packed(*words):
        low = function(*((w & np.uint32(0xFFFF)).astype(np.uint16).view(half) for w in words))
        high = function(*((w >> np.uint32(16)).astype(np.uint16).view(half) for w in words))
        return low.view(np.uint16).astype(np.uint32) | (high.view(np.uint16).astype(np.uint32) << np.uint32(16))
    return packed


@by_type("add", "sub")
def add_sub(i):
    function = np.add if i.parts[0] == "add" else np.subtract
    if i.has("cc"):
        return with_carry(i)
    if i.type in PACKED and not i.has("sat"):
        return i.step(halves(function, "u16x2"), [i.type] * 2, [i.type], "integer")
    if i.has("sat"):
        if i.type != "s32":
            return None
        low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max

        def saturated(a, b):
            return np.clip(function(a.astype(np.int64), b.astype(np.int64)), low, high).astype(np.int32)
        return i.step(saturated, [i.type] * 2, [i.type], "integer")
    kind = unsigned(i.type)
    return i.step(function, [kind] * 2, [kind], "integer")


@opcode("addc", "subc")
def with_carry(i):
    kind, dtype = unsigned(i.type), NUMPY[unsigned(i.type)]
    minus, takes, gives = i.parts[0].startswith("sub"), i.parts[0].endswith("c"), i.has("cc")

    none = np.bool_(minus)

    def run(a, b, carry=none):
        if minus:
            # The flag is the carry of a + ~b + 1, so that no borrow sets it: NVIDIA's division of 128 bits adds it up.
            borrow = ~carry
            out = a - b - borrow.astype(dtype)
            return out, (a > b) | ((a == b) & carry)
        out = a + b + carry.astype(dtype)
        return out, (out < a) | ((out == a) & carry)
    step = i.step(run if gives else lambda *x: run(*x)[0], [kind] * 2, [kind], "integer")
    if takes:
        step.reads.append((CARRY, "pred"))
    if gives:
        step.writes.append((CARRY, "pred"))
    return step


def multiply_high(kind):
    dtype = NUMPY[kind]
    if dtype.itemsize < 8:
        wide = NUMPY[WIDE[kind]]
        return lambda a, b: ((a.astype(wide) * b.astype(wide)) >> wide.type(width(kind))).astype(dtype)

    def high(a, b):
        ua, ub, mask, half = a.view(np.uint64), b.view(np.uint64), np.uint64(0xFFFFFFFF), np.uint64(32)
        al, ah, bl, bh = ua & mask, ua >> half, ub & mask, ub >> half
        middle = ah * bl + ((al * bl) >> half)
        out = ah * bh + (middle >> half) + ((al * bh + (middle & mask)) >> half)
        if kind == "s64":
            out = out - np.where(a < 0, ub, np.uint64(0)) - np.where(b < 0, ua, np.uint64(0))
        return out.view(dtype)
    return high


def product(i):
    """(function, source type, result type) of mul and mad."""
    if i.has("wide"):
        wide = NUMPY[WIDE[i.type]]
        return lambda a, b: a.astype(wide) * b.astype(wide), i.type, WIDE[i.type]
    if i.has("hi"):
        return multiply_high(i.type), i.type, i.type
    return np.multiply, unsigned(i.type), unsigned(i.type)


@by_type("mul")
def mul(i):
    function, source, result = product(i)
    return i.step(function, [source] * 2, [result], "integer")


@by_type("mad")
def mad(i):
    function, source, result = product(i)
    if i.has("cc"):
        return mad_with_carry(i)
    return i.step(lambda a, b, c: saturating(i, function(a, b), c), [source] * 2 + [result], [result], "integer")


@opcode("madc")
def mad_with_carry(i):
    function, source, result = product(i)
    dtype = NUMPY[unsigned(result)]
    takes, gives = i.parts[0] == "madc", i.has("cc")

    def run(a, b, c, carry=np.False_):
        base = function(a, b).view(dtype)
        out = base + c + carry.astype(dtype)
        return out, (out < c) | ((out == c) & carry)
    step = i.step(run if gives else lambda *x: run(*x)[0], [source] * 2 + [unsigned(result)], [unsigned(result)], "integer")
    if takes:
        step.reads.append((CARRY, "pred"))
    if gives:
        step.writes.append((CARRY, "pred"))
    return step


@opcode("mul24", "mad24")
def mul24(i):
    """Products of the low 24 bits: .lo the low 32 of their 48 bits, .hi the high 32."""
    dtype, wide = NUMPY[i.type], NUMPY[WIDE[i.type]]
    shift, down = dtype.type(8), wide.type(16 if i.has("hi") else 0)

    def narrow(a):
        return ((a << shift) >> shift).astype(wide)

    def product(a, b):
        return ((narrow(a) * narrow(b)) >> down).astype(dtype)
    if i.parts[0] == "mul24":
        return i.step(product, [i.type] * 2, [i.type], "integer")
    return i.step(lambda a, b, c: saturating(i, product(a, b), c), [i.type] * 3, [i.type], "integer")


def saturating(i, a, b):
    """a + b, clamped to the range of s32 where the instruction says .sat."""
    if not i.has("sat"):
        return a + b
    return np.clip(a.astype(np.int64) + b, -(1 << 31), (1 << 31) - 1).astype(np.int32)


def magnitude(x):
    """|x| as an unsigned integer, right also for the most negative value."""
    bits = x.view(UNSIGNED[x.dtype.itemsize])
    return np.where(x < 0, np.uint8(0) - bits, bits) if x.dtype.kind == "i" else bits


def divide(a, b):
    """Quotient towards zero; a division by zero gives all ones, as the hardware does."""
    if a.dtype.kind == "u":
        return np.where(b == 0, ~a.dtype.type(0), a // np.where(b == 0, b.dtype.type(1), b))
    quotient = magnitude(a) // np.where(b == 0, b.dtype.type(1), magnitude(b).view(b.dtype)).view(UNSIGNED[b.dtype.itemsize])
    signed = np.where((a < 0) != (b < 0), np.uint8(0) - quotient, quotient).view(a.dtype)
    return np.where(b == 0, a.dtype.type(-1), signed)


def division(i, function):
    """A Step of a division, which refuses zeros as divisors."""
    def run(lanes, a, b):
        if not b.all():
            by_zero(i, lanes, a, np.atleast_1d(b == 0))
        return function(a, b)

    def marked(lanes, a, b, of_a, of_b):
        zero = (b == 0) & (of_b == 0)
        if zero.any():
            by_zero(i, lanes, a, np.atleast_1d(zero))
        return function(a, b), np.maximum(of_a, of_b)
    step = i.step(run, [i.type] * 2, [i.type], "integer", lanes=True)
    step.marked = marked
    return step


def by_zero(i, lanes, a, zero):
    """Raise DivisionByZero for the first lane whose divisor is zero, if the launch looks for that and the division is the user's:
    NVRTC counts a loop's turns by one, too, before it is entered."""
    if not lanes.batch.checks.division or not (set("/%") & set(i.place.source or "/")):
        return
    position, count = int(np.flatnonzero(zero)[0]), lanes.count if zero.size == 1 else int(zero.sum())
    block, thread = lanes.coordinates(position)
    dividend, place = int(a if a.ndim == 0 else a[position]), i.place
    others = f" ({count - 1} more threads alike)" if count > 1 else ""
    raise DivisionByZero(
        f"{place.kernel}: the divisor of an integer must not be zero, got {dividend} {'/' if i.parts[0] == 'div' else '%'} 0 "
        f"by thread {show_index(thread)} of block {show_index(block)}{others} at {place}. Guard the division.",
        kernel=place.kernel, block=block, thread=thread, line=place.line, source=place.source, ptx=place.ptx)


@by_type("div")
def div(i):
    return division(i, divide)


@opcode("rem")
def rem(i):
    return division(i, lambda a, b: a - divide(a, b) * b)


@by_type("abs")
def absolute(i):
    return i.step(lambda a: magnitude(a).view(a.dtype), [i.type], [i.type], "integer")


@by_type("neg")
def negative(i):
    return i.step(np.negative, [unsigned(i.type)], [unsigned(i.type)], "integer")


@by_type("min", "max")
def minimum(i):
    function = np.minimum if i.parts[0] == "min" else np.maximum
    relu = NUMPY[i.type].type(0) if i.has("relu") else None
    run = function if relu is None else lambda a, b: np.maximum(function(a, b), relu)
    if i.type in PACKED:
        return i.step(halves(run, i.type), [i.type] * 2, [i.type], "integer")
    return i.step(run, [i.type] * 2, [i.type], "integer")


@opcode("sad")
def sad(i):
    def run(a, b, c):
        return c + np.where(a < b, b - a, a - b)
    return i.step(run, [i.type] * 3, [i.type], "integer")


@opcode("dp4a", "dp2a")
def dot_product(i):
    a_kind, b_kind = i.parts[-2], i.parts[-1]
    result = "s32" if "s" in (a_kind[0] + b_kind[0]) else "u32"
    lanes, bits = (4, 8) if i.parts[0] == "dp4a" else (2, 16)
    from_high = 2 if i.has("hi") else 0

    def part(word, index, size, kind):
        raw = (word >> np.uint32(index * size)).astype(UNSIGNED[size // 8])
        return raw.view(SIGNED[size // 8]).astype(np.int64) if kind[0] == "s" else raw.astype(np.int64)

    def run(a, b, c):
        total = c.astype(np.int64)
        for k in range(lanes):
            total = total + part(a, k, bits, a_kind) * part(b, k + from_high, 8, b_kind)
        return total.astype(np.uint64).astype(np.uint32).view(NUMPY[result])
    return i.step(run, ["b32", "b32", result], [result], "integer")
