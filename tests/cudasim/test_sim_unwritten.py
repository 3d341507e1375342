"""Loads of bytes that nobody wrote: an error where what they found is used, and none where nobody looks at it."""

import numpy as np
import pytest

from gpugrad import cudasim
from gpugrad.cudasim import Checks, Uninitialised

# bodies over y[n] with t = threadIdx.x; m elements of s are written; what lies behind them is never used
HARMLESS = {
    "a neighbour that is dropped": (
        "float a = s[t], b = s[t + 1]; y[t] = t + 1 < m ? b : t < m ? a : -1.f;",
        lambda t, m: np.where(t + 1 < m, t + 1, np.where(t < m, t, -1))),
    "stores in the same block before and after the load": (
        "y[t] += 3; float a = s[t + 1]; y[t] += 4; y[t] = t + 1 < m ? y[t] + a : y[t];",
        lambda t, m: np.where(t + 1 < m, 8 + t, 7)),
    "a copy of everything, of which half is used": (
        "u[t] = s[t]; __syncthreads(); y[t] = t < m ? u[t] : 0.f;", lambda t, m: np.where(t < m, t, 0)),
    "a condition that the other side decides": (
        "y[t] = t >= m || s[t] > 5 ? 1.f : 2.f;", lambda t, m: np.where((t >= m) | (t > 5), 1, 2)),
    "an array in local memory": (
        "float a[4]; for (int i = 0; i < 3; ++i) a[i] = i; float v = a[t & 3]; y[t] = (t & 3) < 3 ? v : 9.f;",
        lambda t, m: np.where(t % 4 < 3, t % 4, 9)),
}

USES = {
    "a store": "y[t] = s[t];",
    "an address": "y[(int)s[t] & 63] = 1;",
    "a branch": "if (s[t] > 3) __threadfence(); y[t] = 0;",
    "an atomic on it": "atomicAdd(&s[t], 1.f);",
    "a value for an atomic": "atomicAdd(y, s[t]);",
    "a copy, and a sum of that": "u[t] = s[t] * 2; __syncthreads(); y[t] = u[t] + u[0];",
}


def source(body):
    return f"""extern "C" __global__ void k(float* y, int m) {{
      __shared__ float s[200], u[64]; int t = threadIdx.x; if (t < m) s[t] = t; __syncthreads();
      {body}
    }}"""


@pytest.mark.parametrize("name", HARMLESS)
def test_bytes_that_nobody_uses_are_no_error(module, arch, name):
    body, expected = HARMLESS[name]
    y = np.zeros(64, np.float32)
    module(source(body), arch)["k"].launch(1, 64, (y, np.int32(40)))
    np.testing.assert_array_equal(y, expected(np.arange(64), 40))


@pytest.mark.parametrize("use", USES)
def test_a_use_names_the_load(module, arch, use):
    with pytest.raises(Uninitialised, match=r"shared `s` from byte 160 that nobody wrote") as found:
        module(source(USES[use]), arch)["k"].launch(1, 64, (np.zeros(64, np.float32), np.int32(40)))
    assert (found.value.thread, found.value.line) == ((40, 0, 0), 3)


def test_the_use_is_named_where_it_is_another_line(module):
    body = "float v = s[t];\n      __syncthreads();\n      y[t] = v;"
    said = r"float v = s\[t\];`\. Write them first\. What was found is used at kernel\.cu:5"
    with pytest.raises(Uninitialised, match=said) as found:
        module(source(body))["k"].launch(1, 64, (np.zeros(64, np.float32), np.int32(40)))
    assert found.value.line == 3


def test_bytes_written_later_are_defined(module):
    body = "u[t] = s[t]; __syncthreads(); u[t] = 1; __syncthreads(); y[t] = u[63 - t];"
    y = np.zeros(64, np.float32)
    module(source(body))["k"].launch(1, 64, (y, np.int32(40)))
    assert (y == 1).all()


def test_global_memory_that_nobody_wrote_may_be_loaded_and_dropped(module):
    text = """extern "C" __global__ void k(float* y, const float* x, int m) {
      int t = threadIdx.x; float v = x[t]; y[t] = t < m ? 1 : v; }"""
    y, x = np.zeros(64, np.float32), cudasim.empty(64, np.float32)
    module(text)["k"].launch(1, 64, (y, x, np.int32(64)))
    assert (y == 1).all()
    with pytest.raises(Uninitialised, match="argument 1 `x`"):
        module(text)["k"].launch(1, 64, (y, x, np.int32(63)))
    module(text)["k"].launch(1, 64, (y, x, np.int32(63)), checks=Checks(uninitialised=False))


def test_a_tail_that_holds_the_poison_by_chance_counts_as_written_with_what_stands_before_it(module):
    source = """extern "C" __global__ void k(unsigned short* y, const unsigned short* x, int n) {
      int t = threadIdx.x; if (t < n) y[t] = x[t]; }"""
    kernel, y = module(source)["k"], np.zeros(5, np.uint16)
    x = cudasim.empty(5, np.uint16)
    x[:] = [*(x[:4] ^ 1), x[4]]
    kernel.launch(1, 32, (y, x, np.int32(5)))
    np.testing.assert_array_equal(y, x)
    written = cudasim.empty(5, np.uint16)
    kernel.launch(1, 32, (written, x, np.int32(4)))
    with pytest.raises(Uninitialised):
        kernel.launch(1, 32, (y, written, np.int32(5)))
