"""Data parallel training on two simulated devices: the loop of kernels/README.md, against one device with the whole batch."""
import numpy as np
import pytest

import gpugrad as gg
from gpugrad.cudasim import cupy

DEVICES = ("sim:0", "sim:1")
RNG = np.random.default_rng(7)
X, LABELS = RNG.standard_normal((16, 12)).astype("f4"), RNG.integers(0, 5, 16)
SHAPES = ((8, 12), (8,), (5, 8), (5,))
START = [0.3 * RNG.standard_normal(shape).astype("f4") for shape in SHAPES]


def parameters(device):
    return [gg.tensor(w, device=device, requires_grad=True) for w in START]


def loss(ws, x, labels, device):
    w1, b1, w2, b2 = ws
    x, labels = (gg.tensor(a, device=device) for a in (x, labels))
    return gg.cross_entropy(gg.nn.linear(gg.relu(gg.nn.linear(x, w1, b1)), w2, b2), labels)


def parallel(steps):
    """The parameters of each device, as NumPy arrays, after some steps, each device on half of the batch."""
    replicas = [parameters(device) for device in DEVICES]
    optimisers = [gg.optim.Adam(ws, 0.01) for ws in replicas]
    halves = [(X[k::2], LABELS[k::2]) for k in range(2)]
    for _ in range(steps):
        for device, ws, (x, labels) in zip(DEVICES, replicas, halves, strict=True):
            with gg.device(device):
                loss(ws, x, labels, device).backward(gg.tensor(np.float32(0.5), device=device))
        for leaves in zip(*replicas, strict=True):
            total = sum(w.grad.to(DEVICES[0]) for w in leaves)
            for device, w in zip(DEVICES, leaves, strict=True):
                w.grad = total.to(device)
        for device, optimiser in zip(DEVICES, optimisers, strict=True):
            with gg.device(device):
                optimiser.step()
                optimiser.zero_grad()
    return [[w.detach().numpy() for w in ws] for ws in replicas]


@pytest.fixture(scope="module")
def trained():
    return parallel(3)


def test_both_devices_hold_the_same_bits_and_what_one_device_would(trained):
    alone = parameters("sim")
    optimiser = gg.optim.Adam(alone, 0.01)
    for _ in range(3):
        loss(alone, X, LABELS, "sim").backward()
        optimiser.step()
        optimiser.zero_grad()
    for first, second, one, start in zip(*trained, alone, START, strict=True):
        np.testing.assert_array_equal(first, second)
        np.testing.assert_allclose(first, one.detach().numpy(), rtol=2e-4, atol=2e-5)
        assert np.abs(first - start).max() > 1e-3


def test_steps_repeat_bit_for_bit(trained):
    for ws, again in zip(trained, parallel(3), strict=True):
        for w, other in zip(ws, again, strict=True):
            np.testing.assert_array_equal(w, other)


@pytest.mark.parametrize("current", DEVICES)
def test_all_launches_go_to_the_device_of_the_arrays(current):
    with gg.device(current):
        for index, device in enumerate(DEVICES):
            ws = parameters(device)
            with cupy.recording() as log:
                loss(ws, X, LABELS, device).backward()
            assert log.launches and {x.device for x in log.launches} == {index}
            assert all(str(w.grad.device) == str(w.device) for w in ws)
