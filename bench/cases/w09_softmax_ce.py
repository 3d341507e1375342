"""W9: softmax cross-entropy over a vocabulary of 32,000: loss and gradient to the logits."""

import numpy as np

from gpugrad.bench.case import Case

CASE = Case(
    name="w09_softmax_ce",
    title="softmax cross-entropy on 256x32000 logits, loss and gradient, float32",
    params={"rows": 256, "classes": 32000},
    small={"rows": 5, "classes": 11},
    inputs=lambda p, rng: {
        "logits": rng.standard_normal((p.rows, p.classes)) * 2,
        "labels": rng.integers(0, p.classes, p.rows),
    },
    outputs=("loss", "dlogits"),
    terms=lambda d: d.classes,
    bytes=lambda d: 2 * 4 * d.rows * d.classes,
    flops=lambda d: 6 * d.rows * d.classes,
)


@CASE.variant("gpugrad", "gpugrad-flat", "gpugrad-compile")
def gpugrad_softmax_ce(peer, d):
    gg = peer.module
    logits, labels = peer.leaf(d.logits), peer.array(d.labels)

    @peer.compile
    def step():
        logits.zero_grad()
        loss = gg.nn.cross_entropy(logits, labels)
        loss.backward()
        return loss, logits.grad

    return step


@CASE.variant("numpy")
def numpy_softmax_ce(peer, d):
    logits, labels, rows = d.logits, d.labels, np.arange(d.rows)

    def step():
        z = logits - logits.max(axis=1, keepdims=True)
        e = np.exp(z)
        s = e.sum(axis=1, keepdims=True)
        loss = np.mean(np.log(s[:, 0]) - z[rows, labels])
        g = e / s
        g[rows, labels] -= 1
        return loss, g / d.rows

    return step


@CASE.variant("numpy-kept")
def numpy_kept_softmax_ce(peer, d):
    logits, labels, rows = d.logits, d.labels, np.arange(d.rows)
    g = np.empty_like(logits)
    top, total = np.empty((d.rows, 1), logits.dtype), np.empty((d.rows, 1), logits.dtype)

    def step():
        np.max(logits, axis=1, keepdims=True, out=top)
        np.subtract(logits, top, out=g)
        picked = g[rows, labels]
        np.exp(g, out=g)
        np.sum(g, axis=1, keepdims=True, out=total)
        loss = np.mean(np.log(total[:, 0]) - picked)
        np.multiply(g, 1 / (total * d.rows), out=g)
        g[rows, labels] -= 1 / d.rows
        return loss, g

    return step


@CASE.variant("torch", "torch-compile")
def torch_softmax_ce(peer, d):
    logits, labels = peer.leaf(d.logits), peer.array(d.labels)
    cross_entropy = peer.module.nn.functional.cross_entropy
    loss_of = peer.compile(lambda logits: cross_entropy(logits, labels))

    def step():
        logits.grad = None
        loss = loss_of(logits)
        loss.backward()
        return loss, logits.grad

    return step


@CASE.variant("jax")
def jax_softmax_ce(peer, d):
    jax, jnp = peer.module, peer.module.numpy
    logits, labels = peer.array(d.logits), peer.array(d.labels)

    def loss(logits):
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - logits[jnp.arange(d.rows), labels])

    both = peer.compile(jax.value_and_grad(loss))
    return lambda: both(logits)


@CASE.variant("autograd")
def autograd_softmax_ce(peer, d):
    anp, rows = peer.module.numpy, np.arange(d.rows)

    def loss(logits):
        z = logits - anp.max(logits, axis=1, keepdims=True)
        return anp.mean(anp.log(anp.sum(anp.exp(z), axis=1)) - z[rows, d.labels])

    both = peer.module.value_and_grad(loss)
    return lambda: both(d.logits)


@CASE.variant("mygrad")
def mygrad_softmax_ce(peer, d):
    logits = peer.leaf(d.logits)

    def step():
        logits.null_grad()
        loss = peer.module.nnet.softmax_crossentropy(logits, d.labels)
        loss.backward()
        return loss, logits.grad

    return step


@CASE.variant("pytensor")
def pytensor_softmax_ce(peer, d):
    pt = peer.module.tensor

    def both(logits, labels):
        loss = -pt.special.log_softmax(logits, axis=1)[pt.arange(d.rows), labels].mean()
        return [loss, peer.module.grad(loss, logits)]

    return peer.step(both, d.logits, d.labels)
