"""Streams, events, and the capture of a stream's work into a graph, with CUDA's rules about what a capture forbids.

All work is done at once, so streams order nothing; but what is enqueued on a captured stream is kept, not run, until its graph is
launched. The current stream is a thread's, one per device. Facts from CuPy 14.2: the mode is relaxed unless one is named, and
cudaMalloc is then allowed; cuBLAS, cuSOLVER and cuRAND are refused; so is every copy between host and device.
"""
from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from . import log
from .device import CAPTURES, CUDARuntimeError, _local, current

GLOBAL, THREAD_LOCAL, RELAXED = 0, 1, 2
ERRORS = {
    "cudaErrorIllegalState": "the operation cannot be performed in the present state",
    "cudaErrorStreamCaptureUnsupported": "operation not permitted when stream is capturing",
    "cudaErrorStreamCaptureInvalidated": "operation failed due to a previous error during capture",
    "cudaErrorStreamCaptureMerge": "operation would result in a merge of separate capture sequences",
    "cudaErrorStreamCaptureUnmatched": "capture was not ended in the same stream as it began",
    "cudaErrorStreamCaptureUnjoined": "capturing stream has unjoined work",
    "cudaErrorStreamCaptureIsolation": "dependency created on uncaptured work in another stream",
    "cudaErrorStreamCaptureImplicit": "operation would make the legacy stream depend on a capturing blocking stream",
    "cudaErrorCapturedEvent": "operation not permitted on an event last recorded in a capturing stream",
}


def error(name):
    return CUDARuntimeError(f"{name}: {ERRORS[name]}")


@dataclass
class Node:
    """One piece of work of a graph: `work()` does it; `tenancies` are the blocks of memory whose addresses it knows."""

    launch: log.Launch
    work: Callable[[], Any]
    tenancies: tuple = ()


@dataclass
class Capture:
    """What a stream that is captured, and the streams that joined it, were given so far. `own`: blocks handed out meanwhile."""

    origin: Stream
    mode: int
    nodes: list[Node] = field(default_factory=list)
    own: set = field(default_factory=set)
    streams: list[Stream] = field(default_factory=list)
    unjoined: set = field(default_factory=set)             # pointers of forks with work that the origin does not wait for
    invalid: bool = False

    def refuse(self, name):
        """The error of a call that CUDA answers by giving the capture up."""
        self.invalid = True
        return error(name)


class Graph:
    """Captured work, to be launched as often as wanted. It holds addresses: keep the memory, by the pool that it came from."""

    nodes: tuple
    own: frozenset

    def __init__(self, *args, **kwargs):
        raise NotImplementedError("currently this class cannot be initiated by the user and must be created via stream capture")

    @classmethod
    def of(cls, capture):
        made = object.__new__(cls)
        made.nodes, made.own = tuple(capture.nodes), frozenset(capture.own)
        return made

    def launch(self, stream=None):
        """Do the captured work in its order: one launch of the host. StaleMemory before the first that meets another's memory."""
        stream = stream or get_current_stream()
        capture = stream.capture_for_work()
        note = log.Launch("graph", "graph", current(), (1, 1, 1), (1, 1, 1), sum(n.launch.bytes_read for n in self.nodes),
                          sum(n.launch.bytes_written for n in self.nodes), tuple([n.launch for n in self.nodes]))
        if capture is not None:
            capture.nodes.append(Node(note, self.run, tuple([t for n in self.nodes for t in n.tenancies])))
            return
        self.run()
        log.add(note)

    def run(self):
        for node in self.nodes:
            for tenancy in node.tenancies:
                tenancy.check(self.own, node.launch.name)
        for node in self.nodes:
            node.work()

    def upload(self, stream=None):
        """Make ready for launches: nothing to do here."""
        (stream or get_current_stream()).capture_for_work()

    def debug_dot_str(self, flags=0):
        """The graph in the DOT language, one node for each kernel, in order."""
        lines = [f'"graph_1_node_{i}" [label="{i}: {name}{f" grid {grid} block {block}" if flags else ""}"];'
                 for i, (name, grid, block) in enumerate((n.launch.name, n.launch.grid, n.launch.block) for n in self.nodes)]
        edges = [f'"graph_1_node_{i}" -> "graph_1_node_{i + 1}";' for i in range(len(self.nodes) - 1)]
        return "\n".join(["digraph dot {", *lines, *edges, "}"])


class Stream:
    """A stream of a device. As a context manager it is the current one."""

    made = 16
    null: Stream
    ptds: Stream

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        if null and ptds:
            raise ValueError("null and ptds cannot be True at the same time")
        if null or ptds:
            self.ptr, self.device_id = 2 * ptds, -1
        else:
            Stream.made += 16
            self.ptr, self.device_id = Stream.made, current()
        self.is_non_blocking, self.priority = non_blocking, priority or 0
        self.before: list[Stream] = []
        self.capture: Capture | None = None

    def __eq__(self, other):
        return isinstance(other, Stream) and self.ptr == other.ptr

    def __hash__(self):
        return self.ptr

    def __repr__(self):
        return f"<{type(self).__name__} {self.ptr} (device {self.device_id})>"

    def use(self):
        if self.device_id not in (-1, current()):
            raise RuntimeError(f"The device that the stream is created on ({self.device_id}) does not match with the current "
                               f"device ({current()})")
        _streams()[current()] = self
        return self

    def __enter__(self):
        self.before.append(get_current_stream())
        return self.use()

    def __exit__(self, *exc):
        before = self.before.pop()
        _streams()[self.device_id if self.device_id >= 0 else current()] = before

    def synchronize(self):
        if self.capture is not None:
            raise self.capture.refuse("cudaErrorStreamCaptureUnsupported")
        self.capture_for_work()
        log.waited()

    @property
    def done(self):
        """CuPy compares the status with success: to ask a captured stream is False, and ends its capture without a word."""
        if self.capture is not None:
            self.capture.invalid = True
            return False
        return True

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event):
        """Later work of this stream is after the event: one of a capture brings this stream into it."""
        theirs = event.capture
        if theirs is None or theirs.origin.capture is not theirs:
            if self.capture is not None and event.time is not None:
                raise self.capture.refuse("cudaErrorStreamCaptureIsolation")
            return
        if self.capture is None:
            self.capture = theirs
            theirs.streams.append(self)
            theirs.unjoined.add(self.ptr)
        elif self.capture is not theirs:
            raise self.capture.refuse("cudaErrorStreamCaptureMerge")
        elif self.ptr != event.stream_ptr:
            theirs.unjoined.discard(event.stream_ptr)

    def launch_host_func(self, callback, arg):
        """callback(arg) when all queued work is done."""
        note = log.Launch("host", "host", current(), (1, 1, 1), (1, 1, 1), 0, 0)
        if self.capture is None:
            callback(arg)
        else:
            self.capture.nodes.append(Node(note, lambda: callback(arg)))

    # capture --------------------------------------------------------------------------------------------------------------

    def begin_capture(self, mode=None):
        """From now on keep work that is enqueued here instead of doing it. mode: runtime.streamCaptureModeRelaxed by default."""
        if self.ptr in (0, 1):
            raise RuntimeError("cannot capture on the default (legacy) stream")
        if self.capture is not None:
            raise error("cudaErrorIllegalState")
        self.capture = Capture(self, RELAXED if mode is None else mode, streams=[self])
        CAPTURES.append(self.capture)

    def end_capture(self):
        """The Graph of what was enqueued since begin_capture. What went wrong meanwhile is raised, and the capture is over."""
        capture = self.capture
        if capture is None:
            raise error("cudaErrorIllegalState")
        if capture.origin is not self:
            raise capture.refuse("cudaErrorStreamCaptureUnmatched")
        CAPTURES[:] = [c for c in CAPTURES if c is not capture]
        for stream in capture.streams:
            stream.capture = None
        if capture.invalid:
            raise error("cudaErrorStreamCaptureInvalidated")
        if capture.unjoined:
            raise error("cudaErrorStreamCaptureUnjoined")
        return Graph.of(capture)

    def is_capturing(self):
        if self.ptr == 0:
            self.capture_for_work()
        if self.capture is not None and self.capture.invalid:
            raise RuntimeError("the stream was capturing, but an error has invalidated the capture sequence")
        return self.capture is not None

    def capture_for_work(self):
        """The Capture that work enqueued here belongs to, or None where it is to be done at once."""
        if self.ptr == 0 and CAPTURES:
            for capture in CAPTURES:
                if capture.origin.device_id == current() and not capture.origin.is_non_blocking:
                    raise capture.refuse("cudaErrorStreamCaptureImplicit")
        capture = self.capture
        if capture is not None:
            if capture.invalid:
                raise error("cudaErrorStreamCaptureInvalidated")
            if capture.origin is not self:
                capture.unjoined.add(self.ptr)
        return capture


Stream.null, Stream.ptds = Stream(null=True), Stream(ptds=True)


def _streams() -> dict[int, Stream]:
    """This thread's current stream on each device where it is not the null stream."""
    try:
        return _local.streams
    except AttributeError:
        _local.streams = {}
        return _local.streams


def get_current_stream(device_id=-1):
    return _streams().get(current() if device_id in (-1, None) else device_id, Stream.null)


class Event:
    """A moment on the host's clock, since work is done at once; in a capture, a place in it."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        if interprocess and not disable_timing:
            raise ValueError("Timing must be disabled for interprocess events")
        self.time: float | None = None
        self.capture: Capture | None = None
        self.stream_ptr = 0

    def record(self, stream=None):
        stream = stream or get_current_stream()
        self.capture, self.stream_ptr = stream.capture_for_work(), stream.ptr
        self.time = None if self.capture else time.perf_counter()

    def synchronize(self):
        self.refuse_captured()
        log.waited()

    @property
    def done(self):
        return self.capture is None

    def refuse_captured(self):
        if self.capture is not None:
            raise self.capture.refuse("cudaErrorCapturedEvent")


def get_elapsed_time(start_event, end_event):
    """Milliseconds of the host between two events: how long the simulation took, not what a GPU would take."""
    start_event.refuse_captured()
    end_event.refuse_captured()
    return 1e3 * (end_event.time - start_event.time)


# what a capture refuses ---------------------------------------------------------------------------------------------------------

TRANSFERS = {"to_host": "D2H", "to_device": "H2D"}


def copied(where):
    """Count a copy between host and device, for which the host waits; refused where the current stream is captured."""
    if get_current_stream().capture_for_work() is not None:
        raise RuntimeError(f"the current stream is capturing, so {TRANSFERS[where]} transfers are disallowed")
    log.copied(where)


def waited():
    """Count a wait of the host for the device inside a function."""
    if get_current_stream().capture_for_work() is not None:
        raise RuntimeError("the current stream is capturing, so synchronous API calls are disallowed")
    log.waited()


def library_called(name):
    """CuPy's bindings of cuBLAS, cuSOLVER, cuRAND and cuSPARSE refuse a stream that is captured."""
    if get_current_stream().capture_for_work() is not None:
        raise NotImplementedError(f"calling {name} API during stream capture is currently unsupported")
