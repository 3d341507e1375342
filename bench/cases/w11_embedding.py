"""W11: rows gathered from a table, plus a bias: backwards, a scatter-add of repeated indices and a sum over rows."""

import numpy as np

from gpugrad.bench.case import Case

CASE = Case(
    name="w11_embedding",
    title="embedding: 8192 rows of a 50000x128 table plus a bias, scatter-add gradient and column sum, float32",
    params={"vocabulary": 50_000, "width": 128, "count": 8192},
    small={"vocabulary": 11, "width": 3, "count": 20},
    inputs=lambda p, rng: {
        "table": rng.standard_normal((p.vocabulary, p.width)),
        "bias": rng.standard_normal(p.width),
        "index": (p.vocabulary * rng.random(p.count) ** 3).astype(np.int64),  # common words are common: many repeats
        "g": rng.standard_normal((p.count, p.width)),
    },
    outputs=("y", "dtable", "dbias"),
    terms=lambda d: (1, d.count, d.count),
    bytes=lambda d: 4 * (d.vocabulary * d.width + 3 * d.count * d.width),  # dense gradient out; rows in, y out, g in
    flops=lambda d: 3 * d.count * d.width,
)


@CASE.variant("gpugrad", "gpugrad-flat", "gpugrad-compile")
def gpugrad_embedding(peer, d):
    table, bias = peer.leaf(d.table), peer.leaf(d.bias)
    index, g = peer.array(d.index), peer.array(d.g)

    @peer.compile
    def step():
        table.zero_grad()
        bias.zero_grad()
        y = table[index] + bias
        y.backward(g)
        return y, table.grad, bias.grad

    return step


@CASE.variant("numpy")
def numpy_embedding(peer, d):
    """Sorted, then summed run by run: np.add.at is several times slower."""

    def step():
        y = d.table[d.index] + d.bias
        order = np.argsort(d.index, kind="stable")
        rows = d.index[order]
        starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
        dtable = np.zeros_like(d.table)
        dtable[rows[starts]] = np.add.reduceat(d.g[order], starts, axis=0)
        return y, dtable, d.g.sum(axis=0)

    return step


@CASE.variant("numpy-kept")
def numpy_kept_embedding(peer, d):
    """Only the rows written by the last step are cleared."""
    y, gathered, dtable = np.empty_like(d.g), np.empty_like(d.g), np.zeros_like(d.table)
    ones = np.ones(d.count, d.g.dtype)
    first = np.ones(d.count, bool)
    written = [np.empty(0, np.int64)]

    def step():
        np.take(d.table, d.index, axis=0, out=y, mode="clip")  # mode "raise" would buffer the whole output
        np.add(y, d.bias, out=y)
        order = np.argsort(d.index, kind="stable")
        rows = d.index[order]
        np.not_equal(rows[1:], rows[:-1], out=first[1:])
        starts = np.flatnonzero(first)
        np.take(d.g, order, axis=0, out=gathered, mode="clip")
        dtable[written[0]] = 0
        written[0] = rows[starts]
        dtable[written[0]] = np.add.reduceat(gathered, starts, axis=0)
        return y, dtable, ones @ d.g

    return step


@CASE.variant("torch", "torch-compile")
def torch_embedding(peer, d):
    embedding = peer.module.nn.functional.embedding
    table, bias = peer.leaf(d.table), peer.leaf(d.bias)
    index, g = peer.array(d.index), peer.array(d.g)
    forward = peer.compile(lambda table, bias: embedding(index, table) + bias)

    def step():
        table.grad = bias.grad = None
        y = forward(table, bias)
        y.backward(g)
        return y, table.grad, bias.grad

    return step


@CASE.variant("jax")
def jax_embedding(peer, d):
    jax = peer.module
    table, bias, index, g = map(peer.array, (d.table, d.bias, d.index, d.g))

    def both(table, bias, index, g):
        y, pull = jax.vjp(lambda table, bias: table[index] + bias, table, bias)
        return y, *pull(g)

    both = peer.compile(both)
    return lambda: both(table, bias, index, g)


@CASE.variant("autograd")
def autograd_embedding(peer, d):
    make_vjp = peer.module.make_vjp(lambda ps: ps[0][d.index] + ps[1])

    def step():
        pull, y = make_vjp((d.table, d.bias))
        return y, pull(d.g)

    return step


@CASE.variant("mygrad")
def mygrad_embedding(peer, d):
    table, bias = peer.leaf(d.table), peer.leaf(d.bias)

    def step():
        table.null_grad()
        bias.null_grad()
        y = table[d.index] + bias
        y.backward(d.g)
        return y, table.grad, bias.grad

    return step


@CASE.variant("pytensor")
def pytensor_embedding(peer, d):
    def both(table, bias, index, g):
        y = table[index] + bias
        return [y, *peer.module.grad(None, [table, bias], known_grads={y: g})]

    return peer.step(both, d.table, d.bias, d.index, d.g)
