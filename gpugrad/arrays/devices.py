"""Devices: their names, the default one, and moving arrays between them."""
from __future__ import annotations

import re
from collections.abc import Callable
from contextvars import ContextVar
from sys import _getframe
from typing import Any

import numpy

from gpugrad.arrays.modules import SIMULATED, cuda_usable, cupy_module, has_kernels, module_of, simulated_module
from gpugrad.errors import ArgumentError, DeviceError, DtypeError, GpugradError
from gpugrad.held import Held, enter, leave


class Device:
    """A device by name, "cpu", "cuda:N" or the simulated "sim:N"; equal to its name.

    As a context manager, it is the default device inside.

    with gg.device("cuda:1"):
        x = gg.zeros(3)

    Raises DeviceError where there is no such device, with CuPy's own reason.
    """

    __slots__ = ("kind", "index", "_entered", "_tokens")

    def __init__(self, name: str | Device):
        match = re.fullmatch(r"(cpu)|(cuda|sim)(?::(\d+))?", str(name))
        if not match:
            raise DeviceError(f"device: expected 'cpu', 'cuda', 'cuda:N' or 'sim', got {name!r}. See `gpugrad info`.")
        self.kind = match[1] or match[2]
        self.index = 0
        self._tokens: list = []
        self._entered: list = []
        if self.kind != "cpu":
            cupy = gpu_module(self.kind, str(name))
            count = cupy.cuda.runtime.getDeviceCount()
            self.index = int(match[3]) if match[3] else cupy.cuda.Device().id
            if self.index >= count:
                raise DeviceError(f"device: expected {self.kind}:0 to {self.kind}:{count - 1}, got {name!r}. See `gpugrad info`.")

    def __repr__(self) -> str:
        return f"device({str(self)!r})"

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"{self.kind}:{self.index}"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            return str(self) == (other + ":0" if other in ("cuda", "sim") else other)
        return isinstance(other, Device) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __enter__(self) -> Device:
        self._tokens.append(enter(_DEFAULT, lambda _: self, _getframe(1)))
        if self.kind != "cpu":
            entered = self.xp.cuda.Device(self.index)
            entered.__enter__()
            self._entered.append(entered)
        return self

    def __exit__(self, *exc: object) -> None:
        if self.kind != "cpu":
            self._entered.pop().__exit__(*exc)
        leave(_DEFAULT, self._tokens, _getframe(1))

    @property
    def xp(self) -> Any:
        """The array module of this device."""
        return numpy if self.kind == "cpu" else gpu_module(self.kind, str(self))


HOSTS = (numpy.ndarray, numpy.generic)


def gpu_module(kind: str, asked: str) -> Any:
    """cupy for "cuda", its stand-in for "sim"."""
    return simulated_module() if kind == "sim" else cupy_module(asked)


CPU = Device("cpu")
_DEFAULT: ContextVar[Device | Held | None] = ContextVar("gpugrad_device", default=None)


def default_device() -> Device:
    """The device of new arrays: the innermost `with gg.device(...)`, else the GPU where one is usable, else the CPU."""
    chosen: Any = _DEFAULT.get()
    if type(chosen) is Held:
        chosen = chosen.value()
    return chosen or (Device("cuda") if cuda_usable() else CPU)


def device_of(array: Any) -> Device:
    xp = module_of(array)
    if xp is numpy or array.device == "cpu":
        return CPU
    if isinstance(array.device, Device):                 # of an array that only stands for one
        return array.device
    return Device(f"{'sim' if xp.__name__ == SIMULATED else 'cuda'}:{array.device.id}")


def move(array: Any, device: Device) -> Any:
    """The array on that device: itself where it is there already, else one explicit copy."""
    here = device_of(array)
    if here == device:
        return array
    if device.kind == "cpu":
        return array.get()
    if here.kind not in ("cpu", device.kind):
        array = array.get()
    cupy = device.xp
    with cupy.cuda.Device(device.index):
        return number_on(cupy, array) if not array.ndim and isinstance(array, HOSTS) else cupy.asarray(array)


def number_on(xp: Any, x: Any, dtype: Any = None) -> Any:
    """A number as a 0-d array of the current device, by one launch. CuPy's own way, which fills, makes 0.0 of -0.0."""
    x = numpy.asarray(x, dtype)
    if x.dtype.kind not in "fc" or x != 0:
        return xp.asarray(x)
    y = xp.empty((), x.dtype)
    xp.copyto(y, x)
    return y


def has_several(xp: Any) -> bool:
    """Whether this array module has more than one device, of which one is current."""
    return xp is not numpy and has_kernels(xp) and xp.cuda.runtime.getDeviceCount() > 1


class Follower:
    """Makes the device of one array after another the current one; `back` returns to where it was at first."""

    __slots__ = ("start",)

    def __init__(self) -> None:
        self.start: dict = {}

    def to(self, array: Any, xp: Any) -> None:
        number, current = array.device.id, xp.cuda.runtime.getDevice()
        if number != current:
            self.start.setdefault(xp, current)
            xp.cuda.Device(number).use()

    def back(self) -> None:
        for xp, number in self.start.items():
            xp.cuda.Device(number).use()


def at_home(function: Callable, xp: Any) -> Callable:
    """The function with the device of its first array as the current one, where its results then lie too.

    With one device there is nothing to choose, and it is the function itself.
    """
    if not has_several(xp):
        return function
    array_type, current = xp.ndarray, xp.cuda.runtime.getDevice

    def run(*args: Any, **params: Any) -> Any:
        for x in args:
            if type(x) is array_type:
                number = x.device.id
                if number == current():
                    break
                with xp.cuda.Device(number):
                    return function(*args, **params)
        return function(*args, **params)
    return run


def empty_beside(array: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Uninitialised memory on the device of a GPU's array."""
    xp = module_of(array)
    return at_home(lambda array: xp.empty(shape, dtype), xp)(array)


def copied(array: Any) -> Any:
    """A copy on the array's own device; CuPy's `copy` goes to the current one."""
    return at_home(lambda array: array.copy(), module_of(array))(array)


def synchronize(device: Device | str | None = None) -> None:
    """Wait until the device has done all it was given. Nothing to do on the CPU."""
    device = default_device() if device is None else Device(device)
    if device.kind != "cpu":
        device.xp.cuda.Device(device.index).synchronize()


def new_array(data: Any, dtype: Any = None, device: Device | str | None = None, copy: bool = True) -> Any:
    """An array from anything NumPy accepts. Arrays stay on their device unless one is named."""
    data = plain("tensor", data)
    if device is not None:
        device = Device(device)
    try:
        xp = module_of(data)
    except TypeError:
        device = device or default_device()
        xp = device.xp
    try:
        if isinstance(data, float | complex) and xp is not numpy:
            array = number_on(xp, data, dtype)
        else:
            array = at_home(xp.array if copy else xp.asarray, xp)(data, dtype=dtype)
    except GpugradError:                                 # a Tensor among the data refused to leave its graph
        raise
    except (ValueError, TypeError, OverflowError) as error:
        if xp is not numpy and str(error).startswith("Unsupported dtype"):
            return new_array(numpy.asarray(data), dtype)                       # NumPy's word for it is in the error then
        raise ArgumentError(f"tensor: expected numbers in a regular shape, got {short(data)} ({error}). "
                            "Check nesting and dtype.") from error
    if array.dtype.kind not in "biufc":
        raise ArgumentError(f"tensor: expected numbers, got dtype {array.dtype} from {short(data)}. "
                            "Convert the data to a numeric dtype.")
    return array if device is None else move(array, device)


def plain(op: str, x: Any) -> Any:
    """An array without what NumPy's subclasses add. A matrix and a masked array are refused: other operators, other sums."""
    if type(x) is numpy.ndarray or not isinstance(x, numpy.ndarray):
        return x
    if isinstance(x, numpy.matrix):
        raise DtypeError(f"{op}: expected an array, got a matrix, whose operators differ. Use numpy.asarray(m).")
    if isinstance(x, numpy.ma.MaskedArray):
        raise DtypeError(f"{op}: expected an array, got a masked array, whose mask would be lost. Use m.filled(0) and where=.")
    return x.view(numpy.ndarray)


def short(x: Any, limit: int = 60) -> str:
    text = repr(x)
    return text if len(text) <= limit else text[:limit] + "…"
