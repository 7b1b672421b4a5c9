"""A Dask array: the chunks stay on their workers, with what the passes keep of their rows.

Of an iteration only the centroids go out, and differences of exact sums come back, combined by a
tree. `chunk` says what a worker does, `dask_tasks` how the scheduler is asked.
"""

from __future__ import annotations

import contextlib
import functools
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import dask
import dask.array as da
import numpy as np
from array_api_compat import is_cupy_array
from dask.delayed import Delayed, delayed

from kmeans_xp.assignment import choose_frame
from kmeans_xp.backends.cpu import NumpyBackend
from kmeans_xp.backends.cuda_blocks import DeviceUnsupported
from kmeans_xp.blocks import chunk as tasks
from kmeans_xp.blocks.base import Oversampling, Potential, Step
from kmeans_xp.blocks.chunk import Delta, Fit, Look
from kmeans_xp.blocks.common import Common, Far, rows_a_sum
from kmeans_xp.blocks.dask_oversampling import DaskOversampling
from kmeans_xp.blocks.dask_tasks import Chunks, hold, process, tree
from kmeans_xp.blocks.device_chunk import on_levels
from kmeans_xp.blocks.part import Part
from kmeans_xp.blocks.rows import RowBlocks
from kmeans_xp.blocks.survey import RefusedRowError, Survey, weight_range
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.metric import EUCLIDEAN, Metric
from kmeans_xp.exact.sums import ClusterSums

__all__ = ["DaskBlocks"]

# Rows that the frame of the fast pass is chosen by.
_SAMPLE = 1000


class DaskBlocks(RowBlocks):
    """The chunks of a Dask array.

    Parameters
    ----------
    x : dask.array.Array, shape (N, D)
        One chunk along the features, known numbers of rows.
    w : ndarray, shape (N,), or None
        Validated weights on the client.
    dtype : numpy.dtype
        float32 or float64: the dtype of the centroids.
    metric : Metric

    Raises
    ------
    ValueError
        If a value is NaN, infinite or an integer beyond float64, naming its row.
    """

    def __init__(
        self, x: Any, w: np.ndarray | None, dtype: np.dtype[Any], metric: Metric = EUCLIDEAN
    ) -> None:
        dtype = np.dtype(dtype)
        self._sizes = [int(size) for size in x.chunks[0]]
        ends = np.cumsum(self._sizes)
        chunks = Chunks(
            [
                delayed(tasks.open_chunk, pure=False)(
                    rows, None if w is None else w[end - size : end], dtype, metric, x.dtype
                )
                for rows, size, end in zip(x.to_delayed().ravel(), self._sizes, ends, strict=True)
            ]
        )
        looks = chunks.each(tasks.look, -(-_SAMPLE // len(chunks)), dtype)
        self._check(looks)
        filled = np.flatnonzero(self._sizes)
        self._all, self.chunks = chunks, chunks.keep(filled.tolist())
        self.starts = (ends - self._sizes)[filled]
        n_rows, n_features = int(ends[-1]), int(x.shape[1])
        seen = Survey.joined([look.survey for look in looks if look.survey], weight_range(w))
        backend = NumpyBackend(np.empty((0, n_features), dtype), n_rows * n_features)
        sample = np.concatenate([look.sample for look in looks])
        frame = choose_frame(sample[:: -(-len(sample) // _SAMPLE)])
        weight_dtype = None if w is None else w.dtype
        sum_rows = rows_a_sum(backend, n_features)
        common = Common(n_rows, dtype, weight_dtype, metric, seen, frame, sum_rows)
        if is_cupy_array(x._meta) and x.dtype.kind == "f" and not metric.spherical:
            with contextlib.suppress(DeviceUnsupported):  # CuPy's own functions do without
                common = on_levels(common, max(self._sizes), x.dtype)
        self._meta = x._meta
        self._fit: Delayed | None = None
        self._sent: list[tuple[np.ndarray, Delayed]] = []
        self._at: np.ndarray | None = None
        self._moved = self._fresh = 0
        super().__init__(common, backend, w, np.empty(0, dtype=dtype))

    def _check(self, looks: list[Look]) -> None:
        first = 0
        for i, (look, size) in enumerate(zip(looks, self._sizes, strict=True)):
            if look.refused is not None:
                text, row = look.refused
                raise RefusedRowError(text, first + row)
            if look.n_rows != size:
                raise ValueError(
                    f"X says that chunk {i} has {size} rows, but computing it gave {look.n_rows}; "
                    "X.compute_chunk_sizes() finds the real sizes"
                )
            first += size

    # ---- iterations

    def step(self, handle: Any) -> Step:
        """One iteration: assign every row, then move every centroid."""
        before = self._moved
        step = super().step(handle)
        return replace(step, bytes_moved=self._moved - before)

    def unlabel(self) -> None:
        """Put every row in no cluster."""
        self._at = None

    def relabel(self, centroids: np.ndarray, sums: ClusterSums | None) -> tuple[int, int]:
        """Label every row, bring the sums up to date; counts changed and rechecked rows.

        Without sums labels are left until they are asked for.
        """
        if sums is None:
            self._at = centroids
            return 0, 0
        before = None if self._at is None else self._out(self._at)
        delta = self.combine(tasks.advance, Delta.joined, before, self._out(centroids))
        delta.add_to(sums)
        self._at = centroids
        return delta.changed, delta.rechecked

    def _out(self, centroids: np.ndarray) -> Delayed:
        """Centroids on their way to the workers, who have those of the pass before."""
        for known, held in self._sent:
            if known is centroids:
                return held
        held = hold(tasks.to_centroids, centroids)
        self._sent = [*self._sent[-1:], (centroids, held)]
        self._fresh += centroids.nbytes
        return held

    def plan(self) -> Delayed:
        """What was decided once, on its way to the workers."""
        if self._fit is None:
            self._fit = hold(Fit, self.common, self.algorithm, max(self._sizes))
        return self._fit

    def combine(self, function: Any, merge: Any, *shared: Any, own: Any = None) -> Any:
        """Combine what a function of the chunks, the fit and more gives; count what moves."""
        piece = self.chunks.total(function, merge, self.plan(), *shared, own=own)
        self._moved += piece.moved + self._fresh * len(piece.workers - {process()})
        self._fresh = 0
        return piece.value

    # ---- rows

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Rows on the host, in the dtype of the centroids."""
        indices = np.asarray(indices, dtype=np.int64)
        out = np.empty((len(indices), self.n_features), dtype=self.dtype)
        owner = np.searchsorted(self.starts, indices, side="right") - 1
        owners = np.unique(owner)
        places = [np.flatnonzero(owner == i) for i in owners]
        own = [(indices[place] - self.starts[i],) for i, place in zip(owners, places, strict=True)]
        some = self.chunks.keep(owners.tolist())
        found = some.each(tasks.some_rows, self.dtype, own=own)
        for place, rows in zip(places, found, strict=True):
            out[place] = rows
        return out

    def in_order(self) -> Iterator[np.ndarray]:
        """All rows on the host, a chunk at a time."""
        for i in range(len(self.chunks)):
            yield self.chunks.keep([i]).each(tasks.all_rows, self.dtype)[0]

    def potential(self, rows: np.ndarray | None = None, weighted: bool = True) -> Potential:
        """Potentials of rows that are gathered on the client: up to max(2**20, 256·K) of them."""
        return self._gathered(rows).potential(None, weighted)

    def oversampling(self, rows: np.ndarray | None = None, weighted: bool = True) -> Oversampling:
        """Potentials for k-means||: of all rows where they are, of some on the client."""
        if rows is None:
            return DaskOversampling(self)
        return self._gathered(rows).oversampling(None, weighted)

    def _gathered(self, rows: np.ndarray | None) -> Part:
        chosen = np.arange(self.n_rows) if rows is None else rows
        w = None if self.w is None else self.w[chosen]
        return Part(self.common, self.backend, len(chosen), w, self.rows(chosen))

    def distances(self, centroids: np.ndarray) -> np.ndarray:
        """Distances of all rows to all centroids on the host, in their dtype."""
        return np.concatenate(self.chunks.each(tasks.distances_of, self.plan(), centroids))

    # ---- sums

    def labelled_sums(self, labels: np.ndarray, n_clusters: int) -> ClusterSums:
        """Sums over clusters by labels given on the host."""
        sums = self.common.cluster_sums(n_clusters)
        own = [(part,) for part in np.split(labels, self.starts[1:])]
        delta = self.combine(tasks.labelled_delta, Delta.joined, n_clusters, own=own)
        delta.add_to(sums)
        return sums

    def column_sums(self) -> ClusterSums:
        """Unweighted sums over all rows as one cluster."""
        sums = self.common.column_sums()
        self.combine(tasks.column_delta, Delta.joined).add_to(sums)
        return sums

    def measure_squares(self, weighted: bool) -> Dyadic:
        """Exact Σ w|x|² (or Σ |x|²) over all rows."""
        found: Dyadic = self.combine(tasks.squares_of, tasks.add_dyadics, weighted)
        return found

    def farthest(self, centroids: np.ndarray, count: int) -> Far:
        """Up to `count` rows that empty clusters may take."""
        merge = functools.partial(tasks.far_rows, count=count)
        own = [(int(start),) for start in self.starts]
        at = self._out(centroids)
        found: Far = self.combine(tasks.farthest, merge, at, count, own=own)
        return found

    def add(self, sums: ClusterSums, rows: np.ndarray, labels: np.ndarray, sign: int) -> None:
        """Add (or with ``sign=-1`` take away) some rows."""
        x = self.rows(rows)
        w = None if self.w is None else self.w[rows]
        step = self.common.sum_rows
        for i in range(0, len(x), step):
            some = np.arange(i, min(i + step, len(x)))
            part = None if w is None else w[some]
            self.backend.cluster_sums(x, some, part, labels[some], sums, sign)

    # ---- results

    def labels(self) -> Any:
        """Labels as a Dask array with the chunks of the rows, computed where these are."""
        assert self._at is not None
        name = f"kmeans-labels-{uuid.uuid4().hex}"
        at = self._out(self._at)
        graph = self._all.kept(tasks.labels_of, name, self.plan(), at)
        like = self._meta.reshape(-1).astype(np.int32)
        return da.Array(graph, name, (tuple(self._sizes),), meta=like)

    def distinct_labels(self, labels: Any, n_clusters: int) -> int:
        """How many of the clusters have a row."""
        used = [
            delayed(tasks.used_labels, pure=False)(part, n_clusters)
            for part in labels.to_delayed().ravel()
        ]
        [found] = dask.compute(tree(tasks.either, used))
        return int(np.count_nonzero(found))
