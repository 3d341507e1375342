"""Shared by the tests of the simulated CUDA device. They need the NVRTC wheel: without it they fail, and say so."""

import functools

import numpy as np
import pytest

from gpugrad.cudasim import compile_cuda

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_100", "sm_120")


@functools.cache
def _module(source, arch, names):
    return compile_cuda(source, arch, names=names)


@pytest.fixture
def module():
    """compile_cuda, remembering what it compiled: module(source, arch="sm_90", names=())."""
    return lambda source, arch="sm_90", names=(): _module(source, arch, tuple(names))


@pytest.fixture
def rng():
    return np.random.default_rng(20261124)


@pytest.fixture(params=["sm_75", "sm_90", "sm_120"])
def arch(request):
    """One architecture of each dialect of PTX that NVRTC writes."""
    return request.param
