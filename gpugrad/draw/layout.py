"""The second half of a layered drawing: coordinates and lines. Needs nothing, so pictures never depend on a program.

Inside its column everything has a slot of its own, and a line crosses a column level with its slot; it climbs only
between columns. So no line can touch a node or a label that is not its own, whatever the graph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import inf

from gpugrad.draw.layers import Cell, Layers, Link, Size, layers

Point = tuple[float, float]

GAP = {"node": 22.0, "label": 8.0, "line": 6.0}  # above and below a cell, half of each neighbour's
NARROW, WIDE, SLOPE = 16.0, 80.0, 1.8  # pixels between columns: at least, at most, and the climb for each
TIP = 10.0  # more of them before a node, where a line ends level under its arrowhead
PORT, CORNER = 12.0, 8.0  # between two lines that enter a node, and from them to its corners
ROUNDS = 10  # of settling to the left and to the right


@dataclass(slots=True)
class Route:
    """A line as a chain of cubic Bézier curves: a start, then three points a curve; `label` is where its text sits."""

    points: list[Point]
    label: Point


@dataclass(slots=True)
class Layout:
    """Centres of the nodes, and the lines, x to the right and y downwards from the drawing's corner, in pixels."""

    width: float
    height: float
    centres: list[Point]
    routes: list[Route]
    crossings: int = 0  # known of our own layout only


def layout(sizes: Sequence[Size], links: Sequence[Link]) -> Layout:
    """A drawing from left to right in which no box overlaps another and no line crosses a box.

    sizes   one per node
    links   with the sizes of their labels; several may join the same nodes

    Raises GraphError if the links form a cycle. Time is linear in the nodes and in the columns that lines pass.
    """
    grid = layers(sizes, links)
    ys = _heights(grid)
    lefts, rights = _column_edges(grid, ys)
    xs = [_centre_x(cell, lefts, rights) for cell in grid.cells[: len(sizes)]]
    ports = _ports(grid, links, ys)
    routes = [_route(grid, path, link, port, xs, ys, lefts, rights)
              for path, link, port in zip(grid.paths, links, ports, strict=True)]
    return Layout(rights[-1], max(y + c.size.down for y, c in zip(ys, grid.cells, strict=True)),
                  list(zip(xs, ys, strict=False)), routes, grid.crossings)


# y: every cell near its neighbours


def _heights(grid: Layers) -> list[float]:
    """y of each cell, the topmost box at 0.

    A cell follows the deepest of its inputs, so the main line of a network runs straight and its weights hang beside
    it; an input follows the operations that use it.
    """
    cells, ys = grid.cells, [0.0] * len(grid.cells)
    for column in grid.columns:
        _settle(cells, column, [0.0] * len(column), ys)
    mains = [_deepest(cells, cell.left) or cell.right for cell in cells]
    for _ in range(ROUNDS):
        for column in reversed(grid.columns):
            _settle(cells, column, [_mean(ys, cells[v].right, ys[v]) for v in column], ys)
        for column in grid.columns:
            _settle(cells, column, [_mean(ys, mains[v], ys[v]) for v in column], ys)
    for _ in range(3):  # each leaves more room to the next
        _straighten(grid, mains, ys)
    top = min(y - cell.size.up for y, cell in zip(ys, cells, strict=True))
    return [y - top for y in ys]


def _deepest(cells: list[Cell], near: list[int]) -> list[int]:
    depth = max((cells[w].depth for w in near), default=0)
    return [w for w in near if cells[w].depth == depth]


def _mean(ys: list[float], near: list[int], otherwise: float) -> float:
    return sum(ys[w] for w in near) / len(near) if near else otherwise


def _settle(cells: list[Cell], column: list[int], wanted: list[float], ys: list[float]) -> None:
    """The y nearest to `wanted` that keep the order and the gaps of a column; what is light makes room.

    Deeper cells are heavier, so a weight hangs beside the main line, and a line that only passes goes round a label.
    """
    weights = [(1.0 + 100.0 * cells[v].depth) * (0.01 if cells[v].kind == "line" else 1.0) for v in column]
    gaps = [_distance(cells[v], cells[w]) for v, w in zip(column, column[1:], strict=False)]
    for v, y in zip(column, spread(wanted, weights, gaps), strict=True):
        ys[v] = y


def _distance(above: Cell, below: Cell) -> float:
    """What the lines through two neighbours keep between them."""
    return above.size.down + (GAP[above.kind] + GAP[below.kind]) / 2 + below.size.up


def spread(wanted: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The y with y[i + 1] - y[i] >= gaps[i] that minimise sum_i weights[i] * (y[i] - wanted[i])^2, in linear time.

    Less the gaps above it, y must not decrease: isotonic regression, solved by pooling neighbours out of order.
    """
    space = [0.0, *accumulate(gaps)]
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    for y, weight, s in zip(wanted, weights, space, strict=False):
        mean, size = y - s, 1
        while pools and pools[-1][0] > mean:
            m, w, k = pools.pop()
            mean, weight, size = (mean * weight + m * w) / (weight + w), weight + w, size + k
        pools.append((mean, weight, size))
    means = [mean for mean, _, size in pools for _ in range(size)]
    return [mean + s for mean, s in zip(means, space, strict=False)]


def _straighten(grid: Layers, mains: list[list[int]], ys: list[float]) -> None:
    """Each run of cells level for as many columns as their neighbours leave it room."""
    place = [0] * len(grid.cells)
    for column in grid.columns:
        for i, v in enumerate(column):
            place[v] = i
    for run in _runs(grid.cells, mains):
        low, high, level = -inf, inf, list[int]()
        for v in run:
            above, below = _room(grid, place[v], v, ys)
            if max(low, above) > min(high, below):
                _level(level, low, high, ys)
                low, high, level = above, below, []
            low, high = max(low, above), min(high, below)
            level.append(v)
        _level(level, low, high, ys)


def _runs(cells: list[Cell], mains: list[list[int]]) -> list[list[int]]:
    """The cells parted into runs: each goes on to the first cell on its right that follows it alone."""
    following = [next((w for w in sorted(cell.right, key=lambda w: cells[w].kind == "line") if mains[w] == [v]), -1)
                 for v, cell in enumerate(cells)]
    begins = [True] * len(cells)
    for w in following:
        if w >= 0:
            begins[w] = False
    runs = []
    for v in range(len(cells)):
        if begins[v]:
            run = [v]
            while (w := following[run[-1]]) >= 0:
                run.append(w)
            runs.append(run)
    return runs


def _level(run: list[int], low: float, high: float, ys: list[float]) -> None:
    y = min(max(_mean(ys, run, 0.0), low), high)
    for v in run:
        ys[v] = y


def _room(grid: Layers, place: int, v: int, ys: list[float]) -> tuple[float, float]:
    """How far up and down a cell can go before it touches its neighbours."""
    column, cells = grid.columns[grid.cells[v].column], grid.cells
    above = ys[w := column[place - 1]] + _distance(cells[w], cells[v]) if place else -inf
    below = ys[w := column[place + 1]] - _distance(cells[v], cells[w]) if place + 1 < len(column) else inf
    return min(above, ys[v]), max(below, ys[v])  # rounding must not close the room it has


# x: columns as wide as their widest box, further apart where lines climb


def _column_edges(grid: Layers, ys: list[float]) -> tuple[list[float], list[float]]:
    climb = [0.0] * len(grid.columns)  # the steepest line that ends in each column
    for v, cell in enumerate(grid.cells):
        for w in cell.left:
            climb[cell.column] = max(climb[cell.column], abs(ys[w] - ys[v]))
    lefts: list[float] = []
    rights: list[float] = []
    x = 0.0
    for c, height in enumerate(climb):
        if c:
            x += min(max(NARROW, height / SLOPE), WIDE) + (TIP if c % 2 == 0 else 0.0)
        lefts.append(x)
        x += max(grid.cells[v].size.width for v in grid.columns[c])
        rights.append(x)
    return lefts, rights


def _centre_x(cell: Cell, lefts: list[float], rights: list[float]) -> float:
    """Inputs stand to the right of their column, outputs to the left, next to their lines; the others in the middle."""
    left, right, half = lefts[cell.column], rights[cell.column], cell.size.width / 2
    if not cell.left and cell.right:
        return right - half
    if not cell.right and cell.left:
        return left + half
    return (left + right) / 2


# lines


def _ports(grid: Layers, links: Sequence[Link], ys: list[float]) -> list[float]:
    """How far below its target's centre each line ends: straight on where it can, and apart from the others."""
    arriving: dict[int, list[int]] = {}
    for i, link in enumerate(links):
        arriving.setdefault(link.target, []).append(i)
    ports = [0.0] * len(links)
    for target, ends in arriving.items():
        ends.sort(key=lambda i: ys[grid.paths[i][-2]])
        size, last = grid.cells[target].size, len(ends) - 1
        reach = (size.up + size.down) / 2 - CORNER
        gap = min(PORT, 2 * reach / max(1, last))
        straight = [min(max(ys[grid.paths[i][-2]] - ys[target], -reach), reach) for i in ends]
        apart = spread(straight, [1.0] * len(ends), [gap] * last)
        for place, (i, port) in enumerate(zip(ends, apart, strict=True)):
            ports[i] = min(max(port, place * gap - reach), reach - (last - place) * gap)
    return ports


def _route(grid: Layers, path: list[int], link: Link, port: float, xs: list[float], ys: list[float],
           lefts: list[float], rights: list[float]) -> Route:
    """Level through each column, and an S between two columns where the level changes."""
    start, end = grid.cells[link.source].size.width / 2, grid.cells[link.target].size.width / 2
    levels = [(xs[link.source] + start, rights[grid.cells[link.source].column], ys[link.source])]
    levels += [(lefts[grid.cells[v].column], rights[grid.cells[v].column], ys[v]) for v in path[1:-1]]
    levels.append((lefts[grid.cells[link.target].column] - TIP, xs[link.target] - end, ys[link.target] + port))
    x, right, y = levels[0]
    points = [(x, y)]
    for left, next_right, next_y in levels[1:]:
        if abs(next_y - y) > 0.5:
            points += _straight(points[-1], right)
            middle = (right + left) / 2
            points += [(middle, y), (middle, next_y), (left, next_y)]
            y = next_y
        right = next_right
    points += _straight(points[-1], right)
    column = grid.cells[path[-2]].column
    return Route(points, ((lefts[column] + rights[column]) / 2, ys[path[-2]]))


def _straight(start: Point, x: float) -> list[Point]:
    (left, y) = start
    if x - left < 1e-9:
        return []
    return [((2 * left + x) / 3, y), ((left + 2 * x) / 3, y), (x, y)]
