"""Attention: each query's mean of the values, weighted by softmax of its products with the keys."""
from __future__ import annotations

import math
from typing import Any

import numpy

from gpugrad.errors import ArgumentError, ShapeError
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.nn._arguments import real
from gpugrad.numpy._arguments import as_tensor

__all__ = ["dot_product_attention", "scaled_dot_product_attention"]


def scaled_dot_product_attention(query: Any, key: Any, value: Any, attn_mask: Any = None, *, is_causal: bool = False,
                                 scale: float | None = None) -> Tensor:
    """softmax(scale query key') value, along the last two axes; differentiable to any order.

    query      (..., L, E)
    key        (..., S, E)
    value      (..., S, F); the axes in front broadcast
    attn_mask  broadcasts to (..., L, S): True where a query may look, or numbers that are added to the scores
    is_causal  query i looks at keys 0 to i only
    scale      by default 1 / sqrt(E)
    return     (..., L, F)

    Without a mask it is one launch on a GPU, and one for all gradients, for E and F up to 128; the scores are never in memory:
    the graph keeps the inputs, the result and one number for each query. With a mask they are. A query that may look nowhere
    gives NaN. Raises ShapeError where the axes do not fit, ArgumentError for a mask beside is_causal. PyTorch's names.
    """
    op = "scaled_dot_product_attention"
    if attn_mask is not None and is_causal:
        raise ArgumentError(f"{op}: expected attn_mask or is_causal, got both. Put the triangle into the mask.")
    return attend(op, query, key, value, attn_mask, is_causal, scale)


def dot_product_attention(query: Any, key: Any, value: Any, mask: Any = None, *, causal: bool = False,
                          scale: float | None = None) -> Tensor:
    """`scaled_dot_product_attention` by other names, with mask and causal together if wanted."""
    return attend("dot_product_attention", query, key, value, mask, causal, scale)


def attend(op: str, query: Any, key: Any, value: Any, mask: Any, causal: bool, scale: float | None) -> Tensor:
    q, k, v = real(op, query), real(op, key), real(op, value)
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(f"{op}: expected query (..., n, d), key (..., k, d) and value (..., k, v), got {q.shape}, {k.shape} and "
                         f"{v.shape}. Check the last two axes.")
    scale = (1 / math.sqrt(q.shape[-1]) if q.shape[-1] else 1.0) if scale is None else float(scale)
    if mask is not None:
        return masked(op, q, k, v, mask, causal, scale)
    try:
        lead = numpy.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    except ValueError:
        raise ShapeError(f"{op}: expected axes in front that broadcast, got query {q.shape}, key {k.shape} and value {v.shape}. "
                         "Check batch and heads.") from None
    dtype = numpy.result_type(q.dtype, k.dtype, v.dtype)
    q, k, v = (T.cast(x, dtype) for x in (q, k, v))
    q, k, v = (x if x.shape[:-2] == lead else T.spread(x, shape=(*lead, *x.shape[-2:])) for x in (q, k, v))
    return T.attention(q, k, v, scale=scale, causal=bool(causal))[0]


def masked(op: str, q: Tensor, k: Tensor, v: Tensor, mask: Any, causal: bool, scale: float) -> Tensor:
    """With the scores in memory."""
    scores = T.matmul(q * scale, T.swapaxes(k, axis1=k.ndim - 2, axis2=k.ndim - 1))
    mask = as_tensor(op, mask, scores)
    scores = T.where(mask, scores, -math.inf) if mask.dtype.kind == "b" else scores + mask
    if causal:
        scores = T.where(T.causal_mask(scores), scores, -math.inf)
    return T.matmul(T.softmax(scores, axis=(scores.ndim - 1,)), v)
