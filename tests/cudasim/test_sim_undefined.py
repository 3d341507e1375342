"""Shuffles from lanes that take no part: an error where the value is used, and none where nobody looks at it."""

import numpy as np
import pytest

from gpugrad.cudasim import Checks, WarpDivergence

# bodies over y[n] with t = threadIdx.x and n = blockDim.x threads, no multiple of 32, that never use what is undefined
HARMLESS = {
    "a guarded sum down the warp": (
        """float v = y[t]; int last = n - t / 32 * 32;
           for (int d = 16; d; d >>= 1) { float x = __shfl_down_sync(~0u, v, d); if (t % 32 + d < last) v += x; }
           if (t % 32 == 0) y[t] = v;""",
        lambda y: np.where(np.arange(y.size) % 32 == 0, np.add.reduceat(y, np.arange(0, y.size, 32)).repeat(32)[: y.size], y)),
    "a maximum chosen by a condition on the lane and on the value": (
        """int v = (int)y[t], next = __shfl_down_sync(~0u, v, 1);
           if (t + 1 < n && t % 32 != 31 && next > v) v = next;
           y[t] = v;""",
        lambda y: np.where((np.arange(y.size) % 32 != 31) & (np.arange(y.size) + 1 < y.size), np.maximum(y, np.roll(y, -1)), y)),
    "a value that goes through arithmetic and is dropped": (
        """float x = __shfl_xor_sync(~0u, y[t], 16); x = sqrtf(x * x + 1) - 1; y[t] = n - t / 32 * 32 >= 32 ? x : -1.f;""",
        lambda y: np.where(np.arange(y.size) < y.size // 32 * 32,
                           np.sqrt(y[(np.arange(y.size) ^ 16) % y.size] ** 2 + np.float32(1)) - np.float32(1), -1)),
    "half of a warp in a branch, the other half's values dropped": (
        """float x = 0; if (t % 32 < 8) x = __shfl_down_sync(0xff, y[t], 4); if (t % 32 < 4 && t + 4 < n) y[t] = x;""",
        lambda y: np.where((np.arange(y.size) % 32 < 4) & (np.arange(y.size) + 4 < y.size), np.roll(y, -4), y)),
    "a value that one lane sends on to itself only": (
        """float x = __shfl_down_sync(~0u, y[t], 1); x = __shfl_sync(~0u, x, 0); y[t] = x;""",
        lambda y: y[np.arange(y.size) // 32 * 32 + 1]),
}

USES = {
    "a store": "y[t] = x;",
    "an address": "y[t] = y[(int)x & 7];",
    "a branch": "if (x > 3) __threadfence(); y[t] = __float_as_int(x) == 77 ? 1 : 0;",
    "an atomic": "atomicAdd(y, x);",
    "a vote": "y[t] = __any_sync(__activemask(), x > 2);",
    "shared memory": "__shared__ float s[64]; s[t] = x; __syncthreads(); y[t] = s[n - 1 - t];",
    "arithmetic and a store": "y[t] = sinf(x) * 0.5f + y[t];",
    "a second shuffle": "y[t] = __shfl_sync(~0u, x, 15);",
    "a barrier that counts": "y[t] = __syncthreads_count(x > 3);",
}


def source(body):
    return f'extern "C" __global__ void k(float* y) {{ int t = threadIdx.x, n = blockDim.x; {body} }}'


@pytest.mark.parametrize("threads", [34, 48, 80])
@pytest.mark.parametrize("name", HARMLESS)
def test_values_that_nobody_uses_are_no_error(module, arch, threads, name):
    body, expected = HARMLESS[name]
    y = (np.arange(threads) * 7 % 31).astype(np.float32)
    expected = expected(y.copy())
    module(source(body), arch)["k"].launch(1, threads, (y,))
    np.testing.assert_array_equal(y, expected.astype(np.float32))


@pytest.mark.parametrize("use", USES)
def test_a_use_of_what_an_absent_lane_gave_names_shuffle_and_use(module, arch, use):
    text = source(f"float x = __shfl_down_sync(~0u, y[t], 8);\n{USES[use]}")
    with pytest.raises(WarpDivergence, match=r"reading lane 16, which is not active.*and what it got is used at") as found:
        module(text, arch)["k"].launch(1, 48, (np.zeros(64, np.float32),))
    assert found.value.thread == (40, 0, 0)
    assert found.value.line == 1


def test_a_register_written_anew_is_defined_again(module):
    body = "float x = __shfl_down_sync(~0u, y[t], 8); if (t >= 32) x = 5; for (int k = 0; k < 3; ++k) x = x * 2; y[t] = x;"
    y = np.ones(48, np.float32)
    module(source(body))["k"].launch(4, 48, (y,), checks=Checks(races=False))
    assert y[47] == 40
