"""The first half of a layered drawing: which column everything stands in, and in which order from top to bottom.

Nodes stand in even columns and the labels of edges in odd ones, as boxes like any other, so nothing can be drawn over
them. A line that passes a column takes a thin cell there. Lines of one source share their cells until they branch: a
value used at many places is one trunk, not a bundle.

Source: Sugiyama, Tagawa & Toda, IEEE Trans. SMC 11 (1981) 109; crossings are counted as in Barth, Mutzel & Jünger,
J. Graph Algorithms Appl. 8 (2004) 179.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from gpugrad.draw.ranks import longest_paths, ranks


class Size(NamedTuple):
    """A box in pixels: its width, and how far it reaches above and below the line through it."""

    width: float
    up: float
    down: float


PASSING = Size(0.0, 5.0, 5.0)  # what a line keeps free round itself
SWEEPS = 16
PATIENCE = 4  # sweeps without fewer crossings before the ordering stops


class Link(NamedTuple):
    """An edge from node `source` to node `target`, by number, with the size of its label."""

    source: int
    target: int
    label: Size


@dataclass(slots=True)
class Cell:
    """A node, a label, or the place where a line passes a column. `depth`: the longest path from an input to it."""

    column: int
    size: Size
    kind: str  # "node", "label" or "line"
    depth: int
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Layers:
    """cells[:n] are the n nodes; columns[c] lists the cells of column c from the top; paths[i] the cells of link i.

    `trunks` lists for each source its cell and the passing cells that its lines share.
    """

    cells: list[Cell]
    columns: list[list[int]]
    paths: list[list[int]]
    trunks: list[list[int]]
    crossings: int


def layers(sizes: Sequence[Size], links: Sequence[Link]) -> Layers:
    """Columns, then crossings reduced by barycentre sweeps. Time grows with the number of cells.

    Raises GraphError if the links form a cycle.
    """
    pairs = [(link.source, link.target) for link in links]
    depth = longest_paths(len(sizes), pairs)
    cells = [Cell(2 * r, size, "node", d) for size, r, d in zip(sizes, ranks(depth, pairs), depth, strict=True)]
    paths, trunks = _paths(cells, links)
    columns, crossings = _reduce_crossings(cells, _first_order(cells, len(sizes)))
    return Layers(cells, columns, paths, trunks, crossings)


def _paths(cells: list[Cell], links: Sequence[Link]) -> tuple[list[list[int]], list[list[int]]]:
    """Add the cells of labels and passing lines; for each link its cells from source to target, and the trunks."""
    trunks: dict[int, list[int]] = {}

    def join(left: int, right: int) -> None:
        cells[left].right.append(right)
        cells[right].left.append(left)

    def add(column: int, size: Size, kind: str, after: int) -> int:
        cells.append(Cell(column, size, kind, cells[after].depth))
        join(after, len(cells) - 1)
        return len(cells) - 1

    paths = []
    for link in links:
        trunk = trunks.setdefault(link.source, [link.source])
        last = cells[link.target].column - 1  # the label stands next to the target, where branches have parted
        steps = last - cells[link.source].column
        while len(trunk) < steps:
            trunk.append(add(cells[trunk[-1]].column + 1, PASSING, "line", trunk[-1]))
        label = add(last, link.label, "label", trunk[steps - 1])
        join(label, link.target)
        paths.append([*trunk[:steps], label, link.target])
    return paths, list(trunks.values())


def _first_order(cells: list[Cell], nodes: int) -> list[list[int]]:
    """Depth first from the outputs, arguments in order: a tree comes out without a crossing."""
    columns: list[list[int]] = [[] for _ in range(1 + max(cell.column for cell in cells))]
    seen = [False] * len(cells)
    for root in range(nodes):
        if cells[root].right:
            continue
        stack = [root]
        while stack:
            v = stack.pop()
            if not seen[v]:
                seen[v] = True
                columns[cells[v].column].append(v)
                stack.extend(reversed(cells[v].left))
    return columns


def _reduce_crossings(cells: list[Cell], columns: list[list[int]]) -> tuple[list[list[int]], int]:
    best, fewest = columns, _crossings(cells, columns)
    idle = 0
    for sweep in range(SWEEPS):
        if not fewest or idle == PATIENCE:
            break
        columns = _sweep(cells, columns, rightward=sweep % 2 == 0, turn_ties=sweep % 4 > 1)
        crossings = _crossings(cells, columns)
        idle += 1
        if crossings < fewest:
            best, fewest, idle = columns, crossings, 0
    return best, fewest


def _sweep(cells: list[Cell], columns: list[list[int]], rightward: bool, turn_ties: bool) -> list[list[int]]:
    """Each column in turn ordered by the mean place of its neighbours in the column before it.

    Turning ties round now and then lets a line change to the other side of the one it starts with.
    """
    place = _places(columns, len(cells))
    result = [column.copy() for column in columns]
    for column in result[1:] if rightward else result[-2::-1]:
        mean = {}
        for v in column:
            if near := cells[v].left if rightward else cells[v].right:
                mean[v] = sum(place[w] for w in near) / len(near)
        ordered = iter(sorted(reversed(mean) if turn_ties else mean, key=mean.__getitem__))
        column[:] = [next(ordered) if v in mean else v for v in column]  # a cell without neighbours keeps its place
        for i, v in enumerate(column):
            place[v] = i
    return result


def _places(columns: list[list[int]], count: int) -> list[int]:
    place = [0] * count
    for column in columns:
        for i, v in enumerate(column):
            place[v] = i
    return place


def _crossings(cells: list[Cell], columns: list[list[int]]) -> int:
    place = _places(columns, len(cells))
    return sum(
        _inversions([p for v in left for p in sorted(place[w] for w in cells[v].right)], len(right))
        for left, right in _pairs(columns)
    )


def _pairs(columns: list[list[int]]) -> Iterator[tuple[list[int], list[int]]]:
    return zip(columns, columns[1:], strict=False)


def _inversions(places: list[int], size: int) -> int:
    """How many pairs stand in the wrong order, counted with a binary indexed tree in O(n log size)."""
    tree, inversions = [0] * (size + 1), 0
    for seen, p in enumerate(places):
        inversions += seen
        i = p + 1
        while i:  # less those at or above p
            inversions -= tree[i]
            i &= i - 1
        i = p + 1
        while i <= size:
            tree[i] += 1
            i += i & -i
    return inversions
