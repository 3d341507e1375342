"""New arrays: NumPy's values and dtypes, the device asked for, and gradients of the values they are made of."""
import numpy as np
import pytest
from agreement import agrees, normal, same
from on_device import assert_close, on_cpu, xp

import gpugrad as gg
from gpugrad import numpy as gnp
from gpugrad.errors import ArgumentError, DeviceError, DtypeError, ShapeError

pytestmark = pytest.mark.usefixtures("device")

CALLS = [
    ("zeros", (3,), {}), ("zeros", ((2, 0),), {"dtype": "f4"}), ("ones", ((),), {}), ("ones", ([2, 3], int), {}),
    ("full", ((2, 3), 1.5), {}), ("full", (2, 7), {}), ("full", ((2, 3), np.arange(3)), {"dtype": "f4"}),
    ("full", ((), True), {}),
    ("zeros_like", (normal(2, 3),), {}), ("ones_like", (np.arange(3),), {}), ("ones_like", (normal(2), "f4"), {"shape": (2, 2)}),
    ("full_like", (np.arange(3), 2.7), {}), ("full_like", (normal(3), 2), {"orders": 0}),
    ("eye", (3,), {}), ("eye", (3, 4, -1), {}), ("eye", (2,), {"dtype": int, "k": 1}), ("identity", (3,), {}),
    ("tri", (3,), {}), ("tri", (3, 4, 1), {}), ("tri", (3, 2, -1), {"dtype": bool}),
    ("arange", (5,), {}), ("arange", (1, 2, 0.25), {}), ("arange", (5, 1, -2), {}), ("arange", (3,), {"dtype": "f4"}),
    ("arange", (3, 1), {}),
    ("linspace", (0, 1), {}), ("linspace", (2.0, 5.0, 4), {}), ("linspace", (2.0, 5.0, 4, False), {}),
    ("linspace", (2.0, 5.0, 1), {}),
    ("linspace", (2.0, 5.0, 0), {}), ("linspace", (0, 9, 4), {"dtype": int}), ("linspace", (0, -9, 4), {"dtype": int}),
    ("linspace", (normal(2), normal(3, 2), 5), {"axis": -1}), ("linspace", (normal(2), 3.0, 5), {"retstep": True}),
    ("linspace", (1 + 2j, 3.0, 3), {}),
    ("logspace", (0.0, 2.0, 3), {}), ("logspace", (0.0, 2.0, 5, False), {"base": 2.0}), ("logspace", (0, 3, 4), {"dtype": int}),
    ("geomspace", (1.0, 8.0, 4), {}), ("geomspace", (-1.0, -8.0, 4, False), {}), ("geomspace", (1.0, 16.0, 1), {}),
    ("array", ([[1, 2], [3, 4]],), {}), ("array", (2.5,), {"ndmin": 2}),
    ("array", ([1, 2.0, True],), {"dtype": "f4", "orders": 0}),
    ("asarray", (normal(2),), {}), ("asarray", ([1, 2], complex), {}), ("copy", (normal(2, 3).T,), {}),
    ("copy", ([True, False],), {}),
    ("ascontiguousarray", (normal(2, 3).T,), {}), ("ascontiguousarray", (1.5,), {}),
    ("astype", (normal(3), np.dtype(complex)), {"orders": 0}), ("astype", (normal(3), int), {}),
    ("astype", (np.arange(3), float), {}),
    ("indices", ((2, 3),), {}), ("indices", ((2, 3), float), {"sparse": True}), ("indices", ((2,), "i4"), {}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS, ids=[f"{i}-{call[0]}" for i, call in enumerate(CALLS)])
def test_function_agrees_with_numpy(name, args, kwargs):
    agrees(name, *args, **{"orders": name not in ("full_like", "zeros_like", "ones_like", "arange"), **kwargs})


def test_empty_arrays_have_shape_and_dtype():
    assert (gnp.empty((2, 3), "f4").shape, gnp.empty((2, 3), "f4").dtype) == ((2, 3), np.float32)
    assert gnp.empty_like(xp.arange(3)).dtype == xp.arange(3).dtype


def test_fromfunction_gets_indices_as_tensors():
    same(gnp.fromfunction(lambda i, j: i * 10 + j, (2, 3)), np.fromfunction(lambda i, j: i * 10 + j, (2, 3)), "fromfunction")


def test_new_arrays_are_on_the_device_asked_for():
    for make in (lambda **k: gnp.zeros(2, **k), lambda **k: gnp.full(2, 1.0, **k), lambda **k: gnp.arange(2, **k),
                 lambda **k: gnp.linspace(0, 1, **k), lambda **k: gnp.asarray([1.0], **k), lambda **k: gnp.ones_like([1.0], **k)):
        assert make(device="cpu").device == "cpu"
        with pytest.raises(DeviceError, match="device: expected"):
            make(device="tpu")
    with gg.device("cpu"):
        assert gnp.ones(2).device == "cpu"


def test_values_of_new_arrays_have_gradients():
    a, b = gg.tensor(2.0, requires_grad=True), gg.tensor(8.0, requires_grad=True)
    gnp.full((2, 3), a).sum().backward()
    assert a.grad.item() == 6
    a.zero_grad()
    gnp.linspace(a, b, 5)[1].backward()
    assert (a.grad.item(), b.grad.item()) == (0.75, 0.25)
    for f in (lambda a, b: gnp.geomspace(a, b, 4).sum(), lambda a, b: gnp.logspace(a / 10, b / 10, 4, base=a).sum(),
              lambda a, b: (gnp.full_like(xp.ones(3), a) * b).sum()):
        gg.check_grads(f, (2.0, 8.0), order=2)


def test_lists_of_tensors_become_tensors_that_keep_their_graph():
    a, b = gg.tensor(2.0, requires_grad=True), gg.tensor([1.0, 3.0], requires_grad=True)
    x = gnp.array([[a, 1.0], [b[0], b[1]]])
    assert x.shape == (2, 2)
    (x * x).sum().backward()
    assert (a.grad.item(), b.grad.tolist()) == (4, [2, 6])
    assert gnp.asarray([np.float32(1), a]).requires_grad


def test_linspace_of_float32_tensors_is_float32():
    assert gnp.linspace(gg.tensor(np.float32(1)), 2, 3).dtype == np.float32


def test_array_copies_and_asarray_does_not():
    x = xp.ones(3)
    t = gg.tensor(x)
    assert not np.shares_memory(gnp.array(x).data, x)
    assert not np.shares_memory(gnp.copy(x).data, x)
    assert not np.shares_memory(gnp.array(t).data, t.data)
    assert np.shares_memory(gnp.asarray(x).data, x)
    assert gnp.asarray(t) is t
    assert not np.shares_memory(gnp.asarray(x, copy=True).data, x)


def test_astype_to_integers_leaves_the_graph_and_between_floats_keeps_it():
    x = gg.tensor([1.7, -2.3], requires_grad=True)
    assert not gnp.astype(x, int).requires_grad
    gnp.astype(x, "f4").sum().backward()
    assert x.grad.dtype == np.float64
    assert x.astype("c8").dtype == np.complex64
    assert gnp.copy(x).requires_grad


@on_cpu
def test_from_dlpack_shares_memory():
    x = xp.arange(3.0)
    t = gnp.from_dlpack(x)
    assert np.shares_memory(t.data, x)
    assert not np.shares_memory(gnp.from_dlpack(x, copy=True).data, x)


def test_creation_inside_vmap_follows_the_batch():
    x = normal(4, 3)
    expected = np.stack([np.linspace(r, 1.0, 5) for r in x])
    x = xp.asarray(x)
    assert_close(gg.vmap(lambda r: gnp.linspace(r, 1.0, 5))(x), expected)
    assert_close(gg.vmap(lambda r: gnp.full_like(r, r[0]) + gnp.ones_like(r))(x), x[:, :1] + xp.ones((4, 3)))


BAD = [
    (lambda: gnp.zeros(-1), ShapeError, r"zeros: expected lengths of at least 0, got shape \(-1,\)"),
    (lambda: gnp.zeros(1.5), DtypeError, "zeros: expected an int or a sequence of ints as shape, got 1.5"),
    (lambda: gnp.zeros(2, dtype="text"), DtypeError, "zeros: expected a dtype, got 'text'"),
    (lambda: gnp.zeros(2, dtype=object), DtypeError, "zeros: expected a numeric dtype, got object"),
    (lambda: gnp.full((2,), normal(3)), ShapeError, "broadcast_to: expected a shape that"),
    (lambda: gnp.eye(2.0), DtypeError, "eye: expected an int as N, got 2.0"),
    (lambda: gnp.arange(1, 2, 0), ArgumentError, "arange: expected a step other than 0"),
    (lambda: gnp.linspace(0, 1, -1), ArgumentError, "linspace: expected num of at least 0, got -1"),
    (lambda: gnp.linspace(0, 1, 2.5), DtypeError, "linspace: expected an int as num, got 2.5"),
    (lambda: gnp.array([[1], [1, 2]]), ArgumentError, "expected numbers in a regular shape"),
    (lambda: gnp.array(["a"]), ArgumentError, "expected numbers, got dtype <U1"),
    (lambda: gnp.astype(normal(2), "text"), DtypeError, "expected a dtype, got 'text'"),
    (lambda: gnp.from_dlpack(3), DtypeError, "from_dlpack: expected an array with __dlpack__, got int"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_argument_is_an_error_that_says_what_was_expected(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_range_moves_with_its_start_and_step():
    f = lambda a, b: np.sum(np.sin(gnp.arange(a, a + 3.0, b)))
    gg.check_grads(f, (xp.asarray(0.3), xp.asarray(0.41)), order=2)
    assert gg.grad(lambda n: np.sum(gnp.arange(n)) * 1.0)(3.0) == 0              # how many there are has no derivative
