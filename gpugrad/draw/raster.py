"""PNG: through matplotlib where it is installed, else through graphviz's program dot."""

import math
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

from gpugrad.draw import graphviz, style
from gpugrad.draw.layout import Point
from gpugrad.draw.picture import Picture
from gpugrad.draw.scene import Box, Line, Scene, Text, compose
from gpugrad.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCALE = 2.0  # image pixels per drawing pixel: sharp on dense screens
MOST_PIXELS, LONGEST_SIDE = 120e6, 60_000.0  # what matplotlib can hold; a larger drawing gets a smaller scale
DPI = 100.0
POINTS_PER_PIXEL = 72.0 / DPI


def write_png(picture: Picture, path: FilePath, arrange: str = "auto") -> None:
    """Write the picture as a PNG file, two image pixels per drawing pixel.

    Raises MissingExtraError where neither matplotlib nor graphviz is installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        if not graphviz.installed():
            raise MissingExtraError("draw: a .png needs matplotlib or graphviz, got neither. "
                                    "pip install gpugrad[plot], or draw to .svg or .html.") from error
        path.write_bytes(graphviz.run(["-Tpng", f"-Gdpi={SCALE * 72:g}"], graphviz.dot_text(picture)))
    else:
        _paint(compose(picture, arrange), path)


def _paint(scene: Scene, path: FilePath) -> None:
    from matplotlib.figure import Figure
    from matplotlib.patches import Polygon

    longest, area = max(scene.width, scene.height), scene.width * scene.height
    scale = min(SCALE, LONGEST_SIDE / longest, math.sqrt(MOST_PIXELS / area))
    figure = Figure(figsize=(scene.width / DPI, scene.height / DPI), dpi=DPI * scale, facecolor=style.PAPER)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, scene.width), ylim=(scene.height, 0))
    axes.set_axis_off()
    for frame in scene.frames:
        _outline(axes, frame)
    for line in scene.lines:
        _curve(axes, line.points)
        axes.add_patch(Polygon(line.arrow, closed=True, facecolor=style.LINE, edgecolor="none"))
    for box in scene.boxes:
        _outline(axes, box)
    if scene.key:
        _curve(axes, scene.key)
    labelled: list[Line | Box] = [*scene.frames, *scene.lines, *scene.boxes]
    for text in (*scene.texts, *(t for item in labelled for t in item.texts)):
        _text(axes, text)
    figure.savefig(path, format="png", dpi=DPI * scale)


def _curve(axes: "Axes", points: list[Point]) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    codes = [Path.MOVETO, *[Path.CURVE4] * (len(points) - 1)]
    axes.add_patch(PathPatch(Path(points, codes), fill=False, edgecolor=style.LINE, linewidth=1.5 * POINTS_PER_PIXEL))


def _outline(axes: "Axes", box: Box) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    look = style.LOOKS[box.node.kind]
    for shift in look.outlines:
        points = _rounded(box.x + shift, box.y - shift, box.width / 2, box.height / 2, look.corner)
        codes = [Path.MOVETO, *[Path.LINETO, *[Path.CURVE4] * 3] * 4, Path.CLOSEPOLY]
        axes.add_patch(PathPatch(
            Path([*points, points[0]], codes), facecolor=look.fill, edgecolor=look.stroke,
            linewidth=1.5 * POINTS_PER_PIXEL, linestyle=(0, (4, 2)) if look.dash else "-",
        ))


def _rounded(x: float, y: float, half_width: float, half_height: float, corner: float) -> list[Point]:
    """A rectangle round (x, y) whose corners are quarter circles, as a start and then a line and a curve four times."""
    r = min(corner, half_width, half_height)
    k = r * (1 - 0.5522847498)  # the cubic nearest to a quarter circle
    points = [(x - half_width, y - half_height + r)]
    for sx, sy in ((-1, 1), (1, 1), (1, -1), (-1, -1)):
        cx, cy = x + sx * half_width, y + sy * half_height
        upright = [(cx, cy - sy * r), (cx, cy - sy * k)]
        level = [(cx - sx * k, cy), (cx - sx * r, cy)]
        points += [*upright, *level] if sx * sy < 0 else [*level[::-1], *upright[::-1]]
    return points


def _text(axes: "Axes", text: Text) -> None:
    axes.text(text.x, text.y, text.text, fontsize=text.px * POINTS_PER_PIXEL, color=text.colour,
              weight="bold" if text.bold else "normal", ha="center" if text.middle else "left", va="baseline",
              parse_math=False)
