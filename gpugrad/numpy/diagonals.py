"""Diagonals, triangles and positions, by NumPy's names. Positions are constants; they go to the device they are asked for."""
from __future__ import annotations

import math
from typing import Any

import numpy

from gpugrad.arrays import default_device, module_of, move, short
from gpugrad.errors import ArgumentError, IndexingError, ShapeError
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor, bare
from gpugrad.graph.views import read_only
from gpugrad.numpy._arguments import as_int, as_tensor, as_tensors, device_beside, one_axis, to_dtype, write_out
from gpugrad.numpy.index import setitem
from gpugrad.numpy.selection import flat, integers, places_of, repeated, target, update

__all__ = ["diag", "diag_indices", "diag_indices_from", "diagflat", "diagonal", "fill_diagonal", "ix_", "ravel_multi_index",
           "trace", "tril", "tril_indices", "tril_indices_from", "triu", "triu_indices", "triu_indices_from", "unravel_index"]


# diagonals and triangles --------------------------------------------------------------------------------------------------

def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The elements with equal indices along two axes, offset to the right; they run along the last axis of the result."""
    x = as_tensor("diagonal", a)
    if x.ndim < 2:
        raise ShapeError(f"diagonal: expected at least two axes, got shape {x.shape}. Use diag to make a matrix of a vector.")
    axis1, axis2 = one_axis("diagonal", axis1, x.ndim), one_axis("diagonal", axis2, x.ndim)
    if axis1 == axis2:
        raise ArgumentError(f"diagonal: expected two different axes, got {axis1} twice. Name another.")
    return read_only(T.diagonal(x, offset=as_int("diagonal", "offset", offset), axis1=axis1, axis2=axis2))


def diag(v: Any, k: int = 0) -> Tensor:
    """The k-th diagonal of a matrix, or the matrix with a vector as its k-th diagonal."""
    x, k = as_tensor("diag", v), as_int("diag", "k", k)
    if x.ndim not in (1, 2):
        raise ShapeError(f"diag: expected a vector or a matrix, got shape {x.shape}. Use diagonal for more axes.")
    if x.ndim == 2:
        return read_only(T.diagonal(x, offset=k, axis1=0, axis2=1))
    n = x.size + abs(k)
    return T.from_diagonal(x, offset=k, axis1=0, axis2=1, shape=(n, n))


def diagflat(v: Any, k: int = 0) -> Tensor:
    """The matrix with all elements of v as its k-th diagonal."""
    return diag(flat(as_tensor("diagflat", v)), k)


def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Tensor:
    """The sum along a diagonal of two axes: see `diagonal`."""
    d = to_dtype("trace", diagonal(a, offset, axis1, axis2), dtype)
    return write_out("trace", out, T.sum(d, axis=(d.ndim - 1,), keepdims=False))


def tril(m: Any, k: int = 0) -> Tensor:
    """m with zeros above the k-th diagonal of its last two axes."""
    return T.tril(square("tril", m), k=as_int("tril", "k", k))


def triu(m: Any, k: int = 0) -> Tensor:
    """m with zeros below the k-th diagonal of its last two axes."""
    return T.triu(square("triu", m), k=as_int("triu", "k", k))


def square(op: str, m: Any) -> Tensor:
    """A matrix; NumPy reads a vector as one of equal rows."""
    x = as_tensor(op, m)
    if not x.ndim:
        raise ShapeError(f"{op}: expected at least one axis, got shape (). Pass a matrix.")
    return T.spread(x, shape=(x.size, x.size)) if x.ndim == 1 else x


def fill_diagonal(a: Tensor, val: Any, wrap: bool = False) -> None:
    """Make a what it would be with val on its main diagonal, where all indices are equal; a shorter val repeats.

    wrap  in a tall matrix, start a new diagonal after each square and one empty row
    """
    x = target("fill_diagonal", a)
    if x.ndim < 2 or (x.ndim > 2 and len(set(x.shape)) > 1):
        raise ShapeError(f"fill_diagonal: expected a matrix, or equal lengths of all axes, got shape {x.shape}. Use setitem.")
    step = 1 + sum(math.prod(x.shape[k:]) for k in range(1, x.ndim))
    stop = None if wrap or x.ndim > 2 else x.shape[1] * x.shape[1]
    index = slice(0, stop, step)
    n = len(range(*index.indices(x.size)))
    if n:
        update("fill_diagonal", a, setitem(flat(x), index, repeated("fill_diagonal", val, n, x)))


# positions ----------------------------------------------------------------------------------------------------------------

def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Tensor, ...]:
    """The indices of the elements of an (n, m) matrix on and below the k-th diagonal."""
    return on_device(None, numpy.tril_indices(n, k, m))


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Tensor, ...]:
    """The indices of the elements of an (n, m) matrix on and above the k-th diagonal."""
    return on_device(None, numpy.triu_indices(n, k, m))


def tril_indices_from(arr: Any, k: int = 0) -> tuple[Tensor, ...]:
    """tril_indices for a matrix like arr, on its device."""
    return on_device(arr, numpy.tril_indices(*matrix_shape("tril_indices_from", arr, k)))


def triu_indices_from(arr: Any, k: int = 0) -> tuple[Tensor, ...]:
    """triu_indices for a matrix like arr, on its device."""
    return on_device(arr, numpy.triu_indices(*matrix_shape("triu_indices_from", arr, k)))


def diag_indices(n: int, ndim: int = 2) -> tuple[Tensor, ...]:
    """The indices of the main diagonal of an array with ndim axes of length n."""
    return on_device(None, numpy.diag_indices(n, ndim))


def diag_indices_from(arr: Any) -> tuple[Tensor, ...]:
    """diag_indices for an array like arr, on its device."""
    x = as_tensor("diag_indices_from", arr)
    if x.ndim < 2 or len(set(x.shape)) > 1:
        raise ShapeError(f"diag_indices_from: expected axes of one length, got shape {x.shape}. Use diag_indices(n).")
    return on_device(x, numpy.diag_indices(x.shape[0], x.ndim))


def ix_(*args: Any) -> tuple[Tensor, ...]:
    """Vectors of integers or bools as the indices of the grid that they span: x[ix_(rows, columns)]."""
    vectors = as_tensors("ix_", *args)
    if any(v.ndim != 1 for v in vectors):
        raise ShapeError(f"ix_: expected vectors, got shapes {', '.join(str(v.shape) for v in vectors)}. Flatten them.")
    vectors = [places_of("ix_", v)[0] if v.dtype.kind == "b" else integers("ix_", v) for v in vectors]
    return tuple([T.reshape(v, shape=(1,) * k + v.shape + (1,) * (len(vectors) - 1 - k)) for k, v in enumerate(vectors)])


def unravel_index(indices: Any, shape: Any, order: str = "C") -> tuple[Tensor, ...]:
    """Places in a flattened array as an index array for each axis."""
    return positions("unravel_index", [indices], shape, order=order)


def ravel_multi_index(multi_index: Any, dims: Any, mode: str = "raise", order: str = "C") -> Tensor:
    """An index array for each axis as places in the flattened array."""
    return positions("ravel_multi_index", list(multi_index), dims, mode=mode, order=order)


def positions(op: str, arrays: list, shape: Any, **options: Any) -> Any:
    tensors = [integers(op, a) for a in arrays]
    given = [bare(op, t) for t in tensors]
    try:
        found = getattr(module_of(given[0]), op)(given[0] if op == "unravel_index" else tuple(given), shape, **options)
    except ValueError as error:
        raise IndexingError(f"{op}: expected positions inside shape {shape}, got {short(arrays)} ({error}). "
                            "Check the shape.") from error
    return tuple([as_tensor(op, i) for i in found]) if isinstance(found, tuple | list) else as_tensor(op, found)


def matrix_shape(op: str, arr: Any, k: int) -> tuple[int, int, int]:
    x = as_tensor(op, arr)
    if x.ndim != 2:
        raise ShapeError(f"{op}: expected a matrix, got shape {x.shape}. Use {op.removesuffix('_from')}(n).")
    return x.shape[0], as_int(op, "k", k), x.shape[1]


def on_device(beside: Any, arrays: tuple) -> tuple[Tensor, ...]:
    """Host arrays as Tensors on the device of another array, by default the default one."""
    device = default_device() if beside is None else device_beside(beside)
    return tuple([Tensor(array if device is None else move(array, device)) for array in arrays])
