"""W7: a Hessian-vector product: the derivative, along one direction, of a small network's gradient."""

import numpy as np

from gpugrad.bench.case import Case
from gpugrad.bench.cases import tanh_mlp

CASE = Case(
    name="w07_hvp",
    title="Hessian-vector product of a 3-layer tanh MLP, 96x64-256-256-64, float32",
    params=tanh_mlp.PARAMS,
    small=tanh_mlp.SMALL,
    inputs=tanh_mlp.inputs,
    outputs=tanh_mlp.NAMES,
    terms=lambda d: 4 * (sum(d.widths) + d.batch),
    bytes=lambda d: 4 * (3 * tanh_mlp.parameters(d) + d.batch * d.widths[0]),
    flops=lambda d: 2 * d.batch * (9 * tanh_mlp.parameters(d) - 3 * d.widths[0] * d.widths[1]),
)


@CASE.variant("gpugrad", "gpugrad-flat", "gpugrad-compile")
def gpugrad_hvp(peer, d):
    x, target = peer.array(d.x), peer.array(d.target)
    ps, vs = [peer.array(p) for p in d.ps], [peer.array(v) for v in d.vs]

    def loss(ps):
        return tanh_mlp.loss(ps, x, target, np.tanh)

    hvp = peer.compile(lambda ps, vs: peer.module.hvp(loss, ps, vs))
    return lambda: hvp(ps, vs)


@CASE.variant("numpy")
def numpy_hvp(peer, d):
    """The gradient by hand, each line differentiated along v: `z_` is the tangent of z, `gz` its cotangent."""
    x, target = d.x, d.target
    w1, b1, w2, b2, w3, b3 = d.ps
    v1, c1, v2, c2, v3, c3 = d.vs

    def step():
        h1 = np.tanh(x @ w1.T + b1)
        s1 = 1 - h1 * h1
        h1_ = s1 * (x @ v1.T + c1)
        h2 = np.tanh(h1 @ w2.T + b2)
        s2 = 1 - h2 * h2
        h2_ = s2 * (h1_ @ w2.T + h1 @ v2.T + c2)
        gy = (h2 @ w3.T + b3 - target) / d.batch
        gy_ = (h2_ @ w3.T + h2 @ v3.T + c3) / d.batch

        gw3_ = gy_.T @ h2 + gy.T @ h2_
        gh2 = gy @ w3
        gh2_ = gy_ @ w3 + gy @ v3
        gz2 = gh2 * s2
        gz2_ = gh2_ * s2 - 2 * gh2 * h2 * h2_
        gw2_ = gz2_.T @ h1 + gz2.T @ h1_
        gh1 = gz2 @ w2
        gh1_ = gz2_ @ w2 + gz2 @ v2
        gz1_ = gh1_ * s1 - 2 * gh1 * h1 * h1_
        return gz1_.T @ x, gz1_.sum(axis=0), gw2_, gz2_.sum(axis=0), gw3_, gy_.sum(axis=0)

    return step


@CASE.variant("numpy-kept")
def numpy_kept_hvp(peer, d):
    """Buffers made once; a value and its tangent are stacked, so that two products with one matrix are one."""
    x, target = d.x, d.target
    w1, b1, w2, b2, w3, b3 = d.ps
    v1, c1, v2, c2, v3, c3 = d.vs
    batch, (m1, m2, m3) = d.batch, d.widths[1:]

    def pair(width):
        both = np.empty((2 * batch, width), x.dtype)
        return both, both[:batch], both[batch:]

    hh1, h1, h1_ = pair(m1)
    hh2, h2, h2_ = pair(m2)
    gg3, gy, gy_ = pair(m3)
    ggh2, gh2, gh2_ = pair(m2)
    ggh1, gh1, gh1_ = pair(m1)
    s1, t1 = np.empty_like(h1), np.empty_like(h1)
    s2, t2 = np.empty_like(h2), np.empty_like(h2)
    t3 = np.empty_like(gy)
    gw1, gw2, gw3, part2, part3 = (np.empty_like(w) for w in (w1, w2, w3, w2, w3))
    gb1, gb2, gb3 = np.empty_like(b1), np.empty_like(b2), np.empty_like(b3)
    matmul, add, multiply, subtract, tanh = np.matmul, np.add, np.multiply, np.subtract, np.tanh

    def activate(h, h_, s, b, c):
        """h, h_ hold products with the weights; bias, tanh and its slope follow in place."""
        add(h, b, h)
        tanh(h, h)
        multiply(h, h, s)
        subtract(1, s, s)
        add(h_, c, h_)
        multiply(h_, s, h_)

    def pull(gh, gh_, s, h, h_, t):
        """Cotangents of tanh's output, in place, into those of its input: gh_ <- gh_ s - 2 gh h h_, gh <- gh s."""
        multiply(gh, h, t)
        multiply(t, h_, t)
        multiply(t, 2, t)
        multiply(gh_, s, gh_)
        subtract(gh_, t, gh_)
        multiply(gh, s, gh)

    def step():
        matmul(x, w1.T, out=h1)
        matmul(x, v1.T, out=h1_)
        activate(h1, h1_, s1, b1, c1)
        matmul(hh1, w2.T, out=hh2)
        matmul(h1, v2.T, out=t2)
        add(h2_, t2, h2_)
        activate(h2, h2_, s2, b2, c2)
        matmul(hh2, w3.T, out=gg3)
        add(gy, b3, gy)
        subtract(gy, target, gy)
        matmul(h2, v3.T, out=t3)
        add(gy_, t3, gy_)
        add(gy_, c3, gy_)
        multiply(gg3, 1 / batch, gg3)

        matmul(gy_.T, h2, out=gw3)
        matmul(gy.T, h2_, out=part3)
        add(gw3, part3, gw3)
        np.sum(gy_, axis=0, out=gb3)
        matmul(gg3, w3, out=ggh2)
        matmul(gy, v3, out=t2)
        add(gh2_, t2, gh2_)
        pull(gh2, gh2_, s2, h2, h2_, t2)
        matmul(gh2_.T, h1, out=gw2)
        matmul(gh2.T, h1_, out=part2)
        add(gw2, part2, gw2)
        np.sum(gh2_, axis=0, out=gb2)
        matmul(ggh2, w2, out=ggh1)
        matmul(gh2, v2, out=t1)
        add(gh1_, t1, gh1_)
        pull(gh1, gh1_, s1, h1, h1_, t1)
        matmul(gh1_.T, x, out=gw1)
        np.sum(gh1_, axis=0, out=gb1)
        return gw1, gb1, gw2, gb2, gw3, gb3

    return step


@CASE.variant("torch", "torch-compile")
def torch_hvp(peer, d):
    """Forward over reverse, torch.func's own recipe; twice reverse is slower."""
    torch = peer.module
    x, target = peer.array(d.x), peer.array(d.target)
    ps, vs = tuple(map(peer.array, d.ps)), tuple(map(peer.array, d.vs))
    gradient = torch.func.grad(lambda ps: tanh_mlp.loss(ps, x, target, torch.tanh))
    hvp = peer.compile(lambda ps, vs: torch.func.jvp(gradient, (ps,), (vs,))[1])
    return lambda: hvp(ps, vs)


@CASE.variant("jax")
def jax_hvp(peer, d):
    jax = peer.module
    x, target = peer.array(d.x), peer.array(d.target)
    ps, vs = list(map(peer.array, d.ps)), list(map(peer.array, d.vs))
    gradient = jax.grad(lambda ps: tanh_mlp.loss(ps, x, target, jax.numpy.tanh))
    hvp = peer.compile(lambda ps, vs: jax.jvp(gradient, (ps,), (vs,))[1])
    return lambda: hvp(ps, vs)


@CASE.variant("autograd")
def autograd_hvp(peer, d):
    """Reverse over reverse, as its own hessian_vector_product does, here over a list of arrays."""
    autograd, anp = peer.module, peer.module.numpy

    def loss(ps):
        w1, b1, w2, b2, w3, b3 = ps
        h = anp.tanh(anp.dot(anp.tanh(anp.dot(d.x, w1.T) + b1), w2.T) + b2)
        r = anp.dot(h, w3.T) + b3 - d.target
        return anp.sum(r * r) * (0.5 / d.batch)

    gradient = autograd.grad(loss)

    def along(ps):
        return sum(anp.sum(g * v) for g, v in zip(gradient(ps), d.vs, strict=True))

    product = autograd.grad(along)
    return lambda: product(d.ps)


@CASE.variant("pytensor")
def pytensor_hvp(peer, d):
    """Reverse over reverse: the gradient of the gradient's product with v."""
    grad, tanh = peer.module.grad, peer.module.tensor.tanh

    def product(x, target, *arrays):
        ps, vs = list(arrays[:6]), arrays[6:]
        gradient = grad(tanh_mlp.loss(ps, x, target, tanh), ps)
        along = sum((g * v).sum() for g, v in zip(gradient, vs, strict=True))
        return grad(along, ps, consider_constant=list(vs))

    return peer.step(product, d.x, d.target, *d.ps, *d.vs)
