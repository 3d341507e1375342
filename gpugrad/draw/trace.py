"""gg.draw: the picture of a Tensor's graph, with the values and gradients that are there or can be computed again."""
from __future__ import annotations

import os
import sys
from typing import Any

import numpy

from gpugrad.arrays import CPU, is_array, move, short
from gpugrad.draw import Edge, Picture, number, render
from gpugrad.draw import Node as Drawn
from gpugrad.errors import DtypeError, GraphError
from gpugrad.graph.backward import cotangent, filled_like
from gpugrad.graph.namespace import RAW
from gpugrad.graph.node import Leaf, Node, Shaped
from gpugrad.graph.plan import Plan
from gpugrad.graph.record import Item
from gpugrad.graph.tensor import Tensor

SYMBOLS = {"add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "negative": "neg", "matmul": "@", "power": "^"}


def draw(y: Any, path: str | os.PathLike, *, gradient: Any = None, names: dict[str, Tensor] | None = None,
         limit: int | None = 150) -> None:
    """Write a picture of the graph that computed y, as the lecture draws it: value above each edge, gradient below.

    y        a Tensor; or a compiled function's program, `step.program(x)`, of which the steps are drawn, each fused group as a
             frame round its operations
    path      ends in .svg (needs nothing), .html (pan, zoom, full values), .png (extra `plot`) or .dot
    gradient  the cotangent of y; by default 1 for a single element, else no gradients are drawn
    names     names of leaves; by default those of the caller's variables
    limit     fold repeated and long parts until about so many nodes are left; None draws everything

    After `backward` has freed the graph only the leaves still have values and gradients: draw before, or retain_graph.
    Raises GraphError for a Tensor that was not computed from one that needs a gradient.
    """
    if hasattr(y, "kernels") and hasattr(y, "graph"):
        from gpugrad.draw.program import picture as program_picture
        render(program_picture(y), path, limit=limit)
        return
    if not isinstance(y, Tensor):
        raise DtypeError(f"draw: expected a Tensor, got {short(y)}. Compute it from Tensors with requires_grad=True.")
    if y._node is None:
        raise GraphError("draw: expected a Tensor with a graph, got one that needs no gradient. Use requires_grad=True.")
    frame: Any = sys._getframe(1)
    while frame.f_globals.get("__name__", "").startswith("gpugrad.") and frame.f_back is not None:
        frame = frame.f_back
    known = names or {k: v for k, v in {**frame.f_globals, **frame.f_locals}.items() if isinstance(v, Tensor)}
    render(picture(y, gradient, {id(t): k for k, t in known.items()}), path, limit=limit)


def picture(y: Tensor, gradient: Any = None, names: dict[int, str] | None = None) -> Picture:
    """The graph of y as nodes and edges in creation order."""
    names = names or {}
    order = Plan([y._node], None).order[::-1]
    values = known_values(order, y)
    slopes, total = edge_gradients(order, y, gradient)
    nodes, edges = [], []
    for node in order:
        if isinstance(node, Leaf):
            tensor = node.tensor()
            nodes.append(Drawn(node, names.get(id(tensor), "leaf"), "leaf", note=shape_note(values.get(node)),
                               detail=summary(values.get(node))))
            continue
        label = f"[{node.index}]" if type(node) is Item else SYMBOLS.get(node.prim.name, node.prim.name)
        nodes.append(Drawn(node, label, "op", note=options(node), detail=summary(values.get(node))))
        for i, parent in enumerate(node.parents):
            if parent is None:
                constant = node.xs[i] if node.xs else None
                if constant is None:
                    continue
                key = (node, i)
                nodes.append(Drawn(key, text(constant) or "constant", "constant", note=shape_note(constant)))
                edges.append(Edge(key, node, shape=shape_note(constant) or None))
                continue
            edges.append(edge(parent, node, values.get(parent), slopes.get((node, i))))
    label = names.get(id(y), "")
    nodes.append(Drawn("output", label or "output", "output", detail=summary(y._data)))
    edges.append(edge(y._node, "output", y._data, total))
    return Picture(nodes, edges, title=label)


def edge(source: Any, target: Any, value: Any, slope: Any) -> Edge:
    detail = "\n".join(f"{name} {summary(x)}" for name, x in (("value", value), ("gradient", slope)) if x is not None)
    return Edge(source, target, value=text(value), gradient=text(slope), shape=shape_note(value) or None, detail=detail)


def known_values(order: list[Node], y: Tensor) -> dict[Node, Any]:
    """The value of each node: kept by it or a consumer, held by a leaf, or computed again from those that are known."""
    values: dict[Node, Any] = {y._node: y._data}
    for node in order:
        if type(node) is Leaf:
            tensor = node.tensor()
            if tensor is not None:
                values[node] = tensor._data
        elif is_array(node.y) or isinstance(node.y, tuple):
            values[node] = node.y
        values.update({parent: x for x, parent in zip(node.xs or (), node.parents, strict=False)
                       if parent is not None and is_array(x)})
    for node in order:
        if node not in values or has_shapes(values[node]):
            again = compute(node, values)
            if again is not None:
                values[node] = again
    return {n: v for n, v in values.items() if not has_shapes(v)}


def has_shapes(value: Any) -> bool:
    return isinstance(value, tuple) and any(isinstance(v, Shaped) for v in value)


def compute(node: Node, values: dict[Node, Any]) -> Any:
    """The operation once more, where all its inputs are known."""
    if type(node) is Item:
        whole = values.get(node.parents[0])
        return whole[node.index] if isinstance(whole, tuple) else None
    if node.xs is None or not hasattr(node.prim, "impls"):
        return None
    inputs = [values.get(p) if p is not None else x for x, p in zip(node.xs, node.parents, strict=True)]
    arrays = [x for x in inputs if is_array(x)]
    if not arrays or any(x is None or isinstance(x, Shaped | Tensor | tuple) for x in inputs):
        return None
    params = {k: v for k, v in node.params.items() if k != "likes"}
    return node.prim.impls[type(arrays[0])](*inputs, **params)


def edge_gradients(order: list[Node], y: Tensor, gradient: Any) -> tuple[dict[tuple[Node, int], Any], Any]:
    """What flows back along each edge, (consumer, argument) -> cotangent, and the cotangent of y.

    A copy of the reverse sweep that keeps the terms apart instead of adding them up. Of a freed graph only the gradients
    that its leaves hold are known.
    """
    if gradient is None and (y.size != 1 or y.dtype.kind == "c" or not is_array(y._data)):
        return {}, None
    g = filled_like(y, 1) if gradient is None else cotangent("draw", gradient, y)
    g = g._data if isinstance(g, Tensor) else g
    slopes: dict[tuple[Node, int], Any] = {}
    totals: dict[Node, Any] = {y._node: g}
    m = RAW[type(g)]
    for node in reversed(order):
        if type(node) is Leaf or node not in totals:
            continue
        if node.xs is None:
            return leaf_gradients(order), g
        if type(node) is Item:
            parent = node.parents[0]
            totals.setdefault(parent, {})[node.index] = totals[node]
            slopes[node, 0] = totals[node]
            continue
        pulled = node.prim.pull(m, totals[node], node.parents, node.y, node.xs, node.params)
        for i, (parent, gx) in enumerate(zip(node.parents, pulled, strict=True)):
            if parent is not None and gx is not None:
                slopes[node, i] = gx
                totals[parent] = totals[parent] + gx if parent in totals else gx
    return slopes, g


def leaf_gradients(order: list[Node]) -> dict[tuple[Node, int], Any]:
    """The accumulated gradients of leaves with one consumer, on their edges."""
    uses: dict[Any, list[tuple[Node, int]]] = {}
    for node in order:
        for i, parent in enumerate(node.parents):
            if type(parent) is Leaf:
                uses.setdefault(parent, []).append((node, i))
    tensors = {leaf: leaf.tensor() for leaf in uses}
    return {edges[0]: tensors[leaf].grad._data for leaf, edges in uses.items()
            if len(edges) == 1 and tensors[leaf] is not None and tensors[leaf].grad is not None}


# texts ------------------------------------------------------------------------------------------------------------------

def text(x: Any) -> str | None:
    """A single number as the lecture writes it; arrays are shown by their shape."""
    if isinstance(x, Tensor):
        x = x._data
    if isinstance(x, bool | int) and not isinstance(x, numpy.generic):
        return str(x)
    if x is None or not (is_array(x) or isinstance(x, float | complex)) or numpy.size(x) != 1 or getattr(x, "ndim", 0) > 1:
        return None
    value = x.item() if is_array(x) else x
    if isinstance(value, complex):
        return f"{number(value.real)}{'+' if value.imag >= 0 else ''}{number(value.imag)}j"
    return number(value)


def shape_note(x: Any) -> str:
    shape = getattr(x, "shape", ())
    return str(shape) if shape not in ((), (1,)) else ""


def options(node: Node) -> str:
    """The parameters that a reader wants to see."""
    params = node.params or {}
    return ", ".join(f"{k}={v}" for k, v in params.items() if k in ("axis", "shape", "axes", "subscripts"))[:40]


def summary(x: Any) -> str:
    """Shape, dtype and the values, or their range: what appears on hover."""
    if isinstance(x, tuple):
        return "; ".join(map(summary, x))
    if x is None or not hasattr(x, "shape"):
        return "" if x is None else str(x)
    if not is_array(x):
        return f"{x.shape} {x.dtype}"
    host = move(x, CPU)
    if host.size <= 12:
        return f"{host.shape} {host.dtype} {numpy.array2string(host, precision=4, separator=', ')}"
    if host.dtype.kind in "fiub":
        return f"{host.shape} {host.dtype}, {host.min():.4g} to {host.max():.4g}, mean {host.mean():.4g}"
    return f"{host.shape} {host.dtype}"
