"""Quotients and remainders as NumPy has them, of floats and of whole numbers, in LLVM instructions.

Rounded down: the remainder has the sign of the divisor. A whole number divided by 0 is 0, and the least one by -1 itself, where
LLVM's own instructions would stop the process.
"""
from __future__ import annotations

from gpugrad.flat.llvm import Body, Node


def fmod(b: Body, x: Node, y: Node) -> Node:
    """x - y trunc(x / y), exactly."""
    return x.op("frem", y) if x.is_float else defined(x, y, "srem")


def remainder(b: Body, x: Node, y: Node) -> Node:
    """x - y floor(x / y); of floats exactly up to the last addition, and 0 has the sign of y."""
    rest = fmod(b, x, y)
    if not x.is_float:
        return crosses(rest, y).where(rest + y, rest)
    moved = (y.compare("olt", 0.0) ^ rest.compare("olt", 0.0)).where(rest + y, rest)
    moved = rest.compare("oeq", 0.0).where(b.intrinsic("copysign", x.like(0.0), y), moved)
    return y.compare("oeq", 0.0).where(rest, moved)


def floor_divide(b: Body, x: Node, y: Node) -> Node:
    """floor(x / y), from the exact remainder, so that no rounding of x / y up to a whole number counts."""
    if not x.is_float:
        quotient, rest = defined(x, y, "sdiv"), defined(x, y, "srem")
        return crosses(rest, y).where(quotient - 1, quotient)
    rest, ratio = x.op("frem", y), x / y
    whole = (x - rest) / y
    down = rest.compare("une", 0.0) & (y.compare("olt", 0.0) ^ rest.compare("olt", 0.0))
    whole = down.where(whole - 1.0, whole)
    floor = b.intrinsic("floor", whole)
    floor = (whole - floor).compare("ogt", 0.5).where(floor + 1.0, floor)
    floor = whole.compare("oeq", 0.0).where(b.intrinsic("copysign", x.like(0.0), ratio), floor)
    return y.compare("oeq", 0.0).where(ratio, floor)


def defined(x: Node, y: Node, how: str) -> Node:
    """x how y, by 1 where y is 0 and by -1 as the negative: the quotient of the least number and -1 has no place."""
    zero, minus = y.compare("eq", 0), y.compare("eq", -1)
    found = x.op(how, (zero | minus).where(1, y))
    return zero.where(0, minus.where(-x if how == "sdiv" else x.like(0), found))


def crosses(rest: Node, y: Node) -> Node:
    """Whether the truncated quotient is above the true one."""
    return rest.compare("ne", 0) & (rest ^ y).compare("slt", 0)
