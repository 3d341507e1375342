"""Formulas as expression trees, and their CUDA C++ text.

A rule is a function over a namespace `m`. Run with m = SYMBOLS on `Leaf`s, it returns the tree of its own formula, which
`Body` writes down as C:

    y, g = Leaf("y"), Leaf("g")
    Body([(1 - y * y) * g]).lines        ->  const A _0 = y * y; const A _1 = A(1) - _0; const A _2 = _1 * g;

Values are real numbers of the type A that the kernel computes in, or truth values. What has no text here (complex numbers,
shapes, a branch on a value) raises `Inexpressible`, and the caller runs the formula on arrays instead.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy

from gpugrad.errors import GpugradError

LITERALS = frozenset({-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0})      # written out; other numbers are arguments


class Inexpressible(GpugradError, TypeError):
    """A formula that has no CUDA text."""


class Expression:
    """A node of a formula: an operation of OPERATIONS over Expressions."""

    __slots__ = ("op", "parts", "truth")
    __array_ufunc__ = None
    dtype = numpy.dtype("float64")           # rules ask for its kind alone

    def __init__(self, op: str, parts: Sequence[Any] = ()):
        self.op = op
        self.parts = tuple(expression(p) for p in parts)
        self.truth = op in TRUTHS

    def refuse(self, *args: Any) -> NoReturn:
        raise Inexpressible(f"expression: expected a formula without branches on values, got one on {self.op}. Use m.where.")

    def __getattr__(self, name: str) -> NoReturn:
        raise Inexpressible(f"expression: expected a formula of values, got one that asks for .{name}. Run it on arrays.")

    __bool__ = __float__ = __int__ = __index__ = __len__ = __iter__ = refuse

    def __pow__(self, other: Any) -> Expression:
        return power(self, other)

    def __rpow__(self, other: Any) -> Expression:
        return power(expression(other), self)

    __hash__ = object.__hash__


class Leaf(Expression):
    """An array's element, by the name of the array."""

    __slots__ = ("name",)

    def __init__(self, name: str, truth: bool = False):
        super().__init__("leaf")
        self.name, self.truth = name, truth


class Number(Expression):
    """A Python number in a formula."""

    __slots__ = ("value",)

    def __init__(self, value: float):
        super().__init__("number")
        self.value = value


def expression(x: Any) -> Expression:
    if isinstance(x, Expression):
        return x
    if isinstance(x, bool | int | float):
        try:
            return Number(float(x))
        except OverflowError:
            pass
    raise Inexpressible(f"expression: expected a real number or an Expression, got {type(x).__name__}. Run it on arrays.")


# operations: the C text of each -------------------------------------------------------------------------------------------

UNARY = {name: name for name in (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "cbrt", "sin", "cos", "tan", "sinh", "cosh", "tanh",
    "floor", "ceil", "trunc", "rint", "erf", "erfc", "isnan", "isinf", "isfinite")} | {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh",
    "abs": "fabs", "absolute": "fabs", "fabs": "fabs", "sign": "sign_of"}
BINARY = {name: name for name in ("hypot", "copysign", "nextafter", "fmod", "fmax", "fmin", "ahead", "floor_divide")} | {
    "arctan2": "atan2", "maximum": "larger", "minimum": "smaller", "remainder": "remainder_of", "float_power": "pow"}

OPERATIONS = {name: f"{c}({{}})" for name, c in UNARY.items()} | {name: f"{c}({{}}, {{}})" for name, c in BINARY.items()} | {
    "add": "{} + {}", "subtract": "{} - {}", "multiply": "{} * {}", "divide": "{} / {}", "negative": "-{}",
    "reciprocal": "A(1) / {}", "where": "{} ? {} : {}",
    "less": "{} < {}", "less_equal": "{} <= {}", "greater": "{} > {}", "greater_equal": "{} >= {}", "equal": "{} == {}",
    "not_equal": "{} != {}", "logical_and": "{} && {}", "logical_or": "{} || {}", "logical_xor": "{} != {}",
    "logical_not": "!{}"}

COMPARES = frozenset({"less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "isnan", "isinf", "isfinite"})
LOGIC = frozenset({"logical_and", "logical_or", "logical_xor", "logical_not"})
TRUTHS = COMPARES | LOGIC

INFIX = {"add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide", "mod": "remainder",
         "and": "logical_and", "or": "logical_or", "xor": "logical_xor"}


def operator(op: str, swapped: bool = False) -> Callable:
    def apply(a: Expression, b: Any) -> Expression:
        return Expression(op, (b, a) if swapped else (a, b))
    return apply


for _name, _op in INFIX.items():
    setattr(Expression, f"__{_name}__", operator(_op))
    setattr(Expression, f"__r{_name}__", operator(_op, swapped=True))
for _name, _op in {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal", "eq": "equal",
                   "ne": "not_equal"}.items():
    setattr(Expression, f"__{_name}__", operator(_op))
for _name, _op in {"neg": "negative", "abs": "abs", "invert": "logical_not"}.items():
    setattr(Expression, f"__{_name}__", lambda a, op=_op: Expression(op, (a,)))


def power(a: Expression, b: Any) -> Expression:
    """a ** b; small whole exponents as products, as NumPy has them for 2 and gpugrad for 3 and 4."""
    if isinstance(b, int | float) and b in (1, 2, 3, 4):
        square: Any = Expression("multiply", (a, a))
        return {1: a, 2: square, 3: square * a, 4: square * square}[int(b)]
    return Expression("float_power", (a, b))


# the namespace ------------------------------------------------------------------------------------------------------------

class Symbols:
    """The namespace `m` under which a rule returns Expressions."""

    def __getattr__(self, name: str) -> Callable:
        if name not in OPERATIONS:
            raise Inexpressible(f"expression: expected an operation that has a CUDA text, got {name!r}. Run it on arrays.")

        def apply(*parts: Any) -> Expression:
            return Expression(name, parts)
        setattr(self, name, apply)
        return apply

    @staticmethod
    def same(x: Any, *like: Any) -> Any:
        return x

    conj = real = positive = like = same

    @staticmethod
    def square(x: Any) -> Any:
        return x * x

    @staticmethod
    def one_minus_square(x: Any) -> Any:
        return (1 - x) * (1 + x)

    @staticmethod
    def power(a: Any, b: Any) -> Any:
        return power(expression(a), b)

    @staticmethod
    def unit_step(x: Any) -> Any:
        return Expression("where", (x > 0, 1, 0))

    @staticmethod
    def masked(x: Any, keep: Any) -> Any:
        return Expression("where", (keep, x, 0))

    @staticmethod
    def scale_shift(x: Any, scale: Any, shift: Any) -> Any:
        return x * scale + shift

    def sigmoid(self, x: Any) -> Any:
        e = self.exp(-abs(x))
        return self.where(x < 0, e, 1) / (1 + e)

    def softplus(self, x: Any) -> Any:
        return self.maximum(x, 0) + self.log1p(self.exp(-abs(x)))

    def silu(self, x: Any) -> Any:
        return x * self.sigmoid(x)

    def silu_slope(self, x: Any) -> Any:
        s = self.sigmoid(x)
        return s * (1 + x * (1 - s))

    def leaky_relu(self, x: Any, a: Any) -> Any:
        return self.maximum(x, 0) + self.minimum(x, 0) * a

    def elu(self, x: Any, a: Any) -> Any:
        return self.maximum(x, 0) + self.expm1(self.minimum(x, 0)) * a


SYMBOLS = Symbols()


# text ---------------------------------------------------------------------------------------------------------------------

class Body:
    """The C statements that compute several formulas for one element, common parts once.

    inputs    names of the Leafs that are read, in order of their first use
    lines     statements; the value of a Leaf stands in a variable of its name
    results   the C name of each formula's value, which has the type A
    numbers   values of the arguments `_c0`, `_c1`, ... of type A: numbers that are not in LITERALS
    """

    def __init__(self, formulas: Sequence[Expression]):
        self.inputs: list[str] = []
        self.lines: list[str] = []
        self.numbers: list[float] = []
        self._names: dict[Any, str] = {}
        self.results = [self.real(f, self.name(f)) for f in formulas]

    def name(self, top: Expression) -> str:
        """The variable that holds a formula's value; its statements are written on the way, without recursion."""
        todo = [top]
        while todo:
            node = todo[-1]
            missing = [p for p in node.parts if id(p) not in self._names]
            if missing:
                todo.extend(reversed(missing))
                continue
            todo.pop()
            if id(node) not in self._names:
                self._names[id(node)] = self.written(node)
        return self._names[id(top)]

    def written(self, node: Expression) -> str:
        if isinstance(node, Leaf):
            if node.name not in self.inputs:
                self.inputs.append(node.name)
            return node.name
        if isinstance(node, Number):
            return self.number(node.value)
        parts = [self._names[id(p)] for p in node.parts]
        if node.op in LOGIC:
            parts = [name if p.truth else self.variable("bool", f"{name} != A(0)") for p, name in zip(node.parts, parts)]
        elif node.op == "where":
            parts = [parts[0] if node.parts[0].truth else self.variable("bool", f"{parts[0]} != A(0)"),
                     *(self.real(p, name) for p, name in zip(node.parts[1:], parts[1:]))]
        else:
            parts = [self.real(p, name) for p, name in zip(node.parts, parts)]
        return self.variable("bool" if node.truth else "A", OPERATIONS[node.op].format(*parts))

    def real(self, node: Expression, name: str) -> str:
        return f"A({name})" if node.truth else name

    def variable(self, c_type: str, text: str) -> str:
        """The name of a variable with that text; the same text is computed once."""
        known = self._names.get(text)
        if known is None:
            known = self._names[text] = f"_{len(self.lines)}"
            self.lines.append(f"const {c_type} {known} = {text};")
        return known

    def number(self, value: float) -> str:
        if value in LITERALS and math.copysign(1, value) == (1 if value >= 0 else -1):
            return f"A({value:g})"
        if ("number", repr(value)) not in self._names:
            self._names["number", repr(value)] = f"_c{len(self.numbers)}"
            self.numbers.append(value)
        return self._names["number", repr(value)]
