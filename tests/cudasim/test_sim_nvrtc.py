"""Finding and loading NVRTC."""

import ctypes
import pathlib

import pytest

from gpugrad.cudasim import nvrtc

BUILTINS, NVRTC = "libnvrtc-builtins.so.13.0", "libnvrtc.so.13"


@pytest.mark.parametrize(("in_wheel", "wanted"), [(True, [BUILTINS, NVRTC]), (False, [NVRTC])])
def test_built_in_functions_are_loaded_from_beside_a_wheels_nvrtc_and_never_from_the_working_folder(
        tmp_path, monkeypatch, in_wheel, wanted):
    loaded = []

    def load(path):
        loaded.append(pathlib.Path(path).name)
        if loaded[-1] == NVRTC:
            raise OSError("no library")

    (tmp_path / BUILTINS).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ctypes, "CDLL", load)
    with pytest.raises(OSError, match="no library"):
        nvrtc.Nvrtc(tmp_path / NVRTC if in_wheel else NVRTC)
    assert loaded == wanted
