"""The kernels behind the rules on the simulated device: values and derivatives as on the CPU, and the launches that they take."""
import numpy as np
import pytest

import gpugrad as gg
from gpugrad.kernels.record import recording

FUNCTIONS = {
    "elementwise": (lambda a, b: gg.tanh(a / b) * gg.exp(a), [(4, 6), (6,)]),
    "activations": (lambda a: gg.nn.silu(a) + gg.nn.softplus(a) * gg.nn.sigmoid(a), [(33,)]),
    "powers": (lambda a, b: (a * a + 1) ** b + a ** 3, [(5, 3), (5, 1)]),
    "means": (lambda a: gg.sin(a - a.mean(axis=1, keepdims=True)).sum(axis=(0, 2)), [(3, 4, 5)]),
    "transposed": (lambda a, b: gg.arctan(a.T * b).mean(axis=0), [(6, 4), (4, 6)]),
    "strided": (lambda a: gg.log1p(a[::2, ::-1] ** 2).sum(axis=0), [(7, 5)]),
    "lookup": (lambda a: gg.cos(a[[[0, 2, 2], [1, 0, 4]]]).sum(axis=1), [(5, 3)]),
    "lookup in columns": (lambda a: gg.cos(a[:, [3, 3, 0]] * a[:, :3]), [(2, 4)]),
    "extremes": (lambda a, b: gg.maximum(a, b) * gg.minimum(a, 0.3) + gg.clip(a, -1.0, 0.5), [(8,), (8,)]),
    "where": (lambda a, b: gg.where(a > b, a * b, gg.hypot(a, b)), [(9,), (9,)]),
}


def arrays(shapes, dtype):
    rng = np.random.default_rng(3)
    return [rng.uniform(0.2, 1.5, s).astype(dtype) for s in shapes]


def everything(name, dtype, device):
    """Value, gradients, a tangent and a product with the Hessian, as NumPy arrays."""
    f, shapes = FUNCTIONS[name]
    xs = [gg.tensor(x, device=device) for x in arrays(shapes, dtype)]
    every = tuple(range(len(xs)))

    def on_place(*values):
        return f(*values)

    def loss(*values):
        return gg.sum(on_place(*values) ** 2)
    with gg.device(device):
        value, grads = gg.value_and_grad(loss, argnums=every)(*xs)
        y, dy = gg.jvp(on_place, tuple(xs), tuple(gg.cos(x) for x in xs))
        _, curved = gg.jvp(gg.grad(loss, argnums=0), tuple(xs), tuple(gg.sin(x) for x in xs))
    return [t.numpy() for t in (value, *grads, y, dy, curved)]


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_derivatives_are_those_of_the_cpu(name, dtype):
    tolerance = 1e-12 if dtype == "float64" else 5e-5
    for got, wanted in zip(everything(name, dtype, "sim"), everything(name, dtype, "cpu"), strict=True):
        assert got.dtype == wanted.dtype and got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


def on_sim(*values):
    return [gg.tensor(v, device="sim", requires_grad=True) for v in values]


def backward_launches(y):
    with recording() as log:
        y.backward(gg.ones_like(y))
    return [launch.name for launch in log.launches]


def test_a_backward_rule_is_one_launch_and_a_broadcast_one_more():
    a, b = on_sim(*arrays([(8, 4), (4,)], "f"))
    assert backward_launches(a / b) == ["divide_pull<float, int>", "sum_middle<float, 4>"]
    assert backward_launches(gg.tanh(a)) == ["tanh_pull<float, 4>"]


def test_complex_and_mixed_inputs_go_the_common_way():
    z, = on_sim(np.array([0.3 + 0.4j, 1 - 2j]))
    assert backward_launches(gg.tanh(z)) == []
    reference = gg.tensor(z.detach().numpy(), device="cpu", requires_grad=True)
    gg.tanh(reference).backward(gg.ones_like(reference))
    np.testing.assert_allclose(z.grad.numpy(), reference.grad.numpy(), rtol=1e-12)
    a, b = on_sim(np.ones(3, "f"), np.full(3, 2.0))
    (a / b).backward(gg.ones_like(b))
    assert a.grad.dtype == np.float32 and b.grad.dtype == np.float64
    np.testing.assert_allclose(a.grad.numpy(), 0.5)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,)])
def test_scalars_and_empty_arrays(shape):
    a, = on_sim(np.full(shape, 0.5, "f"))
    gg.tanh(a).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), np.full(shape, 1 - np.tanh(0.5) ** 2), rtol=1e-6)


def test_the_gradient_of_a_lookup_repeats_bit_for_bit():
    table, = on_sim(arrays([(5, 4)], "f")[0])
    places = gg.tensor(np.random.default_rng(0).integers(0, 5, 300), device="sim")
    grads = [gg.grad(lambda t: (gg.sin(t[places]) ** 3).sum())(table.detach()).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*grads)


@pytest.mark.parametrize("order", [1, 2, np.inf])
def test_gradients_are_clipped_together_and_stay_aligned(order):
    def clipped(device):
        params = [gg.tensor(x, device=device, requires_grad=True) for x in arrays([(3, 3), (5,), (), (0,)], "f")]
        for p in params:
            (p * p).sum().backward()
        norm = gg.optim.clip_grad_norm(params, 1.0, order)
        assert device == "cpu" or all(p.grad.data.data.ptr % 16 == 0 for p in params[:3])
        return [norm.numpy(), *(p.grad.numpy() for p in params)]
    for got, wanted in zip(clipped("sim"), clipped("cpu"), strict=True):
        assert got.shape == wanted.shape and got.dtype == wanted.dtype
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_an_optimiser_steps_all_parameters_at_once_and_goes_on_from_its_state():
    def trained(device, split):
        with gg.device(device):
            params = [gg.tensor(x, device=device, requires_grad=True) for x in arrays([(4, 3), (3,), ()], "f")]
            optimiser = gg.optim.AdamW(params, lr=0.1)
            for turn in range(4):
                if turn == split:
                    state = optimiser.state_dict()
                    optimiser = gg.optim.AdamW(params, lr=0.5)
                    optimiser.load_state_dict(state)
                optimiser.zero_grad()
                (gg.tanh(params[0] + params[1]) * params[2]).sum().backward()
                with recording() as log:
                    optimiser.step()
            assert device == "cpu" or [launch.name for launch in log.launches] == ["adam<float, 4>"]
            return [p.detach().numpy() for p in params]
    for got, wanted, again in zip(trained("sim", None), trained("cpu", None), trained("sim", 2), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(again, got)
