"""Potentials of k-means|| where the rows are somewhere else, and come by some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from kmeans_xp.blocks.oversampling import HostOversampling
from kmeans_xp.blocks.part import Part

if TYPE_CHECKING:
    from kmeans_xp.blocks.rows import RowBlocks

__all__ = ["PassedOversampling"]


class PassedOversampling(HostOversampling):
    """Potentials of all rows, which are read once for each lot of centres: 8 bytes a row stay."""

    blocks: Any

    def __init__(self, whole: RowBlocks) -> None:
        self.blocks, self.common, self.chosen, self.w = whole, whole.common, None, whole.w
        self.weight_exponent = 0 if self.w is None else self.common.grid.weight_exponent
        self.p = np.empty(whole.n_rows)
        self._tried = {}

    def accept(self, row: int) -> None:
        """Add a centre."""
        self.accept_all(np.asarray([row]))

    def lower(self, centers: np.ndarray) -> None:
        """Lower the potentials by new centres; totals and scale stay behind."""
        for rows, part in self._parts():
            self._lower_part(rows, part, centers)

    def _lower_part(self, rows: slice, part: Part, centers: np.ndarray) -> None:
        one = part.oversampling()
        one.p = self.p[rows]
        one.lower(centers)

    def nearest(self, centers: np.ndarray) -> np.ndarray:
        """Which of these centres is nearest to each row."""
        labels = np.empty(len(self.p), dtype=np.int32)
        for rows, part in self._parts():
            labels[rows] = part.oversampling().nearest(centers)
        return labels

    def _parts(self) -> Iterator[tuple[slice, Part]]:
        """All rows in their order, some at a time."""
        lo = 0
        for x in self.blocks.in_order():
            rows = slice(lo, lo + len(x))
            w = None if self.w is None else self.w[rows]
            yield rows, Part(self.common, self.blocks.backend, len(x), w, x)
            lo += len(x)
