"""scaled_dot_product_attention: PyTorch's results and gradients, memory, second order, masks, and what it refuses."""
import tracemalloc

import numpy as np
import pytest

import gpugrad as gg
from gpugrad import ArgumentError, ShapeError, nn
from gpugrad.graph.namespace import TRACED

RNG = np.random.default_rng(12)


def draw(*shape, dtype="float64"):
    return RNG.standard_normal(shape).astype(dtype)


@pytest.mark.peers
@pytest.mark.parametrize(("shape", "more"), [
    ((2, 3, 7, 5, 4, 6), {}), ((2, 3, 7, 5, 4, 6), {"is_causal": True}), ((1, 1, 5, 9, 3, 2), {"is_causal": True, "scale": 0.3}),
    ((4, 1, 300, 300, 8, 8), {"is_causal": True}), ((1, 2, 1, 1, 1, 1), {"scale": 2.0})])
def test_results_and_gradients_are_pytorchs(shape, more):
    torch = pytest.importorskip("torch")
    batch, heads, length, keys, width, values = shape
    arrays = [draw(batch, heads, n, w) for n, w in ((length, width), (keys, width), (keys, values))]
    g = draw(batch, heads, length, values)
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = torch.nn.functional.scaled_dot_product_attention(*tensors, **more)
    expected.backward(torch.tensor(g))
    y, pull = gg.vjp(lambda q, k, v: nn.scaled_dot_product_attention(q, k, v, **more), *arrays)
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-12, atol=1e-13)
    for mine, theirs in zip(pull(g), tensors, strict=True):
        np.testing.assert_allclose(mine, theirs.grad.numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("device", ["cpu", "sim"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_dtypes_are_kept_and_float16_is_added_up_in_float32(dtype, device):
    q, k, v = (gg.tensor(draw(2, 40, 8, dtype=dtype), device=device, requires_grad=True) for _ in range(3))
    y = nn.scaled_dot_product_attention(q, k, v)
    y.sum().backward()
    exact = nn.scaled_dot_product_attention(*(x.detach().cpu().numpy().astype("float64") for x in (q, k, v)))
    assert {x.dtype.name for x in (y, q.grad, k.grad, v.grad)} == {dtype}
    eps = np.finfo(dtype).eps                                # weights sum up to 1: the error is that of values up to 4
    np.testing.assert_allclose(y.detach().cpu().numpy(), exact.numpy(), rtol=4 * eps, atol=4 * eps)


def test_the_axes_in_front_broadcast_and_dtypes_are_joined():
    q, k, v = draw(2, 3, 4, 5), draw(3, 6, 5), draw(6, 7, dtype="float32")
    y, pull = gg.vjp(nn.scaled_dot_product_attention, q, k, v)
    whole = [np.broadcast_to(x, (2, 3, *x.shape[-2:])).astype("float64") for x in (q, k, v)]
    expected, wide = gg.vjp(nn.scaled_dot_product_attention, *whole)
    np.testing.assert_allclose(y, expected, rtol=1e-12)
    grads, sums = pull(np.ones((2, 3, 4, 7))), wide(np.ones((2, 3, 4, 7)))
    assert [g.shape for g in grads] == [x.shape for x in (q, k, v)] and grads[2].dtype == "float32"
    np.testing.assert_allclose(grads[1], sums[1].sum(0), rtol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_a_mask_of_its_own_gives_what_the_kernel_gives(causal):
    q, k, v = draw(2, 5, 4), draw(2, 6, 4), draw(2, 6, 3)
    mask = np.tri(5, 6) > 0 if causal else np.ones((5, 6), bool)
    for given in (mask, np.where(mask, 0.0, -np.inf)):
        y, pull = gg.vjp(lambda *x, given=given: nn.scaled_dot_product_attention(*x, given), q, k, v)
        expected, same = gg.vjp(lambda *x: nn.scaled_dot_product_attention(*x, is_causal=causal), q, k, v)
        np.testing.assert_allclose(y, expected, rtol=1e-12)
        for a, b in zip(pull(np.ones_like(y)), same(np.ones_like(y)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_the_second_derivative_is_that_of_the_written_out_form():
    q, k, v = draw(4, 3), draw(4, 3), draw(4, 2)

    def written_out(q, k, v):
        return gg.matmul(nn.softmax(gg.matmul(q, k.T) / np.sqrt(3), axis=-1), v)
    gg.check_grads(lambda *x: nn.scaled_dot_product_attention(*x, is_causal=True), (q, k, v), order=2)
    directions = draw(4, 3), draw(4, 3), draw(4, 2)

    def curved(f):
        return gg.hvp(lambda x: (f(*x) ** 3).sum(), (q, k, v), directions)
    for a, b in zip(curved(nn.scaled_dot_product_attention), curved(written_out), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_the_sum_of_exponentials_may_be_differentiated_too():
    q, k, v = draw(3, 2), draw(4, 2), draw(4, 2)
    gg.check_grads(lambda *x: TRACED.attention(*x, scale=0.5)[1] * TRACED.attention(*x, scale=0.5)[0].sum(), (q, k, v), order=2)


def test_the_graph_keeps_no_scores():
    q, k, v = (gg.tensor(draw(1, 1000, 4), requires_grad=True) for _ in range(3))
    nn.scaled_dot_product_attention(q, k, v).sum().backward()
    tracemalloc.start()
    y = nn.scaled_dot_product_attention(q, k, v)
    kept, _ = tracemalloc.get_traced_memory()
    y.sum().backward()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 100_000 and most < 8_000_000                               # the scores are 8 MB, twice that with their slopes


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: nn.scaled_dot_product_attention(draw(2, 3), draw(2, 4), draw(2, 3)), ShapeError, "expected query"),
    (lambda: nn.scaled_dot_product_attention(draw(3), draw(2, 3), draw(2, 3)), ShapeError, "expected query"),
    (lambda: nn.scaled_dot_product_attention(draw(2, 4, 3), draw(3, 2, 3), draw(2, 3)), ShapeError, "batch and heads"),
    (lambda: nn.scaled_dot_product_attention(draw(2, 3), draw(2, 3), draw(2, 3), np.ones((2, 2), bool), is_causal=True),
     ArgumentError, "got both"),
])
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
