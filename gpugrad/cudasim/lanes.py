"""The threads that execute one instruction together, and how they fall into warps and blocks.

Threads of a batch of blocks are numbered through: block after block, warp after warp. `Lanes` is either all of them
(index None) or an ascending index array. Values of a register are either one NumPy scalar, which all lanes share, or one
element per lane; a register file keeps whole-batch arrays, so a part of the lanes reads and writes through the index.
"""

from functools import cached_property

import numpy as np

WARP = 32


class Lanes:
    def __init__(self, batch, index=None):
        self.batch, self.index = batch, index
        self.count = batch.lane_count if index is None else index.size

    def read(self, register):
        value = self.batch.registers[register]
        return value if self.index is None or value.ndim == 0 else value[self.index]

    def write(self, register, value):
        """Store a value. Registers never share an array with anything, so a part of the lanes is written in place."""
        registers = self.batch.registers
        if self.index is None:
            registers[register] = value
            return
        if registers[register].ndim == 0:
            registers[register] = np.full(self.batch.lane_count, registers[register])
        registers[register][self.index] = value

    def spread(self, value):
        """One element per lane."""
        return np.full(self.count, value) if value.ndim == 0 else value

    def of_batch(self, whole):
        return whole if self.index is None else whole[self.index]

    def subset(self, selector):
        """The lanes at these positions (a boolean mask or positions in ascending order)."""
        chosen = np.flatnonzero(selector) if selector.dtype == np.bool_ else selector
        return Lanes(self.batch, chosen if self.index is None else self.index[chosen])

    @cached_property
    def block(self):
        """The block within the batch, per lane."""
        return self.of_batch(self.batch.block_of_lane)

    @cached_property
    def numbers(self):
        """The number of the thread within the batch, per lane."""
        return self.batch.all_numbers if self.index is None else self.index

    @cached_property
    def slots(self):
        """The number of the thread within the batch if all warps were whole, per lane."""
        return self.of_batch(self.batch.warp_slot)

    @cached_property
    def lane(self):
        """The place within the warp, per lane: [0, 32)."""
        return self.of_batch(self.batch.place_in_warp)

    @cached_property
    def warp_in_block(self):
        return self.of_batch(self.batch.warp_in_block)

    @cached_property
    def warp_bit(self):
        """1 << warp_in_block, per lane: the warp in the sets of the race detector."""
        return self.of_batch(self.batch.warp_bit)

    @cached_property
    def whole_warps(self):
        """Whether every warp has all of its 32 lanes here, in order, so that arrays can be reshaped to (warps, 32)."""
        return self.batch.threads % WARP == 0 and self.index is None

    @cached_property
    def firsts(self):
        """The position of the first active lane of each warp that has any."""
        warp = self.of_batch(self.batch.warp_of_lane)
        if warp.size == 0:
            return np.empty(0, np.intp)
        return np.concatenate([[0], np.flatnonzero(warp[1:] != warp[:-1]) + 1])

    @cached_property
    def warps(self):
        """How many warps have a lane here."""
        return self.count // WARP if self.whole_warps else self.firsts.size

    @cached_property
    def rank(self):
        """The ordinal of each lane's warp among the warps that have a lane here."""
        return np.repeat(np.arange(self.warps), np.diff(self.firsts, append=self.count))

    def dense(self, values):
        """Values as (warps, 32); the places of absent lanes hold the value of their warp's first active lane."""
        if self.whole_warps:
            return values.reshape(-1, WARP)
        out = np.repeat(values[self.firsts], WARP).reshape(-1, WARP)
        out[self.rank, self.lane] = values
        return out

    def mask_of(self, flags):
        """A 32-bit mask per warp of the lanes whose flag is set."""
        bits = np.where(flags, self.lane_bit, np.uint32(0))
        if self.whole_warps:
            return np.bitwise_or.reduce(bits.reshape(-1, WARP), axis=1)
        return np.bitwise_or.reduceat(bits, self.firsts)

    @cached_property
    def lane_bit(self):
        return np.uint32(1) << self.lane.astype(np.uint32)

    @cached_property
    def active(self):
        """A 32-bit mask per warp of the lanes that are here."""
        return self.mask_of(np.True_)

    def per_lane(self, per_warp):
        """A value of each warp, handed to each of its lanes."""
        return np.repeat(per_warp, WARP) if self.whole_warps else per_warp[self.rank]

    def coordinates(self, position):
        """(block, thread) of one lane as three coordinates each."""
        return self.batch.coordinates(position if self.index is None else int(self.index[position]))
