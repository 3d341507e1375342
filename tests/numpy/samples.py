"""Random arrays of any dtype, with the values that functions stumble over among them."""
import numpy as np


def sample(dtype, shape, seed=0):
    """Zeros, halves, whole numbers, infinities and NaN; for integers 0 to 6."""
    rng = np.random.default_rng(seed)
    if dtype == "?":
        return rng.random(shape) < 0.5
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 7, size=shape).astype(dtype)
    x = rng.choice([0.0, 0.5, -0.5, 1.0, -1.0, 2.0, 3.25, np.inf, -np.inf, np.nan], size=shape)
    y = np.array(x, dtype)
    if y.dtype.kind == "c":
        y.imag = rng.permutation(x.ravel()).reshape(x.shape)
    return y
