"""Compiles the CUDA kernels for the device at hand and keeps the result on disk.

`cupy.cuda.nvrtc` is used directly, because `RawModule` cannot name architectures such as sm_90a.
A compiled kernel (cubin) is stored under a key of its source, options, architecture and NVRTC
version, in `KMEANS_XP_CACHE_DIR` or the user's cache directory. A cache that cannot be written
costs time, never correctness.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

KERNELS = Path(__file__).parent / "kernels"
OPTIONS = ("--std=c++17", "-default-device")

_modules: dict[tuple[int, str], Any] = {}
_locks: dict[tuple[int, str], threading.Lock] = {}
_guard = threading.Lock()


class DeviceUnsupported(RuntimeError):  # noqa: N818
    """The CUDA kernels cannot serve this device or this input; the generic path can."""


def cache_directory() -> Path:
    """Return where compiled kernels are kept."""
    chosen = os.environ.get("KMEANS_XP_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "kmeans_xp"


def assemble(files: tuple[str, ...], prelude: str = "") -> str:
    """Return one translation unit: the prelude, then the named kernel files in order."""
    return prelude + "".join((KERNELS / name).read_text() for name in files)


def compile_source(source: str, defines: tuple[tuple[str, int], ...], arch: str) -> bytes:
    """Compile to a cubin for `arch` ("sm_90a"), without looking at the cache.

    Raises
    ------
    DeviceUnsupported
        If NVRTC does not know the architecture or rejects the source; the message ends with its
        log.
    """
    from cupy.cuda import nvrtc

    options = (f"--gpu-architecture={arch}", *OPTIONS, *(f"-D{k}={v}" for k, v in defines))
    program = nvrtc.createProgram(source, "kmeans_xp.cu", (), ())
    try:
        nvrtc.compileProgram(program, options)
        return bytes(nvrtc.getCUBIN(program))
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program)[-2000:]
        raise DeviceUnsupported(f"NVRTC could not compile for {arch}: {error}\n{log}") from error
    finally:
        nvrtc.destroyProgram(program)


def _key(source: str, defines: tuple[tuple[str, int], ...], arch: str) -> str:
    from cupy.cuda import nvrtc

    parts = (source, repr(defines), arch, repr(OPTIONS), repr(nvrtc.getVersion()))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _store(path: Path, data: bytes) -> None:
    """Write atomically; whoever comes second replaces the file by the same bytes."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(name, path)


def cubin(source: str, defines: tuple[tuple[str, int], ...], arch: str) -> tuple[str, bytes]:
    """Return (key, cubin), from the disk cache if it is there."""
    key = _key(source, defines, arch)
    path = cache_directory() / f"{key}.cubin"
    try:
        data = path.read_bytes()
        if data[:4] == b"\x7fELF":
            return key, data
    except OSError:
        pass
    data = compile_source(source, defines, arch)
    _store(path, data)
    return key, data


def load(source: str, defines: tuple[tuple[str, int], ...], arch: str) -> Any:
    """Return the kernels as a module of the current device, compiled and loaded at most once."""
    import cupy as cp
    from cupy.cuda.function import Module

    device = cp.cuda.Device().id
    place = (device, _key(source, defines, arch))
    with _guard:
        lock = _locks.setdefault(place, threading.Lock())
    with lock:
        module = _modules.get(place)
        if module is None:
            _, data = cubin(source, defines, arch)
            module = Module()
            module.load(data)
            with _guard:
                _modules[place] = module
    return module
