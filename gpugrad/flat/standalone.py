"""A program as a file that needs NumPy alone: its text, the functions it calls, its constants and its arena."""
from __future__ import annotations

import ast
import base64
import functools
import inspect
import math
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy

from gpugrad.arrays.levelled import ARRAY
from gpugrad.errors import ArgumentError
from gpugrad.flat.emit_numpy import Emitted
from gpugrad.flat.ir import Graph
from gpugrad.graph.namespace import PRIMITIVES

#: Constants up to this many elements are written as numbers, larger ones as text of their bytes.
READABLE = 1000

#: Modules of which only devices have a use; what is made of them stays out of the file.
FOR_DEVICES = frozenset({f"gpugrad.kernels.{name}" for name in (
    "cublaslt", "elementwise", "expression", "gate", "geometry", "instances", "launch", "load", "lt_library", "lt_plan", "probes",
    "ptxas", "record", "signature")})

#: Functions whose choice between libraries a file for NumPy has no use for: (module, name) -> source.
ON_THE_HOST = {
    ("gpugrad.kernels.matmul", "matmul"): "def matmul(xp):\n    return xp.matmul",
    ("gpugrad.kernels.elementwise", "generated"): "def generated(name, passes):\n    return passes",
}


def standalone(name: str, graph: Graph, emitted: Emitted) -> str:
    """The text of the file. Raises ArgumentError for a program that calls what only its Python session has."""
    parts = Parts()
    made = {}
    function: Any
    for helper, function in emitted.helpers.items():
        if isinstance(function, numpy.ndarray):
            parts.constants[helper] = function
            continue
        if function is ARRAY:
            parts.take(ARRAY.__module__, helper)
            continue
        prim = next((p for p in PRIMITIVES.values() if p.impls[numpy.ndarray] is function), None) if callable(function) else None
        factory = prim and parts.factory(prim.impls.impl)
        if factory is None:
            raise ArgumentError(f"save: expected operations of gpugrad's own, got {helper}, whose source is not known. "
                                "Write it with gpugrad's functions.")
        made[helper] = factory
    parts.constants.update(emitted.constants)
    if emitted.scratch:
        parts.take("gpugrad.flat.threads", "in_tiles")
    room = parts.take("gpugrad.flat.spots", "aligned") if emitted.buffers or emitted.scratch else ""
    inputs = [f"    {label.strip():<12} {v.dtype} {v.shape}" for label, v in
              zip(emitted.source.split("\n")[1].split("=")[0].split(","), graph.inputs, strict=False)]
    outputs = ", ".join(f"{v.dtype} {v.shape}" for v in graph.outputs)
    lines = [f'"""{name}, as one flat program: run(inputs) -> outputs, lists of arrays.', "", "inputs:", *inputs,
             f"outputs: {outputs}", '"""', "from __future__ import annotations", "",
             *sorted(parts.imports, key=lambda text: (" = None" in text, text)), "",
             "nan, inf = np.nan, np.inf", ""]
    lines += [text + "\n\n" for text in parts.texts]
    if made:                                               # all are made before the names change hands
        lines += [f"({', '.join(made)},) = ({', '.join(f'{factory}(np)' for factory in made.values())},)"]
    lines += [f"{label} = {written(array)}" for label, array in parts.constants.items()]
    lines += [line for label, v in emitted.results.items()
              for line in ("", f"def {label}():", f"    return np.empty({v.shape}, '{v.dtype}')")]
    if emitted.buffers:
        lines += [f"arena = {room}({emitted.plan.nbytes})"]
        lines += [f"{label} = arena[{start}:{start + v.nbytes}].view('{v.dtype}').reshape({v.shape})"
                  for label, (start, v) in emitted.buffers.items()]
    if emitted.scratch:
        lines += [f"threads = [{room}({emitted.plan.thread}) for _ in range(WORKERS)]"]
    for label, group in emitted.scratch.items():
        lines += [f"{label} = [({''.join(f'{view(place)}, ' for place in group.arrays)}) for own in threads[:{group.tiles}]]"]
    return "\n".join([*lines, "", "", emitted.source])


def view(place: tuple[int, tuple, Any]) -> str:
    """An array in a thread's own memory."""
    start, shape, dtype = place
    return f"own[{start}:{start + math.prod(shape) * dtype.itemsize}].view('{dtype}').reshape({shape})"


class Parts:
    """Definitions of modules, each with those that it needs, in order."""

    def __init__(self) -> None:
        self.imports = {"import numpy as np", "import numpy"}
        self.texts: list[str] = []
        self.constants: dict[str, numpy.ndarray] = {}
        self.taken: dict[tuple[str, str], str] = {}        # (module, name) -> the name in the file

    def factory(self, function: Callable) -> str | None:
        """The text of a function xp -> implementation, whose definition is taken; None where it is not in our modules."""
        place = definition(function)
        if place is not None:
            return self.take(*place)
        module, line = function.__module__, function.__code__.co_firstlineno
        if not module.startswith("gpugrad."):
            return None
        source = contents(module)[2]
        for node in ast.walk(ast.parse("\n".join(source))):
            if isinstance(node, ast.keyword) and node.arg == "impl" and node.value.lineno == line:
                text = ast.unparse(node.value)
                for old, other in self.take_mentioned(module, node.value).items():
                    text = re.sub(rf"\b{old}\b", other, text)
                return f"({text})"
        return None

    def take_mentioned(self, module: str, node: ast.AST, but: str = "") -> dict[str, str]:
        """Take what a statement mentions; the names that are others in the file."""
        defined, imported, _ = contents(module)
        mentioned = sorted({n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - {but})
        found = {name: self.take(module, name) for name in mentioned if name in defined or name in imported}
        return {name: new for name, new in found.items() if new != name}

    def take(self, module: str, name: str) -> str:
        """The definition of a name in a module, after all that it mentions; what the file calls it."""
        defined, imported, source = contents(module)
        if name in imported:
            statement, home, original = imported[name]
            if home in FOR_DEVICES and (home, original) not in ON_THE_HOST:
                self.imports.add(f"{name} = None")
            elif home is None or not home.startswith("gpugrad."):
                self.imports.add(statement)
            else:
                return self.take(home, original)
            return name
        if (module, name) in self.taken or name not in defined:
            return self.taken.get((module, name), name)
        new = name if name not in self.taken.values() else f"{name}_{module.rpartition('.')[2]}"
        self.taken[module, name] = new
        node = defined[name]
        if (module, name) in ON_THE_HOST:
            text, names = ON_THE_HOST[module, name], dict[str, str]()
        elif isinstance(node, ast.Assign | ast.AnnAssign) and for_devices(module, node):
            text, names = f"{name} = None", {}
        else:
            names = self.take_mentioned(module, node, but=name)
            first = min([node.lineno, *[d.lineno for d in getattr(node, "decorator_list", ())]])
            text = "\n".join(source[first - 1:node.end_lineno])
        for old, other in {**names, name: new}.items():
            text = re.sub(rf"\b{old}\b", other, text)
        self.texts.append(text)
        return new


def for_devices(module: str, node: ast.AST) -> bool:
    """True for a statement that runs what only devices have."""
    imported = contents(module)[1]
    homes = [imported[n.id][1:] for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in imported]
    return any(home[0] in FOR_DEVICES and home not in ON_THE_HOST for home in homes)


@functools.cache
def contents(module: str) -> tuple[dict[str, ast.stmt], dict[str, tuple[str, str | None, str]], list[str]]:
    """What a module defines (name -> statement), what it imports (name -> statement, module, name there), its lines."""
    source = inspect.getsource(sys.modules[module])
    defined: dict[str, ast.stmt] = {}
    imported: dict[str, tuple[str, str | None, str]] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                defined.update({n.id: node for n in ast.walk(target) if isinstance(n, ast.Name)})
        elif isinstance(node, ast.Import):
            for alias in node.names:
                imported[alias.asname or alias.name] = ast.unparse(ast.Import([alias])), None, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                text = ast.unparse(ast.ImportFrom(node.module, [alias], 0))
                imported[alias.asname or alias.name] = text, node.module, alias.name
    return defined, imported, source.splitlines()


def definition(factory: Callable) -> tuple[str, str] | None:
    """(module, name) of a function at the top of one of our modules."""
    for place in [m for m in sys.modules if m.startswith(("gpugrad.kernels.", "gpugrad.arrays.", "gpugrad.rules."))]:
        for name, value in vars(sys.modules[place]).items():
            if value is factory and name in contents(place)[0]:
                return place, name
    return None


def written(array: numpy.ndarray) -> str:
    """A constant as source: one number where it is one."""
    if array.size and bool((array == array.flat[0]).all()) and not numpy.signbit(numpy.real(array.flat[0])):
        if any(array.strides):                             # an array that BLAS reads
            return f"np.full({array.shape}, {array.flat[0].item()!r}, '{array.dtype}')"
        return f"np.broadcast_to(np.array({array.flat[0].item()!r}, '{array.dtype}'), {array.shape})"
    if array.size <= READABLE:
        return f"np.array({array.ravel().tolist()!r}, '{array.dtype}').reshape({array.shape})"
    text = base64.b64encode(numpy.ascontiguousarray(array).tobytes()).decode()
    return f"np.frombuffer(__import__('base64').b64decode('{text}'), '{array.dtype}').reshape({array.shape})"
