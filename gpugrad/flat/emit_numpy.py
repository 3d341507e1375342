"""Programs as flat NumPy source, one line an operation: the text that runs is the text that is shown and saved."""
from __future__ import annotations

import keyword
import math
import re
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy

from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.flat.numpy_text import TEXTS, Raw, function_name, holds_arrays, parameter
from gpugrad.flat.passes_over_rows import written_out
from gpugrad.flat.plan import Plan, in_place, last_uses, may_replace, plan, target, viewed
from gpugrad.flat.results import LEAST, maker
from gpugrad.flat.spots import aligned
from gpugrad.flat.threads import in_tiles
from gpugrad.flat.tiles import COLUMN_PRODUCTS, Step, Tile, grouped, lead

#: An array in a thread's scratch: its first byte, shape and dtype.
Place = tuple[int, tuple[int, ...], Any]


class Scratch(NamedTuple):
    """The arrays that a thread needs for a group of so many tiles: no more threads than tiles work on it."""

    tiles: int
    arrays: list[Place]


class Emitted(NamedTuple):
    """graph    the program that the text is of
    run      list of input arrays -> list of output arrays
    source   the function's text
    helpers  name in the text -> function that is not NumPy's own
    buffers  name in the text -> where in the arena it is
    constants name -> array
    plan     the memory plan
    homes    output -> the input in whose memory it is made
    scratch  name in the text -> the arrays of a group
    results  name in the text of what gives memory for it -> output
    steps    what it does, in order: groups and single operations
    """

    graph: Graph
    run: Callable
    source: str
    helpers: dict[str, Callable]
    constants: dict[str, numpy.ndarray]
    buffers: dict[str, tuple[int, Value]]
    plan: Plan
    homes: dict[Value, Value]
    scratch: dict[str, Scratch]
    results: dict[str, Value]
    steps: list[Step]


#: Names of buffers, groups, their arrays and parameters without a text.
RESERVED = re.compile(r"(b|t|p|new_|tile_|scratch_)\d+")


def emit(graph: Graph, names: Sequence[str] = (), homes: dict[Value, Value] | None = None) -> Emitted:
    """The program as a function of a list of arrays.

    names  what to call the inputs, where there is a name
    homes  output -> the input that it is to overwrite; it is made there where nothing reads the input any more
    """
    graph, now = written_out(graph)
    steps = grouped(graph)
    homes = {now.get(y, y): home for y, home in (homes or {}).items()}
    memory, homes = plan(graph, steps), at_home(steps, graph, homes)
    writer = Writer(Names(graph, names), memory, homes, set(graph.outputs))
    ends = deaths(steps, graph, memory)
    for step, dead in zip(steps, ends, strict=True):
        if isinstance(step, Tile):
            writer.tile(step)
        else:
            writer.comment(step)
            writer.line(writer.statement(step) + (f"; del {', '.join([writer.called[v] for v in dead])}" if dead else ""))
    called = writer.called
    inputs = ", ".join([called[v] for v in graph.inputs])
    head = [f"    {inputs}{',' if len(graph.inputs) == 1 else ''} = inputs"] if graph.inputs else []
    constants = {called[v]: array for v, array in graph.constants.items()}
    tail = f"    return [{', '.join([called[v] for v in graph.outputs])}]"
    source = "\n".join(["def run(inputs):", *head, *writer.lines, tail]) + "\n"
    scope: dict[str, Any] = {"np": numpy, "nan": numpy.nan, "inf": numpy.inf, **writer.helpers, **constants}
    scope |= arrays(memory, writer.buffers, writer.scratch)
    scope |= {name: maker(v.shape, v.dtype) for name, v in writer.results.items()}
    if writer.scratch:
        scope["in_tiles"] = in_tiles
    exec(compile(source, "<program>", "exec"), scope)
    run = one_at_a_time(scope["run"]) if memory.kept else scope["run"]
    return Emitted(graph, run, source, writer.helpers, constants, writer.buffers, memory, homes, writer.scratch, writer.results,
                   steps)


def one_at_a_time(run: Callable) -> Callable:
    """run, which works in memory of its own, for one thread at a time."""
    lock = Lock()

    def alone(inputs: list) -> list:
        with lock:
            return run(inputs)
    return alone


def arrays(memory: Plan, buffers: dict[str, tuple[int, Value]], scratch: dict[str, Scratch]) -> dict[str, Any]:
    """The arrays that the text names: parts of the arena, and for each group those of each thread."""
    arena = aligned(memory.nbytes)
    found: dict[str, Any] = {name: part(arena, start, v.shape, v.dtype) for name, (start, v) in buffers.items()}
    threads = [aligned(memory.thread) for _ in range(memory.threads)]
    for name, group in scratch.items():
        found[name] = [tuple([part(own, *where) for where in group.arrays]) for own in threads[:group.tiles]]
    return found


def part(block: numpy.ndarray, start: int, shape: tuple[int, ...], dtype: Any) -> numpy.ndarray:
    """An array that begins at a byte of a block."""
    dtype = numpy.dtype(dtype)
    return block[start:start + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)


class Names(dict):
    """A name for each value."""

    def __init__(self, graph: Graph, names: Sequence[str]):
        super().__init__()
        used = {"np", "nan", "inf", "inputs", "run", "in_tiles", "i", "j", *[op.name for op in graph.ops]}
        for i, v in enumerate(graph.inputs):
            name = names[i] if i < len(names) and names[i].isidentifier() else f"s{i}"
            while name in used or keyword.iskeyword(name) or RESERVED.fullmatch(name):
                name += "_"
            used.add(name)
            self[v] = name
        self.used = used
        for i, v in enumerate(graph.constants):
            self[v] = self.free(f"c{i}")
        for op in graph.ops:
            for v in op.outputs:
                self[v] = self.free(f"v{v.number}")

    def free(self, name: str) -> str:
        while name in self.used:
            name += "_"
        self.used.add(name)
        return name


def deaths(steps: Sequence[Step], graph: Graph, memory: Plan) -> list[list[Value]]:
    """The values that no later step needs, after each step; what is in the arena stays."""
    last = last_uses(steps, graph)
    found: list[list[Value]] = [[] for _ in steps]
    for step in steps:
        for v in step.outputs:
            end = last.get(v)
            if v not in memory.place and end is not None and end < len(steps) and v.nbytes > 1 << 16:
                found[end].append(v)
    return found


def at_home(steps: Sequence[Step], graph: Graph, homes: dict[Value, Value]) -> dict[Value, Value]:
    """The outputs that can be made in the memory of an input: no later step reads it."""
    last, views, found = last_uses(steps, graph), viewed(graph), {}
    for i, step in enumerate(steps):
        seen = {s for x in step.values for s in (x, *views.get(x, ()))}
        for y in step.outputs:
            home = homes.get(y)
            if (home is not None and y.op is not None and in_place(y.op) and last.get(home, i) <= i
                    and home.shape == y.shape and home.dtype == y.dtype
                    and (home not in seen or isinstance(step, Op) or may_replace(step, y, home, views))):
                found[y] = home
    return found


class Writer:
    """The lines of the program, and what they name.

    helpers  name -> function that is not NumPy's own
    buffers  name -> (byte in the arena, value)
    scratch  name -> the arrays of a group
    results  name of what gives memory for it -> output
    """

    def __init__(self, called: Names, memory: Plan, homes: dict[Value, Value], outputs: set[Value]):
        self.called, self.memory, self.homes, self.outputs = called, memory, homes, outputs
        self.results: dict[str, Value] = {}
        self.lines: list[str] = []
        self.helpers: dict[str, Callable] = {}
        self.buffers: dict[str, tuple[int, Value]] = {}
        self.scratch: dict[str, Scratch] = {}
        self.indent, self.last = "    ", ""

    def line(self, text: str) -> None:
        self.lines.append(self.indent + text)

    def comment(self, op: Op) -> None:
        """The user's line, where it is another one than before."""
        where = (op.line or "") if op.forward is None else f"backward of {op.forward.name}: {op.line}"
        if where and where != self.last:
            self.line(f"# {where}")
        self.last = where

    def place(self, v: Value | None) -> str | None:
        """Where the value is to be made: in the memory of an input, in the arena, or, where it is large, in memory got for it."""
        if v is None:
            return None
        if v in self.homes:
            return self.called[self.homes[v]]
        name = f"b{v.number}"
        if v in self.memory.place:
            self.buffers[name] = self.memory.place[v], v
        elif v in self.outputs and v.nbytes >= LEAST:
            self.results[f"new_{v.number}"] = v
            return f"new_{v.number}()"
        else:
            return None
        return name

    def statement(self, op: Op) -> str:
        """One line of source."""
        y = ", ".join([self.called[v] for v in op.outputs]) + ("," if op.several and len(op.outputs) == 1 else "")
        place = self.place(target(op))
        text = self.call(op, [self.called[x] if isinstance(x, Value) else repr(x) for x in op.args], place)
        if place is None and not op.several and not op.outputs[0].shape:
            text = f"np.asarray({text})"
        return f"{y} = {text}"

    def call(self, op: Op, args: list[str], out: str | None) -> str:
        """The operation as an expression; its target is made in `out`."""
        if op.name == "matmul" and (out or all(x.ndim == 2 for x in op.values)):
            name = "np.matmul"
        elif isinstance(op.function, numpy.ufunc):
            name = f"np.{op.function.__name__}"
        else:
            name = ""
        widened = op.name == "cumsum" and op.outputs[0].dtype.char == "e"                  # NumPy's own would add up in float16
        if not name and op.name in TEXTS and not widened and not holds_arrays(op.params.get("index")):
            return TEXTS[op.name](*args, **op.params, **({"out": out} if out else {}))
        given = [*args, *[f"{k}={parameter(v, self.helpers)}" for k, v in op.params.items()], *([f"out={out}"] if out else [])]
        return f"{name or function_name(op, self.helpers)}({', '.join(given)})"

    def tile(self, tile: Tile) -> None:
        """The function of a group, after what it fills and before what goes through its rows."""
        tiles = Tiles(self, tile)
        for v in tile.outputs:
            if v in tile.parts:
                continue
            self.line(f"{self.called[v]} = {self.place(v) or f'np.empty({v.shape}, {str(v.dtype)!r})'}")
        for parts in tile.parts.values():
            self.called[parts] = self.place(parts) or ""
        outer, body = self.lines, list[str]()
        self.lines, self.indent, self.last = body, "        ", ""
        for op in tile.ops:
            self.comment(op)
            self.line(tiles.statement(op))
        self.lines, self.indent, self.last = outer, "    ", ""
        name = f"tile_{len(self.scratch) + 1}"
        self.line(f"def {name}({', '.join(['i', 'j', *tiles.names.values()])}):    # rows i to j")
        self.lines += body
        self.scratch[f"scratch_{len(self.scratch) + 1}"] = Scratch(tile.tiles, list(tiles.names))
        self.line(f"in_tiles({name}, {tile.rows}, {tile.step}, scratch_{len(self.scratch)})")
        for v, parts in tile.parts.items():
            assert v.op is not None
            place = self.place(v)
            name = "sum" if v.op.name == COLUMN_PRODUCTS else v.op.name
            text = TEXTS[name](self.called[parts], 0, False, out=place)
            self.line(f"{self.called[v]} = {text if v.shape or place else f'np.asarray({text})'}")


class Tiles:
    """The lines in a group's function. A name followed by [i:j] is an array of all rows; a name alone is the tile's own."""

    def __init__(self, writer: Writer, tile: Tile):
        self.writer, self.group = writer, tile
        self.outside = {*tile.values, *tile.outputs}
        self.names: dict[Place, str] = {}
        self.even = tile.rows % tile.step == 0            # no tile is shorter than the others

    def rows(self, v: Value) -> str:
        return f"{self.writer.called[v]}[{':, ' * lead(v)}i:j]"

    def argument(self, op: Op, x: Any) -> str:
        if not isinstance(x, Value):
            return repr(x)
        return self.rows(x) if x in self.outside and x in self.group.roles[op].by_row else self.writer.called[x]

    def statement(self, op: Op) -> str:
        args = [self.argument(op, x) for x in op.args]
        if self.group.roles[op].partial:
            text = self.writer.call(op, args, None)
            return f"{self.writer.called[self.group.parts[op.outputs[0]]]}[i // {self.group.step}] = {text}"
        out = target(op)
        place = None if out is None else self.rows(out) if out in self.outside else self.own(out)
        if op.name == "reshape":
            shape = list(op.params["shape"])
            shape[lead(op.outputs[0])] = self.group.step if self.even else Raw("j - i")
            text = f"{args[0]}.reshape({', '.join(map(str, shape))})"
        else:
            text = self.writer.call(op, args, place)
        if place is not None and not op.several and out in self.outside:
            return text
        y = ", ".join([self.rows(v) if v in self.outside else self.writer.called[v] for v in op.outputs])
        return f"{y} = {text}"

    def own(self, v: Value) -> str:
        """The value's place in the scratch of the thread. Values of one layout that follow each other there have one name."""
        at = lead(v)
        place = self.writer.memory.scratch[v], (*v.shape[:at], self.group.step, *v.shape[at + 1:]), v.dtype
        name = self.names.setdefault(place, f"t{len(self.names) + 1}")
        return name if self.even else f"{name}[{':, ' * at}:j - i]"
