"""Programs as users write them, in plain NumPy with data beside the parameters: right derivatives, and the same compiled."""
import importlib.util

import numpy as np
import pytest
from on_device import assert_close

import gpugrad as gg
from gpugrad.trees import flatten

LLVM = importlib.util.find_spec("llvmlite") is not None
RNG = np.random.default_rng(0)
PROGRAMS = {}


def normal(*shape, scale=1.0):
    return RNG.normal(size=shape) * scale


def program(parameters, *data):
    """Adds loss(parameters, *data) to the programs."""
    def add(loss):
        PROGRAMS[loss.__name__] = loss, parameters, data
        return loss
    return add


@program({"w": normal(7, 16, scale=0.4), "b": np.zeros(16), "out": normal(4, 2)},
         normal(5, 2, 3), RNG.integers(0, 2, size=(5, 2)))
def lstm(p, xs, labels):
    h, c, loss = np.zeros((2, 4)) * xs[0, 0, 0], np.zeros((2, 4)), 0
    for x, label in zip(xs, labels, strict=True):
        i, f, g, o = np.split(np.concatenate([x, h], axis=1) @ p["w"] + p["b"], 4, axis=1)
        c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
        loss = loss + gg.cross_entropy(h @ p["out"], label)
    return loss


@program({"q": normal(4, 6), "k": normal(4, 6), "v": normal(4, 6)}, normal(5, 4), np.tril(np.ones((5, 5))))
def causal_attention(p, x, seen):
    q, k, v = (np.transpose((x @ w).reshape(5, 2, 3), (1, 0, 2)) for w in p.values())
    s = np.where(seen == 0, -np.inf, q @ np.swapaxes(k, -1, -2) / np.sqrt(3))
    a = np.exp(s - s.max(-1, keepdims=True))
    return np.sum((a / a.sum(-1, keepdims=True) @ v) ** 2)


@program((np.array([[1.0, 0.1], [0, 0.9]]), np.array([0.2, 0.3]), np.array(0.5)), normal(6, 2))
def kalman_filter(p, observations):
    a, q, r = p
    mean, cov, loss = np.zeros_like(q), np.eye(2), 0
    for z in observations:
        mean, cov = a @ mean, a @ cov @ a.T + np.diag(q ** 2)
        s = cov + r ** 2 * np.eye(2)
        det = s[0, 0] * s[1, 1] - s[0, 1] * s[1, 0]
        inverse = np.stack([np.stack([s[1, 1], -s[0, 1]]), np.stack([-s[1, 0], s[0, 0]])]) / det
        e, gain = z - mean, cov @ inverse
        loss = loss + e @ inverse @ e + np.log(det)
        mean, cov = mean + gain @ e, (np.eye(2) - gain) @ cov
    return loss


@program(normal(4, 4))
def cholesky_likelihood(a):
    s = a @ a.T + 4 * np.eye(4)
    lower = np.zeros_like(s)
    for j in range(4):
        lower[j, j] = np.sqrt(s[j, j] - np.sum(lower[j, :j] ** 2))
        for i in range(j + 1, 4):
            lower[i, j] = (s[i, j] - lower[i, :j] @ lower[j, :j]) / lower[j, j]
    return np.sum(np.log(np.diagonal(lower))) + np.sum(lower ** 3)


@program((normal(5, 2), normal(4, 2)))
def sinkhorn(points):
    x, y = points
    cost, f, g = ((x[:, None] - y) ** 2).sum(-1), 0 * x[:, 0], 0 * y[:, 0]
    for _ in range(5):
        f = -0.5 * np.logaddexp.reduce((g - cost) / 0.5, axis=1)
        g = -0.5 * np.logaddexp.reduce((f[:, None] - cost) / 0.5, axis=0)
    return np.sum(np.exp((f[:, None] + g - cost) / 0.5) * cost)


@program((normal(6, 6), normal(6, 6)))
def fluid(velocity):
    u, v = velocity
    for _ in range(2):
        divergence = np.roll(u, -1, 0) - np.roll(u, 1, 0) + np.roll(v, -1, 1) - np.roll(v, 1, 1)
        pressure = 0 * divergence
        for _ in range(3):
            pressure = (np.roll(pressure, 1, 0) + np.roll(pressure, -1, 0) - divergence) / 4
        u = u - np.roll(pressure, -1, 0) + np.roll(pressure, 1, 0) - 0.1 * u * (np.roll(u, -1, 0) - u)
        v = v - np.roll(pressure, -1, 1) + np.roll(pressure, 1, 1)
    return np.sum(u ** 2 + v ** 2)


@program(normal(4, 4), normal(4, 4))
def stencil_in_place(a, d):
    b = a * 1.0
    top, left = b[:2], b[:, 0]
    top *= d[:2]
    left += 1
    b.T[1] = d[0]
    flat = b.reshape(-1)
    flat[::5] = flat[::5] ** 2
    b[1:3, 1:3] -= b[:2, :2]
    np.add.at(flat, [0, 0, 7], a[0, :3])
    return np.sum(b * d) + np.sum(top) + np.sum(left ** 2)


@program(normal(3, 2), normal(12, 2))
def soft_k_means(centres, x):
    for _ in range(3):
        w = gg.softmax(-5 * ((x[:, None] - centres) ** 2).sum(-1), axis=1)
        centres = (w.T @ x) / w.sum(0)[:, None]
    return np.mean(np.min(((x[:, None] - centres) ** 2).sum(-1), axis=1))


@program({"w": normal(2, 5), "out": normal(5)}, normal(6, 2))
def physics_informed_network(p, points):
    def u(x):
        return np.tanh(x @ p["w"]) @ p["out"]
    return np.mean(gg.vmap(lambda x: np.trace(gg.hessian(u)(x)) + u(x) ** 3)(points) ** 2)


@program(normal(3), normal(3))
def adaptation(w, target):
    def loss(v):
        return np.sum((np.sin(v) - target) ** 2)
    for _ in range(2):
        w = w - 0.1 * gg.grad(loss)(w)
    return loss(w)


@pytest.mark.parametrize("name", PROGRAMS)
def test_derivatives_are_those_of_differences(name):
    loss, parameters, data = PROGRAMS[name]
    gg.check_grads(lambda p: loss(p, *data), (parameters,), order=1)


@pytest.mark.parametrize("backend", [
    "numpy", pytest.param("llvm", marks=pytest.mark.skipif(not LLVM, reason="needs the extra jit"))])
@pytest.mark.parametrize("name", PROGRAMS)
def test_compiled_gradients_are_the_eager_ones(name, backend):
    loss, parameters, data = PROGRAMS[name]
    compiled = gg.compile(gg.value_and_grad(loss), backend=backend)
    found, expected = flatten(compiled(parameters, *data))[0], flatten(gg.value_and_grad(loss)(parameters, *data))[0]
    for a, b in zip(found, expected, strict=True):
        assert_close(a, b, rtol=1e-10, atol=1e-12)
