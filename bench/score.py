"""The score, `gpugrad bench --device sim`: what a training step asks of the device, S1 to S15, without a GPU.

Launches, bytes and host waits are counted while the step runs on the device; what the compiler and the simulated device say
of the hot kernels comes from the gate, `gpugrad kernels`. Times are modelled from an H100 SXM's advertised rates and marked so.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

import gpugrad as gg
from gpugrad.bench.score_compiled import Replayed, replay
from gpugrad.bench.score_models import Block, Mlp
from gpugrad.errors import ArgumentError
from gpugrad.kernels import gate
from gpugrad.kernels.card import H100
from gpugrad.kernels.record import Launch
from gpugrad.profiling import Profile, profile

MULTIPROCESSORS, CLOCK, ISSUES = 132, 1.755e9, 4  # H100 SXM; warp instructions a clock and multiprocessor
BANDWIDTH, FLOAT32, TF32 = H100.bandwidth, H100.float32, 400e12  # TF32 as reached
LAUNCH_US, GAP_US = H100.start_us, H100.step_us
IN_FLIGHT = 32 << 10  # bytes a multiprocessor should have under way
GRID_FILL, SMALL_GRID = 0.75, 1 << 20  # share of the multiprocessors; bytes below which it does not matter
ISSUE_SHARE = 0.5
FATAL = ("S6", "S7", "S10", "S13", "S14")  # what must hold whatever the wrappers make of it
SCALED_BLOCK = Block(batch=2, time=64, channels=256, heads=4)


@dataclass(frozen=True)
class Score:
    """One line: what was found, what it should be, whether it is; `how` says counted, computed or modelled."""

    id: str
    what: str
    found: str
    target: str
    passed: bool | None
    how: str


@dataclass
class Step:
    """One warm training step of a workload on the device."""

    work: Any
    profile: Profile
    saved: int  # bytes that the graph keeps between forward and backward
    repeats: bool  # two runs from one state give the same bits
    error: float  # of output and gradients against float64 on the CPU, relative to each one's largest
    scores: list[Score] = field(default_factory=list)

    @property
    def launches(self) -> list[Launch]:
        return self.profile.launches

    @property
    def ratio(self) -> float:
        return self.profile.bytes / self.work.least_bytes


def take(work: Any, device: str) -> Step:
    """Build the workload, warm it up, and look at one step.

    Raises ArgumentError on a device that logs no launches.
    """
    model = work.build(gg, device)
    model.step()
    saved = saved_bytes(model.output(), model.leaves + model.given)
    first, second = gradients(model), gradients(model)
    exact = work.build(gg, "cpu", "float64")
    exact.step()
    for leaf, value in zip(exact.leaves, model.leaves, strict=True):  # the same point, so that only this step's error counts
        leaf.data[...] = numbers(value)
    wanted = gradients(exact)
    error = max(float(np.max(np.abs(g - w)) / max(np.max(np.abs(w)), 1e-30)) for g, w in zip(first, wanted, strict=True))
    with profile() as found:
        model.step()
    if not found.launches:
        raise ArgumentError(f"score: expected a device whose launches are logged, got {device!r} with none. Use --device sim.")
    return Step(work, found, saved, all(np.array_equal(a, b) for a, b in zip(first, second, strict=True)), error)


def gradients(model: Any) -> list[np.ndarray]:
    """The output and every gradient, on the host."""
    return [numbers(model.backward()), *(numbers(leaf.grad) for leaf in model.leaves)]


def numbers(tensor: Any) -> np.ndarray:
    data = tensor.data
    return np.array(data.get() if hasattr(data, "get") else data)


def saved_bytes(output: Any, given: Iterable) -> int:
    """Bytes of the arrays that the graph of an output keeps for its backward sweep, each buffer once, those of `given` apart."""
    own = {address(tensor.data) for tensor in given}
    kept: dict[int, int] = {}
    todo, seen = [output._node], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo += node.parents
        for array in flat((node.xs or (), node.y)):
            if address(array) not in own:
                kept[address(array)] = max(kept.get(address(array), 0), array.nbytes)
    return sum(kept.values())


def flat(value: Any) -> list:
    """The arrays in nested tuples; shapes that stand for arrays are none."""
    if isinstance(value, tuple | list):
        return [array for part in value for array in flat(part)]
    return [value] if hasattr(value, "nbytes") and hasattr(value, "strides") else []


def address(array: Any) -> int:
    """Where the buffer behind an array begins."""
    while getattr(array, "base", None) is not None and hasattr(array.base, "nbytes"):
        array = array.base
    return array.__array_interface__["data"][0] if isinstance(array, np.ndarray) else int(array.data.ptr)


def seconds(launches: Iterable[Launch], rate: float) -> float:
    """Modelled: the launches one after another, each at the bandwidth or at `rate` flops a second, whichever takes longer."""
    return sum(max((x.bytes_read + x.bytes_written) / BANDWIDTH, x.flops / rate) for x in launches)


def fill(launch: Launch) -> float:
    """The share of an H100's multiprocessors that a grid keeps busy over its waves."""
    blocks = int(np.prod(launch.grid))
    return blocks / (MULTIPROCESSORS * -(-blocks // MULTIPROCESSORS))


def score_step(step: Step, number: str) -> list[Score]:
    """The scores of one workload's step."""
    work, launches, found = step.work, step.launches, step.profile
    n, name = len(launches), work.name
    roof = [seconds(launches, rate) * 1e6 for rate in (FLOAT32, TF32)]
    whole = [max(t + n * GAP_US, n * LAUNCH_US) for t in roof]
    big = [x for x in launches if x.grid and x.bytes_read + x.bytes_written >= SMALL_GRID]
    worst = min(big, key=fill, default=None)
    return [
        Score(number, f"launches, {name}", str(n), f"<= {work.most_launches} (least {work.least_launches})",
              n <= work.most_launches, "counted"),
        Score("S3", f"bytes / least, {name}", f"{step.ratio:.2f} ({found.bytes / 1e6:.1f} of {work.least_bytes / 1e6:.1f} MB)",
              f"<= {work.most_bytes_ratio:g}", step.ratio <= work.most_bytes_ratio, "counted / by formula, same size"),
        Score("S4", f"saved activations, {name}", f"{step.saved / 1e6:.3f} MB", f"<= {work.most_saved / 1e6:.3f} MB",
              step.saved <= work.most_saved, "counted / by formula, same size"),
        Score("S9", f"grid fill, {name}", f"{fill(worst):.0%} ({worst.name})" if worst else "-", f">= {GRID_FILL:.0%} from 1 MB",
              fill(worst) >= GRID_FILL if worst else None, f"counted, {MULTIPROCESSORS} multiprocessors"),
        Score("S12", f"step, {name}", f"{whole[0]:.0f} us fp32, {whole[1]:.0f} TF32 (kernels alone {roof[0]:.1f}, {roof[1]:.1f})",
              "-", None, f"modelled: H100 SXM, {LAUNCH_US:g} us a launch"),
        Score("S14", f"repeats bit for bit, {name}", f"{'yes' if step.repeats else 'no'}; error {step.error:.1e}", "yes",
              step.repeats, "run twice; against float64 on the CPU"),
        Score("S15", f"host waits, {name}", "unknown" if found.syncs is None else str(found.syncs), "0",
              None if found.syncs is None else found.syncs == 0, "counted"),
    ]


def score_replay(step: Replayed, number: str) -> list[Score]:
    """The scores of one workload's compiled step, of a replay."""
    work, found, n = step.work, step.profile, len(step.profile.launches)
    name = f"{work.name}, compiled"
    whole = f"{n}, no graph: {step.refused}" if step.refused else f"{n} in {step.host} of the host"
    exact = f"error {step.error:.0e} against eager"
    return [
        Score(number, f"launches, {name}", whole, f"<= {work.most_compiled} in 1", n <= work.most_compiled and step.host == 1,
              f"counted; {exact}"),
        Score("S3", f"bytes / least, {name}", f"{step.ratio:.2f}", "<= 1.1", step.ratio <= 1.1,
              "counted / by formula, same size"),
        Score("S5", f"allocations in a replay, {name}", "unknown" if step.mallocs is None else str(step.mallocs), "0",
              None if step.mallocs is None else step.mallocs == 0, "counted"),
        Score("S15", f"host waits, {name}", "unknown" if found.syncs is None else str(found.syncs), "0",
              None if found.syncs is None else found.syncs == 0, "counted"),
    ]


def score_kernels(compiled: list, hot: list) -> list[Score]:
    """The scores that the compiler and one launch of each hot kernel give."""
    bad = sum(f.spilled + f.stack for f in map(gate.without_library, compiled))
    narrow = [f.expression for f in compiled if f.vector and not f.wide_loads + f.wide_stores]
    flight = {h.expression: 2048 * h.occupancy["sm_90"] * 16 * max(1, h.wide_loads) for h in hot}
    least = min(flight, key=flight.__getitem__)
    least_busy = min(hot, key=lambda h: h.occupancy["sm_90"])
    issue = {h.expression: h.warp_instructions / (MULTIPROCESSORS * ISSUES * CLOCK) / (h.bytes * h.elements / BANDWIDTH)
             for h in hot if h.file != "gemm.cu"}
    slow = max(issue, key=issue.__getitem__)
    sectors, conflicts = min(h.sector_efficiency for h in hot), sum(h.bank_conflicts for h in hot)
    architectures = sorted({f.arch for f in compiled})
    atomics = sum(f.float_atomics for f in compiled)
    return [
        Score("S6", "spills and local memory", f"{bad} B", "0", bad == 0, f"compiler, {', '.join(architectures)}"),
        Score("S7", "128-bit vector paths", f"all but {len(narrow)}", "all", not narrow, "PTX"),
        Score("", "sectors needed / asked for, hot kernels", f"{sectors:.0%}", "100%", sectors == 1, "simulated, aligned"),
        Score("", "bank conflicts, hot kernels", str(conflicts), "0", conflicts == 0, "simulated, aligned"),
        Score("S8", "bytes in flight a multiprocessor", f"{flight[least] / 1024:.0f} KiB ({least}), occupancy from "
              f"{least_busy.occupancy['sm_90']:.0%}", f">= {IN_FLIGHT >> 10} KiB", flight[least] >= IN_FLIGHT,
              "computed for sm_90: resident threads x 128-bit loads"),
        Score("S10", "float atomics", str(atomics), "0", atomics == 0, "PTX"),
        Score("S11", "issue time / memory time", f"{issue[slow]:.2f} ({slow})", f"< {ISSUE_SHARE:g}", issue[slow] < ISSUE_SHARE,
              "simulated instructions / advertised rates: modelled"),
        Score("S13", "kernels compile with CuPy's options", f"{len(compiled)} of {len(compiled)}", "all", True,
              "NVRTC, no GPU"),
    ]


def collect(device: str, full: bool, architectures: tuple[str, ...] = ("sm_90",)) -> tuple[list[Score], list[Step]]:
    """All scores of a device. The block runs scaled down unless `full`; the compiler's scores are of `architectures`."""
    steps = [take(Mlp(), device), take(Mlp(epilogues=True), device), take(Block() if full else SCALED_BLOCK, device)]
    for number, step in zip(("S1", "S1", "S2"), steps, strict=True):
        step.scores = score_step(step, number)
    replays = [score for step, number in zip(steps, ("S1", "S1", "S2"), strict=True)
               for score in score_replay(replay(step.work, device), number)]
    compiled = [*gate.compile_all(architectures), *gate.compile_generated(architectures)]
    kernels = score_kernels(compiled, gate.run_hot(compiled))
    return [s for step in steps for s in step.scores] + replays + kernels, steps


def show(scores: list[Score], steps: list[Step], device: str) -> str:
    """The score, the peers beside it, and the launches of each step."""
    verdict = {True: "pass", False: "MISS", None: ""}
    rows = [("", "score", "found", "target", "", "how"),
            *((s.id, s.what, s.found, s.target, verdict[s.passed], s.how) for s in scores)]
    parts = [f"Score of an eager float32 training step on {device}. Sizes: "
             + "; ".join(f"{s.work.name} {s.work.size}" for s in steps) + ".", columns(rows)]
    for step in steps:
        full = type(step.work)()
        ours = (f"gpugrad, at {step.work.size}", str(len(step.launches)), f"{step.profile.bytes / 1e6:.1f} MB",
                f"{step.ratio:.2f}", "counted")
        least = ("least, cuBLASLt epilogues", str(full.least_launches), f"{full.least_bytes / 1e6:.1f} MB", "1.00", "by formula")
        peers = [(p.name, str(p.launches), f"{p.megabytes:g} MB" if p.megabytes else "-",
                  f"{p.megabytes * 1e6 / full.least_bytes:.2f}" if p.megabytes else "-", p.how) for p in full.peers]
        heads = ("", "launches", "bytes", "/ least", "how")
        parts.append(f"{step.work.name} {full.size}\n" + columns([heads, ours, least, *peers]))
        parts.append(str(step.profile))
    return "\n\n".join(parts)


def columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def as_json(scores: list[Score], steps: list[Step], device: str) -> str:
    """One line: the scores, and each step's launches."""
    return json.dumps({"device": device, "scores": [asdict(s) for s in scores],
                       "steps": [{"workload": s.work.name, "size": s.work.size, "parameters": s.work.parameters,
                                  "peers": [asdict(p) for p in s.work.peers],
                                  **json.loads(s.profile.to_json())} for s in steps]})
