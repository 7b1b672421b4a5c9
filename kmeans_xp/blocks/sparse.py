"""A sparse matrix in memory: the blocks of compressed rows, never made dense."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from kmeans_xp.backends.convert import home
from kmeans_xp.backends.records import Frame
from kmeans_xp.backends.sparse import CsrRows, SparseBackend
from kmeans_xp.blocks.base import Oversampling, Potential
from kmeans_xp.blocks.common import Common, Far
from kmeans_xp.blocks.rows import RowBlocks
from kmeans_xp.blocks.sparse_directions import row_cosines, sparse_directions
from kmeans_xp.blocks.sparse_distances import far_rows, row_distances
from kmeans_xp.blocks.sparse_nearest import SparseCenters, upper_norms
from kmeans_xp.blocks.sparse_potential import SparseOversampling, SparsePotential
from kmeans_xp.blocks.sparse_survey import csr_rows, survey_rows
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.metric import EUCLIDEAN, Metric
from kmeans_xp.exact.sums import ClusterSums
from kmeans_xp.exact.totals import square_total

__all__ = ["SparseBlocks"]

# Values brought to the host together.
_READ_ENTRIES = 1 << 20
# Magnitudes up to 2**this multiply in float64 without overflow; others are scaled first.
_SAFE_EXPONENT = 200


class SparseBlocks(RowBlocks):
    """A CSR matrix and all that is kept for it during a fit.

    Parameters
    ----------
    x : scipy.sparse.csr_array or csr_matrix, shape (N, D)
        Validated data, never modified.
    w : ndarray, shape (N,), or None
        Validated weights.
    dtype : numpy.dtype
        float32 or float64: the dtype of the centroids.
    metric : Metric
        A spherical one computes with a copy of the rows, made of length 1.

    Raises
    ------
    ValueError
        If X is not sound or holds NaN, infinity, duplicates or integers beyond float64.
    """

    backend: SparseBackend

    def __init__(
        self, x: Any, w: np.ndarray | None, dtype: np.dtype[Any], metric: Metric = EUCLIDEAN
    ) -> None:
        dtype = np.dtype(dtype)
        self.x = csr_rows(x)
        if metric.spherical:
            self.x = sparse_directions(self.x, dtype)
        n_rows, n_features = self.x.shape
        common = Common(
            n_rows,
            dtype,
            None if w is None else w.dtype,
            metric,
            survey_rows(self.x, w),
            Frame(1.0, np.zeros(n_features, dtype=np.float32)),  # zeros must stay zeros
            sum_rows=2,  # values are added one by one: the levels may be wide
        )
        super().__init__(common, SparseBackend(self.x), w, home(x))
        self._scaled: tuple[int, CsrRows] = (0, self.x)
        self._squares: tuple[int, np.ndarray] | None = None

    # ---- rows

    def ranges(self, n_clusters: int) -> list[tuple[int, int]]:
        """Row blocks sized for a pass over `n_clusters` centroids."""
        rows = self.backend.block_rows(self.n_features, n_clusters)
        return [(lo, min(lo + rows, self.n_rows)) for lo in range(0, self.n_rows, rows)]

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Rows made dense, in the dtype of the centroids."""
        return self.backend.gather(self.x, np.asarray(indices), self.dtype)

    def in_order(self) -> Iterator[np.ndarray]:
        """All rows made dense, some at a time."""
        step = max(1, _READ_ENTRIES // self.n_features)
        for lo in range(0, self.n_rows, step):
            yield self.rows(np.arange(lo, min(lo + step, self.n_rows)))

    def potential(self, rows: np.ndarray | None = None, weighted: bool = True) -> Potential:
        """Potentials for k-means++ of all rows, or of those with increasing indices `rows`."""
        return SparsePotential(self, rows, weighted)

    def oversampling(self, rows: np.ndarray | None = None, weighted: bool = True) -> Oversampling:
        """Potentials for k-means||, as `potential`."""
        return SparseOversampling(self, rows, weighted)

    def nearest_to(self, points: np.ndarray) -> Callable[[slice | np.ndarray], np.ndarray]:
        """Return what tells the nearest of some points, by |x − c|², for given rows."""
        exponent = self.safe_exponent(points)
        scaled, squares = self.scaled(exponent), self.squares_of_rows(exponent)
        centers = SparseCenters(self.backend, points, exponent, EUCLIDEAN)

        def nearest(rows: slice | np.ndarray) -> np.ndarray:
            part = scaled.take(rows)
            sizes = upper_norms(squares[rows], part.counts)
            return centers.nearest(self.x.take(rows), part, sizes)[0]

        return nearest

    def row_norms(self) -> np.ndarray:
        """Upper bounds of the norms of the rows as the float64 passes see them."""
        squares = self.squares_of_rows(self.safe_exponent(np.zeros(1)))
        return upper_norms(squares, self.x.counts)

    def scaled(self, exponent: int) -> CsrRows:
        """Rows times 2**-exponent."""
        if self._scaled[0] != exponent:
            data = np.ldexp(self.x.data, -exponent) if exponent else self.x.data
            self._scaled = exponent, replace(self.x, data=data)
        return self._scaled[1]

    def squares_of_rows(self, exponent: int) -> np.ndarray:
        """Float64 sums of squares of the scaled rows."""
        if self._squares is None or self._squares[0] != exponent:
            x, out = self.scaled(exponent), np.empty(self.n_rows)

            def fill(bounds: tuple[int, int]) -> None:
                part = x.take(slice(*bounds))
                squares = np.square(part.data.astype(np.float64))
                out[slice(*bounds)] = np.bincount(part.row_of_entries(), squares, part.shape[0])

            with self.session():
                self.backend.map(fill, self.ranges(1))
            self._squares = exponent, out
        return self._squares[1]

    def safe_exponent(self, values: np.ndarray) -> int:
        """Power of two by which the float64 passes scale rows and these centroids down."""
        exponent = self.common.exponent_with(values)
        return 0 if abs(exponent) < _SAFE_EXPONENT else exponent

    def distances(self, centroids: np.ndarray) -> np.ndarray:
        """Distances of all rows to all centroids, in their dtype."""
        out = np.empty((self.n_rows, len(centroids)), dtype=self.dtype)
        exponent = self.safe_exponent(centroids)
        x, squares = self.scaled(exponent), self.squares_of_rows(exponent)
        points = np.ldexp(centroids.astype(np.float64), -exponent)
        columns = np.ascontiguousarray(points.T)

        def fill(bounds: tuple[int, int]) -> None:
            rows = slice(*bounds)
            some = x.take(rows)
            if self.common.metric.spherical:
                out[rows] = row_cosines(self.backend, some, points, columns)
                return
            distance = row_distances(self.backend, some, squares[rows], points, columns)
            out[rows] = np.ldexp(distance, exponent)

        self.backend.map(fill, self.ranges(2 * len(centroids)))
        return out

    # ---- inside an iteration

    def relabel(self, centroids: np.ndarray, sums: ClusterSums | None) -> tuple[int, int]:
        """Label every row, bring the sums up to date; counts changed and rechecked rows."""
        exponent = self.safe_exponent(centroids)
        x = self.scaled(exponent)
        centers = SparseCenters(self.backend, centroids, exponent, self.common.metric)
        squares = self.squares_of_rows(exponent)
        new = np.empty(self.n_rows, dtype=np.int32)

        def work(bounds: tuple[int, int]) -> int:
            rows = slice(*bounds)
            part = x.take(rows)
            sizes = upper_norms(squares[rows], part.counts)
            new[rows], rechecked = centers.nearest(self.x.take(rows), part, sizes)
            return rechecked

        rechecked = sum(self.backend.map(work, self.ranges(len(centroids))))
        assert self._labels is not None
        moved = np.flatnonzero(new != self._labels)
        if sums is not None and moved.size:
            self._change(sums, moved, self._labels[moved], new[moved])
        self._labels = new
        return len(moved), rechecked

    def _change(
        self, sums: ClusterSums, rows: np.ndarray, old: np.ndarray, new: np.ndarray
    ) -> None:
        """Move rows between the sums of clusters; the old one is -1 where there was none."""
        known = np.flatnonzero(old >= 0)
        self._add_signed(
            sums,
            np.concatenate([rows, rows[known]]),
            np.concatenate([new, old[known]]),
            np.repeat([1, -1], [len(rows), len(known)]),
        )

    def add(self, sums: ClusterSums, rows: np.ndarray, labels: np.ndarray, sign: int) -> None:
        """Add (or with ``sign=-1`` take away) some rows."""
        self._add_signed(sums, rows, labels, np.full(len(rows), sign))

    def _add_signed(
        self, sums: ClusterSums, rows: np.ndarray, labels: np.ndarray, signs: np.ndarray
    ) -> None:
        """Add rows to sums: every thread has clusters of its own."""
        sums.add_weights(labels, None if self.w is None else self.w[rows], signs)
        order = np.argsort(labels, kind="stable")
        rows, labels, signs = rows[order], labels[order], signs[order]
        edges = self._shares(rows, labels)

        def work(bounds: tuple[int, int]) -> None:
            part = slice(*bounds)
            w = None if self.w is None else self.w[rows[part]]
            self.backend.add_rows(self.x, rows[part], w, labels[part], signs[part], sums)

        self.backend.map(work, list(itertools.pairwise(edges)))

    def _shares(self, rows: np.ndarray, labels: np.ndarray) -> list[int]:
        """Where to cut rows sorted by label into shares of about equal work, between labels."""
        stored = np.cumsum(self.x.indptr[rows + 1] - self.x.indptr[rows] + 1)
        n_shares = 4 * self.backend.n_threads
        wanted = np.searchsorted(stored, np.arange(1, n_shares) * (stored[-1] / n_shares))
        allowed = np.flatnonzero(np.diff(labels)) + 1
        places = np.searchsorted(allowed, wanted)
        cuts = allowed[places[places < len(allowed)]]
        return np.unique(np.concatenate([[0], cuts, [len(rows)]])).tolist()

    def farthest(self, centroids: np.ndarray, count: int) -> Far:
        """Up to `count` rows that empty clusters may take."""
        assert self._labels is not None
        return far_rows(self, centroids, self._labels, count)

    # ---- sums over all rows

    def labelled_sums(self, labels: np.ndarray, n_clusters: int) -> ClusterSums:
        """Sums over clusters by labels given on the host."""
        sums = self.common.cluster_sums(n_clusters)
        with self.session():
            self.add(sums, np.arange(self.n_rows), labels, 1)
        return sums

    def column_sums(self) -> ClusterSums:
        """Unweighted sums over all rows as one cluster."""
        sums = self.common.column_sums()
        zeros = np.zeros(self.n_rows, dtype=np.int32)
        self.backend.add_rows(self.x, np.arange(self.n_rows), None, zeros, zeros + 1, sums)
        return sums

    def measure_squares(self, weighted: bool) -> Dyadic:
        """Exact Σ w|x|² (or Σ |x|²) over all rows."""
        total = Dyadic()
        for lo, hi in self.ranges(1):
            part = self.x.take(slice(lo, hi))
            weights = self.w[lo:hi] if weighted and self.w is not None else None
            each = None if weights is None else weights[part.row_of_entries()]
            total = total + square_total(part.data, each)
        return total
