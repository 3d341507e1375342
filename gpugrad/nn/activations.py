"""Activations: elementwise, apart from softmax, log_softmax and glu. NaN goes through all of them."""
from __future__ import annotations

from typing import Any

from gpugrad.errors import ArgumentError, ShapeError, require
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.nn._arguments import real
from gpugrad.numpy._arguments import as_tensor, normalize_axis, one_axis

__all__ = ["celu", "elu", "gelu", "glu", "hard_sigmoid", "hard_swish", "hard_tanh", "hardshrink", "leaky_relu",
           "log_sigmoid", "log_softmax", "mish", "prelu", "relu", "relu6", "selu", "sigmoid", "silu", "soft_sign",
           "softmax", "softplus", "softshrink", "squareplus", "swish", "tanh", "tanhshrink", "threshold"]

# piecewise -------------------------------------------------------------------------------------------------------------


def relu(x: Any) -> Tensor:
    """max(x, 0), with slope 0 at 0. Keeps its result and nothing else, which a layer behind it keeps anyway."""
    return T.relu(x if type(x) is Tensor else as_tensor("relu", x))


def relu6(x: Any) -> Tensor:
    """min(max(x, 0), 6)."""
    return T.minimum(relu(x), 6)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope x; at 0 the slope is negative_slope."""
    return T.leaky_relu(real("leaky_relu", x), negative_slope)


def prelu(x: Any, weight: Any) -> Tensor:
    """leaky_relu with slopes that are learnt: weight broadcasts against x.

    PyTorch's layout, one slope for each channel of (N, C, ...), is weight[:, None, ...].
    """
    x = real("prelu", x)
    return T.leaky_relu(x, real("prelu", weight, x))


def elu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha (exp(x) - 1)."""
    return T.elu(real("elu", x), alpha)


def celu(x: Any, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha (exp(x / alpha) - 1): elu without a kink for any alpha > 0."""
    require("celu", "alpha", alpha, alpha > 0, "above 0")
    return T.elu(real("celu", x) / alpha, 1.0) * alpha


def selu(x: Any) -> Tensor:
    """1.0507 elu(x, 1.6733), which keeps mean 0 and variance 1. Source: Klambauer et al. 2017."""
    return T.elu(real("selu", x), 1.6732632423543772) * 1.0507009873554805


def threshold(x: Any, limit: float, value: float) -> Tensor:
    """x where x > limit, else value."""
    x = real("threshold", x)
    return T.where(x <= limit, value, x)


def hard_tanh(x: Any, low: float = -1.0, high: float = 1.0) -> Tensor:
    """min(max(x, low), high)."""
    require("hard_tanh", "low", low, low <= high, f"at most high {high!r}")
    return T.minimum(T.maximum(real("hard_tanh", x), low), high)


def hard_sigmoid(x: Any) -> Tensor:
    """min(max(x / 6 + 1/2, 0), 1)."""
    return T.minimum(T.maximum(real("hard_sigmoid", x) / 6 + 0.5, 0), 1)


def hard_swish(x: Any) -> Tensor:
    """x hard_sigmoid(x): 0 up to -3, x from 3 on, also at the infinities."""
    x = real("hard_swish", x)
    inner = T.clip(x, -3, 3)
    return T.where(x > 3, x, inner * (inner + 3) / 6)


def hardshrink(x: Any, limit: float = 0.5) -> Tensor:
    """x where |x| > limit, else 0."""
    x = real("hardshrink", x)
    return T.where(T.abs(x) <= limit, 0, x)


def softshrink(x: Any, limit: float = 0.5) -> Tensor:
    """x without the part of it in [-limit, limit]."""
    require("softshrink", "limit", limit, limit >= 0, "at least 0")
    x = real("softshrink", x)
    return T.where(T.abs(x) <= limit, 0, x - limit * T.sign(x))


# smooth ----------------------------------------------------------------------------------------------------------------


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent."""
    return T.tanh(real("tanh", x))


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + exp(-x)), without overflow and to full precision on both sides; of complex numbers, too."""
    x = real("sigmoid", x, kinds="fc")
    if x.dtype.kind != "c":
        return T.sigmoid(x)
    left = T.real(x) < 0
    e = T.exp(T.where(left, x, -x))
    return T.where(left, e, 1) / (1 + e)


def log_sigmoid(x: Any) -> Tensor:
    """log(sigmoid(x)), without overflow."""
    return -T.softplus(-real("log_sigmoid", x))


def softplus(x: Any, beta: float = 1.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, without overflow."""
    require("softplus", "beta", beta, beta > 0, "above 0")
    x = real("softplus", x)
    return T.softplus(x) if beta == 1 else T.softplus(x * beta) / beta


def silu(x: Any) -> Tensor:
    """x sigmoid(x), also called swish."""
    return T.silu(real("silu", x))


swish = silu


def gelu(x: Any, approximate: str = "none") -> Tensor:
    """x P(x), P the distribution of a standard normal variable; or with approximate="tanh" the usual formula in tanh."""
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f"gelu: expected approximate 'none' or 'tanh', got {approximate!r}. Choose one of them.")
    x = real("gelu", x)
    return T.gelu(x) if approximate == "none" else T.gelu_tanh(x)


def mish(x: Any) -> Tensor:
    """x tanh(softplus(x))."""
    x = real("mish", x)
    return x * T.tanh(T.softplus(x))


def soft_sign(x: Any) -> Tensor:
    """x / (1 + |x|)."""
    x = real("soft_sign", x)
    return x / (1 + T.abs(x))


def squareplus(x: Any, b: float = 4.0) -> Tensor:
    """(x + sqrt(x^2 + b)) / 2."""
    require("squareplus", "b", b, b > 0, "above 0")
    x = real("squareplus", x)
    return (x + T.sqrt(x * x + b)) * 0.5


def tanhshrink(x: Any) -> Tensor:
    """x - tanh(x)."""
    x = real("tanhshrink", x)
    return x - T.tanh(x)


# along an axis ---------------------------------------------------------------------------------------------------------


def softmax(x: Any, axis: int | tuple[int, ...] = -1) -> Tensor:
    """exp(x) / sum exp(x) along the axis or axes, without overflow. A slice of all -inf is NaN.

    Raises AxisError for an axis that x lacks, ShapeError where one has length 0.
    """
    x, axes = sliced("softmax", x, axis)
    return T.softmax(x, axis=axes)


def log_softmax(x: Any, axis: int | tuple[int, ...] = -1) -> Tensor:
    """x - log sum exp(x) along the axis or axes: the logarithm of softmax, exact where that rounds to 0."""
    x, axes = sliced("log_softmax", x, axis)
    return T.log_softmax(x, axis=axes)


def sliced(op: str, x: Any, axis: Any) -> tuple[Tensor, tuple[int, ...]]:
    x = real(op, x)
    axes = normalize_axis(op, axis, x.ndim)
    if x.size == 0 and any(x.shape[a] == 0 for a in axes):
        raise ShapeError(f"{op}: expected at least one element along axis {axis}, got shape {x.shape}. Check the input.")
    return x, axes


def glu(x: Any, axis: int = -1) -> Tensor:
    """a sigmoid(b), where a and b are the two halves of x along the axis."""
    x = real("glu", x)
    a = one_axis("glu", axis, x.ndim)
    if x.shape[a] % 2:
        raise ShapeError(f"glu: expected an even length along axis {axis}, got shape {x.shape}. One half is the gate.")
    half = x.shape[a] // 2
    value, gate = T.split(x, sizes=(half, half), axis=a)
    return value * T.sigmoid(gate)
