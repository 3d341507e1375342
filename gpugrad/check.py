"""check_grads: derivatives against central differences, to any order, in both modes."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from gpugrad.arrays import default_device, device_of, is_array, module_of, move
from gpugrad.errors import ArgumentError, DtypeError, GpugradError
from gpugrad.graph.sweep import bare_array
from gpugrad.graph.tensor import Tensor
from gpugrad.primals import as_output, require_callable
from gpugrad.transforms import jvp, vjp
from gpugrad.trees import flatten, map_tree


class GradientError(GpugradError, AssertionError):
    """A derivative that disagrees with central differences, or the two modes with each other."""


def check_grads(f: Callable, args: Sequence, order: int = 2, modes: Sequence[str] = ("forward", "reverse"), *,
                tolerance: float = 1e-5, step: float = 1e-5, seed: int = 0) -> None:
    """Raise GradientError unless the derivatives of f at args, up to `order`, agree with central differences.

    args       tuple of arguments, trees of arrays; float inputs are checked as float64, the rest is passed as it is
    modes      "forward" checks J v, "reverse" checks <g, J v> = <J'g, v>; at each higher order their nestings
    tolerance  relative error allowed, against the largest magnitude involved
    step       of the central difference, whose own error is about step**2 + 1e-16/step

    One random direction is tried for each order and mode: a wrong rule is missed with probability zero, a kink near
    the point may be reported.
    """
    require_callable("check_grads", f)
    if not isinstance(order, int) or order < 1:
        raise ArgumentError(f"check_grads: expected order >= 1, got {order!r}. Order 1 checks first derivatives.")
    names: tuple = tuple(modes) if isinstance(modes, list | tuple | set) else (modes,)
    unknown = [name for name in names if name not in ("forward", "reverse")]
    if unknown or not names:
        raise ArgumentError(f"check_grads: expected modes out of 'forward' and 'reverse', got {names}. Name one or both.")
    if not isinstance(args, tuple | list):
        args = (args,)
    leaves, build = flatten(tuple(args))
    moving = [i for i, x in enumerate(leaves) if is_inexact(x)]
    if not moving:
        raise ArgumentError("check_grads: expected at least one float or complex argument, got none. Use floats.")

    def g(*xs):
        full = list(leaves)
        for i, x in zip(moving, xs, strict=True):
            full[i] = x if isinstance(x, Tensor) else Tensor(x)           # f may use a Tensor's methods
        return f(*build(full))
    device = next((device_of(data) for data in map(data_of, leaves) if is_array(data)), default_device())
    xs = tuple(move(widened(leaves[i]), device) for i in moving)
    for y in flatten(g(*xs))[0]:
        if as_output("check_grads", y).dtype.kind == "b":
            raise DtypeError("check_grads: expected a function that returns floats, got bool. Return floats.")
    check(g, xs, order, names, tolerance, step, numpy.random.default_rng(seed), "f")


def check(f: Callable, xs: tuple, order: int, modes: tuple, tolerance: float, step: float, rng: Any, name: str) -> None:
    """One order of f, then the next order of its forward and reverse derivatives."""
    vs = tuple(random_like(rng, x) for x in xs)
    plus = flatten(f(*(x + step * v for x, v in zip(xs, vs, strict=True))))[0]
    minus = flatten(f(*(x - step * v for x, v in zip(xs, vs, strict=True))))[0]
    expected = [(bare_array(p) - bare_array(m)) / (2 * step) for p, m in zip(plus, minus, strict=True)]
    if "forward" in modes:
        _, dy = jvp(f, xs, vs)
        for want, got in zip(expected, flatten(dy)[0], strict=True):
            compare(f"forward mode of {name}", bare_array(got), want, tolerance)
    if "reverse" in modes:
        y, pull = vjp(f, *xs)
        gs = map_tree(lambda leaf: random_like(rng, leaf), y)
        pulled = flatten(pull(gs))[0]
        inner = sum(dot(g, want) for g, want in zip(flatten(gs)[0], expected, strict=True))
        outer = sum(dot(gx, v) for gx, v in zip(pulled, vs, strict=True))
        scale = sum(float(numpy.sum(numpy.abs(bare_array(g) * want))) for g, want in zip(flatten(gs)[0], expected, strict=True))
        compare(f"reverse mode of {name}", numpy.asarray(outer), numpy.asarray(inner), tolerance, scale)
    if order > 1:
        if "forward" in modes:
            check(lambda *zs: jvp(f, zs, vs)[1], xs, order - 1, modes, tolerance, step, rng, f"the JVP of {name}")
        if "reverse" in modes:
            check(lambda *zs: vjp(f, *zs)[1](gs), xs, order - 1, modes, tolerance, step, rng, f"the VJP of {name}")


def compare(what: str, got: Any, want: Any, tolerance: float, scale: float = 0.0) -> None:
    if numpy.shape(got) != numpy.shape(want):
        raise GradientError(f"check_grads: expected {what} to have shape {numpy.shape(want)}, got {numpy.shape(got)}. "
                            "Look at the rule's broadcasting.")
    if numpy.size(want) == 0:
        return
    error = numpy.max(numpy.abs(got - want))
    allowed = tolerance * (1 + max(scale, float(numpy.max(numpy.abs(want)))))
    if not error <= allowed:                              # a NaN fails
        raise GradientError(f"check_grads: expected {what} within {allowed:.2e} of central differences, got an error of "
                            f"{error:.2e} at magnitude {numpy.max(numpy.abs(want)):.2e}. "
                            "Look at the rule, or for a kink at this point.")


def is_inexact(x: Any) -> bool:
    return isinstance(x, float | complex) or (hasattr(x, "dtype") and x.dtype.kind in "fc")


def widened(x: Any) -> Any:
    """A float64 or complex128 copy of an argument, a Tensor's value taken out of its graph."""
    x = data_of(x)
    x = x if is_array(x) else numpy.asarray(x)
    return x.astype(numpy.complex128 if x.dtype.kind == "c" else numpy.float64)


def data_of(x: Any) -> Any:
    return x._data if isinstance(x, Tensor) else x


def random_like(rng: Any, x: Any) -> Any:
    """A standard normal array of the shape, dtype kind and module of x."""
    like = bare_array(x)
    values = rng.normal(size=numpy.shape(like))
    if like.dtype.kind == "c":
        values = values + 1j * rng.normal(size=numpy.shape(like))
    return module_of(like).asarray(values)


def dot(a: Any, b: Any) -> float:
    """The real inner product."""
    a, b = bare_array(a), bare_array(b)
    return float((a.conj() * b).sum().real)
