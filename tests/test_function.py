"""Operations of your own (Function, primitive) and checkpoint."""
import gc
import tracemalloc
import weakref

import numpy as np
import pytest
from on_device import assert_close, assert_equal, on_cpu, xp

import gpugrad as gg

pytestmark = pytest.mark.usefixtures("device")


class Exp(gg.Function):
    """Saves its output; has a forward mode."""

    @staticmethod
    def forward(ctx, x):
        y = np.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        y, = ctx.saved_tensors
        return g * y

    @staticmethod
    def jvp(ctx, t):
        y, = ctx.saved_tensors
        return t * y


class Polar(gg.Function):
    """Two outputs, an argument that is no array, attributes on ctx."""

    @staticmethod
    def forward(ctx, r, phi, unit):
        ctx.scale = {"deg": np.pi / 180, "rad": 1.0}[unit]
        ctx.save_for_backward(r, phi)
        return r * np.cos(phi * ctx.scale), r * np.sin(phi * ctx.scale)

    @staticmethod
    def backward(ctx, gx, gy):
        r, phi = ctx.saved_tensors
        c, s = np.cos(phi * ctx.scale), np.sin(phi * ctx.scale)
        return gx * c + gy * s, (gy * c - gx * s) * r * ctx.scale, None


def test_a_function_is_differentiable_to_any_order_in_both_modes():
    gg.check_grads(lambda x: Exp.apply(x * x), (xp.array([0.3, -0.5]),), order=3)
    x = xp.array([0.3, -0.5])
    assert_close(gg.vmap(gg.grad(lambda x: Exp.apply(x)))(x), np.exp(x))
    assert_close(gg.hessian(lambda x: np.sum(Exp.apply(x)))(x), xp.diag(np.exp(x)))


def test_a_function_with_several_outputs():
    gg.check_grads(lambda r, p: Polar.apply(r, p, "deg"), (xp.array([1.0, 2.0]), xp.array([30.0, -70.0])), order=2,
                   modes=("reverse",))
    r, p = gg.tensor(2.0, requires_grad=True), gg.tensor(0.5, requires_grad=True)
    x, _ = Polar.apply(r, p, "rad")                          # the second output is not used
    x.backward()
    assert r.grad.item() == pytest.approx(np.cos(0.5))
    assert p.grad.item() == pytest.approx(-2 * np.sin(0.5))


def test_a_function_keeps_what_it_saves_and_no_more():
    x = gg.tensor(xp.ones(100), requires_grad=True)
    y = Exp.apply(x)
    assert y._node.y is y.data
    assert not isinstance(y._node.xs[0], np.ndarray)
    z = x * 2
    alive = weakref.ref(z)
    y = Exp.apply(z)
    del z
    assert alive() is None


def test_the_graph_of_a_function_dies_by_reference_count():
    x = gg.tensor(xp.ones(3), requires_grad=True)
    y = Exp.apply(x)
    alive = weakref.ref(y._node)
    gc.disable()
    try:
        y.sum().backward(create_graph=True)
        x.zero_grad()
        del y
        assert alive() is None
    finally:
        gc.enable()


def test_a_callers_array_may_change_after_a_function_saved_it():
    class Times(gg.Function):
        @staticmethod
        def forward(ctx, x, a):
            ctx.save_for_backward(a)
            return x * a

        @staticmethod
        def backward(ctx, g):
            return g * ctx.saved_tensors[0], None
    x, a = gg.tensor(xp.ones(2), requires_grad=True), xp.full(2, 3.0)
    y = Times.apply(x, a)
    a[:] = 0
    y.sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_whole_numbers_that_a_function_returns_are_outside_the_graph():
    class Sort(gg.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.order = gg.argsort(x)
            return gg.sort(x), ctx.order

        @staticmethod
        def backward(ctx, g, _):
            return gg.zeros(g.shape).at[ctx.order].set(g)
    x = gg.tensor(xp.array([3.0, 1.0, 2.0]), requires_grad=True)
    y, order = Sort.apply(x)
    assert (y.requires_grad, order.requires_grad) == (True, False)
    (y * xp.array([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.tolist() == [100, 1, 10]


def test_a_function_runs_forward_without_recording():
    class Spy(gg.Function):
        @staticmethod
        def forward(ctx, x):
            assert not gg.is_grad_enabled()
            assert not x.requires_grad
            assert ctx.needs_input_grad == (True,)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 2
    x = gg.tensor([1.0], requires_grad=True)
    Spy.apply(x).sum().backward()
    assert x.grad.item() == 2


@pytest.mark.parametrize(("returned", "error", "message"), [
    (lambda g: (g, g), gg.GraphError, "backward: expected 1 gradients, one for each argument of forward, got 2"),
    (lambda g: g.sum(), gg.ShapeError, r"expected a gradient of shape \(2,\) from the rule, got \(\)"),
])
def test_a_wrong_backward_is_an_error(returned, error, message):
    class Wrong(gg.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, g):
            return returned(g)
    with pytest.raises(error, match=message):
        Wrong.apply(gg.tensor([1.0, 2.0], requires_grad=True)).sum().backward()


def test_missing_rules_are_named():
    class Half(gg.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1
    with pytest.raises(gg.NoRuleError, match=r"Function: no backward\. Define"):
        Half.apply(gg.tensor([1.0], requires_grad=True)).sum().backward()
    with pytest.raises(gg.NoRuleError, match=r"Half: no JVP\. Define `jvp"):
        gg.jvp(Half.apply, (xp.ones(1),), (xp.ones(1),))
    f = gg.primitive(lambda x: x * 1, name="opaque")
    with pytest.raises(gg.NoRuleError, match=r"opaque: no VJP\. Give one to gg\.primitive"):
        gg.grad(f)(1.0)
    with pytest.raises(gg.NoRuleError, match=r"opaque: no JVP"):
        gg.jvp(f, (1.0,), (1.0,))


def test_primitive_gets_arrays_and_its_rules_get_tensors():
    kinds = []

    @gg.primitive(vjp=lambda g, y, a, b, *, n: (kinds.append(type(g)), (g * n * a ** (n - 1) * b, g * a ** n))[1],
                  jvp=lambda ts, y, a, b, *, n: sum(t * d for t, d in zip(ts, (n * a ** (n - 1) * b, a ** n), strict=True)
                                                    if t is not None))
    def power_times(a, b, *, n):
        """a**n b"""
        kinds.append(type(a))
        return a ** n * b
    assert power_times.__doc__ == "a**n b"
    gg.check_grads(lambda a, b: power_times(a, b, n=3), (xp.array([1.0, 2.0]), xp.array([0.5, -1.0])), order=3)
    assert set(kinds) == {xp.ndarray, gg.Tensor}
    x = xp.arange(1.0, 4.0)
    assert_close(gg.vmap(lambda a: power_times(a, 2.0, n=2))(x), 2 * x ** 2)


def test_float32_stays_float32_through_a_rule_that_widens():
    f = gg.primitive(lambda x: x * 2, vjp=lambda g, y, x: g * xp.full(3, 2.0))
    assert gg.grad(lambda x: np.sum(f(x)))(xp.ones(3, "f4")).dtype == np.float32


class TestCheckpoint:
    f = staticmethod(lambda x: np.sum(np.tanh(np.sin(x) * x) ** 2))

    def test_values_and_derivatives_of_every_order(self):
        g = gg.checkpoint(self.f)
        x = xp.asarray(np.random.default_rng(0).normal(size=5))
        assert_close(g(gg.tensor(x)).data, self.f(x))
        assert_close(gg.grad(g)(x), gg.grad(self.f)(x), rtol=1e-14)
        assert_close(gg.hessian(g)(x), gg.hessian(self.f)(x), rtol=1e-12)
        assert_close(gg.grad(lambda x: np.sum(gg.grad(g)(x) ** 2))(x),
                                   gg.grad(lambda x: np.sum(gg.grad(self.f)(x) ** 2))(x), rtol=1e-12)

    def test_tensors_from_outside_get_their_gradients(self):
        w = gg.tensor([1.0, 2.0], requires_grad=True)
        x = gg.tensor([3.0, 4.0], requires_grad=True)
        gg.checkpoint(lambda x: np.sum(w * x * x))(x).backward()
        assert_equal(w.grad.data, [9, 16])
        assert_equal(x.grad.data, [6, 16])

    def test_trees_in_and_out(self):
        f = gg.checkpoint(lambda p, n: {"y": [p["a"] * n, p["b"]], "constant": 7.0})
        a, b = gg.tensor(2.0, requires_grad=True), gg.tensor(3.0, requires_grad=True)
        out = f({"a": a, "b": b}, 10)
        assert out["constant"] == 7.0
        (out["y"][0] * out["y"][1]).backward()
        assert (a.grad.item(), b.grad.item()) == (30, 20)

    def test_random_numbers_are_replayed(self):
        gg.random.seed(0)
        x = gg.tensor(xp.ones(100), requires_grad=True)
        y = gg.checkpoint(lambda x: x * gg.random.normal(size=100))(x)
        after = gg.random.normal(size=3).numpy()
        y.sum().backward()
        assert_equal(x.grad.data, y.data)
        gg.random.seed(0)
        gg.random.normal(size=100)
        assert_equal(gg.random.normal(size=3).numpy(), after)

    @on_cpu
    def test_memory_is_that_of_the_inputs(self):
        x = gg.tensor(xp.ones(200_000), requires_grad=True)

        def block(x):
            for _ in range(10):
                x = np.sin(x)
            return x

        def held(f):
            tracemalloc.start()
            try:
                y = f(f(x))
                return tracemalloc.get_traced_memory()[0], y
            finally:
                tracemalloc.stop()
        plain, _ = held(block)
        kept, _ = held(gg.checkpoint(block))
        assert kept < 0.2 * plain
