"""Standardisation over any axes: the core of layer, batch, group, instance and RMS norm.

n = (x - mean) r,  r = (mean((x - mean)^2) + eps)^(-1/2);  without centring the mean is left out (RMS norm)
dx = r (g - mean g - n mean(g n)),  linear and symmetric in g

x, n, g, dx of one shape; mean and r keep the reduced axes with length 1. `axis` is a tuple.
"""
from __future__ import annotations

from functools import partial

from gpugrad.kernels.elementwise import generated


def standardize(xp):
    """(n, r, mean)."""
    def run(x, axis, eps, centre=True):
        length = reduced_size(x, axis)
        if centre:
            mean = x.sum(axis=axis, keepdims=True)
            mean /= length
            n = x - mean
            square = n * n
        else:
            square = n = x * x
            mean = xp.zeros(tuple([1 if i in axis else k for i, k in enumerate(x.shape)]), x.dtype)
        r = square.sum(axis=axis, keepdims=True)
        r /= length
        r += eps
        xp.sqrt(r, out=r)
        xp.divide(1, r, out=r)
        if centre:
            n *= r
        else:
            xp.multiply(x, r, out=n)
        return n, r, mean
    return run


def standardize_pull(xp):
    def run(g, n, r, axis, centre=True):
        length = reduced_size(n, axis)
        out = g * n
        slope = out.sum(axis=axis, keepdims=True)
        slope /= -length
        xp.multiply(n, slope, out=out)
        out += g
        if centre:
            mean = g.sum(axis=axis, keepdims=True)
            mean /= length
            out -= mean
        out *= r
        return out
    return run


@partial(generated, "scale_shift")
def scale_shift(xp):
    """n scale + shift with broadcasting, in one new array."""
    def run(n, scale, shift):
        y = n * scale
        if y.shape == numpy_shape(y, shift) and y.dtype == shift.dtype:
            y += shift
            return y
        return y + shift
    return run


def numpy_shape(y, shift):
    """y's shape if shift broadcasts to it."""
    short = (1,) * (y.ndim - shift.ndim) + shift.shape
    return y.shape if all(n in (1, k) for n, k in zip(short, y.shape)) and shift.ndim <= y.ndim else None


def reduced_size(x, axis):
    n = 1
    for a in axis:
        n *= x.shape[a]
    return n
