"""W3: one training step of a multilayer perceptron: forward, ReLU, softmax cross-entropy, backward, SGD with momentum.

Weights are (out, in), as in PyTorch. Checked are the loss, the gradients and the updated parameters of the first step.
"""

from types import SimpleNamespace

import numpy as np

from gpugrad.bench.case import Case

RATE, MOMENTUM = 0.01, 0.9


def inputs(p: SimpleNamespace, rng: np.random.Generator) -> dict:
    sizes = list(zip(p.widths[1:], p.widths[:-1], strict=True))
    return {
        "x": rng.standard_normal((p.batch, p.widths[0])),
        "labels": rng.integers(0, p.widths[-1], p.batch),
        "ws": [rng.standard_normal(size) * np.sqrt(2 / size[1]) for size in sizes],
        "bs": [rng.standard_normal(size[0]) * 0.1 for size in sizes],
    }


def mlp_case(name: str, batch: int, widths: tuple[int, ...]) -> Case:
    """The training step at this size; W3 is the large one, W4 the small."""

    def parameters(d):
        return sum(m * (n + 1) for m, n in zip(d.widths[1:], d.widths[:-1], strict=True))

    layers = len(widths) - 1
    case = Case(
        name=name,
        title=f"MLP training step {batch}x{'-'.join(map(str, widths))}, ReLU, softmax-CE, SGD with momentum",
        params={"batch": batch, "widths": widths},
        small={"batch": 4, "widths": (6, 5, 5, 3)},
        inputs=inputs,
        outputs=(
            "loss",
            *(f"d{k}{i}" for k in "wb" for i in range(layers)),
            *(f"new {k}{i}" for k in "wb" for i in range(layers)),
        ),
        terms=lambda d: sum(d.widths) + d.batch,
        bytes=lambda d: 4 * (5 * parameters(d) + d.batch * d.widths[0]),  # read w, v; write w, v, and w read once more backwards
        flops=lambda d: 2 * d.batch * (3 * parameters(d) - d.widths[0] * d.widths[1]),  # no gradient to x
    )
    case.variant("gpugrad", "gpugrad-flat", "gpugrad-compile")(gpugrad_mlp)
    case.variant("numpy")(numpy_mlp)
    case.variant("numpy-kept")(numpy_kept_mlp)
    case.variant("torch", "torch-compile")(torch_mlp)
    case.variant("jax")(jax_mlp)
    case.variant("autograd")(autograd_mlp)
    case.variant("mygrad")(mygrad_mlp)
    case.variant("pytensor")(pytensor_mlp)
    return case


def gpugrad_mlp(peer, d):
    gg = peer.module
    x, labels = peer.array(d.x), peer.array(d.labels)
    ws, bs = [peer.leaf(w) for w in d.ws], [peer.leaf(b) for b in d.bs]
    optimiser = gg.optim.SGD([*ws, *bs], lr=RATE, momentum=MOMENTUM)

    @peer.compile
    def step():
        optimiser.zero_grad()
        h = x
        for w, b in zip(ws[:-1], bs[:-1], strict=True):
            h = gg.nn.relu(gg.nn.linear(h, w, b))
        loss = gg.nn.cross_entropy(gg.nn.linear(h, ws[-1], bs[-1]), labels)
        loss.backward()
        optimiser.step()
        return loss

    return step, lambda loss: [loss, *(p.grad for p in (*ws, *bs)), *ws, *bs]


def numpy_mlp(peer, d):
    """As one would write it flat: every line makes its array."""
    ws, bs = list(d.ws), list(d.bs)
    vws, vbs = [np.zeros_like(w) for w in ws], [np.zeros_like(b) for b in bs]
    rows, rate, momentum = np.arange(d.batch), RATE, MOMENTUM
    grads = {}

    def step():
        hs = [d.x]
        for w, b in zip(ws[:-1], bs[:-1], strict=True):
            hs.append(np.maximum(hs[-1] @ w.T + b, 0))
        z = hs[-1] @ ws[-1].T + bs[-1]
        z = z - z.max(axis=1, keepdims=True)
        e = np.exp(z)
        s = e.sum(axis=1, keepdims=True)
        loss = np.mean(np.log(s[:, 0]) - z[rows, d.labels])
        g = e / s
        g[rows, d.labels] -= 1
        g = g / d.batch
        for i in reversed(range(len(ws))):
            gw, gb = g.T @ hs[i], g.sum(axis=0)
            if i:
                g = (g @ ws[i]) * (hs[i] > 0)
            vws[i] = momentum * vws[i] + gw
            vbs[i] = momentum * vbs[i] + gb
            ws[i] = ws[i] - rate * vws[i]
            bs[i] = bs[i] - rate * vbs[i]
            grads[i] = gw, gb
        return loss

    return step, lambda loss: [
        loss,
        *(grads[i][0] for i in range(len(ws))),
        *(grads[i][1] for i in range(len(ws))),
        *ws,
        *bs,
    ]


def numpy_kept_mlp(peer, d):
    """Every array is made once. The first velocities are zero, so after the first step they are the gradients."""
    ws, bs = d.ws, d.bs
    gws, gbs, vws, vbs = ([make(a) for a in like] for make in (np.empty_like, np.zeros_like) for like in (ws, bs))
    zs = [np.empty((d.batch, w.shape[0]), w.dtype) for w in ws]
    gs = [np.empty_like(z) for z in zs]
    masks = [np.empty(z.shape, bool) for z in zs]
    top, total = np.empty((d.batch, 1), d.x.dtype), np.empty((d.batch, 1), d.x.dtype)
    rows = np.arange(d.batch)

    def step():
        h = d.x
        for w, b, z in zip(ws, bs, zs, strict=True):
            np.matmul(h, w.T, out=z)
            np.add(z, b, out=z)
            if z is not zs[-1]:
                h = np.maximum(z, 0, out=z)
        np.max(z, axis=1, keepdims=True, out=top)
        np.subtract(z, top, out=z)
        picked = z[rows, d.labels]
        np.exp(z, out=z)
        np.sum(z, axis=1, keepdims=True, out=total)
        loss = np.mean(np.log(total[:, 0]) - picked)
        np.divide(z, total, out=gs[-1])
        gs[-1][rows, d.labels] -= 1
        np.multiply(gs[-1], 1 / d.batch, out=gs[-1])
        for i in reversed(range(len(ws))):
            g = gs[i]
            if i:
                np.matmul(g, ws[i], out=gs[i - 1])
                np.greater(zs[i - 1], 0, out=masks[i - 1])
                np.multiply(gs[i - 1], masks[i - 1], out=gs[i - 1])
            np.matmul(g.T, zs[i - 1] if i else d.x, out=gws[i])
            np.sum(g, axis=0, out=gbs[i])
            for p, gp, v in ((ws[i], gws[i], vws[i]), (bs[i], gbs[i], vbs[i])):
                np.multiply(v, MOMENTUM, out=v)
                np.add(v, gp, out=v)
                np.multiply(v, RATE, out=gp)
                np.subtract(p, gp, out=p)
        return loss

    return step, lambda loss: [loss, *vws, *vbs, *ws, *bs]


def torch_mlp(peer, d):
    torch = peer.module
    linear, relu, cross_entropy = torch.nn.functional.linear, torch.relu, torch.nn.functional.cross_entropy
    x, labels = peer.array(d.x), peer.array(d.labels)
    ws, bs = [peer.leaf(w) for w in d.ws], [peer.leaf(b) for b in d.bs]
    optimiser = torch.optim.SGD([*ws, *bs], lr=RATE, momentum=MOMENTUM)

    @peer.compile
    def loss_of(h):
        for w, b in zip(ws[:-1], bs[:-1], strict=True):
            h = relu(linear(h, w, b))
        return cross_entropy(linear(h, ws[-1], bs[-1]), labels)

    def step():
        optimiser.zero_grad()
        loss = loss_of(x)
        loss.backward()
        optimiser.step()
        return loss

    return step, lambda loss: [loss, *(p.grad for p in (*ws, *bs)), *ws, *bs]


def jax_mlp(peer, d):
    """The state is donated, as a training loop does, so that XLA may update it in place."""
    jax, jnp = peer.module, peer.module.numpy
    x, labels = peer.array(d.x), peer.array(d.labels)
    ps = ([peer.array(w) for w in d.ws], [peer.array(b) for b in d.bs])
    state = [ps, jax.tree.map(jnp.zeros_like, ps)]

    def loss_of(ps):
        h = x
        for w, b in zip(ps[0][:-1], ps[1][:-1], strict=True):
            h = jax.nn.relu(h @ w.T + b)
        logits = h @ ps[0][-1].T + ps[1][-1]
        return jnp.mean(jax.nn.logsumexp(logits, axis=1) - logits[jnp.arange(d.batch), labels])

    def update(ps, vs):
        loss, gs = jax.value_and_grad(loss_of)(ps)
        vs = jax.tree.map(lambda v, g: MOMENTUM * v + g, vs, gs)
        return loss, jax.tree.map(lambda p, v: p - RATE * v, ps, vs), vs

    update = jax.jit(update, donate_argnums=(0, 1))

    def step():
        loss, *state[:] = update(*state)
        return loss

    return step, lambda loss: [loss, state[1], state[0]]


def autograd_mlp(peer, d):
    anp = peer.module.numpy
    ws, bs = list(d.ws), list(d.bs)
    vws, vbs = [np.zeros_like(w) for w in ws], [np.zeros_like(b) for b in bs]
    rows = np.arange(d.batch)
    grads: list[list] = [[], []]

    def loss_of(ps):
        ws, bs = ps
        h = d.x
        for w, b in zip(ws[:-1], bs[:-1], strict=True):
            h = anp.maximum(anp.dot(h, w.T) + b, 0)
        z = anp.dot(h, ws[-1].T) + bs[-1]
        z = z - anp.max(z, axis=1, keepdims=True)
        return anp.mean(anp.log(anp.sum(anp.exp(z), axis=1)) - z[rows, d.labels])

    both = peer.module.value_and_grad(loss_of)

    def step():
        loss, grads[:] = both([ws, bs])
        for ps, vs, gs in zip((ws, bs), (vws, vbs), grads, strict=True):
            for i, g in enumerate(gs):
                vs[i] *= MOMENTUM
                vs[i] += g
                ps[i] -= RATE * vs[i]
        return loss

    return step, lambda loss: [loss, *grads, ws, bs]


def mygrad_mlp(peer, d):
    mg = peer.module
    ws, bs = [peer.leaf(w) for w in d.ws], [peer.leaf(b) for b in d.bs]
    vs = [np.zeros_like(p.data) for p in (*ws, *bs)]

    def step():
        h = d.x
        for w, b in zip(ws[:-1], bs[:-1], strict=True):
            h = mg.nnet.relu(mg.matmul(h, w.T) + b)
        loss = mg.nnet.softmax_crossentropy(mg.matmul(h, ws[-1].T) + bs[-1], d.labels)
        loss.backward()
        for p, v in zip((*ws, *bs), vs, strict=True):
            v *= MOMENTUM
            v += p.grad
            p.data -= RATE * v
        return loss

    return step, lambda loss: [loss, *(p.grad for p in (*ws, *bs)), *ws, *bs]


def pytensor_mlp(peer, d):
    pytensor, pt = peer.module, peer.module.tensor
    ps = [pytensor.shared(p) for p in (*d.ws, *d.bs)]
    vs = [pytensor.shared(np.zeros_like(p)) for p in (*d.ws, *d.bs)]
    x, labels = peer.symbol(d.x), peer.symbol(d.labels)
    ws, bs = ps[: len(d.ws)], ps[len(d.ws) :]
    h = x
    for w, b in zip(ws[:-1], bs[:-1], strict=True):
        h = pt.maximum(h @ w.T + b, 0)
    logits = h @ ws[-1].T + bs[-1]
    loss = -pt.special.log_softmax(logits, axis=1)[pt.arange(d.batch), labels].mean()
    grads = pytensor.grad(loss, ps)
    new = [np.float32(MOMENTUM) * v + g for v, g in zip(vs, grads, strict=True)]
    updates = [*zip(vs, new, strict=True), *((p, p - np.float32(RATE) * v) for p, v in zip(ps, new, strict=True))]
    run = pytensor.function([x, labels], [loss, *grads], updates=updates)
    run.trust_input = True
    return lambda: run(d.x, d.labels), lambda outputs: [*outputs, *(p.get_value() for p in ps)]


CASE = mlp_case("w03_mlp", 256, (784, 1024, 1024, 10))
