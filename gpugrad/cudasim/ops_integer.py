"""Integer, logical and bit instructions. Arithmetic wraps, so signed and unsigned mostly share one function."""

import numpy as np

from .decode import copied, opcode
from .definedness import decided
from .ptx import Immediate, Register
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
    if i.type in PACKED:
        return i.step(halves(function, "u16x2"), [i.type] * 2, [i.type], "integer")
    if i.has("sat"):
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

    def run(a, b, carry=np.False_):
        if minus:
            out = a - b - carry.astype(dtype)
            return out, (a < b) | ((a == b) & carry)
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
    return i.step(lambda a, b, c: function(a, b) + c, [source] * 2 + [result], [result], "integer")


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
    if i.has("hi"):
        return None
    shift = NUMPY[i.type].type(8)
    narrow = (lambda a: (a << shift) >> shift)
    if i.parts[0] == "mul24":
        return i.step(lambda a, b: narrow(a) * narrow(b), [i.type] * 2, [i.type], "integer")
    return i.step(lambda a, b, c: narrow(a) * narrow(b) + c, [i.type] * 3, [i.type], "integer")


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


@by_type("div")
def div(i):
    return i.step(divide, [i.type] * 2, [i.type], "integer")


@opcode("rem")
def rem(i):
    return i.step(lambda a, b: a - divide(a, b) * b, [i.type] * 2, [i.type], "integer")


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


# --- logic and shifts ------------------------------------------------------------------------------------------------


@opcode("and", "or", "xor")
def logic(i):
    function = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[i.parts[0]]
    step = i.step(function, [i.type] * 2, [i.type], "integer")
    if i.type == "pred" and i.parts[0] != "xor":
        step.marked = decided(function, i.parts[0] == "or")
    return step


@opcode("not")
def complement(i):
    return i.step(np.invert, [i.type], [i.type], "integer")


@opcode("cnot")
def logical_not(i):
    return i.step(lambda a: (a == 0).astype(NUMPY[i.type]), [i.type], [i.type], "integer")


@opcode("shl", "shr")
def shift(i):
    kind = i.type if i.parts[0] == "shr" and i.type[0] == "s" else unsigned(i.type)
    dtype = NUMPY[kind]
    function = np.left_shift if i.parts[0] == "shl" else np.right_shift
    limit = np.uint32(width(kind))
    # NumPy shifts by the width or more to 0, or to the sign, as PTX does; only the amount's type must match.
    return i.step(lambda a, n: function(a, np.minimum(n, limit).astype(dtype)), [kind, "u32"], [kind], "integer")


@opcode("shf")
def funnel_shift(i):
    wrap, left = i.has("wrap"), i.has("l")

    def run(a, b, c):
        n = (c & np.uint32(31) if wrap else np.minimum(c, np.uint32(32))).astype(np.uint64)
        both = (b.astype(np.uint64) << np.uint64(32)) | a
        return ((both << n) >> np.uint64(32) if left else both >> n).astype(np.uint32)
    return i.step(run, ["b32", "b32", "u32"], ["b32"], "integer")


@opcode("lop3")
def lop3(i):
    table = i.operands[-1]
    if not isinstance(table, Immediate) or i.type != "b32":
        return None

    def run(a, b, c):
        out = np.uint32(0)
        for row in range(8):
            if table.bits >> row & 1:
                out = out | ((a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c))
        return out
    return i.step(run, ["b32"] * 3, ["b32"], "integer")


@opcode("popc")
def popc(i):
    return i.step(lambda a: np.bitwise_count(a).astype(np.uint32), [i.type], ["u32"], "integer")


def bit_length(a):
    """The number of bits up to the highest one that is set."""
    if a.dtype.itemsize == 8:
        high, low = (a >> np.uint64(32)).astype(np.uint32), a.astype(np.uint32)
        return np.where(high != 0, bit_length(high) + np.uint32(32), bit_length(low))
    return np.frexp(a.astype(np.float64))[1].astype(np.uint32)


@opcode("clz")
def clz(i):
    return i.step(lambda a: np.uint32(width(i.type)) - bit_length(a), [i.type], ["u32"], "integer")


@opcode("bfind")
def bfind(i):
    top, kind = np.uint32(width(i.type) - 1), unsigned(i.type)
    signed, shiftamt = i.type[0] == "s", i.has("shiftamt")

    def run(a):
        if signed:
            a = np.where(a.view(SIGNED[a.dtype.itemsize]) < 0, ~a, a)
        found = bit_length(a) - np.uint32(1)  # 0xffffffff where no bit is set
        return np.where(a == 0, found, top - found) if shiftamt else found
    return i.step(run, [kind], ["u32"], "integer")


@opcode("brev")
def brev(i):
    dtype = NUMPY[i.type]

    def run(a):
        a = copied(a)
        for shift_by, mask in ((1, 0x55), (2, 0x33), (4, 0x0F)):
            bits = dtype.type(int.from_bytes(bytes([mask]) * dtype.itemsize, "little"))
            a = ((a >> dtype.type(shift_by)) & bits) | ((a & bits) << dtype.type(shift_by))
        return a.byteswap()
    return i.step(run, [i.type], [i.type], "integer")


@opcode("bfe")
def bfe(i):
    dtype, bits = NUMPY[i.type], width(i.type)
    wide = np.dtype(np.uint64)

    def run(a, position, length):
        position = (position & np.uint32(255)).astype(wide)
        length = (length & np.uint32(255)).astype(wide)
        start = np.minimum(position, wide.type(bits))
        taken = np.minimum(length, wide.type(bits) - start)
        raw = a.view(UNSIGNED[dtype.itemsize]).astype(wide)
        field = np.where(taken == 0, wide.type(0), (raw >> start) & ones(taken))
        if i.type[0] == "s":
            sign_at = np.minimum(position + length - wide.type(1), wide.type(bits - 1))
            negative = ((raw >> sign_at) & wide.type(1) != 0) & (length != 0)
            field = np.where(negative, field | ~ones(taken), field)
        return field.astype(UNSIGNED[dtype.itemsize]).view(dtype)
    return i.step(run, [i.type, "u32", "u32"], [i.type], "integer")


def ones(count):
    """count low bits set, for counts up to 64."""
    top = np.uint64(64)
    return np.where(count >= top, ~np.uint64(0), (np.uint64(1) << np.minimum(count, np.uint64(63))) - np.uint64(1))


@opcode("bfi")
def bfi(i):
    dtype, bits = NUMPY[unsigned(i.type)], width(i.type)

    def run(source, base, position, length):
        position = (position & np.uint32(255)).astype(np.uint64)
        length = np.minimum((length & np.uint32(255)).astype(np.uint64), np.uint64(64))
        mask = np.where(position >= np.uint64(bits), np.uint64(0), ones(length) << np.minimum(position, np.uint64(63)))
        moved = source.astype(np.uint64) << np.minimum(position, np.uint64(63))
        return ((moved & mask) | (base.astype(np.uint64) & ~mask)).astype(dtype)
    kind = unsigned(i.type)
    return i.step(run, [kind, kind, "u32", "u32"], [kind], "integer")


@opcode("bmsk")
def bmsk(i):
    wrap = i.has("wrap")

    def run(position, length):
        p, n = position.astype(np.uint64), length.astype(np.uint64)
        if wrap:
            p, n = p & np.uint64(31), n & np.uint64(31)
        mask = ones(np.minimum(n, np.uint64(32))) << np.minimum(p, np.uint64(32))
        return np.where(p > np.uint64(31), np.uint64(0), mask).astype(np.uint32)
    return i.step(run, ["u32", "u32"], ["u32"], "integer")


@opcode("szext")
def szext(i):
    def run(a, n):
        n = np.minimum(n & np.uint32(31) if i.has("wrap") else n, np.uint32(32)).astype(np.uint64)
        kept = a.view(np.uint32).astype(np.uint64) & ones(n)
        if i.type == "s32":
            sign = (kept >> np.where(n > 0, n - np.uint64(1), np.uint64(0))) & np.uint64(1)
            kept = np.where((sign != 0) & (n > 0), kept | ~ones(n), kept)
        return kept.astype(np.uint32).view(NUMPY[i.type])
    return i.step(run, [i.type, "u32"], [i.type], "integer")


@opcode("prmt")
def prmt(i):
    modes = ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16")
    if i.has(*modes):
        return None

    def run(a, b, selector):
        both = (b.astype(np.uint64) << np.uint64(32)) | a
        out = np.zeros_like(a & selector)
        for byte in range(4):
            chosen = (selector >> np.uint32(4 * byte)) & np.uint32(15)
            value = (both >> ((chosen & np.uint32(7)) * np.uint32(8)).astype(np.uint64)).astype(np.uint32) & np.uint32(255)
            sign = np.where(value & np.uint32(128) != 0, np.uint32(255), np.uint32(0))
            out = out | (np.where(chosen & np.uint32(8) != 0, sign, value) << np.uint32(8 * byte))
        return out
    return i.step(run, ["b32"] * 3, ["b32"], "integer")


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
