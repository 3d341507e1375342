"""Random numbers: one generator, the same numbers on every device.

    gg.random.seed(0)                                      # the generator behind the functions of this module
    w = gg.random.normal(0, 0.1, size=(10, 784), dtype="float32")

    own = gg.random.generator(7)                           # one of your own: nobody else advances it
    rows = own.permutation(1000)

NumPy's counter-based Philox makes the numbers on the host, whatever the device; they then move there in one copy. A seed
therefore means the same numbers everywhere, for one version of NumPy. Inside `gg.vmap` its `randomness` says whether each
element has numbers of its own. All functions return Tensors outside the graph; `normal` and `uniform` are differentiable in
their own parameters where those are Tensors.
"""
from __future__ import annotations

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy

from gpugrad.arrays import Device, default_device, is_array, move, short
from gpugrad.errors import ArgumentError, DtypeError
from gpugrad.graph.layers import MAPS, Batch, lowered
from gpugrad.graph.namespace import TRACED as T
from gpugrad.graph.tensor import Tensor
from gpugrad.kernels.dropout import keep

__all__ = ["Generator", "bernoulli", "choice", "default_generator", "generator", "integers", "normal", "permutation", "seed",
           "uniform"]


class Generator:
    """A stream of random numbers. Threads may share one; each number is then still drawn once, in no fixed order.

    seed   an int from 0 on, or None for one from the operating system

    Every method takes `size` (an int or a tuple; None for one number), `dtype`, and `device`, by default the default device.
    """

    def __init__(self, seed: int | None = None):
        self._numpy = numpy.random.Generator(numpy.random.Philox(checked_seed(seed)))

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None, dtype: Any = float, device: Any = None) -> Tensor:
        """loc + scale z, z from the standard normal distribution. loc and scale may be Tensors, and are differentiable."""
        dtype = float_dtype("normal", dtype)
        if not (isinstance(scale, Tensor) or is_array(scale)) and not scale >= 0:
            raise ArgumentError(f"normal: expected a scale of at least 0, got {scale!r}. The spread is its size.")
        return self._affine("normal", self._numpy.standard_normal, checked_size("normal", size, loc, scale), dtype, loc, scale,
                            device)

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None, dtype: Any = float, device: Any = None) -> Tensor:
        """low + (high - low) u, u uniform in [0, 1). low and high may be Tensors, and are differentiable."""
        dtype = float_dtype("uniform", dtype)
        return self._affine("uniform", self._numpy.random, checked_size("uniform", size, low, high), dtype, low, high - low,
                            device)

    def integers(self, low: int, high: int | None = None, size: Any = None, dtype: Any = int, device: Any = None) -> Tensor:
        """Integers from low up to but without high; from 0 to low - 1 where high is left out."""
        low, high = (0, low) if high is None else (low, high)
        if not low < high:
            raise ArgumentError(f"integers: expected low below high, got {low!r} and {high!r}. high itself is never drawn.")

        def draw(shape):
            try:
                return self._numpy.integers(low, high, shape, dtype=dtype)
            except (TypeError, ValueError) as error:
                raise DtypeError(f"integers: expected an integer dtype that holds {low} to {high - 1}, got {dtype!r} ({error}). "
                                 "Use int64.") from error
        return self._mapped("integers", draw, checked_size("integers", size), device)

    def permutation(self, x: Any, device: Any = None) -> Tensor:
        """0 to x - 1 in random order for an int x; else x with its rows in random order, where x is, in its graph."""
        if isinstance(x, int | numpy.integer):
            if x < 0:
                raise ArgumentError(f"permutation: expected a length of at least 0, got {x}. Pass a length or an array.")
            return self._mapped("permutation", each(lambda: self._numpy.permutation(int(x)), 1), (int(x),), device)
        rows = as_rows("permutation", x)
        n = rows.shape[0]
        return taken(rows, self._mapped("permutation", each(lambda: self._numpy.permutation(n), 1), (n,), rows.device), device)

    def choice(self, a: Any, size: Any = None, replace: bool = True, p: Any = None, device: Any = None) -> Tensor:
        """Random rows of `a` (0 to a - 1 for an int), with the probabilities p where given.

        p         (n,) numbers from 0 on that sum to 1
        replace   False draws no row twice
        """
        n = int(a) if isinstance(a, int | numpy.integer) else as_rows("choice", a).shape[0]
        weights = None if p is None else numpy.asarray(p.numpy() if isinstance(p, Tensor) else p, dtype=float)
        shape = checked_size("choice", size)

        def draw():
            try:
                return self._numpy.choice(n, size=shape, replace=replace, p=weights, shuffle=True)
            except ValueError as error:
                raise ArgumentError(f"choice: expected {'' if replace else 'at most '}draws from {n} rows, got size={size!r}, "
                                    f"replace={replace} ({error}). Check size and p.") from error
        if isinstance(a, int | numpy.integer):
            return self._mapped("choice", each(draw, len(shape)), shape, device)
        rows = as_rows("choice", a)
        return taken(rows, self._mapped("choice", each(draw, len(shape)), shape, rows.device), device)

    def bernoulli(self, p: float = 0.5, size: Any = None, dtype: Any = bool, device: Any = None) -> Tensor:
        """True (or 1, in another dtype) with probability p."""
        if not 0 <= p <= 1:
            raise ArgumentError(f"bernoulli: expected a probability from 0 to 1, got {p!r}. Check p.")

        def draw(shape):
            return numpy.asarray(self._numpy.random(shape, dtype=numpy.float32) < p).astype(dtype, copy=False)
        return self._mapped("bernoulli", draw, checked_size("bernoulli", size), device)

    def word(self) -> int:
        """An int of 64 random bits: the name of a stream of its own, as dropout takes it."""
        return int(self._numpy.bit_generator.random_raw())

    def stream(self, device: Any = None) -> Tensor:
        """[0, word()] as uint64: a stream for a kernel to draw from, and in a compiled function another one at each run."""
        return self._drawn(lambda: numpy.array([0, self.word()], numpy.uint64), device)

    def keep(self, p: float, size: Any = None, device: Any = None) -> Tensor:
        """The mask of `nn.dropout` with probability p of dropping: False where it drops."""
        if not 0 <= p <= 1:
            raise ArgumentError(f"keep: expected a probability from 0 to 1, got {p!r}. Check p.")
        return self._mapped("dropout", lambda shape: keep(self.word(), shape, p), checked_size("keep", size), device)

    def spawn(self, n: int) -> list[Generator]:
        """n new generators whose numbers have nothing to do with this one's or each other's."""
        found = []
        for stream in self._numpy.spawn(n):
            child = Generator.__new__(Generator)
            child._numpy = stream
            found.append(child)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands: a tree for `gg.save`."""
        state = self._numpy.bit_generator.state
        return {"counter": [int(n) for n in state["state"]["counter"]], "key": [int(n) for n in state["state"]["key"]],
                "buffer": [int(n) for n in state["buffer"]], "buffer_pos": int(state["buffer_pos"]),
                "has_uint32": int(state["has_uint32"]), "uinteger": int(state["uinteger"])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        try:
            self._numpy.bit_generator.state = {
                "bit_generator": "Philox",
                "state": {name: numpy.array(state[name], dtype=numpy.uint64) for name in ("counter", "key")},
                "buffer": numpy.array(state["buffer"], dtype=numpy.uint64),
                **{name: int(state[name]) for name in ("buffer_pos", "has_uint32", "uinteger")}}
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ArgumentError(f"random: expected the state of a generator, got {short(state)} ({error!r}). "
                                "Pass what state_dict returned.") from error

    def _affine(self, op: str, method: Callable, shape: tuple, dtype: numpy.dtype, offset: Any, factor: Any,
                device: Any) -> Tensor:
        """offset + factor z: in place for numbers, on the graph for Tensors."""
        numbers = isinstance(offset, int | float) and isinstance(factor, int | float)

        def draw(shape):                                  # NumPy draws float32 and float64; float16 is rounded from float32
            z = numpy.asarray(method(shape, dtype=numpy.float64 if dtype.char == "d" else numpy.float32), dtype=dtype)
            if numbers and factor != 1:
                z *= factor
            if numbers and offset != 0:
                z += offset
            return z
        if numbers:
            return self._mapped(op, draw, shape, device)
        beside = next((p for p in (offset, factor) if isinstance(p, Tensor)), None)
        z = self._mapped(op, draw, shape, beside.device if device is None and beside is not None else device)
        return T.add(T.multiply(z, factor), offset)

    def _mapped(self, op: str, draw: Callable, shape: tuple, device: Any) -> Tensor:
        """draw(shape), with numbers of its own for each element of the vmaps around that are to have them."""
        maps = MAPS.get()
        if any(m.randomness == "error" for m in maps):
            raise ArgumentError(f"{op}: expected a vmap that says what random numbers do in it, got one that does not. "
                                "Use gg.vmap(f, randomness='different') or 'same'.")
        own = [m for m in maps if m.randomness == "different"]
        drawn = self._drawn(lambda: draw((*[m.size for m in own], *shape)), device)
        for m in own:
            drawn = Batch(m.level, lowered(drawn))
        return drawn

    def _drawn(self, make: Callable, device: Any) -> Tensor:
        """What all draws go through: a trace has it made anew at each run."""
        return placed(make(), device)


def default_generator() -> Generator:
    """The generator behind this module's functions and `gg.nn.dropout`."""
    return _DEFAULT


def seed(n: int) -> None:
    """Start the default generator again: the same seed, the same numbers."""
    _DEFAULT._numpy = generator(n)._numpy


def generator(seed: int | None = None) -> Generator:
    """A generator of its own."""
    return Generator(seed)


def normal(loc: Any = 0.0, scale: Any = 1.0, size: Any = None, dtype: Any = float, device: Any = None) -> Tensor:
    """`Generator.normal` of the default generator."""
    return _DEFAULT.normal(loc, scale, size, dtype, device)


def uniform(low: Any = 0.0, high: Any = 1.0, size: Any = None, dtype: Any = float, device: Any = None) -> Tensor:
    """`Generator.uniform` of the default generator."""
    return _DEFAULT.uniform(low, high, size, dtype, device)


def integers(low: int, high: int | None = None, size: Any = None, dtype: Any = int, device: Any = None) -> Tensor:
    """`Generator.integers` of the default generator."""
    return _DEFAULT.integers(low, high, size, dtype, device)


def permutation(x: Any, device: Any = None) -> Tensor:
    """`Generator.permutation` of the default generator."""
    return _DEFAULT.permutation(x, device)


def choice(a: Any, size: Any = None, replace: bool = True, p: Any = None, device: Any = None) -> Tensor:
    """`Generator.choice` of the default generator."""
    return _DEFAULT.choice(a, size, replace, p, device)


def bernoulli(p: float = 0.5, size: Any = None, dtype: Any = bool, device: Any = None) -> Tensor:
    """`Generator.bernoulli` of the default generator."""
    return _DEFAULT.bernoulli(p, size, dtype, device)


# helpers -----------------------------------------------------------------------------------------------------------------

def checked_seed(seed: Any) -> int | None:
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int | numpy.integer) or seed < 0):
        raise ArgumentError(f"random: expected a seed of at least 0, got {seed!r}. Pass an int, or None for a random one.")
    return None if seed is None else int(seed)


def checked_size(op: str, size: Any, *parameters: Any) -> tuple[int, ...]:
    """`size` as a tuple; where it is None, the shape that the parameters broadcast to."""
    if size is None:
        shapes = [p.shape for p in parameters if isinstance(p, Tensor) or is_array(p)]
        return numpy.broadcast_shapes(*shapes) if shapes else ()
    try:
        lengths = tuple(int(n.__index__()) for n in (size if isinstance(size, tuple | list) else (size,)))
    except (AttributeError, TypeError) as error:
        raise ArgumentError(f"{op}: expected size as an int or a tuple of ints, got {short(size)}. Use size=(3, 4).") from error
    if any(n < 0 for n in lengths) or math.prod(lengths) > sys.maxsize:
        raise ArgumentError(f"{op}: expected lengths of at least 0 that fit in memory, got size={size!r}. Check the size.")
    return lengths


def float_dtype(op: str, dtype: Any) -> numpy.dtype:
    try:
        found = numpy.dtype(dtype)
    except TypeError as error:
        raise DtypeError(f"{op}: expected a dtype, got {short(dtype)}. Use 'float32'.") from error
    if found.char not in "efd":
        raise DtypeError(f"{op}: expected float16, float32 or float64, got {found}. Use integers() for whole numbers.")
    return found


def placed(array: Any, device: Any) -> Tensor:
    """A host array as a Tensor on the device asked for, or else on the default one."""
    return Tensor(move(numpy.asarray(array), default_device() if device is None else Device(device)))


def each(draw: Callable, rank: int) -> Callable:
    """The function of a shape whose last `rank` axes are one draw's, and the others tell how many there are."""
    def run(shape):
        lead = shape[:len(shape) - rank]
        if not lead:
            return draw()
        return numpy.array([draw() for _ in range(math.prod(lead))], dtype=int).reshape(shape)
    return run


def as_rows(op: str, x: Any) -> Tensor:
    from gpugrad.numpy._arguments import as_tensor
    rows = as_tensor(op, x)
    if not rows.ndim:
        raise ArgumentError(f"{op}: expected an int or an array with at least one axis, got {short(x)}. Pass a length or rows.")
    return rows


def taken(rows: Tensor, index: Tensor, device: Any) -> Tensor:
    """rows[index], on the rows' own device unless another is named."""
    found = rows[index]
    return found if device is None else found.to(device)


_DEFAULT = Generator()
