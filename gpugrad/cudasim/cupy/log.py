"""What the host asked of a device: launches, copies and waits. Totals are always kept; a list of launches only while recorded."""

from contextlib import contextmanager
from dataclasses import dataclass, field

BLOCK = 128                        # threads of CuPy's elementwise kernels


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch. `kind` is "cupy", "gemm" or "kernel" (a RawKernel)."""

    name: str
    kind: str
    device: int
    grid: tuple
    block: tuple
    bytes_read: int
    bytes_written: int


@dataclass
class Log:
    """Totals since it was opened, and the launches in order where `keeps` is set."""

    keeps: bool = True
    launches: list = field(default_factory=list)
    count: int = 0
    to_device: int = 0
    to_host: int = 0
    waits: int = 0

    def names(self):
        return [launch.name for launch in self.launches]


TOTAL = Log(keeps=False)
OPEN = [TOTAL]


@contextmanager
def recording():
    """A Log of all that happens on every simulated device inside the `with`."""
    log = Log()
    OPEN.append(log)
    try:
        yield log
    finally:
        OPEN[:] = [one for one in OPEN if one is not log]


def launched(name, device, reads, writes, kind="cupy", grid=None, block=None):
    """Count one launch over these NumPy arrays."""
    read, written = sum(x.nbytes for x in reads), sum(x.nbytes for x in writes)
    for log in OPEN:
        log.count += 1
        if log.keeps:
            size = max((x.size for x in writes), default=0)
            log.launches.append(Launch(name, kind, device, grid or (max(1, -(-size // BLOCK)), 1, 1), block or (BLOCK, 1, 1),
                                       read, written))


def copied(where, waits=True):
    """Count a copy, "to_host" or "to_device"; the host waits for it."""
    for log in OPEN:
        setattr(log, where, getattr(log, where) + 1)
        log.waits += waits


def waited():
    for log in OPEN:
        log.waits += 1
