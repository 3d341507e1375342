"""What all elementwise functions share: NumPy's ufunc arguments `out`, `where` and `dtype`, on top of a primitive."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from gpugrad.arrays import is_array, short
from gpugrad.errors import ArgumentError, DtypeError, ShapeError
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.numpy._arguments import array_among, as_dtype, as_tensor, as_tensors, to_dtype, write_out
from gpugrad.numpy.index import getitem, setitem

ARGUMENTS = """
    out    a Tensor that is given the result; its graph goes on
    where  a mask: elsewhere the result is what `out` holds, or 0, and nothing is computed
    dtype  compute in this dtype

    Raises ShapeError for shapes that do not broadcast, DtypeError for dtypes that NumPy refuses.
    """
NUMBERS = (int, float, complex)
OPERANDS = frozenset({Tensor, *NUMBERS})          # what a primitive takes as it is, beside a Tensor
DEFAULTS = {"casting": ("same_kind",), "order": ("K", "C"), "subok": (True, False)}


def unary(name: str, doc: str, op: Callable | None = None) -> Callable:
    """The public function of one array that a primitive of that name (or `op`, a function of Tensors) makes possible."""
    op = op or getattr(T, name)

    def function(x: Any, /, out: Any = None, *, where: Any = True, dtype: Any = None, **options: Any) -> Any:
        if type(x) is Tensor and out is None and where is True and dtype is None and not options:
            return op(x)
        return call(name, op, (x,), out, where, dtype, options)
    return named(function, name, doc, op)


def binary(name: str, doc: str, op: Callable | None = None) -> Callable:
    """The public function of two arrays. See `unary`."""
    op = op or getattr(T, name)

    def function(a: Any, b: Any, /, out: Any = None, *, where: Any = True, dtype: Any = None, **options: Any) -> Any:
        if (out is None and where is True and dtype is None and not options and type(a) in OPERANDS and type(b) in OPERANDS
                and (type(a) is Tensor or type(b) is Tensor)):
            return op(a, b)
        return call(name, op, (a, b), out, where, dtype, options)
    return named(function, name, doc, op)


def named(function: Any, name: str, doc: str, operation: Callable) -> Callable:
    function.__name__ = function.__qualname__ = name
    function.__module__ = "gpugrad.numpy"                  # where pickle finds it
    function.operation = operation
    function.__doc__ = f"{doc}\n{ARGUMENTS}"
    return function


def call(name: str, op: Callable, xs: tuple, out: Any, where: Any, dtype: Any, options: dict) -> Any:
    """op(*xs) with ufunc arguments: inputs to Tensors, the mask, the result to `out`."""
    for option, value in options.items():
        if option not in DEFAULTS:
            raise ArgumentError(f"{name}: expected only out, where and dtype, got {option}={short(value)}. Leave it out.")
        if value not in DEFAULTS[option]:
            raise ArgumentError(f"{name}: expected {option}={DEFAULTS[option][0]!r}, got {short(value)}. Leave it out.")
    inputs = operands(name, xs)
    if dtype is not None:
        op, inputs = in_dtype(name, op, inputs, as_dtype(name, dtype))
    result = op(*inputs) if where is True else masked(name, op, inputs, as_tensor(name, where), out)
    if not isinstance(result, tuple):
        return write_out(name, out, result)
    outs = out if isinstance(out, tuple) else (out,) + (None,) * (len(result) - 1)
    return tuple([write_out(name, o, r) for o, r in zip(outs, result, strict=True)])


def operands(name: str, xs: tuple) -> list:
    """Tensors, and Python numbers as they are where a Tensor stands beside them: they do not widen its dtype."""
    if any(isinstance(x, Tensor) or is_array(x) or not isinstance(x, NUMBERS) for x in xs):
        beside = array_among(xs)
        return [x if type(x) in NUMBERS else as_tensor(name, x, beside) for x in xs]
    return as_tensors(name, *xs)


def in_dtype(name: str, op: Callable, xs: list, dtype: numpy.dtype) -> tuple[Callable, list]:
    """The operation computed in another dtype. That of a comparison is always bool, so only bool can be asked of it."""
    if dtype.kind == "b":
        def checked(*xs: Any) -> Tensor:
            y = op(*xs)
            if y.dtype.kind != "b":
                raise DtypeError(f"{name}: expected a dtype for {y.dtype} results, got bool. Compare with != 0.")
            return y
        return checked, xs
    xs = [as_tensor(name, x, next((t for t in xs if isinstance(t, Tensor)), None)) for x in xs]
    for x in xs:
        if not numpy.can_cast(x.dtype, dtype, "same_kind"):
            raise DtypeError(f"{name}: expected a dtype that {x.dtype} can be cast to, got dtype={dtype}. Use .astype first.")
    return op, [to_dtype(name, x, dtype) for x in xs]


def masked(name: str, op: Callable, xs: list, where: Tensor, out: Any) -> Any:
    """The operation on the elements under the mask alone, so that no NaN of the others reaches a gradient."""
    if where.dtype.kind != "b":
        raise DtypeError(f"{name}: expected bools as where, got dtype {where.dtype}. Compare with != 0.")
    if isinstance(out, tuple):
        raise ArgumentError(f"{name}: expected no where for several results, got one. Use gg.where on each of them.")
    shape = joint_shape(name, [*xs, where])
    mask = where if where.shape == shape else T.spread(where, shape=shape)
    parts = op(*[x if type(x) in NUMBERS else getitem(x if x.shape == shape else T.spread(x, shape=shape), mask) for x in xs])
    if isinstance(parts, tuple):
        raise ArgumentError(f"{name}: expected no where for several results, got one. Use gg.where on each of them.")
    if isinstance(out, Tensor):
        return setitem(out, mask, to_dtype(name, parts, out.dtype))
    return setitem(T.zeros_as(parts, shape=shape), mask, parts)


def joint_shape(name: str, xs: list) -> tuple[int, ...]:
    shapes = [x.shape for x in xs if isinstance(x, Tensor)]
    try:
        return numpy.broadcast_shapes(*shapes)
    except ValueError as error:
        got = " and ".join(map(str, shapes))
        raise ShapeError(f"{name}: expected shapes that broadcast, got {got}. Check the shapes.") from error
