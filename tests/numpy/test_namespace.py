"""The namespace: every name where it should be, and the same function by each way."""
import importlib

import numpy as np
import pytest
from on_device import assert_equal, on_cpu

import gpugrad as gg

pytestmark = pytest.mark.usefixtures("device")


@on_cpu
@pytest.mark.parametrize("family", sorted(gg.numpy.FAMILIES))
def test_the_table_lists_what_each_module_offers(family):
    module = importlib.import_module(f"gpugrad.numpy.{family}")
    assert sorted(gg.numpy.FAMILIES[family].split()) == sorted(module.__all__)


@on_cpu
def test_every_name_is_also_a_name_of_gpugrad():
    for name in gg.numpy.__all__:
        assert getattr(gg, name) is getattr(gg.numpy, name)
        assert name in dir(gg)


@on_cpu
def test_functions_have_docstrings():
    for name in gg.numpy.MODULES:
        value = getattr(gg.numpy, name)
        assert value.__doc__, name


def test_numpy_reaches_the_same_function():
    x = gg.tensor([1.0, 2.0])
    assert_equal(np.cumsum(x).data, gg.cumsum(x).data)


@on_cpu
def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'spam'"):
        gg.numpy.__getattr__("spam")
    with pytest.raises(AttributeError, match="has no attribute 'spam'"):
        gg.__getattr__("spam")
