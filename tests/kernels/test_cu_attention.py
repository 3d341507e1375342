"""kernels/attention.cu on the simulated device, against NumPy in float64."""
import numpy as np
import pytest
from cu_support import assert_near, blank, launch, placed, stored, values, wide

from gpugrad.arrays.modules import simulated_module
from gpugrad.kernels.attention import ATTENTION, attention, attention_pull, plan
from gpugrad.kernels.launch import with_defaults
from gpugrad.kernels.record import recording

#: (B, L, S, E, F), causal: tiles that are not full, more than one of each, widths for each D, a query and a key alone
SHAPES = [((2, 5, 7, 4, 8), False), ((1, 70, 45, 32, 16), True), ((1, 33, 66, 64, 40), False), ((1, 1, 1, 1, 1), True),
          ((2, 17, 9, 3, 5), True), ((1, 35, 34, 72, 128), True)]


def reference(q, k, v, scale, causal):
    s = scale * q @ k.swapaxes(-1, -2)
    if causal:
        s = np.where(np.tri(*s.shape[-2:]) > 0, s, -np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        top = s.max(axis=-1, keepdims=True)
        p = np.exp(s - np.where(top == -np.inf, 0, top))
        total = p.sum(axis=-1, keepdims=True)
        return p / total @ v, (top + np.log(total))[..., 0], p / total


def drawn(shape, dtype):
    b, length, keys, width, values_ = shape
    rng = np.random.default_rng(shape)
    sizes = ((b, length, width), (b, keys, width), (b, keys, values_), (b, length, values_))
    return [placed(stored(rng.standard_normal(s), dtype), None) for s in sizes]


def launched(kernel, targs, grid, block, args):
    bound = ATTENTION.bind(kernel, targs)
    args = with_defaults(kernel, bound.parameters, args)
    return launch("attention.cu", kernel, targs, grid, block,
                  [a if p.pointer else p.convert(a, kernel) for p, a in zip(bound.parameters, args, strict=True)])


def run(arrays, dtype, width, scale, causal, shift=0):
    """o, lse, dq, dk, dv of q, k, v, g, and the counters of both launches."""
    q, k, v, g = (placed(a, a.dtype.name, shift) for a in arrays)
    (count, length, across), (keys, broad) = q.shape, v.shape[-2:]
    o = blank((count, length, broad), dtype, shift)
    lse = blank((count, length), "float64" if dtype == "float64" else "float32")
    like = np.empty(0, "float64" if dtype == "float64" else "float32")
    sizes = (np.int32(length), np.int32(keys), np.int32(across), np.int32(broad), np.float64(scale), np.bool_(causal),
             np.int32(0), *[np.int64(0)] * 6)                 # contiguous
    columns, block, tiles = plan(np.empty((1, across), like.dtype), np.empty((1, broad), like.dtype), back=False)
    forth = launched("attention", (dtype, width, columns), count * tiles(length), block, (q, k, v, o, lse, *sizes))
    grads = [blank(x.shape, dtype, shift) for x in (q, k, v)]
    columns, block, tiles = plan(np.empty((1, across), like.dtype), np.empty((1, broad), like.dtype), back=True)
    back = launched("attention_pull", (dtype, width, columns), count * (tiles(keys) + tiles(length)), block,
                    (q, k, v, o, g, lse, *grads, np.int64(count), *sizes))
    return o, lse, *grads, forth, back


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.slow), "float16",
                                   pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("shape", "causal"), [*SHAPES[:2], *(pytest.param(*s, marks=pytest.mark.slow) for s in SHAPES[2:])])
def test_results_and_gradients_are_the_formulas(shape, causal, dtype):
    arrays, scale = drawn(shape, dtype), 0.6
    q, k, v, g = (values(a, dtype) for a in arrays)
    wanted, lse, p = reference(q, k, v, scale, causal)
    size = max(shape)
    fits = all(a.shape[-1] % wide(dtype) == 0 for a in arrays)
    for width, shift in [(wide(dtype), 0), (1, 1)] if fits else [(1, 0)]:
        o, found, dq, dk, dv, *_ = run(arrays, dtype, width, scale, causal, shift)
        assert_near(o, wanted, dtype, size, 8 * (p @ np.abs(v)))
        assert_near(found, lse, found.dtype.name, size, 8 + np.abs(lse))
        read = values(o, dtype)                                              # the kernel's own, rounded to dtype
        u = scale * p * (g @ v.swapaxes(-1, -2) - np.sum(g * read, axis=-1, keepdims=True))
        most = 8 * scale * p * (np.abs(g) @ np.abs(v).swapaxes(-1, -2) + np.sum(np.abs(g * read), axis=-1, keepdims=True))
        assert_near(dq, u @ k, dtype, size, most @ np.abs(k))
        assert_near(dk, u.swapaxes(-1, -2) @ q, dtype, size, most.swapaxes(-1, -2) @ np.abs(q))
        assert_near(dv, p.swapaxes(-1, -2) @ g, dtype, size, 8 * p.swapaxes(-1, -2) @ np.abs(g))


def test_each_launch_gives_the_same_bits_and_hot_paths_meet_no_bank_conflict():
    arrays = drawn((1, 70, 40, 64, 64), "float32")
    first = run(arrays, "float32", 4, 0.125, True)
    again = run(arrays, "float32", 4, 0.125, True)
    for a, b in zip(first[:5], again[:5], strict=True):
        np.testing.assert_array_equal(a, b)
    for counters in first[5:]:
        assert counters.bank_conflicts == 0 and counters.sector_efficiency == 1
        assert counters.instructions["atomic"] == 0


def test_large_scores_and_infinities_as_in_the_reference():
    q, k, v, g = (np.array(a) for a in drawn((1, 6, 40, 4, 4), "float32"))
    q[0, 0] *= 1e4                                                           # exp alone would overflow
    k[0, :35] = [-np.inf, 0, 0, 0]                                           # a whole tile of -inf before the first number
    q[0, 1:] = np.abs(q[0, 1:])
    q[0, 2], q[0, 3, 1], q[0, 0, 0] = [np.inf, 0, 0, 0], np.nan, np.abs(q[0, 0, 0])
    o, lse, *_ = run((q, k, v, g), "float32", 1, 0.5, False)
    with np.errstate(invalid="ignore"):
        wanted, sums, _ = reference(*(x.astype(np.float64) for x in (q, k, v)), 0.5, False)
    np.testing.assert_allclose(o, wanted, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(lse, sums, rtol=1e-5, atol=1e-5)
    assert np.isnan(o[0, 3]).all() and np.isfinite(o[0, [0, 1, 4, 5]]).all()


def test_a_query_that_sees_nothing_but_minus_infinity_is_nan():
    q, k, v, g = (np.array(a) for a in drawn((1, 3, 5, 4, 4), "float32"))
    q[0, 1], k[0] = [1, 0, 0, 0], [-np.inf, 0, 0, 0]
    q[0, [0, 2]] = 0.0
    o, *_ = run((q, np.where(np.isinf(k), np.float32(-3e38), k), v, g), "float32", 4, 10.0, False)
    assert np.isnan(o[0, 1]).all() and np.isfinite(o[0, [0, 2]]).all()


# the wrappers -------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("causal", [False, True])
def test_wrappers_launch_once_and_agree_with_the_twin(causal):
    xp, rng = simulated_module(), np.random.default_rng(0)
    hosts = [rng.standard_normal(s).astype("float32") for s in ((2, 2, 9, 8), (2, 2, 11, 8), (2, 2, 11, 12), (2, 2, 9, 12))]
    q, k, v, g = (xp.asarray(x) for x in hosts)
    with recording() as log:
        o, lse = attention(xp)(q.swapaxes(0, 1), k.swapaxes(0, 1), v.swapaxes(0, 1), 0.3, causal)
        grads = attention_pull(xp)(g.swapaxes(0, 1), *(x.swapaxes(0, 1) for x in (q, k, v)), o, lse, 0.3, causal)
    assert [x.name for x in log.launches] == ["attention<float, 4, 32>", "attention_pull<float, 4, 32>"]
    expected = attention(np)(*hosts[:3], 0.3, causal)
    for mine, theirs in zip((o, lse), expected, strict=True):
        np.testing.assert_allclose(mine.get().swapaxes(0, 1), theirs, rtol=1e-5, atol=1e-5)
    for mine, theirs in zip(grads, attention_pull(np)(hosts[3], *hosts[:3], *expected, 0.3, causal), strict=True):
        np.testing.assert_allclose(mine.get().swapaxes(0, 1), theirs, rtol=1e-4, atol=1e-5)


def test_what_the_kernel_does_not_take_goes_in_chunks():
    xp = simulated_module()
    q, k = xp.ones((3, 129)), xp.ones((0, 129))
    with recording() as log:
        o, lse = attention(xp)(q, q, q, 0.1)
        empty, nothing = attention(xp)(q, k, k, 0.1)
    assert not [x for x in log.launches if "attention" in x.name]
    np.testing.assert_allclose(o.get(), 1, rtol=1e-12)
    assert lse.shape == (3,) and (empty.get() == 0).all() and (nothing.get() == -np.inf).all()
    dq, dk, dv = attention_pull(xp)(q, q, k, k, empty, nothing, 0.1)
    assert (dq.get() == 0).all() and dk.shape == dv.shape == (0, 129)


def test_the_twins_memory_grows_with_the_queries_alone(monkeypatch):
    """Chunks of 16 scores give what one chunk of all gives."""
    rng = np.random.default_rng(2)
    q, k, v, g = (rng.standard_normal(s) for s in ((3, 10, 4), (3, 7, 4), (3, 7, 2), (3, 10, 2)))
    for causal in (False, True):
        o, lse = attention(np)(q, k, v, 0.5, causal)
        grads = attention_pull(np)(g, q, k, v, o, lse, 0.5, causal)
        with monkeypatch.context() as patch:
            patch.setattr("gpugrad.kernels.attention.SCORES", 16)
            small = attention(np)(q, k, v, 0.5, causal)
            pulled = attention_pull(np)(g, q, k, v, *small, 0.5, causal)
        for a, b in zip((o, lse, *grads), (*small, *pulled), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
