"""PyTensor, the successor of Theano: symbolic graphs, compiled, by default to Numba.

Not in the extra `peers`: its bounds would put an older llvmlite in the place of ours. It runs with the newer one: install it, and
what it needs beside NumPy, SciPy and Numba, without dependencies.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gpugrad.bench.peers import Peer


class PytensorPeer(Peer):
    library = "pytensor"
    install = "--no-deps pytensor cons etuples logical-unification miniKanren multipledispatch toolz"

    def prepare(self) -> None:
        import pytensor.tensor  # noqa: F401  a submodule that `import pytensor` alone does not promise

        self.module.config.floatX = "float32"  # the dtype of Python numbers beside arrays that are not wider

    def symbol(self, x: np.ndarray) -> Any:
        """A variable of this dtype and shape."""
        return self.module.tensor.tensor(dtype=x.dtype.name, shape=x.shape)

    def step(self, build: Callable[..., Any], *arrays: np.ndarray) -> Callable[[], Any]:
        """build(symbols) -> outputs, compiled, on these arrays."""
        symbols = [self.symbol(x) for x in arrays]
        run = self.module.function(symbols, build(*symbols))
        run.trust_input = True  # its own advice for speed
        return lambda: run(*arrays)


adapter = PytensorPeer
