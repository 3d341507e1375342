"""What the host asked of a device: launches, copies and waits. Totals are always kept; a list of launches only while recorded."""

from contextlib import contextmanager
from dataclasses import dataclass, field

BLOCK = 128                        # threads of CuPy's elementwise kernels


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch. `kind` is "cupy", "gemm", "kernel" (a RawKernel), "graph" or "host"; `below` are the launches in a graph."""

    name: str
    kind: str
    device: int
    grid: tuple
    block: tuple
    bytes_read: int
    bytes_written: int
    below: tuple = ()


@dataclass
class Log:
    """Totals since it was opened, and the launches in order where `keeps` is set. `mallocs`: what no pool could serve."""

    keeps: bool = True
    launches: list = field(default_factory=list)
    count: int = 0
    to_device: int = 0
    to_host: int = 0
    waits: int = 0
    mallocs: int = 0

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


def described(name, device, reads, writes, kind="cupy", grid=None, block=None):
    """A Launch over these NumPy arrays, in the shape that CuPy gives its elementwise kernels unless one is given."""
    size = max((x.size for x in writes), default=0)
    return Launch(name, kind, device, grid or (max(1, -(-size // BLOCK)), 1, 1), block or (BLOCK, 1, 1),
                  sum(x.nbytes for x in reads), sum(x.nbytes for x in writes))


def launched(*what, **shape):
    """Count one launch, described as `described` takes it."""
    add(described(*what, **shape) if len(OPEN) > 1 else None)


def add(launch):
    for log in OPEN:
        log.count += 1
        if log.keeps:
            log.launches.append(launch)


def copied(where, waits=True):
    """Count a copy, "to_host" or "to_device"; the host waits for it."""
    for log in OPEN:
        setattr(log, where, getattr(log, where) + 1)
        log.waits += waits


def waited():
    for log in OPEN:
        log.waits += 1


def allocated():
    """Count an allocation that reached the driver."""
    for log in OPEN:
        log.mallocs += 1
