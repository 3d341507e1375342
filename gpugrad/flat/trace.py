"""Tracing: run a function once on Symbols and note every operation.

What the function takes in beside its arguments (Tensors it closes over, their gradients, an optimiser's state, random numbers)
is found where it is read, by `doors.py`, and read again at every run of the program. What it changes there is written back.
"""
from __future__ import annotations

import itertools
import sys
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from gpugrad.arrays import Device, device_of, is_array
from gpugrad.errors import TraceError
from gpugrad.flat.deferred import deferred
from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.flat.symbol import RUNNING, SYMBOLIC, Symbol, user_line
from gpugrad.graph.state import clock
from gpugrad.graph.sweep import walk
from gpugrad.kernels.matmul import modes

#: Primitives that stay whole for devices, which have kernels for them.
KERNELS = frozenset({"linear", "softmax", "softmax_pull", "log_softmax", "log_softmax_pull"})

#: Bytes of a constant from which it is worth a look whether it is one number.
LARGE = 1 << 16

NUMBERS = frozenset({bool, int, float, complex})

#: Primitives that follow the context's precision of products.
PRODUCTS = frozenset({"matmul", "linear", "linear_relu"})


class Trace:
    """A program in the making.

    inputs   (value, read): what `read(arguments)` gives at a run
    device   where the arrays are, once one was met that is not NumPy's; the trace itself computes on copies of NumPy's
    checks   check(arguments): what must still be true for the program to serve another call
    before   what to do at each run before anything is read, such as to count an optimiser's steps
    writes   (symbol, write, home): `write(arguments, array)` puts a result where the function put it; array None to take it
             away. home is the input whose memory it belongs in, so that it may be made there
    undo     how to put everything back as it was, newest last
    """

    def __init__(self) -> None:
        self.inputs: list[tuple[Value, Callable]] = []
        self.constants: dict[Value, numpy.ndarray] = {}
        self.known: dict[int, tuple[Any, Symbol]] = {}   # id of a bare array -> itself, kept alive, and its constant
        self.ops: list[Op] = []
        self.ticks: list[int] = []                       # when each operation ran, by the clock that numbers nodes
        self.checks: list[Callable[[Sequence], bool]] = []
        self.before: list[Callable[[], None]] = []
        self.undo: list[Callable[[], None]] = []
        self.writes: list[tuple[Any, Callable, Value | None]] = []
        self.numbers: dict[Any, Symbol] = {}             # the numbers of optimisers that are inputs already
        self.part: str | None = None                     # the primitive that is being written out
        self.updating = False                            # within an optimiser's step: nothing looks at the values
        self.device: Device | None = None
        self.modes: set[tuple] = set()                   # what the context said where products were made
        self.primitives: dict[Any, Any] = {}             # NumPy's function -> the primitive, which knows other modules' too
        self.number = itertools.count().__next__

    # values --------------------------------------------------------------------------------------------------------------

    def host(self, array: Any) -> numpy.ndarray:
        """The array, or NumPy's copy of one that is on a device, which is then the program's."""
        if isinstance(array, numpy.ndarray | numpy.generic):
            return numpy.asarray(array)
        device = device_of(array)
        if self.device not in (None, device):
            raise TraceError(f"compile: expected arrays on one device, got {self.device} and {device} at {user_line()}. "
                             "Move them with .to(device).")
        self.device = device
        return array.get()

    def input(self, array: Any, read: Callable) -> Symbol:
        """A Symbol for what `read(arguments)` will give at every run; `array` is what it gives now."""
        value = Value(self.number(), array.shape, array.dtype)
        self.inputs.append((value, read))
        return Symbol(self.host(array), value)

    def value(self, symbol: Symbol) -> Value:
        """The program's value of a Symbol; a constant becomes one at its first use."""
        if symbol.value is None:
            symbol.value = Value(self.number(), symbol.shape, symbol.dtype)
            self.constants[symbol.value] = symbol.array
        return symbol.value

    def constant(self, array: Any) -> Symbol:
        """A bare array that the function uses: it is part of the program as it is now."""
        known, found = self.known.get(id(array), (None, None))
        if found is None or known is not array:
            found = Symbol(self.host(array), fixed=True)
            self.known[id(array)] = array, found
        return found

    # operations ----------------------------------------------------------------------------------------------------------

    def apply(self, prim: Any, function: Callable, args: tuple, params: dict) -> Any:
        """function(*args, **params) on the arrays of the Symbols, as Symbols; noted where it depends on an input.

        function   the primitive's on NumPy arrays
        """
        name, outputs = prim.name, prim.outputs
        if name in PRODUCTS:
            self.modes.add(modes())
        self.primitives[function] = prim
        args = tuple([self.constant(x) if outside(x) else x for x in args])
        params = {name: static(name, v) for name, v in params.items()}
        fixed = all(x.fixed for x in args if type(x) is Symbol)
        several = outputs != 1
        forward, raw = (None, False) if fixed else self.forward_op()
        later = None
        if (self.updating or raw) and not params:
            later = deferred(function, [(x.later or x.like) if type(x) is Symbol else x for x in args], LARGE if raw else 0)
        y = later.like if later else function(*[x.array if type(x) is Symbol else x for x in args], **params)
        if type(y) in NUMBERS:                             # of a number: weak as it was, which an array would not be
            return y
        arrays = [numpy.asarray(v) for v in (y if several else (y,))]
        if fixed:
            symbols = [Symbol(v, fixed=True) for v in arrays]
        else:
            op = Op(name, [self.value(x) if type(x) is Symbol else x for x in args], params, several=several, forward=forward,
                    line=forward.line if forward is not None else user_line(), function=function, part=self.part)
            op.outputs = tuple([Value(self.number(), v.shape, v.dtype, op, i) for i, v in enumerate(arrays)])
            self.note(op)
            symbols = [Symbol(v, value, later=later) for v, value in zip(arrays, op.outputs, strict=True)]
        if len(args) == 1 and type(args[0]) is Symbol and later is None:
            for i, symbol in enumerate(symbols):
                if numpy.may_share_memory(symbol.array, args[0].array):
                    symbol.view_of(args[0], prim, params, i)
        return tuple(symbols) if several else symbols[0]

    def note(self, op: Op) -> None:
        """The next operation of the program."""
        self.ops.append(op)
        self.ticks.append(clock())

    def forward_op(self) -> tuple[Op | None, bool]:
        """The operation whose rule is running: that of the node at which the innermost sweep stands; and whether that is a raw
        sweep."""
        frame: Any = sys._getframe(2)
        while frame is not None and frame.f_code is not walk.__code__:
            frame = frame.f_back
        local = {} if frame is None else frame.f_locals
        node = local.get("node")
        if node is None or node.prim is None:
            return None, False
        i = bisect_left(self.ticks, node.seq)                  # a node is made right after its operation
        nearby = reversed(self.ops[max(0, i - 8):i])
        return next((op for op in nearby if node.prim.name in (op.name, op.part)), None), not local["traced"]

    def written_out(self, prim: Any, args: tuple, params: dict) -> Any:
        """A primitive as the simpler ones that its twin is made of, once NumPy has said that the arguments are right."""
        if self.device is not None and prim.name in KERNELS:
            return self.apply(prim, prim.impls[numpy.ndarray], args, params)
        function = prim.impls[numpy.ndarray]
        function(*[x.array if type(x) is Symbol else x for x in args], **params)
        if prim.name == "mean" and args[0].dtype.char not in "fdFD":      # whose twin is NumPy's own
            return self.apply(prim, function, args, params)
        outer, self.part = self.part, self.part or prim.name
        try:
            return prim.impls.impl(SYMBOLIC)(*args, **params)
        finally:
            self.part = outer

    # the end -------------------------------------------------------------------------------------------------------------

    def graph(self, results: list[Symbol]) -> Graph:
        """The program whose outputs are the results, then what is written back."""
        written = [symbol for symbol, _, _ in self.writes if symbol is not None]
        outputs = [self.value(s) for s in (*results, *written)]
        constants = {value: narrow(array) for value, array in self.constants.items()}
        return Graph([value for value, _ in self.inputs], constants, self.ops, outputs)


def narrow(array: numpy.ndarray) -> numpy.ndarray:
    """An array that holds one number everywhere takes the memory of that number."""
    if array.nbytes < LARGE or not any(array.strides):
        return array
    first = array[(slice(0, 1),) * array.ndim]
    alike = array.dtype.kind in "biuf" and bool((array == first).all()) and (
        array.dtype.kind != "f" or bool(first) or not numpy.signbit(array).any())          # -0 is equal to 0, and not 0
    return numpy.broadcast_to(first.copy(), array.shape) if alike else array


def outside(x: Any) -> bool:
    """Whether this is an array that no trace made."""
    return type(x) is numpy.ndarray or (type(x) is not Symbol and is_array(x) and not isinstance(x, numpy.generic))


def static(name: str, v: Any) -> Any:
    """A parameter, which is part of the program: arrays in it must be constants."""
    if isinstance(v, Symbol):
        return v.known(f"{name}=")
    return tuple([static(name, part) for part in v]) if type(v) is tuple else v


def as_symbol(x: Any) -> Symbol:
    """A result of the traced function."""
    if isinstance(x, Symbol):
        return x
    if is_array(x):
        return RUNNING[-1].constant(x)
    raise TraceError(f"compile: expected arrays or Tensors as results, got {type(x).__name__}. Return them in a tree.")
