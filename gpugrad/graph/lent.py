"""Gradients of leaves that a backward sweep on a GPU adds to where they lie: a product adds with beta = 1, without a launch more.

A gradient is lent where nobody could see half a sum in it: no hooks, and nobody else holds its Tensor or its array. A sweep that
fails leaves NaN in what it has changed, since such a gradient is no gradient of anything.
"""
from __future__ import annotations

import math
from typing import Any

from gpugrad.arrays import at_home, exclusive, held_only, module_of
from gpugrad.graph.namespace import RAW
from gpugrad.graph.node import HOOKS, Leaf, Node
from gpugrad.graph.state import mode_now
from gpugrad.graph.tensor import Tensor


class Lent:
    """Gradients that were taken from their leaves for one sweep: node -> Tensor.

    nodes     those whose sum is still the array that was lent
    changed   those whose array was added to
    """

    __slots__ = ("tensors", "nodes", "changed")

    def __init__(self, tensors: dict[Node, Tensor]):
        self.tensors = tensors
        self.nodes = set(tensors)
        self.changed: set[Node] = set()

    def give_back(self, sums: dict[Node, Tensor]) -> None:
        """Each leaf gets its sum, or the Tensor that it had. What has come to it meanwhile, from a sweep within, is added."""
        for node, tensor in self.tensors.items():
            leaf: Tensor | None = node.tensor()                                      # type: ignore[attr-defined]
            if leaf is not None:
                total = sums.get(node, tensor)
                leaf._grad = total if getattr(leaf, "_grad", None) is None else leaf._grad + total

    def give_up(self) -> None:
        for node in self.changed:
            array = self.tensors[node]._data
            at_home(array.fill, module_of(array))(math.nan)
        self.give_back({})


NOTHING = Lent({})


def lend(order: list[Node], g: Any) -> Lent:
    """The gradients of the leaves among the nodes that a sweep may add to, which starts from the array g."""
    mode = mode_now()
    if mode.levels or mode.anomaly or RAW[type(g)].pulls is None or (HOOKS and any(node in HOOKS for node in order)):
        return NOTHING
    found: dict[Node, Tensor] = {}
    for node in order:
        leaf = node.tensor() if type(node) is Leaf else None
        tensor = None if leaf is None else getattr(leaf, "_grad", None)
        if leaf is not None and tensor is not None and may_change(tensor, leaf):
            leaf._grad = None
            found[node] = tensor
        del leaf, tensor
    return Lent(found)


def may_change(tensor: Tensor, leaf: Tensor) -> bool:
    array, like = tensor._data, leaf._data
    return (tensor._node is None and held_only(tensor, 3)                 # of the leaf, of the caller, and the name here
            and type(array) is type(like) and (array.dtype, array.device) == (like.dtype, like.device)
            and array.flags.c_contiguous and exclusive(array, 2))
