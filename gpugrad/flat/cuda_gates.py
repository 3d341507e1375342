"""Linear layers with a ReLU or GELU in a program on a GPU: a pullback finds the bias gradient, or is the product's own.

    relu_pull(g, y), its sum over the rows             one launch of relu.cu, from a mask of one bit an element; the sum is left
                                                       to the product that gives the weight's gradient, which sums as it reads
    max(linear(x, w, b), 0)                            inside gg.cuda.relu_epilogue one product, which keeps cuBLASLt's mask;
    relu_pull(g w, y), its sum over the rows           and this is one product as well
    gelu_tanh(linear(x, w, b))                         inside gg.cuda.gelu_epilogue one product, which keeps GELU's argument
"""
from __future__ import annotations

from typing import Any

import numpy

from gpugrad.arrays import module_of
from gpugrad.flat.cuda_gemm import FLOATS, Matcher, is_product
from gpugrad.flat.elements import ours
from gpugrad.flat.ir import Graph, Op, Value
from gpugrad.kernels import cublaslt, gelu, linear_relu, matmul, relu


def with_gates(graph: Graph, relus: bool, gelus: bool) -> Graph:
    """The program with what the module's text says. relus, gelus: whether the function's context allowed them in products."""
    if relus:
        graph = rectified(graph)
    if gelus:
        graph = smoothed(graph)
    found = Matcher(graph)
    for op in graph.ops:
        if op.name == "relu_pull" and ours(op) and op.outputs[0].dtype.char in FLOATS and op.outputs[0].ndim == 2:
            pulled(found, op, relus)
    return found.done()


def smoothed(graph: Graph) -> Graph:
    """gelu_tanh(linear) as linear_gelu."""
    found = Matcher(graph)
    for op in graph.ops:
        y = op.outputs[0] if op.name == "gelu_tanh" and ours(op) else None
        linear = found.made_by(op.args[0], "linear") if y is not None and y.size else None
        if (y is None or linear is None or len(linear.args) != 3 or linear.args[2] is None or y.dtype.char not in FLOATS
                or any(v.dtype != y.dtype for v in linear.values)):
            continue
        found.gone.add(op)
        found.fresh(linear, "linear_gelu", list(linear.args), lambda xp: linear_gelu, linear.outputs[0], y)
    return found.done()


def linear_gelu(x: Any, w: Any, b: Any) -> tuple[Any, Any]:
    """(h, GELU of h), h = x wᵀ + b."""
    xp, rows = module_of(x), x.reshape(-1, x.shape[-1])
    h, y = (xp.empty((len(rows), len(w)), x.dtype) for _ in range(2))
    try:
        if not b.flags.c_contiguous or cublaslt.aux_shape("gelu_aux_bias", *h.shape) != h.shape:
            raise cublaslt.LtUnsupportedError("rows of GELU's argument would be padded, or the bias copied")
        cublaslt.matmul(rows, w.T, y, epilogue="gelu_aux_bias", vector=b, aux=h, compute=matmul.precision(x))
    except cublaslt.LtUnsupportedError:
        h = matmul.linear(rows, w, b)
        y = gelu.gelu_tanh(xp)(h)
    shape = (*x.shape[:-1], len(w))
    return h.reshape(shape), y.reshape(shape)


def rectified(graph: Graph) -> Graph:
    """max(linear, 0) as linear_relu, which is one product inside relu_epilogue."""
    found = Matcher(graph)
    for op in graph.ops:
        y = op.outputs[0] if op.name == "maximum" and ours(op) else None
        linear = found.made_by(op.args[0], "linear") if y is not None and y.size else None
        if (y is None or linear is None or len(linear.args) != 3 or linear.args[2] is None or found.only_use(op.args[0]) is not op
                or type(op.args[1]) not in (int, float) or op.args[1] != 0 or y.dtype.char not in FLOATS
                or any(v.dtype != y.dtype for v in linear.values)):
            continue
        mask = found.extra((y.size // y.shape[-1], -(-y.shape[-1] // 32)), numpy.uint32)
        found.gone.add(linear)
        found.fresh(op, "linear_relu", list(linear.args), linear_relu.linear_relu, y, mask)
    return found.done()


def pulled(found: Matcher, op: Op, epilogue: bool) -> None:
    """A gate's pullback with the sum over its rows: from the mask, and with the product before it where the mask is Lt's."""
    y, dz = op.args[1], op.outputs[0]
    layer = found.maker.get(y)
    if layer is None or layer.name != "linear_relu" or len(layer.outputs) != 2 or op.args[0].dtype != dz.dtype:
        return
    mask, total = layer.outputs[1], sum_of(found, dz)
    product = found.made_by(op.args[0], "matmul") if epilogue else None
    if product is not None and is_product(product) and found.only_use(op.args[0]) is op and product.args[1].ndim == 2:
        args = [*product.args, mask, y]
        run: Any = gated_product
        found.gone.add(product)
    elif total is not None and op.args[0].shape == dz.shape:
        args, run = [op.args[0], mask, y], gated
        if is_left_of_product(found, dz):
            found.fresh(op, "gate", args, lambda xp: gated_only, dz)
            return
    else:
        return
    db = found.extra(dz.shape[1:], dz.dtype) if total is None else total.outputs[0]
    if total is not None:
        found.gone.add(total)
    found.fresh(op, "gate", args, lambda xp: run, dz, db)


def sum_of(found: Matcher, x: Value) -> Op | None:
    """The operation that sums a matrix over its rows."""
    return next((o for o in found.uses.get(x, ()) if o.name == "sum" and ours(o) and o not in found.gone
                 and tuple(o.params["axis"]) == (0,) and not o.params["keepdims"]), None)


def is_left_of_product(found: Matcher, x: Value) -> bool:
    """Whether a product reads the transpose of a matrix on its left."""
    turned = [o.outputs[0] for o in found.uses.get(x, ()) if o.name == "transpose" and ours(o)]
    return any(o.name == "matmul" and o.args[0] is t for t in turned for o in found.uses.get(t, ()))


def gated_only(g: Any, mask: Any, y: Any) -> Any:
    """g where y > 0, else 0."""
    if mask.dtype == "uint32":
        return linear_relu.bias_relu_pull(g, mask, sums=False)[0]
    return relu.relu_pull(module_of(g))(g, y)


def gated(g: Any, mask: Any, y: Any) -> tuple[Any, Any]:
    """(g where y > 0, else 0; its sum over the rows)."""
    if mask.dtype == "uint32":
        return linear_relu.bias_relu_pull(g, mask)
    dz = relu.relu_pull(module_of(g))(g, y)
    return dz, dz.sum(axis=0)


def gated_product(g: Any, w: Any, mask: Any, y: Any) -> tuple[Any, Any]:
    """The same of g w."""
    found = linear_relu.through_gate(g, w, mask) if mask.dtype == "uint8" else None
    if found is not None:
        return found
    return gated(matmul.multiply(g, w, module_of(g).empty((len(g), w.shape[1]), g.dtype)), mask, y)
