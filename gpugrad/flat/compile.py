"""`gg.compile`: a function that is traced at its first call and runs as a flat program afterwards."""
from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from gpugrad.arrays import is_array, plain, short
from gpugrad.errors import ArgumentError
from gpugrad.flat.doors import DATA, signature, tracing, watched
from gpugrad.flat.program import Program
from gpugrad.flat.reasons import Call, described, parameters, reason, varying
from gpugrad.flat.returned import Returned
from gpugrad.flat.stages import stage, staged
from gpugrad.flat.trace import Trace
from gpugrad.graph.layers import Layered
from gpugrad.graph.node import Leaf
from gpugrad.graph.state import mode_now
from gpugrad.graph.tensor import Tensor
from gpugrad.profiling import Compilation, note, unwatched
from gpugrad.transformed import global_name
from gpugrad.trees import describe, flatten

BACKENDS = ("auto", "numpy", "llvm", "cuda")

#: After this many programs of one function, a warning: something in its arguments changes at every call.
MANY = 16


def compile(f: Callable, *, static_argnums: int | Sequence[int] = (), backend: str = "auto",
            reuse_outputs: bool = False) -> Compiled:
    """f as one flat program: traced once for each structure, shape and dtype of its arguments, then run without Python's f.

    static_argnums  arguments that are part of the program, such as a number of layers; they must be hashable
    backend         "numpy"; "llvm": fused loops over all cores, which need the extra `jit`; "cuda": launches on the arrays' GPU,
                    from the second call on one CUDA graph; "auto": the last for arrays on a GPU, loops where they are installed
    reuse_outputs   results on a GPU may lie where those of the call before lay, so that a call allocates nothing

    f may contain gg.grad, jvp, hvp, vmap, `.backward()`, optimiser steps and random draws, and read and change Tensors from
    outside it: parameters, gradients, optimiser state. Arrays and Tensors among the arguments vary from call to call, and so do
    Tensors from outside; everything else that f reads (numbers, bare arrays from outside) is part of the program as it was.
    Python control flow on a traced value raises TraceError and names the line. Results carry no graph, and share memory with
    arguments and each other where f's own would; inside gg.grad, jvp and vmap, or for Tensors that are on a graph, f runs as it
    is. What nobody uses is not computed; on the CPU the indices, labels and exponents in it are looked at all the same.

        step = gg.compile(train_step)
        loss = step(x, labels)
        print(step.program(x, labels).source)
    """
    if not callable(f):
        raise ArgumentError(f"compile: expected a function, got {short(f)}. Pass the function itself, not its result.")
    if backend not in BACKENDS:
        raise ArgumentError(f"compile: expected a backend among {', '.join(BACKENDS)}, got {backend!r}. Choose one of them.")
    numbers = (static_argnums,) if isinstance(static_argnums, int) else tuple(static_argnums)
    return Compiled(f, frozenset(numbers), backend, reuse_outputs)


class Compiled:
    """What `compile` returns: call it as the function. `programs` counts what it has compiled."""

    def __init__(self, f: Callable, static: frozenset[int], backend: str, reuse_outputs: bool = False):
        functools.update_wrapper(self, f)
        self._f = f
        self._static = static
        self._backend = backend
        self._reuse = reuse_outputs
        self._found: dict[Any, list[Program]] = {}
        self._calls: list[Call] = []                       # those that made a program
        self.programs = 0

    def __reduce__(self) -> Any:
        return global_name(self) or (Compiled, (self._f, self._static, self._backend, self._reuse))

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method: each instance has a compiled function of its own, with its own programs."""
        bind = getattr(self._f, "__get__", None)
        if instance is None or bind is None:
            return self
        static = frozenset(i - 1 for i in self._static if i)
        bound = Compiled(bind(instance, owner), static, self._backend, self._reuse)
        if hasattr(self, "_name") and hasattr(instance, "__dict__"):
            vars(instance)[self._name] = bound            # found there from now on
        return bound

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        mode = mode_now()
        if mode.levels or mode.anomaly or tracing():
            return self._f(*args, **kwargs)
        leaves, key = self._plain_key(args) if not (kwargs or self._static) else (args, None)
        if key is None:
            leaves, key = self._key(args, kwargs)
            for x in leaves:
                if isinstance(x, Tensor) and (isinstance(x, Layered) or (x._node is not None and type(x._node) is not Leaf)):
                    return self._f(*args, **kwargs)
        if not mode.record:
            key = key, mode
        for program in self._found.get(key, ()):
            if program.serves(leaves):
                return program(leaves)
        return self._make(args, kwargs, leaves, key)(leaves)

    def program(self, *args: Any, **kwargs: Any) -> Program:
        """The program for these arguments: its source, its cost, its passes. Nothing is run."""
        leaves, key = self._key(args, kwargs)
        if not mode_now().record:
            key = key, mode_now()
        found = next((p for p in self._found.get(key, ()) if p.serves(leaves)), None)
        return found or self._make(args, kwargs, leaves, key)

    def _plain_key(self, args: tuple) -> tuple[Sequence, Any]:
        """The same as `_key` for arguments that are all arrays and leaves, without describing a tree; the key None for others."""
        kinds: list = []
        for x in args:
            if type(x) is numpy.ndarray:
                kinds.append((x.shape, x.dtype))
            elif type(x) is Tensor and (x._node is None or type(x._node) is Leaf):
                data = x._data
                kinds.append((data.shape, data.dtype, x._node is not None) if type(data) is numpy.ndarray else
                             (signature(data), x._node is not None))
            else:
                return args, None
        return args, tuple(kinds)

    def _key(self, args: tuple, kwargs: dict) -> tuple[list, Any]:
        """The arrays among the arguments, and what a program depends on beside them."""
        leaves: list = []
        static = tuple([args[i] for i in sorted(self._static) if i < len(args)])
        dynamic = [a for i, a in enumerate(args) if i not in self._static] if self._static else args
        spec = describe((tuple(dynamic), kwargs) if kwargs else tuple(dynamic), leaves)
        arrays: list = []
        kinds: list[tuple] = []
        for x in leaves:
            if isinstance(x, Tensor):
                data = x._data
                kinds.append((data.shape, data.dtype, x._node is not None) if type(data) is numpy.ndarray else
                             (signature(data), x._node is not None))
                arrays.append(x)
            elif type(x) is numpy.ndarray:
                kinds.append((x.shape, x.dtype))
                arrays.append(x)
            elif isinstance(x, numpy.generic):             # like an array, it varies from call to call
                kinds.append((x.dtype,))
                arrays.append(numpy.asarray(x))
            elif is_array(x):
                arrays.append(plain("tensor", x))
                kinds.append(signature(arrays[-1]))
            else:
                kinds.append(fixed(x))
        key: Any = (spec, tuple(kinds), static)
        if not kwargs and not static and len(arrays) == len(args) and all(x is a for x, a in zip(arrays, args, strict=True)):
            key = tuple(kinds)                            # as `_plain_key` has it
        try:
            hash(key)
        except TypeError as error:
            raise ArgumentError(f"compile: expected arrays, Tensors and hashable values as arguments, got one that is not "
                                f"({error}). Pass it as an array.") from error
        return arrays, key

    def _make(self, args: tuple, kwargs: dict, leaves: Sequence, key: Any) -> Program:
        call = described(self._f, args, kwargs, self._static, mode_now().record)
        with unwatched(), staged() as stages, stage("trace"):
            program = traced(self._f, args, kwargs, leaves, self._static, self._backend, self._reuse)
        self._found.setdefault(key, []).append(program)
        note(Compilation(program.name, program.backend, len(self._calls) + 1, reason(call, self._calls), stages.seconds,
                         stages.found, stages.made))
        self._calls.append(call)
        self.programs += 1
        if self.programs == MANY:
            warnings.warn(f"compile: expected few programs for {program.name}, got {self.programs}: its calls differ in "
                          f"{varying(self._calls)}. Pass numbers as arrays, pad to few shapes; gg.profile() shows each.",
                          stacklevel=4)
        return program


def fixed(x: Any) -> tuple:
    """What a program depends on of an argument that is part of it. -0.0 is not 0.0; slices have no hash before Python 3.12."""
    if isinstance(x, slice):
        return slice, fixed(x.start), fixed(x.stop), fixed(x.step)
    return type(x), repr(x) if isinstance(x, float) else x


def same_array(i: int, j: int, arguments: Sequence) -> bool:
    return arguments[i] is arguments[j]


def traced(f: Callable, args: tuple, kwargs: dict, leaves: Sequence, static: frozenset[int], backend: str,
           reuse_outputs: bool) -> Program:
    """The program of one call of f."""
    trace = Trace()
    places = {id(x): i for i, x in reversed(list(enumerate(leaves)))}
    named = named_arrays(f, args, kwargs, static)
    with watched(trace) as doors:
        symbols: dict[int, Any] = {}
        for i, (x, (_, original)) in enumerate(zip(leaves, named, strict=True)):
            j = places[id(x)]
            if j != i:                                   # one array twice
                trace.checks.append(functools.partial(same_array, i, j))
            elif isinstance(x, Tensor):
                doors.arguments[id(x)] = i
                doors.meet(x, DATA.__get__(x), lambda arguments, i=i: arguments[i]._data)
            else:
                symbols[id(x)] = trace.input(x, lambda arguments, i=i: arguments[i])
                symbols[id(x)].scalar = isinstance(original, numpy.generic)
        before = {key: s.value for key, s in symbols.items()}
        stand_ins = iter([symbols.get(id(x), x) for x in leaves])

        def stand_in(x: Any) -> Any:
            return next(stand_ins) if is_traced(x) else x
        given = [a if i in static else mapped(stand_in, a) for i, a in enumerate(args)]
        out = f(*given, **mapped(stand_in, kwargs))
        doors.finish()
        for key, s in symbols.items():
            if s.value is not before[key]:
                trace.writes.append((s, lambda arguments, array, i=places[key]: filled(arguments[i], array), before[key]))
        returned = Returned(out, doors, places, symbols)
        graph = trace.graph(returned.symbols)
    return Program(f, trace, graph, [named[i][0] for i in sorted(places.values())], returned, backend, reuse_outputs)


def filled(array: Any, new: Any) -> None:
    """Write a result into an argument."""
    if array is not new:
        array[...] = new


def mapped(function: Callable, tree: Any) -> Any:
    leaves, build = flatten(tree)
    return build(list(map(function, leaves)))


def is_traced(x: Any) -> bool:
    """True for what varies from call to call: arrays, Tensors, and NumPy's scalars."""
    return isinstance(x, Tensor) or is_array(x)


def named_arrays(f: Callable, args: tuple, kwargs: dict, static: frozenset[int]) -> list[tuple[str, Any]]:
    """The arrays among the arguments, in order, each with its parameter's name, numbered where the argument holds several."""
    names, found = parameters(f, len(args)), []
    for name, value in [(names[i], a) for i, a in enumerate(args) if i not in static] + list(kwargs.items()):
        arrays = [x for x in flatten(value)[0] if is_traced(x)]
        found += [(name if len(arrays) == 1 or not name else f"{name}{i}", x) for i, x in enumerate(arrays)]
    return found
