"""Where arrays are, as numbers: views, parts and transposes are arithmetic on them."""
from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy


class Spot(NamedTuple):
    """Where an array is: `start` bytes into the array at env[place], or at address `start` where place is None.

    strides  in bytes, one for each axis of `shape`
    """

    place: int | None
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int

    @classmethod
    def of(cls, shape: tuple[int, ...], dtype: Any, start: Spot) -> Spot:
        """A contiguous array where `start` is."""
        dtype = numpy.dtype(dtype)
        strides = [dtype.itemsize] * len(shape)
        for axis in range(len(shape) - 1, 0, -1):
            strides[axis - 1] = strides[axis] * shape[axis]
        return cls(start.place, start.start, shape, tuple(strides), dtype.itemsize)

    @property
    def contiguous(self) -> bool:
        step = self.itemsize
        for n, stride in zip(self.shape[::-1], self.strides[::-1], strict=True):
            if n != 1 and stride != step:
                return False
            step *= n
        return True

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.itemsize


def matrix(x: Spot, first: bool) -> Spot:
    """A vector as a row, where it is the first factor, or as a column."""
    if len(x.shape) > 1:
        return x
    n, step = x.shape[0], x.strides[0]
    return x._replace(shape=(1, n), strides=(n * step, step)) if first else x._replace(shape=(n, 1), strides=(step, x.itemsize))


def item(x: Spot, index: tuple[int, ...], shape: tuple[int, ...] = ()) -> Spot:
    """One matrix of a batch, which is broadcast to that of `index`. `shape`: what the matrix is where its axes are fewer."""
    outer = min(len(x.shape), len(index)) if shape else len(x.shape) - 2
    start = sum(i * s for i, n, s in zip(index[len(index) - outer:], x.shape, x.strides, strict=False) if n != 1)
    if shape:                                                # a result: contiguous
        return x._replace(start=x.start + start, shape=shape, strides=(shape[1] * x.itemsize, x.itemsize))
    return x._replace(start=x.start + start, shape=x.shape[-2:], strides=x.strides[-2:])


def as_rows(x: Spot) -> tuple[int, int] | None:
    """(111, row length) for a matrix that BLAS reads by rows, (112, row length) for one whose transpose it is; else None."""
    (m, n), (down, right), size = x.shape, x.strides, x.itemsize
    for transposed, rows, cols, row, column in ((111, m, n, down, right), (112, n, m, right, down)):
        if (column == size or cols == 1) and (rows == 1 or (row >= cols * size and row % size == 0)):
            return transposed, max(row // size if rows > 1 else cols, cols, 1)
    return None


def aligned(size: int) -> numpy.ndarray:
    """`size` bytes from a multiple of 64 on."""
    block = numpy.empty(size + 64, numpy.uint8)
    start = -address(block) % 64
    return block[start:start + size]


def address(x: numpy.ndarray) -> int:
    return x.__array_interface__["data"][0]
