"""kernels/optim.cu on the simulated device, against the formulas in float64."""
import numpy as np
import pytest
from cu_support import assert_near, launch, placed, wide

from gpugrad.cudasim import address

CHUNK = 1024
LENGTHS = (5, 1024, 0, 2500, 33, 129)
MISSING = 4                                                # the tensor without a gradient


def arena(lengths):
    """(starts, parts): where each tensor lies when each starts at a multiple of CHUNK."""
    sizes = [-(-n // CHUNK) * CHUNK for n in lengths]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return starts, [slice(s, s + n) for s, n in zip(starts, lengths)]


class Model:
    """Parameters of several lengths in one arena, with gradients elsewhere, and one of them without."""

    def __init__(self, dtype, width, shift, states, lengths=LENGTHS, missing=MISSING, seed=0):
        self.rng, self.dtype, self.width, self.shift = np.random.default_rng(seed), dtype, width, shift
        self.starts, self.parts = arena(lengths)
        self.lengths, self.missing = np.array(lengths, np.int64), missing
        self.w = placed(self.rng.standard_normal(self.starts[-1]), dtype, shift)
        self.states = [placed(np.zeros(self.starts[-1]), dtype, shift) for _ in range(states)]
        self.step, self.lr, self.ticket = np.zeros(1, np.int64), np.array([0.1]), np.zeros(1, np.uint32)

    def run(self, kernel, states, tail, seed=0):
        self.gradients = [placed(self.rng.standard_normal(n), self.dtype, self.shift) for n in self.lengths]
        addresses = np.array([0 if k == self.missing or not g.size else address(g) for k, g in enumerate(self.gradients)],
                             np.uint64)
        given = (addresses, bytes(2048)) if self.shift else (None, addresses.tobytes().ljust(2048, b"\0"))
        counters = launch("optim.cu", kernel, (self.dtype, self.width), int(self.starts[-1] // CHUNK), 256,
                          (*given, self.starts, self.lengths, self.lr, self.w, *states, self.step, self.ticket,
                           np.int32(len(self.lengths)), *tail), seed=seed)
        assert not self.ticket.any()
        return counters

    def pieces(self, *arrays):
        """(gradient or None, copies of the arrays' parts) of each tensor, in float64."""
        return [(None if k == self.missing else g.astype(float), *(a[part].astype(float) for a in arrays))
                for k, (g, part) in enumerate(zip(self.gradients, self.parts))]


def paths(dtype):
    return [(wide(dtype), 0), (1, 0), (1, 1)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("how", [(0, 0, 0, False), (0, 0, 0.01, False), (0.9, 0, 0.01, False), (0.9, 0.5, 0, False),
                                 (0.9, 0, 0, True)])
def test_sgd_follows_the_formula_for_three_steps(how, dtype):
    momentum, dampening, decay, nesterov = how
    for width, shift in paths(dtype):
        model = Model(dtype, width, shift, 1)
        w, v = model.w.astype(float), np.zeros(model.w.size)
        for step in range(3):
            before = model.w.copy()
            model.lr[0] = 0.1 / (step + 1)
            model.run("sgd", [model.states[0] if momentum else None],
                      (np.float64(momentum), np.float64(dampening), np.float64(decay), nesterov))
            for part, (g, *_) in zip(model.parts, model.pieces()):
                if g is None:
                    np.testing.assert_array_equal(model.w[part], before[part])
                    continue
                d = g + decay * w[part]
                v[part] = d if step == 0 else momentum * v[part] + (1 - dampening) * d
                w[part] -= model.lr[0] * (d + momentum * v[part] if nesterov else v[part] if momentum else d)
                assert_near(model.w[part], w[part], dtype, 9, np.abs(w[part]) + 1)
            assert model.step[0] == step + 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("amsgrad", [False, True])
def test_adam_and_adamw_follow_the_formula_for_three_steps(amsgrad, decoupled, dtype):
    beta1, beta2, eps, decay = 0.9, 0.999, 1e-8, 0.01
    for width, shift in paths(dtype):
        model = Model(dtype, width, shift, 3)
        w, m, v, top = model.w.astype(float), *(np.zeros(model.w.size) for _ in range(3))
        for t in range(1, 4):
            before = model.w.copy()
            model.lr[0] = lr = 0.1 / t
            states = [*model.states[:2], model.states[2] if amsgrad else None]
            model.run("adam", states, (*map(np.float64, (beta1, beta2, eps, decay)), decoupled))
            for p, (g, *_) in zip(model.parts, model.pieces()):
                if g is None:
                    np.testing.assert_array_equal(model.w[p], before[p])
                    continue
                if decoupled:
                    w[p] *= 1 - lr * decay
                else:
                    g = g + decay * w[p]
                m[p] = beta1 * m[p] + (1 - beta1) * g
                v[p] = beta2 * v[p] + (1 - beta2) * g * g
                top[p] = np.maximum(top[p], v[p]) if amsgrad else v[p]
                w[p] -= lr / (1 - beta1 ** t) * m[p] / (np.sqrt(top[p] / (1 - beta2 ** t)) + eps)
                # Where steps cancel, m is small and its error is not: a hundredth of a step at most.
                assert_near(model.w[p], w[p], dtype, 9, np.abs(w[p]) + 20 * lr)
                assert_near(model.states[1][p], v[p], dtype, 9, 1)
        assert model.step[0] == 3


def test_nan_and_infinity_reach_the_parameter_and_no_other():
    model = Model("float32", 4, 0, 3, lengths=(64,), missing=None)
    model.rng = type("Rng", (), {"standard_normal": staticmethod(lambda n: np.r_[np.nan, np.inf, np.ones(n - 2)])})()
    model.run("adam", model.states, (np.float64(0.9), np.float64(0.999), np.float64(1e-8), np.float64(0), False))
    np.testing.assert_array_equal(np.isnan(model.w), np.r_[True, True, np.zeros(model.w.size - 2, bool)])
    assert np.isnan(model.states[2][0])


def test_traffic_of_a_flat_arena_is_seven_words_a_parameter():
    n = 64 * CHUNK
    model = Model("float32", 4, 0, 2, lengths=(n,), missing=None)
    hyper = (np.float64(0.9), np.float64(0.999), np.float64(1e-8), np.float64(0), False)
    counters = model.run("adam", [*model.states, None], hyper)
    assert counters.unique_bytes_written == 12 * n + 8 + 4
    assert abs(counters.unique_bytes_read - 16 * n) < 100
    assert counters.sector_efficiency > 0.95
    assert counters.global_requests - 7 * n // 128 < 40 * counters.blocks
