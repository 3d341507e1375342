"""What each elementwise operation does to one element, or to a vector of them, as LLVM instructions.

ELEMENTWISE[name](b, *xs) gets values of one element type, that of the result, or, where it compares, that which its operands
have in common. A Python number among the arguments has become a constant by then, except the exponent of a power.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy

from gpugrad.flat.division import floor_divide, fmod, remainder
from gpugrad.flat.ir import Op, Value
from gpugrad.flat.llvm import ELEMENTS, HALF, Body, Node, element_of, has_halves
from gpugrad.flat.vector_math import FUNCTIONS, apply
from gpugrad.graph.namespace import PRIMITIVES
from gpugrad.kernels.gelu import FORMULAS as GELU


def f(name: str) -> Callable:
    return lambda b, x: apply(b, name, x)


def intrinsic(name: str) -> Callable:
    return lambda b, *xs: b.intrinsic(name, *xs)


def compare(floats: str, integers: str) -> Callable:
    return lambda b, x, y: x.compare(floats if x.is_float else integers, y)


def choose(b: Body, c: Node, x: Any, y: Any) -> Node:
    return c.where(x, y)


def power(b: Body, x: Node, n: int | float) -> Node:
    """x**n for the exponents that `fusable` lets through."""
    if n < 0:
        return 1.0 / power(b, x, -n)
    if n == 0.5:
        return b.intrinsic("sqrt", x)
    square = x * x
    return x if n == 1 else square if n == 2 else square * x if n == 3 else square * square


def silu_slope(b: Body, x: Node) -> Node:
    s = apply(b, "sigmoid", x)
    return s * ((1.0 - s) * x + 1.0)


def softplus(b: Body, x: Node) -> Node:
    return apply(b, "log1p", apply(b, "exp", -b.intrinsic("fabs", x))) + relu(b, x)


def relu(b: Body, x: Node) -> Node:
    return x.compare("olt", 0.0).where(0.0, x) if x.is_float else x.compare("slt", 0).where(0, x)


class Namespace:
    """The operations below as m.<name>, for formulas."""

    def __init__(self, b: Body):
        self.body = b

    def __getattr__(self, name: str) -> Callable:
        return functools.partial(ELEMENTWISE[name], self.body)


def by_formula(formula: Callable) -> Callable:
    return lambda b, *xs: formula(Namespace(b), *xs)


def logaddexp(b: Body, x: Node, y: Node) -> Node:
    """max + log1p(exp(-|x - y|)); of equal ones, infinities too, x + log(2)."""
    apart = b.intrinsic("fabs", x - y)
    sum_ = b.intrinsic("maximum", x, y) + apply(b, "log1p", apply(b, "exp", -apart))
    return x.compare("oeq", y).where(x + math.log(2), sum_)


def hypot(b: Body, x: Node, y: Node) -> Node:
    """Of the larger one, so that no square overflows. Infinite beside NaN too."""
    x, y = b.intrinsic("fabs", x), b.intrinsic("fabs", y)
    large, small = b.intrinsic("maximum", x, y), b.intrinsic("minimum", x, y)
    part = small / large
    size = large.compare("oeq", 0.0).where(0.0, large * b.intrinsic("sqrt", part * part + 1.0))
    return (x.compare("oeq", math.inf) | y.compare("oeq", math.inf)).where(math.inf, size)


def sign(b: Body, x: Node) -> Node:
    return x.compare("ogt", 0.0).where(1.0, x.compare("olt", 0.0).where(-1.0, x.compare("oeq", 0.0).where(0.0, x)))


def heaviside(b: Body, x: Node, half: Node) -> Node:
    return x.compare("oeq", 0.0).where(half, x.compare("ogt", 0.0).where(1.0, x.compare("olt", 0.0).where(0.0, x)))


def elu(b: Body, x: Node, a: Node) -> Node:
    return x.compare("ogt", 0.0).where(x, apply(b, "expm1", x) * a + 0.0)        # 0 at -0, where the array function adds 0


def either(floats: str, integers: str) -> Callable:
    return lambda b, x, y: b.intrinsic(floats if x.is_float else integers, x, x.like(y))


def absolute(b: Body, x: Node) -> Node:
    return b.intrinsic("fabs", x) if x.is_float else x.compare("slt", 0).where(-x, x)


def ahead(b: Body, x: Node, y: Node) -> Node:
    return x.compare("oeq", y).where(0.5, x.compare("ogt", y).where(1.0, x.like(0.0)))


def negated(b: Body, x: Node) -> Node:
    return x ^ 1


def clip(b: Body, x: Node, low: Node | None, high: Node | None) -> Node:
    x = x if low is None else b.intrinsic("maximum", x, low)
    return x if high is None else b.intrinsic("minimum", x, high)


def same(b: Body, x: Node) -> Node:
    return x


ELEMENTWISE: dict[str, Callable[..., Node]] = {
    "add": lambda b, x, y: x + y,
    "subtract": lambda b, x, y: x - y,
    "multiply": lambda b, x, y: x * y,
    "divide": lambda b, x, y: x / y,
    "negative": lambda b, x: -x,
    "positive": same, "alias": same, "astype": same, "spread": same, "conj": same, "real": same,
    "reciprocal": lambda b, x: 1.0 / x,
    "square": lambda b, x: x * x,
    "one_minus_square": lambda b, x: (x.like(1.0) - x) * (x + 1.0),
    "power": power,
    "sqrt": intrinsic("sqrt"), "abs": absolute, "absolute": absolute, "fabs": intrinsic("fabs"), "sign": sign,
    "floor_divide": floor_divide, "remainder": remainder, "fmod": fmod,
    "heaviside": heaviside, "hypot": hypot, "logaddexp": logaddexp, "elu": elu,
    "deg2rad": lambda b, x: x * (math.pi / 180), "rad2deg": lambda b, x: x * (180 / math.pi),
    "floor": intrinsic("floor"), "ceil": intrinsic("ceil"), "trunc": intrinsic("trunc"), "rint": intrinsic("rint"),
    "maximum": either("maximum", "smax"), "minimum": either("minimum", "smin"), "copysign": intrinsic("copysign"),
    **{name: f(name) for name in FUNCTIONS},
    "silu": lambda b, x: apply(b, "sigmoid", x) * x,
    "silu_slope": silu_slope,
    "softplus": softplus,
    "relu": relu,
    "relu_pull": lambda b, g, y: y.compare("ogt", 0.0).where(g, 0.0),
    "unit_step": lambda b, x: x.compare("ogt", 0.0).where(1.0, x.like(0.0)),
    "leaky_relu": lambda b, x, a: x.compare("ogt", 0.0).where(x, x * a),
    **{name: by_formula(formula) for name, formula in GELU.items()},
    "scale_shift": lambda b, x, scale, shift: x * scale + shift,
    "ahead": ahead,
    "clip": clip,
    "where": choose,
    "masked": lambda b, x, c: c.where(x, 0.0 if x.is_float else 0),
    "equal": compare("oeq", "eq"), "not_equal": compare("une", "ne"),
    "less": compare("olt", "slt"), "less_equal": compare("ole", "sle"),
    "greater": compare("ogt", "sgt"), "greater_equal": compare("oge", "sge"),
    "discretise": lambda b, x: x.compare("une" if x.is_float else "ne", 0),
    "isnan": lambda b, x: x.compare("uno", x),
    "isfinite": lambda b, x: b.intrinsic("fabs", x).compare("olt", math.inf),
    "isinf": lambda b, x: b.intrinsic("fabs", x).compare("oeq", math.inf),
    "logical_and": lambda b, x, y: x & y, "bitwise_and": lambda b, x, y: x & y,
    "logical_or": lambda b, x, y: x | y, "bitwise_or": lambda b, x, y: x | y,
    "logical_xor": lambda b, x, y: x ^ y, "bitwise_xor": lambda b, x, y: x ^ y,
    "logical_not": negated, "invert": negated,
}
COMPARISONS = frozenset(("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isnan", "isfinite", "isinf",
                         "discretise"))
LOGIC = frozenset(("logical_and", "bitwise_and", "logical_or", "bitwise_or", "logical_xor", "bitwise_xor", "logical_not",
                   "invert"))
ON_INTEGERS = frozenset(("add", "subtract", "multiply", "negative", "positive", "square", "abs", "absolute", "maximum", "minimum",
                         "where", "masked", "alias", "spread", "astype", "relu", "one_hot", "conj", "real",
                         "floor_divide", "remainder", "fmod"))
ON_BOOLS = frozenset(("where", "masked", "alias", "spread"))
FLOATS_ONLY = frozenset(("isnan", "isfinite", "isinf"))
MASK_AT = {"where": 0, "masked": 1}
POWERS = (2, 3, 4, 1, 0.5, -1, -2, -0.5)


def compute_dtype(op: Op) -> Any:
    """The dtype in which the operation computes."""
    if op.name in COMPARISONS:
        return numpy.result_type(*[x.dtype if isinstance(x, Value) else x for x in op.args])
    return op.outputs[0].dtype


def ours(op: Op) -> bool:
    """Whether the operation is the package's own: users' primitives may have the same name."""
    return op.function is None or op.function is PRIMITIVES[op.name].impls[numpy.ndarray]


def fusable(op: Op) -> bool:
    """Whether ELEMENTWISE has the operation, for its dtypes and parameters."""
    name, y = op.name, op.outputs[0] if len(op.outputs) == 1 else None
    if y is None or name not in ELEMENTWISE:
        return False
    if HALF in (y.dtype, *[x.dtype for x in op.values]):
        single = name == "astype" and {y.dtype.name, op.values[0].dtype.name} == {"float16", "float32"}
        return single and ours(op) and has_halves()
    if any(x.dtype not in ELEMENTS for x in (*op.values, y)):
        return False
    if (op.params and set(op.params) - {"dtype", "shape"}) or not op.values or not ours(op):
        return False
    kinds = {x.dtype.kind for i, x in enumerate(op.args) if isinstance(x, Value) and MASK_AT.get(name) != i}
    if name in MASK_AT:
        mask = op.args[MASK_AT[name]]
        if not isinstance(mask, Value) or mask.dtype != bool:
            return False
    if name in LOGIC:
        return kinds == {"b"} and y.dtype == bool and all(isinstance(x, Value) for x in op.args)
    if name in COMPARISONS:
        return y.dtype == bool and comparable(op, kinds)
    if y.dtype == bool:
        return name in ON_BOOLS and kinds == {"b"}
    if name == "power":
        return y.dtype.kind == "f" and kinds == {"f"} and type(op.args[1]) in (int, float) and op.args[1] in POWERS
    if y.dtype.kind == "f":
        return True
    return name in ON_INTEGERS and y.dtype.kind == "i" and kinds <= {"i", "b"} and all(
        x.dtype.itemsize <= y.dtype.itemsize for x in op.values)


def comparable(op: Op, kinds: set[str]) -> bool:
    """Whether the operands have a dtype in common in which each is what it was."""
    numbers = [x for x in op.args if not isinstance(x, Value)]
    if any(isinstance(x, complex) or (kinds != {"f"} and not -2**31 <= x < 2**31) for x in numbers):
        return False
    kind = compute_dtype(op).kind
    if op.name in FLOATS_ONLY or kind == "f":
        return kind == "f" and kinds <= {"f", "i", "b"}
    return kind in "ib" and all(isinstance(x, Value) or -128 <= x < 128 or compute_dtype(op).itemsize > 2 for x in op.args)


def converted(x: Node, element: str) -> Node:
    """x as another element type. From floats to integers is not offered: LLVM leaves it undefined out of range."""
    if x.element == element:
        return x
    if x.is_float:
        return x.body.cast("fpext" if int(element[1:]) > int(x.element[1:]) else "fptrunc", x, element)
    unsigned = x.element == "i1"
    if element in ("f32", "f64"):
        return x.body.cast("uitofp" if unsigned else "sitofp", x, element)
    return x.body.cast("zext" if unsigned else "sext", x, element)


def written(b: Body, op: Op, get: Callable[[Value], Node], lanes: int) -> Node:
    """The instructions of one operation; `get` finds the value of an argument with that many lanes."""
    element = element_of(compute_dtype(op))
    if op.name in COMPARISONS and element == "i1":           # whose 1 is below its 0
        element = "i8"
    xs: list[Any] = []
    for i, x in enumerate(op.args):
        if isinstance(x, Value):
            xs.append(get(x) if MASK_AT.get(op.name) == i else converted(get(x), element))
        elif x is None or op.name == "power":
            xs.append(x)
        else:
            xs.append(b.constant(x, element, lanes))
    return ELEMENTWISE[op.name](b, *xs)
