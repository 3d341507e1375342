"""How much memory a step needs: to the byte where NumPy allocates, else by the process's high-water mark.

The high-water mark of resident memory is the only measure that holds for every library; records say which one was used.
"""

import ctypes
import gc
import json
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gpugrad.bench.process import run


@contextmanager
def tracing() -> Iterator[None]:
    """Python's and NumPy's allocations are counted inside."""
    gc.collect()
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def traced() -> int:
    """Bytes allocated since tracing() began, and not freed."""
    return tracemalloc.get_traced_memory()[0]


def traced_peak(step: Callable[[], Any]) -> int:
    """Bytes a step holds at its fullest, over what was there before: Python's and NumPy's, not C libraries' own."""
    step()
    with tracing():
        step()
        return tracemalloc.get_traced_memory()[1]


def status(field: str) -> int:
    """A field of this process's status, in bytes: VmRSS now, VmHWM the most since reset(). Linux only."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return 1024 * int(line.split()[1])
    raise OSError(f"memory: expected {field} in /proc/self/status, got none. Run on Linux.")


def reset() -> None:
    """Forget the high-water mark, after giving freed memory back to the system."""
    gc.collect()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


CHILD = """
import json, sys
from gpugrad.bench.memory import high_water
print(json.dumps(high_water(*sys.argv[1:])))
"""


def peak_rss(case: str, peer: str) -> int:
    """Bytes by which a fresh process grows over two steps of this case by this peer, inputs included."""
    return json.loads(run(CHILD, case, peer).splitlines()[-1])


def high_water(name: str, peer_name: str) -> int:
    """In the child: the miniature first, so that imports, threads and compilers do not count; then the case."""
    import gpugrad.bench.cases  # noqa: F401  fills the registry
    from gpugrad.bench.case import REGISTRY
    from gpugrad.bench.peers import load

    case: Any = REGISTRY[name]
    peer = load(peer_name)

    def steps(d: Any) -> None:
        step, _ = case.build(peer, d)
        for _ in range(2):
            result = step()
            if peer.wait:
                peer.wait(result)

    steps(case.data(small=True))
    reset()
    before = status("VmRSS")
    d = case.data()
    reset()  # inputs are drawn in float64 and that is not the library's doing
    steps(d)
    return status("VmHWM") - before
