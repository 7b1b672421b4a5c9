"""Nearest centroids of sparse rows: scores over the stored entries in the dtype of the centroids,
then in float64, then exactly.
"""

from __future__ import annotations

import numpy as np

from kmeans_xp.backends.sparse import CsrRows, SparseBackend, padded
from kmeans_xp.exact.bounds import FLOAT32, FLOAT64, TINY32, TINY64, gamma
from kmeans_xp.exact.metric import Metric
from kmeans_xp.exact.ties import ExactNorms, compare_sparse

__all__ = ["SparseCenters", "upper_norms"]

# Scores that could overflow together with their error are left to exact arithmetic.
_LARGEST = {4: 1e37, 8: 1e300}
# Entries one step of the recheck may hold.
_ENTRIES = 1 << 19


def upper_norms(squares: np.ndarray, terms: int | np.ndarray) -> np.ndarray:
    """Upper bounds of norms from squares that were summed over so many terms in float64."""
    return np.sqrt(squares) * (1 + 2 * FLOAT64 * (terms + 8)) + 2.0**-480


class SparseCenters:
    """Centroids of one iteration, prepared for every level of the cascade.

    Parameters
    ----------
    backend : SparseBackend
    centroids : ndarray of float32 or float64, shape (K, D)
    exponent : int
        The passes see rows and centroids times 2**-exponent.
    metric : Metric
    """

    def __init__(
        self, backend: SparseBackend, centroids: np.ndarray, exponent: int, metric: Metric
    ) -> None:
        self.backend, self.metric = backend, metric
        n_features = centroids.shape[1]
        with np.errstate(all="ignore"):
            scaled = np.ldexp(centroids, -exponent) if exponent else centroids
            squares = np.einsum("ij,ij->i", scaled, scaled, dtype=np.float64)
        #: lowest index of each distinct centroid
        self.first = _distinct(centroids, squares)
        self.values, self.scaled = centroids[self.first], scaled[self.first]
        self.half = (0.0 if metric.spherical else 0.5) * squares[self.first]
        self.half_error = gamma(n_features + 4, FLOAT64) * self.half + TINY64
        self.sizes = upper_norms(squares[self.first], n_features)
        self.columns, self.bias = backend.packed(self.scaled, -self.half)
        self.unit = FLOAT32 if centroids.dtype == np.float32 else FLOAT64
        self.tiny = TINY32 if centroids.dtype == np.float32 else TINY64
        self._wide: np.ndarray | None = None
        self._norms: ExactNorms | None = None

    def nearest(self, x: CsrRows, scaled: CsrRows, sizes: np.ndarray) -> tuple[np.ndarray, int]:
        """Index of the nearest centroid of every row, ties to the lowest; counts rechecked rows.

        Parameters
        ----------
        x, scaled : CsrRows
            Rows as they are and as the passes see them.
        sizes : ndarray of float64
            Upper bounds of the norms of the scaled rows.
        """
        if len(self.first) == 1:
            return np.full(len(sizes), self.first[0], dtype=np.int32), 0
        best, lead = self.backend.scores(scaled, self.columns, self.bias)
        reach = sizes * self.sizes.max() + self.half.max()
        terms = scaled.counts + 6.0
        error = 1.001 * terms * self.unit * reach + self.half_error.max()
        error += self.tiny * (4 * terms + sizes + 8)
        usable = (reach < _LARGEST[lead.itemsize]) & (terms * self.unit < 1e-3)
        certified = (lead > 2.001 * error) & usable
        left = np.flatnonzero(~certified)
        step = max(1, _ENTRIES // max(len(self.first), self.backend.mean_entries))
        for i in range(0, len(left), step):
            some = left[i : i + step]
            best[some] = self._resolve(x.take(some), scaled.take(some), sizes[some])
        return self.first[best], len(left)

    def _resolve(self, x: CsrRows, scaled: CsrRows, sizes: np.ndarray) -> np.ndarray:
        """The same for rows that the fast pass leaves open."""
        if self._wide is None:
            self._wide = np.ascontiguousarray(self.scaled.T, dtype=np.float64)
        scores = self.backend.products(scaled, self._wide) - self.half
        terms = scaled.counts[:, None] + 6.0
        error = 1.001 * terms * FLOAT64 * (sizes[:, None] * self.sizes + self.half)
        error += self.half_error + TINY64 * terms
        error[~(np.isfinite(scores) & (error < 1e300))] = np.inf
        scores[~np.isfinite(scores)] = 0.0
        candidates = scores + error >= (scores - error).max(axis=1)[:, None]
        nearest = candidates.argmax(axis=1)
        open_rows = np.flatnonzero(candidates.sum(axis=1) > 1)
        if open_rows.size:
            nearest[open_rows] = self._decide(x.take(open_rows), candidates[open_rows])
        return nearest

    def _decide(self, x: CsrRows, candidates: np.ndarray) -> np.ndarray:
        """Exact choice among candidates."""
        if self._norms is None:
            self._norms = ExactNorms(self.values, counted=not self.metric.spherical)
        which = np.flatnonzero(candidates.any(axis=0))
        ranks = np.zeros(len(self.first), dtype=np.int64)
        ranks[which] = self._norms.ranks(which)
        # candidates that share no feature with a row stand in the order of their norms
        shared = self._shared(x, which)
        apart = candidates.copy()
        apart[:, which] &= ~shared
        order = np.where(apart, ranks, len(ranks))
        shortest = order.argmin(axis=1)
        keep = candidates & ~apart
        has = apart.any(axis=1)
        keep[np.flatnonzero(has), shortest[has]] = True
        return self._by_pairs(x, keep)

    def _shared(self, x: CsrRows, which: np.ndarray) -> np.ndarray:
        """Whether rows and these centroids have a feature in common."""
        stored = CsrRows((x.data != 0).astype(x.data.dtype), x.indices, x.indptr, x.shape)
        pattern = np.ascontiguousarray((self.values[which] != 0).T, dtype=np.float64)
        return self.backend.products(stored, pattern) > 0

    def _by_pairs(self, x: CsrRows, candidates: np.ndarray) -> np.ndarray:
        """Compare the candidates of each row, one after the other."""
        assert self._norms is not None
        current, count = candidates.argmax(axis=1), candidates.sum(axis=1)
        order = np.argsort(~candidates, axis=1, kind="stable")
        for place in range(1, int(count.max())):
            still = np.flatnonzero(count > place)
            still = still[np.argsort(x.counts[still], kind="stable")]
            lo = 0
            while lo < len(still):
                hi = lo + max(1, _ENTRIES // (8 * max(1, int(x.counts[still[lo]]))))
                some = still[lo:hi]
                width = int(x.counts[some].max())
                some = some[: max(1, _ENTRIES // (8 * max(1, width)))]
                rival = order[some, place]
                sign = compare_sparse(*padded(x.take(some)), rival, current[some], self._norms)
                current[some] = np.where(sign > 0, rival, current[some])
                lo += len(some)
        return current


def _distinct(centroids: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Lowest index of each distinct centroid; equal ones have equal squares."""
    if len(np.unique(squares)) == len(squares):
        return np.arange(len(squares), dtype=np.int32)
    seen: dict[bytes, int] = {}
    for k, row in enumerate(centroids):
        seen.setdefault(row.tobytes(), k)
    return np.fromiter(seen.values(), dtype=np.int32, count=len(seen))
