"""The namespaces that rules run over: one per array module, and one that records.

A rule receives `m` and calls `m.<name>`. On a raw namespace `m.exp` *is* `numpy.exp` or `cupy.exp`; on TRACED it makes a
node, so the same rule run there gives a gradient that can be differentiated again.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpugrad.arrays import at_home, has_kernels, has_several, module_of_type

PRIMITIVES: dict[str, Any] = {}                 # name -> Primitive
DERIVED: dict[str, Callable] = {}               # name -> function of m and its arguments, made of primitives

#: What modules that compile kernels get as `pulls` and `pushes`, made from the array type; rules/generated.py fills it in.
COMPILED_RULES: dict[str, Callable[[type], Any]] = {}


class Raw:
    """The functions of one array module under the primitives' names. Each is looked up at its first use.

    pulls, pushes   primitive -> what stands for its `pull` and its `jvp` on this module's arrays; None where they stand
                    for themselves
    several         whether the module has several devices, so that rules must run with their arrays' device current
    """

    pulls: Any = None
    pushes: Any = None

    def __init__(self, xp: Any):
        self.xp = xp
        self.several = has_several(xp)

    def at_home(self, rule: Callable) -> Callable:
        """The rule with its arrays' device as the current one."""
        return at_home(rule, self.xp) if self.several else rule

    def __getattr__(self, name: str) -> Callable:
        if name in PRIMITIVES:
            function = PRIMITIVES[name].impls[self.xp.ndarray]
        elif name in DERIVED:
            function = bind(DERIVED[name], self)
        else:
            raise AttributeError(f"rules: expected the name of a primitive, got {name!r}. Define it in gpugrad/rules.")
        setattr(self, name, function)
        return function


class Traced:
    """The same names on Tensors: every call records a node where a gradient is needed."""

    pulls = pushes = None
    several = False

    def at_home(self, rule: Callable) -> Callable:
        return rule

    def __getattr__(self, name: str) -> Callable:
        if name not in DERIVED:
            raise AttributeError(f"rules: expected the name of a primitive, got {name!r}. Define it in gpugrad/rules.")
        function = bind(DERIVED[name], self)
        setattr(self, name, function)
        return function


class RawTable(dict):
    """array type -> Raw. Scalars of a module share the namespace of its arrays."""

    def __missing__(self, array_type: type) -> Raw:
        xp = module_of_type(array_type)
        raw = Raw(xp) if array_type is xp.ndarray else self[xp.ndarray]
        if array_type is xp.ndarray and has_kernels(xp):
            for name, rules in COMPILED_RULES.items():
                setattr(raw, name, rules(array_type))
        self[array_type] = raw
        return raw


class Implementations(dict):
    """array type -> the raw function of one primitive, asked for once."""

    def __init__(self, impl: Callable, prim: Any = None):
        super().__init__()
        self.impl = impl
        self.prim = prim

    def __missing__(self, array_type: type) -> Callable:
        xp = RAW[array_type].xp
        if array_type is not xp.ndarray:
            function = self[xp.ndarray]
        elif hasattr(xp, "implementation"):               # a tracer's: it runs NumPy's and notes the operation
            function = xp.implementation(self.prim)
        else:
            function = at_home(self.impl(xp), xp)
        self[array_type] = function
        return function


RAW = RawTable()
TRACED = Traced()


def bind(function: Callable, m: Any) -> Callable:
    return lambda *args, **kwargs: function(m, *args, **kwargs)


def derived(function: Callable) -> Callable:
    """Register a function of `m` that is made of primitives, so that rules may call `m.<its name>`."""
    DERIVED[function.__name__] = function
    return function
