"""A picture with coordinates, which every painter paints. Boxes are sized from their texts, once for all formats."""

import math
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

from gpugrad.draw import graphviz, style
from gpugrad.draw.layers import Link, Size
from gpugrad.draw.layout import Layout, Point, layout
from gpugrad.draw.picture import Edge, Node, Picture
from gpugrad.draw.style import NAME_PX, SHAPE_PX, TITLE_PX, VALUE_PX
from gpugrad.errors import ArgumentError

MARGIN = 24.0
RADIUS = 20.0  # of the circle round an operation's name
LONGEST_NAME, LONGEST_NOTE, LONGEST_VALUE = 24, 32, 26
RISE, DROP = 6.0, 5.0  # from a line up to the baseline of its value, and down to the top of its gradient
ARROW_LENGTH, ARROW_WIDTH = 9.0, 7.0
HEAD = 28.0  # above what is inside a group, for its texts
THICKET = 0.5  # crossings per line from which on graphviz is asked
BOLD = ("leaf", "output")
LAYOUTS = ("auto", "graphviz", "builtin")


class Text(NamedTuple):
    """One line of text; x is its middle, or its left end, and y its baseline."""

    x: float
    y: float
    text: str
    px: float
    colour: str
    bold: bool = False
    middle: bool = True


@dataclass(slots=True)
class Box:
    """A node with its place: centre, size, and the texts inside."""

    node: Node
    x: float
    y: float
    width: float
    height: float
    texts: list[Text]


@dataclass(slots=True)
class Line:
    """An edge with its place: a chain of cubic Bézier curves, the triangle at its end, and the texts beside it."""

    edge: Edge
    points: list[Point]
    arrow: list[Point]
    texts: list[Text]


@dataclass(slots=True)
class Scene:
    """Everything to paint, in pixels, y downwards; `texts` are the title and the words of the key."""

    width: float
    height: float
    boxes: list[Box]
    lines: list[Line]
    texts: list[Text]
    title: str
    key: list[Point] | None  # the sample line that says what stands above and below
    frames: list[Box]  # groups, behind the lines and boxes inside them


def compose(picture: Picture, arrange: str = "auto") -> Scene:
    """Place a picture.

    arrange     "builtin" needs nothing, "graphviz" lets the program `dot` place it, "auto" takes graphviz where it is
                installed and our own lines would cross so often that its denser drawing reads better

    Raises ArgumentError for another word, GraphError for a cycle, MissingExtraError for "graphviz" without it.
    """
    number = {node.id: i for i, node in enumerate(picture.nodes)}
    insides = {node.id: compose(node.inside, arrange) for node in picture.nodes if node.inside is not None}
    sizes = [_group_size(node, insides[node.id]) if node.id in insides else _node_size(node) for node in picture.nodes]
    links = [Link(number[e.source], number[e.target], _label_size(e)) for e in picture.edges]
    placed = _arrange(arrange, sizes, links)

    key = any(e.value or e.gradient for e in picture.edges)
    left, top = MARGIN, MARGIN + (TITLE_PX + 14 if picture.title else 0)
    boxes = [_box(node, size, x + left, y + top)
             for node, size, (x, y) in zip(picture.nodes, sizes, placed.centres, strict=True)]
    lines = [_line(edge, boxes[link.target], [(x + left, y + top) for x, y in route.points],
                   (route.label[0] + left, route.label[1] + top))
             for edge, link, route in zip(picture.edges, links, placed.routes, strict=True)]
    frames = [box for box in boxes if box.node.id in insides]
    boxes = [box for box in boxes if box.node.id not in insides]
    for frame in frames:
        _fill(frame, insides[frame.node.id], boxes, lines, frames)
    texts = [_title(picture.title)] if picture.title else []
    width = max([placed.width + 2 * MARGIN, *(t.x + style.text_width(t.text, t.px, t.bold) + MARGIN for t in texts)])
    height = top + placed.height + MARGIN
    sample = None
    if key:
        texts += _key(MARGIN, height)
        start, end = (MARGIN, height + 10), (MARGIN + 76, height + 10)
        sample = [start, start, end, end]
        height, width = height + 46, max(width, 76 + 2 * MARGIN)
    return Scene(math.ceil(width), math.ceil(height), boxes, lines, texts, picture.title, sample, frames)


def _arrange(arrange: str, sizes: list[Size], links: list[Link]) -> Layout:
    if arrange not in LAYOUTS:
        raise ArgumentError(f"draw: expected a layout among {', '.join(LAYOUTS)}, got {arrange!r}. Leave it out for auto.")
    if arrange == "graphviz":
        return graphviz.layout(sizes, links)
    ours = layout(sizes, links)
    if arrange == "auto" and ours.crossings > THICKET * len(links) and graphviz.installed():
        with suppress(graphviz.NoAnswer):
            return graphviz.layout(sizes, links)
    return ours


def _fill(frame: Box, inside: Scene, boxes: list[Box], lines: list[Line], frames: list[Box]) -> None:
    """Put what is inside a group into its frame, below the frame's own texts."""
    dx, dy = frame.x - inside.width / 2, frame.y + frame.height / 2 - inside.height
    for box in (*inside.boxes, *inside.frames):
        box.x, box.y, box.texts = box.x + dx, box.y + dy, [t._replace(x=t.x + dx, y=t.y + dy) for t in box.texts]
    for line in inside.lines:
        line.points = [(x + dx, y + dy) for x, y in line.points]
        line.arrow = [(x + dx, y + dy) for x, y in line.arrow]
        line.texts = [t._replace(x=t.x + dx, y=t.y + dy) for t in line.texts]
    boxes += inside.boxes
    lines += inside.lines
    frames += inside.frames
    name, note = frame.texts[0], frame.texts[1:]
    top = frame.y - frame.height / 2
    frame.texts = [name._replace(y=top + 20), *[t._replace(y=top + 38) for t in note]]


# sizes


def _name(node: Node) -> str:
    return style.one_line(node.label, LONGEST_NAME)


def _note(node: Node) -> str:
    return style.one_line(node.note, LONGEST_NOTE)


def _node_size(node: Node) -> Size:
    name, note = _name(node), _note(node)
    width = style.text_width(name, NAME_PX, node.kind in BOLD)
    if node.kind == "op" and not note:
        width, height = max(2 * RADIUS, width + 22 if width > 2 * RADIUS - 6 else 0), 2 * RADIUS
    else:
        width = 12.0 * math.ceil((22 + max(width, style.text_width(note, SHAPE_PX))) / 12)  # like names, like boxes
        height = 48.0 if note else 32.0
    return Size(width, height / 2, height / 2)


def _group_size(node: Node, inside: Scene) -> Size:
    """Room for what is inside, under the group's own texts."""
    width = max(inside.width, _node_size(node).width)
    return Size(width, (inside.height + HEAD) / 2, (inside.height + HEAD) / 2)


def _label_texts(edge: Edge) -> tuple[str, str, str]:
    """What stands above the line, from the top, and what stands below it."""
    return tuple(style.one_line(text or "", LONGEST_VALUE) for text in (edge.shape, edge.value, edge.gradient))  # type: ignore[return-value]


def _label_size(edge: Edge) -> Size:
    shape, value, gradient = _label_texts(edge)
    width = max(style.text_width(shape, SHAPE_PX), style.text_width(value, VALUE_PX),
                style.text_width(gradient, VALUE_PX))
    up = RISE + bool(value) * (VALUE_PX + 2) + bool(shape) * SHAPE_PX
    return Size(max(16.0, width + 8), up, DROP + bool(gradient) * (VALUE_PX + 2))


def hover_text(item: Node | Edge) -> str:
    """All that is known of a node or an edge, also what the drawing cuts short."""
    lines = (item.label, item.note) if isinstance(item, Node) else (item.shape, item.value, item.gradient)
    return item.detail or "\n".join(filter(None, lines))


# places


def _box(node: Node, size: Size, x: float, y: float) -> Box:
    name, note = _name(node), _note(node)
    texts = [Text(x, y + (-4 if note else 5.5), name, NAME_PX, style.INK, node.kind in BOLD)]
    if note:
        texts.append(Text(x, y + 15, note, SHAPE_PX, style.SHAPE))
    return Box(node, x, y, size.width, size.up + size.down, texts)


def _line(edge: Edge, target: Box, points: list[Point], label: Point) -> Line:
    shape, value, gradient = _label_texts(edge)
    x, y = label
    texts = []
    if value:
        texts.append(Text(x, y - RISE, value, VALUE_PX, style.VALUE))
    if shape:
        texts.append(Text(x, y - RISE - (VALUE_PX + 2 if value else 0), shape, SHAPE_PX, style.SHAPE))
    if gradient:
        texts.append(Text(x, y + DROP + 0.8 * VALUE_PX, gradient, VALUE_PX, style.GRADIENT))
    points, arrow = _with_arrow(points, target)
    return Line(edge, points, arrow, texts)


def _with_arrow(points: list[Point], target: Box) -> tuple[list[Point], list[Point]]:
    """The line led on to the outline of a round node, cut where the arrow begins, and the arrow."""
    (tip_x, tip_y), (from_x, from_y) = points[-1], points[-2]
    corner = min(style.LOOKS[target.node.kind].corner, target.height / 2)
    beyond = max(0.0, abs(tip_y - target.y) - (target.height / 2 - corner))
    tip_x += corner - math.sqrt(max(0.0, corner**2 - beyond**2))
    length = math.hypot(tip_x - from_x, tip_y - from_y) or 1.0
    ux, uy = (tip_x - from_x) / length, (tip_y - from_y) / length
    base_x, base_y = tip_x - ARROW_LENGTH * ux, tip_y - ARROW_LENGTH * uy
    half = ARROW_WIDTH / 2
    arrow = [(tip_x, tip_y), (base_x - half * uy, base_y + half * ux), (base_x + half * uy, base_y - half * ux)]
    bends = [(min(x, base_x), y) for x, y in points[-3:-1]]  # every line arrives from the left
    return [*points[:-3], *bends, (base_x, base_y)], arrow


def _title(text: str) -> Text:
    return Text(MARGIN, MARGIN + TITLE_PX - 4, style.one_line(text, 80), TITLE_PX, style.INK, bold=True, middle=False)


def _key(x: float, y: float) -> list[Text]:
    return [Text(x + 38, y + 10 - RISE, "value", VALUE_PX, style.VALUE),
            Text(x + 38, y + 10 + DROP + 0.8 * VALUE_PX, "gradient", VALUE_PX, style.GRADIENT)]
