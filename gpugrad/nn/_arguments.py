"""What the functions of this package do to their arguments before a primitive sees them."""
from __future__ import annotations

from typing import Any

from gpugrad.arrays import has_kernels, module_of
from gpugrad.errors import ArgumentError, DtypeError, ShapeError
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.numpy._arguments import as_inexact, as_tensor


def real(op: str, x: Any, beside: Any = None, kinds: str = "f") -> Tensor:
    """x as a Tensor of a real float dtype, or of a complex one where `kinds` is "fc"; integers and bools become float64."""
    if type(x) is not Tensor or x.dtype.kind != "f":
        x = as_inexact(as_tensor(op, x, beside))
        if x.dtype.kind not in kinds:
            raise DtypeError(f"{op}: expected real numbers, got {x.dtype}. Treat real and imaginary parts apart.")
    return x


def same_shape(op: str, a: Any, b: Any, names: str = "prediction and target", kinds: str = "f") -> tuple[Tensor, Tensor]:
    """Two real Tensors of one shape: losses that broadcast hide bugs."""
    x, y = real(op, a, b, kinds), real(op, b, a, kinds)
    if x.shape != y.shape:
        raise ShapeError(f"{op}: expected {names} of one shape, got {x.shape} and {y.shape}. Reshape one of them.")
    return x, y


def reduced(op: str, loss: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of the losses, or each of them."""
    if reduction == "mean":
        return T.mean(loss, axis=tuple(range(loss.ndim)), keepdims=False)
    if reduction == "sum":
        return T.sum(loss, axis=tuple(range(loss.ndim)), keepdims=False)
    if reduction != "none":
        raise ArgumentError(f"{op}: expected reduction 'mean', 'sum' or 'none', got {reduction!r}. Choose one of them.")
    return loss


def in_one_launch(*tensors: Tensor | None) -> bool:
    """Whether these, None apart, are all float32 or all float64, where kernels are compiled, and no jvp or vmap looks at them."""
    given = [t for t in tensors if t is not None]
    dtype = given[0].dtype
    return dtype.char in "fd" and all(type(t) is Tensor and t.dtype == dtype and compiles(t._data) for t in given)


def compiles(array: Any) -> bool:
    """Whether kernels are compiled where the array lies, or where the one lies that it stands for in a trace."""
    return has_kernels(module_of(array)) or getattr(array, "device", "cpu") != "cpu"
