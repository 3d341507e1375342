"""Special registers: %tid.x and its kin, as functions of a batch."""

import numpy as np

SPECIALS: dict = {}


def special(name, per_lane=True):
    def register(function):
        function.per_lane = per_lane
        SPECIALS[name] = function
        return function
    return register


def uniform(name, value):
    special(name, per_lane=False)(value)


def cluster(batch, axis):
    """Blocks in a cluster along an axis."""
    return np.uint32(batch.clusters.size if axis == 0 else 1)


for _axis, _letter in enumerate("xyz"):
    special(f"tid.{_letter}")(lambda batch, k=_axis: batch.thread_index[k])
    special(f"ctaid.{_letter}")(lambda batch, k=_axis: batch.block_index[k])
    uniform(f"ntid.{_letter}", lambda batch, k=_axis: np.uint32(batch.block_shape[k]))
    uniform(f"nctaid.{_letter}", lambda batch, k=_axis: np.uint32(batch.grid_shape[k]))
    special(f"clusterid.{_letter}")(lambda batch, k=_axis: batch.block_index[k] // cluster(batch, k))
    special(f"cluster_ctaid.{_letter}")(lambda batch, k=_axis: batch.block_index[k] % cluster(batch, k))
    uniform(f"nclusterid.{_letter}", lambda batch, k=_axis: np.uint32(batch.grid_shape[k]) // cluster(batch, k))
    uniform(f"cluster_nctaid.{_letter}", lambda batch, k=_axis: cluster(batch, k))

special("cluster_ctarank")(lambda batch: batch.block_index[0] % cluster(batch, 0))
uniform("cluster_nctarank", lambda batch: cluster(batch, 0))
uniform("is_explicit_cluster", lambda batch: np.bool_("reqnctapercluster" in batch.kernel.entry.attributes))

special("laneid")(lambda batch: batch.place_in_warp)
special("warpid")(lambda batch: batch.warp_in_block)
special("lanemask_eq")(lambda batch: batch.lane_bit)
special("lanemask_lt")(lambda batch: batch.lane_bit - np.uint32(1))
special("lanemask_le")(lambda batch: batch.lane_bit | (batch.lane_bit - np.uint32(1)))
special("lanemask_gt")(lambda batch: ~(batch.lane_bit | (batch.lane_bit - np.uint32(1))))
special("lanemask_ge")(lambda batch: ~(batch.lane_bit - np.uint32(1)))

# Cooperative groups look here for the workspace of a grid-wide barrier: its size, then the barrier.
uniform("envreg1", lambda batch: np.uint32(batch.launch.workspace >> 32))
uniform("envreg2", lambda batch: np.uint32(batch.launch.workspace & 0xFFFFFFFF))

uniform("WARP_SZ", lambda batch: np.uint32(32))
uniform("nwarpid", lambda batch: np.uint32(-(-batch.threads // 32)))
uniform("smid", lambda batch: np.uint32(0))
uniform("nsmid", lambda batch: np.uint32(1))
uniform("gridid", lambda batch: np.uint64(0))
uniform("dynamic_smem_size", lambda batch: np.uint32(batch.dynamic_shared))
uniform("total_smem_size", lambda batch: np.uint32(batch.shared_variables.end))
# Time is the number of basic blocks that the batch has executed; it runs faster while everybody waits (waiting.py).
uniform("clock", lambda batch: np.uint32(batch.tick() & 0xFFFFFFFF))
uniform("clock64", lambda batch: np.uint64(batch.tick()))
uniform("clock_hi", lambda batch: np.uint32(batch.tick() >> 32))
uniform("globaltimer", lambda batch: np.uint64(batch.tick()))
uniform("globaltimer_lo", lambda batch: np.uint32(batch.tick() & 0xFFFFFFFF))
uniform("globaltimer_hi", lambda batch: np.uint32(batch.tick() >> 32))
