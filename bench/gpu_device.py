"""The device that `make gpu` measures, and one measurement there."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gpugrad as gg
from gpugrad.bench.clock import EventTimer, Stopwatch, wall_seconds


@dataclass(frozen=True)
class Device:
    """The device by name, its array module, and whether its times mean anything."""

    name: str
    xp: Any
    real: bool

    @property
    def words(self) -> str:
        if not self.real:
            return f"{self.name} (SIMULATED: times say nothing about a GPU)"
        properties = self.xp.cuda.runtime.getDeviceProperties(gg.device(self.name).index)
        model = properties["name"]
        return f"{self.name}: {model.decode() if isinstance(model, bytes) else model}"

    def microseconds(self, step: Callable[[], Any], seconds: float) -> float:
        """The median of one step, by the device's own events where there are any."""
        timer: Any = wall_seconds
        if self.real:
            timer = EventTimer(self.xp.cuda.Event, self.xp.cuda.get_elapsed_time)
        watch = Stopwatch(step, None, timer)
        watch.warm_up(seconds / 5)
        watch.sample(seconds)
        return watch.timing().p50_us


def find(name: str) -> Device:
    """The device; DeviceError with CuPy's reason where it cannot be used."""
    found = gg.device(name)
    return Device(name, found.xp, found.kind == "cuda")


@dataclass(frozen=True)
class Timed:
    """One measurement. `floor_us` is its bytes at the measured copy bandwidth; `versus` other libraries' microseconds."""

    case: str
    params: dict
    p50_us: float
    bytes: float
    flops: float
    floor_us: float
    versus: dict[str, float]

    @property
    def row(self) -> tuple[str, ...]:
        beside = ", ".join(f"{name} {us:.1f} us ({us / self.p50_us:.2f}x)" for name, us in self.versus.items())
        return self.case, f"{self.p50_us:.1f} us", f"{self.floor_us:.1f} us", f"{self.floor_us / self.p50_us:.0%}", beside
