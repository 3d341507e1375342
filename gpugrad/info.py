"""`gpugrad info`: devices, versions, and why CUDA is or is not usable."""
from __future__ import annotations

import importlib.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy

from gpugrad.arrays import CPU, cuda_problem, default_device
from gpugrad.version import __version__

EXTRAS = {"cuda": ["cupy-cuda13x", "cupy-cuda12x", "cupy"], "sim": ["nvidia-cuda-nvrtc"], "jit": ["numba"], "cli": ["rich"],
          "plot": ["matplotlib"], "peers": ["torch", "jax", "autograd"]}


def info() -> dict[str, Any]:
    """What this machine has, as a dict that JSON can hold."""
    problem = cuda_problem()
    return {
        "gpugrad": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "numpy": numpy.__version__,
        "blas": blas(),
        "devices": ["cpu", *cuda_devices(problem)],
        "default device": str(default_device() if problem is None else CPU),
        "cuda": "usable" if problem is None else f"not usable: {problem}",
        "extras": {extra: {name: v for name in names if (v := installed(name))} for extra, names in EXTRAS.items()},
    }


def blas() -> str:
    """NumPy's BLAS as its build says it."""
    config: Any = numpy.show_config(mode="dicts")
    found = config.get("Build Dependencies", {}).get("blas", {})
    return f"{found.get('name', 'unknown')} {found.get('version', '')}".strip()


def cuda_devices(problem: str | None) -> list[str]:
    """The name of each usable CUDA device."""
    if problem is not None:
        return []
    runtime = importlib.import_module("cupy").cuda.runtime
    return [f"cuda:{i} {runtime.getDeviceProperties(i)['name'].decode()}" for i in range(runtime.getDeviceCount())]


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def table(facts: dict[str, Any]) -> str:
    """The facts as aligned lines."""
    lines = []
    for key, value in facts.items():
        if key == "extras":
            for extra, packages in value.items():
                found = ", ".join(f"{n} {v}" for n, v in packages.items())
                lines.append(f"{'extra ' + extra:16}{found or f'not installed: pip install gpugrad[{extra}]'}")
        else:
            lines.append(f"{key:16}{', '.join(value) if isinstance(value, list) else value}")
    return "\n".join(lines)
