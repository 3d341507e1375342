"""The launch log: what reached the device, by name, with its bytes and flops.

    with recording() as log:
        step()
    print(log.table())

Our own kernels, cuBLASLt products and CuPy's gemms write into one log. Each context (thread, task) has its own; with none open,
a launch pays one look at a context variable. Bytes and flops are algorithmic: what the operation has to move and compute, each
array once, whatever the caches do.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple


class Launch(NamedTuple):
    """One launch. `kind` is "kernel", "cublaslt" or "cupy"; grid and block are () where a library chooses them."""

    name: str
    kind: str = "kernel"
    grid: tuple[int, ...] = ()
    block: tuple[int, ...] = ()
    bytes_read: int = 0
    bytes_written: int = 0
    flops: int = 0


class Row(NamedTuple):
    """All launches of one name."""

    name: str
    kind: str
    calls: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    flops: int = 0

    def plus(self, launch: Launch | Row, calls: int = 1) -> Row:
        return Row(self.name, self.kind, self.calls + calls, self.bytes_read + launch.bytes_read,
                   self.bytes_written + launch.bytes_written, self.flops + launch.flops)


class Log:
    """The launches of one `recording`, in order."""

    def __init__(self) -> None:
        self.launches: list[Launch] = []

    def rows(self) -> list[Row]:
        """One Row per name and kind, the most bytes first."""
        rows: dict[tuple[str, str], Row] = {}
        for launch in self.launches:
            key = launch.kind, launch.name
            rows[key] = rows.get(key, Row(launch.name, launch.kind)).plus(launch)
        return sorted(rows.values(), key=lambda r: (-(r.bytes_read + r.bytes_written), r.name))

    def total(self) -> Row:
        total = Row("total", "")
        for row in self.rows():
            total = total.plus(row, row.calls)
        return total

    def table(self) -> str:
        """Calls, bytes and flops per name, in columns, with their sum."""
        rows = [*self.rows(), self.total()]
        cells = [("launch", "kind", "calls", "read", "written", "flops")]
        cells += [(r.name, r.kind, str(r.calls), scaled(r.bytes_read, "B"), scaled(r.bytes_written, "B"), scaled(r.flops, "flop"))
                  for r in rows]
        return columns(cells, left=2)

    def as_dict(self) -> dict[str, Any]:
        """{"launches": each in order, "rows": per name, "total": their sum}, ready for JSON."""
        return {"launches": [x._asdict() for x in self.launches], "rows": [r._asdict() for r in self.rows()],
                "total": self.total()._asdict()}

    def json(self) -> str:
        import json
        return json.dumps(self.as_dict())


_LOGS: ContextVar[tuple[Log, ...]] = ContextVar("gpugrad_launch_logs", default=())
open_logs = _LOGS.get


@contextmanager
def recording() -> Iterator[Log]:
    """A Log of every launch inside the `with`, in this context. One inside another counts in both."""
    log = Log()
    token = _LOGS.set((*_LOGS.get(), log))
    try:
        yield log
    finally:
        _LOGS.reset(token)


def note(name: str, kind: str, grid: tuple = (), block: tuple = (), reads: Iterable = (), writes: Iterable = (),
         flops: int = 0) -> None:
    """Write one launch into the open logs, if any. reads, writes: arrays, which count whole, or numbers of bytes."""
    logs = open_logs()
    if logs:
        launch = Launch(name, kind, tuple(grid), tuple(block), size_of(reads), size_of(writes), int(flops))
        for log in logs:
            log.launches.append(launch)


def size_of(things: Iterable) -> int:
    """Bytes of arrays and of plain numbers of bytes; None counts nothing."""
    return sum(0 if x is None else x if isinstance(x, int) else int(x.nbytes) for x in things)


def columns(cells: Sequence[tuple[str, ...]], left: int = 1) -> str:
    """Rows of equal length in columns: the first `left` to the left, for words, the others to the right, for numbers."""
    widths = [max(len(row[k]) for row in cells) for k in range(len(cells[0]))]
    return "\n".join("  ".join(c.ljust(w) if k < left else c.rjust(w) for k, (c, w) in enumerate(zip(row, widths))).rstrip()
                     for row in cells)


def scaled(number: int, unit: str) -> str:
    """1234567 -> "1.235 MB": four digits, powers of 1000."""
    value = float(number)
    for prefix in ("", "k", "M", "G"):
        if value < 999.95:
            return f"{value:.4g} {prefix}{unit}"
        value /= 1000
    return f"{value:.4g} T{unit}"
