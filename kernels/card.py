"""The machines that times are modelled for, and the rates that the models take them to have. The one place of these numbers."""
from __future__ import annotations

from typing import NamedTuple


class Card(NamedTuple):
    """A machine as a model sees it.

    name       what a table calls it
    bandwidth  bytes a second to and from its memory
    float32    multiplications and additions a second
    start_us   from Python's call to the first piece of work: a CUDA graph's launch, a program's entry
    step_us    what each piece of work costs beside its arithmetic: the gap between queued kernels, a call of NumPy or of a loop
    source     where the rates come from
    """

    name: str
    bandwidth: float
    float32: float
    start_us: float
    step_us: float
    source: str

    def work_us(self, bytes: float, flops: float) -> float:
        """The larger of the time that the bytes take and the time that the arithmetic takes, in microseconds."""
        return 1e6 * max(bytes / self.bandwidth, flops / self.float32)

    @property
    def rates(self) -> str:
        return f"{self.source} {self.bandwidth / 1e9:,.4g} GB/s, {self.float32 / 1e12:.3g} TFLOP/s"


H100 = Card("H100 SXM", 3.35e12, 67e12, 4.0, 1.0, "advertised")
TWO_CORES = Card("2 CPU cores", 20e9, 150e9, 2.0, 1.0, "assumed")
