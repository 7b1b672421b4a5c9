"""What sources of a stream share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

__all__ = ["Source", "checked_dtype", "needed", "stamp"]


class Source(Protocol):
    """What a stream reads from."""

    dtype: np.dtype[Any]
    n_features: int
    bounds: list[tuple[int, int]]

    def each(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Read the blocks with these increasing numbers."""

    def check(self) -> None:
        """Refuse a source that has changed since it was opened."""


def needed(module: str, path: str | os.PathLike[str], extra: str = "io") -> Any:
    """Import a library that reads a kind of file, or say how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ModuleNotFoundError(
            f'{path}: reading it needs {name}: pip install "kmeans_xp[{extra}]"', name=name
        ) from error


def checked_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype of real numbers."""
    if dtype.kind in "biu" or dtype.newbyteorder("=") in (np.float16, np.float32, np.float64):
        return dtype
    raise TypeError(
        f"X must hold real numbers (bool, integers, float16, float32 or float64), got {dtype}"
    )


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of the last change of a file."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns
