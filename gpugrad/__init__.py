"""gpugrad: automatic differentiation of any order for NumPy and CuPy arrays.

    import numpy as np
    import gpugrad as gg

    gg.grad(lambda x: np.sum(np.tanh(x)))(np.ones(3))      # arrays in, arrays out
    w = gg.tensor([1.0, 2.0], requires_grad=True)          # or Tensors that remember
    (w * w).sum().backward()
    w.grad

Every function of `gg.numpy` is also `gg.<name>`; the common ones of `gg.nn` too.
"""
from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import gpugrad.rules
from gpugrad import cuda, numpy
from gpugrad.arrays import Device as device
from gpugrad.arrays import default_device, synchronize
from gpugrad.errors import (
    AnomalyError,
    ArgumentError,
    AxisError,
    ConversionError,
    DeviceError,
    DtypeError,
    FileFormatError,
    GpugradError,
    GraphError,
    IndexingError,
    MissingExtraError,
    NoRuleError,
    ShapeError,
    TraceError,
)
from gpugrad.graph.state import detect_anomaly, enable_grad, is_grad_enabled, no_grad
from gpugrad.graph.tensor import Tensor, tensor
from gpugrad.transforms import gnvp, grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp, vmap
from gpugrad.version import __version__

import gpugrad.methods  # isort: skip - adds operators and methods to Tensor
import gpugrad.dispatch  # noqa: F401  # isort: skip - adds NumPy's protocols

if TYPE_CHECKING:
    from gpugrad import draw as draw
    from gpugrad import nn as nn
    from gpugrad import optim as optim
    from gpugrad import random as random
    from gpugrad.check import GradientError as GradientError
    from gpugrad.check import check_grads as check_grads
    from gpugrad.checkpoint import checkpoint as checkpoint
    from gpugrad.flat.compile import compile as compile
    from gpugrad.flat.control import cond as cond
    from gpugrad.flat.control import scan as scan
    from gpugrad.function import Function as Function
    from gpugrad.function import primitive as primitive
    from gpugrad.io import load as load
    from gpugrad.io import save as save
    from gpugrad.numpy import *  # noqa: F403
    from gpugrad.profiling import profile as profile

#: Names that are imported at their first use, so that `import gpugrad` stays quick: name -> module, or module and attribute.
LATER: dict[str, str] = {
    "nn": "gpugrad.nn", "optim": "gpugrad.optim", "random": "gpugrad.random",
    "check_grads": "gpugrad.check:check_grads", "GradientError": "gpugrad.check:GradientError",
    "checkpoint": "gpugrad.checkpoint:checkpoint",
    "Function": "gpugrad.function:Function", "primitive": "gpugrad.function:primitive",
    "compile": "gpugrad.flat.compile:compile", "cond": "gpugrad.flat.control:cond", "scan": "gpugrad.flat.control:scan",
    "profile": "gpugrad.profiling:profile",
    "save": "gpugrad.io:save", "load": "gpugrad.io:load", "draw": "gpugrad.draw",
    **{name: f"gpugrad.nn:{name}" for name in [
        "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "softplus", "softmax", "log_softmax", "linear", "layer_norm",
        "batch_norm", "dropout", "embedding", "one_hot", "cross_entropy", "mse_loss"]},
}

__all__ = [
    "AnomalyError", "ArgumentError", "AxisError", "ConversionError", "DeviceError", "DtypeError", "FileFormatError",
    "GpugradError", "GraphError", "IndexingError", "MissingExtraError", "NoRuleError", "ShapeError", "Tensor", "TraceError",
    "__version__",
    "cuda", "default_device", "detect_anomaly", "device", "enable_grad", "gnvp", "grad", "hessian", "hvp", "is_grad_enabled",
    "jacobian", "jvp", "no_grad", "numpy", "synchronize", "tensor", "value_and_grad", "vjp", "vmap",
]
__all__ += [*numpy.__all__, *LATER]


def __getattr__(name: str) -> Any:
    if name in numpy.__all__:
        value = getattr(numpy, name)
    elif name in LATER:
        module, _, attribute = LATER[name].partition(":")
        value = importlib.import_module(module)
        value = getattr(value, attribute) if attribute else value
    else:
        raise AttributeError(f"module 'gpugrad' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
