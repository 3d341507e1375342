"""Program: what one trace became, ready to run, to read and to save."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad.flat.emit_numpy import emit
from gpugrad.flat.ir import Graph
from gpugrad.flat.simplify import simplify
from gpugrad.flat.trace import Trace


class Program:
    """A flat program. `source` is its text; `str(program.graph)` its operations.

    program(arguments) runs it on the arrays and Tensors among the arguments, in order.
    """

    def __init__(self, f: Callable, trace: Trace, graph: Graph, names: list[str], makers: list[Callable], build: Callable,
                 returned: int, backend: str):
        self.name = getattr(f, "__name__", "program")
        self.traced = graph
        self.passes = {"traced": graph, **simplify(graph)}
        self.graph = self.passes["simplified"]
        self._emitted = emit(self.graph, names)
        self._run = self._emitted.run
        self._checks = trace.checks
        self._before = trace.before
        self._reads = [read for _, read in trace.inputs]
        self._makers, self._build, self._returned = makers, build, returned
        self._writes = [(write, symbol is not None) for symbol, write in trace.writes]

    def serves(self, arguments: list) -> bool:
        """True where this program does what the function would do now."""
        return all(check(arguments) for check in self._checks)

    def __call__(self, arguments: list) -> Any:
        for step in self._before:
            step()
        outputs = self._run([read(arguments) for read in self._reads])
        number = self._returned
        for write, has_array in self._writes:
            write(arguments, outputs[number] if has_array else None)
            number += has_array
        return self._build([make(arguments, outputs) for make in self._makers])

    @property
    def source(self) -> str:
        """The program's text."""
        return self._emitted.source
