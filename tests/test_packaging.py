"""What a user gets from pip: a wheel, an sdist or an editable install, with the kernels and benchmarks inside."""

import importlib
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import gpugrad

ROOT = Path(__file__).parents[1]
MOUNTS = {"gpugrad": "gpugrad", "kernels": "gpugrad/kernels", "bench": "gpugrad/bench"}  # folder here: folder installed
SHIPPED = {".py", ".cu", ".cuh", ".npz", ".typed"}


def python(*args, **options):
    """Runs this interpreter; the output of a failure is in the test's report."""
    done = subprocess.run([sys.executable, *map(str, args)], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_numpy_is_the_only_requirement():
    assert [line for line in metadata.requires("gpugrad") if "extra ==" not in line] == ["numpy>=2.0"]


def test_importing_gpugrad_imports_nothing_but_numpy():
    code = (
        "import sys; before = set(sys.modules); import gpugrad;"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before};"
        "print(*sorted(new - sys.stdlib_module_names))"
    )
    assert set(python("-c", code).split()) <= {"gpugrad", "numpy"}


def test_version_has_one_source():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    assert gpugrad.__version__ == importlib.import_module("gpugrad.version").__version__ == metadata.version("gpugrad")


@pytest.mark.parametrize("top", ["kernels", "bench"])
def test_top_level_folders_are_packages_of_gpugrad(top):
    package = importlib.import_module(f"gpugrad.{top}")
    assert package.__name__ == f"gpugrad.{top}"
    assert Path(package.__file__).read_text() == (ROOT / top / "__init__.py").read_text()


def test_licence_is_declared_and_present():
    assert metadata.metadata("gpugrad")["License-Expression"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")


def test_every_python_folder_is_a_package():
    for folder in {path.parent for top in MOUNTS for path in (ROOT / top).rglob("*.py")}:
        assert (folder / "__init__.py").is_file(), f"{folder.relative_to(ROOT)}: without __init__.py pip leaves it out"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A copy of this checkout to build in, without what earlier builds left."""
    copy = tmp_path_factory.mktemp("build") / "checkout"
    leave = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, ignore=leave)
    for probe in ("probe.cu", "probe.cuh"):
        (copy / "kernels" / probe).write_text("// delivered?\n")
    return copy


def shipped(checkout):
    """The files that every way of installing must deliver, by their installed paths."""
    files = {
        f"{mount}/{path.relative_to(checkout / top).as_posix()}"
        for top, mount in MOUNTS.items()
        for path in (checkout / top).rglob("*")
        if path.suffix in SHIPPED
    }
    assert {"gpugrad/__init__.py", "gpugrad/py.typed", "gpugrad/data/digits.npz", "gpugrad/kernels/probe.cu"} <= files
    return files


def names_in(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def check_import(where, interpreter=sys.executable, path="", also=()):
    """gpugrad comes from `where` in a fresh process away from the checkout."""
    names = ", ".join(["gpugrad", "gpugrad.kernels", "gpugrad.bench", "gpugrad.data", *also])
    code = f"import {names}; print(gpugrad.__file__, len(gpugrad.data.digits()[0]), sep='|')"
    done = subprocess.run([interpreter, "-c", code], env=os.environ | {"PYTHONPATH": str(path)},
                          cwd=Path(interpreter).parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    file, images = done.stdout.split("|")
    assert Path(file).is_relative_to(where)
    assert int(images) == 1797


@pytest.mark.slow
def test_wheel_holds_every_module_kernel_and_data_file(checkout, tmp_path):
    python("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, checkout)
    (wheel,) = tmp_path.glob("*.whl")
    names = names_in(wheel)
    assert shipped(checkout) - names == set()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert "gpugrad/data/digits.md" in names  # the digits' licence travels with them
    assert not any(name.startswith(("tests/", "kernels/", "bench/")) for name in names)
    python("-m", "pip", "install", "--no-deps", "--target", tmp_path / "site", wheel)
    check_import(tmp_path / "site", path=tmp_path / "site")


@pytest.mark.slow
def test_wheel_from_sdist_is_the_same(checkout, tmp_path):
    python("-m", "build", "--no-isolation", "--outdir", tmp_path, checkout)  # the sdist, then a wheel from it
    (sdist,), (wheel,) = tmp_path.glob("*.tar.gz"), tmp_path.glob("*.whl")
    assert shipped(checkout) - names_in(wheel) == set()
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"LICENSE", "Makefile", "tools/venv.sh", "tests/test_packaging.py"} <= names  # `make test` works in it
    python("-m", "pip", "install", "--no-deps", "--target", tmp_path / "site", wheel)
    check_import(tmp_path / "site", path=tmp_path / "site")


@pytest.mark.slow
def test_editable_install_finds_kernels_and_modules_added_since(checkout, tmp_path):
    python("-m", "venv", "--without-pip", tmp_path / "venv")
    interpreter = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    backend = "import sys; from setuptools import build_meta; build_meta.build_editable(sys.argv[1])"
    python("-c", backend, tmp_path, cwd=checkout)
    (wheel,) = tmp_path.glob("*.whl")
    python("-m", "pip", "--python", interpreter, "install", "--no-deps", wheel)
    (site,) = (tmp_path / "venv").rglob("site-packages")
    (site / "numpy.pth").write_text(str(Path(np.__file__).parents[1]))  # NumPy is borrowed, not installed
    later = checkout / "kernels" / "later"
    later.mkdir()
    (later / "__init__.py").write_text("")
    check_import(checkout, interpreter, also=["gpugrad.kernels.later"])
