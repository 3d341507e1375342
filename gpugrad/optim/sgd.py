"""Stochastic gradient descent."""
from __future__ import annotations

from typing import Any

from gpugrad.arrays import module_of
from gpugrad.errors import ArgumentError, require
from gpugrad.graph.namespace import Implementations
from gpugrad.kernels.optim import Arena, sgd_together
from gpugrad.kernels.sgd import sgd
from gpugrad.optim.optimizer import Optimizer, Slot

SGD_ON = Implementations(sgd)


class SGD(Optimizer):
    """w = w - lr v,  v = momentum v + (1 - dampening) g,  g the gradient plus weight_decay w.

    The first v is g itself. nesterov=True steps along g + momentum v instead. maximize=True steps up the
    gradient. PyTorch's definitions and defaults, except that lr must be given.
    """

    options = frozenset({"lr", "momentum", "dampening", "weight_decay", "nesterov"})
    elementwise = True

    def __init__(self, params: Any, lr: float, momentum: float = 0.0, dampening: float = 0.0, weight_decay: float = 0.0,
                 nesterov: bool = False, maximize: bool = False):
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov,
                         maximize=maximize)

    def check(self, options: dict[str, Any]) -> None:
        super().check(options)
        require("SGD", "momentum", options["momentum"], options["momentum"] >= 0, "at least 0")
        if options["nesterov"] and (not options["momentum"] or options["dampening"]):
            raise ArgumentError(f"SGD: expected momentum and no dampening with nesterov=True, got momentum "
                                f"{options['momentum']} and dampening {options['dampening']}. Set momentum=0.9.")

    def update(self, slot: Slot, w: Any, g: Any, options: dict[str, Any]) -> None:
        momentum, v, first = options["momentum"], None, False
        if momentum:
            v = slot.arrays.get("velocity")
            if v is None:
                first, v = True, module_of(w).empty_like(w)
                slot.arrays["velocity"] = v
        SGD_ON[type(w)]((w, g, v), options["lr"], momentum, options["dampening"], options["weight_decay"], options["nesterov"],
                        first)

    def turn(self, slot: Slot, options: dict[str, Any]) -> int:
        """0 where there is no velocity yet: the first is the gradient."""
        return max(1, slot.step) if "velocity" in slot.arrays else 0 if options["momentum"] else slot.step

    def kept(self, options: dict[str, Any]) -> list[str]:
        return ["velocity"] if options["momentum"] else []

    def update_together(self, arena: Arena, gradients: list, turn: int, options: dict[str, Any]) -> None:
        sgd_together(arena, gradients, turn, **options)
