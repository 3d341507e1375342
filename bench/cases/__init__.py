"""The workloads, one file each, every library's version side by side. Importing this package fills the registry."""

from gpugrad.bench.cases import (  # noqa: F401
    gauge_activations,
    gauge_depth,
    gauge_leak,
    gauge_peak,
    w01_chain,
    w02_dag,
    w03_mlp,
    w04_mlp_small,
    w05_elementwise,
    w06_matmul,
    w07_hvp,
    w07b_hessian,
    w08_jvp,
    w09_softmax_ce,
    w10_layernorm_gelu,
    w11_embedding,
    w12_first_gradient,
)
