"""`cupyx` of the stand-in: adding, and taking the most or least, at places that may repeat."""

import numpy as _np

from .cupy.array import ndarray, operand
from .cupy.blocks import submit as _submit

_ADDED = {"float16", "float32", "float64", "int32", "uint32", "uint64"}
_ORDERED = {"float32", "float64", "int32", "uint32", "uint64"}


def scatter_add(a, slices, value):
    _scatter("add", _ADDED, a, slices, value)


def scatter_max(a, slices, value):
    _scatter("maximum", _ORDERED, a, slices, value)


def scatter_min(a, slices, value):
    _scatter("minimum", _ORDERED, a, slices, value)


def _scatter(name, dtypes, a, slices, value):
    if a.dtype.name not in dtypes:
        raise TypeError(f"cupyx.scatter_{name} only supports {', '.join(sorted(dtypes))} as data type, got {a.dtype}")
    items = slices if isinstance(slices, tuple) else (slices,)
    places = tuple([operand(i) if isinstance(i, ndarray) else i for i in items])
    value = operand(value)
    reads = [x for x in (a._host, *places, value) if isinstance(x, _np.ndarray)]
    _submit(f"cupy_scatter_{name}", a._number, [operand(a)], [a._host],
            lambda: getattr(_np, name).at(a._host, places, value), holds=reads)
