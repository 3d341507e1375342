"""Control flow that can be compiled: a choice by a value, and a loop over rows."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad.arrays import is_array, short
from gpugrad.errors import ArgumentError, ShapeError
from gpugrad.graph.layers import Batch
from gpugrad.graph.tensor import Tensor
from gpugrad.numpy import stack, where
from gpugrad.primals import require_callable
from gpugrad.trees import flatten, flatten_like, map_tree


def cond(condition: Any, then: Callable, otherwise: Callable, *args: Any) -> Any:
    """then(*args) where the condition holds, else otherwise(*args); both give trees of one structure, with the same shapes.

    condition  one element. Where its value is at hand, one branch runs, like Python's `if`. In a compiled function, and in vmap,
               it is not: then both run and the results are chosen by `where`, so that keep either free of errors for any value

    Raises ShapeError for a condition of more than one element, ArgumentError for results of different structure.
    """
    require_callable("cond", then)
    require_callable("cond", otherwise)
    shape = getattr(condition, "shape", ())
    if any(n != 1 for n in shape):
        raise ShapeError(f"cond: expected a condition of one element, got shape {shape}. Use gg.where, or .any() or .all().")
    if at_hand(condition):
        return then(*args) if condition else otherwise(*args)
    if shape:
        condition = condition.reshape(())
    first, second = then(*args), otherwise(*args)
    leaves, build = flatten(first)
    others = flatten_like(first, second, "cond")
    for a, b in zip(leaves, others, strict=True):
        if getattr(a, "shape", ()) != getattr(b, "shape", ()):
            raise ShapeError(f"cond: expected results of one shape, got {getattr(a, 'shape', ())} and {getattr(b, 'shape', ())}. "
                             "Spread the smaller one.")
    return build([chosen(condition, a, b) for a, b in zip(leaves, others, strict=True)])


def chosen(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b; of their kind."""
    y = where(condition, a, b)
    if isinstance(a, Tensor) or isinstance(b, Tensor) or not hasattr(y._data, "scalar"):
        return y
    y._data.scalar = getattr(a, "scalar", False)
    return y._data


def at_hand(condition: Any) -> bool:
    """True where a Python `if` may look at the value."""
    data = condition
    while isinstance(data, Tensor):
        if isinstance(data, Batch):
            return False
        data = data._layer[1] if hasattr(data, "_layer") else data._data
    return getattr(data, "fixed", True)                    # a Symbol of a constant may be looked at


def scan(step: Callable, carry: Any, xs: Any) -> tuple[Any, Any]:
    """(carry, ys): carry, y = step(carry, x) for each row x of xs, first to last; the y's are stacked.

    carry  a tree, of the same structure and shapes from step to step
    xs     a tree of arrays with one length along axis 0; each step gets the tree of their rows
    y      a tree, or None for nothing to stack

    In a compiled function the loop is written out: its program has every step's operations. Raises ArgumentError for rows of
    different number, ShapeError for a carry that changes shape.
    """
    require_callable("scan", step)
    rows, build = flatten(xs)
    if not rows or not all((isinstance(x, Tensor) or is_array(x)) and x.ndim for x in rows):
        raise ArgumentError(f"scan: expected arrays with at least one axis to go along, got {short(xs)}. Pass a tree of arrays.")
    lengths = {x.shape[0] for x in rows}
    if len(lengths) != 1 or not min(lengths):
        raise ArgumentError(f"scan: expected arrays of one length, at least 1, along axis 0, got {sorted(lengths)}. Check xs.")
    shapes, ys = shapes_of(carry), []
    for i in range(*lengths):
        carry, y = step(carry, build([x[i] for x in rows]))
        if shapes_of(carry) != shapes:
            raise ShapeError(f"scan: expected a carry of shapes {shapes}, got {shapes_of(carry)} after step {i}. "
                             "Return the carry as it came in.")
        ys.append(y)
    return carry, map_tree(lambda *parts: stack(parts), ys[0], *ys[1:])


def shapes_of(tree: Any) -> list[tuple]:
    return [getattr(x, "shape", ()) for x in flatten(tree)[0]]
