"""CUDA kernels, each with its wrapper and its NumPy twin; installed as gpugrad.kernels."""
