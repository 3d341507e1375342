"""What this machine can do at best: bytes copied and multiplications made per second, measured, not advertised."""

import os
import platform
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from gpugrad.bench.peers import CORES

COPIED = 64 * 1024 * 1024  # bytes per array: out of every cache
SIDE = 1024  # of the square matrix product
TRIES = 5


@dataclass(frozen=True)
class Roofline:
    """Measured rates. A floor is the larger of a case's bytes and flops over them."""

    copy_gb_s: float  # read plus written, GB/s
    gemm_gflop_s: float  # float32

    def floor_us(self, bytes: float, flops: float) -> float:
        """Microseconds below which the work cannot be done on this machine; 0 where nothing is claimed."""
        return 1e6 * max(bytes / (1e9 * self.copy_gb_s), flops / (1e9 * self.gemm_gflop_s))

    def source(self, bytes: float, flops: float) -> str:
        """Which of the two rates makes the floor."""
        if not bytes and not flops:
            return ""
        if bytes / self.copy_gb_s >= flops / self.gemm_gflop_s:
            return f"measured copy, {self.copy_gb_s:.3g} GB/s"
        return f"measured float32 GEMM, {self.gemm_gflop_s:.3g} GFLOP/s"


def best_seconds(work) -> float:
    """The shortest of a few tries, after one that does not count."""
    work()
    times = []
    for _ in range(TRIES):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@cache
def roofline() -> Roofline:
    """The machine's rates with every core at work; measured once per process, in about half a second."""
    a, b = np.ones(COPIED // 4, np.float32), np.empty(COPIED // 4, np.float32)
    parts = list(zip(np.array_split(a, CORES), np.array_split(b, CORES), strict=True))
    with ThreadPoolExecutor(CORES) as pool:
        copy = best_seconds(lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)))
    x = np.ones((SIDE, SIDE), np.float32)
    y = np.empty_like(x)
    gemm = best_seconds(lambda: np.matmul(x, x, out=y))
    return Roofline(2 * COPIED / copy / 1e9, 2 * SIDE**3 / gemm / 1e9)


def cores_taken(seconds: float = 0.3) -> float:
    """How many cores other processes keep busy, watched while this one sleeps; 0 where the system does not say."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0

    def ticks() -> tuple[int, int]:
        fields = [int(word) for word in stat.read_text().splitlines()[0].split()[1:9]]
        return sum(fields) - fields[3] - fields[4], sum(fields)  # all but idle and waiting for disks; all

    busy, total = ticks()
    time.sleep(seconds)
    busy_later, total_later = ticks()
    return (busy_later - busy) / max(1, total_later - total) * (os.cpu_count() or 1)


def cpu_name() -> str:
    """The processor and the cores used, as in "AMD EPYC 7763, 2 cores"."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{name}, {CORES} core{'s' if CORES > 1 else ''} of {os.cpu_count()}"
