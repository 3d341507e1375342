"""Products on the simulated device: values, gradients and second derivatives equal the CPU's; a layer is three launches."""
import numpy
import pytest

import gpugrad as gg
from gpugrad.kernels.record import recording

PRODUCTS = {
    "matrices": (lambda a, b: a @ b, (4, 5), (5, 6)), "long": (lambda a, b: a @ b, (3, 150), (150, 4)),
    "vectors": (lambda a, b: a @ b, (5,), (5,)), "stack and matrix": (lambda a, b: a @ b, (2, 3, 5), (5, 4)),
    "matrix and stack": (lambda a, b: a @ b, (3, 5), (2, 5, 4)), "broadcast": (lambda a, b: a @ b, (2, 1, 3, 5), (4, 5, 2)),
    "transposed": (lambda a, b: a.T @ b.T, (5, 3), (4, 5)), "slices": (lambda a, b: a[1:, 2:] @ b[2:, ::2], (4, 6), (6, 5)),
    "twice": (lambda a, b: a @ b @ b, (3, 5), (5, 5)), "empty": (lambda a, b: a @ b, (0, 3), (3, 2)),
    "no inner size": (lambda a, b: a @ b, (2, 0), (0, 3)), "one": (lambda a, b: a @ b, (2, 1), (1, 3)),
    "layer": (lambda a, b: gg.nn.linear(a, b, b[:, 0]), (3, 5), (4, 5)),
    "einsum": (lambda a, b: gg.einsum("bi,bij->bj", a, b), (2, 3), (2, 3, 4)),
}


def derivatives(function, shapes, device):
    """The value, the gradients, and the gradients of their squares, as NumPy arrays."""
    rng = numpy.random.default_rng(0)
    xs = [gg.tensor(rng.uniform(-1, 1, s), device=device, requires_grad=True) for s in shapes]
    y = function(*xs)
    (y * y).sum().backward(create_graph=True)
    first = [x.grad for x in xs]
    for x in xs:
        x.grad = None
    (first[0] * first[0]).sum().backward()
    return [z.numpy() for z in (y.detach(), *(g.detach() for g in first), *(x.grad for x in xs if x.grad is not None))]


@pytest.mark.parametrize("name", PRODUCTS)
def test_all_orders_equal_the_cpus(name):
    function, *shapes = PRODUCTS[name]
    for found, right in zip(derivatives(function, shapes, "sim"), derivatives(function, shapes, "cpu"), strict=True):
        numpy.testing.assert_allclose(found, right, rtol=1e-11, atol=1e-11)


def test_a_layer_is_one_launch_forward_and_two_back():
    rng = numpy.random.default_rng(0)
    shapes = [(8, 200), (160, 200), (160,)]
    x, w, b = (gg.tensor(rng.uniform(-1, 1, s).astype("f"), device="sim", requires_grad=True) for s in shapes)
    ones = gg.tensor(numpy.ones((8, 160), "f"), device="sim")
    with recording() as log:
        gg.nn.linear(x, w, b).backward(ones)
    assert [launch.name for launch in log.launches] == [
        "gemm_TN float32 bias", "gemm_NN float32", "gemm_NT float32 sum_a"]


@pytest.mark.parametrize("turn", [lambda z: z.sum(), lambda z: z[::-1, ::-1].sum()])
def test_cotangents_that_are_no_matrix_in_memory_still_add_up(turn):
    rng = numpy.random.default_rng(0)
    values = [rng.uniform(-1, 1, s).astype("f") for s in [(140, 12), (12, 12)]]
    found = []
    for device in ("sim", "cpu"):
        x, w = (gg.tensor(v, device=device, requires_grad=True) for v in values)
        (turn(x @ w) + turn(x[::-1] @ w) + turn(gg.nn.linear(x @ w, w))).backward()
        found.append((x.grad.numpy(), w.grad.numpy()))
    for one, other in zip(*found, strict=True):
        numpy.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)
