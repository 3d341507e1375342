"""A progress bar: rich's where it is installed and somebody watches, else a line of text now and then."""
from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Yields step(note): one of `total` steps is done, and this is how it stands. Writes to stderr only."""
    bar = rich_bar() if sys.stderr.isatty() else None
    if bar is None:
        yield plain(title, total)
        return
    with bar:
        task = bar.add_task(title, total=total, note="")
        yield lambda note: bar.update(task, advance=1, note=note)


def rich_bar() -> Any:
    """rich's bar; None where it is not installed."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        return None
    return Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                    TextColumn("{task.fields[note]}"), console=Console(stderr=True))


def plain(title: str, total: int) -> Callable[[str], None]:
    """step(note) that prints the first and the last of `total`, and one every few seconds."""
    done, last = 0, time.monotonic()

    def step(note: str) -> None:
        nonlocal done, last
        done += 1
        if done in (1, total) or time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{title} {done}/{total}  {note}", file=sys.stderr, flush=True)
    return step
