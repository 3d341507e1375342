"""An optimiser's step as operations of the program. The learning rate and the count of steps are read at every run."""
from __future__ import annotations

import math
from typing import Any

import numpy

from gpugrad.arrays import CPU, move
from gpugrad.errors import TraceError
from gpugrad.flat.cuda_steps import step_together
from gpugrad.flat.symbol import RUNNING, SYMBOLIC, Symbol
from gpugrad.optim import SGD, Adam, Optimizer
from gpugrad.optim.optimizer import Slot, descent, rate


def traced_step(optimiser: Optimizer) -> None:
    """What `Optimizer.step` does, noted in the program. Nothing is computed: old values stand for the new ones."""
    RUNNING[-1].updating = True
    try:
        noted_step(optimiser)
    finally:
        RUNNING[-1].updating = False


def noted_step(optimiser: Optimizer) -> None:
    kind = next((k for k in (Adam, SGD) if type(optimiser).update is k.update), None)
    if kind is None:
        raise TraceError(f"compile: expected SGD, Adam or AdamW, got {type(optimiser).__name__} with an update of its own. "
                         "Step it outside the compiled function.")
    update = adam if kind is Adam else sgd
    for number, group in enumerate(optimiser.groups):
        options = {name: v for name, v in group.items() if name not in ("params", "lr")}
        RUNNING[-1].checks.append(lambda _, group=group, options=options: all(group.get(k) == v for k, v in options.items()))
        together: set[Slot] = step_together(optimiser, number, group) if on_device(group["params"]) else set()
        for tensor in group["params"]:
            grad, slot = tensor.grad, optimiser._slots[tensor]
            if grad is None or slot in together:
                continue
            RUNNING[-1].undo.append(lambda slot=slot, step=slot.step: setattr(slot, "step", step))
            RUNNING[-1].before.append(lambda slot=slot: setattr(slot, "step", slot.step + 1))
            if tensor.dtype.kind == "c":
                raise TraceError(f"compile: expected real parameters, got {tensor.dtype}. Step complex ones outside.")
            slot.step += 1
            update(slot, tensor._data, grad._data, group, descent(group), getattr(optimiser, "decoupled", False))


def on_device(params: list) -> bool:
    """Whether the program is one for a GPU: the first parameter shows it, once its array was looked at."""
    return bool(params) and params[0]._data is not None and RUNNING[-1].device is not None


def number(w: Symbol, compute: Any, of: Any) -> Symbol:
    """A number that is computed anew at every run, in the dtype of w; the same of the same group or slot is one input."""
    dtype, numbers = w.dtype, RUNNING[-1].numbers
    key = id(of), compute.__code__, dtype
    if key not in numbers:
        numbers[key] = RUNNING[-1].input(numpy.asarray(compute(), dtype), lambda _: numpy.asarray(compute(), dtype))
    return numbers[key]


def state(slot: Slot, name: str, w: Symbol) -> Symbol:
    """An array that the optimiser keeps. One that is not there yet begins at zero."""
    trace = RUNNING[-1]
    shape, dtype, device = w.shape, w.dtype, trace.device or CPU
    array = slot.arrays.get(name)
    if array is None:
        trace.undo.append(lambda: slot.arrays.pop(name, None))
        array = slot.arrays[name] = move(numpy.zeros(shape, dtype), device)

    def read(_: Any) -> Any:
        found = slot.arrays.get(name)
        if found is None:
            found = slot.arrays[name] = move(numpy.zeros(shape, dtype), device)
        return found
    symbol = trace.input(array, read)

    def write(_: Any, new: numpy.ndarray) -> None:
        if slot.arrays[name] is not new:
            slot.arrays[name][...] = new
    trace.writes.append((symbol, write, symbol.value))
    return symbol


def sgd(slot: Slot, w: Any, g: Any, group: dict, options: dict, _: bool) -> None:
    """See gpugrad/kernels/sgd.py for the formulas."""
    momentum, damping, decay = options["momentum"], options["dampening"], options["weight_decay"]
    lr = number(w, lambda: rate(group), group)
    if decay:
        g = w * decay + g
    step = g
    if momentum:
        first = "velocity" not in slot.arrays
        if damping:                                       # the first velocity is not damped: a program of its own
            RUNNING[-1].checks.append(lambda _: ("velocity" not in slot.arrays) == first)
        v: Any = state(slot, "velocity", w)
        v.rebind(g if first and damping else v * momentum + (g * (1 - damping) if damping else g))
        step = v * momentum + g if options["nesterov"] else v
    w.rebind(w - step * lr)


def adam(slot: Slot, w: Any, g: Any, group: dict, options: dict, decoupled: bool) -> None:
    """See gpugrad/kernels/adam.py for the formulas."""
    (beta1, beta2), eps, decay = options["betas"], options["eps"], options["weight_decay"]

    def correction() -> float:
        return math.sqrt(1 - beta2 ** slot.step)
    mean: Any = state(slot, "mean", w)
    square: Any = state(slot, "square", w)
    if decay and decoupled:
        w.rebind(w * number(w, lambda: 1 - rate(group) * decay, group))
    elif decay:
        g = w * decay + g
    mean.rebind(mean * beta1 + g * (1 - beta1))
    square.rebind(square * beta2 + g * g * (1 - beta2))
    root: Any = square
    if options["amsgrad"]:
        root = state(slot, "top", w)
        root.rebind(SYMBOLIC.maximum(root, square))
    scaled = mean / (SYMBOLIC.sqrt(root) + number(w, lambda: eps * correction(), slot))
    w.rebind(w - scaled * number(w, lambda: rate(group) * correction() / (1 - beta1 ** slot.step), slot))
