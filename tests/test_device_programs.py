"""What a user of a device writes: NumPy's numbers among its arrays, and random programs that must give what the CPU gives."""
import numpy as np
import pytest

import gpugrad as gg

pytestmark = pytest.mark.usefixtures("nvrtc")

WITH_NUMBERS = {
    "function": lambda x, n: gg.multiply(n, x), "operator": lambda x, n: n / x, "the other way": lambda x, n: x - n,
    "NumPy's": lambda x, n: np.hypot(n, x), "comparison": lambda x, n: n > x, "where": lambda x, n: gg.where(x > 1, n, x),
    "where of numbers": lambda x, n: gg.where(x > 1, n, n), "clip": lambda x, n: gg.clip(n, x, 2.5),
    "join": lambda x, n: gg.r_[n, x], "select": lambda x, n: gg.select([x > 1], [n], n),
    "stack": lambda x, n: gg.stack([n, x[0]]),
    "product": lambda x, n: gg.einsum("i,->i", x, n), "pad": lambda x, n: gg.pad(x, 1, constant_values=n),
}


@pytest.mark.parametrize("number", [np.float64(2), np.float32(2), np.int8(2)])
@pytest.mark.parametrize("name", WITH_NUMBERS)
def test_numpys_scalars_go_to_the_device_of_what_is_beside_them(name, number):
    f = WITH_NUMBERS[name]
    x = gg.tensor([1.0, 3.0], dtype="float32")
    for device in ("sim", "sim:1"):
        for _ in range(2):                                        # NumPy's functions are known here from the second call on
            y = f(x.to(device), number)
            assert y.device == device
            assert y.dtype == f(x, number).dtype
            np.testing.assert_array_equal(y.cpu().numpy(), f(x, number).numpy())


@pytest.mark.parametrize("f", [lambda x: gg.conj(x), lambda x: x.conj()])
def test_the_conjugate_of_bools_is_a_copy_of_them(f):
    x = gg.tensor([True, False], device="sim")
    y = f(x)
    x[0] = False
    assert y.dtype == bool and y.tolist() == [True, False]


@pytest.mark.parametrize("names", ["fd", "df", "id", "if", "ef", "fe"])
@pytest.mark.parametrize("layer", [
    lambda x, w: gg.nn.layer_norm(x, w), lambda x, w: gg.nn.rms_norm(x, w), lambda x, w: gg.nn.add_layer_norm(x, x, None, w)[0],
    lambda x, w: gg.nn.linear(x, gg.stack([w, w]), activation="relu"), lambda x, w: gg.nn.linear(x, gg.stack([w, w]), w[:2])])
def test_layers_of_two_dtypes_have_the_dtypes_of_the_cpu(names, layer):
    results = []
    for device in ("cpu", "sim"):
        x = gg.tensor(np.arange(6).reshape(2, 3).astype(names[0]), device=device, requires_grad=names[0] != "i")
        w = gg.tensor(np.ones(3, names[1]), device=device, requires_grad=True)
        y = layer(x, w)
        y.sum().backward()
        results.append([t.dtype for t in (y, x.grad, w.grad) if t is not None])
    assert results[0] == results[1]


@pytest.mark.parametrize("f", [lambda z, w: gg.logical_and(z, w), lambda z, w: gg.logical_or(w, z),
                               lambda z, w: gg.logical_not(z), lambda z, w: gg.logical_xor(z, 1j)])
def test_complex_numbers_have_truth_values_on_a_device(f):
    z, w = gg.tensor([0, 1j, 2, 0]), gg.tensor([True, True, False, False])
    assert f(z.to("sim"), w.to("sim")).tolist() == f(z, w).tolist()


def test_a_compiled_program_may_end_in_a_transposed_product(sim):
    a, b = np.random.default_rng(0).normal(size=(2, 2, 3, 4, 4))
    f = lambda a, b: gg.transpose(a @ b, (0, 2, 1, 3))
    np.testing.assert_allclose(gg.compile(f)(sim.asarray(a), sim.asarray(b)).cpu().numpy(), f(a, b).numpy(), rtol=1e-12)


@pytest.mark.parametrize("shape", [(3,), (4, 3), (1, 3), ()])
def test_assigning_at_index_arrays_waits_for_no_device(sim, shape):
    """Of several values for one element the last stays, as on the CPU, gradients included."""
    def assigned(x, v, i):
        y = x * 1
        y[:, None, i] = v
        return gg.sum(gg.sin(y))
    x, v, i = np.random.default_rng(0).normal(size=(4, 5)), np.random.default_rng(1).normal(size=shape), np.array([2, -3, 0])
    if len(shape) == 2:
        v = v[:, None]
    f = gg.value_and_grad(assigned, argnums=(0, 1))
    inputs = [sim.asarray(a) for a in (x, v, i)]
    f(*inputs)                                                    # the constants that are made once
    with sim.recording() as log:
        found = f(*inputs)
    assert (log.waits, log.to_host, log.to_device) == (0, 0, 0)
    for a, b in zip([found[0], *found[1]], [f(x, v, i)[0], *f(x, v, i)[1]], strict=True):
        np.testing.assert_allclose(sim.asnumpy(gg.asarray(a).data), gg.asarray(b).data, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", "i2", "u2", "i4", "i8", "u8"])
def test_whole_numbers_of_any_width_are_added_at_places(dtype):
    x, places = gg.tensor(-np.ones((3, 2)).astype(dtype) if dtype[0] == "i" else np.ones((3, 2), dtype)), gg.tensor([0, 0, 1])
    found = gg.index_add(x.to("sim"), places.to("sim"), x.to("sim"))
    assert found.dtype == dtype and found.tolist() == gg.index_add(x, places, x).tolist()


def test_a_layer_of_an_empty_batch_copies_nothing_to_the_device(sim):
    x, w = sim.ones((0, 2), "f"), sim.ones((3, 2), "f")
    with sim.recording() as log:
        y = gg.nn.linear(x, w, activation="relu")
    assert y.shape == (0, 3) and (log.waits, log.to_device) == (0, 0)


@pytest.mark.parametrize("zero", [-0.0, np.float32(-0.0), np.array(-0.0), complex(-0.0, -0.0)])
def test_the_sign_of_zero_goes_to_the_device(sim, zero):
    """CuPy fills new arrays without axes, and fills with zero bytes what equals 0."""
    for t in (gg.tensor(zero, device="sim"), gg.tensor(zero, device="cpu").to("sim")):
        assert np.signbit(t.numpy().real)
    run = gg.compile(lambda x, number: gg.copysign(x, number.real))
    for number in (zero, -zero, zero):
        assert run(sim.ones(2), gg.tensor(number, device="cpu").to("sim")).tolist() == [-1 if number is zero else 1] * 2


@pytest.mark.parametrize("f", [
    lambda x: gg.median(x, axis=1), lambda x: gg.quantile(x, 0.3), lambda x: gg.nanmedian(x),
    lambda x: gg.linspace(x[0], x[1], 5), lambda x: gg.corrcoef(x), lambda x: gg.sliding_window_view(x, 2, axis=1),
    lambda x: x * gg.nn.one_hot(gg.argmax(x, axis=1), 3)])
def test_places_are_counted_on_the_device(sim, f):
    x = np.random.default_rng(2).normal(size=(4, 3))
    loss = lambda x: gg.sum(f(x) ** 2)
    device = sim.asarray(x)
    gg.value_and_grad(loss)(device)
    with sim.recording() as log:
        y, g = gg.value_and_grad(loss)(device)
    assert (log.waits, log.to_host, log.to_device) == (0, 0, 0)
    np.testing.assert_allclose(sim.asnumpy(gg.asarray(y).data), loss(gg.tensor(x)).numpy(), rtol=1e-12)
    np.testing.assert_allclose(sim.asnumpy(g), gg.grad(loss)(x), rtol=1e-9, atol=1e-12)
