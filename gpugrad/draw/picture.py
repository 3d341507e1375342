"""What a picture of a graph holds: nodes, edges and their texts. It knows no Tensor, no program and no coordinates.

A tracer fills it in creation order, inputs of an operation in argument order; layout and collapsing read that order.
"""

import math
from collections.abc import Hashable, Iterable
from dataclasses import dataclass

from gpugrad.errors import ArgumentError

KINDS = ("leaf", "constant", "op", "output", "collapsed", "group")


@dataclass(frozen=True, slots=True)
class Node:
    """One node: `label` is drawn inside, `note` smaller below it, `detail` appears on hover.

    id      any hashable value, unique within the picture
    kind    "leaf" (an input, coloured and named), "constant", "op" (a circle), "output", "collapsed" or "group"
    count   how many nodes of the whole graph this one stands for
    inside  what a group is drawn round: a picture of its own, without a title
    """

    id: Hashable
    label: str
    kind: str = "op"
    note: str = ""
    detail: str = ""
    count: int = 1
    inside: "Picture | None" = None


@dataclass(frozen=True, slots=True)
class Edge:
    """One use of `source` as an argument of `target`: `shape` and `value` stand above the line, `gradient` below it.

    Two edges may join the same nodes, as in x * x. `detail` appears on hover.
    """

    source: Hashable
    target: Hashable
    value: str | None = None
    gradient: str | None = None
    shape: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, init=False)
class Picture:
    """A graph ready to be drawn.

    Raises ArgumentError if there is no node, if an id repeats, if a kind is unknown, or if an edge has an end that is
    not a node.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    title: str

    def __init__(self, nodes: Iterable[Node], edges: Iterable[Edge], title: str = ""):
        object.__setattr__(self, "nodes", tuple(nodes))
        object.__setattr__(self, "edges", tuple(edges))
        object.__setattr__(self, "title", title)
        self._check()

    def _check(self) -> None:
        if not self.nodes:
            raise ArgumentError("draw: a picture needs at least one node, got none. Draw a Tensor that was computed.")
        ids = {node.id for node in self.nodes}
        if len(ids) < len(self.nodes):
            twice = _first_repeated(node.id for node in self.nodes)
            raise ArgumentError(f"draw: every node needs an id of its own, got {twice!r} twice. Number the nodes.")
        for node in self.nodes:
            if node.kind not in KINDS:
                raise ArgumentError(f"draw: expected a kind among {', '.join(KINDS)}, got {node.kind!r}. "
                                    f"Mend the node {node.id!r}.")
        for edge in self.edges:
            for end in (edge.source, edge.target):
                if end not in ids:
                    raise ArgumentError(f"draw: expected edges between nodes of the picture, got the end {end!r}. "
                                        "Add that node, or leave the edge out.")


def number(x: float) -> str:
    """A number as the lecture writes it: 0.73, -2.00; three significant digits where two decimals would not do."""
    size = abs(x)
    if not math.isfinite(x):
        return str(float(x))
    if size == 0 or 0.01 <= size < 10_000:
        return f"{x + 0.0:.2f}"  # + 0.0: a negative zero loses its sign
    return f"{x:.2e}"


def _first_repeated(ids: Iterable[Hashable]) -> Hashable:
    seen = set()
    for i in ids:
        if i in seen:
            return i
        seen.add(i)
    return None
