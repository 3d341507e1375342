"""Graphviz: DOT text for readers who want it, and the program `dot` as a layout where it is installed."""

import shutil
import subprocess
from collections.abc import Sequence

from gpugrad.draw import style
from gpugrad.draw.layers import Link, Size
from gpugrad.draw.layout import Layout, Point, Route
from gpugrad.draw.picture import Edge, Node, Picture
from gpugrad.errors import GpugradError, MissingExtraError

POINTS_PER_INCH = 72.0
PATIENCE_S = 20.0


class NoAnswer(GpugradError, RuntimeError):
    """`dot` was started and gave nothing to use: too slow, killed, or of an unknown version."""

    def __init__(self, reason: object):
        super().__init__(f"draw: graphviz's dot should have placed the graph, got {str(reason).strip()!r}. "
                         'Use layout="builtin".')


def installed() -> bool:
    """Whether the program `dot` is on the search path."""
    return shutil.which("dot") is not None


# DOT text


def dot_text(picture: Picture) -> str:
    """The picture in the DOT language, with the same colours and texts as the other formats."""
    number = {node.id: i for i, node in enumerate(picture.nodes)}
    rows = [
        "digraph gpugrad {",
        "  rankdir=LR; bgcolor=white;" + (f" label={_quoted(picture.title)}; labelloc=t;" if picture.title else ""),
        f'  node [fontname="Helvetica", fontsize={style.NAME_PX}, style="filled,rounded", penwidth=1.5];',
        f'  edge [fontname="Helvetica", fontsize={style.VALUE_PX}, color="{style.LINE}"];',
        *(f"  n{i} [{_node_attributes(node)}];" for i, node in enumerate(picture.nodes)),
        *(f"  n{number[e.source]} -> n{number[e.target]}{_edge_attributes(e)};" for e in picture.edges),
        "}",
        "",
    ]
    return "\n".join(rows)


def _node_attributes(node: Node) -> str:
    look = style.LOOKS[node.kind]
    label = _quoted(f"{node.label}\n{node.note}" if node.note else node.label)
    shape = "box3d" if len(look.outlines) > 1 else "ellipse" if node.kind == "op" and not node.note else "box"
    kind = ', style="filled,dashed"' if look.dash else ', style="filled"' if shape == "box3d" else ""
    hover = f", tooltip={_quoted(node.detail)}" if node.detail else ""
    return f'label={label}, shape={shape}, fillcolor="{look.fill}", color="{look.stroke}"{kind}{hover}'


def _edge_attributes(edge: Edge) -> str:
    rows = [f'<font color="{colour}">{_html(text)}</font>'
            for text, colour in ((edge.shape, style.SHAPE), (edge.value, style.VALUE), (edge.gradient, style.GRADIENT))
            if text]
    attributes = [f"label=<{'<br/>'.join(rows)}>"] if rows else []
    attributes += [f"tooltip={_quoted(edge.detail)}"] if edge.detail else []
    return f" [{', '.join(attributes)}]" if attributes else ""


def _quoted(text: str) -> str:
    inside = style.printable(text).replace("\\", "\\\\").replace('"', '\\"').replace("\r", "").replace("\n", "\\n")
    return f'"{inside}"'


def _html(text: str) -> str:
    flat = style.one_line(text, 200)
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


# dot as a layout


def layout(sizes: Sequence[Size], links: Sequence[Link]) -> Layout:
    """What gpugrad.draw.layout.layout returns, placed by `dot`. Labels are handed to it as nodes, on their lines.

    Raises MissingExtraError where `dot` is not installed, NoAnswer where it gives nothing in 20 seconds.
    """
    return _read(run(["-Tplain"], _geometry(sizes, links)).decode(), len(sizes), links)


def run(options: list[str], text: str) -> bytes:
    """What `dot` writes when it reads `text`."""
    if not installed():
        raise MissingExtraError("draw: expected graphviz's program dot on the search path, got none. "
                                "Install graphviz, or leave the layout to gpugrad.")
    try:
        done = subprocess.run(["dot", *options], input=text.encode(), capture_output=True, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAnswer(error) from error
    if done.returncode:
        raise NoAnswer(done.stderr.decode(errors="replace"))
    return done.stdout


def _geometry(sizes: Sequence[Size], links: Sequence[Link]) -> str:
    rows = ["digraph {", 'rankdir=LR; ranksep=0.3; nodesep=0.12; node [shape=box, fixedsize=true, label=""];']
    rows += [f"n{i} [{_inches(size)}];" for i, size in enumerate(sizes)]
    for i, link in enumerate(links):
        rows.append(f"e{i} [{_inches(link.label)}];")
        rows.append(f"n{link.source}:e -> e{i}:w [arrowhead=none]; e{i}:e -> n{link.target}:w [arrowhead=none];")
    return "\n".join([*rows, "}"])


def _inches(size: Size) -> str:
    height = 2 * max(size.up, size.down)  # dot knows only boxes round their middle
    return f"width={size.width / POINTS_PER_INCH:.4f}, height={height / POINTS_PER_INCH:.4f}"


def _read(plain: str, count: int, links: Sequence[Link]) -> Layout:
    """Graphviz's plain format: rows `graph scale w h`, `node name x y …`, `edge tail head n x1 y1 … xn yn …`."""
    places: dict[str, Point] = {}
    curves: dict[tuple[str, str], list[Point]] = {}
    width = height = 0.0
    for row in plain.splitlines():
        match row.split(" "):
            case ["graph", _, w, h]:
                width, height = float(w) * POINTS_PER_INCH, float(h) * POINTS_PER_INCH
            case ["node", name, x, y, *_]:
                places[name] = _point(x, y, height)
            case ["edge", tail, head, n, *rest]:
                xy = rest[: 2 * int(n)]
                curves[tail, head] = [_point(x, y, height) for x, y in zip(xy[::2], xy[1::2], strict=True)]
    try:
        routes = [_route(curves[f"n{link.source}", f"e{i}"], curves[f"e{i}", f"n{link.target}"], places[f"e{i}"])
                  for i, link in enumerate(links)]
        return Layout(width, height, [places[f"n{i}"] for i in range(count)], routes)
    except (KeyError, IndexError) as error:
        raise NoAnswer(f"dot left out {error}") from error


def _point(x: str, y: str, height: float) -> Point:
    return float(x) * POINTS_PER_INCH, height - float(y) * POINTS_PER_INCH


def _route(arriving: list[Point], leaving: list[Point], label: Point) -> Route:
    """The curve to the label, level through it, and the curve from it."""
    return Route([*arriving, arriving[-1], leaving[0], *leaving], label)
