"""MyGrad: tensors over NumPy, reverse mode."""

from typing import Any

import numpy as np

from gpugrad.bench.peers import Peer


class MygradPeer(Peer):
    library = "mygrad"
    keeps_dtype = False  # a Python number beside a float32 tensor makes float64

    def prepare(self) -> None:
        self.module.turn_memory_guarding_off()  # its own advice for speed

    def leaf(self, x: np.ndarray) -> Any:
        return self.module.tensor(x, constant=False)

    def to_numpy(self, leaf: Any) -> np.ndarray:
        return np.asarray(leaf.data if isinstance(leaf, self.module.Tensor) else leaf)


adapter = MygradPeer
