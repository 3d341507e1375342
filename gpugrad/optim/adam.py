"""Adam and AdamW."""
from __future__ import annotations

from typing import Any

from gpugrad.arrays import module_of
from gpugrad.errors import require
from gpugrad.graph.namespace import Implementations
from gpugrad.kernels.adam import adam
from gpugrad.kernels.optim import Arena, adam_together
from gpugrad.optim.optimizer import Optimizer, Slot

ADAM_ON = Implementations(adam)


class Adam(Optimizer):
    """w = w - lr m' / (sqrt(v') + eps), with m and v running means of g and g^2, and m', v' freed of their start at 0.

    weight_decay adds weight_decay w to the gradient; see AdamW. amsgrad=True puts the largest v so far in the root.
    maximize=True steps up the gradient. Complex parameters are stepped as pairs of reals. Source: Kingma & Ba 2015;
    PyTorch's definitions and defaults.
    """

    options = frozenset({"lr", "betas", "eps", "weight_decay", "amsgrad"})
    elementwise = True
    decoupled = False

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0, amsgrad: bool = False, maximize: bool = False):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad,
                         maximize=maximize)

    def check(self, options: dict[str, Any]) -> None:
        super().check(options)
        betas = options["betas"]
        require(self.op, "betas", betas, len(betas) == 2 and all(0 <= b < 1 for b in betas), "two numbers from 0 to below 1")
        require(self.op, "eps", options["eps"], options["eps"] >= 0, "at least 0")

    def update(self, slot: Slot, w: Any, g: Any, options: dict[str, Any]) -> None:
        arrays = slot.arrays
        if "mean" not in arrays:
            xp = module_of(w)
            arrays["mean"], arrays["square"] = xp.zeros_like(w), xp.zeros_like(w)
        if options["amsgrad"] and "top" not in arrays:
            arrays["top"] = arrays["square"].copy()
        ADAM_ON[type(w)]((w, g, arrays["mean"], arrays["square"], arrays["top"] if options["amsgrad"] else None), options["lr"],
                         *options["betas"], options["eps"], options["weight_decay"], self.decoupled, slot.step)

    def kept(self, options: dict[str, Any]) -> list[str]:
        return ["mean", "square", "top"] if options["amsgrad"] else ["mean", "square"]

    def initial(self, slot: Slot, kind: str) -> Any:
        return slot.arrays.get("square" if kind == "top" and "top" not in slot.arrays else kind)

    def update_together(self, arena: Arena, gradients: list, turn: int, options: dict[str, Any]) -> None:
        adam_together(arena, gradients, turn, decoupled=self.decoupled, **options)


class AdamW(Adam):
    """Adam with decoupled weight decay: w shrinks by lr weight_decay w beside the step. Source: Loshchilov & Hutter 2019."""

    decoupled = True

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 1e-2, amsgrad: bool = False, maximize: bool = False):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize)
