"""cuBLASLt: every layout against numpy.matmul through the simulated library, which reads only the descriptors; the real library's
descriptors where it is installed (they need no GPU); epilogues, caches, refusals and the fallback."""
import sys
from types import ModuleType, SimpleNamespace

import numpy
import pytest

from gpugrad.cudasim import address, cupy
from gpugrad.cudasim.cublaslt import CublasLt, gelu, gelu_slope
from gpugrad.errors import ArgumentError, DeviceError, DtypeError, ShapeError
from gpugrad.kernels import cublaslt, lt_library
from gpugrad.kernels.cublaslt import LtUnsupportedError, aux_shape, matmul, product, why_not
from gpugrad.kernels.lt_library import Layout, LtError, Preference, Product
from gpugrad.kernels.lt_plan import EPILOGUES, plan
from gpugrad.kernels.record import recording


class Array(numpy.ndarray):
    """A NumPy array with CuPy's attributes, at an address of the simulated device."""

    device = SimpleNamespace(id=0)
    get = None

    @property
    def data(self):
        return SimpleNamespace(ptr=address(self))


@pytest.fixture
def lt(monkeypatch):
    """The executor in the library's place, and Array in CuPy's."""
    fake, xp = CublasLt(), ModuleType("cupy")
    xp.ndarray, xp.empty = Array, lambda size, dtype: aligned(numpy.zeros(size, dtype), 256)
    xp.matmul = lambda a, b, out=None: numpy.matmul(a, b, out=out)
    xp.cuda = SimpleNamespace(Device=cupy.cuda.Device, runtime=cupy.cuda.runtime,
                              get_current_stream=lambda: SimpleNamespace(ptr=77))
    monkeypatch.setitem(sys.modules, "cupy", xp)
    for module in ("gpugrad.arrays", "gpugrad.kernels.cublaslt"):
        monkeypatch.setattr(f"{module}.module_of", lambda x: xp if isinstance(x, Array) else numpy)
    for cache in ("_handles", "_prepared", "_workspaces", "_reasons"):
        monkeypatch.setattr(cublaslt, cache, type(getattr(cublaslt, cache))())
    monkeypatch.setattr(cublaslt, "library", lambda: lt_library.Library(fake))
    monkeypatch.setattr(cublaslt, "WORKSPACE_BYTES", 1024)
    fake.xp = xp
    return fake


def aligned(values, to=16):
    """The values at an address that is a multiple of `to` and of nothing more."""
    room = numpy.zeros(values.nbytes + 4 * to, numpy.uint8)
    placed = room[to:to + values.nbytes].view(values.dtype).reshape(values.shape)
    placed[...] = values
    return placed.view(Array)


def laid_out(rng, shape, dtype, by_rows=True, pad=0, batch_pad=0):
    """Random values of a shape whose rows, or columns, lie together, `pad` elements apart."""
    *lead, rows, cols = shape
    inner = (rows, cols + pad) if by_rows else (cols, rows + pad)
    room = aligned(numpy.zeros((*lead[:-1], *([lead[-1] + batch_pad] if lead else []), *inner), dtype))
    view = room[..., :cols] if by_rows else room[..., :rows].swapaxes(-1, -2)
    view = view[..., :lead[-1], :, :] if lead else view
    view[...] = rng.uniform(-1, 1, shape)
    return view


def close(result, expected, k, dtype):
    tolerance = 8 * numpy.finfo(dtype).eps * numpy.sqrt(k + 1) * max(1, numpy.abs(expected).max(initial=0))
    return numpy.abs(result - expected).max(initial=0) <= tolerance


@pytest.mark.parametrize("seed", range(300))
def test_any_layout_multiplies_as_numpy_does(lt, seed):
    rng = numpy.random.default_rng(seed)
    m, n, k = rng.choice([1, 1, 2, 3, 5, 8, 17], 3)
    lead = [(), (), (3,), (2, 3)][rng.integers(4)]
    dtype, out_dtype = [("float32",) * 2, ("float64",) * 2, ("float16", "float32")][rng.integers(3)]

    def some(shape, dtype, may_be_columns=True, lead=lead):
        return laid_out(rng, (*lead, *shape), dtype, bool(rng.integers(2)) or not may_be_columns, int(rng.integers(3)),
                        int(rng.integers(2)) if len(lead) == 1 else 0)

    a, b = some((m, k), dtype), some((k, n), dtype, lead=lead if rng.integers(2) else ())
    columns = bool(rng.integers(2))
    out, c = (laid_out(rng, (*lead, m, n), out_dtype, not columns, int(rng.integers(3))) for _ in "dc")
    alpha, beta = (float(x) for x in rng.choice([0.0, 1.0, -0.5], 2))
    separate = bool(rng.integers(2))
    expected = alpha * (a.astype("f8") @ b.astype("f8")) + beta * (c if separate else out).astype("f8")
    if separate and 1 in (m, n) and why_not(a, b, out, c=c):            # a single row or column of c has one reading only
        with pytest.raises(LtUnsupportedError, match="of c must lie together"):
            matmul(a, b, out, c=c)
        return
    assert matmul(a, b, out, alpha=alpha, beta=beta, c=c if separate else None) is out
    assert lt.products == 1
    assert close(out, expected, k, out_dtype)


@pytest.mark.parametrize("orders", [(x, y, z) for x in (True, False) for y in (True, False) for z in (True, False)])
def test_no_layout_is_copied_or_refused(lt, orders):
    rng = numpy.random.default_rng(0)
    a, b, out = (laid_out(rng, shape, "float32", order, 3) for shape, order in zip([(4, 6), (6, 5), (4, 5)], orders))
    before = out.__array_interface__["data"]
    matmul(a, b, out)
    assert out.__array_interface__["data"] == before
    assert close(out, a @ b, 6, "float32")


def test_padding_between_rows_is_left_alone(lt):
    rng = numpy.random.default_rng(1)
    room = aligned(numpy.full((4, 9), 7, "float32"))
    matmul(laid_out(rng, (4, 3), "float32"), laid_out(rng, (3, 5), "float32"), room[:, 2:7])
    assert (room[:, :2] == 7).all()
    assert (room[:, 7:] == 7).all()
    assert (room[:, 2:7] != 7).all()


def test_the_tables_of_row_major_products():
    x, w, dy = (numpy.zeros(s, "float32") for s in ((32, 20), (20, 12), (32, 12)))
    y, dx, dw = (numpy.zeros_like(z) for z in (dy, x, w))
    forward, to_x, to_w = plan(x, w, y), plan(dy, w.T, dx), plan(x.T, dy, dw)
    assert [(p.m, p.n, p.k, p.transpose_a, p.transpose_b) for p in (forward, to_x, to_w)] == [
        (12, 32, 20, False, False), (20, 32, 12, True, False), (12, 20, 32, False, True)]
    assert (forward.a.ld, forward.b.ld, forward.d.ld) == (12, 20, 12)


def test_a_batch_with_one_weight_is_one_product():
    x, w, y = numpy.zeros((7, 5, 4), "f"), numpy.zeros((4, 3), "f"), numpy.zeros((7, 5, 3), "f")
    assert (plan(x, w, y).batch, plan(x, w, y).n) == (1, 35)
    cut = numpy.zeros((7, 6, 4), "f")[:, :5]
    assert (plan(cut, w, y).batch, plan(cut, w, y).n, plan(cut, w, y).b.batch_stride) == (7, 5, 24)


def test_batches_without_a_common_stride_are_refused():
    a = numpy.zeros((2, 5, 3, 4), "f")[:, :3]
    b, out = numpy.zeros((2, 3, 4, 2), "f"), numpy.zeros((2, 3, 3, 2), "f")
    assert plan(numpy.zeros((2, 3, 3, 4), "f"), b, out).batch == 6
    with pytest.raises(LtUnsupportedError, match="no common stride"):
        plan(a, b, out)
    for repeated in (b[:, :1], b[0]):
        with pytest.raises(LtUnsupportedError, match="no common stride"):
            plan(numpy.zeros((2, 3, 3, 4), "f"), repeated, out)


@pytest.mark.parametrize(("lead_a", "lead_b"), [((3,), (1,)), ((1, 3), (3,)), ((2, 1), (2, 1)), ((1,), (3,)), ((2, 1, 3), (1,
                                                                                                                           1,
                                                                                                                           1))])
def test_axes_of_one_are_broadcast_or_passed_over(lt, lead_a, lead_b):
    rng = numpy.random.default_rng(8)
    a, b = laid_out(rng, (*lead_a, 4, 6), "float64"), laid_out(rng, (*lead_b, 6, 5), "float64")
    a = numpy.lib.stride_tricks.as_strided(a, a.shape, [s if n > 1 else 8 * 99 for n, s in zip(a.shape, a.strides)], subok=True)
    out = laid_out(rng, (*numpy.broadcast_shapes(lead_a, lead_b), 4, 5), "float64")
    matmul(a, b, out)
    assert lt.products == 1
    assert close(out, a @ b, 6, "float64")


FOLDED_ON_THEMSELVES = {
    "windows": lambda x: numpy.lib.stride_tricks.sliding_window_view(x.reshape(-1)[:9], 6),
    "windows in columns": lambda x: numpy.lib.stride_tricks.sliding_window_view(x.reshape(-1)[:9], 4).T,
    "one row many times": lambda x: numpy.broadcast_to(x[:1], (4, 6)),
    "rows backwards": lambda x: x[::-1], "columns backwards": lambda x: x[:, ::-1],
}


@pytest.mark.parametrize("case", FOLDED_ON_THEMSELVES)
def test_what_is_no_matrix_in_memory_goes_to_cupy(lt, case):
    rng = numpy.random.default_rng(9)
    a = FOLDED_ON_THEMSELVES[case](laid_out(rng, (4, 6), "float64").view(numpy.ndarray)).view(Array)
    if case.startswith("windows in"):
        a = a[:4]
    b, out = laid_out(rng, (6, 5), "float64"), zeros(4, 5, dtype="float64")
    assert "of a must lie together" in why_not(a, b, out)
    assert close(product(a, b, out), a @ b, 6, "float64")


def test_an_out_that_repeats_is_refused():
    one = numpy.zeros((4, 5), "f")
    out = numpy.lib.stride_tricks.as_strided(one, (3, 4, 5), (0, 20, 4))
    with pytest.raises(LtUnsupportedError, match="broadcast along its batch"):
        plan(numpy.zeros((3, 4, 6), "f"), numpy.zeros((3, 6, 5), "f"), out)


def test_a_row_that_repeats_along_the_batch_stays_a_batch():
    a = numpy.broadcast_to(numpy.zeros((1, 4), "f"), (3, 1, 4))
    one = plan(a, numpy.zeros((4, 5), "f"), numpy.zeros((3, 1, 5), "f"))
    assert (one.batch, one.b.batch_stride, one.d.batch_stride) == (3, 0, 5)


@pytest.mark.parametrize("compute", [None, "tf32", "bf16"])
def test_precision_is_full_unless_asked(compute):
    a = numpy.zeros((4, 4), "f")
    assert plan(a, a, a.copy(), compute=compute).compute == {None: "32F", "tf32": "32F_FAST_TF32",
                                                             "bf16": "32F_FAST_16BF"}[compute]
    with pytest.raises(DtypeError, match="float32 only"):
        plan(*(numpy.zeros((4, 4)) for _ in range(3)), compute="tf32")


EXPECTED = {                             # (out, vector) from the product p, its inputs and the aux of a forward pass q
    "bias": lambda p, a, b, v, q: (p + v, None), "relu": lambda p, a, b, v, q: (numpy.maximum(p, 0), None),
    "relu_bias": lambda p, a, b, v, q: (numpy.maximum(p + v, 0), None),
    "relu_aux": lambda p, a, b, v, q: (numpy.maximum(p, 0), None),
    "relu_aux_bias": lambda p, a, b, v, q: (numpy.maximum(p + v, 0), None),
    "drelu": lambda p, a, b, v, q: (p * (q > 0), None), "drelu_bgrad": lambda p, a, b, v, q: (p * (q > 0), (p * (q > 0)).sum(0)),
    "gelu": lambda p, a, b, v, q: (gelu(p), None), "gelu_bias": lambda p, a, b, v, q: (gelu(p + v), None),
    "gelu_aux": lambda p, a, b, v, q: (gelu(p), None), "gelu_aux_bias": lambda p, a, b, v, q: (gelu(p + v), None),
    "dgelu": lambda p, a, b, v, q: (p * gelu_slope(q), None),
    "dgelu_bgrad": lambda p, a, b, v, q: (p * gelu_slope(q), (p * gelu_slope(q)).sum(0)),
    "sum_a": lambda p, a, b, v, q: (p, a.sum(1)), "sum_b": lambda p, a, b, v, q: (p, b.sum(0)),
}


def test_every_epilogue_is_tested():
    assert {*EXPECTED} == {*EPILOGUES} - {None}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("epilogue", EXPECTED)
def test_epilogues_mean_what_they_say_in_rows(lt, epilogue, turned):
    rng = numpy.random.default_rng(3)
    m, n, k = 6, 130, 5
    a, b = laid_out(rng, (m, k), "float64", not turned, 2), laid_out(rng, (k, n), "float64", turned, 1)
    out, how = laid_out(rng, (m, n), "float64", True, 3), {}
    values = vector = None
    if any(part in epilogue for part in ("bias", "bgrad", "sum")):
        vector = how["vector"] = aligned(rng.uniform(-1, 1, m if epilogue == "sum_a" else n))
        values = vector.copy()
    q = rng.uniform(-1, 1, (m, n))
    if "aux" in epilogue or epilogue.startswith("d"):
        how["aux"] = aligned(numpy.zeros(aux_shape(epilogue, m, n), "uint8" if "relu" in epilogue else "float64"))
    if epilogue.startswith("d"):                                        # aux as a forward pass leaves it: q = q @ 1
        forward = laid_out(rng, (m, n), "float64")
        matmul(aligned(q), aligned(numpy.eye(n)), forward, epilogue="relu_aux" if "relu" in epilogue else "gelu_aux",
               aux=how["aux"], nan_to_zero=True)
    expected, expected_vector = EXPECTED[epilogue](a @ b, a, b, values, q)
    matmul(a, b, out, epilogue=epilogue, nan_to_zero=True, **how)
    assert close(out, expected, k, "float64")
    if vector is not None:
        assert close(vector, values if expected_vector is None else expected_vector, m + k, "float64")


@pytest.mark.parametrize("epilogue", ["sum_a", "sum_b"])
def test_sums_of_an_operand_hold_for_an_out_in_columns_too(lt, epilogue):
    rng = numpy.random.default_rng(10)
    a, b, out = laid_out(rng, (6, 3), "float64"), laid_out(rng, (3, 7), "float64"), laid_out(rng, (6, 7), "float64", False)
    vector = zeros(6 if epilogue == "sum_a" else 7, dtype="float64")
    matmul(a, b, out, epilogue=epilogue, vector=vector)
    assert close(out, a @ b, 3, "float64")
    assert close(vector, a.sum(1) if epilogue == "sum_a" else b.sum(0), 3, "float64")


def test_a_batch_has_no_bias_gradient_of_its_own():
    a, b, out, vector = (numpy.zeros(s, "f") for s in ((3, 4, 6), (3, 6, 5), (3, 4, 5), (5,)))
    assert plan(a, b, out, epilogue="bias", vector=vector).batch == 3
    with pytest.raises(LtUnsupportedError, match="sum_b on a batch of 3"):
        plan(a, b, out, epilogue="sum_b", vector=vector)


def test_accumulation_masks_once(lt):
    rng = numpy.random.default_rng(4)
    q, dy, w, so_far = (laid_out(rng, s, "float64") for s in ((6, 20), (6, 5), (20, 5), (6, 20)))
    mask, forward = aligned(numpy.zeros(aux_shape("relu_aux", 6, 20), "uint8")), laid_out(rng, (6, 20), "float64")
    matmul(q, aligned(numpy.eye(20)), forward, epilogue="relu_aux", aux=mask, nan_to_zero=True)
    expected = (dy @ w.T + so_far) * (q > 0)
    matmul(dy, w.T, so_far, beta=1, epilogue="drelu", aux=mask)
    assert close(so_far, expected, 6, "float64")


def test_relu_is_refused_since_it_would_hide_nan(lt):
    a, b, out = (aligned(numpy.full((4, 4), v, "f")) for v in (numpy.nan, 1, 1))
    assert "turns NaN into 0" in why_not(a, b, out, epilogue="relu")
    with pytest.raises(LtUnsupportedError, match="nan_to_zero=True"):
        matmul(a, b, out, epilogue="relu")
    matmul(a, b, out, epilogue="relu", nan_to_zero=True)
    assert (out == 0).all()
    assert "turns NaN into 0" in why_not(a, b, out, epilogue="relu")      # though this product is known by now
    matmul(a, b, out)
    assert numpy.isnan(out).all()


UNSUPPORTED = {
    "column-major out": ({"epilogue": "bias", "vector": 4}, (4, 3, 4), False, "out lies by columns"),
    "drelu of one": ({"epilogue": "drelu", "aux": (4, 16)}, (4, 1, 4), True, "inner size above 1"),
    "sum of one": ({"epilogue": "sum_b", "vector": 4}, (4, 1, 4), True, "inner size above 1"),
    "BGRADB of one row": ({"epilogue": "sum_a", "vector": 4}, (4, 3, 1), True, "more than one row"),
    "nothing inside": ({}, (4, 0, 4), True, "inner size 0"),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_rules_of_the_library_are_reasons(lt, case):
    how, (m, k, n), by_rows, reason = UNSUPPORTED[case]
    rng = numpy.random.default_rng(5)
    a, b, out = laid_out(rng, (m, k), "float32"), laid_out(rng, (k, n), "float32"), laid_out(rng, (m, n), "float32", by_rows)
    how = dict(how)
    if "vector" in how:
        how["vector"] = aligned(numpy.zeros(how["vector"], "f"))
    if "aux" in how:
        how["aux"] = aligned(numpy.zeros(how["aux"], "uint8"))
    assert reason in why_not(a, b, out, **how)


def zeros(*shape, dtype="float32"):
    return aligned(numpy.zeros(shape, dtype))


WRONG = {
    "shapes": (lambda: (zeros(4, 3), zeros(4, 3), zeros(4, 3), {}), ShapeError, r"got \(4, 3\), \(4, 3\)"),
    "batches": (lambda: (zeros(2, 4, 3), zeros(3, 3, 4), zeros(2, 4, 4), {}), ShapeError, r"check the batch axes"),
    "a vector": (lambda: (zeros(3), zeros(3, 4), zeros(4), {}), ShapeError, r"expected a \(\.\.\., M, K\)"),
    "dtypes": (lambda: (zeros(4, 3), zeros(3, 4, dtype="float64"), zeros(4, 4), {}), DtypeError, "float32, float64, float32"),
    "integers": (lambda: (zeros(4, 4, dtype="int32"),) * 3 + ({},), DtypeError, "int32"),
    "a rounded out": (lambda: (zeros(4, 4, dtype="float64"),) * 2 + (zeros(4, 4), {}), DtypeError, "float64"),
    "epilogue": (lambda: (zeros(4, 4),) * 3 + ({"epilogue": "tanh"},), ArgumentError, "expected an epilogue of bias, relu"),
    "no vector": (lambda: (zeros(4, 4),) * 3 + ({"epilogue": "bias"},), ArgumentError,
                  r"vector= with epilogue 'bias' to be given"),
    "a needless aux": (lambda: (zeros(4, 4),) * 3 + ({"epilogue": "gelu", "aux": zeros(4, 8)},), ArgumentError,
                       "not to be given"),
    "short vector": (lambda: (zeros(4, 4),) * 3 + ({"epilogue": "bias", "vector": zeros(3)},), ArgumentError, r"vector \(4,\)"),
    "wide vector": (lambda: (zeros(4, 4),) * 3 + ({"epilogue": "bias", "vector": zeros(4, dtype="float64")},), ArgumentError,
                    r"vector \(4,\) of float32, contiguous, got \(4,\) of float64"),
    "small mask": (lambda: (zeros(4, 4),) * 3 + ({"epilogue": "drelu", "aux": zeros(4, 1, dtype="uint8")},), ArgumentError,
                   r"expected aux \(4, 16\) of uint8.*aux_shape\('drelu', 4, 4\)"),
    "workspace": (lambda: (zeros(4, 4),) * 3 + ({"workspace": zeros(1024, dtype="uint8")[1:]},), ArgumentError,
                  "multiple of 256"),
    "numpy": (lambda: (numpy.zeros((4, 4), "f"), zeros(4, 4), zeros(4, 4), {}), DeviceError, "arrays of one GPU, got numpy"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_errors(lt, case):
    make, error, message = WRONG[case]
    a, b, out, how = make()
    with pytest.raises(error, match=message):
        matmul(a, b, out, **how)
    assert lt.products == 0


def test_arrays_of_two_devices_are_refused(lt):
    far = zeros(4, 4)
    far.device = SimpleNamespace(id=1)
    with pytest.raises(DeviceError, match="cuda:0, cuda:1, cuda:0"):
        matmul(zeros(4, 4), far, zeros(4, 4))


def test_the_product_runs_on_the_device_of_its_arrays(lt, monkeypatch):
    created, create = [], lt.cublasLtCreate
    monkeypatch.setattr(lt, "cublasLtCreate", lambda h: created.append(lt.xp.cuda.runtime.getDevice()) or create(h))
    arrays = [zeros(4, 4) for _ in range(3)]
    for x in arrays:
        x.device = SimpleNamespace(id=1)
    matmul(*arrays)
    assert [device for _, device in cublaslt._handles] == created == [1]
    assert lt.xp.cuda.runtime.getDevice() == 0


def test_no_algorithm_is_a_reason(lt, monkeypatch):
    monkeypatch.setattr(lt, "read", lambda *_: None)
    assert why_not(zeros(4, 4), zeros(4, 4), zeros(4, 4)).startswith("cuBLASLt has no algorithm for Plan(m=4, n=4, k=4")


def test_rows_that_are_not_together_go_to_cupy(lt):
    rng = numpy.random.default_rng(6)
    a, b, out = laid_out(rng, (4, 12), "float32")[:, ::2], laid_out(rng, (6, 5), "float32"), zeros(4, 5)
    with recording() as log:
        product(a, b, out)
    assert close(out, a @ b, 6, "float32")
    assert [(x.name, x.kind, x.flops) for x in log.launches] == [("gemm", "cupy", 240)]
    assert list(cublaslt.reasons().values()) == [1]
    assert "of a must lie together" in next(iter(cublaslt.reasons()))


@pytest.mark.parametrize(("dtype", "alpha", "beta", "gemm"), [
    ("float32", 1.0, 0.0, False), ("float32", 2.0, 1.0, True), ("float64", 1.0, 1.0, True), ("float16", 2.0, 1.0, False),
    ("float16", 2.0, 0.0, False),
])
def test_the_fallback_computes_the_same(lt, monkeypatch, dtype, alpha, beta, gemm):
    def no_library():
        raise LtError("cublasLt: expected libcublasLt to be installed, got none")

    calls, module = [], ModuleType("cupy.cublas")

    def with_beta(transa, transb, a, b, out, alpha, beta):
        calls.append((transa, transb))
        out[...] = alpha * (a @ b) + beta * out

    module.gemm = with_beta
    monkeypatch.setitem(sys.modules, "cupy.cublas", module)
    monkeypatch.setattr(cublaslt, "library", no_library)
    rng = numpy.random.default_rng(7)
    a, b, out = (laid_out(rng, s, dtype) for s in ((4, 6), (6, 5), (4, 5)))
    expected = alpha * (a.astype("f8") @ b.astype("f8")) + beta * out.astype("f8")
    product(a, b, out, alpha=alpha, beta=beta)
    assert close(out, expected, 6, dtype)
    assert calls == [("N", "N")] * gemm
    assert cublaslt.reasons() == {"cublasLt: expected libcublasLt to be installed, got none": 1}
    assert cublaslt.status().startswith("cublasLt: expected libcublasLt")


def test_no_inner_size_leaves_beta_times_out(lt):
    out = aligned(numpy.ones((4, 5), "f"))
    product(zeros(4, 0), zeros(0, 5), out, beta=3)
    assert (out == 3).all()
    product(zeros(4, 0), zeros(0, 5), out)
    assert (out == 0).all()


def test_empty_products_run_nothing(lt):
    matmul(zeros(0, 3), zeros(3, 5), zeros(0, 5))
    matmul(zeros(4, 0), zeros(0, 0), zeros(4, 0))
    with pytest.raises(ShapeError):
        matmul(zeros(0, 3), zeros(4, 5), zeros(0, 5))
    with pytest.raises(LtUnsupportedError, match=r"out \(0, 5\)"):          # the sum of b is due all the same
        matmul(zeros(0, 3), zeros(3, 5), zeros(0, 5), epilogue="sum_b", vector=zeros(5))
    assert lt.products == lt.heuristics == 0


def test_algorithms_are_chosen_once_per_layout_and_alignment(lt):
    a, b, out = zeros(8, 8), zeros(8, 8), zeros(8, 8)
    for beta in (0, 1, 1):
        matmul(a, b, out, beta=beta)
    matmul(zeros(8, 8), b, out)
    assert lt.heuristics == 1
    for other in (a.T, zeros(9, 8)[1:], aligned(numpy.zeros((8, 8), "f"), 64), zeros(8, 9)[:, 1:]):
        before = lt.heuristics
        matmul(other, b, out)
        assert lt.heuristics == before + (cublaslt.alignment(other) != cublaslt.alignment(a) or other.strides != a.strides)
    before = lt.heuristics
    matmul(a, b, out, compute="tf32")
    matmul(a, b, out, epilogue="bias", vector=zeros(8))
    matmul(a, b, out, epilogue="bias", vector=aligned(numpy.zeros(9, "f"))[1:])
    assert lt.heuristics == before + 3
    matmul(a, b, out, workspace=aligned(numpy.zeros(512, "uint8"), 256))   # a smaller one: the algorithm must need no more
    assert lt.heuristics == before + 4
    with pytest.raises(DtypeError):
        matmul(*(x.view("int32") for x in (a, b, out)))


def test_bias_and_mask_pointers_are_those_of_the_call(lt):
    a, b, out = zeros(4, 4), zeros(4, 4), zeros(4, 4)
    one, two = aligned(numpy.ones(4, "f")), aligned(numpy.full(4, 2, "f"))
    for vector in (one, two, one):
        matmul(a, b, out, epilogue="bias", vector=vector)
        assert (out == vector).all()
    assert lt.heuristics == 1


def test_alignment_is_that_of_every_matrix_of_a_batch():
    x = aligned(numpy.zeros((3, 4, 5), "f"), 256)
    assert cublaslt.alignment(x) == 16                                  # 80 bytes from one matrix to the next
    assert cublaslt.alignment(x[:1]) == 256
    assert cublaslt.alignment(x[0, 0, 1:].reshape(2, 2)) == 4


def test_the_current_stream_and_one_workspace_are_used(lt):
    for _ in range(3):
        matmul(zeros(4, 4), zeros(4, 4), zeros(4, 4))
    assert lt.streams == [77] * 3
    assert len(cublaslt._workspaces) == 1
    matmul(zeros(4, 4), zeros(4, 4), zeros(4, 4), workspace=aligned(numpy.zeros(4096, "uint8"), 256))
    assert len(cublaslt._workspaces) == 1


def test_products_are_recorded(lt):
    a, b, out = zeros(4, 3), zeros(3, 8), zeros(4, 8)
    with recording() as log:
        matmul(a, b.copy().view(Array), out)
        matmul(a, b, out, beta=1, epilogue="sum_b", vector=zeros(8))
        matmul(a, b, out, epilogue="relu_aux_bias", vector=zeros(8), aux=zeros(4, 16, dtype="uint8"), nan_to_zero=True)
    assert [(x.name, x.kind, x.bytes_read, x.bytes_written, x.flops) for x in log.launches] == [
        ("gemm_NN float32", "cublaslt", 144, 128, 192), ("gemm_NN float32 sum_b", "cublaslt", 272, 160, 192),
        ("gemm_NN float32 relu_aux_bias", "cublaslt", 176, 192, 192)]


def test_descriptors_are_destroyed_with_their_owner(lt):
    handle = lt_library.Library(lt)
    layout = Layout(handle, "float32", 2, 2, 2)
    before = len(lt.objects)
    del layout
    assert len(lt.objects) == before - 1


# ---- the real library: descriptors need no GPU -----------------------------------------------------------------------


@pytest.fixture
def real():
    try:
        return lt_library.library()
    except LtError:
        pytest.skip("libcublasLt is not installed: pip install nvidia-cublas")


def test_the_library_gives_its_version(real):
    assert str(real).startswith("cuBLASLt 1")


@pytest.mark.parametrize("seed", range(20))
def test_the_library_keeps_what_a_plan_says(real, seed):
    rng = numpy.random.default_rng(seed)
    m, n, k = (int(x) for x in rng.integers(2, 40, 3))
    a, b = laid_out(rng, (3, m, k), "float32", bool(rng.integers(2)), 2), laid_out(rng, (3, k, n), "float32",
                                                                                   bool(rng.integers(2)))
    one = plan(a, b, laid_out(rng, (3, m, n), "float32", bool(rng.integers(2)), 1), compute=[None, "tf32"][rng.integers(2)])
    described, layouts = cublaslt.describe(real, one)
    assert (described["TRANSA"], described["TRANSB"], described["EPILOGUE"]) == (one.transpose_a, one.transpose_b, 1)
    assert described["COMPUTE_TYPE"] == {"32F": 68, "32F_FAST_TF32": 77}[one.compute]
    for layout, matrix in zip(layouts, (one.a, one.b, one.c, one.d)):
        names = ("TYPE", "ROWS", "COLS", "LD", "BATCH_COUNT", "STRIDED_BATCH_OFFSET")
        assert [layout[name] for name in names] == [0, matrix.rows, matrix.cols, matrix.ld, 3, matrix.batch_stride]


@pytest.mark.parametrize("epilogue", EXPECTED)
def test_the_library_takes_every_epilogue(real, epilogue):
    a, b, out = (numpy.zeros(s, "f") for s in ((6, 5), (5, 130), (6, 130)))
    vector = zeros(6 if epilogue == "sum_a" else 130) if any(x in epilogue for x in ("bias", "bgrad", "sum")) else None
    aux = None
    if "aux" in epilogue or epilogue.startswith("d"):
        aux = zeros(*aux_shape(epilogue, 6, 130), dtype="uint8" if "relu" in epilogue else "float32")
    one = plan(a, b, out, epilogue=epilogue, vector=vector, aux=aux, nan_to_zero=True)
    described, _ = cublaslt.describe(real, one)
    cublaslt.point(described, vector, aux)
    assert described["EPILOGUE"] == one.epilogue
    assert described["BIAS_POINTER"] == (vector.data.ptr if vector is not None else 0)
    assert described["EPILOGUE_AUX_POINTER"] == (aux.data.ptr if aux is not None else 0)
    assert described["EPILOGUE_AUX_LD"] == (0 if aux is None else 256 if "relu" in epilogue else 136)


def test_the_library_keeps_preferences_and_refuses_wrong_sizes(real):
    preference = Preference(real)
    for name, value in (("MAX_WORKSPACE_BYTES", 1 << 33), ("REDUCTION_SCHEME_MASK", 2), ("MIN_ALIGNMENT_C_BYTES", 16)):
        preference[name] = value
        assert preference[name] == value
    wrong = Product(real, "32F", "float32")
    wrong.attributes = {"TRANSA": (3, lt_library.c_int64)}
    with pytest.raises(LtError, match="CUBLAS_STATUS_INVALID_VALUE") as caught:
        wrong["TRANSA"] = 1
    assert caught.value.status == 7


def test_no_gpu_is_a_reason(real, monkeypatch):
    monkeypatch.setattr(cublaslt, "_handles", {})
    if has_gpu(real):
        pytest.skip("this machine has a GPU")
    with pytest.raises(LtUnsupportedError, match="cublasLtCreate"):
        cublaslt.handle_of(None, 0)


def has_gpu(library):
    try:
        return bool(lt_library.Handle(library))
    except LtError:
        return False
