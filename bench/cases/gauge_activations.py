"""Saved activations: bytes that the forward pass of W3 keeps for the backward pass, beyond parameters and inputs."""

from gpugrad.bench.case import Gauge
from gpugrad.bench.cases.w03_mlp import CASE as MLP
from gpugrad.bench.memory import traced, tracing

GAUGE = Gauge(
    name="saved_activations",
    title="saved activations of the MLP step, 256x784-1024-1024-10",
    unit="MB",
    method="gpugrad: live bytes after forward less before; torch: storages its graph saves; numpy: sizes",
)


@GAUGE.reading("gpugrad")
def gpugrad_saved(peer, p):
    gg = peer.module
    d = MLP.data()
    x, labels = peer.array(d.x), peer.array(d.labels)
    ws, bs = [peer.leaf(w) for w in d.ws], [peer.leaf(b) for b in d.bs]

    def forward():
        h = x
        for w, b in zip(ws[:-1], bs[:-1], strict=True):
            h = gg.nn.relu(gg.nn.linear(h, w, b))
        return gg.nn.cross_entropy(gg.nn.linear(h, ws[-1], bs[-1]), labels)

    forward().backward()
    with tracing():
        before = traced()
        loss = forward()
        held = traced() - before
    loss.backward()
    return held / 1e6


@GAUGE.reading("numpy")
def numpy_saved(peer, p):
    """What the formula itself needs: both hidden layers (they are also the next product's input) and the softmax."""
    d = MLP.data()
    return 4 * d.batch * sum(d.widths[1:]) / 1e6


@GAUGE.reading("torch")
def torch_saved(peer, p):
    torch = peer.module
    functional = torch.nn.functional
    d = MLP.data()
    x, labels = peer.array(d.x), peer.array(d.labels)
    ws, bs = [peer.leaf(w) for w in d.ws], [peer.leaf(b) for b in d.bs]
    given = {t.untyped_storage().data_ptr() for t in (x, labels, *ws, *bs)}
    saved = {}

    def pack(t):
        storage = t.untyped_storage()
        if storage.data_ptr() not in given:
            saved[storage.data_ptr()] = storage.nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        h = x
        for w, b in zip(ws[:-1], bs[:-1], strict=True):
            h = torch.relu(functional.linear(h, w, b))
        loss = functional.cross_entropy(functional.linear(h, ws[-1], bs[-1]), labels)
    held = sum(saved.values())  # while the graph lives, so that no address is used twice
    loss.backward()
    return held / 1e6
