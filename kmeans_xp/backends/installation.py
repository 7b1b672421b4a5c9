"""What this machine would compute with, in words."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from kmeans_xp.backends import forced_generic
from kmeans_xp.backends.cpu import kernels_allowed
from kmeans_xp.backends.nvrtc import cache_directory
from kmeans_xp.backends.threads import thread_count

__all__ = ["installation"]


def installation() -> dict[str, str | int]:
    """Describe backend, threads, kernels and devices, for people and bug reports."""
    return {
        "backend": "generic, by KMEANS_XP_BACKEND" if forced_generic() else "auto",
        "threads": thread_count(),
        "cpu_kernels": _cpu_kernels(),
        "cuda_device": _cuda_device(),
        "cuda_kernels": _cuda_kernels(),
    }


def _cpu_kernels() -> str:
    if find_spec("numba") is None:
        return "NumPy; numba is not installed"
    if not kernels_allowed():
        return "NumPy, by KMEANS_XP_NUMBA=0"
    cached = any((Path(__file__).parent / "__pycache__").glob("numba_kernels.*.nbc"))
    return f"numba, {'compiled and cached' if cached else 'compiled at first use'}"


def _cuda_device() -> str:
    if find_spec("cupy") is None:
        return "none; CuPy is not installed"
    import cupy

    if not cupy.cuda.is_available():
        return "none found by CuPy"
    found = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
    name = found["name"].decode()
    return f"{name}, compute capability {found['major']}.{found['minor']}"


def _cuda_kernels() -> str:
    folder = cache_directory()
    count = len(list(folder.glob("*.cubin"))) if folder.is_dir() else 0
    return f"{count} compiled in {folder}" if count else "compiled at first use"
