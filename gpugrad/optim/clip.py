"""Gradients brought within bounds before a step."""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from gpugrad.arrays import at_home, has_kernels, mark_changed, module_of, short
from gpugrad.errors import ArgumentError, DeviceError, DtypeError, require
from gpugrad.graph.namespace import RAW
from gpugrad.graph.state import clock
from gpugrad.graph.tensor import Tensor
from gpugrad.graph.views import replaced
from gpugrad.optim.optimizer import real_view
from gpugrad.trees import flatten


def clip_grad_norm(params: Any, max_norm: float, norm: float = 2.0) -> Tensor:
    """Scale the gradients so that their common norm is at most max_norm; returns the norm that they had.

    params   Tensors in any tree; those without a gradient are passed over
    norm     the order p of the norm of all elements together, or math.inf

    The result stays on the device. Raises ArgumentError for a max_norm below 0, and where no parameter has a gradient;
    DeviceError where they are on several devices.
    """
    require("clip_grad_norm", "max_norm", max_norm, max_norm >= 0, "at least 0")
    require("clip_grad_norm", "norm", norm, norm > 0, "above 0")
    grads = gradients("clip_grad_norm", params)
    if not grads:
        raise ArgumentError("clip_grad_norm: expected parameters with gradients, got none. Call backward first.")
    for g in grads:
        if g.device != grads[0].device:
            raise DeviceError(f"clip_grad_norm: expected gradients on one device, got some on {grads[0].device} and on "
                              f"{g.device}. Clip those of each device by themselves.")
    return Tensor(RAW[type(grads[0]._data)].at_home(scaled_down)(grads[0]._data, grads, max_norm, norm))


def clip_grad_value(params: Any, limit: float) -> None:
    """Bring every element of the gradients into [-limit, limit]; complex ones part by part.

    params   Tensors in any tree; those without a gradient are passed over

    Raises ArgumentError for a limit below 0.
    """
    require("clip_grad_value", "limit", limit, limit >= 0, "at least 0")
    for tensor in gradients("clip_grad_value", params):
        g = real_view(tensor._data)
        at_home(module_of(g).clip, module_of(g))(g, -limit, limit, out=g)
        mark_changed(g, clock())


# helpers -----------------------------------------------------------------------------------------------------------------

def gradients(op: str, params: Any) -> list[Tensor]:
    """The gradients that are there."""
    if isinstance(params, Iterator):
        params = list(params)
    grads = []
    for leaf in flatten(params)[0]:
        if not isinstance(leaf, Tensor):
            raise DtypeError(f"{op}: expected Tensors as parameters, got {short(leaf)}. Pass what the optimiser got.")
        if leaf.grad is not None:
            grads.append(leaf.grad)
    return grads


def scaled_down(first: Any, grads: list[Tensor], max_norm: float, norm: float) -> Any:
    """Scale the gradients, of which `first` is one's array, and return the norm that they had."""
    m = RAW[type(first)]
    xp = m.xp
    joint = side_by_side(xp, grads)
    arrays = [g._data for g in grads] if joint is None else [joint]
    norms = [norm_of(m, g, norm) for g in arrays]
    total = norms[0] if len(norms) == 1 else norm_of(m, xp.stack([n.astype(arrays[0].real.dtype) for n in norms]), norm)
    scale = xp.minimum(1, max_norm / (total + 1e-6))
    for g in arrays:
        xp.multiply(g, scale.astype(g.dtype), out=g)
        mark_changed(g, clock())
    return xp.asarray(total)


def side_by_side(xp: Any, grads: list[Tensor]) -> Any:
    """On a GPU, gradients of one dtype in one new array, of which they become views: few launches serve all of them.

    Zeros between them keep every one at a multiple of 16 bytes, as the optimisers' kernels like it. Else None.
    """
    arrays = [g._data for g in grads]
    if not has_kernels(xp) or len({(a.dtype, a.device.id) for a in arrays}) > 1:
        return None
    pack = max(1, 16 // arrays[0].dtype.itemsize)
    gap = xp.zeros(pack, arrays[0].dtype)
    joint = xp.concatenate([piece for a in arrays for piece in (a.reshape(-1), gap[:-a.size % pack])])
    start = 0
    for tensor, a in zip(grads, arrays, strict=True):
        tensor._data = joint[start:start + a.size].reshape(a.shape)
        replaced(tensor)
        start += a.size + -a.size % pack
    return joint


def norm_of(m: Any, array: Any, order: float) -> Any:
    size = m.xp.abs(array)
    if order == math.inf:
        return size.max() if size.size else m.xp.zeros((), size.dtype)
    powers = size * size if order == 2 else size ** order
    return m.sum(powers, axis=tuple(range(size.ndim)), keepdims=False) ** (1 / order)
