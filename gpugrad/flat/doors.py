"""Where a traced function reaches state that is not among its arguments, watched while it is traced.

The doors are the array of a Tensor, the gradient of a Tensor, an optimiser's step and a random draw. Each is an attribute of
a class that is replaced for the time of the trace, so that nothing is paid for it at any other time.
"""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy

from gpugrad.arrays import mark_changed
from gpugrad.errors import TraceError
from gpugrad.flat.symbol import RUNNING, Symbol
from gpugrad.flat.trace import Trace, outside
from gpugrad.graph.node import Leaf
from gpugrad.graph.state import clock
from gpugrad.graph.tensor import Tensor
from gpugrad.graph.views import replaced
from gpugrad.random import Generator

DATA: Any = Tensor.__dict__["_data"]
GRAD: Any = Tensor.__dict__["_grad"]

#: One thread traces at a time; the others pass the doors as if they were not there.
LOCK = threading.RLock()
TRACER: list[int] = []


def tracing() -> bool:
    """True in the thread that traces."""
    return bool(TRACER) and TRACER[-1] == threading.get_ident()


@contextmanager
def watched(trace: Trace) -> Iterator[Doors]:
    """Run the body with the doors watched; everything that it changed is as before when it ends."""
    with LOCK:
        doors = Doors(trace)
        RUNNING.append(trace)
        TRACER.append(threading.get_ident())
        doors.open()
        try:
            yield doors
        finally:
            doors.close()
            TRACER.pop()
            RUNNING.pop()
            for put_back in reversed(trace.undo):
                put_back()


class Doors:
    """The Tensors that a trace has met, and the replaced attributes."""

    def __init__(self, trace: Trace):
        self.trace = trace
        self.met: dict[int, tuple[Tensor, Symbol]] = {}              # id -> a Tensor from outside, the Symbol of its array
        self.homes: dict[int, Any] = {}                              # id -> the input that its array is
        self.grads: dict[int, tuple[Tensor, Tensor | None]] = {}     # id -> the Tensor, its gradient before
        self.arguments: dict[int, int] = {}                          # id of a Tensor -> which argument it is
        self.replaced: list[tuple[type, str, Any]] = []
        self.is_open = False

    def open(self) -> None:
        from gpugrad.flat.steps import traced_step
        from gpugrad.optim import Optimizer
        if self.is_open:
            return
        self.is_open = True
        self.replace(Tensor, "_data", property(self.get_data, self.set_data))
        self.replace(Tensor, "_grad", property(self.get_grad, self.set_grad))
        plain = Optimizer.step
        self.replace(Optimizer, "step", lambda optimiser: traced_step(optimiser) if tracing() else plain(optimiser))
        self.replace(Generator, "_drawn", self.draw(Generator._drawn))

    def replace(self, owner: type, name: str, new: Any) -> None:
        self.replaced.append((owner, name, owner.__dict__[name]))
        setattr(owner, name, new)

    def close(self) -> None:
        while self.replaced:
            setattr(*self.replaced.pop())
        self.is_open = False

    # the array of a Tensor ---------------------------------------------------------------------------------------------------

    def get_data(self, tensor: Tensor) -> Any:
        data = DATA.__get__(tensor)
        if type(data) is Symbol or not tracing():
            return data
        return self.meet(tensor, data) if outside(data) else data

    def set_data(self, tensor: Tensor, data: Any) -> None:
        if tracing():
            if outside(data):
                data = self.trace.constant(data)
            if outside(value_in(DATA, tensor)):
                self.meet(tensor, DATA.__get__(tensor))
            if type(data) is Symbol and data.scalar:          # a Tensor holds arrays
                data = data.copy()
                data.scalar = False
        DATA.__set__(tensor, data)

    def meet(self, tensor: Tensor, array: Any, read: Callable | None = None) -> Symbol:
        """The first sight of a Tensor from outside: its array becomes an input of the program."""
        node = tensor._node
        if node is not None and type(node) is not Leaf:
            origin = f"the result of {node.prim.name}" if node.prim is not None else "one of several results"
            raise TraceError(f"compile: expected leaves from outside the function, got {origin}, of shape {array.shape}. "
                             "Pass what it was computed from, or its .detach().")
        kind = type(tensor)

        def put_back() -> None:
            DATA.__set__(tensor, array)
            tensor._node, tensor.__class__ = node, kind
        self.trace.undo.append(put_back)
        symbol = self.trace.input(array, read or (lambda arguments: DATA.__get__(tensor)))
        self.met[id(tensor)] = tensor, symbol
        self.homes[id(tensor)] = symbol.value
        if read is None:
            found = signature(array)
            self.trace.checks.append(lambda _: tensor._node is node and fits(DATA.__get__(tensor), found))
        DATA.__set__(tensor, symbol)
        return symbol

    def finish(self) -> None:
        """Note what the function has changed, once it has returned."""
        inputs = {value for value, _ in self.trace.inputs}
        for key, (tensor, symbol) in self.met.items():
            place = self.arguments.get(key)
            now = DATA.__get__(tensor)
            if tensor._node is not None and type(tensor._node) is not Leaf:
                raise TraceError(f"compile: expected Tensors from outside to stay leaves, got one of shape {tensor.shape} "
                                 f"that became the result of {tensor._node.made_by}. Change it under gg.no_grad().")
            if now is not symbol:
                self.trace.writes.append((now, rebinding(tensor, place), None))
            elif symbol.value not in inputs:
                self.trace.writes.append((symbol, overwriting(tensor, place), self.homes[key]))
        for key, (tensor, before) in self.grads.items():
            now = value_in(GRAD, tensor)
            if now is not before:
                data = None if now is None else DATA.__get__(now)
                self.trace.writes.append((data, new_gradient(tensor, self.arguments.get(key)), None))

    # gradients ---------------------------------------------------------------------------------------------------------------

    def from_outside(self, tensor: Tensor) -> bool:
        return id(tensor) in self.met or outside(value_in(DATA, tensor))

    def get_grad(self, tensor: Tensor) -> Tensor | None:
        if tracing() and id(tensor) not in self.grads and self.from_outside(tensor):
            self.meet_grad(tensor, read=True)
        return GRAD.__get__(tensor)

    def set_grad(self, tensor: Tensor, value: Tensor | None) -> None:
        if tracing() and id(tensor) not in self.grads and self.from_outside(tensor):
            self.meet_grad(tensor, read=False)
        GRAD.__set__(tensor, value)

    def meet_grad(self, tensor: Tensor, read: bool) -> None:
        before = value_in(GRAD, tensor)
        self.grads[id(tensor)] = tensor, before
        self.trace.undo.append(lambda: GRAD.__set__(tensor, before))
        if not read and id(tensor) not in self.arguments:               # nobody reads it: its memory is free for the new one
            self.trace.before.append(lambda: GRAD.__set__(tensor, None))
        place, absent = self.arguments.get(id(tensor)), before is None
        if read:
            self.trace.checks.append(lambda arguments: (value_in(GRAD, at(arguments, place, tensor)) is None) == absent)
        if before is not None and read:
            self.meet(before, DATA.__get__(before), lambda arguments: DATA.__get__(GRAD.__get__(at(arguments, place, tensor))))

    # random numbers ----------------------------------------------------------------------------------------------------------

    def draw(self, plain: Callable) -> Callable:
        def run(generator, make, device):
            if not tracing():
                return plain(generator, make, device)
            state = generator._numpy.bit_generator.state
            self.trace.undo.append(lambda: setattr(generator._numpy.bit_generator, "state", state))
            drawn = plain(generator, make, device)
            symbol = self.trace.input(DATA.__get__(drawn).array, lambda _: plain(generator, make, device)._data)
            return Tensor(symbol)
        return run


# writing back ------------------------------------------------------------------------------------------------------------------

def value_in(slot: Any, tensor: Tensor) -> Any:
    """What a Tensor has in a slot; None where it has nothing."""
    try:
        return slot.__get__(tensor)
    except AttributeError:
        return None


def at(arguments: Sequence, place: int | None, tensor: Tensor) -> Tensor:
    """The Tensor of this run: an argument, or the one from outside."""
    return tensor if place is None else arguments[place]


def signature(array: Any) -> tuple:
    """What a program depends on of an array: type, shape, dtype and where it is."""
    return type(array), array.shape, array.dtype, None if isinstance(array, numpy.ndarray | numpy.generic) else array.device.id


def fits(array: Any, found: tuple) -> bool:
    return (type(array) is found[0] and array.shape == found[1] and array.dtype == found[2]
            and (found[3] is None or array.device.id == found[3]))


def overwriting(tensor: Tensor, place: int | None) -> Callable:
    def write(arguments: list, array: numpy.ndarray) -> None:
        data = at(arguments, place, tensor)._data
        if data is not array:
            data[...] = array
        mark_changed(data, clock())
    return write


def rebinding(tensor: Tensor, place: int | None) -> Callable:
    def write(arguments: list, array: numpy.ndarray) -> None:
        target = at(arguments, place, tensor)
        target._data = array
        replaced(target)
    return write


def new_gradient(tensor: Tensor, place: int | None) -> Callable:
    def write(arguments: list, array: numpy.ndarray | None) -> None:
        at(arguments, place, tensor)._grad = None if array is None else Tensor(array)
    return write
