"""kernels/gelu.cu on the simulated device, against the formulas in float64."""
import math

import numpy as np
import pytest
from cu_support import LENGTHS, assert_near, blank, i64, launch, placed, stored, values, wide

from gpugrad.kernels.geometry import flat_grid

DTYPES = ("float32", "float64", "float16", pytest.param("bfloat16", marks=pytest.mark.slow))
K, C = math.sqrt(2 / math.pi), 0.044715
erfc = np.vectorize(math.erfc, otypes=[float])


def share(x, form):
    return erfc(-x * math.sqrt(0.5)) / 2 if form == "erf" else (1 + np.tanh(K * x * (1 + C * x * x))) / 2


def slope(x, form):
    p = share(x, form)
    if form == "erf":
        return p + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return p + 2 * p * (1 - p) * x * K * (1 + 3 * C * x * x)


def run(kernel, arrays, dtype, width, shift, form):
    n = next(a for a in arrays if a is not None).size
    y = blank(n, dtype, shift)
    given = [None if a is None else placed(a, a.dtype.name, shift) for a in arrays]
    counters = launch("gelu.cu", kernel, (dtype, width, form == "tanh"), flat_grid(n, width), 256, (*given, y, i64(n)))
    return y, counters


@pytest.mark.parametrize("form", ["erf", "tanh"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", LENGTHS)
def test_gelu_and_its_pullback(n, dtype, form):
    rng = np.random.default_rng(n)
    x, g = stored(3 * rng.standard_normal(n), dtype), stored(rng.standard_normal(n), dtype)
    xv, gv = values(x, dtype), values(g, dtype)
    for width, shift in [(wide(dtype), 0), (1, 0), (1, 1)]:
        # The tanh form takes 1 + tanh, whose last digit is that of 1.
        y, _ = run("gelu", (x,), dtype, width, shift, form)
        assert_near(y, xv * share(xv, form), dtype, 4, np.abs(xv))
        dx, _ = run("gelu_pull", (g, x), dtype, width, shift, form)
        assert_near(dx, gv * slope(xv, form), dtype, 4, np.abs(gv) * (1 + np.abs(xv)) ** 2)
        dx, _ = run("gelu_pull", (None, x), dtype, width, shift, form)
        assert_near(dx, slope(xv, form), dtype, 4, (1 + np.abs(xv)) ** 2)


@pytest.mark.parametrize("form", ["erf", "tanh"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_limits_at_infinity_and_nan(dtype, form):
    huge = 1e30 if dtype == "float32" else 1e200
    x = np.array([np.inf, -np.inf, huge, -huge, 0.0, -0.0, np.nan], dtype)
    y, _ = run("gelu", (x,), dtype, 1, 0, form)
    np.testing.assert_array_equal(y, np.array([np.inf, 0, huge, 0, 0, 0, np.nan], dtype))
    dx, _ = run("gelu_pull", (None, x), dtype, 1, 0, form)
    np.testing.assert_array_equal(dx, [1, 0, 1, 0, 0.5, 0.5, np.nan])


def test_erf_form_keeps_relative_accuracy_in_the_lower_tail():
    x = -np.linspace(1, 12, 1000).astype(np.float32)
    y, _ = run("gelu", (x,), "float32", 4, 0, "erf")
    wanted = x * erfc(-x.astype(float) * math.sqrt(0.5)) / 2
    # The argument of erfc is rounded once: a relative change of x^2 eps in its value.
    np.testing.assert_array_less(np.abs(y / wanted - 1), 2.0 ** -23 * (8 + x.astype(float) ** 2))


def test_vector_path_reads_and_writes_whole_sectors_once():
    n = 65536
    x = np.random.default_rng(0).standard_normal(n).astype(np.float32)
    _, counters = run("gelu_pull", (x, x), "float32", 4, 0, "tanh")
    assert (counters.bytes_read, counters.bytes_written) == (8 * n, 4 * n)
    assert counters.sector_efficiency == 1
    assert counters.global_requests == 3 * n // 128
