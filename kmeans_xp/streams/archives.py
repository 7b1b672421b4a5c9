"""Members of a .npz file: stored ones are read like .npy files, packed ones from their start."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from kmeans_xp.streams.base import only_array
from kmeans_xp.streams.sources import Extent, Raw, Slices, read_header

__all__ = ["Packed", "npz"]

# Of the header of a member, the place of two lengths and where what has these lengths begins.
_LENGTHS, _NAME = 26, 30


def npz(path: Path, block_rows: int | str, columns: Any, array: str | None) -> Slices:
    """Open a member of a .npz file.

    Parameters
    ----------
    path : Path
    block_rows, columns
        As for `stream`.
    array : str or None
        Which; by default X, or the only one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
            member = archive.getinfo(only_array(path, names, array) + ".npy")
            with archive.open(member) as file:
                shape, dtype = read_header(file, path)
                skip = file.tell()
    except (zipfile.BadZipFile, RuntimeError) as error:  # as of one that needs a password
        raise ValueError(f"{path}: no .npz file or a damaged one: {error}") from None
    if member.compress_type != zipfile.ZIP_STORED:
        return Packed(path, member.filename, shape, dtype, block_rows, columns)
    with open(path, "rb") as raw:
        raw.seek(member.header_offset + _LENGTHS)
        start = member.header_offset + _NAME + sum(struct.unpack("<HH", raw.read(4))) + skip
    return Raw(path, start, shape, dtype, block_rows, columns)


class Packed(Slices):
    """A compressed member: every pass unpacks it from its start to the last block it wants."""

    sequential = True

    def __init__(
        self,
        path: Path,
        member: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        block_rows: int | str,
        columns: Any,
    ) -> None:
        super().__init__(Extent(shape, dtype), block_rows, columns, path)
        self._archive, self._member = path, member
        self._stored, self._width = dtype, shape[1]

    def each(self, wanted: Sequence[int]) -> Generator[np.ndarray, None, None]:
        """Unpack."""
        left = set(wanted)
        try:
            with zipfile.ZipFile(self._archive) as archive, archive.open(self._member) as file:
                read_header(file, self._archive)
                for i, (lo, hi) in enumerate(self.bounds):
                    if not left:
                        return
                    block = self._unpack(file, hi - lo)
                    if i in left:
                        left.discard(i)
                        yield self._chosen(block)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{self._archive}: damaged: {error}") from None

    def _unpack(self, file: Any, n_rows: int) -> np.ndarray:
        block = np.empty((n_rows, self._width), self._stored)
        view = block.reshape(-1).view(np.uint8).data
        _fill(file, view, self._archive)
        return block


def _fill(file: BinaryIO, view: memoryview, path: Path) -> None:
    got = 0
    while got < len(view):
        part = file.read(min(len(view) - got, 1 << 20))
        if not part:
            raise ValueError(f"{path}: cut off: its array ends early")
        view[got : got + len(part)] = part
        got += len(part)
