"""Random programs of slices, index arrays, pads, joins, transposes and reductions: compiled equals eager, gradients too."""
import numpy as np
import pytest

pytest.importorskip("llvmlite", reason="extra jit is not installed")
import gpugrad as gg
from gpugrad.flat import emit_llvm

SHAPES = [(7,), (5, 18), (18, 5), (3, 4, 17), (2, 3, 1, 6), (1,), ()]
MOST = 3000                                                  # elements of one value


def some_slice(rng, n):
    start, stop = sorted(rng.integers(0, n + 1, 2))
    start, stop = (0, n) if start == stop else (int(start), int(stop))
    step = int(rng.choice([1, 1, 1, 2, -1]))
    return slice(start, stop, step) if step > 0 else slice(stop - 1, start - 1 if start else None, step)


def sliced(rng, x):
    items = tuple(some_slice(rng, n) for n in x.shape)
    return lambda x: x[items]


def taken_apart(rng, x):
    i = int(rng.integers(-x.shape[0], x.shape[0]))
    return lambda x: x[i, ..., None]


def gathered(rng, x):
    axis = int(rng.integers(0, x.ndim))
    rows = rng.integers(-x.shape[axis], x.shape[axis], [(9,), (2, 4), (20,)][rng.integers(3)])
    return lambda x: x[(slice(None),) * axis + (rows,)]


def gathered_pairs(rng, x):
    places = [rng.integers(-n, n, 11) for n in x.shape[:2]]
    return lambda x: x[tuple(places)]


def padded(rng, x):
    widths = [tuple(map(int, rng.integers(0, 3, 2))) for _ in x.shape]
    return lambda x: np.pad(x, widths)


def joined(rng, x):
    axis = int(rng.integers(0, x.ndim))
    return lambda x: gg.concatenate([x, gg.sin(x), x * 2], axis=axis)


def stacked(rng, x):
    axis = int(rng.integers(0, x.ndim + 1))
    return lambda x: gg.stack([x, gg.cos(x)], axis=axis)


def turned(rng, x):
    axes = tuple(map(int, rng.permutation(x.ndim)))
    return lambda x: np.transpose(x, axes)


def summed(rng, x):
    axes = tuple(i for i in range(x.ndim) if rng.random() < 0.5) or (0,)
    keep = bool(rng.random() < 0.5)
    return lambda x: gg.sum(x, axis=axes, keepdims=keep)


def extreme(rng, x):
    axes = tuple(i for i in range(x.ndim) if rng.random() < 0.5) or (x.ndim - 1,)
    reduce = gg.max if rng.random() < 0.5 else gg.min
    return lambda x: x - reduce(x, axis=axes, keepdims=True)


def normalised(rng, x):
    axis = int(rng.integers(0, x.ndim))
    return lambda x: gg.softmax(x, axis=axis)


def centred(rng, x):
    axis = int(rng.integers(0, x.ndim))
    return lambda x: gg.tanh(x - gg.mean(x, axis=axis, keepdims=True)) * x


def flattened(rng, x):
    return lambda x: x.reshape(-1)


def triangle(rng, x):
    k = int(rng.integers(-2, 3))
    return lambda x: gg.tril(x, k)


def replaced(rng, x):
    items = tuple(slice(s.start, s.stop) for s in (some_slice(rng, n) for n in x.shape) if s.step > 0)
    return lambda x: setting(x, items)


def setting(x, items):
    y = x * 1
    y[items] = 0.25
    return y


def chosen(rng, x):
    return lambda x: gg.where(x > 0.1, gg.exp(-x * x), x)


#: Steps, each with the number of axes that it needs.
STEPS = {sliced: 1, taken_apart: 1, gathered: 1, gathered_pairs: 2, padded: 1, joined: 1, stacked: 0, turned: 1, summed: 1,
         extreme: 1, normalised: 1, centred: 1, flattened: 1, triangle: 2, replaced: 1, chosen: 0}


def program(seed):
    """(f, x): f goes through a random chain, with a branch to an earlier value now and then."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(SHAPES[rng.integers(len(SHAPES))])
    chain, values = [], [gg.tensor(x)]
    while len(chain) < 9:
        source = len(values) - 1 if rng.random() < 0.7 else int(rng.integers(0, len(values)))
        make = list(STEPS)[rng.integers(len(STEPS))]
        if values[source].ndim < STEPS[make]:
            continue
        step = make(rng, values[source])
        y = step(values[source])
        if 0 < y.size <= MOST:
            chain.append((source, step))
            values.append(y)

    def f(x):
        values = [x]
        for source, step in chain:
            values.append(step(values[source]))
        return sum([gg.sum(gg.sin(v)) for v in values[1:]], 0.0) + 0 * gg.sum(x), values[-1] * 1
    return f, x


def check(seed, backend):
    f, x = program(seed)

    def both(x):
        total, last = f(x)
        return last, total, gg.grad(lambda x: f(x)[0])(x)
    compiled = gg.compile(both, backend=backend)
    for scale in (1.0, 0.5):
        for a, b in zip(compiled(x * scale), both(x * scale), strict=True):
            a, b = np.asarray(a), np.asarray(b)
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * max(1, np.abs(b).max(initial=0)))
    assert compiled.programs == 1


@pytest.mark.parametrize("backend", ["llvm", "numpy"])
@pytest.mark.parametrize("seed", range(25))
def test_random_programs(seed, backend):
    check(seed, backend)


@pytest.mark.parametrize("seed", range(25, 40))
def test_random_programs_in_threads(seed, monkeypatch):
    """However few elements there are, each thread has a part of them."""
    monkeypatch.setattr(emit_llvm, "PARALLEL", 1)
    check(seed, "llvm")
