"""The compile gate (`gpugrad kernels`) passes, and refuses what it says it refuses."""
import json
from dataclasses import replace

import pytest

from gpugrad import cli, cudasim
from gpugrad.errors import MissingExtraError
from gpugrad.kernels import gate, ptxas
from gpugrad.kernels.instances import INSTANCES
from gpugrad.kernels.load import FOLDER, KernelCompileError, Source
from gpugrad.kernels.probes import SOURCES

#: The oldest, the one of the figures, and the newest: what was compiled once is kept on disk, the first time takes a minute.
USUAL = ("sm_75", "sm_90", "sm_120")


@pytest.fixture(scope="module")
def compiled():
    return gate.compile_all(["sm_90"])


@pytest.fixture(scope="module")
def hot(compiled):
    return gate.run_hot(compiled)


def test_every_source_and_every_kernel_is_listed():
    assert set(INSTANCES) == {path.name for path in FOLDER.glob("*.cu")}
    for file, source in SOURCES.items():
        assert set(source.signatures) == set(INSTANCES[file]), file


def test_the_hot_kernels_pass_the_gate_on_sm_90(compiled, hot):
    assert {f.file for f in compiled} == set(INSTANCES)
    assert gate.problems(compiled, hot) == []


def test_generated_pullbacks_are_among_what_is_compiled():
    compiled = gate.compile_generated(["sm_90"])
    assert {"tanh_pull<float, 4>", "divide_pull<float, 4>", "sigmoid_pull<__half, 8>"} <= {f.expression for f in compiled}


def test_only_what_cudas_own_functions_take_is_let_through():
    found, = ptxas.figures(Source("generated", text=BAD), [("plain", ("float32", 1))], "sm_90")
    taking = lambda kernel, stack: gate.problems([replace(found, kernel=kernel, stack=stack)], [])
    assert taking("sin_pull", gate.LIBRARY_BYTES) == []
    assert len(taking("sin_pull", gate.LIBRARY_BYTES + 1)) == len(taking("tanh_pull", 8)) == 1
    assert len(gate.problems([replace(found, file="relu.cu", kernel="sin_pull", stack=8)], [])) == 1


def test_what_was_compiled_once_is_not_compiled_again(monkeypatch, tmp_path):
    monkeypatch.setattr(ptxas, "cache_folder", lambda: tmp_path)
    instances = [("plain", ("float32", 1)), ("plain", ("float64", 1))]
    first = ptxas.figures(Source("bad.cu", text=BAD), instances, "sm_90")
    kept, = tmp_path.iterdir()
    monkeypatch.setattr(ptxas, "compiled", lambda *_: pytest.fail("compiled again"))
    assert ptxas.figures(Source("bad.cu", text=BAD), instances, "sm_90") == first
    kept.write_text("[{}]")                                # half a file, or one of another version, is none
    monkeypatch.undo()
    monkeypatch.setattr(ptxas, "cache_folder", lambda: tmp_path)
    assert ptxas.figures(Source("bad.cu", text=BAD), instances, "sm_90") == first
    changed = ptxas.figures(Source("bad.cu", text=BAD.replace("y[threadIdx.x] =", "y[threadIdx.x] +=")), instances, "sm_90")
    assert len(list(tmp_path.iterdir())) == 2 and [f.expression for f in changed] == [f.expression for f in first]


@pytest.mark.parametrize("arch", [pytest.param(arch, marks=() if arch in USUAL else pytest.mark.slow)
                                  for arch in ptxas.ARCHITECTURES])
def test_every_instance_passes_the_gate_on_every_architecture(arch):
    compiled = gate.compile_all([arch])
    assert {(f.file, f.expression) for f in compiled} == {(s.file, e) for s in SOURCES.values() for e in s.declared}
    assert gate.problems([*compiled, *gate.compile_generated([arch])], []) == []


def test_128_bit_loads_stand_only_where_the_width_says_so(compiled):
    """A wide access on the scalar path would break at an odd address; scatter_joins has its own aligned partial sums."""
    assert [f.expression for f in compiled if not f.vector and f.wide_loads and f.kernel != "scatter_joins"] == []


def test_every_file_has_a_hot_kernel(hot):
    assert {h.file for h in hot} == set(INSTANCES)
    assert all(h.least_bytes <= h.bytes for h in hot)


BAD = """
template <typename T, int V> __global__ void plain(const T* x, T* y) { y[threadIdx.x] = x[threadIdx.x]; }
template <typename T, int V> __global__ void adds(const T* x, T* y) { atomicAdd(y, x[threadIdx.x]); }
template <typename T, int V> __global__ void indexes(const T* x, T* y, int k) {
  T room[64];
  for (int i = 0; i < 64; ++i) room[i] = 0;
  for (int i = 0; i < 64; ++i) room[i * k & 63] += x[i];
  y[threadIdx.x] = room[(threadIdx.x * k) & 63];
}
template <typename T, int V> __global__ void __launch_bounds__(1024) spills(const T* x, T* y) {
  T held[96];
  for (int i = 0; i < 96; ++i) held[i] = x[i * 1024 + threadIdx.x];
  __syncthreads();
  for (int i = 0; i < 96; ++i) y[i * 1024 + threadIdx.x] = held[i] + held[95 - i] * held[(i * 7) % 96];
}
"""


@pytest.mark.parametrize(("kernel", "width", "problem"), [
    ("plain", 1, None), ("plain", 4, "no 128-bit access"), ("adds", 1, "1 float atomics"), ("indexes", 1, "local memory"),
    ("spills", 1, "spills")])
def test_the_gate_refuses_a_bad_kernel(kernel, width, problem):
    [found] = ptxas.figures(Source("bad.cu", text=BAD), [(kernel, ("float32", width))], "sm_90")
    said = " and ".join(found.problems)
    assert (problem in said) if problem else (said == "")


def test_a_hot_kernel_that_got_worse_is_named(hot):
    worse = [replace(hot[0], sector_efficiency=0.5, bank_conflicts=3, bytes=9.0, local_bytes=4, occupancy={"sm_90": 0.25})]
    said = gate.problems([], worse)
    assert len(said) == 5 and all(line.startswith(hot[0].expression) for line in said)


def test_a_source_that_does_not_compile_shows_its_line():
    with pytest.raises(KernelCompileError, match=r"generated/typo.cu:1: identifier \"oops\" is undefined"):
        ptxas.figures(Source("typo.cu", text="__global__ void typo(float* y) { *y = oops; }"), [("typo", ())], "sm_90")


@pytest.mark.parametrize(("arch", "registers", "shared", "threads", "share"), [
    ("sm_90", 32, 0, 256, 1.0), ("sm_90", 128, 0, 256, 0.25), ("sm_90", 40, 0, 256, 0.75), ("sm_90", 16, 100 << 10, 256, 0.25),
    ("sm_75", 64, 0, 256, 1.0), ("sm_120", 32, 0, 1024, 2 / 3), ("sm_80", 16, 0, 32, 0.5), ("sm_90", 255, 0, 1024, 0.0)])
def test_occupancy_follows_registers_shared_memory_and_blocks(arch, registers, shared, threads, share):
    assert ptxas.occupancy(registers, shared, threads, arch) == pytest.approx(share)


def test_the_command_prints_a_table_and_json_and_fails_on_a_regression(compiled, hot, monkeypatch, capsys):
    monkeypatch.setattr(gate, "compile_all", lambda architectures: compiled)
    monkeypatch.setattr(gate, "compile_generated", lambda architectures: [])
    monkeypatch.setattr(gate, "run_hot", lambda _: hot)
    assert cli.main(["kernels"]) == 0
    assert "relu<float, 4>" in capsys.readouterr().out
    monkeypatch.setattr(gate, "run_hot", lambda _: [replace(hot[0], bank_conflicts=1)])
    assert cli.main(["kernels", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["problems"] == [f"{hot[0].expression} has 1 bank conflicts"]


def test_an_unknown_architecture_and_a_missing_nvrtc_are_one_line(monkeypatch, capsys):
    assert cli.main(["kernels", "--arch", "sm_70"]) == 1
    assert "got sm_70. Correct --arch." in capsys.readouterr().err

    def absent():
        raise cudasim.CompileError("compile_cuda: no loadable libnvrtc")
    monkeypatch.setattr(cudasim.nvrtc, "library", absent)
    with pytest.raises(MissingExtraError, match=r"pip install gpugrad\[sim\]"):
        gate.compile_all(["sm_90"])
