"""A stream of blocks: each is read, assigned and forgotten; what is kept of a row is small.

A block keeps its labels, norms and pruning bounds between passes, so that late passes need not read
blocks in which nothing can change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kmeans_xp.assignment import Centers, choose_frame
from kmeans_xp.backends import Backend
from kmeans_xp.backends.cpu import NumpyBackend
from kmeans_xp.blocks.base import Potential
from kmeans_xp.blocks.common import Common, Far, rows_a_sum, sample_step
from kmeans_xp.blocks.directions import directions
from kmeans_xp.blocks.part import Part
from kmeans_xp.blocks.rows import RowBlocks
from kmeans_xp.blocks.survey import RefusedRowError, Survey, survey, weight_range
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.metric import EUCLIDEAN, Metric
from kmeans_xp.exact.sums import ClusterSums
from kmeans_xp.streams import Stream

__all__ = ["StreamBlocks"]


class StreamBlocks(RowBlocks):
    """The blocks of a stream, each a part whose rows are there only during a visit.

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
        dtype = np.dtype(dtype)
        self.stream = stream
        seen, sample, backend = _look(stream, dtype, metric, weight_range(w))
        n_rows, n_features = stream.shape
        frame = choose_frame(sample)
        weight_dtype = None if w is None else w.dtype
        sum_rows = rows_a_sum(backend, n_features)
        common = Common(n_rows, dtype, weight_dtype, metric, seen, frame, sum_rows)
        self._parts = [
            Part(common, backend, hi - lo, None if w is None else w[lo:hi])
            for lo, hi in stream.bounds
        ]
        super().__init__(common, backend, w, np.empty(0, dtype=dtype))

    # ---- passes

    def visit(self, call: Callable[[int, Part], None], wanted: Sequence[int] | None = None) -> None:
        """Read blocks and visit them, one after the other, with the number of their first row."""
        for i, block in self.stream.each(wanted):
            part = self._parts[i]
            part.x = self._as_computed(block)
            try:
                with self.session():
                    self._first_look(part)
                    call(self.stream.bounds[i][0], part)
            finally:
                part.x = None

    def _as_computed(self, block: np.ndarray) -> np.ndarray:
        return directions(block, self.dtype) if self.common.metric.spherical else block

    def _first_look(self, part: Part) -> None:
        """Take what is needed once of rows that are here."""
        part.row_norms()
        for weighted in {False, self.common.weighted}:
            part.squares(weighted)

    def unlabel(self) -> None:
        """Put every row in no cluster."""
        super().unlabel()
        assert self._labels is not None
        for part, (lo, hi) in zip(self._parts, self.stream.bounds, strict=True):
            part.unlabel(self._labels[lo:hi])

    def relabel(self, centroids: np.ndarray, sums: ClusterSums | None) -> tuple[int, int]:
        """Label every row, bring the sums up to date; counts changed and rechecked rows."""
        centers, wanted = self._begin(centroids)
        self.stream.skip(wanted)
        counts = np.zeros(2, dtype=np.int64)

        def visit(lo: int, part: Part) -> None:
            counts[:] += part.relabel(centroids, centers, sums)

        self.visit(visit, wanted)
        return int(counts[0]), int(counts[1])

    def _begin(self, centroids: np.ndarray) -> tuple[Centers, list[int]]:
        """Begin an assignment: the centroids made ready, and the blocks that must be read."""
        centers = self._parts[0].prepare(centroids)
        wanted = []
        for i, part in enumerate(self._parts):
            part.algorithm = self._algorithm_of(i)
            if part.begin(centroids, centers):
                wanted.append(i)
        return centers, wanted

    def _algorithm_of(self, block: int) -> str:
        return self.algorithm

    # ---- rows

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Rows on the host, in the dtype of the centroids."""
        return self._working(self.stream.rows(indices))

    def in_order(self) -> Iterator[np.ndarray]:
        """All rows on the host, a block at a time."""
        for _, block in self.stream.each():
            yield self._working(block)

    def _working(self, rows: np.ndarray) -> np.ndarray:
        if self.common.metric.spherical:
            return np.asarray(directions(rows, self.dtype))
        return rows.astype(self.dtype, copy=False)

    def potential(self, rows: np.ndarray | None = None, weighted: bool = True) -> Potential:
        """Potentials of rows that are gathered in memory: up to max(2**20, 256·K) of them."""
        chosen = np.arange(self.n_rows) if rows is None else rows
        return self.gathered(chosen).potential(None, weighted)

    def distances(self, centroids: np.ndarray) -> np.ndarray:
        """Distances of all rows to all centroids on the host, in their dtype."""
        out = np.empty((self.n_rows, len(centroids)), dtype=self.dtype)

        def visit(lo: int, part: Part) -> None:
            out[lo : lo + part.n_rows] = part.distances(centroids)

        self.visit(visit)
        return out

    # ---- sums

    def labelled_sums(self, labels: np.ndarray, n_clusters: int) -> ClusterSums:
        """Sums over clusters by labels given on the host."""
        sums = self.common.cluster_sums(n_clusters)
        self.visit(lambda lo, part: part.add_labelled(sums, labels[lo : lo + part.n_rows]))
        return sums

    def column_sums(self) -> ClusterSums:
        """Unweighted sums over all rows as one cluster."""
        sums = self.common.column_sums()
        self.visit(lambda lo, part: part.add_columns(sums))
        return sums

    def measure_squares(self, weighted: bool) -> Dyadic:
        """Exact Σ w|x|² (or Σ |x|²) over all rows; parts know theirs after the first pass."""
        left = [i for i, part in enumerate(self._parts) if not part.measured(weighted)]
        if left:
            self.visit(lambda lo, part: None, left)
        return sum((part.squares(weighted) for part in self._parts), Dyadic())

    def farthest(self, centroids: np.ndarray, count: int) -> Far:
        """Up to `count` rows that empty clusters may take."""
        best: list[Far] = []

        def visit(lo: int, part: Part) -> None:
            best[:] = [Far.best([*best, part.farthest(centroids, count).moved(lo)], count)]

        self.visit(visit)
        return best[0]

    def add(self, sums: ClusterSums, rows: np.ndarray, labels: np.ndarray, sign: int) -> None:
        """Add (or with ``sign=-1`` take away) some rows."""
        x = self.rows(rows)
        w = None if self.w is None else self.w[rows]
        self.backend.cluster_sums(x, np.arange(len(x)), w, labels, sums, sign)


def _look(
    stream: Stream,
    dtype: np.dtype[Any],
    metric: Metric,
    weights: tuple[float, float] | None,
) -> tuple[Survey, np.ndarray, Backend]:
    """Measure all values in one pass; returns a sample of rows too, and what works on blocks."""
    step = sample_step(*stream.shape)
    seen: list[Survey] = []
    sample: list[np.ndarray] = []
    backend: Backend | None = None
    for i, block in stream.each():
        lo = stream.bounds[i][0]
        backend = backend or NumpyBackend(block)
        try:
            if metric.spherical:
                block = directions(block, dtype)
            with backend.session():
                seen.append(survey(backend, block, None))
        except RefusedRowError as error:
            raise error.moved(lo) from None
        sample.append(block[-lo % step :: step].astype(dtype))
    assert backend is not None  # a stream has rows
    return Survey.joined(seen, weights), np.concatenate(sample), backend
