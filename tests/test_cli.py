"""The command line, and the main job: a network that learns to read real handwritten digits."""
import json
import os
import subprocess
import sys

import pytest

import gpugrad as gg
from gpugrad.cli import main
from gpugrad.train import train_digits


def test_digits_are_read_from_the_default_settings(tmp_path):
    first = train_digits(save=str(tmp_path / "digits.safetensors"))
    assert first.accuracy > 0.97
    assert first.held_out == 359
    again = train_digits(epochs=0, load=str(tmp_path / "digits.safetensors"))
    assert again.accuracy == first.accuracy


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_digits_are_read_with_every_optimizer_and_seed(optimizer, seed):
    assert train_digits(optimizer=optimizer, seed=seed).accuracy > 0.97


def test_a_seed_gives_the_same_network():
    runs = [train_digits(epochs=2, seed=5) for _ in range(2)]
    assert runs[0].loss == runs[1].loss


@pytest.mark.parametrize("options", [{"optimizer": "lbfgs"}, {"epochs": -1}, {"batch": 0}])
def test_bad_settings_are_refused(options):
    with pytest.raises(gg.ArgumentError, match="train: expected"):
        train_digits(**options)


def test_info_says_why_cuda_is_not_usable(capsys):
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["devices"][0] == "cpu"
    assert facts["cuda"] == "usable" or ": CuPy" in facts["cuda"]
    assert main(["info"]) == 0
    assert "cuda" in capsys.readouterr().out


def test_train_prints_and_appends(capsys, tmp_path):
    out = tmp_path / "runs.jsonl"
    assert main(["train", "digits", "--epochs", "1", "--json", str(out)]) == 0
    assert "held-out digits read correctly after 1 epochs of adam" in capsys.readouterr().out
    assert json.loads(out.read_text())["epochs"] == 1


def test_draw_by_name(capsys, tmp_path, monkeypatch):
    source = "import gpugrad as gg\ndef f():\n    x = gg.tensor(2.0, requires_grad=True)\n    return x * x\n"
    (tmp_path / "model_to_draw.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert main(["draw", "model_to_draw:f", "f.svg"]) == 0
    assert (tmp_path / "f.svg").exists()
    assert main(["draw", "model_to_draw:g"]) == 1
    assert "draw: expected a function g in a module model_to_draw" in capsys.readouterr().err


def test_errors_are_one_line_and_no_traceback(capsys, tmp_path):
    assert main(["train", "digits", "--load", str(tmp_path / "none.npz"), "--epochs", "0"]) == 1
    assert main(["train", "digits", "--device", "tpu"]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("gpugrad: ") for line in lines)


def test_the_installed_command_survives_a_closed_pipe():
    process = subprocess.Popen([sys.executable, "-m", "gpugrad.cli", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               env={**os.environ, "PYTHONUNBUFFERED": "1"})
    process.stdout.close()
    assert process.wait(60) in (0, 1)
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
