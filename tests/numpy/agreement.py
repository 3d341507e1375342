"""One question for every public function: does it give NumPy's results for NumPy's arguments, and right derivatives?"""
import numpy as np
from on_device import host, hosted, placed

import gpugrad as gg
from gpugrad import numpy as gnp
from gpugrad.check import check_grads
from gpugrad.graph.tensor import Tensor


def normal(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def agrees(name, *args, orders=1, reference=None, **kwargs):
    """gpugrad's function equals NumPy's in value, shape and dtype; its derivatives, up to an order, equal differences.

    NumPy's arrays among the arguments are placed on the device under test. Off the CPU one order is enough.
    """
    function = getattr(gnp, name)
    expected = (reference or getattr(np, name))(*hosted(args), **hosted(kwargs))
    differentiable = orders and has_float(hosted(args)) and has_float(expected)
    args, kwargs = placed(args), placed(kwargs)
    same(function(*args, **kwargs), expected, name)
    if differentiable:
        order = orders if gg.default_device() == "cpu" else 1
        check_grads(lambda *xs: function(*xs, **kwargs), args, order=order)


def same(found, expected, name, rtol=1e-12):
    if isinstance(expected, tuple | list):
        assert isinstance(found, tuple | list), name
        assert len(found) == len(expected), name
        for f, e in zip(found, expected, strict=True):
            same(f, e, name, rtol)
        return
    expected = host(expected)
    assert isinstance(found, Tensor), name
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype), name
    if expected.dtype.kind in "fc":
        rtol = max(rtol, 4 * np.finfo(expected.dtype).eps)                      # devices add in different orders
    np.testing.assert_allclose(host(found), expected, rtol=rtol, atol=rtol, err_msg=name)


def has_float(tree):
    if isinstance(tree, tuple | list):
        return any(map(has_float, tree))
    return isinstance(tree, float) or (isinstance(tree, np.ndarray | np.generic) and tree.dtype.kind in "fc" and tree.size > 0)
