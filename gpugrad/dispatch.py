"""NumPy's protocols: `np.sin(tensor)`, `numpy_array * tensor`, `np.sum(tensor)` all arrive here.

CuPy's operators call NumPy's ufuncs when the right operand answers these protocols, so `cupy_array * tensor` comes too.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy import ndarray

from gpugrad import numpy as gnp
from gpugrad.arrays import short
from gpugrad.errors import ConversionError, NoRuleError
from gpugrad.graph.tensor import Tensor
from gpugrad.methods import assign

#: For each ufunc called so far, the operation that its function here performs when it is given arrays alone.
CALLED: dict[Any, Callable] = {}


def __array_ufunc__(self: Tensor, ufunc: Any, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> Any:
    if out is None and not kwargs and method == "__call__" and ufunc in CALLED:
        return CALLED[ufunc](*inputs)
    name = ufunc.__name__
    function: Any = getattr(gnp, name, None)
    if function is None or (method in ("reduce", "accumulate", "reduceat") and compares(ufunc)):
        raise missing(f"np.{name}" if method == "__call__" else f"np.{name}.{method}")
    if method == "__call__":
        if compares(ufunc):
            function = of_scalars(function)
        CALLED[ufunc] = getattr(function, "operation", function)
        if out is not None and kwargs.get("where", True) is not True:         # elsewhere the result is what out holds
            return function(*inputs, out=out[0] if len(out) == 1 else out, **kwargs)
        result = function(*inputs, **kwargs)
    elif method == "at":
        target, index, *values = inputs
        if not isinstance(target, Tensor):
            raise bare_target(f"np.{name}.at", target)
        assign(f"{name}.at", target, gnp.At(target)[index].changed(function, *values))
        return None
    else:
        from gpugrad.numpy import _ufunc_methods  # rarely needed: importing it takes a while
        result = getattr(_ufunc_methods, method)(ufunc, function, *inputs, **kwargs)
    return write(f"np.{name}", result, out) if out is not None else result


def __array_function__(self: Tensor, function: Any, types: Any, args: tuple, kwargs: dict) -> Any:
    path = f"{function.__module__}.{function.__name__}".removeprefix("numpy.")
    place: Any = gnp
    for part in path.split("."):
        place = getattr(place, part, None)
        if place is None:
            raise missing(f"np.{path}")
    return place(*args, **kwargs)


def compares(ufunc: Any) -> bool:
    """Whether numbers give bools, which a reduction could not go on with."""
    return "dd->?" in ufunc.types and not ufunc.__name__.startswith("logical")


def of_scalars(function: Callable) -> Callable:
    """The comparison with 0-d arrays of NumPy taken for what they were: its scalars make them of themselves, left of > or ==."""
    def run(*inputs: Any, **kwargs: Any) -> Any:
        return function(*[x[()] if type(x) is ndarray and not x.ndim else x for x in inputs], **kwargs)
    return run


def write(op: str, result: Any, out: tuple) -> Any:
    """Assign results to out=, which must be Tensors: a bare array would drop the graph."""
    results = result if isinstance(result, tuple) else (result,)
    written = []
    for r, o in zip(results, out, strict=True):
        if o is None:
            written.append(r)
        elif not isinstance(o, Tensor):
            raise bare_target(op, o)
        else:
            written.append(assign(op, o, r))
    return tuple(written) if isinstance(result, tuple) else written[0]


def bare_target(op: str, target: Any) -> ConversionError:
    return ConversionError(f"{op}: expected a Tensor to write to, got {short(target)}, which would drop the graph. "
                           "Write a = a + t, or start from gg.asarray(a).")


def missing(name: str) -> NoRuleError:
    return NoRuleError(f"{name}: no rule for Tensors. Compose it of other functions, define it with gg.primitive, "
                       "or use t.detach().numpy() where no gradient is needed.")


Tensor.__array_ufunc__ = __array_ufunc__                # type: ignore[attr-defined]
Tensor.__array_function__ = __array_function__          # type: ignore[attr-defined]
