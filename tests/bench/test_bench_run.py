"""The harness as a whole, on cases made for the purpose, and the command line."""

import argparse
import json
from types import SimpleNamespace

import numpy as np
import pytest

from gpugrad.bench import main, report
from gpugrad.bench.case import REGISTRY, Case, Gauge
from gpugrad.bench.peers import load
from gpugrad.bench.roofline import Roofline
from gpugrad.bench.runner import measure
from gpugrad.errors import ArgumentError

ROOF = Roofline(copy_gb_s=10.0, gemm_gflop_s=100.0)


@pytest.fixture
def square():
    """A throw-away case, y = x x, right in its NumPy variants."""
    case = Case(
        name="w90_square",
        title="square",
        params={"n": 1000},
        small={},
        inputs=lambda p, rng: {"x": rng.standard_normal(p.n)},
        outputs=("y",),
        bytes=lambda d: 8 * d.n,
        flops=lambda d: d.n,
    )
    case.variant("numpy", "numpy-kept")(lambda peer, d: lambda: d.x * d.x)
    yield case
    del REGISTRY[case.name]


def results(case, *names):
    measured = measure(case, [load(name) for name in names], {}, 0.01, ROOF, lambda line: None)
    return measured, {r.variant: r for r in measured.results}


def test_right_variants_are_timed_with_their_floor(square):
    measured, by_name = results(square, "numpy", "numpy-kept")
    assert all(r.timing.p50_us > 0 and r.timing.n >= 5 and not r.problem for r in by_name.values())
    assert measured.floor_us == pytest.approx(0.8)  # 8000 bytes at 10 GB/s
    assert measured.floor_from == "measured copy, 10 GB/s"


def test_a_wrong_variant_is_reported_and_not_timed(square):
    calls = []

    def wrong(peer, d):
        def step():
            calls.append(1)
            return d.x * d.x * np.float32(1.01)

        return step

    square.variants["numpy-kept"] = wrong
    _, by_name = results(square, "numpy", "numpy-kept")
    assert by_name["numpy-kept"].problem.startswith("failed: y: 98")  # of 1000; near 0 the allowance is absolute
    assert by_name["numpy-kept"].timing is None
    assert len(calls) == 1
    assert by_name["numpy"].timing is not None


def test_a_nan_is_reported_and_not_timed(square):
    def wrong(peer, d):
        d.x[3] = np.nan
        return lambda: d.x * d.x

    square.variants["numpy-kept"] = wrong
    _, by_name = results(square, "numpy-kept")
    assert "1 of 1000 elements differ, first at (3,)" in by_name["numpy-kept"].problem


def test_a_variant_that_raises_does_not_end_the_run(square):
    square.variants["numpy-kept"] = lambda peer, d: lambda: 1 / 0
    _, by_name = results(square, "numpy", "numpy-kept")
    assert by_name["numpy-kept"].problem == "failed: ZeroDivisionError: division by zero"
    assert by_name["numpy"].timing is not None


def test_a_missing_library_appears_only_where_it_has_a_variant(square):
    missing = {"torch": "torch: not installed", "numpy-kept": "numpy-kept: not installed"}
    measured = measure(square, [load("numpy")], missing, 0.01, ROOF, lambda line: None)
    assert {r.variant: r.problem for r in measured.results} == {"numpy": "", "numpy-kept": "numpy-kept: not installed"}


def test_variants_cannot_spoil_each_others_inputs(square):
    def spoils(peer, d):
        def step():
            y = d.x * d.x
            d.x[:] = 0
            return y

        return step

    square.variants["numpy"] = spoils
    _, by_name = results(square, "numpy", "numpy-kept")
    assert not by_name["numpy-kept"].problem


def test_a_gauge_is_read_and_its_errors_reported():
    gauge = Gauge("gauge_for_test", "a number", "MB", params={"n": 3})
    try:
        gauge.reading("numpy")(lambda peer, p: p.n / 2)
        gauge.reading("numpy-kept")(lambda peer, p: [][0])
        measured, by_name = results(gauge, "numpy", "numpy-kept")
    finally:
        del REGISTRY[gauge.name]
    assert by_name["numpy"].value == 1.5
    assert by_name["numpy-kept"].problem.startswith("failed: IndexError")
    assert measured.unit == "MB"


def test_the_binding_rate_makes_the_floor():
    assert ROOF.floor_us(bytes=1e6, flops=1e6) == pytest.approx(100.0)
    assert ROOF.floor_us(bytes=1e3, flops=1e9) == pytest.approx(1e4)
    assert "GEMM" in ROOF.source(bytes=1e3, flops=1e9)
    assert ROOF.source(0, 0) == ""
    assert ROOF.floor_us(0, 0) == 0


@pytest.fixture
def quick_roof(monkeypatch):
    """The machine's own rates take half a second to measure."""
    monkeypatch.setattr(main, "roofline", lambda: ROOF)


def test_the_command_line_end_to_end(quick_roof, tmp_path, capsys):
    records, readme = tmp_path / "r.jsonl", tmp_path / "README.md"
    readme.write_text(f"{report.BEGIN}\n{report.END}\n")
    words = ["w4", "w7b", "--seconds", "0.02", "--device", "cpu", "--json", str(records), "--readme", str(readme)]
    assert main.main(words) == 0
    out = capsys.readouterr().out
    assert "w04_mlp_small" in out
    assert "w07b_hessian" in out
    got = {(r["case"], r["variant"]) for r in map(json.loads, records.read_text().splitlines())}
    assert ("w04_mlp_small", "gpugrad") in got
    assert ("w07b_hessian", "numpy-kept") in got
    assert "| w04_mlp_small |" in readme.read_text()


def test_bad_input_ends_with_a_sentence_not_a_traceback(capsys):
    assert main.main(["w99"]) == 2
    assert capsys.readouterr().err.startswith("bench: no case named 'w99'.")
    assert main.main(["w1", "--against", "tensorflow"]) == 2
    assert "expected libraries among gpugrad, gpugrad-flat" in capsys.readouterr().err


def test_a_failing_gpugrad_variant_fails_the_command(quick_roof, square, capsys):
    square.variants["gpugrad"] = lambda peer, d: lambda: d.x
    assert main.main(["square", "--seconds", "0.01", "--device", "cpu"]) == 1
    assert "failed" in capsys.readouterr().out


def test_the_list_names_every_case(capsys):
    assert main.main(["--list"]) == 0
    out = capsys.readouterr().out
    assert [name for name in REGISTRY if name not in out] == []


def test_arguments_fit_a_subcommand():
    parser = argparse.ArgumentParser()
    main.add_arguments(parser.add_subparsers(dest="command").add_parser("bench"))
    args = parser.parse_args(["bench", "w3", "--against", "torch,jax", "--quick", "--json", "f"])
    assert (args.cases, args.against, args.quick, args.json) == (["w3"], "torch,jax", True, "f")


def test_unknown_libraries_are_refused():
    with pytest.raises(ArgumentError, match="got theano"):
        main.bench(["w1"], against=["theano"])


def test_versions_name_each_library_once():
    peers = [SimpleNamespace(library="numpy", version="2"), SimpleNamespace(library="numpy", version="2")]
    assert main.versions(peers) == {"numpy": "2"}
