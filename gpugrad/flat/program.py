"""Program: what one trace became, ready to run, to read and to save."""
from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy

from gpugrad.arrays.memory import owner
from gpugrad.errors import ArgumentError, GpugradError
from gpugrad.flat.cost import Cost, Kernel, cost, kernels
from gpugrad.flat.emit_numpy import Emitted, emit
from gpugrad.flat.ir import Graph, Value
from gpugrad.flat.plan import makes_new
from gpugrad.flat.returned import Returned
from gpugrad.flat.simplify import simplify
from gpugrad.flat.stages import stage
from gpugrad.flat.trace import Trace
from gpugrad.graph.record import explained


class Program:
    """A flat program. It runs on the arrays and Tensors among the arguments of its function, in order.

    backend  what runs it: "numpy" its own text, "llvm" fused loops of the same operations
    source   its text; `save(path)` writes a file that needs NumPy alone
    cost     what one run takes, known before it runs: print it
    kernels  what one run does, step by step, with the text of each
    passes   name -> the operations after that pass; `show(name)` is their text
    names    of the first inputs of `graph`, which are arguments
    """

    def __init__(self, f: Callable, trace: Trace, graph: Graph, names: list[str], returned: Returned, backend: str,
                 reuse_outputs: bool = False):
        self.name = getattr(f, "__name__", "program")
        self.names = names
        with stage("simplify"):
            self.passes = {"traced": graph, **simplify(graph, looks=trace.device is None)}
        self.graph = self.passes["simplified"]
        written = [(symbol, home) for symbol, _, home in trace.writes if symbol is not None]
        outputs = self.graph.outputs
        self._homes = {i: home for i, (_, home) in enumerate(written, len(returned.symbols)) if home is not None}
        homes = {outputs[i]: home for i, home in self._homes.items() if outputs.count(outputs[i]) == 1 and home not in outputs}
        self.backend = "llvm" if backend == "auto" and find_spec("llvmlite") is not None else backend.replace("auto", "numpy")
        self._emit = lambda: emit(self.graph, names, homes)
        made: Any
        if backend != "auto" and (backend == "cuda") != (trace.device is not None):
            raise ArgumentError(f"compile: expected backend 'cuda' for arrays on a GPU, and another for those on the cpu, "
                                f"got {backend!r} for arrays on {trace.device or 'cpu'}. Use 'auto'.")
        with stage("emit"):
            if trace.device is not None:
                from gpugrad.flat.emit_cuda import emit as emit_launches
                self.backend = "cuda"
                made = emit_launches(self.graph, self._homes, trace, reuse_outputs)
            elif self.backend == "llvm":
                from gpugrad.flat.emit_llvm import emit as emit_loops
                made = emit_loops(self.graph, homes)
            else:
                made = self._emitted
        self._run = made.run
        self._checks = trace.checks if self.backend != "cuda" else [*trace.checks, made.serves]
        self._before = trace.before
        self._reads = [read for _, read in trace.inputs]
        self._makers, self._build, self._returned = returned.makers, returned.build, len(returned.symbols)
        self._looks = [(i, look) for i, look, _ in returned.looks]
        self._writes = [(write, symbol is not None) for symbol, write, _ in trace.writes]
        symbols = [id(symbol) for symbol in (*returned.symbols, *[symbol for symbol, _ in written])]
        firsts = [symbols.index(symbol) for symbol in symbols]               # a gradient that is returned is one array
        looked = {number for _, _, number in returned.looks}
        own = [i for i in range(len(outputs)) if i not in self._homes and i not in looked]
        self._twins = {i: firsts[i] for i in own if firsts[i] in own and firsts[i] != i}
        self._shared = [i for i in own if i not in self._twins and may_be_shared(
            outputs[i], [outputs[j] for j in own if j < i and j not in self._twins])]
        if self.backend == "cuda":
            self._shared = []                             # what a replay returns is its own
        self.steps: Sequence = made.steps
        self._laid_out = made.graph if self.backend == "numpy" else self.graph
        inputs = {v: i for i, v in enumerate(self.graph.inputs)}
        self._in_place = list(made.homes)
        self._overwritten = [inputs[home] for home in made.homes.values()]
        self._others = sorted(set(range(len(inputs))) - set(self._overwritten))

    def serves(self, arguments: Sequence) -> bool:
        """True where this program does what the function would do now."""
        for check in self._checks:  # noqa: SIM110 - a generator costs more than the checks
            if not check(arguments):
                return False
        return True

    def __call__(self, arguments: Sequence) -> Any:
        for step in self._before:
            step()
        inputs = [read(arguments) for read in self._reads]
        if self._overwritten:                             # what shares memory with them is to be read as it was
            memory = {id(x if x.base is None else owner(x)) for x in [inputs[i] for i in self._overwritten]}
            for i in self._others:
                x = inputs[i]
                if id(x if x.base is None else owner(x)) in memory:
                    inputs[i] = x.copy()
        try:
            outputs = self._run(inputs)
        except Exception as error:
            raise self._explained(error, inputs) from error
        for i in self._shared:
            outputs[i] = outputs[i].copy()
        for i, first in self._twins.items():
            outputs[i] = outputs[first]
        number = self._returned
        for write, has_array in self._writes:
            write(arguments, outputs[number] if has_array else None)
            number += has_array
        results = [make(arguments, outputs) for make in self._makers]
        for i, look in self._looks:
            results[i] = look(arguments, results)
        return self._build(results)

    def _explained(self, error: Exception, inputs: list) -> Exception:
        """The error that the function itself would have raised: the same operation on the same arrays says it."""
        if self.backend == "cuda" or (isinstance(error, GpugradError) and self.backend != "numpy"):     # NumPy's may be of a tile
            return error
        arrays: dict[Value, Any] = {**dict(zip(self.graph.inputs, inputs, strict=True)), **self.graph.constants}
        for op in self.graph.ops:
            values = [arrays[x] if isinstance(x, Value) else x for x in op.args]
            try:
                function: Any = op.function
                y = function(*values, **op.params)
            except Exception as again:
                return explained(again, op, values, op.params)
            arrays.update(zip(op.outputs, map(numpy.asarray, y if op.several else (y,)), strict=True))
        return error

    @functools.cached_property
    def _emitted(self) -> Emitted:
        """The program as NumPy; where loops run it, only made to be read."""
        return self._emit()

    # to read -------------------------------------------------------------------------------------------------------------

    @property
    def source(self) -> str:
        """The program as flat NumPy: one line an operation, under the line of the function that asked for it."""
        return self._emitted.source

    def show(self, name: str = "simplified") -> str:
        """The operations after a pass: "traced", then the names of the passes, then "simplified"."""
        if name not in self.passes:
            raise ArgumentError(f"show: expected a pass among {', '.join(self.passes)}, got {name!r}. Choose one of them.")
        return str(self.passes[name])

    def save(self, path: Any) -> None:
        """Write a file that runs with NumPy alone: `run(inputs)` on a list of arrays, as this program runs."""
        from gpugrad.flat.standalone import standalone
        with open(path, "w", encoding="utf-8") as file:
            file.write(standalone(self.name, self.graph, self._emitted))

    @functools.cached_property
    def _counted(self) -> Cost:
        return cost(self.name, self.backend, self.graph, self._laid_out, self.steps, self._in_place)

    @property
    def cost(self) -> Cost:
        """Launches, bytes, flops, saved and peak memory, and modelled times, for the CPU and a GPU; known before it runs.

        Once it has run on a GPU, also why it could not be captured, where it could not."""
        return dataclasses.replace(self._counted, no_graph=self._refused)

    @property
    def _refused(self) -> str | None:
        return getattr(self._run, "refused", None)         # of a program on a GPU

    @functools.cached_property
    def kernels(self) -> list[Kernel]:
        """What one run does, in order: each a fused group or a single operation, with its text, its size and a modelled time."""
        return kernels(self._laid_out, self.steps, self.backend)

    def __repr__(self) -> str:
        rest = "" if self._refused is None else f"; no graph: {self._refused}"
        return f"Program({self.name}, {self.backend}: {len(self.graph.ops)} operations in {len(self.steps)} steps{rest})"


def may_be_shared(v: Value, others: list[Value]) -> bool:
    """True for a result that could be memory of an input, a constant or another result."""
    return v.op is None or v in others or not makes_new(v.op)
