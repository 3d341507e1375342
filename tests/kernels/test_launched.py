"""The kernels of networks behind the rules on the simulated device: values and derivatives as on the CPU, and the launches."""
import numpy as np
import pytest

import gpugrad as gg
from gpugrad.arrays import module_of, one
from gpugrad.kernels.gelu import gelu, gelu_slope, gelu_tanh, gelu_tanh_slope
from gpugrad.kernels.instances import INSTANCES
from gpugrad.kernels.record import recording

LABELS = np.array([0, 4, 2])


def labelled(x, **how):
    labels = np.resize(LABELS, x.shape[:-1]) % x.shape[-1]
    return gg.nn.cross_entropy(x, gg.tensor(labels, device=x.device), **how)


FUNCTIONS = {
    "relu": (gg.nn.relu, ["relu"], ["relu_pull"]),
    "gelu": (gg.nn.gelu, ["gelu"], ["gelu_pull"]),
    "gelu_tanh": (lambda x: gg.nn.gelu(x, approximate="tanh"), ["gelu"], ["gelu_pull"]),
    "softmax": (gg.nn.softmax, ["softmax_row"], ["softmax_row_pull"]),
    "log_softmax": (gg.nn.log_softmax, ["softmax_row"], ["softmax_row_pull"]),
    "softmax of columns": (lambda x: gg.nn.softmax(x, axis=0), ["softmax_row"], ["softmax_row_pull"]),
    "layer_norm": (gg.nn.layer_norm, ["layer_norm_row"], ["layer_norm_row_pull"]),
    "rms_norm": (gg.nn.rms_norm, ["layer_norm_row"], ["layer_norm_row_pull"]),
    "layer_norm of a sum": (lambda x: gg.nn.layer_norm(x, residual=x), ["layer_norm_row"], ["layer_norm_row_pull"]),
    "cross_entropy": (labelled, ["cross_entropy_row"], []),
    "smoothed": (lambda x: labelled(x, label_smoothing=0.1), ["cross_entropy_row"], []),
    "summed": (lambda x: labelled(x, reduction="sum"), ["cross_entropy_row", "sum_last"], ["cross_entropy_pull"]),
}


def sample(shape, dtype):
    return np.random.default_rng(1).standard_normal(shape).astype(dtype)


def everything(f, x, device):
    """Value, gradient, a tangent and a product with the Hessian, as NumPy arrays."""
    with gg.device(device):
        x = gg.tensor(x, device=device)
        value, grad = gg.value_and_grad(lambda x: gg.sum(gg.sin(f(x))))(x)
        _, dy = gg.jvp(f, (x,), (gg.cos(x),))
        _, curved = gg.jvp(gg.grad(lambda x: gg.sum(gg.sin(f(x)))), (x,), (gg.sin(x),))
    return [t.numpy() for t in (value, grad, dy, curved)]


def assert_as_on_the_cpu(f, x):
    tolerance = {"float64": 1e-11, "float32": 3e-5, "float16": 2e-2}[x.dtype.name]
    for got, wanted in zip(everything(f, x, "sim"), everything(f, x, "cpu"), strict=True):
        assert got.dtype == wanted.dtype and got.shape == wanted.shape
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float64", pytest.param("float32", marks=pytest.mark.slow), "float16"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_derivatives_are_those_of_the_cpu(name, dtype):
    f, *_ = FUNCTIONS[name]
    assert_as_on_the_cpu(f, sample((3, 8), dtype))


@pytest.mark.parametrize("shape", [(3, 5), (2, 3, 33), (1, 1), (2, 9000)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_odd_widths_ranks_and_long_rows(name, shape):
    f, *_ = FUNCTIONS[name]
    assert_as_on_the_cpu(f, sample(shape, "float32"))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_views_that_are_strided_or_start_at_an_odd_address(name):
    f, *_ = FUNCTIONS[name]
    x = sample((9, 17), "float32")
    for view in (lambda x: x[:, 1:9], lambda x: x.T, lambda x: x[1:2, 1:], lambda x: x[::2, ::-1]):
        assert_as_on_the_cpu(lambda x, view=view: f(view(x)), x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_takes_the_launches_that_it_promises(name):
    f, forward, backward = FUNCTIONS[name]
    x = gg.tensor(sample((4, 8), "float32"), device="sim", requires_grad=True)
    with recording() as log:
        y = f(x)
    assert [launch.name.split("<")[0] for launch in log.launches if "<" in launch.name] == forward
    with recording() as log:
        y.backward(gg.ones_like(y))
    found = [launch.name.split("<")[0] for launch in log.launches if "<" in launch.name]
    assert found[:1] == backward[:1] and len(found) <= len(backward)


def test_empty_batches_launch_nothing():
    for name in ("relu", "gelu", "softmax", "log_softmax"):
        with recording() as log:
            assert FUNCTIONS[name][0](gg.tensor(np.ones((0, 5), "f"), device="sim")).shape == (0, 5)
        assert log.launches == [], name


def test_integers_go_the_common_way():
    np.testing.assert_array_equal(gg.nn.relu(gg.tensor(np.array([-1, 2]), device="sim")).numpy(), [0, 2])


def test_nan_goes_through_and_its_slope_is_as_on_the_cpu():
    x = np.array([[np.nan, np.inf, -np.inf, -0.0, 2.0]], "f")
    for name in ("relu", "gelu", "gelu_tanh"):
        f, *_ = FUNCTIONS[name]
        np.testing.assert_array_equal(*[f(gg.tensor(x, device=d)).numpy() for d in ("sim", "cpu")])


def test_a_label_that_is_no_class_is_nan_on_a_device_which_cannot_raise():
    x = gg.tensor(sample((3, 5), "float32"), device="sim")
    loss = gg.nn.cross_entropy(x, gg.tensor(np.array([0, 7, 1]), device="sim"), reduction="none").numpy()
    np.testing.assert_array_equal(np.isnan(loss), [False, True, False])


def test_the_gradient_of_transposed_logits_on_the_cpu():
    x = sample((5, 3), "float64")
    grads = [gg.grad(lambda x, view=view: labelled(view(x)))(x) for view in (lambda x: x.T, lambda x: gg.ascontiguousarray(x.T))]
    np.testing.assert_array_equal(*grads)
    labels = np.resize(LABELS, 3)
    p = np.exp(x.T) / np.exp(x.T).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(grads[0], (p - np.eye(5)[labels]).T / 3, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("value", "slope"), [(gelu, gelu_slope), (gelu_tanh, gelu_tanh_slope)])
def test_gelu_at_infinity_is_its_limit(value, slope, dtype):
    x = np.array([np.inf, -np.inf, 1e30, -1e30, np.nan], dtype)
    np.testing.assert_array_equal(value(np)(x), np.array([np.inf, 0, 1e30, 0, np.nan], dtype))
    np.testing.assert_array_equal(slope(np)(x), [1, 0, 1, 0, np.nan])


def test_backward_of_a_mean_cross_entropy_launches_nothing_of_its_own():
    x = gg.tensor(sample((4, 8), "float32"), device="sim", requires_grad=True)
    labelled(x).backward()                                # makes the 1 that sweeps begin with
    x.grad, loss = None, labelled(x)
    with recording() as log:
        loss.backward()
    assert log.launches == []
    wanted = gg.tensor(x.detach().numpy(), device="cpu", requires_grad=True)
    labelled(wanted).backward()
    np.testing.assert_allclose(x.grad.numpy(), wanted.grad.numpy(), rtol=1e-6)


def test_the_one_that_sweeps_begin_with_is_never_written_to():
    x = gg.tensor(np.float32(3), device="sim", requires_grad=True)
    for _ in range(2):
        gg.sum(x).backward()                              # the second adds to a gradient that may be the first seed
    y = gg.tensor(np.ones((2, 3), "f"), device="sim", requires_grad=True)
    labelled(y).backward()
    assert x.grad.item() == 2 and one(module_of(y.data), y.dtype).item() == 1


# every kernel, from the function that users call ---------------------------------------------------------------------------

def labels(rows, classes):
    return gg.tensor(np.arange(rows) % classes, device="sim")


#: name -> (function, shapes of its inputs, launches forward, launches back). No more than these are launched.
FAMILIES = {
    "bias and relu": (lambda x, w, b: gg.nn.linear(x, w, b, activation="relu"), [(8, 6), (4, 6), (4,)],
                      ["gemm", "bias_relu"], ["bias_relu_pull", "gemm", "gemm"]),
    "linear": (gg.nn.linear, [(8, 6), (4, 6), (4,)], ["gemm"], ["gemm", "gemm"]),
    "product": (lambda a, b: a @ b, [(5, 8), (8, 6)], ["gemm"], ["gemm", "gemm"]),
    "long softmax": (gg.nn.softmax, [(2, 9000)], ["softmax_long"], ["softmax_long_pull"]),
    "losses of rows": (lambda x: gg.nn.cross_entropy(x, labels(3, 5), reduction="none"), [(3, 5)],
                       ["cross_entropy_row"], ["cross_entropy_pull"]),
    "mean loss": (lambda x: gg.nn.cross_entropy(x, labels(3, 5)), [(3, 5)], ["cross_entropy_row"], []),
    "mean loss of long rows": (lambda x: gg.nn.cross_entropy(x, labels(2, 9)), [(2, 9000)], ["cross_entropy_long"], []),
    "layer norm": (gg.nn.layer_norm, [(3, 8), (8,), (8,)], ["layer_norm_row"], ["layer_norm_row_pull"]),
    "long layer norm": (gg.nn.layer_norm, [(2, 9000), (9000,), (9000,)], ["layer_norm_long"],
                        ["layer_norm_long_pull", "layer_norm_columns"]),
    "rms norm": (gg.nn.rms_norm, [(3, 8), (8,)], ["layer_norm_row"], ["layer_norm_row_pull"]),
    "group norm": (lambda x: gg.nn.group_norm(x, 2), [(3, 4, 5)], ["layer_norm_row"], ["layer_norm_row_pull"]),
    "attention": (gg.nn.scaled_dot_product_attention, [(2, 5, 4), (2, 6, 4), (2, 6, 4)], ["attention"], ["attention_pull"]),
    "dropout": (lambda x: gg.nn.dropout(x, 0.5), [(3, 8)], ["dropout"], ["dropout"]),
    "row sums": (lambda x: x.sum(axis=1), [(5, 8)], ["sum_last"], []),
    "column sums": (lambda x: x.sum(axis=0), [(5, 8)], ["sum_middle"], []),
    "sums over the middle": (lambda x: x.sum(axis=1), [(3, 5, 8)], ["sum_middle"], []),
    "lookup": (lambda x: x[gg.tensor(np.arange(300) % 2, device="sim")], [(5, 4)], [], ["scatter_chunks", "scatter_joins"]),
    "one input": (gg.tanh, [(3, 4)], [], ["tanh_pull"]),
    "two inputs": (lambda a, b: a / b, [(3, 4), (3, 4)], [], ["divide_pull"]),
    "activation": (gg.nn.silu, [(3, 4)], ["silu"], ["silu_pull"]),
}

#: Kernels that no wrapper launches.
UNCALLED = {"count_labels"}


def inputs(shapes):
    return [gg.tensor(sample(shape, "float32"), device="sim", requires_grad=True) for shape in shapes]


def launches(function, *args):
    """(the result, the names of our kernels that the device ran)."""
    with gg.device("sim") as device, device.xp.recording() as ran, recording() as log:
        result = function(*args)
    ours = [launch.name for launch in log.launches]
    assert [launch.name for launch in ran.launches if launch.kind == "kernel"] == [n for n in ours if "<" in n]
    return result, ["gemm" if name.startswith("gemm") else name.partition("<")[0] for name in ours]    # cuBLASLt's products too


@pytest.mark.parametrize("name", FAMILIES)
def test_each_family_is_launched_where_it_should_be(name):
    f, shapes, forward, backward = FAMILIES[name]
    y, found = launches(f, *inputs(shapes))
    assert found == forward
    seed = gg.tensor(np.ones(y.shape, "f"), device="sim") if y.ndim else None
    assert sorted(launches(y.backward, seed)[1]) == sorted(backward)


def test_tangents_of_elementwise_rules_are_launches():
    x, = inputs([(3, 4)])
    assert launches(lambda: gg.jvp(gg.tanh, x.detach(), x.detach()))[1] == ["tanh_push"]


@pytest.mark.parametrize(("kind", "kernel"), [(gg.optim.SGD, "sgd"), (gg.optim.Adam, "adam"), (gg.optim.AdamW, "adam")])
def test_optimisers_are_launched(kind, kernel):
    params = inputs([(3, 4), (5,)])
    for p in params:
        (p * p).sum().backward()
    _, found = launches(gg.optim.clip_grad_norm, params, 1.0)
    assert found == ["sum_last"]                          # of all gradients, side by side
    assert launches(kind(params, lr=0.1).step)[1] == [kernel]


def test_no_kernel_of_the_project_is_left_out():
    """What the tables of this file launch is all that there is."""
    named = {kernel for _, _, forward, backward in FAMILIES.values() for kernel in (*forward, *backward)} | {"sgd", "adam"}
    named |= {kernel for _, forward, backward in FUNCTIONS.values() for kernel in (*forward, *backward)}
    kernels = {kernel for instances in INSTANCES.values() for kernel in instances}
    assert kernels - named == UNCALLED
