"""Adapters: what happens without the library, and that nothing is imported before it is asked for."""

import subprocess
import sys

import numpy as np
import pytest

from gpugrad.bench import peers
from gpugrad.bench.case import Case, select
from gpugrad.bench.cases.w05_elementwise import CASE
from gpugrad.bench.peers import ADAPTERS, MissingPeer, load
from gpugrad.bench.verify import verify


def test_a_missing_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "autograd", None)  # import autograd now fails as if it were not installed
    with pytest.raises(MissingPeer, match=r"^autograd: not installed \(pip install gpugrad\[peers\]\)$"):
        load("autograd")


def test_an_optional_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytensor", None)
    with pytest.raises(MissingPeer, match=r"^pytensor: not installed \(pip install --no-deps pytensor .*\)$"):
        load("pytensor")


@pytest.mark.peers
def test_torch_compile_without_a_compiler_says_so(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(MissingPeer, match=r"^torch-compile: needs a C\+\+ compiler, got none at no-such-compiler"):
        load("torch-compile")


@pytest.mark.peers
@pytest.mark.filterwarnings("default")  # torch's own
def test_torch_compile_gives_the_references_numbers():
    try:
        peer = load("torch-compile")
    except MissingPeer as missing:
        pytest.skip(str(missing))
    d = CASE.data(small=True)
    step, read = CASE.build(peer, CASE.data(small=True))
    step()
    verify(peer.numpy(read(step())), CASE.expected(small=True), CASE.dtype, CASE.terms(d), CASE.outputs)


def test_every_case_has_a_variant_of_every_library_that_can_write_it():
    for case in (e for e in select() if isinstance(e, Case)):
        libraries = {*peers.ALWAYS, "gpugrad-flat", "gpugrad-compile", "torch", "torch-compile", "jax", "autograd", "pytensor"}
        if case.name == "w02_dag":
            libraries -= {"pytensor"}  # compiles for minutes
        if case.name == "w12_first_gradient":
            libraries -= {"gpugrad-flat", "gpugrad-compile", "numpy-kept"}  # a first gradient is not compiled
        assert libraries <= set(case.variants), case.name


def test_naming_the_cases_imports_no_peer():
    source = "import sys, gpugrad.bench.main; print(*[m for m in sys.argv[1:] if m in sys.modules])"
    libraries = ["torch", "jax", "autograd", "mygrad", "matplotlib", "cupy"]
    done = subprocess.run([sys.executable, "-c", source, *libraries], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", ["gpugrad", "numpy"])
def test_arrays_come_back_as_they_went_in(name):
    peer, x = load(name), np.arange(4, dtype=np.float32)
    (back,) = peer.numpy([peer.leaf(x)])
    assert back.dtype == np.float32
    assert np.array_equal(back, x)


def test_every_adapter_names_its_library():
    assert {name: load(name).version != "" for name in ("gpugrad", "numpy")} == {"gpugrad": True, "numpy": True}
    assert set(peers.ALWAYS) <= set(ADAPTERS)
