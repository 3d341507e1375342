"""Random programs against PyTorch: values, gradients and Hessian-vector products of graphs nobody chose."""
import numpy as np
import pytest

import gpugrad as gg

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make test PEERS=1")
pytestmark = pytest.mark.peers

UNARY = [("tanh", np.tanh, "tanh"), ("sin", np.sin, "sin"), ("exp", lambda x: np.exp(-x * x), lambda t: (-t * t).exp()),
         ("sqrt", lambda x: np.sqrt(x * x + 1), lambda t: (t * t + 1).sqrt()), ("neg", lambda x: -x, lambda t: -t),
         ("log", lambda x: np.log(x * x + 2), lambda t: (t * t + 2).log()), ("relu", gg.nn.relu, "relu"),
         ("transpose", lambda x: x.T, lambda t: t.T), ("roll", lambda x: np.roll(x, 1, axis=0), lambda t: t.roll(1, 0)),
         ("flip", lambda x: np.flip(x, axis=1), lambda t: t.flip(1)), ("cumsum", lambda x: np.cumsum(x, axis=0) / 4,
                                                                      lambda t: t.cumsum(0) / 4),
         ("softmax", lambda x: gg.nn.softmax(x, axis=1), lambda t: t.softmax(1)),
         ("centre", lambda x: x - np.mean(x, axis=1, keepdims=True), lambda t: t - t.mean(1, keepdim=True)),
         ("sort", lambda x: np.sort(x, axis=1), lambda t: t.sort(1).values),
         ("tile", lambda x: np.tile(x[:2], (2, 1)), lambda t: t[:2].repeat(2, 1)),
         ("index", lambda x: x[np.array([0, 2, 2, 1])], lambda t: t[torch.tensor([0, 2, 2, 1])]),
         ("column", lambda x: x + x[:, :1], lambda t: t + t[:, :1]),
         ("fill", lambda x: filled(x), lambda t: torch.cat([t[:1] * 2, t[1:]]))]
BINARY = [("add", np.add, "add"), ("mul", np.multiply, "mul"), ("sub", lambda a, b: a - b, "sub"),
          ("matmul", lambda a, b: a @ b / 4, lambda a, b: a @ b / 4), ("max", np.maximum, "maximum"),
          ("div", lambda a, b: a / (b * b + 1), lambda a, b: a / (b * b + 1)),
          ("where", lambda a, b: np.where(a > b, a * b, b), lambda a, b: torch.where(a > b, a * b, b)),
          ("concat", lambda a, b: np.concatenate([a[:2], b[2:]]), lambda a, b: torch.cat([a[:2], b[2:]])),
          ("einsum", lambda a, b: np.einsum("ij,kj->ik", a, b) / 4, lambda a, b: torch.einsum("ij,kj->ik", a, b) / 4),
          ("outer", lambda a, b: a[:, :1] * b[:1], lambda a, b: a[:, :1] * b[:1])]


def filled(x):
    y = x * 1.0
    y[0] = x[0] * 2
    return y


def program(seed, length=12):
    """A list of steps (function for gpugrad, function for torch, places of its inputs)."""
    rng = np.random.default_rng(seed)
    steps = []
    for n in range(length):
        if rng.random() < 0.5:
            _, ours, theirs = UNARY[rng.integers(len(UNARY))]
            places = (int(rng.integers(max(0, n - 3), n + 2)),)
        else:
            _, ours, theirs = BINARY[rng.integers(len(BINARY))]
            places = tuple(int(rng.integers(max(0, n - 3), n + 2)) for _ in range(2))
        steps.append((ours, theirs if callable(theirs) else getattr(torch, theirs), places))
    return steps


def evaluate(steps, which, a, b):
    values = [a, b]
    for step in steps:
        values.append(step[which](*(values[i] for i in step[2])))
    total = values[-1]
    for v in values[-4:-1]:
        total = total + v
    return (total * total).sum() / 16


@pytest.mark.parametrize("seed", range(60))
def test_a_random_program_agrees_with_torch(seed):
    steps = program(seed)
    rng = np.random.default_rng(1000 + seed)
    a, b, va, vb = rng.normal(size=(4, 4, 4))
    ta, tb = (torch.tensor(x, requires_grad=True) for x in (a, b))
    loss = evaluate(steps, 1, ta, tb)
    grads = torch.autograd.grad(loss, (ta, tb), create_graph=True, allow_unused=True, materialize_grads=True)
    slope = (grads[0] * torch.tensor(va)).sum() + (grads[1] * torch.tensor(vb)).sum()
    second = torch.autograd.grad(slope, (ta, tb), allow_unused=True, materialize_grads=True)
    f = lambda a, b: evaluate(steps, 0, a, b)
    value, ours = gg.value_and_grad(f, argnums=(0, 1))(a, b)

    def close(got, want):
        want = want.detach().numpy()
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10 * (1 + np.abs(want).max()))
    close(value, loss)
    for got, want in zip(ours, grads, strict=True):
        close(got, want)
    _, forward = gg.jvp(f, (a, b), (va, vb))
    close(forward, slope)
    hv = gg.jvp(gg.grad(f, argnums=(0, 1)), (a, b), (va, vb))[1]
    rr = gg.grad(lambda a, b: sum(np.sum(g * v) for g, v in zip(gg.grad(f, (0, 1))(a, b), (va, vb), strict=True)), (0, 1))(a, b)
    for got, again, want in zip(hv, rr, second, strict=True):
        close(got, want)
        close(again, want)
