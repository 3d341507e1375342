"""Optimisers: PyTorch's numbers, in place, state that can be saved, and loud about bad arguments."""
from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from on_device import close, equal, host, on_cpu, xp

import gpugrad as gg
from gpugrad.errors import ArgumentError, DeviceError, DtypeError, GraphError, ShapeError
from gpugrad.kernels.blocks import BLOCK
from gpugrad.optim import SGD, Adam, AdamW, clip_grad_norm, clip_grad_value

pytestmark = pytest.mark.usefixtures("device")

SHAPES = [(3, 4), (5,), (), (BLOCK // 100 + 7, 101)]        # the last takes two blocks

UP = {"maximize": True, "weight_decay": 0.1}
SGDS = [{}, UP, {"momentum": 0.8, "dampening": 0.3, **UP},
        {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}, {"weight_decay": 0.1},
        {"momentum": 0.8, "dampening": 0.3, "weight_decay": 0.05}]
ADAMS = [{}, UP, {"weight_decay": 0.1}, {"amsgrad": True}, {"betas": (0.8, 0.9), "eps": 1e-3}, {"weight_decay": 0.0}]
CASES = [(SGD, o) for o in SGDS] + [(kind, o) for kind in (Adam, AdamW) for o in ADAMS]


def ids(cases):
    return [f"{kind.__name__}-{'-'.join(options) or 'plain'}" for kind, options in cases]


def parameters(dtype="f8", shapes=SHAPES, seed=0):
    rng = np.random.default_rng(seed)
    return [gg.tensor(xp.asarray(rng.normal(size=s)).astype(dtype), requires_grad=True) for s in shapes]


def by_hand(kind, w, grads, lr, momentum=0.0, dampening=0.0, nesterov=False, weight_decay=None, betas=(0.9, 0.999), eps=1e-8,
            amsgrad=False, maximize=False):
    """The textbook's lines, every step an array of its own."""
    weight_decay = (0.01 if kind is AdamW else 0.0) if weight_decay is None else weight_decay
    m, v, top = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate([-g for g in grads] if maximize else grads, 1):
        if kind is not AdamW:
            g = g + weight_decay * w
        else:
            w = w - lr * weight_decay * w
        if kind is SGD:
            v = g if t == 1 else momentum * v + (1 - dampening) * g
            w = w - lr * (g if not momentum else g + momentum * v if nesterov else v)
        else:
            m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
            top = np.maximum(top, v)
            w = w - lr * (m / (1 - betas[0]**t)) / (np.sqrt((top if amsgrad else v) / (1 - betas[1]**t)) + eps)
    return w


@pytest.mark.parametrize(("kind", "options"), CASES, ids=ids(CASES))
@pytest.mark.parametrize("dtype", ["f8", "f4"])
def test_twenty_steps_are_those_of_the_definition(kind, options, dtype, device):
    steps = 20 if device.kind == "cpu" else 5               # a second otherwise
    rng = np.random.default_rng(1)
    params = parameters(dtype)
    start = [p.detach().numpy().astype("f8") for p in params]
    optimiser = kind(params, lr=0.1, **options)
    grads = [[xp.asarray(rng.normal(size=p.shape)).astype(dtype) for p in params] for _ in range(steps)]
    for gs in grads:
        for p, g in zip(params, gs):
            p.grad = g
        optimiser.step()
    for i, p in enumerate(params):
        expected = by_hand(kind, start[i], [host(gs[i]).astype("f8") for gs in grads], 0.1, **options)
        error = np.abs(p.detach().numpy() - expected).max()
        assert error <= 200 * np.finfo(dtype).eps * np.abs(expected).max()      # each of 20 steps rounds about ten times
        assert p.dtype == np.dtype(dtype)


@on_cpu
@pytest.mark.peers
@pytest.mark.parametrize(("kind", "options"), CASES, ids=ids(CASES))
def test_twenty_steps_are_pytorchs(kind, options):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    ours = parameters()
    theirs = [torch.tensor(p.detach().numpy().copy(), requires_grad=True) for p in ours]
    a, b = kind(ours, lr=0.1, **options), getattr(torch.optim, kind.__name__)(theirs, lr=0.1, **options)
    for _ in range(20):
        for p, q in zip(ours, theirs):
            p.grad = g = np.asarray(rng.normal(size=p.shape))
            q.grad = torch.tensor(g)
        a.step()
        b.step()
    for p, q in zip(ours, theirs):
        assert np.abs(p.detach().numpy() - q.detach().numpy()).max() <= 1e-12


@on_cpu
@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_a_quadratic_is_minimised(kind):
    w = gg.tensor([3.0, -2.0], requires_grad=True)
    optimiser = kind([w], lr=0.1, **({"momentum": 0.5} if kind is SGD else {"weight_decay": 0.0}))
    for _ in range(300):
        optimiser.zero_grad()
        ((w - xp.array([1.0, 2.0])) ** 2).sum().backward()
        optimiser.step()
    assert close(w.detach().numpy(), [1, 2], atol=1e-2)


@on_cpu                                                     # on a GPU they move to an arena at the first step
def test_parameters_change_in_place_and_stale_graphs_refuse():
    w = gg.tensor([1.0, 2.0], requires_grad=True)
    array = w.data
    loss = (w * w).sum()
    loss.backward(retain_graph=True)
    SGD([w], lr=0.1).step()
    assert w.data is array
    assert close(array, [0.8, 1.6])
    with pytest.raises(GraphError, match="changed in place since"):
        loss.backward()
    (w * w).sum().backward()


def test_trees_dicts_iterators_and_groups():
    a, b, c = parameters(shapes=[(2,), (3,), (1,)])
    tree = {"layers": [{"w": a}, (b, None)], "head": c}
    assert SGD(tree, lr=1).groups[0]["params"] == [a, b, c]
    assert SGD(iter([a, b]), lr=1).groups[0]["params"] == [a, b]
    optimiser = SGD([{"params": [a]}, {"params": {"x": b}, "lr": 0.5}], lr=0.1, momentum=0.9)
    for p in (a, b):
        p.grad = xp.ones(p.shape)
    before = [p.detach().numpy().copy() for p in (a, b)]
    optimiser.step()
    assert close(before[0] - a.detach().numpy(), 0.1)
    assert close(before[1] - b.detach().numpy(), 0.5)
    optimiser.lr = 1.0
    assert [group["lr"] for group in optimiser.groups] == [1.0, 1.0]
    optimiser.groups[1]["lr"] = 0.0
    b_before = b.detach().numpy().copy()
    optimiser.step()
    assert equal(b.detach().numpy(), b_before)
    optimiser.zero_grad()
    assert a.grad is None
    assert b.grad is None


def test_a_parameter_without_gradient_stays_with_its_state():
    a, b = parameters(shapes=[(2,), (2,)])
    optimiser = Adam([a, b], lr=0.1)
    a.grad = xp.ones(2)
    before = b.detach().numpy().copy()
    optimiser.step()
    assert equal(b.detach().numpy(), before)
    assert [s["step"] for s in optimiser.state_dict()["state"]] == [1, 0]


@pytest.mark.parametrize(("kind", "options"), CASES, ids=ids(CASES))
def test_state_dict_goes_on_where_it_was_taken(kind, options):
    def run(params, optimiser, seed):
        rng = np.random.default_rng(seed)
        for _ in range(3):
            for p in params:
                p.grad = xp.asarray(rng.normal(size=p.shape))
            optimiser.step()
    params = parameters(shapes=[(3,), (2, 2)])
    optimiser = kind(params, lr=0.1, **options)
    run(params, optimiser, 1)
    state = optimiser.state_dict()
    twins = [gg.tensor(p.data.copy(), requires_grad=True) for p in params]
    run(params, optimiser, 2)                               # must not reach into the state that was taken
    again = kind(twins, lr=7.0)
    again.load_state_dict(state)
    assert again.lr == 0.1
    run(twins, again, 2)
    for p, q in zip(params, twins):
        assert equal(p.detach().numpy(), q.detach().numpy())


def test_a_state_that_does_not_fit_changes_nothing():
    optimiser = SGD(parameters(shapes=[(3,)]), lr=0.1, momentum=0.9)
    for state, error in [({}, ArgumentError), ({"groups": [{"params": 2}], "state": []}, ArgumentError), (None, ArgumentError),
                         ({"groups": [{"params": 1, "lr": -1.0, "weight_decay": 0.0}], "state": [{"step": 1}]}, ArgumentError),
                         ({**optimiser.state_dict(), "state": [{"step": 1, "velocity": gg.ones(4)}]}, ShapeError)]:
        with pytest.raises(error, match="SGD: expected"):
            optimiser.load_state_dict(state)
    assert optimiser.lr == 0.1
    assert optimiser.state_dict()["state"] == [{"step": 0}]


def test_arrays_in_any_order_are_stepped():
    """A Fortran-ordered or strided gradient or parameter of several blocks must not be stepped through as a copy."""
    n = 300
    w = gg.tensor(xp.asfortranarray(xp.ones((n, n))), requires_grad=True)
    w.grad = xp.arange(2.0 * n * n).reshape(n, 2 * n)[:, ::2]
    SGD([w], lr=0.5, momentum=0.9).step()
    assert equal(w.detach().numpy(), 1 - 0.5 * np.arange(2.0 * n * n).reshape(n, 2 * n)[:, ::2])


@pytest.mark.parametrize("kind", [SGD, Adam])
def test_complex_parameters_step_as_pairs_of_reals(kind):
    g = xp.array([1 - 2j, 3j])
    w = gg.tensor(xp.array([1 + 1j, 2 - 1j]), requires_grad=True)
    r = gg.tensor(xp.array([1.0, 1, 2, -1]), requires_grad=True)
    for p, grad in ((w, g), (r, g.view("f8"))):
        optimiser = kind([p], lr=0.1, weight_decay=0.1)
        for _ in range(3):
            p.grad = grad
            optimiser.step()
    assert equal(w.detach().numpy().view("f8"), r.detach().numpy())


@on_cpu
@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_a_step_of_large_parameters_allocates_nothing_large(kind):
    w = gg.tensor(xp.ones(1 << 20), requires_grad=True)
    w.grad = xp.ones(1 << 20)
    optimiser = kind([w], lr=0.1, **({"momentum": 0.9} if kind is SGD else {}))
    optimiser.step()
    tracemalloc.start()
    optimiser.step()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20                                  # bytes; the parameter has 8 MB


def test_clip_grad_norm():
    a, b = parameters(shapes=[(2,), (1,)])
    a.grad, b.grad = xp.array([3.0, 0.0]), xp.array([4.0])
    assert abs(clip_grad_norm([a, b], 10.0).item() - 5) < 1e-12
    assert close(a.grad.numpy(), [3, 0])
    assert abs(clip_grad_norm({"a": a, "b": b}, 1.0).item() - 5) < 1e-12
    assert close([*a.grad.numpy(), *b.grad.numpy()], [0.6, 0, 0.8], rtol=1e-6)
    a.grad, b.grad = xp.array([3.0, -7.0]), xp.array([4.0])
    assert clip_grad_norm([a, b], 3.5, norm=np.inf).item() == 7
    assert close(a.grad.numpy(), [1.5, -3.5], rtol=1e-6)
    clip_grad_value([a, b], 2.0)
    assert close([*a.grad.numpy(), *b.grad.numpy()], [1.5, -2, 2], rtol=1e-6)


@on_cpu
@pytest.mark.peers
@pytest.mark.parametrize("norm", [1.0, 2.0, 3.0, float("inf")])
def test_clip_grad_norm_is_pytorchs(norm):
    torch = pytest.importorskip("torch")
    ours = parameters(shapes=[(3, 4), (5,)])
    theirs = [torch.zeros(p.shape, dtype=torch.float64, requires_grad=True) for p in ours]
    for p, q in zip(ours, theirs):
        p.grad = g = np.random.default_rng(p.size).normal(size=p.shape)
        q.grad = torch.tensor(g)
    total = clip_grad_norm(ours, 0.7, norm=norm)
    assert np.isclose(total.item(), torch.nn.utils.clip_grad_norm_(theirs, 0.7, norm_type=norm).item(), rtol=1e-12)
    for p, q in zip(ours, theirs):
        assert close(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)


def leaf():
    return gg.tensor([1.0], requires_grad=True)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: SGD([], lr=0.1), ArgumentError, "SGD: expected parameters, got"),
    (lambda: SGD([xp.ones(2)], lr=0.1), DtypeError, "SGD: expected Tensors as parameters"),
    (lambda: SGD([gg.ones(2)], lr=0.1), ArgumentError, r"need a gradient, got one of shape \(2,\)"),
    (lambda: SGD([leaf() * 2], lr=0.1), GraphError, "expected leaves as parameters, got the result of multiply"),
    (lambda: SGD([leaf()] * 2, lr=0.1), ArgumentError, "each parameter once"),
    (lambda: SGD([leaf()], lr=-0.1), ArgumentError, "SGD: expected lr at least 0, got -0.1"),
    (lambda: SGD([leaf()], lr=0.1, momentum=-1), ArgumentError, "momentum at least 0"),
    (lambda: SGD([leaf()], lr=0.1, nesterov=True), ArgumentError, "expected momentum and no dampening with nesterov"),
    (lambda: SGD([leaf()], lr=0.1, weight_decay=-1), ArgumentError, "weight_decay at least 0"),
    (lambda: Adam([leaf()], betas=(0.9, 1.0)), ArgumentError, "Adam: expected betas two numbers from 0 to below 1"),
    (lambda: AdamW([leaf()], eps=-1), ArgumentError, "AdamW: expected eps at least 0"),
    (lambda: Adam([{"params": [leaf()], "speed": 1}]), ArgumentError, "expected options among .*, got speed"),
    (lambda: setattr(SGD([leaf()], lr=0.1), "lr", -1.0), ArgumentError, "lr at least 0"),
    (lambda: clip_grad_norm([leaf()], 1.0), ArgumentError, "expected parameters with gradients, got none"),
    (lambda: clip_grad_norm([leaf()], -1.0), ArgumentError, "max_norm at least 0"),
    (lambda: clip_grad_norm([3.0], 1.0), DtypeError, "expected Tensors as parameters, got 3.0"),
    (lambda: clip_grad_value([leaf()], -1.0), ArgumentError, "limit at least 0"),
])
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_parameters_of_a_device_that_is_not_current(kind):
    """They are stepped, clipped and saved where they are."""
    elsewhere, results = gg.device("sim:1" if gg.default_device().kind == "sim" else "cpu"), []
    for place in (elsewhere, gg.device("cpu")):
        params = [gg.tensor(np.arange(6, dtype=t).reshape(2, 3), requires_grad=True, device=place) for t in ("f8", "f4", "f2")]
        optimiser = kind(params, lr=0.1, weight_decay=0.1)
        for _ in range(3):
            optimiser.zero_grad()
            sum((p * p).sum() for p in params[:2]).backward()
            params[2].sum().backward()
            clip_grad_norm(params[:1], 1.0)
            clip_grad_value(params, 0.5)
            optimiser.step()
        optimiser.load_state_dict(optimiser.state_dict())
        optimiser.step()
        assert all(p.device == place for p in params)
        results.append(params)
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(host(a), host(b), rtol=1e-3 if a.dtype == "f2" else 1e-6)


def test_a_gradient_on_another_device_than_its_parameter_is_refused_before_anything_changes():
    here = gg.default_device()
    there = gg.device("sim:1" if here.kind == "sim" else "sim")
    first, second = parameters(shapes=[(2,), (3,)])
    optimiser = SGD([first, second], lr=0.1)
    first.grad, second.grad = gg.ones(2, dtype="f8"), gg.ones(3, dtype="f8", device=there)
    before = host(first)
    with pytest.raises(DeviceError, match=rf"SGD: expected a gradient on {here}, .* of shape \(3,\) is, got one on {there}"):
        optimiser.step()
    assert equal(first, before)
    with pytest.raises(DeviceError, match=f"clip_grad_norm: .* some on {here} and on {there}"):
        clip_grad_norm([first, second], 1.0)


@pytest.mark.parametrize("options", [{"lr": "a"}, {"lr": None}, {"lr": [1]}, {"betas": None}, {"betas": 0.9}, {"eps": "a"},
                                     {"weight_decay": None}])
def test_options_that_are_no_numbers_are_refused(options):
    with pytest.raises(ArgumentError, match="Adam: expected a number for each option"):
        Adam([gg.tensor(xp.ones(2), requires_grad=True)], **options)


def test_a_saved_group_without_an_option_is_refused():
    optimiser = Adam([gg.tensor(xp.ones(2), requires_grad=True)])
    saved = optimiser.state_dict()
    del saved["groups"][0]["lr"]
    with pytest.raises(ArgumentError, match="KeyError"):
        optimiser.load_state_dict(saved)
