"""Operations that loops do as simpler ones, by element. Each gets the Writer of `expand.py` in front.

FITS[name](op) says where; elsewhere NumPy does the operation as it is.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from gpugrad.flat.elements import fusable
from gpugrad.flat.ir import Op, Value, pure
from gpugrad.flat.llvm import HALF, has_halves

#: Matrices up to this length and width are multiplied by element, where there are at least so many pairs of them.
SHORT, MANY = 8, 16


def matmul(w: Any, x: Value, y: Value) -> None:
    """Many small matrices: the sum over k of column times row. BLAS and NumPy take longer to begin than to multiply these."""
    batch = numpy.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    total: Any = None
    for k in range(x.shape[-1]):
        column = w.make("getitem", (x,), (*x.shape[:-1], 1), x.dtype, index=(..., slice(None), slice(k, k + 1)))
        row = w.make("getitem", (y,), (*y.shape[:-2], 1, y.shape[-1]), y.dtype, index=(..., slice(k, k + 1), slice(None)))
        part = w.make("multiply", (column, row), (*batch, x.shape[-2], y.shape[-1]), x.dtype)
        total = part if total is None else w.add(total, part)
    w.give(total)


def is_small(op: Op) -> bool:
    if len(op.values) != 2 or any(x.ndim < 3 for x in op.values):
        return False
    x, y = op.values
    pairs = [math.prod(v.shape[:-2]) for v in (x, y)]
    return min(pairs) >= MANY and max(*x.shape[-2:], y.shape[-1]) <= SHORT


def round_to(w: Any, x: Value, decimals: int) -> None:
    if not decimals:
        w.give(w.rint(x))
    elif decimals > 0:
        w.give(w.divide(w.rint(w.multiply(x, 10.0 ** decimals)), 10.0 ** decimals))
    else:
        w.give(w.multiply(w.rint(w.divide(x, 10.0 ** -decimals)), 10.0 ** -decimals))


def nan_to_num(w: Any, x: Value, nan: float, posinf: float | None, neginf: float | None) -> None:
    most = float(numpy.finfo(x.dtype).max)
    for name, limit, new in (("isnan", (), nan), ("equal", (math.inf,), most if posinf is None else posinf),
                             ("equal", (-math.inf,), -most if neginf is None else neginf)):
        x = w.make("where", (w.compare(name, x, *limit), new, x), x.shape, x.dtype)
    w.give(x)


RULES: dict[str, Callable[..., None]] = {"matmul": matmul, "round": round_to, "nan_to_num": nan_to_num}
FITS: dict[str, Callable[[Op], bool]] = {
    "matmul": is_small,
    "round": lambda op: abs(op.params["decimals"]) <= 22,          # powers of ten that are exact
    "nan_to_num": lambda op: all(type(v) in (int, float, type(None)) for v in op.params.values()),
}


# float16, which is computed in float32 and rounded after each operation, as NumPy does it ------------------------------------

def in_single(op: Op) -> bool:
    """Whether loops can do an operation on float16 so."""
    if not pure(op) or len(op.outputs) != 1 or HALF not in [x.dtype for x in (*op.values, *op.outputs)] or not op.outputs[0].size:
        return False
    y = op.outputs[0]
    if fusable(op) or not has_halves() or (y.dtype == HALF and any(x.dtype.itemsize > 4 for x in op.values)):
        return False                                       # float64 would be rounded twice
    args = [Value(x.number, x.shape, widened(x.dtype)) if isinstance(x, Value) else x for x in op.args]
    return fusable(Op(op.name, args, op.params, (Value(y.number, y.shape, widened(y.dtype)),)))


def single(w: Any, *args: Any, **params: Any) -> None:
    y = w.op.outputs[0]
    exponent = w.op.name == "power"
    args = tuple([w.cast(x, widened(x.dtype)) if isinstance(x, Value) else x if exponent else rounded(x) for x in args])
    params = {name: widened(numpy.dtype(v)) if name == "dtype" and v is not None else v for name, v in params.items()}
    wide = w.make(w.op.name, args, y.shape, widened(y.dtype), **params)
    w.give(w.cast(wide, y.dtype))


def widened(dtype: numpy.dtype) -> numpy.dtype:
    return numpy.dtype("f4") if dtype == HALF else dtype


def rounded(x: Any) -> Any:
    """A number beside float16 is one itself."""
    if type(x) not in (int, float):
        return x
    with numpy.errstate(over="ignore"):
        return float(HALF.type(x))
