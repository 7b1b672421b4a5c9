"""Arrays that read slices of rows, .npy files, and functions that give blocks."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmeans_xp.streams.base import checked_dtype, stamp

__all__ = ["Calls", "Npy", "Slices"]

# Bytes of a block, where the source leaves the choice.
_BLOCK_BYTES = 1 << 26


class Slices:
    """Anything that reads slices of rows: memory maps, HDF5 datasets, Zarr arrays, arrays."""

    def __init__(self, array: Any, block_rows: int | str, columns: Any) -> None:
        self._array, self._columns = array, _numbers(columns)
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

    def check(self) -> None:
        """Nothing is known of changes."""

    def each(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Read slices."""
        for i in wanted:
            lo, hi = self.bounds[i]
            block = np.asarray(self._array[lo:hi])
            yield block if self._columns is None else np.ascontiguousarray(block[:, self._columns])


class Npy(Slices):
    """A .npy file, read by its bytes: no address space is taken for the whole."""

    def __init__(self, path: Path, block_rows: int | str, columns: Any) -> None:
        self._path = path
        with open(path, "rb") as file:
            try:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0
                if version != (1, 0):
                    read = np.lib.format.read_array_header_2_0
                shape, fortran, dtype = read(file)
            except ValueError as error:
                raise ValueError(f"{path}: no .npy file or a damaged one: {error}") from None
            self._start = file.tell()
        if fortran and len(shape) == 2 and shape[1] > 1:
            raise ValueError(
                f"{path}: its columns lie one after the other (Fortran order), so that no block "
                "of rows can be read alone; pass numpy.load(path, mmap_mode='r') to kmeans instead"
            )
        super().__init__(_Shape(shape, dtype), block_rows, columns)
        size = self._start + int(np.prod(shape)) * dtype.itemsize
        if os.path.getsize(path) < size:
            raise ValueError(f"{path}: cut off: {os.path.getsize(path)} of {size} bytes are there")
        self._stored, self._width = dtype, shape[1]
        self._stamp = stamp(path)

    def check(self) -> None:
        """The file is the one that was opened."""
        if stamp(self._path) != self._stamp:
            raise ValueError(f"X changed while it was read: {self._path} was written to")

    def each(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
        """Read ranges of bytes."""
        with open(self._path, "rb", buffering=0) as file:
            for i in wanted:
                lo, hi = self.bounds[i]
                block = np.empty((hi - lo, self._width), self._stored)
                file.seek(self._start + lo * self._width * self._stored.itemsize)
                view, got = block.reshape(-1).view(np.uint8).data, 0
                while got < len(view):
                    count = file.readinto(view[got:])
                    if not count:
                        raise ValueError(f"X changed while it was read: {self._path} is cut off")
                    got += count
                if self._columns is not None:
                    block = np.ascontiguousarray(block[:, self._columns])
                yield block


class Calls:
    """Blocks that a function gives anew for every pass; checksums tell if they are the same."""

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

    def each(self, wanted: Sequence[int]) -> Iterator[np.ndarray]:
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


class _Shape:
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
