"""Sizes, colours and text measurement, shared by every way of drawing, so that all formats look alike.

All lengths are pixels at 100 %. Text is dark on light; every pair of text and background has a contrast of at least
4.5 to 1, and no meaning hangs on colour alone: values stand above a line and gradients below, kinds differ in outline.
"""

import unicodedata
from dataclasses import dataclass

FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
NAME_PX, VALUE_PX, SHAPE_PX, TITLE_PX = 16, 14, 13, 18

INK, VALUE, GRADIENT, SHAPE, LINE, PAPER = "#1a1a1a", "#0a6b2d", "#b3261e", "#4a5560", "#5b6670", "#ffffff"


@dataclass(frozen=True, slots=True)
class Look:
    """How a kind of node is painted."""

    fill: str
    stroke: str
    dash: bool = False
    corner: float = 6.0
    outlines: tuple[float, ...] = (0.0,)  # shifts to the upper right, back to front: a pile of sheets has several


LOOKS = {
    "leaf": Look("#d8e8ff", "#1d4ed8"),
    "constant": Look("#f3f4f6", "#6b7280", dash=True),
    "op": Look("#ffffff", "#1f2937", corner=20.0),
    "output": Look("#ffeec2", "#8a5a00"),
    "group": Look("#f6f9ee", "#56701f"),
    "collapsed": Look("#ece6fa", "#5b3fa8", outlines=(6.0, 3.0, 0.0)),
}

_NARROW = frozenset("ijlItfr.,:;'`|!()[]{} -/\\\"°")
_WIDE = frozenset("mwMW@%…—∞⟨⟩")
_BROAD = frozenset("+=<>×÷±−∂∇→←~^#&ABCDGHKNOQRUVXYΣΔΩ")


def text_width(text: str, px: float, bold: bool = False) -> float:
    """The width of one line of text in pixels. Without font files this is a bound: DejaVu Sans, a wide face, fits."""
    return px * (1.12 if bold else 1.0) * sum(map(_char_em, text))


def _char_em(char: str) -> float:
    if char in _NARROW:
        return 0.42
    if char in _WIDE:
        return 1.0
    if char in _BROAD:
        return 0.84
    if char.isascii():
        return 0.65
    if unicodedata.combining(char):
        return 0.0
    return 1.1 if unicodedata.east_asian_width(char) in "WF" else 0.85


def one_line(text: str, longest: int) -> str:
    """`text` on one line of at most `longest` characters; an ellipsis stands for what was cut."""
    flat = " ".join(printable(text).split())
    return flat if len(flat) <= longest else flat[: longest - 1].rstrip() + "…"


def printable(text: str) -> str:
    """`text` without the characters that XML 1.0 forbids; U+FFFD stands in their place."""
    return "".join(c if _is_xml(ord(c)) else "\ufffd" for c in text)


def _is_xml(code: int) -> bool:
    return code in (9, 10, 13) or 0x20 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or code >= 0x10000
