"""`cells.Cells` with compiled passes; this module needs numba.

A cell that several centroids share lists them, and its rows are compared with no others.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from kmeans_xp.backends import cells
from kmeans_xp.backends import numba_cell_kernels as kernels
from kmeans_xp.backends.cells import PAD, Run, in_turn
from kmeans_xp.backends.jit import frozen
from kmeans_xp.backends.records import Frame, Swept, Task, Tile

__all__ = ["Cells", "warmup"]

# Candidates a cell may list, and how many cells may.
_LISTED = 16
_LISTS = 1 << 16


class Cells(cells.Cells):
    """Likewise, for arrays that `cpu_numba.suits`."""

    levels: ClassVar[dict[int, int]] = {1: 10, 2: 8, 3: 6}
    rows_a_cell, few_rows = 64, 1 << 17

    def __init__(self, x: np.ndarray, frame: Frame, labels: np.ndarray, box: cells.Box) -> None:
        super().__init__(x, frame, labels, box)
        self._view = frame.cast(x.dtype)
        self._lists = np.empty((min(_LISTS, self.table.size), _LISTED + 1), dtype=np.int32)
        # of cells that list candidates: those that the rows were compared with, the places of the
        # rows that these left unsure, and the least lead that the others still have
        self._kept, self._unsure = np.zeros((2, len(self.cells), _LISTED + 1), dtype=np.int32)
        self._least = np.zeros(len(self.cells))
        self._plain = False

    @staticmethod
    def numbered(x: np.ndarray, frame: Frame, box: cells.Box) -> np.ndarray:
        """Number of the cell of each row."""
        view = frame.cast(x.dtype)
        out = np.empty(len(x), dtype=np.int32)
        kernels.number(frozen(x), view, box.terms, out)
        return out

    @staticmethod
    def sorted(
        x: np.ndarray, numbers: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows in the order of their cells, which rows they are, and their labels."""
        counts = np.bincount(numbers)
        place = np.cumsum(counts) - counts
        rows, order = np.empty_like(x), np.empty(len(x), dtype=np.int32)
        known = np.empty(len(x), dtype=np.int32)
        kernels.sort(frozen(x), numbers, place, labels, rows, order, known)
        return rows, order, known

    def aim(self, values: np.ndarray, task: Task, run: Run = in_turn, workers: int = 1) -> None:
        """Fill the table, and make the centroids ready for cells that list them."""
        ids, before = self.ids, self.points
        super().aim(values, task, run, workers)
        box, tile, points = self.box, task.tile, self.points
        self._near = np.zeros((len(points), 4), dtype=np.float32)
        self._near[:, : points.shape[1]], self._near[:, 3] = tile.centers, tile.bias
        slope, offset, limit = task.terms[:3]
        sure = box.reach < limit
        margin = (slope * box.reach + offset) * (1 + 1e-6) if sure else math.inf
        self._margin = np.float32(margin)
        # leads over centroids outside the fast pass are not known
        plain, was_plain = math.isinf(task.terms[6]), self._plain
        if not (plain and was_plain and np.array_equal(task.ids, ids)):
            self._least.fill(0)
        before = before if len(before) == len(points) else points
        self._plain = plain
        half = (0.5 + PAD) * box.width
        self._where = self.cells, np.uint32(box.side), box.base, box.width, half, self.slack
        self._proof = self._kept, self._unsure, self._least, points, before

    def fill(self, task: Task, run: Run, workers: int) -> None:
        """Halve boxes that hold rows until one centroid is left, or one cell."""
        box, points = self.box, self.anchor
        where = box.base, box.width, self.slack, self.room, self.held, self.depths
        parts, share = iter(range(1 << points.shape[1])), len(self._lists) // workers

        def work(worker: int) -> None:
            used = np.array([worker, worker + 1], dtype=np.int64) * share
            for part in parts:
                kernels.build(points, task.ids, *where, self.table, self._lists, used, part)

        run(work, range(workers))

    def assign(self, first: int, last: int, labels: np.ndarray) -> Swept:
        """Label the rows of some cells where these tell, in `labels` and here."""
        size = int(self.starts[last] - self.starts[first])
        moved, left = np.empty((2, size), dtype=np.int64)
        old, counts = np.empty(size, dtype=np.int32), np.zeros(2, dtype=np.int64)
        which = self.starts, self.codes, self.before
        rows = self.x, self.order, self.known
        near = self._view, self._lists, self._near, self.ids, self._margin
        state = self._where, self._proof
        kernels.assign(first, last, *which, rows, *near, *state, labels, (moved, old, left), counts)
        n, n_left = counts.tolist()
        return Swept(n, moved[:n], old[:n], left[:n_left])


def warmup() -> None:
    """Compile the kernels, or load them from the cache."""
    ids, frame = np.zeros(1, np.int32), Frame(1.0, np.zeros(2, np.float32))
    tile = Tile(np.zeros((1, 2), np.float32), np.zeros(1, np.float32))
    task = Task(frame, tile, ids, np.ones(2, np.float32), ids, (1.0,) * 7, None)
    for dtype in (np.float32, np.float64):
        x, labels = np.zeros((2, 2), dtype=dtype), np.zeros(2, np.int32)
        some = Cells(x, frame, labels, cells.Box(2, -np.ones(2), np.ones(2)))
        some.aim(x[:1], task)
        some.assign(*some.ranges(1)[0], labels)
