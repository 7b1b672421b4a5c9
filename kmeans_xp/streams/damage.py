"""One kind of error for spoilt files, whatever the libraries that read them raise."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kmeans_xp.streams.base import Source

__all__ = ["FromFile", "damage_of"]


@contextmanager
def damage_of(path: Path) -> Iterator[None]:
    """Turn what a library raises for a spoilt file, which may be anything, into a ValueError."""
    try:
        yield
    except (TypeError, ValueError, OSError, ImportError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{path}: damaged or no {path.suffix} file: {reason}") from error


class FromFile:
    """A source in a file."""

    def __init__(self, path: Path, source: Source) -> None:
        self._path, self._source = path, source
        self.dtype, self.n_features = source.dtype, source.n_features
        self.bounds, self.sequential = source.bounds, source.sequential
        self.names: list[str] | None = getattr(source, "names", None)

    def each(self, wanted: Sequence[int]) -> Generator[np.ndarray, None, None]:
        """Read blocks."""
        with damage_of(self._path):
            yield from self._source.each(wanted)

    def pick(self, indices: np.ndarray) -> np.ndarray | None:
        """Read these rows alone."""
        with damage_of(self._path):
            return self._source.pick(indices)

    def check(self) -> None:
        """Refuse a file that has changed."""
        self._source.check()
