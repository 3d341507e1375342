"""Benchmarks: gpugrad beside NumPy by hand, PyTorch, JAX and others. Installed as gpugrad.bench.

    gpugrad bench w3 w5 --against torch,jax --json records.jsonl

A case is in cases/, one file each; a library's adapter in peers/; `clock.py` times, `verify.py` checks first.
"""
