"""A stream of blocks: each is read, assigned and forgotten; what is kept of a row is small.

A block keeps its labels, norms and pruning bounds between passes, so that late passes need not read
blocks in which nothing can change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kmeans_xp.assignment import Centers, choose_frame, prepare
from kmeans_xp.backends.cpu import NumpyBackend
from kmeans_xp.blocks.base import Potential
from kmeans_xp.blocks.directions import directions
from kmeans_xp.blocks.memory import MemoryBlocks
from kmeans_xp.blocks.potential import HostPotential
from kmeans_xp.blocks.survey import RefusedRowError, Survey, survey
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.metric import EUCLIDEAN, Metric
from kmeans_xp.exact.sums import ClusterSums
from kmeans_xp.pruning import Drift
from kmeans_xp.streams import Stream

__all__ = ["StreamBlocks"]


class StreamBlocks(MemoryBlocks):
    """The blocks of a stream, which share sums, frame and grid.

    Parameters
    ----------
    stream : Stream
    w : ndarray, shape (N,), or None
        Validated weights, in memory.
    dtype : numpy.dtype
        float32 or float64: the dtype of the centroids.
    metric : Metric

    Raises
    ------
    ValueError
        If a value is NaN, infinite or an integer beyond float64, naming its row.
    """

    def __init__(
        self, stream: Stream, w: np.ndarray | None, dtype: np.dtype[Any], metric: Metric = EUCLIDEAN
    ) -> None:
        self.stream, self.w, self.metric = stream, w, metric
        self.like = np.empty(0, dtype=dtype)
        self.dtype = np.dtype(dtype)
        self.algorithm = "auto"
        self.n_rows, self.n_features = stream.shape
        sample = self._look()
        self._sum_rows = self._rows_a_sum()
        self.grid = self._grid(w)
        self.exponent = int(np.frexp(self.survey.largest.max())[1])
        self.frame = choose_frame(sample)
        self._known_squares = {}
        self._variance = None
        self._parts = [_Part(self, lo, hi) for lo, hi in stream.bounds]
        self.reset()

    def _look(self) -> np.ndarray:
        """Measure all values in one pass; returns a sample of rows."""
        step = -(-self.n_rows // self._sample_rows())
        seen: list[Survey] = []
        sample: list[np.ndarray] = []
        for i, block in self.stream.each():
            lo = self.stream.bounds[i][0]
            if not seen:
                self.backend = NumpyBackend(block)
            try:
                if self.metric.spherical:
                    block = directions(block, self.dtype)
                with self.session():
                    seen.append(survey(self.backend, block, None))
            except RefusedRowError as error:
                raise error.moved(lo) from None
            sample.append(block[-lo % step :: step].astype(self.dtype))
        largest = np.max([part.largest for part in seen], axis=0)
        smallest = min(part.smallest for part in seen)
        w = self.w
        weight_range = None if w is None else (float(w[w > 0].min()), float(w.max()))
        self.survey = Survey(largest, smallest, weight_range)
        return np.concatenate(sample)

    # ---- passes

    def _pass(self, visit: Callable[[_Part], None], wanted: Sequence[int] | None = None) -> None:
        """Read blocks and visit them, one after the other."""
        for i, block in self.stream.each(wanted):
            part = self._parts[i]
            part.x = directions(block, self.dtype) if self.metric.spherical else block
            try:
                with self.session():
                    part.first_look()
                    visit(part)
            finally:
                part.x = None

    def _assign(self, centroids: np.ndarray, with_sums: bool = True) -> tuple[int, int]:
        if self._labels is None or (with_sums and self._sums is None):
            self._labels = np.full(self.n_rows, -1, dtype=np.int32)
            if with_sums:
                self._sums = ClusterSums(len(centroids), self.grid, self.w is not None)
        centers = prepare(centroids, self.frame, self.backend.input_unit, self.metric)
        wanted = []
        for i, part in enumerate(self._parts):
            part.algorithm = self.algorithm
            part.begin(self._labels, self._sums if with_sums else None, centroids, centers)
            if not part.settled:
                wanted.append(i)
        counts = np.zeros(2, dtype=np.int64)

        def visit(part: _Part) -> None:
            counts[:] += part.assign_all(centroids, with_sums)

        self._pass(visit, wanted)
        self._changed = int(counts[0])
        return int(counts[0]), int(counts[1])

    # ---- rows

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Rows on the host, in the dtype of the centroids."""
        return self._working(self.stream.rows(indices))

    def in_order(self) -> Iterator[np.ndarray]:
        """All rows on the host, a block at a time."""
        for _, block in self.stream.each():
            yield self._working(block)

    def _working(self, rows: np.ndarray) -> np.ndarray:
        if self.metric.spherical:
            return np.asarray(directions(rows, self.dtype))
        return rows.astype(self.dtype, copy=False)

    def potential(self, rows: np.ndarray | None = None, weighted: bool = True) -> Potential:
        """Potentials of rows that are gathered in memory: up to max(2**20, 256·K) of them."""
        chosen = np.arange(self.n_rows) if rows is None else rows
        part = _Part(self, 0, len(chosen))
        part.x = self.rows(chosen)
        part.w = None if self.w is None else self.w[chosen]
        return HostPotential(part, None, weighted)

    def distances(self, centroids: np.ndarray) -> np.ndarray:
        """Distances of all rows to all centroids on the host, in their dtype."""
        out = np.empty((self.n_rows, len(centroids)), dtype=self.dtype)

        def visit(part: _Part) -> None:
            out[part.lo : part.hi] = part.distances(centroids)

        self._pass(visit)
        return out

    def labelled_inertia(self, labels: np.ndarray, centroids: np.ndarray) -> float:
        """Exact inertia of labels and centroids given on the host, rounded once."""
        sums = ClusterSums(len(centroids), self.grid, self.w is not None)
        labels = np.asarray(labels, dtype=np.int32)
        self._pass(lambda part: part.add_all(sums, labels[part.lo : part.hi]))
        weighted = self.w is not None
        return self.metric.inertia(lambda: self.squares(weighted), sums, centroids)

    # ---- once a fit

    def squares(self, weighted: bool) -> Dyadic:
        """Exact Σ w|x|² (or Σ |x|²) over all rows; known after the first pass."""
        left = [i for i, part in enumerate(self._parts) if weighted not in part.known_squares]
        if left:
            self._pass(lambda part: None, left)
        return sum((part.known_squares[weighted] for part in self._parts), Dyadic())

    def _all_sums(self, sums: ClusterSums) -> ClusterSums:
        self._pass(lambda part: part.all_sums(sums))
        return sums

    # ---- empty clusters

    def _farthest_of(self, centroids: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        rows, values = np.empty(0, dtype=np.int64), np.empty(0)

        def visit(part: _Part) -> None:
            nonlocal rows, values
            found, far = part.farthest_of(centroids, count)
            rows = np.concatenate([rows, part.lo + found])
            values = np.concatenate([values, far])
            keep = np.sort(np.argsort(-values, kind="stable")[:count])
            rows, values = rows[keep], values[keep]

        self._pass(visit)
        return rows, values

    def _add(self, sums: ClusterSums, rows: np.ndarray, labels: np.ndarray, sign: int) -> None:
        x = self.rows(rows)
        w = None if self.w is None else self.w[rows]
        self.backend.cluster_sums(x, np.arange(len(x)), w, labels, sums, sign)


class _Part(MemoryBlocks):
    """What is kept of one block; its rows are there only during a visit."""

    def __init__(self, whole: StreamBlocks, lo: int, hi: int) -> None:
        self.lo, self.hi, self.n_rows = lo, hi, hi - lo
        self.x: Any = None
        self.w = None if whole.w is None else whole.w[lo:hi]
        self.like, self.metric, self.dtype = whole.like, whole.metric, whole.dtype
        self.n_features, self.backend, self.survey = whole.n_features, whole.backend, whole.survey
        self.grid, self.exponent, self.frame = whole.grid, whole.exponent, whole.frame
        self._sum_rows = whole._sum_rows
        self.algorithm = "auto"
        self._norms = None
        self._known_squares = {}
        self._variance = None
        self._plan: tuple[Drift | None, np.ndarray | None] = None, None
        self.reset()

    @property
    def known_squares(self) -> dict[bool, Dyadic]:
        """Exact sums of squares of this block."""
        return self._known_squares

    def first_look(self) -> None:
        """Take what is needed once of rows that are here."""
        self.row_norms()
        for weighted in {False, self.w is not None}:
            self.squares(weighted)

    def begin(
        self,
        labels: np.ndarray,
        sums: ClusterSums | None,
        centroids: np.ndarray,
        centers: Centers,
    ) -> None:
        """Before a pass: let the bounds give way, and see which rows they leave open."""
        mine = labels[self.lo : self.hi]
        fresh = self._labels is None or self._labels.base is not labels
        if fresh or (sums is not None and self._sums is not sums):
            self._bounds = None if fresh else self._bounds
            self._changed = None if fresh else self._changed
        self._labels, self._sums = mine, sums
        drift = super()._drift(centroids, centers)
        still = None
        if drift is not None and self._bounds is not None:
            still = self._bounds.age(self.backend, 0, self.n_rows, mine, drift)
        self._plan = drift, still

    @property
    def settled(self) -> bool:
        """Whether no label of this block can change."""
        still = self._plan[1]
        return still is not None and not still.size

    def assign_all(self, centroids: np.ndarray, with_sums: bool) -> tuple[int, int]:
        """Assign the rows that are open; counts changed and rechecked ones."""
        return self._assign(centroids, with_sums)

    def add_all(self, sums: ClusterSums, labels: np.ndarray) -> None:
        """Add all rows to exact sums."""
        self._add(sums, np.arange(self.n_rows), labels, 1)

    def all_sums(self, sums: ClusterSums) -> None:
        """Add all rows to the sums of one cluster."""
        self._all_sums(sums)

    def farthest_of(self, centroids: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Eligible rows of this block that lie farthest out, counted from its first."""
        return self._farthest_of(centroids, count)

    def _drift(self, centroids: np.ndarray, centers: Centers) -> Drift | None:
        return self._plan[0]

    def _open_rows(
        self, batch: tuple[int, int], centers: Centers, drift: Drift | None
    ) -> Iterator[slice | np.ndarray]:
        still = self._plan[1]
        if still is None:
            yield slice(*batch)
            return
        lo, hi = np.searchsorted(still, batch)
        yield from self._narrowed(still[lo:hi], batch, centers, drift)
