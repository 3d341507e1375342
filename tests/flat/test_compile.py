"""A compiled function gives what the function gives: values, gradients, state, dtypes and errors."""
import contextlib
import importlib.util
import threading
import types
import warnings

import numpy as np
import pytest
from flat_support import FUNCTIONS, ROW, V, X, chain, rng, same

import gpugrad as gg
from gpugrad import ShapeError, TraceError

LLVM = importlib.util.find_spec("llvmlite") is not None


@pytest.fixture(params=["numpy", pytest.param("llvm", marks=pytest.mark.skipif(not LLVM, reason="needs the extra jit"))])
def backend(request):
    return request.param


@pytest.mark.parametrize("dtype", ["f8", "f4"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(name, dtype, backend):
    f, args = FUNCTIONS[name]
    args = tuple(a.astype(dtype) for a in args)
    numbers = tuple(range(len(args)))
    for g in (f, gg.grad(f, numbers), gg.value_and_grad(f, numbers)):
        compiled = gg.compile(g, backend=backend)
        for scale in (1, 0.5):                                 # the second call runs the program on other numbers
            call = tuple((a * scale).astype(dtype) for a in args)
            same(compiled(*call), g(*call), dtype)
        assert compiled.programs == 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_forward_and_second_order(name, backend):
    f, args = FUNCTIONS[name]
    directions = tuple(np.cos(a) for a in args)

    def push(xs, vs):
        return gg.jvp(f, xs, vs)

    def curve(x, v):
        return gg.hvp(lambda z: f(z, *args[1:]), x, v)

    def batched(xs):
        return gg.vmap(lambda z: f(z, *args[1:]))(xs)
    stack = np.stack([args[0], args[0] * 0.5])
    for g, call in ((push, (args, directions)), (curve, (args[0], directions[0])), (batched, (stack,))):
        compiled = gg.compile(g, backend=backend)
        same(compiled(*call), g(*call))
        call = gg.trees.map_tree(lambda a: a * 0.75, call)
        same(compiled(*call), g(*call))
        assert compiled.programs == 1


def test_hessian_and_jacobian(backend):
    def rosenbrock(x):
        return gg.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    x = rng(5).standard_normal(7)
    same(gg.compile(gg.hessian(rosenbrock), backend=backend)(x), gg.hessian(rosenbrock)(x))
    same(gg.compile(gg.jacobian(chain), backend=backend)(x), gg.jacobian(chain)(x))


# state ---------------------------------------------------------------------------------------------------------------------

OPTIMISERS = [
    (gg.optim.SGD, {"lr": 0.1}),
    (gg.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    (gg.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    (gg.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.2}),
    (gg.optim.Adam, {"lr": 0.01}),
    (gg.optim.Adam, {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1}),
    (gg.optim.AdamW, {"lr": 0.01}),
    (gg.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "maximize": True}),
    (gg.optim.AdamW, {"lr": 0.01, "maximize": True}),
]


def network(kind, options, dtype):
    r = rng(6)
    params = [gg.tensor(r.standard_normal(s).astype(dtype), requires_grad=True) for s in ((8, 4), (8,), (3, 8), (3,))]
    optimiser = kind(params, **options)

    def step(x, labels):
        h = gg.relu(gg.linear(x, params[0], params[1]))
        loss = gg.cross_entropy(gg.linear(h, params[2], params[3]), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss
    return params, optimiser, step


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(("kind", "options"), OPTIMISERS)
def test_training_step(kind, options, dtype, backend):
    params, optimiser, step = network(kind, options, dtype)
    twins, other, other_step = network(kind, options, dtype)
    compiled = gg.compile(other_step, backend=backend)
    r = rng(7)
    for i in range(5):
        x, labels = gg.tensor(r.standard_normal((6, 4)).astype(dtype)), gg.tensor(r.integers(0, 3, 6))
        same(gg.compile(lambda t: t)(step(x, labels).detach()), compiled(x, labels))
        if i == 2:
            optimiser.lr = other.lr = 0.03
    for p, q in zip(params, twins, strict=True):
        same(p.data, q.data)
        same(p.grad.data, q.grad.data)
    assert compiled.programs == (2 if options.get("dampening") else 1)
    assert [s.step for s in other._slots.values()] == [5] * 4
    same(optimiser.state_dict()["state"], other.state_dict()["state"])


def test_parameters_change_in_place(backend):
    params, _, step = network(gg.optim.SGD, {"lr": 0.1, "momentum": 0.9}, "f4")
    compiled, arrays = gg.compile(step, backend=backend), [p.data for p in params]
    x, labels = gg.tensor(np.ones((6, 4), "f4")), gg.tensor(np.arange(6) % 3)
    for _ in range(3):
        compiled(x, labels)
    assert all(p.data is a for p, a in zip(params, arrays, strict=True))


def test_gradients_accumulate_across_calls(backend):
    w = gg.tensor(ROW, requires_grad=True)
    compiled = gg.compile(lambda x: (w * x).sum().backward(), backend=backend)
    for _ in range(3):
        compiled(X)
    np.testing.assert_allclose(w.grad.data, 3 * X.sum(0))
    w.zero_grad()
    compiled(X)
    np.testing.assert_allclose(w.grad.data, X.sum(0))
    assert compiled.programs == 2                                # with and without a gradient to add to


def test_parameters_as_arguments(backend):
    def step(w, x):
        (w * x).sum().backward()
        with gg.no_grad():
            w -= 0.1 * w.grad
        w.zero_grad()
        return w
    w, twin = (gg.tensor(ROW, requires_grad=True) for _ in range(2))
    compiled = gg.compile(step, backend=backend)
    for _ in range(3):
        step(w, X)
        assert compiled(twin, X) is twin
    same(w.data, twin.data)
    assert twin.grad is None


def test_tracing_leaves_no_trace():
    """A function that fails while it is traced has changed nothing."""
    params, optimiser, step = network(gg.optim.Adam, {"lr": 0.1}, "f8")
    before = [p.data.copy() for p in params]

    def failing(x, labels):
        step(x, labels)
        raise RuntimeError("later")
    with pytest.raises(RuntimeError, match="later"):
        gg.compile(failing)(gg.tensor(X), gg.tensor(np.array([0, 1, 2])))
    assert all(type(p.data) is np.ndarray and p.grad is None for p in params)
    for p, b in zip(params, before, strict=True):
        np.testing.assert_array_equal(p.data, b)
    assert all(not s.arrays and s.step == 0 for s in optimiser._slots.values())


def test_tensors_outside_are_read_at_every_call(backend):
    scale = gg.tensor([1.0, 2.0])
    compiled = gg.compile(lambda x: x * scale, backend=backend)
    same(compiled(np.ones(2)), np.ones(2) * scale)
    scale.data = np.array([5.0, 6.0])
    assert compiled(np.ones(2)).tolist() == [5.0, 6.0]


def test_in_place_on_a_tensor_outside(backend):
    total, twin = gg.tensor(np.zeros(3)), gg.tensor(np.zeros(3))

    def add(into, x):
        with gg.no_grad():
            into += x
            into[0] = 7.0
    compiled = gg.compile(lambda x: add(twin, x), backend=backend)
    for i in range(3):
        add(total, np.full(3, float(i)))
        compiled(np.full(3, float(i)))
    same(total, twin)


WITH_DATA = {
    "where": lambda x, a: np.where(a > 0, a, x), "where number": lambda x, a: np.where(a > 0, -np.inf, x),
    "concatenate": lambda x, a: np.concatenate([a, x]), "stack": lambda x, a: np.stack([a, x * x]),
    "einsum": lambda x, a: np.einsum("ij,ij->i", a, x), "maximum": lambda x, a: np.maximum(a, x),
    "dot": lambda x, a: np.dot(a, x.T), "outer": lambda x, a: np.add.outer(a, x),
    "interp": lambda x, a: np.interp(a[0], a[1] * 0 + [0, 1, 2, 3], x[0]), "clip": lambda x, a: a.clip(x - 1, x + 1),
    "insert": lambda x, a: np.insert(a, 1, x[0], axis=0), "cross": lambda x, a: np.cross(a[:, :3], x[:, :3]),
}


@pytest.mark.parametrize("name", WITH_DATA)
def test_gradients_pass_functions_whose_first_argument_is_data(name, backend):
    x, a = np.random.default_rng(3).normal(size=(2, 3, 4))
    f = gg.grad(lambda x, a: gg.sum(np.exp(WITH_DATA[name](x, a)) ** 2))
    assert np.any(f(x, a))
    same(gg.compile(f, backend=backend)(x, a), f(x, a))


@pytest.mark.parametrize("write", [lambda x, a: a.dot(x.T), lambda x, a: np.full_like(a, x[0, 0]),
                                   lambda x, a: np.pad(a, 1, constant_values=x[0, 0]), lambda x, a: a.__setitem__(0, x[0])])
def test_a_graph_is_not_dropped_for_a_bare_array(write, backend):
    x, a = np.random.default_rng(3).normal(size=(2, 3, 4))
    with pytest.raises(gg.ConversionError, match="that needs a gradient, which a bare array would drop"):
        gg.compile(gg.grad(lambda x, a: gg.sum(x) + gg.sum(write(x, a.copy()))), backend=backend)(x, a)


def through_reshape(x):
    y = x * 2
    z = y.reshape(2, -1)
    z[1] = z[0] * 3
    return y, z


def through_views_of_views(x):
    y = x * 2
    v = y[1:]
    w = v[::-1]
    w *= 2
    y[0] = v[1]
    v += 1
    return y, v, w


def through_transposes(x):
    y = x * 2
    t = np.reshape(y, (-1, 2)).T
    t[0] = 1
    np.flip(y)[:1] = 5
    return y, t


def read_before_and_after(x):
    y = x * 2
    v = y[1:3]
    before, first = v * 1, y[1] * 1
    y[1] = 9
    return before, first, v, y.copy()[1:]


def by_functions(x):
    y = x * 2
    np.add(y[1:], 1, out=y[1:])
    np.clip(y[:2], -0.5, 0.5, out=y[:2])
    np.multiply.at(y, [3, 3], 2)
    return y


@pytest.mark.parametrize("f", [through_reshape, through_views_of_views, through_transposes, read_before_and_after, by_functions])
def test_a_write_is_seen_through_every_view(f, backend):
    x = np.random.default_rng(5).normal(size=4)
    same(gg.compile(f, backend=backend)(x), f(x))


@pytest.mark.parametrize("f", [through_reshape, through_views_of_views, through_transposes])
def test_gradients_go_through_writes_to_views(f, backend):
    x = np.random.default_rng(5).normal(size=4)
    g = gg.grad(lambda x: sum(gg.sum(y ** 2) for y in f(x)))
    same(gg.compile(g, backend=backend)(x), g(x))


def test_a_write_to_a_view_that_cannot_be_followed_is_refused(backend):
    def f(x):
        first, rest = np.split(x * 2, 2)
        first *= 3
        return rest
    with pytest.raises(gg.TraceError, match="expected no write to a view by split"):
        gg.compile(f, backend=backend)(np.arange(4.0))


def test_random_draws_go_on(backend):
    def noisy(x):
        own = gg.vmap(lambda row: gg.random.normal(row, 2.0), randomness="different")(x)
        return gg.dropout(x, 0.5, training=True) + gg.random.normal(size=x.shape) + own
    x = gg.tensor(np.ones((4, 4)))
    gg.random.seed(3)
    expected = [noisy(x) for _ in range(3)]
    gg.random.seed(3)
    compiled = gg.compile(noisy, backend=backend)
    same(expected, [compiled(x) for _ in range(3)])


# what makes another program ------------------------------------------------------------------------------------------------

def test_recompiles_for_shapes_dtypes_and_static_arguments(backend):
    compiled = gg.compile(lambda x, n: x * n, static_argnums=1, backend=backend)
    for x, n in ((X, 2), (X, 2), (X[:2], 2), (X.astype("f4"), 2), (X, 3)):
        same(compiled(x, n), x * n)
    assert compiled.programs == 4


def test_numpy_scalars_vary_like_arrays(backend):
    compiled = gg.compile(lambda x, a: x * a, backend=backend)
    for a in (np.float64(2), np.float64(3)):
        same(compiled(X, a), X * a)
    assert compiled.programs == 1


def test_masks_are_part_of_the_program(backend):
    x, y = np.arange(2000.0), np.arange(2000) % 7
    masks = [np.where(np.arange(2000) == 1000, True, y > 3), y > 3]
    f = gg.grad(lambda x: gg.sum(x[masks[0]] ** 2) + gg.sum(x[masks[1]] ** 3))
    same(gg.compile(f, backend=backend)(x), f(x))


def test_many_programs_warn():
    compiled = gg.compile(lambda x, n: x * n)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in range(15):
            compiled(ROW, n)
    with pytest.warns(UserWarning, match=r"got 16: its calls differ in n \(0, 1, 2, …\)"):
        compiled(ROW, 15)


def test_trees(backend):
    def f(tree, *, scale):
        return {"a": tree["x"] * scale, "b": (tree["y"][0] + 1, "text", None, 3)}
    tree = {"x": X, "y": [gg.tensor(ROW)]}
    same_tree = gg.compile(f, backend=backend)(tree, scale=2.0)
    same([same_tree["a"], same_tree["b"][0]], [X * 2, tree["y"][0] + 1])
    assert same_tree["b"][1:] == ("text", None, 3)


def test_one_array_twice(backend):
    f = gg.grad(lambda a, b: gg.sum(a * a * b), (0, 1))
    compiled = gg.compile(f, backend=backend)
    same(compiled(ROW, ROW), f(ROW, ROW))
    same(compiled(ROW, ROW * 2), f(ROW, ROW * 2))
    same(compiled(ROW, ROW), f(ROW, ROW))


def test_nan_and_infinity(backend):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e308, 5e-324])
    f = gg.value_and_grad(lambda x: gg.sum(gg.where(x > 0, x * 1 - 0, gg.tanh(x) / x)))
    with np.errstate(all="ignore"):
        a, b = gg.compile(f, backend=backend)(x), f(x)
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])


def test_results_are_new_arrays(backend):
    compiled = gg.compile(lambda x: (gg.tanh(x) * 2, x.T, x), backend=backend)
    first = compiled(X)
    kept = first[0].copy()
    compiled(X * 3)
    np.testing.assert_array_equal(first[0], kept)
    assert first[2] is X


def test_results_are_the_callers_own(backend):
    def f(x, y):
        return gg.tanh(x).reshape(-1), gg.tanh(x).T, y * 1.0, gg.zeros(3) + 1, x * 2, x * 2
    compiled = gg.compile(f, backend=backend)
    results, kept = compiled(X, V), f(X, V)
    for r in results:
        r[...] = 99.0                                            # the caller's to write to
    same(compiled(X, V), kept)
    again = [r.copy() for r in compiled(X, V)]
    first = compiled(X, V)
    compiled(X * 2, V * 2)
    same(list(first), again)


def views_of_own(x):
    y = x * 2
    return y[1], y, y.T[0], y[0, 0]


def views_written_to(x):
    part = x[0]
    x[:, 1] = 7.0
    return part, x.T


VIEWS = {
    "itself": lambda x: (x, x), "wrapped": gg.asarray, "detached": lambda x: x.detach() if isinstance(x, gg.Tensor) else x,
    "steps": lambda x: (x.T[1:], x.reshape(-1), x[0], x[0, 1], x[[0, 1]]), "own": views_of_own, "written": views_written_to,
    "twice": lambda x: [x * 2] * 2, "equal": lambda x: (x * 2, x * 2), "parts": lambda x: gg.split(x, 2, axis=1),
    "spread": lambda x: np.broadcast_to(x, (2, *x.shape)), "diagonal": lambda x: gg.diagonal(x), "none": lambda x: x.T * 1,
}


@pytest.mark.parametrize("kind", [np.array, gg.tensor])
@pytest.mark.parametrize("name", VIEWS)
def test_results_share_memory_as_eager_ones_do(name, kind, backend):
    """With the argument and with each other, and a write to one is seen in the others."""
    f = VIEWS[name]
    if name == "written" and kind is gg.tensor:
        f = gg.no_grad()(f)
    compiled = gg.compile(f, backend=backend)
    for _ in range(2):
        states = []
        for g in (f, compiled):
            x = kind(X)
            arrays = [x, *gg.trees.flatten(g(x))[0]]
            plain = [np.asarray(a.detach() if isinstance(a, gg.Tensor) else a) for a in arrays]
            shared = [[np.shares_memory(a, b) for b in plain] for a in plain]
            writeable = [a.flags.writeable for a in plain[1:]]
            for i, a in enumerate(arrays):
                with contextlib.suppress(ValueError, TypeError):     # read-only, or a number
                    a[(0,) * a.ndim or ...] = i + 10.0
            states.append((shared, writeable, [[a is b for b in arrays] for a in arrays], [np.array(a) for a in plain]))
        assert states[0][:3] == states[1][:3]
        same(states[1][3], states[0][3])


def test_a_broadcast_array_shows_what_is_written_to_its_own(backend):
    def f(x, write):
        y = np.broadcast_to(x, (2, *x.shape))
        if write:
            x[0] = 9.0
        else:
            y[0] = 9.0
        return y * 1
    compiled = gg.compile(f, backend=backend)
    same(compiled(X.copy(), True), f(X.copy(), True))
    with pytest.raises(ValueError, match="read-only"):
        f(X, False)
    with pytest.raises(ValueError, match="read-only"):
        compiled(X, False)


@pytest.mark.parametrize("f", [lambda x: (x * i for i in range(3)), lambda x: map(abs, [x]), lambda x: lambda: x * 2,
                               lambda x: types.SimpleNamespace(y=x * 2), lambda x: (1, {2: iter([x])})])
def test_results_that_hold_traced_values_are_refused(f, backend):
    with pytest.raises(gg.TraceError, match="expected arrays, Tensors and plain values as results, got "):
        gg.compile(f, backend=backend)(X)


def test_plain_objects_are_results(backend):
    class Model:
        def __init__(self):
            self.w = gg.tensor(ROW)
    model = Model()
    y, found, shape, f = gg.compile(lambda x: (x * model.w, model, x.shape, np.sin), backend=backend)(X)
    assert (found, shape, f) == (model, X.shape, np.sin)
    same(y, X * model.w)


def test_gradients_are_not_the_arguments(backend):
    g = gg.compile(gg.grad(lambda x, y: gg.sum(x * y)), backend=backend)(X, V)
    assert not np.may_share_memory(g, V)


def test_a_parameter_that_is_an_argument_too(backend):
    """x is read as it was before the step, although it is the memory of w."""
    results = []
    for make in (lambda f: f, lambda f: gg.compile(f, backend=backend)):
        w = gg.tensor(np.ones(4), requires_grad=True)
        optimiser = gg.optim.SGD([w], lr=0.5)

        def step(x, w=w, optimiser=optimiser):
            optimiser.zero_grad()
            (w * 3).sum().backward()
            before = gg.tanh(x) + 0
            optimiser.step()
            return before
        results.append((make(step)(w.data), w.data))
    same(results[0], results[1])


def test_under_no_grad_it_is_another_program(backend):
    w = gg.tensor(ROW, requires_grad=True)
    compiled = gg.compile(lambda x: gg.sum(gg.tanh(x * w)), backend=backend)
    expected = gg.sum(gg.tanh(X * w)).detach()
    same(compiled(X), expected)
    with gg.no_grad():
        same(compiled(X), expected)
    assert compiled.programs == 2


def test_inside_transforms_it_runs_as_it_is():
    compiled = gg.compile(lambda x: gg.sum(gg.sin(x)))
    same(gg.grad(compiled)(X), gg.grad(lambda x: gg.sum(gg.sin(x)))(X))
    same(gg.compile(lambda x: compiled(x) + 1)(X), gg.sum(np.sin(X)) + 1)


def test_another_thread_is_not_traced():
    started, finish, seen = threading.Event(), threading.Event(), []
    w = gg.tensor(ROW, requires_grad=True)

    def outside():
        started.wait(10)
        seen.append(type((w * 2)._data))
        finish.set()
    thread = threading.Thread(target=outside)
    thread.start()

    def f(x):
        started.set()
        finish.wait(10)
        return w * x
    gg.compile(f)(X)
    thread.join()
    assert seen == [np.ndarray]


# errors ----------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("decide", [
    lambda x: x if x.sum() > 0 else -x,
    lambda x: x * float(x.sum()),
    lambda x: x * x.sum().item(),
    lambda x: x[: int(x[0])],
    lambda x: np.array(x) * 2,
])
@pytest.mark.parametrize("make", [lambda: np.ones(3), lambda: gg.tensor(np.ones(3))])
def test_control_flow_names_the_line(decide, make):
    with pytest.raises(TraceError, match=r"test_compile\.py:\d+: .*gg\.where"):
        gg.compile(decide)(make())


@pytest.mark.parametrize("f", [lambda x: gg.sum(x[x > 0]), lambda x: gg.argwhere(x), lambda x: gg.isin(x, [1.0])])
def test_shapes_that_depend_on_values_name_the_line(f):
    with pytest.raises(TraceError, match=r"compile: .*test_compile\.py:\d+"):
        gg.compile(f)(X)


def test_errors_of_a_later_call(backend):
    f = gg.compile(lambda x, i: x[i] * 2, backend=backend)
    f(gg.tensor(ROW), gg.tensor(np.array([0, 3])))
    with pytest.raises(gg.IndexingError, match="gather: expected valid indices"):
        f(gg.tensor(ROW), gg.tensor(np.array([0, 4])))


def test_errors_are_those_of_the_function():
    with pytest.raises(ShapeError) as eager:
        gg.tensor(X) @ gg.tensor(ROW[:3])
    with pytest.raises(ShapeError) as compiled:
        gg.compile(lambda a, b: a @ b)(gg.tensor(X), gg.tensor(ROW[:3]))
    assert str(eager.value) == str(compiled.value)


@pytest.mark.parametrize(("call", "match"), [
    (lambda: gg.compile(3), "expected a function"),
    (lambda: gg.compile(np.sin, backend="fast"), "expected a backend"),
    (lambda: gg.compile(lambda x: x)({1, 2}), "hashable"),
])
def test_bad_arguments(call, match):
    with pytest.raises(gg.ArgumentError, match=match):
        call()


UNUSED = {
    "index": (lambda x, i: x[i], [0, 1], [0, 3]), "rows": (lambda x, i: x[:, i, None], [[0], [3]], [[0], [4]]),
    "take": (lambda x, i: gg.take(x, i, axis=1), [0, 3], [0, 4]),
    "write": (lambda x, i: gg.numpy.setitem(x, i, 1.0), [0, -3], [0, -4]),
    "labels": (lambda x, i: gg.nn.cross_entropy(x, i), [0, 1, 3], [0, 1, 4]),
    "embedding": (lambda x, i: gg.nn.embedding(i, x), [0, 1], [-1, 0]), "power": (lambda x, i: i ** i, [0, 3], [0, -3]),
    "probabilities": (lambda x, i: gg.nn.binary_cross_entropy(i / 4, i), [0, 3], [0, 7]),
}


@pytest.mark.parametrize("name", UNUSED)
def test_what_nobody_uses_may_still_be_an_error(name, backend):
    unused, right, wrong = UNUSED[name]

    def f(x, i):
        unused(gg.sin(x), i)
        return x * 2
    compiled = gg.compile(f, backend=backend)
    same(compiled(X, np.array(right)), X * 2)
    for _ in range(2):
        with pytest.raises((ValueError, IndexError)) as eager:
            f(X, np.array(wrong))
        with pytest.raises(type(eager.value)):
            compiled(X, np.array(wrong))
    assert compiled.programs == 1
    names = [op.name for op in compiled.program(X, np.array(right)).graph.ops]
    assert "sin" not in names                                        # only what looks at the index is left


def test_an_unused_index_may_come_from_unused_values(backend):
    def f(x, i):
        x[gg.argsort(x[i], axis=0)]
        return x * 2
    compiled = gg.compile(f, backend=backend)
    same(compiled(ROW, np.array([0, 1])), ROW * 2)
    with pytest.raises(IndexError):
        compiled(ROW, np.array([0, 4]))


def test_a_look_at_the_same_index_is_enough(backend):
    rows = np.array([0, 2, 2])
    compiled = gg.compile(gg.grad(lambda x, i: gg.sum(x[i] * 3)), backend=backend)
    graph = compiled.program(X, rows).graph
    assert [op.name for op in graph.ops if op.name in ("gather", "scatter_add")] == ["scatter_add"]
    assert not gg.compile(lambda x: (x[rows], x)[1], backend=backend).program(X).graph.ops      # it was looked at already
