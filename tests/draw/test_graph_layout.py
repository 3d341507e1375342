import itertools
import random
import sys

import pytest
from pictures import chain, random_picture, sigmoid_neuron

from gpugrad.draw.layers import Link, Size
from gpugrad.draw.layout import layout, spread
from gpugrad.draw.ranks import LARGEST, longest_paths, ranks
from gpugrad.draw.scene import compose
from gpugrad.draw.style import text_width
from gpugrad.errors import GraphError

EPS = 1e-6


def overlap(a, b, margin=0.0):
    """Whether two rectangles (left, top, right, bottom) overlap by more than rounding."""
    return (a[0] < b[2] + margin - EPS and b[0] < a[2] + margin - EPS
            and a[1] < b[3] + margin - EPS and b[1] < a[3] + margin - EPS)


def rectangle(box):
    return box.x - box.width / 2, box.y - box.height / 2, box.x + box.width / 2, box.y + box.height / 2


def text_rectangle(text):
    half = text_width(text.text, text.px) / 2
    return text.x - half, text.y - 0.75 * text.px, text.x + half, text.y + 0.2 * text.px


def samples(points, per_curve=12):
    """Points along a chain of cubic Bézier curves."""
    for i in range(0, len(points) - 1, 3):
        p, q, r, s = points[i : i + 4]
        for k in range(per_curve + 1):
            t = k / per_curve
            u = 1 - t
            yield tuple(u**3 * a + 3 * u * u * t * b + 3 * u * t * t * c + t**3 * d
                        for a, b, c, d in zip(p, q, r, s, strict=True))


def check_clear(picture):
    """No box on a box, no text on a box or on the text of another line, no line through either."""
    scene = compose(picture, "builtin")
    boxes = [rectangle(box) for box in scene.boxes]
    for a, b in itertools.combinations(boxes, 2):
        assert not overlap(a, b, margin=4)
    number = {box.node.id: i for i, box in enumerate(scene.boxes)}
    texts = [(i, text_rectangle(t)) for i, line in enumerate(scene.lines) for t in line.texts]
    for _, text in texts:
        assert not any(overlap(text, box) for box in boxes)
    for (i, a), (j, b) in itertools.combinations(texts, 2):
        assert i == j or not overlap(a, b)
    for i, line in enumerate(scene.lines):
        own = {number[line.edge.source], number[line.edge.target]}
        obstacles = [box for j, box in enumerate(boxes) if j not in own] + [text for j, text in texts if j != i]
        for x, y in samples(line.points):
            assert not any(overlap((x, y, x, y), o) for o in obstacles), (line.edge, x, y)
            assert 0 <= x <= scene.width
            assert 0 <= y <= scene.height


@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_drawn_over_anything_else(seed):
    check_clear(random_picture(seed, ops=3 + 2 * seed))


def test_the_sigmoid_neuron_is_clear_and_fits_a_screen():
    check_clear(sigmoid_neuron())
    scene = compose(sigmoid_neuron(), "builtin")
    assert scene.width <= 1200
    assert scene.height <= 400


def test_the_sigmoid_neuron_runs_straight_from_the_sum_on():
    places = {box.node.id: box.y for box in compose(sigmoid_neuron(), "builtin").boxes}
    assert len({round(places[v], 3) for v in ("r", "s", "*-1", "exp", "+1", "1/x", "f")}) == 1


def test_every_line_runs_from_its_source_to_its_target_to_the_right():
    scene = compose(random_picture(5, 40), "builtin")
    at = {box.node.id: box for box in scene.boxes}
    for line in scene.lines:
        source, target = at[line.edge.source], at[line.edge.target]
        assert line.points[0] == pytest.approx((source.x + source.width / 2, source.y))
        tip_x, tip_y = line.arrow[0]
        assert target.x - target.width / 2 - EPS <= tip_x <= target.x
        assert abs(tip_y - target.y) <= target.height / 2
        xs = [x for x, _ in line.points]
        assert xs == sorted(xs)


def test_two_uses_of_one_value_by_one_operation_are_two_lines():
    drawn = layout([Size(40, 20, 20)] * 2, [Link(0, 1, Size(30, 20, 20))] * 2)
    assert drawn.routes[0].label != drawn.routes[1].label
    assert drawn.routes[0].points[-1] != drawn.routes[1].points[-1]


@pytest.mark.parametrize("arguments", [2, 3, 6, 40])
def test_lines_enter_a_node_apart_and_in_the_order_of_their_labels(arguments):
    drawn = layout([Size(40, 20, 20)] * (arguments + 1), [Link(i, arguments, Size(30, 20, 20)) for i in range(arguments)])
    routes = sorted(drawn.routes, key=lambda r: r.label[1])
    ends = [r.points[-1][1] - drawn.centres[-1][1] for r in routes]
    apart = min(12.0, 24.0 / (arguments - 1))
    assert all(b - a >= apart - EPS for a, b in zip(ends, ends[1:], strict=False))
    assert max(map(abs, ends)) <= 12.0 + EPS


def test_a_tree_is_drawn_without_crossings():
    parents = [(i, (i - 1) // 2) for i in range(1, 63)]
    assert layout([Size(40, 20, 20)] * 63, [Link(a, b, Size(30, 20, 20)) for a, b in parents]).crossings == 0


def test_a_single_node_is_a_drawing():
    assert layout([Size(40, 20, 20)], []).centres == [(20, 20)]


def test_a_cycle_is_refused():
    with pytest.raises(GraphError, match="draw: expected a graph without cycles, got 2 nodes on or behind a cycle"):
        layout([Size(40, 20, 20)] * 3, [Link(0, 1, Size(1, 1, 1)), Link(1, 2, Size(1, 1, 1)), Link(2, 1, Size(1, 1, 1))])


def test_equal_pictures_give_equal_drawings():
    first, second = (compose(random_picture(3, 50), "builtin") for _ in range(2))
    assert [line.points for line in first.lines] == [line.points for line in second.lines]


# ranks


def random_pairs(rng, count, edges):
    return [tuple(sorted(rng.sample(range(count), 2))) for _ in range(edges)]


@pytest.mark.parametrize("seed", range(25))
def test_ranks_are_the_shortest_possible(seed):
    rng = random.Random(seed)
    pairs = random_pairs(rng, 6, rng.randrange(3, 10))
    least = min(sum(r[t] - r[s] for s, t in pairs) for r in itertools.product(range(6), repeat=6)
                if all(r[s] < r[t] for s, t in pairs))
    found = ranks(longest_paths(6, pairs), pairs)
    assert all(found[s] < found[t] for s, t in pairs)
    assert sum(found[t] - found[s] for s, t in pairs) == least


def test_ranks_of_a_graph_too_large_for_the_simplex_are_valid():
    count = LARGEST + 100
    pairs = random_pairs(random.Random(1), count, 2 * count)
    found = ranks(longest_paths(count, pairs), pairs)
    assert all(found[s] < found[t] for s, t in pairs)


# heights


@pytest.mark.parametrize("seed", range(20))
def test_spread_is_the_least_squares_solution(seed):
    rng = random.Random(seed)
    n = rng.randrange(2, 12)
    wanted = [rng.uniform(0, 50) for _ in range(n)]
    weights = [rng.choice((0.1, 1.0, 30.0)) for _ in range(n)]
    gaps = [rng.uniform(0, 20) for _ in range(n - 1)]
    y = spread(wanted, weights, gaps)
    assert all(b - a >= gap - EPS for a, b, gap in zip(y, y[1:], gaps, strict=False))

    def cost(y):
        return sum(w * (a - b) ** 2 for w, a, b in zip(weights, y, wanted, strict=True))

    for i, j in itertools.combinations(range(n + 1), 2):  # no block of neighbours can move and gain
        for step in (-1e-3, 1e-3):
            moved = [v + step * (i <= k < j) for k, v in enumerate(y)]
            if all(b - a >= gap for a, b, gap in zip(moved, moved[1:], gaps, strict=False)):
                assert cost(moved) >= cost(y) - EPS


# effort


def steps(run):
    """How many lines of Python a call executes: a measure of time that does not shake."""
    count = 0

    def trace(frame, event, argument):
        nonlocal count
        count += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def as_layout(picture):
    number = {node.id: i for i, node in enumerate(picture.nodes)}
    links = [Link(number[e.source], number[e.target], Size(40, 20, 20)) for e in picture.edges]
    return lambda: layout([Size(40, 20, 20)] * len(picture.nodes), links)


@pytest.mark.parametrize("shorter", [300, 2_000])  # on either side of what the network simplex takes
def test_the_time_for_a_chain_is_linear_in_its_length(shorter):
    assert steps(as_layout(chain(2 * shorter))) < 2.2 * steps(as_layout(chain(shorter)))


def test_a_chain_of_5000_is_one_straight_line():
    drawn = as_layout(chain(5_000))()
    assert len({round(y, 6) for _, y in drawn.centres}) == 1
    assert drawn.crossings == 0
