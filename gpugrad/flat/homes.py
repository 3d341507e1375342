"""Which outputs of a program are made in the memory of an input that nobody reads any more."""
from __future__ import annotations

from gpugrad.flat.fuse import Group, operations
from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.flat.loops import turn
from gpugrad.flat.plan import makes_new


def made_at_home(steps: list[Group | Op], graph: Graph, wanted: dict[Value, Value]) -> dict[Value, Value]:
    """Those of the wanted homes that can be written: by a group, element by element, after everyone has read the input."""
    found: dict[Value, Value] = {}
    for i, step in enumerate(steps):
        if isinstance(step, Op):
            continue
        for op in step.ops:
            y = op.outputs[0]
            home = wanted.get(y)
            if (home is None or y.shape != home.shape or y.dtype != home.dtype or home in graph.outputs
                    or y in step.late or step.roles[y] != "F" or step.roles.get(home, "F") != "F"):
                continue
            after = [o for o in step.ops[step.ops.index(op) + 1:] if home in o.args] + [
                o for o in step.ops if home in o.args and turn(step, o) > step.level[y]]
            looks = views_of(home, steps)
            later = [o for other in steps[i + 1:] for o in operations(other) if not looks.isdisjoint(o.args)]
            beside = [o for o in step.ops if not (looks - {home}).isdisjoint(o.args)]
            if not (after or later or beside or not looks.isdisjoint(graph.outputs)):
                found[y] = home
    return found


def views_of(x: Value, steps: list[Group | Op]) -> set[Value]:
    """x and what may share its memory: all that is made of it by operations that are not known to make new arrays."""
    found = {x}
    for step in steps:
        if isinstance(step, Op) and not makes_new(step) and not found.isdisjoint(step.args):
            found.update(step.outputs)
    return found
