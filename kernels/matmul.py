"""Matrix products of the GPU: which of our kernel, cuBLASLt and CuPy multiplies, so that no matrix is copied.

    multiply(a, b, out, beta=1.0)        out += a b for stacks of matrices, whatever their leading dimensions and transposes
    matmul(xp)(a, b)                     numpy.matmul: vectors, broadcast stacks, empty and mixed operands too
    linear(x, w, b)                      x wᵀ + b, the bias in the product's epilogue
    linear_gradients(g, x, w)            g w; gᵀ x together with the sum of g over its rows

Small products go to gemm.cu: up to SMALL_WORK multiply-adds and SMALL_INNER along the sum. Such a product is latency, which no
larger tile shortens, and the kernel needs no search for an algorithm, takes any address and repeats bit for bit. The limits are
derived, not timed: a block passes 16 of K between two barriers, about half a microsecond, so that 128 cost what a launch does.
Stacks with two strides, as the heads of rows side by side, cuBLASLt takes only as copies: gemm.cu multiplies them where they lie,
up to SPREAD_WORK multiply-adds, which at a third of an H100's 67 TFLOP/s last as long as the launch of a copy. All else goes to
cuBLASLt, and what that refuses to CuPy; `gpugrad info` says why.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import numpy

from gpugrad.arrays import module_of, products
from gpugrad.errors import ArgumentError
from gpugrad.kernels.instances import INSTANCES
from gpugrad.kernels.launch import launch
from gpugrad.kernels.load import Source

GEMM = Source("gemm.cu", INSTANCES["gemm.cu"])
SMALL_WORK = 1 << 20
SPREAD_WORK = 1 << 24
SMALL_INNER = 128
TILE, THREADS, MOST_BATCHES = 64, 256, 65535
DTYPES = "efd"                                  # complex products are CuPy's
PRECISIONS = {"float32": None, "tf32": "tf32", "bf16": "bf16"}

_precision: ContextVar[str | None] = ContextVar("gpugrad_matmul_precision", default=None)
_relu: ContextVar[bool] = ContextVar("gpugrad_relu_epilogue", default=False)
_gelu: ContextVar[bool] = ContextVar("gpugrad_gelu_epilogue", default=False)
_small: dict[tuple, Small | None] = {}


@cache
def lt() -> Any:
    """cublaslt.py, at the first product of a GPU: its descriptors take longer to import than all other kernels."""
    from gpugrad.kernels import cublaslt
    return cublaslt


@contextmanager
def matmul_precision(name: str) -> Iterator[None]:
    """What float32 matrix products on the GPU may round their inputs to, inside the `with`, in this context.

    name   "float32" (the default: no rounding), "tf32" (10 bits of mantissa) or "bf16" (7 bits); sums are float32 in all three

    Backward passes follow the context that they run in. Small products and those that cuBLASLt does not take stay float32.
    """
    if name not in PRECISIONS:
        raise ArgumentError(f"matmul_precision: expected {', '.join(map(repr, PRECISIONS))}, got {name!r}. Choose one.")
    with holding((_precision, PRECISIONS[name])):
        yield


@contextmanager
def relu_epilogue(allowed: bool = True) -> Iterator[None]:
    """Whether cuBLASLt may apply the ReLU of `nn.linear(..., activation="relu")` in the product itself, inside the `with`.

    That saves a launch forward and one back; by default it is off, since there a NaN becomes 0, where numpy.maximum keeps it.
    """
    with holding((_relu, bool(allowed))):
        yield


@contextmanager
def gelu_epilogue(allowed: bool = True) -> Iterator[None]:
    """Whether cuBLASLt may apply `gelu(linear(x, w, b), approximate="tanh")` in the product itself, inside the `with`.

    That saves compiled programs a launch and a pass over the layer; by default it is off, since NVIDIA states no bound for the
    error of that tanh, where our own kernel's is tested. Rows of no multiple of 8 elements keep their own launch.
    """
    with holding((_gelu, bool(allowed))):
        yield


@contextmanager
def holding(*values: tuple[ContextVar, Any]) -> Iterator[None]:
    """Context variables at these values, inside the `with`."""
    tokens = [(variable, variable.set(value)) for variable, value in values]
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def relu_in_epilogue() -> bool:
    return _relu.get()


def modes() -> tuple:
    """What the context says of products: launches that are recorded now repeat it."""
    return _precision.get(), _relu.get(), _gelu.get()


@contextmanager
def in_modes(precision: str | None, relu: bool, gelu: bool) -> Iterator[None]:
    """The modes of another time, inside the `with`."""
    with holding((_precision, precision), (_relu, relu), (_gelu, gelu)):
        yield


def matmul(xp: Any) -> Callable:
    """a @ b on arrays of a GPU's module; NumPy's own for NumPy."""
    plain = products.matmul(xp)
    if not hasattr(xp, "cuda"):
        return plain

    def run(a, b):
        if not (hasattr(a, "ndim") and hasattr(b, "ndim") and a.ndim and b.ndim):              # a number is no operand either
            raise products.matmul_error(a, b)
        if a.dtype != b.dtype or a.dtype.char not in DTYPES:
            return lt().by_cupy(plain(a, b), a, b)
        left = a if a.ndim > 1 else a[None, :]
        right = b if b.ndim > 1 else b[:, None]
        lead = left.shape[:-2]
        if right.ndim > 2 and right.shape[:-2] != lead:
            try:
                lead = numpy.broadcast_shapes(lead, right.shape[:-2])
            except ValueError as error:
                raise products.matmul_error(a, b) from error
        if left.shape[-1] != right.shape[-2]:
            raise products.matmul_error(a, b)
        y = multiply(left, right, xp.empty((*lead, left.shape[-2], right.shape[-1]), a.dtype))
        if a.ndim > 1 and b.ndim > 1:
            return y
        return y.reshape((*lead, *y.shape[-2:][a.ndim == 1:1 + (b.ndim > 1)]))
    return run


def precision(x: Any) -> str | None:
    """What products of arrays like x may round their inputs to, as cuBLASLt's `compute`."""
    return _precision.get() if x.dtype.char == "f" else None


def multiply(a: Any, b: Any, out: Any, beta: float = 0.0, alpha: float = 1.0) -> Any:
    """out = alpha a @ b + beta out, in place; a (..., M, K), b (..., K, N), out (..., M, N) of one dtype. Returns out."""
    if out.size == 0:
        return out
    if a.shape[-1] == 0:
        if beta == 0:
            out.fill(0)
        elif beta != 1:
            out *= beta
        return out
    a, b = solid(a), solid(b)
    small = small_product(a, b, out)
    if small is not None:
        return run_small(small, a, b, out, beta, alpha)
    return lt().product(a, b, out, alpha=alpha, beta=beta, compute=precision(a))


def solid(x: Any) -> Any:
    """x where rows or columns of its matrices lie together; else a copy, as of a cotangent that was broadcast."""
    (rows, cols), (down, across), size = x.shape[-2:], x.strides[-2:], x.dtype.itemsize
    if (cols == 1 or across == size) and (rows == 1 or down >= cols * size):
        return x
    if (rows == 1 or down == size) and (cols == 1 or across >= rows * size):
        return x
    return module_of(x).ascontiguousarray(x)


def linear(x: Any, w: Any, b: Any = None) -> Any:
    """y = x wᵀ + b for x (rows, in), w (out, in), b (out,) or None, of one dtype: one launch where cuBLASLt takes it."""
    y = module_of(x).empty((x.shape[0], w.shape[0]), x.dtype)
    if b is None or 0 in (*x.shape, y.size) or not b.flags.c_contiguous:
        multiply(x, w.T, y)
        if b is not None:
            y += b
        return y
    try:
        return lt().matmul(x, w.T, y, epilogue="bias", vector=b, compute=precision(x))
    except lt().LtUnsupportedError:
        multiply(x, w.T, y)
        y += b
        return y


def linear_gradients(g: Any, x: Any, total: Any = None) -> tuple[Any, Any]:
    """(gᵀ x, the sum of g over its rows) for g (rows, out) and x (rows, in): one launch where cuBLASLt takes it.

    total   an array (out, in) that gᵀ x is added to, and that is returned as the first
    """
    xp = module_of(g)
    dw = xp.empty((g.shape[1], x.shape[1]), g.dtype) if total is None else total
    beta = 0.0 if total is None else 1.0
    g, x = solid(g), solid(x)
    if 0 not in (*g.shape, *x.shape):
        db = xp.empty(g.shape[1:], g.dtype)
        try:
            lt().matmul(g.T, x, dw, beta=beta, epilogue="sum_a", vector=db, compute=precision(x))
            return dw, db
        except lt().LtUnsupportedError:
            pass
    return multiply(g.T, x, dw, beta), g.sum(axis=0, dtype=g.dtype)


# small products -----------------------------------------------------------------------------------------------------------

class Small(NamedTuple):
    """A product as gemm.cu takes it."""

    transposed: tuple[bool, bool]
    grid: tuple[int, int, int]
    sizes: tuple[int, ...]           # M, N, K, leading dimensions and batch strides of a, b and d
    outer: tuple[int, ...]           # how many batches the inner axis has, strides of the outer one
    vectors: bool                    # whether all of them are multiples of 16 bytes
    flops: int


class Described(NamedTuple):
    """What a plan reads of an array."""

    dtype: Any
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def small_product(a: Any, b: Any, out: Any) -> Small | None:
    """How gemm.cu multiplies these, or None where that is not its business. Reads shapes, strides and dtype only."""
    if out.size * a.shape[-1] > SPREAD_WORK or a.shape[-1] > SMALL_INNER:
        return None
    key = (a.dtype, a.shape, a.strides, b.shape, b.strides, out.shape, out.strides)
    if key not in _small:
        _small[key] = find_small(a, b, out)
    return _small[key]


def find_small(a: Any, b: Any, out: Any) -> Small | None:
    """gemm.cu is row-major and cuBLASLt is not, so that Lt's A is our b, and its m our N."""
    axes = lt().batch_axes(out.shape[:-2], (a, b, out))
    if len(axes) > 2 or len(axes) < 2 and out.size * a.shape[-1] > SMALL_WORK:
        return None
    count, outer = 1, [0, 0, 0]
    if len(axes) == 2:
        (count, outer), (size, steps) = axes
        a, b, out = (Described(x.dtype, (size, *x.shape[-2:]), (step, *x.strides[-2:]))
                     for x, step in zip((a, b, out), steps, strict=True))
        if not outer[2] or any(step % a.dtype.itemsize for step in outer):
            return None
    try:
        one = lt().plan(a, b, out)
    except lt().LtUnsupportedError:
        return None
    if not one.swapped or count * one.batch > MOST_BATCHES:
        return None
    m, n = one.n, one.m
    sizes = (m, n, one.k, one.b.ld, one.a.ld, one.d.ld, one.b.batch_stride, one.a.batch_stride, one.d.batch_stride)
    apart = tuple([step // a.dtype.itemsize for step in outer])
    return Small((one.transpose_b, one.transpose_a), (-(-m // TILE) * -(-n // TILE), 1, count * one.batch), sizes,
                 (one.batch, *apart), math.gcd(16, *(size * a.dtype.itemsize for size in (*sizes, *apart))) == 16,
                 count * one.flops)


def run_small(small: Small, a: Any, b: Any, out: Any, beta: float, alpha: float) -> Any:
    width = 16 // a.dtype.itemsize if small.vectors and not (a.data.ptr | b.data.ptr | out.data.ptr) & 15 else 1
    launch(GEMM, "gemm", (a.dtype, width, *small.transposed, 0), small.grid, THREADS,
           (a, b, None, out, None, None, *small.sizes, *small.outer, small.sizes[2], alpha, beta), strided=("a", "b", "d"),
           flops=small.flops, reads=(a, b, out) if beta else (a, b))
    return out
