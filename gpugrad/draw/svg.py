"""SVG text: one self-contained file without scripts. Hovering over a node or a line shows all that is known of it."""

from gpugrad.draw import style
from gpugrad.draw.layout import Point
from gpugrad.draw.scene import Box, Line, Scene, Text, hover_text


def svg_text(scene: Scene) -> str:
    """The scene as an SVG document, one element a line; equal scenes give equal text."""
    size = f'width="{_n(scene.width)}" height="{_n(scene.height)}"'
    rows = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_n(scene.width)} {_n(scene.height)}" '
        f'role="img" font-family="{style.FONT}" text-anchor="middle">',
        f"<title>{escape(scene.title or 'Computational graph')}</title>",
        f'<rect {size} fill="{style.PAPER}"/>',
        *map(_box, scene.frames),
        *map(_line, scene.lines),
        *map(_box, scene.boxes),
    ]
    if scene.key:
        rows.append(_path(scene.key))
    return "\n".join([*rows, *map(_text, scene.texts), "</svg>", ""])


def escape(text: str) -> str:
    """`text` as XML or HTML, inside an element or between double quotes."""
    plain = style.printable(text)
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _line(line: Line) -> str:
    arrow = " ".join(f"{_n(x)},{_n(y)}" for x, y in line.arrow)
    return (f'<g class="edge"><title>{escape(hover_text(line.edge))}</title>{_path(line.points)}'
            f'<polygon points="{arrow}" fill="{style.LINE}"/>{"".join(map(_text, line.texts))}</g>')


def _box(box: Box) -> str:
    look = style.LOOKS[box.node.kind]
    dash = ' stroke-dasharray="5 3"' if look.dash else ""
    outlines = [f'<rect x="{_n(box.x - box.width / 2 + shift)}" y="{_n(box.y - box.height / 2 - shift)}" '
                f'width="{_n(box.width)}" height="{_n(box.height)}" rx="{_n(look.corner)}" fill="{look.fill}" '
                f'stroke="{look.stroke}" stroke-width="1.5"{dash}/>' for shift in look.outlines]
    return (f'<g class="node {box.node.kind}"><title>{escape(hover_text(box.node))}</title>'
            f'{"".join(outlines)}{"".join(map(_text, box.texts))}</g>')


def _path(points: list[Point]) -> str:
    start, *rest = (f"{_n(x)} {_n(y)}" for x, y in points)
    return f'<path d="M{start}C{" ".join(rest)}" fill="none" stroke="{style.LINE}" stroke-width="1.5"/>'


def _text(text: Text) -> str:
    bold = ' font-weight="bold"' if text.bold else ""
    start = "" if text.middle else ' text-anchor="start"'
    return (f'<text x="{_n(text.x)}" y="{_n(text.y)}" font-size="{_n(text.px)}" fill="{text.colour}"{bold}{start}>'
            f"{escape(text.text)}</text>")


def _n(x: float) -> str:
    return f"{x:.1f}".removesuffix(".0")
