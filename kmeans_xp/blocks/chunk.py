"""One chunk of a Dask array on its worker: its rows, and what passes over them keep.

What is kept (labels, norms, bounds) is a cache, never the truth: a task names the centroids that
the labels must belong to before it begins, and a chunk that has others, since it was computed anew
on another worker, assigns its rows to those first. So every task is a function of its arguments,
and a lost worker changes no bit.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from array_api_compat import is_cupy_array

from kmeans_xp.backends import Backend, backend_for
from kmeans_xp.backends.convert import from_numpy, to_numpy
from kmeans_xp.backends.threads import one_thread
from kmeans_xp.blocks.common import Common, Far
from kmeans_xp.blocks.device_chunk import DevicePart, Shared
from kmeans_xp.blocks.directions import directions
from kmeans_xp.blocks.oversampling import HostOversampling
from kmeans_xp.blocks.part import Part
from kmeans_xp.blocks.survey import RefusedRowError, Survey, survey
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.metric import Metric
from kmeans_xp.exact.sums import ClusterSums

__all__ = [
    "Chunk",
    "Delta",
    "Fit",
    "add_dyadics",
    "advance",
    "all_rows",
    "column_delta",
    "distances_of",
    "either",
    "far_rows",
    "farthest",
    "labelled_delta",
    "labels_of",
    "look",
    "open_chunk",
    "some_rows",
    "squares_of",
    "to_centroids",
    "used_labels",
]


@dataclass(frozen=True)
class Fit:
    """What is decided once and sent to every worker.

    Attributes
    ----------
    common : Common
    algorithm : str
    largest : int
        Rows of the largest chunk.
    shared : Shared
        What chunks on a CUDA device share there; it is not sent.
    """

    common: Common
    algorithm: str
    largest: int
    shared: Shared = field(default_factory=Shared, compare=False, repr=False)


@dataclass(frozen=True)
class Look:
    """What is seen of a chunk before the first pass.

    Attributes
    ----------
    n_rows : int
    survey : Survey or None
        None without rows, or where one is refused.
    sample : ndarray, shape (n, D)
        Some rows.
    refused : tuple of str and int, or None
        Of `RefusedRowError`.
    """

    n_rows: int
    survey: Survey | None
    sample: np.ndarray
    refused: tuple[str, int] | None


class Chunk:
    """Rows of one chunk, with what the passes of a fit keep of them.

    Parameters
    ----------
    x : array, shape (n, D)
        NumPy or CuPy; directions for a spherical metric.
    w : ndarray, shape (n,), or None
    survey : Survey or None
    refused : tuple of str and int, or None
        Why the rows cannot be computed with, if they cannot.
    """

    def __init__(
        self,
        x: Any,
        w: np.ndarray | None,
        survey: Survey | None,
        refused: tuple[str, int] | None = None,
    ) -> None:
        self.x, self.w, self.survey, self.refused = x, w, survey, refused
        self.lock = threading.Lock()
        self._part: Part | None = None
        self._at: np.ndarray | None = None
        self._drawing: HostOversampling | None = None
        self._centers: list[np.ndarray] = []

    def __reduce__(self) -> Any:
        return Chunk, (self.x, self.w, self.survey, self.refused)

    def __sizeof__(self) -> int:
        """Bytes, by which Dask knows that moving centroids is cheaper than moving rows."""
        weights = 0 if self.w is None else self.w.nbytes
        return int(self.x.nbytes) + weights + 16 * int(self.x.shape[0])

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.x.shape[0])

    def part(self, fit: Fit) -> Part:
        """The rows as part of the whole, by one thread: tasks are the threads."""
        if self._part is None:
            whole = fit.common.n_rows * fit.common.n_features
            backend, device = _backend(self.x, whole), None
            if is_cupy_array(self.x):
                device = fit.shared.passes(fit.common, fit.largest, self.x)
            if device is None:
                self._part = Part(fit.common, backend, self.n_rows, self.w, self.x)
            else:
                own = (self.w, self.x, device, fit.shared.lock)
                self._part = DevicePart(fit.common, backend, *own)
            self._part.algorithm = fit.algorithm
        return self._part

    def settled(self, fit: Fit, centroids: np.ndarray | None) -> Part:
        """The part with labels that belong to these centroids; with no labels for None."""
        part = self.part(fit)
        known, self._at = self._at, None  # an error leaves labels between the two
        if centroids is None:
            part.unlabel()
        elif known is None or not np.array_equal(known, centroids):
            if known is None:  # nor do bounds hold then
                part.unlabel()
            part.relabel(centroids, part.prepare(centroids), None)
        self._at = centroids
        return part

    def drawing(self, fit: Fit, centers: Sequence[np.ndarray]) -> HostOversampling:
        """Potentials of the rows after these batches of centres."""
        drawing, known = self._drawing, self._centers
        self._drawing = None  # an error leaves potentials between the two
        same = len(known) <= len(centers) and all(map(np.array_equal, known, centers))
        if drawing is None or not same:
            drawing, known = self.part(fit).oversampling(), []
            drawing.p.fill(np.inf)
        for some in centers[len(known) :]:
            drawing.lower(some)
        self._drawing, self._centers = drawing, list(centers)
        return drawing

    def move(self, fit: Fit, centroids: np.ndarray, sums: ClusterSums) -> tuple[int, int]:
        """Label every row anew; counts changed and rechecked rows."""
        part = self.part(fit)
        self._at = self._drawing = None
        counts = part.relabel(centroids, part.prepare(centroids), sums)
        self._at = centroids
        return counts


def _backend(x: Any, values: int | None = None) -> Backend:
    with one_thread():
        return backend_for(x, values)


@dataclass(frozen=True)
class Delta:
    """A change of exact sums over clusters, of those alone that change.

    Attributes
    ----------
    clusters : ndarray of int64, shape (n,)
        Increasing.
    values : list of ndarray of int64, shape (n, D)
        By level, as in `ClusterSums`.
    weights : list of ndarray of int64, shape (n,)
    changed, rechecked : int
        Rows.
    """

    clusters: np.ndarray
    values: list[np.ndarray]
    weights: list[np.ndarray]
    changed: int = 0
    rechecked: int = 0

    @classmethod
    def of(cls, sums: ClusterSums, changed: int = 0, rechecked: int = 0) -> Delta:
        """Difference from sums that were empty."""
        touched = np.zeros(sums.shape[0], dtype=bool)
        for value in sums.values:
            touched |= value.any(axis=1)
        for weight in sums.weights:
            touched |= weight != 0
        clusters = np.flatnonzero(touched)
        depth = max((i for i, value in enumerate(sums.values, 1) if value.any()), default=1)
        values = [value[clusters] for value in sums.values[:depth]]
        return cls(clusters, values, [w[clusters] for w in sums.weights], changed, rechecked)

    @classmethod
    def joined(cls, parts: Sequence[Delta]) -> Delta:
        """Their sum."""
        clusters = np.unique(np.concatenate([part.clusters for part in parts]))
        values: list[np.ndarray] = []
        weights: list[np.ndarray] = []
        for part in parts:
            place = np.searchsorted(clusters, part.clusters)
            for levels, own in ((values, part.values), (weights, part.weights)):
                for level, change in enumerate(own):
                    if level == len(levels):
                        levels.append(np.zeros((len(clusters), *change.shape[1:]), np.int64))
                    levels[level][place] += change
        changed, rechecked = (sum(p.changed for p in parts), sum(p.rechecked for p in parts))
        return cls(clusters, values, weights, changed, rechecked)

    def add_to(self, sums: ClusterSums) -> None:
        """Make this change."""
        for level, change in enumerate(self.values):
            sums.value_level(level)[self.clusters] += change
        for level, change in enumerate(self.weights):
            sums.weight_level(level)[self.clusters] += change


# ---- tasks


def to_centroids(values: np.ndarray) -> np.ndarray:
    """Centroids as the outcome of a task, so that workers get them from each other."""
    return values


def open_chunk(
    x: Any, w: np.ndarray | None, dtype: np.dtype[Any], metric: Metric, stored: np.dtype[Any]
) -> Chunk:
    """Look at the values of a chunk, and make directions of its rows where the metric asks.

    Raises
    ------
    TypeError, ValueError
        For a chunk that is not as the array says.
    """
    if not isinstance(x, np.ndarray) and not is_cupy_array(x):
        raise TypeError(f"X must have chunks of NumPy or CuPy arrays, got {type(x).__name__}")
    if x.dtype != stored:
        raise TypeError(
            f"X is an array of {stored}, but computing a chunk of it gave {x.dtype}; make them "
            f"agree, for example with X.map_blocks(lambda chunk: chunk.astype('{stored}'))"
        )
    if w is not None and len(w) != len(x):
        raise ValueError(f"X has a chunk of {len(x)} rows that should have {len(w)}")
    if not len(x):
        return Chunk(x, w, None)
    try:
        with one_thread():
            rows = directions(x, dtype) if metric.spherical else x
            backend = backend_for(rows)
            with backend.session():
                return Chunk(rows, w, survey(backend, rows, None))
    except RefusedRowError as error:
        return Chunk(x[:0], w, None, (error.text, error.row))


def look(chunk: Chunk, count: int, dtype: np.dtype[Any]) -> Look:
    """What the whole must know of a chunk, with up to `count` of its rows."""
    step = max(1, -(-chunk.n_rows // count))
    sample = to_numpy(chunk.x[::step]).astype(dtype)
    return Look(chunk.n_rows, chunk.survey, sample, chunk.refused)


def advance(chunk: Chunk, fit: Fit, before: np.ndarray | None, centroids: np.ndarray) -> Delta:
    """Assign rows that were assigned to the centroids `before`; the difference of the sums."""
    sums = fit.common.cluster_sums(len(centroids))
    with chunk.lock:
        part = chunk.settled(fit, before)
        with part.backend.session():
            return Delta.of(sums, *chunk.move(fit, centroids, sums))


def labels_of(chunk: Chunk, fit: Fit, at: np.ndarray) -> Any:
    """Labels that belong to these centroids, in the namespace of the chunk."""
    if not chunk.n_rows:
        return from_numpy(np.empty(0, dtype=np.int32), chunk.x)
    with chunk.lock:
        labels = chunk.settled(fit, at).labels
        assert labels is not None
        return from_numpy(labels.copy(), chunk.x)


def squares_of(chunk: Chunk, fit: Fit, weighted: bool) -> Dyadic:
    """Exact Σ w|x|² (or Σ |x|²)."""
    with chunk.lock:
        return chunk.part(fit).squares(weighted)


def add_dyadics(parts: Sequence[Dyadic]) -> Dyadic:
    """Their sum."""
    return sum(parts, Dyadic())


def column_delta(chunk: Chunk, fit: Fit) -> Delta:
    """Unweighted sums over all rows as one cluster."""
    sums = fit.common.column_sums()
    with chunk.lock:
        chunk.part(fit).add_columns(sums)
    return Delta.of(sums)


def labelled_delta(chunk: Chunk, labels: np.ndarray, fit: Fit, n_clusters: int) -> Delta:
    """Sums over clusters by given labels."""
    sums = fit.common.cluster_sums(n_clusters)
    with chunk.lock:
        chunk.part(fit).add_labelled(sums, labels)
    return Delta.of(sums)


def farthest(chunk: Chunk, first: int, fit: Fit, at: np.ndarray, count: int) -> Far:
    """Up to `count` rows that empty clusters may take; the chunk begins with row `first`."""
    with chunk.lock:
        return chunk.settled(fit, at).farthest(at, count).moved(first)


def far_rows(parts: Sequence[Far], count: int) -> Far:
    """The `count` best rows of parts that come in any order."""
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows)
    values = np.concatenate([part.values for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    return Far.best([Far(rows[order], values[order], labels[order])], count)


def used_labels(labels: Any, n_clusters: int) -> np.ndarray:
    """Which clusters have a row."""
    return np.bincount(to_numpy(labels), minlength=n_clusters) > 0


def either(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Which clusters have a row in any of them."""
    return np.any(parts, axis=0)


def distances_of(chunk: Chunk, fit: Fit, centroids: np.ndarray) -> np.ndarray:
    """Distances of all rows to all centroids on the host."""
    with chunk.lock:
        return chunk.part(fit).distances(centroids)


def some_rows(chunk: Chunk, indices: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Rows with these indices on the host."""
    return _backend(chunk.x).gather(chunk.x, indices, dtype)


def all_rows(chunk: Chunk, dtype: np.dtype[Any]) -> np.ndarray:
    """All rows on the host."""
    return to_numpy(chunk.x).astype(dtype, copy=False)
