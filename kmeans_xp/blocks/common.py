"""What all parts of the data share, and how the answers of parts are put together."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmeans_xp.backends import Backend
from kmeans_xp.backends.records import Frame
from kmeans_xp.blocks.survey import Survey
from kmeans_xp.exact.grid import Grid
from kmeans_xp.exact.metric import Metric
from kmeans_xp.exact.sums import ClusterSums

__all__ = ["Common", "Far", "rows_a_sum", "sample_step"]

# Values one exact partial sum holds in float64 at a time.
_SUM_ENTRIES = 1 << 18
_SAMPLE = 1000


def rows_a_sum(backend: Backend, n_features: int) -> int:
    """Rows whose exact partial sums are formed together."""
    entries = _SUM_ENTRIES // max(1, backend.n_threads // 2)  # each thread has its own
    return int(np.clip(entries // n_features, 16, 16384))


def sample_step(n_rows: int, n_features: int) -> int:
    """Every so many rows one is looked at, to choose the frame of the fast pass."""
    return -(-n_rows // int(np.clip(_SUM_ENTRIES // n_features, 16, _SAMPLE)))


@dataclass(frozen=True)
class Common:
    """Decided once, before the first pass; it is small, and can be sent to where a part lives.

    Attributes
    ----------
    n_rows : int
        Of the whole.
    dtype : numpy.dtype
        float32 or float64: the dtype of the centroids.
    weight_dtype : numpy.dtype or None
        None without weights.
    metric : Metric
    survey : Survey
        Of the whole.
    frame : Frame
        Where the fast pass looks at the data from.
    sum_rows : int
        At most so many rows go into one float64 partial sum.
    levels : Grid or None
        Levels of the sums over clusters where a device sets them; else those of `grid`.
    """

    n_rows: int
    dtype: np.dtype[Any]
    weight_dtype: np.dtype[Any] | None
    metric: Metric
    survey: Survey
    frame: Frame
    sum_rows: int
    levels: Grid | None = None

    @property
    def n_features(self) -> int:
        """Number of features D."""
        return len(self.survey.largest)

    @property
    def weighted(self) -> bool:
        """Whether the rows have weights."""
        return self.weight_dtype is not None

    @functools.cached_property
    def grid(self) -> Grid:
        """Levels of the exact sums, weighted where the rows are."""
        # not `in (None, np.float32)`: a NumPy dtype float64 equals None
        plain = self.weight_dtype is None or self.weight_dtype == np.float32
        narrow = self.dtype == np.float32 and plain
        return self._grid(self.survey.weight_range, narrow)

    def _grid(self, weight_range: tuple[float, float] | None, narrow: bool) -> Grid:
        seen = self.survey
        return Grid.fit(
            seen.largest, seen.smallest, weight_range, self.n_rows, self.sum_rows, narrow
        )

    @functools.cached_property
    def exponent(self) -> int:
        """All magnitudes of the data are below 2**exponent."""
        return int(np.frexp(self.survey.largest.max())[1])

    @property
    def exponents(self) -> tuple[int, int]:
        """Those above all values and, in the grid, above all weights."""
        return self.exponent, self.grid.weight_exponent

    def exponent_with(self, centroids: np.ndarray) -> int:
        """Likewise, with these centroids."""
        largest = max(float(self.survey.largest.max()), float(np.abs(centroids).max()))
        return int(np.frexp(largest)[1])

    def cluster_sums(self, n_clusters: int) -> ClusterSums:
        """Sums of no rows yet: those of parts merge, as they are cut on the same grid."""
        grid = self.grid if self.levels is None else self.levels
        return ClusterSums(n_clusters, grid, self.weighted)

    def column_sums(self) -> ClusterSums:
        """Unweighted sums of no rows yet, of one cluster."""
        return ClusterSums(1, self._grid(None, self.dtype == np.float32), False)


@dataclass(frozen=True)
class Far:
    """Rows that empty clusters may take.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        In increasing order.
    values : ndarray of float64, shape (n,)
        rn12(|x − c_label|²) of each, above 0.
    labels : ndarray of int32, shape (n,)
        Their clusters.
    """

    rows: np.ndarray
    values: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, p: np.ndarray, labels: np.ndarray, first: int) -> Far:
        """Those of rows in turn, from number `first`, whose value p is not zero."""
        which = np.flatnonzero(p > 0)
        return cls(first + which, p[which], labels[which])

    @classmethod
    def best(cls, parts: Sequence[Far], count: int) -> Far:
        """The `count` largest of parts in the order of their rows, ties to the lowest row."""
        rows = np.concatenate([part.rows for part in parts])
        values = np.concatenate([part.values for part in parts])
        labels = np.concatenate([part.labels for part in parts])
        keep = np.sort(np.argsort(-values, kind="stable")[:count])  # earlier rows stay first
        return cls(rows[keep], values[keep], labels[keep])

    def moved(self, by: int) -> Far:
        """Return the same rows where the part begins with another row of the whole."""
        return Far(self.rows + by, self.values, self.labels)
