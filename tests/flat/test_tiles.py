"""Groups that go over a few rows at a time on all cores: the same values, whatever the sizes, layouts and threads."""
import os
import re
import signal
import threading

import numpy as np
import pytest
from flat_support import FUNCTIONS, fork, rng, same
from test_program import run_alone

import gpugrad as gg
from gpugrad.flat import plan, tiles


@pytest.fixture
def small_tiles(monkeypatch):
    """Everything that can be grouped is, in tiles of 8 elements."""
    monkeypatch.setattr(tiles, "TILE", 8)
    monkeypatch.setattr(tiles, "WIDEST", 1 << 20)
    monkeypatch.setattr(tiles, "LEAST", 0)
    monkeypatch.setattr(tiles, "SMALL", 0)


def numpy_program(f, *args, **options):
    return gg.compile(f, backend="numpy", **options).program(*args)


def rows(*shape, seed=0, dtype="f8"):
    return rng(seed).standard_normal(shape).astype(dtype)


def block(x, scale, shift):
    """Standardisation, scale and shift, GELU, softmax: by rows; and their gradients' sums over rows."""
    h = gg.gelu(gg.layer_norm(x, scale, shift)) + x
    return gg.sum(gg.softmax(h) * gg.max(h, axis=1, keepdims=True)) + gg.sum(gg.max(h, axis=0)) + gg.mean(gg.silu(h) ** 2)


GROUPS = {
    "block": (block, (rows(13, 6), rows(6, seed=1), rows(6, seed=2))),
    "loss": (lambda x: gg.cross_entropy(x, np.arange(11) % 4), (rows(11, 4),)),
    "smoothed": (lambda x: gg.cross_entropy(x, np.arange(11) % 4, label_smoothing=0.1, reduction="sum"), (rows(11, 4),)),
    "one batch": (lambda x: gg.sum(gg.tanh(gg.layer_norm(x)) * x), (rows(1, 9, 7),)),
    "columns": (lambda x, c: gg.sum(gg.sin(x * c) * c), (rows(17, 3), rows(17, 1, seed=1))),
    "square": (lambda x, r: gg.sum(gg.exp(x * r) + r), (rows(8, 8), rows(8, seed=1))),
    "row as column": (lambda x: gg.sum(gg.sin(x) * gg.sum(gg.tanh(x), axis=1)), (rows(8, 8),)),
    "reshaped": (lambda x: gg.sum(gg.sin(gg.tanh(x).reshape(9, 2, 3)) ** 2 * 2) + gg.sum(gg.tanh(x).reshape(-1)[::2]),
                 (rows(9, 6),)),
    "relu": (lambda x, w: gg.sum(gg.relu(gg.relu(x) @ w) * 3), (rows(12, 5), rows(5, 4, seed=1))),
    "where": (lambda x: gg.sum(gg.where(x > 0, gg.sigmoid(x), gg.elu(x)).astype("f8") * x), (rows(21, 3),)),
    "extremes": (lambda x: gg.sum(gg.max(x * 2, axis=(0, 2)) - gg.min(x, axis=0)[:, 0]), (rows(10, 3, 4),)),
    "tanh form": (lambda x, scale: gg.sum(gg.gelu(gg.layer_norm(x, scale), approximate="tanh") * x),
                  (rows(9, 5), rows(5, seed=1))),
    "root mean square": (lambda x, scale: gg.sum(gg.gelu(gg.nn.rms_norm(x, scale)) * x), (rows(2, 9, 5), rows(5, seed=1))),
    "column products": (lambda x, y: (gg.sum(gg.sum(gg.tanh(x) * gg.sin(y), axis=(0, 1)) ** 2)
                                      + gg.sum(gg.sin(y) ** 2, axis=0)[0, 0]), (rows(7, 2, 5), rows(7, 2, 5, seed=1))),
    "long": (lambda x: gg.sum(gg.tanh(x) * gg.sigmoid(x)), (rows(1001),)),
}


@pytest.mark.parametrize("name", GROUPS)
def test_groups_equal_eager(name, small_tiles):
    f, args = GROUPS[name]
    every = tuple(range(len(args)))
    program = numpy_program(gg.value_and_grad(f, argnums=every), *args)
    assert "in_tiles(tile_1" in program.source
    for _ in range(2):                                    # the second run finds buffers that are full
        same(program(list(args)), gg.value_and_grad(f, argnums=every)(*args))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
@pytest.mark.parametrize("form", ["none", "tanh"])
def test_far_and_infinite_elements_equal_eager(dtype, form, small_tiles):
    x = np.linspace(-6, 6, 48).astype(dtype).reshape(12, 4)
    x[1:3] = [[-np.inf, np.inf, np.nan, 0], [-1e4, 1e4, -41, 41]]
    f = gg.compile(lambda x: gg.gelu(x, approximate=form) * 2, backend="numpy")
    slope = gg.compile(lambda x: gg.vjp(lambda x: gg.gelu(x, approximate=form), x)[1](np.ones_like(x)), backend="numpy")
    same(f(x), gg.gelu(x, approximate=form) * 2, "f4")
    same(slope(x), gg.vjp(lambda x: gg.gelu(x, approximate=form), x)[1](np.ones_like(x)), "f4")


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_sigmoid_in_groups_is_precise_on_both_sides(dtype, small_tiles):
    x = np.linspace(-700 if dtype == "f8" else -80, 800, 4000).astype(dtype).reshape(1000, 4)
    x[0] = [-np.inf, np.inf, np.nan, 0]
    program = numpy_program(lambda x: gg.sigmoid(x) * 1.5, x)
    assert "= sigmoid(" not in program.source
    with np.errstate(all="raise", under="ignore"):
        found = program([x])
    np.testing.assert_allclose(found, gg.sigmoid(x) * 1.5, rtol=6 * np.finfo(dtype).eps, atol=0)
    silu = gg.value_and_grad(lambda x: gg.sum(gg.silu(x) * 2))
    same(gg.compile(silu, backend="numpy")(x[1:]), silu(x[1:]))


def test_groups_are_passes_and_sums_along_rows_are_einsums(small_tiles):
    f, args = GROUPS["tanh form"]
    source = numpy_program(gg.value_and_grad(f, argnums=(0, 1)), *args).source
    assert "standardize(" not in source and "gelu_tanh(" not in source
    assert source.count("np.tanh(") == 1                  # of the function and its slope
    assert re.search(r"np\.einsum\('ab,ab->a', (v\d+), \1, out=", source)       # the squares are nowhere
    assert ".sum(axis=(1,)" not in source
    assert re.search(r"= np\.einsum\('ab,ab->b', v\d+, v\d+\)", source)           # the gradient of scale
    exact = numpy_program(gg.value_and_grad(lambda x: gg.sum(gg.gelu(x) * 2)), rows(9, 5)).source
    assert exact.count("= erf(") == 1
    half = numpy_program(lambda x: gg.gelu(gg.layer_norm(x)) * 2, rows(9, 5, dtype="f2")).source
    assert "standardize(" in half and "einsum" not in half
    long = numpy_program(lambda x: gg.sum(gg.tanh(x), axis=1), np.zeros((2, 8193))).source
    assert "einsum" not in long                           # it would add up too many in a row


@pytest.mark.parametrize("name", FUNCTIONS)
def test_any_function_equals_eager_in_tiles(name, small_tiles):
    f, args = FUNCTIONS[name]
    same(gg.compile(gg.value_and_grad(f), backend="numpy")(*args), gg.value_and_grad(f)(*args))


@pytest.mark.parametrize("name", ["block", "loss", "reshaped", "one batch"])
def test_saved_groups_need_numpy_alone(name, small_tiles, tmp_path):
    f, args = GROUPS[name]
    found = run_alone(tmp_path, numpy_program(gg.value_and_grad(f), *args), args)
    for one, expected in zip(found, gg.value_and_grad(f)(*args), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("layout", [np.asfortranarray, lambda x: x[::-1], lambda x: np.repeat(x, 2, axis=1)[:, ::2],
                                    lambda x: np.broadcast_to(x[:1], x.shape)])
def test_inputs_of_any_layout(layout, small_tiles):
    f, (x, *rest) = GROUPS["block"]
    x = layout(x)
    same(gg.compile(gg.value_and_grad(f), backend="numpy")(x, *rest), gg.value_and_grad(f)(x, *rest))


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (), (1, 1), (1,), (2,)])
def test_empty_and_tiny_arrays(shape, small_tiles):
    def f(x):
        return gg.sum(gg.sigmoid(x) * x)
    same(gg.compile(gg.value_and_grad(f), backend="numpy")(rows(*shape)), gg.value_and_grad(f)(rows(*shape)))


def test_sizes_decide_what_is_grouped():
    def f(x):
        return gg.sum(gg.tanh(x) * x)
    small, large = rows(64, 64), np.zeros((2048, 1024), "f4")
    assert "tile_1" not in numpy_program(f, small).source
    source = numpy_program(f, large).source
    assert re.search(r"v\d+ = np\.tanh\(x\[i:j\], out=t\d+\)", source)
    assert source.count("def tile_") == 1
    uneven = np.zeros((2053, 1024), "f4")
    assert re.search(r"v\d+ = np\.tanh\(x\[i:j\], out=t\d+\[:j - i\]\)", numpy_program(f, uneven).source)


def test_the_number_of_threads_changes_no_bit(monkeypatch):
    x = rows(3000, 700, dtype="f4")
    f = gg.value_and_grad(lambda x: gg.sum(gg.tanh(x) * gg.sigmoid(x)) + gg.sum(gg.max(gg.sin(x), axis=0)))
    results = []
    for workers in (1, 2, 5):
        monkeypatch.setattr(plan, "WORKERS", workers)
        value, gradient = numpy_program(f, x)([x])
        results.append((value.tobytes(), gradient.tobytes()))
    assert results[0] == results[1] == results[2]


def test_parameters_are_updated_where_they_are(small_tiles):
    x = rows(9, 4)
    weights = [gg.tensor(rows(4, 4, seed=k), requires_grad=True) for k in range(2)]
    twins = [gg.tensor(w.data.copy(), requires_grad=True) for w in weights]
    arrays = [w.data for w in weights]

    def stepping(ws):
        optimiser = gg.optim.SGD(ws, lr=0.1, momentum=0.9)

        def step():
            optimiser.zero_grad()
            loss = gg.sum(gg.tanh(gg.tanh(x @ ws[0]) @ ws[1]) ** 2)
            loss.backward()
            optimiser.step()
            return loss
        return step
    compiled, eager = gg.compile(stepping(weights), backend="numpy"), stepping(twins)
    for _ in range(3):
        same(compiled(), eager())
    assert all(w.data is a for w, a in zip(weights, arrays, strict=True))
    same([w.data for w in weights], [w.data for w in twins])


def test_error_states_hold_in_every_thread(small_tiles):
    compiled = gg.compile(lambda x: gg.sum(gg.log(x) * 2), backend="numpy")
    x = np.ones((64, 4))
    compiled(x)
    x[-1] = 0
    with np.errstate(divide="ignore"):
        assert compiled(x) == -np.inf
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        compiled(x)
    x[:] = 1
    assert compiled(x) == 0


def test_an_error_in_a_tile_is_the_functions_own(small_tiles):
    f = gg.compile(lambda x, labels: gg.cross_entropy(x, labels), backend="numpy")
    x, labels = rows(32, 4), np.zeros(32, int)
    f(x, labels)
    labels[20], labels[3] = 9, -1
    with pytest.raises(gg.ArgumentError, match="expected labels from 0 to 3, got -1 to 9"):
        f(x, labels)


@pytest.mark.parametrize("shape", [(40, 6), (3000, 300)])
def test_several_threads_may_run_one_program(shape):
    def f(x):
        return gg.sum(gg.softmax(gg.tanh(x)) * gg.sigmoid(x))
    compiled = gg.compile(gg.value_and_grad(f), backend="numpy")
    arguments = [rows(*shape, seed=k) for k in range(4)]
    expected = [gg.value_and_grad(f)(x) for x in arguments]
    results = {}

    def work(k):
        results[k] = [compiled(arguments[k]) for _ in range(3)]
    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for k in range(4):
        for found in results[k]:
            same(found, expected[k])


def test_a_forked_process_has_threads_of_its_own(small_tiles):
    x = rows(40, 6)
    f = gg.compile(lambda x: gg.sum(gg.tanh(x) * x), backend="numpy")
    expected = f(x)
    child = fork()
    if not child:
        signal.alarm(20)                                  # a parent's threads would never answer
        os._exit(0 if f(x) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("change", [
    lambda a: np.tanh(a.T) * 0.1,
    lambda a: np.tanh(a[::-1]) * 0.1,
    lambda a: np.sin(a.reshape(16, 2, 8) * 3).reshape(16, 16) * np.sum(a * a, axis=1, keepdims=True),
    lambda a: np.sum(np.sin(a), axis=0) * a[0],
    lambda a: np.tanh(a) * a[0],
])
def test_what_is_overwritten_was_read_before_by_every_tile(change, small_tiles):
    def f(a):
        a -= change(a)
        return np.sum(a)
    x, expected = rows(16, 16), rows(16, 16)
    compiled = gg.compile(f, backend="numpy")
    assert "tile_1" in compiled.program(x).source
    for _ in range(2):
        compiled(x)
        expected -= change(expected)
        np.testing.assert_allclose(x, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())
