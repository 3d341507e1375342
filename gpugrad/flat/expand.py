"""Losses, norms and index arrays as elementwise operations, reductions and readings, so that `fuse.py` need not know them.

The NumPy program calls their twins; softmax, mean and linear are written out while tracing, for both emitters
(`symbol.WRITTEN_OUT`). What goes over rows comes out as loops of two or three passes because of what it is made of. Index
arrays become one array of checked row numbers, which all that use them share.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy

from gpugrad.arrays.levelled import layout, row_numbers
from gpugrad.flat import by_element
from gpugrad.flat.dead_code import checked, reached
from gpugrad.flat.elements import fusable, ours
from gpugrad.flat.fuse import REDUCTIONS, implied, reduced
from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.flat.llvm import ELEMENTS
from gpugrad.kernels.cross_entropy import check_labels

#: Operations that are there for what they look at, if nothing reads them.
LOOKS = frozenset(("check_labels", "row_numbers"))
#: Constants of up to this many elements are looked through.
SMALL = 8192


class Writer:
    """Makes operations in place of one: w.add(x, y) is the Value of a sum. `give` names the results of the whole."""

    def __init__(self, number: Iterator[int], op: Op, shared: dict[Any, Value]):
        self.number, self.op, self.shared = number, op, shared
        self.ops: list[Op] = []
        self.results: dict[Value, Value] = {}

    def make(self, name: str, args: tuple, shape: tuple, dtype: Any, /, **params: Any) -> Value:
        op = Op(name, args, params, line=self.op.line, forward=self.op.forward)
        op.outputs = (Value(next(self.number), shape, dtype, op),)
        self.ops.append(op)
        return op.outputs[0]

    def __getattr__(self, name: str) -> Callable:
        """An elementwise operation in the dtype of its first argument that has one."""
        def elementwise(*args: Any) -> Value:
            values = [x for x in args if isinstance(x, Value)]
            return self.make(name, args, numpy.broadcast_shapes(*[x.shape for x in values]), values[0].dtype)
        return elementwise

    def compare(self, name: str, *args: Value) -> Value:
        return self.make(name, args, args[0].shape, bool)

    def reduce(self, name: str, x: Value, axis: tuple[int, ...], keepdims: bool = True) -> Value:
        kept = tuple([1 if i in axis else n for i, n in enumerate(x.shape)])
        shape = kept if keepdims else tuple([n for i, n in enumerate(x.shape) if i not in axis])
        return self.make(name, (x,), shape, x.dtype, axis=axis, keepdims=keepdims)

    def reshape(self, x: Value, shape: tuple[int, ...]) -> Value:
        return x if x.shape == shape else self.make("reshape", (x,), shape, x.dtype, shape=shape)

    def column(self, x: Value) -> Value:
        return self.reshape(x, (*x.shape, 1))

    def cast(self, x: Value, dtype: Any) -> Value:
        return x if x.dtype == dtype else self.make("astype", (x,), x.shape, dtype, dtype=dtype)

    def once(self, name: str, args: tuple, shape: tuple, dtype: Any, /, **params: Any) -> Value:
        """What an operation before has made of the same, else a new operation."""
        key = name, args, *params.values()
        if key not in self.shared:
            self.shared[key] = self.make(name, args, shape, dtype, **params)
        return self.shared[key]

    def maker(self, value: Value) -> Op:
        return next(op for op in self.ops if value in op.outputs)

    def give(self, *values: Value) -> None:
        """The outputs of the operation are these: the last operation of each makes it."""
        for out, value in zip(self.op.outputs, values, strict=True):
            if value.op not in self.ops or value in self.results:
                value = self.make("alias", (value,), value.shape, value.dtype)
            self.results[value] = out
            self.maker(value).outputs = (out,)
        for op in self.ops:
            op.read([self.results.get(x, x) if isinstance(x, Value) else x for x in op.args])


def length(x: Value, axis: tuple[int, ...]) -> int:
    return math.prod(x.shape[a] for a in axis)


def one_hot(w: Writer, labels: Value, like: Value) -> Value:
    return w.make("one_hot", (labels,), like.shape, bool, classes=like.shape[-1])


def cross_entropy(w: Writer, x: Value, labels: Value, smoothing: float = 0.0) -> None:
    last = (x.ndim - 1,)
    check = Op("check_labels", (labels,), {"classes": x.shape[-1]}, line=w.op.line, forward=w.op.forward)
    w.ops.append(check)
    z = w.subtract(x, w.reduce("max", x, last))
    e = w.exp(z)
    total = w.reduce("sum", e, last)
    hot = one_hot(w, labels, x)
    target = w.reduce("sum", w.make("masked", (z, hot), x.shape, x.dtype), last)
    if smoothing:
        mean = w.multiply(w.reduce("sum", z, last), smoothing / x.shape[-1])
        target = w.add(w.multiply(target, 1 - smoothing), mean)
    loss = w.reshape(w.subtract(w.log(total), target), labels.shape)
    w.give(loss, w.multiply(e, w.reciprocal(total)))         # a division for each element would take as long as exp


def cross_entropy_pull(w: Writer, g: Value, p: Value, labels: Value, smoothing: float = 0.0) -> None:
    part = w.cast(one_hot(w, labels, p), p.dtype)
    if smoothing:
        part = w.add(w.multiply(part, 1 - smoothing), smoothing / p.shape[-1])
    w.give(w.multiply(w.subtract(p, part), w.column(w.cast(g, p.dtype))))


def standardize(w: Writer, x: Value, axis: tuple, eps: float, centre: bool = True) -> None:
    n = length(x, axis)
    mean = w.divide(w.reduce("sum", x, axis), n)
    d = w.subtract(x, mean) if centre else x
    r = w.reciprocal(w.sqrt(w.add(w.divide(w.reduce("sum", w.multiply(d, d), axis), n), eps)))
    w.give(w.multiply(d, r), r, mean if centre else w.make("masked", (r, w.compare("less", r, r)), r.shape, r.dtype))


def standardize_pull(w: Writer, g: Value, n: Value, r: Value, axis: tuple, centre: bool = True) -> None:
    count = length(n, axis)
    dx = w.subtract(g, w.multiply(n, w.divide(w.reduce("sum", w.multiply(g, n), axis), count)))
    if centre:
        dx = w.subtract(dx, w.divide(w.reduce("sum", g, axis), count))
    w.give(w.multiply(dx, r))


def cross_entropy_push(w: Writer, s: Value, p: Value, labels: Value, smoothing: float = 0.0) -> None:
    last = (p.ndim - 1,)
    there = w.reduce("sum", w.make("masked", (s, one_hot(w, labels, s)), s.shape, s.dtype), last)
    change = w.subtract(w.reduce("sum", w.multiply(p, s), last), w.multiply(there, 1 - smoothing))
    if smoothing:
        change = w.subtract(change, w.multiply(w.reduce("sum", s, last), smoothing / p.shape[-1]))
    w.give(w.reshape(change, w.op.outputs[0].shape))


def var(w: Writer, x: Value, axis: tuple, correction: float, keepdims: bool) -> None:
    w.give(variance(w, x, axis, correction))


def std(w: Writer, x: Value, axis: tuple, correction: float, keepdims: bool) -> None:
    w.give(w.sqrt(variance(w, x, axis, correction)))


def variance(w: Writer, x: Value, axis: tuple, correction: float) -> Value:
    d = w.subtract(x, w.divide(w.reduce("sum", x, axis), length(x, axis)))
    total = w.reshape(w.reduce("sum", w.multiply(d, d), axis), w.op.outputs[0].shape)
    return w.divide(total, max(length(x, axis) - correction, 0))


def logsumexp(w: Writer, x: Value, axis: tuple, keepdims: bool) -> None:
    top = w.reduce("max", x, axis)
    top = w.make("where", (w.compare("isfinite", top), top, 0.0), top.shape, top.dtype)      # inf - inf is no number
    total = w.reduce("sum", w.exp(w.subtract(x, top)), axis)
    w.give(w.reshape(w.add(w.log(total), top), w.op.outputs[0].shape))


# index arrays ----------------------------------------------------------------------------------------------------------

def joined_rows(shape: tuple[int, ...], index: tuple, arrays: tuple) -> tuple[int, int, int, tuple, tuple] | None:
    """(before, rows, behind, index items, their lengths): the axes that arrays name as one, and those before and behind."""
    items = [item for item in index if item is not None]
    named = [i for i, item in enumerate(items) if not isinstance(item, slice)]
    apart = named[-1] - named[0] + 1 != len(named)
    if apart or layout(index)[0] or any(isinstance(x, slice) and x != slice(None) for x in items):
        return None
    lengths = shape[named[0]:named[-1] + 1]
    rest = iter(arrays)
    places = tuple([items[i] if isinstance(items[i], int) else next(rest) for i in named])
    rows = math.prod(lengths)
    if rows < 2 or math.prod(numpy.broadcast_shapes(*[x.shape for x in arrays])) < 2:
        return None
    return math.prod(shape[:named[0]]), rows, math.prod(shape[named[-1] + 1:]), places, lengths


def joined(shape: tuple[int, ...], index: tuple, arrays: tuple) -> tuple[int, int, int, tuple, tuple]:
    """joined_rows, where `expandable` has asked."""
    found = joined_rows(shape, index, arrays)
    assert found is not None
    return found


def rows_for(w: Writer, places: tuple, lengths: tuple[int, ...]) -> Value:
    """One int64 number for each row that is named, checked to be there."""
    shape = numpy.broadcast_shapes(*[x.shape for x in places if isinstance(x, Value)])
    return w.once("row_numbers", places, shape, numpy.int64, lengths=lengths)


def gather(w: Writer, x: Value, *arrays: Value, index: tuple) -> None:
    before, n, behind, places, lengths = joined(x.shape, index, arrays)
    rows = rows_for(w, places, lengths)
    w.give(w.make("gather_rows", (x, rows), w.op.outputs[0].shape, x.dtype, shape=(before, n, behind)))


def scatter_add(w: Writer, g: Value, *arrays: Value, index: tuple, shape: tuple[int, ...]) -> None:
    before, n, behind, places, lengths = joined(shape, index, arrays)
    rows = rows_for(w, places, lengths)
    chains = w.once("chains", (rows,), (n + rows.size,), numpy.int32, targets=n)
    w.give(w.make("scatter_rows", (g, chains), shape, g.dtype, shape=(before, rows.size, behind), to=(before, n, behind)))


def scatter_set(w: Writer, x: Value, v: Any, *arrays: Value, index: tuple) -> None:
    before, n, behind, places, lengths = joined(x.shape, index, arrays)
    rows = rows_for(w, places, lengths)
    lasts = w.once("lasts", (rows,), (n,), numpy.int32, targets=n)
    w.give(w.make("overlay_rows", (x, v, lasts), x.shape, x.dtype, shape=(before, rows.size, behind), to=(before, n, behind)))


def fills(v: Any, x: Value, index: tuple, arrays: tuple) -> bool:
    """Whether v is a number, or an array of all that the index names."""
    if not isinstance(v, Value):
        return isinstance(v, int | float) and abs(v) < 2**31
    joined = joined_rows(x.shape, index, arrays)
    count = math.prod(numpy.broadcast_shapes(*[a.shape for a in arrays]))
    return v.dtype == x.dtype and joined is not None and v.size == joined[0] * count * joined[2]


# reductions and broadcasts that no loop does as they are ------------------------------------------------------------------

def reduction(name: str) -> Callable[..., None]:
    """First over the last axes, as what makes x can be in that loop; then over what is left."""
    def write(w: Writer, x: Value, axis: tuple[int, ...], keepdims: bool) -> None:
        if all(x.shape[i] == 1 for i in axis):
            w.give(w.make("reshape", (x,), w.op.outputs[0].shape, x.dtype, shape=w.op.outputs[0].shape))
            return
        last = []
        for i in range(x.ndim - 1, -1, -1):
            if i not in axis and x.shape[i] != 1:
                break
            if i in axis:
                last.append(i)
        rest = tuple([i for i in axis if i not in last])
        if rest and any(x.shape[i] != 1 for i in last):
            x, axis = w.reduce(name, x, tuple(sorted(last))), rest
        shape = w.op.outputs[0].shape
        y = w.make(name, (x,), shape, x.dtype, axis=axis, keepdims=keepdims)
        if reduced(w.maker(y)) is None:
            w.ops.pop()
            y = w.make("fold", (x,), shape, x.dtype, axis=axis, how=name)
        w.give(y)
    return write


RULES: dict[str, Callable[..., None]] = {
    **{rule.__name__: rule for rule in (cross_entropy, cross_entropy_pull, cross_entropy_push, standardize, standardize_pull,
                                        var, std, logsumexp, gather, scatter_add, scatter_set)},
    **{name: reduction(name) for name in REDUCTIONS},
    **by_element.RULES,
}


def expandable(op: Op) -> bool:
    values = list(op.values)
    floats = [x for x in values if x.dtype.kind != "i"]
    if op.name not in RULES or not ours(op) or not all(x.size for x in (*values, *op.outputs)):
        return False
    if op.name in REDUCTIONS:
        x, y = values[0], op.outputs[0]
        return reduced(op) is None and x.dtype.name in ("float32", "float64") and y.dtype == x.dtype
    if op.name == "scatter_set":
        x, v, *arrays = op.args
        return (isinstance(x, Value) and x.dtype in ELEMENTS and all(a.dtype.kind == "i" for a in arrays)
                and joined_rows(x.shape, op.params["index"], tuple(arrays)) is not None
                and fills(v, x, op.params["index"], tuple(arrays)))
    if op.name in ("gather", "scatter_add"):
        shape = values[0].shape if op.name == "gather" else op.params["shape"]
        sums_bools = op.name == "scatter_add" and values[0].dtype == bool
        return (all(x.dtype.kind == "i" for x in values[1:]) and values[0].dtype in ELEMENTS and not sums_bools
                and joined_rows(shape, op.params["index"], tuple(values[1:])) is not None)
    if op.name in by_element.FITS and not (by_element.FITS[op.name](op) and op.outputs[0].dtype == values[0].dtype):
        return False
    return ({x.dtype.name for x in floats} in ({"float32"}, {"float64"})
            and (op.name.startswith("cross_entropy") or len(floats) == len(values)))


def stretched(op: Op, number: Iterator[int]) -> list[Op]:
    """The operation behind a `spread` of each operand that is broadcast in the middle: a loop reads that as a view."""
    if not fusable(op) or op.name == "spread":
        return [op]
    y, before, args = op.outputs[0], [], list(op.args)
    for i, x in enumerate(op.args):
        if isinstance(x, Value) and x.size and y.size and implied(x.shape, y.shape) is None:
            wide = Op("spread", (x,), {"shape": y.shape}, line=op.line, forward=op.forward)
            wide.outputs = (Value(next(number), y.shape, x.dtype, wide),)
            before.append(wide)
            args[i] = wide.outputs[0]
    if before:
        op = Op(op.name, args, op.params, op.outputs, line=op.line, forward=op.forward, function=op.function)
    return [*before, op]


def expand(graph: Graph) -> Graph:
    """The program with RULES applied, and with numbers where elementwise operations read constants that are the same all over."""
    number = iter(range(graph.fresh(), 10**9))
    ops: list[Op] = []
    constants = {v: array if uniform(array) else numpy.asarray(array, order="C") for v, array in graph.constants.items()}
    one: dict[Value, Value] = {}
    for v, array in graph.constants.items():
        if v.ndim and uniform(array):
            one[v] = Value(next(number), (), v.dtype)
            constants[one[v]] = numpy.array(array[(0,) * array.ndim])
    shared: dict[Any, Value] = {}
    for op in graph.ops:
        for o in simpler(op, number, shared):
            ops += stretched(narrowed(o, one) if one else o, number)
    whole = Graph(graph.inputs, constants, ops, graph.outputs)
    live = reached(whole, [op for op in ops if op.name in LOOKS or checked(op) is not None])
    return Graph(graph.inputs, constants, [op for op in ops if op in live], graph.outputs)


def simpler(op: Op, number: Iterator[int], shared: dict[Any, Value]) -> Iterator[Op]:
    """The operation, or those of its rule and of theirs."""
    half = by_element.in_single(op)
    if not half and not expandable(op):
        yield op
        return
    w = Writer(number, Op(op.name, op.args, op.params, op.outputs, line=op.line, forward=op.forward), shared)
    (by_element.single if half else RULES[op.name])(w, *op.args, **op.params)
    for part in w.ops:
        yield from simpler(part, number, shared)


def uniform(array: numpy.ndarray) -> bool:
    """Whether all elements are seen to be the same: a broadcast number, or a small array of one number."""
    if array.size < 2:
        return False
    return not any(array.strides) or (array.size <= SMALL and array.tobytes() == array.size * array[(0,) * array.ndim].tobytes())


def narrowed(op: Op, one: dict[Value, Value]) -> Op:
    if not any(x in one for x in op.values) or not fusable(op) or not op.outputs[0].size:
        return op                                          # what is empty is NumPy's, which needs the shapes
    args = tuple([one.get(x, x) if isinstance(x, Value) else x for x in op.args])
    return Op(op.name, args, op.params, op.outputs, line=op.line, forward=op.forward, function=op.function)


def numpy_one_hot(labels: numpy.ndarray, classes: int) -> numpy.ndarray:
    return labels[..., None] == numpy.arange(classes)


def numpy_check_labels(labels: numpy.ndarray, classes: int) -> None:
    check_labels(numpy, labels, classes)


def numpy_row_numbers(*places: Any, lengths: tuple[int, ...]) -> numpy.ndarray:
    return row_numbers(numpy, list(places), list(lengths)).astype(numpy.int64, copy=False)


#: What the operations that only programs have do in NumPy.
OWN = {"one_hot": numpy_one_hot, "check_labels": numpy_check_labels, "row_numbers": numpy_row_numbers}
