"""Adapters: what happens without the library, and that nothing is imported before it is asked for."""

import subprocess
import sys

import numpy as np
import pytest

from gpugrad.bench import peers
from gpugrad.bench.peers import ADAPTERS, MissingPeer, load


def test_a_missing_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "autograd", None)  # import autograd now fails as if it were not installed
    with pytest.raises(MissingPeer, match=r"^autograd: not installed \(pip install gpugrad\[peers\]\)$"):
        load("autograd")


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
