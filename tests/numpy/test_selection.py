"""Selection, order and diagonals: NumPy's results for NumPy's arguments, right derivatives, errors."""
import numpy as np
import pytest
from agreement import agrees, normal, same
from on_device import assert_equal, host, on_cpu, placed, xp

import gpugrad as gg
from gpugrad.check import check_grads

pytestmark = pytest.mark.usefixtures("device")

X = normal(3, 4)
WIDE = normal(2, 3, 4)
COUNTS = np.random.default_rng(0).integers(0, 5, size=(4, 6))


# reading ------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("indices", [1, [0, 1, 1], [[0, -1], [1, 1]], []])
def test_take(axis, indices):
    agrees("take", WIDE, indices if indices != [] else np.zeros(0, int), axis=axis, orders=2)


@pytest.mark.parametrize("mode", ["wrap", "clip"])
def test_take_outside(mode):
    agrees("take", X, [-7, 0, 3, 11], axis=1, mode=mode)


@pytest.mark.parametrize("axis", [0, 1, -1, None])
def test_take_along_axis(axis):
    agrees("take_along_axis", X, np.argsort(X, axis=axis), axis=axis, orders=2)
    some = {0: xp.zeros((1, 4), int), None: xp.array([3])}.get(axis, xp.array([[0], [2], [2]]))
    agrees("take_along_axis", X, some, axis=axis)


def test_take_along_axis_broadcasts():
    agrees("take_along_axis", X[:1], np.array([[0, 1], [2, 0], [3, 3]]), axis=1)


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_compress(axis):
    agrees("compress", [True, False, True], X, axis=axis)


def test_extract_and_choose():
    agrees("extract", X > 0, X)
    agrees("choose", [[0, 1, 2, 1]] * 3, [X, X * 2, 5.0], orders=0)
    check_grads(lambda x, y: gg.choose([[0, 1, 1, 0]] * 3, [x, y]), placed((X, X + 1)), order=2)
    for mode in ("wrap", "clip"):
        agrees("choose", [-4, 0, 1, 8], [X, -X], mode=mode)


def test_bincount():
    agrees("bincount", COUNTS[0])
    agrees("bincount", COUNTS[0], minlength=9)
    agrees("bincount", COUNTS[0], normal(6), orders=2)
    agrees("bincount", COUNTS[0], np.ones(6, np.float32), 7, orders=0)
    agrees("bincount", np.zeros(0, int), minlength=2)


def test_segment_sum_and_index_add():
    data, ids = normal(5, 3), np.array([1, 0, 1, 3, 1])
    expected = np.zeros((4, 3))
    np.add.at(expected, ids, data)
    data, ids = placed((data, ids))
    same(gg.segment_sum(data, ids), expected, "segment_sum")
    same(gg.segment_sum(data, ids, 6), np.concatenate([expected, np.zeros((2, 3))]), "segment_sum")
    check_grads(lambda d: gg.segment_sum(d, ids), (data,), order=2)
    same(gg.index_add(xp.zeros((4, 3)), ids, data), expected, "index_add")
    same(gg.index_add(xp.zeros((3, 4)), ids, data.T, axis=1), expected.T, "index_add")
    same(gg.scatter_add(xp.ones((4, 3)), ids, data), expected + 1, "scatter_add")


# writing ------------------------------------------------------------------------------------------------------------------

def writes(name, a, *args, moving=()):
    """The function changes a Tensor as NumPy's changes an array, and is differentiable in what it writes."""
    expected = a.copy()
    getattr(np, name)(expected, *args)
    a, args = placed((a, args))
    t = gg.tensor(a)
    assert getattr(gg, name)(t, *args) is None
    same(t, expected, name)
    assert getattr(np, name)(gg.tensor(a), *args) is None

    def f(x, *values):
        y = gg.asarray(x) * 1.0
        full = list(args)
        for i, v in zip(moving, values, strict=True):
            full[i] = v
        getattr(gg, name)(y, *full)
        return y
    check_grads(f, (a, *[xp.asarray(args[i], dtype=float) for i in moving]), order=2)


def test_put():
    writes("put", X, [0, -1, 5], [1.0, 2.0, 3.0], moving=(1,))
    writes("put", X, [0, 1, 2, 3, 4], [1.0, 2.0], moving=(1,))
    y = gg.tensor(X)
    y.put([0, -1], [5.0, 6.0])
    assert y.tolist()[0][0] == 5 and y.tolist()[-1][-1] == 6
    writes("put", X, [[0, 1], [1, 0]], 7.0)
    writes("put", X, [20, -30], [1.0, 2.0], "clip")
    writes("put", X, [20, -30], [1.0, 2.0], "wrap")
    writes("put", X, np.zeros(0, int), 1.0)


def test_copyto():
    writes("copyto", X, -X, moving=(0,))
    writes("copyto", X, X[0], moving=(0,))
    writes("copyto", X, 2.5)
    writes("copyto", X, -X, "same_kind", X > 0, moving=(0,))
    writes("copyto", X, 1, "safe", [[True]] * len(X))
    x = gg.tensor(X, requires_grad=True)
    y = x * 2.0
    np.copyto(y, -1.0, where=X > 0)
    y.sum().backward()
    assert_equal(x.grad.data, 2.0 * (X <= 0))
    for call, error, message in [
            (lambda: np.copyto(np.zeros(3), x[0]), gg.ConversionError, "expected a Tensor to write to"),
            (lambda: np.copyto(gg.tensor([1, 2]), 0.5), gg.DtypeError, "expected a value that casts to int64 by 'same_kind'"),
            (lambda: np.copyto(y, np.zeros(5)), gg.ShapeError, "expected a shape that"),
            (lambda: gg.copyto(y, 0.0, casting="no way"), gg.ArgumentError, "expected casting")]:
        with pytest.raises(error, match=message):
            call()


def test_putmask_and_place():
    for name in ("putmask", "place"):
        writes(name, X, X > 0, [1.0, 2.0, 3.0], moving=(1,))
        writes(name, X, X > 0, np.arange(12.0), moving=(1,))
        writes(name, X, X > 9, [1.0])
    writes("putmask", X, X > 0, -X, moving=(1,))
    writes("putmask", X, X > 0, 2.5)


def test_put_along_axis():
    writes("put_along_axis", X, np.array([[1, 0], [2, 3], [3, 0]]), normal(3, 2), 1, moving=(1,))
    writes("put_along_axis", X, np.array([[1], [2], [0]]), 9.0, 1)
    writes("put_along_axis", X, np.array([[2, 0, 1, 1]]), normal(1, 4), 0, moving=(1,))
    writes("put_along_axis", X, np.array([2, 11]), normal(2), None, moving=(1,))


@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (5, 3), (9, 2), (3, 3, 3), (0, 2)])
@pytest.mark.parametrize("wrap", [False, True])
def test_fill_diagonal(shape, wrap):
    a = normal(*shape)
    expected = a.copy()
    np.fill_diagonal(expected, 7.0, wrap)
    t = gg.tensor(placed(a))
    np.fill_diagonal(t, 7.0, wrap)
    same(t, expected, "fill_diagonal")


def test_fill_diagonal_with_values():
    writes("fill_diagonal", normal(4, 4), [1.0, 2.0], moving=(0,))
    writes("fill_diagonal", normal(3, 4), normal(3), moving=(0,))


# diagonals ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("offset", [-2, -1, 0, 1, 3])
def test_diagonals(offset):
    agrees("diagonal", X, offset, orders=2)
    agrees("diagonal", WIDE, offset, 2, 0)
    agrees("diag", X, offset)
    agrees("diag", X[0], offset, orders=2)
    agrees("diagflat", X, offset)
    agrees("trace", X, offset)
    agrees("trace", WIDE, offset, 1, 2, orders=2)
    agrees("tril", X, offset)
    agrees("triu", WIDE, offset, orders=2)
    agrees("tril", X[0], offset)
    agrees("triu", X[0], offset)


def test_positions():
    agrees("tril_indices", 3, 1, 4)
    agrees("triu_indices", 3)
    agrees("tril_indices_from", X)
    agrees("triu_indices_from", X, 1)
    agrees("diag_indices", 3, 3)
    agrees("diag_indices_from", normal(3, 3))
    agrees("ix_", [0, 2], [True, False, True])
    agrees("unravel_index", [3, 11], (3, 4))
    agrees("unravel_index", 7, (3, 4), order="F")
    agrees("ravel_multi_index", ([0, 2], [1, 3]), (3, 4))
    agrees("ravel_multi_index", ([0, 5], [1, -3]), (3, 4), mode="wrap")
    x = gg.tensor(xp.asarray(X), requires_grad=True)
    x[gg.tril_indices_from(x)].sum().backward()
    assert_equal(x.grad.data, np.tri(3, 4))
    x[gg.ix_([0, 2], [1, 1])].sum().backward()
    assert x.grad.data[0, 1] == 2


# order --------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("axis", [-1, 0, 1, None])
def test_sort_and_argsort(axis):
    agrees("sort", WIDE, axis, orders=2)
    agrees("argsort", WIDE, axis)
    agrees("sort", COUNTS, axis if axis != 1 else 0)
    agrees("argsort", COUNTS, axis, kind="stable")
    agrees("argsort", COUNTS, axis, stable=True)


def test_sort_puts_nan_last_and_its_gradient_finds_them():
    x = gg.tensor([2.0, np.nan, 1.0], requires_grad=True)
    (gg.sort(x) * gg.tensor([10.0, 20.0, 30.0])).sum().backward()
    assert_equal(x.grad.data, [20, 30, 10])


def test_descending_order_keeps_equals_in_order():
    x = xp.array([1.0, 3.0, 3.0, 2.0, 1.0])
    assert_equal(gg.argsort(x, descending=True).data, [1, 2, 3, 0, 4])
    assert_equal(gg.sort(x, descending=True).data, [3, 3, 2, 1, 1])
    check_grads(lambda x: gg.sort(x, axis=0, descending=True), (X,), order=1)


@pytest.mark.parametrize(("kth", "axis"), [(0, -1), (2, 1), (-1, 1), ([1, 3], 1), (1, 0), (7, None), ([2, 9], None)])
def test_partition(kth, axis):
    found, order = (host(f(placed(X), kth, axis)) for f in (gg.partition, gg.argpartition))
    x, along = (X.ravel(), 0) if axis is None else (X, axis)
    assert_equal(np.take(found, kth, along), np.take(np.sort(x, along), kth, along))
    assert_equal(np.sort(found, along), np.sort(x, along))
    assert_equal(np.take_along_axis(x, order, along), found)
    check_grads(lambda x: gg.partition(x, kth, axis), (X,), order=2)


def test_lexsort():
    agrees("lexsort", (COUNTS[0], COUNTS[1], COUNTS[2]))
    agrees("lexsort", (COUNTS, COUNTS[::-1]), axis=0)


def test_searching():
    edges = xp.array([0.0, 1.0, 1.0, 2.5])
    for side in ("left", "right"):
        agrees("searchsorted", edges, X, side)
    agrees("searchsorted", edges[::-1].copy(), X, sorter=[3, 2, 1, 0])
    for right in (False, True):
        agrees("digitize", np.array([-1.0, 0.0, 1.0, 2.0, 2.5, 9.0]), edges, right)
        agrees("digitize", np.array([-1.0, 0.0, 1.0, 2.0, 2.5, 9.0]), edges[::-1], right)
    agrees("isin", COUNTS, [1, 3])
    agrees("isin", COUNTS, [1, 3], invert=True)
    agrees("nonzero", COUNTS)
    agrees("flatnonzero", COUNTS)
    agrees("argwhere", COUNTS)


@pytest.mark.parametrize("flags", [(), (True,), (False, True), (True, True, True)])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unique(flags, axis):
    agrees("unique", np.repeat(COUNTS, 2, axis=0), *flags, axis=axis)
    agrees("unique", np.array([[1.0, 2.0], [1.0, 2.0], [0.5, 2.0]]), *flags, axis=axis, orders=0)


def test_unique_of_the_array_api():
    x = xp.array([[3.0, 1.0], [np.nan, 3.0], [np.nan, 1.0]])
    for name in ("unique_all", "unique_counts", "unique_inverse", "unique_values"):
        agrees(name, x, orders=0)
        assert getattr(getattr(gg, name)(x), "_fields", None) == getattr(getattr(np, name)(host(x)), "_fields", None)


def test_unique_values_are_differentiable():
    x = gg.tensor([3.0, 1.0, 3.0], requires_grad=True)
    (gg.unique(x) * gg.tensor([10.0, 20.0])).sum().backward()
    assert_equal(x.grad.data, [20, 10, 0])


def test_numpys_own_functions_arrive_here():
    x = gg.tensor(X, requires_grad=True)
    for f in (lambda x: np.sort(x, axis=0), lambda x: np.take(x, [0, 0], axis=1), lambda x: np.diagonal(x), lambda x: np.tril(x),
              lambda x: np.partition(x, 1), lambda x: np.trace(x), lambda x: np.compress([True, False, True], x, axis=0)):
        y = f(x)
        assert isinstance(y, gg.Tensor)
        assert y.requires_grad
        assert_equal(y.data, f(X) if f(X).shape == y.shape else None)


@pytest.mark.parametrize(("f", "error", "message"), [
    (lambda: gg.take(X, 4, axis=1), gg.IndexingError, "take: expected indices from -4 to 3, got 4"),
    (lambda: gg.take(X, [0.5]), gg.IndexingError, "take: expected integers as indices, got dtype float64"),
    (lambda: gg.take(X, 0, axis=2), gg.AxisError, "take: expected an axis"),
    (lambda: gg.take(X, 0, mode="loop"), gg.ArgumentError, "take: expected mode"),
    (lambda: gg.take_along_axis(X, [0, 1], 0), gg.ShapeError, "take_along_axis: expected indices with 2 axes"),
    (lambda: gg.take_along_axis(X, np.zeros((2, 2), int), 0), gg.ShapeError, "take_along_axis: expected indices that broadcast"),
    (lambda: gg.compress(X > 0, X), gg.ShapeError, "compress: expected a vector"),
    (lambda: gg.bincount([1, 2], [1.0]), gg.ShapeError, "bincount: expected as many weights"),
    (lambda: gg.segment_sum(X, [0, 1]), gg.ShapeError, "segment_sum: expected an id for each part"),
    (lambda: gg.segment_sum(X, [0, 1, 5], 3), gg.IndexingError, "scatter_add: .*out of bounds"),
    (lambda: gg.put(X, [0], 1.0), gg.ConversionError, "put: expected a Tensor to write to"),
    (lambda: gg.put(gg.tensor(X), [99], 1.0), gg.IndexingError, "put: expected indices from -12 to 11, got 99"),
    (lambda: gg.put(gg.tensor(X), [0], []), gg.ArgumentError, "put: expected at least one value"),
    (lambda: gg.putmask(gg.tensor(X), [True], 1.0), gg.ShapeError, "putmask: expected a mask of 12 elements"),
    (lambda: gg.put_along_axis(gg.tensor(X), np.zeros((2, 2), int), 1.0, 0), gg.ShapeError, "put_along_axis: expected indices"),
    (lambda: gg.fill_diagonal(gg.tensor(X[0]), 1.0), gg.ShapeError, "fill_diagonal: expected a matrix"),
    (lambda: gg.diag(WIDE), gg.ShapeError, "diag: expected a vector or a matrix"),
    (lambda: gg.diagonal(X[0]), gg.ShapeError, "diagonal: expected at least two axes"),
    (lambda: gg.diagonal(X, 0, 1, 1), gg.ArgumentError, "diagonal: expected two different axes"),
    (lambda: gg.tril(1.0), gg.ShapeError, "tril: expected at least one axis"),
    (lambda: gg.unravel_index(99, (3, 4)), gg.IndexingError, "unravel_index: expected positions inside shape"),
    (lambda: gg.sort(1.0), gg.AxisError, "sort: expected at least one axis"),
    (lambda: gg.sort(X, 2), gg.AxisError, "sort: expected an axis"),
    (lambda: gg.sort(X, order="name"), gg.ArgumentError, "sort: expected order=None"),
    (lambda: gg.partition(X, 7), gg.ArgumentError, "partition: expected kth from -4 to 3, got 7"),
    (lambda: gg.searchsorted(X, 1.0), gg.ShapeError, "searchsorted: expected a sorted vector"),
    (lambda: gg.choose([0, 1, 1], [X[0], X[0, :2]]), gg.ShapeError, r"choose: expected shapes that broadcast, got \(3,\) and"),
    (lambda: gg.searchsorted(X[0], 1.0, "up"), gg.ArgumentError, "searchsorted: expected side"),
    (lambda: gg.digitize(1.0, [0.0, 2.0, 1.0]), gg.ArgumentError, "digitize: expected a monotonic vector"),
    (lambda: gg.nonzero(1.0), gg.ShapeError, "nonzero: expected at least one axis"),
    (lambda: gg.vmap(gg.nonzero)(X), gg.ConversionError, "nonzero: expected a value"),
])
def test_bad_input_names_the_operation(f, error, message):
    with pytest.raises(error, match=message):
        f()


@on_cpu                                                     # a GPU would have to wait for the values
@pytest.mark.parametrize(("f", "error", "message"), [
    (lambda: gg.choose([0, 2], [*xp.asarray(X[:2, :2])]), gg.IndexingError, "choose: expected indices from 0 to 1, got 2"),
    (lambda: gg.choose([0, -1], [*xp.asarray(X[:2, :2])]), gg.IndexingError, "choose: expected indices from 0 to 1, got -1"),
    (lambda: gg.bincount([-1, 2]), gg.ArgumentError, "bincount: expected a vector of integers"),
])
def test_bad_values_name_the_operation(f, error, message):
    with pytest.raises(error, match=message):
        f()
