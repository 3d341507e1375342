"""Backward into a gradient that is there already, on the simulated device: products add to it, and nobody sees half a sum."""
import numpy as np
import pytest

import gpugrad as gg
from gpugrad.kernels.record import recording

RNG = np.random.default_rng(2)


def draw(*shape, dtype="f4"):
    return RNG.standard_normal(shape).astype(dtype)


def leaf(array, device="sim"):
    return gg.tensor(array, device=device, requires_grad=True)


def backward(y, **how):
    """The launches of a sweep from ones."""
    g = gg.ones_like(y)
    with recording() as log:
        y.backward(g.detach(), **how)
    return log.launches


def address(x):
    return x.grad.data.data.ptr


FUNCTIONS = {
    "linear": (lambda x, w, b: gg.linear(x, w, b), draw(40, 96), draw(64, 96), draw(64)),
    "linear without bias": (lambda x, w: gg.linear(x, w), draw(40, 96), draw(64, 96)),
    "small product": (lambda x, y: x @ y, draw(70, 40), draw(40, 80)),
    "product": (lambda x, y: x @ y, draw(70, 300), draw(300, 80)),
    "stack": (lambda x, y: x @ y, draw(3, 40, 30), draw(3, 30, 50)),
    "layer norm": (gg.nn.layer_norm, draw(40, 96), draw(96), draw(96)),
    "weight used twice": (lambda x, w: gg.linear(gg.linear(x, w), w), draw(50, 64), draw(64, 64)),
    "rows": (lambda x: x[gg.tensor(np.array([3, 0, 3, 7]), device="sim" if x.device != "cpu" else "cpu")] * 2, draw(60, 50)),
    "part": (lambda x: gg.sin(x[3:20, 5:]), draw(60, 50)),
}


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_several_sweeps_add_up_to_what_the_cpu_has(name, dtype):
    f, *arrays = FUNCTIONS[name]
    found = []
    for device in ("sim", "cpu"):
        xs = [leaf(a.astype(dtype), device) for a in arrays]
        for scale in (1.0, -2.0, 0.5):
            gg.sum(gg.sin(f(*xs)) * scale).backward()
        found.append([x.grad.numpy() for x in xs])
    for a, b in zip(*found, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3 if dtype == "f4" else 1e-11)


@pytest.mark.parametrize("name", ["linear without bias", "small product", "product", "stack", "layer norm"])
def test_the_second_sweep_launches_no_more_and_reads_what_it_adds_to(name):
    f, *arrays = FUNCTIONS[name]
    xs = [leaf(a) for a in arrays]
    first = backward(f(*xs))
    at = [address(x) for x in xs]
    second = backward(f(*xs))
    assert [x.name for x in second] == [x.name for x in first]
    assert sum(x.bytes_written for x in second) == sum(x.bytes_written for x in first)
    more = sum(x.bytes_read for x in second) - sum(x.bytes_read for x in first)
    assert more == sum(x.grad.nbytes for x in xs) or name == "layer norm"      # whose weights are counted as written alone
    assert [address(x) for x in xs] == at


def test_a_gradient_somebody_holds_is_left_alone():
    x, w = leaf(draw(40, 96)), leaf(draw(64, 96))
    backward(gg.linear(x, w))
    held, before = w.grad.data, w.grad.numpy().copy()
    part = x.grad.data[:3]
    backward(gg.linear(x, w))
    np.testing.assert_array_equal(held.get(), before)
    np.testing.assert_allclose(w.grad.numpy(), 2 * before, rtol=1e-5)
    np.testing.assert_allclose(x.grad.numpy()[:3], 2 * part.get(), rtol=1e-5)


def test_a_gradient_tensor_that_somebody_holds_stays_the_gradient():
    found = []
    for device in ("sim", "cpu"):
        x, w = leaf(draw(40, 96), device), leaf(draw(64, 96), device)
        gg.sum(gg.linear(x, w)).backward()
        held = w.grad
        gg.sum(gg.linear(x, w)).backward()
        found.append(w.grad is held)
    assert found == [True, True]


def test_a_copy_of_the_leaf_or_another_dtype_does_not_matter():
    w = leaf(draw(64, 96))
    w.grad = gg.tensor(np.ones((64, 96)), device="sim")                      # float64
    x = gg.tensor(draw(40, 96), device="sim")
    backward(gg.linear(x, w))
    np.testing.assert_allclose(w.grad.numpy(), 1 + np.tile(x.numpy().sum(axis=0), (64, 1)), rtol=1e-5, atol=1e-5)
    w.grad = gg.tensor(np.ones((96, 64), "f4"), device="sim").T              # strided
    backward(gg.linear(x, w))
    np.testing.assert_allclose(w.grad.numpy(), 1 + np.tile(x.numpy().sum(axis=0), (64, 1)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("on", ["leaf", "between"])
def test_hooks_see_the_new_gradient_alone(on):
    x, w = leaf(draw(40, 96)), leaf(draw(64, 96))
    backward(gg.linear(x, w))
    before, seen = w.grad.numpy().copy(), []
    y = gg.linear(x, w)
    (w if on == "leaf" else y).register_hook(lambda g: seen.append((g.numpy().copy(), w.grad.numpy().copy())))
    backward(y)
    np.testing.assert_allclose(seen[0][0], before if on == "leaf" else 1, rtol=1e-6)
    np.testing.assert_array_equal(seen[0][1], before)
    np.testing.assert_allclose(w.grad.numpy(), 2 * before, rtol=1e-5)


def test_create_graph_adds_by_operations_that_can_be_differentiated():
    found = []
    for device in ("sim", "cpu"):
        w = leaf(np.linspace(-1, 1, 6400, dtype="f4").reshape(100, 64), device)
        gg.sum(w * w).backward()
        gg.sum(w @ w.T).backward(create_graph=True)
        gg.sum(w.grad * w.grad).backward()
        found.append(w.grad.numpy() if w.grad._node is None else w.grad.detach().numpy())
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-2)


def test_a_sweep_within_a_sweep_adds_to_the_same_leaf():
    w = leaf(draw(64, 64))

    class Twice(gg.Function):
        @staticmethod
        def forward(ctx, x):
            return x

        @staticmethod
        def backward(ctx, g):
            with gg.enable_grad():
                gg.sum(w * 3.0).backward()
            return g
    x = gg.tensor(draw(40, 64), device="sim")
    w.grad = gg.ones_like(w).detach()
    gg.sum(gg.linear(x, Twice.apply(w))).backward()
    np.testing.assert_allclose(w.grad.numpy(), 4 + np.tile(x.numpy().sum(axis=0), (64, 1)), rtol=1e-5, atol=1e-4)


class Broken(gg.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, g):
        raise MemoryError("full")


def test_a_sweep_that_fails_leaves_nan_in_what_it_changed_and_the_rest_as_it_was():
    x, w, v = leaf(draw(40, 96)), leaf(draw(64, 96)), leaf(draw(96))
    for t in (x, w, v):
        t.grad = gg.ones_like(t).detach()
    with pytest.raises(MemoryError):
        gg.sum(gg.linear(Broken.apply(x * v), w)).backward()
    assert np.isnan(w.grad.numpy()).all()
    for t in (x, v):
        np.testing.assert_array_equal(t.grad.numpy(), 1)


def test_a_graph_that_was_freed_changes_nothing():
    x, w = leaf(draw(40, 96)), leaf(draw(64, 96))
    y = gg.sum(gg.linear(x, w))
    y.backward()
    before = w.grad.numpy().copy()
    with pytest.raises(gg.GraphError, match="earlier backward has freed"):
        y.backward()
    np.testing.assert_array_equal(w.grad.numpy(), before)


def test_a_leaf_that_is_the_output_itself():
    x = leaf(draw(60, 60))
    g = gg.tensor(draw(60, 60), device="sim")
    for _ in range(3):
        x.backward(g)
    np.testing.assert_allclose(x.grad.numpy(), 3 * g.numpy(), rtol=1e-6)
