"""Steps of SGD, Adam and AdamW on all parameters in one launch (optim.cu).

The parameters of an optimiser that share a dtype and a device live in one Arena, and so does each kind of array that it keeps
for them: the launch goes over the arena, and finds each gradient by its address.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from gpugrad.kernels.geometry import pack_width
from gpugrad.kernels.instances import INSTANCES
from gpugrad.kernels.launch import launch
from gpugrad.kernels.load import Source

OPTIM = Source("optim.cu", INSTANCES["optim.cu"])
CHUNK = 1024                      # every tensor starts at a multiple of it, as optim.cu says
FEW = 256                         # tensors whose addresses fit into the arguments of a launch
NONE = numpy.zeros(FEW, numpy.uint64)
KINDS = "fdFD"                    # dtypes that the kernels take; complex numbers as pairs of reals


class Arena:
    """Arrays of several shapes in one allocation for each of their kinds: "weights", and whatever the optimiser keeps.

    shapes, dtype   of the parameters; `part(kind, k)` is the k-th array of a kind, a view
    """

    def __init__(self, xp: Any, shapes: Sequence[tuple[int, ...]], dtype: Any):
        self.xp, self.shapes, self.dtype = xp, tuple(shapes), numpy.dtype(dtype)
        self.real = numpy.zeros(0, self.dtype).real.dtype
        pair = 2 if self.dtype.kind == "c" else 1
        lengths = numpy.array([pair * int(numpy.prod(s, dtype=numpy.int64)) for s in shapes], numpy.int64)
        self.bounds = numpy.concatenate([[0], numpy.cumsum(-(-lengths // CHUNK) * CHUNK)]).astype(numpy.int64)
        self.sizes = lengths
        self.starts, self.lengths = xp.asarray(self.bounds), xp.asarray(lengths)
        self.addresses, self.sent = xp.zeros(len(self.shapes), "uint64"), numpy.zeros(len(self.shapes), numpy.uint64)
        self.lr, self.lr_sent = xp.zeros(1, "float64"), 0.0
        self.step, self.step_sent = xp.zeros(1, "int64"), 0
        self.ticket = xp.zeros(1, "uint32")
        self.kinds: dict[str, Any] = {}
        self.parts: dict[str, list] = {}

    def whole(self, kind: str) -> Any:
        """The arena of a kind, zeros at first."""
        if kind not in self.kinds:
            self.kinds[kind] = self.xp.zeros(int(self.bounds[-1]), self.real)
            self.parts[kind] = [self.cut(self.kinds[kind], k, kind == "weights") for k in range(len(self.shapes))]
        return self.kinds[kind]

    def cut(self, arena: Any, k: int, as_parameter: bool) -> Any:
        start, shape = int(self.bounds[k]), self.shapes[k]
        part = arena[start:start + int(self.sizes[k])]
        if self.dtype.kind != "c":
            return part.reshape(shape)
        return part.view(self.dtype).reshape(shape) if as_parameter else part.reshape((*shape[:-1], 2 * (shape or (1,))[-1]))

    def part(self, kind: str, k: int) -> Any:
        self.whole(kind)
        return self.parts[kind][k]

    def take(self, kind: str, k: int, array: Any) -> Any:
        """The k-th array of a kind, with the values of `array` (None: zeros) unless it is that one already."""
        part = self.part(kind, k)
        if array is None:
            part.fill(0)
        elif array is not part:
            part[...] = array
        return part

    def run(self, kernel: str, gradients: Sequence[Any], kinds: Sequence[str | None], lr: float, step: int,
            *options: Any) -> None:
        """One step of the parameters that have a gradient.

        gradients  one for each parameter, contiguous and of its size and real dtype; None where it is left alone
        kinds      what the kernel takes behind the weights; None for null
        step       steps taken so far
        """
        addresses = numpy.array([0 if g is None or not g.size else g.data.ptr for g in gradients], numpy.uint64)
        if len(addresses) <= FEW:
            where: Any = numpy.pad(addresses, (0, FEW - len(addresses)))
        else:
            where = self.addresses
            if (addresses != self.sent).any():
                where.set(addresses)
                self.sent = addresses
        self.send(lr, step)
        if not self.launch(kernel, gradients, kinds, where, *options):
            self.step_sent = step

    def send(self, lr: float, step: int) -> None:
        """Put the rate and the count of steps where the kernels read them, before one step, which counts itself."""
        if lr != self.lr_sent:
            self.lr.fill(lr)
            self.lr_sent = lr
        if step != self.step_sent:
            self.step.fill(step)
        self.step_sent = step + 1

    def launch(self, kernel: str, gradients: Sequence[Any], kinds: Sequence[str | None], addresses: Any, *options: Any) -> bool:
        """One step with the rate and the count that are on the device. False where no gradient has elements.

        addresses   of the gradients: an array on the device, or FEW on the host, which go along with the launch
        """
        weights = self.whole("weights")
        present = [g for g in gradients if g is not None and g.size]
        if not present:
            return False
        width = pack_width(weights, *present, length=0)
        moved = sum(g.nbytes for g in present)
        states = [None if kind is None else self.whole(kind) for kind in kinds]
        kept = moved * (1 + sum(s is not None for s in states))
        given = (None, addresses) if isinstance(addresses, numpy.ndarray) else (addresses, NONE)
        launch(OPTIM, kernel, (self.real, width), int(self.bounds[-1]) // CHUNK, 256,
               (*given, self.starts, self.lengths, self.lr, weights, *states, self.step, self.ticket, len(self.shapes),
                *options), reads=[moved + kept], writes=[kept])
        return True


def sgd_together(arena: Arena, gradients: Sequence[Any], step: int, *, lr: float, momentum: float, dampening: float,
                 weight_decay: float, nesterov: bool) -> None:
    """sgd.py's step on all parameters; at step 0 the velocity is the gradient itself."""
    arena.run("sgd", gradients, ["velocity" if momentum else None], lr, step, momentum, dampening, weight_decay, nesterov)


def adam_together(arena: Arena, gradients: Sequence[Any], step: int, *, lr: float, betas: tuple[float, float], eps: float,
                  weight_decay: float, amsgrad: bool, decoupled: bool) -> None:
    """adam.py's step on all parameters, `step` steps after their first."""
    arena.run("adam", gradients, ["mean", "square", "top" if amsgrad else None], lr, step, *betas, eps, weight_decay, decoupled)
