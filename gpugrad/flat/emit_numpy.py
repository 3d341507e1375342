"""Programs as flat NumPy source, one line an operation: the text that runs is the text that is shown and saved."""
from __future__ import annotations

import keyword
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy

from gpugrad.arrays.levelled import ARRAY, filled
from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.flat.plan import Plan, last_uses, plan, writes_out


class Emitted(NamedTuple):
    """run      list of input arrays -> list of output arrays
    source   the function's text
    helpers  name in the text -> function that is not NumPy's own
    buffers  name in the text -> where in the arena it is
    constants name -> array
    plan     the memory plan
    homes    output -> the input in whose memory it is made
    """

    run: Callable
    source: str
    helpers: dict[str, Callable]
    constants: dict[str, numpy.ndarray]
    buffers: dict[str, tuple[int, Value]]
    plan: Plan
    homes: dict[Value, Value]


class Raw(str):
    """A piece of source; everything else in parameters is written by its repr."""

    __slots__ = ()


def sliced(item: Any) -> str:
    """An item of an index as it is written between brackets."""
    if isinstance(item, slice):
        parts = ["" if p is None else repr(p) for p in (item.start, item.stop)]
        return ":".join(parts) + ("" if item.step is None else f":{item.step}")
    return "..." if item is ... else str(item) if isinstance(item, Raw) else repr(item)


def indexed(x: str, index: Any) -> str:
    if not isinstance(index, tuple):
        return f"{x}[{sliced(index)}]"
    return f"{x}[{', '.join(map(sliced, index))}{',' if len(index) == 1 else ''}]" if index else f"{x}[()]"


def reduction(name: str) -> Callable:
    return lambda x, axis, keepdims: f"{x}.{name}(axis={axis}{', keepdims=True' if keepdims else ''})"


#: Operations with NumPy text of their own. The others are calls of NumPy's functions or of helpers.
TEXTS: dict[str, Callable[..., str]] = {
    "alias": lambda x: x,
    "reshape": lambda x, shape: f"{x}.reshape({shape})",
    "transpose": lambda x, axes: f"{x}.T" if axes == (1, 0) else f"{x}.transpose({axes})",
    "astype": lambda x, dtype: f"{x}.astype('{dtype}')",
    "discretise": lambda x, dtype: f"{x}.astype('{dtype}')",
    "getitem": indexed,
    "gather": lambda x, *arrays, index: indexed(x, filled(index, tuple(map(Raw, arrays)))),
    "concatenate": lambda *xs, axis: f"np.concatenate([{', '.join(xs)}], {axis})",
    "stack": lambda *xs, axis=0: f"np.stack([{', '.join(xs)}], {axis})",
    "zeros_as": lambda x, shape: f"np.zeros_like({x}, shape={shape})",
    "unit_step": lambda x: f"({x} > 0).astype({x}.dtype)",
    "roll": lambda x, shift, axis: f"np.roll({x}, {shift}, {axis})",
    "round": lambda x, decimals: f"{x}.round({decimals})",
    "conj": lambda x: f"{x}.conjugate()",
    "real": lambda x: f"{x}.real",
    "imag": lambda x: f"{x}.imag",
    "matrix_transpose": lambda x: f"{x}.swapaxes(-1, -2)",
    "cumsum": lambda x, axis: f"{x}.cumsum({axis})",
    "cumprod": lambda x, axis: f"{x}.cumprod({axis})",
    "argmax": lambda x, axis: f"{x}.argmax({axis})",
    "argmin": lambda x, axis: f"{x}.argmin({axis})",
    "sort": lambda x, axis: f"np.sort({x}, {axis})",
    "convolve": lambda a, v, mode: f"np.convolve({a}, {v}, '{mode}')",
    "searchsorted": lambda a, v, side: f"np.searchsorted({a}, {v}, '{side}')",
    "argpartition": lambda x, kth, axis: f"np.argpartition({x}, {kth}, {axis})",
    "diagonal": lambda x, offset, axis1, axis2: f"{x}.diagonal({offset}, {axis1}, {axis2})",
    "counted": lambda x, size, rank: f"np.arange({size}).reshape({(-1, *(1,) * rank)})",
    **{name: reduction(name) for name in ("sum", "max", "min", "prod", "all", "any")},
}


def emit(graph: Graph, names: Sequence[str] = (), homes: dict[Value, Value] | None = None) -> Emitted:
    """The program as a function of a list of arrays.

    names  what to call the inputs, where there is a name
    homes  output -> the input that it is to overwrite; it is made there where nothing reads the input any more
    """
    called = Names(graph, names)
    memory, homes = plan(graph), at_home(graph, homes or {})
    helpers: dict[str, Callable] = {}
    buffers: dict[str, tuple[int, Value]] = {}
    body, last_line, ends = [], None, deaths(graph, memory)
    for i, op in enumerate(graph.ops):
        where = op.line if op.forward is None else f"backward of {op.forward.name}: {op.line}"
        if where != last_line:
            body.append(f"    # {where}")
            last_line = where
        body.append("    " + statement(op, called, memory, homes, helpers, buffers))
        if ends[i]:
            body[-1] += f"; del {', '.join(called[v] for v in ends[i])}"
    inputs = ", ".join([called[v] for v in graph.inputs])
    head = [f"    {inputs}{',' if len(graph.inputs) == 1 else ''} = inputs"] if graph.inputs else []
    constants = {called[v]: array for v, array in graph.constants.items()}
    tail = f"    return [{', '.join([called[v] for v in graph.outputs])}]"
    source = "\n".join(["def run(inputs):", *head, *body, tail]) + "\n"
    scope: dict[str, Any] = {"np": numpy, "nan": numpy.nan, "inf": numpy.inf, **helpers, **constants}
    block = numpy.empty(memory.nbytes, numpy.uint8)
    for name, (start, v) in buffers.items():
        scope[name] = block[start:start + v.nbytes].view(v.dtype).reshape(v.shape)
    exec(compile(source, "<program>", "exec"), scope)
    return Emitted(scope["run"], source, helpers, constants, buffers, memory, homes)


class Names(dict):
    """A name for each value."""

    def __init__(self, graph: Graph, names: Sequence[str]):
        super().__init__()
        used = {"np", "nan", "inf", "inputs", "run"}
        for i, v in enumerate(graph.inputs):
            name = names[i] if i < len(names) and names[i].isidentifier() else f"s{i}"
            while name in used or keyword.iskeyword(name):
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


def deaths(graph: Graph, memory: Plan) -> list[list[Value]]:
    """The values that no later operation needs, after each operation; what is in the arena stays."""
    last = last_uses(graph)
    found: list[list[Value]] = [[] for _ in graph.ops]
    for op in graph.ops:
        for v in op.outputs:
            end = last.get(v)
            if v not in memory.place and end is not None and end < len(graph.ops) and v.nbytes > 1 << 16:
                found[end].append(v)
    return found


def at_home(graph: Graph, homes: dict[Value, Value]) -> dict[Value, Value]:
    """The outputs that can be made in the memory of an input: no later operation reads it."""
    last, found = last_uses(graph), {}
    for i, op in enumerate(graph.ops):
        y = op.outputs[0]
        home = homes.get(y)
        if (home is not None and writes_out(op) and op.name != "matmul" and last.get(home, i) <= i
                and home.shape == y.shape and home.dtype == y.dtype):
            found[y] = home
    return found


def statement(op: Op, called: Names, memory: Plan, homes: dict, helpers: dict, buffers: dict) -> str:
    """One line of source."""
    args = [called[x] if isinstance(x, Value) else repr(x)
            for x in op.args]
    y = ", ".join([called[v] for v in op.outputs]) + ("," if op.several and len(op.outputs) == 1 else "")
    out = op.outputs[0] if not op.several else None
    if op.name == "matmul" and all(x.ndim == 2 for x in op.values):
        name = "np.matmul"
    elif isinstance(op.function, numpy.ufunc):
        name = f"np.{op.function.__name__}"
    else:
        name = ""
    if out is not None and (out in memory.place or out in homes):
        target = called[homes[out]] if out in homes else f"b{out.number}"
        if out not in homes:
            buffers[target] = memory.place[out], out
        return f"{y} = {name or 'np.matmul'}({', '.join(args)}, out={target})"
    if op.name in TEXTS and not holds_arrays(op.params.get("index")):
        text = TEXTS[op.name](*args, **op.params)
    else:
        given = ", ".join([*args, *[f"{k}={parameter(v, helpers)}" for k, v in op.params.items()]])
        text = f"{name or function_name(op, helpers)}({given})"
    if out is not None and not op.outputs[0].shape:
        text = f"np.asarray({text})"
    return f"{y} = {text}"


def holds_arrays(index: Any) -> bool:
    return isinstance(index, numpy.ndarray) or (isinstance(index, tuple) and any(map(holds_arrays, index)))


def parameter(v: Any, helpers: dict) -> str:
    """A static parameter as source; what has no text of its own is kept as an object."""
    if v is None or v is ... or isinstance(v, bool | int | float | complex | str):
        return "..." if v is ... else repr(v)
    if isinstance(v, numpy.dtype):
        return f"np.dtype('{v}')"
    if type(v) is slice:
        return f"slice({', '.join(parameter(p, helpers) for p in (v.start, v.stop, v.step))})"
    if type(v) in (tuple, list):
        parts = ", ".join([parameter(p, helpers) for p in v])
        return f"[{parts}]" if type(v) is list else f"({parts},)" if len(v) == 1 else f"({parts})"
    name = "ARRAY" if v is ARRAY else f"p{len(helpers)}"
    helpers[name] = v
    return name


def function_name(op: Op, helpers: dict) -> str:
    """NumPy's own name, or that of a helper."""
    function: Any = op.function
    name = getattr(function, "__name__", op.name)
    if getattr(numpy, name, None) is function:
        return f"np.{name}"
    base = name = op.name if op.name.isidentifier() else "function"
    i = 1
    while helpers.get(name, function) is not function:
        i += 1
        name = f"{base}_{i}"
    helpers[name] = function
    return name
