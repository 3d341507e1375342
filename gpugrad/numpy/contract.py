"""Products of vectors, matrices and arrays, by NumPy's names. Sums run through BLAS, and so do their derivatives."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy

from gpugrad.arrays import short
from gpugrad.errors import ArgumentError, AxisError, ShapeError
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.numpy._arguments import as_tensors, normalize_axis, one_axis, to_dtype, write_out

__all__ = ["convolve", "correlate", "cross", "dot", "inner", "kron", "matmul", "matvec", "outer", "tensordot", "vdot",
           "vecdot", "vecmat"]


def matmul(x1: Any, x2: Any, /, out: Any = None, *, dtype: Any = None) -> Tensor:
    """The matrix product: y[..., i, j] = sum_k x1[..., i, k] x2[..., k, j].

    x1      (..., n, k), or (k,) for one row that is dropped from the result
    x2      (..., k, m), or (k,) for one column that is dropped from the result
    return  (..., n, m); the leading axes broadcast

    Raises ShapeError where inner sizes differ, leading axes do not broadcast, or an operand has no axes.
    """
    a, b = (to_dtype("matmul", x, dtype) for x in as_tensors("matmul", x1, x2))
    return write_out("matmul", out, T.matmul(a, b))


def dot(a: Any, b: Any, out: Any = None) -> Tensor:
    """y[..., i, ..., j] = sum_k a[..., i, k] b[..., k, j]: the product of numbers, vectors and matrices.

    A number multiplies. Unlike matmul, leading axes do not broadcast: those of a come before those of b.
    """
    a, b = as_tensors("dot", a, b)
    if not a.ndim or not b.ndim:
        y = T.multiply(a, b)
    elif b.ndim <= 2:
        require_equal_lengths("dot", a, b, a.ndim - 1, max(b.ndim - 2, 0))
        y = T.matmul(a, b)
    else:
        y = contracted("dot", a, b, [a.ndim - 1], [b.ndim - 2])
    return write_out("dot", out, y)


def vdot(a: Any, b: Any, /) -> Tensor:
    """sum conj(a) b over all elements, read as vectors."""
    a, b = (flat(x) for x in as_tensors("vdot", a, b))
    require_equal_lengths("vdot", a, b, 0, 0)
    return T.matmul(conjugate(a), b)


def inner(a: Any, b: Any, /) -> Tensor:
    """y[..., i, ..., j] = sum_k a[..., i, k] b[..., j, k], over the last axis of both. A number multiplies."""
    a, b = as_tensors("inner", a, b)
    if not a.ndim or not b.ndim:
        return T.multiply(a, b)
    return contracted("inner", a, b, [a.ndim - 1], [b.ndim - 1])


def outer(a: Any, b: Any, out: Any = None) -> Tensor:
    """y[i, j] = a[i] b[j], for a and b read as vectors."""
    a, b = (flat(x) for x in as_tensors("outer", a, b))
    return write_out("outer", out, T.multiply(T.reshape(a, shape=(a.size, 1)), b))


def tensordot(a: Any, b: Any, axes: Any = 2) -> Tensor:
    """The sum of products over several axes; the axes of a that remain come before those of b.

    axes    an int n: the last n axes of a with the first n of b; or two sequences of axes, one for each operand

    Raises ShapeError where the lengths of paired axes differ.
    """
    a, b = as_tensors("tensordot", a, b)
    if isinstance(axes, int | numpy.integer):
        if not 0 <= axes <= min(a.ndim, b.ndim):
            raise AxisError(f"tensordot: expected axes from 0 to {min(a.ndim, b.ndim)}, got {axes}. Check the operands' axes.")
        return contracted("tensordot", a, b, list(range(a.ndim - int(axes), a.ndim)), list(range(int(axes))))
    try:
        left, right = [tuple(part) if isinstance(part, Sequence | numpy.ndarray) else (part,) for part in axes]
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"tensordot: expected an int or two sequences of axes, got {short(axes)}. "
                            "Give one for each operand.") from error
    of_a, of_b = normalize_axis("tensordot", left, a.ndim), normalize_axis("tensordot", right, b.ndim)
    if len(of_a) != len(of_b):
        raise ShapeError(f"tensordot: expected as many axes of a as of b, got {of_a} and {of_b}. Pair them.")
    return contracted("tensordot", a, b, of_a, of_b)


def contracted(op: str, a: Tensor, b: Tensor, of_a: Sequence[int], of_b: Sequence[int]) -> Tensor:
    """The sum over pairs of axes, as an einsum."""
    for i, j in zip(of_a, of_b, strict=True):
        require_equal_lengths(op, a, b, i, j)
    left = [chr(97 + i) for i in range(a.ndim)]
    right = [chr(97 + a.ndim + j) for j in range(b.ndim)]
    for i, j in zip(of_a, of_b, strict=True):
        right[j] = left[i]
    out = [c for i, c in enumerate(left) if i not in of_a] + [c for j, c in enumerate(right) if j not in of_b]
    return T.einsum(a, b, subscripts=f"{''.join(left)},{''.join(right)}->{''.join(out)}")


def vecdot(x1: Any, x2: Any, /, out: Any = None, *, axis: int = -1) -> Tensor:
    """sum conj(x1) x2 along one axis; the others broadcast."""
    a, b = as_tensors("vecdot", x1, x2)
    require_axes("vecdot", a, 1)
    require_axes("vecdot", b, 1)
    a, b = (T.moveaxis(x, source=one_axis("vecdot", axis, x.ndim), destination=x.ndim - 1) for x in (a, b))
    require_equal_lengths("vecdot", a, b, a.ndim - 1, b.ndim - 1)
    y = T.matmul(T.reshape(conjugate(a), shape=(*a.shape[:-1], 1, a.shape[-1])), T.reshape(b, shape=(*b.shape, 1)))
    return write_out("vecdot", out, T.reshape(y, shape=y.shape[:-2]))


def matvec(x1: Any, x2: Any, /, out: Any = None) -> Tensor:
    """Matrices times vectors: x1 (..., n, k), x2 (..., k), result (..., n); the leading axes broadcast."""
    a, v = as_tensors("matvec", x1, x2)
    require_axes("matvec", a, 2)
    require_axes("matvec", v, 1)
    if v.ndim == 1:
        return write_out("matvec", out, T.matmul(a, v))
    y = T.matmul(a, T.reshape(v, shape=(*v.shape, 1)))
    return write_out("matvec", out, T.reshape(y, shape=y.shape[:-1]))


def vecmat(x1: Any, x2: Any, /, out: Any = None) -> Tensor:
    """Conjugated vectors times matrices: x1 (..., n), x2 (..., n, m), result (..., m); the leading axes broadcast."""
    v, a = as_tensors("vecmat", x1, x2)
    require_axes("vecmat", v, 1)
    require_axes("vecmat", a, 2)
    v = conjugate(v)
    if v.ndim == 1:
        return write_out("vecmat", out, T.matmul(v, a))
    y = T.matmul(T.reshape(v, shape=(*v.shape[:-1], 1, v.shape[-1])), a)
    return write_out("vecmat", out, T.reshape(y, shape=(*y.shape[:-2], y.shape[-1])))


def kron(a: Any, b: Any) -> Tensor:
    """Every element of a times all of b, in blocks: y[i n + j] = a[i] b[j], for each axis."""
    a, b = as_tensors("kron", a, b)
    rank = max(a.ndim, b.ndim)
    left, right = ((1,) * (rank - x.ndim) + x.shape for x in (a, b))
    a = T.reshape(a, shape=tuple([n for length in left for n in (length, 1)]))
    b = T.reshape(b, shape=tuple([n for length in right for n in (1, length)]))
    return T.reshape(T.multiply(a, b), shape=tuple([m * n for m, n in zip(left, right, strict=True)]))


def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None) -> Tensor:
    """The vector product a x b of vectors of length 3, or 2 with third component 0; the other axes broadcast.

    axisa, axisb  the axis of the components in a and b
    axisc         where they go in the result; two operands of length 2 have only the third component, without an axis
    axis          one number for all three

    Raises ShapeError for vectors of another length.
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    vectors = []
    for x, k in zip(as_tensors("cross", a, b), (axisa, axisb), strict=True):
        x = T.moveaxis(x, source=one_axis("cross", k, x.ndim), destination=x.ndim - 1)
        if x.shape[-1] not in (2, 3):
            raise ShapeError(f"cross: expected vectors of length 2 or 3, got {x.shape[-1]}. Check the axis.")
        vectors.append(x)
    flat_ones = all(x.shape[-1] == 2 for x in vectors)
    a, b = (T.pad(x, pad_width=((0, 0),) * (x.ndim - 1) + ((0, 1),)) if x.shape[-1] == 2 else x for x in vectors)
    y = T.cross(a, b)
    if flat_ones:
        return T.getitem(y, index=(..., 2))
    return T.moveaxis(y, source=y.ndim - 1, destination=one_axis("cross", axisc, y.ndim))


def convolve(a: Any, v: Any, mode: str = "full") -> Tensor:
    """y[k] = sum_i a[i] v[k - i] of two vectors.

    mode    "full": wherever they overlap, n + m - 1 elements; "same": the middle max(n, m) of them; "valid": where the
            shorter one lies inside, max - min + 1

    Raises ShapeError for operands that are not vectors, or empty.
    """
    a, v = vectors_of("convolve", a, v)
    return convolved("convolve", a, v, mode)


def correlate(a: Any, v: Any, mode: str = "valid") -> Tensor:
    """y[k] = sum_i a[i + k] conj(v[i]) of two vectors; for mode see `convolve`."""
    a, v = vectors_of("correlate", a, v)
    return convolved("correlate", a, T.flip(conjugate(v), axis=(0,)), mode)


def vectors_of(op: str, *xs: Any) -> list[Tensor]:
    vectors = []
    for x in as_tensors(op, *xs):
        x = T.reshape(x, shape=(1,)) if not x.ndim else x
        if x.ndim > 1 or not x.size:
            raise ShapeError(f"{op}: expected vectors with at least one element, got shape {x.shape}. "
                             "Convolve along one axis at a time.")
        vectors.append(x)
    return vectors


def convolved(op: str, a: Tensor, v: Tensor, mode: str) -> Tensor:
    if mode in ("full", "valid"):
        return T.convolve(a, v, mode=mode)
    if mode != "same":
        raise ArgumentError(f"{op}: expected mode 'full', 'same' or 'valid', got {mode!r}. Choose one.")
    y = T.convolve(a, v, mode="full")
    n, m = max(a.size, v.size), min(a.size, v.size)
    start = (m - 1) // 2
    if op == "correlate" and v.size > a.size:                    # NumPy correlates the other way round and turns the result
        start = m // 2
    return T.getitem(y, index=slice(start, start + n))


# checks -------------------------------------------------------------------------------------------------------------------

def flat(x: Tensor) -> Tensor:
    return x if x.ndim == 1 else T.reshape(x, shape=(math.prod(x.shape),))


def conjugate(x: Tensor) -> Tensor:
    return T.conj(x) if x.dtype.kind == "c" else x


def require_axes(op: str, x: Tensor, n: int) -> None:
    if x.ndim < n:
        raise ShapeError(f"{op}: expected at least {n} {'axis' if n == 1 else 'axes'}, got shape {x.shape}. "
                         "Add axes of length 1.")


def require_equal_lengths(op: str, a: Tensor, b: Tensor, i: int, j: int) -> None:
    if a.shape[i] != b.shape[j]:
        raise ShapeError(f"{op}: expected axis {i} of a and axis {j} of b to have one length, got a {a.shape} and b {b.shape}. "
                         "Transpose, or name other axes.")
