"""Raw functions where NumPy and CuPy differ, or where neither offers what a rule needs. Each takes the module first."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from gpugrad.errors import ShapeError


class _Array:
    """In an index, the place of an index array; the arrays themselves are inputs of the operation."""

    def __repr__(self) -> str:
        return "array"


ARRAY = _Array()


def filled(index: tuple, arrays: tuple) -> tuple:
    """The index with its arrays in their places."""
    if len(index) == len(arrays):
        return arrays
    rest = iter(arrays)
    return tuple([next(rest) if item is ARRAY else item for item in index])


# products ---------------------------------------------------------------------------------------------------------------

def matmul(xp: Any) -> Callable:
    """a @ b. A stack of matrices times one matrix is one product: the stack's rows follow each other in memory."""
    product = xp.matmul

    def run(a, b):
        try:
            if b.ndim == 2 < a.ndim and a.flags.c_contiguous and b.shape[0] == a.shape[-1]:
                return product(a.reshape(a.size // max(b.shape[0], 1), b.shape[0]), b).reshape(*a.shape[:-1], b.shape[1])
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
