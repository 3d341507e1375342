"""`gpugrad info`: devices, versions, threads, and why CUDA is or is not usable."""
from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
from typing import Any

import numpy

from gpugrad.arrays import cuda_problem, default_device
from gpugrad.kernels import cublaslt
from gpugrad.machine import cores
from gpugrad.version import __version__

#: What each extra of pyproject.toml brings: extra -> (distribution, what it is for).
EXTRAS = {
    "cuda13": ("cupy-cuda13x", "GPUs, CUDA 13"),
    "cuda12": ("cupy-cuda12x", "GPUs, CUDA 12"),
    "jit": ("llvmlite", "compiled CPU code"),
    "sim": ("nvidia-cuda-nvrtc", "the simulated CUDA device, gg.device('sim')"),
    "cli": ("rich", "progress bars and tables"),
    "plot": ("matplotlib", "plots, png pictures"),
}
PEERS = ("torch", "jax", "autograd", "mygrad", "pytensor")


def info() -> dict[str, Any]:
    """What `gpugrad info` prints, as a tree that JSON can hold."""
    problem = cuda_problem()
    return {
        "gpugrad": __version__, "python": platform.python_version(), "platform": platform.platform(),
        "numpy": numpy.__version__, "blas": blas(), "cores": cores(),
        "threads": {name: os.environ[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
                    if name in os.environ},
        "default_device": str(default_device()),
        "cuda": {"usable": problem is None, "problem": problem, "devices": [] if problem else cuda_devices(),
                 "cublaslt": None if problem else cublaslt.status(), "products_by_cupy": cublaslt.reasons()},
        "extras": {extra: version(name) for extra, (name, _) in EXTRAS.items()},
        "peers": {name: version(name) for name in PEERS},
    }


def blas() -> str | None:
    """The BLAS library that NumPy was built with."""
    found = numpy.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    return " ".join(str(found[key]) for key in ("name", "version") if found.get(key)) or None


def version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def cuda_devices() -> list[dict[str, Any]]:
    """Name, compute capability and memory in bytes of every device."""
    from gpugrad.arrays.modules import cupy_module
    runtime = cupy_module("cuda").cuda.runtime
    found = []
    for i in range(runtime.getDeviceCount()):
        properties = runtime.getDeviceProperties(i)
        name = properties["name"]
        found.append({"device": f"cuda:{i}", "name": name.decode() if isinstance(name, bytes) else name,
                      "capability": f"{properties['major']}.{properties['minor']}",
                      "memory_bytes": int(properties["totalGlobalMem"])})
    return found


def show(found: dict[str, Any]) -> str:
    """The tree of `info` as text."""
    lines = [f"gpugrad         {found['gpugrad']}",
             f"python          {found['python']} on {found['platform']}",
             f"numpy           {found['numpy']}" + (f", BLAS {found['blas']}" if found["blas"] else ""),
             f"cores           {found['cores']}" + "".join(f", {name}={n}" for name, n in found["threads"].items()),
             f"default device  {found['default_device']}"]
    if found["cuda"]["usable"]:
        lines += [f"cuda            {d['device']}: {d['name']}, compute capability {d['capability']}, "
                  f"{d['memory_bytes'] / 2**30:.0f} GiB" for d in found["cuda"]["devices"]]
        lines.append(f"cublaslt        {found['cuda']['cublaslt']}")
        lines += [f"                {count} products by CuPy: {why}" for why, count in found["cuda"]["products_by_cupy"].items()]
    else:
        lines.append(f"cuda            not usable: {found['cuda']['problem']}")
    for extra, (name, purpose) in EXTRAS.items():
        installed = found["extras"][extra]
        lines.append(f"extra {extra:9} {f'{name} {installed}' if installed else f'not installed: pip install gpugrad[{extra}]'}"
                     f"  ({purpose})")
    lines += [f"peer {name:10} {found['peers'][name] or 'not installed'}" for name in PEERS]
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of `gpugrad info`."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Do what the parsed options say."""
    found = info()
    print(json.dumps(found) if args.json else show(found))
    return 0
