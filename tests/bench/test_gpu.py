"""`make gpu`: without a device one sentence, and its checks tell right from wrong."""
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import gpugrad as gg
from gpugrad.bench import gpu, gpu_checks, main
from gpugrad.bench.gpu_programs import time_attention, time_steps
from gpugrad.bench.score_models import Mlp
from gpugrad.kernels.probes import probes


def test_without_a_device_it_says_why_and_exits_with_2(monkeypatch, capsys):
    monkeypatch.setattr("gpugrad.arrays.modules.cuda_problem", lambda: "CuPy finds no usable driver (a reason)")
    assert main.main(["gpu"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "a reason" in err and err.count("\n") == 1


@pytest.mark.parametrize(("got", "wanted", "off"), [
    (np.float32([1, np.nan]), np.float32([1, np.nan]), 0), (np.float32([1, 2]), np.float32([1, np.nan]), np.inf),
    (np.uint32([1]), np.uint32([2]), np.inf), (np.float32([1 + 2.0**-23, 0]), np.float32([1, 0]), 1),
    (np.float32([0, 4]), np.float32([2.0**-21, 4]), 1)])
def test_distance_is_in_last_places_of_the_largest_element(got, wanted, off):
    assert gpu.distance(got, wanted) == off


def test_a_record_has_its_floor_device_and_case(tmp_path):
    class Runtime:
        driverGetVersion = staticmethod(lambda: 13000)

    class Xp:
        __version__ = "0"

        class cuda:
            runtime = Runtime

    timed = [gpu.Timed("relu", {"rows": 1}, 2.0, 100, 0, 1.0, {"torch": 4.0})]
    file = tmp_path / "records" / "gpu.jsonl"
    for _ in range(2):
        gpu.write_records(file, gpu.Device("sim", Xp, False), 1e12, timed, {"relu": 0.0})
    lines = file.read_text().splitlines()
    assert len(lines) == 6 and '"floor_us": 1.0' in lines[2] and "SIMULATED" in lines[2]
    assert "4.0 us (2.00x)" in gpu.table(timed, True)


def test_what_is_taken_for_granted_holds_on_the_simulated_device():
    with gg.device("sim"):
        lines, usable = gpu_checks.check_all(gg.device("sim").xp)
    assert usable and [line for line in lines if not line.startswith("ok")] == []


def test_a_device_that_differs_is_described_and_the_run_stopped_where_nothing_would_work(monkeypatch, capsys):
    def old(xp):
        return "13.6"

    def broken(xp):
        raise RuntimeError("no image for this device")
    monkeypatch.setattr(gpu_checks, "CHECKS", (("CuPy 14", "the interface", True, old),
                                               ("a kernel runs", "everything", False, broken)))
    assert main.main(["gpu", "--device", "sim", "--skip-tests"]) == 1
    out = capsys.readouterr().out
    assert "DIFFERS CuPy 14: got 13.6. It serves: the interface." in out
    assert "got RuntimeError: no image for this device" in out and "stopped" in out and "simulated against" not in out


def test_steps_run_eager_and_compiled_and_a_wrong_one_is_named(monkeypatch):
    monkeypatch.setattr("gpugrad.bench.gpu_programs.REHEARSAL_STEPS", (Mlp(8, (8, 4, 4, 3)),))
    timed, wrong = time_steps(gpu.find("sim"), 1e12, 0.0)
    assert [t.case for t in timed] == ["MLP, eager", "MLP, compiled"] and wrong == []
    assert all(t.bytes > 0 and t.floor_us > 0 and t.params["launches"] <= 14 for t in timed)
    monkeypatch.setattr("gpugrad.bench.gpu_programs.TOLERANCE", -1.0)
    assert "off" in time_steps(gpu.find("sim"), 1e12, 0.0)[1][0]


def test_a_real_run_takes_the_whole_suite_and_a_rehearsal_what_would_go_to_the_gpu(monkeypatch):
    commands = []
    monkeypatch.setattr("subprocess.run", lambda command, **_: commands.append(command) or SimpleNamespace(returncode=0))
    assert [gpu.run_tests(True, None), gpu.run_tests(False, None), gpu.run_tests(False, "softmax or gelu")] == [0, 0, 0]
    real, rehearsal, chosen = ([part for part in command if "tests" in part] for command in commands)
    assert len(real) == 1 and len(rehearsal) == len(chosen) == len(gpu.REHEARSED)
    assert all(Path(place).exists() for place in (*real, *rehearsal))
    assert "-k" not in commands[0] and commands[1][-1] == f"({gpu.NAMED})"
    assert commands[2][-1] == f"(softmax or gelu) and ({gpu.NAMED})"


def test_attention_counts_its_arrays():
    timed, = time_attention(gpu.find("sim"), 1e12, 0.0, None)
    assert timed.bytes == 12 * 4 * 2 * 32 * 32 and timed.flops == 7 * 2 * 32**3


@pytest.mark.slow
def test_the_whole_command_on_the_simulated_device_records_nothing(capsys, tmp_path):
    records = tmp_path / "r.jsonl"
    assert main.main(["gpu", "--device", "sim", "--skip-tests", "--records", str(records)]) == 0
    out = capsys.readouterr().out
    count = len(list(probes()))
    assert f"{count} of {count} kernels give the same bits" in out and "DIFFERS" not in out and "WRONG" not in out
    assert "MLP, compiled" in out and "attention, forward" in out and "matmul, forward and backward" in out
    assert out.count("simulated") >= 3 and "nothing recorded" in out and not records.exists()
