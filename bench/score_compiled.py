"""What a compiled training step asks of the device when it is replayed, beside the eager one."""

from dataclasses import dataclass
from typing import Any

import gpugrad as gg
from gpugrad.profiling import Profile, profile


@dataclass
class Replayed:
    """One replay of a workload's compiled step: loss and gradients, then the optimiser.

    profile   the launches inside, and their bytes
    host      launches that the host makes for them: one where all are in a graph
    mallocs   allocations that no pool could serve; None where the device does not tell
    refused   why there is no graph
    error     of the output against the eager step's, relative to the largest, after three steps
    """

    work: Any
    profile: Profile
    host: int
    mallocs: int | None
    refused: str | None
    error: float

    @property
    def ratio(self) -> float:
        return self.profile.bytes / self.work.least_bytes


def replay(work: Any, device: str) -> Replayed:
    """Compile the step, run it, and look at a replay, whose results may lie where those of the run before lay."""
    model, eager = work.build(gg, device), work.build(gg, device)
    step = gg.compile(forgetting(model), reuse_outputs=True)
    step()
    simulated = gg.device(device).xp if device.startswith("sim") else None
    with profile() as found:
        if simulated is None:
            output, host, mallocs = step(), 1, None
        else:
            with simulated.recording() as log:
                output = step()
            host, mallocs = len(log.launches), log.mallocs
    output, plain = step(), forgetting(eager)
    for _ in range(3):
        wanted = plain()
    error = float(abs(output.data - wanted.data).max() / abs(wanted.data).max())
    return Replayed(work, found, host, mallocs, step.program()._run.refused, error)


def forgetting(model: Any) -> Any:
    """The model's step, after which no gradient is kept: so none is a result."""

    def step():
        output = model.step()
        for leaf in model.leaves:
            leaf.grad = None
        return output

    return step
