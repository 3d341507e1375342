"""Activations: the definitions, PyTorch's numbers, float32 kept, NaN kept, no overflow, every order of derivative."""
from __future__ import annotations

import numpy as np
import pytest
import scipy.special as special
from on_device import close, equal, host, on_cpu, xp

import gpugrad as gg
from gpugrad import nn
from gpugrad.errors import ArgumentError, AxisError, DtypeError, ShapeError

pytestmark = pytest.mark.usefixtures("device")

GRID = np.concatenate([np.linspace(-8, 8, 41)[::2] + 0.013, [30.0, -30.0]])

DEFINITIONS = {
    "relu": lambda x: np.maximum(x, 0), "relu6": lambda x: np.clip(x, 0, 6), "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "celu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
    "hard_tanh": lambda x: np.clip(x, -1, 1), "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "hard_swish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1), "hardshrink": lambda x: np.where(abs(x) > 0.5, x, 0),
    "softshrink": lambda x: np.sign(x) * np.maximum(abs(x) - 0.5, 0), "tanh": np.tanh, "sigmoid": special.expit,
    "log_sigmoid": special.log_expit, "softplus": lambda x: np.logaddexp(x, 0), "silu": lambda x: x * special.expit(x),
    "gelu": lambda x: x * special.ndtr(x), "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "soft_sign": lambda x: x / (1 + abs(x)),
    "squareplus": lambda x: (x + np.sqrt(x * x + 4)) / 2, "tanhshrink": lambda x: x - np.tanh(x),
}
TORCH = {"relu": "relu", "relu6": "relu6", "leaky_relu": "leaky_relu", "elu": "elu", "celu": "celu", "selu": "selu",
         "hard_tanh": "hardtanh", "hard_sigmoid": "hardsigmoid", "hard_swish": "hardswish", "hardshrink": "hardshrink",
         "softshrink": "softshrink", "tanh": "tanh", "sigmoid": "sigmoid", "log_sigmoid": "logsigmoid", "softplus": "softplus",
         "silu": "silu", "gelu": "gelu", "mish": "mish", "soft_sign": "softsign", "tanhshrink": "tanhshrink"}


def gradient(f, x):
    return gg.grad(lambda x: f(x).sum())(x)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_values_are_the_definitions(name):
    expected = DEFINITIONS[name](GRID)
    found = getattr(nn, name)(xp.asarray(GRID))
    assert found.dtype == np.float64
    assert close(found.numpy(), expected, rtol=1e-13, atol=1e-15)
    narrow = getattr(nn, name)(xp.asarray(GRID, "f4"))
    assert narrow.dtype == np.float32
    assert close(narrow.numpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_derivatives_of_two_orders_in_every_nesting(name):
    gg.check_grads(getattr(nn, name), (xp.asarray(GRID[abs(GRID) < 5]),), order=2)
    g = gradient(getattr(nn, name), xp.asarray(GRID, "f4"))
    assert g.dtype == np.float32


@pytest.mark.parametrize("name", DEFINITIONS)
def test_nan_goes_through_and_large_inputs_stay_finite(name):
    f = getattr(nn, name)
    assert np.isnan(f(xp.array([np.nan, 1.0])).numpy()[0])
    x = xp.array([-1e4, -200.0, -90.0, 90.0, 200.0, 1e4])
    for dtype in ("f4", "f8"):
        assert np.all(np.isfinite(f(x.astype(dtype)).numpy()))
        assert np.all(np.isfinite(gradient(f, x.astype(dtype))))


@pytest.mark.parametrize("name", DEFINITIONS)
def test_scalars_empty_arrays_integers_and_float16(name):
    f = getattr(nn, name)
    assert close(f(2.0), DEFINITIONS[name](np.float64(2.0)))
    assert f(xp.zeros((0, 3), "f4")).shape == (0, 3)
    assert close(f([1, 2]).numpy(), DEFINITIONS[name](np.array([1.0, 2.0])))
    half = f(xp.array([0.5, -3.0], "f2"))
    assert half.dtype == np.float16
    assert close(half.numpy(), DEFINITIONS[name](np.array([0.5, -3.0])), atol=2e-3)


@on_cpu
@pytest.mark.peers
@pytest.mark.parametrize("name", TORCH)
def test_values_and_gradients_are_pytorchs(name):
    torch = pytest.importorskip("torch")
    x = np.concatenate([GRID, [0.0]])
    if name in ("relu6", "hard_swish", "hard_sigmoid", "hard_tanh"):
        x = GRID                                            # at a kink with two clips ours is the mean slope
    t = torch.tensor(x, requires_grad=True)
    y = getattr(torch.nn.functional, TORCH[name])(t)
    y.sum().backward()
    assert close(getattr(nn, name)(x).numpy(), y.detach().numpy(), rtol=1e-12, atol=1e-14)
    tolerance = 1e-7 if name == "hard_sigmoid" else 1e-11   # PyTorch's 1/6 is a float32
    assert close(gradient(getattr(nn, name), x), t.grad.numpy(), rtol=tolerance, atol=1e-13)


@on_cpu
@pytest.mark.peers
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_gelu_by_tanh_is_pytorchs_on_several_blocks(dtype):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(300, 333)).astype(dtype)
    t = torch.tensor(x, requires_grad=True)
    y = torch.nn.functional.gelu(t, approximate="tanh")
    y.sum().backward()
    tolerance = 30 * np.finfo(dtype).eps
    assert close(nn.gelu(x, approximate="tanh").numpy(), y.detach().numpy(), atol=tolerance)
    assert close(gradient(lambda x: nn.gelu(x, approximate="tanh"), x), t.grad.numpy(), atol=tolerance)


def test_parameters_of_the_activations():
    x = xp.array([-2.0, -0.3, 0.3, 2.0])
    assert close(nn.leaky_relu(x, 0.3).numpy(), [-0.6, -0.09, 0.3, 2])
    assert close(nn.leaky_relu(x, 3.0).numpy(), [-6, -0.9, 0.3, 2])
    assert close(nn.elu(x, 0.5).numpy(), np.where(x > 0, x, 0.5 * np.expm1(x)))
    assert close(nn.celu(x, 0.5).numpy(), np.where(x > 0, x, 0.5 * np.expm1(x / 0.5)))
    assert close(nn.softplus(x, 3.0), np.logaddexp(3 * host(x), 0) / 3)
    assert close(nn.threshold(x, 0.3, -7.0).numpy(), [-7, -7, -7, 2])
    assert close(nn.hard_tanh(x, -0.5, 1.0).numpy(), [-0.5, -0.3, 0.3, 1])
    a, b = xp.arange(6.0).reshape(2, 3), xp.arange(6.0).reshape(2, 3) - 4
    assert close(nn.glu(np.concatenate([a, b], 1)).numpy(), host(a) * special.expit(host(b)))
    w = xp.array([[0.1], [0.2]])
    y = xp.array([[-1.0, 2.0, -3.0], [4.0, -5.0, 6.0]])
    assert close(nn.prelu(y, w).numpy(), np.where(y > 0, y, w * y))
    assert close(gg.grad(lambda w: nn.prelu(y, w).sum())(w), [[-4], [-5]])


def test_slopes_at_zero():
    assert gradient(nn.relu, xp.zeros(1)) == 0
    assert gradient(nn.leaky_relu, xp.zeros(1)) == 0.01
    assert gradient(nn.elu, xp.zeros(1)) == 1
    with np.errstate(divide="ignore"):
        assert gradient(lambda x: np.sqrt(nn.relu(x)), xp.array([-1.0])) == 0, "an infinite slope behind a closed gate"


def test_relu_keeps_one_array_for_the_layer_behind_it_and_itself():
    x = gg.tensor(xp.ones((4, 5)), requires_grad=True)
    y = nn.relu(nn.linear(x, gg.ones((3, 5))))
    z = nn.linear(y, gg.tensor(xp.ones((2, 3)), requires_grad=True))
    assert y._node.y is z._node.xs[0]
    assert y._node.xs == (None,)


# softmax ---------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("axis", [-1, 0, 1, (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_softmax_and_its_logarithm(axis, dtype):
    x = 5 * xp.asarray(np.random.default_rng(0).normal(size=(3, 4, 5))).astype(dtype)
    for f, ref in [(nn.softmax, special.softmax), (nn.log_softmax, special.log_softmax)]:
        y = f(x, axis=axis)
        assert y.dtype == np.dtype(dtype)
        assert close(y, ref(host(x).astype("f8"), axis=axis), rtol=2e-5 if dtype == "f4" else 1e-13,
                     atol=2e-6 if dtype == "f4" else 1e-15)
        gg.check_grads(lambda x, f=f: f(x, axis=axis), (x.astype("f8"),), order=2)


def test_softmax_of_a_shifted_row_is_unchanged_and_large_rows_do_not_overflow():
    x = xp.asarray(np.random.default_rng(0).integers(-8, 8, size=(3, 4))).astype(float)
    assert equal(nn.softmax(x + 1024).numpy(), nn.softmax(x).numpy())
    assert equal(nn.softmax(xp.array([1e4, 0.0, -1e4])).numpy(), [1, 0, 0])
    assert equal(nn.log_softmax(xp.array([1e4, 0.0])).numpy(), [0, -1e4])
    assert equal(nn.softmax(xp.array([-np.inf, 0.0])).numpy(), [0, 1])
    assert np.all(np.isnan(nn.softmax(xp.array([np.nan, 0.0])).numpy()))


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: nn.softmax(xp.ones(3), axis=1), AxisError, "softmax: expected an axis from -1 to 0, got 1"),
    (lambda: nn.softmax(np.float64(1.0)), AxisError, "softmax: expected an axis"),
    (lambda: nn.log_softmax(xp.ones((2, 0))), ShapeError, "log_softmax: expected at least one element"),
    (lambda: nn.softmax(xp.ones(3) * 1j), DtypeError, "softmax: expected real numbers, got complex128"),
    (lambda: nn.log_sigmoid(1j), DtypeError, "log_sigmoid: expected real numbers"),
    (lambda: nn.gelu(xp.ones(2), approximate="erf"), ArgumentError, "gelu: expected approximate 'none' or 'tanh', got 'erf'"),
    (lambda: nn.softplus(xp.ones(2), beta=0), ArgumentError, "softplus: expected beta above 0"),
    (lambda: nn.celu(xp.ones(2), alpha=-1), ArgumentError, "celu: expected alpha above 0"),
    (lambda: nn.hard_tanh(xp.ones(2), 1, -1), ArgumentError, "hard_tanh: expected low at most high"),
    (lambda: nn.glu(xp.ones((2, 3))), ShapeError, "glu: expected an even length along axis -1"),
    (lambda: nn.relu("a"), DtypeError, "relu: expected an array or numbers"),
])
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_hard_swish_is_flat_below_and_the_identity_above():
    x = xp.array([-np.inf, -4.0, 4.0, np.inf])
    assert equal(nn.hard_swish(x), np.array([0.0, 0.0, 4.0, np.inf]))
    assert equal(gradient(nn.hard_swish, x), np.array([0.0, 0.0, 1.0, 1.0]))


def test_hard_tanh_may_be_a_constant():
    assert equal(nn.hard_tanh(xp.array([-1.0, 1.0, 2.0]), 1, 1), np.ones(3))


def test_sigmoid_of_complex_numbers_is_the_quotient_and_does_not_overflow():
    z = np.array([1 + 2j, -0.3 - 1j, 0j])
    assert close(nn.sigmoid(xp.asarray(z)), 1 / (1 + np.exp(-z)), rtol=1e-14)
    assert close(nn.sigmoid(xp.asarray([800 + 1j, -800 + 1j])), np.array([1, 0]), rtol=1e-14)
    gg.check_grads(nn.sigmoid, (xp.asarray(z[:2]),), order=2)
