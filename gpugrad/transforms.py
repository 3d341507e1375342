"""Functions from functions: grad, vjp, jvp and what is built of them, over trees of arrays, nested to any order.

Arrays in, arrays out: a NumPy or CuPy array comes back as one, a Tensor as a Tensor, a Python number as a NumPy scalar.
"""
from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from gpugrad.arrays import is_array, module_of, new_array, short
from gpugrad.errors import ArgumentError, DtypeError, ShapeError
from gpugrad.graph.backward import cotangent, filled_like, take
from gpugrad.graph.layers import Batch, Dual, Layered, lowered, snapshot, tensor_of
from gpugrad.graph.namespace import PRIMITIVES, TRACED
from gpugrad.graph.state import clock, current, switch
from gpugrad.graph.sweep import Plan, pullback
from gpugrad.graph.tensor import LevelNode, Node, Tensor, require_inexact
from gpugrad.trees import flatten, flatten_like, map_tree

#: vmap over a basis takes at most this many elements of basis at a time.
BASIS_ELEMENTS = 1 << 24


def grad(f: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """The gradient of a function with one real output: grad(f)(x) has the tree, shapes and dtypes of x.

    argnums  which argument, or several: then a tuple of gradients
    has_aux  f returns (y, aux); the result is (gradient, aux)

    Raises ShapeError where f returns more than one element, DtypeError for integer inputs or a complex output.
    For complex inputs the gradient is the direction of steepest ascent, as in PyTorch.
    """
    both = value_and_grad(f, argnums, has_aux)

    @functools.wraps(f)
    def gradient(*args, **kwargs):
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g
    return gradient


def value_and_grad(f: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """A function that returns (f(x), grad(f)(x)) from one pass; with has_aux, ((y, aux), gradient). See `grad`."""
    require_callable("grad", f)

    @functools.wraps(f)
    def run(*args, **kwargs):
        inputs = Inputs("grad", args, argnums)
        with switch(record=True):
            out = f(*inputs.args, **kwargs)
        y, aux = split_aux("grad", out, has_aux)
        y = scalar_output(y)
        gradients = inputs.gradients([(y, filled_like(y, 1))] if y._node is not None else [], retain_graph=has_aux)
        value = inputs.returned(y)
        return ((value, aux) if has_aux else value), gradients
    return run


def vjp(f: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """(y, pull): the value of f, and the function from a cotangent of y to a tuple of cotangents, one for each primal.

    pull may be called any number of times. With has_aux, f returns (y, aux) and the result is (y, pull, aux).
    """
    require_callable("vjp", f)
    primals = map_tree(lambda x: x.copy() if is_array(x) else x, primals)     # the caller may write to them before pull
    inputs = Inputs("vjp", primals, range(len(primals)))
    with switch(record=True):
        out = f(*inputs.args)
    out, aux = split_aux("vjp", out, has_aux)
    leaves, build = flatten(out)
    outputs = [as_output("vjp", y) for y in leaves]

    def pull(g: Any) -> tuple:
        cotangents = [cotangent("vjp", c, y) for c, y in zip(flatten_like(out, g, "vjp"), outputs, strict=True)]
        pairs = [(y, c) for y, c in zip(outputs, cotangents, strict=True) if y._node is not None]
        return inputs.gradients(pairs, retain_graph=True)
    value = build([inputs.returned(y) for y in outputs])
    return (value, pull, aux) if has_aux else (value, pull)


def jvp(f: Callable, primals: Any, tangents: Any, has_aux: bool = False) -> tuple:
    """(y, dy): the value of f and its directional derivative along the tangents, in one forward pass.

    primals, tangents  tuples of the arguments, or one argument alone; each tangent has its primal's tree and shapes

    Memory does not grow with depth. With has_aux, f returns (y, aux) and the result is (y, dy, aux).
    """
    require_callable("jvp", f)
    if not isinstance(primals, tuple | list) or hasattr(primals, "_fields"):
        primals, tangents = (primals,), (tangents,)
    xs, build = flatten(tuple(primals))
    vs = flatten_like(tuple(primals), tuple(tangents), "jvp")
    level = clock()
    duals = [Dual(level, *direction(x, v)) for x, v in zip(xs, vs, strict=True)]
    kind = kind_of(xs)
    with switch(levels=True):
        out = f(*build(duals))
    out, aux = split_aux("jvp", out, has_aux)
    leaves, rebuild = flatten(out)
    outputs = [as_output("jvp", y) for y in leaves]
    ours = [type(y) is Dual and y.level == level for y in outputs]
    value = rebuild([kind(y._layer[1] if o else y) for y, o in zip(outputs, ours, strict=True)])
    tangent = rebuild([kind(y._layer[2] if o else zeros_like(y)) for y, o in zip(outputs, ours, strict=True)])
    return (value, tangent, aux) if has_aux else (value, tangent)


def hvp(f: Callable, x: Any, v: Any) -> Any:
    """The Hessian of a scalar function at x, times v, without forming it: forward mode over the gradient.

    x, v    trees of the same structure and shapes
    return  H v, with the tree of x
    """
    return jvp(grad(f), (x,), (v,))[1]


def gnvp(f: Callable, x: Any, v: Any, loss: Callable | None = None) -> Any:
    """The Gauss-Newton product J' H J v: J the Jacobian of f at x, H the Hessian of `loss` at f(x), by default I.

    With loss=None this is J'J v, the Hessian of 0.5 * sum(f(x)**2) without its second-derivative term.
    """
    y, u = jvp(f, (x,), (v,))
    _, pull = vjp(f, x)
    if loss is not None:
        u = hvp(loss, y, u)
    return pull(u)[0]


def vmap(f: Callable, in_axes: Any = 0, out_axes: int = 0) -> Callable:
    """f over a new axis of its arguments, all at once: vmap(f)(xs)[i] = f(xs[i]).

    in_axes   the axis of each argument (an int for all, or one int or None for each); None: the argument is shared
    out_axes  where the new axis is in the results

    Raises ArgumentError where axis lengths differ. Operations without a batch rule fall back on a loop over the axis.
    """
    require_callable("vmap", f)

    @functools.wraps(f)
    def run(*args, **kwargs):
        axes = in_axes if isinstance(in_axes, tuple | list) else (in_axes,) * len(args)
        if len(axes) != len(args):
            raise ArgumentError(f"vmap: expected in_axes for {len(args)} arguments, got {len(axes)}. Give one for each.")
        level = clock()
        sizes: set[int] = set()
        with switch(levels=True):
            wrapped = [arg if axis is None else map_tree(lambda x, a=axis: stacked(level, x, a, sizes), arg)
                       for arg, axis in zip(args, axes, strict=True)]
            if len(sizes) != 1:
                raise ArgumentError(f"vmap: expected one length of the mapped axis, got {sorted(sizes)}. Check in_axes.")
            out = f(*wrapped, **kwargs)
        kind = kind_of(flatten(args)[0])
        return map_tree(lambda y: kind(unstacked(level, y, out_axes, *sizes)), out)
    return run


def jacobian(f: Callable, argnums: int | Sequence[int] = 0, mode: str = "auto") -> Callable:
    """The Jacobian: jacobian(f)(x) has shape y.shape + x.shape, for each output of f's tree and each input of x's tree.

    mode  "reverse" computes rows, "forward" columns, "auto" whichever are fewer; either way all at once, by vmap

    Complex inputs need complex outputs, and f holomorphic; the Jacobian is then dy/dx itself, not its conjugate.
    """
    require_callable("jacobian", f)
    if mode not in ("auto", "reverse", "forward"):
        raise ArgumentError(f"jacobian: expected mode 'auto', 'reverse' or 'forward', got {mode!r}. Choose one of them.")

    @functools.wraps(f)
    def run(*args, **kwargs):
        numbers, several = numbered("jacobian", args, argnums)
        xs, build = flatten(tuple(args[i] for i in numbers) if several else args[numbers[0]])

        def g(*leaves):
            new = build(list(leaves))
            full = list(args)
            for i, x in zip(numbers, new if several else (new,), strict=True):
                full[i] = x
            return f(*full, **kwargs)
        if mode == "forward":
            return by_columns(g, xs, build)
        y, pull = vjp(g, *xs)
        ys, rebuild = flatten(y)
        real_to_complex = not any(map(is_complex, xs)) and any(map(is_complex, ys))
        if mode == "reverse" and real_to_complex:
            raise DtypeError("jacobian: expected real outputs of real inputs in reverse mode, got complex ones. "
                             "Use mode='forward'.")
        if real_to_complex or (mode == "auto" and count(ys) > count(xs)):
            return by_columns(g, xs, build)
        return by_rows(pull, xs, build, ys, rebuild)
    return run


def hessian(f: Callable, argnums: int | Sequence[int] = 0) -> Callable:
    """The Hessian of a scalar function: hessian(f)(x) has shape x.shape + x.shape; forward mode over the gradient."""
    return jacobian(grad(f, argnums), argnums, mode="forward")


def by_columns(g: Callable, xs: list, build: Callable) -> Any:
    """Push every basis direction of every input forward."""
    columns: list[list] = []
    rebuild: Callable = build
    for k, x in enumerate(xs):
        def push(v, k=k, x=x):
            return jvp(lambda z: g(*xs[:k], z, *xs[k + 1:]), (x,), (v,))[1]
        parts, rebuild = flatten(over_basis(push, x, out_axes=-1))
        columns.append(parts)
    return rebuild([build(list(row)) for row in zip(*columns, strict=True)])


def by_rows(pull: Callable, xs: list, build: Callable, ys: list, rebuild: Callable) -> Any:
    """Pull every basis direction of every output back."""
    rows = []
    for k, y in enumerate(ys):
        if is_complex(y) != all(map(is_complex, xs)) and any(map(is_complex, xs)):
            raise DtypeError(f"jacobian: expected complex outputs of complex inputs, got {y.dtype}. Use grad for a real output.")

        def pull_one(c, k=k):
            return pull(rebuild([c if i == k else zeros_like(tensor_of(z)) for i, z in enumerate(ys)]))
        parts = over_basis(pull_one, y, out_axes=0)
        rows.append(build([p.conj() if is_complex(p) else p for p in parts]))
    return rebuild(rows)


def over_basis(h: Callable, x: Any, out_axes: int) -> Any:
    """h of every unit vector of x's shape, stacked; the stacked axis becomes x's axes. In pieces where it would be large."""
    shape, n = numpy.shape(x), count([x])
    data = x._data if isinstance(x, Tensor) else x
    if not is_array(data) and not isinstance(x, Tensor):
        data = numpy.asarray(x)
    xp = module_of(data) if is_array(data) else numpy
    step = max(1, BASIS_ELEMENTS // max(n, 1))
    pieces = []
    for start in range(0, max(n, 1), step):
        rows = min(step, n - start)
        basis = xp.zeros((rows, n), dtype=data.dtype)
        basis[xp.arange(rows), xp.arange(start, start + rows)] = 1
        pieces.append(vmap(h, out_axes=out_axes)(basis.reshape(rows, *shape)))

    def assemble(*parts):
        whole = parts[0] if len(parts) == 1 else join(parts, out_axes)
        rest = whole.shape[1:] if out_axes == 0 else whole.shape[:-1]
        return whole.reshape(shape + rest if out_axes == 0 else rest + shape)
    return map_tree(assemble, *pieces)


def join(parts: tuple, axis: int) -> Any:
    if any(isinstance(p, Tensor) for p in parts):
        return TRACED.concatenate(*parts, axis=axis % parts[0].ndim)
    return module_of(parts[0]).concatenate(parts, axis=axis)


# inputs and outputs -----------------------------------------------------------------------------------------------------

class Inputs:
    """The arguments of a transform with a fresh root node for each leaf that is differentiated.

    A root is linked to the node of the value it stands for. That link is what tells nested sweeps apart: the inner sweep
    stops at its own roots, the outer one passes through them.
    """

    def __init__(self, op: str, args: tuple, argnums: int | Sequence[int]):
        self.numbers, self.several = numbered(op, args, argnums)
        self.leaves, self.build = flatten([args[i] for i in self.numbers])
        self.roots = [root(op, x) for x in self.leaves]
        full = list(args)
        for i, x in zip(self.numbers, self.build(self.roots), strict=True):
            full[i] = x
        self.args = full
        self.kind = kind_of(flatten(args)[0])
        self.outside = False

    def gradients(self, outputs: list[tuple[Tensor, Any]], retain_graph: bool) -> Any:
        nodes = [r._node for r in self.roots]
        plan = Plan([y._node for y, _ in outputs], nodes)
        self.outside = plan.outside or any(isinstance(g, Tensor) and g._node is not None for _, g in outputs)
        found = pullback([(y._node, g) for y, g in outputs], nodes, plan=plan, retain_graph=retain_graph,
                         create_graph=self.outside and current().record)
        results = []
        for r, x in zip(self.roots, self.leaves, strict=True):
            results.append(as_kind(take(found, r._node) if r._node in found else zeros_like(r), x))
        trees = self.build(results)
        return tuple(trees) if self.several else trees[0]

    def returned(self, y: Tensor) -> Any:
        """An output for the caller: attached to the graph outside where there is one."""
        if y._node is not None and not self.outside:
            self.outside = Plan([y._node], [r._node for r in self.roots]).outside
        if not self.outside:
            y = snapshot(y)
            y._node = None
        return self.kind(y)


def root(op: str, x: Any) -> Tensor:
    """The value of x with a node of its own, whose parent is the node of x."""
    if not isinstance(x, Tensor):
        x = Tensor(new_array(x, copy=False))
    require_inexact(op, x.dtype)
    make = LevelNode if current().levels else Node
    node = make(PRIMITIVES["alias"], (x._node,), (None,), None, {})
    if isinstance(node, LevelNode):
        node.level = node.seq
    return snapshot(x, node)


def numbered(op: str, args: tuple, argnums: int | Sequence[int]) -> tuple[list[int], bool]:
    """argnums as a list of valid argument numbers, and whether several were asked for."""
    several = not isinstance(argnums, int)
    numbers: list[Any] = [argnums] if isinstance(argnums, int) else list(argnums)
    for i in numbers:
        if not isinstance(i, int) or not -len(args) <= i < len(args):
            raise ArgumentError(f"{op}: expected argnums within the {len(args)} positional arguments, got {argnums!r}. "
                                "Pass the differentiated arguments by position.")
    return [i % len(args) for i in numbers], several


def split_aux(op: str, out: Any, has_aux: bool) -> tuple:
    if not has_aux:
        return out, None
    if not isinstance(out, tuple) or len(out) != 2:
        raise ArgumentError(f"{op}: expected (output, aux) with has_aux=True, got {short(out)}. Return a pair.")
    return out


def as_output(op: str, y: Any) -> Tensor:
    """A result of the user's function as a Tensor; constants are fine."""
    if isinstance(y, Tensor):
        return y
    if not is_array(y) and not isinstance(y, int | float | complex):
        raise DtypeError(f"{op}: expected a function that returns arrays, got {short(y)}. Return a Tensor or a tree of them.")
    return Tensor(new_array(y, copy=False))


def scalar_output(y: Any) -> Tensor:
    y = as_output("grad", y)
    if y.size != 1:
        raise ShapeError(f"grad: expected a function with one output element, got shape {y.shape}. "
                         "Sum it, or use jacobian or vjp.")
    if y.dtype.kind == "c":
        raise DtypeError(f"grad: expected a real output, got {y.dtype}. Take its real part, or use vjp.")
    return y


def direction(x: Any, v: Any) -> tuple:
    """A primal and its tangent, checked, as arrays where they are no more than that."""
    x = x if isinstance(x, Tensor) else Tensor(new_array(x, copy=False))
    require_inexact("jvp", x.dtype)
    v = v if isinstance(v, Tensor) else cotangent("jvp", v, x)
    v = v if isinstance(v, Tensor) else Tensor(v)
    v = cotangent("jvp", v, x)
    return lowered(x), lowered(v)


def kind_of(leaves: Sequence) -> Callable[[Any], Any]:
    """The function that gives results the caller's kind: Tensors to a caller of Tensors, arrays to one of arrays."""
    tensors = any(isinstance(x, Tensor) for x in leaves)

    def kind(y):
        y = tensor_of(y)
        if tensors or y._node is not None or isinstance(y, Layered):
            return y
        return y._data[()]                                # NumPy's own functions return scalars, not 0-d arrays
    return kind


def as_kind(g: Tensor, x: Any) -> Any:
    """A gradient as the kind of its input."""
    if isinstance(x, Tensor) or g._node is not None or isinstance(g, Layered):
        return g
    return g._data if getattr(x, "flags", None) is not None and not isinstance(x, numpy.generic) else g._data[()]


def zeros_like(y: Tensor) -> Tensor:
    return Tensor(filled_like(y, 0))


def stacked(level: int, x: Any, axis: int, sizes: set) -> Batch:
    """An argument of vmap with its mapped axis in front."""
    x = x if isinstance(x, Tensor) else Tensor(new_array(x, copy=False))
    if not x.ndim or not -x.ndim <= axis < x.ndim:
        raise ArgumentError(f"vmap: expected axis {axis} to map over, got shape {x.shape}. "
                            "Use in_axes=None for shared arguments.")
    sizes.add(x.shape[axis])
    if axis % x.ndim:
        x = moved(x, axis % x.ndim, 0)
    return Batch(level, lowered(x))


def unstacked(level: int, y: Any, axis: int, size: int) -> Tensor:
    """A result of vmap with its mapped axis in place; results that do not depend on it are repeated."""
    y = as_output("vmap", y)
    if isinstance(y, Batch) and y.level == level:
        y = tensor_of(y.value)
    else:
        y = TRACED.spread(y, shape=(size, *y.shape))
    return moved(y, 0, axis % y.ndim)


def moved(x: Tensor, source: int, destination: int) -> Tensor:
    """One axis elsewhere, the others in order."""
    if source == destination:
        return x
    axes = [i for i in range(x.ndim) if i != source]
    axes.insert(destination, source)
    return TRACED.transpose(x, axes=tuple(axes))


def count(leaves: Sequence) -> int:
    """How many elements the leaves have together."""
    return sum(int(numpy.prod(numpy.shape(x) if not isinstance(x, Tensor) else x.shape, dtype=numpy.int64)) for x in leaves)


def is_complex(x: Any) -> bool:
    return getattr(x, "dtype", numpy.dtype(type(x)) if isinstance(x, int | float | complex) else numpy.dtype("f8")).kind == "c"


def require_callable(op: str, f: Any) -> None:
    if not callable(f):
        raise DtypeError(f"{op}: expected a function, got {short(f)}. Pass the function itself, not its result.")
