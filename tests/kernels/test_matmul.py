"""Products of the GPU: every layout against NumPy, by the kernel, by the simulated cuBLASLt or by CuPy, and no operand copied."""
import numpy
import pytest
from on_device import host

import gpugrad as gg
from gpugrad.cudasim import cupy
from gpugrad.errors import ArgumentError, ShapeError
from gpugrad.graph import namespace
from gpugrad.kernels import cublaslt, matmul
from gpugrad.kernels.lt_library import LtError
from gpugrad.kernels.record import recording

pytestmark = pytest.mark.usefixtures("sim")
product = matmul.matmul(cupy)


@pytest.fixture
def no_library(monkeypatch):
    for cache in ("_handles", "_prepared", "_workspaces", "_reasons"):
        monkeypatch.setattr(cublaslt, cache, type(getattr(cublaslt, cache))())

    def missing(xp):
        raise LtError("cublasLt: expected libcublasLt to be installed, got none. Use pip.")
    monkeypatch.setattr(cublaslt, "library_of", missing)


def some(shape, dtype="float32", seed=0):
    return cupy.asarray(numpy.random.default_rng((*shape, seed)).uniform(-1, 1, shape), dtype)


def wide(x):
    return host(x).astype("f8")


def check(y, a, b, beta_times=0):
    wanted = wide(a) @ wide(b) + beta_times
    inner = a.shape[-1]
    assert y.shape == wanted.shape
    assert y.dtype == a.dtype
    tolerance = 4 * numpy.finfo(y.dtype).eps * (inner + 1)
    numpy.testing.assert_allclose(wide(y), wanted, rtol=tolerance, atol=tolerance)


LAYOUTS = {
    "rows": lambda shape, dtype: some(shape, dtype),
    "transposed": lambda shape, dtype: some((*shape[:-2], shape[-1], shape[-2]), dtype).swapaxes(-1, -2),
    "columns of a wider array": lambda shape, dtype: some((*shape[:-1], shape[-1] + 3), dtype)[..., 1:-2],
    "rows of a taller array": lambda shape, dtype: some((*shape[:-2], shape[-2] + 2, shape[-1]), dtype)[..., 1:-1, :],
}
SMALL, LARGE = (5, 7, 9), (5, 7, 130)               # rows, columns, inner: the second is beyond SMALL_INNER


@pytest.mark.parametrize("sizes", [SMALL, LARGE], ids=["kernel", "cublaslt"])
@pytest.mark.parametrize("left", LAYOUTS)
@pytest.mark.parametrize("right", LAYOUTS)
def test_no_layout_is_copied(left, right, sizes):
    m, n, k = sizes
    a, b = LAYOUTS[left]((m, k), "float32"), LAYOUTS[right]((k, n), "float32")
    with recording() as log:
        y = product(a, b)
    check(y, a, b)
    assert [x.kind for x in log.launches] == ["kernel" if sizes is SMALL else "cublaslt"]
    assert log.launches[0].flops == 2 * m * n * k
    assert (log.launches[0].bytes_read, log.launches[0].bytes_written) == (4 * (m * k + k * n), 4 * m * n)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("sizes", [(16, 24, 32), LARGE, (1, 1, 1), (3, 1, 200), (1, 3, 200)])
def test_dtypes_and_edges(dtype, sizes):
    m, n, k = sizes
    a, b = some((m, k), dtype), some((k, n), dtype)
    check(product(a, b), a, b)


@pytest.mark.parametrize(("a", "b"), [
    ((9,), (9,)), ((9,), (9, 4)), ((4, 9), (9,)), ((3, 4, 9), (9,)), ((9,), (3, 9, 4)), ((3, 4, 9), (9, 5)),
    ((3, 4, 9), (3, 9, 5)), ((4, 9), (3, 9, 5)), ((2, 1, 4, 9), (3, 9, 5)), ((2, 3, 4, 9), (2, 3, 9, 5)),
    ((3, 4, 140), (3, 140, 5)), ((3, 4, 140), (140,))])
def test_vectors_and_stacks_follow_numpy(a, b):
    a, b = some(a), some(b)
    with recording() as log:
        y = product(a, b)
    check(y, a, b)
    assert len(log.launches) == 1


@pytest.mark.parametrize(("a", "b"), [((0, 3), (3, 4)), ((2, 3), (3, 0)), ((2, 0), (0, 4)), ((0,), (0,)), ((0, 2, 3), (0, 3, 4)),
                                      ((3, 2, 0), (0, 4))])
def test_empty_products_launch_nothing(a, b):
    a, b = some(a), some(b)
    with recording() as log:
        y = product(a, b)
    numpy.testing.assert_array_equal(host(y), host(a) @ host(b))
    assert not log.launches


@pytest.mark.parametrize(("a", "b"), [((2, 3), (4, 5)), ((3,), (4,)), ((2, 3, 4), (3, 4, 5)), ((), (3,))])
def test_wrong_shapes_are_errors(a, b):
    with pytest.raises(ShapeError, match="matmul: "):
        product(some(a), some(b))


def test_addresses_that_no_vector_fits_are_read_one_by_one():
    a, b = some((65,))[1:].reshape(8, 8), some((8, 8))
    with recording() as log:
        check(product(a, b), a, b)
        check(product(b, b), b, b)
    assert [x.name for x in log.launches] == ["gemm<float, 1, false, false, 0>", "gemm<float, 4, false, false, 0>"]


@pytest.mark.parametrize("sizes", [SMALL, LARGE])
def test_products_add_to_a_gradient_that_is_there(sizes):
    m, n, k = sizes
    a, b, out = some((m, k)), some((k, n)), some((m, n))
    before = host(out)
    with recording() as log:
        assert matmul.multiply(a, b, out, 1.0) is out
    check(out, a, b, before)
    assert len(log.launches) == 1
    assert log.launches[0].bytes_read == 4 * (m * k + k * n + m * n)


def test_mixed_and_complex_operands_are_cupys():
    a, b, c = some((3, 4)), some((4, 5), "float64"), some((4, 5), "complex64")
    with recording() as log:
        for other in (b, c):
            numpy.testing.assert_allclose(host(product(a, other)), host(a) @ host(other), rtol=1e-6)
    assert [x.kind for x in log.launches] == ["cupy"] * 2


def test_without_the_library_cupy_multiplies_and_info_knows_why(no_library):
    a, b, out = some((5, 200)), some((200, 6)), some((5, 6))
    with recording() as log:
        check(product(a, b), a, b)
        check(matmul.multiply(a, b, out.astype("float16").astype("f"), 0.0), a, b)
    assert [x.kind for x in log.launches] == ["cupy"] * 2
    assert [why for why in cublaslt.reasons() if "installed" in why]


@pytest.mark.parametrize("name", ["tf32", "bf16"])
def test_tensor_cores_round_only_when_asked(name):
    a, b = some((4, 200)), some((200, 4))
    exact = product(a, b)
    with matmul.matmul_precision(name):
        rough = product(a, b)
        with matmul.matmul_precision("float32"):
            numpy.testing.assert_array_equal(host(product(a, b)), host(exact))
        check(product(a.astype("f8"), b.astype("f8")), a.astype("f8"), b.astype("f8"))
    numpy.testing.assert_array_equal(host(product(a, b)), host(exact))
    assert 0 < abs(host(rough) - host(exact)).max() < {"tf32": 2e-2, "bf16": 2e-1}[name]


def test_unknown_precisions_are_errors():
    with pytest.raises(ArgumentError, match="matmul_precision: expected 'float32'"), matmul.matmul_precision("high"):
        pass


# layers -------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("rows", [1, 6, 200])
def test_a_layer_is_one_launch_forward(rows):
    x, w, b = some((rows, 12)), some((7, 12)), some((7,))
    with recording() as log:
        check(matmul.linear(x, w, b), x, w.T, host(b))
        check(matmul.linear(x, w), x, w.T)
    assert len(log.launches) == 2


def test_a_layer_without_rows_or_inputs_is_its_bias():
    w, b = some((7, 3)), some((7,))
    assert matmul.linear(some((0, 3)), w, b).shape == (0, 7)
    numpy.testing.assert_array_equal(host(matmul.linear(some((2, 0)), some((7, 0)), b)), numpy.stack([host(b)] * 2))


@pytest.mark.parametrize("rows", [0, 1, 6, 200])
@pytest.mark.parametrize("added", [False, True])
def test_weight_and_bias_gradients_are_one_launch(rows, added):
    g, x = some((rows, 7)), some((rows, 12))
    total = some((7, 12)) if added else None
    before = host(total) if added else 0
    with recording() as log:
        dw, db = matmul.linear_gradients(g, x, total)
    assert not added or dw is total
    check(dw, g.T, x, before)
    numpy.testing.assert_allclose(host(db), host(g).sum(0), rtol=1e-5, atol=1e-5)
    assert len(log.launches) == (rows > 0)


def test_layers_work_without_the_library(no_library):
    x, w, b, g = some((6, 200)), some((7, 200)), some((7,)), some((6, 7))
    check(matmul.linear(x, w, b), x, w.T, host(b))
    dw, db = matmul.linear_gradients(g, x)
    check(dw, g.T, x)
    numpy.testing.assert_allclose(host(db), host(g).sum(0), rtol=1e-5)


# gradients ------------------------------------------------------------------------------------------------------------------

def pull(name, totals, g, *xs):
    prim, want = namespace.PRIMITIVES[name], [True] * len(xs)
    on_cpu = prim.pull(namespace.RAW[numpy.ndarray], host(g), want, None, [host(x) for x in xs], {})
    return prim.pull_into(namespace.RAW[cupy.ndarray], totals, g, want, None, xs, {}), on_cpu


@pytest.mark.parametrize(("name", "shapes", "g"), [
    ("matmul", [(4, 5), (5, 6)], (4, 6)), ("matmul", [(3, 4, 5), (3, 5, 6)], (3, 4, 6)),
    ("matmul", [(3, 4, 5), (5, 6)], (3, 4, 6)), ("matmul", [(4, 5), (3, 5, 6)], (3, 4, 6)),
    ("matmul", [(5,), (5, 6)], (6,)), ("matmul", [(4, 5), (5,)], (4,)),
    ("matmul", [(4, 200), (200, 6)], (4, 6)),
    ("linear", [(4, 5), (6, 5), (6,)], (4, 6)), ("linear", [(4, 5), (6, 5)], (4, 6)),
    ("linear", [(2, 3, 5), (6, 5), (6,)], (2, 3, 6))])
@pytest.mark.parametrize("there", [(), (0,), (1,), (0, 1)])
def test_cotangents_add_to_what_is_there(name, shapes, g, there):
    xs, g = [some(s, seed=i) for i, s in enumerate(shapes)], some(g, seed=9)
    totals = [some(x.shape, seed=20) if i in there else None for i, x in enumerate(xs)]
    before = [None if t is None else host(t) for t in totals]
    found, wanted = pull(name, totals, g, *xs)
    for total, old, new, right in zip(totals, before, found, wanted):
        assert total is not None or new is not None
        if total is not None:
            new, right = (total, right + old) if new is None else (new, right)
        numpy.testing.assert_allclose(host(new), right, rtol=2e-5, atol=2e-5)


def test_a_layer_pulls_back_in_two_launches():
    x, w, b, g = some((8, 200)), some((16, 200)), some((16,)), some((8, 16))
    with recording() as log:
        pull("linear", [None] * 3, g, x, w, b)
    assert sorted(x.name for x in log.launches) == ["gemm<float, 4, false, false, 0>", "gemm_NT float32 sum_a"]


def test_a_weight_used_twice_gets_one_sum():
    x, w = some((130, 16)), some((16, 16))
    weight = gg.Tensor(w)
    weight.requires_grad = True
    y = gg.matmul(gg.matmul(gg.Tensor(x), weight), weight)
    with recording() as log:
        y.backward(gg.Tensor(cupy.ones((130, 16), "float32")))
    ones = numpy.ones((130, 16))
    right = host(x @ w).T @ ones + host(x).T @ (ones @ host(w).T)
    numpy.testing.assert_allclose(host(weight.grad), right, rtol=1e-3, atol=1e-3)
    assert [x.bytes_read for x in log.launches][-1] == 4 * (2 * 130 * 16 + 16 * 16)      # the last one adds


# stacks with two strides --------------------------------------------------------------------------------------------------

def heads(shape, dtype="float32", seed=0):
    """(batch, heads, rows, columns) of rows that hold the heads side by side, with two columns more."""
    batch, count, rows, columns = shape
    return some((batch, rows, count, columns + 2), dtype, seed)[..., :columns].transpose(0, 2, 1, 3)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("sizes", [(5, 7, 9), (8, 16, 8), (70, 3, 6)])
def test_heads_side_by_side_are_multiplied_where_they_lie(sizes, dtype):
    m, n, k = sizes
    a, b = heads((3, 2, m, k), dtype), heads((3, 2, n, k), dtype, 1).swapaxes(-1, -2)
    out = heads((3, 2, m, n), dtype, 2)
    before = wide(out)
    for c in (a, cupy.ascontiguousarray(a), a[:1], a[0]):     # a stack of one stride, and those that repeat, beside one of two
        with recording() as log:
            y = product(c, b)
        assert [launch.kind for launch in log.launches] == ["kernel"]
        check(y, c, b)
    with recording() as log:
        assert matmul.multiply(a, b, out, beta=2.0, alpha=-1.0) is out
    assert [launch.kind for launch in log.launches] == ["kernel"]
    check(out, -a, b, 2 * before)


def test_stacks_that_no_kernel_multiplies_where_they_lie():
    for a, b in [(heads((2, 3, 4, 130)), heads((2, 3, 130, 5))),                                # too long along the sum
                 (some((2, 3, 4, 5, 6)).transpose(2, 1, 0, 3, 4), some((4, 3, 2, 6, 5)))]:      # three strides
        with recording() as log:
            y = product(a, b)
        assert "gemm<" not in str([launch.name for launch in log.launches])
        check(y, a, b)
