"""Pictures of computational graphs, as the lecture draws them: values above the lines, gradients below."""

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from gpugrad.draw.collapse import LIMIT, collapse
from gpugrad.draw.graphviz import dot_text
from gpugrad.draw.html import html_text
from gpugrad.draw.picture import Edge, Node, Picture, number
from gpugrad.draw.raster import write_png
from gpugrad.draw.scene import compose
from gpugrad.draw.svg import svg_text
from gpugrad.errors import ArgumentError

__all__ = ["Edge", "Node", "Picture", "collapse", "number", "render"]


def render(picture: Picture, path: str | os.PathLike[str], *, limit: int | None = LIMIT, layout: str = "auto") -> None:
    """Draw a picture into a file; the suffix chooses .svg, .png, .html or .dot.

    limit   at most about this many nodes are drawn: repeated layers are shown once, chains and the middle are folded;
            None draws everything
    layout  "builtin", which needs nothing, "graphviz", or "auto": graphviz where it is installed

    Raises ArgumentError for another suffix, a limit below 10 or another layout, GraphError if the picture has a cycle,
    MissingExtraError for a .png without matplotlib and graphviz.
    """
    if not isinstance(path, str | os.PathLike):
        raise ArgumentError(f"draw: expected a string or a pathlib.Path as the path, got {path!r}. Pass 'graph.svg', say.")
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in (".svg", ".png", ".html", ".dot"):
        raise ArgumentError(f"draw: expected a path that ends in .svg, .png, .html or .dot, got {str(file)!r}. "
                            "Choose one of these.")
    shown = picture if limit is None else collapse(picture, limit)
    if suffix == ".png":
        write_png(shown, file, layout)
    elif suffix == ".dot":
        file.write_text(dot_text(shown), encoding="utf-8")
    else:
        text = svg_text if suffix == ".svg" else html_text
        file.write_text(text(compose(shown, layout)), encoding="utf-8")


class _Drawing(ModuleType):
    """The package is also the function: gg.draw(y, "graph.svg")."""

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        from gpugrad.draw.trace import draw
        draw(*args, **kwargs)


sys.modules[__name__].__class__ = _Drawing
