"""Devices, streams and events: which device is current, and what may not happen while a stream is captured."""
from __future__ import annotations

import os
import threading
import time
from types import SimpleNamespace

from . import log

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
        log.waited()

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self):
        return hash(self.id)

    def __repr__(self):
        return f"<CUDA Device {self.id}>"

    @property
    def compute_capability(self):
        return "90"


class Stream:
    """A stream. All work is done at once, so streams order nothing; the current one is this thread's."""

    made = 16
    null: Stream

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        if null:
            self.ptr = 0
        else:
            Stream.made += 16
            self.ptr = Stream.made
        self.before = []

    def use(self):
        _local.stream = self
        return self

    def __enter__(self):
        self.before.append(get_current_stream())
        return self.use()

    def __exit__(self, *exc):
        self.before.pop().use()

    def synchronize(self):
        log.waited()

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        pass

    @property
    def done(self):
        return True


Stream.null = Stream(null=True)


def get_current_stream(device_id=None):
    return getattr(_local, "stream", Stream.null)


class Event:
    """A moment on the host's clock, since work is done at once."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        self.time = None

    def record(self, stream=None):
        self.time = time.perf_counter()

    def synchronize(self):
        log.waited()

    @property
    def done(self):
        return True


def get_elapsed_time(start_event, end_event):
    """Milliseconds of the host between two events: how long the simulation took, not what a GPU would take."""
    return 1e3 * (end_event.time - start_event.time)


def properties(device):
    return {"name": b"simulated CUDA device", "major": 9, "minor": 0, "multiProcessorCount": 132, "totalGlobalMem": 80 << 30,
            "sharedMemPerBlock": 48 << 10, "sharedMemPerBlockOptin": 227 << 10, "warpSize": 32, "clockRate": 1980000,
            "memoryClockRate": 2619000, "memoryBusWidth": 5120, "l2CacheSize": 50 << 20, "regsPerBlock": 65536}


runtime = SimpleNamespace(getDeviceCount=lambda: COUNT, getDevice=current, setDevice=use, getDeviceProperties=properties,
                          driverGetVersion=lambda: 13000, runtimeGetVersion=lambda: 13000, is_hip=False,
                          deviceSynchronize=log.waited, CUDARuntimeError=CUDARuntimeError)
