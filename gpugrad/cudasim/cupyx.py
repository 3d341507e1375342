"""`cupyx` of the stand-in: the functions that CuPy 14 deprecates in favour of `ufunc.at`."""

import warnings as _warnings

from . import cupy as _cupy


def scatter_add(a, slices, value):
    _scatter("scatter_add", "add", a, slices, value)


def scatter_max(a, slices, value):
    _scatter("scatter_max", "maximum", a, slices, value)


def scatter_min(a, slices, value):
    _scatter("scatter_min", "minimum", a, slices, value)


def _scatter(name, ufunc, a, slices, value):
    _warnings.warn(f"`ndarray.{name}` is deprecated. Please use `cupy.{ufunc}.at` instead.", DeprecationWarning, stacklevel=3)
    getattr(_cupy, ufunc).at(a, slices, value)
