"""What a program says of itself: its source, its passes, its cost, and the file it is saved to."""
import re
import subprocess
import sys

import numpy as np
import pytest
from flat_support import FUNCTIONS, ROW, V, X, rng

import gpugrad as gg

RUN_ALONE = """
import sys
sys.modules["gpugrad"] = None                                    # importing it fails
import numpy as np, runpy
inputs = np.load("inputs.npz")
run = runpy.run_path("program.py")["run"]
first = run([inputs[k] for k in inputs.files])
outputs = run([inputs[k] for k in inputs.files])
np.savez("outputs.npz", *outputs)
assert not any(m.startswith("gpugrad.") for m in sys.modules)
"""


def run_alone(folder, program, inputs):
    program.save(folder / "program.py")
    np.savez(folder / "inputs.npz", *inputs)
    result = subprocess.run([sys.executable, "-c", RUN_ALONE], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = np.load(folder / "outputs.npz")
    return [found[k] for k in found.files]


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n != "empty"])
def test_saved_programs_need_numpy_alone(name, tmp_path):
    f, args = FUNCTIONS[name]
    g = gg.value_and_grad(f)
    outputs = run_alone(tmp_path, gg.compile(g).program(*args), args)
    value, gradient = g(*args)
    np.testing.assert_allclose(outputs[0], value, rtol=1e-12)
    np.testing.assert_allclose(outputs[1], gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("f", [
    lambda x: gg.sum(gg.sigmoid(x) * gg.silu(x) + gg.softplus(x)),
    lambda x: gg.sum(gg.pad(gg.roll(gg.flip(x), 1), 2) ** 2) + gg.sum(gg.nn.elu(x)),
    lambda x: gg.cross_entropy(x @ np.ones((4, 6)), np.array([0, 5, 2])),
    lambda x: gg.sum(x[:, [0, 0, 1]] * x[1, 1:]) + x[0, 0] ** 1.5,
])
def test_helpers_travel_with_the_file(f, tmp_path):
    x = np.abs(X) + 0.1
    g = gg.value_and_grad(f)
    outputs = run_alone(tmp_path, gg.compile(g).program(x), [x])
    value, gradient = g(x)
    np.testing.assert_allclose(outputs[0], value, rtol=1e-12)
    np.testing.assert_allclose(outputs[1], gradient, rtol=1e-12, atol=1e-14)


def test_the_users_own_operation_cannot_be_saved(tmp_path):
    twice = gg.primitive(lambda x: 2 * x, name="twice", vjp=lambda m, g, want, y, x: (2 * g,))
    with pytest.raises(gg.ArgumentError, match="save: expected operations of gpugrad's own, got twice"):
        gg.compile(lambda x: twice(x)).program(gg.tensor(X)).save(tmp_path / "p.py")


def test_source_names_arguments_and_lines():
    def loss(weights, images):
        hidden = gg.tanh(images @ weights)
        return gg.sum(hidden * hidden)
    source = gg.compile(gg.grad(loss)).program(rng(1).standard_normal((4, 5)), X).source
    assert "weights, images = inputs" in source
    assert re.search(r"# .*test_program\.py:\d+: hidden = gg\.tanh\(images @ weights\)", source)
    assert re.search(r"# backward of tanh: .*test_program\.py:\d+: hidden = gg\.tanh", source)
    assert "np.matmul(images, weights, out=" in source


def operations(f, *args):
    return [op.name for op in gg.compile(f).program(*args).graph.ops]


@pytest.mark.parametrize(("f", "expected"), [
    (lambda x: gg.sin(x) + gg.sin(x), ["sin", "add"]),                                   # computed once
    (lambda x: (gg.cos(x), gg.sin(x))[1], ["sin"]),                                      # nothing reads the cosine
    (lambda x: gg.negative(-gg.sin(x)), ["sin"]),
    (lambda x: gg.sin(x) * 1.0 / 1.0 - 0.0, ["sin"]),
    (lambda x: gg.sin(x) + 0.0, ["sin", "add"]),                                         # -0 + 0 is 0
    (lambda x: gg.sin(x) - (-x), ["sin", "add"]),
    (lambda x: gg.sin(x).T.T.reshape(-1).reshape(3, 4), ["sin"]),
    (lambda x: gg.sin(x).astype(float), ["sin"]),
    (lambda x: gg.sum(gg.broadcast_to(gg.sin(x), (5, 3, 4)), axis=0), ["sin", "multiply"]),
    (lambda x: gg.broadcast_to(gg.sin(x), (2, 3, 4)) * np.ones((2, 1, 1)) + gg.ones((2, 3, 4)), ["sin", "add"]),
    (lambda x: gg.sin(x) * (gg.exp(gg.ones(4)) - 1), ["sin", "multiply"]),               # constants are folded
    (lambda x: gg.sin(x) ** 2, ["sin", "square"]),
])
def test_simplified(f, expected):
    assert sorted(operations(f, X)) == sorted(expected)
    np.testing.assert_allclose(gg.compile(f)(X), f(X), rtol=1e-14)


def test_matmul_reads_transposes_as_they_are():
    names = operations(gg.grad(lambda x: gg.sum(gg.tanh(x @ V.T))), X)
    assert names.count("matmul") == 2 and "astype" not in names


def traced_peak(compiled, x):
    import tracemalloc
    tracemalloc.start()
    compiled(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_run_allocates_its_results_alone():
    x = rng(2).standard_normal((500, 500))
    compiled = gg.compile(gg.grad(lambda x: gg.sum(gg.tanh(gg.sin(x) * x + gg.exp(-x)))), backend="numpy")
    held = [compiled(x) for _ in range(3)]
    assert x.nbytes <= traced_peak(compiled, x) < 1.1 * x.nbytes
    held.clear()
    assert traced_peak(compiled, x) < 0.1 * x.nbytes      # the last results are seen by nobody: their memory serves again
    assert compiled.program(x).cost.peak <= 4 * x.nbytes


def test_a_training_step_needs_no_memory_but_its_own():
    """Old gradients make room for new ones, also while the step is traced, where the optimiser's arrays are not made twice."""
    import tracemalloc
    w = gg.tensor(rng(3).standard_normal((500, 500)), requires_grad=True)
    optimiser = gg.optim.Adam([w], lr=0.1)

    def step(x):
        optimiser.zero_grad()
        loss = gg.sum(x @ w)
        loss.backward()
        optimiser.step()
        return loss
    x, size = np.ones((5, 500)), w.data.nbytes
    compiled = gg.compile(step, backend="numpy")
    tracemalloc.start()
    compiled(x)
    assert tracemalloc.get_traced_memory()[1] < 5.5 * size              # gradient, moments, arena
    tracemalloc.stop()
    compiled(x)
    assert traced_peak(compiled, x) < 0.2 * size


def test_passes():
    program = gg.compile(gg.grad(lambda x: gg.sum(gg.tanh(x) * 2))).program(ROW)
    assert "tanh" in program.show("traced") and len(program.show("traced")) > len(program.show())
    with pytest.raises(gg.ArgumentError, match="expected a pass among traced"):
        program.show("fast")
