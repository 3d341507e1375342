"""W10: the tail of a transformer block: y = x + gelu(layer_norm(x)), and the gradients to x and both parameters.

GELU is the tanh form: NumPy has no erf to write the exact one by hand.
"""

import numpy as np

from gpugrad.bench.case import Case

EPS = 1e-5
K, CUBIC = float(np.sqrt(2 / np.pi)), 0.044715

CASE = Case(
    name="w10_layernorm_gelu",
    title="x + gelu(layer_norm(x)) on 64x128x512, gradients to x, gamma, beta, float32",
    params={"shape": (64, 128, 512)},
    small={"shape": (2, 3, 5)},
    inputs=lambda p, rng: {
        "x": rng.standard_normal(p.shape),
        "gamma": rng.uniform(0.5, 1.5, p.shape[-1]),
        "beta": rng.uniform(-0.5, 0.5, p.shape[-1]),
        "g": rng.standard_normal(p.shape),
    },
    outputs=("y", "dx", "dgamma", "dbeta"),
    terms=lambda d: (4 * d.shape[-1], 4 * d.shape[-1], d.x[..., 0].size, d.x[..., 0].size),
    bytes=lambda d: 5 * 4 * d.x.size,  # x, g in; y, dx out; x once more, since both of its gradient's sums need all of y's row
    flops=lambda d: 50 * d.x.size,
)


def by_formula(x, gamma, beta, mean, sqrt, tanh):
    """The forward pass in elementary operations, for libraries without layer norm or GELU of their own."""
    centred = x - mean(x)
    h = centred / sqrt(mean(centred * centred) + EPS) * gamma + beta
    return x + 0.5 * h * (1 + tanh(K * (h + CUBIC * h * h * h)))


@CASE.variant("gpugrad", "gpugrad-flat", "gpugrad-compile")
def gpugrad_layernorm_gelu(peer, d):
    gg = peer.module
    x, gamma, beta, g = peer.leaf(d.x), peer.leaf(d.gamma), peer.leaf(d.beta), peer.array(d.g)

    @peer.compile
    def step():
        for leaf in (x, gamma, beta):
            leaf.zero_grad()
        y = x + gg.nn.gelu(gg.nn.layer_norm(x, gamma, beta, eps=EPS), approximate="tanh")
        y.backward(g)
        return y, x.grad, gamma.grad, beta.grad

    return step


@CASE.variant("numpy")
def numpy_layernorm_gelu(peer, d):
    x, gamma, beta, g = d.x, d.gamma, d.beta, d.g

    def step():
        centred = x - x.mean(axis=-1, keepdims=True)
        r = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + EPS)
        n = centred * r
        h = n * gamma + beta
        hh = h * h
        t = np.tanh(K * h * (1 + CUBIC * hh))
        y = x + 0.5 * h * (1 + t)
        gh = g * (0.5 * (1 + t) + 0.5 * h * (1 - t * t) * K * (1 + 3 * CUBIC * hh))
        gn = gh * gamma
        dx = g + r * (gn - gn.mean(axis=-1, keepdims=True) - n * (gn * n).mean(axis=-1, keepdims=True))
        return y, dx, (gh * n).sum(axis=(0, 1)), gh.sum(axis=(0, 1))

    return step


@CASE.variant("numpy-kept")
def numpy_kept_layernorm_gelu(peer, d):
    """Six buffers of the array's size; sums over rows and columns as products, which read each element once."""
    columns = d.shape[-1]
    x, g = d.x.reshape(-1, columns), d.g.reshape(-1, columns)
    gamma, beta = d.gamma, d.beta
    n, h, t, y, dx, u = (np.empty_like(x) for _ in range(6))
    r, m1, m2 = (np.empty((len(x), 1), x.dtype) for _ in range(3))
    average = np.full((columns, 1), 1 / columns, x.dtype)
    ones = np.ones(len(x), x.dtype)
    multiply, add, subtract = np.multiply, np.add, np.subtract

    def step():
        np.mean(x, axis=1, keepdims=True, out=r)
        subtract(x, r, out=n)
        multiply(n, n, out=u)
        np.matmul(u, average, out=r)
        add(r, EPS, out=r)
        np.sqrt(r, out=r)
        np.reciprocal(r, out=r)
        multiply(n, r, out=n)
        multiply(n, gamma, out=h)
        add(h, beta, out=h)

        multiply(h, h, out=u)
        multiply(u, K * CUBIC, out=t)
        add(t, K, out=t)
        multiply(t, h, out=t)
        np.tanh(t, out=t)
        multiply(h, 0.5, out=h)
        multiply(h, t, out=y)
        add(y, h, out=y)  # gelu = h/2 + h/2 t

        multiply(u, 3 * CUBIC * K, out=u)
        add(u, K, out=u)
        multiply(u, h, out=u)  # du/dh h/2, to be multiplied by 1 - t t
        add(t, 1, out=h)  # h is done with: it holds 1 + t
        subtract(1, t, out=t)
        multiply(t, h, out=t)
        multiply(u, t, out=u)
        multiply(h, 0.5, out=h)
        add(u, h, out=u)
        multiply(u, g, out=u)  # gh
        add(y, x, out=y)

        dbeta = ones @ u
        multiply(u, n, out=t)
        dgamma = ones @ t
        np.matmul(t, gamma[:, None], out=m2)  # row sums of gn n, with gn = gh gamma
        multiply(m2, 1 / columns, out=m2)
        multiply(u, gamma, out=u)
        np.matmul(u, average, out=m1)
        subtract(u, m1, out=u)
        multiply(n, m2, out=n)
        subtract(u, n, out=u)
        multiply(u, r, out=u)
        add(u, g, out=dx)
        return y.reshape(d.shape), dx.reshape(d.shape), dgamma, dbeta

    return step


@CASE.variant("torch", "torch-compile")
def torch_layernorm_gelu(peer, d):
    F = peer.module.nn.functional
    x, gamma, beta, g = peer.leaf(d.x), peer.leaf(d.gamma), peer.leaf(d.beta), peer.array(d.g)

    @peer.compile
    def forward(x, gamma, beta):
        return x + F.gelu(F.layer_norm(x, gamma.shape, gamma, beta, eps=EPS), approximate="tanh")

    def step():
        x.grad = gamma.grad = beta.grad = None
        y = forward(x, gamma, beta)
        y.backward(g)
        return y, x.grad, gamma.grad, beta.grad

    return step


@CASE.variant("jax")
def jax_layernorm_gelu(peer, d):
    jax = peer.module
    x, gamma, beta, g = map(peer.array, (d.x, d.gamma, d.beta, d.g))

    def forward(x, gamma, beta):
        centred = x - x.mean(-1, keepdims=True)
        h = centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + EPS) * gamma + beta
        return x + jax.nn.gelu(h, approximate=True)

    def both(x, gamma, beta, g):
        y, pull = jax.vjp(forward, x, gamma, beta)
        return y, *pull(g)

    both = peer.compile(both)
    return lambda: both(x, gamma, beta, g)


@CASE.variant("autograd")
def autograd_layernorm_gelu(peer, d):
    anp = peer.module.numpy

    def forward(ps):
        return by_formula(*ps, lambda z: anp.mean(z, axis=-1, keepdims=True), anp.sqrt, anp.tanh)  # type: ignore[call-arg]

    make_vjp = peer.module.make_vjp(forward)

    def step():
        pull, y = make_vjp((d.x, d.gamma, d.beta))
        return y, pull(d.g)

    return step


@CASE.variant("mygrad")
def mygrad_layernorm_gelu(peer, d):
    mg = peer.module
    x, gamma, beta = peer.leaf(d.x), peer.leaf(d.gamma), peer.leaf(d.beta)

    def step():
        for leaf in (x, gamma, beta):
            leaf.null_grad()
        y = by_formula(x, gamma, beta, lambda z: mg.mean(z, axis=-1, keepdims=True), mg.sqrt, mg.tanh)
        y.backward(d.g)
        return y, x.grad, gamma.grad, beta.grad

    return step


@CASE.variant("pytensor")
def pytensor_layernorm_gelu(peer, d):
    pt = peer.module.tensor

    def both(x, gamma, beta, g):
        y = by_formula(x, gamma, beta, lambda z: z.mean(axis=-1, keepdims=True), pt.sqrt, pt.tanh)
        return [y, *peer.module.grad(None, [x, gamma, beta], known_grads={y: g})]

    return peer.step(both, d.x, d.gamma, d.beta, d.g)
