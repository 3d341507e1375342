import re
import xml.etree.ElementTree as ET

import pytest
from pictures import random_picture, sigmoid_neuron

from gpugrad.draw import Edge, Node, Picture, style
from gpugrad.draw.scene import compose
from gpugrad.draw.svg import svg_text

SVG = "{http://www.w3.org/2000/svg}"


def parse(picture):
    return ET.fromstring(svg_text(compose(picture, "builtin")))


def texts(root):
    return [t.text for t in root.iter(SVG + "text")]


@pytest.mark.parametrize("seed", range(5))
def test_the_text_is_well_formed(seed):
    picture = random_picture(seed, 20)
    root = parse(picture)
    assert len(root.findall(f"{SVG}g[@class='edge']")) == len(picture.edges)
    assert len(root.findall(f"{SVG}g")) == len(picture.edges) + len(picture.nodes)


def test_the_neuron_shows_every_value_and_gradient_of_the_lecture():
    shown = texts(parse(sigmoid_neuron()))
    for edge in sigmoid_neuron().edges:
        assert edge.value in shown
        assert edge.gradient in shown
    assert {"w0", "x0", "exp", "1/x", "f"} <= set(shown)


def test_the_value_stands_above_its_line_and_the_gradient_below():
    for line in compose(sigmoid_neuron(), "builtin").lines:
        value, gradient = line.texts
        level = [y for x, y in line.points if abs(x - value.x) < 30]
        assert value.y < min(level)
        assert gradient.y - 0.75 * gradient.px > max(level)
        assert (value.colour, gradient.colour) == (style.VALUE, style.GRADIENT)


def test_markup_in_texts_stays_text():
    nasty = '<script>alert("&amp;")</script>'
    picture = Picture([Node(1, "<a&b>", "leaf", detail=nasty), Node(2, '"quoted"')],
                      [Edge(1, 2, value="a < b", gradient='& "c"', detail=nasty)], title="x <y> & z")
    root = parse(picture)
    assert {"<a&b>", '"quoted"', "a < b", '& "c"', "x <y> & z"} <= set(texts(root))
    assert [t.text for t in root.iter(SVG + "title")].count(nasty) == 2
    assert not list(root.iter(SVG + "script"))


def test_characters_that_xml_forbids_are_replaced():
    root = parse(Picture([Node(1, "a\x00b\x1b\ud800c\uffff", detail="\x07")], []))
    assert texts(root) == ["a\ufffdb\ufffd\ufffdc\ufffd"]


def test_long_texts_are_cut_and_whole_on_hover():
    name = "a very long name of an operation " * 3
    root = parse(Picture([Node(1, name)], []))
    (shown,) = texts(root)
    assert shown.endswith("…")
    assert len(shown) <= 24
    assert name in [t.text for t in root.iter(SVG + "title")]


def test_no_letter_is_smaller_than_13_pixels():
    sizes = re.findall(r'font-size="([\d.]+)"', svg_text(compose(random_picture(2, 40), "builtin")))
    assert min(map(float, sizes)) >= 13


def test_the_file_loads_nothing_and_runs_nothing():
    text = svg_text(compose(random_picture(2, 40), "builtin"))
    assert re.findall(r"https?://[^\"' ]+", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"<script|<image|<use|href|url\(|\bon\w+=", text)


def test_equal_pictures_give_equal_files():
    assert len({svg_text(compose(random_picture(7, 30), "builtin")) for _ in range(2)}) == 1


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a, b):
    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("ground", [style.PAPER, *(look.fill for look in style.LOOKS.values())])
@pytest.mark.parametrize("ink", [style.INK, style.SHAPE])
def test_texts_contrast_with_their_ground(ink, ground):
    assert contrast(ink, ground) >= 4.5


@pytest.mark.parametrize("ink", [style.VALUE, style.GRADIENT, style.LINE, *(k.stroke for k in style.LOOKS.values())])
def test_everything_on_paper_contrasts_with_it(ink):
    assert contrast(ink, style.PAPER) >= 4.5


def test_measured_widths_are_bounds_for_the_widest_usual_font():
    font_manager = pytest.importorskip("matplotlib.font_manager")
    text_to_path = pytest.importorskip("matplotlib.textpath").text_to_path
    font = font_manager.FontProperties(family="DejaVu Sans", size=100)
    for text in ("-0.53", "(256, 784)", "log_softmax", "matmul", "1.23e-05", "∂L/∂W", "× 99 more", "WMWM%@", "Ωmega"):
        width = text_to_path.get_text_width_height_descent(text, font, False)[0]
        assert width <= style.text_width(text, 100)
