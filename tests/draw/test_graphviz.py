import re
import shutil
import stat

import pytest
from pictures import random_picture, sigmoid_neuron

from gpugrad.draw import Edge, Node, Picture, graphviz
from gpugrad.draw.graphviz import dot_text
from gpugrad.draw.layers import Link, Size
from gpugrad.draw.scene import compose
from gpugrad.errors import ArgumentError, GpugradError, MissingExtraError

needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")

TOKEN = re.compile(r'''\s*(?:(?P<quoted>"(?:[^"\\]|\\.)*")|(?P<html><(?:[^<>]|<[^<>]*>)*>)'''
                   r'''|(?P<word>[A-Za-z_][\w]*|-?\d+(?:\.\d+)?)|(?P<sign>->|[{}\[\]=,;]))''')


def tokens(text):
    at, found = 0, []
    while text[at:].strip():
        match = TOKEN.match(text, at)
        assert match, f"not DOT: {text[at : at + 40]!r}"
        found.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return found


def statements(text):
    """A graph in DOT as its statements, each a list of tokens."""
    found = tokens(text)
    assert [t for _, t in found[:3]] == ["digraph", "gpugrad", "{"]
    assert found[-1] == ("sign", "}")
    rows, row = [], []
    for token in found[3:-1]:
        if token == ("sign", ";"):
            rows.append(row)
            row = []
        else:
            row.append(token)
    assert not row
    for row in rows:
        assert [t for _, t in row].count("[") == [t for _, t in row].count("]") <= 1
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_dot_text_parses_and_has_every_node_and_edge(seed):
    picture = random_picture(seed, 20)
    rows = statements(dot_text(picture))
    arrows = [row for row in rows if ("sign", "->") in row]
    nodes = [row for row in rows if re.fullmatch(r"n\d+", row[0][1]) and row not in arrows]
    assert (len(nodes), len(arrows)) == (len(picture.nodes), len(picture.edges))


def test_quotes_backslashes_and_markup_are_escaped():
    picture = Picture([Node(1, 'say "hi" \\n', detail="two\nlines"), Node(2, "<b>")],
                      [Edge(1, 2, value='a < b & "c"', gradient="</font>")])
    text = dot_text(picture)
    assert r'label="say \"hi\" \\n"' in text
    assert r'tooltip="two\nlines"' in text
    assert "a &lt; b &amp; &quot;c&quot;" in text
    assert len(statements(text)) == 7  # two settings, two defaults, two nodes, one edge


@needs_dot
@pytest.mark.parametrize("picture", [sigmoid_neuron(), random_picture(3, 30), Picture([Node(1, '"<&>\\')], [])])
def test_dot_reads_our_text(picture):
    assert b"digraph gpugrad" in graphviz.run(["-Tcanon"], dot_text(picture))


@needs_dot
@pytest.mark.parametrize("seed", range(3))
def test_dot_places_everything_inside_the_drawing(seed):
    picture = random_picture(seed, 30)
    scene = compose(picture, "graphviz")
    assert len(scene.lines) == len(picture.edges)
    for box in scene.boxes:
        assert box.width / 2 <= box.x <= scene.width - box.width / 2
        assert box.height / 2 <= box.y <= scene.height - box.height / 2


@pytest.fixture
def fake_dot(tmp_path, monkeypatch):
    """A program called dot that runs the shell script it is given."""
    def install(script):
        program = tmp_path / "dot"
        program.write_text("#!/bin/sh\ncat > /dev/null\n" + script)
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return install


PLAIN = """\
graph 1 4 2
node n0 0.5 1 1 0.5 "" solid box black lightgrey
node n1 3.5 1 1 0.5 "" solid box black lightgrey
node e0 2 1.5 0.6 0.5 "" solid box black lightgrey
edge n0 e0 4 1 1 1.2 1 1.4 1.5 1.7 1.5 solid black
edge e0 n1 4 2.3 1.5 2.6 1.5 2.8 1 3 1 solid black
stop
"""
TWO_BOXES = [Size(72, 18, 18)] * 2, [Link(0, 1, Size(43, 18, 18))]


def test_the_plain_format_is_read_with_y_turned_down(fake_dot):
    fake_dot(f"cat <<'END'\n{PLAIN}END\n")
    placed = graphviz.layout(*TWO_BOXES)
    assert (placed.width, placed.height) == (288, 144)
    assert placed.centres == [(36, 72), (252, 72)]
    (route,) = placed.routes
    assert route.label == (144, 36)
    assert (route.points[0], route.points[-1]) == ((72, 72), (216, 72))
    assert len(route.points) % 3 == 1


@pytest.mark.parametrize("script", ["exit 1", "echo garbage", "echo graph 1 2 3"])
def test_a_dot_that_fails_is_an_error_when_asked_for_and_no_matter_otherwise(fake_dot, script):
    fake_dot(script)
    with pytest.raises(GpugradError, match="draw: graphviz's dot should have placed the graph, got"):
        compose(sigmoid_neuron(), "graphviz")
    assert len(compose(random_picture(8, 60), "auto").lines) == len(random_picture(8, 60).edges)


def test_dot_is_asked_only_where_our_lines_cross_often(fake_dot, tmp_path):
    fake_dot("touch $0.was.asked; exit 1")
    compose(sigmoid_neuron(), "auto")
    assert not (tmp_path / "dot.was.asked").exists()
    compose(random_picture(8, 60), "auto")
    assert (tmp_path / "dot.was.asked").exists()


def test_graphviz_asked_for_and_not_installed_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match="draw: expected graphviz's program dot on the search path, got none"):
        compose(sigmoid_neuron(), "graphviz")


def test_an_unknown_layout_is_refused():
    with pytest.raises(ArgumentError, match="draw: expected a layout among auto, graphviz, builtin, got 'neato'"):
        compose(sigmoid_neuron(), "neato")
