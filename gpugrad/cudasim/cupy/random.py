"""`cupy.random`: numbers from NumPy's generators. cuRAND's functions refuse a stream that is captured, a Generator's do not.

The numbers are not CuPy's; their types, shapes and repeatability are.
"""

import numpy as np

from .array import done
from .device import current
from .streams import library_called

_STATES: dict[int, np.random.Generator] = {}


def _state():
    return _STATES.setdefault(current(), np.random.default_rng())


def _drawn(name, draw):
    library_called("cuRAND")
    return done(f"curand_{name}", current(), [], draw)


def seed(seed=None):
    _STATES[current()] = np.random.default_rng(seed)


def random(size=None, dtype=float):
    return _drawn("random", lambda: _state().random(size, dtype))


random_sample = ranf = sample = random


def rand(*size, **kwarg):
    return random(size or None, **kwarg)


def standard_normal(size=None, dtype=float):
    return _drawn("standard_normal", lambda: _state().standard_normal(size, dtype))


def randn(*size, **kwarg):
    return standard_normal(size or None, **kwarg)


def normal(loc=0.0, scale=1.0, size=None, dtype=float):
    return _drawn("normal", lambda: np.asarray(_state().normal(loc, scale, size), dtype))


def uniform(low=0.0, high=1.0, size=None, dtype=float):
    return _drawn("uniform", lambda: np.asarray(_state().uniform(low, high, size), dtype))


def randint(low, high=None, size=None, dtype="l"):
    return _drawn("randint", lambda: _state().integers(low, high, size, dtype))


def permutation(a):
    return _drawn("permutation", lambda: _state().permutation(a if isinstance(a, int) else a._host))


class Generator:
    """Random numbers by kernels of CuPy's own, which a graph repeats with the next numbers."""

    def __init__(self, bit_generator):
        self.bit_generator = bit_generator

    def _drawn(self, name, *args):
        return done(f"cupy_{name}", current(), [], lambda: getattr(self.bit_generator, name)(*args))

    def random(self, size=None, dtype=np.float64, out=None):
        return self._drawn("random", size, dtype)

    def standard_normal(self, size=None, dtype=np.float64, out=None):
        return self._drawn("standard_normal", size, dtype)

    def integers(self, low, high=None, size=None, dtype=np.int64, endpoint=False):
        return self._drawn("integers", low, high, size, dtype, endpoint)

    def uniform(self, low=0.0, high=1.0, size=None, dtype=np.float64):
        return self._drawn("uniform", low, high, size).astype(dtype, copy=False)


def default_rng(seed=None):
    return Generator(np.random.default_rng(seed))
