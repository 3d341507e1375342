"""`make gpu`, `python -m gpugrad.bench gpu`: everything that needs a real GPU, in one command.

    1. what is taken for granted of device, driver and CuPy, tried out one by one (gpu_checks.py)
    2. the test suite, which takes in every usable device; in a rehearsal those of its tests that would go to the GPU (REHEARSED)
    3. each hot kernel there and on the simulated device: the same bits, or how far apart
    4. each hot kernel timed, beside its floor at the measured copy bandwidth
    5. training steps, eager and as one CUDA graph, which must give the same; attention; products beside cuBLAS (CuPy's matmul);
       the workloads: beside torch where it is installed with CUDA
    6. a JSON record for each measurement

README.md beside the kernels says what a real GPU should show.

`--device sim` rehearses all of it without a GPU: its times say nothing about one, are marked simulated, and are not recorded.
Exit codes: 0 all right, 1 a failed test, a wrong result or a failed workload, 2 no such device.
"""

import argparse
import datetime
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import gpugrad as gg
from gpugrad.bench.gpu_checks import check_all
from gpugrad.bench.gpu_device import Device, Timed, find
from gpugrad.bench.gpu_programs import time_attention, time_steps
from gpugrad.bench.result import append, commit
from gpugrad.errors import DeviceError, GpugradError
from gpugrad.kernels.launch import launch
from gpugrad.kernels.probes import Addresses, Probe, probes
from gpugrad.kernels.signature import Bound

HERE = Path(__file__).resolve().parent
ROWS, COPY_BYTES, SIZES = 16384, 256 << 20, (256, 1024, 4096)  # beyond an H100's 50 MB of L2
REHEARSAL_ROWS, REHEARSAL_COPY_BYTES, REHEARSAL_SIZES = 128, 1 << 20, (64,)
#: What a rehearsal takes of the suite: rules, networks, the engine and the kernels behind them, on the simulated device alone.
REHEARSED = ("rules", "nn", "graph", "kernels/test_launched.py", "kernels/test_layer_norm.py", "kernels/test_accumulate.py",
             "kernels/test_gpu_elementwise.py", "kernels/test_gpu_optim.py", "kernels/test_gpu_reduce.py",
             "kernels/test_gpu_rules.py", "kernels/test_gpu_scatter.py")
NAMED = "sim or kernels"
WORKLOADS = ("w3", "w4", "w5", "w6", "w9", "w10", "w11")
TOLERANCE = 64  # units in the last place of float32, of the largest element: the .approx functions differ, nothing else
SECONDS = 1.0


# ---- kernels ---------------------------------------------------------------------------------------------------------


def placed(probe: Probe, xp: Any) -> tuple[list, list]:
    """The probe's arguments on the device, and what else must stay alive."""
    held: list = []
    args: list = []
    for parameter, value in zip(parameters(probe), probe.args, strict=True):
        if not parameter.pointer:  # a number, or an array that goes by value
            args.append(value)
        elif isinstance(value, Addresses):
            held += [xp.asarray(x) for x in value]
            args.append(xp.asarray(np.array([x.data.ptr for x in held], np.uint64)))
        else:
            args.append(xp.asarray(value) if isinstance(value, np.ndarray) else value)
    return args, held


def parameters(probe: Probe) -> tuple[Bound, ...]:
    return probe.source.bind(probe.kernel, probe.arguments).parameters


def start(probe: Probe, args: list) -> None:
    launch(probe.source, probe.kernel, probe.arguments, probe.grid, probe.block, args)


def compare(device: Device) -> list[tuple[str, float]]:
    """(kernel, distance): each hot kernel there and on the simulated device, from the same arguments.

    The distance is in units in the last place of the largest element; 0 is the same bits, inf a difference in integers or NaN.
    """
    found = []
    for probe in probes():
        args, _held = placed(probe, device.xp)
        probe.run()
        start(probe, args)
        outputs = [(a, b) for p, a, b in zip(parameters(probe), args, probe.args, strict=True) if p.written and a is not None]
        found.append((probe.expression, max(distance(host(a), b) for a, b in outputs)))
    return found


def host(array: Any) -> np.ndarray:
    return array.get() if hasattr(array, "get") else np.asarray(array)


def distance(got: np.ndarray, wanted: np.ndarray) -> float:
    if np.array_equal(got, wanted, equal_nan=got.dtype.kind == "f"):
        return 0.0
    if got.dtype.kind != "f" or not np.array_equal(np.isnan(got), np.isnan(wanted)):
        return float("inf")
    off = np.nanmax(np.abs(got.astype(float) - wanted))
    return float(off / (np.spacing(np.nanmax(np.abs(wanted))) or 1))


def copy_bandwidth(device: Device, size: int, seconds: float) -> float:
    """Bytes a second that a copy of `size` bytes reads and writes."""
    xp = device.xp
    source, target = xp.ones(size // 4, dtype=np.float32), xp.empty(size // 4, dtype=np.float32)
    return 2 * size / (device.microseconds(lambda: xp.copyto(target, source), seconds) / 1e6)


def time_kernels(device: Device, rows: int, bandwidth: float, seconds: float) -> list[Timed]:
    """Each hot kernel at `rows` rows of 1024."""
    found = []
    for probe in probes(rows):
        args, _held = placed(probe, device.xp)
        us = device.microseconds(partial(start, probe, args), seconds)
        size = probe.least * probe.elements
        found.append(Timed(probe.expression, {"rows": rows}, us, size, 0, size / bandwidth * 1e6, {}))
        copy_back(probe, args)
    return found


def copy_back(probe: Probe, args: list) -> None:
    """What the device wrote, into the probe's own arrays: the next one may read it."""
    for parameter, value, array in zip(parameters(probe), probe.args, args, strict=True):
        if parameter.pointer and isinstance(value, np.ndarray):
            value[...] = host(array)


def time_products(device: Device, sizes: Sequence[int], bandwidth: float, seconds: float, torch: Any) -> list[Timed]:
    """Square float32 products: gpugrad's forward and backward, beside cuBLAS through CuPy and torch doing the same three."""
    found = []
    for n in sizes:
        rng = np.random.default_rng(n)
        a, b, g = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(3))
        x, y = (gg.tensor(v, device=device.name, requires_grad=True) for v in (a, b))
        up = gg.tensor(g, device=device.name)

        def ours(x=x, y=y, up=up):
            x.grad = y.grad = None
            (x @ y).backward(up)

        p, q, r = (device.xp.asarray(v) for v in (a, b, g))
        versus = {"cupy": device.microseconds(partial(products, p, q, r), seconds)}
        if torch is not None:
            versus["torch"] = device.microseconds(torch_product(torch, a, b, g), seconds)
        size = 4 * n * n * 9
        found.append(Timed("matmul, forward and backward", {"n": n}, device.microseconds(ours, seconds), size, 6 * n**3,
                           size / bandwidth * 1e6, versus))
    return found


def torch_product(torch: Any, a: np.ndarray, b: np.ndarray, g: np.ndarray) -> Callable[[], Any]:
    return partial(products, *(torch.from_numpy(v).cuda() for v in (a, b, g)))


def products(x: Any, y: Any, up: Any) -> tuple:
    """A product and the gradients to both factors."""
    return x @ y, up @ y.T, x.T @ up


def cuda_torch() -> Any:
    """torch, where it is installed with CUDA. It works on the default stream, as CuPy does, so the same events time both."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch if torch.cuda.is_available() else None


# ---- the command -----------------------------------------------------------------------------------------------------


def run_tests(real: bool, only: str | None) -> int | None:
    """The test suite, which takes in every usable device, or what a rehearsal takes of it; pytest's exit code, or None where the
    package has no tests beside it."""
    folder = HERE.parent / "tests"
    if not folder.is_dir():
        return None
    places = [folder] if real else [folder / name for name in REHEARSED]
    chosen = " and ".join(f"({words})" for words in (only, None if real else NAMED) if words)
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", *map(str, places), *(["-k", chosen] if chosen else [])]
    return subprocess.run(command, cwd=folder.parent, check=False).returncode


def write_records(path: Path, device: Device, bandwidth: float, timed: Sequence[Timed], kernels: dict[str, float]) -> None:
    """Append a line for each measurement; lines already there are never touched."""
    where = {"device": device.words, "driver": str(device.xp.cuda.runtime.driverGetVersion()), "cupy": device.xp.__version__,
             "commit": commit(), "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"case": "copy", "bytes_per_second": bandwidth, **where}) + "\n")
        file.write(json.dumps({"case": "simulated against real", "ulps": kernels, **where}) + "\n")
        file.writelines(json.dumps(asdict(t) | {"floor_from": "measured copy", **where}) + "\n" for t in timed)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or sim to rehearse (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="timed for each measurement (default: %(default)s)")
    parser.add_argument("--records", metavar="FILE", help="append here (default: bench/records/DATE-gpu.jsonl)")
    parser.add_argument("--skip-tests", action="store_true", help="leave the test suite out")
    parser.add_argument("--only", metavar="WORD", help="of the tests, those that pytest -k selects")


def run(args: argparse.Namespace) -> int:
    """All six parts; the exit code of the command."""
    try:
        device = find(args.device)
    except DeviceError as error:
        print(f"gpugrad bench gpu: {error}", file=sys.stderr)
        return 2
    print(device.words)
    with gg.device(device.name):
        lines, usable = check_all(device.xp)
    print("\n".join(lines), flush=True)
    if not usable:
        print("stopped: nothing that follows would mean anything")
        return 1
    failed = any(line.startswith("DIFFERS") for line in lines)
    if not args.skip_tests:
        code = run_tests(device.real, args.only)
        failed |= bool(code)
        print("tests: " + ("none beside the package" if code is None else "failed" if code else "passed"), flush=True)
    kernels = dict(compare(device))
    wrong = {name: off for name, off in kernels.items() if not off <= TOLERANCE}
    failed |= bool(wrong)
    same = sum(off == 0 for off in kernels.values())
    print(f"simulated against {device.name}: {same} of {len(kernels)} kernels give the same bits, "
          f"the furthest is {max(kernels.values()):.0f} ulp off" + "".join(f"\nWRONG {n}: {o} ulp" for n, o in wrong.items()))
    rows, size, sizes = (ROWS, COPY_BYTES, SIZES) if device.real else (REHEARSAL_ROWS, REHEARSAL_COPY_BYTES, REHEARSAL_SIZES)
    seconds, torch = (args.seconds, cuda_torch()) if device.real else (0.0, None)
    with gg.device(device.name):
        bandwidth = copy_bandwidth(device, size, seconds)
        timed = [*time_kernels(device, rows, bandwidth, seconds),
                 *time_products(device, sizes, bandwidth, seconds, torch),
                 *time_attention(device, bandwidth, seconds, torch)]
        steps, broken = time_steps(device, bandwidth, seconds)
        timed += steps
    failed |= bool(broken)
    print(f"copy of {size >> 20} MiB: {bandwidth / 1e12:.3f} TB/s" + ("" if device.real else " (simulated)"))
    print("\n".join([table(timed, device.real), *(f"WRONG {problem}" for problem in broken)]), flush=True)
    failed |= not workloads(device, args)
    if device.real:
        path = Path(args.records) if args.records else record_file()
        write_records(path, device, bandwidth, timed, kernels)
        print(f"appended {len(timed) + 2} records to {path.name}")
    else:
        print("simulated: nothing recorded")
    return 1 if failed else 0


def record_file() -> Path:
    return HERE / "records" / f"{datetime.date.today().isoformat()}-gpu.jsonl"


def table(timed: Sequence[Timed], real: bool) -> str:
    heads = ("", "median" if real else "SIMULATED", "floor", "of the copy", "beside")
    rows = [heads, *(t.row for t in timed)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(heads))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def workloads(device: Device, args: argparse.Namespace) -> bool:
    """The benchmark's own cases on a real device, beside torch where it has CUDA; whether gpugrad's were right."""
    if not device.real:
        return True
    from gpugrad.bench import report
    from gpugrad.bench.main import bench

    done = bench(WORKLOADS, ["torch"] if cuda_torch() else [], device.name, seconds=args.seconds)
    report.show(done)
    append(done, args.records or record_file())
    return not any(r.problem for m in done.measured for r in m.results if r.variant == "gpugrad")


def main(argv: Sequence[str]) -> int:
    """`python -m gpugrad.bench gpu`."""
    parser = argparse.ArgumentParser(prog="gpugrad bench gpu", description="Tests, checks and timings of a GPU.")
    add_arguments(parser)
    try:
        return run(parser.parse_args(argv))
    except GpugradError as error:
        print(f"gpugrad bench gpu: {error}", file=sys.stderr)
        return 1
