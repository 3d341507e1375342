"""gg.cond and gg.scan: as they are, differentiated, in vmap and compiled."""
import numpy as np
import pytest
from flat_support import X, same

import gpugrad as gg

WAYS = {"plain": lambda f: f, "compiled": gg.compile}


def bent(x):
    return gg.cond(gg.sum(x) > 0, lambda x: gg.sum(x * x), lambda x: gg.sum(gg.sin(x)), x)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sign", [1, -1])
def test_cond(way, sign):
    x = sign * np.abs(X)
    expected = (lambda x: gg.sum(x * x)) if sign > 0 else lambda x: gg.sum(gg.sin(x))
    same(gg.trees.map_tree(np.asarray, WAYS[way](gg.value_and_grad(bent))(x)),
         gg.trees.map_tree(np.asarray, gg.value_and_grad(expected)(x)))


def test_a_compiled_cond_is_one_program_for_both():
    compiled = gg.compile(bent)
    same(np.asarray(compiled(np.abs(X))), np.asarray(bent(np.abs(X))))
    same(np.asarray(compiled(-np.abs(X))), np.asarray(bent(-np.abs(X))))
    assert compiled.programs == 1


@pytest.mark.parametrize("way", WAYS)
def test_cond_in_vmap(way):
    xs = np.stack([np.abs(X), -np.abs(X)])
    same(WAYS[way](gg.vmap(bent))(xs), np.stack([np.asarray(bent(x)) for x in xs]))


def test_only_one_branch_runs_where_the_value_is_known():
    assert gg.cond(np.array(True), lambda: 1, lambda: 1 / 0) == 1
    assert gg.compile(lambda x: gg.cond(True, lambda: x, lambda: 1 / 0))(X) is X


def recurrence(w, xs):
    def step(h, x):
        h = gg.tanh(h * w + x)
        return h, h * 2
    h, ys = gg.scan(step, gg.zeros(4), xs)
    return gg.sum(ys) + gg.sum(h)


@pytest.mark.parametrize("way", WAYS)
def test_scan(way):
    def by_hand(w, xs):
        h, total = gg.zeros(4), 0.0
        for i in range(3):
            h = gg.tanh(h * w + xs[i])
            total = total + gg.sum(h * 2)
        return total + gg.sum(h)
    w = np.linspace(-1, 1, 4)
    same(WAYS[way](gg.grad(recurrence, (0, 1)))(w, X), gg.grad(by_hand, (0, 1))(w, X))


def test_scan_of_trees():
    carry, ys = gg.scan(lambda c, x: ({"n": c["n"] + x["a"]}, None), {"n": 0.0}, {"a": np.arange(4.0)})
    assert float(carry["n"]) == 6 and ys is None


@pytest.mark.parametrize(("call", "error", "match"), [
    (lambda: gg.cond(X > 0, lambda: 1, lambda: 2), gg.ShapeError, r"cond: .*\(3, 4\)"),
    (lambda: gg.compile(lambda x: gg.cond(gg.sum(x) > 0, lambda: x, lambda: x[0]))(X), gg.ShapeError, "cond: expected results"),
    (lambda: gg.compile(lambda x: gg.cond(gg.sum(x) > 0, lambda: x, lambda: (x, x)))(X), gg.ArgumentError, "cond: expected"),
    (lambda: gg.scan(lambda c, x: (c, x), 0, [np.ones(3), np.ones(4)]), gg.ArgumentError, r"scan: .*\[3, 4\]"),
    (lambda: gg.scan(lambda c, x: (c, x), 0, 5), gg.ArgumentError, "scan: expected arrays"),
    (lambda: gg.scan(lambda c, x: (x, x), np.ones(2), np.ones((3, 4))), gg.ShapeError, "scan: expected a carry"),
])
def test_errors(call, error, match):
    with pytest.raises(error, match=match):
        call()
