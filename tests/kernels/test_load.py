"""Sources: headers pasted in, options, instances, the compile cache, and NVRTC's errors in our words."""
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy
import pytest

from gpugrad.cudasim import cupy
from gpugrad.errors import ArgumentError, MissingExtraError
from gpugrad.kernels import load
from gpugrad.kernels.load import KernelCompileError, Source, all_options, explain, pasted

SCALE = """template <typename T>
__global__ void scale(const T* x, T* y, float by, long long n) {
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) y[i] = x[i] * T(by);
}
"""


@pytest.fixture
def modules(sim, monkeypatch):
    """The names of each module that is made."""
    found = []

    class RawModule(sim.RawModule):
        def __init__(self, **how):
            found.append(how["name_expressions"])
            super().__init__(**how)
    monkeypatch.setattr(sim, "RawModule", RawModule)
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "FOLDER", tmp_path)
    monkeypatch.setattr(load, "SOURCES", {})
    return tmp_path


def test_headers_are_pasted_once_and_lines_keep_their_numbers(folder):
    (folder / "a.cuh").write_text('#include "b.cuh"\nint a;')
    (folder / "b.cuh").write_text("int b;\n")
    code = pasted('// one\n#include "a.cuh"  // two\n#include "b.cuh"\n#include <cuda_fp16.h>\nint x;', "kernels/x.cu", set())
    place, found = None, {}
    for line in code.splitlines():
        if line.startswith("#line"):
            place = [line.split()[2].strip('"'), int(line.split()[1])]
            continue
        found.setdefault(line, (place[0], place[1]))
        place[1] += 1
    assert found["int x;"] == ("kernels/x.cu", 5)
    assert found["int a;"] == ("kernels/a.cuh", 2)
    assert found["int b;"] == ("kernels/b.cuh", 1)
    assert found["#include <cuda_fp16.h>"] == ("kernels/x.cu", 4)
    assert code.count("int b;") == 1


def test_a_header_that_is_not_there_is_named_with_its_line(folder):
    (folder / "x.cu").write_text('\n#include "commn.cuh"\n')
    with pytest.raises(KernelCompileError, match=r"kernels/x\.cu:2: .*'commn\.cuh'"):
        _ = Source("x.cu").code


def test_sources_read_nothing_until_they_are_used(folder):
    source = Source("later.cu")
    (folder / "later.cu").write_text(SCALE)
    assert list(source.signatures) == ["scale"]


def test_instances_are_what_may_be_launched(folder):
    (folder / "scale.cu").write_text(SCALE)
    source = Source("scale.cu", {"scale": [("float32",), (numpy.float64,)]})
    assert source.declared == {"scale<float>", "scale<double>"}
    assert load.SOURCES["scale.cu"] is source
    assert source.bind("scale", (numpy.dtype("float32"),)).expression == "scale<float>"
    with pytest.raises(ArgumentError, match=r"scale: kernels/scale\.cu declares .*, got scale<__half>"):
        source.bind("scale", ("float16",))


def test_an_unknown_kernel_is_answered_with_those_there_are():
    with pytest.raises(ArgumentError, match=r"which has scale, got 'scal'"):
        Source("s.cu", text=SCALE).bind("scal", ("float32",))


def test_each_instantiation_compiles_once_per_device(sim, modules):
    source = Source("s.cu", text=SCALE)
    first = source.function(sim, 0, "scale<float>")
    assert source.function(sim, 0, "scale<float>") is first
    assert source.function(sim, 1, "scale<float>") is not first
    source.function(sim, 0, "scale<double>")
    assert modules == [("scale<float>",), ("scale<float>",), ("scale<double>",)]


def test_prepare_compiles_what_is_missing_in_one_go(sim, modules):
    source = Source("s.cu", text=SCALE)
    source.function(sim, 0, "scale<float>")
    source.prepare(sim, 0, ["scale<float>", "scale<double>", "scale<int>"])
    source.prepare(sim, 0, ["scale<double>"])
    assert modules == [("scale<float>",), ("scale<double>", "scale<int>")]


def test_options_are_cpp17_and_the_cuda_headers_where_half_needs_them(tmp_path, monkeypatch):
    monkeypatch.setattr(load, "cuda_headers", lambda: tmp_path)
    source = Source("s.cu", text=SCALE)
    assert source.options(["scale<float>"]) == ("-std=c++17",)
    assert source.options(["scale<float>", "scale<__half>"]) == ("-std=c++17", f"-I{tmp_path}")
    assert all_options(("-std=c++17",), "sm_90") == ("-std=c++17", "-ftz=true", "-arch=sm_90",
    "--device-as-default-execution-space")


def test_all_options_are_those_of_the_installed_cupy():
    pytest.importorskip("cupy", reason="compares with CuPy's own source")
    import inspect

    from cupy.cuda import compiler

    text = inspect.getsource(compiler)
    for option in all_options((), "sm_90"):
        assert option.replace("-arch=sm_90", "-arch=sm_{arch}") in text


def test_half_without_headers_says_which_wheel_has_them(monkeypatch):
    monkeypatch.setattr(load, "cuda_headers", lambda: None)
    with pytest.raises(MissingExtraError, match="pip install nvidia-cuda-runtime"):
        Source("s.cu", text=SCALE).options(["scale<__nv_bfloat16>"])


def test_headers_are_found_in_cuda_path(tmp_path, monkeypatch):
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "cuda_fp16.h").touch()
    monkeypatch.setattr(load.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("CUDA_PATH", str(tmp_path))
    assert load.cuda_headers.__wrapped__() == tmp_path / "include"


def test_errors_show_file_line_text_and_caret(sim, folder):
    (folder / "device.cuh").write_text("#pragma once\nconstexpr int WARP = 32;\n")
    (folder / "bad.cu").write_text('#include "device.cuh"\n\n__global__ void bad(float* y) {\n  int unused = 3;\n'
                                   "  y[WARP] = foo + 1;\n}\n")
    with pytest.raises(KernelCompileError) as caught:
        Source("bad.cu").function(sim, 0, "bad")
    lines = str(caught.value).splitlines()
    assert lines[0] == "bad: kernels/bad.cu must compile as bad, got"
    assert lines[1] == 'kernels/bad.cu:5: identifier "foo" is undefined'
    assert lines[2].strip() == "y[WARP] = foo + 1;"
    assert lines[3].index("^") == lines[2].index("foo")
    assert lines[4:] == ["Correct the source."]
    assert "unused" in caught.value.log


def test_errors_in_a_header_name_the_header(sim, folder):
    (folder / "device.cuh").write_text("\nconstexpr int WARP = thirty;\n")
    (folder / "bad.cu").write_text('#include "device.cuh"\n__global__ void bad(float* y) { y[0] = WARP; }\n')
    with pytest.raises(KernelCompileError, match=r'\nkernels/device\.cuh:2: identifier "thirty" is undefined\n'):
        Source("bad.cu").function(sim, 0, "bad")


def test_folders_of_the_compilers_own_files_are_left_out():
    log = ('/folder/tmpab12/kernels/x.cu(7): error: expected a ";"\n  int a\n       ^\n\n1 error detected in the compilation of '
           '"/folder/tmpab12/0f.cubin.cu".\n')
    assert explain(log, "kernels/x.cu", ("x<float>",)) == (
        'x: kernels/x.cu must compile as x<float>, got\nkernels/x.cu:7: expected a ";"\n'
        "    int a\n         ^\nCorrect the source.")


def test_a_log_without_places_is_shown_whole():
    log = "nvrtc: error: invalid value for --gpu-architecture (-arch)"
    assert log in explain(log, "kernels/x.cu", ("x",))


def broken(error):
    """An array module whose compiler raises."""
    def compiling(**_):
        raise error

    xp = ModuleType("broken")
    xp.RawModule = compiling
    xp.cuda = SimpleNamespace(compiler=SimpleNamespace(CompileException=cupy.cuda.compiler.CompileException))
    return xp


@pytest.mark.parametrize("error", [
    ImportError("libnvrtc.so.13: cannot open shared object file"), OSError("libnvrtc.so.13: cannot open shared object file"),
    RuntimeError("CuPy failed to load libnvrtc.so.13"),
])
def test_a_missing_compiler_says_which_wheel_to_install(error):
    with pytest.raises(MissingExtraError, match=r"s: .* needs the CUDA compiler NVRTC.*pip install nvidia-cuda-nvrtc"):
        Source("s.cu", text=SCALE).function(broken(error), 0, "s")


def test_other_errors_of_the_device_pass_unchanged():
    with pytest.raises(RuntimeError, match=r"^cudaErrorInsufficientDriver$"):
        Source("s.cu", text=SCALE).function(broken(RuntimeError("cudaErrorInsufficientDriver")), 0, "s")


@pytest.mark.parametrize("path", sorted(Path(load.__file__).parent.glob("*.cu")), ids=lambda p: p.name)
def test_every_source_of_the_project_pastes_its_headers(path):
    code = Source(path.name).code
    assert '#include "' not in code
    assert code.endswith(path.read_text().rpartition('.cuh"')[2])
