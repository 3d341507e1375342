"""Products of arrays, over matmul. Each function takes the array module, or a product, and returns the raw function."""
from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy

from gpugrad.errors import ShapeError


def matmul(xp: Any) -> Callable:
    """a @ b. A stack of matrices times one matrix is one product: the stack's rows follow each other in memory."""
    product = xp.matmul

    def run(a, b):
        try:
            if b.ndim == 2 < a.ndim and a.flags.c_contiguous and a.shape[-1] == b.shape[0] > 0:
                return product(a.reshape(-1, b.shape[0]), b).reshape(*a.shape[:-1], b.shape[1])
            return product(a, b)
        except (ValueError, AttributeError) as error:
            raise matmul_error(a, b) from error
    return run


def matmul_error(a: Any, b: Any) -> ShapeError:
    got = f"got a {numpy.shape(a)} and b {numpy.shape(b)}"
    if not numpy.ndim(a) or not numpy.ndim(b):
        return ShapeError(f"matmul: expected operands with at least one axis, {got}. Use * for numbers.")
    if numpy.shape(a)[-1] != numpy.shape(b)[-2:][0]:
        return ShapeError(f"matmul: inner sizes must agree, {got}. Transpose b, or check the batch axes.")
    return ShapeError(f"matmul: batch axes must broadcast, {got}. Insert axes of length 1 with [:, None].")


def einsum(product: Callable) -> Callable:
    """einsum of operands whose axes all have letters of their own; two operands at a time, by product(a, b) where it sums."""
    def run(*xs, subscripts):
        plan = plan_of(subscripts)
        if plan is not None:
            return pair(xs[0], xs[1], plan)
        operands, out = subscripts.split("->")
        terms = operands.split(",")
        x, term = xs[0], terms[0]
        for i in range(1, len(xs)):
            needed = out + "".join(terms[i + 1:])
            result = out if i == len(xs) - 1 else "".join(dict.fromkeys(c for c in term + terms[i] if c in needed))
            a, left = alone_summed(x, term, terms[i] + needed)
            b, right = alone_summed(xs[i], terms[i], term + needed)
            x, term = pair(a, b, pair_plan(left, right, result)), result
        x, term = alone_summed(x, term, out)
        return x if term == out else x.transpose([term.index(c) for c in out])

    def alone_summed(x, term, others):
        axes = tuple([i for i, c in enumerate(term) if c not in others])
        return (x.sum(axis=axes, dtype=x.dtype), "".join([c for c in term if c in others])) if axes else (x, term)

    def pair(a, b, plan):
        if plan.swapped:
            a, b = b, a
        if plan.a:
            a = a.transpose(plan.a)
        if plan.b:
            b = b.transpose(plan.b)
        if not plan.sums:
            return a[plan.a_axes] * b[plan.b_axes]
        if plan.matrices:
            y = product(a, b)
        else:
            batch, inner = a.shape[:plan.batch], a.shape[plan.batch + plan.rows:]
            rows, columns = a.shape[plan.batch:plan.batch + plan.rows], b.shape[plan.batch + len(inner):]
            if batch + inner != b.shape[:plan.batch + len(inner)]:
                raise ShapeError(f"einsum: expected one length for each letter, got {batch + inner} and "
                                 f"{b.shape[:plan.batch + len(inner)]} for those that both operands have. Check the subscripts.")
            n = math.prod(inner)
            y = product(a.reshape(*batch, math.prod(rows), n), b.reshape(*batch, n, math.prod(columns)))
            y = y.reshape((*batch, *rows, *columns))
        return y.transpose(plan.order) if plan.order else y
    return run


class PairPlan(NamedTuple):
    """How two operands meet in a matmul, or in a product where nothing is summed. () is a transposition that does nothing."""

    a: tuple                     # the transposition of a to (batch, rows, inner)
    b: tuple                     # the transposition of b to (batch, inner, columns)
    sums: bool
    swapped: bool = False        # the second operand has the rows, so that the result need not be transposed
    matrices: bool = False       # one axis each of rows, inner and columns: nothing to reshape
    batch: int = 0               # how many axes of each kind
    rows: int = 0
    order: tuple = ()            # the transposition of the result
    a_axes: tuple = ()           # where nothing is summed: axes of length 1 for those of the other operand
    b_axes: tuple = ()


@functools.lru_cache(1024)
def plan_of(subscripts: str) -> PairPlan | None:
    """The plan of two operands of which no axis is summed alone; None for anything else."""
    operands, out = subscripts.split("->")
    terms = operands.split(",")
    if len(terms) != 2 or not all(c in out or (c in terms[0] and c in terms[1]) for c in terms[0] + terms[1]):
        return None
    return pair_plan(*terms, out)


@functools.lru_cache(1024)
def pair_plan(left: str, right: str, out: str) -> PairPlan:
    inner = [c for c in left if c in right and c not in out]
    if not inner:
        return PairPlan(moved(left, [c for c in out if c in left]), moved(right, [c for c in out if c in right]), sums=False,
                        a_axes=tuple([slice(None) if c in left else None for c in out]),
                        b_axes=tuple([slice(None) if c in right else None for c in out]))
    batch = [c for c in out if c in left and c in right]
    rows = [c for c in left if c not in right]
    columns = [c for c in right if c not in left]
    if list(out) == batch + columns + rows and rows and columns:
        return pair_plan(right, left, out)._replace(swapped=True)
    return PairPlan(moved(left, batch + rows + inner), moved(right, batch + inner + columns), sums=True,
                    matrices=len(rows) == len(inner) == len(columns) == 1, batch=len(batch), rows=len(rows),
                    order=moved("".join(batch + rows + columns), list(out)))


def moved(term: str, wanted: list[str]) -> tuple:
    """The transposition from one order of letters to another."""
    return () if list(term) == wanted else tuple(map(term.index, wanted))


def cross(xp: Any) -> Callable:
    """a x b over last axes of length 3."""
    def run(a, b):
        a0, a1, a2 = a[..., 0], a[..., 1], a[..., 2]
        b0, b1, b2 = b[..., 0], b[..., 1], b[..., 2]
        return xp.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], axis=-1)
    return run
