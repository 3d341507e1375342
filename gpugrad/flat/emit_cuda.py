"""Programs on a GPU: a list of launches, recorded as one CUDA graph and replayed.

`emit(graph, ...)` makes the list. Intermediates live in the program's own pool and die after their last use, so that their
memory is used again within a run; a replay makes nothing but copies of its outputs, and not those when they may be reused.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy

from gpugrad.arrays.memory import owner
from gpugrad.flat.cuda_fuse import Group, fuse, operations
from gpugrad.flat.cuda_gates import with_gates
from gpugrad.flat.cuda_gemm import Native, with_products
from gpugrad.flat.cuda_graph import Replay
from gpugrad.flat.cuda_kernels import kernel_of
from gpugrad.flat.cuda_moves import with_moves
from gpugrad.flat.cuda_steps import Joint
from gpugrad.flat.expand import OWN
from gpugrad.flat.formulas import uniform
from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.graph.namespace import PRIMITIVES
from gpugrad.graph.record import explained
from gpugrad.kernels import matmul

Env = list[Any]


class Step(NamedTuple):
    """One piece of work: run(env) reads and makes values where `place` says. op: what errors are explained by, if it is one."""

    run: Callable[[Env], None]
    reads: tuple[Value, ...]
    makes: tuple[Value, ...]
    op: Op | None


class Launches(NamedTuple):
    """run     list of input arrays, on the device or NumPy's -> list of output arrays
    steps   what it does, in order: groups and single operations
    homes   none: what is written back is written by the launches
    replay  the graph that does it
    serves  serves(arguments): whether the context allows what it did when these were made
    """

    run: Callable[[list], list]
    steps: list[Group | Op]
    homes: dict
    replay: Replay
    serves: Callable[[Any], bool]


class Context(NamedTuple):
    """What steps are made from: the array module, the primitive of each NumPy function, where each value is in the
    environment, and what is done when a graph has been captured."""

    xp: Any
    primitives: dict[Any, Any]
    place: dict[Value, int]
    after: list[Callable[[], None]]


def emit(graph: Graph, homes: dict[int, Value], trace: Any, reuse: bool) -> Launches:
    """The program as launches on the trace's device. homes: which input the output of an index is written back to."""
    device, xp, primitives = trace.device, trace.device.xp, trace.primitives
    precisions = {precision for precision, *_ in trace.modes}
    relus, gelus = any(relu for _, relu, _ in trace.modes), any(gelu for *_, gelu in trace.modes)
    inside = precisions.pop() if len(precisions) == 1 else None, relus, gelus
    graph = for_launches(graph, relus, gelus)
    parts = fuse(graph)
    values = [*graph.inputs, *graph.constants, *dict.fromkeys(y for part in parts for op in operations(part) for y in op.outputs)]
    context = Context(xp, primitives, {v: i for i, v in enumerate(values)}, [])
    numbers = {v: number for v, c in graph.constants.items() if (number := uniform(c)) is not None}
    kept = stored(parts, graph.outputs)
    with xp.cuda.Device(device.index):
        constants = [uploaded(xp, c) for c in graph.constants.values()]
        steps = [launched(part, context) if isinstance(part, Op) else grouped(part, kept, numbers, context) for part in parts]
    perform = matmul.in_modes(*inside)(performer(graph, steps, constants, homes, context))
    written = {context.place[home] for home in homes.values()}
    replay = Replay(xp, device.index, perform, written, context.after, reuse)
    modes = matmul.modes()
    return Launches(replay, parts, {}, replay, lambda _: matmul.modes() == modes)


def for_launches(graph: Graph, relus: bool, gelus: bool) -> Graph:
    """The program in the operations that a device has kernels for; see `with_gates` for the flags."""
    return with_moves(with_products(with_gates(graph, relus, gelus)))


def stored(parts: list[Group | Op], outputs: list[Value]) -> set[Value]:
    """Values that are read by another part than one that makes them, or returned."""
    kept = set(outputs)
    for part in parts:
        made = part.made if isinstance(part, Group) else {}
        kept |= {x for op in operations(part) for x in op.values if x not in made}
    return kept


def uploaded(xp: Any, array: numpy.ndarray) -> Any:
    """A constant on the device; one number that was broadcast stays one."""
    if array.size > 1 and not any(array.strides):
        return xp.broadcast_to(xp.asarray(array[(0,) * array.ndim]), array.shape)
    return xp.asarray(array)


def performer(graph: Graph, steps: list[Step], constants: list, homes: dict[int, Value],
              context: Context) -> Callable[[list], list]:
    """perform(input arrays) -> (array, whether it is to stay there) for each output."""
    place = context.place
    outputs = [place[y] for y in graph.outputs]
    writes = [(i, place[home]) for i, home in homes.items()]
    overwritten = {home for _, home in writes}
    early = [i for i in outputs if i in overwritten]          # read as they were
    dying = last_places(steps, place, {*outputs, *overwritten, *range(len(graph.inputs) + len(constants))})
    todo = list(zip(steps, dying, strict=True))
    rest = [None] * (len(place) - len(graph.inputs) - len(constants))

    def perform(arrays: list) -> list:
        env: Env = [*arrays, *constants, *rest]
        before = {i: arrays[i].copy() for i in early}
        for step, dead in todo:
            try:
                step.run(env)
            except Exception as error:
                op = step.op
                if op is None:
                    raise
                raise explained(error, op, [env[place[x]] if isinstance(x, Value) else x for x in op.args], op.params) from error
            for i in dead:
                env[i] = None
        results: list[Any] = [before.get(i, env[i]) for i in outputs]
        memory = {id(owner(env[i])) for i in overwritten}
        goals = {i: env[home] for i, home in writes}
        results = [y.copy() if id(owner(y)) in memory and y is not goals.get(i) else y for i, y in enumerate(results)]
        for i, goal in goals.items():
            if results[i] is not goal:
                goal[...] = results[i]
                results[i] = goal
        return [(y, i in homes) for i, y in enumerate(results)]
    return perform


def last_places(steps: list[Step], place: dict[Value, int], kept: set[int]) -> list[list[int]]:
    """The places that each step is the last to touch."""
    seen = set(kept)
    dying: list[list[int]] = []
    for step in reversed(steps):
        dead = {place[x] for x in (*step.reads, *step.makes)} - seen
        seen |= dead
        dying.append(sorted(dead))
    return dying[::-1]


def grouped(group: Group, kept: set[Value], numbers: dict[Value, float], context: Context) -> Step:
    """A group as its generated kernel."""
    makes = tuple([y for y in group.made if y in kept and y.dtype != bool])     # truth values are never stored by a group
    kernel = kernel_of(group, list(makes), numbers)
    reads = [(x, context.place[x]) for x in group.read if x not in numbers]
    ys = [context.place[y] for y in makes]

    def run(env: Env) -> None:
        for i, y in zip(ys, kernel({x: env[i] for x, i in reads}), strict=True):
            env[i] = y
    return Step(run, tuple(group.read), makes, None)


def launched(op: Op, context: Context) -> Step:
    """An operation by the primitive's own function on the device."""
    function = on_device(op, context)
    places = [context.place[x] if isinstance(x, Value) else None for x in op.args]
    given, params, several = op.args, op.params, op.several
    ys = [context.place[y] for y in op.outputs]

    def run(env: Env) -> None:
        y: Any = function(*[x if i is None else env[i] for x, i in zip(given, places, strict=True)], **params)
        for i, v in zip(ys, y if several else (y,), strict=False):
            env[i] = v
    return Step(run, tuple(op.values), op.outputs, op)


def on_device(op: Op, context: Context) -> Callable:
    """What the operation is on the device's arrays."""
    function: Any = op.function
    if isinstance(function, Joint):
        context.after.append(function.after_capture)
        return function
    if isinstance(function, Native):
        return function(context.xp)
    prim: Any = context.primitives.get(function) or PRIMITIVES.get(op.name)
    own: Any = OWN.get(op.name)
    return own if prim is None else prim.impls[context.xp.ndarray]
