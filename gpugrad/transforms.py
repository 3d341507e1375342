"""Functions from functions: grad, vjp, jvp and what is built of them, over trees of arrays, nested to any order.

Arrays in, arrays out: a NumPy or CuPy array comes back as one, a Tensor as a Tensor, a Python number as a NumPy scalar.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from gpugrad.arrays import at_home, copied, is_array, module_of
from gpugrad.errors import ArgumentError, DtypeError, ShapeError
from gpugrad.graph.backward import cotangent, filled_like
from gpugrad.graph.layers import MAPS, Dual, Map, array_under, opened, tensor_of
from gpugrad.graph.namespace import TRACED
from gpugrad.graph.state import switch
from gpugrad.graph.tensor import Tensor
from gpugrad.primals import (
    Inputs,
    as_output,
    count,
    direction,
    is_complex,
    kind_of,
    lock,
    numbered,
    require_callable,
    scalar_output,
    split_aux,
    stacked,
    unstacked,
    zeros_like,
)
from gpugrad.transformed import Transformed
from gpugrad.trees import flatten, flatten_like, map_tree, stretched

#: vmap over a basis takes at most this many elements of basis at a time.
BASIS_ELEMENTS = 1 << 24
#: NumPy's arrays have no more.
MOST_AXES = 64


def grad(f: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """The gradient of a function with one real output: grad(f)(x) has the tree, shapes and dtypes of x.

    argnums  which argument, or several: then a tuple of gradients
    has_aux  f returns (y, aux); the result is (gradient, aux)

    Raises ShapeError where f returns more than one element, DtypeError for integer inputs or a complex output.
    For complex inputs the gradient is the direction of steepest ascent, as in PyTorch.

    x is not copied. While f runs, a NumPy array in x that owns its memory is read-only, since f would otherwise get the
    gradient of what it wrote there; f should not write to x through a view, or on a GPU.
    """
    both = value_and_grad(f, argnums, has_aux)

    def gradient(*args, **kwargs):
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g
    return Transformed(gradient, grad, f, argnums, has_aux)


def value_and_grad(f: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """A function that returns (f(x), grad(f)(x)) from one pass; with has_aux, ((y, aux), gradient). See `grad`."""
    require_callable("grad", f)

    def run(*args, **kwargs):
        inputs = Inputs("grad", args, argnums)
        locked = lock(inputs.leaves)
        try:
            with switch(record=True):
                out = f(*inputs.args, **kwargs)
            y, aux = split_aux("grad", out, has_aux)
            y = scalar_output("grad", y)
            gradients = inputs.gradients([(y, filled_like(y, 1))] if y._node is not None else [], retain_graph=has_aux)
        finally:
            for x in locked:
                x.flags.writeable = True
        value = inputs.returned(y)
        return ((value, inputs.returned_aux(aux)) if has_aux else value), gradients
    return Transformed(run, value_and_grad, f, argnums, has_aux)


def vjp(f: Callable, *primals: Any, has_aux: bool = False) -> tuple:
    """(y, pull): the value of f, and the function from a cotangent of y to a tuple of cotangents, one for each primal.

    pull may be called any number of times. With has_aux, f returns (y, aux) and the result is (y, pull, aux).
    """
    require_callable("vjp", f)
    primals = map_tree(lambda x: copied(x) if is_array(x) else x, primals)     # the caller may write to them before pull
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
    return (value, pull, inputs.returned_aux(aux)) if has_aux else (value, pull)


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
    directions = [direction(x, v) for x, v in zip(xs, vs, strict=True)]
    kind = kind_of(xs)
    with opened() as level:
        out = f(*build([Dual(level, *d) for d in directions]))
        out, aux = split_aux("jvp", out, has_aux)
        leaves, rebuild = flatten(out)
        outputs = [as_output("jvp", y) for y in leaves]
    ours = [type(y) is Dual and y.level == level for y in outputs]
    value = rebuild([kind(y._layer[1] if o else y) for y, o in zip(outputs, ours, strict=True)])
    tangent = rebuild([kind(y._layer[2] if o else zeros_like(y)) for y, o in zip(outputs, ours, strict=True)])
    if not has_aux:
        return value, tangent

    def primal(x):
        return x if not isinstance(x, Tensor) else kind(x._layer[1] if type(x) is Dual and x.level == level else x)
    return value, tangent, map_tree(primal, aux)


def hvp(f: Callable, x: Any, v: Any) -> Any:
    """The Hessian of a scalar function at x, times v, without forming it: the gradient of its slope along v.

    x, v    trees of the same structure and shapes
    return  H v, with the tree of x

    Reverse mode over forward mode: forward mode over reverse would compute the gradient itself as well.
    """
    require_callable("hvp", f)
    return grad(lambda z: jvp(lambda x: scalar_output("hvp", f(x)), (z,), (v,))[1])(x)


def gnvp(f: Callable, x: Any, v: Any, loss: Callable | None = None) -> Any:
    """The Gauss-Newton product J' H J v: J the Jacobian of f at x, H the Hessian of `loss` at f(x), by default I.

    With loss=None this is J'J v, the Hessian of 0.5 * sum(f(x)**2) without its second-derivative term.
    """
    y, u = jvp(f, (x,), (v,))
    _, pull = vjp(f, x)
    if loss is not None:
        u = hvp(loss, y, u)
    return pull(u)[0]


def vmap(f: Callable, in_axes: Any = 0, out_axes: Any = 0, randomness: str = "error") -> Callable:
    """f over a new axis of its arguments, all at once: vmap(f)(xs)[i] = f(xs[i]).

    in_axes     the axis of each argument (an int for all, or one int or None for each); None: the argument is shared.
                For an argument that is a tree it may be a tree, which may end earlier
    out_axes    where the new axis is in the results, an int or such a tree; None: the result is the same for all
    randomness  what gg.random and dropout do inside: "error"; "same" numbers for all elements; "different" ones for each

    Raises ArgumentError where axis lengths differ, where f draws random numbers and randomness is "error", and where a result
    differs from one element to the next and its out_axes is None. Operations without a batch rule fall back on a loop over the
    axis.
    """
    require_callable("vmap", f)
    if randomness not in ("error", "same", "different"):
        raise ArgumentError(f"vmap: expected randomness 'error', 'same' or 'different', got {randomness!r}. Choose one of them.")

    def run(*args, **kwargs):
        if isinstance(in_axes, tuple | list) and len(in_axes) != len(args):
            raise ArgumentError(f"vmap: expected in_axes for {len(args)} arguments, got {len(in_axes)}. Give one for each.")
        axes = axes_of("in_axes", in_axes, args)
        leaves, build = flatten(args)
        sizes: set[int] = set()
        with opened() as level:
            wrapped = build([x if a is None else stacked(level, x, a, sizes) for x, a in zip(leaves, axes, strict=True)])
            if len(sizes) != 1:
                raise ArgumentError(f"vmap: expected one length of the mapped axis, got {sorted(sizes)}. Check in_axes.")
            size, = sizes
            token = MAPS.set((*MAPS.get(), Map(level, size, randomness)))
            try:
                out = f(*wrapped, **kwargs)
            finally:
                MAPS.reset(token)
            ys, rebuild = flatten(out)
            ys = [unstacked(level, y, a, size) for y, a in zip(ys, axes_of("out_axes", out_axes, out), strict=True)]
        return rebuild(list(map(kind_of(leaves), ys)))
    return Transformed(run, vmap, f, in_axes, out_axes, randomness)


def axes_of(name: str, axes: Any, tree: Any) -> list:
    """The axis of each leaf of vmap's arguments or results."""
    found = stretched(axes, tree, f"vmap: expected {name} like the tree that it is for")
    if not all(axis is None or isinstance(axis, int | numpy.integer) for axis in found):
        raise ArgumentError(f"vmap: expected {name} of ints and None, got {axes!r}. Give one for each argument.")
    return found


def jacobian(f: Callable, argnums: int | Sequence[int] = 0, mode: str = "auto") -> Callable:
    """The Jacobian: jacobian(f)(x) has shape y.shape + x.shape, for each output of f's tree and each input of x's tree.

    mode  "reverse" computes rows, "forward" columns, "auto" whichever are fewer; either way all at once, by vmap

    Complex inputs need complex outputs, and f holomorphic; the Jacobian is then dy/dx itself, not its conjugate.
    """
    require_callable("jacobian", f)
    if mode not in ("auto", "reverse", "forward"):
        raise ArgumentError(f"jacobian: expected mode 'auto', 'reverse' or 'forward', got {mode!r}. Choose one of them.")

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
    return Transformed(run, jacobian, f, argnums, mode)


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
    if len(shape) >= MOST_AXES:
        raise ShapeError(f"jacobian: expected fewer than {MOST_AXES} axes, got {len(shape)}. Reshape the array first.")
    array = array_under(x)
    xp = module_of(array) if is_array(array) else numpy
    dtype = x.dtype if hasattr(x, "dtype") else numpy.asarray(x).dtype

    def unit_vectors(_, start, rows):
        basis = xp.zeros((rows, n), dtype=dtype)
        basis[xp.arange(rows), xp.arange(start, start + rows)] = 1
        return basis.reshape(rows, *shape)
    step = max(1, BASIS_ELEMENTS // max(n, 1))
    mapped, make = vmap(h, out_axes=out_axes, randomness="same"), at_home(unit_vectors, xp)
    pieces = [mapped(make(array, start, min(step, n - start))) for start in range(0, max(n, 1), step)]

    def assemble(*parts):
        whole = parts[0] if len(parts) == 1 else join(parts, out_axes)
        rest = whole.shape[1:] if out_axes == 0 else whole.shape[:-1]
        if len(shape + rest) > MOST_AXES:
            raise ShapeError(f"jacobian: expected at most {MOST_AXES} axes of outputs and inputs together, got "
                             f"{len(shape + rest)}. Reshape them first.")
        return whole.reshape(shape + rest if out_axes == 0 else rest + shape)
    return map_tree(assemble, *pieces)


def join(parts: tuple, axis: int) -> Any:
    if any(isinstance(p, Tensor) for p in parts):
        return TRACED.concatenate(*parts, axis=axis % parts[0].ndim)
    return module_of(parts[0]).concatenate(parts, axis=axis)
