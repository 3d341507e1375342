"""Logic, shifts, bit fields and permutations of bytes."""

import numpy as np

from .decode import copied, opcode
from .definedness import decided
from .ops_integer import unsigned, width
from .syntax import Immediate
from .types import NUMPY, SIGNED, UNSIGNED


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
    """A function of three bits by its table; with .and or .or also whether its result, combined with a predicate, is not 0."""
    combine = next((part for part in i.parts[1:] if part in ("and", "or")), None)
    table = i.operands[-2 if combine else -1]
    if not isinstance(table, Immediate) or i.type != "b32":
        return None

    def run(a, b, c):
        out = np.uint32(0)
        for row in range(8):
            if table.bits >> row & 1:
                out = out | ((a if row & 4 else ~a) & (b if row & 2 else ~b) & (c if row & 1 else ~c))
        return out
    if not combine:
        return i.step(run, ["b32"] * 3, ["b32"], "integer")

    def with_predicate(a, b, c, table, p):
        out = run(a, b, c)
        return out, (out != 0) & p if combine == "and" else (out != 0) | p
    return i.step(with_predicate, ["b32"] * 4 + ["pred"], ["b32", "pred"], "integer")


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


PERMUTATIONS = {  # which of the eight bytes go where, for each value of the two low bits of the selector
    "f4e": (0x3210, 0x4321, 0x5432, 0x6543), "b4e": (0x5670, 0x6701, 0x7012, 0x0123),
    "rc8": (0x0000, 0x1111, 0x2222, 0x3333), "ecl": (0x3210, 0x3211, 0x3222, 0x3333),
    "ecr": (0x0000, 0x1110, 0x2210, 0x3210), "rc16": (0x1010, 0x3232, 0x1010, 0x3232),
}


@opcode("prmt")
def prmt(i):
    mode = next((PERMUTATIONS[part] for part in i.parts if part in PERMUTATIONS), None)

    def run(a, b, selector):
        if mode is not None:
            selector = np.array(mode, np.uint32)[selector & np.uint32(3)]
        both = (b.astype(np.uint64) << np.uint64(32)) | a
        out = np.zeros_like(a & selector)
        for byte in range(4):
            chosen = (selector >> np.uint32(4 * byte)) & np.uint32(15)
            value = (both >> ((chosen & np.uint32(7)) * np.uint32(8)).astype(np.uint64)).astype(np.uint32) & np.uint32(255)
            sign = np.where(value & np.uint32(128) != 0, np.uint32(255), np.uint32(0))
            out = out | (np.where(chosen & np.uint32(8) != 0, sign, value) << np.uint32(8 * byte))
        return out
    return i.step(run, ["b32"] * 3, ["b32"], "integer")


@opcode("fns")
def find_nth_set(i):
    """The place of the n-th bit that is set, counted from a base upwards (n > 0) or downwards; all ones if there is none."""
    def run(mask, base, offset):
        mask, base, offset = np.broadcast_arrays(mask, base, offset)
        left = np.abs(offset.astype(np.int64)) - (offset != 0)  # bits to pass over
        at, found = base.astype(np.int64), np.full(mask.shape, -1)
        step = np.where(offset < 0, -1, 1)
        for _ in range(32):
            inside = (at >= 0) & (at < 32)
            bit = inside & ((mask >> np.clip(at, 0, 31).astype(np.uint32)) & np.uint32(1) != 0)
            found = np.where((found < 0) & bit & (left == 0), at, found)
            left = left - bit
            at = np.where(offset == 0, -1, at + step)
        return found.astype(np.uint32)
    return i.step(run, ["b32", "u32", "s32"], ["b32"], "integer")
