"""Which folders are packages; everything else is in pyproject.toml.

`kernels/` and `bench/` stand at the top of the repository and are installed as `gpugrad.kernels` and `gpugrad.bench`.
"""

from setuptools import find_packages, setup

MOUNTED = ("kernels", "bench")

setup(
    packages=find_packages(include=["gpugrad", "gpugrad.*"])
    + [f"gpugrad.{name}" for top in MOUNTED for name in find_packages(include=[top, f"{top}.*"])],
    package_dir={f"gpugrad.{top}": top for top in MOUNTED},
)
