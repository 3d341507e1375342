"""What a Tensor can do: operators, NumPy's methods, in-place assignment. Importing this module adds them to the class."""
from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy

import gpugrad.graph.backward  # noqa: F401 - adds Tensor.backward
from gpugrad import numpy as gnp
from gpugrad.arrays import Device
from gpugrad.errors import DtypeError, ShapeError
from gpugrad.graph.layers import PLAIN
from gpugrad.graph.namespace import PRIMITIVES, TRACED
from gpugrad.graph.state import mode_now
from gpugrad.graph.tensor import Tensor
from gpugrad.graph.views import Link, connect, is_scalar, link_of, overwrite, owned, write
from gpugrad.numpy._arguments import device_beside

# operators --------------------------------------------------------------------------------------------------------------

BINARY = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
          "mod": "remainder", "pow": "power", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or",
          "xor": "bitwise_xor", "lshift": "left_shift", "rshift": "right_shift"}
COMPARISON = {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal", "ne": "not_equal"}
UNARY = {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "invert"}


def reflected(operation: Callable) -> Callable:
    return lambda self, other: operation(other, self)


def in_place(operation: Callable) -> Callable:
    return lambda self, other: update(self, operation, other)


for _python, _name in BINARY.items():
    _operation = getattr(TRACED, _name)
    setattr(Tensor, f"__{_python}__", _operation)
    setattr(Tensor, f"__r{_python}__", reflected(_operation))
    setattr(Tensor, f"__i{_python}__", in_place(_operation))
for _python, _name in {**COMPARISON, **UNARY}.items():
    setattr(Tensor, f"__{_python}__", getattr(TRACED, _name))


def __divmod__(self: Tensor, other: Any) -> tuple[Tensor, Tensor]:
    return self // other, self % other


def __rdivmod__(self: Tensor, other: Any) -> tuple[Tensor, Tensor]:
    return other // self, other % self


def __round__(self: Tensor, digits: int | None = None) -> Tensor:
    return gnp.round(self, digits or 0)


def __getitem__(self: Tensor, index: Any) -> Tensor:
    return gnp.getitem(self, index)


def __iter__(self: Tensor) -> Iterator[Tensor]:
    if not self.ndim:
        raise DtypeError("iter: expected at least one axis, got a Tensor of shape (). Use .item().")
    return iter(gnp.unstack(self))


def __contains__(self: Tensor, value: Any) -> bool:
    return bool((self == value).any())


# in-place ---------------------------------------------------------------------------------------------------------------

def assign(op: str, tensor: Tensor, new: Tensor) -> Tensor:
    """Give `tensor` a new value of its own shape and dtype, as NumPy's out= and augmented assignment do.

    While recording, the name is rebound and the old value lives on in the graph. Under `no_grad` the buffer itself is
    overwritten, and a graph that saved it will say so. Either way `gpugrad.graph.views` lets all see it who would in NumPy.
    """
    if new.shape != tensor.shape:
        raise ShapeError(f"{op}: expected a result of shape {tensor.shape} to assign in place, got {new.shape}. "
                         "Assign to a new name instead.")
    if new.dtype != tensor.dtype:
        if not numpy.can_cast(new.dtype, tensor.dtype, "same_kind"):
            raise DtypeError(f"{op}: expected a result that fits dtype {tensor.dtype} in place, got {new.dtype}. "
                             "Assign to a new name, or use .astype first.")
        new = TRACED.astype(new, dtype=tensor.dtype)
    if mode_now().record or type(tensor) not in PLAIN or type(new) not in PLAIN:
        write(op, tensor, new)
    else:
        overwrite(op, tensor, new)
    return tensor


def update(tensor: Tensor, operation: Callable, other: Any) -> Tensor:
    """tensor = operation(tensor, other), in place but for scalars, which do not change in NumPy: the name gets another."""
    if not tensor.ndim and is_scalar(tensor):
        return operation(tensor, other)
    return assign(operation.__name__, tensor, operation(tensor, other))


def __setitem__(self: Tensor, index: Any, value: Any) -> None:
    """self[index] = value, differentiable in both. The old value lives on where anything else still sees it."""
    if not owned(self) or not gnp.index.overwritten(self, index, value):
        assign("setitem", self, gnp.setitem(self, index, value))


def fill(self: Tensor, value: Any) -> None:
    """Set every element to one value."""
    self[...] = value


# methods ----------------------------------------------------------------------------------------------------------------

METHODS = ["all", "any", "argmax", "argmin", "argpartition", "argsort", "astype", "choose", "clip", "conj",
           "conjugate", "copy", "cumprod", "cumsum", "diagonal", "dot", "max", "mean", "min", "nonzero", "prod", "ravel",
           "repeat", "round", "searchsorted", "squeeze", "std", "sum", "swapaxes", "take", "trace", "var"]


def method(name: str) -> Callable:
    def call(self, *args, **kwargs):
        return getattr(gnp, name)(self, *args, **kwargs)
    call.__name__, call.__doc__ = name, f"As gg.{name}."
    return call


for _name in METHODS:
    setattr(Tensor, _name, method(_name))


def reshape(self: Tensor, *shape: Any, order: str = "C") -> Tensor:
    """The same elements in another shape: x.reshape(2, 3) or x.reshape((2, 3)); one length may be -1."""
    return gnp.reshape(self, shape[0] if len(shape) == 1 else shape, order)


def transpose(self: Tensor, *axes: Any) -> Tensor:
    """Axes in another order, by default reversed."""
    return gnp.transpose(self, axes[0] if len(axes) == 1 else axes or None)


def flatten(self: Tensor, order: str = "C") -> Tensor:
    """A copy of all elements along one axis."""
    return gnp.copy(gnp.ravel(self, order))


def flat(self: Tensor) -> Tensor:
    """All elements along one axis, as a view in every case: x.flat[0] = 1 changes x."""
    y = gnp.ravel(self)
    if y is not self and link_of(y) is None:
        connect(Link, y, self, PRIMITIVES["reshape"], {"shape": y.shape})
    return y


def compress(self: Tensor, condition: Any, axis: int | None = None, out: Any = None) -> Tensor:
    """As gg.compress(condition, x, axis)."""
    return gnp.compress(condition, self, axis, out)


def put(self: Tensor, indices: Any, values: Any, mode: str = "raise") -> None:
    """As gg.put(x, indices, values, mode): x.ravel()[indices] = values."""
    gnp.put(self, indices, values, mode)


def sort(self: Tensor, axis: int = -1) -> None:
    """Sort in place, as NumPy's method does; np.sort(t) returns a sorted copy."""
    assign("sort", self, gnp.sort(self, axis=axis))


def partition(self: Tensor, kth: Any, axis: int = -1) -> None:
    """Partition in place, as NumPy's method does; np.partition(t, kth) returns a copy."""
    assign("partition", self, gnp.partition(self, kth, axis=axis))


def to(self: Tensor, device: Device | str) -> Tensor:
    """The Tensor on that device: itself where it is there already; otherwise a copy, through which gradients come back.

    Raises DeviceError for a device that is not there.
    """
    device, home = Device(device), device_beside(self)
    return self if home is None or home == device else TRACED.to_device(self, device=device, home=home)


for _function in (__divmod__, __rdivmod__, __round__, __getitem__, __iter__, __contains__, __setitem__, fill, reshape,
                  transpose, flatten, compress, put, sort, partition, to):
    setattr(Tensor, _function.__name__, _function)
for _name, _function_name, _doc in [
    ("T", "transpose", "Axes in reverse order."),
    ("mT", "matrix_transpose", "The last two axes swapped."),
    ("real", "real", "The real part."),
    ("imag", "imag", "The imaginary part."),
    ("at", "At", "x.at[i].add(v): a new Tensor with v added at i; also set, multiply and the like."),
]:
    setattr(Tensor, _name, property(functools.partial(lambda name, self: getattr(gnp, name)(self), _function_name), doc=_doc))
setattr(Tensor, "flat", property(flat, lambda self, value: flat(self).__setitem__(..., value)))  # noqa: B010 - as the others


def set_real(self: Tensor, value: Any) -> None:
    self.real[...] = value


def set_imag(self: Tensor, value: Any) -> None:
    if self.dtype.kind != "c":
        raise DtypeError(f"imag: expected a complex Tensor to write to, got dtype {self.dtype}. Use .astype(complex) first.")
    self.imag[...] = value


setattr(Tensor, "real", Tensor.real.setter(set_real))    # type: ignore[attr-defined]  # noqa: B010
setattr(Tensor, "imag", Tensor.imag.setter(set_imag))    # type: ignore[attr-defined]  # noqa: B010
