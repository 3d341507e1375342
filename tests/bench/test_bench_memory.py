"""Memory: exact where NumPy allocates, a high-water mark where not."""

import sys

import numpy as np
import pytest

from gpugrad.bench import process
from gpugrad.bench.memory import peak_rss, status, traced, traced_peak, tracing

MEGABYTE = 1_000_000


def test_live_bytes_count_numpy_arrays():
    with tracing():
        before = traced()
        kept = np.ones(MEGABYTE, np.uint8)
        assert traced() - before == pytest.approx(MEGABYTE, rel=0.01)
        del kept
        assert traced() - before < 0.05 * MEGABYTE


def test_the_peak_counts_what_a_step_frees_again():
    def step():
        a = np.ones(MEGABYTE, np.uint8)
        b = a + a
        del a
        return b.sum()

    assert traced_peak(step) == pytest.approx(2 * MEGABYTE, rel=0.05)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_high_water_mark_holds_the_arrays_of_w5():
    """Four inputs and five buffers of 16 MB each, and little else."""
    assert 8.9 * 16e6 <= peak_rss("w05_elementwise", "numpy-kept") <= 10.5 * 16e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_process_knows_its_size():
    assert status("VmRSS") > MEGABYTE
    with pytest.raises(OSError, match="VmNone"):
        status("VmNone")


def test_a_failing_child_says_why():
    with pytest.raises(RuntimeError, match="ValueError: no"):
        process.run("raise ValueError('no')")
    assert process.run("import sys; print(sys.argv[1])", "word") == "word\n"
