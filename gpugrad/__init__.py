"""gpugrad: automatic differentiation of any order for NumPy and CuPy arrays."""

from gpugrad.version import __version__ as __version__
