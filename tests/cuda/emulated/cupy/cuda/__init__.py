"""One device, of compute capability 9.0 with two multiprocessors, that is the host."""

from __future__ import annotations

from . import device, driver, function, memory, nvrtc, runtime, stream
from .device import Device
from .memory import MemoryPointer, alloc_pinned_memory
from .stream import Event, Graph, Stream, get_current_stream

__all__ = [
    "Device",
    "Event",
    "Graph",
    "MemoryPointer",
    "Stream",
    "alloc_pinned_memory",
    "device",
    "driver",
    "function",
    "get_current_stream",
    "is_available",
    "memory",
    "nvrtc",
    "runtime",
    "stream",
]


def is_available():
    return True
