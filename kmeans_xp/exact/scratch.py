"""Memory that is used again: fresh memory costs more than the arithmetic done in it."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

__all__ = ["scratch"]

# Shapes to remember for each use.
_MOST_VIEWS = 16

_local = threading.local()


def scratch(name: str, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    """Array of this thread with arbitrary contents; the next call with this name hands it out
    again.
    """
    held: dict[str, tuple[np.ndarray, dict[Any, np.ndarray]]] = _local.__dict__
    if name not in held:
        held[name] = np.empty(0, dtype=np.uint8), {}
    memory, views = held[name]
    view = views.get((shape, dtype))
    if view is None:
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if memory.size < size:
            memory, views = np.empty(size, dtype=np.uint8), {}
            held[name] = memory, views
        elif len(views) >= _MOST_VIEWS:
            views.clear()
        view = views[shape, dtype] = memory[:size].view(dtype).reshape(shape)
    return view
