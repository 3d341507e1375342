"""Symbol, the array of a trace: a NumPy array of this first call, and the program's value that it stands for.

The raw namespace of Symbols (`RAW[Symbol]`) runs each primitive's NumPy function on the arrays and appends an operation to
the program. Rules, sweeps, jvp and vmap therefore trace themselves. What depends on constants alone stays a constant.
"""
from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy

from gpugrad.arrays.modules import register
from gpugrad.errors import TraceError
from gpugrad.flat.deferred import Deferred
from gpugrad.flat.ir import Value
from gpugrad.flat.numpy_ways import assignable, gives_array, over_no_axis, require_target
from gpugrad.graph.namespace import PRIMITIVES, RAW, TRACED
from gpugrad.graph.record import user_line
from gpugrad.graph.tensor import Tensor, refuse_conversion
from gpugrad.graph.views import ReadOnly, is_element, link_of
from gpugrad.methods import BINARY, COMPARISON, METHODS, UNARY

#: An array that nobody may write to: `exclusive` says no.
FLAGS = SimpleNamespace(writeable=True, owndata=False, c_contiguous=True, f_contiguous=False)

#: Primitives that the program has as the simpler ones of their NumPy twins, so that these can be simplified and fused.
WRITTEN_OUT = frozenset({"linear", "relu", "mean", "sum_to", "softmax", "softmax_pull", "log_softmax", "log_softmax_pull"})

#: Primitives whose views NumPy does not let one write to.
READ_ONLY = frozenset({"spread", "diagonal"})

#: The traces that are running, innermost last; one thread traces at a time.
RUNNING: list[Any] = []


class Symbol:
    """An array while a function is traced. `value` is None for a constant that no operation has read yet.

    In-place operations give the Symbol a new value; whoever holds the Symbol sees it, as with an array. So do its views:
    `base` is the Symbol that this one is a view of, `how` the operation, its parameters and which of its results this is,
    `views` has weak references.

    array   what the Symbol stands for, in the run that is traced; `later` will compute it, if anybody asks
    """

    __slots__ = ("like", "later", "value", "fixed", "scalar", "base", "how", "views", "__weakref__")

    __array_priority__ = 900
    flags = FLAGS

    def __init__(self, array: numpy.ndarray, value: Value | None = None, fixed: bool = False, later: Deferred | None = None):
        self.like = array                      # has the shape and the dtype, and the numbers unless they come later
        self.later = later
        self.value = value
        self.fixed = fixed                     # known before the program runs
        self.scalar = False                    # NumPy would have given a scalar here, not a 0-d array
        self.base: Any = None
        self.how: Any = None
        self.views: list = []

    array = property(lambda self: self.like if self.later is None else self.later.array(),
                     lambda self, array: self.become(array))
    shape = property(lambda self: self.like.shape)
    dtype = property(lambda self: self.like.dtype)
    ndim = property(lambda self: self.like.ndim)
    size = property(lambda self: self.like.size)
    nbytes = property(lambda self: self.like.nbytes)
    itemsize = property(lambda self: self.like.itemsize)
    device = property(lambda self: RUNNING[-1].device or "cpu" if RUNNING else "cpu")
    T = property(lambda self: Tensor(self).T._data)
    mT = property(lambda self: Tensor(self).mT._data)
    real = property(lambda self: self if self.dtype.kind != "c" else Tensor(self).real._data)
    imag = property(lambda self: Tensor(self).imag._data)

    def become(self, array: numpy.ndarray) -> None:
        self.like, self.later = array, None

    def view_of(self, base: Symbol, *how: Any) -> None:
        """Link this to the Symbol that it is a view of."""
        self.base, self.how = base, how
        base.views.append(weakref.ref(self))

    def write(self, new: Any) -> None:
        """Take the value of another, and let what shares its memory show it: what an in-place operation does."""
        part = self
        while part.base is not None:
            prim = part.how[0]
            if prim.name in READ_ONLY:
                raise ValueError("assignment destination is read-only")       # as NumPy says
            if prim.put is None:
                raise TraceError(f"compile: expected no write to a view by {prim.name}, got one at {user_line()}. "
                                 "Write to what it is a view of, or to a copy.")
            part = part.base
        self.rebind(new)
        part = self
        while part.base is not None:
            prim, params, _ = part.how
            part.base.rebind(prim.put(RAW[Symbol], part.base, part, **params))
            part = part.base
        part.show()

    def show(self) -> None:
        """Give the live views the values that they have now."""
        live = [(reference, reference()) for reference in self.views]
        self.views = [reference for reference, view in live if view is not None]
        for _, view in live:
            if view is not None and not view.scalar:
                prim, params, number = view.how
                fresh = getattr(RAW[Symbol], prim.name)(self, **params)
                view.rebind(fresh if prim.outputs == 1 else fresh[number])
                view.show()

    def rebind(self, new: Any) -> None:
        """Take the value of another, alone."""
        if new.shape != self.shape:
            new = RAW[Symbol].spread(new, shape=self.shape)
        if new.dtype != self.dtype:
            new = RAW[Symbol].astype(new, dtype=self.dtype)
        self.like, self.later, self.value, self.fixed = new.like, new.later, new.value, new.fixed

    def fill(self, value: Any) -> None:
        self.write(value if isinstance(value, Symbol) else Symbol(numpy.asarray(value, self.dtype), fixed=True))

    def copy(self, order: str = "K") -> Symbol:
        twin = Symbol(self.like, self.value, self.fixed, self.later)
        twin.scalar = self.scalar
        return twin

    def astype(self, dtype: Any, copy: bool = True) -> Symbol:
        if self.dtype == dtype and not copy:
            return self
        y = RAW[Symbol].astype(self, dtype=numpy.dtype(dtype))
        y.scalar = self.scalar
        return y

    def clip(self, *bounds: Any, **options: Any) -> Any:
        return numpy.clip(self, *bounds, **options)         # as NumPy's method does, which takes Tensors for bounds

    def reshape(self, *shape: Any) -> Symbol:
        return Tensor(self).reshape(*shape)._data

    def transpose(self, *axes: Any) -> Symbol:
        return Tensor(self).transpose(*axes)._data

    def __getitem__(self, index: Any) -> Symbol:
        y = self.copy() if isinstance(index, tuple) and index == () else Tensor(self)[wrapped(index)]._data
        y.scalar = not y.ndim and is_element(index)
        return y

    def __setitem__(self, index: Any, value: Any) -> None:
        from gpugrad.numpy import setitem
        value = assignable(value, self)
        self.write(setitem(Tensor(self), wrapped(index), wrapped(value))._data)

    def __len__(self) -> int:
        return len(self.array)

    def __hash__(self) -> int:
        return id(self)

    def known(self, what: str) -> numpy.ndarray:
        """The array, where the program may depend on it: a constant's."""
        if self.fixed:
            return self.array
        raise TraceError(f"compile: expected no Python decision on a traced value, got {what} of one of shape {self.shape} at "
                         f"{user_line()}. Use gg.where, gg.cond or gg.scan, or make the argument static.")

    def __bool__(self) -> bool:
        return bool(self.known("bool"))

    def __float__(self) -> float:
        return float(self.known("float"))

    def __int__(self) -> int:
        return int(self.known("int"))

    def __complex__(self) -> complex:
        return complex(self.known("complex"))

    def __index__(self) -> int:
        return self.known("an index").__index__()

    def item(self, *args: Any) -> Any:
        return self.known(".item()").item(*args)

    def get(self) -> numpy.ndarray:
        return self.known(".get()")

    def tolist(self) -> Any:
        return self.known(".tolist()").tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> numpy.ndarray:
        return numpy.array(self.known("a NumPy array"), dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
        if any(isinstance(x, Tensor) for x in (*inputs, *(out or ()))):
            return NotImplemented                         # the Tensor's turn: its graph goes on
        if method == "at":
            target, *rest = wrapped(inputs)
            Tensor.__array_ufunc__(None, ufunc, method, target, *rest)  # type: ignore[attr-defined]
            return inputs[0].write(target._data)
        if out and method == "__call__" and not kwargs:
            require_target(ufunc, inputs, out[0])
        result = as_numpy(Tensor.__array_ufunc__(None, ufunc, method, *wrapped(inputs), **wrapped(kwargs)))  # type: ignore[attr-defined]
        return written(result, out[0]) if out else result

    def __array_function__(self, function: Any, types: Any, args: tuple, kwargs: dict) -> Any:
        if any(issubclass(t, Tensor) for t in types):
            return NotImplemented
        if function is numpy.array2string:                # in a message
            return repr(self)
        if only_constants((args, kwargs)):
            return constants(function(*known(args), **known(kwargs)))
        out = kwargs.pop("out", None)
        with entered(function.__name__):
            rest, kwargs = over_no_axis(function.__name__, args[0] if args else None, args[1:], kwargs)
            given = wrapped((*args[:1], *rest))
            y = Tensor.__array_function__(None, function, types, given, wrapped(kwargs))  # type: ignore[attr-defined]
        return written(as_numpy(y, gives_array(function.__name__, args)), out)

    def __repr__(self) -> str:
        return f"<traced, shape {self.shape}>"


def binary(name: str) -> tuple[Callable, Callable, Callable]:
    """a op b, b op a, and a op= b."""
    def forward(self, other):
        other = numpy.asarray(other) if isinstance(other, list | tuple) else other
        return unboxed(getattr(RAW[Symbol], name)(self, other)) if operand(other) else NotImplemented

    def reflected(self, other):
        other = numpy.asarray(other) if isinstance(other, list | tuple) else other
        return unboxed(getattr(RAW[Symbol], name)(other, self)) if operand(other) else NotImplemented

    def in_place(self, other):
        if self.scalar:                                   # NumPy's scalars never change
            return forward(self, other)
        if isinstance(other, Tensor):
            from gpugrad.dispatch import bare_target
            getattr(TRACED, name)(Tensor(self), other)       # what is wrong with the operands comes first
            raise bare_target(f"np.{name}", self)
        require_target(getattr(numpy, name), (self, other), self)
        self.write(getattr(RAW[Symbol], name)(self, other))
        return self
    return forward, reflected, in_place


def operand(x: Any) -> bool:
    return isinstance(x, Symbol | int | float | complex | numpy.ndarray | numpy.generic)


def unboxed(y: Symbol) -> Symbol:
    """What an operator makes: a scalar where NumPy's would, which is of every result without axes."""
    y.scalar = not y.ndim
    return y


def unary(name: str) -> Callable:
    return lambda self: unboxed(getattr(RAW[Symbol], name)(self))


def method(name: str) -> Callable:
    def call(self, *args, **kwargs):
        if only_constants((self, args, kwargs)):
            return constants(getattr(self.array, name)(*known(args), **known(kwargs)))
        with entered(name):
            args, kwargs = over_no_axis(name, self, args, kwargs)
            return as_numpy(getattr(Tensor(self), name)(*wrapped(args), **wrapped(kwargs)), gives_array(name, (self,)))
    return call


for _python, _name in BINARY.items():
    for _form, _function in zip(("", "r", "i"), binary(_name), strict=True):
        setattr(Symbol, f"__{_form}{_python}__", _function)
for _python, _name in COMPARISON.items():
    setattr(Symbol, f"__{_python}__", binary(_name)[0])
for _python, _name in UNARY.items():
    setattr(Symbol, f"__{_python}__", unary(_name))
for _name in METHODS:
    if _name not in Symbol.__dict__:
        setattr(Symbol, _name, method(_name))


# the module that owns Symbols ------------------------------------------------------------------------------------------

class Symbolic:
    """What stands in the place of `numpy` for Symbols: `module_of(symbol)`."""

    __name__ = "gpugrad.flat"
    ndarray = Symbol

    def implementation(self, prim: Any) -> Callable:
        """A primitive on Symbols: its NumPy function on the arrays, noted in the program."""
        function = prim.impls[numpy.ndarray]
        if prim.name in WRITTEN_OUT and PRIMITIVES.get(prim.name) is prim:
            return lambda *args, **params: RUNNING[-1].written_out(prim, args, params)
        if prim.name == "sum":                               # of float16, which is added up in float32
            return lambda x, **params: (RUNNING[-1].written_out(prim, (x,), params) if x.dtype.char == "e"
                                        else RUNNING[-1].apply(prim, function, (x,), params))
        if prim.name == "to_device":
            return staying
        return lambda *args, **params: RUNNING[-1].apply(prim, function, args, params)

    def asarray(self, x: Any, dtype: Any = None) -> Symbol:
        if not isinstance(x, Symbol):
            return Symbol(numpy.asarray(x, dtype=dtype), fixed=True)
        return x if dtype is None or x.dtype == dtype else x.astype(dtype)

    def array(self, x: Any, dtype: Any = None) -> Symbol:
        return self.asarray(x, dtype).copy()

    def __getattr__(self, name: str) -> Callable:
        function = getattr(numpy, name)

        @functools.wraps(function)
        def call(*args, out=None, **kwargs):
            if only_constants((args, kwargs)):
                return written(constants(function(*known(args), **known(kwargs))), out)
            from gpugrad import numpy as gnp
            if not hasattr(gnp, name):
                raise TraceError(f"compile: expected operations whose result has a shape of its own, got {name} at "
                                 f"{user_line()}. Use gg.where, or leave this out of the compiled function.")
            with entered(name):
                return written(bared(getattr(gnp, name)(*wrapped(args), **wrapped(kwargs))), out)
        return call


def staying(x: Any, device: Any, home: Any) -> Any:
    """A program runs where its arguments are."""
    if device != home:
        raise TraceError(f"compile: expected a program on one device, got .to({str(device)!r}) at {user_line()}. "
                         "Move before the compiled function, or after it.")
    return x


SYMBOLIC = Symbolic()
register(Symbol, SYMBOLIC)


#: The functions of gpugrad.numpy that run for a Symbol's own method or NumPy function of that name.
ENTERED: list[str] = []


@contextmanager
def entered(name: str) -> Iterator[None]:
    """Run the body for `name`. Where it comes back for the same, it works on the values themselves, which are not known."""
    if name in ENTERED:
        raise TraceError(f"compile: expected operations whose result has a shape of its own, got {name} at {user_line()}. "
                         "Use gg.where, or leave this out of the compiled function.")
    ENTERED.append(name)
    try:
        yield
    finally:
        ENTERED.pop()


def only_constants(x: Any) -> bool:
    """True where nothing in arguments of any nesting is known only when the program runs."""
    if isinstance(x, dict):
        x = tuple(x.values())
    return x.fixed if isinstance(x, Symbol) else all(map(only_constants, x)) if isinstance(x, tuple | list) else True


def known(x: Any) -> Any:
    """Constants as their arrays, in arguments of any nesting."""
    if isinstance(x, Symbol):
        return x.array[()] if x.scalar else x.array
    if type(x) in (tuple, list):
        return type(x)(map(known, x))
    return {k: known(v) for k, v in x.items()} if type(x) is dict else x


def constants(x: Any) -> Any:
    """Arrays as constants, in results of any nesting."""
    if isinstance(x, numpy.ndarray):
        return Symbol(x, fixed=True)
    return type(x)(map(constants, x)) if type(x) in (tuple, list) else x


def wrapped(x: Any) -> Any:
    """Symbols as Tensors, in arguments of any nesting."""
    if isinstance(x, Symbol):
        return Tensor(x)
    if isinstance(x, Tensor):
        refuse_conversion(x, "a bare array", ".detach(), or gpugrad's own function")
    if isinstance(x, numpy.generic):
        return Tensor(SYMBOLIC.asarray(x))
    if type(x) in (tuple, list):
        return type(x)(map(wrapped, x))
    return {k: wrapped(v) for k, v in x.items()} if type(x) is dict else x


def bared(x: Any) -> Any:
    """Tensors as the Symbols in them, which are views where NumPy's are, although the operation has copied."""
    if isinstance(x, Tensor):
        y, link = x._data, link_of(x)
        if type(link) is ReadOnly and y.base is None:
            y.view_of(link.base._data, link.prim, link.params, 0)
        return y
    return type(x)(map(bared, x)) if type(x) in (tuple, list) else x


def as_numpy(x: Any, array: bool = False) -> Any:
    """Tensors as the Symbols in them, and as scalars where NumPy gives scalars. array: it gives an array here."""
    x = bared(x)
    return x[()] if isinstance(x, Symbol) and not x.ndim and not array else x


def written(result: Any, out: Any) -> Any:
    if out is None:
        return result
    if not isinstance(out, Symbol) or not isinstance(result, Symbol):
        raise TraceError(f"compile: expected out= to be traced too, got {type(out).__name__} at {user_line()}. "
                         "Assign to a new name.")
    out.write(result)
    return out
