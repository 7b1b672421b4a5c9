"""Half-precision copies of blocks that stay on the device between passes.

The certified pass needs nothing else, so that of a block whose copy is there only those rows are
fetched again which it leaves open, or whose label changes.
"""

from __future__ import annotations

from typing import Any, Literal

from kmeans_xp.backends.cuda_data import free_bytes

__all__ = ["Resident"]

_SHARE = 2  # "auto" takes the half of what is free


class Resident:
    """The copies of some blocks, by their numbers.

    Parameters
    ----------
    room : int or "auto"
        Bytes they may take. "auto" takes none where a copy is no smaller than the rows.
    Dp : int
        Columns of a copy.
    row_bytes : int
        Of a row as it is copied to the device.
    """

    def __init__(self, room: int | Literal["auto"], Dp: int, row_bytes: int) -> None:
        self._Dp, self._row_bytes = Dp, 2 * Dp + 8
        self._free: int | None = None if room == "auto" else room
        if room == "auto" and self._row_bytes >= row_bytes:
            self._free = 0
        self._copies: dict[int, tuple[Any, Any]] = {}

    def get(self, block: int) -> tuple[Any, Any] | None:
        """Return copy (n, Dp) and norms (n, 2) of a block, if they are there."""
        return self._copies.get(block)

    def make(self, block: int, n_rows: int) -> tuple[Any, Any] | None:
        """Return memory for those of a block that are about to be written, if there is room."""
        import cupy as cp
        from cupy.cuda.memory import OutOfMemoryError

        if block in self._copies:
            return self._copies[block]
        if self._free is None:  # all else has its memory by now
            self._free = free_bytes() // _SHARE
        size = n_rows * self._row_bytes
        if size > self._free:
            return None
        try:
            copy = cp.empty((n_rows, self._Dp), cp.uint16), cp.empty((n_rows, 2), cp.float32)
        except OutOfMemoryError:
            self._free = 0
            return None
        self._free -= size
        self._copies[block] = copy
        return copy
