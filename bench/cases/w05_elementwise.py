"""W5: a formula over 4 million numbers. Memory traffic is all there is: each library shows how many passes it makes."""

import numpy as np

from gpugrad.bench.case import Case

CASE = Case(
    name="w05_elementwise",
    title="sum(tanh(a*b + c) * sigmoid(d) - a*a) and gradients to all four, 4M float32",
    params={"n": 4_000_000},
    small={"n": 37},
    inputs=lambda p, rng: {k: rng.standard_normal(p.n) for k in ("a", "b", "c", "e")},
    outputs=("total", "da", "db", "dc", "dd"),
    terms=lambda d: (d.n, 16, 16, 16, 16),
    bytes=lambda d: 8 * 4 * d.n,
    flops=lambda d: 20 * d.n,
)


@CASE.variant("gpugrad", "gpugrad-flat", "gpugrad-compile")
def gpugrad_elementwise(peer, d):
    gg = peer.module
    a, b, c, e = leaves = [peer.leaf(x) for x in (d.a, d.b, d.c, d.e)]

    @peer.compile
    def step():
        for x in leaves:
            x.zero_grad()
        total = (np.tanh(a * b + c) * gg.sigmoid(e) - a * a).sum()
        total.backward()
        return total, a.grad, b.grad, c.grad, e.grad

    return step


@CASE.variant("numpy")
def numpy_elementwise(peer, d):
    a, b, c, e = d.a, d.b, d.c, d.e

    def step():
        t = np.tanh(a * b + c)
        s = 1 / (1 + np.exp(-e))
        ts = t * s
        total = np.sum(ts - a * a)
        dc = s * (1 - t * t)
        return total, dc * b - 2 * a, dc * a, dc, ts * (1 - s)

    return step


@CASE.variant("numpy-kept")
def numpy_kept_elementwise(peer, d):
    a, b, c, e = d.a, d.b, d.c, d.e
    da, db, dc, de, s = (np.empty_like(a) for _ in range(5))

    def step():
        np.multiply(a, b, out=dc)
        np.add(dc, c, out=dc)
        np.tanh(dc, out=dc)
        np.negative(e, out=s)
        np.exp(s, out=s)
        np.add(s, 1, out=s)
        np.reciprocal(s, out=s)
        np.multiply(dc, s, out=de)
        total = np.sum(de) - np.dot(a, a)
        np.multiply(dc, dc, out=dc)
        np.subtract(1, dc, out=dc)
        np.multiply(dc, s, out=dc)
        np.subtract(1, s, out=s)
        np.multiply(de, s, out=de)
        np.multiply(dc, a, out=db)
        np.multiply(dc, b, out=da)
        np.subtract(da, a, out=da)
        np.subtract(da, a, out=da)
        return total, da, db, dc, de

    return step


@CASE.variant("torch", "torch-compile")
def torch_elementwise(peer, d):
    torch = peer.module
    a, b, c, e = leaves = [peer.leaf(x) for x in (d.a, d.b, d.c, d.e)]

    @peer.compile
    def total_of(a, b, c, e):
        return (torch.tanh(a * b + c) * torch.sigmoid(e) - a * a).sum()

    def step():
        for x in leaves:
            x.grad = None
        total = total_of(a, b, c, e)
        total.backward()
        return total, a.grad, b.grad, c.grad, e.grad

    return step


@CASE.variant("jax")
def jax_elementwise(peer, d):
    jax, jnp = peer.module, peer.module.numpy
    arrays = [peer.array(x) for x in (d.a, d.b, d.c, d.e)]

    def total(a, b, c, e):
        return (jnp.tanh(a * b + c) * jax.nn.sigmoid(e) - a * a).sum()

    both = peer.compile(jax.value_and_grad(total, argnums=(0, 1, 2, 3)))
    return lambda: both(*arrays)


@CASE.variant("autograd")
def autograd_elementwise(peer, d):
    anp = peer.module.numpy

    def total(xs):
        a, b, c, e = xs
        return anp.sum(anp.tanh(a * b + c) * (1 / (1 + anp.exp(-e))) - a * a)

    both = peer.module.value_and_grad(total)
    return lambda: both((d.a, d.b, d.c, d.e))


@CASE.variant("mygrad")
def mygrad_elementwise(peer, d):
    mg = peer.module
    a, b, c, e = leaves = [peer.leaf(x) for x in (d.a, d.b, d.c, d.e)]

    def step():
        for x in leaves:
            x.null_grad()
        total = (mg.tanh(a * b + c) * mg.nnet.sigmoid(e) - a * a).sum()
        total.backward()
        return total, a.grad, b.grad, c.grad, e.grad

    return step


@CASE.variant("pytensor")
def pytensor_elementwise(peer, d):
    pt = peer.module.tensor

    def both(*leaves):
        a, b, c, e = leaves
        total = (pt.tanh(a * b + c) * pt.sigmoid(e) - a * a).sum()
        return [total, *peer.module.grad(total, list(leaves))]

    return peer.step(both, d.a, d.b, d.c, d.e)
