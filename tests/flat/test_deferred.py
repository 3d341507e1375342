"""What a trace puts off: the numbers of elementwise results in a raw sweep, which only some programs look at."""

import tracemalloc

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.bench.memory import tracing
from gpugrad.flat.deferred import Deferred, deferred

N = 1 << 16                                    # elements: large enough to be put off


def steps():
    """Functions whose gradients are read, written and differentiated further, after a sweep that did not compute them."""
    rng = np.random.default_rng(0)
    x, w = (gg.asarray(rng.standard_normal(N).astype("f")) for _ in range(2))

    def slope(x):
        return gg.grad(lambda x: (np.tanh(x * w) * x).sum())(x)

    def clipped(x):
        g = slope(x)
        return g * np.minimum(1, 1 / np.sqrt((g * g).sum()))

    def written(x):
        g = slope(x)
        before = g * 2
        g[:5] = 0
        g += w
        return g, before

    def product(x):
        g = slope(x).reshape(256, 256)
        return g @ g.T

    def sorted_(x):
        return np.sort(slope(x))[::7]

    return x, [slope, clipped, written, product, sorted_, gg.grad(lambda x: (slope(x) ** 2).sum())]


@pytest.mark.parametrize("i", range(6))
def test_a_gradient_that_was_put_off_is_what_it_would_have_been(i):
    x, functions = steps()
    eager, compiled = functions[i](x), gg.compile(functions[i], backend="numpy")
    for _ in range(2):
        found = compiled(x)
        for y, z in zip(*[v if isinstance(v, tuple) else (v,) for v in (eager, found)], strict=True):
            np.testing.assert_allclose(z.numpy(), y.numpy(), rtol=2e-5, atol=1e-5)


def test_the_numbers_come_when_they_are_asked_for():
    x = np.arange(6, dtype="f")
    y = deferred(np.multiply, [x, 2.0], 0)
    z = deferred(np.add, [y, y], 0)
    assert isinstance(y, Deferred) and y.result is None and z.like.dtype == np.float32
    np.testing.assert_array_equal(z.array(), 4 * x)
    np.testing.assert_array_equal(y.result, 2 * x)
    assert z.args == y.args == ()


@pytest.mark.parametrize(("function", "args"), [
    (np.add, [np.ones(3), np.ones((2, 1))]),                    # a shape that no argument has
    (np.less, [np.ones(3), 1.0]),                               # a dtype
    (np.sum, [np.ones(3)]),                                     # no elementwise operation
    (np.modf, [np.ones(3)]),                                    # two results
    (np.add, [np.float32(1), np.float32(2)]),
])
def test_nothing_is_put_off_that_no_argument_resembles(function, args):
    assert deferred(function, args, 0) is None
    assert deferred(np.negative, [np.ones(3)], 25) is None         # 24 bytes


def test_a_chain_of_ten_thousand_is_computed_without_recursion():
    y = deferred(np.negative, [np.ones(3)], 0)
    for _ in range(10_000):
        y = deferred(np.negative, [y], 0)
    np.testing.assert_array_equal(y.array(), -np.ones(3))


def test_tracing_a_sweep_takes_no_more_memory_than_the_results():
    rng = np.random.default_rng(0)
    leaves = [gg.asarray(rng.standard_normal(1_000_000).astype("f")) for _ in range(4)]

    def loss(a, b, c, d):
        return (np.tanh(a * b + c) * gg.sigmoid(d) - a * a).sum()

    step = gg.compile(gg.grad(loss, argnums=(0, 1, 2, 3)), backend="numpy")
    with tracing():
        step(*leaves)
        assert tracemalloc.get_traced_memory()[1] < 6.2 * 4e6       # eager: forward keeps three arrays, the sweep makes seven
