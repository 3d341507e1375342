"""Operations of your own: `gg.Function`, a class with forward and backward as on the slide, and `gg.primitive`."""
from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any

import numpy

from gpugrad.arrays import is_array, short
from gpugrad.errors import DtypeError, GraphError, NoRuleError, ShapeError
from gpugrad.graph.backward import filled_like
from gpugrad.graph.layers import Batch, opened, tensor_of
from gpugrad.graph.namespace import TRACED
from gpugrad.graph.primitive import Primitive
from gpugrad.graph.record import record
from gpugrad.graph.state import no_grad
from gpugrad.graph.tensor import Tensor, borrowed


def primitive(function: Callable | None = None, *, vjp: Callable | None = None, jvp: Callable | None = None,
              name: str | None = None) -> Callable:
    """Make a function of arrays differentiable by giving its rules. Use it as a decorator or as a call.

    function(*xs, **params)   gets bare arrays (NumPy or CuPy), returns one; anything may happen inside
    vjp(g, y, *xs, **params)  a cotangent for each input (a tuple, or one alone for a single input; None for zero)
    jvp(ts, y, *xs, **params) the tangent of y; ts[i] is None where x_i does not move

    Rules get and return Tensors. Written with NumPy's functions or gpugrad's they can be differentiated again, to any order.

    cube = gg.primitive(lambda x: x ** 3, vjp=lambda g, y, x: 3 * x ** 2 * g)
    """
    if function is None:
        return functools.partial(primitive, vjp=vjp, jvp=jvp, name=name)
    for what in (function, vjp, jvp):
        if what is not None and not callable(what):
            raise DtypeError(f"primitive: expected functions, got {short(what)}. Pass callables.")
    label = str(name or getattr(function, "__name__", "primitive"))

    def pull(m, g, want, y, *xs, **params):
        if vjp is None:
            raise NoRuleError(f"{label}: no VJP. Give one to gg.primitive(…, vjp=…).")
        return gradients_of(label, vjp(tensor_of(g), tensor_of(y), *map(as_tensor, xs), **params), xs, m)

    def push(m, ts, y, *xs, **params):
        if jvp is None:
            raise NoRuleError(f"{label}: no JVP. Give one to gg.primitive(…, jvp=…).")
        ts = [None if t is None else tensor_of(t) for t in ts]
        return over(m, tensor_of(jvp(ts, tensor_of(y), *map(as_tensor, xs), **params)))
    prim = Primitive(label, pull, push, impl=lambda xp: function, keep="y xs", register=False)
    return functools.wraps(function)(prim.traced)


class Context:
    """What forward leaves for backward: `save_for_backward(*tensors)`, `saved_tensors`, and any attribute you set.

    needs_input_grad  for each argument of forward, whether a gradient is wanted
    """

    def __init__(self, needs_input_grad: tuple):
        self.needs_input_grad = needs_input_grad
        self._saved: tuple = ()

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep inputs and outputs for backward. These stay differentiable; anything else saved is a constant."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise DtypeError(f"save_for_backward: expected Tensors, got {short(t)}. Set other values as attributes of ctx.")
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple:
        return self._saved


class Function:
    """A differentiable operation by its forward and backward, the latter a function of the cotangent.

    class Multiply(gg.Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return x * y

        @staticmethod
        def backward(ctx, g):
            x, y = ctx.saved_tensors
            return y * g, x * g

    z = Multiply.apply(x, y)

    backward returns one gradient for each argument of forward, None for what has none. An optional `jvp(ctx, *tangents)`
    gives forward mode; a tangent is None where the argument does not move. Written with Tensor operations, both can be
    differentiated again.
    """

    @staticmethod
    def forward(ctx: Context, *args: Any) -> Any:
        """The value: one Tensor, or a tuple of them. Yours to define."""
        raise NoRuleError("Function: no forward. Define `forward(ctx, ...)` as a static method.")

    @staticmethod
    def backward(ctx: Context, *gs: Any) -> Any:
        """A gradient for each argument of forward, None where there is none, from a cotangent of each result. Define it."""
        raise NoRuleError("Function: no backward. Define `backward(ctx, g)` as a static method.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """The result of forward, recorded with this class's backward."""
        arguments = tuple(borrowed(cls.__name__, x) if is_array(x) and not isinstance(x, numpy.generic) else x for x in args)
        tensors = tuple(x for x in arguments if isinstance(x, Tensor))
        if not tensors:
            with no_grad():
                return cls.forward(Context((False,) * len(arguments)), *arguments, **kwargs)
        return record(Call(cls, arguments, kwargs), tensors, {})


class Call(Primitive):
    """One application of a Function: a primitive that knows what to keep once its forward has run."""

    def __init__(self, function: type[Function], arguments: tuple, kwargs: dict):
        self.function, self.kwargs = function, kwargs
        self.wanted = tuple(isinstance(x, Tensor) and x._node is not None for x in arguments)
        self.places = [i for i, x in enumerate(arguments) if isinstance(x, Tensor)]
        self.arguments = [None if isinstance(x, Tensor) else x for x in arguments]     # a node keeps what it saves, no more
        super().__init__(function.__name__, self.backward, self.forward_mode, impl=self.forward, batch=self.all_at_once,
                         register=False)
        self.pull = lambda m, g, want, y, xs, params: self.backward(m, g, want, y, *xs)

    def filled(self, xs: Any) -> list:
        """forward's arguments with the Tensors replaced."""
        arguments = list(self.arguments)
        for i, x in zip(self.places, xs, strict=True):
            arguments[i] = x
        return arguments

    def forward(self, xp: Any) -> Callable:
        def run(*arrays):
            y = self.called([Tensor(xp.asarray(a)) for a in arrays])
            return tuple(result._data for result in y) if isinstance(y, tuple) else y._data
        return run

    def called(self, inputs: list) -> Any:
        """forward on Tensors outside the graph, noting where what it saves comes from."""
        self.context = Context(self.wanted)
        with no_grad():
            y = self.function.forward(self.context, *self.filled(inputs), **self.kwargs)
        results = y if isinstance(y, tuple) else (y,)
        for result in results:
            if not isinstance(result, Tensor):
                raise DtypeError(f"{self.name}: expected forward to return Tensors, got {short(result)}. Return gg.asarray(y).")
        self.outputs = 0 if isinstance(y, tuple) else 1
        self.origins = [place_of(t, inputs, results) for t in self.context._saved]
        self.context._saved = tuple(t if kind == "other" else None
                                    for t, (kind, _) in zip(self.context._saved, self.origins, strict=True))
        return y

    def kept(self, parents: tuple) -> tuple[bool, frozenset[int]]:
        return (any(kind == "output" for kind, _ in self.origins),
                frozenset(i for kind, i in self.origins if kind == "input"))

    def restored(self, y: Any, xs: Any) -> Context:
        """The context with its saved inputs and outputs as Tensors of this sweep. A copy: these know the node, which knows it."""
        source = {"input": xs, "output": y if isinstance(y, tuple) else (y,)}
        context = copy.copy(self.context)
        context._saved = tuple(t if kind == "other" else tensor_of(source[kind][i])
                               for t, (kind, i) in zip(self.context._saved, self.origins, strict=True))
        return context

    def backward(self, m, g, want, y, *xs):
        if self.outputs == 1:
            gs = [tensor_of(g)]
        else:                                             # g holds the cotangents of the outputs that were used
            known = next(iter(g.values()))
            gs = [tensor_of(g[i]) if i in g else Tensor(filled_like(v, 0, beside=known)) for i, v in enumerate(y)]
        got = self.function.backward(self.restored(y, xs), *gs)
        got = got if isinstance(got, tuple) else (got,)
        if len(got) != len(self.arguments):
            raise GraphError(f"{self.name}.backward: expected {len(self.arguments)} gradients, one for each argument of forward, "
                             f"got {len(got)}. Return None where there is none.")
        return gradients_of(self.name, tuple(got[i] for i in self.places), xs, m)

    def forward_mode(self, m, ts, y, *xs):
        if not hasattr(self.function, "jvp"):
            raise NoRuleError(f"{self.name}: no JVP. Define `jvp(ctx, *tangents)` as a static method.")
        tangents: list = [None] * len(self.arguments)
        for i, t in zip(self.places, ts, strict=True):
            tangents[i] = None if t is None else tensor_of(t)
        dy = self.function.jvp(self.restored(y, xs), *tangents)
        return tuple(over(m, tensor_of(d)) for d in dy) if isinstance(dy, tuple) else over(m, tensor_of(dy))

    def all_at_once(self, m, size, batched, *xs):
        """Inside vmap forward runs once, on Tensors that stand for many."""
        with opened() as level:
            y = self.called([Batch(level, x) if b else tensor_of(x) for x, b in zip(xs, batched, strict=True)])
        if any(kind == "other" for kind, _ in self.origins):
            raise GraphError(f"{self.name}: expected forward to save inputs and outputs inside vmap, got another Tensor. "
                             "Compute it again in backward.")
        rows = [v._layer[1] if isinstance(v, Batch) and v.level == level else TRACED.spread(v, shape=(size, *v.shape))
                for v in (y if isinstance(y, tuple) else (y,))]
        rows = [over(m, tensor_of(v)) for v in rows]
        return tuple(rows) if self.outputs == 0 else rows[0]


def place_of(t: Any, inputs: list, outputs: tuple) -> tuple[str, int]:
    """Where a saved Tensor comes from, by identity."""
    for kind, group in (("input", inputs), ("output", outputs)):
        for i, x in enumerate(group):
            if x is t:
                return kind, i
    return "other", 0


def gradients_of(op: str, got: Any, xs: tuple, m: Any) -> tuple:
    """What a user's rule returned, checked against the inputs and as the sweep's own kind of value."""
    got = got if isinstance(got, tuple | list) else (got,)
    if len(got) != len(xs):
        raise GraphError(f"{op}: expected {len(xs)} cotangents from the VJP, one for each input, got {len(got)}. "
                         "Return a tuple, with None where there is none.")
    results: list = []
    for g, x in zip(got, xs, strict=True):
        if g is None or not hasattr(x, "shape"):
            results.append(None)
            continue
        g = tensor_of(g)
        if g.shape != x.shape:
            raise ShapeError(f"{op}: expected a gradient of shape {x.shape} from the rule, got {g.shape}. "
                             "Sum broadcast axes away.")
        results.append(over(m, TRACED.cast(g, x.dtype)))
    return tuple(results)


def over(m: Any, t: Tensor) -> Any:
    """A rule's result as namespace m has it."""
    return t if m is TRACED else t._data


def as_tensor(x: Any) -> Any:
    return tensor_of(x) if is_array(x) else x
