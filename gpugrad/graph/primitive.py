"""Primitive: an operation with its derivative rules, and the kinds that write most rules themselves.

A rule is a function over a namespace `m` (see `namespace.py`). Letters: g cotangent of y, t tangents, y output, x or
a, b inputs. Complex numbers follow PyTorch: the gradient of a real loss is the direction of steepest ascent, so a
cotangent is multiplied by the conjugate of the derivative (JAX returns the conjugate).
"""
from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import CO_VARARGS
from typing import Any

from gpugrad.errors import NoRuleError
from gpugrad.graph.namespace import PRIMITIVES, TRACED, Implementations
from gpugrad.graph.recorders import binary_recorder, tensors_recorder, unary_recorder
from gpugrad.graph.views import view_recorder

Rule = Callable[..., Any]


class Primitive:
    """One operation.

    vjp(m, g, want, y, *xs, **params) -> a cotangent for each input; what is not wanted may be None
    jvp(m, ts, y, *xs, **params)      -> the tangent of y; ts[i] is None where x_i does not move
    batch(m, size, batched, *xs, **params) -> y for inputs stacked on axis 0 where batched[i]; without one, a loop
    impl(xp)                          -> the function on arrays of module xp; by default xp.<name>
    keep     the arguments that vjp reads, by their names in vjp: one string for all, or one string per input, so that
             what only serves an input that needs no gradient is not kept. The rest arrive as `Shaped`.
    outputs  the number of results, or 0 for a tuple whose length depends on the arguments
    register let rules call it as m.<name>; what users define is not registered, so that their names may repeat

    vjp=None says that the derivative is zero wherever it exists: results leave the graph.
    """

    fits = False          # cotangents are to be summed and cast back to their inputs by the machinery
    add_into: Callable | None = None       # add_into(total, g, *xs, **params): total += the cotangent of input 0, in place
    #: On a GPU in place of pull: pull_into(m, totals, g, want, y, xs, params). A cotangent that was added to totals[i], which is
    #: a buffer of the sweep's own or None, comes back as None.
    pull_into: Callable | None = None
    #: Of an operation that may give a view of its input x: put(m, x, v, **params) is x with v in the place of the view.
    put: Callable | None = None

    def __init__(self, name: str, vjp: Rule | None, jvp: Rule | None = None, *, impl: Callable | None = None,
                 keep: str | tuple[str, ...] = "", batch: Rule | None = None, outputs: int = 1,
                 register: bool = True):
        self.name = name
        self.outputs = outputs
        caller: Any = sys._getframe(1)
        while caller.f_globals["__name__"] == __name__:
            caller = caller.f_back
        self.home = caller.f_globals["__name__"]
        self.vjp = vjp
        self.jvp = jvp or (no_jvp(self) if vjp else lambda m, ts, y, *xs, **params: None)
        self.batch = batch or loop_over(self)
        self.pull = pull_of(vjp, outputs)
        self.impls = Implementations(impl or (lambda xp: getattr(xp, name)), self)
        self._keep = keep
        self._kept: dict[tuple[bool, ...], tuple[bool, frozenset[int]]] = {}
        self.traced = self.recorder()
        if register:
            PRIMITIVES[name] = self
            setattr(TRACED, name, self.traced)

    def on(self, m: Any) -> Callable:
        """The operation over a namespace."""
        return self.traced if m is TRACED else self.impls[m.xp.ndarray]

    def recorder(self) -> Callable:
        op = tensors_recorder(self)
        op.__name__ = self.name
        return op

    def kept(self, parents: tuple) -> tuple[bool, frozenset[int]]:
        """Whether y, and which inputs, the rule reads when the inputs with a parent need a gradient."""
        wanted = tuple([p is not None for p in parents])
        kept = self._kept.get(wanted)
        if kept is None:
            kept = self._kept[wanted] = self._find_kept(wanted)
        return kept

    def _find_kept(self, wanted: tuple[bool, ...]) -> tuple[bool, frozenset[int]]:
        if self.vjp is None or not self._keep:
            return False, frozenset()
        code = self.vjp.__code__
        names = code.co_varnames[3:code.co_argcount]
        read = set()
        for i, w in enumerate(wanted):
            if w:
                read |= set((self._keep if isinstance(self._keep, str) else self._keep[i]).split())
        kept = {i for i, name in enumerate(names[1:]) if name in read}
        if code.co_flags & CO_VARARGS and code.co_varnames[code.co_argcount + code.co_kwonlyargcount] in read:
            kept.update(range(len(names) - 1, len(wanted)))          # the inputs that the rule takes as *xs
        return names[0] in read, frozenset(kept)

    def __repr__(self) -> str:
        return f"Primitive({self.name!r})"


class Elementwise(Primitive):
    """y = f(x, ...) by element, with broadcasting. partials[i] is dy/dx_i: a number, a formula (m, y, *xs), or None."""

    fits = True

    def __init__(self, name: str, *partials: Any, impl: Callable | None = None):
        self.partials = partials
        self.reads = [reads_of(d, len(partials)) for d in partials]
        super().__init__(name, self._vjp, self._jvp, impl=impl, batch=aligned(name))
        unrolled: Any = {1: unary_pull, 2: binary_pull}.get(len(partials), nary_pull)
        self.pull = unrolled(*partials)

    def recorder(self) -> Callable:
        unrolled = {1: unary_recorder, 2: binary_recorder}.get(len(self.partials))
        if unrolled is None:
            return super().recorder()
        op = unrolled(self)
        op.__name__ = self.name
        return op

    def _find_kept(self, wanted: tuple[bool, ...]) -> tuple[bool, frozenset[int]]:
        read = frozenset().union(*(r for r, w in zip(self.reads, wanted, strict=True) if w))
        return "y" in read, read - {"y"}

    def _vjp(self, m, g, want, y, *xs, likes=None):
        return self.pull(m, g, want, y, xs, {"likes": likes} if likes else {})

    def _jvp(self, m, ts, y, *xs, likes=None):
        dy = None
        for d, t in zip(self.partials, ts, strict=True):
            if t is not None and d is not None:
                term = scaled(t, d, m, y, xs)
                dy = term if dy is None else dy + term
        if type(dy) is complex:                           # as Python has it of its own complex and a float64 scalar
            dy = y.dtype.type(dy)
        return None if dy is None else m.like(dy, y)


def elementwise(name: str, *partials: Any, impl: Callable | None = None) -> Elementwise:
    """An elementwise operation from its partial derivatives; both modes, and what to keep, follow from the formulas.

    elementwise("tanh", lambda m, y, x: 1 - y * y)
    """
    return Elementwise(name, *partials, impl=impl)


def linear(name: str, transpose: Rule, *, impl: Callable | None = None, batch: Rule | None = None,
           kind: type[Primitive] = Primitive) -> Primitive:
    """y = L(x): the tangent goes through L itself, the cotangent through transpose(m, g, x, **params)."""
    def vjp(m, g, want, y, x, **params):
        return (transpose(m, g, x, **params),)

    def jvp(m, ts, y, x, **params):
        return prim.on(m)(ts[0], **params)
    prim = kind(name, vjp, jvp, impl=impl, batch=batch)
    return prim


class View(Primitive):
    """An operation that moves no element, so that NumPy answers it with a view wherever the memory can be read that way."""

    def recorder(self) -> Callable:
        op = view_recorder(self)
        op.__name__ = self.name
        return op


def view(name: str, transpose: Rule, put: Rule, *, impl: Callable | None = None, batch: Rule | None = None) -> Primitive:
    """A linear operation whose results may be views. put(m, x, v, **params) is x with v in the place of the view."""
    prim = linear(name, transpose, impl=impl, batch=batch, kind=View)
    prim.put = put
    return prim


def constant(name: str, *, impl: Callable | None = None, batch: Rule | None = None) -> Primitive:
    """A function with derivative zero wherever it has one (floor, sign, comparisons): its results leave the graph."""
    return Primitive(name, None, impl=impl, batch=batch or aligned(name))


# what the kinds are made of --------------------------------------------------------------------------------------------

def scaled(g: Any, d: Any, m: Any, y: Any, xs: tuple) -> Any:
    """g times the partial d. The partial comes first: NumPy reuses the buffer of a temporary on the left."""
    if callable(d):
        return d(m, y, *xs) * g
    return g if d == 1 else -g if d == -1 else g * d


def conjugated(g: Any, d: Any, m: Any, y: Any, xs: tuple) -> Any:
    if not callable(d):
        return scaled(g, d, m, y, xs)
    slope = d(m, y, *xs)                                   # of x * 2 a number, which takes the dtype that it meets
    return (slope.conjugate() if isinstance(slope, complex | float | int) else m.conj(slope)) * g


def pull_of(vjp: Any, outputs: int) -> Rule:
    """The rule as the sweep calls it. Of several outputs it gets the cotangents as a dict of those that were used."""
    if outputs == 1:
        return lambda m, g, want, y, xs, params: vjp(m, g, want, y, *xs, **params)
    return lambda m, g, want, y, xs, params: vjp(m, tuple(map(g.get, range(len(y)))), want, y, *xs, **params)


def unary_pull(d: Any) -> Callable:
    def pull(m, g, want, y, xs, params):
        if g.dtype.kind == "c":
            return (conjugated(g, d, m, y, xs),)
        return (d(m, y, xs[0]) * g,)
    return pull if callable(d) else lambda m, g, want, y, xs, params: (scaled(g, d, m, y, xs),)


def binary_pull(da: Any, db: Any) -> Callable:
    """nary_pull(da, db), unrolled for what is neither complex nor broadcast."""
    general, calls_a, calls_b = nary_pull(da, db), callable(da), callable(db)
    if da is None or db is None:
        return general

    def pull(m, g, want, y, xs, params):
        if params or g.dtype.kind == "c":
            return general(m, g, want, y, xs, params)
        a, b = xs
        wa, wb = want
        return (None if wa is None else da(m, y, a, b) * g if calls_a else g if da == 1 else scaled(g, da, m, y, xs),
                None if wb is None else db(m, y, a, b) * g if calls_b else g if db == 1 else scaled(g, db, m, y, xs))
    return pull


def nary_pull(*partials: Any) -> Callable:
    def pull(m, g, want, y, xs, params):
        times = conjugated if g.dtype.kind == "c" else scaled
        terms = [times(g, d, m, y, xs) if w is not None and d is not None else None for w, d in zip(want, partials, strict=True)]
        if params:
            terms = [None if gx is None else m.fit(gx, like) for gx, like in zip(terms, params["likes"], strict=True)]
        return terms
    return pull


class Formula:
    """Stands in for an array while a partial is read: collects which of its arguments the formula uses."""

    __slots__ = ("reads",)
    reads: frozenset
    dtype = property(lambda self: self)
    __array_ufunc__ = None

    def __init__(self, *parts: Any):
        self.reads = frozenset().union(*(p.reads for p in parts if isinstance(p, Formula)))

    def __getattr__(self, name: str) -> Any:          # m.<name>(...), and attributes of a dtype
        return lambda *parts, **params: Formula(self, *parts, *params.values())


def _operator(self, *others):
    return Formula(self, *others)


for _name in ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor"]:
    setattr(Formula, f"__{_name}__", _operator)
    setattr(Formula, f"__r{_name}__", _operator)
for _name in ["neg", "pos", "abs", "invert", "lt", "le", "gt", "ge", "eq", "ne", "getitem"]:
    setattr(Formula, f"__{_name}__", _operator)
setattr(Formula, "__hash__", object.__hash__)  # noqa: B010 - __eq__ took it away


def reads_of(partial: Any, inputs: int) -> frozenset:
    """Which of "y", 0, 1, ... a partial's formula uses."""
    if not callable(partial):
        return frozenset()
    arguments = []
    for name in ("y", *range(inputs)):
        argument = Formula()
        argument.reads = frozenset([name])
        arguments.append(argument)
    result = partial(Formula(), *arguments)
    return result.reads if isinstance(result, Formula) else frozenset()


def aligned(name: str) -> Rule:
    """The batch rule of elementwise operations: put the batch axis before the axes of the input of highest rank."""
    def batch(m, size, batched, *xs, **params):
        ranks = [getattr(x, "ndim", 0) - b for x, b in zip(xs, batched, strict=True)]
        top = max(ranks)
        arrays = [m.reshape(x, shape=(size, *(1,) * (top - r), *x.shape[1:])) if b and r < top else x
              for x, b, r in zip(xs, batched, ranks, strict=True)]
        return getattr(m, name)(*arrays, **params)
    return batch


def loop_over(prim: Primitive) -> Rule:
    """The batch rule of last resort: one call for each value, stacked."""
    def batch(m, size, batched, *xs, **params):
        call = prim.on(m)
        rows = [call(*(x[i] if b else x for x, b in zip(xs, batched, strict=True)), **params) for i in range(size)]
        if prim.outputs == 1:
            return m.stack(*rows)
        return tuple(m.stack(*column) for column in zip(*rows, strict=True))
    return batch


def no_jvp(prim: Primitive) -> Rule:
    def jvp(m, ts, y, *xs, **params):
        i = next(i for i, t in enumerate(ts) if t is not None)
        raise NoRuleError(f"{prim.name}: no JVP for argument {i}. Add one in {prim.home.replace('.', '/')}.py.")
    return jvp
