"""What a launch did, counted the way a profiler counts it."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Counters:
    """Totals of one launch, over all its blocks.

    instructions         executed thread instructions by class: "float32", "integer", "global load", ...
    warp_instructions    the same for whole warps, whatever their number of active lanes
    global_requests      warp-level loads, stores and atomics of global memory
    global_sectors       32-byte sectors that those asked for
    sectors_needed       sectors that would hold the distinct bytes, perfectly packed, request by request
    bytes_read           bytes that threads loaded from global memory, repeats counted; bytes_written alike
    unique_bytes_read    distinct bytes of global memory loaded; unique_bytes_written alike
    shared_requests      warp-level accesses of shared memory
    bank_conflicts       extra passes that shared accesses needed because lanes hit one bank in different words
    barriers             block-wide or named barriers completed, counted per block
    branches             warp-level conditional branches; divergent_branches those whose lanes disagree
    atomics              thread-level atomic operations
    local_bytes          bytes that threads moved to and from local memory
    """

    kernel: str = ""
    blocks: int = 0
    threads: int = 0
    instructions: Counter = field(default_factory=Counter)
    warp_instructions: Counter = field(default_factory=Counter)
    global_requests: int = 0
    global_sectors: int = 0
    sectors_needed: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    unique_bytes_read: int = 0
    unique_bytes_written: int = 0
    shared_requests: int = 0
    bank_conflicts: int = 0
    barriers: int = 0
    branches: int = 0
    divergent_branches: int = 0
    atomics: int = 0
    local_bytes: int = 0
    printed: list = field(default_factory=list)

    @property
    def sector_efficiency(self):
        """sectors_needed / global_sectors; 1.0 when every sector asked for was needed."""
        return self.sectors_needed / self.global_sectors if self.global_sectors else 1.0

    def __str__(self):
        rows = [f"{self.kernel}: {self.blocks} blocks, {self.threads} threads (simulated)"]
        for name, value in vars(self).items():
            if isinstance(value, int) and name not in ("blocks", "threads"):
                rows.append(f"  {name:<22}{value:>16,}")
        rows += [f"  {name:<22}{value:>16,} thread instructions" for name, value in self.instructions.most_common()]
        return "\n".join(rows)


@dataclass(frozen=True)
class Checks:
    """What a launch checks and counts. Bounds and alignment are always checked.

    uninitialised  reads of bytes that nobody wrote: global memory from `empty`, shared memory, local memory
    races          shared-memory accesses of different warps with no barrier between them
    hazards        global accesses of any two threads, and shared accesses of lanes of one warp, that nothing orders; a launch
                   takes two to four times as long with it
    division       integers divided by zero
    counters       sectors, bank conflicts and unique bytes (instruction counts cost nothing and are always there)
    early_exit     let threads that have returned be absent from a barrier, as hardware does since Volta
    exact          leave the .approx functions as accurate as NumPy, instead of as inaccurate as NVIDIA documents
    seed           the order of colliding atomics
    step_limit     basic blocks a batch may execute before Timeout
    """

    uninitialised: bool = True
    races: bool = True
    hazards: bool = False
    division: bool = True
    counters: bool = True
    early_exit: bool = False
    exact: bool = False
    seed: int = 0
    step_limit: int = 2_000_000
