"""Random programs on two simulated devices: awkward layouts, views, writes in place, streams, threads, compiled parts between.

Each gives what the CPU gives: the same shapes and dtypes, and close values.
"""
import threading

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.arrays import move

pytestmark = pytest.mark.usefixtures("nvrtc")


LOOKS = [lambda big, shape: big[tuple([slice(n) for n in shape])].copy(order="F"),
         lambda big, shape: big[tuple([slice(n - 1, None, -1) for n in shape])],
         lambda big, shape: big[tuple([slice(0, 2 * n, 2) for n in shape])],
         lambda big, shape: big.reshape(-1)[1:1 + int(np.prod(shape))].reshape(shape),
         lambda big, shape: big[tuple([slice(n) for n in shape])].copy()]


def awkward(rng, shape):
    """(array, look): look(array, shape) is as nobody expects it, in Fortran's order, backwards, with gaps, off the alignment."""
    return rng.normal(size=[2 * n + 1 for n in shape]).astype(rng.choice(["f4", "f8"])), LOOKS[rng.integers(len(LOOKS))]


def written(x, v, k):
    y = x * 1
    y[k % y.shape[0]] = v[0]
    part = y[:, ::2]
    part *= 2
    y[gg.asarray(np.array([0, -1, 0])).to(y.device)] += 1
    return y + part.sum()


def hooked(x, k):
    y = gg.tanh(x)
    if y.requires_grad:
        y.register_hook(lambda g: k * g)
    return y


STEPS = [
    lambda x, v, k: gg.sin(x) * v,
    lambda x, v, k: x + v[:1],
    lambda x, v, k: gg.where(x > v, x, v * v),
    lambda x, v, k: hooked(x, k),
    lambda x, v, k: written(x, v, k),
    lambda x, v, k: gg.nn.softmax(x, axis=1) + v,
    lambda x, v, k: x @ gg.swapaxes(v, 0, 1) @ v / 4,
    lambda x, v, k: gg.nn.layer_norm(x, gg.ones_like(x[0])),
    lambda x, v, k: gg.cumsum(x, axis=k % 2) / 4,
    lambda x, v, k: gg.checkpoint(lambda x, v: gg.exp(-x * x) * v)(x, v),
    lambda x, v, k: x[::-1] + gg.flip(v, 1),
    lambda x, v, k: gg.vmap(lambda a, b: a * b.sum())(x, v),
    lambda x, v, k: gg.nn.dropout(x, 0.3, generator=gg.random.Generator(k)),
    lambda x, v, k: gg.concatenate([x[:1], v[1:]]),
    lambda x, v, k: gg.nn.gelu(x) - gg.nn.relu(v),
    lambda x, v, k: gg.compile(lambda x, v: gg.sigmoid(x) * gg.max(v, axis=1, keepdims=True))(x, v),
    lambda x, v, k: gg.sort(x, axis=1)]


def program(seed):
    """(inputs, what is done with them): the same steps wherever the inputs lie."""
    rng = np.random.default_rng(seed)
    shape = [(4, 6), (1, 5), (7, 3), (3, 1)][seed % 4]
    inputs = [(*awkward(rng, shape), shape) for _ in range(2)]
    steps = [(STEPS[rng.integers(len(STEPS))], int(rng.integers(9)), int(rng.integers(2))) for _ in range(6)]

    def run(*xs):
        found = list(xs)
        for step, k, swapped in steps:
            a, b = found[-1], found[-2]
            found.append(step(*((b, a) if swapped else (a, b)), k))
        return gg.sum(found[-1] * found[-2])
    return inputs, run


def results(seed, device):
    """Value, gradients and weights after two steps of an optimiser, the second with a state that was saved and loaded."""
    arrays, run = program(seed)
    with gg.device(device):
        xs = [gg.Tensor(look(move(array, gg.device(device)), shape)) for array, look, shape in arrays]
    for x in xs:
        x.requires_grad = True
    y = run(*xs)
    y.backward()
    grads = [x.grad for x in xs]
    state = None
    for _ in range(2):
        optimiser = gg.optim.Adam(xs, lr=0.01)
        if state is not None:
            optimiser.load_state_dict(state)
        optimiser.step()
        state = optimiser.state_dict()
    assert all(t.device == y.device for t in (*grads, *xs) if t is not None)
    return [None if t is None else t.detach().cpu().numpy() for t in (y, *grads, *xs)]


def agree(found, wanted, seed):
    for a, b in zip(found, wanted, strict=True):
        assert (a is None) == (b is None), seed
        if a is not None:
            assert (a.shape, a.dtype) == (b.shape, b.dtype), seed
            scale = max(1.0, float(np.abs(b).max(initial=0)))
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * scale, err_msg=str(seed))


@pytest.mark.parametrize("seed", range(40))
def test_a_random_program_on_either_device(seed):
    agree(results(seed, ("sim", "sim:1")[seed % 2]), results(seed, "cpu"), seed)


def test_random_programs_in_threads_with_streams_of_their_own():
    seeds = range(100, 106)
    wanted, found, errors = {s: results(s, "cpu") for s in seeds}, {}, []

    def work(device, mine):
        try:
            xp = gg.device(device).xp
            with gg.device(device), xp.cuda.Stream(non_blocking=True):
                for seed in mine:
                    found[seed] = results(seed, device)
        except Exception as error:
            errors.append(error)
    threads = [threading.Thread(target=work, args=(device, seeds[k::3])) for k, device in enumerate(("sim", "sim:1", "sim"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors
    for seed in seeds:
        agree(found[seed], wanted[seed], seed)
