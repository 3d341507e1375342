"""Functions of every make: methods, generators, trees, closures, threads, errors half way. Compiled is eager, kinds and texts."""
import dataclasses
import functools
import importlib.util
import threading
from typing import NamedTuple

import numpy as np
import pytest
from flat_support import ROW, V, X, same

import gpugrad as gg

LLVM = importlib.util.find_spec("llvmlite") is not None


@pytest.fixture(params=["numpy", pytest.param("llvm", marks=pytest.mark.skipif(not LLVM, reason="needs the extra jit"))])
def backend(request):
    return request.param


# arguments and results -----------------------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Layer:
    weight: object
    bias: object = None
    name: str = "layer"


class Pair(NamedTuple):
    left: object
    right: object


def total(tree):
    return sum(gg.sum(gg.tanh(x)) for x in gg.trees.flatten(tree)[0] if not isinstance(x, str))


TREES = {
    "dict": {"b": X, "a": ROW},
    "dataclass": Layer(X, ROW),
    "nested": [Layer({"w": X}, (ROW, None)), Pair(ROW, [V])],
    "tensors": {"w": gg.tensor(X), "v": gg.tensor(ROW)},
}


@pytest.mark.parametrize("name", TREES)
def test_trees(name, backend):
    tree = TREES[name]

    def twice(t):
        return gg.trees.map_tree(lambda x: x if isinstance(x, str) else x * 2, t)
    compiled = gg.compile(twice, backend=backend)
    for _ in range(2):
        found, expected = compiled(tree), twice(tree)
        assert type(found) is type(expected)
        leaves = [[x for x in gg.trees.flatten(t)[0] if not isinstance(x, str)] for t in (found, expected)]
        same(*leaves)
    assert compiled.programs == 1


def test_gradients_of_dataclasses(backend):
    f = gg.grad(lambda layer: gg.sum(gg.tanh(X @ layer.weight + layer.bias)))
    layer = Pair(ROW, ROW)
    g = gg.grad(lambda p: gg.sum(gg.sin(p.left) * p.right))
    same(gg.compile(g, backend=backend)(layer), g(layer))
    pair = dataclasses.make_dataclass("Two", ["weight", "bias"])(np.ones((4, 2)), np.ones(2))
    found, expected = gg.compile(f, backend=backend)(pair), f(pair)
    assert type(found) is type(expected)
    same([found.weight, found.bias], [expected.weight, expected.bias])


@pytest.mark.parametrize("f", [
    lambda x: None,
    lambda x: x,
    lambda x: 3,
    lambda x: (x, None, "text", 2.5, True),
    lambda x: [],
    lambda x: {"x": x, "shape": x.shape, "dtype": x.dtype},
    lambda x: x.sum(),
    lambda x: x[0, 0] * 2,
    lambda x: np.float32(2.0),
    lambda x: (x * 2)[()],
    lambda x: x.max() > 0,
    lambda x: (x > 0).any(),
    lambda x: np.arange(3),
    lambda x: len(x),
    lambda x: x[0, 1],
    lambda x: x[0, 1, ...],
    lambda x: x[0][np.array(2)],
    lambda x: (x[0, 1] * 3).astype("f4"),
    lambda x: gg.cond(x.sum() > 0, lambda v: v * 2, lambda v: -v, x),
    lambda x: gg.cond(x.sum() > 0, lambda v: v.sum(), lambda v: v.max(), x),
])
@pytest.mark.parametrize("make", [lambda: X, lambda: gg.tensor(X)])
def test_results_are_of_the_functions_kind(f, make, backend):
    x = make()
    compiled = gg.compile(f, backend=backend)
    for _ in range(2):
        found, expected = compiled(x), f(x)
        ours, theirs = gg.trees.flatten(found)[0], gg.trees.flatten(expected)[0]
        assert type(found) is type(expected) and len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert type(a) is type(b)
            if isinstance(b, gg.Tensor | np.ndarray | np.generic):
                same(a, b)
            else:
                assert a == b
        if expected is x:
            assert found is x


@pytest.mark.parametrize("a", [np.float64(2.0), np.float32(2.0), np.array(2.0), np.int64(3), 2.0, 3, True, 1 + 2j,
                               np.complex128(2j)])
def test_numbers_of_every_kind(a, backend):
    for f in (lambda x, a: x * a, lambda x, a: a + 1, lambda x, a: (a * 2 - 1) / 3, lambda x, a: gg.sum(x * a),
              lambda x, a: np.sin(a) + 1, lambda x, a: abs(a)):
        expected, found = f(X, a), gg.compile(f, backend=backend)(X, a)
        assert type(found) is type(expected)
        if isinstance(expected, gg.Tensor | np.ndarray | np.generic):
            same(found, expected)
        else:
            assert found == expected


def test_gradients_keep_the_precision_of_complex_numbers(backend):
    z = (X[0] + 1j * X[1]).astype("c8")
    size = lambda y: gg.sum(y * y.conj()).real
    for f in (lambda a: gg.grad(lambda a: size(2j * a))(a), lambda a: gg.grad(lambda a: size(gg.setitem(a * 1, 0, 2.5)))(a),
              lambda a: gg.jvp(gg.grad(lambda a: size(a * 2)), (a,), (a,))[1], gg.grad(lambda a: gg.mean(a * a).imag)):
        found, expected = gg.compile(f, backend=backend)(z), f(z)
        assert found.dtype == expected.dtype == "c8"
        same(found, expected, "f4")


@pytest.mark.parametrize("dtype", ["f2", "i4", "?", "c8"])
def test_means_of_every_dtype(dtype, backend):
    same(gg.compile(lambda x: gg.mean(x, axis=0), backend=backend)(X.astype(dtype)), gg.mean(X.astype(dtype), axis=0), "f4")


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu_at_the_infinities(approximate, backend):
    x = np.array([-np.inf, np.inf, -1e30, 300.0, np.nan, -0.0])
    f = lambda x: gg.nn.gelu(x, approximate=approximate)
    for g in (f, gg.grad(lambda x: gg.sum(f(x)))):
        same(gg.compile(g, backend=backend)(x), g(x))


@pytest.mark.parametrize("a", [np.float64(2.0), np.array(2.0), 2.0, np.float32(2.0)])
def test_gradients_for_numbers(a, backend):
    f = gg.value_and_grad(lambda a, x: gg.sum(gg.sin(a * x)))
    found, expected = gg.compile(f, backend=backend)(a, X), f(a, X)
    assert [type(x) for x in found] == [type(x) for x in expected]
    same(found, expected, "f4")


def test_in_place_on_numbers_leaves_other_names(backend):
    def f(a):
        b = a
        a += 1.0
        return a, b
    same(gg.compile(f, backend=backend)(np.float64(2.0)), f(np.float64(2.0)))


def test_keywords_and_defaults(backend):
    def f(x, scale=2.0, *, shift=None, power=1):
        y = x ** power * scale
        return y if shift is None else y + shift
    compiled = gg.compile(f, backend=backend)
    for kwargs in ({}, {"scale": 3.0}, {"shift": ROW}, {"shift": ROW * 2, "power": 2}, {"scale": np.float64(3)}):
        for _ in range(2):
            same(compiled(X, **kwargs), f(X, **kwargs))
    assert compiled.programs == 5
    with pytest.raises(TypeError) as eager:
        f(X, wrong=1)
    with pytest.raises(TypeError) as found:
        compiled(X, wrong=1)
    assert str(found.value) == str(eager.value)


def test_methods_callables_and_partials(backend):
    class Model:
        def __init__(self):
            self.w = gg.tensor(ROW, requires_grad=True)

        def loss(self, x):
            return gg.sum(gg.tanh(x * self.w))

        def __call__(self, x):
            return self.loss(x) * 2
    model = Model()
    for f in (model.loss, model, functools.partial(Model.loss, model), functools.partial(lambda x, k: x * k, k=ROW)):
        expected = f(X)
        expected = expected.detach() if isinstance(expected, gg.Tensor) else expected
        same(gg.compile(f, backend=backend)(X), expected)
    model.w.data = ROW * 2
    compiled = gg.compile(model.loss, backend=backend)
    same(compiled(X), model.loss(X).detach())


def test_compiled_methods_belong_to_their_instance(backend):
    class Model:
        def __init__(self, w):
            self.w = gg.tensor(w, requires_grad=True)

        @functools.partial(gg.compile, backend=backend, static_argnums=2)
        def loss(self, x, power):
            return gg.sum(gg.tanh(x * self.w) ** power)

        @staticmethod
        @gg.compile
        def twice(x):
            return x * 2
    a, b = Model(ROW), Model(ROW * 2)
    for _ in range(2):
        for model in (a, b):
            for power in (1, 2):
                same(model.loss(X, power), gg.sum(gg.tanh(X * model.w) ** power).detach())
    assert a.loss is a.loss and a.loss.programs == b.loss.programs == 2
    assert "tanh" in a.loss.program(X, 2).source
    assert isinstance(Model.loss, type(a.loss)) and Model.twice(ROW).tolist() == (ROW * 2).tolist()


def test_generators_inside(backend):
    def powers(x):
        y = x
        while True:
            yield y
            y = y * x

    def f(x):
        found = powers(x)
        return sum(next(found) for _ in range(4)), [a * b for a, b in zip(range(3), powers(x), strict=False)]
    same(gg.compile(f, backend=backend)(X), f(X))


# state -----------------------------------------------------------------------------------------------------------------------

def training(kind, dtype="f8", **options):
    r = np.random.default_rng(0)
    params = {"w": gg.tensor(r.standard_normal((4, 3)).astype(dtype), requires_grad=True),
              "b": gg.tensor(np.zeros(3, dtype), requires_grad=True)}
    optimiser = kind(list(params.values()), **options)
    return params, optimiser


def test_clipped_gradients_and_a_schedule(backend):
    states = []
    for make in (lambda f: f, lambda f: gg.compile(f, backend=backend)):
        params, optimiser = training(gg.optim.Adam, lr=0.1)

        def step(x, params=params, optimiser=optimiser):
            optimiser.zero_grad()
            loss = gg.sum(gg.tanh(x @ params["w"] + params["b"]) ** 2)
            loss.backward()
            norm = gg.optim.clip_grad_norm(list(params.values()), 0.5)
            optimiser.step()
            return loss.detach(), norm
        run = make(step)
        seen = []
        for i in range(6):
            optimiser.lr = 0.1 / (1 + i)                            # a schedule outside
            seen.append(run(gg.tensor(X * (i + 1))))
        states.append((seen, [p.data for p in params.values()]))
        if run is not step:
            assert run.programs == 1
    same(states[0][0], [tuple(s) for s in states[1][0]])
    same(states[0][1], states[1][1])


def test_complex_parameters_in_a_hand_written_step(backend):
    results = []
    for make in (lambda f: f, lambda f: gg.compile(f, backend=backend)):
        z = gg.tensor(np.array([1 + 2j, -0.5j]), requires_grad=True)

        def step(x, z=z):
            gg.sum(gg.abs(z * x - 1) ** 2).backward()
            with gg.no_grad():
                z -= 0.1 * z.grad
            z.zero_grad()
        run = make(step)
        for _ in range(4):
            run(np.array([0.5, 2.0]))
        results.append(z.data)
    same(*results)


def test_closures_are_read_as_they_are(backend):
    kept = {"scale": 2.0, "w": gg.tensor(ROW)}
    compiled = gg.compile(lambda x: x * kept["scale"] + kept["w"], backend=backend)
    same(compiled(X), X * 2.0 + kept["w"])
    kept["w"].data = ROW * 3
    same(compiled(X), X * 2.0 + kept["w"])                          # Tensors vary, numbers are part of the program
    kept["scale"] = 5.0
    same(compiled(X), X * 2.0 + kept["w"])


# nesting ---------------------------------------------------------------------------------------------------------------------

def test_compiled_in_compiled_and_in_transforms(backend):
    inner = gg.compile(lambda x: gg.sum(gg.sin(x) ** 2), backend=backend)
    plain = lambda x: gg.sum(gg.sin(x) ** 2)
    for wrap in (gg.grad, gg.value_and_grad, gg.hessian, gg.jacobian, gg.vmap, lambda f: lambda x: gg.hvp(f, x, x),
                 lambda f: gg.compile(lambda x: f(x) + 1, backend=backend), lambda f: gg.compile(gg.grad(f), backend=backend)):
        same(wrap(inner)(ROW), wrap(plain)(ROW))


def test_compile_inside_grad(backend):
    def f(x):
        return gg.sum(gg.compile(lambda y: gg.tanh(y) * 2, backend=backend)(x))
    same(gg.grad(f)(X), gg.grad(lambda x: gg.sum(gg.tanh(x) * 2))(X))


def test_backward_through_a_compiled_function_runs_it_as_it_is(backend):
    compiled = gg.compile(lambda x: gg.sum(gg.tanh(x)), backend=backend)
    w = gg.tensor(ROW, requires_grad=True)
    compiled(w * 2).backward()
    v = gg.tensor(ROW, requires_grad=True)
    gg.sum(gg.tanh(v * 2)).backward()
    same(w.grad, v.grad)


# threads and errors --------------------------------------------------------------------------------------------------------

def test_threads_call_one_compiled_function(backend):
    f = gg.grad(lambda x: gg.sum(gg.tanh(x @ x.T)))
    compiled, wrong = gg.compile(f, backend=backend), []
    expected = {n: f(np.full((n, 3), 0.1 * n)) for n in range(1, 5)}

    def work(n):
        results = [compiled(np.full((n, 3), 0.1 * n)) for _ in range(20)]
        wrong.extend(n for g in results if not np.allclose(g, expected[n], rtol=1e-12))
    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 3, 4, 1, 2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_an_error_while_tracing_leaves_everything_as_it_was(backend):
    w = gg.tensor(ROW, requires_grad=True)
    state = {"fail": True}

    def f(x):
        y = gg.sum(w * x)
        y.backward()
        with gg.no_grad():
            w.data = w.data * 2
            if state["fail"]:
                raise KeyError("half way")
        return y
    compiled = gg.compile(f, backend=backend)
    for _ in range(2):
        with pytest.raises(KeyError, match="half way"):
            compiled(ROW)
        assert type(w.data) is np.ndarray and w.grad is None and gg.is_grad_enabled()
        np.testing.assert_array_equal(w.data, ROW)
    state["fail"] = False
    compiled(ROW)
    np.testing.assert_array_equal(w.data, ROW * 2)
    same(gg.grad(lambda x: gg.sum(x * x))(ROW), 2 * ROW)             # transforms are as they were


@pytest.mark.parametrize(("f", "args"), [
    (lambda a, b: a @ b, (gg.tensor(X), ROW[:3])),
    (lambda a: gg.reshape(a, (5, 5)), (X,)),
    (lambda a: gg.sum(a, axis=7), (X,)),
    (lambda a, b: a + b, (gg.tensor(X), gg.tensor(ROW[:3]))),
    (lambda a: gg.grad(lambda x: x * 2)(a), (X,)),
    (lambda a: gg.grad(lambda x: gg.sum(x))(a), (np.arange(3),)),
    (lambda a: gg.concatenate([a, ROW]), (X,)),
    (lambda a: a.nothing, (gg.tensor(X),)),
    (lambda a: gg.einsum("ij,jk", a), (X,)),
    (lambda a: gg.linalg_does_not_exist(a), (X,)),
    (lambda a: 1 // 0, (X,)),
    (gg.grad(gg.sum), (np.ma.array([1.0, 2.0]),)),
])
def test_errors_have_the_same_class_and_text(f, args, backend):
    eager, compiled = error_of(f, args), error_of(gg.compile(f, backend=backend), args)
    assert eager is not None and type(compiled) is type(eager)
    assert str(compiled) == str(eager)


def test_probabilities_are_looked_at_in_every_run(backend):
    f = lambda p: gg.nn.binary_cross_entropy(p, ROW > 0)
    for g in (f, gg.grad(f)):
        compiled = gg.compile(g, backend=backend)
        same(compiled(np.full(4, 0.25)), g(np.full(4, 0.25)))
        with pytest.raises(gg.ArgumentError, match=r"expected probabilities from 0 to 1, got \(0.25, 1.5\)"):
            compiled(np.array([0.25, 1.5, 0.5, 0.5]))
    assert compiled.programs == 1


def test_an_array_is_not_the_place_for_a_sum_with_a_tensor(backend):
    def f(x, t):
        y = x * 1
        y += t
        return y
    for g in (f, gg.compile(f, backend=backend)):
        with pytest.raises(gg.ConversionError, match="expected a Tensor to write to"):
            g(X, gg.tensor(X))


def error_of(f, args):
    try:
        f(*args)
    except Exception as error:
        return error
    return None


def test_slices_are_part_of_the_program(backend):
    compiled = gg.compile(lambda x, i: gg.sum(x[i], axis=0) * 2, backend=backend)
    for i in (slice(1, None), slice(None, None, -1), slice(1, None), (slice(0, 2), 1), ..., 0):
        same(compiled(X, i), gg.sum(X[i], axis=0) * 2)
    assert compiled.programs == 5


# arrays and scalars, as NumPy tells them apart ------------------------------------------------------------------------------

def of_numbers(x):
    row = x[None]
    return (np.where(x > 0, x, 1.0), np.squeeze(row), row.squeeze(), np.reshape(row, ()), np.transpose(x), np.copy(x), np.real(x),
            np.ones_like(x), np.full_like(x, 2), np.broadcast_to(x, ()), np.roll(x, 1), np.tile(x, ()), np.tensordot(row, row, 1),
            x.conj(), np.sum(x, axis=-1), np.max(x, 0), x.prod(axis=0), np.sum(row), x * 1, np.einsum("i->", row), x.clip(0, 1))


@pytest.mark.parametrize("x", [np.array(1.5), np.float64(1.5)])
def test_results_without_axes_are_arrays_where_numpys_are(x, backend):
    found, expected = gg.compile(of_numbers, backend=backend)(x), of_numbers(x)
    assert [type(y) for y in found] == [type(y) for y in expected]
    same(found, expected)


def into_number(x):
    x.sum()[...] = 1.0


def into_wrong_shape(x):
    y = x[:1] * 1
    y += x


def into_integers(x):
    y = x.astype("i8")
    y -= 0.5


@pytest.mark.parametrize("f", [into_number, into_wrong_shape, into_integers, lambda x: np.multiply(x, 2, out=x.sum()),
                               lambda x: np.add(x, x, out=x.astype("i4")), lambda x: np.add(x, x, out=x[0])])
def test_what_numpy_does_not_write_to(f, backend):
    eager, compiled = error_of(f, (X.copy(),)), error_of(gg.compile(f, backend=backend), (X.copy(),))
    assert isinstance(eager, TypeError | ValueError) and type(compiled) is type(eager) and str(compiled) == str(eager)


@pytest.mark.filterwarnings("ignore:Casting complex")
@pytest.mark.parametrize("dtype", ["f4", "i8", "?"])
def test_complex_numbers_are_cast_when_they_are_assigned(dtype, backend):
    def f(x, z):
        y = x.astype(dtype)
        y[1:] = z[1:]
        y[0] = z[0, 0]
        return y
    z = X + 1j * ROW
    same(gg.compile(f, backend=backend)(X * 3, z), f(X * 3, z))


def test_tensors_that_are_only_returned_are_themselves(backend):
    w, v = gg.tensor(ROW), gg.tensor(X, requires_grad=True)
    compiled = gg.compile(lambda x: (x * 2, w, {"v": v}), backend=backend)
    for _ in range(2):
        _, found, tree = compiled(X)
        assert found is w and tree["v"] is v


def test_views_of_tensors_that_get_another_array(backend):
    def f(t):
        part = t[0]
        t -= 1.0
        return part
    for g in (f, gg.compile(f, backend=backend)):
        t = gg.tensor(X)
        part = g(t)
        same(part, gg.tensor(X[0] - 1))
        assert np.shares_memory(part.numpy(), t.numpy())
