"""Arrays that read slices of rows, files of plain rows, and functions that give blocks."""

from __future__ import annotations

import io
import mmap
import os
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from kmeans_xp.streams.base import checked_dtype, stamp

__all__ = ["Calls", "Extent", "Raw", "Slices", "mapped", "npy", "read_header"]

# Bytes of a block, where the source leaves the choice.
_BLOCK_BYTES = 1 << 26


class Slices:
    """Anything that reads slices of rows: memory maps, HDF5 datasets, Zarr arrays, arrays.

    Parameters
    ----------
    array : array
        Gives slices; it may be of a store that is closed again after this.
    block_rows, columns
        As for `stream`.
    path : Path, optional
        File or folder that holds the rows, to be told when it changes.
    reopen : callable, optional
        Gives a context with the array, for a pass; by default it stays open.
    """

    sequential = False

    def __init__(
        self,
        array: Any,
        block_rows: int | str,
        columns: Any,
        path: Path | None = None,
        reopen: Callable[[], AbstractContextManager[Any]] | None = None,
    ) -> None:
        self._open = reopen or (lambda: nullcontext(array))
        self._path, self._columns = path, _numbers(columns)
        if any(size != size for size in array.shape):  # Dask knows no size: NaN
            raise ValueError("X has chunks of unknown size; call X.compute_chunk_sizes() first")
        dtype, shape = np.dtype(array.dtype), tuple(int(size) for size in array.shape)
        if len(shape) != 2 or 0 in shape:
            raise ValueError(f"X must be two-dimensional and not empty, got shape {shape}")
        self.dtype = checked_dtype(dtype)
        self.n_features = shape[1] if self._columns is None else len(self._columns)
        if self._columns is not None and max(self._columns) >= shape[1]:
            raise ValueError(f"columns must be below {shape[1]}, got {max(self._columns)}")
        chunks = getattr(array, "chunks", None)
        self.bounds = _bounds(shape[0], block_rows, shape[1] * dtype.itemsize, chunks)
        self._stamp = None if path is None else stamp(path)

    def check(self) -> None:
        """The file is the one that was opened, where there is one."""
        if self._path is not None and stamp(self._path) != self._stamp:
            raise ValueError(f"X changed while it was read: {self._path} was written to")

    def each(self, wanted: Sequence[int]) -> Generator[np.ndarray, None, None]:
        """Read slices."""
        with self._open() as array:
            for i in wanted:
                lo, hi = self.bounds[i]
                yield self._chosen(np.asarray(array[lo:hi]))

    def pick(self, indices: np.ndarray) -> np.ndarray | None:
        """Rows one by one: not worth it where a chunk is the least that can be read."""
        return None

    def _chosen(self, block: np.ndarray) -> np.ndarray:
        return block if self._columns is None else np.ascontiguousarray(block[:, self._columns])


class Raw(Slices):
    """Rows side by side in a file, read by their bytes: no address space is taken for the whole.

    Parameters
    ----------
    path : Path
    start : int
        Where the first row begins.
    shape, dtype
        Of the rows.
    block_rows, columns
        As for `stream`.
    """

    def __init__(
        self,
        path: Path,
        start: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        block_rows: int | str,
        columns: Any,
    ) -> None:
        super().__init__(Extent(shape, dtype), block_rows, columns, path)
        self._file, self._start, self._stored, self._width = path, start, dtype, shape[1]
        size = start + shape[0] * shape[1] * dtype.itemsize
        if os.path.getsize(path) < size:
            raise ValueError(f"{path}: cut off: {os.path.getsize(path)} of {size} bytes are there")

    def each(self, wanted: Sequence[int]) -> Generator[np.ndarray, None, None]:
        """Read ranges of bytes."""
        with open(self._file, "rb", buffering=0) as file:
            for i in wanted:
                yield self._chosen(self._read(file, *self.bounds[i]))

    def pick(self, indices: np.ndarray) -> np.ndarray | None:
        """Rows one by one."""
        with open(self._file, "rb", buffering=0) as file:
            out = np.empty((len(indices), self._width), self._stored)
            for place, row in enumerate(indices.tolist()):
                out[place] = self._read(file, row, row + 1)
        return self._chosen(out)

    def _read(self, file: io.FileIO, lo: int, hi: int) -> np.ndarray:
        block = np.empty((hi - lo, self._width), self._stored)
        file.seek(self._start + lo * self._width * self._stored.itemsize)
        view, got = block.reshape(-1).view(np.uint8).data, 0
        while got < len(view):
            count = file.readinto(view[got:])
            if not count:
                raise ValueError(f"X changed while it was read: {self._file} is cut off")
            got += count
        return block


def npy(path: Path, block_rows: int | str, columns: Any) -> Raw:
    """Open a .npy file."""
    with open(path, "rb") as file:
        shape, dtype = read_header(file, path)
        start = file.tell()
    return Raw(path, start, shape, dtype, block_rows, columns)


def mapped(array: np.memmap[Any, Any], block_rows: int | str, columns: Any) -> Slices:
    """Open rows of a memory map: by their bytes where it maps a file for reading, row after row."""
    path, base = array.filename, getattr(array, "_mmap", None)
    plain = array.ndim == 2 and array.flags.c_contiguous and array.mode == "r"
    if path is None or base is None or not plain:
        return Slices(array, block_rows, columns)
    begin = np.frombuffer(base, dtype=np.uint8).__array_interface__["data"][0]
    inside = array.__array_interface__["data"][0] - begin
    start = array.offset - array.offset % mmap.ALLOCATIONGRANULARITY + inside
    return Raw(Path(path), start, array.shape, array.dtype, block_rows, columns)


def read_header(file: Any, name: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the header of a .npy file: shape and dtype; the rows follow."""
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0
        if version != (1, 0):
            read = np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except ValueError as error:
        raise ValueError(f"{name}: no .npy file or a damaged one: {error}") from None
    if fortran and len(shape) == 2 and shape[1] > 1:
        raise ValueError(
            f"{name}: its columns lie one after the other (Fortran order), so that no block "
            "of rows can be read alone; pass numpy.load(path, mmap_mode='r') to kmeans instead"
        )
    return shape, dtype


class Calls:
    """Blocks that a function gives anew for every pass; checksums tell if they are the same."""

    sequential = True

    def __init__(self, function: Callable[[], Iterable[Any]], columns: Any) -> None:
        self._function, self._columns = function, _numbers(columns)
        self._sums: list[int] = []
        self.bounds, lo = [], 0
        for block in self._blocks():
            self.dtype, self.n_features = block.dtype, int(block.shape[1])
            self._sums.append(_checksum(block))
            self.bounds.append((lo, lo + len(block)))
            lo += len(block)
        if not lo:
            raise ValueError("X holds no rows: the function gave no block")

    def _blocks(self) -> Iterator[np.ndarray]:
        first: np.ndarray | None = None
        for given in self._function():
            block = np.asarray(given)
            if block.ndim != 2 or not block.shape[1]:
                raise ValueError(f"every block must have rows and columns, got shape {block.shape}")
            if self._columns is not None:
                block = block[:, self._columns]
            checked_dtype(block.dtype)
            if first is not None and (block.shape[1:], block.dtype) != (
                first.shape[1:],
                first.dtype,
            ):
                raise ValueError(
                    f"all blocks must have {first.shape[1]} columns of {first.dtype}, got "
                    f"{block.shape[1]} of {block.dtype}"
                )
            first = block[:0]
            if len(block):
                yield np.ascontiguousarray(block)

    def check(self) -> None:
        """Blocks are checked one by one."""

    def pick(self, indices: np.ndarray) -> np.ndarray | None:
        """No row comes without those before it."""
        return None

    def each(self, wanted: Sequence[int]) -> Generator[np.ndarray, None, None]:
        """Run the function, and keep the wanted blocks."""
        left = set(wanted)
        blocks = self._blocks()
        for i, known in enumerate(self._sums):
            if not left:
                return
            block = next(blocks, None)
            if block is None or _checksum(block) != known:
                raise ValueError(
                    f"X changed while it was read: the function gave another block {i} than "
                    "before; it must give the same blocks every time it is called"
                )
            if i in left:
                left.discard(i)
                yield block


class Extent:
    """Shape and dtype alone."""

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype


def _bounds(
    n_rows: int, block_rows: Any, row_bytes: int, chunks: Any = None
) -> list[tuple[int, int]]:
    """Blocks: Dask's chunks as they are, else about `_BLOCK_BYTES` of whole chunks each."""
    if block_rows == "auto" and chunks and isinstance(chunks[0], tuple):
        ends = np.cumsum([size for size in chunks[0] if size]).tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))
    size = block_rows
    if block_rows == "auto":
        together = int(chunks[0]) if chunks else 1
        size = max(1, _BLOCK_BYTES // row_bytes // together) * together
    return [(lo, min(lo + size, n_rows)) for lo in range(0, n_rows, size)]


def _numbers(columns: Any) -> list[int] | None:
    if columns is None:
        return None
    if isinstance(columns, str) or not all(isinstance(c, int | np.integer) for c in columns):
        raise TypeError(f"columns must be numbers here, got {columns!r}")
    numbers = [int(c) for c in columns]
    if not numbers or min(numbers) < 0:
        raise ValueError(f"columns must be one or more numbers from 0, got {columns!r}")
    return numbers


def _checksum(block: np.ndarray) -> int:
    return zlib.crc32(block.reshape(-1).view(np.uint8).data, len(block))
