"""What the optimisers share: parameters in groups, one at a time or together in arenas, and the state that is saved."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy

from gpugrad.arrays import copied, has_kernels, mark_changed, module_of, short
from gpugrad.errors import ArgumentError, DeviceError, DtypeError, GraphError, ShapeError, require
from gpugrad.graph.namespace import RAW
from gpugrad.graph.state import clock
from gpugrad.graph.tensor import Tensor
from gpugrad.graph.views import replaced
from gpugrad.kernels.optim import KINDS, Arena
from gpugrad.optim.bundle import Bundle, bundles
from gpugrad.trees import flatten


class Slot:
    """A parameter, the arrays that its optimiser keeps for it, and how many steps it has had. A bundle's has no Tensor."""

    __slots__ = ("tensor", "arrays", "step")

    def __init__(self, tensor: Tensor | None = None):
        self.tensor: Any = tensor
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
        self._bundles: dict[int, tuple[list[int], list[Bundle]]] = {}
        for tree, options in groups_of(params):
            self.checked({**defaults, **options})
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
        """Change every parameter that has a gradient; the others stay, and so does what is kept for them.

        Raises DeviceError for a gradient on another device than its parameter, and then nothing has changed.
        """
        slots, update = self._slots, self.update
        for tensor in slots:
            grad = tensor.grad
            if grad is not None and (type(grad._data) is not numpy.ndarray or type(tensor._data) is not numpy.ndarray):
                require_beside(self.op, tensor, grad)
        for number, group in enumerate(self.groups):
            options = descent(group)
            time = clock()
            for tensor in self.step_together(number, group, options, time):
                grad = tensor.grad
                if grad is not None:
                    slot, data = slots[tensor], tensor._data
                    slot.step += 1
                    RAW[type(data)].at_home(update)(slot, real_view(data), real_view(grad._data), options)
                    mark_changed(data, time)

    def step_together(self, number: int, group: dict[str, Any], options: dict[str, Any], time: int) -> list[Tensor]:
        """Step the parameters that lie where kernels are compiled, those of one dtype in one launch; return the others.

        The first step moves them into an arena. Their Tensors stay, with views of it as their arrays.
        """
        tensors = group["params"]
        if tensors and type(tensors[0]._data) is numpy.ndarray:
            return self.step_bundles(number, tensors, options, time)
        if not tensors or not has_kernels(module_of(tensors[0]._data)):
            return tensors
        kinds: dict[tuple, list[Slot]] = {}
        left = []
        for tensor in tensors:
            data = tensor._data
            if has_kernels(module_of(data)) and data.dtype.char in KINDS:
                kinds.setdefault((number, data.dtype.char, data.device.id), []).append(self._slots[tensor])
            else:
                left.append(tensor)
        for kind, slots in kinds.items():
            first = slots[0].tensor._data
            arena = RAW[type(first)].at_home(self.step_kind)(first, kind, slots, options)
            mark_changed(arena.whole("weights"), time)
        return left

    def step_bundles(self, number: int, tensors: list[Tensor], options: dict[str, Any], time: int) -> list[Tensor]:
        """Step the small parameters of the host that were bundled at the group's first step; return the others."""
        if not self.elementwise:
            return tensors
        known, found = self._bundles.get(number, (None, []))
        names = list(map(id, tensors))
        if known != names:
            found = bundles([self._slots[tensor] for tensor in tensors], Slot)
            self._bundles[number] = names, found
        stepped: set[Tensor] = set()
        for bundle in found:
            if bundle.gather():
                bundle.whole.step += 1
                self.update(bundle.whole, bundle.weights, bundle.gradients, options)
                bundle.stepped()
                mark_changed(bundle.weights, time)
                stepped.update(bundle.tensors)
        return [tensor for tensor in tensors if tensor not in stepped] if stepped else tensors

    def step_kind(self, first: Any, kind: tuple, slots: list[Slot], options: dict[str, Any]) -> Arena:
        """Step parameters that share an arena, which lies beside `first`."""
        known, arena = self._arenas.get(kind, (None, None))
        if known != slots or arena is None:
            arena = Arena(module_of(first), [slot.tensor.shape for slot in slots], first.dtype)
            self._arenas[kind] = slots, arena
        self.step_arena(arena, slots, options)
        return arena

    def step_arena(self, arena: Arena, slots: list[Slot], options: dict[str, Any]) -> None:
        """Step the slots that have gradients; those that have had as many steps go in one launch."""
        turns: dict[int, list] = {}
        for k, slot in enumerate(slots):
            weights = arena.take("weights", k, slot.tensor._data)
            if weights is not slot.tensor._data:
                slot.tensor._data = weights
                replaced(slot.tensor)
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
        """One step of one parameter, in place; w and g are real views."""
        raise NotImplementedError

    def checked(self, options: dict[str, Any]) -> None:
        """`check`, also of what is no number or not there."""
        try:
            self.check(options)
        except (TypeError, KeyError) as error:
            raise ArgumentError(f"{self.op}: expected a number for each option, got {short(options)} ({error!r}). "
                                "Correct the group.") from error

    def check(self, options: dict[str, Any]) -> None:
        """Raise ArgumentError for an option out of range."""
        unknown = set(options) - self.options - {"maximize"}
        if unknown:
            raise ArgumentError(f"{self.op}: expected options among {', '.join(sorted(self.options | {'maximize'}))}, "
                                f"got {', '.join(sorted(unknown))}. Correct the group.")
        require(self.op, "lr", options["lr"], options["lr"] >= 0, "at least 0")
        require(self.op, "weight_decay", options["weight_decay"], options["weight_decay"] >= 0, "at least 0")

    options: frozenset[str] = frozenset()
    elementwise = False           # an element's update looks at no other element: parameters may be stepped in one piece

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, apart from the parameters: a tree for `gg.save`.

        The arrays in it are copies.
        """
        groups = [{**group, "params": len(group["params"])} for group in self.groups]
        state = [{"step": slot.step, **{name: Tensor(copied(array)) for name, array in slot.arrays.items()}}
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
            self.checked(chosen)
        loaded = [{name: state_array(self.op, name, value, slot.tensor) for name, value in entry.items() if name != "step"}
                  for slot, entry in zip(self._slots.values(), state, strict=True)]
        for group, chosen in zip(self.groups, options, strict=True):
            group.update(chosen)
        for slot, arrays, step in zip(self._slots.values(), loaded, steps, strict=True):
            slot.arrays, slot.step = arrays, step

    def __repr__(self) -> str:
        n = sum(t.size for t in self._slots)
        return f"{self.op}({len(self._slots)} parameters, {n:,} elements, lr={self.lr})"


# helpers -----------------------------------------------------------------------------------------------------------------

def descent(group: dict[str, Any]) -> dict[str, Any]:
    """The options of a group's step. With maximize=True it goes up: down with a negative rate, along g - weight_decay w."""
    options = {name: value for name, value in group.items() if name not in ("params", "maximize")}
    if group.get("maximize"):
        options["lr"], options["weight_decay"] = rate(group), -options["weight_decay"]
    return options


def rate(group: dict[str, Any]) -> float:
    """The learning rate of a step down."""
    return -group["lr"] if group.get("maximize") else group["lr"]


def groups_of(params: Any) -> list[tuple[Any, dict]]:
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
        raise GraphError(f"{op}: expected leaves as parameters, got the result of {leaf._node.made_by}. Pass the Tensors that "
                         "it was computed from.")
    if not leaf.requires_grad:
        raise ArgumentError(f"{op}: expected parameters that need a gradient, got one of shape {leaf.shape} that does not. "
                            "Make it with requires_grad=True.")
    return leaf


def require_beside(op: str, tensor: Tensor, grad: Tensor) -> None:
    """Raise DeviceError where the gradient of a parameter lies elsewhere."""
    a, b = grad._data, tensor._data
    if type(a) is not type(b) or (type(a) is not numpy.ndarray and a.device != b.device):
        raise DeviceError(f"{op}: expected a gradient on {tensor.device}, where its parameter of shape {tensor.shape} is, got "
                          f"one on {grad.device}. Use .to(device).")


def state_array(op: str, name: str, value: Any, tensor: Tensor) -> Any:
    """A loaded array for this parameter: its own copy, where the parameter is."""
    if not isinstance(value, Tensor):
        value = Tensor(module_of(value).asarray(value))
    expected = real_view(tensor._data).shape
    if value.shape != expected:
        raise ShapeError(f"{op}: expected {name} of shape {expected}, got {value.shape}. Load the state of the same parameters.")
    array = value.detach().to(tensor.device)._data
    return RAW[type(array)].at_home(type(array).astype)(array, real_view(tensor._data).dtype)


def real_view(array: Any) -> Any:
    """A complex array as reals, twice as many along its last axis; the update then treats both parts alike."""
    if array.dtype.kind != "c":
        return array
    return array.reshape(array.shape or (1,)).view(array.real.dtype)
