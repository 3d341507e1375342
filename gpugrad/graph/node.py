"""Node, what a Tensor remembers of the operation that made it; Leaf, where gradients end; and the hooks on both.

Nodes point to the nodes of their inputs and to nothing else: a graph has no cycles and dies by reference count.
"""
from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gpugrad.graph.state import clock

if TYPE_CHECKING:
    from gpugrad.graph.tensor import Tensor


class Shaped:
    """Stands in for an array that a rule needs to know only by shape and dtype."""

    __slots__ = ("shape", "dtype")

    def __init__(self, shape: tuple[int, ...], dtype: Any):
        self.shape = shape
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        n = 1
        for length in self.shape:
            n *= length
        return n

    def __repr__(self) -> str:
        return f"Shaped({self.shape}, {self.dtype})"


class Node:
    """One recorded operation: y = prim(*xs, **params).

    parents  the node of each input, None for an input that needs no gradient
    xs, y    what the rule reads: saved values, `Shaped` or None for the rest; both None once freed
    seq      creation order; a node is always younger than its parents
    level    see `level_of`
    """

    __slots__ = ("prim", "parents", "xs", "y", "params", "seq", "level", "__weakref__")

    if TYPE_CHECKING:
        level: int

    def __init__(self, prim: Any, parents: tuple, xs: tuple | None, y: Any, params: Any):
        self.prim = prim
        self.parents = parents
        self.xs = xs
        self.y = y
        self.params = params
        self.seq = clock()

    @property
    def made_by(self) -> str:
        """The name of the operation, for messages; an output of several has it from its parent."""
        node = self.parents[0] if self.prim is None and self.parents else self
        return node.prim.name if node.prim is not None else "an operation"

    def free(self) -> None:
        """Let go of the saved arrays."""
        self.xs = self.y = None


def level_of(node: Node) -> int:
    """The start of the innermost reverse sweep that the node belongs to, worked out when it is first asked for."""
    todo = [node]                        # no __getattr__ of Node's: it would make the reading of every slot slower
    while not hasattr(node, "level"):                     # the slot is still empty
        last = todo[-1]
        waiting = [p for p in last.parents if p is not None and not hasattr(p, "level")]
        if waiting:
            todo += waiting
        else:
            last.level = max([p.level for p in last.parents if p is not None], default=0)
            todo.pop()
    return node.level


class Leaf(Node):
    """Where gradients end: knows its Tensor weakly, since a Tensor that died needs no gradient."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor):
        super().__init__(None, (), (), None, None)
        self.tensor = weakref.ref(tensor)
        self.level = self.seq


#: Functions to call with the gradient of a node's output, by node.
HOOKS: weakref.WeakKeyDictionary[Node, dict[int, Callable]] = weakref.WeakKeyDictionary()


class Hook:
    """What `register_hook` returns: `remove()` takes the hook away."""

    def __init__(self, node: Node, function: Callable):
        self.node = weakref.ref(node)
        self.key = clock()
        HOOKS.setdefault(node, {})[self.key] = function

    def remove(self) -> None:
        node = self.node()
        if node is not None and node in HOOKS:
            HOOKS[node].pop(self.key, None)
            if not HOOKS[node]:
                del HOOKS[node]
