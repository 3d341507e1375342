"""Losses. `reduction` is "mean" over all elements or rows, "sum", or "none". Prediction and target have one shape."""
from __future__ import annotations

import math
from typing import Any

import numpy

from gpugrad.errors import DtypeError, ShapeError, require
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.nn._arguments import in_one_launch, real, reduced, same_shape
from gpugrad.nn.layers import cosine_similarity, pairwise_distance
from gpugrad.numpy._arguments import as_tensor, one_axis

__all__ = ["binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cross_entropy",
           "gaussian_nll_loss", "hinge_loss", "huber_loss", "kl_div", "l1_loss", "margin_ranking_loss", "mse_loss",
           "nll_loss", "poisson_nll_loss", "smooth_l1_loss", "triplet_margin_loss"]

# of classes ------------------------------------------------------------------------------------------------------------


def cross_entropy(logits: Any, labels: Any, *, weight: Any = None, ignore_index: int | None = None, reduction: str = "mean",
                  label_smoothing: float = 0.0, axis: int = -1) -> Tensor:
    """-log softmax(logits)[label], in one operation that keeps the softmax for backward.

    logits           (..., C) real numbers, the classes along `axis`; PyTorch's (N, C, d) is axis=1
    labels           (...) integers from 0 to C - 1; or the probabilities of the classes, of the logits' shape
    weight           (C,) what each class counts; the mean is then the weighted one
    ignore_index     a label whose rows count nothing: loss 0, gradient 0, and left out of the mean
    label_smoothing  the part of the target, from 0 to 1, that all classes share

    Raises ShapeError where labels do not fit, ArgumentError for a label outside 0 to C - 1 (on a GPU, where looking would wait
    for the device, the loss of such a row is NaN).
    """
    x = real("cross_entropy", logits)
    labels = as_tensor("cross_entropy", labels, x)
    require("cross_entropy", "label_smoothing", label_smoothing, 0 <= label_smoothing <= 1, "from 0 to 1")
    a = one_axis("cross_entropy", axis, x.ndim)
    if a != x.ndim - 1:
        x = T.moveaxis(x, source=a, destination=x.ndim - 1)
        if labels.ndim == x.ndim:
            labels = T.moveaxis(labels, source=a, destination=x.ndim - 1)
    if not x.shape[-1]:
        raise ShapeError(f"cross_entropy: expected at least one class along axis {axis}, got logits {x.shape}. "
                         "Check the last layer.")
    if labels.dtype.kind == "f":
        return soft_cross_entropy(x, labels, weight, reduction, label_smoothing)
    check_labels("cross_entropy", labels, x)
    valid = None
    if ignore_index is not None:
        valid = labels != ignore_index
        labels = T.where(valid, labels, 0)
    if weight is None:
        if reduction == "mean" and valid is None and labels.size and in_one_pass(x):
            return T.mean_cross_entropy(x, labels, smoothing=label_smoothing)[0]
        loss = T.cross_entropy(x, labels, smoothing=label_smoothing)[0]
        return reduced("cross_entropy", loss, reduction) if valid is None else weighted(
            "cross_entropy", loss, T.astype(valid, dtype=x.dtype), valid, reduction)
    weight = class_weight("cross_entropy", weight, x)
    logp = T.log_softmax(x, axis=(x.ndim - 1,))
    counts = weight[labels]
    loss = -picked(logp, labels)
    if label_smoothing:
        spread = -T.mean(logp * weight, axis=(x.ndim - 1,), keepdims=False)
        loss = (1 - label_smoothing) * counts * loss + label_smoothing * spread
        return weighted("cross_entropy", loss, counts, valid, reduction, scaled=True)
    return weighted("cross_entropy", loss, counts, valid, reduction)


def in_one_pass(x: Tensor) -> bool:
    """Whether the mean and its gradient are best made together: in plain arrays, which nothing fuses afterwards."""
    return type(x) is Tensor and (type(x._data) is numpy.ndarray or in_one_launch(x))


def soft_cross_entropy(x: Tensor, target: Tensor, weight: Any, reduction: str, smoothing: float) -> Tensor:
    """-sum target log softmax(x), for probabilities as targets."""
    if target.shape != x.shape:
        raise ShapeError(f"cross_entropy: expected integer labels {x.shape[:-1]}, or probabilities of shape {x.shape}, "
                         f"got {target.dtype} {target.shape}. Use labels.astype(int) for labels.")
    if smoothing:
        target = (1 - smoothing) * target + smoothing / x.shape[-1]
    if weight is not None:
        target = target * class_weight("cross_entropy", weight, x)
    return reduced("cross_entropy", -T.sum(target * T.log_softmax(x, axis=(x.ndim - 1,)), axis=(x.ndim - 1,), keepdims=False),
                   reduction)


def nll_loss(log_probabilities: Any, labels: Any, *, weight: Any = None, ignore_index: int | None = None,
             reduction: str = "mean", axis: int = -1) -> Tensor:
    """-log_probabilities[label]: what cross_entropy is behind a log_softmax. Arguments as there."""
    logp = real("nll_loss", log_probabilities)
    labels = as_tensor("nll_loss", labels, logp)
    a = one_axis("nll_loss", axis, logp.ndim)
    logp = T.moveaxis(logp, source=a, destination=logp.ndim - 1)
    check_labels("nll_loss", labels, logp)
    valid = None
    if ignore_index is not None:
        valid = labels != ignore_index
        labels = T.where(valid, labels, 0)
    loss = -picked(logp, labels)
    counts = None if weight is None else class_weight("nll_loss", weight, logp)[labels]
    if counts is None and valid is None:
        return reduced("nll_loss", loss, reduction)
    return weighted("nll_loss", loss, T.astype(valid, dtype=logp.dtype) if counts is None else counts, valid, reduction)


def check_labels(op: str, labels: Tensor, x: Tensor) -> None:
    if labels.dtype.kind not in "iu":
        raise DtypeError(f"{op}: expected integer labels, got {labels.dtype}. Use labels.astype(int).")
    if labels.shape != x.shape[:-1]:
        raise ShapeError(f"{op}: expected labels {x.shape[:-1]} for {x.shape[-1]} classes, got {labels.shape}. "
                         "Labels have the shape of the input without its class axis.")


def class_weight(op: str, weight: Any, x: Tensor) -> Tensor:
    weight = real(op, weight, x)
    if weight.shape != x.shape[-1:]:
        raise ShapeError(f"{op}: expected a weight for each of {x.shape[-1]} classes, got shape {weight.shape}. "
                         "Pass one for each class.")
    return weight


def picked(x: Tensor, labels: Tensor) -> Tensor:
    """x[..., label] for each row."""
    index = T.reshape(labels, shape=(*labels.shape, 1))
    return T.reshape(T.take_along_axis(x, index, axis=x.ndim - 1), shape=labels.shape)


def weighted(op: str, loss: Tensor, counts: Tensor, valid: Tensor | None, reduction: str, scaled: bool = False) -> Tensor:
    """The losses times what they count, those of no valid label left out; the mean is the weighted one."""
    if not scaled:
        loss = loss * counts
    if valid is not None:
        loss, counts = T.where(valid, loss, 0), T.where(valid, counts, 0)
    if reduction != "mean":
        return reduced(op, loss, reduction)
    return reduced(op, loss, "sum") / reduced(op, counts, "sum")


# of numbers ------------------------------------------------------------------------------------------------------------


def mse_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """(prediction - target)^2."""
    a, b = same_shape("mse_loss", prediction, target)
    return reduced("mse_loss", T.square(a - b), reduction)


def l1_loss(prediction: Any, target: Any, reduction: str = "mean") -> Tensor:
    """|prediction - target|, with slope 0 at 0; of complex numbers, too."""
    a, b = same_shape("l1_loss", prediction, target, kinds="fc")
    return reduced("l1_loss", T.abs(a - b), reduction)


def huber_loss(prediction: Any, target: Any, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """d^2 / 2 where d = |prediction - target| <= delta, else delta (d - delta / 2)."""
    require("huber_loss", "delta", delta, delta > 0, "above 0")
    a, b = same_shape("huber_loss", prediction, target)
    return reduced("huber_loss", huber(T.abs(a - b), delta), reduction)


def smooth_l1_loss(prediction: Any, target: Any, beta: float = 1.0, reduction: str = "mean") -> Tensor:
    """huber_loss / beta: d^2 / (2 beta) where d = |prediction - target| <= beta, else d - beta / 2."""
    require("smooth_l1_loss", "beta", beta, beta >= 0, "at least 0")
    a, b = same_shape("smooth_l1_loss", prediction, target)
    d = T.abs(a - b)
    return reduced("smooth_l1_loss", huber(d, beta) / beta if beta else d, reduction)


def huber(d: Tensor, delta: float) -> Tensor:
    """With c = min(d, delta), both pieces are c (d - c / 2)."""
    c = T.minimum(d, delta)
    return c * (d - 0.5 * c)


def hinge_loss(prediction: Any, target: Any, margin: float = 1.0, reduction: str = "mean") -> Tensor:
    """max(0, margin - target prediction), for targets -1 and 1."""
    a, b = same_shape("hinge_loss", prediction, target)
    return reduced("hinge_loss", T.relu(margin - a * b), reduction)


# of probabilities ------------------------------------------------------------------------------------------------------


def binary_cross_entropy(probability: Any, target: Any, *, weight: Any = None, reduction: str = "mean") -> Tensor:
    """-(target log p + (1 - target) log(1 - p)), with logarithms of at least -100.

    Raises ArgumentError for a probability outside [0, 1] on the host. Prefer binary_cross_entropy_with_logits.
    """
    p, t = same_shape("binary_cross_entropy", probability, target)
    p = T.probabilities(p)
    tiny = 4e-44 if p.dtype.itemsize > 2 else 6e-8         # exp(-100), or the smallest float16
    loss = -(t * T.log(T.maximum(p, tiny)) + (1 - t) * T.log(T.maximum(1 - p, tiny)))
    return reduced("binary_cross_entropy", loss if weight is None else loss * real("binary_cross_entropy", weight, p), reduction)


def binary_cross_entropy_with_logits(logits: Any, target: Any, *, weight: Any = None, pos_weight: Any = None,
                                     reduction: str = "mean") -> Tensor:
    """binary_cross_entropy(sigmoid(logits), target), without overflow or lost digits.

    weight, pos_weight   broadcast against the logits; pos_weight counts only where the target is 1
    """
    op = "binary_cross_entropy_with_logits"
    x, t = same_shape(op, logits, target)
    if pos_weight is None:
        loss = T.softplus(x) - x * t
    else:
        loss = (1 - t) * x + (1 + (real(op, pos_weight, x) - 1) * t) * T.softplus(-x)
    return reduced(op, loss if weight is None else loss * real(op, weight, x), reduction)


def kl_div(log_input: Any, target: Any, *, log_target: bool = False, reduction: str = "mean") -> Tensor:
    """target (log target - log_input), and 0 where the target is 0; with log_target the target is a logarithm too.

    reduction="batchmean" divides the sum by the length of the first axis: the mean divergence of a batch of distributions.
    """
    x, t = same_shape("kl_div", log_input, target, "input and target")
    if log_target:
        loss = T.exp(t) * (t - x)
    else:
        positive = t > 0
        loss = T.where(positive, t * (T.log(T.where(positive, t, 1)) - x), 0)
    if reduction != "batchmean":
        return reduced("kl_div", loss, reduction)
    if not loss.ndim:
        raise ShapeError(f"kl_div: expected a batch along the first axis, got shape {loss.shape}. Use reduction='sum'.")
    return reduced("kl_div", loss, "sum") / loss.shape[0]


def gaussian_nll_loss(mean: Any, target: Any, variance: Any, eps: float = 1e-6, reduction: str = "mean") -> Tensor:
    """(log v + (mean - target)^2 / v) / 2, with v the variance, taken to be at least eps."""
    m, t = same_shape("gaussian_nll_loss", mean, target, "mean and target")
    v = T.maximum(real("gaussian_nll_loss", variance, m), eps)
    return reduced("gaussian_nll_loss", 0.5 * (T.log(v) + T.square(m - t) / v), reduction)


def poisson_nll_loss(log_rate: Any, target: Any, reduction: str = "mean", *, log_input: bool = True, full: bool = False,
                     eps: float = 1e-8) -> Tensor:
    """exp(log_rate) - target log_rate: the part of the likelihood that the rate moves.

    log_input   False where the rate itself is given: rate - target log(rate + eps)
    full        add Stirling's log(target!), target log target - target + log(2 pi target) / 2, where the target is above 1
    """
    x, t = same_shape("poisson_nll_loss", log_rate, target, "log_rate and target")
    loss = T.exp(x) - t * x if log_input else x - t * T.log(x + eps)
    if full:
        many = T.where(t > 1, t, 1)
        loss = loss + T.where(t > 1, many * T.log(many) - many + 0.5 * T.log(2 * math.pi * many), 0)
    return reduced("poisson_nll_loss", loss, reduction)


# of vectors ------------------------------------------------------------------------------------------------------------


def margin_ranking_loss(a: Any, b: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Tensor:
    """max(0, margin - target (a - b)): target 1 wants a above b, -1 below."""
    x, y = same_shape("margin_ranking_loss", a, b, "both inputs")
    _, t = same_shape("margin_ranking_loss", x, target, "inputs and target")
    return reduced("margin_ranking_loss", T.relu(margin - t * (x - y)), reduction)


def cosine_embedding_loss(a: Any, b: Any, target: Any, margin: float = 0.0, reduction: str = "mean") -> Tensor:
    """1 - cos(a, b) where the target is 1, max(0, cos(a, b) - margin) where it is -1; a, b (..., n), target (...)."""
    similarity, t = same_shape("cosine_embedding_loss", cosine_similarity(a, b), target, "rows and target")
    return reduced("cosine_embedding_loss", T.where(t > 0, 1 - similarity, T.relu(similarity - margin)), reduction)


def triplet_margin_loss(anchor: Any, positive: Any, negative: Any, margin: float = 1.0, reduction: str = "mean", *,
                        swap: bool = False) -> Tensor:
    """max(0, |anchor - positive| - |anchor - negative| + margin), with Euclidean distances along the last axis.

    swap   let the positive stand for the anchor where the negative is closer to it
    """
    near, far = pairwise_distance(anchor, positive), pairwise_distance(anchor, negative)
    if swap:
        far = T.minimum(far, pairwise_distance(positive, negative))
    return reduced("triplet_margin_loss", T.relu(near - far + margin), reduction)
