"""The devices that tests run on. A test, or a module by `pytestmark`, that uses the fixture `device` runs on each of them."""
from __future__ import annotations

import os
from collections.abc import Iterator
from types import ModuleType

import pytest
from on_device import DEVICES

import gpugrad as gg
from gpugrad.cudasim import CompileError
from gpugrad.cudasim.nvrtc import library

pytest_plugins = ["compiled_mode"]                         # --compiled


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[gg.device]:
    """The device under test, the default one meanwhile; see on_device.py for arrays there."""
    if request.param == "sim":
        need_nvrtc()
    with gg.device(request.param) as device:
        yield device


@pytest.fixture
def nvrtc() -> None:
    """For tests that name the simulated device themselves."""
    need_nvrtc()


@pytest.fixture
def sim(nvrtc: None) -> Iterator[ModuleType]:
    """CuPy's stand-in, with the simulated device as the default one."""
    with gg.device("sim") as device:
        yield device.xp


def need_nvrtc() -> None:
    """Skip where kernels cannot be compiled; where `CI` is set, fail: there a skip would pass for a test."""
    try:
        library()
    except CompileError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
