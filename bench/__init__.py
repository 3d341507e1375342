"""Benchmarks; installed as gpugrad.bench."""
