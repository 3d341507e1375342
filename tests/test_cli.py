"""The command line: what it prints, its JSON, its exit codes, and that no error shows a traceback."""
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

import gpugrad as gg
from gpugrad import cli, info
from gpugrad.cli import main


def run(*words):
    """The command as a user runs it."""
    return subprocess.run([sys.executable, "-m", "gpugrad.cli", *words], capture_output=True, text=True, timeout=120)


def test_version_and_help():
    assert run("--version").stdout == f"gpugrad {gg.__version__}\n"
    listed = run("--help").stdout
    assert all(name in listed for name in ("info", "bench", "train", "draw"))
    for name in ("info", "bench", "train", "draw"):
        assert "--json" in run(name, "--help").stdout


@pytest.mark.parametrize("words", [[], ["nonsense"], ["train"], ["train", "cats"], ["info", "--nonsense"]])
def test_wrong_usage_is_exit_code_2(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert "usage: gpugrad" in capsys.readouterr().err


def test_info_as_text_and_as_json(capsys):
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert f"gpugrad         {gg.__version__}" in text
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["default_device"] == str(gg.default_device())
    assert facts["cores"] >= 1
    assert facts["cuda"]["usable"] == gg.cuda.is_available()
    assert facts["cuda"]["usable"] or facts["cuda"]["problem"] in text


def test_info_of_a_machine_with_a_gpu(monkeypatch):
    device = {"device": "cuda:0", "name": "NVIDIA X", "capability": "9.0", "memory_bytes": 80 * 2**30}
    monkeypatch.setattr(info, "cuda_problem", lambda: None)
    monkeypatch.setattr(info, "cuda_devices", lambda: [device])
    assert "cuda            cuda:0: NVIDIA X, compute capability 9.0, 80 GiB" in info.show(info.info())


def test_info_asks_the_runtime_for_every_device(monkeypatch):
    class Runtime:
        getDeviceCount = staticmethod(lambda: 2)
        getDeviceProperties = staticmethod(lambda i: {"name": b"X%d" % i, "major": 9, "minor": i, "totalGlobalMem": 2**30})
    cupy = type("cupy", (), {"cuda": type("cuda", (), {"runtime": Runtime})})
    monkeypatch.setattr("gpugrad.arrays.modules.cupy_module", lambda asked: cupy)
    assert [d["name"] for d in info.cuda_devices()] == ["X0", "X1"]
    assert info.cuda_devices()[1]["capability"] == "9.1"


def test_train_prints_the_accuracy_and_appends_json_lines(capsys, tmp_path):
    out = tmp_path / "runs.jsonl"
    for _ in range(2):
        assert main(["train", "digits", "--epochs", "1", "--json", str(out)]) == 0
    seen = capsys.readouterr()
    assert "held-out accuracy" in seen.out
    assert "digits 1/1  loss" in seen.err
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["epochs"] for line in lines] == [1, 1]
    assert lines[0]["predictions"] == lines[1]["predictions"]


def test_train_prints_json_alone(capsys):
    assert main(["train", "digits", "--epochs", "0", "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["held_out"] == 359


def test_draw_by_name(capsys, tmp_path, monkeypatch):
    (tmp_path / "model_to_draw.py").write_text(
        "import gpugrad as gg\ndef f():\n    x = gg.tensor(2.0, requires_grad=True)\n    return x * x\ng = 3\n"
        "def h():\n    return 1\n")
    monkeypatch.chdir(tmp_path)
    assert main(["draw", "model_to_draw:f", "f.svg", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"path": "f.svg", "bytes": (tmp_path / "f.svg").stat().st_size}
    for name, message in [("model_to_draw:g", "expected a function 'g' in model_to_draw, got 3"),
                          ("model_to_draw:h", "expected model_to_draw:h to return a Tensor or a program, got 1"),
                          ("no_such_module:f", "expected a module that can be imported, got 'no_such_module'"),
                          ("nothing", "expected module:function, got 'nothing'")]:
        assert main(["draw", name]) == 1
        assert f"gpugrad: draw: {message}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [
    ["train", "digits", "--load", "none.npz"], ["train", "digits", "--device", "tpu"], ["train", "digits", "--batch", "0"],
    ["bench", "no-such-case"], ["bench", "w01", "--device", "tpu"], ["bench", "w01", "--seconds", "-1"],
    ["bench", "w01", "--plot", "x.foo"], ["bench", "w01", "--budget", "nan"],
    ["train", "digits", "--json", "no/such/folder/x.json"], ["draw", "math:sin"],
    ["train", "digits", "--epochs", "0", "--save", "no/such/folder/x.npz"],
])
def test_an_error_is_one_line_and_exit_code_1(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("gpugrad: ")
    assert not any("Traceback" in line for line in lines)


def test_a_closed_pipe_is_no_error():
    process = subprocess.Popen([sys.executable, "-m", "gpugrad.cli", "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_an_interrupt_is_exit_code_130_without_traceback():
    process = subprocess.Popen([sys.executable, "-m", "gpugrad.cli", "train", "digits", "--epochs", "100000"],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr.readline().startswith("digits 1/100000  loss")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == cli.INTERRUPTED
    assert err.strip().splitlines()[-1] == "interrupted"
    assert "Traceback" not in err
