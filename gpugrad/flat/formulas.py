"""Operations of a program as formulas with a CUDA text (kernels/expression.py)."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy

from gpugrad.flat.ir import Op, Value
from gpugrad.kernels.expression import OPERATIONS, SYMBOLS, TRUTHS, Expression, Symbols
from gpugrad.kernels.gelu import FORMULAS as GELU
from gpugrad.kernels.geometry import FLOATS

Formula = Callable[..., Any]


def same(x: Any) -> Any:
    return x


def clip(x: Any, low: Any, high: Any) -> Any:
    x = x if low is None else SYMBOLS.maximum(x, low)
    return x if high is None else SYMBOLS.minimum(x, high)


#: What SYMBOLS does not have under the primitive's name.
MORE: dict[str, Formula] = {
    "alias": same, "spread": same, "astype": same,
    "relu": lambda x: SYMBOLS.where(x < 0, 0, x),
    "relu_pull": lambda g, y: SYMBOLS.where(y > 0, g, 0),
    **{name: partial(f, SYMBOLS) for name, f in GELU.items()},
    "clip": clip,
    "bitwise_and": SYMBOLS.logical_and, "bitwise_or": SYMBOLS.logical_or, "bitwise_xor": SYMBOLS.logical_xor,
    "invert": SYMBOLS.logical_not,
}
ON_TRUTHS = frozenset({"bitwise_and", "bitwise_or", "bitwise_xor", "invert", "logical_and", "logical_or", "logical_xor",
                       "logical_not"})
NOT_FORMULAS = frozenset({"conj", "real", "same", "like", "power"})       # names of SYMBOLS that are not operations by element


def formula(name: str) -> Formula | None:
    """The formula of a primitive; None where there is none."""
    if name in MORE:
        return MORE[name]
    if name == "power" or name in OPERATIONS or (hasattr(Symbols, name) and name not in NOT_FORMULAS and name[0] != "_"):
        return getattr(SYMBOLS, name)
    return None


def is_truth(op: Op) -> bool:
    return op.outputs[0].dtype == bool


def expressible(op: Op) -> bool:
    """Whether the operation is by element, of floats of one dtype and truth values, and has a formula."""
    y = op.outputs[0]
    if formula(op.name) is None or set(op.params) - {"dtype", "shape"} or not any(True for _ in op.values):
        return False
    if any(x is not None and not isinstance(x, Value | bool | int | float) for x in op.args):
        return False
    floats = [x for x in (*op.values, y) if x.dtype != bool]
    if any(x.dtype.char not in FLOATS or x.dtype != floats[0].dtype for x in floats):
        return False
    truths = [x for x in op.values if x.dtype == bool]
    if op.name in ON_TRUTHS:
        return not floats and all(isinstance(x, Value) for x in op.args)
    if op.name == "astype" and truths:
        return y.dtype.char in FLOATS
    if op.name in ("where", "masked"):
        mask = op.args[0 if op.name == "where" else 1]
        return truths == [mask] and y.dtype != bool
    if op.name in ("equal", "not_equal") or not truths:
        return not truths and (y.dtype != bool or op.name in TRUTHS)
    return False


def expression_of(op: Op, of: Callable[[Value], Expression]) -> Any:
    """The operation's formula, `of` its arguments."""
    if op.name == "astype" and op.args[0].dtype == bool:
        return SYMBOLS.where(of(op.args[0]), 1, 0)
    function = formula(op.name)
    assert function is not None
    return function(*[of(x) if isinstance(x, Value) else x for x in op.args])


def uniform(array: numpy.ndarray) -> float | None:
    """The number that a constant consists of; None where it is no one number."""
    if array.dtype.kind != "f" or not array.size:
        return None
    first = array[(0,) * array.ndim]
    same_everywhere = not any(array.strides) or array.size == 1 or (array.size <= 8192 and bool((array == first).all()))
    return float(first) if same_everywhere and numpy.isfinite(first) else None
