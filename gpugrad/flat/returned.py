"""What a compiled function returns: results of their own, and results that show other memory, as where it runs as it is.

The latter show an argument, a Tensor from outside or another result. They are looked at anew once the program has run.
"""
from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from gpugrad.arrays import is_array, module_of, short
from gpugrad.errors import TraceError
from gpugrad.flat.doors import DATA
from gpugrad.flat.symbol import Symbol
from gpugrad.flat.trace import as_symbol, outside
from gpugrad.graph.namespace import PRIMITIVES
from gpugrad.graph.state import no_grad
from gpugrad.graph.tensor import Tensor
from gpugrad.graph.views import Scalar, link_of
from gpugrad.numpy.shaping import seen_as
from gpugrad.trees import flatten

#: (arguments, outputs of the program) -> a result of the caller's kind.
Maker = Callable[[Sequence, Sequence], Any]
#: (arguments, results) -> a result that shows one of them, or a Tensor from outside.
Look = Callable[[Sequence, list], Any]
#: Objects that a result is looked through for traced values.
MOST_OBJECTS = 1000


class Returned:
    """The results of a trace.

    symbols  what the program's first outputs are: the arrays among the results
    makers   one for each result
    looks    (which result, how to see it, which output it is not), for those that show other memory
    build    list of results -> what the function returns
    """

    def __init__(self, out: Any, doors: Any, places: dict[int, int], arguments: dict[int, Symbol]):
        results, self.build = flatten(out)
        if len(results) == 1 and results[0] is out:
            self.build = first
        for x in results:
            if isinstance(x, Tensor):
                _ = x._data                               # one from outside is met, if only here
        self.symbols: list[Symbol] = []
        self.makers: list[Maker] = []
        self.looks: list[tuple[int, Look, int]] = []
        memory = Memory(doors, places, arguments)
        firsts: dict[int, int] = {}
        for i, x in enumerate(results):
            firsts.setdefault(id(x), i)
            memory.add(data_of(x), result_at(i), i)
        for i, x in enumerate(results):
            number = len(self.symbols)
            self.makers.append(maker(x, doors, number))
            if not isinstance(data_of(x), Symbol) and not is_array(data_of(x)):
                refuse_leaks(x, doors.met.keys())
                continue
            self.symbols.append(as_symbol(data_of(x)))
            if id(x) in doors.met:
                continue
            k = firsts[id(x)]
            look = memory.look(x, i) if k == i else result_at(k)
            if look is not None:
                self.looks.append((i, look, number))


def first(values: list) -> Any:
    return values[0]


def data_of(x: Any) -> Any:
    return DATA.__get__(x) if isinstance(x, Tensor) else x


def maker(x: Any, doors: Any, number: int) -> Maker:
    """A result that is a value of the program, or known beforehand. number: which output it is."""
    if isinstance(x, Tensor):
        if id(x) in doors.met:                            # the same object, as the function returned it
            place = doors.arguments.get(id(x))
            return (lambda arguments, outputs: x) if place is None else (lambda arguments, outputs: arguments[place])
        return lambda arguments, outputs: Tensor(outputs[number])
    if isinstance(x, Symbol):
        if x.scalar:
            return lambda arguments, outputs: outputs[number][()]
        return lambda arguments, outputs: outputs[number]
    if outside(x):
        constant = x.copy()
        return lambda arguments, outputs: constant.copy()
    return lambda arguments, outputs: x


class Memory:
    """Whose memory the Symbols of a trace show: that of arguments, of Tensors from outside, then of results."""

    def __init__(self, doors: Any, places: dict[int, int], arguments: dict[int, Symbol]):
        self.known: dict[int, tuple[Symbol, Look, int | None]] = {}      # id -> the Symbol, how to get it, which result it is
        for key, symbol in arguments.items():
            self.add(symbol, argument_at(places[key], None))
        for key, (tensor, _) in doors.met.items():          # as it is after the run, also where it was given another array
            self.add(DATA.__get__(tensor), argument_at(doors.arguments.get(key), tensor))

    def add(self, symbol: Any, look: Look, result: int | None = None) -> None:
        if isinstance(symbol, Symbol) and not symbol.scalar:
            self.known.setdefault(id(symbol), (symbol, look, result))

    def look(self, x: Any, number: int) -> Look | None:
        """How to get result `number` where it shows memory known here; None where it has its own."""
        symbol, as_tensor = data_of(x), isinstance(x, Tensor)
        if not isinstance(symbol, Symbol) or symbol.scalar or (as_tensor and type(link_of(x)) is Scalar):
            return None
        base: Look | None = None
        steps: list[tuple] = []
        while True:                                       # up to the last that is known: it shows nothing else that is
            _, look, result = self.known.get(id(symbol), (None, None, number))
            if look is not None and result != number:
                base, path = look, tuple(reversed(steps))
            if symbol.base is None or PRIMITIVES.get(symbol.how[0].name) is not symbol.how[0]:
                break
            steps.append(symbol.how)
            symbol = symbol.base
        return None if base is None else lambda arguments, results: seen(base(arguments, results), path, as_tensor)


def result_at(i: int) -> Look:
    return lambda arguments, results: results[i]


def argument_at(i: int | None, tensor: Tensor | None) -> Look:
    """An argument, or the Tensor from outside."""
    return lambda arguments, results: tensor if i is None else arguments[i]


def seen(base: Any, steps: tuple, as_tensor: bool) -> Any:
    """What the operations show of an array or a Tensor, as a Tensor or as an array."""
    if as_tensor and isinstance(base, Tensor):
        with no_grad():
            for prim, params, number in steps:
                y = seen_as(base, params["shape"]) if prim.name == "spread" else prim.traced(base, **params)
                base = y if prim.outputs == 1 else y[number]
        return base if steps else base.detach()
    array = base._data if isinstance(base, Tensor) else base
    for prim, params, number in steps:
        spreads = prim.name == "spread"                   # whose own function copies where that is sooner
        y = module_of(array).broadcast_to(array, params["shape"]) if spreads else prim.impls[type(array)](array, **params)
        array = y if prim.outputs == 1 else y[number]
    return Tensor(array) if as_tensor else array


def refuse_leaks(x: Any, known: Any) -> None:
    """TraceError for a result that is no array, Tensor or plain value, but holds values of this trace, or goes through them.

    known: ids of the Tensors from outside
    """
    if hasattr(type(x), "__next__"):
        raise TraceError(f"compile: expected arrays, Tensors and plain values as results, got {short(x)}, which can be gone "
                         "through once. Return a list of what it gives.")
    todo, met = [x], {id(x)}
    while todo and len(met) < MOST_OBJECTS:
        for part in gc.get_referents(todo.pop()):
            data = data_of(part)
            if isinstance(data, Symbol) and id(part) not in known:
                raise TraceError(f"compile: expected arrays, Tensors and plain values as results, got {short(x)}, which holds a "
                                 "traced one. Return it in a tree of lists, tuples, dicts and dataclasses.")
            if not (id(part) in met or isinstance(part, type | ModuleType | Tensor) or is_array(data)
                    or (isinstance(part, dict) and "__builtins__" in part)):
                met.add(id(part))
                todo.append(part)
