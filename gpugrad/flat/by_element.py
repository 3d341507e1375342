"""Operations that loops do as simpler ones, by element. Each gets the Writer of `expand.py` in front.

FITS[name](op) says where; elsewhere NumPy does the operation as it is.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from gpugrad.flat.ir import Op, Value

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
