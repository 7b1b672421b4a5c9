"""What sources of a stream share."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np

__all__ = ["Source", "checked_dtype", "needed", "only_array", "stamp"]


class Source(Protocol):
    """What a stream reads from.

    Attributes
    ----------
    dtype : numpy.dtype
        As stored.
    n_features : int
    bounds : list of tuple of int
        First row of each block, and the one after its last.
    sequential : bool
        Whether blocks before a wanted one are read too.
    """

    dtype: np.dtype[Any]
    n_features: int
    bounds: list[tuple[int, int]]
    sequential: bool

    def each(self, wanted: Sequence[int]) -> Generator[np.ndarray, None, None]:
        """Read the blocks with these increasing numbers."""

    def pick(self, indices: np.ndarray) -> np.ndarray | None:
        """Read these rows alone; None where whole blocks are as cheap."""

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


def only_array(path: Path, names: Sequence[str], name: str | None) -> str:
    """Choose the array called `name`, else X, else the only one."""
    chosen = name or ("X" if "X" in names else names[0] if len(names) == 1 else None)
    if chosen not in names:
        raise ValueError(
            f"{path}: holds {', '.join(sorted(names)) or 'no array'}; say which with array="
        )
    return str(chosen)


def checked_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a dtype of real numbers."""
    if dtype.kind in "biu" or dtype.newbyteorder("=") in (np.float16, np.float32, np.float64):
        return dtype
    raise TypeError(
        f"X must hold real numbers (bool, integers, float16, float32 or float64), got {dtype}"
    )


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of the last change of a file, or of all files in a folder."""
    size = latest = 0
    for one in _files(path):
        status = os.stat(one)
        size, latest = size + status.st_size, max(latest, status.st_mtime_ns)
    return size, latest


def _files(path: Path) -> Iterator[str]:
    if not os.path.isdir(path):
        yield os.fspath(path)
        return
    for folder, _, names in os.walk(path):
        yield from (os.path.join(folder, name) for name in names)
