"""Optimisers: SGD with momentum, Adam and AdamW, over a list, a dict or any tree of Tensors.

    optimiser = gg.optim.SGD(params, lr=0.1, momentum=0.9)
    for x, labels in batches:
        optimiser.zero_grad()
        loss(params, x, labels).backward()
        optimiser.step()

A step changes the parameters' arrays in place. Graphs that saved them before it refuse to run backward after it.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from gpugrad.arrays import mark_changed, module_of, short
from gpugrad.errors import ArgumentError, DtypeError, GraphError, ShapeError
from gpugrad.graph.namespace import Implementations
from gpugrad.graph.state import clock
from gpugrad.graph.tensor import Tensor
from gpugrad.kernels.adam import adam
from gpugrad.kernels.optim import KINDS, Arena, adam_together, sgd_together
from gpugrad.kernels.sgd import sgd
from gpugrad.trees import flatten

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "clip_grad_norm", "clip_grad_value"]


class Slot:
    """A parameter, the arrays that its optimiser keeps for it, and how many steps it has had."""

    __slots__ = ("tensor", "arrays", "step")

    def __init__(self, tensor: Tensor):
        self.tensor = tensor
        self.arrays: dict[str, Any] = {}
        self.step = 0


class Optimizer:
    """What the optimisers share: parameters in groups with options of their own, zero_grad, state_dict.

    params    Tensors with requires_grad=True in any tree, or a list of dicts {"params": tree, "lr": ..., ...}
    groups    a list of dicts: "params" and the options; change them between steps as you like
    lr        the learning rate; assigning sets it for every group
    """

    def __init__(self, params: Any, **defaults: Any):
        self.groups: list[dict[str, Any]] = []
        self._slots: dict[Tensor, Slot] = {}
        self._arenas: dict[tuple, tuple[list[Slot], Arena]] = {}
        for tree, options in groups_of(self.op, params, defaults):
            self.check({**defaults, **options})
            tensors = [parameter(self.op, leaf) for leaf in flatten(tree)[0]]
            for tensor in tensors:
                if tensor in self._slots:
                    raise ArgumentError(f"{self.op}: expected each parameter once, got one of shape {tensor.shape} twice. "
                                        "Name a shared parameter in one place.")
                self._slots[tensor] = Slot(tensor)
            self.groups.append({"params": tensors, **defaults, **options})
        if not self._slots:
            raise ArgumentError(f"{self.op}: expected parameters, got {short(params)}. Pass a list, dict or tree of Tensors.")

    @property
    def op(self) -> str:
        """The optimiser's name in messages."""
        return type(self).__name__

    @property
    def lr(self) -> float:
        """The learning rate of the first group."""
        return self.groups[0]["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        require(self.op, "lr", value, value >= 0, "at least 0")
        for group in self.groups:
            group["lr"] = value

    def zero_grad(self) -> None:
        """Forget the gradients: every `.grad` becomes None."""
        for tensor in self._slots:
            tensor._grad = None

    def step(self) -> None:
        """Change every parameter that has a gradient; the others stay, and so does what is kept for them."""
        for number, group in enumerate(self.groups):
            options = {name: value for name, value in group.items() if name != "params"}
            time = clock()
            for tensor in self.step_together(number, group, options, time):
                grad = tensor.grad
                if grad is not None:
                    slot = self._slots[tensor]
                    slot.step += 1
                    self.update(slot, tensor._data, real_view(grad._data), options)
                    mark_changed(tensor._data, time)

    def step_together(self, number: int, group: dict[str, Any], options: dict[str, Any], time: int) -> list[Tensor]:
        """Step the parameters that lie where kernels are compiled, those of one dtype in one launch; return the others.

        The first step moves them into an arena. Their Tensors stay, with views of it as their arrays.
        """
        tensors = group["params"]
        if not tensors or not hasattr(module_of(tensors[0]._data), "RawModule"):
            return tensors
        kinds: dict[tuple, list[Slot]] = {}
        left = []
        for tensor in tensors:
            data = tensor._data
            if hasattr(module_of(data), "RawModule") and data.dtype.char in KINDS:
                kinds.setdefault((number, data.dtype.char, data.device.id), []).append(self._slots[tensor])
            else:
                left.append(tensor)
        for kind, slots in kinds.items():
            known, arena = self._arenas.get(kind, (None, None))
            if known != slots or arena is None:
                first = slots[0].tensor._data
                arena = Arena(module_of(first), [slot.tensor.shape for slot in slots], first.dtype)
                self._arenas[kind] = slots, arena
            self.step_arena(arena, slots, options)
            mark_changed(arena.whole("weights"), time)
        return left

    def step_arena(self, arena: Arena, slots: list[Slot], options: dict[str, Any]) -> None:
        """Step the slots that have gradients; those that have had as many steps go in one launch."""
        turns: dict[int, list] = {}
        for k, slot in enumerate(slots):
            slot.tensor._data = arena.take("weights", k, slot.tensor._data)
            grad = slot.tensor.grad
            if grad is not None:
                g = module_of(grad._data).ascontiguousarray(real_view(grad._data), dtype=arena.real)
                turns.setdefault(self.turn(slot, options), [None] * len(slots))[k] = g
        for kind in self.kept(options):
            for k, slot in enumerate(slots):
                if slot.tensor.grad is not None:
                    slot.arrays[kind] = arena.take(kind, k, self.initial(slot, kind))
        for turn, gradients in turns.items():
            self.update_together(arena, gradients, turn, options)
        for slot in slots:
            slot.step += slot.tensor.grad is not None

    def turn(self, slot: Slot, options: dict[str, Any]) -> int:
        """How many steps a parameter has had."""
        return slot.step

    def kept(self, options: dict[str, Any]) -> list[str]:
        """The names of the arrays that are kept for a parameter."""
        raise NotImplementedError

    def initial(self, slot: Slot, kind: str) -> Any:
        """The array of that name so far; None for zeros."""
        return slot.arrays.get(kind)

    def update_together(self, arena: Arena, gradients: list, turn: int, options: dict[str, Any]) -> None:
        """One step of the parameters of an arena that have gradients, in place."""
        raise NotImplementedError

    def update(self, slot: Slot, w: Any, g: Any, options: dict[str, Any]) -> None:
        """One step of one parameter, in place."""
        raise NotImplementedError

    def check(self, options: dict[str, Any]) -> None:
        """Raise ArgumentError for an option out of range."""
        unknown = set(options) - self.options
        if unknown:
            raise ArgumentError(f"{self.op}: expected options among {', '.join(sorted(self.options))}, "
                                f"got {', '.join(sorted(unknown))}. Correct the group.")
        require(self.op, "lr", options["lr"], options["lr"] >= 0, "at least 0")
        require(self.op, "weight_decay", options["weight_decay"], options["weight_decay"] >= 0, "at least 0")

    options: frozenset[str] = frozenset()

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, apart from the parameters: a tree for `gg.save`.

        The arrays in it are copies.
        """
        groups = [{**group, "params": len(group["params"])} for group in self.groups]
        state = [{"step": slot.step, **{name: Tensor(array.copy()) for name, array in slot.arrays.items()}}
                 for slot in self._slots.values()]
        return {"groups": groups, "state": state}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from a `state_dict` of the same optimiser over parameters of the same shapes, in the same order.

        Raises ArgumentError or ShapeError for one that does not fit, and then nothing has changed.
        """
        try:
            groups, state = list(saved["groups"]), list(saved["state"])
            sizes = [group["params"] for group in groups]
            options = [{name: tuple(v) if isinstance(v, list) else v for name, v in group.items() if name != "params"}
                       for group in groups]
            steps = [int(entry["step"]) for entry in state]
        except (KeyError, TypeError, ValueError) as error:
            raise ArgumentError(f"{self.op}: expected a state_dict, got {short(saved)} ({error!r}). "
                                "Pass what state_dict returned.") from error
        mine = [len(group["params"]) for group in self.groups]
        if sizes != mine or len(state) != len(self._slots):
            raise ArgumentError(f"{self.op}: expected the state of groups of {mine} parameters, got {sizes}. "
                                "Load it into an optimiser of the same parameters.")
        for chosen in options:
            self.check(chosen)
        loaded = [{name: state_array(self.op, name, value, slot.tensor) for name, value in entry.items() if name != "step"}
                  for slot, entry in zip(self._slots.values(), state, strict=True)]
        for group, chosen in zip(self.groups, options, strict=True):
            group.update(chosen)
        for slot, arrays, step in zip(self._slots.values(), loaded, steps, strict=True):
            slot.arrays, slot.step = arrays, step

    def __repr__(self) -> str:
        n = sum(t.size for t in self._slots)
        return f"{self.op}({len(self._slots)} parameters, {n:,} elements, lr={self.lr})"


class SGD(Optimizer):
    """w = w - lr v,  v = momentum v + (1 - dampening) g,  g the gradient plus weight_decay w.

    The first v is g itself. nesterov=True steps along g + momentum v instead. PyTorch's definitions and defaults, except
    that lr must be given.
    """

    options = frozenset({"lr", "momentum", "dampening", "weight_decay", "nesterov"})

    def __init__(self, params: Any, lr: float, momentum: float = 0.0, dampening: float = 0.0, weight_decay: float = 0.0,
                 nesterov: bool = False):
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov)

    def check(self, options: dict[str, Any]) -> None:
        super().check(options)
        require("SGD", "momentum", options["momentum"], options["momentum"] >= 0, "at least 0")
        if options["nesterov"] and (not options["momentum"] or options["dampening"]):
            raise ArgumentError(f"SGD: expected momentum and no dampening with nesterov=True, got momentum "
                                f"{options['momentum']} and dampening {options['dampening']}. Set momentum=0.9.")

    def update(self, slot: Slot, w: Any, g: Any, options: dict[str, Any]) -> None:
        w = real_view(w)
        v, first = None, False
        if options["momentum"]:
            v = slot.arrays.get("velocity")
            if v is None:
                first, v = True, module_of(w).empty_like(w)
                slot.arrays["velocity"] = v
        SGD_ON[type(w)](w, g, v, first=first, **options)


    def turn(self, slot: Slot, options: dict[str, Any]) -> int:
        """0 where there is no velocity yet: the first is the gradient."""
        return max(1, slot.step) if "velocity" in slot.arrays else 0 if options["momentum"] else slot.step

    def kept(self, options: dict[str, Any]) -> list[str]:
        return ["velocity"] if options["momentum"] else []

    def update_together(self, arena: Arena, gradients: list, turn: int, options: dict[str, Any]) -> None:
        sgd_together(arena, gradients, turn, **options)


class Adam(Optimizer):
    """w = w - lr m' / (sqrt(v') + eps), with m and v running means of g and g^2, and m', v' freed of their start at 0.

    weight_decay adds weight_decay w to the gradient; see AdamW. amsgrad=True puts the largest v so far in the root.
    Complex parameters are stepped as pairs of reals. Source: Kingma & Ba 2015; PyTorch's definitions and defaults.
    """

    options = frozenset({"lr", "betas", "eps", "weight_decay", "amsgrad"})
    decoupled = False

    def __init__(self, params: Any, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
                 weight_decay: float = 0.0, amsgrad: bool = False):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad)

    def check(self, options: dict[str, Any]) -> None:
        super().check(options)
        betas = options["betas"]
        require(self.op, "betas", betas, len(betas) == 2 and all(0 <= b < 1 for b in betas), "two numbers from 0 to below 1")
        require(self.op, "eps", options["eps"], options["eps"] >= 0, "at least 0")

    def update(self, slot: Slot, w: Any, g: Any, options: dict[str, Any]) -> None:
        w, arrays = real_view(w), slot.arrays
        if "mean" not in arrays:
            xp = module_of(w)
            arrays["mean"], arrays["square"] = xp.zeros_like(w), xp.zeros_like(w)
        if options["amsgrad"] and "top" not in arrays:
            arrays["top"] = arrays["square"].copy()
        beta1, beta2 = options["betas"]
        ADAM_ON[type(w)](w, g, arrays["mean"], arrays["square"], arrays["top"] if options["amsgrad"] else None,
                         lr=options["lr"], beta1=beta1, beta2=beta2, eps=options["eps"],
                         weight_decay=options["weight_decay"], decoupled=self.decoupled, step=slot.step)


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
                 weight_decay: float = 1e-2, amsgrad: bool = False):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)


def clip_grad_norm(params: Any, max_norm: float, norm: float = 2.0) -> Tensor:
    """Scale the gradients so that their common norm is at most max_norm; returns the norm that they had.

    params   Tensors in any tree; those without a gradient are passed over
    norm     the order p of the norm of all elements together, or math.inf

    The result stays on the device. Raises ArgumentError for a max_norm below 0.
    """
    require("clip_grad_norm", "max_norm", max_norm, max_norm >= 0, "at least 0")
    require("clip_grad_norm", "norm", norm, norm > 0, "above 0")
    grads = gradients("clip_grad_norm", params)
    if not grads:
        raise ArgumentError("clip_grad_norm: expected parameters with gradients, got none. Call backward first.")
    xp = module_of(grads[0]._data)
    joint = side_by_side(xp, grads)
    arrays = [g._data for g in grads] if joint is None else [joint]
    sizes = xp.stack([norm_of(xp, g, norm).astype(arrays[0].real.dtype) for g in arrays])
    total = norm_of(xp, sizes, norm)
    scale = xp.minimum(1, max_norm / (total + 1e-6))
    for g in arrays:
        xp.multiply(g, scale.astype(g.dtype), out=g)
        mark_changed(g, clock())
    return Tensor(xp.asarray(total))


def clip_grad_value(params: Any, limit: float) -> None:
    """Bring every element of the gradients into [-limit, limit]."""
    require("clip_grad_value", "limit", limit, limit >= 0, "at least 0")
    for tensor in gradients("clip_grad_value", params):
        g = real_view(tensor._data)
        module_of(g).clip(g, -limit, limit, out=g)
        mark_changed(g, clock())


# helpers -----------------------------------------------------------------------------------------------------------------

SGD_ON = Implementations(sgd)
ADAM_ON = Implementations(adam)


def groups_of(op: str, params: Any, defaults: dict[str, Any]) -> list[tuple[Any, dict]]:
    """(tree of parameters, options) for each group."""
    if isinstance(params, Iterator):
        params = list(params)
    if isinstance(params, list | tuple) and params and all(isinstance(p, dict) and "params" in p for p in params):
        return [(list(p["params"]) if isinstance(p["params"], Iterator) else p["params"],
                 {name: value for name, value in p.items() if name != "params"}) for p in params]
    return [(params, {})]


def parameter(op: str, leaf: Any) -> Tensor:
    if not isinstance(leaf, Tensor):
        raise DtypeError(f"{op}: expected Tensors as parameters, got {short(leaf)}. Use gg.tensor(x, requires_grad=True).")
    if not leaf.is_leaf:
        raise GraphError(f"{op}: expected leaves as parameters, got the result of {leaf._node.prim.name}. Pass the Tensors that "
                         "it was computed from.")
    if not leaf.requires_grad:
        raise ArgumentError(f"{op}: expected parameters that need a gradient, got one of shape {leaf.shape} that does not. "
                            "Make it with requires_grad=True.")
    return leaf


def state_array(op: str, name: str, value: Any, tensor: Tensor) -> Any:
    """A loaded array for this parameter: its own copy, where the parameter is."""
    if not isinstance(value, Tensor):
        value = Tensor(module_of(value).asarray(value))
    expected = real_view(tensor._data).shape
    if value.shape != expected:
        raise ShapeError(f"{op}: expected {name} of shape {expected}, got {value.shape}. Load the state of the same parameters.")
    return value.detach().to(tensor.device)._data.astype(real_view(tensor._data).dtype, copy=True)


def real_view(array: Any) -> Any:
    """A complex array as reals, twice as many along its last axis; the update then treats both parts alike."""
    if array.dtype.kind != "c":
        return array
    return array.reshape(array.shape or (1,)).view(array.real.dtype)


def gradients(op: str, params: Any) -> list[Tensor]:
    """The gradients that are there."""
    if isinstance(params, Iterator):
        params = list(params)
    grads = []
    for leaf in flatten(params)[0]:
        if not isinstance(leaf, Tensor):
            raise DtypeError(f"{op}: expected Tensors as parameters, got {short(leaf)}. Pass what the optimiser got.")
        if leaf.grad is not None:
            grads.append(leaf.grad)
    return grads


def side_by_side(xp: Any, grads: list[Tensor]) -> Any:
    """On a GPU, gradients of one dtype in one new array, of which they become views: few launches serve all of them.

    Zeros between them keep every one at a multiple of 16 bytes, as the optimisers' kernels like it. Else None.
    """
    arrays = [g._data for g in grads]
    if not hasattr(xp, "RawModule") or len({(a.dtype, a.device) for a in arrays}) > 1:
        return None
    pack = max(1, 16 // arrays[0].dtype.itemsize)
    gap = xp.zeros(pack, arrays[0].dtype)
    joint = xp.concatenate([piece for a in arrays for piece in (a.reshape(-1), gap[:-a.size % pack])])
    start = 0
    for tensor, a in zip(grads, arrays, strict=True):
        tensor._data = joint[start:start + a.size].reshape(a.shape)
        start += a.size + -a.size % pack
    return joint


def norm_of(xp: Any, array: Any, order: float) -> Any:
    size = xp.abs(array)
    if order == math.inf:
        return size.max() if size.size else xp.zeros((), size.dtype)
    return (size * size).sum() ** 0.5 if order == 2 else (size ** order).sum() ** (1 / order)


def require(op: str, name: str, value: Any, ok: bool, what: str) -> None:
    if not ok:
        raise ArgumentError(f"{op}: expected {name} {what}, got {value!r}. Correct {name}.")
