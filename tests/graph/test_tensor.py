"""A Tensor never becomes a bare array behind your back; what it shows and how it is made."""
import copy
import math
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from on_device import assert_close, assert_equal, on_cpu, xp

import gpugrad as gg

pytestmark = pytest.mark.usefixtures("device")


@pytest.fixture
def x():
    return gg.tensor([1.0, 2.0, 3.0], requires_grad=True)


@pytest.mark.parametrize("convert", [
    np.asarray, np.array, lambda t: t.numpy(), lambda t: np.from_dlpack(t), lambda t: float(t[0]), lambda t: math.sin(t[0]),
    lambda t: complex(t[0]), lambda t: int(t[0]), lambda t: np.zeros(3).__setitem__(slice(None), t),
    lambda t: [1, 2, 3][t[0]], lambda t: list(map(float, t)), pickle.dumps,
], ids=["asarray", "array", "numpy()", "dlpack", "float", "math.sin", "complex", "int", "setitem", "index", "map",
        "pickle"])
def test_implicit_conversion_of_a_tensor_that_needs_a_gradient_is_refused(x, convert):
    with pytest.raises(gg.ConversionError, match=r"expected .*, got .*\. Use "):
        convert(x)


@on_cpu
def test_assigning_to_an_element_of_a_bare_array_is_refused(x):
    with pytest.raises(ValueError, match="setting an array element") as caught:      # NumPy's own error, ours behind it
        np.zeros(3)[0] = x[0]
    assert isinstance(caught.value.__cause__, gg.ConversionError)


@pytest.mark.parametrize("name", ["__cuda_array_interface__", "__cupy_get_ndarray__", "__array_interface__", "__array_struct__"])
def test_no_protocol_hands_out_the_bare_array(x, name):
    assert not hasattr(x, name)


@on_cpu
def test_a_tensor_outside_the_graph_converts(x):
    t = x.detach()
    assert xp.asarray(t) is not None
    assert_equal(xp.asarray(t), [1, 2, 3])
    assert_equal(np.from_dlpack(t), [1, 2, 3])
    assert math.sin(t[0]) == math.sin(1)
    assert np.shares_memory(t.numpy(), x.data)
    assert x[0].item() == 1.0
    assert x.tolist() == [1, 2, 3]
    assert [10, 20, 30][gg.tensor(2)] == 30


def test_control_flow_on_a_value_is_allowed(x):
    assert (x[0] if x[0] > 0 else -x[0]).item() == 1
    with pytest.raises(gg.ShapeError, match=r"bool: expected one element, got shape \(3,\)"):
        bool(x)


def test_tensor_copies_and_asarray_shares():
    a = xp.ones(3)
    assert not np.shares_memory(gg.tensor(a).data, a)
    assert np.shares_memory(gg.asarray(a).data, a)
    t = gg.tensor(a)
    assert gg.asarray(t) is t


@pytest.mark.parametrize(("data", "dtype"), [(1.0, "f8"), (1, "i8"), (True, "?"), (1j, "c16"), ([1, 2.5], "f8"),
                                             (np.float32(2), "f4"), (np.ones(2, "f4"), "f4"), ([[1], [2]], "i8"), ([], "f8")])
def test_dtypes_follow_numpy(data, dtype):
    assert gg.tensor(data).dtype == dtype
    assert gg.tensor(data, dtype="c8").dtype == np.complex64


@on_cpu
def test_subclasses_of_ndarray_become_plain_arrays():
    class Matrix(np.ndarray):
        def __mul__(self, other):
            return self @ other
    t = gg.tensor(xp.array([[1.0, 2.0]]).view(Matrix))
    assert type(t.data) is np.ndarray
    assert (t * t).tolist() == [[1, 4]]


@on_cpu
def test_repr_shows_value_dtype_and_origin(x):
    assert repr(gg.tensor([1.0, 2.0])) == "tensor([1., 2.])"
    assert repr(x) == "tensor([1., 2., 3.], requires_grad=True)"
    assert repr(x * 2) == "tensor([2., 4., 6.], from=multiply)"
    assert repr(gg.tensor(np.float32(1))) == "tensor(1., dtype=float32)"
    assert f"{gg.tensor(1.23456):.2f}" == "1.23"
    assert f"{(x * 2).sum():.1f}" == "12.0"


def test_outputs_of_several_name_the_operation_too():
    x = gg.tensor([3.0, 1.0], requires_grad=True)
    loss = gg.nn.cross_entropy(x[None], gg.tensor([0]))
    assert repr(loss).endswith("from=mean_cross_entropy)")
    with pytest.raises(gg.GraphError, match="result of mean_cross_entropy"):
        gg.optim.SGD([loss], lr=1)
    with pytest.raises(gg.GraphError, match="result of mean_cross_entropy"):
        copy.deepcopy(loss)


def test_detach_shares_and_leaves_the_graph(x):
    d = (x * 2).detach()
    assert not d.requires_grad
    assert x.detach().data is x.data


def test_copies(x):
    twin = copy.deepcopy(x)
    assert twin.requires_grad
    assert not np.shares_memory(twin.data, x.data)
    with pytest.raises(gg.GraphError, match="deepcopy: expected a leaf"):
        copy.deepcopy(x * 2)


def test_requires_grad_can_be_switched_on_leaves(x):
    x.requires_grad = False
    assert not (x * 2).requires_grad
    x.requires_grad = True
    assert x.is_leaf
    y = x * 2
    with pytest.raises(gg.GraphError, match="requires_grad: expected a leaf, got the result of multiply"):
        y.requires_grad = False


def test_grad_has_its_tensors_shape(x):
    x.grad = xp.ones(3)
    assert isinstance(x.grad, gg.Tensor)
    with pytest.raises(gg.ShapeError, match=r"grad: expected shape \(3,\), got \(2,\)"):
        x.grad = xp.ones(2)
    x.grad = None
    assert x.grad is None


def test_grad_has_its_tensors_dtype():
    x = gg.tensor(xp.ones(2, "f4"), requires_grad=True)
    x.grad = xp.array([1.0, 2.0])
    x.sum().backward()
    assert (x.grad.dtype, x.grad.tolist()) == (np.float32, [2, 3])
    with pytest.raises(gg.DtypeError, match="grad: expected dtype float32, got complex128"):
        x.grad = xp.ones(2) * 1j


def test_no_grad_records_nothing_and_nests(x):
    with gg.no_grad():
        assert not (x * 2).requires_grad
        with gg.enable_grad():
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad

    @gg.no_grad()
    def f():
        return x * 2
    assert not f().requires_grad
    assert (x * 2).requires_grad
    assert gg.is_grad_enabled()


def test_modes_belong_to_their_thread(x):
    entered, leave = threading.Event(), threading.Event()

    def other():
        with gg.no_grad():
            entered.set()
            leave.wait(5)
            return (x * 2).requires_grad
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(other)
        entered.wait(5)
        assert (x * 2).requires_grad
        leave.set()
        assert result.result() is False


def test_threads_may_sweep_one_graph_at_once():
    x = gg.tensor(xp.arange(1.0, 6.0), requires_grad=True)
    y = np.sum(np.sin(x) * x)

    def work(_):
        return gg.grad(lambda z: np.sum(np.sin(z) * z))(x.data), gg.hvp(lambda z: np.sum(z ** 3), x.data, x.data)
    with ThreadPoolExecutor(8) as pool:
        for g, h in pool.map(work, range(64)):
            assert_close(g, np.cos(x.data) * x.data + np.sin(x.data))
            assert_close(h, 6 * x.data ** 2)
    y.backward()


def test_a_tensor_cannot_be_subclassed():
    with pytest.raises(TypeError, match="Hold a Tensor in your class instead"):
        type("Mine", (gg.Tensor,), {})


def test_unpacking_and_membership(x):
    a, b, c = x * 2
    assert (a * b * c).item() == 48
    (a * b * c).backward()
    assert_close(x.grad.numpy(), [48, 24, 16])
    assert 2.0 in x
    assert len(x) == 3


@on_cpu
def test_a_memmap_or_a_read_only_array_is_an_array(tmp_path):
    for x in (np.memmap(tmp_path / "x", dtype="f8", mode="w+", shape=(3,)), np.ones(3)):
        x[:] = [1.0, 2.0, 3.0]
        x.flags.writeable = False
        g = gg.grad(lambda t, x=x: np.sum(t * t * x))(x)
        assert type(g) is np.ndarray
        np.testing.assert_array_equal(g, [2.0, 8.0, 18.0])


def test_a_shallow_copy_of_a_leaf_is_a_leaf_of_its_own():
    t = gg.tensor([1.0, 2.0], requires_grad=True)
    twin = copy.copy(t)
    (twin * twin).sum().backward()
    assert t.grad is None
    assert_equal(twin.grad, [2, 4])


def test_copies_inside_jvp_and_vmap_keep_what_they_carry():
    f = lambda t: np.sum(copy.copy(t) ** 2)
    x = xp.asarray([1.0, 2.0])
    assert gg.jvp(f, (x,), (x,))[1] == 10
    assert_equal(gg.vmap(lambda t: copy.copy(t) * 2)(x), [2, 4])
    with pytest.raises(gg.GraphError, match="deepcopy: expected a leaf, got the result of dual"):
        gg.jvp(copy.deepcopy, (x,), (x,))
