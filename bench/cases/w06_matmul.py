"""W6: a matrix product and both its gradients: three products, and BLAS is the whole time."""

import numpy as np

from gpugrad.bench.case import Case

CASE = Case(
    name="w06_matmul",
    title="1024x1024 matrix product and both gradients, float32",
    params={"n": 1024},
    small={"n": 9},
    inputs=lambda p, rng: {k: rng.standard_normal((p.n, p.n)) for k in ("a", "b", "g")},
    outputs=("y", "da", "db"),
    terms=lambda d: d.n,
    bytes=lambda d: 6 * 4 * d.n**2,
    flops=lambda d: 6 * d.n**3,
)


@CASE.variant("gpugrad", "gpugrad-flat", "gpugrad-compile")
def gpugrad_matmul(peer, d):
    a, b, g = peer.leaf(d.a), peer.leaf(d.b), peer.array(d.g)

    @peer.compile
    def step():
        a.zero_grad()
        b.zero_grad()
        y = a @ b
        y.backward(g)
        return y, a.grad, b.grad

    return step


@CASE.variant("numpy")
def numpy_matmul(peer, d):
    return lambda: (d.a @ d.b, d.g @ d.b.T, d.a.T @ d.g)


@CASE.variant("numpy-kept")
def numpy_kept_matmul(peer, d):
    y, da, db = (np.empty_like(d.a) for _ in range(3))
    return lambda: (np.matmul(d.a, d.b, out=y), np.matmul(d.g, d.b.T, out=da), np.matmul(d.a.T, d.g, out=db))


@CASE.variant("torch", "torch-compile")
def torch_matmul(peer, d):
    a, b, g = peer.leaf(d.a), peer.leaf(d.b), peer.array(d.g)
    product = peer.compile(peer.module.matmul)

    def step():
        a.grad = b.grad = None
        y = product(a, b)
        y.backward(g)
        return y, a.grad, b.grad

    return step


@CASE.variant("jax")
def jax_matmul(peer, d):
    jax = peer.module
    a, b, g = map(peer.array, (d.a, d.b, d.g))

    def all_three(a, b, g):
        y, pull = jax.vjp(jax.numpy.matmul, a, b)
        return y, *pull(g)

    all_three = peer.compile(all_three)
    return lambda: all_three(a, b, g)


@CASE.variant("autograd")
def autograd_matmul(peer, d):
    anp = peer.module.numpy
    make_vjp = peer.module.make_vjp(lambda ab: anp.dot(*ab))

    def step():
        pull, y = make_vjp((d.a, d.b))
        return y, pull(d.g)

    return step


@CASE.variant("mygrad")
def mygrad_matmul(peer, d):
    a, b = peer.leaf(d.a), peer.leaf(d.b)

    def step():
        a.null_grad()
        b.null_grad()
        y = a @ b
        y.backward(d.g)
        return y, a.grad, b.grad

    return step


@CASE.variant("pytensor")
def pytensor_matmul(peer, d):
    def all_three(a, b, g):
        y = a @ b
        return [y, *peer.module.grad(None, [a, b], known_grads={y: g})]

    return peer.step(all_three, d.a, d.b, d.g)
