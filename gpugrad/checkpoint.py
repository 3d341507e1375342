"""checkpoint: keep a function's inputs instead of its graph, and compute the graph again in the backward sweep."""
from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from gpugrad.graph.layers import Layered, snapshot, tensor_of
from gpugrad.graph.namespace import PRIMITIVES, TRACED
from gpugrad.graph.node import Leaf, Node, Shaped
from gpugrad.graph.record import attach
from gpugrad.graph.state import mode_now, switch
from gpugrad.graph.sweep import pullback
from gpugrad.graph.tensor import Tensor
from gpugrad.primals import require_callable
from gpugrad.transformed import Transformed
from gpugrad.trees import flatten


def checkpoint(f: Callable) -> Callable:
    """f with the same value and derivatives, but what its graph saves is let go, and f runs again in the backward sweep.

    Memory for f falls from all its intermediate arrays to its inputs; time grows by one forward pass. Tensors that f takes
    from outside its arguments are differentiated too. f must compute the same again: random numbers are replayed.
    """
    require_callable("checkpoint", f)

    def run(*args, **kwargs):
        leaves, build = flatten(args)
        if not mode_now().record or any(isinstance(x, Layered) for x in leaves):
            return f(*args, **kwargs)                      # forward mode keeps nothing anyway
        call = Call(lambda xs: f(*build(xs), **kwargs))
        return call.first(leaves)
    return Transformed(run, checkpoint, f)


class Call:
    """One application. To the sweep it is a primitive whose inputs are the arguments and the nodes f takes from outside."""

    name, home, fits, outputs, add_into, pull_into = "checkpoint", "gpugrad.checkpoint", False, 0, None, None

    def __init__(self, f: Callable):
        self.f = f
        self.state = random_state()

    def first(self, leaves: list) -> Any:
        """The value of f, with one node for all its results."""
        inputs, roots = fresh_roots(leaves)
        start = Node(None, (), (), None, None).seq
        out, rebuild = flatten(self.f(inputs))
        self.made = [isinstance(y, Tensor) and y._node is not None for y in out]
        if not any(self.made):
            return rebuild(out)
        outside = boundary([y._node for y, made in zip(out, self.made, strict=True) if made], start, set(roots))
        self.count = len(leaves)
        saved = [x._data if isinstance(x, Tensor) else x for x in leaves]
        parents = (*(x._node if isinstance(x, Tensor) else None for x in leaves), *outside)
        values = tuple([y._data for y, made in zip(out, self.made, strict=True) if made])
        node = Node(self, parents, tuple(saved + [None] * len(outside)), tuple(Shaped(v.shape, v.dtype) for v in values), {})
        named = iter(attach(values, node))
        return rebuild([next(named) if made else y for y, made in zip(out, self.made, strict=True)])

    def pull(self, m: Any, g: dict, want: tuple, y: Any, xs: Any, params: dict) -> list:
        """Run f again, now with its graph, and sweep back through that."""
        outside = list(want[self.count:])
        inputs, roots = fresh_roots(list(xs[:self.count]), want[:self.count])
        with replayed(self.state), switch(record=True):
            out, _ = flatten(self.f(inputs))
        results = [t for t, made in zip(out, self.made, strict=True) if made]
        wrt = [r for r in roots if r is not None] + [p for p in outside if p is not None]
        found = pullback([(t._node, g[i]) for i, t in enumerate(results) if i in g], wrt, create_graph=m is TRACED)
        return [found.get(r) for r in roots] + [found.get(p) for p in outside]


def fresh_roots(leaves: list, want: tuple | None = None) -> tuple[list, list]:
    """The values with root nodes of their own where a gradient is wanted, each linked to the node of its value."""
    inputs, roots = [], []
    for i, x in enumerate(leaves):
        wanted = isinstance(x, Tensor) and x._node is not None if want is None else want[i] is not None
        if wanted:
            x = tensor_of(x)
            x = snapshot(x, Node(PRIMITIVES["alias"], (x._node,), (None,), None, {}))
        inputs.append(x)
        roots.append(x._node if wanted else None)
    return inputs, roots


def boundary(outputs: list[Node], start: int, roots: set) -> list[Node]:
    """The nodes from before `start`, and the leaves made since, that the graph above them hangs on."""
    found: dict[Node, None] = {}
    seen, todo = set(outputs), list(outputs)
    while todo:
        node = todo.pop()
        if node in roots:
            continue
        if node.seq < start or type(node) is Leaf:
            found[node] = None
            continue
        for parent in node.parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                todo.append(parent)
    return list(found)


def random_state() -> dict | None:
    """Where the default generator stands, if anybody uses it."""
    random = sys.modules.get("gpugrad.random")
    return None if random is None else random.default_generator().state_dict()


@contextmanager
def replayed(state: dict | None) -> Iterator[None]:
    """Inside, the default generator draws the numbers of the first run again; afterwards it goes on where it was."""
    now = random_state()
    if state is None or now is None:
        yield
        return
    generator = sys.modules["gpugrad.random"].default_generator()
    generator.load_state_dict(state)
    try:
        yield
    finally:
        generator.load_state_dict(now)
