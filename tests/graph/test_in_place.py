"""In-place operations are differentiable assignments; a saved array that changed is an error, never a wrong gradient."""
import copy

import numpy as np
import pytest
from on_device import assert_close, assert_equal, on_cpu, xp

import gpugrad as gg

pytestmark = pytest.mark.usefixtures("device")


def test_augmented_assignment_rebinds_the_name():
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 3.0
    old = y
    z = np.exp(y)
    y += x
    y *= 2.0
    y -= 1.0
    y /= 4.0
    y **= 2
    (y.sum() + z.sum()).backward()
    a = x.data
    assert_close(x.grad.numpy(), 2 * (8 * a - 1) / 4 * 2 + 3 * np.exp(3 * a))
    assert old is y


def test_setitem_is_differentiable_in_both():
    x = gg.tensor(xp.arange(1.0, 7.0).reshape(2, 3), requires_grad=True)
    v = gg.tensor([10.0, 20.0], requires_grad=True)
    y = x * 1.0
    y[:, 1] = v
    (y ** 2).sum().backward()
    assert_equal(x.grad.numpy(), [[2, 0, 6], [8, 0, 12]])
    assert_equal(v.grad.numpy(), [20, 40])


def test_an_array_filled_in_a_loop():
    def f(x):
        out = gg.zeros(5)
        for i in range(5):
            out[i] = x[i % 2] * (i + 1.0)
        return np.sum(out * out)
    x = xp.array([2.0, 3.0])
    assert_close(gg.grad(f)(x), [2 * 2 * (1 + 9 + 25), 2 * 3 * (4 + 16)])
    assert_close(gg.jvp(f, (x,), (xp.ones(2),))[1], 2 * 2 * 35 + 2 * 3 * 20)
    assert_close(gg.hessian(f)(x), xp.diag([70, 40]))


def test_a_saved_value_survives_an_assignment_to_its_name():
    x = gg.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1.0
    z = y * y                                       # saves y
    y[0] = 100.0
    z.sum().backward()
    assert_equal(x.grad.numpy(), [2, 4])


def test_a_leaf_assigned_to_keeps_the_gradient_of_its_first_value():
    x = gg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    x[1] = 5.0
    (x * x).sum().backward()
    assert_equal(x.grad.numpy(), [2, 0, 6])


def test_an_update_under_no_grad_writes_the_buffer():
    w = gg.tensor([1.0, 2.0], requires_grad=True)
    buffer = w.data
    (w * w).sum().backward()
    with gg.no_grad():
        w -= 0.5 * w.grad
        w[0] += 7.0
    assert w.data is buffer
    assert w.is_leaf
    assert w.requires_grad
    assert_equal(buffer, [7, 0])


@pytest.mark.parametrize("change", [
    lambda w: w.__isub__(1.0), lambda w: w.__setitem__(0, 9.0), lambda w: np.add(w, 1.0, out=w), lambda w: w.fill(0.0),
    lambda w: setattr(w, "data", np.subtract(w.data, 1.0, out=w.data)),
], ids=["-=", "setitem", "out=", "fill", "data -="])
def test_a_saved_array_that_was_changed_is_an_error_that_names_the_operation(change):
    w = gg.tensor([1.0, 2.0], requires_grad=True)
    y = np.sin(w)
    with gg.no_grad():
        change(w)
    with pytest.raises(gg.GraphError, match=r"sin: expected its saved array of shape \(2,\) as it was, got one that was changed"):
        y.sum().backward()


def test_a_change_seen_through_a_view_is_found():
    w = gg.tensor(xp.ones((3, 2)), requires_grad=True)
    y = np.sin(w.T).sum()
    with gg.no_grad():
        w += 1.0
    with pytest.raises(gg.GraphError, match="changed in place"):
        y.backward()


def test_a_change_that_no_rule_reads_is_fine():
    w = gg.tensor([1.0, 2.0], requires_grad=True)
    y = (w + 1.0).sum()
    with gg.no_grad():
        w += 1.0
    y.backward()
    assert_equal(w.grad.numpy(), [1, 1])


def test_a_callers_array_may_change_before_backward():
    c = xp.array([1.0, 2.0])
    x = gg.tensor([3.0, 4.0], requires_grad=True)
    y = np.sum(x * c + np.multiply(c, x))
    c[:] = 99
    y.backward()
    assert_equal(x.grad.numpy(), [2, 4])
    _, pull = gg.vjp(lambda a: a * a, c)
    c[:] = 0
    assert_equal(pull(xp.ones(2))[0], [198, 198])


def test_an_index_array_may_change_before_backward():
    i = xp.array([0, 1, 1])
    x = gg.tensor([3.0, 4.0], requires_grad=True)
    y = x[i].sum()
    i[:] = 0
    y.backward()
    assert_equal(x.grad.numpy(), [1, 2])


def test_assignment_keeps_shape_and_dtype():
    x = gg.tensor(xp.ones(3, "f4"))
    x += xp.ones(3)
    assert x.dtype == np.float32
    with pytest.raises(gg.ShapeError, match=r"add: expected a result of shape \(3,\) to assign in place, got \(2, 3\)"):
        x += xp.ones((2, 3))
    n = gg.tensor([1, 2])
    with pytest.raises(gg.DtypeError, match="add: expected a result that fits dtype int64 in place, got float64"):
        n += 0.5


def test_a_bare_array_is_no_place_for_a_tensor():
    a = xp.zeros(2)
    t = gg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(TypeError, match=r"expected a Tensor to write to|Unsupported type"):      # CuPy answers by itself
        a += t


def test_changing_a_result_under_no_grad_is_refused():
    x = gg.tensor([1.0], requires_grad=True)
    y = x * 2.0
    with gg.no_grad(), pytest.raises(gg.GraphError, match="expected a leaf to change in place under no_grad"):
        y *= 3.0


def test_sort_and_out_assign():
    x = gg.tensor([3.0, 1.0, 2.0], requires_grad=True)
    y = x * 1.0
    y.sort()
    (y * xp.array([1.0, 10.0, 100.0])).sum().backward()
    assert_equal(x.grad.numpy(), [100, 1, 10])
    out = gg.zeros(3)
    z = np.multiply(x, 2.0, out=out)
    assert z is out
    assert out.requires_grad


def test_a_function_that_assigns_to_its_argument():
    def f(a):
        a[0] = 5.0
        a *= 2
        return (a * a).sum()
    x = xp.array([0.3, 0.7, 1.0])
    expected = xp.array([0.0, 8.0, 8.0]) * x
    assert_close(gg.grad(f)(x), expected)
    assert_close(gg.vjp(f, x)[1](xp.ones(()))[0], expected)
    assert_close(gg.jvp(f, (x,), (xp.ones(3),))[1], expected.sum())
    assert_close(gg.hvp(f, x, xp.ones(3)), xp.array([0.0, 8.0, 8.0]))
    assert_equal(x, xp.array([0.3, 0.7, 1.0]))             # the caller's array is left alone


@pytest.mark.parametrize("ufunc", [np.add, np.multiply, np.sqrt, np.less])
def test_out_keeps_what_it_holds_where_the_mask_is_false(ufunc):
    x = xp.asarray([1.0, 4.0, 9.0])
    mask = np.array([True, False, True])

    def f(x, ufunc=ufunc):
        y = x * 2.0 if ufunc is not np.less else x > 2.0
        inputs = (x,) if ufunc is np.sqrt else (x, x)
        result = ufunc(*inputs, out=y, where=gg.asarray(mask, device=gg.default_device()))
        assert result is y
        return y
    expected = np.where(mask, ufunc(*[np.array([1.0, 4.0, 9.0])] * ufunc.nin), [2.0, 8.0, 18.0] if ufunc is not np.less else True)
    assert_equal(f(gg.tensor(x)), expected)
    if ufunc is not np.less:
        gg.check_grads(f, (x,), order=2)


@pytest.mark.eager("compiled, the pullback runs the function again")
@pytest.mark.parametrize("pick", [
    lambda z, i: np.take(z, i), lambda z, i: z[i], lambda z, i: gg.nn.embedding(i, z.reshape(3, 1)),
    lambda z, i: np.take_along_axis(z, i, 0), lambda z, i: np.choose(i, [z, z * z, z]), lambda z, i: z[gg.reshape(i, (3, 1))]])
def test_places_may_be_overwritten_before_the_backward_sweep(pick):
    x, places = xp.asarray([1.0, 2.0, 3.0]), xp.asarray([0, 1, 1])
    expected = gg.grad(lambda z: np.sum(pick(z, places)))(x)
    _, pull = gg.vjp(lambda z: np.sum(pick(z, places)), x)
    places[:] = 2
    assert_equal(pull(1.0)[0], expected)


def test_methods_take_numpys_arguments_in_numpys_order():
    x = gg.tensor(xp.arange(6.0).reshape(2, 3))
    assert_equal(x.compress([True, False], 0), [[0, 1, 2]])
    assert_equal(x[0].compress([False, True, True]), [1, 2])
    assert_equal(x.reshape((3, 2), order="F"), [[0, 4], [3, 2], [1, 5]])
    assert_equal(x.flatten("F"), [0, 3, 1, 4, 2, 5])


@pytest.mark.eager("writes to an array behind the function's back, which no program does")
@pytest.mark.parametrize("transform", [gg.grad, gg.value_and_grad])
def test_a_function_may_not_write_to_the_array_it_is_differentiated_at(transform):
    x = np.arange(3.0)

    def f(t):
        y = t * t
        x[0] = 7
        return y.sum()
    with pytest.raises(ValueError, match="read-only"):
        transform(f)(x)
    x[0] = 7                                              # outside it is as it was
    assert_equal(gg.grad(lambda t: (t * t).sum())(x), 2 * x)
    x[0] = 8


# a loop that writes every row -----------------------------------------------------------------------------------------

def written_by_rows(x, y):
    for i in range(len(x)):
        y[i] = x[i] * x[i]
    return y


@on_cpu
def test_rows_are_written_to_one_buffer():
    x, y = gg.tensor(np.arange(6.0).reshape(3, 2), requires_grad=True), gg.zeros((3, 2))
    address = y._data.ctypes.data
    written_by_rows(x, y)
    assert y._data.ctypes.data == address
    y[1:, 0] = 5
    y[np.int64(0), ...] = [1.0, 2.0]
    assert y._data.ctypes.data == address
    y.backward(np.ones((3, 2)))
    assert_equal(y.data, [[1, 2], [5, 9], [5, 25]])
    assert_equal(x.grad.data, [[0, 0], [0, 6], [0, 10]])


@on_cpu
@pytest.mark.parametrize(("see", "follows"), [
    (lambda y: y[0], True), (lambda y: y.T, True), (lambda y: y.reshape(-1)[::2], True), (lambda y: y * y, False),
    (lambda y: np.exp(y), False), (copy.copy, False)], ids=["row", "transposed", "view of view", "saved", "result", "copied"])
def test_rows_are_written_elsewhere_where_somebody_sees_the_buffer(see, follows):
    def f(x):
        y = x * 1.0
        seen = see(y)
        y[1] = x[0] * 3
        y[0] = y[1] * x[2]
        return (y * y).sum() + (seen * seen).sum()

    def of_new_arrays(x):
        new = np.stack([x[0] * 3 * x[2], x[0] * 3, x[2]])
        seen = see(new if follows else x)
        return (new * new).sum() + (seen * seen).sum()
    x = np.arange(1.0, 7.0).reshape(3, 2)
    for transform in (lambda f: gg.value_and_grad(f)(x), lambda f: gg.jvp(f, (x,), (x,)), lambda f: (gg.hvp(f, x, x),)):
        for got, want in zip(transform(f), transform(of_new_arrays), strict=True):
            assert_close(got, want)


def test_writing_rows_leaves_the_callers_cotangent_alone():
    y, pull = gg.vjp(lambda x: written_by_rows(x, gg.zeros((3, 2))), xp.ones((3, 2)))
    g = xp.ones((3, 2))
    for _ in range(2):
        assert_equal(pull(g)[0], 2 * xp.ones((3, 2)))
        assert_equal(g, xp.ones((3, 2)))
    assert_equal(y, xp.ones((3, 2)))
