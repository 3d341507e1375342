"""An optimiser's step on a GPU as one operation of the program: all parameters of a dtype in one launch, in place.

The rate and the count of steps lie in device memory, where kernels/optim.cu reads them: a replay goes on counting, and a new
rate is one small write before it.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy

from gpugrad.flat.ir import Op, Value
from gpugrad.flat.symbol import RUNNING, Symbol
from gpugrad.graph.views import replaced
from gpugrad.kernels.optim import Arena
from gpugrad.optim.optimizer import Optimizer, Slot, descent

REAL = "fd"                       # dtypes that are stepped together; the steps of others are written out


def step_together(optimiser: Optimizer, number: int, group: dict[str, Any]) -> set[Slot]:
    """Note the step of those parameters of a group that can go together; returns them."""
    trace = RUNNING[-1]
    done: set[Slot] = set()
    for char in REAL:
        slots = [optimiser._slots[tensor] for tensor in group["params"] if tensor.dtype.char == char]
        moving = [k for k, slot in enumerate(slots) if slot.tensor.grad is not None]
        joint = Joint(optimiser, (number, char, trace.device.index), slots, moving, group, trace.device)
        grads: list[Any] = [slots[k].tensor.grad for k in moving]
        if not moving or not joint.in_step(()) or any(g.dtype.char != char for g in grads):
            continue
        trace.checks.append(joint.in_step)
        trace.before.append(joint.prepare)
        weights = [slots[k].tensor._data for k in moving]
        gradients = [g._data for g in grads]
        op = Op("optimiser_step", [trace.value(x) for x in (*weights, *gradients)], {}, several=True, function=joint)
        op.outputs = tuple([Value(trace.number(), w.shape, w.dtype, op, i) for i, w in enumerate(weights)])
        trace.note(op)
        for w, value in zip(weights, op.outputs, strict=True):
            w.rebind(Symbol(w.array, value))
        done.update(slots[k] for k in moving)
    return done


class Joint:
    """The parameters that an operation steps: it is what the operation does on the device.

    key     under which the optimiser keeps their arena
    moving  places among the slots of those that have a gradient
    """

    def __init__(self, optimiser: Optimizer, key: tuple, slots: list[Slot], moving: list[int], group: dict[str, Any],
                 device: Any):
        self.optimiser, self.key, self.slots, self.moving, self.group, self.device = optimiser, key, slots, moving, group, device
        self.arena: Any = None
        self.table: Any = None                             # addresses of the gradients, on the device
        self.sent = self.captured = numpy.zeros(len(slots), numpy.uint64)
        self.held: list = []                               # the gradients that a graph reads by their addresses

    @property
    def options(self) -> dict[str, Any]:
        return descent(self.group)

    def in_step(self, _: Sequence) -> bool:
        """Whether all have had as many steps."""
        options = self.options
        return len({self.optimiser.turn(self.slots[k], options) for k in self.moving}) < 2

    def prepare(self) -> None:
        """Before a run: parameters and state in their arena, the rate and the count on the device."""
        options, optimiser = self.options, self.optimiser
        with self.device.xp.cuda.Device(self.device.index):
            known, arena = optimiser._arenas.get(self.key, (None, None))
            if known != self.slots or arena is None:
                first = self.slots[0].tensor
                arena = Arena(self.device.xp, [slot.tensor.shape for slot in self.slots], first.dtype)
                optimiser._arenas[self.key] = self.slots, arena
            self.arena = arena
            turn = optimiser.turn(self.slots[self.moving[0]], options)
            for k, slot in enumerate(self.slots):
                old, slot.tensor._data = slot.tensor._data, arena.take("weights", k, slot.tensor._data)
                if slot.tensor._data is not old:
                    replaced(slot.tensor)
            for kind in optimiser.kept(options):
                for k in self.moving:
                    slot = self.slots[k]
                    slot.arrays[kind] = arena.take(kind, k, optimiser.initial(slot, kind))
            arena.send(options["lr"], turn)
        for k in self.moving:
            self.slots[k].step += 1

    def __call__(self, *arrays: Any) -> tuple:
        """Step: arrays are the weights, which are views of the arena, then the gradients; returns the weights."""
        xp, count = self.device.xp, len(self.moving)
        gradients: list = [None] * len(self.slots)
        for k, g in zip(self.moving, arrays[count:], strict=True):
            gradients[k] = xp.ascontiguousarray(g)
        addresses = numpy.array([0 if g is None or not g.size else g.data.ptr for g in gradients], numpy.uint64)
        if self.table is None:
            self.table = xp.asarray(addresses)
        if xp.cuda.get_current_stream().is_capturing():
            self.captured, self.held = addresses, gradients
        else:
            self.send(addresses)
        arena: Any = self                                  # update_together asks an arena to run, and nothing else
        self.optimiser.update_together(arena, gradients, 0, self.options)
        return arrays[:count]

    def send(self, addresses: numpy.ndarray) -> None:
        if (addresses != self.sent).any():
            self.table.set(addresses)
            self.sent = addresses

    def after_capture(self) -> None:
        """A graph reads the addresses that the capture saw."""
        self.send(self.captured)

    def run(self, kernel: str, gradients: list, kinds: Sequence[str | None], lr: float, step: int, *options: Any) -> None:
        """`Arena.run` for what `update_together` asks of it: rate and count are there already."""
        self.arena.launch(kernel, gradients, kinds, self.table, *options)
