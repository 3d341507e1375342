"""Operations as NumPy expressions, static parameters as literals."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from gpugrad.arrays.levelled import ARRAY, filled
from gpugrad.flat.ir import Op


class Raw(str):
    """A piece of source; everything else in parameters is written by its repr."""

    __slots__ = ()


def sliced(item: Any) -> str:
    """An item of an index as it is written between brackets."""
    if isinstance(item, slice):
        parts = ["" if p is None else repr(p) for p in (item.start, item.stop)]
        return ":".join(parts) + ("" if item.step is None else f":{item.step}")
    return "..." if item is ... else str(item) if isinstance(item, Raw) else repr(item)


def indexed(x: str, index: Any) -> str:
    if not isinstance(index, tuple):
        return f"{x}[{sliced(index)}]"
    return f"{x}[{', '.join(map(sliced, index))}{',' if len(index) == 1 else ''}]" if index else f"{x}[()]"


def reduction(name: str) -> Callable:
    def text(x: str, axis: Any, keepdims: bool, out: str | None = None) -> str:
        return f"{x}.{name}(axis={axis}{', keepdims=True' if keepdims else ''}{f', out={out}' if out else ''})"
    return text


#: Operations with NumPy text of their own. The others are calls of NumPy's functions or of helpers.
TEXTS: dict[str, Callable[..., str]] = {
    "alias": lambda x: x,
    "reshape": lambda x, shape: f"{x}.reshape({shape})",
    "transpose": lambda x, axes: f"{x}.T" if axes == (1, 0) else f"{x}.transpose({axes})",
    "astype": lambda x, dtype: f"{x}.astype('{dtype}')",
    "discretise": lambda x, dtype: f"{x}.astype('{dtype}')",
    "getitem": indexed,
    "gather": lambda x, *arrays, index: indexed(x, filled(index, tuple(map(Raw, arrays)))),
    "concatenate": lambda *xs, axis: f"np.concatenate([{', '.join(xs)}], {axis})",
    "stack": lambda *xs, axis=0: f"np.stack([{', '.join(xs)}], {axis})",
    "zeros_as": lambda x, shape: f"np.zeros_like({x}, shape={shape})",
    "unit_step": lambda x: f"({x} > 0).astype({x}.dtype)",
    "roll": lambda x, shift, axis: f"np.roll({x}, {shift}, {axis})",
    "round": lambda x, decimals: f"{x}.round({decimals})",
    "conj": lambda x: f"{x}.conjugate()",
    "real": lambda x: f"{x}.real",
    "imag": lambda x: f"{x}.imag",
    "matrix_transpose": lambda x: f"{x}.swapaxes(-1, -2)",
    "cumsum": lambda x, axis: f"{x}.cumsum({axis})",
    "cumprod": lambda x, axis: f"{x}.cumprod({axis})",
    "argmax": lambda x, axis: f"{x}.argmax({axis})",
    "argmin": lambda x, axis: f"{x}.argmin({axis})",
    "sort": lambda x, axis: f"np.sort({x}, {axis})",
    "convolve": lambda a, v, mode: f"np.convolve({a}, {v}, '{mode}')",
    "searchsorted": lambda a, v, side: f"np.searchsorted({a}, {v}, '{side}')",
    "argpartition": lambda x, kth, axis: f"np.argpartition({x}, {kth}, {axis})",
    "diagonal": lambda x, offset, axis1, axis2: f"{x}.diagonal({offset}, {axis1}, {axis2})",
    "counted": lambda x, size, rank: f"np.arange({size}).reshape({(-1, *(1,) * rank)})",
    **{name: reduction(name) for name in ("sum", "max", "min", "prod", "all", "any")},
}


def holds_arrays(index: Any) -> bool:
    return isinstance(index, numpy.ndarray) or (isinstance(index, tuple) and any(map(holds_arrays, index)))


def parameter(v: Any, helpers: dict) -> str:
    """A static parameter as source; what has no text of its own is kept as an object."""
    if v is None or v is ... or isinstance(v, bool | int | float | complex | str):
        return "..." if v is ... else repr(v)
    if isinstance(v, numpy.dtype):
        return f"np.dtype('{v}')"
    if type(v) is slice:
        return f"slice({', '.join(parameter(p, helpers) for p in (v.start, v.stop, v.step))})"
    if type(v) in (tuple, list):
        parts = ", ".join([parameter(p, helpers) for p in v])
        return f"[{parts}]" if type(v) is list else f"({parts},)" if len(v) == 1 else f"({parts})"
    name = "ARRAY" if v is ARRAY else f"p{len(helpers)}"
    helpers[name] = v
    return name


def function_name(op: Op, helpers: dict) -> str:
    """NumPy's own name, or that of a helper."""
    function: Any = op.function
    name = getattr(function, "__name__", op.name)
    if getattr(numpy, name, None) is function:
        return f"np.{name}"
    base = name = op.name if op.name.isidentifier() else "function"
    i = 1
    while helpers.get(name, function) is not function:
        i += 1
        name = f"{base}_{i}"
    helpers[name] = function
    return name
