"""Products of the GPU: every layout against NumPy, by the kernel, by the simulated cuBLASLt or by CuPy, and no operand copied."""
import gpu_module
import numpy
import pytest

import gpugrad as gg
from gpugrad.errors import ArgumentError, ShapeError
from gpugrad.graph import namespace
from gpugrad.kernels import cublaslt, matmul
from gpugrad.kernels.lt_library import LtError
from gpugrad.kernels.record import recording


@pytest.fixture
def xp(monkeypatch):
    return gpu_module.install(monkeypatch)


@pytest.fixture
def no_library(monkeypatch):
    def missing(xp):
        raise LtError("cublasLt: expected libcublasLt to be installed, got none. Use pip.")
    monkeypatch.setattr(cublaslt, "library_of", missing)


def some(xp, shape, dtype="float32", seed=0):
    return xp.array(numpy.random.default_rng((*shape, seed)).uniform(-1, 1, shape), dtype)


def check(y, a, b, beta_times=0):
    wanted = numpy.asarray(a, "f8") @ numpy.asarray(b, "f8") + beta_times
    inner = a.shape[-1]
    assert y.shape == wanted.shape
    assert y.dtype == a.dtype
    tolerance = 4 * numpy.finfo(y.dtype).eps * (inner + 1)
    numpy.testing.assert_allclose(numpy.asarray(y, "f8"), wanted, rtol=tolerance, atol=tolerance)


LAYOUTS = {
    "rows": lambda xp, shape, dtype: some(xp, shape, dtype),
    "transposed": lambda xp, shape, dtype: some(xp, (*shape[:-2], shape[-1], shape[-2]), dtype).swapaxes(-1, -2),
    "columns of a wider array": lambda xp, shape, dtype: some(xp, (*shape[:-1], shape[-1] + 3), dtype)[..., 1:-2],
    "rows of a taller array": lambda xp, shape, dtype: some(xp, (*shape[:-2], shape[-2] + 2, shape[-1]), dtype)[..., 1:-1, :],
}
SMALL, LARGE = (5, 7, 9), (5, 7, 130)               # rows, columns, inner: the second is beyond SMALL_INNER


@pytest.mark.parametrize("sizes", [SMALL, LARGE], ids=["kernel", "cublaslt"])
@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
def test_no_layout_is_copied(xp, left, right, sizes):
    m, n, k = sizes
    a, b = LAYOUTS[left](xp, (m, k), "float32"), LAYOUTS[right](xp, (k, n), "float32")
    with recording() as log:
        y = matmul.matmul(xp)(a, b)
    check(y, a, b)
    assert [x.kind for x in log.launches] == ["kernel" if sizes is SMALL else "cublaslt"]
    assert log.launches[0].flops == 2 * m * n * k
    assert (log.launches[0].bytes_read, log.launches[0].bytes_written) == (4 * (m * k + k * n), 4 * m * n)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("sizes", [(16, 24, 32), LARGE, (1, 1, 1), (3, 1, 200), (1, 3, 200)])
def test_dtypes_and_edges(xp, dtype, sizes):
    m, n, k = sizes
    a, b = some(xp, (m, k), dtype), some(xp, (k, n), dtype)
    check(matmul.matmul(xp)(a, b), a, b)


@pytest.mark.parametrize(("a", "b"), [
    ((9,), (9,)), ((9,), (9, 4)), ((4, 9), (9,)), ((3, 4, 9), (9,)), ((9,), (3, 9, 4)), ((3, 4, 9), (9, 5)),
    ((3, 4, 9), (3, 9, 5)), ((4, 9), (3, 9, 5)), ((2, 1, 4, 9), (3, 9, 5)), ((2, 3, 4, 9), (2, 3, 9, 5)),
    ((3, 4, 140), (3, 140, 5)), ((3, 4, 140), (140,))])
def test_vectors_and_stacks_follow_numpy(xp, a, b):
    a, b = some(xp, a), some(xp, b)
    with recording() as log:
        y = matmul.matmul(xp)(a, b)
    check(y, a, b)
    assert len(log.launches) == 1


@pytest.mark.parametrize(("a", "b"), [((0, 3), (3, 4)), ((2, 3), (3, 0)), ((2, 0), (0, 4)), ((0,), (0,)), ((0, 2, 3), (0, 3, 4)),
                                      ((3, 2, 0), (0, 4))])
def test_empty_products_launch_nothing(xp, a, b):
    a, b = some(xp, a), some(xp, b)
    with recording() as log:
        y = matmul.matmul(xp)(a, b)
    numpy.testing.assert_array_equal(y, numpy.asarray(a) @ numpy.asarray(b))
    assert not log.launches


@pytest.mark.parametrize(("a", "b"), [((2, 3), (4, 5)), ((3,), (4,)), ((2, 3, 4), (3, 4, 5)), ((), (3,))])
def test_wrong_shapes_are_errors(xp, a, b):
    with pytest.raises(ShapeError, match="matmul: "):
        matmul.matmul(xp)(some(xp, a), some(xp, b))


def test_addresses_that_no_vector_fits_are_read_one_by_one(xp):
    a, b = some(xp, (65,))[1:].reshape(8, 8), some(xp, (8, 8))
    with recording() as log:
        check(matmul.matmul(xp)(a, b), a, b)
        check(matmul.matmul(xp)(b, b), b, b)
    assert [x.name for x in log.launches] == ["gemm<float, 1, false, false, 0>", "gemm<float, 4, false, false, 0>"]


@pytest.mark.parametrize("sizes", [SMALL, LARGE])
def test_products_add_to_a_gradient_that_is_there(xp, sizes):
    m, n, k = sizes
    a, b, out = some(xp, (m, k)), some(xp, (k, n)), some(xp, (m, n))
    before = numpy.array(out)
    with recording() as log:
        assert matmul.multiply(a, b, out, 1.0) is out
    check(out, a, b, before)
    assert len(log.launches) == 1
    assert log.launches[0].bytes_read == 4 * (m * k + k * n + m * n)


def test_mixed_and_complex_operands_are_cupys(xp):
    a, b, c = some(xp, (3, 4)), some(xp, (4, 5), "float64"), some(xp, (4, 5), "complex64")
    with recording() as log:
        for other in (b, c):
            numpy.testing.assert_allclose(matmul.matmul(xp)(a, other), numpy.asarray(a) @ numpy.asarray(other))
    assert [x.kind for x in log.launches] == ["cupy"] * 2


def test_without_the_library_cupy_multiplies_and_info_knows_why(xp, no_library):
    a, b, out = some(xp, (5, 200)), some(xp, (200, 6)), some(xp, (5, 6))
    with recording() as log:
        check(matmul.matmul(xp)(a, b), a, b)
        check(matmul.multiply(a, b, out.astype("float16").astype("f"), 0.0), a, b)
    assert [x.kind for x in log.launches] == ["cupy"] * 2
    assert [why for why in cublaslt.reasons() if "installed" in why]


@pytest.mark.parametrize("name", ["tf32", "bf16"])
def test_tensor_cores_round_only_when_asked(xp, name):
    a, b = some(xp, (4, 200)), some(xp, (200, 4))
    product = matmul.matmul(xp)
    exact = product(a, b)
    with matmul.matmul_precision(name):
        rough = product(a, b)
        with matmul.matmul_precision("float32"):
            numpy.testing.assert_array_equal(product(a, b), exact)
        check(product(a.astype("f8"), b.astype("f8")), a.astype("f8"), b.astype("f8"))
    numpy.testing.assert_array_equal(product(a, b), exact)
    assert 0 < abs(rough - exact).max() < {"tf32": 2e-2, "bf16": 2e-1}[name]


def test_unknown_precisions_are_errors():
    with pytest.raises(ArgumentError, match="matmul_precision: expected 'float32'"), matmul.matmul_precision("high"):
        pass


# layers -------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("rows", [1, 6, 200])
def test_a_layer_is_one_launch_forward(xp, rows):
    x, w, b = some(xp, (rows, 12)), some(xp, (7, 12)), some(xp, (7,))
    with recording() as log:
        check(matmul.linear(x, w, b), x, w.T, b)
        check(matmul.linear(x, w), x, w.T)
    assert len(log.launches) == 2


def test_a_layer_without_rows_or_inputs_is_its_bias(xp):
    w, b = some(xp, (7, 3)), some(xp, (7,))
    assert matmul.linear(some(xp, (0, 3)), w, b).shape == (0, 7)
    numpy.testing.assert_array_equal(matmul.linear(some(xp, (2, 0)), some(xp, (7, 0)), b), numpy.stack([b, b]))


@pytest.mark.parametrize("rows", [0, 1, 6, 200])
@pytest.mark.parametrize("added", [False, True])
def test_weight_and_bias_gradients_are_one_launch(xp, rows, added):
    g, x = some(xp, (rows, 7)), some(xp, (rows, 12))
    total = some(xp, (7, 12)) if added else None
    before = numpy.array(total) if added else 0
    with recording() as log:
        dw, db = matmul.linear_gradients(g, x, total)
    assert not added or dw is total
    check(dw, g.T, x, before)
    numpy.testing.assert_allclose(db, numpy.asarray(g).sum(0), rtol=1e-5, atol=1e-5)
    assert len(log.launches) == (rows > 0)


def test_layers_work_without_the_library(xp, no_library):
    x, w, b, g = some(xp, (6, 200)), some(xp, (7, 200)), some(xp, (7,)), some(xp, (6, 7))
    check(matmul.linear(x, w, b), x, w.T, b)
    dw, db = matmul.linear_gradients(g, x)
    check(dw, g.T, x)
    numpy.testing.assert_allclose(db, numpy.asarray(g).sum(0), rtol=1e-5)


# gradients ------------------------------------------------------------------------------------------------------------------

@pytest.fixture
def gpu(xp, monkeypatch):
    """The module of simulated arrays in the whole library's eyes, for as long as a test runs."""
    known = namespace.module_of_type
    for module in ("gpugrad.graph.namespace", "gpugrad.arrays.modules", "gpugrad.arrays"):
        monkeypatch.setattr(f"{module}.module_of_type", lambda t: xp if issubclass(t, gpu_module.Array) else known(t))
    monkeypatch.setattr("gpugrad.graph.tensor.device_of", lambda x: "cuda:0")
    namespace.RAW.pop(gpu_module.Array, None)
    yield xp
    namespace.RAW.pop(gpu_module.Array, None)
    for prim in namespace.PRIMITIVES.values():
        prim.impls.pop(gpu_module.Array, None)


def pull(xp, name, totals, g, *xs, want=None):
    prim, m = namespace.PRIMITIVES[name], namespace.RAW[gpu_module.Array]
    want = want or [True] * len(xs)
    return prim.pull_into(m, totals, g, want, None, xs, {}), prim.pull(namespace.RAW[numpy.ndarray], numpy.asarray(g), want, None,
                                                                     [numpy.asarray(x) for x in xs], {})


@pytest.mark.parametrize(("name", "shapes", "g"), [
    ("matmul", [(4, 5), (5, 6)], (4, 6)), ("matmul", [(3, 4, 5), (3, 5, 6)], (3, 4, 6)),
    ("matmul", [(3, 4, 5), (5, 6)], (3, 4, 6)), ("matmul", [(4, 5), (3, 5, 6)], (3, 4, 6)),
    ("matmul", [(5,), (5, 6)], (6,)), ("matmul", [(4, 5), (5,)], (4,)),
    ("matmul", [(4, 200), (200, 6)], (4, 6)),
    ("linear", [(4, 5), (6, 5), (6,)], (4, 6)), ("linear", [(4, 5), (6, 5)], (4, 6)),
    ("linear", [(2, 3, 5), (6, 5), (6,)], (2, 3, 6))])
@pytest.mark.parametrize("there", [(), (0,), (1,), (0, 1)])
def test_cotangents_add_to_what_is_there(gpu, name, shapes, g, there):
    xs, g = [some(gpu, s, seed=i) for i, s in enumerate(shapes)], some(gpu, g, seed=9)
    totals = [some(gpu, x.shape, seed=20) if i in there else None for i, x in enumerate(xs)]
    before = [None if t is None else numpy.array(t) for t in totals]
    found, wanted = pull(gpu, name, totals, g, *xs)
    for total, old, new, right in zip(totals, before, found, wanted):
        assert total is not None or new is not None
        if total is not None:
            new, right = (total, right + old) if new is None else (new, right)
        numpy.testing.assert_allclose(new, right, rtol=2e-5, atol=2e-5)


def test_a_layer_pulls_back_in_two_launches(gpu):
    x, w, b, g = some(gpu, (8, 200)), some(gpu, (16, 200)), some(gpu, (16,)), some(gpu, (8, 16))
    with recording() as log:
        pull(gpu, "linear", [None] * 3, g, x, w, b)
    assert sorted(x.name for x in log.launches) == ["gemm<float, 4, false, false, 0>", "gemm_NT float32 sum_a"]


def test_a_weight_used_twice_gets_one_sum(gpu):
    x, w = some(gpu, (130, 16)), some(gpu, (16, 16))
    weight = gg.Tensor(w)
    weight.requires_grad = True
    y = gg.matmul(gg.matmul(gg.Tensor(x), weight), weight)
    with recording() as log:
        y.backward(gg.Tensor(gpu.array(numpy.ones((130, 16)), "float32")))
    ones = numpy.ones((130, 16))
    right = numpy.asarray(x @ w).T @ ones + numpy.asarray(x).T @ (ones @ numpy.asarray(w).T)
    numpy.testing.assert_allclose(numpy.asarray(weight.grad.data), right, rtol=1e-3, atol=1e-3)
    assert [x.bytes_read for x in log.launches][-1] == 4 * (2 * 130 * 16 + 16 * 16)      # the last one adds
