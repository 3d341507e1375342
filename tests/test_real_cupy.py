"""What CuPy itself takes and gives, where it is installed: gpugrad on it, over the simulated device, in a process of its own."""
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("nvrtc")
needs_cupy = pytest.mark.skipif(importlib.util.find_spec("cupy_backends") is None, reason="needs a CuPy wheel")

PROGRAM = """
import real_cupy
import cupy
import numpy as np
import gpugrad as gg

rng = np.random.default_rng(0)
x, w, b, labels = rng.normal(size=(6, 5)), rng.normal(size=(4, 5)), rng.normal(size=4), np.array([0, 3, 1, 1, 2, 0])

def trained(device, compiled):
    weights = [gg.tensor(a.astype("f"), device=device, requires_grad=True) for a in (w, b)]
    optimiser = gg.optim.AdamW(weights, lr=0.1)
    given, wanted = gg.tensor(x.astype("f"), device=device), gg.tensor(labels, device=device)
    def step(given, wanted):
        optimiser.zero_grad()
        loss = gg.nn.cross_entropy(gg.nn.linear(given, *weights, activation="relu"), wanted)
        loss.backward()
        optimiser.step()
        return loss
    run = compiled(step)
    losses = [run(given, wanted) for _ in range(4)]
    if compiled is not gg.compile:
        gg.optim.clip_grad_norm(weights, 0.1)
    return [float(y.detach().numpy()) for y in losses], [t.detach().cpu().numpy() for t in weights]

def agree(found, wanted):
    for p, q in zip(found[0] + found[1], wanted[0] + wanted[1], strict=True):
        np.testing.assert_allclose(p, q, rtol=2e-5, atol=1e-6)

reference = trained("cpu", lambda f: f)
agree(trained("cuda", lambda f: f), reference)
agree(trained("cuda", gg.compile), reference)
assert any(entry[0] == "graph" for entry in real_cupy.LOG)

def on_both(f, *arrays):
    found = f(*[gg.tensor(a, device="cuda") for a in arrays])
    assert found.device == "cuda:0"
    np.testing.assert_allclose(found.numpy(), f(*map(gg.tensor, arrays)).numpy(), rtol=1e-12)

places = np.array([2, 0, 2])
on_both(lambda a, i: gg.index_add(a, i, a[:3]), x, places)
on_both(lambda a, i: gg.index_add(a.astype(int), i, a[:3].astype(int)), 10 * x, places)
on_both(lambda a: gg.unique_values(a), np.array([3.0, np.nan, 1.0, 3.0, np.nan]))
on_both(lambda a: gg.median(a, axis=1), x)
on_both(lambda a: gg.copysign(a, gg.tensor(-0.0, device=a.device)), x)
on_both(lambda a, b: gg.grad(lambda a: gg.sum(gg.tanh(a @ b) ** 2))(a), x, w.T.copy())
for refused in (lambda z: gg.hypot(z, z), lambda z: gg.sign(z.real > 0), lambda z: gg.power(z.real.astype(int), -1)):
    try:
        refused(gg.tensor([1j], device="cuda"))
    except gg.GpugradError:
        continue
    raise AssertionError("expected an error")
print("all of it")
"""


@needs_cupy
def test_gpugrad_runs_on_the_real_cupy(tmp_path):
    here = Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), *sys.path]), "CUPY_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-W", "error::DeprecationWarning", "-c", PROGRAM], env=env, capture_output=True,
                          text=True, timeout=300, check=False)
    assert "all of it" in done.stdout, done.stderr[-3000:]
