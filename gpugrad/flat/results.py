"""Arrays for the results of a program: memory that nobody sees any longer is taken again, because its pages are there."""
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy

from gpugrad.arrays.memory import exclusive

#: Bytes of a result from which it is kept, and up to which. The system gives smaller ones at once, and keeping what is larger
#: would hold memory that others need.
LEAST, MOST = 1 << 18, 1 << 28
#: While the caller holds the last result, the next is made.
KEPT = 2


def maker(shape: tuple[int, ...], dtype: Any) -> Callable[[], numpy.ndarray]:
    """A function that gives an array with any contents, which nobody else can see."""
    size = numpy.dtype(dtype).itemsize * numpy.prod(shape, dtype=numpy.int64)
    return Recycled(shape, dtype) if LEAST <= size <= MOST else functools.partial(numpy.empty, shape, dtype)


class Recycled:
    """Its last results are kept; the first of them that no one else refers to is the next. Threads may share it."""

    def __init__(self, shape: tuple[int, ...], dtype: Any):
        self.shape, self.dtype = shape, dtype
        self.kept: list[numpy.ndarray] = []

    def __call__(self) -> numpy.ndarray:
        for _ in range(KEPT):
            try:
                array = self.kept.pop(0)                     # no other thread has it now
            except IndexError:
                break
            free = exclusive(array)
            self.kept.append(array)
            if free:
                return array
        array = numpy.empty(self.shape, self.dtype)
        self.kept = [*self.kept[1 - KEPT:], array]
        return array
