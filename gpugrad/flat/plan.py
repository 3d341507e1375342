"""Memory: which values of a program share a buffer. One arena is made once; a run allocates its outputs alone."""
from __future__ import annotations

from typing import NamedTuple

import numpy

from gpugrad.flat.ir import Graph, Op, Value

#: Arrays begin at a multiple of this many bytes: a cache line.
ALIGNMENT = 64


class Plan(NamedTuple):
    """place   value -> byte in the arena where it begins; absent: the run makes it
    nbytes  the size of the arena
    peak    bytes of all values that are alive at once, at most: what any plan needs
    """

    place: dict[Value, int]
    nbytes: int
    peak: int


def writes_out(op: Op) -> bool:
    """True for operations that can write their result where they are told, whatever it held: ufuncs of one output."""
    return (isinstance(op.function, numpy.ufunc) and op.function.nout == 1 and not op.params
            and any(True for _ in op.values)) or op.name == "matmul"


def last_uses(graph: Graph) -> dict[Value, int]:
    """The index of the last operation for which the memory of each value must stay: views keep what they view."""
    last: dict[Value, int] = {v: len(graph.ops) for v in graph.outputs}
    for i in range(len(graph.ops) - 1, -1, -1):
        op = graph.ops[i]
        end = i if writes_out(op) else max([i, *[last.get(v, i) for v in op.outputs]])     # anything else may be a view
        for x in op.values:
            last[x] = max(last.get(x, 0), end)
    return last


def plan(graph: Graph) -> Plan:
    """First fit by lifetime. An elementwise result takes the place of an input that dies with it."""
    last = last_uses(graph)
    place: dict[Value, int] = {}
    free: list[tuple[int, int]] = []                      # (start, size), by start; the arena beyond `top` is free too
    top = alive = peak = 0
    dying: dict[int, list[Value]] = {}
    for i, op in enumerate(graph.ops):
        elementwise = op.name != "matmul"
        if writes_out(op) and last.get(op.outputs[0], i) < len(graph.ops):       # else it, or a view of it, is a result
            y = op.outputs[0]
            size = -(-max(y.nbytes, 1) // ALIGNMENT) * ALIGNMENT
            heir = next((x for x in op.values if elementwise and x in place and last[x] == i and x.shape == y.shape
                         and x.dtype == y.dtype and x in dying.get(i, ())), None)
            if heir is not None:
                place[y] = place[heir]
                dying[i].remove(heir)
            else:
                start, top = take(free, size, top)
                place[y] = start
                alive += size
                peak = max(peak, alive)
            dying.setdefault(max(last.get(y, i), i), []).append(y)
        for x in dying.pop(i, ()):
            size = -(-max(x.nbytes, 1) // ALIGNMENT) * ALIGNMENT
            give(free, place[x], size)
            alive -= size
    return Plan(place, top, peak)


def take(free: list[tuple[int, int]], size: int, top: int) -> tuple[int, int]:
    """(start, new top) of a block: the smallest free one that is large enough, or new ground."""
    fitting = [(n, start) for start, n in free if n >= size]
    if not fitting:
        if free and sum(free[-1]) == top:                 # grow the last free block
            start, _ = free.pop()
            return start, start + size
        return top, top + size
    n, start = min(fitting)
    free.remove((start, n))
    if n > size:
        give(free, start + size, n - size)
    return start, top


def give(free: list[tuple[int, int]], start: int, size: int) -> None:
    """Put a block back, joined with its neighbours."""
    for block in list(free):
        if sum(block) == start:
            free.remove(block)
            start, size = block[0], size + block[1]
        elif start + size == block[0]:
            free.remove(block)
            size += block[1]
    free.append((start, size))
    free.sort()
