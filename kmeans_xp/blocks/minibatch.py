"""A mini-batch on the host: labels, exact sums and exact inertia, without what a whole fit keeps.

A batch is small: its rows come to the host, wherever the data are, and one thread does the work
unless the batch has several blocks.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from kmeans_xp.assignment import Centers, assign_rows, choose_frame, prepare, resolve
from kmeans_xp.backends import Backend, backend_for
from kmeans_xp.backends.convert import is_sparse, to_numpy
from kmeans_xp.backends.generic import quiet
from kmeans_xp.backends.records import Frame
from kmeans_xp.blocks.directions import directions
from kmeans_xp.blocks.sparse_survey import csr_rows
from kmeans_xp.blocks.survey import survey
from kmeans_xp.exact.blend import Totals, blended_means
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.grid import Grid
from kmeans_xp.exact.inertia import exact_cosine_inertia
from kmeans_xp.exact.metric import EUCLIDEAN, Metric
from kmeans_xp.exact.squares import Enclosure, exact_squares, round_enclosures
from kmeans_xp.exact.sums import ClusterSums

__all__ = ["Measured", "MiniBatchPass", "Stepped"]

# Values one exact partial sum holds in float64 at a time.
_SUM_ENTRIES = 1 << 18
_SAMPLE = 64
# Products of a batch that one thread forms in the time it takes to hold BLAS to one thread.
_FEW_PRODUCTS = 1 << 21
# Fewer are not worth a thread of their own where threads are there.
_PRODUCTS_A_THREAD = 1 << 22


@dataclass(frozen=True)
class Measured:
    """What a batch says of centroids: exact sums of its clusters, and its inertia rounded once.

    The labels are int32, shape (n,).
    """

    labels: np.ndarray
    sums: ClusterSums
    inertia: float


@dataclass(frozen=True)
class Stepped:
    """Where a batch moves the centroids, the weight they have seen then, and its inertia before."""

    centroids: np.ndarray
    totals: Totals
    inertia: float


class MiniBatchPass:
    """Measures batches of host rows.

    Parameters
    ----------
    sample : ndarray, shape (n, D)
        Some rows, to choose from where the fast pass looks at them.
    values : int
        About how many values will be seen in all: decides whether compiled kernels pay.
    metric : Metric
        A spherical one wants rows of length 1.
    prepared : Centers, optional
        Of an earlier pass whose frame suits these rows too.

    Attributes
    ----------
    prepared : Centers or None
        Of the centroids last measured against.
    """

    def __init__(
        self,
        sample: np.ndarray,
        values: int,
        metric: Metric = EUCLIDEAN,
        prepared: Centers | None = None,
    ) -> None:
        self.metric = metric
        self.backend: Backend = backend_for(sample, values)
        if prepared is not None:
            self.frame: Frame = prepared.frame
        else:
            self.frame = choose_frame(sample[:: max(1, len(sample) // _SAMPLE)])
        self.prepared = prepared
        self._batch: _MiniBatch | None = None

    def session(self, products: int | None = None) -> contextlib.AbstractContextManager[None]:
        """Context in which batches are measured, or one of which so many scores take products."""
        if products is not None and products <= _FEW_PRODUCTS:
            return quiet()  # not worth any threads
        return self.backend.session()

    def step(
        self, rows: np.ndarray, w: np.ndarray | None, centroids: np.ndarray, totals: Totals
    ) -> Stepped:
        """Move centroids that have seen `totals` by the rows; see `measure`."""
        kernels, found = self._kernels(rows, w, centroids), None
        if kernels is not None:
            found = self._step(kernels, rows, centroids, totals)
        if found is None:
            measured = self.measure(rows, w, centroids)
            means = blended_means(measured.sums, totals, centroids)
            means = self.metric.finish(means, measured.sums, centroids)
            found = Stepped(means, totals.plus(measured.sums), measured.inertia)
        return found

    def label(
        self, rows: np.ndarray, w: np.ndarray | None, centroids: np.ndarray
    ) -> tuple[np.ndarray, float]:
        """Labels and inertia alone; see `measure`."""
        kernels = self._kernels(rows, w, centroids)
        if kernels is not None:
            labels = self._labels(kernels, rows, centroids)
            enclosure = kernels.inertia(rows, labels, centroids)
            inertia = None if enclosure is None else round_enclosures([enclosure])
            if inertia is not None:
                return labels, inertia
        measured = self.measure(rows, w, centroids, summed=False)
        return measured.labels, measured.inertia

    def _kernels(
        self, rows: np.ndarray, w: np.ndarray | None, centroids: np.ndarray
    ) -> ModuleType | None:
        """Compiled steps, where there are some for this batch."""
        if w is not None or self.metric.spherical:
            return None
        kernels = self.backend.minibatch_kernels(rows)
        if kernels is None or len(rows) > kernels.MOST_ROWS:
            return None
        return kernels if 1 < len(centroids) < kernels.MOST_CLUSTERS else None

    def _step(
        self, kernels: ModuleType, rows: np.ndarray, centroids: np.ndarray, totals: Totals
    ) -> Stepped | None:
        """None where compiled loops are not certain."""
        if totals.units.dtype != np.int64:
            return None
        labels = self._labels(kernels, rows, centroids)
        found = kernels.blend(rows, labels, centroids, totals.units)
        if found is None:
            return None
        means, counts, enclosure = found
        inertia = round_enclosures([enclosure])
        if inertia is None:
            return None
        return Stepped(means, Totals(totals.units + counts, totals.exponent), inertia)

    def _labels(self, kernels: ModuleType, rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
        if rows.shape[1] <= kernels.MOST_FEATURES[rows.itemsize]:
            labels, left = self._nearest(kernels, rows, centroids)
            if not left.size:
                return labels
            if left.size * max(centroids.shape) <= _FEW_PRODUCTS:
                centers = self._prepare(centroids)
                labels[left] = centers.first[resolve(rows[left], centers, self.backend)]
                return labels
        centers, every = self._prepare(centroids), slice(0, len(rows))
        norms = self.backend.framed_norms(rows, every, centers.frame)
        return assign_rows(self.backend, rows, every, norms, centers, rows.dtype).labels

    def _nearest(
        self, kernels: ModuleType, rows: np.ndarray, centroids: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        n_parts = min(rows.size * len(centroids) // _PRODUCTS_A_THREAD, self.backend.n_threads)
        if n_parts < 2:
            labels, left = kernels.nearest(rows, centroids)
            return labels, left
        step = -(-len(rows) // n_parts)
        starts = range(0, len(rows), step)
        parts = self.backend.map(
            lambda lo: kernels.nearest(rows[lo : lo + step], centroids), starts
        )
        left = [lo + part[1] for lo, part in zip(starts, parts, strict=True)]
        return np.concatenate([part[0] for part in parts]), np.concatenate(left)

    def measure(
        self,
        rows: np.ndarray,
        w: np.ndarray | None,
        centroids: np.ndarray,
        summed: bool = True,
    ) -> Measured:
        """Assign the rows and sum them up.

        Parameters
        ----------
        rows : ndarray, shape (n, D)
            In the dtype of the centroids, C-contiguous.
        w : ndarray, shape (n,), or None
        centroids : ndarray, shape (K, D)
        summed : bool, default True
            Whether the sums are wanted; else they may be left empty.
        """
        summed = summed or self.metric.spherical  # there they tell the inertia
        batch = self._batch
        if batch is None or batch.x is not rows or batch.w is not w:
            batch = self._batch = _MiniBatch(self.backend, rows, w, len(centroids))
        centers = self._prepare(centroids)
        sums = ClusterSums(len(centroids), batch.grid, w is not None)
        given = centers, centroids, sums if summed else None
        with np.errstate(all="ignore"):
            parts = self.backend.map(lambda r: batch.add(r, *given), batch.ranges)
        labels = parts[0][0] if len(parts) == 1 else np.concatenate([part[0] for part in parts])
        if self.metric.spherical:
            inertia = float(exact_cosine_inertia(sums, centroids))
        else:
            known = round_enclosures([one for _, enclosures in parts for one in enclosures])
            inertia = batch.inertia(labels, centroids) if known is None else known
        return Measured(labels, sums, inertia)

    def _prepare(self, centroids: np.ndarray) -> Centers:
        known = self.prepared
        if known is None or not _same(known, centroids):
            known = prepare(centroids, self.frame, self.backend.input_unit, self.metric)
            self.prepared = known
        return known


def _same(known: Centers, centroids: np.ndarray) -> bool:
    """Whether these are the centroids that were prepared."""
    values = known.values  # all of them, unless some are equal
    alike = values.shape == centroids.shape and values.dtype == centroids.dtype
    return alike and np.array_equal(values, centroids)


def _largest(x: np.ndarray) -> np.ndarray:
    """Largest magnitude a column, float64; eight rows folded into one: long rows are faster."""
    magnitude = np.abs(x)
    whole = len(x) // 8 * 8
    top = magnitude[whole:].max(axis=0, initial=0)
    if whole:
        folded = magnitude[:whole].reshape(whole // 8, -1).max(axis=0)
        top = np.maximum(top, folded.reshape(8, -1).max(axis=0))
    return top.astype(np.float64)


def _smallest(x: np.ndarray) -> float:
    """A lower bound of the magnitudes that are not zero."""
    if x.dtype == np.float32:
        return 2.0**-149
    magnitude = np.abs(x)
    return min(float(magnitude.min(initial=1.0, where=magnitude > 0)), 1.0)


def host_rows(x: Any, dtype: np.dtype[Any], metric: Metric) -> np.ndarray:
    """All rows of a validated array on the host, in the dtype of the centroids.

    Those of a spherical metric are made of length 1.

    Raises
    ------
    ValueError
        If X holds NaN, infinity, integers beyond float64, or rows without a direction; if a sparse
        one is not sound or stores an entry twice.
    """
    if is_sparse(x):
        csr_rows(x)  # `toarray` would add up what is stored twice
        x = x.toarray()
    rows = to_numpy(x)
    if rows.dtype.kind != "f" or not np.isfinite(rows).all():  # it says what is wrong
        survey(backend_for(rows), rows, None)
    rows = np.ascontiguousarray(rows, dtype=dtype)
    return directions(rows, dtype) if metric.spherical else rows


class _MiniBatch:
    """One batch, for one centroids after the other."""

    def __init__(
        self, backend: Backend, x: np.ndarray, w: np.ndarray | None, n_clusters: int
    ) -> None:
        self.backend, self.x, self.w = backend, x, w
        n_rows, n_features = x.shape
        step = backend.block_rows(n_features, n_clusters)
        step = min(step, min(max(_SUM_ENTRIES // n_features, 16), 16384))
        self.ranges = [(lo, min(lo + step, n_rows)) for lo in range(0, n_rows, step)]
        self.norms: dict[int, np.ndarray] = {}
        largest = _largest(x)
        narrow = x.dtype == np.float32 and (w is None or w.dtype == np.float32)
        weight_range = None if w is None else (float(w[w > 0].min()), float(w.max()))
        self.grid = Grid.fit(largest, _smallest(x), weight_range, n_rows, min(step, n_rows), narrow)
        self.largest = float(largest.max())

    def add(
        self,
        bounds: tuple[int, int],
        centers: Centers,
        centroids: np.ndarray,
        sums: ClusterSums | None,
    ) -> tuple[np.ndarray, list[Enclosure]]:
        """Labels of some rows and what they add to the inertia, and to the sums where asked."""
        rows = slice(*bounds)
        backend, x = self.backend, self.x[rows]
        if rows.start not in self.norms:  # the frame stays the same
            framed = backend.frame_rows(x, slice(None), centers.frame)
            self.norms[rows.start] = backend.row_norms(framed)
        norms = self.norms[rows.start]
        labels = assign_rows(backend, x, slice(0, len(x)), norms, centers, x.dtype).labels
        w = None if self.w is None else self.w[rows]
        if sums is not None:
            none = np.full(len(x), -1, dtype=np.int32)
            backend.move_rows(x, np.arange(len(x)), w, none, labels, sums)
        if centers.metric.spherical:
            return labels, []
        exponent = math.frexp(max(self.largest, float(np.abs(centroids).max())))[1]
        return labels, backend.squares(x, labels, centroids, w, exponent, self.grid.weight_exponent)

    def inertia(self, labels: np.ndarray, centroids: np.ndarray) -> float:
        """Σ w·|x − c|² in Python integers, rounded once."""
        total = Dyadic()
        for lo, hi in self.ranges:
            rows = slice(lo, hi)
            w = None if self.w is None else self.w[rows]
            total += exact_squares(self.x[rows], centroids[labels[rows]], w)
        return float(total)
