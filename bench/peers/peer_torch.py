"""PyTorch, eager and through torch.compile."""

import os
import shutil
from typing import Any

import numpy as np

from gpugrad.bench.clock import EventTimer
from gpugrad.bench.peers import CORES, MissingPeer, Peer


class TorchPeer(Peer):
    library = "torch"

    def prepare(self) -> None:
        compiler = os.environ.get("CXX", "g++")
        if self.name == "torch-compile" and shutil.which(compiler) is None:
            raise MissingPeer(f"{self.name}: needs a C++ compiler, got none at {compiler} (install g++, or set CXX)")
        self.module.set_num_threads(CORES)
        if self.device != "cpu":
            self.wait = lambda result: self.module.cuda.synchronize()

    def timer(self) -> Any:
        if self.device == "cpu":
            return super().timer()
        event = self.module.cuda.Event
        return EventTimer(lambda: event(enable_timing=True), event.elapsed_time)

    def array(self, x: np.ndarray) -> Any:
        return self.module.from_numpy(x).to(self.device)

    def leaf(self, x: np.ndarray) -> Any:
        return self.array(x).requires_grad_()

    def to_numpy(self, leaf: Any) -> np.ndarray:
        return leaf.detach().cpu().numpy()

    def compile(self, f: Any) -> Any:
        if self.name != "torch-compile":
            return f
        self.module._dynamo.reset()  # a case must not meet the recompilation limit of the one before
        return self.module.compile(f, dynamic=False)


adapter = TorchPeer
