"""gpugrad itself, eager."""

import sys
from typing import Any

import numpy as np

from gpugrad.bench.clock import EventTimer
from gpugrad.bench.peers import Peer


class GpugradPeer(Peer):
    library = "gpugrad"

    def array(self, x: np.ndarray) -> Any:
        return x if self.device == "cpu" else self.module.tensor(x, device=self.device).data

    def leaf(self, x: np.ndarray) -> Any:
        return self.module.tensor(x, requires_grad=True, device=self.device)

    def to_numpy(self, leaf: Any) -> np.ndarray:
        return self.module.asarray(leaf).detach().numpy()

    def timer(self) -> Any:
        if not self.device.startswith("cuda"):
            return super().timer()
        cuda = sys.modules["cupy"].cuda  # gpugrad has imported it for this device
        return EventTimer(cuda.Event, cuda.get_elapsed_time)


adapter = GpugradPeer
