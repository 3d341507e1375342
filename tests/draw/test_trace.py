"""gg.draw: the graph of a Tensor with the lecture's values and gradients."""
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.draw.trace import picture


def neuron():
    w0, x0, w1, x1, w2 = (gg.tensor(v, requires_grad=True) for v in (2.0, -1.0, -3.0, -2.0, -3.0))
    f = 1.0 / (1.0 + np.exp(-(w0 * x0 + w1 * x1 + w2)))
    return f, {"w0": w0, "x0": x0, "w1": w1, "x1": x1, "w2": w2}


def test_the_sigmoid_neuron_has_every_number_of_the_slide():
    f, leaves = neuron()
    p = picture(f, names={id(t): name for name, t in leaves.items()})
    drawn = {(e.value, e.gradient) for e in p.edges if e.gradient is not None}
    assert drawn == {("2.00", "-0.20"), ("-1.00", "0.39"), ("-3.00", "-0.39"), ("-2.00", "-0.59"), ("-3.00", "0.20"),
                     ("-2.00", "0.20"), ("6.00", "0.20"), ("4.00", "0.20"), ("1.00", "0.20"), ("-1.00", "-0.20"),
                     ("0.37", "-0.53"), ("1.37", "-0.53"), ("0.73", "1.00")}
    assert {n.label for n in p.nodes if n.kind == "leaf"} == set(leaves)
    assert [n.label for n in p.nodes if n.kind == "constant"] == ["1.00", "1.00"]


def test_drawing_finds_the_names_of_the_callers_variables(tmp_path):
    weight = gg.tensor([1.0, 2.0], requires_grad=True)
    loss = np.sum(weight * weight)
    gg.draw(loss, tmp_path / "graph.svg")
    text = (tmp_path / "graph.svg").read_text()
    ET.fromstring(text)
    assert "weight" in text
    assert "loss" in text
    loss.backward()                                           # drawing has not used up the graph
    np.testing.assert_array_equal(weight.grad.data, [2, 4])


def test_fan_out_shows_what_flows_along_each_edge():
    x = gg.tensor(3.0, requires_grad=True)
    y = x * x + x
    gradients = sorted(e.gradient for e in picture(y).edges if e.source is x._node)
    assert gradients == ["1.00", "3.00", "3.00"]


def test_arrays_show_their_shape_and_parameters():
    x = gg.tensor(np.ones((4, 3)), requires_grad=True)
    p = picture(np.sum(np.tanh(x), axis=0), gradient=np.ones(3))
    assert {e.shape for e in p.edges} == {"(4, 3)", "(3,)"}
    assert any("axis=(0,)" in n.note for n in p.nodes)


def test_several_outputs_and_freed_graphs():
    x = gg.tensor(np.arange(4.0), requires_grad=True)
    a, b = np.split(x, 2)
    y = np.sum(a * b)
    assert any(n.label == "[1]" for n in picture(y).nodes)
    y.backward()
    assert any(n.kind == "leaf" for n in picture(y).nodes)


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: 3.0, gg.DtypeError, "draw: expected a Tensor, got 3.0"),
    (lambda: gg.tensor([1.0]), gg.GraphError, "draw: expected a Tensor with a graph"),
])
def test_what_has_no_graph_is_refused(make, error, message, tmp_path):
    with pytest.raises(error, match=message):
        gg.draw(make(), tmp_path / "x.svg")


def test_a_training_step_is_drawn_readably(tmp_path):
    rng = np.random.default_rng(0)
    x = gg.tensor(rng.normal(size=(8, 5)))
    w1, w2 = (gg.tensor(rng.normal(size=s), requires_grad=True) for s in ((5, 6), (6, 3)))
    loss = np.mean(np.maximum(x @ w1, 0) @ w2)
    for suffix in ("svg", "html", "dot"):
        gg.draw(loss, tmp_path / f"g.{suffix}")
        assert (tmp_path / f"g.{suffix}").stat().st_size > 500
