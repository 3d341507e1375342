"""Functions to compile, and what it means that two results are the same."""
import os
import warnings

import numpy as np

import gpugrad as gg


def fork():
    """os.fork without the warnings about threads: Python's own since 3.12, and JAX's, which comes as RuntimeWarning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return os.fork()


def rng(seed=0):
    return np.random.default_rng(seed)


X = rng(1).standard_normal((3, 4))
POSITIVE = np.abs(X) + 0.5
V = rng(2).standard_normal((3, 4))
ROW = rng(3).standard_normal(4)
W = rng(4).standard_normal((4, 5))

FUNCTIONS = {
    "chain": (lambda x: gg.sum(gg.sin(x) * x + gg.tanh(x * x)), (X,)),
    "numpy": (lambda x: np.sum(np.exp(-x) / (1 + np.exp(-x))), (X,)),
    "broadcast": (lambda x, r: gg.sum(gg.tanh(x * r) - r), (X, ROW)),
    "matmul": (lambda x, w: gg.sum(gg.tanh(x @ w) ** 2), (X, W)),
    "transposed": (lambda x, w: gg.mean(gg.sin(w.T @ x.T)), (X, W)),
    "powers": (lambda x: gg.sum(x ** 2 + x ** 3 - x ** 0.5), (POSITIVE,)),
    "reductions": (lambda x: gg.sum(gg.max(x, axis=1) * gg.mean(x, axis=1)) + gg.var(x) + gg.prod(x), (X,)),
    "logsumexp": (lambda x: gg.sum(gg.log(gg.sum(gg.exp(x), axis=1, keepdims=True))), (X,)),
    "softmax": (lambda x: gg.sum(gg.softmax(x) * V), (X,)),
    "layer_norm": (lambda x: gg.sum(gg.layer_norm(x) * V), (X,)),
    "gelu": (lambda x: gg.sum(gg.gelu(x)), (X,)),
    "index": (lambda x: gg.sum(x[1:, ::2] * 2) + gg.sum(x[[0, 0, 2]] ** 2), (X,)),
    "where": (lambda x: gg.sum(gg.where(x > 0, gg.log(gg.where(x > 0, x, 1)), x)), (X,)),
    "shapes": (lambda x: gg.sum(gg.concatenate([x.reshape(4, 3), x.reshape(4, 3)], axis=1).T[2] * 3), (X,)),
    "einsum": (lambda x, w: gg.sum(gg.einsum("ij,jk->ki", x, w) ** 2), (X, W)),
    "sorted": (lambda x: gg.sum(gg.sort(x, axis=1) * V), (X,)),
    "cumulative": (lambda x: gg.sum(gg.cumsum(x, axis=0) * V), (X,)),
    "empty": (lambda x: gg.sum(gg.exp(x[:0])), (X,)),
    "loop": (lambda x: gg.sum(chain(x)), (X,)),
}


def chain(x):
    for i in range(20):
        x = gg.sin(x) * 1.1 + x * (i % 3)
    return x


def same(a, b, dtype="f8"):
    """Equal in kind, dtype and shape, and in value as far as `dtype`, the least precise there is in them, goes."""
    for x, y in zip(gg.trees.flatten(a)[0], gg.trees.flatten(b)[0], strict=True):
        assert type(x) is type(y)
        x, y = np.asarray(getattr(x, "data", x)), np.asarray(getattr(y, "data", y))
        assert x.dtype == y.dtype and x.shape == y.shape
        single = "f4" in (x.dtype.str[1:], dtype)
        np.testing.assert_allclose(x, y, rtol=1e-5 if single else 1e-11, atol=1e-6 if single else 1e-13)
