"""Products of a program on a GPU, with what stands around them taken along.

Each pass replaces operations by one whose function is a `Native`: what it does on the device's arrays.

    gradients   gᵀ x and the sum of g over its rows                     one product that sums as it reads
    residuals   linear(x, w, b) + c, also before a layer norm           the product adds c
    scales      a number times a product, or times what only products read: the product's alpha
    sums        the layer norm of a sum                                 it adds
    norms       the gradient behind a layer norm + c                    its pullback adds c
"""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy

from gpugrad.arrays import module_of
from gpugrad.flat.elements import ours
from gpugrad.flat.formulas import uniform
from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.kernels import cublaslt, layer_norm, matmul
from gpugrad.kernels.cublaslt import LtUnsupportedError

FLOATS = "fd"


class Native:
    """An operation that only programs on a GPU have: called with the array module, it gives the function on its arrays."""

    def __init__(self, make: Callable[[Any], Callable]):
        self.make = make

    def __call__(self, xp: Any) -> Callable:
        return self.make(xp)


def with_products(graph: Graph) -> Graph:
    for run in (gradients, residuals, scales, sums, norms):
        graph = run(graph)
    return graph


def empty(like: Any, shape: tuple[int, ...] | None = None, dtype: Any = None) -> Any:
    return module_of(like).empty(like.shape if shape is None else shape, dtype or like.dtype)


class Matcher:
    """A program in which operations are replaced: `instead` by others, `gone` by nothing."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.uses = graph.uses()
        self.at = {op: i for i, op in enumerate(graph.ops)}
        self.maker = {y: op for op in graph.ops for y in op.outputs}
        self.outputs = set(graph.outputs)
        self.number = graph.fresh()
        self.instead: dict[Op, Op] = {}
        self.gone: set[Op] = set()

    def only_use(self, x: Any, name: str = "") -> Op | None:
        """The one operation that reads a value that is no result of the program."""
        readers = self.uses.get(x, [])
        found = readers[0] if len(readers) == 1 and x not in self.outputs else None
        return found if found is None or found.name == name or not name else None

    def made_by(self, x: Any, name: str) -> Op | None:
        op = self.maker.get(x)
        free = op is not None and op.name == name and op not in self.gone and op not in self.instead
        return op if free and op is not None and not isinstance(op.function, Native) and ours(op) else None

    def fresh(self, op: Op, name: str, args: list, make: Callable[[Any], Callable], *outputs: Value, **params: Any) -> Op:
        """An operation for the outputs of others, in the place of `op`."""
        new = Op(name, args, params, outputs, several=len(outputs) > 1, line=op.line, forward=op.forward, function=Native(make))
        self.instead[op] = new
        return new

    def extra(self, shape: tuple[int, ...], dtype: Any) -> Value:
        self.number += 1
        return Value(self.number - 1, shape, dtype)

    def done(self) -> Graph:
        ops = [self.instead.get(op, op) for op in self.graph.ops if op not in self.gone]
        return Graph(self.graph.inputs, self.graph.constants, ops, self.graph.outputs)


# weight and bias gradients ---------------------------------------------------------------------------------------------

def gradients(graph: Graph) -> Graph:
    found = Matcher(graph)
    for op in graph.ops:
        turned = found.made_by(op.args[0], "transpose") if op.name == "matmul" and ours(op) else None
        if turned is None or op.args[0].ndim != 2 or op.args[1].ndim != 2 or op.args[1].dtype.char not in FLOATS:
            continue
        g, x = turned.args[0], op.args[1]
        total = next((o for o in found.uses[g] if o.name == "sum" and ours(o) and o not in found.gone
                      and tuple(o.params["axis"]) == (0,) and not o.params["keepdims"]), None)
        if g.dtype != x.dtype or total is None or 0 in (*g.shape, *x.shape):
            continue
        readers = found.uses.get(total.outputs[0], [])
        if any(found.at[reader] < found.at[op] for reader in readers if reader in found.at):
            continue
        found.gone.add(total)
        found.fresh(op, "linear_gradients", [g, x], lambda xp: matmul.linear_gradients, op.outputs[0], total.outputs[0])
    return found.done()


# residuals -------------------------------------------------------------------------------------------------------------

def residuals(graph: Graph) -> Graph:
    found = Matcher(graph)
    for op in graph.ops:
        if op.name not in ("add", "add_layer_norm") or not ours(op) or op.outputs[0].dtype.char not in FLOATS:
            continue
        for y, other in (op.args[:2], op.args[1::-1]):
            linear = found.made_by(y, "linear")
            if (linear is None or found.only_use(y) is not op
                    or not isinstance(other, Value) or y.shape != other.shape
                    or any(x.dtype != y.dtype for x in (*linear.values, other)) or len(linear.args) != 3 or not y.size):
                continue
            found.gone.add(linear)
            args = [*linear.args, other, *op.args[2:]]
            if op.name == "add":
                found.fresh(op, "linear_residual", args, lambda xp: linear_residual, op.outputs[0])
            else:
                found.fresh(op, "linear_layer_norm", args, linear_layer_norm(op.params), *op.outputs)
            break
    return found.done()


def linear_residual(x: Any, w: Any, b: Any, c: Any) -> Any:
    """x wᵀ + b + c."""
    rows, others = x.reshape(-1, x.shape[-1]), c.reshape(-1, c.shape[-1])
    if b is not None and b.flags.c_contiguous:
        y = empty(others)
        try:
            cublaslt.matmul(rows, w.T, y, beta=1.0, c=others, epilogue="bias", vector=b, compute=matmul.precision(x))
            return y.reshape(c.shape)
        except LtUnsupportedError:
            pass
    y = matmul.linear(rows, w, b)
    y += others
    return y.reshape(c.shape)


def linear_layer_norm(params: dict[str, Any]) -> Callable[[Any], Callable]:
    def make(xp: Any) -> Callable:
        normed = layer_norm.layer_norm(xp)

        def run(x: Any, w: Any, b: Any, c: Any, *weights: Any) -> tuple[Any, Any, Any, Any]:
            u = linear_residual(x, w, b, c)
            y, mean, r = normed(u, *weights, **params)
            return y, u, mean, r
        return run
    return make


# scales ----------------------------------------------------------------------------------------------------------------

def number_in(graph: Graph, op: Op) -> tuple[Any, float] | None:
    """(value, number) of an operation that multiplies one by the other."""
    if op.name != "multiply" or not ours(op):
        return None
    for x, c in (op.args, op.args[::-1]):
        if not isinstance(x, Value) or x.shape != op.outputs[0].shape or x.dtype != op.outputs[0].dtype:
            continue
        if isinstance(c, int | float):
            return x, float(c)
        number = uniform(graph.constants[c]) if c in graph.constants else None
        if number is not None:
            return x, number
    return None


def is_product(op: Op) -> bool:
    return op.name == "matmul" and ours(op) and all(
        isinstance(x, Value) and x.ndim > 1 and x.dtype == op.outputs[0].dtype and x.size for x in op.args) and (
        op.outputs[0].dtype.char in FLOATS)


def scales(graph: Graph) -> Graph:
    found = Matcher(graph)
    for op in graph.ops:
        pair = number_in(graph, op)
        if pair is None:
            continue
        x, number = pair
        product = found.made_by(x, "matmul")
        if product is not None and is_product(product) and found.only_use(x) is op:
            found.gone.add(product)
            found.fresh(op, "scaled_matmul", list(product.args), scaled, op.outputs[0], alpha=number)
            continue
        y = op.outputs[0]
        readers = found.uses.get(y, [])
        if readers and y not in found.outputs and all(is_product(o) and o not in found.instead and o.args.count(y) == 1
                                                      for o in readers):
            for reader in readers:
                args = [x if a is y else a for a in reader.args]
                found.fresh(reader, "scaled_matmul", args, scaled, reader.outputs[0], alpha=number)
            found.gone.add(op)
    return found.done()


def scaled(xp: Any) -> Callable:
    return stack_product


def stack_product(a: Any, b: Any, alpha: float = 1.0) -> Any:
    """alpha a b for stacks of matrices."""
    lead = numpy.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    y = empty(a, (*lead, a.shape[-2], b.shape[-1]))
    return matmul.multiply(a, b, y, alpha=alpha)


# layer norms -----------------------------------------------------------------------------------------------------------

def sums(graph: Graph) -> Graph:
    found = Matcher(graph)
    for op in graph.ops:
        if op.name != "layer_norm" or not ours(op) or not op.args[0].size:
            continue
        u = op.args[0]
        add = found.made_by(u, "add")
        if add is None or any(not isinstance(x, Value) or (x.shape, x.dtype) != (u.shape, u.dtype) for x in add.args):
            continue
        if all(found.at[reader] >= found.at[op] for reader in found.uses[u]):
            found.gone.add(add)
            found.fresh(op, "add_layer_norm", [*add.args, *op.args[1:]], add_norm(op.params),
                        op.outputs[0], u, *op.outputs[1:])
    return found.done()


def add_norm(params: dict[str, Any]) -> Callable[[Any], Callable]:
    return lambda xp: partial(layer_norm.add_layer_norm(xp), **params)


def norms(graph: Graph) -> Graph:
    found = Matcher(graph)
    for op in graph.ops:
        if op.name != "add" or not ours(op) or not op.outputs[0].size:
            continue
        for x, other in (op.args, op.args[::-1]):
            pull = found.made_by(x, "layer_norm_pull")
            if (pull is None or pull.outputs[0] is not x or found.only_use(x) is not op or not isinstance(other, Value)
                    or other.shape != x.shape or other.dtype != x.dtype):
                continue
            late = [reader for y in pull.outputs[1:] for reader in found.uses.get(y, ())]
            if any(found.at[reader] < found.at[op] for reader in late):
                continue
            found.gone.add(pull)
            found.fresh(op, "layer_norm_pull", [*pull.args, other], norm_pull(pull.params), op.outputs[0], *pull.outputs[1:])
            break
    return found.done()


def norm_pull(params: dict[str, Any]) -> Callable[[Any], Callable]:
    def make(xp: Any) -> Callable:
        plain = layer_norm.layer_norm_pull(xp)

        def run(g: Any, x: Any, w: Any, mean: Any, r: Any, more: Any) -> tuple[Any, Any, Any]:
            axes, centre = params.get("axes", 1), params.get("centre", True)
            if layer_norm.takes(x, axes, w) and g.dtype == x.dtype and g.shape == x.shape:
                return layer_norm.launched_pull(xp, g, x, w, mean, r, axes, centre, more=more)
            dx, dw, db = plain(g, x, w, mean, r, **params)
            return dx + more, dw, db
        return run
    return make
