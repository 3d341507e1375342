"""Operations that move elements."""
import numpy as np
from rows import Row


def pair(shape_a, shape_b):
    return lambda rng: (rng.normal(size=shape_a), rng.normal(size=shape_b))


def mixed_dtypes(rng):
    return rng.normal(size=(2, 3)), rng.integers(0, 5, size=(2, 2)), rng.normal(size=(2, 1)) + 1j


def joined(function):
    return lambda *xs, axis=0: function(xs, axis=axis)


def split_at(x, sizes, axis):
    return np.split(x, np.cumsum(sizes)[:-1], axis=axis)


def summed_to(x, shape):
    lead = tuple(range(x.ndim - len(shape)))
    kept = np.sum(x, axis=lead)
    return np.sum(kept, axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


def padded(x, pad_width, value=0):
    return np.pad(x, pad_width, constant_values=value)


ROWS = [
    Row("alias", ref=np.asarray, complex_ok=True),
    Row("astype", label="single", params={"dtype": np.dtype("f4")}, ref=lambda x, dtype: x.astype(dtype).astype(float),
        keeps_dtype=False, shapes=[(4,)], smooth=False, loose=1e8),       # float32 has 2^29 times coarser steps than float64
    Row("astype", label="double", params={"dtype": np.dtype("f8")}, ref=lambda x, dtype: x.astype(dtype), keeps_dtype=False),
    Row("astype", label="complex", params={"dtype": np.dtype("c16")}, ref=lambda x, dtype: x.astype(dtype), keeps_dtype=False),
    Row("discretise", params={"dtype": np.dtype("i8")}, ref=lambda x, dtype: x.astype(dtype)),
    Row("reshape", shapes=[(3, 4)], params={"shape": (2, 6)}, complex_ok=True),
    Row("reshape", label="empty", shapes=[(0, 3)], params={"shape": (0,)}),
    Row("reshape", label="scalar", shapes=[()], params={"shape": (1, 1)}),
    Row("transpose", shapes=[(2, 3, 4), (0, 1, 2)], params={"axes": (2, 0, 1)}, complex_ok=True),
    Row("transpose", label="scalar", shapes=[()], params={"axes": ()}),
    Row("spread", shapes=[(), (4,), (3, 1), (1, 1, 1)], params={"shape": (2, 3, 4)}, ref=np.broadcast_to, complex_ok=True),
    Row("spread", label="large", shapes=[(), (1, 1)], params={"shape": (100, 100)}, ref=np.broadcast_to, order=1),
    Row("spread", label="empty", shapes=[(), (1, 3), (0, 1)], params={"shape": (0, 3)}, ref=np.broadcast_to),
    Row("sum_to", shapes=[(3, 4), (2, 3, 4), (3, 1), (0, 3, 4)], params={"shape": (3, 1)}, ref=summed_to, complex_ok=True),
    Row("sum_to", label="scalar", shapes=[(), (4,), (2, 0)], params={"shape": ()}, ref=summed_to),
    Row("sum_to", label="leading", shapes=[(2, 3, 4), (4,), (0, 4)], params={"shape": (4,)}, ref=summed_to),
    Row("flip", shapes=[(2, 3, 4), (0, 1, 2)], params={"axis": (0, 2)}, complex_ok=True),
    Row("roll", shapes=[(2, 3, 4), (0, 1, 2)], params={"shift": (1, -2), "axis": (0, 2)}, complex_ok=True),
    Row("pad", shapes=[(2, 3), (0, 3)], params={"pad_width": ((1, 0), (2, 3))}, ref=padded, complex_ok=True),
    Row("pad", label="ones", shapes=[(2, 3)], params={"pad_width": ((1, 1), (0, 0)), "value": 1.0}, ref=padded),
    Row("zeros_as", shapes=[(3,), ()], params={"shape": (2, 2)}, ref=lambda x, shape: np.zeros(shape)),
    Row("concatenate", args=pair((2, 3), (2, 4)), params={"axis": 1}, ref=joined(np.concatenate), complex_ok=True),
    Row("concatenate", label="empty", args=pair((0, 3), (2, 3)), params={"axis": 0}, ref=joined(np.concatenate)),
    Row("concatenate", label="mixed", args=mixed_dtypes, params={"axis": 1}, ref=joined(np.concatenate), wrt=(0, 2),
        dtypes=("float64",)),         # int64 and float32 meet in float64
    Row("stack", args=pair((2, 3), (2, 3)), params={"axis": 1}, ref=joined(np.stack), complex_ok=True),
    Row("stack", label="scalars", args=pair((), ()), params={"axis": 0}, ref=joined(np.stack)),
    Row("split", shapes=[(2, 6), (0, 6)], params={"sizes": (1, 0, 3, 2), "axis": 1}, ref=split_at, complex_ok=True),
]
