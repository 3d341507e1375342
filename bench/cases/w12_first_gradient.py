"""W12: from the start of a process to its first gradient, and what `import gpugrad` adds to `import numpy`."""

from types import SimpleNamespace

import numpy as np

from gpugrad.bench.case import Case, Gauge
from gpugrad.bench.process import run

# One small program for each library: d/dx sum(tanh(x x)) at eight points, the gradient printed.
POINTS = "np.linspace(-1, 1, {n}, dtype=np.float32)"
PROGRAMS = {
    "gpugrad": """
import numpy as np, gpugrad as gg
x = gg.tensor(POINTS, requires_grad=True)
np.tanh(x * x).sum().backward()
dx = x.grad.numpy()
""",
    "numpy": """
import numpy as np
x = POINTS
y = np.tanh(x * x)
dx = (1 - y * y) * 2 * x
""",
    "torch": """
import numpy as np, torch
x = torch.from_numpy(POINTS).requires_grad_()
torch.tanh(x * x).sum().backward()
dx = x.grad.numpy()
""",
    "torch-compile": """
import numpy as np, torch
x = torch.from_numpy(POINTS).requires_grad_()
torch.compile(lambda x: torch.tanh(x * x).sum())(x).backward()
dx = x.grad.numpy()
""",
    "jax": """
import numpy as np, jax
dx = np.asarray(jax.jit(jax.grad(lambda x: jax.numpy.tanh(x * x).sum()))(POINTS))
""",
    "autograd": """
import numpy as np, autograd, autograd.numpy as anp
dx = autograd.grad(lambda x: anp.sum(anp.tanh(x * x)))(POINTS)
""",
    "mygrad": """
import numpy as np, mygrad as mg
x = mg.tensor(POINTS)
mg.tanh(x * x).sum().backward()
dx = x.grad
""",
    "pytensor": """
import numpy as np, pytensor, pytensor.tensor as pt
x = pt.vector(dtype="float32")
dx = pytensor.function([x], pytensor.grad(pt.tanh(x * x).sum(), x))(POINTS)
""",
}

CASE = Case(
    name="w12_first_gradient",
    title="start of a process to its first gradient",
    params={"n": 8},
    small={},
    inputs=lambda p, rng: {},
    outputs=("dx",),
    terms=lambda d: 4,
)


@CASE.variant(*(name for name in PROGRAMS if name != "numpy"))
def first_gradient(peer, d: SimpleNamespace):
    """The printed gradient is text: `read` makes arrays of it, and the runner takes NumPy arrays from any peer."""
    source = PROGRAMS[peer.name].replace("POINTS", POINTS.format(n=d.n)) + "print(*dx.tolist(), dx.dtype)"
    return (lambda: run(source)), read


@CASE.variant("numpy")
def numpy_first_gradient(peer, d):
    return first_gradient(SimpleNamespace(name="numpy"), d)


def read(printed: str) -> np.ndarray:
    *numbers, dtype = printed.split()
    return np.array(numbers, dtype)


IMPORT = Gauge(
    name="import_time",
    title="`import` of the library once NumPy is imported",
    unit="ms",
    params={"tries": 7},
    small={"tries": 1},
    method="median over fresh processes",
)


@IMPORT.reading("gpugrad", "torch", "jax", "autograd", "mygrad", "pytensor")
def import_time(peer, p):
    source = f"""
import time, numpy
start = time.perf_counter()
import {peer.library}
print(1e3 * (time.perf_counter() - start))"""
    return float(np.median([float(run(source)) for _ in range(p.tries)]))
