"""Rows that need not fit in memory: files and stores read in blocks, or blocks as they come."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kmeans_xp.streams.ahead import read_ahead
from kmeans_xp.streams.archives import npz
from kmeans_xp.streams.base import Source
from kmeans_xp.streams.damage import FromFile, damage_of
from kmeans_xp.streams.sources import Calls, Slices, mapped, npy
from kmeans_xp.streams.stores import open_hdf5, open_zarr, store_of
from kmeans_xp.streams.tables import Tables

__all__ = ["Stream", "is_stream", "stream"]

# Reading a row alone costs about as much as reading so many bytes in a row.
_SEEK_BYTES = 1 << 14


class Stream:
    """Rows that are read block by block whenever they are needed; made by `stream`.

    Attributes
    ----------
    shape : tuple of int
        (N, D).
    dtype : numpy.dtype
        Of the stored values.
    n_blocks : int
        Number of blocks.
    names : list of str or None
        Of the columns of a table in a file; None for other sources.
    resident_bytes : int or "auto"
        What half-precision copies of its blocks may take of a CUDA device.
    bytes_read, bytes_skipped : int
        What has been read so far, and what iterations could leave unread because no label in it
        could change.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp import stream
    >>> stream(np.zeros((1000, 3)), block_rows=400)
    Stream(shape=(1000, 3), dtype=float64, n_blocks=3)
    """

    ndim = 2

    def __init__(self, source: Source, resident_bytes: int | Literal["auto"] = "auto") -> None:
        self._source, self.resident_bytes = source, resident_bytes
        self.names: list[str] | None = getattr(source, "names", None)
        self.bounds = source.bounds
        self.shape = (self.bounds[-1][1], source.n_features)
        self.dtype = source.dtype
        self.n_blocks = len(self.bounds)
        self.bytes_read = self.bytes_skipped = 0
        self._starts = np.asarray([lo for lo, _ in self.bounds])
        self._row_bytes = source.n_features * source.dtype.itemsize
        self._bars: Callable[[int], Any] | None = None

    def __repr__(self) -> str:
        return f"Stream(shape={self.shape}, dtype={self.dtype}, n_blocks={self.n_blocks})"

    def each(self, wanted: Sequence[int] | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Read blocks in order, ahead of their use; others are skipped.

        Parameters
        ----------
        wanted : sequence of int, optional
            Increasing numbers of blocks; all by default.

        Yields
        ------
        tuple of int and ndarray, shape (n, D)
            Number of a block and its rows.

        Raises
        ------
        ValueError
            If the source has changed, is damaged, or its blocks differ from those seen before.
        """
        numbers = range(self.n_blocks) if wanted is None else wanted
        if not numbers:
            return
        self._source.check()
        passed = set(range(numbers[-1]) if self._source.sequential else ()).difference(numbers)
        self.bytes_read += self._bytes(passed)
        with self._bar(self._bytes(numbers)) as bar:
            for i, block in zip(numbers, read_ahead(self._source.each(numbers)), strict=True):
                lo, hi = self.bounds[i]
                if block.shape != (hi - lo, self.shape[1]) or block.dtype != self.dtype:
                    raise ValueError(
                        f"X changed while it was read: block {i} should hold {hi - lo} rows of "
                        f"{self.shape[1]} {self.dtype} values, got {block.shape} of {block.dtype}"
                    )
                self.bytes_read += block.nbytes
                yield i, block
                bar.update(block.nbytes)

    def skip(self, wanted: Sequence[int]) -> None:
        """Count what a pass over these blocks leaves unread."""
        first = wanted[-1] + 1 if wanted and self._source.sequential else 0
        self.bytes_skipped += self._bytes(set(range(first, self.n_blocks)).difference(wanted))

    def _bytes(self, numbers: Iterable[int]) -> int:
        return sum(self.bounds[i][1] - self.bounds[i][0] for i in numbers) * self._row_bytes

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Gather rows: one by one from blocks that have few of them, where the source allows it.

        Parameters
        ----------
        indices : ndarray of int64, shape (n,)
            In any order.

        Returns
        -------
        ndarray, shape (n, D)
        """
        indices = np.asarray(indices, dtype=np.int64)
        out = np.empty((len(indices), self.shape[1]), dtype=self.dtype)
        owner = np.searchsorted(self._starts, indices, side="right") - 1
        sizes = np.asarray([hi - lo for lo, hi in self.bounds]) * self._row_bytes
        few = (np.bincount(owner, minlength=self.n_blocks) * _SEEK_BYTES < sizes)[owner]
        if few.any():
            self._source.check()
            picked = self._source.pick(indices[few])
            few &= picked is not None
            if picked is not None:
                out[few] = picked
                self.bytes_read += picked.nbytes
        for i, block in self.each(np.unique(owner[~few]).tolist()):
            mine = np.flatnonzero((owner == i) & ~few)
            out[mine] = block[indices[mine] - self._starts[i]]
        return out

    @contextmanager
    def watched(self, bars: Callable[[int], Any]) -> Iterator[None]:
        """Show passes: `bars` makes one of so many bytes, with `update(bytes)` and `close()`."""
        self._bars = bars
        try:
            yield
        finally:
            self._bars = None

    def _bar(self, total: int) -> Any:
        return _NoBar() if self._bars is None else closing(self._bars(total))


class _NoBar:
    """Shows nothing."""

    def __enter__(self) -> _NoBar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, count: int) -> None:
        """Shows nothing."""


def is_stream(x: Any) -> bool:
    """Whether x is a `Stream`."""
    return isinstance(x, Stream)


def stream(
    source: Any,
    *,
    block_rows: int | str = "auto",
    columns: Sequence[int] | Sequence[str] | None = None,
    array: str | None = None,
    resident_bytes: int | Literal["auto"] = "auto",
) -> Stream:
    """Open rows that need not fit in memory, for `kmeans` and `predict`.

    Parameters
    ----------
    source : path-like, memory map, Zarr array, HDF5 dataset, Dask array, or callable
        A ``.npy``, ``.npz``, ``.h5``, ``.hdf5``, ``.zarr``, ``.parquet``, ``.arrow`` or
        ``.feather`` file, which is open only while rows are read; an array that reads slices of
        rows (a raw file: `numpy.memmap`); or a function without arguments that gives an iterable of
        blocks (n_i, D), the same ones every time it is called.
    block_rows : int or "auto", default "auto"
        Rows a block; "auto" is about 64 MiB. Parquet files, Arrow files and callables keep their
        own blocks, Dask arrays their chunks.
    columns : sequence of int or str, optional
        Columns to use; names for Parquet and Arrow.
    array : str, optional
        Name of the array in a ``.npz``, ``.h5`` or ``.zarr`` with several.
    resident_bytes : int or "auto", default "auto"
        Bytes of a CUDA device (``device="cuda"``) that half-precision copies of blocks may take.
        They stay there during a fit: of their blocks only those rows are read and copied again
        whose label may change. "auto" is half of what is free there, where the copies are smaller
        than the rows; 0 keeps none.

    Returns
    -------
    Stream
        To pass as X. A pass holds three blocks at most; the bits are those of the array in memory.

    Raises
    ------
    TypeError, ValueError, OSError
        For what cannot be read, naming it.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from kmeans_xp import kmeans, stream
    >>> x = np.random.default_rng(0).standard_normal((1000, 3))
    >>> path = os.path.join(tempfile.mkdtemp(), "x.npy")
    >>> np.save(path, x)
    >>> streamed = kmeans(stream(path, block_rows=100), 4, random_state=0)
    >>> streamed.inertia == kmeans(x, 4, random_state=0).inertia
    True
    """
    size = _whole_or_auto("block_rows", block_rows, 1)
    room = _whole_or_auto("resident_bytes", resident_bytes, 0)
    return Stream(_source(source, size, columns, array), room)


def _whole_or_auto(name: str, value: Any, least: int) -> int | Literal["auto"]:
    if isinstance(value, str) and value == "auto":
        return "auto"
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least:
        raise ValueError(f"{name} must be 'auto' or an integer >= {least}, got {value!r}")
    return int(value)


def _source(source: Any, block_rows: int | str, columns: Any, array: str | None) -> Source:
    if callable(source):
        return Calls(source, columns)
    if isinstance(source, str | os.PathLike):
        with damage_of(path := Path(source)):
            return FromFile(path, _opened(path, block_rows, columns, array))
    if isinstance(source, np.memmap):
        return mapped(source, block_rows, columns)
    if hasattr(source, "shape") and hasattr(source, "dtype"):
        return Slices(source, block_rows, columns, store_of(source))
    raise TypeError(
        "source must be a path, an array that reads slices of rows, or a function that gives "
        f"blocks, got {type(source).__name__}"
    )


def _opened(path: Path, block_rows: Any, columns: Any, array: str | None) -> Source:
    suffix = path.suffix.lower()
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if suffix == ".npy":
        return npy(path, block_rows, columns)
    if suffix == ".npz":
        return npz(path, block_rows, columns, array)
    if suffix in (".h5", ".hdf5", ".zarr"):
        reopen = open_zarr(path, array) if suffix == ".zarr" else open_hdf5(path, array)
        with reopen() as found:
            return Slices(found, block_rows, columns, path, reopen)
    if suffix in (".parquet", ".arrow", ".feather"):
        return Tables(path, columns)
    raise ValueError(
        f"{path}: cannot stream {suffix or 'a file without a suffix'}; give .npy, .npz, .h5, "
        ".hdf5, .zarr, .parquet, .arrow or .feather, or a function that gives blocks"
    )
