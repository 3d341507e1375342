"""Topological order, which layout, collapsing and nothing else need."""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from gpugrad.errors import GraphError


def topological_order(count: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """The nodes 0 … count - 1, source before target for every (source, target), otherwise as numbered.

    Raises GraphError if the links form a cycle.
    """
    missing = [0] * count
    consumers: list[list[int]] = [[] for _ in range(count)]
    for source, target in links:
        missing[target] += 1
        consumers[source].append(target)
    ready = [v for v in range(count) if not missing[v]]
    heapify(ready)
    order = []
    while ready:
        order.append(v := heappop(ready))
        for w in consumers[v]:
            missing[w] -= 1
            if not missing[w]:
                heappush(ready, w)
    if len(order) < count:
        stuck = [v for v in range(count) if missing[v]]
        raise GraphError(f"draw: expected a graph without cycles, got {len(stuck)} nodes on or behind a cycle, "
                         f"first the node at place {stuck[0]}. Drop one edge of the cycle.")
    return order
