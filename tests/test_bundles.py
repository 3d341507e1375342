"""Small parameters that are stepped in one piece end where they would one by one, whatever happens in between."""
import numpy as np
import pytest

import gpugrad as gg
from gpugrad.optim import bundle

SHAPES = [(3, 4), (4,), (), (1, 5), (7,), (0, 2), (200, 60)]             # the last is too long, the one before it empty
MAKE = {
    "SGD": lambda kind, ps: kind(ps, lr=0.1),
    "momentum": lambda kind, ps: kind(ps, lr=0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda kind, ps: kind(ps, lr=0.1, momentum=0.9, nesterov=True),
    "damped": lambda kind, ps: kind(ps, lr=0.1, momentum=0.9, dampening=0.5),
    "Adam": lambda kind, ps: kind(ps, lr=0.1, amsgrad=True),
    "AdamW": lambda kind, ps: kind(ps, lr=0.1),
}


def kinds(name):
    """The optimiser, and the same without bundles."""
    base = getattr(gg.optim, name, gg.optim.SGD)
    return base, type(base.__name__, (base,), {"elementwise": False})


def parameters(dtypes="fff"):
    rng = np.random.default_rng(3)
    return [gg.tensor(rng.standard_normal(s), dtype=dtypes[i % len(dtypes)], requires_grad=True) for i, s in enumerate(SHAPES)]


def happenings(rng):
    """What may happen before a step: functions of the parameters and the optimiser."""
    def no_gradient(ps, opt):
        ps[1].grad = None

    def other_dtype(ps, opt):
        ps[0].grad = gg.tensor(ps[0].grad.numpy().astype("d")) if ps[0].grad is not None else None

    def replaced(ps, opt):
        ps[4].data = ps[4].data * 2

    def in_place(ps, opt):
        with gg.no_grad():
            ps[0][1] = 3.0

    def reloaded(ps, opt):
        opt.load_state_dict(opt.state_dict())

    def slower(ps, opt):
        opt.lr = opt.lr / 2
    return [lambda ps, opt: None] * 3 + [no_gradient, other_dtype, replaced, in_place, reloaded, slower]


@pytest.mark.parametrize("dtypes", ["f", "d", "fd"])
@pytest.mark.parametrize("name", MAKE)
def test_bundled_steps_are_those_of_each_parameter(name, dtypes):
    rng = np.random.default_rng(5)
    choices = rng.integers(0, len(happenings(rng)), 40)
    runs = []
    for kind in kinds(name):
        ps, draws = parameters(dtypes), np.random.default_rng(8)
        opt = MAKE[name](kind, ps)
        for choice in choices:
            for p in ps:
                p.grad = gg.tensor(draws.standard_normal(p.shape), dtype=p.dtype)
            happenings(rng)[choice](ps, opt)
            opt.step()
        runs.append(([p.detach().numpy() for p in ps], opt))
    (bundled, opt), (alone, _) = runs
    assert bool(opt._bundles) and any(len(found) for _, found in opt._bundles.values())
    for a, b in zip(bundled, alone, strict=True):
        np.testing.assert_array_equal(a, b)
    for p, a in zip(opt._slots, bundled, strict=True):
        assert p.data.dtype == a.dtype and p.shape == a.shape


def test_compiled_and_eager_steps_share_the_state():
    results = []
    for compiled in (False, True):
        ps = parameters()[:5]
        opt = gg.optim.Adam(ps, lr=0.1)

        def step(x, ps=ps, opt=opt):
            opt.zero_grad()
            sum(gg.sum(gg.sin(p * x)) for p in ps).backward()
            opt.step()
        fast = gg.compile(step, backend="numpy") if compiled else step
        for k in range(6):
            (fast if k % 3 else step)(np.float32(k + 1))
        results.append([p.detach().numpy() for p in ps])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_an_array_that_others_hold_is_not_moved():
    mine = [np.ones(4, "f") for _ in range(4)]
    ps = [gg.asarray(a) for a in mine]
    for p in ps:
        p.requires_grad = True
        p.grad = gg.tensor(np.ones(4, "f"))
    gg.optim.SGD(ps, lr=0.5).step()
    for p, a in zip(ps, mine, strict=True):
        np.testing.assert_array_equal(a, np.full(4, 0.5, "f"))
        assert p.data is a


def test_a_graph_over_bundled_parameters_notices_their_step():
    ps = [gg.tensor(np.ones(3, "f"), requires_grad=True) for _ in range(4)]
    opt = gg.optim.SGD(ps, lr=0.1)
    for _ in range(2):
        loss = sum(gg.sum(p * p) for p in ps)
        loss.backward(retain_graph=True)
        opt.step()
        with pytest.raises(gg.errors.GraphError, match="changed in place"):
            loss.backward()
        del loss


def test_what_is_bundled():
    assert bundle.movable(np.ones(3))
    assert not bundle.movable(np.ones(bundle.SMALL + 1))
    assert not bundle.movable(np.ones(3, complex))
    assert not bundle.movable(np.ones(6)[:3])
