"""Normalisation: (x - mean) / sqrt(variance + eps) over some axes, times a weight, plus a bias.

All rest on one primitive, `standardize`, and differ in the axes. The variance divides by the number of elements. On a GPU those
over the last axes are one launch, and so are their pullbacks, the sum with a residual and the sum of its gradients included.
"""
from __future__ import annotations

import math
from typing import Any

from gpugrad.arrays import mark_changed
from gpugrad.errors import ArgumentError, ShapeError, require
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.state import clock
from gpugrad.graph.tensor import Tensor
from gpugrad.nn._arguments import in_one_launch, real, same_shape
from gpugrad.numpy._arguments import normalize_axis

__all__ = ["add_layer_norm", "add_rms_norm", "batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"]


def layer_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5,
               axis: int | tuple[int, ...] | None = None, *, residual: Any = None) -> Tensor:
    """(x - mean) / sqrt(variance + eps) weight + bias, mean and variance over the axis or axes.

    axis           by default as many of the last axes as the weight has, or the last one
    weight, bias   of the shape of those axes, or None
    residual       of x's shape: what is normalised is x + residual, as after a block of a transformer
    return         of x's shape, of the dtype that all of them promote to

    Raises ShapeError where weight, bias or residual have another shape, AxisError for an axis that x lacks.
    """
    return layer_normed("layer_norm", x, residual, weight, bias, eps, axis)[0]


def add_layer_norm(x: Any, residual: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5,
                   axis: int | tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    """(layer_norm(u), u) of u = x + residual, for blocks that go on with both; arguments and errors are layer_norm's."""
    return layer_normed("add_layer_norm", x, residual, weight, bias, eps, axis)


def rms_norm(x: Any, weight: Any = None, eps: float = 1e-6, axis: int | tuple[int, ...] | None = None, *,
             residual: Any = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) weight, the mean over the axes; arguments and errors are layer_norm's.

    Source: Zhang & Sennrich 2019.
    """
    return rms_normed("rms_norm", x, residual, weight, eps, axis)[0]


def add_rms_norm(x: Any, residual: Any, weight: Any = None, eps: float = 1e-6,
                 axis: int | tuple[int, ...] | None = None) -> tuple[Tensor, Tensor]:
    """(rms_norm(u), u) of u = x + residual; arguments and errors are layer_norm's."""
    return rms_normed("add_rms_norm", x, residual, weight, eps, axis)


def batch_norm(x: Any, running_mean: Tensor | None = None, running_var: Tensor | None = None, weight: Any = None,
               bias: Any = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """Each channel of x (N, C, ...) normalised over all other axes, by its own statistics or by the running ones.

    running_mean, running_var   (C,) Tensors; in training they move by `momentum` towards the batch's mean and unbiased
                                variance, in place and outside the graph; else they stand for the batch's statistics
    weight, bias                (C,) or None

    PyTorch's definition and order of arguments.
    """
    x = real("batch_norm", x)
    if x.ndim < 2:
        raise ShapeError(f"batch_norm: expected x (N, C, ...), got {x.shape}. Insert the batch or the channel axis.")
    axes = (0, *range(2, x.ndim))
    count = math.prod(x.shape[a] for a in axes)
    channels = (x.shape[1], *(1,) * (x.ndim - 2))
    for name, statistic in (("running_mean", running_mean), ("running_var", running_var)):
        if statistic is not None and (not isinstance(statistic, Tensor) or statistic.shape != x.shape[1:2]):
            raise ShapeError(f"batch_norm: expected {name} as a Tensor of shape {x.shape[1:2]}, got "
                             f"{getattr(statistic, 'shape', statistic)}. One number for each channel.")
    if training or running_mean is None or running_var is None:
        if not training:
            raise ArgumentError("batch_norm: expected running_mean and running_var outside training, got None. "
                                "Pass them, or training=True.")
        if count < 2:
            raise ShapeError(f"batch_norm: expected more than one value for each channel in training, got {x.shape}. "
                             "Use a larger batch.")
        n, r, mean = T.standardize(x, axis=axes, eps=checked_eps("batch_norm", eps))
        if running_mean is not None:
            follow(running_mean, mean, momentum)
        if running_var is not None:
            follow(running_var, (1 / T.square(r) - eps) * (count / (count - 1)), momentum)
    else:
        scale = 1 / T.sqrt(running_var + checked_eps("batch_norm", eps))
        n = (x - T.reshape(running_mean, shape=channels)) * T.reshape(scale, shape=channels)
    return affine("batch_norm", n, per_channel("batch_norm", weight, x), per_channel("batch_norm", bias, x), None)


def group_norm(x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """The channels of x (N, C, ...) in groups that are normalised together, each sample for itself; weight and bias (C,)."""
    x = real("group_norm", x)
    if x.ndim < 2 or not isinstance(groups, int) or groups < 1 or x.shape[1] % groups:
        raise ShapeError(f"group_norm: expected x (N, C, ...) whose C is a multiple of groups, got {x.shape} and {groups!r}. "
                         "Choose a divisor of C.")
    grouped = T.reshape(x, shape=(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    n, _, _ = T.standardize(grouped, axis=tuple(range(2, grouped.ndim)), eps=checked_eps("group_norm", eps))
    return affine("group_norm", T.reshape(n, shape=x.shape), per_channel("group_norm", weight, x),
                  per_channel("group_norm", bias, x), None)


def instance_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """Each channel of each sample of x (N, C, ...) normalised for itself; weight and bias (C,)."""
    x = real("instance_norm", x)
    if x.ndim < 3:
        raise ShapeError(f"instance_norm: expected x (N, C, ...) with axes behind the channels, got {x.shape}. Use batch_norm.")
    n, _, _ = T.standardize(x, axis=tuple(range(2, x.ndim)), eps=checked_eps("instance_norm", eps))
    return affine("instance_norm", n, per_channel("instance_norm", weight, x), per_channel("instance_norm", bias, x), None)


# helpers -----------------------------------------------------------------------------------------------------------------

def checked_eps(op: str, eps: float) -> float:
    require(op, "eps", eps, eps >= 0, "at least 0")
    return float(eps)


def trailing(op: str, x: Tensor, weight: Any, axis: Any) -> tuple[int, ...]:
    """The axes to normalise over, none of them of length 0."""
    if axis is None:
        last = 1 if weight is None else real(op, weight).ndim
        axes = tuple(range(x.ndim - last, x.ndim))
        if not axes or axes[0] < 0:
            raise ShapeError(f"{op}: expected x with at least {max(last, 1)} axes, got shape {x.shape}. "
                             "The weight names the last axes.")
    else:
        axes = normalize_axis(op, axis, x.ndim)
    if any(x.shape[a] == 0 for a in axes):
        raise ShapeError(f"{op}: expected at least one element to normalise over, got shape {x.shape} and "
                         f"axes {axes}. Check x.")
    return axes


def layer_normed(op: str, x: Any, residual: Any, weight: Any, bias: Any, eps: float, axis: Any) -> tuple[Tensor, Tensor]:
    x = real(op, x)
    axes = trailing(op, x, weight if weight is not None else bias, axis)
    return over_last(op, x, residual, weight, bias, axes, checked_eps(op, eps), True)


def rms_normed(op: str, x: Any, residual: Any, weight: Any, eps: float, axis: Any) -> tuple[Tensor, Tensor]:
    x = real(op, x)
    return over_last(op, x, residual, weight, None, trailing(op, x, weight, axis), checked_eps(op, eps), False)


def over_last(op: str, x: Tensor, residual: Any, weight: Any, bias: Any, axes: tuple[int, ...], eps: float,
              centre: bool) -> tuple[Tensor, Tensor]:
    """(u normalised, times the weight, plus the bias; u = x + residual): in one launch where the axes are the last ones and
    kernels are compiled."""
    if residual is not None:
        x, residual = same_shape(op, x, residual, "x and residual")
    if axes == tuple(range(x.ndim - len(axes), x.ndim)):
        weight, bias = (placed(op, p, x, axes) for p in (weight, bias))
        if in_one_launch(x, residual, weight, bias):
            how: dict[str, Any] = {"axes": len(axes), "eps": eps, "centre": centre}
            if residual is None:
                return T.layer_norm(x, weight, bias, **how)[0], x
            if residual.dtype == x.dtype:
                return T.add_layer_norm(x, residual, weight, bias, **how)[:2]
    u = x if residual is None else x + residual
    n, _, _ = T.standardize(u, axis=axes, eps=eps, centre=centre)
    return affine(op, n, weight, bias, axes), u


def affine(op: str, n: Tensor, weight: Any, bias: Any, axes: tuple[int, ...] | None) -> Tensor:
    """n weight + bias; parameters given for `axes` are first put there."""
    weight, bias = (placed(op, p, n, axes) for p in (weight, bias))
    if weight is None:
        return n if bias is None else n + bias
    return n * weight if bias is None else T.scale_shift(n, weight, bias)


def placed(op: str, parameter: Any, n: Tensor, axes: tuple[int, ...] | None) -> Tensor | None:
    if parameter is None or axes is None:
        return parameter
    parameter = real(op, parameter, n)
    expected = tuple(n.shape[a] for a in axes)
    if parameter.shape != expected:
        raise ShapeError(f"{op}: expected weight and bias of shape {expected}, as the normalised axes are, got "
                         f"{parameter.shape}. Check the layer's width.")
    if axes == tuple(range(n.ndim - len(axes), n.ndim)):
        return parameter
    return T.reshape(parameter, shape=tuple(k if i in axes else 1 for i, k in enumerate(n.shape)))


def per_channel(op: str, parameter: Any, x: Tensor) -> Tensor | None:
    """(C,) as it broadcasts against x (N, C, ...)."""
    if parameter is None:
        return None
    parameter = real(op, parameter, x)
    if parameter.shape != x.shape[1:2]:
        raise ShapeError(f"{op}: expected weight and bias of shape {x.shape[1:2]}, got {parameter.shape}. "
                         "One number for each channel.")
    return T.reshape(parameter, shape=(x.shape[1], *(1,) * (x.ndim - 2)))


def follow(running: Tensor, batch: Tensor, momentum: float) -> None:
    """running moves by `momentum` towards the batch's statistic, in its own array."""
    array = running._data
    array *= 1 - momentum
    array += momentum * batch.detach()._data.reshape(array.shape).astype(array.dtype, copy=False)
    mark_changed(array, clock())
