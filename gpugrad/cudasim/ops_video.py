"""Video instructions: arithmetic on bytes and halves of 32-bit words, one at a time (vadd) or all at once (vadd2, vadd4)."""

from collections.abc import Callable

import numpy as np

from .decode import Step, opcode
from .ops_float import COMPARE
from .syntax import SINK, Part
from .types import NUMPY

FUNCTIONS: dict[str, Callable] = {
    "add": np.add, "sub": np.subtract, "min": np.minimum, "max": np.maximum, "absdiff": lambda a, b: np.abs(a - b),
    "avrg": lambda a, b: (a + b + np.where(a + b >= 0, 1, 0)) >> 1,
}
ZERO = np.uint32(0)


def split(operand):
    """(register or number, selector or None) of an operand."""
    return (operand.register, operand.selector) if isinstance(operand, Part) else (operand, None)


def piece(word, index, bits, signed):
    """Byte or half `index` of a word, as int64."""
    value = (word >> np.uint32(index * bits)).astype(np.int64) & ((1 << bits) - 1)
    return np.where(value >> bits - 1, value - (1 << bits), value) if signed else value


def chosen(word, selector, signed):
    """The value of an operand of a scalar instruction: its word, or the byte or half that is selected."""
    if selector in (None, "-"):
        value = piece(word, 0, 32, signed)
        return -value if selector else value
    return piece(word, int(selector[1]), 8 if selector[0] == "b" else 16, signed)


def clamped(value, signed, bits):
    return np.clip(value, -(1 << bits - 1), (1 << bits - 1) - 1) if signed else np.clip(value, 0, (1 << bits) - 1)


def word_of(value):
    return (value & 0xFFFFFFFF).astype(np.uint32)


def reads_of(i, count):
    """The operands behind the target, padded by zeros, and their selectors."""
    operands = [split(o) for o in i.operands[1:]]
    return [(register, "b32") for register, _ in operands][:count], [selector for _, selector in operands]


@opcode("vadd", "vsub", "vabsdiff", "vmin", "vmax", "vshl", "vshr", "vset")
def scalar(i):
    name = i.parts[0][1:]
    kinds = [part for part in i.parts[1:] if part in NUMPY]
    result, a_kind, b_kind = kinds if len(kinds) == 3 else ("u32", *kinds)
    target, place = split(i.operands[0])
    second = next((part for part in i.parts[-1:] if part in ("add", "min", "max")), None)
    reads, selectors = reads_of(i, 3)
    signed = result[0] == "s"

    def compute(a, b):
        if name == "set":
            return COMPARE[next(part for part in i.parts[1:] if part in COMPARE)](a, b).astype(np.int64)
        if name in ("shl", "shr"):
            b = b & 31 if i.has("wrap") else np.minimum(b, 32)
            return a << b if name == "shl" else a >> b
        return FUNCTIONS[name](a, b)

    def run(a, b, c=ZERO):
        value = compute(chosen(a, selectors[0], a_kind[0] == "s"), chosen(b, selectors[1], b_kind[0] == "s"))
        if place is not None:
            return merged(clamped(value, signed, 8 if place[0] == "b" else 16) if i.has("sat") else value, place, c)
        value = piece(word_of(clamped(value, signed, 32) if i.has("sat") else value), 0, 32, signed)
        if second:
            value = FUNCTIONS[second](value, piece(c, 0, 32, signed))
        return word_of(value)
    return Step(run, reads, [(target, "b32")], "integer")


def merged(value, place, c):
    """The value put into a byte or a half of c."""
    bits = 8 if place[0] == "b" else 16
    at = bits * int(place[1])
    mask = ((1 << bits) - 1) << at
    return word_of((c.astype(np.int64) & ~mask) | ((value << at) & mask))


@opcode("vmad")
def multiply_add(i):
    result, a_kind, b_kind = (part for part in i.parts[1:] if part in NUMPY)
    reads, selectors = reads_of(i, 3)
    signed = "s" in a_kind[0] + b_kind[0] or "-" in selectors
    shift = 7 if i.has("shr7") else 15 if i.has("shr15") else 0

    def run(a, b, c):
        product = chosen(a, selectors[0], a_kind[0] == "s") * chosen(b, selectors[1], b_kind[0] == "s")
        value = product + chosen(c, selectors[2], signed) + int(i.has("po")) >> shift
        return word_of(clamped(value, result[0] == "s", 32) if i.has("sat") else value)
    return Step(run, reads, [(i.operands[0], "b32")], "integer")


@opcode(*(f"v{name}{lanes}" for name in (*FUNCTIONS, "set") for lanes in (2, 4)))
def packed(i):
    """All bytes or halves at once; operands may be put together from both sources, results go where a mask says."""
    name, lanes = i.parts[0][1:-1], int(i.parts[0][-1])
    bits, letter = 32 // lanes, "h" if lanes == 2 else "b"
    kinds = [part for part in i.parts[1:] if part in NUMPY]
    result, a_kind, b_kind = kinds if len(kinds) == 3 else ("u32", *kinds)
    target, mask = split(i.operands[0])
    reads, selectors = reads_of(i, 3)
    orders = [(selector or letter + default)[:0:-1] for selector, default in
              zip(selectors[:2], ("10", "32") if lanes == 2 else ("3210", "7654"), strict=True)]
    wanted = [int(digit) for digit in (mask or letter + "3210"[-lanes:])[1:]]
    if target == SINK:
        return None

    def source(a, b, digit, kind):
        word, index = (a, int(digit)) if int(digit) < lanes else (b, int(digit) - lanes)
        return piece(word, index, bits, kind[0] == "s")

    def one(a, b, k):
        left, right = source(a, b, orders[0][k], a_kind), source(a, b, orders[1][k], b_kind)
        if name == "set":
            return COMPARE[next(part for part in i.parts[1:] if part in COMPARE)](left, right).astype(np.int64)
        value = FUNCTIONS[name](left, right)
        return clamped(value, result[0] == "s", bits) if i.has("sat") else value

    def run(a, b, c=ZERO):
        if i.parts[-1] == "add":
            return word_of(c.astype(np.int64) + sum(one(a, b, k) for k in wanted))
        for k in wanted:
            c = merged(one(a, b, k), f"{letter}{k}", c)
        return c
    return Step(run, reads, [(target, "b32")], "integer")
