"""Every variant of every case, in miniature, gives the reference's numbers; the reference itself agrees with differences."""

from types import SimpleNamespace

import numpy as np
import pytest

import gpugrad.bench.cases as cases
from gpugrad.bench.case import Case, select
from gpugrad.bench.peers import ADAPTERS, ALWAYS, MissingPeer, load
from gpugrad.bench.verify import verify

CASES = [e for e in select() if isinstance(e, Case)]
GAUGES = [e for e in select() if not isinstance(e, Case)]
HAND = SimpleNamespace(name="numpy")
PEERS = [pytest.param(p, marks=[] if p in ALWAYS else [pytest.mark.peers]) for p in ADAPTERS if p != "torch-compile"]


def adapter(name):
    try:
        return load(name)
    except MissingPeer as missing:
        pytest.skip(str(missing))


@pytest.mark.filterwarnings("default")  # the peers' own
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_variant_agrees_with_numpy_by_hand(case, name):
    if name not in case.variants:
        pytest.skip(f"{case.name} has no {name} variant")
    peer = adapter(name)
    step, read = case.build(peer, case.data(small=True))
    outputs = peer.numpy(read(step()))
    d = case.data(small=True)
    verify(outputs, case.expected(small=True), case.dtype, case.terms(d), case.outputs, not peer.keeps_dtype)


@pytest.mark.parametrize("name", ["gpugrad", "numpy", "numpy-kept"])
@pytest.mark.parametrize("case", [c for c in CASES if not c.name.startswith(("w03", "w04", "w12"))], ids=lambda c: c.name)
def test_a_second_step_gives_the_same(case, name):
    """A step must not live on what the first left behind: accumulated gradients, or buffers half overwritten."""
    peer = load(name)
    step, read = case.build(peer, case.data(small=True))
    step()
    d = case.data(small=True)
    verify(peer.numpy(read(step())), case.expected(small=True), case.dtype, case.terms(d), case.outputs)


@pytest.mark.parametrize("name", ["gpugrad", "numpy", "numpy-kept"])
def test_the_loss_of_training_falls(name):
    case = cases.w03_mlp.CASE
    step, _ = case.build(load(name), case.data(small=True))
    first = float(load(name).numpy(step())[0])
    for _ in range(50):
        last = step()
    assert float(load(name).numpy(last)[0]) < 0.9 * first


def directional(value, xs, seed=1, h=1e-6):
    """Central difference of value(xs) along a random direction, and the direction."""
    rng = np.random.default_rng(seed)
    vs = [rng.standard_normal(x.shape) for x in xs]
    moved = [value([x + s * h * v for x, v in zip(xs, vs, strict=True)]) for s in (1, -1)]
    return (moved[0] - moved[1]) / (2 * h), vs


def inner(gs, vs):
    return sum(np.sum(g * v) for g, v in zip(gs, vs, strict=True))


# case, the arrays differentiated, the scalar that `outputs` are the gradient of, and which outputs are gradients
GRADIENTS = {
    "w01_chain": (["x"], lambda d, out: None, slice(0, 1)),
    "w02_dag": (["xs"], lambda d, out: out[0].sum(), slice(1, None)),
    "w05_elementwise": (["a", "b", "c", "e"], lambda d, out: out[0], slice(1, None)),
    "w06_matmul": (["a", "b"], lambda d, out: np.sum(out[0] * d.g), slice(1, None)),
    "w09_softmax_ce": (["logits"], lambda d, out: out[0], slice(1, None)),
    "w10_layernorm_gelu": (["x", "gamma", "beta"], lambda d, out: np.sum(out[0] * d.g), slice(1, None)),
    "w11_embedding": (["table", "bias"], lambda d, out: np.sum(out[0] * d.g), slice(1, None)),
}


@pytest.mark.parametrize("name", [n for n in GRADIENTS if n != "w01_chain"])
def test_the_reference_gradient_agrees_with_differences(name):
    case = next(c for c in CASES if c.name == name)
    keys, scalar, which = GRADIENTS[name]
    d = case.data(small=True, dtype="float64")
    outputs = flat(case.build(HAND, d))
    xs = [x for key in keys for x in (getattr(d, key) if isinstance(getattr(d, key), list) else [getattr(d, key)])]

    def value(moved):
        there = SimpleNamespace(**vars(d))
        moved = list(moved)
        for key in keys:
            old = getattr(d, key)
            setattr(there, key, [moved.pop(0) for _ in old] if isinstance(old, list) else moved.pop(0))
        return scalar(there, flat(case.build(HAND, there)))

    slope, vs = directional(value, xs)
    assert inner(outputs[which], vs) == pytest.approx(slope, rel=1e-6)


def flat(built):
    step, read = built
    from gpugrad.bench.case import leaves

    return leaves(read(step()))


def test_the_reference_chain_agrees_with_differences():
    d = cases.w01_chain.CASE.data(small=True, dtype="float64")

    def total(xs):
        y = xs[0]
        for _ in range(d.ops // 4):
            y = np.tanh(np.sin(y * d.a + d.b))
        return y.sum()

    (g,) = flat(cases.w01_chain.CASE.build(HAND, d))
    slope, vs = directional(total, [d.x])
    assert inner([g], vs) == pytest.approx(slope, rel=1e-7)


def test_the_reference_mlp_agrees_with_differences():
    case = cases.w03_mlp.CASE
    layers = len(case.small["widths"]) - 1

    def value(ps):
        d = case.data(small=True, dtype="float64")
        d.ws, d.bs = list(ps[:layers]), list(ps[layers:])
        return flat(case.build(HAND, d))[0]

    d = case.data(small=True, dtype="float64")
    outputs = flat(case.build(HAND, case.data(small=True, dtype="float64")))
    slope, vs = directional(value, [*d.ws, *d.bs])
    assert inner(outputs[1 : 1 + 2 * layers], vs) == pytest.approx(slope, rel=1e-6)


def test_the_reference_hvp_is_the_difference_of_gradients():
    """v' H v is the second difference of the loss along v."""
    tanh_mlp, case = cases.tanh_mlp, cases.w07_hvp.CASE
    d = case.data(small=True, dtype="float64")
    products = flat(case.build(HAND, d))
    h = 1e-4

    def loss(s):
        ps = [p + s * v for p, v in zip(d.ps, d.vs, strict=True)]
        return tanh_mlp.loss(ps, d.x, d.target, np.tanh)

    second = (loss(h) - 2 * loss(0.0) + loss(-h)) / h**2
    assert inner(products, d.vs) == pytest.approx(second, rel=1e-5)


def test_the_reference_jvp_agrees_with_differences():
    tanh_mlp, case = cases.tanh_mlp, cases.w08_jvp.CASE
    d = case.data(small=True, dtype="float64")
    y, dy = flat(case.build(HAND, d))
    h = 1e-6
    moved = [tanh_mlp.network([p + s * h * v for p, v in zip(d.ps, d.vs, strict=True)], d.x, np.tanh) for s in (1, -1)]
    assert np.allclose(y, tanh_mlp.network(d.ps, d.x, np.tanh), rtol=1e-12)
    assert np.allclose(dy, (moved[0] - moved[1]) / (2 * h), rtol=1e-6, atol=1e-9)


def test_the_reference_hessian_agrees_with_differences():
    rosenbrock, case = cases.w07b_hessian.rosenbrock, cases.w07b_hessian.CASE
    d = case.data(small=True)
    (hessian,) = flat(case.build(HAND, d))
    h, unit = 1e-4, np.eye(d.n)
    corners = np.array(
        [
            [sum(s * t * rosenbrock(d.x + h * (s * unit[i] + t * unit[j])) for s in (1, -1) for t in (1, -1)) for j in range(d.n)]
            for i in range(d.n)
        ]
    )
    assert np.allclose(hessian, corners / (4 * h * h), rtol=1e-5, atol=1e-3)
    assert np.array_equal(hessian, hessian.T)


def test_the_graph_of_w2_branches_and_joins():
    nodes, last = cases.w02_dag.nodes_of(cases.w02_dag.CASE.data())
    uses = np.bincount([k for op, i, j in nodes for k in ((i, j) if op in ("add", "multiply") else (i,))])
    assert len(nodes) == 2000
    assert (uses >= 2).sum() > 500
    assert 1 <= len(last) <= cases.w02_dag.WIDTH + 1


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize("gauge", [g for g in GAUGES if not g.name.startswith("peak")], ids=lambda g: g.name)
def test_gauge_reads_a_finite_number(gauge, name):
    if name not in gauge.readings:
        pytest.skip(f"{gauge.name} has no {name} reading")
    number = gauge.readings[name](adapter(name), SimpleNamespace(**(gauge.params | gauge.small)))
    assert np.isfinite(number)
