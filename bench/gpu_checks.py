"""What gpugrad takes for granted of a CUDA device, its driver and CuPy, tried out one by one before anything is timed.

Everything here has been seen on the simulated device, whose rules were read in CuPy 14.2's source and CUDA's documentation. A
check returns what it found where that is not what was expected, and None where it is; an exception is a finding, too.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.kernels.launch import launch
from gpugrad.kernels.load import Source

NEWEST_MAJOR, OLDEST_ARCH = 14, 75
Check = Callable[[Any], str | None]
COUNT = 1024
DOUBLE = """
__global__ void doubled(float* y, long long n) {
  const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] *= 2;
}
"""
SOURCE = Source("doubled.cu", text=DOUBLE)


def doubled(y: Any) -> None:
    """y *= 2 by a kernel of ours, on the current stream."""
    launch(SOURCE, "doubled", (), -(-y.size // 256), 256, (y, y.size))


def ones(xp: Any, count: int = COUNT) -> Any:
    return xp.ones(count, dtype=np.float32)


def unless(right: bool, found: Any) -> str | None:
    return None if right else str(found)


def version(xp: Any) -> str | None:
    return unless(int(xp.__version__.partition(".")[0]) == NEWEST_MAJOR, xp.__version__)


def architecture(xp: Any) -> str | None:
    found = int(xp.cuda.Device().compute_capability)
    return unless(found >= OLDEST_ARCH, found)


def current_device(xp: Any) -> str | None:
    return unless(xp.cuda.runtime.getDevice() == xp.cuda.Device().id, xp.cuda.runtime.getDevice())


def one_launch(xp: Any) -> str | None:
    y = ones(xp)
    doubled(y)
    return unless(bool((y.get() == 2).all()), y.get()[:4])


def alignment(xp: Any) -> str | None:
    found = [xp.empty(n, dtype=np.uint8).data.ptr % 256 for n in (1, 100, 1000)]
    return unless(not any(found), f"addresses modulo 256: {found}")


def product(xp: Any) -> str | None:
    """One part in 2^18 is lost with TF32, and nothing in float32."""
    x = xp.full((64, 64), 1 + 2.0**-18, dtype=np.float32)
    found = float((x @ xp.eye(64, dtype=np.float32)).get()[0, 0])
    return unless(found == 1 + 2.0**-18, f"1 + 2^-18 came back as {found:.9g}: CuPy multiplies in TF32 (CUPY_TF32?)")


def cublaslt(xp: Any) -> str | None:
    from gpugrad.kernels import cublaslt

    cublaslt.handle_of(xp, xp.cuda.runtime.getDevice())  # raises with every place where it was looked for
    return None


def lt_product(xp: Any) -> str | None:
    """Integers, so that any order of the sum is exact; A is a slice with a leading dimension of its own."""
    from gpugrad.kernels import cublaslt

    a, b = (np.arange(n, dtype=np.float32).reshape(shape) % 7 for n, shape in ((64 * 40, (64, 40)), (32 * 48, (32, 48))))
    x, out = xp.asarray(a)[:, :32], xp.empty((64, 48), dtype=np.float32)
    cublaslt.matmul(x, xp.asarray(b), out)
    return unless(np.array_equal(out.get(), a[:, :32] @ b), "another product than NumPy's")


def captured(xp: Any, work: Callable[[], Any]) -> tuple[Any, Any]:
    """(graph, what the work made) on a stream of its own and a pool of its own, after a run that warms both up."""
    stream, pool = xp.cuda.Stream(non_blocking=True), xp.cuda.MemoryPool()
    stream.wait_event(xp.cuda.get_current_stream().record())
    with xp.cuda.using_allocator(pool.malloc), stream:
        made = work()
        del made
        before = pool.total_bytes()
        stream.begin_capture()
        try:
            made = work()
        finally:
            graph = stream.end_capture()
    xp.cuda.get_current_stream().wait_event(stream.record())
    if pool.total_bytes() != before:
        raise RuntimeError(f"the pool grew from {before} to {pool.total_bytes()} bytes while capturing: "
                           "blocks that were freed before it are not used again")
    return graph, made


def capture(xp: Any) -> str | None:
    y = ones(xp)
    graph, _ = captured(xp, lambda: doubled(y))
    before = float(y.get()[0])
    graph.launch()
    graph.launch()
    return unless(before == 2 and float(y.get()[0]) == 8, f"{before} after the capture, {y.get()[0]} after two replays")


def capture_of_cupy(xp: Any) -> str | None:
    """What the compiler leaves to CuPy within a graph: elementwise kernels, sums, copies, fills, slices."""
    x = ones(xp)

    def work() -> list:
        y = xp.exp(x) * 0 + x
        y[: COUNT // 2] = 3
        z = xp.zeros((4, COUNT), dtype=np.float32)
        z[...] = y
        return [z.sum(axis=1), z.sum(axis=0), z.sum(), y.copy(), xp.ascontiguousarray(z.T)]

    graph, made = captured(xp, work)
    graph.launch()
    wanted = [2 * COUNT, 12, 8 * COUNT, 3, 3]
    found = [float(y.get().ravel()[0]) for y in made]
    return unless(found == wanted, f"{found}, not {wanted}")


def capture_of_lt(xp: Any) -> str | None:
    from gpugrad.kernels import cublaslt

    a, out = xp.ones((64, 64), dtype=np.float32), xp.empty((64, 64), dtype=np.float32)
    graph, _ = captured(xp, lambda: cublaslt.matmul(a, a, out))
    out.fill(0)
    graph.launch()
    return unless(float(out.get()[3, 3]) == 64, f"{out.get()[3, 3]} from the replayed product, not 64")


def changed_inputs(xp: Any) -> str | None:
    """A replay reads what lies at an address at its time; `set` and `fill` put it there without another allocation."""
    x, y = ones(xp), ones(xp)
    graph, _ = captured(xp, lambda: xp.copyto(y, x))
    ptr = x.data.ptr
    x.set(np.full(COUNT, 5, np.float32))
    graph.launch()
    first = float(y.get()[0])
    x.fill(7)
    graph.launch()
    return unless((ptr, first, float(y.get()[0])) == (x.data.ptr, 5, 7), f"{first} and {y.get()[0]}, not 5 and 7")


def events(xp: Any) -> str | None:
    start, end = xp.cuda.Event(), xp.cuda.Event()
    start.record()
    doubled(ones(xp, 1 << 16))
    end.record()
    end.synchronize()
    found = xp.cuda.get_elapsed_time(start, end)
    return unless(found >= 0, f"{found} ms")


#: (what is taken for granted, what it serves, whether a run goes on without it, the check)
CHECKS: tuple[tuple[str, str, bool, Check], ...] = (
    (f"CuPy {NEWEST_MAJOR}", "the interface was read there", True, version),
    (f"compute capability {OLDEST_ARCH / 10} or later", "the gate compiles from there on", False, architecture),
    ("the current device is the one asked for", "kernels go where their arrays are", False, current_device),
    ("a kernel compiles, loads and runs", "everything of gpugrad's own", False, one_launch),
    ("allocations are aligned to 256 bytes", "vector paths, cuBLASLt", False, alignment),
    ("float32 products are in float32", "comparisons with the CPU", True, product),
    ("cuBLASLt loads", "gradients of products, graphs with products", True, cublaslt),
    ("cuBLASLt multiplies a strided matrix", "products without copies", True, lt_product),
    ("a launch is captured, not run, and replayed", "compiled programs", True, capture),
    ("CuPy's kernels are captured, from the pool's free blocks", "compiled programs", True, capture_of_cupy),
    ("cuBLASLt is captured", "compiled programs with products", True, capture_of_lt),
    ("a replay reads its inputs anew", "compiled programs with a learning rate", True, changed_inputs),
    ("events tell the time between them", "every time that is reported", False, events),
)


def check_all(xp: Any) -> tuple[list[str], bool]:
    """(a line for each check, whether the run may go on), on the current device."""
    lines, usable = [], True
    for claim, serves, optional, check in CHECKS:
        try:
            found = check(xp)
        except Exception as error:  # whatever it is, it is what was found
            found = f"{type(error).__name__}: {error}"
        usable &= optional or found is None
        lines.append(f"ok     {claim}" if found is None else f"DIFFERS {claim}: got {found}. It serves: {serves}.")
    return lines, usable
