"""Layers as functions of their parameters: products, embedding, dropout, and rows by their length."""
from __future__ import annotations

from typing import Any

import numpy

from gpugrad.arrays import has_kernels, module_of
from gpugrad.errors import ArgumentError, DtypeError, ShapeError, require
from gpugrad.graph.layers import MAPS
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.nn._arguments import in_one_launch, real, same_shape
from gpugrad.numpy import einsum
from gpugrad.numpy._arguments import as_tensor, counted_beside, one_axis
from gpugrad.random import Generator, default_generator
from gpugrad.rules.fused import Gate

__all__ = ["bilinear", "cosine_similarity", "dropout", "embedding", "linear", "normalize",
           "one_hot", "pairwise_distance"]


def linear(x: Any, weight: Any, bias: Any = None, *, activation: str | None = None) -> Tensor:
    """x weight' + bias, and the activation of that.

    x            (..., in)
    weight       (out, in), as in PyTorch
    bias         (out,) or None
    activation   None or "relu": relu(linear(x, weight, bias)), for which a GPU keeps one bit an element and finds the bias
                 gradient on the way back; inside `gg.cuda.relu_epilogue()` it is a part of the products
    return       (..., out)

    Raises ShapeError where they do not fit.
    """
    if activation is None:
        return T.linear(x, weight, bias)
    if activation != "relu":
        raise ArgumentError(f"linear: expected activation None or 'relu', got {activation!r}. Apply others to the result.")
    x, weight = real("linear", x), real("linear", weight)
    bias = None if bias is None else real("linear", bias)
    if in_one_launch(x, weight, bias):
        return T.linear_relu(x, weight, bias, gate=Gate())[0]
    return T.relu(T.linear(x, weight, bias))


def bilinear(a: Any, b: Any, weight: Any, bias: Any = None) -> Tensor:
    """y[..., k] = sum_ij a[..., i] weight[k, i, j] b[..., j] + bias[k]."""
    a, b, weight = real("bilinear", a), real("bilinear", b), real("bilinear", weight)
    if weight.ndim != 3 or a.shape[-1:] != weight.shape[1:2] or b.shape[-1:] != weight.shape[2:]:
        raise ShapeError(f"bilinear: expected a (..., m), b (..., n) and weight (out, m, n), got {a.shape}, {b.shape} and "
                         f"{weight.shape}. Check the layer's widths.")
    y = einsum("...i,kij,...j->...k", a, weight, b)
    return y if bias is None else y + bias


def embedding(index: Any, table: Any) -> Tensor:
    """table[index]: a row for each index. The gradient of a row adds up over its uses, in a fixed order.

    index    (...) integers from 0 to rows - 1
    table    (rows, width)
    return   (..., width)

    Raises IndexingError for an index outside the table; PyTorch's order of arguments.
    """
    table = as_tensor("embedding", table)
    index = as_tensor("embedding", index, table)
    if table.ndim != 2:
        raise ShapeError(f"embedding: expected a table (rows, width), got {table.shape}. The index comes first.")
    if index.dtype.kind not in "iu":
        raise DtypeError(f"embedding: expected integers as index, got {index.dtype}. The index comes first; use .astype(int).")
    text = f"embedding: expected indices from 0 to {table.shape[0] - 1}, got {{low}} to {{high}}. Check the table."
    return table[T.ranged(index, low=0, high=table.shape[0] - 1, text=text)]


def one_hot(labels: Any, classes: int | None = None, dtype: Any = float) -> Tensor:
    """(..., classes) with 1 at the label and 0 elsewhere: a constant. Without `classes`, the largest label + 1."""
    labels = as_tensor("one_hot", labels)
    if labels.dtype.kind not in "iu":
        raise DtypeError(f"one_hot: expected integer labels, got {labels.dtype}. Use labels.astype(int).")
    if classes is None:
        classes = int(labels.detach().numpy().max(initial=-1)) + 1
    text = f"one_hot: expected labels from 0 to {classes - 1}, got {{low}} to {{high}}. Pass more classes."
    labels = T.ranged(labels, low=0, high=classes - 1, text=text)
    numbers = counted_beside(classes, labels)
    return T.equal(T.reshape(labels, shape=(*labels.shape, 1)), numbers).astype(dtype)


def dropout(x: Any, p: float = 0.5, training: bool = True, generator: Generator | None = None) -> Tensor:
    """Each element is 0 with probability p, else x / (1 - p); x itself where training is False.

    generator   where the mask comes from, a word of it a call; by default `gg.random`'s own

    The same elements are dropped on every device. A GPU makes the mask in the kernel, and again on the way back: none is kept.
    """
    given, x = x, real("dropout", x)
    require("dropout", "p", p, 0 <= p <= 1, "from 0 to 1")
    if not training or p == 0:
        return x if x is given else Tensor(x._data.copy())
    generator = generator or default_generator()
    if in_one_launch(x) and not MAPS.get():
        if has_kernels(module_of(x._data)):
            return T.random_dropout(x, call=generator.word(), p=p)
        return T.stream_dropout(x, generator.stream(x.device), p=p)                # a trace, whose runs have streams of their own
    kept = generator.keep(p, size=x.shape, device=x.device)
    return T.dropout(x, kept, scale=1 / (1 - p) if p < 1 else 0.0)


# rows by their length --------------------------------------------------------------------------------------------------


def normalize(x: Any, axis: int = -1, eps: float = 1e-12) -> Tensor:
    """x / max(|x|, eps), with the Euclidean length along the axis. The slope at 0 is 1 / eps."""
    x = real("normalize", x, kinds="fc")
    return x / length(x, one_axis("normalize", axis, x.ndim), eps)


def cosine_similarity(a: Any, b: Any, axis: int = -1, eps: float = 1e-8) -> Tensor:
    """a . b / (max(|a|, eps) max(|b|, eps)) along the axis."""
    x, y = same_shape("cosine_similarity", a, b, "both inputs")
    ax = one_axis("cosine_similarity", axis, x.ndim)
    return T.sum(x / length(x, ax, eps) * (y / length(y, ax, eps)), axis=(ax,), keepdims=False)


def pairwise_distance(a: Any, b: Any, axis: int = -1, eps: float = 1e-6) -> Tensor:
    """|a - b + eps| along the axis: PyTorch's definition, whose eps keeps the slope finite where a = b."""
    x, y = same_shape("pairwise_distance", a, b, "both inputs")
    d = x - y + eps
    return T.sqrt(T.sum(d * d, axis=(one_axis("pairwise_distance", axis, x.ndim),), keepdims=False))


def length(x: Tensor, axis: int, eps: float) -> Tensor:
    """max(|x|, eps), which stays as an axis of length 1. The root never meets 0, where its slope is infinite.

    Of float16 it is found in float32: the square of 256 is no float16, nor is that of 1e-8.
    """
    wide = T.astype(x, dtype=numpy.dtype("f")) if x.dtype.char == "e" else x
    square = wide * wide if x.dtype.kind != "c" else T.real(wide * T.conj(wide))
    square = T.sum(square, axis=(axis,), keepdims=True)
    size = T.sqrt(T.maximum(square, max(eps * eps, numpy.finfo(wide.dtype).tiny)))
    return size if x.dtype.kind == "c" else T.cast(size, x.dtype)
