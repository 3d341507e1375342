"""Measures a case: every variant is built, checked, and only then timed, in turns with the others."""

import time
from collections.abc import Callable
from types import SimpleNamespace

from gpugrad.bench.case import Case, Gauge
from gpugrad.bench.clock import Stopwatch, take_turns
from gpugrad.bench.peers import Peer
from gpugrad.bench.result import Measured, Result
from gpugrad.bench.roofline import Roofline
from gpugrad.bench.verify import WrongResult, verify

Say = Callable[[str], None]  # progress, one short line


def measure(
    entry: Case | Gauge, peers: list[Peer], missing: dict[str, str], seconds: float, roof: Roofline, say: Say
) -> Measured:
    """Every peer's result on one case or gauge.

    peers     the libraries that are there
    missing   why each of the others is not
    seconds   timed for each variant, warm-up apart
    """
    measured = measure_case(entry, peers, seconds, roof, say) if isinstance(entry, Case) else measure_gauge(entry, peers, say)
    has = entry.variants if isinstance(entry, Case) else entry.readings
    measured.results += [Result(name, problem=why) for name, why in missing.items() if name in has]
    return measured


def measure_case(case: Case, peers: list[Peer], seconds: float, roof: Roofline, say: Say) -> Measured:
    d = case.data()
    expected = case.expected()
    results, watches, timed = [], [], []
    for peer in peers:
        if peer.name not in case.variants:
            continue
        say(f"{case.name}: {peer.name}, first step and check")
        result = Result(peer.name)
        results.append(result)
        try:
            watch = checked(case, peer, expected, d, result)
        except WrongResult as error:
            result.problem = f"failed: {error}"
        except Exception as error:  # a peer that cannot run a case must not end the run
            result.problem = f"failed: {type(error).__name__}: {first_line(error)}"
        else:
            watches.append(watch)
            timed.append(result)
    say(f"{case.name}: timing {', '.join(r.variant for r in timed)}")
    try:
        take_turns(watches, seconds)
    finally:
        for watch, result in zip(watches, timed, strict=True):
            if watch.samples:
                result.timing = watch.timing()
    bytes, flops = case.bytes(d), case.flops(d)
    return Measured(
        case.name,
        case.title,
        case.params,
        results,
        per=case.per(d),
        part=case.part,
        bytes=bytes,
        flops=flops,
        floor_us=roof.floor_us(bytes, flops),
        floor_from=roof.source(bytes, flops),
    )


def checked(case: Case, peer: Peer, expected: list, d: SimpleNamespace, result: Result) -> Stopwatch:
    """A stopwatch on a step whose first outputs were found right; raises WrongResult otherwise."""
    start = time.perf_counter()
    step, read = case.build(peer, case.data())
    first = step()
    if peer.wait:
        peer.wait(first)
    result.first_s = time.perf_counter() - start
    verify(peer.numpy(read(first)), expected, case.dtype, case.terms(d), case.outputs, not peer.keeps_dtype)
    return Stopwatch(step, peer.wait, peer.timer())


def measure_gauge(gauge: Gauge, peers: list[Peer], say: Say) -> Measured:
    p = SimpleNamespace(**gauge.params)
    results = []
    for peer in peers:
        if peer.name not in gauge.readings:
            continue
        say(f"{gauge.name}: {peer.name}")
        try:
            results.append(Result(peer.name, value=float(gauge.readings[peer.name](peer, p))))
        except Exception as error:
            results.append(Result(peer.name, problem=f"failed: {type(error).__name__}: {first_line(error)}"))
    return Measured(gauge.name, gauge.title, gauge.params, results, unit=gauge.unit, method=gauge.method)


def first_line(error: Exception) -> str:
    """The first line of a message: compilers' are pages long."""
    return (str(error).strip().splitlines() or [""])[0][:200]
