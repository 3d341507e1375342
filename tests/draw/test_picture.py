import math

import pytest

from gpugrad.draw import Edge, Node, Picture, number
from gpugrad.errors import ArgumentError


def test_numbers_read_as_in_the_lecture():
    assert [number(x) for x in (2, -0.527, 0.7310585, -0.0)] == ["2.00", "-0.53", "0.73", "0.00"]


def test_numbers_that_two_decimals_cannot_show_keep_three_digits():
    assert [number(x) for x in (1.234e-5, -0.00999, 123456.0)] == ["1.23e-05", "-9.99e-03", "1.23e+05"]


def test_numbers_that_are_not_finite_keep_their_names():
    assert [number(x) for x in (math.nan, math.inf, -math.inf)] == ["nan", "inf", "-inf"]


def test_a_picture_takes_any_iterable_and_keeps_the_order():
    picture = Picture((Node(i, str(i)) for i in range(3)), iter([Edge(0, 2), Edge(0, 1)]))
    assert [n.id for n in picture.nodes] == [0, 1, 2]
    assert [e.target for e in picture.edges] == [2, 1]


@pytest.mark.parametrize(("nodes", "edges", "message"), [
    ([], [], "draw: a picture needs at least one node, got none"),
    ([Node(1, "a"), Node(2, "b"), Node(1, "c")], [], "draw: every node needs an id of its own, got 1 twice"),
    ([Node(1, "a", "circle")], [], "draw: expected a kind among leaf, constant, op, output, collapsed, group, got 'circle'"),
    ([Node(1, "a")], [Edge(1, 7)], "draw: expected edges between nodes of the picture, got the end 7"),
])
def test_a_picture_that_cannot_be_drawn_is_refused(nodes, edges, message):
    with pytest.raises(ArgumentError) as caught:
        Picture(nodes, edges)
    assert str(caught.value).startswith(message)
