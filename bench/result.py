"""What a measurement found, and its line in a record file."""

import datetime
import json
import subprocess
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from gpugrad.bench.clock import Timing


@dataclass
class Result:
    """One variant of one case or gauge: a timing, or a value, or the reason why there is neither."""

    variant: str
    timing: Timing | None = None
    value: float | None = None
    problem: str = ""  # "not installed ...", "failed: ..."
    first_s: float = 0.0  # seconds for building and the first step, compilation included

    @property
    def number(self) -> float | None:
        """What is compared: µs of a step, or the gauge's value."""
        return self.timing.p50_us if self.timing else self.value


@dataclass
class Measured:
    """All variants of one case, measured in one run."""

    case: str
    title: str
    params: dict[str, Any]
    results: list[Result]
    unit: str = "us"
    per: int = 1  # parts a step has; the report divides by it
    part: str = "step"
    method: str = ""
    bytes: float = 0.0
    flops: float = 0.0
    floor_us: float = 0.0
    floor_from: str = ""

    def number(self, variant: str) -> float | None:
        """The number of this variant, or None."""
        return next((r.number for r in self.results if r.variant == variant), None)

    def ratio(self, variant: str) -> float | None:
        """This variant's number over gpugrad's: above 1 gpugrad wins. None where one is missing, or ours is 0."""
        ours, theirs = self.number("gpugrad"), self.number(variant)
        return theirs / ours if ours and theirs is not None else None


@dataclass
class Run:
    """One run of the benchmark: where, with what, and what was found."""

    device: str
    versions: dict[str, str]  # library -> version
    measured: list[Measured] = field(default_factory=list)
    cores_taken: float = 0.0  # by other processes, before the run began
    driver: str = ""
    cupy: str = ""
    commit: str = field(default_factory=lambda: globals()["commit"]())
    date: str = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))


@cache
def commit() -> str:
    """The short hash of the source this runs from, with + where it was changed; empty outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        head = git("rev-parse", "--short", "HEAD")
        return head + "+" if head and git("status", "--porcelain", "--untracked-files=no") else head
    except OSError:
        return ""


def lines(run: Run) -> list[str]:
    """One JSON object for each measurement of the run; failed and missing variants have none."""
    where = {
        "device": run.device,
        "driver": run.driver,
        "cupy": run.cupy,
        "versions": run.versions,
        "cores_taken": round(run.cores_taken, 2),
        "commit": run.commit,
        "date": run.date,
    }
    texts = []
    for m in run.measured:
        for r in m.results:
            if r.number is None:
                continue
            versus = {o.variant: o.number for o in m.results if o is not r and o.number is not None}
            record: dict[str, Any] = {"case": m.case, "variant": r.variant, "params": m.params}
            if r.timing:
                record |= asdict(r.timing) | {
                    "cache": "warm",
                    "first_s": r.first_s,
                    "bytes": m.bytes,
                    "flops": m.flops,
                    "floor_us": m.floor_us,
                    "floor_from": m.floor_from,
                }
            else:
                record |= {"value": r.value, "unit": m.unit, "method": m.method}
            texts.append(json.dumps(record | {"versus": versus} | where))
    return texts


def append(run: Run, path: str | Path) -> None:
    """Add the run's lines to a record file; lines already there are never touched."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines(run))
