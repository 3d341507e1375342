"""Copies of a program on a GPU made explicit, so that each is made once, and several in one launch.

Kernels want their operands contiguous, and products want stacks of matrices with one stride; an operand that is a view of another
layout would be copied by each that reads it. Where every value lies follows from the program: a view is NumPy's view of memory
that is only described.
"""
from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy
from numpy.lib.stride_tricks import as_strided

from gpugrad.flat.cuda_gemm import Native
from gpugrad.flat.cuda_places import joinable, multiplies, order_read, places, product_at, takes
from gpugrad.flat.elements import ours
from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.kernels import attention_heads, join
from gpugrad.kernels.geometry import FLOATS

VIEWS = frozenset(("transpose", "matrix_transpose", "getitem", "split", "alias"))
#: Operations whose kernels copy operands that are not contiguous.
CONTIGUOUS = frozenset(("attention", "attention_pull"))
#: Those that also take heads side by side.
HEADS = CONTIGUOUS


KEEPS_MEMORY = numpy.lib.NumpyVersion(numpy.__version__) >= "2.1.0"      # reshape(copy=False) is there


class Layout(NamedTuple):
    """Where a value lies: `array` views memory as large as `root` needs, without its contents."""

    root: Value
    array: numpy.ndarray

    def key(self) -> tuple:
        x = self.array
        steps = tuple([s if n > 1 else 0 for n, s in zip(x.shape, x.strides, strict=True)])
        return self.root, x.ctypes.data, x.shape, steps

    @property
    def contiguous(self) -> bool:
        return self.array.flags.c_contiguous


class Copy(NamedTuple):
    """A wanted copy: of which value, as which, and the first operation that reads it."""

    source: Value
    value: Value
    first: int
    family: tuple


def with_moves(graph: Graph) -> Graph:
    return Moves(graph).done()


class Moves:
    def __init__(self, graph: Graph):
        self.graph = graph
        self.number = graph.fresh()
        self.layouts: dict[Value, Layout] = {}
        self.made_at = {y: i for i, op in enumerate(graph.ops) for y in op.outputs}
        self.copies: dict[tuple, Copy] = {}
        self.ops: list[Op] = []
        self.behind: dict[int, list[Op]] = {}                # views of what an operation makes; -1: of inputs
        self.ahead: dict[int, list[Op]] = {}                 # views of copies that it reads
        self.uses = graph.uses()
        self.places = places(graph)
        self.joints: dict[Op, Value] = {}                    # of concatenations whose parts products write
        for i, op in enumerate(graph.ops):
            self.ops.append(self.moved(i, op))

    def extra(self, shape: tuple[int, ...], dtype: Any, op: Op | None = None) -> Value:
        self.number += 1
        return Value(self.number - 1, shape, dtype, op)

    def layout(self, x: Value) -> Layout:
        """That of a value which no view made: contiguous, in memory of its own."""
        if x not in self.layouts:
            start = numpy.empty(1, x.dtype)
            strides = numpy.empty((0,) * x.ndim, x.dtype).strides if not x.size else contiguous_strides(x)
            self.layouts[x] = Layout(x, as_strided(start, x.shape, strides))
        return self.layouts[x]

    def moved(self, i: int, op: Op) -> Op:
        """The operation, on copies where it would make them itself; what its results lie like is noted."""
        if op.name == "reshape" and ours(op) and op.args[0].size:
            return self.reshaped(i, op)
        if op.name in VIEWS and ours(op) and op.args[0].size and len(op.args) == 1 and is_basic(op.params.get("index", ())):
            self.look(op)
            return op
        if op.name in HEADS and ours(op) and (found := self.side_by_side(op)) is not None:
            return found
        if op.name in CONTIGUOUS and ours(op):
            return with_args(op, [self.whole(i, x) if isinstance(x, Value) else x for x in op.args])
        if multiplies(op) and (found := self.multiplied(op)) is not None:
            return found
        if op.name == "scaled_matmul" or op.name == "matmul" and ours(op):
            return with_args(op, [self.stack(i, x) if isinstance(x, Value) else x for x in op.args])
        if joinable(op):
            axis = op.params["axis"] % op.args[0].ndim
            joint = self.joint_of(op, axis)
            if joint is not None:
                shape, order = op.outputs[0].shape, joint[1]
                return Op("view", [joint[0]], {}, op.outputs, line=op.line, forward=op.forward,
                          function=Native(lambda xp: lambda x: x.transpose(order).reshape(shape)))
            order = self.read_in(op.outputs[0])
            return Op("join", op.args, {}, op.outputs, line=op.line, forward=op.forward,
                      function=Native(lambda xp: lambda *arrays: joined_as(arrays, axis, order)))
        return op

    def look(self, op: Op) -> None:
        layout = self.layout(op.args[0])
        function: Any = op.function
        made = function(layout.array, **op.params)
        for y, array in zip(op.outputs, made if op.several else (made,), strict=True):
            if isinstance(array, numpy.ndarray) and array.shape == y.shape and array.dtype == y.dtype:
                self.layouts[y] = Layout(layout.root, array)

    def reshaped(self, i: int, op: Op) -> Op:
        """A view of what lies right, else of a copy."""
        x, y = op.args[0], op.outputs[0]
        layout = self.layout(x)
        try:
            self.layouts[y] = Layout(layout.root, viewed(layout.array, y.shape))
            return op
        except (ValueError, AttributeError):
            return with_args(op, [self.whole(i, x)])

    def whole(self, i: int, x: Value) -> Value:
        """The value, contiguous."""
        layout = self.layout(x)
        if layout.contiguous or not x.size or x.dtype.char not in FLOATS:
            return x
        key = layout.key()
        if key not in self.copies:
            self.copies[key] = Copy(x, self.extra(x.shape, x.dtype), i, (layout.root, x.shape, x.dtype))
        return self.copies[key].value

    def stack(self, i: int, x: Value) -> Value:
        """Matrices with one stride from each to the next. What is transposed is copied as it was before, so that products on
        either side of it share the copy."""
        layout = self.layout(x)
        array = layout.array
        if x.ndim < 4 or not x.size or x.dtype.char not in FLOATS or one_stride(array):
            return x
        if array.strides[-1] <= array.strides[-2]:
            return self.whole(i, x)
        plain, turned = self.extra((*x.shape[:-2], *x.shape[:-3:-1]), x.dtype), self.extra(x.shape, x.dtype)
        self.layouts[plain] = Layout(layout.root, array.swapaxes(-1, -2))
        at = self.made_at[plain] = self.made_at.get(x, -1)
        self.behind.setdefault(at, []).append(Op("view", [x], {}, (plain,), function=Native(turn)))
        self.ahead.setdefault(i, []).append(Op("view", [self.whole(i, plain)], {}, (turned,), function=Native(turn)))
        return turned

    def multiplied(self, op: Op) -> Op | None:
        """A product by our kernel, which copies nothing and writes where the result is read."""
        a, b, y = *(self.layout(x).array for x in op.values), op.outputs[0]
        place = self.places.get(y)
        out = None if place is None else place.part(self.described(y, place.shape))
        if place is None or out is None or not takes(a, b, out):
            return op if takes(a, b, self.layout(y).array) else None
        run = product_at(place, op.params.get("alpha", 1.0))
        if place.joint is None:
            self.layouts[y] = Layout(y, out)
            return native(op, list(op.args), lambda xp: run, op.outputs)
        joint = self.joints.get(place.joint)
        args, outputs = [*op.args, joint], op.outputs
        if joint is None:
            joint = self.joints[place.joint] = self.extra(place.shape, y.dtype)
            args, outputs = list(op.args), (y, joint)
        self.layouts[y] = Layout(joint, place.part(self.layout(joint).array))
        return native(op, args, lambda xp: run, outputs)

    def read_in(self, y: Value) -> tuple[int, ...]:
        """The order of axes in which the one operation that reads a value does so; it lies like that from now on."""
        order = order_read(y, self.uses, set(self.graph.outputs))
        rows = self.described(y, tuple([y.shape[a] for a in order]))
        self.layouts[y] = Layout(y, rows.transpose(numpy.argsort(order)))
        return order

    def side_by_side(self, op: Op) -> Op | None:
        """Attention on views of a projection's rows, without copies; its results are views as well."""
        arrays = [self.layout(x).array for x in op.values]
        q, k, v = arrays[:3] if op.name == "attention" else arrays[1:4]
        if not attention_heads.side_by_side(q, k, v) or not all(x.dtype.char in FLOATS for x in op.outputs):
            return None
        batch, heads, length, across = q.shape
        params = op.params
        if op.name == "attention":
            rows = self.described(op.outputs[0], (batch, length, heads, across))
            self.layouts[op.outputs[0]] = Layout(op.outputs[0], rows.transpose(0, 2, 1, 3))
            return native(op, list(op.args), lambda xp: lambda *xs: attention_heads.attention_heads(*xs, **params), op.outputs)
        joint = self.extra((batch, length, 3, heads, across), q.dtype)
        whole = self.layout(joint).array
        parts = [whole[:, :, i].transpose(0, 2, 1, 3) for i in range(3)]
        if not attention_heads.side_by_side(arrays[0], arrays[4]) or not attention_heads.side_by_side(q, parts[0]):
            return None
        for y, part in zip(op.outputs, parts, strict=True):
            self.layouts[y] = Layout(joint, part)
        return native(op, list(op.args), lambda xp: lambda *xs: attention_heads.attention_heads_pull(*xs, **params),
                      (*op.outputs, joint))

    def described(self, x: Value, shape: tuple[int, ...]) -> numpy.ndarray:
        """Contiguous memory of that shape, which is only described."""
        return self.layout(self.extra(shape, x.dtype)).array

    def joint_of(self, op: Op, axis: int) -> tuple[Value, tuple[int, ...]] | None:
        """(value, axes): the result is that value, which holds the arguments already, with its axes in that order."""
        layouts = [self.layout(x) for x in op.values]
        root, first, y = layouts[0].root, layouts[0].array, op.outputs[0]
        places = [layout.array.ctypes.data for layout in layouts]
        apart, length = places[1] - places[0], first.shape[axis]
        if root.size != y.size or any(layout.key()[::2] != layouts[0].key()[::2] or layout.key()[3] != layouts[0].key()[3]
                                      for layout in layouts):
            return None
        whole = self.layout(root).array
        steps = list(first.strides)
        if length > 1 and apart != length * steps[axis]:
            return None
        steps[axis] = apart if length == 1 else steps[axis]
        if places != [whole.ctypes.data + k * apart for k in range(len(places))]:
            return None
        mine = [(n, s) for n, s in zip(y.shape, steps, strict=True) if n > 1]
        there = {(n, s): i for i, (n, s) in enumerate(zip(whole.shape, whole.strides, strict=True)) if n > 1}
        if sorted(mine) != sorted(there):
            return None
        self.layouts[y] = Layout(root, as_strided(whole, y.shape, steps))
        return root, tuple([there[pair] for pair in mine] + [i for i, n in enumerate(whole.shape) if n == 1])

    def done(self) -> Graph:
        """The program with a copying operation before the first that reads its results."""
        before: dict[int, list[Op]] = {}
        families: dict[tuple, list[Copy]] = {}
        for copy in self.copies.values():
            families.setdefault(copy.family, []).append(copy)
        for members in families.values():
            first = members[0].first
            together = [c for c in members if self.made_at.get(c.source, -1) < first]
            rest = [c for c in members if c not in together]
            for group in [together, *[[c] for c in rest]]:
                op = Op("copies", [c.source for c in group], {}, tuple([c.value for c in group]), several=True,
                        function=Native(lambda xp: lambda *arrays: join.copies(arrays)))
                before.setdefault(min(c.first for c in group), []).append(op)
        ops = self.behind.get(-1, [])
        for i, op in enumerate(self.ops):
            ops += [*before.get(i, ()), *self.ahead.get(i, ()), op, *self.behind.get(i, ())]
        return Graph(self.graph.inputs, self.graph.constants, ops, self.graph.outputs)


def is_basic(index: Any) -> bool:
    """Whether reading at the index is a view: it looks at no element."""
    items = index if isinstance(index, tuple) else (index,)
    return all(item is None or item is Ellipsis or isinstance(item, int | slice) for item in items)


def contiguous_strides(x: Value) -> tuple[int, ...]:
    strides, step = [], x.dtype.itemsize
    for n in reversed(x.shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def viewed(array: numpy.ndarray, shape: tuple[int, ...]) -> numpy.ndarray:
    """The array in another shape, without a look at its contents; ValueError or AttributeError where there is no way."""
    if KEEPS_MEMORY:
        return array.reshape(shape, copy=False)
    view = array.view()
    view.shape = shape                                    # NumPy 2.5 warns of this
    return view


def one_stride(array: numpy.ndarray) -> bool:
    """Whether the leading axes merge into one, as those of the stacks that cuBLASLt takes."""
    axes = [(n, s) for n, s in zip(array.shape[:-2], array.strides[:-2], strict=True) if n > 1]
    return all(outer == n * s for (_, outer), (n, s) in itertools.pairwise(axes))


def turn(xp: Any) -> Any:
    return lambda x: x.swapaxes(-1, -2)


def joined_as(arrays: tuple, axis: int, order: tuple[int, ...]) -> Any:
    """The arrays side by side along an axis; in memory with their axes in that order."""
    y = join.join([x.transpose(order) for x in arrays], order.index(axis))
    return y.transpose([order.index(a) for a in range(y.ndim)])


def native(op: Op, args: list, make: Any, outputs: tuple[Value, ...]) -> Op:
    return Op(op.name, args, {}, outputs, several=True, line=op.line, forward=op.forward, function=Native(make))


def with_args(op: Op, args: list) -> Op:
    return Op(op.name, args, op.params, op.outputs, several=op.several, line=op.line, forward=op.forward, function=op.function,
              part=op.part)

