"""Small parameters in one piece: a step of a hundred of them costs what a step of one does.

On the host a step is a handful of NumPy calls for each parameter, and on a small one the calls take longer than the work. A
Bundle lays such parameters behind each other, and what is kept for them; the Tensors stay, with views as their arrays.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy

from gpugrad.arrays import exclusive
from gpugrad.graph.views import replaced

SMALL = 1 << 13                   # elements: a longer one takes longer to gather than the calls that it saves
FEW = 3                           # parameters that are worth it


def bundles(slots: Sequence[Any], whole: Callable[[], Any]) -> list[Bundle]:
    """The slots' small parameters in bundles, one for each dtype of which there are a few; `whole` makes an empty slot."""
    alike: dict[Any, list] = {}
    for slot in slots:
        if movable(slot.tensor._data):
            alike.setdefault(slot.tensor.dtype, []).append(slot)
    return [Bundle(some, whole()) for some in alike.values() if len(some) >= FEW]


def movable(array: Any) -> bool:
    """Whether this is the array of a small parameter that its Tensor alone sees."""
    return type(array) is numpy.ndarray and array.dtype.char in "fd" and 0 < array.size <= SMALL and exclusive(array, 2)


class Bundle:
    """Parameters of one dtype that are stepped together.

    slots    the parameters' own; `arrays` in them become views of `whole`'s
    whole    a slot for all of them: `update(whole, weights, gradients, options)` steps them
    """

    def __init__(self, slots: Sequence[Any], whole: Any):
        self.slots, self.whole, self.tensors = slots, whole, [slot.tensor for slot in slots]
        arrays = [slot.tensor._data for slot in slots]
        self.shapes = [a.shape for a in arrays]
        self.ends = numpy.cumsum([a.size for a in arrays]).tolist()
        self.weights = numpy.concatenate([a.reshape(-1) for a in arrays])
        self.gradients = numpy.empty_like(self.weights)
        self.parts = self.cut(self.weights)
        self.kept: dict[str, list] = {}
        for slot, part in zip(slots, self.parts, strict=True):
            slot.tensor._data = part
            replaced(slot.tensor)

    def cut(self, flat: numpy.ndarray) -> list[numpy.ndarray]:
        """The parameters' views of an array of the bundle."""
        return [flat[end - n:end].reshape(shape) for shape, end, n in
                ((s, e, int(numpy.prod(s))) for s, e in zip(self.shapes, self.ends, strict=True))]

    def gather(self) -> bool:
        """Bring the gradients together, and whatever lies elsewhere by now: False where these parameters go different ways."""
        steps, dtype, found = self.slots[0].step, self.weights.dtype, []
        for slot, part in zip(self.slots, self.parts, strict=True):
            tensor = slot.tensor
            grad = tensor.grad
            if grad is None or slot.step != steps:
                return False
            g, w = grad._data, tensor._data
            if type(g) is not numpy.ndarray or g.dtype is not dtype or type(w) is not numpy.ndarray or w.dtype is not dtype:
                return False
            if w is not part:
                part[...] = w
                tensor._data = part
                replaced(tensor)
            found.append(g.reshape(-1))
        if not self.gather_kept():
            return False
        numpy.concatenate(found, out=self.gradients)
        self.whole.step = steps
        return True

    def gather_kept(self) -> bool:
        """The same for what the optimiser keeps."""
        names = self.slots[0].arrays
        if any(slot.arrays.keys() != names.keys() for slot in self.slots):
            return False
        for name in names:
            if name not in self.kept:
                self.keep(name, numpy.empty_like(self.weights))
            for slot, part in zip(self.slots, self.kept[name], strict=True):
                if slot.arrays[name] is not part:
                    part[...] = slot.arrays[name]
                    slot.arrays[name] = part
        for name in self.whole.arrays.keys() - names.keys():                      # forgotten by a load_state_dict
            del self.whole.arrays[name], self.kept[name]
        return True

    def keep(self, name: str, flat: numpy.ndarray) -> None:
        self.whole.arrays[name] = flat
        self.kept[name] = self.cut(flat)

    def stepped(self) -> None:
        """After the update of `whole`: each slot sees its share."""
        for name, flat in self.whole.arrays.items():
            if name not in self.kept:
                self.keep(name, flat)
                for slot, part in zip(self.slots, self.kept[name], strict=True):
                    slot.arrays[name] = part
        for slot in self.slots:
            slot.step = self.whole.step
