"""Tensor, the array that remembers.

A Tensor is a name for a value: an array and, where a gradient is needed, the node that made it. In-place operations
rebind the name to a new value, so a node never changes.

The operators and NumPy's methods are added by `gpugrad.methods`; this file knows no operation by name.
"""
from __future__ import annotations

from collections.abc import Callable
from operator import index as as_index
from typing import TYPE_CHECKING, Any

import numpy

from gpugrad.arrays import Device, copied, device_of, is_array, mark_changed, module_of, move, new_array, plain, short
from gpugrad.errors import ConversionError, DtypeError, GraphError, ShapeError
from gpugrad.graph.node import Hook, Leaf, Node
from gpugrad.graph.state import clock

if TYPE_CHECKING:
    from gpugrad.graph.declared import Declared
else:
    Declared = object


class Tensor(Declared):
    """An array that can be differentiated. Make one with `gg.tensor`; operators and methods are NumPy's."""

    __slots__ = ("_data", "_node", "_grad", "_layer", "_view", "__weakref__")

    __array_priority__ = 1000

    def __init__(self, data: Any, node: Node | None = None):
        self._data = data
        self._node = node

    def __init_subclass__(cls, **kwargs: Any):
        if not cls.__module__.startswith("gpugrad.graph."):
            raise TypeError("Tensor: expected to be used as it is, got a subclass. Hold a Tensor in your class instead.")

    # what it is ------------------------------------------------------------------------------------------------------

    @property
    def data(self) -> Any:
        """The bare NumPy or CuPy array, without its graph. Assigning replaces the value and keeps the graph."""
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        value = value._data if isinstance(value, Tensor) else value
        if not is_array(value) or module_of(value) is not module_of(self._data):
            raise DtypeError(f"data: expected an array on {self.device}, got {short(value)}. Use t.data = gg.asarray(x).data.")
        value = module_of(value).asarray(value)
        if value.shape != self.shape or value.dtype != self.dtype:
            raise ShapeError(f"data: expected shape {self.shape} and dtype {self.dtype}, "
                             f"got {value.shape} and {value.dtype}. Make a new Tensor instead.")
        mark_changed(value, clock())           # `t.data -= step` changed the array in place before it came here
        self._data = value
        from gpugrad.graph.views import replaced  # which imports this module
        replaced(self)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` has accumulated: a Tensor, or None."""
        return getattr(self, "_grad", None)

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                if not is_array(value):
                    raise DtypeError(f"grad: expected a Tensor, an array or None, got {short(value)}. Use gg.tensor(x).")
                value = Tensor(value)
            if value.shape != self.shape:
                raise ShapeError(f"grad: expected shape {self.shape}, got {value.shape}. A gradient has its Tensor's shape.")
            if value.dtype != self.dtype:
                if value.dtype.kind == "c" and self.dtype.kind != "c":
                    raise DtypeError(f"grad: expected dtype {self.dtype}, got {value.dtype}. Assign its real part.")
                value = value.astype(self.dtype)
        self._grad = value

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> Any:
        return self._data.dtype

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self._data.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self._data.size * self._data.dtype.itemsize

    @property
    def device(self) -> Device:
        return device_of(self._data)

    @property
    def requires_grad(self) -> bool:
        """True for a Tensor that needs a gradient: a leaf made so, or anything computed from one."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value and self._node is None:
            require_inexact("requires_grad", self.dtype)
            self._node = Leaf(self)
        elif not value and self._node is not None:
            if not self.is_leaf:
                raise GraphError(f"requires_grad: expected a leaf, got the result of {self._node.made_by}. Use .detach().")
            self._node = None

    @property
    def is_leaf(self) -> bool:
        """True unless the Tensor was computed from one that needs a gradient."""
        return self._node is None or type(self._node) is Leaf

    # leaving the graph -----------------------------------------------------------------------------------------------

    def item(self) -> Any:
        """The single element as a Python number. Waits for the device."""
        if self.size != 1:
            raise ShapeError(f"item: expected one element, got shape {self.shape}. Index it first, or use .numpy().")
        return bare("item", self).item()

    def numpy(self) -> numpy.ndarray:
        """The value as a NumPy array; on the CPU it shares memory, from a GPU it is one copy.

        Raises ConversionError where a gradient is needed: use .detach().numpy().
        """
        refuse_conversion(self, ".numpy()", ".detach().numpy()")
        return move(self._data, Device("cpu"))

    def tolist(self) -> Any:
        """The values as nested Python lists. Waits for the device."""
        return bare("tolist", self).tolist()

    def cpu(self) -> Tensor:
        """On the CPU: itself where it is there already, else a copy, through which gradients come back."""
        return self.to("cpu")

    def cuda(self, index: int | None = None) -> Tensor:
        """On a GPU, the first or that of the index. Raises DeviceError where it is not there."""
        return self.to("cuda" if index is None else f"cuda:{index}")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        refuse_conversion(self, "a NumPy array", ".detach(), or gpugrad's own function")
        if self.device != "cpu":
            raise ConversionError(f"Tensor: expected one on the cpu, got one on {self.device}. Use .numpy() to copy it.")
        return numpy.array(self._data, dtype=dtype, copy=copy)

    @property
    def _mask(self) -> Any:
        """Asked for by numpy.ma, which would go on with the bare array."""
        raise ConversionError("Tensor: expected no masked array beside it, got one, whose mask would be lost. "
                              "Use m.filled(0) and where=.")

    def __dlpack__(self, **kwargs: Any) -> Any:
        refuse_conversion(self, "a DLPack capsule", ".detach()")
        return self._data.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self._data.__dlpack_device__()

    def __float__(self) -> float:
        return float(number(self, "float"))

    def __int__(self) -> int:
        return int(number(self, "int"))

    def __complex__(self) -> complex:
        return complex(number(self, "complex"))

    def __index__(self) -> int:
        return as_index(number(self, "index"))

    def __bool__(self) -> bool:
        if self.size != 1:
            raise ShapeError(f"bool: expected one element, got shape {self.shape}. Use .any() or .all().")
        return bool(bare("bool", self))

    # what it does ----------------------------------------------------------------------------------------------------

    def register_hook(self, function: Callable[[Tensor], Tensor | None]) -> Hook:
        """Call `function` with the gradient of this Tensor whenever a backward sweep computes it.

        What it returns, unless None, replaces the gradient. Returns a handle with `remove()`.
        """
        if self._node is None:
            raise GraphError("register_hook: expected a Tensor that needs a gradient, got one that does not. "
                             "Make it with requires_grad=True.")
        if not callable(function):
            raise DtypeError(f"register_hook: expected a function, got {short(function)}. Pass a callable of one Tensor.")
        return Hook(self._node, function)

    def zero_grad(self) -> None:
        """Forget the gradient: `.grad` becomes None."""
        self._grad = None

    def __len__(self) -> int:
        if not self.ndim:
            raise DtypeError("len: expected at least one axis, got a Tensor of shape (). Use .item().")
        return self.shape[0]

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        if is_array(self._data):
            body = numpy.array2string(move(self._data, Device("cpu")), separator=", ", prefix="tensor(")
        else:
            body = f"<inside {type(self).__name__.lower()}>, shape={self.shape}"
        if self.dtype not in (numpy.float64, numpy.int64, numpy.bool_):
            body += f", dtype={self.dtype}"
        if is_array(self._data) and self.device != "cpu":
            body += f", device='{self.device}'"
        if type(self._node) is Leaf:
            body += ", requires_grad=True"
        elif self._node is not None:
            body += f", from={self._node.made_by}"
        return f"tensor({body})"

    def __format__(self, spec: str) -> str:
        if spec and self.size == 1:
            return format(self.item(), spec)
        try:
            return format(repr(self), spec)
        except ValueError as error:
            raise ShapeError(f"format: expected one element for {spec!r}, got shape {self.shape}. "
                             "Format each of .tolist().") from error

    def __reduce__(self):
        raise ConversionError("pickle: expected data, got a Tensor, which has a graph. Use gpugrad.save and gpugrad.load.")

    def __deepcopy__(self, memo: dict) -> Tensor:
        if not self.is_leaf or type(self) not in (Tensor, Borrowed):
            made_by = self._node.made_by if self._node is not None else type(self).__name__.lower()
            raise GraphError(f"deepcopy: expected a leaf, got the result of {made_by}. Copy t.detach(), or use t.copy().")
        twin = Tensor(copied(bare("deepcopy", self)))
        twin.requires_grad = self.requires_grad
        memo[id(self)] = twin
        return twin

    def __copy__(self) -> Tensor:
        twin = Tensor(self._data, self._node)
        if type(self._node) is Leaf:                      # a leaf's gradient goes to one Tensor: the copy is a leaf of its own
            twin._node = Leaf(twin)
        if type(self) not in (Tensor, Borrowed):          # inside jvp or vmap
            twin.__class__, twin._layer = type(self), self._layer
        return twin


class Borrowed(Tensor):
    """A caller's bare array on its way into an operation. The caller may write to it at any time: a node that saves it copies."""

    __slots__ = ()


def borrowed(op: str, array: Any) -> Tensor:
    """A bare array as a Tensor, without a copy."""
    array = plain(op, array)
    if array.dtype.kind not in "biufc":
        raise DtypeError(f"{op}: expected numbers, got dtype {array.dtype}. Convert the data to a numeric dtype.")
    return (Borrowed if getattr(array.flags, "writeable", True) else Tensor)(array)


def tensor(data: Any, dtype: Any = None, device: Device | str | None = None, requires_grad: bool = False) -> Tensor:
    """A Tensor with a copy of the data: numbers, nested lists or an array.

    dtype          NumPy's rules: Python floats are float64, arrays keep theirs
    device         "cpu" or "cuda:N"; arrays stay where they are, Python data goes to `gg.default_device()`
    requires_grad  make it a leaf: `backward` will accumulate into its `.grad`; needs a float or complex dtype

    Raises ArgumentError for ragged or non-numeric data, DtypeError for requires_grad with an integer dtype. A Tensor is copied
    out of its graph; to build one from Tensors that need gradients use gg.array or gg.stack.
    """
    if isinstance(data, Tensor):
        data = bare("tensor", data)
    result = Tensor(new_array(data, dtype, device))
    result._view = None                                   # an array of its own, also where it has no axes
    if requires_grad:
        result.requires_grad = True
    return result


def bare(op: str, tensor: Tensor) -> Any:
    """The array of a Tensor that leaves the graph. Inside vmap there is none: one value stands for many."""
    if not is_array(tensor._data):
        raise ConversionError(f"{op}: expected a value, got a Tensor inside vmap, which stands for many. "
                              "Use gg.where instead of Python control flow.")
    return tensor._data


def require_inexact(op: str, dtype: Any) -> None:
    if dtype.kind not in "fc":
        raise DtypeError(f"{op}: expected a float or complex dtype, got {dtype}. Use .astype(float).")


def refuse_conversion(tensor: Tensor, to: str, instead: str) -> None:
    bare("Tensor", tensor)
    if tensor._node is not None or type(tensor) not in (Tensor, Borrowed):
        raise ConversionError(f"Tensor: expected one outside the graph, got one of shape {tensor.shape} that needs a gradient, "
                              f"which {to} would drop. Use {instead}.")


def number(tensor: Tensor, to: str) -> Any:
    """The single element for Python's own conversions, refused where the graph would be lost: math.sin(t) calls float(t)."""
    refuse_conversion(tensor, to, ".item(), or gpugrad's own function, such as np.sin for math.sin")
    if tensor.size != 1 or (to == "index" and tensor.ndim):
        raise DtypeError(f"{to}: expected one element, got shape {tensor.shape}. Index the Tensor first.")
    return tensor._data.item()
