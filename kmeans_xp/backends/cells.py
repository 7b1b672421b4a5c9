"""Labels of rows of up to three features by the cells they lie in.

The box that holds most rows is cut into cells, and the rows are kept in the order of their cells.
Where one centroid is nearest to all of a cell, by more than any rounding, its rows have that label
and are not even looked at while it stays. T. Kanungo et al., "An efficient k-means clustering
algorithm: analysis and implementation", IEEE PAMI 24 (2002), rule centroids out in the same way in
the boxes of a k-d tree.

Along a side, cell i of a row is found in float32 from (x̂ − base) / width. The roundings of x̂, of
this difference and of this quotient move it by at most 2^-24·1.02·(|x̂|/width + 2·side) cells; that
is below 2^-10 (`Box.around`), and `PAD` allows for more. The cells at the rim are open: rows
outside the box are counted there.

Centroids that hardly move leave most of the table as it was. So it is filled with room for them to
move: a centroid is ruled out only if it stays so when all move by `Cells.room` at most.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kmeans_xp.backends.records import Frame, Swept, Task

__all__ = ["OPEN", "PAD", "Box", "Cells", "Run", "in_turn"]

Run = Callable[[Callable[[int], None], Iterable[int]], Any]

#: A row may lie this part of a cell outside the one that it is counted in.
PAD = 2.0**-8
#: Code of a cell that says nothing; labels are codes too.
OPEN = np.int32(-2)

_SAMPLE = 4096
# Rows that are numbered together; candidates of boxes that are looked at together.
_TOGETHER = 1 << 14
_CANDIDATES = 1 << 21
# Room for so many steps like the last one, up to this part of the width of a cell.
_STEPS, _MOST_ROOM = 8, 0.1


def in_turn(function: Callable[[int], None], items: Iterable[int]) -> None:
    """Apply a function to every item, one after the other."""
    for item in items:
        function(item)


@dataclass(frozen=True)
class Box:
    """A box cut into cells, in the frame of the fast pass.

    Attributes
    ----------
    levels : int
        Each side is halved so many times, and has a cell more at each end.
    base, width : ndarray of float64, shape (D,)
        Where the first cell begins, and how wide cells are: the reciprocal of a float32 number.
    """

    levels: int
    base: np.ndarray
    width: np.ndarray

    @classmethod
    def around(cls, sample: np.ndarray, levels: int) -> Box | None:
        """A box that holds framed rows; None where float32 cannot tell its cells apart."""
        low, high = sample.min(axis=0), sample.max(axis=0)
        side = (1 << levels) - 2  # a cell more than the sample needs at each end
        with np.errstate(all="ignore"):
            width = (high - low) / side
            places = np.maximum(np.abs(low), np.abs(high)) / width
            inverse = (1 / width).astype(np.float32).astype(np.float64)
        if not ((width > 2.0**-100) & (width < 2.0**50) & (places + 2 * side < 2.0**12)).all():
            return None
        base = (low - 2 * width).astype(np.float32).astype(np.float64)
        return cls(levels, base, 1 / inverse)

    @property
    def side(self) -> int:
        """Cells along a side."""
        return (1 << self.levels) + 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells along each of three sides."""
        return tuple(self.side if axis < len(self.base) else 1 for axis in range(3))

    @functools.cached_property
    def reach(self) -> float:
        """No row in the box is longer."""
        far = np.maximum(np.abs(self.base), np.abs(self.base + self.side * self.width))
        return math.sqrt(float(np.square(far + self.width).sum())) * (1 + 1e-6)

    @property
    def terms(self) -> tuple[np.ndarray, np.ndarray, np.float32, np.int32]:
        """What numbering cells takes."""
        base, inverse = self.base.astype(np.float32), (1 / self.width).astype(np.float32)
        return base, inverse, np.float32(self.side - 1), np.int32(self.side)


def _pyramid(seen: np.ndarray, levels: int, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Which boxes hold rows, from the whole down to single cells, and where each depth begins."""
    inner = seen[tuple(slice(1, -1) if axis < n_features else slice(None) for axis in range(3))]
    depths: list[np.ndarray] = [inner.reshape(inner.shape[:n_features])]
    for level in range(levels - 1, -1, -1):
        halves = depths[0].reshape([1 << level, 2] * n_features)
        depths.insert(0, np.any(halves, axis=tuple(range(1, 2 * n_features, 2))))
    starts = np.cumsum([0, *(depth.size for depth in depths[:-1])])
    return np.concatenate([depth.reshape(-1) for depth in depths]), starts


class Cells:
    """The rows of an array in the order of their cells, for one set of centroids after the other.

    Attributes
    ----------
    x : ndarray, shape (N, D)
        The rows in this order.
    order : ndarray of int32, shape (N,)
        Which rows they are.
    known : ndarray of int32, shape (N,)
        Their labels, where they are known here (>= -1).
    """

    #: most halvings of each side of the box, by features: few enough for 16-bit numbers of cells
    levels: ClassVar[dict[int, int]] = {1: 10, 2: 7, 3: 5}
    #: rows a cell that holds any, on average; fewer rows than `few_rows` are not worth a table
    rows_a_cell, few_rows = 16, 1 << 18

    def __init__(self, x: np.ndarray, frame: Frame, labels: np.ndarray, box: Box) -> None:
        self.frame, self.box = frame, box
        numbers = self.numbered(x, frame, box)
        counts = np.bincount(numbers, minlength=math.prod(box.shape))
        self.held, self.depths = _pyramid(counts.reshape(box.shape) > 0, box.levels, x.shape[1])
        self.cells = np.flatnonzero(counts)
        self.starts = np.concatenate([[0], np.cumsum(counts[self.cells])])
        self.x, self.order, self.known = self.sorted(x, numbers, labels)
        self.before = np.full(len(self.cells), OPEN, dtype=np.int32)
        self.table = np.full(box.shape, OPEN, dtype=np.int32)
        # what the table was filled for: centroids, their labels, and how far they may move
        self.ids, self.anchor = np.empty(0, dtype=np.int32), np.empty((0, x.shape[1]))
        self.room, self.slack, self.points = 0.0, 0.0, self.anchor
        self._ranges: dict[int, list[tuple[int, int]]] = {}

    @classmethod
    def over(cls, x: np.ndarray, frame: Frame, labels: np.ndarray) -> Cells | None:
        """Cells over the rows of an array; None where they will not pay."""
        n_features = x.shape[1]
        if n_features not in cls.levels or not cls.few_rows <= len(x) < 1 << 31:
            return None
        sample = x[:: -(-len(x) // _SAMPLE)].astype(np.float64) * frame.scale - frame.center
        box = Box.around(sample, cls.levels[n_features])
        if box is None:
            return None
        seen = np.bincount(cls.numbered(x, frame, box), minlength=math.prod(box.shape)) > 0
        held, depths = _pyramid(seen.reshape(box.shape), box.levels, n_features)
        filled = np.add.reduceat(held, depths, dtype=np.int64)
        levels = int(np.flatnonzero(filled * cls.rows_a_cell <= len(x))[-1])
        box = Box.around(sample, levels) if levels > 1 else None
        return None if box is None else cls(x, frame, labels, box)

    @staticmethod
    def numbered(x: np.ndarray, frame: Frame, box: Box) -> np.ndarray:
        """Number of the cell of each row."""
        narrow = x.dtype.kind == "f" and x.dtype.itemsize <= 4
        work: Any = np.float32 if narrow else np.float64
        base, inverse, top, side = box.terms
        out = np.zeros(len(x), dtype=np.int32)
        for lo in range(0, len(x), _TOGETHER):
            part = slice(lo, lo + _TOGETHER)
            for j, center in enumerate(frame.center.astype(work)):
                framed = x[part, j].astype(work) * work(frame.scale) - center
                place = (framed.astype(np.float32) - base[j]) * inverse[j]
                out[part] *= side
                out[part] += np.clip(place, 0, top).astype(np.int32)
        return out

    @staticmethod
    def sorted(
        x: np.ndarray, numbers: np.ndarray, labels: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows in the order of their cells, which rows they are, and their labels."""
        order = np.argsort(numbers.astype(np.uint16), kind="stable").astype(np.int32)
        return x[order], order, labels[order]

    def forget(self) -> None:
        """Every row is in no cluster."""
        self.known.fill(-1)
        self.before.fill(OPEN)

    def aim(self, values: np.ndarray, task: Task, run: Run = in_turn, workers: int = 1) -> None:
        """Fill the table for these different centroids, those of the task.

        ``run(function, items)`` applies a function to every item, in so many threads.
        """
        with np.errstate(all="ignore"):
            points = values.astype(np.float64) * self.frame.scale - self.frame.center
            size = math.sqrt(float(np.square(points).sum(axis=1).max()))
            slack = 2.0**-40 * (size + self.box.reach) ** 2  # thousands of roundings in float64
            step = _farthest_move(self.points, points)
            self.points = points
            same = np.array_equal(task.ids, self.ids) and slack <= self.slack
            if not (same and _farthest_move(self.anchor, points) <= self.room):
                most = _MOST_ROOM * float(self.box.width.min())
                self.room = min(_STEPS * step, most) if 2 * step < most else 0.0
                self.ids, self.anchor, self.slack = task.ids, points, slack * 1.01
                self.table.fill(OPEN)
                self.fill(task, run, workers)
                self.codes = self.table.reshape(-1)[self.cells]

    def fill(self, task: Task, run: Run, workers: int) -> None:
        """Halve boxes that hold rows until one centroid is left, or one cell."""
        box, points = self.box, self.anchor
        n_features = points.shape[1]
        table = self.table.reshape(self.table.shape[:n_features])
        corner = np.ones((1, n_features), dtype=np.int64)
        found, valid = np.arange(len(points))[None], np.ones((1, len(points)), dtype=bool)
        for depth in range(box.levels + 1):
            size = 1 << (box.levels - depth)
            middle = box.base + (corner + 0.5 * size) * box.width
            half = (0.5 * size + PAD) * box.width
            valid &= _may_be_nearest(points[found], valid, middle, half, self.slack, self.room)
            count = valid.sum(axis=1)
            one = np.flatnonzero(count == 1)
            inside = np.indices((size,) * n_features).reshape(n_features, -1)
            where = tuple(corner[one].T[:, :, None] + inside[:, None])
            table[where] = task.ids[found[one, valid[one].argmax(axis=1)]][:, None]
            rest = np.flatnonzero(count > 1)
            corner, parent = self._children(corner[rest], depth)
            most = int(count.max(initial=1))
            if size == 1 or len(corner) * most > _CANDIDATES:
                return
            kept = np.argsort(~valid[rest], axis=1, kind="stable")[:, :most]
            found = np.take_along_axis(found[rest], kept, axis=1)[parent]
            valid = np.take_along_axis(valid[rest], kept, axis=1)[parent]

    def _children(self, corner: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
        """Halves of boxes of one depth that hold rows: where they begin, and whose they are."""
        half = (1 << (self.box.levels - depth)) // 2
        if half == 0:
            return corner, np.arange(len(corner))
        n_features = corner.shape[1]
        steps = half * np.indices((2,) * n_features).reshape(n_features, -1).T
        below = (corner[:, None] + steps).reshape(-1, n_features)
        parent = np.repeat(np.arange(len(corner)), len(steps))
        sides = (1 << (depth + 1),) * n_features
        place = self.depths[depth + 1] + np.ravel_multi_index(tuple((below.T - 1) // half), sides)
        held = self.held[place]
        return below[held], parent[held]

    def ranges(self, count: int) -> list[tuple[int, int]]:
        """Ranges of cells with about equally many rows."""
        if count not in self._ranges:
            ends = np.unique(np.searchsorted(self.starts, np.linspace(0, len(self.x), count + 1)))
            pairs = zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
            self._ranges[count] = list(pairs)
        return self._ranges[count]

    def assign(self, first: int, last: int, labels: np.ndarray) -> Swept:
        """Label the rows of some cells where these tell, in `labels` and here.

        Those that changed are told by their place in this order, those left by their number.
        """
        codes, before = self.codes[first:last], self.before[first:last]
        fresh = first + np.flatnonzero((codes >= 0) & (codes != before))
        left = self.order[self._places(first + np.flatnonzero(codes < 0))]
        before[:] = codes
        places = self._places(fresh)
        rows, new = self.order[places], np.repeat(self.codes[fresh], self._sizes(fresh))
        old = labels[rows]
        labels[rows] = self.known[places] = new
        moved = np.flatnonzero(old != new)
        return Swept(len(moved), places[moved], old[moved], left.astype(np.int64))

    def _sizes(self, cells: np.ndarray) -> np.ndarray:
        return self.starts[cells + 1] - self.starts[cells]

    def _places(self, cells: np.ndarray) -> np.ndarray:
        """Places of all rows of some cells."""
        sizes = self._sizes(cells)
        before = np.cumsum(sizes) - sizes
        return np.repeat(self.starts[cells] - before, sizes) + np.arange(sizes.sum())


def _farthest_move(old: np.ndarray, new: np.ndarray) -> float:
    """How far the farthest centroid moved, rounded up; infinity where there are other ones."""
    if len(old) != len(new):
        return math.inf
    return math.sqrt(float(np.square(new - old).sum(axis=1).max())) * (1 + 1e-12)


def _may_be_nearest(
    points: np.ndarray,
    valid: np.ndarray,
    middle: np.ndarray,
    half: np.ndarray,
    slack: float,
    room: float,
) -> np.ndarray:
    """Which candidates of boxes, shape (m, c, D), may be nearest somewhere in them, when none moves
    by more than `room`.
    """
    distance = np.square(middle[:, None] - points).sum(axis=2)
    distance[~valid] = np.inf
    every = np.arange(len(points))
    near = distance.argmin(axis=1)
    least = distance[every, near][:, None]
    # |x - k|² - |x - near|² is linear: here is its least value in the box
    reach = (np.abs(points - points[every, near][:, None]) * half).sum(axis=2)
    # moves change it by 2·room·(|x - k| + |x - near|) at most
    give = 2 * room * (np.sqrt(distance) + np.sqrt(least) + 2 * math.sqrt(np.square(half).sum()))
    far: np.ndarray = distance - least - 2 * reach > slack + give
    return ~far
