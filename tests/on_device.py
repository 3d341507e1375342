"""Arrays on the device under test, which the fixture `device` has made the default one, and comparisons wherever they lie.

    x = xp.array([1.0, 2.0])                     NumPy on the CPU, CuPy on a GPU, its stand-in on the simulated device
    assert_close(gg.grad(f)(x), xp.cos(x))
"""
from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.arrays import CPU, cuda_usable, is_array, move
from gpugrad.trees import map_tree

DEVICES = ["cpu", "sim", *(["cuda"] if cuda_usable() else [])]

#: For a test of the host's memory, of NumPy's own types or of a peer: it has nothing to say about other devices.
on_cpu = pytest.mark.parametrize("device", ["cpu"], indirect=True)


class ArrayModule:
    """The array module of the default device."""

    def __getattr__(self, name: str) -> Any:
        return getattr(gg.default_device().xp, name)


xp = ArrayModule()


def placed(tree: Any) -> Any:
    """The tree with its NumPy arrays on the default device. Tensors and numbers stay what they are."""
    return map_tree(lambda x: move(x, gg.default_device()) if isinstance(x, np.ndarray) else x, tree)


def hosted(tree: Any) -> Any:
    """The tree with its arrays in the host's memory."""
    return map_tree(lambda x: move(x, CPU) if is_array(x) else x, tree)


def host(x: Any) -> np.ndarray:
    """The numbers of an array or a Tensor as a NumPy array."""
    x = x.detach().data if isinstance(x, gg.Tensor) else x
    return np.asarray(move(x, CPU) if is_array(x) else x)


def assert_equal(found: Any, expected: Any, message: str = "") -> None:
    np.testing.assert_array_equal(host(found), host(expected), err_msg=message)


def assert_close(found: Any, expected: Any, message: str = "", **tolerances: float) -> None:
    np.testing.assert_allclose(host(found), host(expected), err_msg=message, **tolerances)


def close(found: Any, expected: Any, **tolerances: float) -> bool:
    return np.allclose(host(found), host(expected), **tolerances)


def equal(found: Any, expected: Any) -> bool:
    return np.array_equal(host(found), host(expected))
