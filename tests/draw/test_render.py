import re
import struct
import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pictures import chain, random_picture, sigmoid_neuron

from gpugrad.draw import Edge, Node, Picture, render
from gpugrad.draw.scene import compose
from gpugrad.errors import ArgumentError, GraphError, MissingExtraError


def test_the_suffix_chooses_the_format(tmp_path):
    for suffix, start in ((".svg", "<svg"), (".html", "<!DOCTYPE html>"), (".dot", "digraph"), (".SVG", "<svg")):
        render(sigmoid_neuron(), tmp_path / f"graph{suffix}")
        assert (tmp_path / f"graph{suffix}").read_text(encoding="utf-8").startswith(start)


def test_a_path_may_be_a_string(tmp_path):
    render(sigmoid_neuron(), str(tmp_path / "graph.svg"))
    assert (tmp_path / "graph.svg").exists()


@pytest.mark.parametrize("name", ["graph.gif", "graph", ".svg/", ""])
def test_another_suffix_is_refused_and_nothing_is_written(tmp_path, name):
    with pytest.raises(ArgumentError, match=r"draw: expected a path that ends in \.svg, \.png, \.html or \.dot, got '.*'\. C"):
        render(sigmoid_neuron(), f"{tmp_path}/{name}")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_no_path_is_refused():
    with pytest.raises(ArgumentError, match=r"draw: expected a string or a pathlib\.Path as the path, got 3"):
        render(sigmoid_neuron(), 3)


def test_a_picture_with_a_cycle_is_refused(tmp_path):
    loop = Picture([Node(1, "a"), Node(2, "b")], [Edge(1, 2), Edge(2, 1)])
    with pytest.raises(GraphError, match="draw: expected a graph without cycles"):
        render(loop, tmp_path / "loop.svg")


def test_big_graphs_are_folded_and_drawn_whole_on_request(tmp_path):
    render(chain(400), tmp_path / "folded.svg")
    render(chain(400), tmp_path / "whole.svg", limit=None)
    nodes = [len(re.findall('class="node', (tmp_path / f"{name}.svg").read_text())) for name in ("folded", "whole")]
    assert nodes[0] < 10
    assert nodes[1] == 402


# html


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.loads, self.scripts, self.open, self.texts = [], 0, [], []

    def handle_starttag(self, tag, attributes):
        self.loads += [value for name, value in attributes if name in ("src", "href", "action", "data")]
        self.scripts += tag == "script"
        if tag not in ("meta", "rect", "path", "polygon"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        self.texts.append(data)


def test_the_page_is_self_contained(tmp_path):
    render(random_picture(1, 30), tmp_path / "graph.html")
    text = (tmp_path / "graph.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.loads == []
    assert page.scripts == 1
    assert re.findall(r"https?://[^\"'\s]+", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|\bimport\b", text)


def test_the_page_holds_the_svg_and_every_whole_value(tmp_path):
    value = "[[1. 2.]\n [3. 4.]] " + "9.99 " * 200 + '</script><b id="x">&'
    picture = Picture([Node(1, "x", "leaf"), Node(2, "exp")], [Edge(1, 2, "1.00", detail=value)], "@SVG@ </title>")
    render(picture, tmp_path / "graph.html")
    text = (tmp_path / "graph.html").read_text(encoding="utf-8")
    svg = ET.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])
    assert value in [t.text for t in svg.iter("{http://www.w3.org/2000/svg}title")]
    page = Page()
    page.feed(text)
    assert page.scripts == 1
    assert "@SVG@ </title>" in page.texts


# png


def size_of_png(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def test_a_png_is_twice_as_dense_as_the_drawing(tmp_path):
    pytest.importorskip("matplotlib")
    render(sigmoid_neuron(), tmp_path / "graph.png", layout="builtin")
    scene = compose(sigmoid_neuron(), "builtin")
    assert size_of_png(tmp_path / "graph.png") == pytest.approx((2 * scene.width, 2 * scene.height), abs=1)


def test_a_png_shows_what_stands_at_the_place_of_a_leaf(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    render(sigmoid_neuron(), tmp_path / "graph.png", layout="builtin")
    pixels = image.imread(tmp_path / "graph.png")
    leaf = compose(sigmoid_neuron(), "builtin").boxes[0]
    x, y = leaf.x - leaf.width / 2 + 6, leaf.y - leaf.height / 2 + 6
    assert pixels[int(2 * y), int(2 * x), :3] == pytest.approx((0xD8 / 255, 0xE8 / 255, 1.0), abs=0.01)
    assert pixels[2, 2, :3] == pytest.approx((1, 1, 1))


def test_a_drawing_too_long_for_an_image_is_made_smaller(tmp_path):
    pytest.importorskip("matplotlib")
    render(chain(400), tmp_path / "long.png", limit=None, layout="builtin")
    width, height = size_of_png(tmp_path / "long.png")
    assert width <= 60_001
    assert width * height <= 121e6


def test_a_png_without_its_extra_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match=r"draw: a \.png needs matplotlib or graphviz, got neither\. "
                                                r"pip install gpugrad\[plot\], or draw to \.svg or \.html\."):
        render(sigmoid_neuron(), tmp_path / "graph.png")
    assert issubclass(MissingExtraError, ImportError)
    assert not Path(tmp_path / "graph.png").exists()


def test_a_png_without_matplotlib_comes_from_dot(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    program = tmp_path / "dot"
    program.write_text('#!/bin/sh\nread first; echo "$1 $first"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    render(sigmoid_neuron(), tmp_path / "graph.png")
    assert (tmp_path / "graph.png").read_text() == "-Tpng digraph gpugrad {\n"
