"""Programs on a GPU: a list of launches, recorded as one CUDA graph and replayed.

`emit(graph, ...)` makes the list. Intermediates live in the program's own pool and die after their last use, so that their
memory is used again within a run; a replay makes nothing but copies of its outputs, and not those when they may be reused.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy

from gpugrad.arrays.memory import owner
from gpugrad.flat.cuda_graph import Replay
from gpugrad.flat.cuda_steps import Joint
from gpugrad.flat.expand import OWN
from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.graph.namespace import PRIMITIVES
from gpugrad.graph.record import explained

Env = list[Any]


class Launches(NamedTuple):
    """run     list of input arrays, on the device or NumPy's -> list of output arrays
    steps   what it does, in order
    homes   none: what is written back is written by the launches
    replay  the graph that does it
    """

    run: Callable[[list], list]
    steps: list
    homes: dict
    replay: Replay


class Context(NamedTuple):
    """What steps are made from: the array module, the primitive of each NumPy function, where each value is in the
    environment, and what is done when a graph has been captured."""

    xp: Any
    primitives: dict[Any, Any]
    place: dict[Value, int]
    after: list[Callable[[], None]]


def emit(graph: Graph, homes: dict[int, Value], device: Any, primitives: dict[Any, Any], reuse: bool) -> Launches:
    """The program as launches on a device. homes: which input the output of an index is written back to."""
    xp = device.xp
    steps: list = list(graph.ops)
    values = [*graph.inputs, *graph.constants, *(y for op in graph.ops for y in op.outputs)]
    context = Context(xp, primitives, {v: i for i, v in enumerate(values)}, [])
    with xp.cuda.Device(device.index):
        constants = [uploaded(xp, c) for c in graph.constants.values()]
        todo = [launched(op, context) for op in steps]
    perform = performer(graph, steps, todo, constants, homes, context)
    written = {context.place[home] for home in homes.values()}
    replay = Replay(xp, device.index, perform, written, context.after, reuse)
    return Launches(replay, steps, {}, replay)


def uploaded(xp: Any, array: numpy.ndarray) -> Any:
    """A constant on the device; one number that was broadcast stays one."""
    if array.size > 1 and not any(array.strides):
        return xp.broadcast_to(xp.asarray(array[(0,) * array.ndim]), array.shape)
    return xp.asarray(array)


def performer(graph: Graph, steps: list, todo: list[Callable[[Env], None]], constants: list, homes: dict[int, Value],
              context: Context) -> Callable[[list], list]:
    """perform(input arrays) -> (array, whether it is to stay there) for each output."""
    place = context.place
    outputs = [place[y] for y in graph.outputs]
    writes = [(i, place[home]) for i, home in homes.items()]
    overwritten = {home for _, home in writes}
    early = [i for i in outputs if i in overwritten]          # read as they were
    dying = last_places(steps, place, {*outputs, *(i for _, i in writes), *range(len(graph.inputs) + len(constants))})
    rest = [None] * (len(place) - len(graph.inputs) - len(constants))

    def perform(arrays: list) -> list:
        env: Env = [*arrays, *constants, *rest]
        before = {i: env[i].copy() for i in early}
        at = 0
        try:
            for at, (step, dead) in enumerate(zip(todo, dying)):  # noqa: B007 - `at` says where an error came from
                step(env)
                for i in dead:
                    env[i] = None
        except Exception as error:
            op = steps[at]
            raise explained(error, op, [env[place[x]] if isinstance(x, Value) else x for x in op.args], op.params) from error
        results = [before.get(i, env[i]) for i in outputs]
        memory = {id(owner(env[i])) for i in overwritten}
        goals = {i: env[home] for i, home in writes}
        results = [y.copy() if id(owner(y)) in memory and y is not goals.get(i) else y for i, y in enumerate(results)]
        for i, home in writes:
            if results[i] is not env[home]:
                env[home][...] = results[i]
        for i, home in writes:
            results[i] = env[home]
        return [(y, i in homes) for i, y in enumerate(results)]
    return perform


def last_places(steps: list, place: dict[Value, int], kept: set[int]) -> list[list[int]]:
    """The places that each step is the last to touch."""
    seen = set(kept)
    dying: list[list[int]] = []
    for op in reversed(steps):
        dead = {place[x] for x in (*op.values, *op.outputs)} - seen
        seen |= dead
        dying.append(sorted(dead))
    return dying[::-1]


def launched(op: Op, context: Context) -> Callable[[Env], None]:
    """An operation by the primitive's own function on the device."""
    function = on_device(op, context)
    places = [context.place[x] if isinstance(x, Value) else None for x in op.args]
    given, params, several = op.args, op.params, op.several
    ys = [context.place[y] for y in op.outputs]

    def run(env: Env) -> None:
        y: Any = function(*[x if i is None else env[i] for x, i in zip(given, places)], **params)
        for i, v in zip(ys, y if several else (y,)):
            env[i] = v
    return run


def on_device(op: Op, context: Context) -> Callable:
    """What the operation is on the device's arrays."""
    if isinstance(op.function, Joint):
        context.after.append(op.function.after_capture)
        return op.function
    prim = context.primitives.get(op.function) or PRIMITIVES.get(op.name)
    return OWN[op.name] if prim is None else prim.impls[context.xp.ndarray]
