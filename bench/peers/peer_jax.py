"""JAX through jit: its eager mode is not what anyone runs."""

from typing import Any

import numpy as np

from gpugrad.bench.peers import Peer


class JaxPeer(Peer):
    library = "jax"

    def prepare(self) -> None:
        self.module.config.update("jax_enable_x64", True)  # else the float64 case would be computed in float32
        self.wait = self.module.block_until_ready

    def array(self, x: np.ndarray) -> Any:
        return self.module.numpy.asarray(x)

    def compile(self, f: Any) -> Any:
        return self.module.jit(f)


adapter = JaxPeer
