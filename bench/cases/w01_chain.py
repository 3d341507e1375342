"""W1: a chain of 200 operations on 8 numbers. The arrays are tiny, so what is timed is the engine."""

import numpy as np

from gpugrad.bench.case import Case

CASE = Case(
    name="w01_chain",
    title="chain of 200 ops (mul, add, sin, tanh) on 8 float32, gradient to x",
    params={"ops": 200, "n": 8},
    small={"ops": 12},
    # a near 1 and b near 0: the slope through all 200 operations stays far from underflow
    inputs=lambda p, rng: {
        "x": rng.uniform(0.5, 1.0, p.n),
        "a": rng.uniform(1.0, 1.1, p.n),
        "b": rng.uniform(0.0, 0.01, p.n),
    },
    outputs=("dx",),
    terms=lambda d: d.ops,
    per=lambda d: d.ops,
    part="op",
)


@CASE.variant("gpugrad", "gpugrad-flat", "gpugrad-compile")
def gpugrad_chain(peer, d):
    sin, tanh = peer.module.sin, peer.module.tanh
    x, a, b = peer.leaf(d.x), peer.array(d.a), peer.array(d.b)

    @peer.compile
    def step():
        x.zero_grad()
        y = x
        for _ in range(d.ops // 4):
            y = tanh(sin(y * a + b))
        y.sum().backward()
        return x.grad

    return step


@CASE.variant("numpy")
def numpy_chain(peer, d):
    x, a, b = d.x, d.a, d.b

    def step():
        y, kept = x, []
        for _ in range(d.ops // 4):
            z = y * a + b
            y = np.tanh(np.sin(z))
            kept.append((z, y))
        g = np.ones_like(y)
        for z, y in reversed(kept):
            g = g * (1 - y * y)
            g = g * np.cos(z)
            g = g * a
        return g

    return step


@CASE.variant("numpy-kept")
def numpy_kept_chain(peer, d):
    x, a, b = d.x, d.a, d.b
    sin, cos, tanh, multiply, add, subtract = np.sin, np.cos, np.tanh, np.multiply, np.add, np.subtract
    kept = [(np.empty_like(x), np.empty_like(x)) for _ in range(d.ops // 4)]
    g, t, one = np.empty_like(x), np.empty_like(x), x.dtype.type(1)

    def step():
        y = x
        for z, out in kept:
            multiply(y, a, z)
            add(z, b, z)
            sin(z, out)
            y = tanh(out, out)
        g.fill(1)
        for z, y in reversed(kept):
            multiply(y, y, t)
            subtract(one, t, t)
            multiply(g, t, g)
            cos(z, t)
            multiply(g, t, g)
            multiply(g, a, g)
        return g

    return step


@CASE.variant("torch", "torch-compile")
def torch_chain(peer, d):
    torch = peer.module
    a, b = peer.array(d.a), peer.array(d.b)

    @peer.compile
    def total(x):
        for _ in range(d.ops // 4):
            x = torch.tanh(torch.sin(x * a + b))
        return x.sum()

    x = peer.leaf(d.x)

    def step():
        x.grad = None
        total(x).backward()
        return x.grad

    return step


@CASE.variant("jax")
def jax_chain(peer, d):
    jax, jnp = peer.module, peer.module.numpy
    x, a, b = map(peer.array, (d.x, d.a, d.b))

    def total(x, a, b):
        for _ in range(d.ops // 4):
            x = jnp.tanh(jnp.sin(x * a + b))
        return x.sum()

    slope = peer.compile(jax.grad(total))
    return lambda: slope(x, a, b)


@CASE.variant("autograd")
def autograd_chain(peer, d):
    anp = peer.module.numpy

    def total(x):
        for _ in range(d.ops // 4):
            x = anp.tanh(anp.sin(x * d.a + d.b))
        return anp.sum(x)

    slope = peer.module.grad(total)
    return lambda: slope(d.x)


@CASE.variant("mygrad")
def mygrad_chain(peer, d):
    mg, x = peer.module, peer.leaf(d.x)

    def step():
        x.null_grad()
        y = x
        for _ in range(d.ops // 4):
            y = mg.tanh(mg.sin(y * d.a + d.b))
        y.sum().backward()
        return x.grad

    return step


@CASE.variant("pytensor")
def pytensor_chain(peer, d):
    pt = peer.module.tensor

    def slope(x, a, b):
        y = x
        for _ in range(d.ops // 4):
            y = pt.tanh(pt.sin(y * a + b))
        return peer.module.grad(y.sum(), x)

    return peer.step(slope, d.x, d.a, d.b)
