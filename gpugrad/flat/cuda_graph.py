"""One CUDA graph for a list of launches: captured once, replayed, captured anew when memory that it knows has moved.

The launches run on a stream of their own, and take their memory from a pool of their own. The first run does the work, and so
compiles every kernel, asks every heuristic and gives the pool its blocks; the second only records. Nobody else allocates from
the pool, so a replay is safe whatever was allocated since.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy

from gpugrad.arrays import number_on
from gpugrad.kernels.record import Launch, open_logs, recording

#: (array module, device) -> the stream on which launches are recorded, and the stream that replayed last. Scratch memory that
#: kernels keep for a stream is the recording one's, so replays follow one another.
STREAMS: dict[tuple[Any, int], list] = {}


class Replay:
    """perform(arrays) -> (arrays to be returned, arrays written in place), run as a graph.

    fixed    places among the arrays that are written in place: where such an array has moved, a new graph is captured
    after    what is done once a graph is captured: uploads of what its launches read
    reuse    whether the results of a replay may lie where those before lay
    refused  why there is no graph: what the capture did not allow; None where there is one, or none was tried
    captures how many graphs were made
    launches what the graph launches, for the logs; CuPy's own kernels are not among them
    """

    def __init__(self, xp: Any, device: int, perform: Callable[[list], list], fixed: set[int], after: list[Callable[[], None]],
                 reuse: bool):
        self.xp, self.device, self.perform, self.fixed, self.after, self.reuse = xp, device, perform, fixed, after, reuse
        self.pool = xp.cuda.MemoryPool()
        self.graph: Any = None
        self.launches: list[Launch] = []
        self.refused: str | None = None
        self.captures = 0
        self.buffers: dict[int, Any] = {}              # place -> memory that an array which moves is copied to
        self.numbers: dict[int, tuple[bytes, Any]] = {}                # place -> what was uploaded, and where it is
        self.known: list[tuple] = []                   # addresses and strides that the graph has
        self.held: list = []                           # the arrays there, so that nobody else gets their memory
        self.results: list = []
        self.results_kept: list[tuple[Any, bool]] = []         # and whether they stay where they are

    def __call__(self, inputs: list) -> list:
        if self.xp.cuda.runtime.getDevice() == self.device:
            return self.run(inputs)
        with self.xp.cuda.Device(self.device):
            return self.run(inputs)

    def run(self, inputs: list) -> list:
        arrays = [self.uploaded(i, x) if isinstance(x, numpy.ndarray) else x for i, x in enumerate(inputs)]
        moved = self.moved(arrays)
        for i, buffer in self.buffers.items():
            buffer[...] = arrays[i]
            arrays[i] = buffer
        if self.graph is None or moved:
            return self.first(arrays)
        self.in_turn()
        self.graph.launch()
        for log in open_logs():
            log.launches += self.launches
        return self.results if self.reuse else [y if held else y.copy() for y, held in self.results_kept]

    # what goes in ----------------------------------------------------------------------------------------------------------

    def uploaded(self, place: int, x: numpy.ndarray) -> Any:
        """A host's array on the device, where it is written anew only when it has changed."""
        data = x.tobytes()
        before, array = self.numbers.get(place, (None, None))
        if array is None:
            array = self.xp.asarray(x) if x.ndim else number_on(self.xp, x)
        elif before != data:
            array.set(x) if x.ndim else self.xp.copyto(array, x)           # `fill` makes 0.0 of -0.0
        self.numbers[place] = data, array
        return array

    def moved(self, arrays: list) -> bool:
        """Whether an array lies where the graph does not look for it. One that the program only reads gets a buffer then."""
        found = False
        for i, (x, known) in enumerate(zip(arrays, self.known)):
            if i not in self.buffers and (x.data.ptr, x.strides) != known:
                found = True
                if i not in self.fixed:
                    self.buffers[i] = self.xp.empty(x.shape, x.dtype)
        return found

    # running ---------------------------------------------------------------------------------------------------------------

    def streams(self) -> list:
        key = self.xp, self.device
        if key not in STREAMS:
            STREAMS[key] = [self.xp.cuda.Stream(non_blocking=True), None]
        return STREAMS[key]

    def in_turn(self) -> None:
        """Let the current stream wait for the one that ran a program before it."""
        pair, now = self.streams(), self.xp.cuda.get_current_stream()
        if pair[1] is not None and pair[1].ptr != now.ptr:
            now.wait_event(pair[1].record())
        pair[1] = now

    def first(self, arrays: list) -> list:
        """Do the work launch by launch, and record it for the next time."""
        self.graph = None
        self.results = self.held = []
        self.in_turn()
        own, now = self.streams()[0], self.xp.cuda.get_current_stream()
        own.wait_event(now.record())
        with self.xp.cuda.using_allocator(self.pool.malloc), own:
            made = self.perform(arrays)
        now.wait_event(own.record())
        results = [y if held else y.copy() for y, held in made]
        del made
        if self.refused is None:
            self.capture(own, arrays)
        return results

    def capture(self, stream: Any, arrays: list) -> None:
        with self.xp.cuda.using_allocator(self.pool.malloc), stream:
            stream.begin_capture()
            try:
                with recording() as log:
                    made = self.perform(arrays)
            except Exception as error:
                self.refused = f"{type(error).__name__}: {error}"
            try:
                graph = stream.end_capture()
            except Exception as error:
                self.refused = self.refused or f"{type(error).__name__}: {error}"
        if self.refused is not None:
            return
        self.graph, self.captures, self.launches = graph, self.captures + 1, log.launches
        self.known = [(x.data.ptr, x.strides) for x in arrays]
        self.held, self.results_kept = arrays, made
        self.results = [y for y, _ in made]
        for step in self.after:
            step()
