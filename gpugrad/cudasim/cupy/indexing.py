"""Indices as CuPy takes them: which arrays are among them, and what NumPy is to be asked when the work is done."""

import numpy as np

from .streams import copied


def as_tuple(index):
    return index if isinstance(index, tuple) else (index,)


def resolved(array, index):
    """(a function to the index for NumPy as it stands, its arrays, whether a mask is among them)."""
    items = as_tuple(index)
    taken = sum(_axes(i) for i in items)
    found, axis, masked = [], 0, False
    for item in items:
        size = 0
        if hasattr(item, "_host") or isinstance(item, list | np.ndarray):
            if not hasattr(item, "_host"):
                copied("to_device")
            item = item._host if hasattr(item, "_host") else np.asarray(item, None if len(item) else int)
            masked = masked or item.dtype == bool
            if item.dtype.kind in "iu" and axis < array.ndim:
                size = array.shape[axis]
        axis = axis + array.ndim - taken if item is Ellipsis else axis + _axes(item)
        found.append((item, size))
    one = not isinstance(index, tuple)

    def now():
        """Index arrays wrap around where they are out of bounds."""
        made = tuple([item % size if size else item for item, size in found])
        return made[0] if one else made
    return now, [item for item, _ in found if isinstance(item, np.ndarray)], masked


def _axes(item):
    """How many axes an item of an index stands for; an Ellipsis stands for the rest."""
    if item is None or item is Ellipsis or isinstance(item, bool | np.bool_):
        return 0
    return item.ndim if getattr(item, "dtype", None) == np.dtype(bool) else 1
