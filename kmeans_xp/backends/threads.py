"""How many threads there are, and who may use them."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from typing import Any, TypeVar

__all__ = ["BlasHeld", "installed", "map_alone", "one_thread", "thread_count"]

T = TypeVar("T")
R = TypeVar("R")

_alone = threading.local()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Backends made here, in this thread, use no other: the caller has threads of its own."""
    before = getattr(_alone, "on", False)
    _alone.on = True
    try:
        yield
    finally:
        _alone.on = before


def thread_count() -> int:
    """Return KMEANS_XP_NUM_THREADS, or the number of CPUs this process may use."""
    if getattr(_alone, "on", False):
        return 1
    chosen = os.environ.get("KMEANS_XP_NUM_THREADS")
    if chosen is not None:
        if not chosen.isdecimal() or int(chosen) < 1:
            raise ValueError(f"KMEANS_XP_NUM_THREADS must be a positive integer, got {chosen!r}")
        return int(chosen)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every platform
        return os.cpu_count() or 1


def map_alone(function: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Apply `function` to every item in threads, in which what it computes uses one thread."""
    threads = min(thread_count(), len(items)) if installed("threadpoolctl") else 1
    if threads < 2:
        yield from map(function, items)
        return

    def alone(item: T) -> R:
        with one_thread():
            return function(item)

    with ThreadPoolExecutor(threads, "kmeans_xp") as pool, BlasHeld():
        yield from pool.map(alone, items)


@functools.cache
def installed(name: str) -> bool:
    """Whether there is a module of this name."""
    return find_spec(name) is not None


class BlasHeld:
    """Holds BLAS to one thread while any fit runs; the last one to leave restores it."""

    _lock = threading.Lock()
    _count = 0
    _limits: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if BlasHeld._count == 0:
                controller = _blas_controller()
                if controller is not None:
                    BlasHeld._limits = controller.limit(limits=1, user_api="blas")
            BlasHeld._count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            BlasHeld._count -= 1
            if BlasHeld._count == 0 and BlasHeld._limits is not None:
                BlasHeld._limits.restore_original_limits()
                BlasHeld._limits = None


@functools.cache
def _blas_controller() -> Any:
    """Control of the BLAS that NumPy has loaded; looking for it takes longer than a small fit."""
    try:
        from threadpoolctl import ThreadpoolController
    except ModuleNotFoundError:
        return None
    return ThreadpoolController()
