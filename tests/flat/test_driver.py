"""Segments: native calls do what NumPy does, wherever the arrays are, and stop where something is wrong."""
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from flat_support import fork

pytest.importorskip("llvmlite", reason="extra jit is not installed")
import gpugrad as gg
from gpugrad.flat import driver, emit_llvm, runtime
from gpugrad.flat.driver import Product, Segment, shares
from gpugrad.flat.runtime import layout_is_known
from gpugrad.flat.spots import Spot, address, as_rows, item, matrix
from gpugrad.flat.workers import POSIX, Workers
from gpugrad.graph.namespace import TRACED as m

RNG = np.random.default_rng(11)


def here(x):
    return Spot(None, address(x), x.shape, x.strides, x.itemsize)


def spot(x, place, whole):
    """x as a part of the array at env[place]."""
    return Spot(place, address(x) - address(whole), x.shape, x.strides, x.itemsize)


VIEWS = {
    "whole": lambda x: x,
    "transposed": lambda x: x.transpose(3, 1, 0, 2),
    "steps": lambda x: x[::2, 1:, ::-1, :],
    "rows": lambda x: x[1:3, :, 1:2],
    "spread": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "one": lambda x: x[2, 1, 0, 3],
    "matrix": lambda x: x[1, :, 2].T,
}


@pytest.mark.parametrize("dtype", ["i1", "f2", "f4", "f8"])
@pytest.mark.parametrize("name", VIEWS)
def test_copies_of_views(name, dtype):
    x = RNG.integers(-99, 99, (4, 3, 5, 4)).astype(dtype)
    view = VIEWS[name](x) if name != "one" else x[2, 1, 0, 3:4].reshape(())
    y = np.zeros(view.shape, dtype)
    segment = Segment()
    assert segment.copy(here(y), spot(view, 0, x))
    segment.load()([x])
    np.testing.assert_array_equal(y, view)


def test_copies_of_too_many_axes_are_left_to_numpy():
    x = np.zeros((2, 2, 2, 2, 2)).transpose(4, 3, 2, 1, 0)
    assert not Segment().copy(here(np.zeros(x.shape)), here(x))
    assert not Segment().copy(here(np.zeros(3, "c16")), here(np.zeros(6, "c16")[::2]))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 5, 6), (1, 5, 6), (4, 1, 6), (4, 5, 1), (33, 17, 20)])
def test_products_read_rows_and_columns(shape, dtype):
    if not runtime.blas():
        pytest.skip("NumPy's BLAS has no 64-bit sizes here")
    k, rows, cols = shape
    whole_a, whole_b = RNG.standard_normal((2 * rows, 2 * k)).astype(dtype), RNG.standard_normal((2 * k, 2 * cols)).astype(dtype)
    for a in (whole_a[:rows, :k], whole_a[:rows, :k].T.copy().T, whole_a[::2, k:]):
        for b in (whole_b[:k, :cols], whole_b[:k, :cols].T.copy().T, whole_b[k:, cols:]):
            y, segment = np.empty((rows, cols), dtype), Segment()
            segment.products([Product(here(y), here(a), here(b), "f32" if dtype == "f4" else "f64")])
            segment.load()([])
            np.testing.assert_allclose(y, a @ b, rtol=1e-4 if dtype == "f4" else 1e-12, atol=1e-5)


def test_what_blas_cannot_read_is_seen():
    x = np.zeros((6, 8))
    assert as_rows(here(x[:, ::2])) is None
    assert as_rows(here(x[::-1])) is None
    assert as_rows(here(np.broadcast_to(x[:1], (6, 8)))) is None
    assert as_rows(here(x)) == (111, 8)
    assert as_rows(here(x.T)) == (112, 8)


PRODUCTS = [((5, 3, 4), (5, 4, 6)), ((5, 3, 4), (4, 6)), ((3, 4), (5, 4, 6)), ((2, 5, 3, 4), (5, 4, 6)),
            ((2, 1, 3, 4), (5, 4, 6)), ((4,), (4,)), ((4,), (4, 6)), ((3, 4), (4,)), ((5, 3, 4), (4,)), ((4,), (5, 4, 6)),
            ((0, 3), (3, 4)), ((3, 0), (0, 4))]


@pytest.mark.parametrize("shapes", PRODUCTS)
def test_products_of_batches_and_vectors(shapes):
    x, y = (RNG.standard_normal(s) for s in shapes)
    f = gg.compile(lambda x, y: (x @ y, gg.exp(x) @ gg.exp(y)), backend="llvm")
    for _ in range(2):
        plain, grown = f(x, y)
    np.testing.assert_allclose(plain, x @ y, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(grown, np.exp(x) @ np.exp(y), rtol=1e-12)
    assert np.shape(plain) == np.shape(x @ y)


def test_items_of_a_batch_that_is_broadcast():
    x = np.arange(2 * 1 * 3 * 4.0).reshape(2, 1, 3, 4)
    one = item(here(x), (1, 4))
    assert (one.start, one.shape) == (address(x[1, 0]), (3, 4))
    assert matrix(here(x[0, 0, 0]), True).shape == (1, 4)
    assert matrix(here(x[0, 0, 0]), False).shape == (4, 1)


def mlp(w1, w2, x, labels):
    return gg.mean(m.cross_entropy(m.relu(x @ w1) @ w2, labels)[0])


def arguments(dtype=np.float32):
    return (*[RNG.standard_normal(s).astype(dtype) for s in ((8, 16), (16, 5), (6, 8))], np.array([0, 4, 1, 2, 3, 0]))


def test_a_network_is_one_segment(monkeypatch):
    if not runtime.blas() or not runtime.runtime().reads_objects:
        pytest.skip("NumPy does its products here")
    made = []
    load = Segment.load
    monkeypatch.setattr(Segment, "load", lambda segment: made.append(segment) or load(segment))
    gg.compile(gg.value_and_grad(mlp, argnums=(0, 1)), backend="llvm")(*arguments())
    assert len(made) == 1
    assert len(made[0].calls) < 20


@pytest.mark.parametrize("count", [2, 3, 7])
def test_shares_are_all_of_all_products_once(count):
    rows = [96, 96, 5, 300, 17, 96, 1]                      # longer and shorter than the 30 columns
    xs = [RNG.standard_normal((n, 40)) for n in rows]
    ys, w = [np.full((n, 30), np.nan) for n in rows], RNG.standard_normal((40, 30))
    parts = shares([Product(here(y), here(x), here(w), "f64") for x, y in zip(xs, ys, strict=True)], count)
    work = [sum(p.work for p in part) for part in parts]
    assert max(work) < 1.2 * sum(work) / count + 16 * 40 * 30 / 16
    segment = Segment()
    for part in parts:
        segment.products(part)
    segment.load()([])
    for x, y in zip(xs, ys, strict=True):
        np.testing.assert_allclose(y, x @ w, rtol=1e-12, atol=1e-13)


def test_labels_stop_the_run_before_anything_is_written():
    w1, w2, x, labels = arguments()
    p, q = gg.tensor(w1.copy(), requires_grad=True), gg.tensor(w2.copy(), requires_grad=True)
    optimiser = gg.optim.SGD([p, q], lr=0.1)

    @gg.compile
    def step(x, labels):
        optimiser.zero_grad()
        loss = mlp(p, q, x, labels)
        loss.backward()
        optimiser.step()
        return loss
    step(x, labels)
    before = p._data.copy()
    with pytest.raises(gg.errors.ArgumentError, match="expected labels from 0 to 4"):
        step(x, labels + 1)
    np.testing.assert_array_equal(p._data, before)
    step(x, labels)
    assert (p._data != before).any()


KINDS = {
    "by columns": np.asfortranarray,
    "every other": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "subclass": lambda x: x.view(type("Mine", (np.ndarray,), {})),
    "unaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reads_objects", [True, False])
def test_inputs_of_any_kind(kind, reads_objects, monkeypatch):
    monkeypatch.setattr(runtime.runtime(), "reads_objects", reads_objects and runtime.runtime().reads_objects)
    args = arguments()
    f = gg.value_and_grad(mlp, argnums=(0, 1))
    program = gg.compile(f, backend="llvm").program(*args)
    expected, found = program(args), program([KINDS[kind](x) for x in args])
    np.testing.assert_array_equal(found[0], expected[0])
    for a, b in zip(found[1], expected[1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_parameter_by_columns_is_stepped_in_place():
    start = RNG.standard_normal((5, 7)).astype(np.float32)
    w = gg.tensor(np.asfortranarray(start), requires_grad=True)
    data = w._data
    optimiser = gg.optim.SGD([w], lr=0.25)

    @gg.compile
    def step():
        optimiser.zero_grad()
        gg.sum(w * w).backward()
        optimiser.step()
    for _ in range(3):
        step()
    assert w._data is data
    np.testing.assert_array_equal(data, start / 8)


@pytest.fixture
def threads(request, monkeypatch):
    """So many threads for everything, however few cores there are."""
    if not POSIX:
        pytest.skip("one thread here")
    native = runtime.runtime()
    workers = Workers(native.library, request.param - 1)
    monkeypatch.setattr(native, "workers", workers)
    for module in (emit_llvm, driver):
        monkeypatch.setattr(module, "WORKERS", request.param)
    monkeypatch.setattr(emit_llvm, "PARALLEL", 2)
    monkeypatch.setattr(driver, "SHARED", 2)
    yield request.param
    workers.stop()


@pytest.mark.parametrize("threads", [2, 3], indirect=True)
def test_products_on_threads(threads):
    xs, ws = [RNG.standard_normal((50, 40)) for _ in range(3)], [RNG.standard_normal((40, 70)) for _ in range(3)]
    f = gg.compile(lambda *args: tuple([x @ w for x, w in zip(args[:3], args[3:], strict=True)]), backend="llvm")
    for _ in range(30):
        found = f(*xs, *ws)
    for y, x, w in zip(found, xs, ws, strict=True):
        np.testing.assert_allclose(y, x @ w, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("threads", [2, 5], indirect=True)
def test_threads_share_rows_and_join_what_they_found(threads, monkeypatch):
    x = RNG.standard_normal((37, 24)).astype(np.float32)

    def f(x):
        return gg.sum(gg.exp(x)), gg.sum(x * 2, axis=0), gg.max(x), gg.softmax(x), gg.mean(x, axis=1)
    parallel = []
    monkeypatch.setattr(driver.Segment, "parallel", lambda *a, call=Segment.parallel: parallel.append(a) or call(*a))
    f_compiled = gg.compile(f, backend="llvm")
    for _ in range(30):
        found = f_compiled(x)
    assert parallel
    for a, b in zip(found, f(gg.tensor(x)), strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-5, atol=1e-6)


def test_without_such_a_blas_numpy_does_the_products(monkeypatch):
    args = arguments()
    expected = gg.compile(mlp, backend="llvm")(*args)
    monkeypatch.setattr(emit_llvm, "blas", lambda: None)
    np.testing.assert_allclose(gg.compile(mlp, backend="llvm")(*args), expected, rtol=1e-6)


def test_another_layout_of_objects_is_noticed():
    native = runtime.runtime().bind
    assert layout_is_known(native) == runtime.runtime().reads_objects
    assert not layout_is_known(lambda env, segment: 0)


def summed(x):
    return gg.sum(gg.tanh(x) * x), gg.max(x)


def test_a_forked_child_has_workers_of_its_own():
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    x = np.linspace(-2, 2, 1 << 18, dtype=np.float32).reshape(512, 512)
    f = gg.compile(summed, backend="llvm")
    expected = [float(y) for y in f(x)]
    child = fork()
    if not child:
        os._exit(0 if [float(y) for y in f(x)] == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [float(y) for y in f(x)] == expected


def test_many_callers_share_the_workers():
    x = RNG.standard_normal((256, 1024)).astype(np.float32)
    w = RNG.standard_normal((1024, 96)).astype(np.float32)
    fs = [gg.compile(lambda x, w: (gg.exp(x) @ w, summed(x)), backend="llvm") for _ in range(3)]
    expected = [np.asarray(y) for y in gg.trees.flatten(fs[0](x, w))[0]]

    def call(f):
        for _ in range(15):
            for a, b in zip(gg.trees.flatten(f(x, w))[0], expected, strict=True):
                np.testing.assert_array_equal(a, b)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(call, fs))
