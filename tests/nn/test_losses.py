"""Losses: the definitions, PyTorch's numbers and gradients, every reduction, derivatives of two orders, and bad input."""
from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.special as special
from on_device import close, equal, on_cpu, placed, xp

import gpugrad as gg
from gpugrad import nn
from gpugrad.errors import ArgumentError, AxisError, DtypeError, ShapeError

pytestmark = pytest.mark.usefixtures("device")

RNG = np.random.default_rng(0)
DRAWN, LABELS_DRAWN = RNG.normal(size=(6, 4)), np.array([0, 3, 1, 2, 3, 3])
LOGITS, LABELS = (lambda: xp.asarray(DRAWN)), (lambda: xp.asarray(LABELS_DRAWN))
WEIGHT = np.array([0.5, 2.0, 1.0, 0.25])
A, B = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 3)) * 2
T01, SIGNS = RNG.random((5, 3)), RNG.choice([-1.0, 1.0], size=(5, 3))
P = RNG.uniform(0.1, 0.9, size=(5, 3))

PAIRS = {  # name -> (arguments, reference of each loss, torch's name and arguments)
    "mse_loss": ((A, B), lambda a, b: (a - b) ** 2, "mse_loss"),
    "l1_loss": ((A, B), lambda a, b: abs(a - b), "l1_loss"),
    "huber_loss": ((A, B), lambda a, b: special.huber(1, a - b), "huber_loss"),
    "smooth_l1_loss": ((A, B), lambda a, b: special.huber(1, a - b), "smooth_l1_loss"),
    "hinge_loss": ((A, SIGNS), lambda a, b: np.maximum(0, 1 - a * b), None),
    "binary_cross_entropy": ((P, T01), lambda p, t: -(t * np.log(p) + (1 - t) * np.log(1 - p)), "binary_cross_entropy"),
    "binary_cross_entropy_with_logits": ((A, T01), lambda x, t: np.logaddexp(x, 0) - x * t, "binary_cross_entropy_with_logits"),
    "kl_div": ((np.log(P), T01), lambda x, t: special.xlogy(t, t) - t * x, "kl_div"),
    "gaussian_nll_loss": ((A, B, P), lambda m, t, v: 0.5 * (np.log(v) + (m - t) ** 2 / v), "gaussian_nll_loss"),
    "poisson_nll_loss": ((A, T01), lambda x, t: np.exp(x) - t * x, "poisson_nll_loss"),
    "margin_ranking_loss": ((A, B, SIGNS), lambda a, b, t: np.maximum(0, -t * (a - b)), "margin_ranking_loss"),
    "cosine_embedding_loss": ((A, B, SIGNS[:, 0]), None, "cosine_embedding_loss"),
    "triplet_margin_loss": ((A, B, P), None, "triplet_margin_loss"),
}


@pytest.mark.parametrize("name", [name for name, (_, ref, _) in PAIRS.items() if ref])
def test_values_are_the_definitions(name):
    args, ref, _ = PAIRS[name]
    expected, args = ref(*args), placed(args)
    f = getattr(nn, name)
    assert close(f(*args, reduction="none").numpy(), expected)
    assert np.isclose(f(*args, reduction="sum").item(), expected.sum())
    assert np.isclose(f(*args).item(), expected.mean())
    narrow = f(*[a.astype("f4") for a in args])
    assert narrow.dtype == np.float32
    assert np.isclose(narrow.item(), expected.mean(), rtol=1e-5)


@pytest.mark.parametrize("name", PAIRS)
def test_derivatives_of_two_orders(name):
    args = placed(PAIRS[name][0])
    gg.check_grads(lambda x: getattr(nn, name)(x, *args[1:]), (args[0],), order=2)


@on_cpu
@pytest.mark.peers
@pytest.mark.parametrize("name", [name for name, (*_, theirs) in PAIRS.items() if theirs])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.filterwarnings("ignore:reduction")             # torch's kl_div would rather divide by the rows alone
def test_values_and_gradients_are_pytorchs(name, reduction):
    torch = pytest.importorskip("torch")
    args, _, theirs = PAIRS[name]
    tensors = [torch.tensor(a, requires_grad=True) for a in args]
    y = getattr(torch.nn.functional, theirs)(*tensors, reduction=reduction)
    g = np.random.default_rng(1).normal(size=tuple(y.shape))
    y.backward(torch.tensor(g))
    leaves = [gg.tensor(a, requires_grad=True) for a in args]
    ours = getattr(nn, name)(*leaves, reduction=reduction)
    ours.backward(g)
    assert close(ours.detach().numpy(), y.detach().numpy(), rtol=1e-12)
    assert close(leaves[0].grad.numpy(), tensors[0].grad.numpy(), rtol=1e-11)


MORE = [  # name, arguments, options that PyTorch's function has too
    ("kl_div", (np.log(P), T01), {"reduction": "batchmean"}),
    ("kl_div", (np.log(P), np.log(P[::-1])), {"reduction": "batchmean", "log_target": True}),
    ("poisson_nll_loss", (P, T01 * 4), {"log_input": False}),
    ("poisson_nll_loss", (P, T01 * 4), {"log_input": False, "eps": 0.1, "reduction": "sum"}),
    ("poisson_nll_loss", (A, T01 * 4), {"full": True}),
    ("triplet_margin_loss", (A, B, B[::-1].copy()), {"swap": True}),
    ("l1_loss", (A + 1j * B, B - 1j * A), {}),
]


@on_cpu
@pytest.mark.peers
@pytest.mark.parametrize(("name", "args", "options"), MORE, ids=[f"{n}-{'-'.join(o)}" for n, _, o in MORE])
def test_options_are_pytorchs(name, args, options):
    torch = pytest.importorskip("torch")
    tensors = [torch.tensor(a, requires_grad=True) for a in args]
    y = getattr(torch.nn.functional, name)(*tensors, **options)
    y.backward()
    leaves = [gg.tensor(a, requires_grad=True) for a in args]
    ours = getattr(nn, name)(*leaves, **options)
    ours.backward()
    assert close(ours.detach().numpy(), y.detach().numpy(), rtol=1e-12)
    assert close(leaves[0].grad.numpy(), tensors[0].grad.numpy(), rtol=1e-11)
    gg.check_grads(lambda x: getattr(nn, name)(x, *args[1:], **options), (args[0],), order=2)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_cross_entropy_of_more_classes_than_half_precision_counts(reduction):
    x, labels = xp.zeros((2, 70000), "f2"), xp.asarray([0, 1])
    loss = nn.cross_entropy(x, labels, reduction=reduction)
    assert loss.dtype == np.float16
    assert close(loss.numpy().mean(), np.log(70000) * (2 if reduction == "sum" else 1), rtol=1e-3)
    g = gg.grad(lambda x: nn.cross_entropy(x, labels, reduction=reduction).sum())(x)
    assert float(g[1, 0]) == pytest.approx(1 / 70000 / (2 if reduction == "mean" else 1), rel=1e-2)


def test_batchmean_wants_a_batch():
    with pytest.raises(ShapeError, match="first axis"):
        nn.kl_div(0.5, 0.5, reduction="batchmean")


def test_binary_cross_entropy_is_finite_at_0_and_1():
    p, t = xp.array([0.0, 1.0, 0.0, 1.0]), xp.array([0.0, 1.0, 1.0, 0.0])
    loss, g = gg.value_and_grad(lambda p: nn.binary_cross_entropy(p, t, reduction="sum"))(p)
    assert np.isclose(loss, 200, rtol=1e-2)
    assert np.all(np.isfinite(g))
    x = xp.array([1e4, -1e4])
    assert equal(nn.binary_cross_entropy_with_logits(x, xp.array([1.0, 0.0]), reduction="none").numpy(), [0, 0])


@on_cpu
@pytest.mark.peers
def test_binary_cross_entropy_weights_are_pytorchs():
    torch = pytest.importorskip("torch")
    w, pos = RNG.random(3), RNG.random(3) * 4
    f = torch.nn.functional.binary_cross_entropy_with_logits
    theirs = f(torch.tensor(A), torch.tensor(T01), weight=torch.tensor(w), pos_weight=torch.tensor(pos)).item()
    assert np.isclose(nn.binary_cross_entropy_with_logits(A, T01, weight=w, pos_weight=pos).item(), theirs, rtol=1e-12)


# cross-entropy ---------------------------------------------------------------------------------------------------------

OPTIONS = [{}, {"reduction": "sum"}, {"reduction": "none"}, {"label_smoothing": 0.2}, {"weight": WEIGHT},
           {"weight": WEIGHT, "reduction": "sum"}, {"weight": WEIGHT, "label_smoothing": 0.2}, {"ignore_index": 3},
           {"ignore_index": -100}, {"ignore_index": 3, "weight": WEIGHT, "label_smoothing": 0.1},
           {"ignore_index": 3, "reduction": "none"}, {"ignore_index": 3, "label_smoothing": 0.1}]


@on_cpu
@pytest.mark.peers
@pytest.mark.parametrize("options", OPTIONS, ids=["-".join(map(str, o)) + f"-{o.get('reduction', 'mean')}" for o in OPTIONS])
@pytest.mark.parametrize("shape", [(6,), (2, 3), ()])
def test_cross_entropy_is_pytorchs(options, shape):
    torch = pytest.importorskip("torch")
    n = int(np.prod(shape))
    x = LOGITS()[:n].reshape(*shape, 4)
    labels = LABELS()[:n].reshape(shape)
    if options.get("ignore_index") == -100 and shape:
        labels = labels.copy()
        labels[-1] = -100
    theirs = torch.tensor(np.moveaxis(x, -1, 1) if len(shape) == 2 else x, requires_grad=True)
    given = {k: torch.tensor(v) if k == "weight" else v for k, v in options.items()}
    y = torch.nn.functional.cross_entropy(theirs, torch.tensor(labels), **given)
    g = np.random.default_rng(1).normal(size=tuple(y.shape))
    y.backward(torch.tensor(g))
    leaf = gg.tensor(np.moveaxis(x, -1, 1) if len(shape) == 2 else x, requires_grad=True)
    ours = nn.cross_entropy(leaf, labels, axis=1 if len(shape) == 2 else -1, **options)
    ours.backward(g)
    assert close(ours.detach().numpy(), y.detach().numpy(), rtol=1e-12)
    assert close(leaf.grad.numpy(), theirs.grad.numpy(), rtol=1e-11, atol=1e-15)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.2}, {"weight": WEIGHT}, {"ignore_index": 3}])
def test_cross_entropy_has_derivatives_of_two_orders(options):
    options = placed(options)
    gg.check_grads(lambda x: nn.cross_entropy(x, LABELS(), **options), (LOGITS(),), order=2)


def test_cross_entropy_is_nll_loss_behind_log_softmax():
    for options in ({}, {"weight": WEIGHT}, {"ignore_index": 3}, {"reduction": "none"}):
        options = placed(options)
        a = nn.cross_entropy(LOGITS(), LABELS(), **options).numpy()
        b = nn.nll_loss(nn.log_softmax(LOGITS()), LABELS(), **options).numpy()
        assert close(a, b, rtol=1e-13)


def test_cross_entropy_of_probabilities():
    target = special.softmax(RNG.normal(size=(6, 4)), axis=1)
    expected = -(target * special.log_softmax(DRAWN, axis=1)).sum(1).mean()
    assert np.isclose(nn.cross_entropy(LOGITS(), xp.asarray(target)).item(), expected, rtol=1e-13)
    one_hot = xp.eye(4)[LABELS()]
    for options in ({}, {"label_smoothing": 0.2}):
        of_labels = nn.cross_entropy(LOGITS(), LABELS(), **options).item()
        assert np.isclose(nn.cross_entropy(LOGITS(), one_hot, **options).item(), of_labels)


def test_cross_entropy_of_extreme_logits():
    x = xp.array([[1e4, 0.0], [1e4, 0.0]], "f4")
    loss, g = gg.value_and_grad(lambda x: nn.cross_entropy(x, xp.array([0, 1]), reduction="sum"))(x)
    assert loss == 1e4
    assert equal(g, [[0, 0], [1, -1]])


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "i8", "u8"])
def test_labels_of_every_integer_dtype(dtype):
    assert nn.cross_entropy(LOGITS(), LABELS().astype(dtype)).item() == nn.cross_entropy(LOGITS(), LABELS()).item()


def test_cross_entropy_under_vmap_and_as_a_hessian():
    rows = gg.vmap(lambda x, t: nn.cross_entropy(x, t))(LOGITS().reshape(2, 3, 4), LABELS().reshape(2, 3))
    assert close(rows, [nn.cross_entropy(LOGITS()[part], LABELS()[part]).item() for part in (slice(3), slice(3, 6))])
    p = special.softmax(DRAWN[0])
    h = gg.hessian(lambda x: nn.cross_entropy(x, 1))(LOGITS()[0])
    assert close(h, np.diag(p) - np.outer(p, p))


@on_cpu
def test_cross_entropy_keeps_the_softmax_and_little_more():
    x = gg.tensor(xp.zeros((1000, 100), "f4"), requires_grad=True)
    labels = gg.tensor(xp.zeros(1000, "i8"))
    nn.cross_entropy(x, labels).backward()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    loss = nn.cross_entropy(x, labels)
    held = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held < 1.05 * x.nbytes
    loss.backward()


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: nn.cross_entropy(LOGITS(), LABELS()[:5]), ShapeError, r"expected labels \(6,\) for 4 classes, got \(5,\)"),
    (lambda: nn.cross_entropy(LOGITS(), LABELS()[:, None]), ShapeError, r"expected labels \(6,\)"),
    (lambda: nn.cross_entropy(LOGITS(), LABELS() * 1.0), ShapeError, "Use labels.astype"),
    (lambda: nn.cross_entropy(LOGITS(), LABELS() > 1), DtypeError, "expected integer labels, got bool"),
    (lambda: nn.cross_entropy(LOGITS(), LABELS(), weight=xp.ones(3)), ShapeError, "a weight for each of 4 classes"),
    (lambda: nn.cross_entropy(LOGITS(), LABELS(), label_smoothing=1.5), ArgumentError, "label_smoothing from 0 to 1, got 1.5"),
    (lambda: nn.cross_entropy(LOGITS(), LABELS(), reduction="avg"), ArgumentError, "or 'none', got 'avg'"),
    (lambda: nn.cross_entropy(LOGITS(), LABELS(), axis=2), AxisError, "cross_entropy: expected an axis from -2 to 1, got 2"),
    (lambda: nn.cross_entropy(xp.ones((3, 0)), xp.zeros(3, int)), ShapeError, "at least one class"),
    (lambda: nn.cross_entropy(LOGITS() + 0j, LABELS()), DtypeError, "expected real numbers"),
    (lambda: nn.nll_loss(LOGITS(), LABELS()[:3]), ShapeError, "nll_loss: expected labels"),
    (lambda: nn.mse_loss(xp.ones((3, 1)), xp.ones(3)), ShapeError, r"prediction and target of one shape, got \(3, 1\)"),
    (lambda: nn.huber_loss(xp.asarray(A), xp.asarray(B), delta=0), ArgumentError, "huber_loss: expected delta above 0"),
    (lambda: nn.l1_loss(xp.asarray(A), xp.asarray(B), "avg"), ArgumentError, "l1_loss: expected reduction"),
])
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


@on_cpu                                                     # a GPU would have to wait for the values
@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: nn.cross_entropy(LOGITS(), LABELS() + 1), ArgumentError, "cross_entropy: expected labels from 0 to 3, got 1 to 4"),
    (lambda: nn.cross_entropy(LOGITS(), LABELS() - 1), ArgumentError, "got -1 to 2"),
    (lambda: nn.binary_cross_entropy(A, T01), ArgumentError, "binary_cross_entropy: expected probabilities from 0 to 1"),
])
def test_bad_values(call, error, message):
    with pytest.raises(error, match=message):
        call()
