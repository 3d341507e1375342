"""Tests on the simulated device need NVRTC: without it they skip where somebody develops, and fail where `CI` is set."""
import os
import subprocess
import sys
from pathlib import Path

import pytest

HIDDEN = """
import sys
import pytest
from gpugrad.cudasim import nvrtc

def missing(path):
    raise OSError(f"{path}: cannot open shared object file")

nvrtc.Nvrtc = missing
sys.exit(pytest.main(["-q", "-rfEs", "-p", "no:cacheprovider", "tests/test_lecture.py", "-k", "simple_graph"]))
"""


@pytest.mark.parametrize(("ci", "said"), [("", "1 skipped"), ("true", "1 error")])
def test_without_the_compiler_sim_tests_skip_and_in_ci_fail(ci, said):
    root = Path(__file__).resolve().parents[1]
    found = subprocess.run([sys.executable, "-c", HIDDEN], cwd=root, env={**os.environ, "CI": ci}, capture_output=True, text=True)
    assert said in found.stdout, found.stdout + found.stderr
    assert "compile_cuda: NVRTC must be installed" in found.stdout
    assert found.returncode == (1 if ci else 0)


@pytest.mark.usefixtures("device")
def test_the_device_under_test_is_the_default_one(request, device):
    import gpugrad as gg
    assert gg.default_device() == device == gg.zeros(2).device
    assert device.kind == request.node.callspec.params["device"]
