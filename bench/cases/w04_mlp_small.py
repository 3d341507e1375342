"""W4: the training step of W3 on a network so small that the engine, not the matrix products, decides."""

from gpugrad.bench.cases.w03_mlp import mlp_case

CASE = mlp_case("w04_mlp_small", 32, (64, 64, 64, 10))
