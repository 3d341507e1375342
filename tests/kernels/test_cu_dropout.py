"""kernels/dropout.cu on the simulated device, against NumPy's Philox."""
import numpy as np
import pytest
from cu_support import LENGTHS, blank, i64, launch, placed, stored, values, wide

from gpugrad.kernels.dropout import blocks, keep

DTYPES = ("float32", "float64", "float16", pytest.param("bfloat16", marks=pytest.mark.slow))


def words(n, seed, stream):
    """Element by element, as dropout.cu's header says."""
    philox = np.random.Philox(key=seed, counter=stream % (1 << 64) << 128)
    i = np.arange(n)
    counter, draw = i // 256 * 32 + i // 4 % 32, i // 128 % 2 * 4 + i % 4
    return philox.random_raw(4 * (counter.max(initial=-1) + 1)).view(np.uint32)[8 * counter + draw]


def run(x, dtype, width, shift, p, seed=0, offset=0, call=0, state=None):
    n = x.size
    y = blank(n, dtype, shift)
    grid = blocks(n, width)
    state = np.array([seed, offset], np.uint64) if state is None else state
    counters = launch("dropout.cu", "dropout", (dtype, width), grid, 256,
                      (placed(x, x.dtype.name, shift), state, y, np.uint64(call), np.uint64(round(p * 2 ** 32)),
                       np.float64(1 / (1 - p) if p < 1 else 0), i64(n)))
    return y, counters


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_elements_are_kept_by_their_word_whatever_dtype_and_path(n, dtype):
    x = stored(np.random.default_rng(n).standard_normal(n), dtype)
    seed, offset, call, p = 0x123456789ABCDEF0, (1 << 64) - 3, 5, 0.25
    kept = words(n, seed, offset + call) >= round(p * 2 ** 32)
    scale = 1 / 0.75 if dtype == "float64" else np.float32(1 / 0.75)
    scaled = values(x, dtype) * scale if dtype == "float64" else (values(x, dtype).astype(np.float32) * scale)
    wanted = np.where(kept, values(stored(scaled, dtype), dtype), 0)
    for width, shift in [(wide(dtype), 0), (1, 0), (1, 1)]:
        y, _ = run(x, dtype, width, shift, p, seed, offset, call)
        np.testing.assert_array_equal(values(y, dtype), wanted)


def test_nothing_and_everything_dropped_and_nan_behind_a_closed_gate():
    x = np.full(1000, np.nan, np.float32)
    assert (run(x, "float32", 4, 0, 1.0)[0] == 0).all()
    assert np.isnan(run(x, "float32", 4, 0, 0.0)[0]).all()


def test_share_kept_is_one_minus_p_and_streams_differ():
    x = np.ones(100_000, np.float32)
    first, second = (run(x, "float32", 4, 0, 0.1, seed=7, call=c)[0] for c in (0, 1))
    assert abs((first > 0).mean() - 0.9) < 4 * np.sqrt(0.09 / x.size)
    assert abs(((first > 0) & (second > 0)).mean() - 0.81) < 4 * np.sqrt(0.81 * 0.19 / x.size)


def test_vector_path_asks_for_no_needless_sector():
    n = 65536
    _, counters = run(np.ones(n, np.float32), "float32", 4, 0, 0.1, state=placed(np.array([1, 2], np.uint64)))
    assert counters.unique_bytes_read == 4 * n + 16 and counters.bytes_written == 4 * n
    assert counters.sector_efficiency == 1


@pytest.mark.parametrize("n", [0, 1, 127, 129, 1000])
def test_the_twin_keeps_what_the_kernel_keeps(n):
    np.testing.assert_array_equal(keep(9, (n,), 0.3), words(n, 0, 9) >= round(0.3 * 2 ** 32))
