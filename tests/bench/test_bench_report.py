"""What a run leaves behind: the table with its losses, the records, README's lines, the chart."""

import json
import sys

import pytest

from gpugrad.bench import report
from gpugrad.bench.clock import Timing
from gpugrad.bench.result import Measured, Result, Run, append, lines
from gpugrad.errors import ArgumentError


def timed(variant, us, first_s=0.0):
    return Result(variant, timing=Timing(0.9 * us, us, 1.1 * us, 30, 4, 8), first_s=first_s)


@pytest.fixture
def run():
    """One case won, one lost, one failed; one gauge."""
    won = Measured("w01_chain", "chain", {"ops": 200}, [timed("gpugrad", 800.0), timed("torch", 1440.0)], per=200, part="op")
    lost = Measured(
        "w05_elementwise", "formula", {"n": 4_000_000},
        [timed("gpugrad", 80e3), timed("numpy", 79e3), timed("torch", 20e3)],
        bytes=128e6, flops=80e6, floor_us=6.4e3, floor_from="measured copy, 20 GB/s",
    )  # fmt: skip
    failed = Measured(
        "w06_matmul", "matmul", {"n": 1024},
        [timed("gpugrad", 40e3), Result("torch", problem="failed: da: 1 of 9 elements differ"),
         Result("jax", problem="jax: not installed (pip install gpugrad[peers])")],
    )  # fmt: skip
    weighed = Measured("saved_activations", "saved", {}, [Result("gpugrad", value=2.1), Result("torch", value=2.11)], unit="MB")
    return Run("CPU, 2 cores", {"gpugrad": "0.1", "numpy": "2.4"}, [won, lost, failed, weighed], commit="abc1234")


def test_a_win_and_a_loss_are_both_shown(run):
    text = report.plain(run)
    won = next(line for line in text.splitlines() if line.startswith("w01_chain"))
    lost = next(line for line in text.splitlines() if line.startswith("w05_elementwise"))
    assert "w01_chain, per op" in won
    assert "4.00 us" in won
    assert "7.20 us  1.80x" in won
    assert "20.0 ms  0.25x!" in lost
    assert "6.40 ms" in lost  # the floor


def test_a_tie_is_not_called_a_loss(run):
    lost = next(line for line in report.plain(run).splitlines() if line.startswith("w05_elementwise"))
    assert "79.0 ms  0.99x " in lost
    assert "0.99x!" not in lost


def test_the_head_line_says_where_and_with_what(run):
    head = report.plain(run).splitlines()[0]
    assert head.startswith("CPU, 2 cores; gpugrad 0.1, numpy 2.4; commit abc1234; 20")


def test_a_busy_machine_is_said_in_the_head_line(run):
    assert "BUSY" not in report.plain(run)
    run.cores_taken = 1.5
    assert "BUSY MACHINE, other processes held 1.5 cores" in report.plain(run).splitlines()[0]


def test_failed_and_missing_variants_are_explained(run):
    text = report.plain(run)
    assert "failed [1]" in text
    assert "[1] w06_matmul, torch: failed: da: 1 of 9 elements differ" in text
    assert "missing [2]" in text
    assert "[2] jax: not installed (pip install gpugrad[peers])" in text


def test_rich_shows_the_same_cells(run, capsys):
    pytest.importorskip("rich")
    report.show(run)
    shown = capsys.readouterr().out
    assert "0.25x!" in shown
    assert "CPU, 2 cores" in shown


def test_without_rich_the_plain_table_is_printed(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    report.show(run)
    assert capsys.readouterr().out.rstrip("\n") == report.plain(run)


@pytest.mark.parametrize(
    ("us", "text"),
    [(0.1234, "0.12 us"), (4.0, "4.00 us"), (39.97, "40.0 us"), (999.7, "1.00 ms"), (23456.0, "23.5 ms"), (2.5e6, "2.50 s")],
)
def test_times_have_three_digits_and_a_unit(us, text):
    assert report.time_text(us) == text


def test_records_have_the_fields_of_the_schema(run):
    records = [json.loads(line) for line in lines(run)]
    assert len(records) == 8  # one for each number; the failed and the missing variant have none
    first = records[0]
    assert first["case"] == "w01_chain"
    assert first["versus"] == {"torch": 1440.0}
    schema = (
        "case variant params p20_us p50_us p80_us n warmup cache bytes flops floor_us floor_from versus "
        "device driver cupy commit date"
    )
    assert all(set(schema.split()) <= r.keys() for r in records if "p50_us" in r)
    gauge = records[-1]
    assert (gauge["value"], gauge["unit"]) == (2.11, "MB")


def test_records_are_appended_never_rewritten(run, tmp_path):
    path = tmp_path / "records" / "runs.jsonl"
    append(run, path)
    before = path.read_text()
    append(run, path)
    assert path.read_text().startswith(before)
    assert len(path.read_text().splitlines()) == 16


def test_the_readme_table_stands_between_its_markers(run, tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n")
    report.write_readme(run, path)
    text = path.read_text()
    assert text.startswith("above\n")
    assert text.endswith("\nbelow\n")
    assert "old" not in text
    assert "| w05_elementwise | 80.0 ms | 79.0 ms  0.99x | 20.0 ms  0.25x! |" in text
    report.write_readme(run, path)
    assert path.read_text() == text


def test_a_readme_without_markers_is_left_alone(run, tmp_path):
    path = tmp_path / "README.md"
    path.write_text("above")
    with pytest.raises(ArgumentError, match="bench:begin"):
        report.write_readme(run, path)
    assert path.read_text() == "above"


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_chart_is_written(run, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"chart.{suffix}"
    report.plot(run, path)
    assert path.stat().st_size > 5000


def test_a_chart_without_matplotlib_says_what_to_install(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install gpugrad\[plot\]"):
        report.plot(run, tmp_path / "chart.png")
