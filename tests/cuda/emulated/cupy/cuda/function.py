"""Modules and kernels: launches are checked, put off, and run one at a time on the host."""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import tempfile
import threading
import weakref
from pathlib import Path

import numpy as np

from . import nvrtc
from .memory import PinnedMemory, pinned_at, violations
from .stream import get_current_stream

functions: weakref.WeakValueDictionary[int, Function] = weakref.WeakValueDictionary()
_numbers = itertools.count(1)
_machine_lock = threading.Lock()
_launches = itertools.count()


class _Index(ctypes.Structure):
    _fields_ = [(axis, ctypes.c_uint) for axis in "xyz"]


def _loaded(data):
    """The library with these bytes. Its file may go once it is loaded."""
    handle, name = tempfile.mkstemp(suffix=".so")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        return ctypes.CDLL(name, ctypes.RTLD_GLOBAL if data is machine_bytes() else 0)
    finally:
        os.unlink(name)


@functools.cache
def machine_bytes():
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "machine.so")
        source = str(nvrtc.HOST / "machine.cpp")
        log = nvrtc.build(("-shared", *nvrtc.FLAGS, "-O3", *nvrtc.QUIET, source), out)
        if not out.exists():
            raise RuntimeError(log)
        return out.read_bytes()


@functools.cache
def _machine():
    library = _loaded(machine_bytes())
    library.machine_launch.restype = ctypes.c_char_p
    return library


class Module:
    """`cupy.cuda.function.Module`."""

    def load(self, cubin):
        _machine()
        self._library = _loaded(cubin)

    def get_function(self, name):
        return Function(self, name)


class Function:
    """A kernel. Calls check what CUDA would, and more: the kind and size of every argument."""

    def __init__(self, module, name):
        library = module._library
        if not hasattr(library, f"machine_run_{name}"):
            raise RuntimeError(f"CUDA_ERROR_NOT_FOUND: named symbol not found: {name}")
        self.name, self._run = name, getattr(library, f"machine_run_{name}")
        types, sizes = (getattr(library, f"machine_{part}_{name}") for part in ("types", "sizes"))
        types.restype, sizes.restype = ctypes.c_char_p, ctypes.POINTER(ctypes.c_int)
        kinds, found = types().decode(), sizes()
        self._parameters = [(kind, found[i]) for i, kind in enumerate(kinds)]
        self._bound = getattr(library, f"machine_bound_{name}")()
        self.shared_limit = 48 * 1024
        self.ptr = next(_numbers)
        functions[self.ptr] = self

    def __call__(self, grid, block, args, shared_mem=0, stream=None):
        grid, block = ((*map(int, shape), 1, 1)[:3] for shape in (grid, block))
        threads = int(np.prod(block))
        if min(grid) < 1 or max(grid[1:]) > 65535 or not 0 < threads <= 1024:
            raise RuntimeError(f"CUDA_ERROR_INVALID_VALUE: {self.name}: grid {grid}, block {block}")
        if threads > self._bound:
            raise RuntimeError(
                f"{self.name}: {threads} threads and __launch_bounds__ {self._bound}"
            )
        if shared_mem > self.shared_limit:
            raise RuntimeError(f"CUDA_ERROR_INVALID_VALUE: {self.name}: {shared_mem} bytes shared")
        if len(args) != len(self._parameters):
            raise TypeError(f"{self.name} takes {len(self._parameters)} arguments, not {len(args)}")
        values, memories = [], []
        for i, (value, (kind, size)) in enumerate(zip(args, self._parameters, strict=True)):
            bits, memory = self._packed(i, value, kind, size)
            values.append(bits)
            if memory is not None:
                memories.append(memory)
        launch = Launch(self, (grid, block, shared_mem), values, memories)
        (get_current_stream() if stream is None else stream)._add(launch)

    def _packed(self, i, value, kind, size):
        """The bits of an argument, and the memory it points to."""
        if kind == "p" and hasattr(value, "_memory"):
            return np.uint64(value.data.ptr).tobytes(), value._memory
        wanted = {"p": "u", "i": "iu", "f": "f"}[kind]
        if not isinstance(value, np.generic) or value.dtype.kind not in wanted:
            raise TypeError(f"argument {i} of {self.name} is {value!r}, not of kind {kind}{size}")
        if value.dtype.itemsize != size:
            raise TypeError(f"argument {i} of {self.name} is {value.dtype}, not of {size} bytes")
        memory = pinned_at(int(value)) if kind == "p" and value else None
        return value.tobytes(), memory


class Launch:
    """A kernel with its arguments.

    It keeps the device memory they point to until it has run: CuPy gives that to nobody else before
    what is queued on the stream has ended. Pinned memory it does not keep.
    """

    def __init__(self, function, shape, values, memories):
        self._parts = function, shape, values
        self._memories = [m for m in memories if not isinstance(m, PinnedMemory)]
        self._pinned = [weakref.ref(m) for m in memories if isinstance(m, PinnedMemory)]

    def run(self):
        function, (grid, block, shared), values = self._parts
        if any(reference() is None for reference in self._pinned):
            violations.append(f"{function.name} is given pinned memory that is gone")
            return
        buffers = [ctypes.create_string_buffer(bits, 8) for bits in values]
        pointers = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, buffers))
        with _machine_lock:
            error = _machine().machine_launch(
                function._run, pointers, _Index(*grid), _Index(*block), shared, next(_launches) % 2
            )
        if error:
            violations.append(f"{function.name}: {error.decode()}")
            raise RuntimeError(violations[-1])
        for memory in self._memories:
            memory.check()

    def weak(self):
        return _Weak(self._parts, [weakref.ref(m) for m in self._memories], self._pinned)


class _Weak:
    """A launch of a graph, which keeps no memory."""

    def __init__(self, parts, references, pinned):
        self._parts, self._references, self._pinned = parts, references, pinned

    def strong(self):
        memories = [reference() for reference in self._references]
        if any(memory is None for memory in memories):
            raise RuntimeError(f"a graph launches {self._parts[0].name} with memory that is gone")
        launch = Launch(*self._parts, memories)
        launch._pinned = self._pinned
        return launch
