"""Rows that need not fit in memory: files and stores read in blocks, or blocks as they come."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmeans_xp.streams.ahead import read_ahead
from kmeans_xp.streams.base import Source, needed
from kmeans_xp.streams.sources import Calls, Npy, Slices
from kmeans_xp.streams.tables import Tables

__all__ = ["Stream", "is_stream", "stream"]


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
    bytes_read, bytes_skipped : int
        What passes have read so far, and what they could leave unread because nothing in it could
        change.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp import stream
    >>> stream(np.zeros((1000, 3)), block_rows=400)
    Stream(shape=(1000, 3), dtype=float64, n_blocks=3)
    """

    ndim = 2

    def __init__(self, source: Source) -> None:
        self._source = source
        self.bounds = source.bounds
        self.shape = (self.bounds[-1][1], source.n_features)
        self.dtype = source.dtype
        self.n_blocks = len(self.bounds)
        self.bytes_read = self.bytes_skipped = 0

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
        width = self.shape[1] * self.dtype.itemsize
        taken = sum(self.bounds[i][1] - self.bounds[i][0] for i in numbers)
        self.bytes_skipped += (self.shape[0] - taken) * width
        if not numbers:
            return
        self._source.check()
        for i, block in zip(numbers, read_ahead(self._source.each(numbers)), strict=True):
            lo, hi = self.bounds[i]
            if block.shape != (hi - lo, self.shape[1]) or block.dtype != self.dtype:
                raise ValueError(
                    f"X changed while it was read: block {i} should hold {hi - lo} rows of "
                    f"{self.shape[1]} {self.dtype} values, got {block.shape} of {block.dtype}"
                )
            self.bytes_read += block.nbytes
            yield i, block

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Gather rows, reading the blocks that have some.

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
        starts = np.asarray([lo for lo, _ in self.bounds])
        owner = np.searchsorted(starts, indices, side="right") - 1
        for i, block in self.each(np.unique(owner).tolist()):
            mine = np.flatnonzero(owner == i)
            out[mine] = block[indices[mine] - starts[i]]
        return out


def is_stream(x: Any) -> bool:
    """Whether x is a `Stream`."""
    return isinstance(x, Stream)


def stream(
    source: Any,
    *,
    block_rows: int | str = "auto",
    columns: Sequence[int] | Sequence[str] | None = None,
    array: str | None = None,
) -> Stream:
    """Open rows that need not fit in memory, for `kmeans` and `predict`.

    Parameters
    ----------
    source : path-like, memory map, Zarr array, HDF5 dataset, Dask array, or callable
        A ``.npy``, ``.h5``, ``.hdf5``, ``.zarr``, ``.parquet``, ``.arrow`` or ``.feather`` file; an
        array that reads slices of rows; or a function without arguments that gives an iterable of
        blocks (n_i, D), the same ones every time it is called.
    block_rows : int or "auto", default "auto"
        Rows a block; "auto" is about 64 MiB. Parquet files, Arrow files and callables keep their
        own blocks, Dask arrays their chunks.
    columns : sequence of int or str, optional
        Columns to use; names for Parquet and Arrow.
    array : str, optional
        Name of the array in a ``.h5`` or ``.zarr`` with several.

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
    whole = isinstance(block_rows, int | np.integer) and not isinstance(block_rows, bool)
    if block_rows != "auto" and not (whole and int(block_rows) >= 1):
        raise ValueError(f"block_rows must be 'auto' or an integer >= 1, got {block_rows!r}")
    block_rows = block_rows if isinstance(block_rows, str) else int(block_rows)
    if callable(source):
        return Stream(Calls(source, columns))
    if isinstance(source, str | os.PathLike):
        return Stream(_opened(Path(source), block_rows, columns, array))
    if hasattr(source, "shape") and hasattr(source, "dtype"):
        return Stream(Slices(source, block_rows, columns))
    raise TypeError(
        "source must be a path, an array that reads slices of rows, or a function that gives "
        f"blocks, got {type(source).__name__}"
    )


def _opened(path: Path, block_rows: Any, columns: Any, array: str | None) -> Source:
    suffix = path.suffix.lower()
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if suffix == ".npy":
        return Npy(path, block_rows, columns)
    if suffix in (".h5", ".hdf5", ".zarr"):
        return Slices(_stored(path, suffix, array), block_rows, columns)
    if suffix in (".parquet", ".arrow", ".feather"):
        return Tables(path, columns)
    raise ValueError(
        f"{path}: cannot stream {suffix or 'a file without a suffix'}; give .npy, .h5, .hdf5, "
        ".zarr, .parquet, .arrow or .feather, or a function that gives blocks"
    )


def _stored(path: Path, suffix: str, name: str | None) -> Any:
    """Open the one array of a store, or that of a name."""
    store: Any
    if suffix == ".zarr":
        store = needed("zarr", path).open(str(path), mode="r")
    else:
        store = needed("h5py", path).File(path, "r")
    if hasattr(store, "dtype"):
        return store
    names = [key for key in store if hasattr(store[key], "dtype")]
    chosen = name or ("X" if "X" in names else names[0] if len(names) == 1 else None)
    if chosen not in names:
        raise ValueError(
            f"{path}: holds {', '.join(sorted(names)) or 'no array'}; say which with array="
        )
    return store[chosen]
