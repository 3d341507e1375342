"""What transforms return is a function like any other: it is a method, has a signature, and goes to other processes."""
import copy
import functools
import inspect
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from on_device import assert_close

import gpugrad as gg

pytestmark = pytest.mark.skipif("config.getoption('--compiled')", reason="looks at functions, in whose places others are then")
TRANSFORMS = [gg.grad, gg.value_and_grad, gg.jacobian, gg.hessian, gg.vmap, gg.compile, gg.checkpoint]


def power(x, k=2.0):
    """The sum of powers."""
    return np.sum(x ** k)


@gg.grad
def decorated(x):
    return np.sum(x * x)


class Model:
    scale = 3.0

    def __call__(self, x):
        return np.sum(x * x) * self.scale

    def loss(self, x):
        return self(x)

    @staticmethod
    def plain(x):
        return np.sum(x * x)

    slope = gg.grad(loss, 1)
    compiled = gg.compile(loss)
    checked = gg.checkpoint(loss)
    plain_slope = staticmethod(gg.grad(plain.__func__))


def leaves(y):
    return y if type(y) is tuple else (y,)


FUNCTIONS = [power, functools.partial(power, k=3.0), Model(), Model().loss, Model.plain, np.sum, gg.sum]


@pytest.mark.parametrize("f", FUNCTIONS, ids=["function", "partial", "object", "method", "static method", "NumPy's", "ours"])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: t.__name__)
def test_a_transformed_function_is_pickled_and_copied(transform, f):
    g, x = transform(f), np.array([1.0, 2.0])
    for twin in (pickle.loads(pickle.dumps(g)), copy.deepcopy(g), copy.copy(g)):
        for got, want in zip(leaves(twin(x)), leaves(g(x)), strict=True):
            assert_close(got, want)
    assert g.__wrapped__ is f or transform is gg.hessian
    if hasattr(f, "__name__"):
        assert (g.__name__, g.__doc__) == (f.__name__, f.__doc__)
    if f is not np.sum:
        assert str(inspect.signature(g)) == str(inspect.signature(f))


def test_a_decorated_function_is_pickled_by_its_name():
    assert pickle.loads(pickle.dumps(decorated)) is decorated
    assert repr(decorated) == "<grad of decorated>"


def test_transformed_functions_are_methods_where_their_functions_are():
    model, x = Model(), np.array([1.0, 2.0])
    for m in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert_close(m.slope(x), 6 * x)
        assert_close([m.compiled(x), m.checked(x)], [15, 15])
        assert_close(m.plain_slope(x), 2 * x)


def test_a_gradient_runs_in_other_processes():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert_close(pool.submit(gg.grad(power), np.ones(2)).result(), [2, 2])
