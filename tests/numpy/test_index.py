"""Reading and writing at indices: NumPy's values for NumPy's indices, right derivatives, vmap over indices, errors."""
import numpy as np
import pytest
from agreement import normal
from on_device import assert_close, assert_equal, host, placed, xp

import gpugrad as gg
from gpugrad.check import check_grads

pytestmark = pytest.mark.usefixtures("device")

MASK = normal(2, 3, 4, seed=1) > 0
INDICES = [0, -1, np.int64(1), slice(None), slice(1, None), slice(None, None, -2), ..., None, True, False, np.True_,
           (0, 1), (0, ..., 2), (slice(None), 1, None), (..., None, 0), (0, 1, 2), (), [0, 1, 1], [], [[0, 1], [1, 0]],
           [True, False],
           np.array([1, 0, 1], dtype=np.uint8), (0, [1, 2]), ([0, 1], [1, 2]), ([[0], [1]], [1, 2]), (slice(None), [0, 2, 2]),
           (slice(None), [0, 2], slice(1, 3)), ([0, 1], slice(None), [1, 1]), ([0, 1], ..., [1, 1]), (0, slice(None), [1, 1]),
           (..., [0, 0, 3]), (None, [0, 1], None), ([0, 1], None, [0, 2]), MASK, (slice(None), slice(None), MASK[0, 0]),
           (0, MASK[0]), (slice(None), MASK[0]),
           (MASK[:, 0, 0], [0]), (MASK[:, :, 0], 1), (..., MASK[0, 0]), ([1], MASK[0, :, 0]), (MASK[:, 0, 0], slice(None), 0)]



def each(indices):
    return pytest.mark.parametrize("index", indices, ids=[str(i).replace("\n", "") for i in range(len(indices))])


@each(INDICES)
def test_reading_is_numpys(index):
    x = normal(2, 3, 4)
    expected = x[index]
    x, index = placed((x, index))
    y = gg.tensor(x)[index]
    assert (y.shape, y.dtype) == (expected.shape, expected.dtype)
    assert_equal(y.data, expected)
    if expected.size:
        check_grads(lambda x: x[index], (x,), order=2)


@each(INDICES)
def test_writing_is_numpys(index):
    x = normal(2, 3, 4)
    v = normal(*x[index].shape, seed=2)
    for value in (v, 2.0, v.sum(), v[..., :1] if v.ndim > 1 else v, v[None] if v.ndim and index is not MASK else v):
        expected = x.copy()
        expected[index] = value
        there, at, given = placed((x, index, value))
        t = gg.tensor(there)
        t[at] = given
        assert_equal(t.data, expected)
        assert_equal(gg.setitem(there, at, given).data, expected)
    if v.size:
        x, index, v = placed((x, index, v))
        check_grads(lambda x, v: gg.setitem(x, index, v), (x, v), order=2)
        check_grads(lambda x, v: gg.setitem(x, index, v), (x, v.sum()), order=1)


@each(INDICES)
def test_adding_is_numpys(index):
    x = normal(2, 3, 4)
    v = normal(*x[index].shape, seed=2)
    expected = x.copy()
    np.add.at(expected, index, v)
    x, index, v = placed((x, index, v))
    assert_close(gg.Tensor(x).at[index].add(v).data, expected, rtol=1e-14)
    if v.size:
        check_grads(lambda x, v: gg.At(x)[index].add(v), (x, v), order=1)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "power", "minimum", "maximum"])
@pytest.mark.parametrize("index", [1, (slice(None), [0, 0, 2, 0]), [1, 1, 0], MASK])
def test_at_changes_as_often_as_named(name, index):
    x, v = np.abs(normal(2, 3, 4)) + 0.5, 1.5
    expected = x.copy()
    getattr(np, name).at(expected, index, v)
    x, index = placed((x, index))
    assert_close(getattr(gg.Tensor(x).at[index], name)(v).data, expected, rtol=1e-14)
    check_grads(lambda x, v: getattr(gg.At(x)[index], name)(v), (x, xp.array(v)), order=1)


def test_at_gets_and_sets():
    x = normal(3, 4)
    assert_equal(gg.Tensor(x).at[[0, 0]].get().data, x[[0, 0]])
    assert_equal(gg.Tensor(x).at[1].set(0.0).data[1], 0)


def test_reading_views_the_same_memory_and_index_arrays_copy():
    x = gg.tensor(normal(3, 4))
    assert np.shares_memory(x[1:].data, x.data)
    assert not np.shares_memory(x[[1, 2]].data, x.data)


def test_of_values_for_one_element_the_last_stays_and_has_the_gradient():
    x = gg.tensor([0.0, 0.0, 0.0], requires_grad=True)
    v = gg.tensor([1.0, 2.0, 3.0, 4.0], requires_grad=True)
    y = gg.setitem(x, [0, 2, 0, -1], v)
    assert_equal(y.data, [3, 0, 4])
    (y * gg.tensor([10.0, 20.0, 30.0])).sum().backward()
    assert_equal(x.grad.data, [0, 20, 0])
    assert_equal(v.grad.data, [0, 0, 10, 30])


def test_float32_stays_float32():
    x = normal(3, 4).astype(np.float32)
    for f in (lambda x: x[[0, 0, 1]], lambda x: x[1:], lambda x: gg.setitem(x, 0, x[1]), lambda x: gg.At(x)[[0, 0]].add(x[:2])):
        y, pull = gg.vjp(f, gg.tensor(x))
        assert y.dtype == np.float32
        assert pull(gg.ones_like(y))[0].dtype == np.float32


def test_a_complex_array_reads_writes_and_adds():
    x, v = normal(3, 4) + 1j * normal(3, 4, seed=5), normal(2, 4) + 1j
    check_grads(lambda x, v: gg.setitem(gg.At(x)[[0, 0]].add(v), [2, 2], v)[[1, 2, 2]], (x, v), order=2)


def test_an_index_array_may_change_after_it_was_used():
    x = gg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    for index, changed in ((xp.array([0, 2]), 1), (xp.array([True, False, True]), False)):
        x.zero_grad()
        y = x[index]
        index[...] = changed
        y.sum().backward()
        assert_equal(x.grad.data, [1, 0, 1])


def test_tensors_are_indices():
    x = gg.tensor(xp.asarray(normal(4, 3)), requires_grad=True)
    i, mask = gg.tensor([3, 0, 0]), gg.tensor([True, False, True, False])
    assert_equal(x[i].data, x.data[[3, 0, 0]])
    assert_equal(x[mask, gg.tensor(1)].data, x.data[[0, 2], 1])
    assert_equal(x[gg.tensor(2)].data, x.data[2])
    assert_equal(x[gg.tensor(1):].data, x.data[1:])
    assert_equal(x[gg.argsort(x[:, 0])].data, x.data[np.argsort(x.data[:, 0])])


BATCHED = [
    lambda x, i: x[i], lambda x, i: x[:, i], lambda x, i: x[i, i], lambda x, i: x[i, None], lambda x, i: x[None, i, ..., 0],
    lambda x, i: x[[0, 1], i], lambda x, i: x[i, :, i], lambda x, i: x[:, :, i], lambda x, i: x[i][..., 0],
    lambda x, i: x[0, :, i], lambda x, i: x[[[0], [1], [2]], i], lambda x, i: x[:, i, i[::-1]],
    lambda x, i: gg.setitem(x, i, 2.0), lambda x, i: gg.setitem(x, (slice(None), i), x[:, :2]),
    lambda x, i: gg.setitem(x, (i, slice(None), i), x[:2, :, 0]), lambda x, i: gg.At(x)[i].add(x[:2]),
    lambda x, i: gg.At(x)[:, i].subtract(1.0), lambda x, i: x[i[0]], lambda x, i: gg.take(x, i, axis=1),
    lambda x, i: gg.setitem(x, x > 0, 0.0),
]


@pytest.mark.parametrize("number", range(len(BATCHED)))
@pytest.mark.parametrize("axes", [(0, 0), (0, None), (None, 0)])
def test_vmap_over_arrays_and_indices_is_a_loop(number, axes):
    def f(x, i):
        return BATCHED[number](gg.asarray(x), i)                # x is a bare array where it is not mapped
    xs, indices = placed((normal(5, 3, 3, 4), np.random.default_rng(0).integers(-3, 3, size=(5, 2))))
    x = xs if axes[0] == 0 else xs[0]
    i = indices if axes[1] == 0 else indices[0]

    def at(values, axis, k):
        return gg.tensor(values[k] if axis == 0 else values)
    expected = np.stack([f(at(x, axes[0], k), at(i, axes[1], k)).data for k in range(5)])
    assert_equal(gg.vmap(f, in_axes=axes)(x, i), expected)

    def pulled(x, i):
        y, pull = gg.vjp(lambda x: f(x, i), x)
        return pull(np.cos(xp.arange(y.size)).reshape(y.shape))[0]
    expected = np.stack([pulled(at(x, axes[0], k), at(i, axes[1], k)).data for k in range(5)])
    assert_close(gg.vmap(pulled, in_axes=axes)(x, i), expected, rtol=1e-13)


def test_many_rows_add_up_repeatably_and_on_the_cpu_in_order(device):
    rng = np.random.default_rng(0)
    g, rows = rng.normal(size=(3000, 40)).astype(np.float32), rng.integers(0, 50, size=3000)
    expected = np.zeros((50, 40), np.float32)
    np.add.at(expected, rows, g)
    g, rows = placed((g, rows))
    first, again = (host(gg.scatter_add(xp.zeros((50, 40), np.float32), rows, g)) for _ in range(2))
    assert_equal(first, again)
    assert_close(first, expected, rtol=0, atol=0 if device == "cpu" else 1e-4)


X = gg.tensor(normal(2, 3))


@pytest.mark.parametrize(("f", "error", "message"), [
    (lambda: X[2], gg.IndexingError, "getitem: .*out of bounds"),
    (lambda: X[0, 3], gg.IndexingError, "getitem: .*out of bounds"),
    (lambda: X[[0, 2]], gg.IndexingError, "gather: .*out of bounds"),
    (lambda: X[0, 0, 0], gg.IndexingError, "too many indices"),
    (lambda: X[[0], 0, 0], gg.IndexingError, "getitem: expected at most 2 indices"),
    (lambda: X[[0], ..., ...], gg.IndexingError, "one ellipsis at most, got 2"),
    (lambda: X[1.0], gg.IndexingError, "getitem: expected an index, got 1.0"),
    (lambda: X["a"], gg.IndexingError, "getitem: expected an index, got 'a'"),
    (lambda: X[[0.5]], gg.IndexingError, "expected integers or bools in an index array, got dtype float64"),
    (lambda: X[(slice("a", None), 0)], gg.IndexingError, "ints or None in a slice"),
    (lambda: X[np.ones((3, 2), bool)], gg.IndexingError, "boolean"),
    (lambda: X[[0], np.ones(2, bool)], gg.IndexingError, r"expected a mask of shape \(3,\), got \(2,\)"),
    (lambda: X[[0], True], gg.IndexingError, "single bool"),
    (lambda: X[[0, 1], [0, 1, 2]], gg.IndexingError, "gather: .*broadcast"),
    (lambda: gg.setitem(X, 0, np.ones(4)), gg.ShapeError, "setitem: expected shapes that fit"),
    (lambda: gg.setitem(X, [5], 0.0), gg.IndexingError, "scatter_set: .*out of bounds"),
    (lambda: gg.setitem(X, 0, 1j), gg.DtypeError, "setitem: expected a real value"),
    (lambda: gg.setitem(np.arange(3), 0, gg.tensor(1.0, requires_grad=True)), gg.DtypeError, "without gradient"),
    (lambda: gg.vmap(lambda x: X[x > 0])(normal(4, 2)), gg.ConversionError, "a mask inside vmap"),
    (lambda: X.at[[5]].add(1.0), gg.IndexingError, "out of bounds"),
    (lambda: gg.At(X)[[0]].add(np.ones(2)), gg.ShapeError, "spread|at"),
])
def test_bad_indices_name_the_operation(f, error, message):
    with pytest.raises(error, match=message):
        f()


def test_for_loops_end_at_the_end():
    assert [t.tolist() for t in gg.tensor([1.0, 2.0])] == [1.0, 2.0]
    x = gg.tensor([1.0, 2.0])
    with pytest.raises(IndexError):
        x[2]


@pytest.mark.parametrize("change", ["multiply", "divide", "power", "minimum", "maximum"])
@pytest.mark.parametrize("chosen", [[0, 2], [[0, 0], [2, 1]]], ids=["one", "twice"])
def test_at_inside_vmap_changes_what_each_index_names(change, chosen):
    x, i = xp.asarray([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), xp.asarray(chosen)

    def f(x, i):
        return getattr(gg.asarray(x).at[i], change)(2.5)
    expected = np.stack([f(a, j).numpy() for a, j in zip(x, i, strict=True)])
    assert_equal(gg.vmap(f)(x, i), expected)
    assert_equal(gg.vmap(f, in_axes=(0, None))(x, i[1]), np.stack([f(a, i[1]).numpy() for a in x]))
    check_grads(lambda x: gg.vmap(f)(x, i), (x,), order=1)
