"""Every worked example of Justin Johnson's lecture 6, "Backpropagation" (EECS 498, University of Michigan), with its numbers."""
import tracemalloc

import numpy as np
import pytest
from on_device import assert_close, assert_equal, on_cpu, xp

import gpugrad as gg

pytestmark = pytest.mark.usefixtures("device")


def needs(value):
    return gg.tensor(float(value), requires_grad=True)


def watch(**tensors):
    """The gradient of every intermediate result, as a backward sweep comes to it."""
    seen = {}
    for name, t in tensors.items():
        t.register_hook(lambda g, name=name: seen.__setitem__(name, g.item()))
    return seen


def test_a_simple_graph():
    """f = (x + y) z at x = -2, y = 5, z = -4."""
    x, y, z = needs(-2), needs(5), needs(-4)
    q = x + y
    f = q * z
    assert (q.item(), f.item()) == (3, -12)
    seen = watch(q=q, f=f)
    f.backward()
    assert seen == {"f": 1, "q": -4}
    assert (x.grad.item(), y.grad.item(), z.grad.item()) == (-4, -4, 3)


def test_the_sigmoid_neuron():
    """f = 1 / (1 + exp(-(w0 x0 + w1 x1 + w2))): every value and gradient on the slide, to its two digits."""
    w0, x0, w1, x1, w2 = needs(2), needs(-1), needs(-3), needs(-2), needs(-3)
    a, b = w0 * x0, w1 * x1
    c = a + b
    d = c + w2
    e = d * -1.0
    h = np.exp(e)
    i = h + 1.0
    f = 1.0 / i
    values = [t.item() for t in (a, b, c, d, e, h, i, f)]
    assert values == pytest.approx([-2, 6, 4, 1, -1, 0.37, 1.37, 0.73], abs=0.005)
    seen = watch(a=a, b=b, c=c, d=d, e=e, h=h, i=i, f=f)
    f.backward()
    assert seen == pytest.approx({"f": 1, "i": -0.53, "h": -0.53, "e": -0.2, "d": 0.2, "c": 0.2, "a": 0.2, "b": 0.2}, abs=0.005)
    grads = [t.grad.item() for t in (w0, x0, w1, x1, w2)]
    assert grads == pytest.approx([-0.20, 0.39, -0.39, -0.59, 0.20], abs=0.005)
    s = f.item()
    assert seen["d"] == pytest.approx((1 - s) * s)          # the sigmoid as one gate: [0.73] [1 - 0.73] = 0.20
    assert float(gg.grad(gg.nn.sigmoid)(d.item())) == pytest.approx(seen["d"])


class TestPatternsInGradientFlow:
    def test_the_add_gate_distributes(self):
        a, b = needs(3), needs(4)
        (a + b).backward(2.0)
        assert (a.grad.item(), b.grad.item()) == (2, 2)

    def test_the_copy_gate_adds(self):
        a = needs(7)
        gg.stack([a, a]).backward(xp.array([4.0, 2.0]))
        assert a.grad.item() == 6

    def test_the_mul_gate_swaps(self):
        a, b = needs(2), needs(3)
        (a * b).backward(5.0)
        assert (a.grad.item(), b.grad.item()) == (15, 10)

    def test_the_max_gate_routes(self):
        a, b = needs(4), needs(5)
        np.maximum(a, b).backward(9.0)
        assert (a.grad.item(), b.grad.item()) == (0, 9)


def test_flat_backprop_is_the_forward_code_reversed():
    """The flat gradient code of the slide, line by line, against the graph."""
    w0, x0, w1, x1, w2 = 2.0, -1.0, -3.0, -2.0, -3.0

    def f(w0, x0, w1, x1, w2):
        s0 = w0 * x0
        s1 = w1 * x1
        s2 = s0 + s1
        s3 = s2 + w2
        return gg.nn.sigmoid(s3)
    L = f(w0, x0, w1, x1, w2).item()
    grad_L = 1.0
    grad_s3 = grad_L * (1 - L) * L
    grad_w2 = grad_s3
    grad_s2 = grad_s3
    grad_s0 = grad_s2
    grad_s1 = grad_s2
    grad_w1 = grad_s1 * x1
    grad_x1 = grad_s1 * w1
    grad_w0 = grad_s0 * x0
    grad_x0 = grad_s0 * w0
    got = gg.grad(f, argnums=range(5))(w0, x0, w1, x1, w2)
    assert tuple(map(float, got)) == pytest.approx((grad_w0, grad_x0, grad_w1, grad_x1, grad_w2))


class Multiply(gg.Function):
    """z = x * y, as the slide writes it for PyTorch."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx, grad_z):
        x, y = ctx.saved_tensors
        grad_x = y * grad_z
        grad_y = x * grad_z
        return grad_x, grad_y


def test_the_modular_api():
    x, y = needs(3), needs(-4)
    z = Multiply.apply(x, y)
    z.backward()
    assert (z.item(), x.grad.item(), y.grad.item()) == (-12, -4, 3)
    f = lambda x: Multiply.apply(Multiply.apply(x, x), x)
    assert gg.grad(f)(2.0) == 12
    assert gg.grad(gg.grad(f))(2.0) == 12
    assert gg.grad(gg.grad(gg.grad(f)))(2.0) == 6


def test_vector_relu():
    """f(x) = max(0, x): the Jacobian is diagonal and is never formed; a mask does."""
    x = gg.tensor([1.0, -2.0, 3.0, -1.0], requires_grad=True)
    y = gg.nn.relu(x)
    assert_equal(y.data, [1, 0, 3, 0])
    y.backward(xp.array([4.0, -1.0, 5.0, 9.0]))
    assert_equal(x.grad.data, [4, 0, 5, 0])
    assert_equal(gg.jacobian(gg.nn.relu)(x.data), xp.diag([1, 0, 1, 0]))


def test_the_matrix_product():
    """y = x w with x 2x3 and w 3x4: dx = dy w', dw = x' dy."""
    x = gg.tensor([[2.0, 1, -3], [-3, 4, 2]], requires_grad=True)
    w = gg.tensor([[3.0, 2, 1, -1], [2, 1, 3, 2], [3, 2, 1, -2]], requires_grad=True)
    dy = xp.array([[2.0, 3, -3, 9], [-8, 1, 4, 6]])
    y = x @ w
    assert_equal(y.data, [[-1, -1, 2, 6], [5, 2, 11, 7]])
    y.backward(dy)
    assert_equal(x.grad.data, [[0, 16, -9], [-24, 9, -30]])
    assert_equal(w.grad.data, x.data.T @ dy)
    j = gg.jacobian(lambda x: x @ w.data)(x.data)                    # here it is small enough to look at
    assert_equal(j[0, :, 0, 0], w.data[0])          # dy[0, :] / dx[0, 0] is the first row of w
    assert_equal(j[1, :, 0], xp.zeros((4, 3)))      # the second row of y does not depend on the first of x
    assert_equal(np.einsum("nmij,nm->ij", j, dy), x.grad.data)


@on_cpu
def test_the_jacobian_is_never_formed():
    """N = 64, D = M = 4096: the Jacobian of y with respect to x would take 256 GB; the product needs the operands' few MB."""
    n, d, m = 64, 4096, 4096
    assert (n * d) * (n * m) * 4 == 256 * 2 ** 30
    rng = np.random.default_rng(0)
    x = gg.tensor(xp.asarray(rng.normal(size=(n, d))).astype("f4"), requires_grad=True)
    w = gg.tensor(xp.asarray(rng.normal(size=(d, m))).astype("f4"), requires_grad=True)
    operands = x.nbytes + w.nbytes + n * m * 4
    tracemalloc.start()
    try:
        (x @ w).sum().backward()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * operands
    assert_close(w.grad.data, np.broadcast_to(x.data.sum(0)[:, None], (d, m)), rtol=1e-4, atol=1e-4)


def test_reverse_and_forward_mode_are_the_two_orders_of_the_chain_rule():
    """dL/dx0 = (dx1/dx0)(dx2/dx1)(dx3/dx2)(dL/dx3): from the right for a scalar L, from the left for a scalar x0."""
    rng = np.random.default_rng(0)
    a, b, c = (xp.asarray(rng.normal(size=(4, 4))) for _ in range(3))
    f = lambda x: np.sum(np.tanh(c @ np.tanh(b @ np.tanh(a @ x))))
    x = xp.asarray(rng.normal(size=4))
    forward = [gg.jvp(f, (x,), (e,))[1] for e in xp.eye(4)]
    assert_close(gg.grad(f)(x), xp.stack(forward), rtol=1e-12)
    scalar = lambda s: np.tanh(b @ np.tanh(a @ (x * s)))
    _, dy = gg.jvp(scalar, (1.0,), (1.0,))
    assert_close(dy, gg.jacobian(scalar, mode="reverse")(1.0), rtol=1e-12)


def test_hessian_vector_product_by_backprop_of_backprop():
    """Hv = d/dx (dL/dx . v), if v does not depend on x: a second sweep through the first."""
    rng = np.random.default_rng(0)
    a, x, v = xp.asarray(rng.normal(size=(6, 4))), xp.asarray(rng.normal(size=4)), xp.asarray(rng.normal(size=4))
    loss = lambda x: np.sum(np.tanh(a @ x) ** 2 * np.exp(-x[0]))
    t = gg.tensor(x, requires_grad=True)
    loss(t).backward(create_graph=True)
    g, t.grad = t.grad, None
    (g * v).sum().backward()
    hessian = gg.hessian(loss)(x)
    assert_close(t.grad.data, hessian @ v, rtol=1e-11)
    assert_close(gg.hvp(loss, x, v), hessian @ v, rtol=1e-11)
    eps = 1e-5
    column = lambda e: (gg.grad(loss)(x + eps * e) - gg.grad(loss)(x - eps * e)) / (2 * eps)
    assert_close(hessian, np.stack([column(e) for e in xp.eye(4)], axis=1), rtol=1e-6, atol=1e-8)


def test_a_penalty_on_the_norm_of_the_gradient():
    """R(w) = |dL/dw|**2, differentiated: backprop through backprop, as in the improved training of Wasserstein GANs."""
    rng = np.random.default_rng(0)
    data, w = xp.asarray(rng.normal(size=(5, 3))), xp.asarray(rng.normal(size=3))
    loss = lambda w: np.mean(np.log(1 + np.exp(-(data @ w))))
    penalty = lambda w: np.sum(gg.grad(loss)(w) ** 2)
    expected = 2 * gg.hessian(loss)(w) @ gg.grad(loss)(w)
    assert_close(gg.grad(penalty)(w), expected, rtol=1e-12)
    t = gg.tensor(w, requires_grad=True)
    loss(t).backward(create_graph=True)
    g, t.grad = t.grad, None
    (g ** 2).sum().backward()
    assert_close(t.grad.data, expected, rtol=1e-12)
