"""`make gpu`: without a device one sentence, and its checks tell right from wrong."""
import numpy as np
import pytest

from gpugrad.bench import gpu, main


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


@pytest.mark.slow
def test_the_whole_command_on_the_simulated_device_records_nothing(capsys, tmp_path):
    records = tmp_path / "r.jsonl"
    assert main.main(["gpu", "--device", "sim", "--skip-tests", "--records", str(records)]) == 0
    out = capsys.readouterr().out
    assert "18 of 18 kernels give the same bits" in out and "matmul, forward and backward" in out
    assert out.count("simulated") >= 3 and "nothing recorded" in out and not records.exists()
