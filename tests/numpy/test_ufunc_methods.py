"""reduce, accumulate, reduceat, outer and at of NumPy's ufuncs: NumPy's results on Tensors, and derivatives."""
import numpy as np
import pytest
from agreement import normal, same
from on_device import placed, xp

import gpugrad as gg
from gpugrad.check import check_grads

pytestmark = pytest.mark.usefixtures("device")

ORDERED = ["subtract", "divide", "remainder", "copysign"]
ANY_ORDER = ["add", "multiply", "maximum", "minimum", "fmax", "fmin", "logaddexp", "logaddexp2", "hypot"]
CONSTANT = ["logical_and", "logical_or", "logical_xor"]
MASK = np.random.default_rng(3).random((5, 3)) < 0.6
X = abs(normal(5, 3)) + 0.1


def agrees(ufunc, method, x, *args, order=1, **kwargs):
    call = getattr(getattr(np, ufunc), method)
    expected = call(x, *args, **kwargs)
    x, args, kwargs = placed(x), placed(args), placed(kwargs)
    same(call(gg.tensor(x), *args, **kwargs), np.asarray(expected), f"{ufunc}.{method}", rtol=1e-9)
    if ufunc not in CONSTANT and x.dtype.kind == "f" and x.size and order:
        check_grads(lambda x: call(gg.asarray(x), *args, **kwargs), (x,), order=order)


@pytest.mark.parametrize("name", ORDERED + ANY_ORDER + CONSTANT)
def test_reduce_and_accumulate_are_numpys(name):
    for kwargs in ({}, {"axis": 1}, {"axis": 1, "keepdims": True}, {"initial": 1.5}, {"initial": 1.5, "where": MASK},
                   {"axis": -1, "dtype": "f8"} if name not in CONSTANT else {}):
        agrees(name, "reduce", X, order=0 if name == "remainder" else 1, **kwargs)
    agrees(name, "accumulate", X, order=name != "remainder")
    agrees(name, "accumulate", X, axis=1, order=0)
    agrees(name, "reduceat", X, [0, 3, 1], order=0)
    if name not in ORDERED:
        agrees(name, "reduce", X, axis=None)


@pytest.mark.parametrize("name", [name for name in ANY_ORDER + CONSTANT if getattr(np, name).identity is not None])
def test_reduction_of_nothing_is_the_identity(name):
    agrees(name, "reduce", np.zeros((0, 3)))
    agrees(name, "reduce", X, where=MASK, axis=1)


@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor", "gcd", "lcm", "maximum", "add", "multiply"])
def test_reductions_of_integers_are_numpys(name):
    x = np.arange(1, 13).reshape(4, 3)
    for kwargs in ({}, {"axis": 1, "keepdims": True}, {"initial": 6, "where": MASK[:4]}):
        agrees(name, "reduce", x, **kwargs)
    agrees(name, "accumulate", x.astype("i4"), axis=1)


def test_accumulated_maximum_over_a_long_axis_has_few_nodes():
    x = gg.tensor(xp.asarray(normal(1000)), requires_grad=True)
    node, depth = np.maximum.accumulate(x)._node, 0
    while node.parents:
        node, depth = next(p for p in node.parents if p is not None), depth + 1
    assert depth < 40


@pytest.mark.parametrize("name", ["power", "logaddexp", "arctan2", "hypot"])
def test_at_takes_any_function_of_two_arrays(name):
    index = ([0, 2, 0], [1, 1, 1])
    expected = X.copy()
    getattr(np, name).at(expected, index, 1.5)

    def changed(x):
        t = gg.asarray(x) + 0.0
        getattr(np, name).at(t, index, 1.5)
        return t
    same(changed(placed(X)), expected, name)
    check_grads(changed, (placed(X),), order=1)


def test_at_takes_functions_of_one_array():
    t = gg.tensor(placed(X[0]), requires_grad=True)
    u = t * 1.0
    np.square.at(u, [0, 0, 2])
    same(u, X[0] ** [4, 1, 2], "square.at")
    u.sum().backward()
    same(t.grad, X[0] ** [3, 0, 1] * [4, 1, 2], "square.at")


@pytest.mark.parametrize(("f", "error", "message"), [
    (lambda x: np.subtract.reduce(x, axis=None), gg.ArgumentError, "subtract.reduce: expected one axis"),
    (lambda x: np.maximum.reduce(x[:0]), gg.ArgumentError, "maximum.reduce: expected initial= beside where= or for no elements"),
    (lambda x: np.maximum.reduce(x, where=MASK), gg.ArgumentError, "maximum.reduce: expected initial= beside where="),
    (lambda x: np.add.reduceat(x, [0, 9]), gg.ArgumentError, "add.reduceat: expected a vector of indices from 0 to 4"),
    (lambda x: np.maximum.accumulate(x, axis=2), gg.AxisError, "maximum.accumulate: expected an axis from -2 to 1"),
    (lambda x: np.less.reduce(x), gg.NoRuleError, "np.less.reduce: no rule for Tensors"),
    (lambda x: np.greater.accumulate(x), gg.NoRuleError, "np.greater.accumulate: no rule for Tensors"),
])
def test_bad_input_names_the_method(f, error, message):
    with pytest.raises(error, match=message):
        f(gg.tensor(placed(X)))
