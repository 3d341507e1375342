"""The picture of a program: its steps, each fused group a frame round its operations, nothing over anything else."""
import importlib.util
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.cli import main
from gpugrad.draw import collapse, render
from gpugrad.draw.graphviz import dot_text
from gpugrad.draw.program import picture
from gpugrad.draw.scene import compose

LLVM = importlib.util.find_spec("llvmlite") is not None
BACKENDS = ["numpy", pytest.param("llvm", marks=pytest.mark.skipif(not LLVM, reason="needs the extra jit"))]


def program(backend):
    def loss(weights, images):
        return gg.sum(gg.layer_norm(gg.tanh(images @ weights)))
    return gg.compile(gg.value_and_grad(loss), backend=backend).program(np.ones((5, 6)), np.ones((4, 5)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_are_nodes_and_arrays_are_lines(backend):
    p = program(backend)
    shown = picture(p)
    assert [n.label for n in shown.nodes if n.kind == "leaf"] == ["weights", "images"]
    assert [n.label for n in shown.nodes if n.kind == "output"] == ["result 0", "result 1"]
    steps = {n.id: n for n in shown.nodes if n.kind in ("op", "group")}
    assert set(steps) == {k.number for k in p.kernels}
    for k in p.kernels:
        assert len([e for e in shown.edges if e.target == k.number]) == len(k.reads)
        assert steps[k.number].count == len(k.ops)
        assert "us modelled" in steps[k.number].detail and "test_program_picture.py" in steps[k.number].detail
    products = [n for n in steps.values() if n.label == "@"]
    assert len(products) == 2 and products[-1].note == "backward"


@pytest.mark.skipif(not LLVM, reason="needs the extra jit")
def test_groups_are_frames_round_their_operations():
    shown = picture(program("llvm"))
    groups = [n for n in shown.nodes if n.inside is not None]
    assert groups and all(n.kind == "group" for n in groups)
    scene = compose(shown, "builtin")
    frames = {box.node.id: box for box in scene.frames}
    assert set(frames) == {n.id for n in groups}
    for group in groups:
        frame = frames[group.id]
        own = [box for box in scene.boxes if any(box.node is n for n in group.inside.nodes)]
        assert len(own) == len(group.inside.nodes)
        for box in own:
            assert abs(box.x - frame.x) + box.width / 2 <= frame.width / 2
            assert abs(box.y - frame.y) + box.height / 2 <= frame.height / 2
        others = [box for box in scene.boxes if box not in own]
        assert not [box for box in others if abs(box.x - frame.x) < (box.width + frame.width) / 2
                    and abs(box.y - frame.y) < (box.height + frame.height) / 2]
    for box in (*scene.boxes, *scene.frames):
        assert box.width / 2 <= box.x <= scene.width - box.width / 2
        assert box.height / 2 <= box.y <= scene.height - box.height / 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("suffix", ["svg", "html", "dot"])
def test_every_format_shows_it(backend, suffix, tmp_path):
    path = tmp_path / f"program.{suffix}"
    gg.draw(program(backend), path)
    text = path.read_text()
    assert "weights" in text and f"loss, {backend}" in text
    if suffix == "svg":
        ET.fromstring(text)


def test_a_training_step_names_what_it_keeps(tmp_path):
    w = gg.tensor(np.ones(4), requires_grad=True)
    optimiser = gg.optim.SGD([w], lr=0.1, momentum=0.9)

    def step(x):
        optimiser.zero_grad()
        (w * x).sum().backward()
        optimiser.step()
    labels = [n.label for n in picture(gg.compile(step, backend="numpy").program(np.ones(4))).nodes]
    assert "x" in labels and "state" in labels and "result" in {label.split()[0] for label in labels}


def test_long_programs_are_folded(tmp_path):
    def chain(x):
        for _ in range(300):
            x = gg.sin(x) * 1.5
        return x
    shown = picture(gg.compile(chain, backend="numpy").program(np.ones(4)))
    assert len(shown.nodes) > 600 and len(collapse(shown, 100).nodes) <= 120
    render(shown, tmp_path / "chain.svg", limit=100)
    assert dot_text(shown).count("->") >= 600


def test_the_command_draws_programs(tmp_path, monkeypatch, capsys):
    (tmp_path / "lesson.py").write_text("import numpy as np, gpugrad as gg\n"
                                        "def step(): return gg.compile(lambda x: gg.sin(x) * 2).program(np.ones(3))\n")
    monkeypatch.chdir(tmp_path)
    assert main(["draw", "lesson:step", "step.svg"]) == 0
    assert "sin" in (tmp_path / "step.svg").read_text() and "wrote step.svg" in capsys.readouterr().out
