"""A layer with its ReLU on the simulated device, with a mask of our own and inside cuBLASLt's products."""
import numpy as np
import pytest

import gpugrad as gg
from gpugrad.errors import ArgumentError
from gpugrad.kernels.record import recording


def weights(device, widths, dtype="float32", bias=True, seed=0):
    rng = np.random.default_rng(seed)
    pairs = [(rng.standard_normal((n, k)) / k ** 0.5, rng.standard_normal(n) * 0.1)
             for k, n in zip(widths, widths[1:], strict=False)]
    leaf = lambda a: gg.tensor(a.astype(dtype), device=device, requires_grad=True)
    return [(leaf(w), leaf(b) if bias else None) for w, b in pairs]


def network(h, layers, extra=False):
    """Layers with ReLU, then one without; `extra`: the last hidden layer is used twice."""
    for w, b in layers[:-1]:
        h = gg.linear(h, w, b, activation="relu")
    y = gg.linear(h, *layers[-1])
    return y + gg.sum(h * h) if extra else y


def gradients(device, widths, lead=(20,), epilogue=False, dtype="float32", bias=True, **how):
    x = gg.tensor(np.random.default_rng(1).standard_normal((*lead, widths[0])).astype(dtype), device=device, requires_grad=True)
    layers = weights(device, widths, dtype, bias)
    g = np.random.default_rng(2).standard_normal((*lead, widths[-1])).astype(dtype)
    with gg.cuda.relu_epilogue(epilogue), recording() as log:
        y = network(x, layers, **how)
        y.backward(gg.tensor(g, device=device))
    leaves = [x, *(p for layer in layers for p in layer if p is not None)]
    return [y.detach().numpy(), *(p.grad.numpy() for p in leaves)], [launch.name for launch in log.launches]


@pytest.mark.parametrize("epilogue", [False, True])
@pytest.mark.parametrize("how", [{}, {"extra": True}, {"bias": False}, {"lead": (3, 7)}, {"dtype": "float64"}])
@pytest.mark.parametrize("widths", [(256, 160, 144, 8), (5, 33, 7, 3)])
def test_value_and_gradients_are_those_of_the_cpu(widths, how, epilogue):
    got, _ = gradients("sim", widths, epilogue=epilogue, **how)
    wanted, _ = gradients("cpu", widths, **how)
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * max(1, np.abs(b).max()))


def test_with_epilogues_a_layer_is_one_launch_forward_and_two_back():
    _, names = gradients("sim", (256, 160, 144, 8), epilogue=True)
    assert [n.split()[-1] for n in names[:3]] == ["relu_aux_bias", "relu_aux_bias", "bias"]
    assert sum("drelu_bgrad" in n for n in names) == 2 and not any("relu_pull" in n or "sum_" in n and "<" in n for n in names)
    assert len(names) == 3 + 2 + 2 + 2


def test_without_them_the_mask_is_one_bit_an_element():
    _, names = gradients("sim", (256, 160, 144, 8))
    assert sum(n.startswith("bias_relu<") for n in names) == sum(n.startswith("bias_relu_pull<") for n in names) == 2
    assert len(names) == 5 + 4 + 4


def test_a_hook_sees_the_gradient_before_the_mask():
    found = {}
    for epilogue in (False, True):
        (w, b), (v, c) = weights("sim", (256, 160, 8))
        x = gg.tensor(np.random.default_rng(1).standard_normal((20, 256)).astype("f"), device="sim")
        with gg.cuda.relu_epilogue(epilogue):
            h = gg.linear(x, w, b, activation="relu")
            h.register_hook(lambda g, key=epilogue: found.__setitem__(key, g.detach().numpy()))
            gg.sum(gg.linear(h, v, c)).backward()
    np.testing.assert_allclose(found[True], found[False], rtol=1e-5)
    assert (found[True][h.detach().numpy() == 0] != 0).any()


def test_backward_twice_over_a_kept_graph_adds_the_same_again():
    layers = weights("sim", (256, 160, 144, 8))
    x = gg.tensor(np.random.default_rng(1).standard_normal((20, 256)).astype("f"), device="sim")
    with gg.cuda.relu_epilogue():
        loss = gg.sum(network(x, layers))
        loss.backward(retain_graph=True)
        first = [p.grad.numpy().copy() for layer in layers for p in layer]
        loss.backward()
    for p, once in zip((p for layer in layers for p in layer), first, strict=True):
        np.testing.assert_allclose(p.grad.numpy(), 2 * once, rtol=1e-6)


def test_nan_stays_unless_the_epilogue_was_asked_for():
    w, b = weights("sim", (256, 160))[0]
    x = gg.tensor(np.full((20, 256), np.nan, "f"), device="sim")
    assert np.isnan(gg.linear(x, w, b, activation="relu").detach().numpy()).all()
    with gg.cuda.relu_epilogue():
        assert (gg.linear(x, w, b, activation="relu").detach().numpy() == 0).all()


def test_second_order_and_jvp_are_those_of_the_cpu():
    results = []
    for device in ("sim", "cpu"):
        layers = weights(device, (6, 33, 4), "float64")
        with gg.device(device):
            x = gg.tensor(np.random.default_rng(1).standard_normal((5, 6)), device=device)
            f = lambda x, layers=layers: gg.sum(gg.sin(network(x, layers)))
            found = gg.hvp(f, x, gg.cos(x)), gg.jvp(f, (x,), (gg.cos(x),))[1], gg.grad(f)(x)
            results.append([t.detach().numpy() for t in found])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_another_activation_is_refused():
    with pytest.raises(ArgumentError, match="activation None or 'relu', got 'gelu'"):
        gg.linear(np.ones((2, 3)), np.ones((4, 3)), activation="gelu")
