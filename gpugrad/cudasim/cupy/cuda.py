"""`cupy.cuda`: the names that CuPy has there."""

from types import SimpleNamespace

from .device import (
    CompileException,
    CUDADriverError,
    Device,
    Event,
    Stream,
    get_current_stream,
    get_elapsed_time,
    runtime,
)

__all__ = ["Device", "Event", "Stream", "compiler", "driver", "get_current_stream", "get_elapsed_time", "is_available", "runtime"]

compiler = SimpleNamespace(CompileException=CompileException)
driver = SimpleNamespace(CUDADriverError=CUDADriverError)


def is_available():
    return True
