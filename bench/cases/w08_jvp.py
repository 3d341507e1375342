"""W8: forward mode: the output of the network of W7 and its derivative along one direction of its parameters."""

import numpy as np

from gpugrad.bench.case import Case
from gpugrad.bench.cases import tanh_mlp

CASE = Case(
    name="w08_jvp",
    title="output and directional derivative (jvp) of a 3-layer tanh MLP, 96x64-256-256-64, float32",
    params=tanh_mlp.PARAMS,
    small=tanh_mlp.SMALL,
    inputs=tanh_mlp.inputs,
    outputs=("y", "dy"),
    terms=lambda d: 2 * sum(d.widths),
    bytes=lambda d: 4 * (2 * tanh_mlp.parameters(d) + d.batch * d.widths[0]),
    flops=lambda d: 2 * d.batch * (3 * tanh_mlp.parameters(d) - d.widths[0] * d.widths[1]),
)


@CASE.variant("gpugrad", "gpugrad-flat", "gpugrad-compile")
def gpugrad_jvp(peer, d):
    x = peer.array(d.x)
    ps, vs = [peer.array(p) for p in d.ps], [peer.array(v) for v in d.vs]
    jvp = peer.compile(lambda ps, vs: peer.module.jvp(lambda ps: tanh_mlp.network(ps, x, np.tanh), (ps,), (vs,)))
    return lambda: jvp(ps, vs)


@CASE.variant("numpy")
def numpy_jvp(peer, d):
    x = d.x
    w1, b1, w2, b2, w3, b3 = d.ps
    v1, c1, v2, c2, v3, c3 = d.vs

    def step():
        h1 = np.tanh(x @ w1.T + b1)
        h1_ = (1 - h1 * h1) * (x @ v1.T + c1)
        h2 = np.tanh(h1 @ w2.T + b2)
        h2_ = (1 - h2 * h2) * (h1_ @ w2.T + h1 @ v2.T + c2)
        return h2 @ w3.T + b3, h2_ @ w3.T + h2 @ v3.T + c3

    return step


@CASE.variant("numpy-kept")
def numpy_kept_jvp(peer, d):
    """Buffers made once; a value and its tangent are stacked, so that two products with one matrix are one."""
    x, batch = d.x, d.batch
    w1, b1, w2, b2, w3, b3 = d.ps
    v1, c1, v2, c2, v3, c3 = d.vs
    hh1, hh2, yy = (np.empty((2 * batch, width), x.dtype) for width in d.widths[1:])
    t1, t2, t3 = (np.empty((batch, width), x.dtype) for width in d.widths[1:])
    matmul, add, multiply, subtract = np.matmul, np.add, np.multiply, np.subtract

    def activate(h, h_, b, c, t):
        add(h, b, h)
        np.tanh(h, h)
        add(h_, c, h_)
        multiply(h, h, t)
        subtract(1, t, t)
        multiply(h_, t, h_)

    def step():
        h, h_ = hh1[:batch], hh1[batch:]
        matmul(x, w1.T, out=h)
        matmul(x, v1.T, out=h_)
        activate(h, h_, b1, c1, t1)
        matmul(hh1, w2.T, out=hh2)
        matmul(h, v2.T, out=t2)
        h, h_ = hh2[:batch], hh2[batch:]
        add(h_, t2, h_)
        activate(h, h_, b2, c2, t2)
        matmul(hh2, w3.T, out=yy)
        matmul(h, v3.T, out=t3)
        y, y_ = yy[:batch], yy[batch:]
        add(y, b3, y)
        add(y_, t3, y_)
        add(y_, c3, y_)
        return y, y_

    return step


@CASE.variant("torch", "torch-compile")
def torch_jvp(peer, d):
    torch, x = peer.module, peer.array(d.x)
    ps, vs = tuple(map(peer.array, d.ps)), tuple(map(peer.array, d.vs))

    def network(ps):
        return tanh_mlp.network(ps, x, torch.tanh)

    both = peer.compile(lambda ps, vs: torch.func.jvp(network, (ps,), (vs,)))
    return lambda: both(ps, vs)


@CASE.variant("jax")
def jax_jvp(peer, d):
    jax, x = peer.module, peer.array(d.x)
    ps, vs = list(map(peer.array, d.ps)), list(map(peer.array, d.vs))

    def network(ps):
        return tanh_mlp.network(ps, x, jax.numpy.tanh)

    both = peer.compile(lambda ps, vs: jax.jvp(network, (ps,), (vs,)))
    return lambda: both(ps, vs)


@CASE.variant("autograd")
def autograd_jvp(peer, d):
    autograd, anp = peer.module, peer.module.numpy

    def network(*ps):
        w1, b1, w2, b2, w3, b3 = ps
        h = anp.tanh(anp.dot(anp.tanh(anp.dot(d.x, w1.T) + b1), w2.T) + b2)
        return anp.dot(h, w3.T) + b3

    both = autograd.make_jvp(lambda ps: network(*ps))
    return lambda: both(d.ps)(d.vs)


@CASE.variant("pytensor")
def pytensor_jvp(peer, d):
    tensor, forward = peer.module.tensor, peer.module.gradient.pushforward

    def both(x, *arrays):
        ps, vs = list(arrays[:6]), list(arrays[6:])
        y = tanh_mlp.network(ps, x, tensor.tanh)
        return [y, forward(y, ps, vs)]

    return peer.step(both, d.x, *d.ps, *d.vs)
