"""One array in memory: NumPy blocks over threads, or any namespace through the generic backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from kmeans_xp.assignment import choose_frame
from kmeans_xp.backends import backend_for
from kmeans_xp.backends.convert import to_numpy
from kmeans_xp.backends.cpu import NumpyBackend
from kmeans_xp.blocks.base import Oversampling, Potential
from kmeans_xp.blocks.common import Common, Far, rows_a_sum, sample_step
from kmeans_xp.blocks.part import Part
from kmeans_xp.blocks.rows import RowBlocks
from kmeans_xp.blocks.survey import survey
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.metric import EUCLIDEAN, Metric
from kmeans_xp.exact.sums import ClusterSums

__all__ = ["MemoryBlocks"]

# Values brought to the host together.
_READ_ENTRIES = 1 << 20
# Values below this may meet the underflow limit on their way through a pass, by item size.
_NEAR_UNDERFLOW = {4: 2.0**-60, 8: 2.0**-500}


class MemoryBlocks(RowBlocks):
    """An array and all that is kept for it during a fit: a whole of one part.

    Parameters
    ----------
    x : array, shape (N, D)
        Validated data, never modified: NumPy, or any namespace for the generic backend.
    w : ndarray, shape (N,), or None
        Validated weights on the host.
    dtype : numpy.dtype
        float32 or float64: the dtype of the centroids.
    like : array
        Results come back in the namespace and on the device of this array.
    metric : Metric
        A spherical one wants rows of length 1 (`blocks.directions`).

    Raises
    ------
    ValueError
        If X holds NaN, infinity or integers beyond float64.
    """

    def __init__(
        self,
        x: Any,
        w: np.ndarray | None,
        dtype: np.dtype[Any],
        like: Any,
        metric: Metric = EUCLIDEAN,
    ) -> None:
        dtype = np.dtype(dtype)
        n_rows, n_features = int(x.shape[0]), int(x.shape[1])
        backend = backend_for(x)
        with backend.session():
            seen = survey(backend, x, w)
        if backend.flushes and seen.smallest < _NEAR_UNDERFLOW[dtype.itemsize]:
            # the namespace takes subnormal values for zero: NumPy does not
            x = to_numpy(x)
            backend = NumpyBackend(x)
        sample = np.arange(0, n_rows, sample_step(n_rows, n_features))
        frame = choose_frame(backend.gather(x, sample, dtype))
        weight_dtype = None if w is None else w.dtype
        sum_rows = rows_a_sum(backend, n_features)
        common = Common(n_rows, dtype, weight_dtype, metric, seen, frame, sum_rows)
        self.x = x
        self.part = Part(common, backend, n_rows, w, x)
        super().__init__(common, backend, w, like)

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Rows on the host, in the dtype of the centroids."""
        return self.part.rows(indices)

    def in_order(self) -> Iterator[np.ndarray]:
        """All rows on the host, some at a time, each read once."""
        step = max(1, _READ_ENTRIES // self.n_features)
        for lo in range(0, self.n_rows, step):
            yield self.rows(np.arange(lo, min(lo + step, self.n_rows)))

    def potential(self, rows: np.ndarray | None = None, weighted: bool = True) -> Potential:
        """Potentials for k-means++ of all rows, or of those with increasing indices `rows`."""
        return self.part.potential(rows, weighted)

    def oversampling(self, rows: np.ndarray | None = None, weighted: bool = True) -> Oversampling:
        """Potentials for k-means||, as `potential`; all rows are passed over, never gathered."""
        return self.part.oversampling(rows, weighted)

    def distances(self, centroids: np.ndarray) -> np.ndarray:
        """Distances of all rows to all centroids on the host, in their dtype."""
        return self.part.distances(centroids)

    def unlabel(self) -> None:
        """Put every row in no cluster."""
        super().unlabel()
        self.part.unlabel(self._labels)

    def relabel(self, centroids: np.ndarray, sums: ClusterSums | None) -> tuple[int, int]:
        """Label every row, bring the sums up to date; counts changed and rechecked rows."""
        self.part.algorithm = self.algorithm
        return self.part.relabel(centroids, self.part.prepare(centroids), sums)

    def labelled_sums(self, labels: np.ndarray, n_clusters: int) -> ClusterSums:
        """Sums over clusters by labels given on the host."""
        sums = self.common.cluster_sums(n_clusters)
        self.part.add_labelled(sums, labels)
        return sums

    def column_sums(self) -> ClusterSums:
        """Unweighted sums over all rows as one cluster."""
        sums = self.common.column_sums()
        self.part.add_columns(sums)
        return sums

    def measure_squares(self, weighted: bool) -> Dyadic:
        """Exact Σ w|x|² (or Σ |x|²) over all rows."""
        return self.part.squares(weighted)

    def farthest(self, centroids: np.ndarray, count: int) -> Far:
        """Up to `count` rows that empty clusters may take."""
        return self.part.farthest(centroids, count)

    def add(self, sums: ClusterSums, rows: np.ndarray, labels: np.ndarray, sign: int) -> None:
        """Add (or with ``sign=-1`` take away) some rows."""
        self.part.add(sums, rows, labels, sign)
