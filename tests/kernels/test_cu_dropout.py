"""kernels/dropout.cu on the simulated device, against Philox4x32-10 written out in NumPy."""
import numpy as np
import pytest
from cu_support import LENGTHS, blank, i64, launch, placed, stored, values, wide

DTYPES = ("float32", "float64", "float16", pytest.param("bfloat16", marks=pytest.mark.slow))
LOW = np.uint64(0xFFFFFFFF)


def philox(counter, key):
    """Ten rounds on counters (n, 4) with one key (2,), as 32-bit words in uint64."""
    c0, c1, c2, c3 = (np.asarray(counter, np.uint64)[:, k] for k in range(4))
    k0, k1 = (np.uint64(k) for k in key)
    shift = np.uint64(32)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> shift) ^ c1 ^ k0, p1 & LOW, (p0 >> shift) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & LOW, (k1 + np.uint64(0xBB67AE85)) & LOW
    return np.stack([c0, c1, c2, c3], axis=1)


def words(n, seed, stream):
    q = np.arange(-(-n // 4), dtype=np.uint64)
    stream %= 1 << 64
    ends = (np.full(len(q), w, np.uint64) for w in (stream & 0xFFFFFFFF, stream >> 32))
    counter = np.stack([q & LOW, q >> np.uint64(32), *ends], axis=1)
    return philox(counter, (seed & 0xFFFFFFFF, seed >> 32)).reshape(-1)[:n]


def run(x, dtype, width, shift, p, seed=0, offset=0, call=0, state=None):
    n = x.size
    y = blank(n, dtype, shift)
    each = 1 if width == 1 else max(width, 4)
    grid = max(1, -(-(n // each + n % each) // 256))
    state = np.array([seed, offset], np.uint64) if state is None else state
    counters = launch("dropout.cu", "dropout", (dtype, width), grid, 256,
                      (placed(x, x.dtype.name, shift), state, y, np.uint64(call), np.uint64(round(p * 2 ** 32)),
                       np.float64(1 / (1 - p) if p < 1 else 0), i64(n)))
    return y, counters


@pytest.mark.parametrize(("counter", "key", "wanted"), [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    ([0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344], [0xA4093822, 0x299F31D0],
     [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
])
def test_reference_gives_the_test_vectors_of_random123(counter, key, wanted):
    np.testing.assert_array_equal(philox([counter], key)[0], wanted)


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
