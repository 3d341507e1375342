"""Timing one step: warm-up apart, batches long enough for the clock, quantiles, an end when the median is certain.

A step is a function of no arguments that does one unit of work and returns its result. `wait(result)` blocks until an
asynchronous library has really finished; `timer` says who measures, the wall clock or CUDA events.
"""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

SHORTEST_SAMPLE = 1e-3  # seconds; perf_counter and the loop round the step then cost well under 0.1 %
SURE = 0.02  # width of the median's 95 % interval over the median, below which more samples tell nothing new
ENOUGH = 30  # samples before that interval is believed
FEWEST = 5  # samples taken whatever the budget ...
LONG, FEW = 1.0, 3  # ... but only FEW of a step of LONG seconds or more


@dataclass(frozen=True)
class Timing:
    """Quantiles of the time of one step, in microseconds. `n` samples of `batch` steps, after `warmup` steps apart."""

    p20_us: float
    p50_us: float
    p80_us: float
    n: int
    batch: int
    warmup: int


def quantile(samples: list[float], q: float) -> float:
    """The q-quantile (0 <= q <= 1) of the samples, linear between neighbours."""
    ordered = sorted(samples)
    place = q * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@contextmanager
def collector_off() -> Iterator[None]:
    """The garbage collector runs before and after, never inside, so that no sample pays for another's rubbish."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def wall_seconds(step: Callable[[], Any], wait: Callable[[Any], Any] | None, batch: int) -> float:
    """Seconds of wall time for `batch` steps."""
    start = time.perf_counter()
    if wait is None:
        for _ in range(batch):
            step()
    else:
        for _ in range(batch):
            wait(step())
    return time.perf_counter() - start


class EventTimer:
    """Seconds on the device between two CUDA events: `event()` makes one, `elapsed_ms(start, stop)` reads them."""

    def __init__(self, event: Callable[[], Any], elapsed_ms: Callable[[Any, Any], float]) -> None:
        self.elapsed_ms = elapsed_ms
        self.start, self.stop = event(), event()

    def __call__(self, step: Callable[[], Any], wait: Callable[[Any], Any] | None, batch: int) -> float:
        # The host may run ahead: a step's launches overlap the last step's kernels, as they do in training.
        self.start.record()
        for _ in range(batch):
            step()
        self.stop.record()
        self.stop.synchronize()
        return self.elapsed_ms(self.start, self.stop) / 1e3


class Stopwatch:
    """Samples of one step. Several stopwatches may take turns, so that a slow minute of the machine hits them alike."""

    def __init__(
        self,
        step: Callable[[], Any],
        wait: Callable[[Any], Any] | None = None,
        timer: Callable[[Callable, Callable | None, int], float] = wall_seconds,
    ) -> None:
        self.step, self.wait, self.timer = step, wait, timer
        self.samples: list[float] = []  # seconds per step
        self.warmup = 0
        self.batch = 1

    def warm_up(self, seconds: float) -> None:
        """Run unmeasured for about `seconds`, once at least, and choose the batch from the last run."""
        spent, took = 0.0, 0.0
        while True:
            took = self.timer(self.step, self.wait, self.batch)
            spent += took
            self.warmup += self.batch
            if took < SHORTEST_SAMPLE:
                self.batch *= 2  # also measures the loop itself away: a batch of one is mostly clock
            elif spent >= seconds:
                return

    def sample(self, seconds: float) -> None:
        """Take samples for about `seconds`, one at least, or until they are settled."""
        if not self.warmup:
            self.warm_up(0.0)
        with collector_off():
            end = time.perf_counter() + seconds  # from here: a collection can take longer than a small budget
            while True:
                self.samples.append(self.timer(self.step, self.wait, self.batch) / self.batch)
                if self.settled or time.perf_counter() >= end:
                    return

    @property
    def settled(self) -> bool:
        """Whether there are enough samples and the median is known well, however far they spread.

        Of n samples, those at places n/2 -+ 0.98 sqrt(n) in order enclose the true median in 95 % of all cases, whatever its law.
        """
        n = len(self.samples)
        if n < ENOUGH:
            return False
        ordered = sorted(self.samples)
        low = int((n - 1.96 * n**0.5) / 2)
        return ordered[n - 1 - low] - ordered[low] <= SURE * ordered[n // 2]

    @property
    def fewest(self) -> int:
        return FEW if self.samples and min(self.samples) >= LONG else FEWEST

    def timing(self) -> Timing:
        """The quantiles so far."""
        p20, p50, p80 = (1e6 * quantile(self.samples, q) for q in (0.2, 0.5, 0.8))
        return Timing(p20, p50, p80, len(self.samples), self.batch, self.warmup)


def take_turns(watches: list[Stopwatch], seconds: float, rounds: int = 4) -> None:
    """Time the watches in alternating slices, `seconds` each in all; every one gets its fewest samples at least.

    Also a settled watch gives a sample each round: a slow minute that it met alone would not be seen otherwise.
    """
    for watch in watches:
        watch.warm_up(seconds / 5)
    for _ in range(rounds):
        for watch in watches:
            if len(watch.samples) < FEW or min(watch.samples) * len(watch.samples) < seconds:
                time.sleep(0.002)  # threads of the library before this one stop spinning
                watch.sample(seconds / rounds)
    for watch in watches:
        while len(watch.samples) < watch.fewest:
            watch.sample(0.0)
