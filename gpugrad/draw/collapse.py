"""Big graphs made small enough to read: repeated layers shown once, chains and crowds of inputs folded, and, where that
is not enough, the middle left out. What a folded node stands for is counted, so nothing vanishes in silence.

Each fold contracts operations that are neighbours in a topological order, or one chain, so no cycle can arise.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

from gpugrad.draw.order import topological_order
from gpugrad.draw.picture import Edge, Node, Picture
from gpugrad.draw.repeats import Op, repeats
from gpugrad.errors import ArgumentError

LIMIT = 150
FEWEST = 8  # operations that a repeat must hide
ENDS = 2  # operations at each end of a chain that stay
SHORTEST = 3  # operations of a chain that are folded
CROWD = 8  # inputs of one operation that are still drawn one by one
NAMES = 12  # that a folded node lists


@dataclass(slots=True)
class Fold:
    """Nodes, by number, that become one."""

    members: list[int]
    label: str
    kind: str = "collapsed"


class Graph:
    """A picture by numbers: who feeds whom, once for each pair of nodes."""

    def __init__(self, picture: Picture):
        self.nodes = picture.nodes
        number = {node.id: i for i, node in enumerate(picture.nodes)}
        self.links = [(number[e.source], number[e.target]) for e in picture.edges]
        count = len(picture.nodes)
        self.arguments: list[list[int]] = [[] for _ in range(count)]  # in order, repeats included
        self.consumers: list[set[int]] = [set() for _ in range(count)]
        for source, target in self.links:
            self.arguments[target].append(source)
            self.consumers[source].add(target)

    def is_input(self, v: int) -> bool:
        return not self.arguments[v] and bool(self.consumers[v])

    def inner(self) -> list[int]:
        """Nodes between inputs and outputs, in topological order, otherwise as created."""
        return [v for v in topological_order(len(self.nodes), self.links) if self.arguments[v] and self.consumers[v]]

    def ops(self, members: Iterable[int]) -> int:
        return sum(self.nodes[v].count for v in members)


def collapse(picture: Picture, limit: int = LIMIT) -> Picture:
    """A picture of the same graph with about `limit` nodes at most: the picture itself if it has no more.

    Outputs, and inputs of what is still shown, stay. The counts of the nodes sum to what they were.
    Raises ArgumentError if limit is below 10, GraphError if the picture has a cycle.
    """
    if limit < 10:
        raise ArgumentError(f"draw: expected a limit of at least 10 nodes to draw, got {limit}. "
                            "Pass None to draw everything.")
    for choose in (_repeats, _chains, _crowds, lambda g: _outputs(g, limit // 3), lambda g: _middle(g, limit)):
        if len(picture.nodes) <= limit:
            break
        graph = Graph(picture)
        picture = _contract(picture, graph, _needed(choose(graph), len(picture.nodes) - limit))
    return picture


def _needed(folds: list[Fold], excess: int) -> list[Fold]:
    """The largest folds, as many as it takes."""
    kept = []
    for fold in sorted(folds, key=lambda f: -len(f.members)):
        if excess > 0:
            kept.append(fold)
            excess -= len(fold.members) - 1
    return kept


# what to fold


def _repeats(graph: Graph) -> list[Fold]:
    """Of each block that repeats, all but the first."""
    inner = graph.inner()
    place = {v: i for i, v in enumerate(inner)}
    ops = [Op(graph.nodes[v].label, tuple(place.get(a, graph.nodes[a].kind) for a in graph.arguments[v]))
           for v in inner]
    folds = []
    for r in repeats(ops):
        more = f"× {r.times - 1:,}"
        label = f"{graph.nodes[inner[r.start]].label} {more}" if r.period == 1 else f"{more} more"
        folds.append(Fold(inner[r.start + r.period : r.end], label))
    return [fold for fold in folds if len(fold.members) >= FEWEST]


def _chains(graph: Graph) -> list[Fold]:
    """Operations in single file: each the only user of the one before, with nothing else but constants of its own."""
    before = {v: main for v in graph.inner() if (main := _only_argument(graph, v)) is not None}
    after = {main: v for v, main in before.items() if main in before and len(graph.consumers[main]) == 1}
    folds = []
    for v in before.keys() - after.values():
        chain = [v]
        while chain[-1] in after:
            chain.append(after[chain[-1]])
        if len(middle := chain[ENDS:-ENDS]) >= SHORTEST:
            folds.append(Fold(middle, f"… {graph.ops(middle):,} ops …"))
    return folds


def _only_argument(graph: Graph, v: int) -> int | None:
    others = {a for a in graph.arguments[v]
              if not (graph.nodes[a].kind == "constant" and graph.is_input(a) and len(graph.consumers[a]) == 1)}
    return others.pop() if len(others) == 1 and graph.nodes[v].kind == "op" else None


def _crowds(graph: Graph) -> list[Fold]:
    """Many inputs that only one operation reads, as in a concatenation."""
    crowds: dict[tuple[int, str], list[int]] = {}
    for v, node in enumerate(graph.nodes):
        if graph.is_input(v) and len(graph.consumers[v]) == 1:
            crowds.setdefault((min(graph.consumers[v]), node.kind), []).append(v)
    return [_inputs(graph, crowd) for crowd in crowds.values() if len(crowd) > CROWD]


def _outputs(graph: Graph, most: int) -> list[Fold]:
    ends = [v for v in range(len(graph.nodes)) if not graph.consumers[v]]
    rest = ends[most - 1 :]
    return [Fold(rest, f"{graph.ops(rest):,} outputs", "output")] if len(ends) > most else []


def _middle(graph: Graph, limit: int) -> list[Fold]:
    """All but the first and the last operations; how many are left depends on the inputs that they bring along."""
    inner = graph.inner()
    ends = [v for v in range(len(graph.nodes)) if not graph.consumers[v]]
    shown = {*ends, *(a for v in ends for a in graph.arguments[v] if graph.is_input(a))}
    left, right = 0, len(inner)
    while left < right:
        v = inner[left] if (from_left := left <= len(inner) - right) else inner[right - 1]
        brings = {v, *filter(graph.is_input, graph.arguments[v])} - shown
        if len(shown) + len(brings) + 2 > limit:  # two for the fold and its inputs
            break
        shown |= brings
        left, right = (left + 1, right) if from_left else (left, right - 1)
    middle = inner[left:right]
    return [Fold(middle, f"… {graph.ops(middle):,} ops …")] if middle else []


def _inputs(graph: Graph, members: list[int]) -> Fold:
    kind = "leaf" if any(graph.nodes[v].kind == "leaf" for v in members) else "constant"
    return Fold(members, f"{graph.ops(members):,} {'inputs' if kind == 'leaf' else 'constants'}", kind)


# folding


def _contract(picture: Picture, graph: Graph, folds: list[Fold]) -> Picture:
    """Each fold becomes one node, and so do the inputs that nothing else reads. Edges that fall together are merged."""
    folds = [*folds, *(own for fold in folds if (own := _own_inputs(graph, fold)))]
    home = {v: fold for fold in folds for v in fold.members}
    names = {id(fold): _new_node(graph, fold) for fold in folds}
    nodes: dict[Hashable, Node] = {}
    for v, node in enumerate(graph.nodes):
        shown = names[id(home[v])] if v in home else node
        nodes[shown.id] = shown
    edges: dict[Hashable, list[Edge]] = {}
    for i, (edge, (source, target)) in enumerate(zip(picture.edges, graph.links, strict=True)):
        ends = tuple(names[id(home[v])].id if v in home else graph.nodes[v].id for v in (source, target))
        if ends[0] != ends[1]:
            key = ends if source in home or target in home else i
            edges.setdefault(key, []).append(replace(edge, source=ends[0], target=ends[1]))
    return Picture(nodes.values(), map(_merged, edges.values()), picture.title)


def _own_inputs(graph: Graph, fold: Fold) -> Fold | None:
    members = set(fold.members)
    own = sorted({a for v in members for a in graph.arguments[v]
                  if a not in members and graph.is_input(a) and graph.consumers[a] <= members})
    return _inputs(graph, own) if len(own) > 1 else None


def _new_node(graph: Graph, fold: Fold) -> Node:
    """Named after its members: all different names in the note, a count of each on hover."""
    counts: dict[str, int] = {}
    for v in fold.members:
        counts[graph.nodes[v].label] = counts.get(graph.nodes[v].label, 0) + graph.nodes[v].count
    names = list(counts)
    note = ", ".join([*names[:NAMES], "…"] if len(names) > NAMES else names)
    lines = [f"{name} × {n:,}" if n > 1 else name for name, n in list(counts.items())[:NAMES]]
    if len(names) > NAMES:
        lines.append(f"… and {len(names) - NAMES:,} more names")
    first = graph.nodes[fold.members[0]].id
    alone = len(names) == 1 and fold.label.startswith(names[0])
    return Node((fold.kind, first), fold.label, fold.kind, "" if alone else note, "\n".join([fold.label, *lines]),
                graph.ops(fold.members))


def _merged(edges: list[Edge]) -> Edge:
    """What the edges agree on; two gradients of one value would have to be added, so they are left out."""
    first = edges[0]
    if len(edges) == 1:
        return first
    alike = {name: getattr(first, name) if len({getattr(e, name) for e in edges}) == 1 else None
             for name in ("value", "shape")}
    return Edge(first.source, first.target, gradient=None, detail=f"{len(edges):,} edges", **alike)
