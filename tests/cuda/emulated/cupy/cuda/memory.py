"""Device memory between guards, full of rubbish when it is fresh and when it is gone."""

from __future__ import annotations

import ctypes
import weakref

import numpy as np

from .stream import get_current_stream

GUARD, RUBBISH, GONE = 64, 0xF7, 0xF9
ALIGNMENT = 512

#: what was found where no exception could be raised; tests look that it is empty
violations: list[str] = []


class OutOfMemoryError(MemoryError):
    pass


class Pool:
    """What is taken; `total` may be set by tests."""

    total = 1 << 33

    def __init__(self):
        self._taken = 0

    def used_bytes(self):
        return self._taken

    def free_bytes(self):
        return 0

    def free_all_blocks(self):
        pass

    def get_limit(self):
        return self.total

    def set_limit(self, size=None, fraction=None):
        if fraction is not None or not size:
            raise NotImplementedError("only set_limit(size=bytes) is provided here")
        self.total = size

    def take(self, size):
        if self._taken + size > self.total:
            raise OutOfMemoryError(f"Out of memory allocating {size:,} bytes")
        self._taken += size

    def give(self, size):
        self._taken -= size


pool = Pool()


class Memory:
    """One allocation."""

    device_id = 0

    def __init__(self, size):
        pool.take(size)
        self.size = size
        whole = np.full(size + 2 * GUARD + ALIGNMENT, RUBBISH, np.uint8)
        first = -(whole.ctypes.data + GUARD) % ALIGNMENT + GUARD
        self.bytes = whole[first : first + size]
        self._guards = whole[first - GUARD : first], whole[first + size : first + size + GUARD]

    def check(self):
        """Raise, once, if something was written beside the memory."""
        if not all((guard == RUBBISH).all() for guard in self._guards):
            for guard in self._guards:
                guard[:] = RUBBISH
            raise RuntimeError("something wrote beyond the memory of an array")

    def __del__(self):
        if not hasattr(self, "_guards"):
            return
        pool.give(self.size)
        try:
            self.check()
        except RuntimeError as error:
            violations.append(str(error))
        self.bytes[:] = GONE


class MemoryPointer:
    """An address in some memory."""

    def __init__(self, mem, ptr):
        self.mem, self.ptr = mem, ptr

    def copy_from_host_async(self, mem, size, stream=None):
        _copy_later(self, mem, size, stream, to_device=True)

    def copy_to_host_async(self, mem, size, stream=None):
        _copy_later(self, mem, size, stream, to_device=False)


class _Copy:
    """A copy between pinned and device memory: it comes when its stream does it."""

    def __init__(self, to, source, size, kept):
        self._parts, self._kept = (to, source, size), kept

    def run(self):
        ctypes.memmove(*self._parts)


def _copy_later(pointer, address, size, stream, to_device):
    pinned = pinned_at(address)
    first = pointer.mem.bytes.ctypes.data
    if not first <= pointer.ptr <= pointer.ptr + size <= first + pointer.mem.size:
        raise RuntimeError("cudaErrorInvalidValue: a copy beyond the memory of an array")
    if address + size > pinned.ptr + len(pinned):
        raise RuntimeError("cudaErrorInvalidValue: a copy beyond pinned memory")
    ends = (pointer.ptr, address) if to_device else (address, pointer.ptr)
    stream = get_current_stream() if stream is None else stream
    stream._add(_Copy(*ends, size, (pinned, pointer.mem)))


class PinnedMemory(bytearray):
    """Memory of the host that kernels may write."""

    @property
    def ptr(self):
        return ctypes.addressof(ctypes.c_char.from_buffer(self))


_pinned: weakref.WeakValueDictionary[int, PinnedMemory] = weakref.WeakValueDictionary()


def alloc_pinned_memory(size):
    found = PinnedMemory(bytes([RUBBISH]) * size)
    _pinned[found.ptr] = found
    return found


def pinned_at(address):
    """The pinned memory that holds this address."""
    for first, found in list(_pinned.items()):
        if first <= address < first + len(found):
            return found
    raise ValueError(f"the device is given the address {address:#x}, where no pinned memory is")
