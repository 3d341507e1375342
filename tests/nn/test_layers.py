"""Layers and normalisation: the definitions, PyTorch's numbers and gradients, derivatives of two orders, and bad input."""
from __future__ import annotations

import numpy as np
import pytest
from on_device import close, equal, on_cpu, xp

import gpugrad as gg
from gpugrad import nn
from gpugrad.errors import ArgumentError, DtypeError, IndexingError, ShapeError

pytestmark = pytest.mark.usefixtures("device")

RNG = np.random.default_rng(0)


def draw(*shape):
    return xp.asarray(RNG.normal(size=shape))


def both(torch, ours, theirs, arrays):
    """Values and all gradients of two functions of the same arrays, with one random cotangent."""
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    leaves = [gg.tensor(a, requires_grad=True) for a in arrays]
    y, z = theirs(*tensors), ours(*leaves)
    g = np.random.default_rng(1).normal(size=tuple(y.shape))
    y.backward(torch.tensor(g))
    z.backward(g)
    assert close(z.detach().numpy(), y.detach().numpy(), rtol=1e-10, atol=1e-12)
    for leaf, tensor in zip(leaves, tensors):
        assert close(leaf.grad.numpy(), tensor.grad.numpy(), rtol=1e-9, atol=1e-11)


# linear ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("lead", [(), (5,), (2, 5), (0,), (2, 0, 3)])
def test_linear_is_a_product_and_a_sum(lead):
    x, w, b = draw(*lead, 3), draw(4, 3), draw(4)
    assert close(nn.linear(x, w, b).numpy(), x @ w.T + b)
    assert close(nn.linear(x, w).numpy(), x @ w.T)
    gg.check_grads(nn.linear, (x, w, b), order=2)
    g = gg.grad(lambda b: nn.linear(x, w, b).sum())(b.astype("f4"))
    assert g.dtype == np.float32


@on_cpu
def test_complex_linear_has_the_gradients_of_the_product():
    x, w, b = (draw(*shape) + 1j * draw(*shape) for shape in [(5, 3), (4, 3), (4,)])
    gg.check_grads(nn.linear, (x, w, b), order=2)
    gg.check_grads(nn.linear, (x.real, w, b), order=1)


def test_linear_keeps_only_what_the_wanted_gradients_read():
    x, w, b = gg.ones((5, 3)), gg.ones((4, 3)), gg.ones(4)
    for wanted, saved in [((w,), "x"), ((x,), "w"), ((b,), ""), ((x, w, b), "xw")]:
        for t in (x, w, b):
            t.requires_grad = False
        for t in wanted:
            t.requires_grad = True
        kept = nn.linear(x, w, b)._node.xs
        assert [kept[0] is x.data, kept[1] is w.data] == ["x" in saved, "w" in saved]


@on_cpu
@pytest.mark.peers
def test_bilinear_is_pytorchs():
    torch = pytest.importorskip("torch")
    both(torch, nn.bilinear, torch.nn.functional.bilinear, [draw(2, 5, 3), draw(2, 5, 4), draw(6, 3, 4), draw(6)])


# normalisation ---------------------------------------------------------------------------------------------------------

@on_cpu
@pytest.mark.peers
def test_layer_norm_is_pytorchs():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional.layer_norm
    both(torch, nn.layer_norm, lambda x, w, b: f(x, (5,), w, b), [draw(3, 4, 5), draw(5), draw(5)])
    both(torch, nn.layer_norm, lambda x, w, b: f(x, (4, 5), w, b), [draw(3, 4, 5), draw(4, 5), draw(4, 5)])
    both(torch, lambda x: nn.layer_norm(x, eps=0.1), lambda x: f(x, (5,), eps=0.1), [draw(3, 5)])
    both(torch, lambda x, r, w, b: nn.layer_norm(x, w, b, residual=r), lambda x, r, w, b: f(x + r, (5,), w, b),
         [draw(3, 5), draw(3, 5), draw(5), draw(5)])
    both(torch, lambda x, b: nn.layer_norm(x, None, b), lambda x, b: f(x, (5,), None, b), [draw(3, 5), draw(5)])


@on_cpu
@pytest.mark.peers
def test_rms_norm_is_pytorchs():
    torch = pytest.importorskip("torch")
    both(torch, nn.rms_norm, lambda x, w: torch.nn.functional.rms_norm(x, (5,), w, eps=1e-6), [draw(3, 4, 5), draw(5)])


@on_cpu
@pytest.mark.peers
@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5), (2, 4, 3, 2)])
def test_batch_norm_is_pytorchs_and_follows_the_statistics(shape):
    torch = pytest.importorskip("torch")
    x, w, b = draw(*shape) * 3 + 1, draw(4), draw(4)
    for training in (True, False):
        statistics = xp.array([1.0, 2, 3, 4]), xp.array([0.5, 1, 2, 3])
        ours, theirs = list(map(gg.tensor, statistics)), list(map(torch.tensor, statistics))
        both(torch, lambda x, w, b, t=training, r=ours: nn.batch_norm(x, *r, w, b, training=t),
             lambda x, w, b, t=training, r=theirs: torch.nn.functional.batch_norm(x, *r, w, b, training=t), [x, w, b])
        for mine, other in zip(ours, theirs):
            assert close(mine.numpy(), other.numpy(), rtol=1e-10)


@on_cpu
@pytest.mark.peers
def test_group_and_instance_norm_are_pytorchs():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    arrays = [draw(3, 4, 5), draw(4), draw(4)]
    both(torch, lambda x, w, b: nn.group_norm(x, 2, w, b), lambda x, w, b: f.group_norm(x, 2, w, b), arrays)
    both(torch, nn.instance_norm, lambda x, w, b: f.instance_norm(x, weight=w, bias=b), arrays)


@pytest.mark.parametrize(("f", "shapes"), [
    (nn.layer_norm, [(3, 4), (4,), (4,)]),
    (lambda x, w: nn.layer_norm(x, w, axis=(0, 2)), [(3, 2, 4), (3, 4)]),
    (nn.rms_norm, [(3, 4), (4,)]),
    (lambda x, w, b: nn.batch_norm(x, weight=w, bias=b, training=True), [(5, 3, 2), (3,), (3,)]),
    (lambda x, w: nn.group_norm(x, 2, w), [(3, 4), (4,)]),
    (nn.instance_norm, [(2, 3, 4), (3,), (3,)]),
], ids=["layer", "layer of two axes", "rms", "batch", "group", "instance"])
def test_norms_have_derivatives_of_two_orders(f, shapes):
    gg.check_grads(f, tuple(draw(*shape) for shape in shapes), order=2)


def test_layer_norm_of_a_constant_row_is_its_bias():
    y = nn.layer_norm(xp.full((2, 4), 7.0, "f4"), xp.ones(4, "f4"), xp.arange(4, dtype="f4"))
    assert y.dtype == np.float32
    assert equal(y.numpy(), [[0, 1, 2, 3]] * 2)


def test_batch_norm_statistics_stay_out_of_the_graph_and_keep_their_array():
    mean, var = gg.zeros(3), gg.ones(3)
    array = mean.data
    x = gg.tensor(draw(4, 3), requires_grad=True)
    nn.batch_norm(x, mean, var, training=True).sum().backward()
    assert mean.data is array
    assert not mean.requires_grad


# embedding, one-hot, dropout -------------------------------------------------------------------------------------------

def test_embedding_adds_up_float16_in_float32():
    index = xp.zeros(5000, int)
    g = gg.grad(lambda t: nn.embedding(index, t).sum())(xp.zeros((2, 3), "f2"))
    assert (g.dtype, g.tolist()) == (np.float16, [[5000] * 3, [0] * 3])


def test_embedding_adds_up_the_gradients_of_repeated_rows():
    table, index = draw(5, 3), xp.array([[0, 4, 0], [2, 0, 4]])
    assert equal(nn.embedding(index, table).numpy(), table[index])
    g = gg.grad(lambda t: nn.embedding(index, t).sum())(table)
    assert equal(g, np.repeat([[3.0], [0], [1], [0], [2]], 3, axis=1))
    gg.check_grads(lambda t: nn.tanh(nn.embedding(index, t)), (table,), order=2)


def test_one_hot():
    assert equal(nn.one_hot([[0, 2], [1, 1]]).numpy(), xp.eye(3)[[[0, 2], [1, 1]]])
    assert nn.one_hot([0, 1], 5, "float32").shape == (2, 5)
    assert nn.one_hot([0, 1], 5, "float32").dtype == np.float32
    assert nn.one_hot(xp.zeros(0, int)).shape == (0, 0)


def test_dropout_scales_what_it_keeps_and_its_gradient_has_the_same_mask():
    x = gg.tensor(xp.ones((200, 300), "f4"), requires_grad=True)
    y = nn.dropout(x, 0.25, generator=gg.random.generator(0))
    values = y.detach().numpy()
    assert y.dtype == np.float32
    assert set(np.unique(values)) == {0, np.float32(1 / 0.75)}
    assert abs((values == 0).mean() - 0.25) < 5 * (0.1875 / x.size) ** 0.5
    y.sum().backward()
    assert equal(x.grad.numpy(), values)
    assert equal(nn.dropout(x, 0.25, generator=gg.random.generator(0)).detach().numpy(), values)
    gg.random.seed(3)
    first = nn.dropout(x).detach().numpy()
    gg.random.seed(3)
    assert equal(nn.dropout(x).detach().numpy(), first)


def test_dropout_at_its_ends():
    x = draw(4)
    assert equal(nn.dropout(x, 0.9, training=False).numpy(), x)
    assert equal(nn.dropout(x, 0.0).numpy(), x)
    assert equal(nn.dropout(x, 1.0).numpy(), xp.zeros(4))


# attention and rows by their length ------------------------------------------------------------------------------------

@on_cpu
@pytest.mark.peers
def test_attention_is_pytorchs():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional.scaled_dot_product_attention
    qkv = [draw(2, 3, 4, 5), draw(2, 3, 6, 5), draw(2, 3, 6, 7)]
    both(torch, nn.dot_product_attention, f, qkv)
    mask = xp.asarray(RNG.random((4, 6))) < 0.6
    mask[:, 0] = True
    both(torch, lambda q, k, v: nn.dot_product_attention(q, k, v, mask),
         lambda q, k, v: f(q, k, v, attn_mask=torch.tensor(mask)), qkv)
    bias = draw(4, 6)
    both(torch, lambda q, k, v: nn.dot_product_attention(q, k, v, bias, scale=0.3),
         lambda q, k, v: f(q, k, v, attn_mask=torch.tensor(bias), scale=0.3), qkv)
    square = [draw(2, 4, 5), draw(2, 4, 5), draw(2, 4, 3)]
    both(torch, lambda q, k, v: nn.dot_product_attention(q, k, v, causal=True),
         lambda q, k, v: f(q, k, v, is_causal=True), square)


def test_attention_has_derivatives_of_two_orders():
    gg.check_grads(lambda q, k, v: nn.dot_product_attention(q, k, v, causal=True), (draw(3, 4), draw(3, 4), draw(3, 2)), order=2)


@on_cpu
@pytest.mark.peers
def test_lengths_are_pytorchs():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    both(torch, nn.normalize, lambda x: f.normalize(x, dim=-1), [draw(3, 4)])
    both(torch, lambda x: nn.normalize(x, axis=0), lambda x: f.normalize(x, dim=0), [draw(3, 4)])
    both(torch, nn.cosine_similarity, lambda a, b: f.cosine_similarity(a, b, dim=-1), [draw(3, 4), draw(3, 4)])
    both(torch, nn.pairwise_distance, f.pairwise_distance, [draw(3, 4), draw(3, 4)])


def test_lengths_of_zero_have_finite_slopes():
    zeros = xp.zeros((2, 3))
    for f in (nn.normalize, lambda x: nn.cosine_similarity(x, xp.ones((2, 3))), lambda x: nn.pairwise_distance(x, zeros)):
        assert np.all(np.isfinite(gg.grad(lambda x, f=f: f(x).sum())(zeros)))


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: nn.linear(xp.ones((2, 3)), xp.ones((3, 4))), ShapeError, r"linear: expected x \(..., in\), weight \(out, in\)"),
    (lambda: nn.linear(xp.ones((2, 3)), xp.ones((4, 3)), xp.ones(3)), ShapeError, r"bias \(3,\)"),
    (lambda: nn.linear(xp.ones((2, 3)), xp.ones(3)), ShapeError, "linear: expected"),
    (lambda: nn.bilinear(xp.ones(3), xp.ones(4), xp.ones((2, 4, 3))), ShapeError, "bilinear: expected"),
    (lambda: nn.embedding(xp.ones((5, 2)), xp.array([[1]])), DtypeError, "embedding: expected integers as index, got float64"),
    (lambda: nn.embedding(xp.array([1]), xp.ones(5)), ShapeError, r"expected a table \(rows, width\)"),
    (lambda: nn.one_hot([0.5]), DtypeError, "one_hot: expected integer labels"),
    (lambda: nn.dropout(xp.ones(3), 1.5), ArgumentError, "dropout: expected p from 0 to 1, got 1.5"),
    (lambda: nn.layer_norm(xp.ones((2, 3)), xp.ones(4)), ShapeError, r"layer_norm: expected weight and bias of shape \(3,\)"),
    (lambda: nn.layer_norm(xp.ones((2, 3)), eps=-1), ArgumentError, "layer_norm: expected eps at least 0"),
    (lambda: nn.layer_norm(xp.ones((2, 0))), ShapeError, "at least one element to normalise over"),
    (lambda: nn.batch_norm(xp.ones((2, 3))), ArgumentError, "running_mean and running_var outside training"),
    (lambda: nn.batch_norm(xp.ones((1, 3)), training=True), ShapeError, "more than one value for each channel"),
    (lambda: nn.batch_norm(xp.ones((2, 3)), gg.ones(2), gg.ones(3)), ShapeError, r"running_mean as a Tensor of shape \(3,\)"),
    (lambda: nn.batch_norm(xp.ones((2, 3)), weight=xp.ones(2), training=True), ShapeError, "One number for each channel"),
    (lambda: nn.group_norm(xp.ones((2, 4, 3)), 3), ShapeError, "group_norm: expected .* multiple of groups"),
    (lambda: nn.instance_norm(xp.ones((2, 4))), ShapeError, "instance_norm: expected"),
    (lambda: nn.dot_product_attention(xp.ones((2, 3)), xp.ones((2, 4)), xp.ones((2, 3))), ShapeError, "expected query"),
    (lambda: nn.cosine_similarity(xp.ones((2, 3)), xp.ones((2, 1))), ShapeError, "both inputs of one shape"),
])
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


@on_cpu                                                     # a GPU would have to wait for the values
@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: nn.embedding(xp.array([5]), xp.ones((5, 2))), IndexingError, "embedding: expected indices from 0 to 4, got 5 to 5"),
    (lambda: nn.embedding(xp.array([-1]), xp.ones((5, 2))), IndexingError, "got -1 to -1"),
    (lambda: nn.one_hot([3], 3), IndexingError, "one_hot: expected labels from 0 to 2"),
])
def test_bad_values(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("f", [nn.layer_norm, nn.rms_norm, nn.normalize, lambda x: nn.cosine_similarity(x, 2 * x)],
                         ids=["layer_norm", "rms_norm", "normalize", "cosine_similarity"])
def test_rows_of_float16_may_have_squares_beyond_its_range(f):
    x = xp.array([[300.0, -500.0, 1000.0, 20.0], [1.0, 2.0, 3.0, 4.0]], "f2")
    g = gg.grad(lambda x: (f(x) ** 2).sum())(x)
    assert (f(x).dtype, g.dtype) == (np.float16, np.float16)
    assert close(f(x).numpy(), f(x.astype("f4")).numpy(), rtol=2e-3)
    assert close(g, gg.grad(lambda x: (f(x) ** 2).sum())(x.astype("f4")), atol=5e-3)


@pytest.mark.parametrize("dtype", ["c16", "c8"])
def test_normalize_divides_complex_rows_by_their_length(dtype):
    z = xp.asarray([[3 + 4j, 0], [1j, 1]], dtype=dtype)
    y = nn.normalize(z)
    assert y.dtype == np.dtype(dtype)
    assert close(y, np.array([[0.6 + 0.8j, 0], [1j / 2**0.5, 0.5**0.5]]), rtol=1e-6)
    gg.check_grads(nn.normalize, (z.astype("c16"),), order=2)
