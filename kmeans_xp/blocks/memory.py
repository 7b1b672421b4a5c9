"""One array in memory: NumPy blocks over threads, or any namespace through the generic backend."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from kmeans_xp.assignment import Centers, assign_rows, choose_frame, prepare, settle_left
from kmeans_xp.backends import Backend, backend_for
from kmeans_xp.backends.convert import from_numpy, to_numpy
from kmeans_xp.backends.cpu import NumpyBackend
from kmeans_xp.backends.records import Swept, Task
from kmeans_xp.blocks.base import Potential, Step
from kmeans_xp.blocks.potential import HostPotential
from kmeans_xp.blocks.survey import survey
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.inertia import exact_variance, shift_bounds
from kmeans_xp.exact.metric import EUCLIDEAN, Metric
from kmeans_xp.exact.potentials import rounded_products
from kmeans_xp.exact.sums import ClusterSums, Grid, square_sum
from kmeans_xp.pruning import Bounds, Drift, bound_terms

__all__ = ["MemoryBlocks"]

# Values one exact partial sum holds in float64 at a time.
_SUM_ENTRIES = 1 << 18
_SAMPLE = 1000
# Values brought to the host together.
_READ_ENTRIES = 1 << 20
# Rows a worker takes at a time, where it looks for those that bounds leave open.
_BATCH_ROWS = 1 << 16
# With algorithm "auto" bounds are kept once fewer rows than this change their label.
_FEW_CHANGES = 0.1
# Measuring open rows against their own centroid first pays from this many centroids.
_TIGHTEN = 16
# Values that the exact sums of all workers together may hold a level; beyond, workers share them.
_PRIVATE_ENTRIES = 1 << 19
# Changed rows a cluster and worker from which sums of its own are worth their merging.
_FEW_MOVES = 4
# Picking open rows out pays up to this fraction.
_MOST_ROWS = 0.6
# Values below this may meet the underflow limit on their way through a pass, by item size.
_NEAR_UNDERFLOW = {4: 2.0**-60, 8: 2.0**-500}


class MemoryBlocks:
    """An array and all that is kept for it during a fit.

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
        self.x, self.w, self.like, self.metric = x, w, like, metric
        self.dtype = np.dtype(dtype)
        self.algorithm = "auto"
        self.n_rows, self.n_features = int(x.shape[0]), int(x.shape[1])
        self.backend: Backend = backend_for(x)
        with self.session():
            self.survey = survey(self.backend, x, w)
        if self.backend.flushes and self.survey.smallest < _NEAR_UNDERFLOW[self.dtype.itemsize]:
            # the namespace takes subnormal values for zero: NumPy does not
            self.x = to_numpy(x)
            self.backend = NumpyBackend(self.x)
        self._sum_rows = self._rows_a_sum()
        self.grid = self._grid(w)
        self.exponent = int(np.frexp(self.survey.largest.max())[1])
        step = -(-self.n_rows // self._sample_rows())
        sample = self.rows(np.arange(0, self.n_rows, step))
        self.frame = choose_frame(sample)
        self._norms: np.ndarray | None = None
        self._known_squares: dict[bool, Dyadic] = {}
        self._variance: Fraction | None = None
        self.reset()

    def session(self) -> contextlib.AbstractContextManager[None]:
        """Context in which the backend's threads are kept and BLAS is held back."""
        return self.backend.session()

    # ---- rows

    def ranges(self, n_clusters: int) -> list[tuple[int, int]]:
        """Row blocks sized for a pass over `n_clusters` centroids."""
        rows = self.backend.block_rows(self.n_features, n_clusters)
        return [(lo, min(lo + rows, self.n_rows)) for lo in range(0, self.n_rows, rows)]

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Rows on the host, in the dtype of the centroids."""
        return self.backend.gather(self.x, np.asarray(indices), self.dtype)

    def in_order(self) -> Iterator[np.ndarray]:
        """All rows on the host, some at a time, each read once."""
        step = max(1, _READ_ENTRIES // self.n_features)
        for lo in range(0, self.n_rows, step):
            yield self.rows(np.arange(lo, min(lo + step, self.n_rows)))

    def weights(self) -> np.ndarray | None:
        """Weights on the host."""
        return self.w

    def potential(self, rows: np.ndarray | None = None, weighted: bool = True) -> Potential:
        """Potentials for k-means++ of all rows, or of those with increasing indices `rows`."""
        return HostPotential(self, rows, weighted)

    # ---- centroids

    def place(self, centroids: np.ndarray) -> np.ndarray:
        """Handle of centroids: the array itself, with every zero made +0."""
        return np.ascontiguousarray(centroids, dtype=self.dtype) + self.dtype.type(0)

    def fetch(self, handle: np.ndarray) -> np.ndarray:
        """Centroids on the host."""
        return handle

    # ---- iterations

    def reset(self) -> None:
        """Forget the labels, before another start."""
        self._labels: np.ndarray | None = None
        self._sums: ClusterSums | None = None
        self._bounds: Bounds | None = None
        self._changed: int | None = None

    def step(self, handle: np.ndarray) -> Step:
        """One iteration: assign every row, then move every centroid."""
        changed, rechecked = self._assign(handle)
        assert self._sums is not None
        moved: list[tuple[int, int, int]] = []
        empty = self._sums.empty()
        if empty.size:
            moved = self._relocate(handle, empty)
        new = self._means(handle)
        self._transfer(moved, -1)  # relocation leaves the labels alone: so must the sums
        return Step(new, changed, len(moved), shift_bounds(new, handle), rechecked)

    def assign(self, handle: np.ndarray) -> None:
        """Make the labels belong to these centroids, and nothing else."""
        self._assign(handle, with_sums=False)

    def settle(self, handle: np.ndarray) -> None:
        """Make labels and sums belong to these centroids."""
        self._assign(handle)

    def settle_step(self, handle: np.ndarray) -> None:
        """Make the sums those that `step(handle)` made: they are."""

    def labels(self) -> Any:
        """Labels in the namespace and on the device of the data; they are handed over."""
        assert self._labels is not None
        return from_numpy(self._labels, self.like)

    def distinct_labels(self, labels: Any, n_clusters: int) -> int:
        """How many of the clusters have a row."""
        return int(np.count_nonzero(np.bincount(to_numpy(labels), minlength=n_clusters)))

    def inertia(self, handle: np.ndarray) -> float:
        """Exact inertia of the settled assignment, rounded once."""
        assert self._sums is not None
        weighted = self.w is not None
        return self.metric.inertia(lambda: self.squares(weighted), self._sums, handle)

    def labelled_inertia(self, labels: np.ndarray, centroids: np.ndarray) -> float:
        """Exact inertia of labels and centroids given on the host, rounded once."""
        sums = ClusterSums(len(centroids), self.grid, self.w is not None)
        labels = np.asarray(labels, dtype=np.int32)
        for lo, hi in self._batches(len(centroids)):
            rows, none = np.arange(lo, hi), np.full(hi - lo, -1, dtype=np.int32)
            self._move(Swept(hi - lo, rows, none, rows[:0]), labels, sums)
        weighted = self.w is not None
        return self.metric.inertia(lambda: self.squares(weighted), sums, centroids)

    def variance(self) -> Fraction:
        """Mean over features of the variance of the rows (unweighted), exactly."""
        if self._variance is None:
            squares = self.squares(False)
            if self.w is None and self._sums is not None:
                sums = self._sums
            else:
                sums = self._all_sums(ClusterSums(1, self._grid(None), False))
            self._variance = exact_variance(squares, sums, self.n_rows)
        return self._variance

    def distances(self, centroids: np.ndarray) -> np.ndarray:
        """Distances of all rows to all centroids on the host, in their dtype."""
        out = np.empty((self.n_rows, len(centroids)), dtype=self.dtype)

        def fill(bounds: tuple[int, int]) -> None:
            lo, hi = bounds
            rows = self.backend.host(self.x, lo, hi, self.dtype)
            out[lo:hi] = self.metric.distances(rows, centroids, self.exponent)

        self.backend.map(fill, self.ranges(2 * len(centroids)))
        return out

    # ---- inside an iteration

    def _assign(self, centroids: np.ndarray, with_sums: bool = True) -> tuple[int, int]:
        """Label every row, bring the exact sums up to date; counts changed and rechecked rows."""
        n_clusters = len(centroids)
        centers = prepare(centroids, self.frame, self.backend.input_unit, self.metric)
        if self._labels is None or (with_sums and self._sums is None):
            self._labels = np.full(self.n_rows, -1, dtype=np.int32)
            if with_sums:
                self._sums = ClusterSums(n_clusters, self.grid, self.w is not None)
        drift = self._drift(centroids, centers)
        task = self._task(centers)
        ranges = self._batches(n_clusters)
        workers = range(min(self.backend.n_threads, len(ranges)))
        batches = iter(ranges)

        def work(_: int) -> np.ndarray:
            sums = self._own_sums(len(workers))
            alone = len(workers) == 1 or sums is not self._sums
            with np.errstate(all="ignore"):
                counts = self._assign_batches(batches, centers, task, drift, sums, alone)
            if sums is not None and sums is not self._sums:
                assert self._sums is not None
                self._sums.merge(sums)
            return counts

        with self.session():
            parts = self.backend.map(work, workers)
        changed, rechecked = np.sum(parts, axis=0)
        self._changed = int(changed)
        return int(changed), int(rechecked)

    def _task(self, centers: Centers) -> Task:
        assert self._labels is not None
        bounds = self._bounds
        return Task(
            centers.frame,
            centers.tile,
            centers.first,
            self.row_norms(),
            self._labels,
            (centers.slope, centers.offset, centers.limit, *bound_terms(centers)),
            None if bounds is None else (bounds.upper, bounds.lower),
        )

    def _own_sums(self, n_workers: int) -> ClusterSums | None:
        """Sums for one worker alone, merged later; the shared ones where those would be large."""
        sums = self._sums
        if sums is None or n_workers == 1:
            return sums
        entries = sums.shape[0] * sums.shape[1] * n_workers
        few = self._changed is not None and self._changed < _FEW_MOVES * sums.shape[0] * n_workers
        if entries > _PRIVATE_ENTRIES or few:
            return sums
        return ClusterSums(sums.shape[0], sums.grid, sums.weighted)

    def _drift(self, centroids: np.ndarray, centers: Centers) -> Drift | None:
        """How far the bounds must give way; None where there are none and every row is assigned."""
        if self._bounds is None and self.algorithm != "lloyd":
            few = self._changed is not None and self._changed < _FEW_CHANGES * self.n_rows
            if (few or self.algorithm != "auto") and len(centroids) > 1:
                self._bounds = Bounds(self.n_rows)
        return None if self._bounds is None else self._bounds.follow(centroids, centers)

    def _assign_batches(
        self,
        batches: Iterator[tuple[int, int]],
        centers: Centers,
        task: Task,
        drift: Drift | None,
        sums: ClusterSums | None,
        alone: bool,
    ) -> np.ndarray:
        """Assign the rows that bounds cannot settle; counts changed and rechecked.

        `alone` tells that no other worker changes these sums.
        """
        counts = np.zeros(2, dtype=np.int64)
        open_rows = []
        for batch in batches:
            for rows in self._open_rows(batch, centers, drift):
                swept = None
                if len(centers.first) > 1:
                    swept = self.backend.sweep(self.x, rows, task, sums if alone else None)
                if swept is None:
                    for part in self._plain(rows, centers, task):
                        counts += self._move(part, task.labels, sums), len(part.left)
                else:
                    counts += self._move(swept, task.labels, sums), 0
                    open_rows.append(swept.left)
        if open_rows:
            left = np.concatenate(open_rows)
            part = settle_left(self.backend, self.x, left, centers, task, self.dtype)
            counts += self._move(part, task.labels, sums), len(left)
        return counts

    def _plain(self, rows: slice | np.ndarray, centers: Centers, task: Task) -> Iterator[Swept]:
        """Assign rows block by block, where there is no compiled pass."""
        step = self.backend.pass_rows(self.n_features, len(centers.first))
        bounded = self._bounds is not None
        lo, hi = (0, len(rows)) if isinstance(rows, np.ndarray) else (rows.start, rows.stop)
        for i in range(lo, hi, step):
            part = slice(i, min(i + step, hi))
            some = rows[part] if isinstance(rows, np.ndarray) else part
            new = assign_rows(self.backend, self.x, some, task.norms, centers, self.dtype, bounded)
            if self._bounds is not None:
                self._bounds.renew(self.backend, some, new, centers, task.norms)
            changed = np.flatnonzero(new.labels != task.labels[some])
            left = np.flatnonzero(~new.certified)
            moved = some[changed] if isinstance(some, np.ndarray) else changed + i
            left = some[left] if isinstance(some, np.ndarray) else left + i
            old = task.labels[moved]
            task.labels[moved] = new.labels[changed]
            yield Swept(len(moved), moved, old, left)

    def _move(self, part: Swept, labels: np.ndarray, sums: ClusterSums | None) -> int:
        """Bring sums up to date with labels that changed; counts these."""
        if part.moved.size and sums is not None:
            w = None if self.w is None else self.w[part.moved]
            self.backend.move_rows(self.x, part.moved, w, part.old, labels, sums)
        return part.changed

    def _open_rows(
        self, batch: tuple[int, int], centers: Centers, drift: Drift | None
    ) -> Iterator[slice | np.ndarray]:
        """Rows of a batch whose nearest centroid is not settled by bounds."""
        assert self._labels is not None
        lo, hi = batch
        if self._bounds is not None and drift is not None:
            still = self._bounds.age(self.backend, lo, hi, self._labels[lo:hi], drift)
            yield from self._narrowed(still, batch, centers, drift)
            return
        yield slice(lo, hi)

    def _narrowed(
        self, still: np.ndarray, batch: tuple[int, int], centers: Centers, drift: Drift | None
    ) -> Iterator[slice | np.ndarray]:
        """Rows of a batch that stay open of those that aged bounds left open."""
        assert self._labels is not None and self._bounds is not None and drift is not None
        lo, hi = batch
        if len(still) >= _MOST_ROWS * (hi - lo):
            yield slice(lo, hi)
            return
        if len(centers.first) >= _TIGHTEN:
            still = self._bounds.tighten(
                self.backend, self.x, still, self._labels, centers, drift.half
            )
        if still.size:
            yield still

    def _batches(self, n_clusters: int) -> list[tuple[int, int]]:
        """Ranges of several blocks each: enough of them to keep all threads busy."""
        step = self.backend.pass_rows(self.n_features, n_clusters)
        blocks = -(-self.n_rows // step)
        size = step * max(1, min(blocks // (4 * self.backend.n_threads), _BATCH_ROWS // step))
        return [(lo, min(lo + size, self.n_rows)) for lo in range(0, self.n_rows, size)]

    def _add(self, sums: ClusterSums, rows: np.ndarray, labels: np.ndarray, sign: int) -> None:
        for i in range(0, len(rows), self._sum_rows):
            some = rows[i : i + self._sum_rows]
            w = None if self.w is None else self.w[some]
            self.backend.cluster_sums(self.x, some, w, labels[i : i + self._sum_rows], sums, sign)

    def row_norms(self) -> np.ndarray:
        """Upper bounds of the norms of the rows as the fast pass sees them; once a fit."""
        if self._norms is None:
            norms = np.empty(self.n_rows, dtype=np.float32)

            def fill(bounds: tuple[int, int]) -> None:
                with np.errstate(all="ignore"):
                    rows = self.backend.frame_rows(self.x, slice(*bounds), self.frame)
                    norms[slice(*bounds)] = self.backend.row_norms(rows)

            with self.session():
                self.backend.map(fill, self.ranges(16))
            self._norms = norms
        return self._norms

    def _means(self, old: np.ndarray) -> np.ndarray:
        """New centroids; a cluster without weight keeps its old one."""
        assert self._sums is not None
        return self.metric.means(self._sums, old)

    # ---- empty clusters

    def _relocate(self, centroids: np.ndarray, empty: np.ndarray) -> list[tuple[int, int, int]]:
        """Give far rows to empty clusters in the sums; returns (row, from, to)."""
        assert self._labels is not None and self._sums is not None
        rows = self._farthest(centroids, len(empty))
        moved = [
            (int(row), int(self._labels[row]), int(k)) for row, k in zip(rows, empty, strict=False)
        ]
        self._transfer(moved, 1)
        return moved

    def _transfer(self, moved: list[tuple[int, int, int]], sign: int) -> None:
        if moved:
            assert self._sums is not None
            rows, source, target = (np.asarray(column) for column in zip(*moved, strict=True))
            self._add(self._sums, rows, source, -sign)
            self._add(self._sums, rows, target, sign)

    def _farthest(self, centroids: np.ndarray, count: int) -> np.ndarray:
        """Up to `count` eligible rows by decreasing rn12(|x − c_label|²), ties to the lowest
        row.
        """
        rows, values = self._farthest_of(centroids, count)
        return rows[np.argsort(-values, kind="stable")]

    def _farthest_of(self, centroids: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Such rows in increasing order, and their values."""
        assert self._labels is not None
        largest = max(float(self.survey.largest.max()), float(np.abs(centroids).max()))
        exponent = int(np.frexp(largest)[1])
        rows = np.empty(0, dtype=np.int64)
        values = np.empty(0)
        for lo, hi in self.ranges(16):
            x = self.backend.host(self.x, lo, hi, self.dtype)
            p = rounded_products(x, centroids[self._labels[lo:hi]], None, exponent)
            if self.w is not None:
                p[self.w[lo:hi] == 0] = 0.0
            rows = np.concatenate([rows, lo + np.flatnonzero(p > 0)])
            values = np.concatenate([values, p[p > 0]])
            best = np.argsort(-values, kind="stable")[:count]  # earlier rows stay first
            keep = np.sort(best)
            rows, values = rows[keep], values[keep]
        return rows, values

    # ---- once a fit

    def _rows_a_sum(self) -> int:
        """Rows whose exact partial sums are formed together."""
        entries = _SUM_ENTRIES // max(1, self.backend.n_threads // 2)  # each thread has its own
        return int(np.clip(entries // self.n_features, 16, 16384))

    def _sample_rows(self) -> int:
        """Rows to choose the frame of the fast pass by."""
        return int(np.clip(_SUM_ENTRIES // self.n_features, 16, _SAMPLE))

    def _grid(self, w: np.ndarray | None) -> Grid:
        narrow = self.dtype == np.float32 and (w is None or w.dtype == np.float32)
        seen = self.survey
        weight_range = None if w is None else seen.weight_range
        return Grid.fit(
            seen.largest, seen.smallest, weight_range, self.n_rows, self._sum_rows, narrow
        )

    def squares(self, weighted: bool) -> Dyadic:
        """Exact Σ w|x|² (or Σ |x|²) over all rows; computed once."""
        if weighted not in self._known_squares:
            grid = self.grid

            def part(bounds: tuple[int, int]) -> Dyadic:
                lo, hi = bounds
                x = self.backend.host(self.x, lo, hi, self.dtype)
                w = self.w[lo:hi] if weighted and self.w is not None else None
                return square_sum(grid, x, w)

            with self.session():
                parts = self.backend.map(part, self._sum_ranges())
            self._known_squares[weighted] = sum(parts, Dyadic())
        return self._known_squares[weighted]

    def _all_sums(self, sums: ClusterSums) -> ClusterSums:
        """Unweighted sums over all rows as one cluster."""
        for lo, hi in self._sum_ranges():
            rows = self.backend.host(self.x, lo, hi, self.dtype)
            sums.add(rows, None, np.zeros(hi - lo, dtype=np.int32))
        return sums

    def _sum_ranges(self) -> list[tuple[int, int]]:
        step = self._sum_rows
        return [(lo, min(lo + step, self.n_rows)) for lo in range(0, self.n_rows, step)]
