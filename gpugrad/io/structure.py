"""A tree as named arrays plus JSON that says how they were nested.

    {"layers": [{"w": w}, {"w": w2}], "epoch": 3}
    arrays     "layers.0.w", "layers.1.w"
    structure  {"dict": {"layers": {"list": [{"dict": {"w": {"array": "layers.0.w"}}}, ...]}, "epoch": {"value": 3}}}
"""
from __future__ import annotations

import math
from typing import Any

from gpugrad.arrays import is_array, short
from gpugrad.errors import ArgumentError, FileFormatError
from gpugrad.graph.tensor import Tensor

DEEPEST = 100              # containers inside containers: more is a mistake, or a file made to exhaust the stack


def describe(tree: Any) -> tuple[Any, dict[str, Any]]:
    """The structure as JSON can hold it, and the arrays by name."""
    arrays: dict[str, Any] = {}

    def walk(node: Any, path: tuple[str, ...]) -> Any:
        if len(path) > DEEPEST:
            raise ArgumentError(f"save: expected at most {DEEPEST} containers inside each other, got more at "
                                f"{'.'.join(path[:3])}…. Check for a container that holds itself.")
        if isinstance(node, Tensor) or is_array(node):
            name = unused(".".join(path) or "value", arrays)
            arrays[name] = node
            return {"array": name}
        if isinstance(node, dict):
            for key in node:
                if not isinstance(key, str) or not nameable(key):
                    raise ArgumentError(f"save: expected short strings as keys, got {short(key)}. Rename the entry.")
            return {"dict": {key: walk(value, (*path, key)) for key, value in node.items()}}
        if isinstance(node, list | tuple):
            kind = "list" if isinstance(node, list) else "tuple"
            return {kind: [walk(value, (*path, str(i))) for i, value in enumerate(node)]}
        fields = getattr(node, "__dataclass_fields__", None)
        if fields is not None and not isinstance(node, type):
            return {"dict": {name: walk(getattr(node, name), (*path, name)) for name in fields}}
        if node is None or isinstance(node, bool | int | str):
            return {"value": node}
        if isinstance(node, float):
            return {"value": node} if math.isfinite(node) else {"float": repr(node)}
        if isinstance(node, complex):
            return {"complex": [repr(node.real), repr(node.imag)]}
        raise ArgumentError(f"save: expected Tensors, arrays, numbers, strings or None, got {short(node)} at "
                            f"{'.'.join(path) or 'the top'}. Convert it, or leave it out.")

    return walk(tree, ()), arrays


def nameable(key: str) -> bool:
    """True for what a zip archive can hold as part of a name: it ends names at NUL and counts their bytes in 16 bits."""
    return "\0" not in key and len(key) <= 500 and key.encode(errors="replace") == key.encode(errors="surrogatepass")


def unused(name: str, taken: dict) -> str:
    """The name, or with ' or '' behind it where keys with dots make two paths read alike."""
    while name in taken:
        name += "'"
    return name


def assemble(arrays: dict[str, Any], structure: Any, path: str) -> Any:
    """The tree of `describe`; the arrays as a flat dict where the file says nothing of structure."""
    if structure is None:
        return arrays
    left = dict(arrays)

    def build(node: Any, depth: int) -> Any:
        if not isinstance(node, dict) or len(node) != 1 or depth > DEEPEST + 1:
            raise wrong(path, f"got {short(node)}")
        (kind, content), = node.items()
        if kind == "array":
            if not isinstance(content, str) or content not in left:
                raise wrong(path, f"got no array {short(content)}")
            return left.pop(content)
        if kind == "dict" and isinstance(content, dict):
            return {key: build(value, depth + 1) for key, value in content.items()}
        if kind in ("list", "tuple") and isinstance(content, list):
            values = [build(value, depth + 1) for value in content]
            return values if kind == "list" else tuple(values)
        if kind == "value" and (content is None or isinstance(content, bool | int | float | str)):
            return content
        if kind == "float" and content in ("inf", "-inf", "nan"):
            return float(content)
        if kind == "complex" and isinstance(content, list) and len(content) == 2:
            try:
                return complex(*map(float, content))
            except (TypeError, ValueError):
                pass
        raise wrong(path, f"got {short(node)}")

    tree = build(structure, 0)
    if left:
        raise wrong(path, f"got arrays that have no place in it: {short(sorted(left))}")
    return tree


def wrong(path: str, got: str) -> FileFormatError:
    return FileFormatError(f"load: expected the structure that save writes in {path!r}, {got}. Save or download it again.")
