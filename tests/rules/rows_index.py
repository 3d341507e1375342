"""Rows for gpugrad/rules/index.py."""
import numpy as np
from rows import Row

from gpugrad.arrays.levelled import ARRAY

MASK = np.array([[True, False, True, False], [False, False, False, True], [True, True, False, False]])


def read(x, *arrays, index):
    rest = iter(arrays)
    return x[tuple(next(rest) if item is ARRAY else item for item in index)]


def place(g, index, shape):
    y = np.zeros(shape, g.dtype)
    y[index] = g
    return y


def replace(x, v, *arrays, index):
    y = x.copy()
    rest = iter(arrays)
    y[tuple(next(rest) if item is ARRAY else item for item in index) if arrays else index] = v
    return y


def add_up(g, *arrays, index, shape):
    y = np.zeros(shape, g.dtype)
    rest = iter(arrays)
    np.add.at(y, tuple(next(rest) if item is ARRAY else item for item in index), g)
    return y


#: An index of a (3, 4) array that names no element twice.
DISTINCT = {"int": 1, "negative": -1, "slice": slice(1, None), "steps": (slice(None, None, 2), slice(None, None, -1)),
            "new-axis": (None, slice(None), 2), "ellipsis": (..., 1), "element": (2, 3), "nothing": slice(2, 2), "all": ...,
            "mask": MASK, "mask-of-rows": (np.array([True, False, True]), slice(1, 3)), "mask-of-columns": (slice(None), MASK[1]),
            "one": True}

#: (shape, index, index arrays); arrays name elements twice and from the end.
REPEATED = {
    "rows": ((3, 4), (ARRAY, slice(None)), [[0, 2, 2, -1, 0]]),
    "columns": ((3, 4), (slice(None), ARRAY), [[0, 3, 3, -4]]),
    "table": ((3, 4), (ARRAY, slice(None)), [[[0, 1], [2, 0], [1, 1]]]),
    "elements": ((3, 4), (ARRAY, ARRAY), [[0, 2, 2], [1, 3, 3]]),
    "grid": ((3, 4), (ARRAY, ARRAY), [[[0], [2]], [1, 1, 3]]),
    "middle": ((2, 3, 4), (slice(None), ARRAY, slice(1, None, 2)), [[0, 2, 2]]),
    "middle-pair": ((2, 3, 4, 2), (slice(None), ARRAY, ARRAY, slice(None)), [[0, 2, 2], [1, 1, 1]]),
    "apart": ((2, 3, 4), (ARRAY, slice(None), ARRAY), [[0, 1, 1], [3, 3, 3]]),
    "apart-behind": ((2, 3, 2, 4), (slice(None), ARRAY, slice(None), ARRAY), [[0, 1, 1], [3, 3, 3]]),
    "with-int": ((2, 3, 4), (1, slice(None), ARRAY), [[0, 1, 1]]),
    "new-axis": ((3, 4), (None, ARRAY, None, slice(None, None, -1)), [[0, 1, 1]]),
    "new-axis-between": ((3, 4), (ARRAY, None, ARRAY), [[0, 1, 1], [2, 2, 2]]),
    "number": ((3, 4), (ARRAY, slice(1, 3)), [1]),
    "none": ((3, 4), (ARRAY, slice(None)), [np.zeros(0, int)]),
}


def from_diagonal(g, offset, axis1, axis2, shape):
    y = np.zeros(shape, g.dtype)
    for place in np.ndindex(g.shape):
        y[place[1] + max(0, -offset), place[0], place[1] + max(0, offset)] = g[place]
    return y


def shape_of(shape, index):
    return np.zeros(shape)[index].shape


def arrays_of(parts):
    return [np.asarray(part) for part in parts]


ROWS = [
    Row("counted", args=lambda rng: (rng.normal(size=(3, 2)),), params={"size": 4, "rank": 2},
        ref=lambda x, size, rank: np.arange(4).reshape(4, 1, 1)),
    Row("last_writes", args=lambda rng: (np.array([0, 2, 2, 0]), np.array([1, 1, -3, 0])),
        params={"index": (ARRAY, ARRAY), "shape": (3, 4)}, ref=lambda *arrays, index, shape: np.array([True, False, True, True])),
    *[Row("getitem", label, shapes=[(3, 4)], params={"index": index}, ref=lambda x, index: x[index], complex_ok=True)
      for label, index in DISTINCT.items()],
    *[Row("scatter", label, shapes=[shape_of((3, 4), index)], params={"index": index, "shape": (3, 4)}, ref=place,
          complex_ok=True)
      for label, index in DISTINCT.items()],
    *[Row("setitem", label,
          args=lambda rng, index=index: (rng.normal(size=(3, 4)), rng.normal(size=shape_of((3, 4), index))),
          params={"index": index}, ref=replace, complex_ok=True) for label, index in DISTINCT.items()],
    Row("setitem", "broadcast", args=lambda rng: (rng.normal(size=(3, 4)), rng.normal(size=(4,))),
        params={"index": slice(1, None)}, ref=replace, complex_ok=True),
    Row("setitem", "number", args=lambda rng: (rng.normal(size=(3, 4)), rng.normal(size=())),
        params={"index": (slice(None), 1)}, ref=replace, complex_ok=True),
    *[Row("gather", label, args=lambda rng, shape=shape, arrays=arrays: (rng.normal(size=shape), *arrays_of(arrays)),
          params={"index": index}, ref=read, complex_ok=True) for label, (shape, index, arrays) in REPEATED.items()],
    *[Row("scatter_add", label, ref=add_up, complex_ok=True, params={"index": index, "shape": shape},
          args=lambda rng, shape=shape, index=index, arrays=arrays: (
              rng.normal(size=read(np.zeros(shape), *arrays_of(arrays), index=index).shape), *arrays_of(arrays)))
      for label, (shape, index, arrays) in REPEATED.items()],
    *[Row("scatter_set", label, ref=replace, complex_ok=True, params={"index": index},
          args=lambda rng, shape=shape, index=index, arrays=arrays: (
              rng.normal(size=shape), rng.normal(size=read(np.zeros(shape), *arrays_of(arrays), index=index).shape),
              *arrays_of(arrays)))
      for label, (shape, index, arrays) in REPEATED.items()],
    Row("scatter_set", "broadcast", args=lambda rng: (rng.normal(size=(3, 4)), rng.normal(size=()), np.array([0, 2, 2])),
        params={"index": (ARRAY, slice(None))}, ref=replace, complex_ok=True),
    Row("sort", shapes=[(5,), (3, 4), (0, 3)], params={"axis": 0}, complex_ok=True),
    Row("sort", "last", shapes=[(3, 4), (2, 3, 4)], params={"axis": 1}),
    Row("argsort", shapes=[(5,), (3, 4)], params={"axis": 0}),
    Row("argsort", "stable", args=lambda rng: (rng.integers(0, 3, size=(4, 9)),), params={"axis": 1, "kind": "stable"}),
    Row("argpartition", shapes=[(7,), (7, 4)], params={"kth": 3, "axis": 0}),
    Row("searchsorted", args=lambda rng: (np.sort(rng.normal(size=8)), rng.normal(size=(2, 3))), params={"side": "left"}),
    Row("searchsorted", "right", args=lambda rng: (np.arange(5.0), np.arange(5.0)), params={"side": "right"}),
    *[Row("diagonal", f"{offset}{axes}", shapes=[(3, 4, 2)], complex_ok=True,
          params={"offset": offset, "axis1": axes[0], "axis2": axes[1]},
          ref=lambda x, offset, axis1, axis2: np.diagonal(x, offset, axis1, axis2))
      for offset in (0, 1, -2) for axes in ((0, 1), (1, 0), (2, 0))],
    *[Row("from_diagonal", str(offset), args=lambda rng, offset=offset: (rng.normal(size=(2, 3)),), complex_ok=True,
          params={"offset": offset, "axis1": 0, "axis2": 2, "shape": (3 + max(0, -offset), 2, 3 + max(0, offset))},
          ref=from_diagonal) for offset in (0, 1, -1)],
    Row("ranged", args=lambda rng: (np.array([[0, 2], [1, 0]]),), params={"low": 0, "high": 2, "text": "got {off}"},
        ref=lambda x, low, high, text: x),
    Row("tril", shapes=[(3, 4), (2, 3, 3)], params={"k": 0}, complex_ok=True),
    Row("triu", shapes=[(3, 4), (2, 3, 3)], params={"k": 1}, complex_ok=True),
]
