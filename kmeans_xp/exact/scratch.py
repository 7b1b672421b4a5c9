"""Memory that is used again: fresh memory costs more than the arithmetic done in it."""

from __future__ import annotations

import math
import threading

import numpy as np

__all__ = ["scratch"]

# Shapes to remember for each use.
_MOST_VIEWS = 16

_local = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """Array of this thread with arbitrary contents; the next call with this name hands it out
    again.
    """
    memory, views = _local.__dict__.setdefault(name, (np.empty(0, dtype=np.uint8), {}))
    view: np.ndarray | None = views.get((shape, dtype))
    if view is None:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if memory.size < size or len(views) > _MOST_VIEWS:
            memory, views = np.empty(max(size, memory.size), dtype=np.uint8), {}
            setattr(_local, name, (memory, views))
        view = views[shape, dtype] = memory[:size].view(dtype).reshape(shape)
    return view
