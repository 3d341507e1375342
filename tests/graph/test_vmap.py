"""vmap over trees: which axis of which leaf is mapped, and where it is in the results."""
import numpy as np
import pytest
from on_device import assert_equal, placed, xp

import gpugrad as gg

pytestmark = pytest.mark.usefixtures("device")

A, B = np.random.default_rng(0).normal(size=(2, 4, 3))


def test_axes_are_named_leaf_by_leaf():
    tree = placed({"a": A, "b": [B[0], B.T]})
    found = gg.vmap(lambda p, x: p["a"] * p["b"][0] + p["b"][1] * x, in_axes=({"a": 0, "b": [None, 1]}, None))(tree, 2.0)
    assert_equal(found, A * B[0] + B * 2)
    assert_equal(gg.vmap(lambda p: p["a"] + p["b"][0], in_axes=({"a": 0, "b": None},))(tree), A + B[0])


def test_results_have_their_axis_where_it_is_asked_for():
    y, (z, c) = gg.vmap(lambda a: (a * 2, (gg.outer(a, a), 5.0)), out_axes=(1, (-1, None)))(placed(A))
    assert_equal(y, (A * 2).T)
    assert_equal(z, np.einsum("ni,nj->ijn", A, A))
    assert c == 5
    both = gg.vmap(lambda a: (a, a + 1), out_axes=1)(placed(A))
    assert_equal(both[1], A.T + 1)


@pytest.mark.parametrize(("f", "message"), [
    (lambda a: gg.vmap(lambda p: p["a"], in_axes=({"b": 0},))({"a": a}), "vmap: expected in_axes like the tree that it is for"),
    (lambda a: gg.vmap(lambda x: (x, x), out_axes=(0, 0, 0))(a), "vmap: expected out_axes like the tree that it is for"),
    (lambda a: gg.vmap(lambda x: x, out_axes="last")(a), "vmap: expected out_axes of ints and None, got 'last'"),
    (lambda a: gg.vmap(lambda x: x, out_axes=None)(a), "vmap: expected a result that is the same for all where out_axes is None"),
    (lambda a: gg.vmap(lambda x: x, out_axes=2)(a), "vmap: expected out_axes from -2 to 1, got 2"),
])
def test_axes_that_do_not_fit_are_refused(f, message):
    with pytest.raises(gg.ArgumentError, match=message):
        f(xp.asarray(A))
