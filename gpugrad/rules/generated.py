"""Elementwise rules as one launch each, on array modules that compile kernels.

g (1 - y y) is three launches of CuPy, and divide's rule is five. Here the rule runs once on symbols, and what it returns
becomes one kernel for all the cotangents that are wanted (gpugrad/kernels/elementwise.py). A rule that has no CUDA text
(complex numbers, integers, arrays of two dtypes) runs on the arrays as everywhere else; so does one that is a single
operation already.
"""
import functools
import re

from gpugrad.graph.namespace import COMPILED_RULES
from gpugrad.graph.primitive import Elementwise
from gpugrad.kernels import elementwise
from gpugrad.kernels.expression import SYMBOLS, Expression, Inexpressible, Leaf

ARRAY = "array"                    # in a key, the place of an array


class OneLaunch:
    """A rule on symbols: its kernel, and for each term what it is: the place among the results, a Leaf's name, or None."""

    def __init__(self, name, terms):
        formulas = [t for t in terms if isinstance(t, Expression) and not isinstance(t, Leaf)]
        self.kernel = elementwise.Elementwise(re.sub(r"\W", "_", name), formulas)
        places = iter(range(len(formulas)))
        self.slots = [None if t is None else t.name if isinstance(t, Leaf) else next(places) for t in terms]

    def on(self, arrays, shape, array_type):
        """The terms of the rule for these arrays by name; None where the kernel does not take them."""
        read = [arrays[name] for name in self.kernel.inputs]
        if not elementwise.takes(read, array_type):
            return None
        outs = self.kernel(arrays, shape)
        return [None if slot is None else arrays[slot] if isinstance(slot, str) else outs[slot] for slot in self.slots]


def key(x):
    """What a rule's formula depends on: the value of a number, that an array is one."""
    return ARRAY if hasattr(x, "dtype") else None if x is None else (type(x).__name__, repr(x), x)


def symbol(name, part):
    return Leaf(name) if part is ARRAY else None if part is None else part[2]


def worthwhile(terms):
    """Whether the terms take more than one operation: otherwise the array module's own is one launch already."""
    depth = [1 + any(not isinstance(p, Leaf) and p.parts for p in t.parts) for t in terms if t is not None and t.parts]
    return sum(depth) > 1


@functools.lru_cache(maxsize=4096)
def pull_of(prim, wanted, parts):
    try:
        terms = prim.pull(SYMBOLS, Leaf("g"), [w or None for w in wanted], Leaf("y"),
                          [symbol(f"x{i}", p) for i, p in enumerate(parts)], {})
        return OneLaunch(f"{prim.name}_pull", terms) if worthwhile(terms) else None
    except Inexpressible:
        return None


@functools.lru_cache(maxsize=4096)
def push_of(prim, moving, parts):
    try:
        tangents = [Leaf(f"t{i}") if moves else None for i, moves in enumerate(moving)]
        term = prim.jvp(SYMBOLS, tangents, Leaf("y"), *(symbol(f"x{i}", p) for i, p in enumerate(parts)))
        return OneLaunch(f"{prim.name}_push", [term]) if worthwhile([term]) else None
    except Inexpressible:
        return None


def named(xs, **others):
    """The arrays under the names of their symbols."""
    return {f"x{i}": x for i, x in enumerate(xs)} | others


class Pulls(dict):
    """primitive -> its pull on arrays of one type."""

    def __init__(self, array_type):
        super().__init__()
        self.array_type = array_type

    def __missing__(self, prim):
        if not isinstance(prim, Elementwise):                 # not kept: a checkpoint is a primitive of one call
            return prim.pull
        self[prim] = rule = self.pull(prim)
        return rule

    def pull(self, prim):
        def pull(m, g, want, y, xs, params):
            rule = pull_of(prim, tuple([w is not None for w in want]), tuple(map(key, xs)))
            terms = rule and rule.on(named(xs, g=g, y=y), g.shape, self.array_type)
            if terms is None:
                return prim.pull(m, g, want, y, xs, params)
            if params:
                terms = [None if gx is None else m.fit(gx, like) for gx, like in zip(terms, params["likes"], strict=True)]
            return terms
        return pull


class Pushes(dict):
    """primitive -> its jvp on arrays of one type."""

    def __init__(self, array_type):
        super().__init__()
        self.array_type = array_type

    def __missing__(self, prim):
        if not isinstance(prim, Elementwise):
            return prim.jvp
        self[prim] = rule = self.push(prim)
        return rule

    def push(self, prim):
        def push(m, ts, y, *xs, likes=None):
            rule = push_of(prim, tuple([t is not None for t in ts]), tuple(map(key, xs)))
            arrays = named(xs, y=y) | {f"t{i}": t for i, t in enumerate(ts)}
            terms = rule and rule.on(arrays, y.shape, self.array_type)
            return prim.jvp(m, ts, y, *xs) if terms is None else terms[0]
        return push


COMPILED_RULES.update(pulls=Pulls, pushes=Pushes)
