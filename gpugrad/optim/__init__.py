"""Optimisers: SGD with momentum, Adam and AdamW, over a list, a dict or any tree of Tensors.

    optimiser = gg.optim.SGD(params, lr=0.1, momentum=0.9)
    for x, labels in batches:
        optimiser.zero_grad()
        loss(params, x, labels).backward()
        optimiser.step()

A step changes the parameters' arrays in place. Graphs that saved them before it refuse to run backward after it.
"""
from gpugrad.optim.adam import Adam, AdamW
from gpugrad.optim.clip import clip_grad_norm, clip_grad_value
from gpugrad.optim.optimizer import Optimizer
from gpugrad.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm", "clip_grad_value"]
