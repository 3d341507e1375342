"""Views show their base's elements, and a base what was written through its views, as in NumPy; gradients follow."""
import gc
import operator

import numpy as np
import pytest
from on_device import assert_close, assert_equal, xp

import gpugrad as gg
from gpugrad.graph.views import views_of

pytestmark = pytest.mark.usefixtures("device")

WRITES = {
    "a row's element": lambda x: x[0].__setitem__(1, 9.0),
    "a slice +=": lambda x: x[1:].__iadd__(1.0),
    "transposed": lambda x: x.T.__setitem__(0, 7.0),
    "reshaped": lambda x: x.reshape(-1).__setitem__(slice(0, 2), 7.0),
    "raveled": lambda x: x.ravel().__imul__(2.0),
    "a view of a view": lambda x: x[1:].T[::-1][0].__imul__(3.0),
    "flipped": lambda x: np.flip(x, 1)[0].__setitem__(0, 5.0),
    "flat": lambda x: setattr(x, "flat", 3.0),
    "flat, transposed": lambda x: x.T.flat.__setitem__(1, 4.0),
    "split": lambda x: np.split(x, 3)[1].__imul__(2.0),
    "rows": lambda x: [row.__imul__(i) for i, row in enumerate(x)],
    "out=": lambda x: np.multiply(x[:2], 2.0, out=x[1:]),
    "put": lambda x: np.put(x[1], [0, 2], 6.0),
    "place": lambda x: np.place(x[1], [True, False, True, False], 6.0),
    "putmask": lambda x: np.putmask(x[:, 0], [True, False, True], 6.0),
    "fill_diagonal": lambda x: np.fill_diagonal(x[:, 1:], 6.0),
    "sort": lambda x: x[0][::-1].sort(),
    "swap of rows": lambda x: swap(x),
    "a new axis": lambda x: x[None, ..., 0].__imul__(2.0),
    "no axes left": lambda x: x[1, 2, ...].__imul__(2.0),
    "a copy": lambda x: [y.__imul__(2.0) for y in (x.copy(), x.flatten(), x.T.reshape(-1), x[[0, 1]], x * 1,
                                                   np.resize(x, (3, 4)))],
    "a scalar": lambda x: operator.iadd(x[1, 2], 2.0),
}


def swap(x):
    x[0], x[1] = x[1], x[0]


def numbers():
    return np.arange(1.0, 13.0).reshape(3, 4)


@pytest.mark.parametrize("name", WRITES)
def test_a_write_through_a_view_reaches_its_base_and_other_views(name):
    expected = numbers()
    seen = [expected[1], expected.T, expected.reshape(2, 6)]
    WRITES[name](expected)
    for x in (gg.tensor(xp.asarray(numbers())), gg.tensor(xp.asarray(numbers()), requires_grad=True) * 1.0):
        views = [x[1], x.T, x.reshape(2, 6)]
        WRITES[name](x)
        assert_equal(x.detach().numpy(), expected)
        for view, wanted in zip(views, seen, strict=True):
            assert_equal(view.detach().numpy(), wanted)


@pytest.mark.parametrize("name", WRITES)
def test_gradients_follow_a_write_through_a_view_in_both_modes(name):
    def f(x):
        y = x * x
        view = y[:, 1]
        WRITES[name](y)
        return (y ** 2).sum() + (view ** 3).sum()
    gg.check_grads(f, (xp.asarray(numbers()),), order=2)


@pytest.mark.parametrize("name", WRITES)
def test_a_write_under_no_grad_is_seen_the_same(name):
    expected = numbers()
    row = expected[1]
    WRITES[name](expected)
    x = gg.tensor(xp.asarray(numbers()), requires_grad=True)
    before = x[1]
    with gg.no_grad():
        WRITES[name](x)
    assert x.is_leaf
    assert_equal(x.detach().numpy(), expected)
    assert_equal(before.detach().numpy(), row)


@pytest.mark.parametrize("seed", range(24))
def test_random_programs_of_views_and_writes_give_numpys_values(seed):
    for ours, numpys in zip(run(gg.tensor(xp.asarray(numbers())) * 1.0, seed), run(numbers(), seed), strict=True):
        assert_close(ours.numpy(), numpys, rtol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_random_programs_of_views_and_writes_have_gradients(seed):
    gg.check_grads(lambda x: sum((y ** 2).sum() for y in run(x * 1.0, seed)), (xp.asarray(numbers() / 12),), order=1)


def run(x, seed):
    """The arrays of a program that takes views of x and of each other, writes to them and reads them."""
    rng = np.random.default_rng(seed)
    arrays = [x]
    for _ in range(12):
        a, b = (arrays[rng.integers(len(arrays))] for _ in range(2))
        kind = rng.integers(9)
        n = a.shape[0] if a.ndim else 1
        i = int(rng.integers(n))
        if kind < 4 and a.ndim:
            arrays.append([a[i:], a.T, a.reshape(-1), a[::-1]][kind])
        elif kind == 4 and a.ndim > 1:
            arrays.append(a[i])
        elif kind == 5:
            a *= float(rng.uniform(0.5, 1.5))
        elif kind == 6 and a.ndim:
            a[i] = b.sum() / b.size
        elif kind == 7:
            a += np.sin(b).sum() * 0.1
        elif a.ndim:
            a[i:] = np.cos(a[i:] + b.mean())
    return arrays


def test_a_scalar_does_not_change_under_another_name():
    x = gg.tensor(xp.arange(3.0), requires_grad=True)
    for total in (x.sum(), x[1], x.sum() * 2.0):
        kept, value = total, total.item()
        total += 1.0
        assert kept.item() == value
        assert total.item() == value + 1.0
    array = gg.tensor(1.0)
    name = array
    array += 1.0
    assert name is array


def test_views_that_numpy_makes_read_only_are():
    x = gg.tensor(xp.ones((2, 2)))
    for view in (np.broadcast_to(x, (3, 2, 2)), np.diagonal(x), np.diag(x)):
        with pytest.raises(gg.ArgumentError, match="expected a writeable Tensor, got a view by"):
            view += 1.0
    diagonal = np.diagonal(x)
    x[0, 0] = 5.0
    assert_equal(diagonal.numpy(), [5, 1])


def test_a_detached_tensor_shares_memory():
    w = gg.tensor([1.0, 2.0], requires_grad=True)
    d, again = w.detach(), w.detach()
    d[0] = 5.0
    assert w.is_leaf
    assert_equal(w.detach().numpy(), [5, 2])
    assert_equal(again.numpy(), [5, 2])
    y = w * 2.0
    d = y.detach()
    y[1] = 7.0
    assert_equal(d.numpy(), [10, 7])
    with pytest.raises(gg.GraphError, match="whose gradient would then be wrong"):
        d[0] = 1.0
    with gg.no_grad(), pytest.raises(gg.GraphError, match="whose gradient would then be wrong"):
        y[:1][0] = 1.0


def test_views_hold_their_base_and_no_base_its_views():
    x = gg.tensor(xp.ones((2, 2))) * 1.0
    gc.disable()
    try:
        view = x[0]
        assert [v for v, _ in views_of(x)] == [view]
        del view
        assert list(views_of(x)) == []
    finally:
        gc.enable()


def test_writes_through_views_are_mapped():
    def f(x):
        y = x * 1.0
        y[1:][0] = x[0] * 3.0
        y.reshape(-1)[0] = 2.0
        return y
    x = xp.asarray(np.arange(6.0).reshape(2, 3))
    assert_equal(gg.vmap(f)(x), [[2, 0, 2], [2, 9, 5]])


def test_parts_of_complex_numbers_are_views():
    z = gg.tensor([1 + 2j, 3 + 4j])
    part = z.imag
    z.real = 5.0
    z.imag[1:] = 6.0
    assert_equal(z.numpy(), [5 + 2j, 5 + 6j])
    assert_equal(part.numpy(), [2, 6])
    with pytest.raises(gg.DtypeError, match="imag: expected a complex Tensor to write to"):
        gg.tensor([1.0]).imag = 2.0

    def f(x):
        y = x * (1 + 2j)
        y.real[0] = x[1] ** 2
        return np.abs(y).sum()
    gg.check_grads(f, (xp.asarray([0.5, 0.8]),), order=1)


def test_an_array_in_place_of_another_is_seen_in_views():
    x = gg.tensor(xp.zeros((2, 2)))
    row, left = x[1], x.detach()
    x.data = xp.asarray([[1.0, 2.0], [3.0, 4.0]])
    assert_equal(row.numpy(), [3, 4])
    assert_equal(left.numpy(), [[1, 2], [3, 4]])
    row.data = xp.asarray([7.0, 8.0])
    assert_equal(x.numpy(), [[1, 2], [7, 8]])


def test_a_compiled_function_writes_where_views_see_it():
    x = gg.tensor(xp.zeros((2, 2)))
    row = x[1]

    @gg.compile
    def step(v):
        x[1][0] = v.sum()
        x.T[1] = v
        return x.sum()
    for n in (1.0, 2.0):
        assert_close(step(xp.full(2, n)), 4 * n)
        assert_equal(x.numpy(), [[0, n], [2 * n, n]])
        assert_equal(row.numpy(), [2 * n, n])


def test_an_optimiser_that_gathers_its_parameters_is_seen_in_views():
    weights = [gg.tensor(xp.ones(3), requires_grad=True) for _ in range(40)]
    views = [(w.detach(), w[1:]) for w in weights]
    optimiser = gg.optim.Adam(weights, lr=0.1)
    for _ in range(2):
        optimiser.zero_grad()
        sum((w * w).sum() for w in weights).backward()
        optimiser.step()
    for w, (left, part) in zip(weights, views, strict=True):
        assert_equal(left.numpy(), w.detach().numpy())
        assert_equal(part.detach().numpy(), w.detach().numpy()[1:])
