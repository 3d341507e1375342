"""grad, vjp, jvp and what is built of them: trees, kinds of arrays, dtypes, complex numbers, Jacobians and Hessians."""
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
from on_device import assert_close, assert_equal, on_cpu, placed, xp

import gpugrad as gg

pytestmark = pytest.mark.usefixtures("device")

Pair = namedtuple("Pair", "a b")


@dataclass(frozen=True)
class Params:
    w: object
    b: object


def test_arrays_in_arrays_out():
    f = lambda x: np.sum(np.sin(x))
    assert type(gg.grad(f)(xp.ones(3))) is xp.ndarray
    assert type(gg.grad(f)(xp.ones(()))) is xp.ndarray
    assert type(gg.grad(f)(gg.tensor([1.0]))) is gg.Tensor
    y, dy = gg.jvp(np.sin, (xp.ones(3),), (xp.ones(3),))
    assert type(y) is type(dy) is xp.ndarray


@on_cpu
def test_numbers_in_numbers_out():
    f = lambda x: np.sum(np.sin(x))
    assert type(gg.grad(f)(1.0)) is np.float64
    assert type(gg.grad(f)(np.float32(1))) is np.float32
    value, _ = gg.value_and_grad(f)(np.ones(3))
    assert type(value) is np.float64


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_dtypes_are_kept(dtype):
    x = xp.linspace(0.1, 1, 5).astype(dtype)
    f = lambda x: np.sum(np.tanh(x * 2.0) / (1 + x ** 2)) * 0.5
    assert gg.grad(f)(x).dtype == dtype
    assert gg.hvp(f, x, x).dtype == dtype
    assert gg.jvp(f, (x,), (x,))[1].dtype == dtype
    assert gg.hessian(f)(x).dtype == dtype


def test_mixed_dtypes_each_get_their_own():
    g32, g64 = gg.grad(lambda a, b: np.sum(a * b), argnums=(0, 1))(xp.ones(3, "f4"), xp.ones(3))
    assert (g32.dtype, g64.dtype) == (np.float32, np.float64)


@pytest.mark.parametrize("tree", [
    {"a": 1.0, "b": [2.0, (3.0,)]}, Pair(1.0, np.ones(2)), Params(np.ones((2, 2)), None), OrderedDict(z=1.0, a=2.0),
    [np.ones(2), {"x": Pair(1.0, 2.0)}], (),
], ids=lambda t: type(t).__name__)
def test_gradients_have_the_tree_of_the_input(tree):
    from gpugrad.trees import flatten
    f = lambda t: sum((np.sum(x * x) for x in flatten(t)[0]), start=gg.tensor(0.0))
    tree = placed(tree)
    g = gg.grad(f)(tree)
    assert type(g) is type(tree)
    for x, gx in zip(flatten(tree)[0], flatten(g)[0], strict=True):
        assert_equal(gx, 2 * x)


def test_argnums_and_aux_and_keywords():
    f = lambda a, b, *, c: (np.sum(a * b) * c, {"product": a * b})
    (ga, gb), aux = gg.grad(f, argnums=(0, -1), has_aux=True)(xp.ones(2), xp.full(2, 3.0), c=2.0)
    assert_equal(ga, [6, 6])
    assert_equal(gb, [2, 2])
    assert list(aux) == ["product"]
    (value, _), g = gg.value_and_grad(f, argnums=1, has_aux=True)(xp.ones(2), xp.ones(2), c=1.0)
    assert value == 2
    assert_equal(g, [1, 1])


def test_aux_comes_back_as_arrays_and_belongs_to_the_graph_outside():
    def f(x):
        return np.sum(x * x), {"sine": np.sin(x), "place": np.argmax(x), "text": "kept"}
    x = xp.asarray([0.5, 1.0])
    for aux in (gg.grad(f, has_aux=True)(x)[1], gg.vjp(f, x, has_aux=True)[2], gg.jvp(f, (x,), (x,), has_aux=True)[2]):
        assert isinstance(aux["sine"], xp.ndarray)
        assert aux["text"] == "kept"
        assert_equal(aux["sine"], xp.sin(x))
    for inner in (lambda x: gg.grad(f, has_aux=True)(x)[1], lambda x: gg.vjp(f, x, has_aux=True)[2],
                  lambda x: gg.jvp(f, (x,), (x,), has_aux=True)[2]):
        outer = lambda x, inner=inner: np.sum(inner(x)["sine"])
        assert_close(gg.grad(outer)(x), xp.cos(x))
        assert_close(gg.jvp(outer, (x,), (xp.ones(2),))[1], xp.cos(x).sum())


@pytest.mark.parametrize("f", [lambda x: np.argmax(x), lambda x: np.sum(x > 0), lambda x: np.all(x > 0)])
def test_a_discrete_output_has_no_gradient(f):
    with pytest.raises(gg.DtypeError, match="grad: expected a float output, got "):
        gg.grad(f)(xp.ones(3))


def test_vjp_of_trees_can_be_pulled_many_times():
    f = lambda a, b: {"sum": a + b, "product": [a * b]}
    y, pull = gg.vjp(f, xp.array([1.0, 2.0]), xp.array([3.0, 4.0]))
    assert_equal(y["product"][0], [3, 8])
    for _ in range(2):
        ga, gb = pull({"sum": xp.ones(2), "product": [xp.array([1.0, 10.0])]})
        assert_equal(ga, [4, 41])
        assert_equal(gb, [2, 21])
    with pytest.raises(gg.ArgumentError, match="vjp: expected the structure dict"):
        pull(xp.ones(2))


def test_jvp_equals_the_transpose_of_vjp():
    rng = np.random.default_rng(0)
    a, b, va, vb = (xp.asarray(rng.normal(size=(3, 3))) for _ in range(4))
    f = lambda a, b: np.tanh(a @ b) / (1 + np.exp(-a))
    y, dy = gg.jvp(f, (a, b), (va, vb))
    g = xp.asarray(rng.normal(size=y.shape))
    ga, gb = gg.vjp(f, a, b)[1](g)
    assert_close(np.sum(g * dy), np.sum(ga * va) + np.sum(gb * vb), rtol=1e-13)


@on_cpu
def test_forward_mode_memory_does_not_grow_with_depth():
    import tracemalloc
    x = xp.ones(50_000)

    def peak(depth):
        def f(x):
            for _ in range(depth):
                x = np.sin(x)
            return x
        tracemalloc.start()
        gg.jvp(f, (x,), (x,))
        try:
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    peak(2)
    assert peak(100) < 1.1 * peak(10)


@pytest.mark.parametrize("mode", ["auto", "reverse", "forward"])
def test_jacobian_of_trees(mode):
    f = lambda p: {"y": np.tanh(p["a"][:, None] * p["b"]), "z": np.sum(p["a"])}
    p = {"a": xp.array([0.1, 0.2]), "b": xp.array([1.0, 2.0, 3.0])}
    j = gg.jacobian(f, mode=mode)(p)
    assert j["y"]["a"].shape == (2, 3, 2)
    assert j["y"]["b"].shape == (2, 3, 3)
    assert_equal(j["z"]["a"], [1, 1])
    assert_equal(j["z"]["b"], [0, 0, 0])
    t = 1 - np.tanh(p["a"][:, None] * p["b"]) ** 2
    assert_close(j["y"]["b"], np.einsum("ij,i,jk->ijk", t, p["a"], xp.eye(3)), rtol=1e-13)


def test_jacobian_of_several_arguments_is_a_tuple():
    ja, jb = gg.jacobian(lambda a, b: a * b, argnums=(0, 1))(xp.array([1.0, 2.0]), xp.array([3.0, 4.0]))
    assert_equal(ja, xp.diag([3, 4]))
    assert_equal(jb, xp.diag([1, 2]))


def test_jacobian_of_scalars_and_empty_arrays():
    assert gg.jacobian(np.sin)(0.5) == np.cos(0.5)
    assert gg.jacobian(np.sin)(xp.zeros(0)).shape == (0, 0)
    assert gg.jacobian(lambda x: x[:0], mode="reverse")(xp.zeros(3)).shape == (0, 3)


def test_hessian_of_rosenbrock():
    def rosenbrock(x):
        return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    x = xp.asarray(np.random.default_rng(0).normal(size=8))
    h = xp.zeros((8, 8))
    for i in range(7):
        h[i, i] += 1200 * x[i] ** 2 - 400 * x[i + 1] + 2
        h[i + 1, i + 1] += 200
        h[i, i + 1] = h[i + 1, i] = -400 * x[i]
    assert_close(gg.hessian(rosenbrock)(x), h, rtol=1e-12, atol=1e-12)
    v = xp.arange(8.0)
    assert_close(gg.hvp(rosenbrock, x, v), h @ v, rtol=1e-12, atol=1e-10)


def test_a_basis_too_large_for_one_go_is_taken_in_pieces(monkeypatch):
    import gpugrad.transforms as transforms
    x = xp.asarray(np.random.default_rng(0).normal(size=7))
    f = lambda x: np.sin(x) * np.sum(x)
    whole = {m: gg.jacobian(f, mode=m)(x) for m in ("forward", "reverse")}
    monkeypatch.setattr(transforms, "BASIS_ELEMENTS", 15)
    for m, expected in whole.items():
        assert_equal(gg.jacobian(f, mode=m)(x), expected)


def test_gauss_newton_product():
    rng = np.random.default_rng(0)
    a, x, v = xp.asarray(rng.normal(size=(5, 3))), xp.asarray(rng.normal(size=3)), xp.asarray(rng.normal(size=3))
    f = lambda x: np.tanh(a @ x)
    j = gg.jacobian(f)(x)
    assert_close(gg.gnvp(f, x, v), j.T @ j @ v, rtol=1e-12)
    loss = lambda y: np.sum(np.exp(y))
    assert_close(gg.gnvp(f, x, v, loss), j.T @ (np.exp(f(x)) * (j @ v)), rtol=1e-12)


def test_complex_gradients_are_the_direction_of_steepest_ascent():
    z = xp.array([1 + 2j, -0.5 + 0.3j])
    assert_close(gg.grad(lambda z: np.sum(np.abs(z) ** 2))(z), 2 * z)
    c = 2 - 1j
    assert_close(gg.grad(lambda z: np.sum(np.real(c * z)))(z), np.conj(c) * xp.ones(2))
    assert_close(gg.grad(lambda x: np.sum(np.abs(np.exp(1j * x) + 1) ** 2))(xp.array([0.3])), [-2 * np.sin(0.3)])
    assert_close(gg.jacobian(np.exp)(z), xp.diag(np.exp(z)))
    assert_close(gg.jacobian(np.exp, mode="forward")(z), xp.diag(np.exp(z)))
    assert_close(gg.jacobian(lambda x: np.exp(1j * x))(xp.array([0.3])), [[1j * np.exp(0.3j)]])
    with pytest.raises(gg.DtypeError, match="grad: expected a real output, got complex128"):
        gg.grad(np.sum)(z)


def test_check_grads_accepts_the_right_and_rejects_the_wrong(device):
    order = 3 if device.kind == "cpu" else 2                # the third takes nine seconds on the simulated device
    gg.check_grads(lambda x, y: np.sin(x) @ y, (xp.ones((2, 3)), xp.ones(3)), order=order)
    wrong = gg.primitive(lambda x: np.sin(x), vjp=lambda g, y, x: g * np.cos(x) * 1.01, jvp=lambda ts, y, x: ts[0] * np.cos(x))
    with pytest.raises(gg.GradientError, match="reverse mode of f"):
        gg.check_grads(wrong, (xp.ones(3),), order=1)
    nan = gg.primitive(lambda x: np.sin(x), jvp=lambda ts, y, x: ts[0] * np.nan)
    with pytest.raises(gg.GradientError, match="forward mode of f"):
        gg.check_grads(nan, (xp.ones(3),), order=1, modes=("forward",))
    second = gg.primitive(lambda x: x ** 3, vjp=lambda g, y, x: g * (3 * x.detach() ** 2),
                          jvp=lambda ts, y, x: ts[0] * 3 * x ** 2)
    gg.check_grads(second, (xp.ones(2),), order=1)
    with pytest.raises(gg.GradientError):
        gg.check_grads(second, (xp.ones(2),), order=2)


@pytest.mark.parametrize("result", ["a", None, object(), np.array("a"), True, np.int64(3), 1j, (1.0, 2.0)], ids=repr)
@pytest.mark.parametrize(("name", "call"), [
    ("grad", lambda f, x: gg.grad(f)(x)), ("grad", lambda f, x: gg.hessian(f)(x)), ("hvp", lambda f, x: gg.hvp(f, x, x))])
def test_an_output_without_a_gradient_is_refused_by_name(name, call, result):
    with pytest.raises(gg.DtypeError, match=rf"^{name}: expected .*, got .*\. "):
        call(lambda x: result, xp.ones(2))


@pytest.mark.parametrize("result", ["a", object(), np.array("a")], ids=repr)
@pytest.mark.parametrize(("name", "call"), [
    ("vjp", lambda f, x: gg.vjp(f, x)), ("jvp", lambda f, x: gg.jvp(f, (x,), (x,))), ("vmap", lambda f, x: gg.vmap(f)(x)),
    ("vjp", lambda f, x: gg.jacobian(f)(x)), ("check_grads", lambda f, x: gg.check_grads(f, (x,)))])
def test_an_output_that_is_no_number_is_refused_by_name(name, call, result):
    with pytest.raises(gg.DtypeError, match=rf"^{name}: expected a function that returns .*, got .*\. Return a Tensor"):
        call(lambda x: result, xp.ones(2))


def test_a_constant_number_has_no_slope():
    for f in (lambda x: 3, lambda x: 3.0):
        assert_equal(gg.grad(f)(xp.ones(2)), [0, 0])
        assert_equal(gg.hvp(f, xp.ones(2), xp.ones(2)), [0, 0])
