"""Functions of neural networks: activations, losses, layers and normalisation, on Tensors, arrays, lists and numbers.

    h = gg.nn.relu(gg.nn.linear(x, w, b))
    loss = gg.nn.cross_entropy(gg.nn.linear(h, w2, b2), labels)

Names and definitions are PyTorch's; axes are NumPy's (`axis`, the last by default). Results are Tensors.
"""
# ruff: noqa: F403 - every module lists its public names in __all__
from gpugrad.nn.activations import *
from gpugrad.nn.attention import *
from gpugrad.nn.layers import *
from gpugrad.nn.losses import *
from gpugrad.nn.norms import *
