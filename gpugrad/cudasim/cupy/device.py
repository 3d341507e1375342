"""Devices: which one is current, their errors and properties."""
from __future__ import annotations

import os
import threading
from typing import Any

from . import log

TOTAL_BYTES = 80 << 30                 # of one device
COUNT = int(os.environ.get("GPUGRAD_SIM_DEVICES", "2"))
_local = threading.local()


class CUDARuntimeError(RuntimeError):
    """What the CUDA runtime answers with."""


class CUDADriverError(RuntimeError):
    """What the driver answers with."""


class CompileException(Exception):
    """NVRTC's log."""


def current():
    """The number of this thread's current device."""
    return getattr(_local, "device", 0)


def use(number):
    if not 0 <= number < COUNT:
        raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
    _local.device = number


class Device:
    """A device by number; the current one by default."""

    def __init__(self, device=None):
        self.id = current() if device is None else int(getattr(device, "id", device))
        self.before = []

    def use(self):
        use(self.id)

    def __enter__(self):
        self.before.append(current())
        use(self.id)
        return self

    def __exit__(self, *exc):
        use(self.before.pop())

    def synchronize(self):
        synchronize(self.id)

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self):
        return f"<CUDA Device {self.id}>"

    @property
    def compute_capability(self):
        return "90"


#: Captures of streams that have begun and not ended, on any device.
CAPTURES: list[Any] = []


def synchronize(number):
    """Wait for all streams of a device, which a capture on one of them forbids."""
    for capture in CAPTURES:
        if capture.origin.device_id == number:
            raise capture.refuse("cudaErrorStreamCaptureUnsupported")
    log.waited()


def properties(device):
    return {"name": b"simulated CUDA device", "major": 9, "minor": 0, "multiProcessorCount": 132, "totalGlobalMem": TOTAL_BYTES,
            "sharedMemPerBlock": 48 << 10, "sharedMemPerBlockOptin": 227 << 10, "warpSize": 32, "clockRate": 1980000,
            "memoryClockRate": 2619000, "memoryBusWidth": 5120, "l2CacheSize": 50 << 20, "regsPerBlock": 65536}

