"""Layer norm and RMS norm in one launch on the simulated device: values and gradients as on the CPU, and the launches."""
import numpy as np
import pytest

import gpugrad as gg
from gpugrad.kernels.record import recording

NORMS = {"layer": lambda x, w, b: gg.nn.layer_norm(x, w, b), "rms": lambda x, w, b: gg.nn.rms_norm(x, w),
         "bare": lambda x, w, b: gg.nn.layer_norm(x)}


def tensors(device, dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    arrays = (3 * rng.standard_normal(shape) + 1, rng.standard_normal(shape[-1]), rng.standard_normal(shape[-1]))
    return [gg.tensor(a.astype(dtype), device=device, requires_grad=True) for a in arrays]


def names(log):
    return [x.name.split("<")[0] for x in log.launches]


def gradients(f, xs, seed=5):
    y = f(*xs)
    g = np.random.default_rng(seed).standard_normal(y.shape).astype(y.dtype)
    y.backward(gg.tensor(g, device=y.device))
    return [y.detach().numpy(), *(x.grad.numpy() for x in xs if x.grad is not None)]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", [(5, 32), (3, 4, 33), (700, 12), (1, 1), (3, 9001), (40, 5000)])
@pytest.mark.parametrize("name", NORMS)
def test_value_and_gradients_are_those_of_the_cpu(name, shape, dtype):
    got, wanted = (gradients(NORMS[name], tensors(device, dtype, shape)) for device in ("sim", "cpu"))
    tolerance = {"float64": 1e-11, "float32": 1e-4, "float16": 2e-2}[dtype]
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max()))


@pytest.mark.parametrize(("columns", "back"), [(64, ["layer_norm_row_pull"]),
                                               (9000, ["layer_norm_long_pull", "layer_norm_columns"])])
def test_forward_is_one_launch_and_so_is_the_pullback_of_rows_that_fit(columns, back):
    xs = tensors("sim", "float32", (20, columns))
    with recording() as log:
        y = gg.nn.layer_norm(*xs)
    assert names(log) == [f"layer_norm_{'row' if columns == 64 else 'long'}"]
    g = gg.ones_like(y)
    with recording() as log:
        y.backward(g)
    assert names(log) == back


def test_the_residuals_gradient_is_added_by_the_pullback():
    x, w, b = tensors("sim", "float32", (20, 64))
    y = gg.sin(x)
    z = y + gg.exp(gg.nn.layer_norm(y, w, b) * 0.1) * gg.cos(y)
    g = gg.ones_like(z) * 0.5
    with recording() as log:
        z.backward(g)
    assert "cupy_add" not in names(log)[names(log).index("layer_norm_row_pull") + 1:]
    cpu = tensors("cpu", "float32", (20, 64))
    y = gg.sin(cpu[0])
    (y + gg.exp(gg.nn.layer_norm(y, *cpu[1:]) * 0.1) * gg.cos(y)).backward(gg.ones_like(y) * 0.5)
    for mine, theirs in zip((x, w, b), cpu, strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), theirs.grad.numpy(), rtol=1e-4, atol=1e-5)


ADDED = {"both": lambda x, r, w, b: gg.nn.add_layer_norm(x, r, w, b), "rms": lambda x, r, w, b: gg.nn.add_rms_norm(x, r, w),
         "normalised": lambda x, r, w, b: (gg.nn.layer_norm(x, w, b, residual=r),),
         "rms, normalised": lambda x, r, w, b: (gg.nn.rms_norm(x, w, residual=r),),
         "sum": lambda x, r, w, b: gg.nn.add_layer_norm(x, r, w, b)[1:]}


def with_residual(device, dtype, shape):
    x, w, b = tensors(device, dtype, shape)
    return x, tensors(device, dtype, shape, seed=1)[0], w, b


def weighed(outputs):
    """A scalar that gives each output a gradient of its own."""
    return sum(gg.sum(y * gg.cos(gg.arange(y.size, dtype=y.dtype, device=y.device).reshape(y.shape) + k))
               for k, y in enumerate(outputs))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("shape", [(5, 32), (3, 4, 33), (1, 1), (3, 9001)])
@pytest.mark.parametrize("name", ADDED)
def test_a_residual_is_added_before_as_on_the_cpu(name, shape, dtype):
    found = []
    for device in ("sim", "cpu"):
        xs = with_residual(device, dtype, shape)
        outputs = ADDED[name](*xs)
        weighed(outputs).backward()
        found.append([t.numpy() for t in (*(y.detach() for y in outputs), *(x.grad for x in xs if x.grad is not None))])
    tolerance = {"float64": 1e-11, "float32": 1e-4, "float16": 2e-2}[dtype]
    for a, b in zip(*found, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max()))


@pytest.mark.parametrize(("columns", "forward", "back"), [
    (64, "layer_norm_row", ["layer_norm_row_pull"]), (9000, "layer_norm_long", ["layer_norm_long_pull", "layer_norm_columns"])])
def test_the_sum_with_the_residual_costs_no_launch_forward_or_back(columns, forward, back):
    xs = with_residual("sim", "float32", (20, columns))
    size = xs[0].nbytes
    with recording() as log:
        y, u = gg.nn.add_layer_norm(*xs)
    assert names(log) == [forward]
    assert log.launches[0].bytes_read == 2 * size + 8 * columns and log.launches[0].bytes_written == 2 * size + 8 * 20
    loss = gg.sum(y * y.detach() + u * u.detach())
    with recording() as log:
        loss.backward()
    at = names(log).index(back[0])
    assert names(log)[at:] == back
    assert log.launches[at].bytes_read >= 3 * size                      # g, u and the gradient that u has of its own
    np.testing.assert_array_equal(xs[0].grad.numpy(), xs[1].grad.numpy())
    xs[0].grad.data[...] = 0                                            # they are equal, and not the same memory
    assert xs[1].grad.numpy().any()


def test_weights_used_with_residuals_twice_add_up_in_place():
    def twice(x, r, w, b):
        y, u = gg.nn.add_layer_norm(x, r, w, b)
        return gg.nn.add_layer_norm(y, u, w, b)[0]
    found = [gradients(twice, with_residual(device, "float64", (7, 8))) for device in ("sim", "cpu")]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_a_residual_of_another_dtype_or_over_other_axes_is_added_all_the_same():
    for how in ({"axis": 0}, {}):
        found = []
        for device in ("sim", "cpu"):
            x, r, *_ = with_residual(device, "float32", (6, 8))
            r = r.detach().astype("float64" if not how else "float32")
            gg.sum(gg.sin(gg.nn.layer_norm(x, residual=r, **how))).backward()
            found.append(x.grad.numpy())
        assert found[0].dtype == found[1].dtype == np.float32
        np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-5)


def test_second_order_with_a_residual_is_that_of_the_cpu():
    def curved(x, r, w, b):
        f = lambda x: weighed(gg.sin(t) for t in gg.nn.add_layer_norm(x, r * x, w, b))
        _, second = gg.jvp(gg.grad(f), (x,), (gg.cos(x),))
        return [gg.hvp(f, x, gg.sin(x)), second, gg.vmap(lambda x, r: gg.nn.layer_norm(x, w, b, residual=r))(x, r), gg.grad(f)(x)]
    found = [[t.detach().numpy() for t in curved(*with_residual(device, "float64", (3, 8)))] for device in ("sim", "cpu")]
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_a_residual_of_another_shape_is_refused():
    with pytest.raises(gg.ShapeError, match=r"layer_norm: expected x and residual of one shape, got \(2, 3\) and \(3,\)"):
        gg.nn.layer_norm(np.ones((2, 3)), residual=np.ones(3))


def test_weights_used_twice_add_up_in_place():
    xs, cpu = (tensors(device, "float64", (7, 8)) for device in ("sim", "cpu"))
    twice = lambda x, w, b: gg.nn.layer_norm(gg.nn.layer_norm(x, w, b), w, b)
    for a, b in zip(gradients(twice, xs), gradients(twice, cpu), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_strided_inputs_and_weights():
    for device in ("sim", "cpu"):
        x, w, b = tensors(device, "float64", (6, 8))
        y = gg.nn.layer_norm(x[::2, ::-1].T, w[::-1][:3], b[:3])
        y.backward(gg.ones_like(y) * gg.arange(3, device=device))
        found = [y.detach().numpy(), x.grad.numpy(), w.grad.numpy(), b.grad.numpy()]
        if device == "sim":
            got = found
    for a, b in zip(got, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-11)


def test_jvp_vmap_and_second_order_are_those_of_the_cpu():
    def curved(x, w, b):
        f = lambda x: gg.sum(gg.sin(gg.nn.layer_norm(x, w, b)))
        _, second = gg.jvp(gg.grad(f), (x,), (gg.cos(x),))
        return [gg.hvp(f, x, gg.sin(x)), second, gg.vmap(lambda r: gg.nn.layer_norm(r, w, b))(x), gg.grad(f)(x)]
    results = []
    for device in ("sim", "cpu"):
        with gg.device(device):
            results.append([t.detach().numpy() for t in curved(*tensors(device, "float64", (3, 8)))])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
