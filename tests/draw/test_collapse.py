import random

import pytest
from pictures import chain, network, random_picture, sigmoid_neuron

from gpugrad.draw import Edge, Node, Picture, collapse
from gpugrad.draw.order import topological_order
from gpugrad.draw.repeats import Op, Repeat, repeats
from gpugrad.errors import ArgumentError, GraphError


def total(picture):
    return sum(node.count for node in picture.nodes)


def labels(picture):
    return [node.label for node in picture.nodes]


def check_honest(small, whole):
    """Everything is counted, nothing turns in circles, and what is still drawn is what it was."""
    assert total(small) == total(whole)
    number = {node.id: i for i, node in enumerate(small.nodes)}
    topological_order(len(small.nodes), [(number[e.source], number[e.target]) for e in small.edges])
    before, edges = {n.id: n for n in whole.nodes}, set(whole.edges)
    kept = {n.id for n in small.nodes if n.id in before}
    assert all(n == before[n.id] for n in small.nodes if n.id in kept)
    assert {e for e in edges if e.source in kept and e.target in kept} <= set(small.edges)


def test_a_picture_within_the_limit_is_left_alone():
    picture = sigmoid_neuron()
    assert collapse(picture, 14) is picture


@pytest.mark.parametrize("seed", range(40))
def test_nothing_vanishes_from_a_random_graph(seed):
    picture = random_picture(seed, ops=20 + 8 * seed)
    limit = 10 + 2 * seed
    small = collapse(picture, limit)
    check_honest(small, picture)
    assert len(small.nodes) <= max(limit, 12)


def test_inputs_of_what_is_shown_and_outputs_stay():
    small = collapse(network(200))
    check_honest(small, network(200))
    assert {"x", "y", "W0", "b0"} <= set(labels(small))


def test_repeated_layers_are_shown_once_and_counted():
    small = collapse(network(101))
    assert "× 99 more" in labels(small)  # the first layer reads x and differs, the second one is the one shown
    assert labels(small).count("matmul") == 2
    folded = next(n for n in small.nodes if n.label == "× 99 more")
    assert folded.note == "matmul, +, relu"
    assert folded.detail == "× 99 more\nmatmul × 99\n+ × 99\nrelu × 99"
    assert "198 inputs" in labels(small)


def test_a_repeat_leaves_the_edges_round_it_with_their_texts():
    small = collapse(network(101))
    last = next(e for e in small.edges if e.target == "y")
    assert last.shape == "(64, 32)"


def test_one_operation_in_a_row_is_named():
    small = collapse(chain(1000))
    assert "sin × 998" in labels(small)  # the first one reads x


def test_a_long_chain_keeps_its_ends_and_counts_its_middle():
    rng = random.Random(0)
    names = tuple(rng.choice(("sin", "cos", "exp")) + str(rng.random()) for _ in range(9_816))
    small = collapse(chain(9_816, names))
    assert labels(small) == ["x", *names[:2], "… 9,812 ops …", *names[-2:], "y"]
    assert {(e.value, e.gradient) for e in small.edges} == {("1.00", "0.50")}


def test_the_middle_of_a_thicket_is_left_out():
    rng = random.Random(0)
    nodes = [Node(0, "x", "leaf")] + [Node(i, f"op{i}") for i in range(1, 5_000)]
    edges = [Edge(max(0, i - back), i) for i in range(1, 5_000) for back in (1, rng.randrange(2, 9))]
    picture = Picture([*nodes, Node("y", "y", "output")], [*edges, Edge(4_999, "y")])
    small = collapse(picture)
    check_honest(small, picture)
    assert 100 < len(small.nodes) <= 150
    assert any(label.startswith("… ") and label.endswith(" ops …") for label in labels(small))
    assert {"x", "op1", "op4999", "y"} <= set(labels(small))


def test_a_crowd_of_inputs_becomes_one():
    leaves = [Node(i, f"x{i}", "leaf") for i in range(500)]
    picture = Picture([*leaves, Node("c", "concat"), Node("y", "y", "output")],
                      [*(Edge(i, "c", shape="(3,)") for i in range(500)), Edge("c", "y")])
    small = collapse(picture)
    assert labels(small) == ["500 inputs", "concat", "y"]
    assert small.edges[0].shape == "(3,)"
    assert small.edges[0].detail == "500 edges"


def test_many_outputs_are_counted():
    picture = Picture([Node("x", "x", "leaf"), *(Node(i, f"y{i}", "output") for i in range(300))],
                      [Edge("x", i) for i in range(300)])
    small = collapse(picture)
    check_honest(small, picture)
    assert len(small.nodes) <= 52
    assert labels(small)[-1] == "251 outputs"


def test_gradients_that_would_have_to_be_added_are_not_shown():
    picture = Picture([Node("x", "x", "leaf"), *(Node(i, f"op{i}") for i in range(30)), Node("y", "y", "output")],
                      [Edge("x", i, "2.00", f"{i}.00") for i in range(30)] +
                      [Edge(i, i + 1) for i in range(29)] + [Edge(29, "y")])
    small = collapse(picture, 10)
    merged = [e for e in small.edges if e.source == "x" and e.detail.endswith("edges")]
    assert [(e.value, e.gradient) for e in merged] == [("2.00", None)]


def test_a_limit_too_small_to_show_anything_is_refused():
    with pytest.raises(ArgumentError, match="draw: expected a limit of at least 10 nodes to draw, got 3"):
        collapse(sigmoid_neuron(), 3)


def test_a_cycle_is_refused():
    nodes = [Node(i, "op") for i in range(20)]
    with pytest.raises(GraphError, match="without cycles, got 20 nodes"):
        collapse(Picture(nodes, [Edge(i, (i + 1) % 20) for i in range(20)]), 10)


# repeats


def ops(*rows):
    return [Op(name, tuple(arguments)) for name, *arguments in rows]


def test_a_loop_that_reads_a_fixed_value_repeats():
    rows = [("init", "leaf")] + [("step", i, 0) for i in range(10)]
    assert repeats(ops(*rows)) == [Repeat(1, 1, 10)]


def test_the_same_names_wired_differently_do_not_repeat():
    rng = random.Random(4)
    rows = [("a", "leaf")] + [("a", rng.randrange(i)) for i in range(1, 60)]
    wired = ops(*rows)
    for r in repeats(wired):
        for i in range(r.start + r.period, r.end):
            (a,), (b,) = wired[i].arguments, wired[i - r.period].arguments
            assert a == b or a - b == r.period


def test_a_layer_begins_where_it_reads_least():
    rows = []
    for k in range(8):  # h -> norm -> f -> + h
        h = 3 * k - 1 if k else "leaf"
        rows += [("norm", h), ("f", 3 * k), ("+", 3 * k + 1, h)]
    (found,) = repeats(ops(*rows))
    assert rows[found.start][0] == "norm"
    assert (found.period, found.times) == (3, 7)
