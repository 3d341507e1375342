"""`cupy.cuda`: the names that CuPy has there."""

from types import SimpleNamespace

from . import streams
from .blocks import BaseMemory, Memory, MemoryPointer, UnownedMemory, allocated
from .device import (
    COUNT,
    TOTAL_BYTES,
    CompileException,
    CUDADriverError,
    CUDARuntimeError,
    Device,
    current,
    properties,
    synchronize,
    use,
)
from .pool import MemoryPool, OutOfMemoryError, PooledMemory, alloc, get_allocator, set_allocator, using_allocator
from .streams import Event, Graph, Stream, get_current_stream, get_elapsed_time

__all__ = ["BaseMemory", "Device", "Event", "Graph", "Memory", "MemoryPointer", "MemoryPool", "Stream", "UnownedMemory", "alloc",
           "compiler", "driver", "get_allocator", "get_current_stream", "get_elapsed_time", "graph", "is_available", "memory",
           "runtime", "set_allocator", "stream", "using_allocator"]

compiler = SimpleNamespace(CompileException=CompileException)
driver = SimpleNamespace(CUDADriverError=CUDADriverError)
graph = SimpleNamespace(Graph=Graph)
memory = SimpleNamespace(BaseMemory=BaseMemory, Memory=Memory, MemoryPointer=MemoryPointer, MemoryPool=MemoryPool,
                         OutOfMemoryError=OutOfMemoryError, PooledMemory=PooledMemory, UnownedMemory=UnownedMemory,
                         alloc=alloc, get_allocator=get_allocator, set_allocator=set_allocator, using_allocator=using_allocator)
stream = SimpleNamespace(Event=Event, Stream=Stream, get_current_stream=get_current_stream, get_elapsed_time=get_elapsed_time)
runtime = SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError, deviceSynchronize=lambda: synchronize(current()),
    driverGetVersion=lambda: 13000, getDevice=current, getDeviceCount=lambda: COUNT, getDeviceProperties=properties, is_hip=False,
    memGetInfo=lambda: (TOTAL_BYTES - allocated(current()), TOTAL_BYTES), runtimeGetVersion=lambda: 13000, setDevice=use,
    streamCaptureModeGlobal=streams.GLOBAL, streamCaptureModeRelaxed=streams.RELAXED,
    streamCaptureModeThreadLocal=streams.THREAD_LOCAL)


def is_available():
    return True


def __getattr__(name):
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}: the stand-in for CuPy leaves it out", name=name)
