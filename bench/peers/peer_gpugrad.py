"""gpugrad itself: eager, compiled to NumPy (`gpugrad-flat`), and compiled with the extra `jit` (`gpugrad-compile`)."""

import sys
from typing import Any

import numpy as np

from gpugrad.bench.clock import EventTimer
from gpugrad.bench.peers import Peer


class GpugradPeer(Peer):
    library = "gpugrad"

    # A Tensor that shares the array, as the other libraries get theirs: of a bare array that backward needs, the engine takes a
    # copy each step.
    def array(self, x: np.ndarray) -> Any:
        return self.module.asarray(x, device=self.device)

    def leaf(self, x: np.ndarray) -> Any:
        leaf = self.array(x)
        leaf.requires_grad = True
        return leaf

    def to_numpy(self, leaf: Any) -> np.ndarray:
        return self.module.asarray(leaf).detach().numpy()

    def compile(self, f: Any) -> Any:
        if self.name == "gpugrad":
            return f
        return self.module.compile(f, backend="numpy" if self.name == "gpugrad-flat" else "auto")

    def timer(self) -> Any:
        if not self.device.startswith("cuda"):
            return super().timer()
        cuda = sys.modules["cupy"].cuda  # gpugrad has imported it for this device
        return EventTimer(cuda.Event, cuda.get_elapsed_time)


adapter = GpugradPeer
