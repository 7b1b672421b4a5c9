"""The rows of one array, all of the data or one part of it: the passes over them, and what is kept
of a row in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from kmeans_xp.assignment import Centers, assign_rows, prepare, settle_left
from kmeans_xp.backends import Backend
from kmeans_xp.backends.records import Swept, Task
from kmeans_xp.blocks.base import Potential
from kmeans_xp.blocks.cells import label_in_cells
from kmeans_xp.blocks.common import Common, Far
from kmeans_xp.blocks.compiled_potential import host_potential
from kmeans_xp.blocks.oversampling import HostOversampling
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.potentials import rounded_products
from kmeans_xp.exact.sums import ClusterSums
from kmeans_xp.pruning import Bounds, Drift, bound_terms

__all__ = ["Part"]

# Rows a worker takes at a time, where it looks for those that bounds leave open.
_BATCH_ROWS = 1 << 16
# With algorithm "auto" bounds are kept once fewer rows than this change their label.
_FEW_CHANGES = 0.1
# They cost next to nothing beside a pass of so many products a row, and are kept from the start;
# but fewer features are left to the cells.
_LARGE_PASS = 4096
_FEWEST = 3
# Measuring open rows against their own centroid first pays from this many centroids.
_TIGHTEN = 16
# Values that the exact sums of all workers together may hold a level; beyond, workers share them.
_PRIVATE_ENTRIES = 1 << 19
# Changed rows a cluster and worker from which sums of its own are worth their merging.
_FEW_MOVES = 4
# Changed rows a cluster that are moved between sums together, where passes leave that undone.
_MOVED_TOGETHER = 16
# Picking open rows out pays up to this fraction.
_MOST_ROWS = 0.6
# Cells that leave more rows than this open are given up.
_MOST_OPEN = 0.25
# So few of a range are not worth a pass of their own before float64: most of them are near-ties.
_FEW_LEFT = 64
# Ranges of cells that a worker, one of several, takes in turn.
_CELL_RANGES = 4


class Part:
    """Rows of one array and what is kept of them: labels, norms, bounds, sums of squares.

    It knows of no other rows but what `Common` says, so it may live where its rows are: centroids
    come in, and changes of exact sums go out. Row numbers are its own, from 0.

    Parameters
    ----------
    common : Common
    backend : Backend
        For arrays like x.
    n_rows : int
    w : ndarray, shape (n,), or None
        Weights of these rows.
    x : array, shape (n, D), or None
        The rows, never modified; directions for a spherical metric. They may come and go between
        passes; only `begin` does without.

    Attributes
    ----------
    algorithm : str
        As for `kmeans`.
    eager : bool
        Whether "auto" may keep bounds from the first pass on.
    """

    def __init__(
        self, common: Common, backend: Backend, n_rows: int, w: np.ndarray | None, x: Any = None
    ) -> None:
        self.common, self.backend, self.w, self.x = common, backend, w, x
        self.n_rows, self.n_features = n_rows, common.n_features
        self.algorithm = "auto"
        self.eager = True
        self._norms: np.ndarray | None = None
        self._known_squares: dict[bool, Dyadic] = {}
        self._cells: Any = None
        self._cells_pay = None if x is not None else False  # they hold the rows, which must stay
        self.unlabel()

    def unlabel(self, labels: np.ndarray | None = None) -> None:
        """Put every row in no cluster.

        Parameters
        ----------
        labels : ndarray of int32, shape (n,), optional
            Where labels are kept from now on, all −1; memory of its own by default, when it is
            first needed.
        """
        self.labels = labels
        if self._cells is not None:
            self._cells.forget()
        self.bounds: Bounds | None = None
        self._changed: int | None = None
        self._plan: tuple[Drift | None, np.ndarray | None] | None = None

    # ---- an iteration

    def prepare(self, centroids: np.ndarray) -> Centers:
        """Make centroids ready for the passes, the same for all parts."""
        common = self.common
        return prepare(centroids, common.frame, self.backend.input_unit, common.metric)

    def begin(self, centroids: np.ndarray, centers: Centers) -> bool:
        """Before `relabel`, where rows are not here yet: whether any label may change.

        If not, `relabel` is left out.
        """
        drift = self._drift(centroids, centers)
        still = None
        if drift is not None and self.bounds is not None:
            labels = self._known_labels()
            still = self.bounds.age(self.backend, 0, self.n_rows, labels, drift)
        self._plan = drift, still
        return still is None or still.size > 0

    def open_rows(self, unproven: np.ndarray | None = None) -> np.ndarray | None:
        """After `begin`, rows that bounds do not settle; None for all, or where most are open.

        Parameters
        ----------
        unproven : ndarray of bool, shape (n,), optional
            Rows whose label is not known from elsewhere to stay; all by default.
        """
        assert self._plan is not None
        still = self._plan[1]
        if unproven is not None:
            still = np.flatnonzero(unproven) if still is None else still[unproven[still]]
        return None if still is None or len(still) >= _MOST_ROWS * self.n_rows else still

    def relabel(
        self, centroids: np.ndarray, centers: Centers, sums: ClusterSums | None
    ) -> tuple[int, int]:
        """Label every row; counts changed and rechecked ones.

        Parameters
        ----------
        centroids : ndarray, shape (K, D)
        centers : Centers
            What `prepare` made of them.
        sums : ClusterSums or None
            Rows whose label changes leave the sums of their old cluster for those of the new one:
            the sums of the whole, or empty ones that become the difference.
        """
        self._look_for_cells(len(centers.first))
        if self._plan is None:
            self._plan = self._drift(centroids, centers), None
        task = self._task(centers)
        cells = None if self.bounds is not None else self._cells
        threads = self.backend.n_threads
        if cells is not None:
            with self.backend.session():
                cells.aim(centers.values, task, self.backend.map, threads)
        if cells is None:
            ranges = self._batches(len(centroids))
        else:
            ranges = cells.ranges(_CELL_RANGES * threads if threads > 1 else 1)
        workers = range(min(threads, len(ranges)))
        batches = iter(ranges)

        def work(_: int) -> np.ndarray:
            own = self._own_sums(sums, len(workers))
            alone = len(workers) == 1 or own is not sums
            with np.errstate(all="ignore"):
                counts = self._assign_batches(batches, centers, task, own, alone, cells)
            if sums is not None and own is not None and own is not sums:
                sums.merge(own)
            return counts

        with self.backend.session():
            parts = self.backend.map(work, workers)
        self._plan = None
        changed, rechecked, opened = np.sum(parts, axis=0)
        if cells is not None and opened > _MOST_OPEN * self.n_rows:
            self._cells, self._cells_pay = None, False
        self._changed = int(changed)
        return int(changed), int(rechecked)

    def _known_labels(self) -> np.ndarray:
        if self.labels is None:
            self.labels = np.full(self.n_rows, -1, dtype=np.int32)
        return self.labels

    def _task(self, centers: Centers) -> Task:
        bounds = self.bounds
        return Task(
            centers.frame,
            centers.tile,
            centers.first,
            self.row_norms(),
            self._known_labels(),
            (centers.slope, centers.offset, centers.limit, *bound_terms(centers)),
            None if bounds is None else (bounds.upper, bounds.lower),
        )

    def _look_for_cells(self, n_clusters: int) -> None:
        """Sort rows into cells after the first pass, unless bounds are asked for or there."""
        plain = self.algorithm in ("auto", "lloyd") and not self.common.metric.spherical
        plain = plain and self._changed is not None and self.bounds is None
        if self._cells_pay is None and plain and n_clusters > 1:
            labels = self._known_labels()
            self._cells = self.backend.cells(self.x, self.common.frame, labels)
            self._cells_pay = self._cells is not None

    def _own_sums(self, sums: ClusterSums | None, n_workers: int) -> ClusterSums | None:
        """Sums for one worker alone, merged later; the shared ones where those would be large."""
        if sums is None or n_workers == 1:
            return sums
        entries = sums.shape[0] * sums.shape[1] * n_workers
        few = self._changed is not None and self._changed < _FEW_MOVES * sums.shape[0] * n_workers
        if entries > _PRIVATE_ENTRIES or few:
            return sums
        return ClusterSums(sums.shape[0], sums.grid, sums.weighted)

    def _drift(self, centroids: np.ndarray, centers: Centers) -> Drift | None:
        """How far the bounds must give way; None where there are none and every row is assigned."""
        if self.bounds is None and self.algorithm != "lloyd" and not self._cells_pay:
            few = self._changed is not None and self._changed < _FEW_CHANGES * self.n_rows
            large = self.n_features > _FEWEST and len(centroids) * self.n_features >= _LARGE_PASS
            if (few or (large and self.eager) or self.algorithm != "auto") and len(centroids) > 1:
                self.bounds = Bounds(self.n_rows)
        return None if self.bounds is None else self.bounds.follow(centroids, centers, self.labels)

    def _assign_batches(
        self,
        batches: Iterator[tuple[int, int]],
        centers: Centers,
        task: Task,
        sums: ClusterSums | None,
        alone: bool,
        cells: Any,
    ) -> np.ndarray:
        """Assign the rows that cells or bounds cannot settle; counts changed and rechecked rows,
        and those that cells left.

        `alone` tells that no other worker changes these sums.
        """
        counts, open_rows = np.zeros(3, dtype=np.int64), []
        rest: Iterable[slice | np.ndarray]
        if cells is None:
            rest = (r for batch in batches for r in self._open_rows(batch, centers, task.labels))
        else:
            changed, told = label_in_cells(self.backend, cells, batches, task.labels, self.w, sums)
            counts += changed, 0, sum(map(len, told))
            rest = [rows for rows in told if len(rows) > _FEW_LEFT]
            open_rows += [rows for rows in told if len(rows) <= _FEW_LEFT]
        waiting: list[Swept] = []
        enough = _MOVED_TOGETHER * len(centers.first)
        for rows in rest:
            swept = None
            if len(centers.first) > 1:
                swept = self.backend.sweep(self.x, rows, task, sums if alone else None)
            for part in self._plain(rows, centers, task) if swept is None else [swept]:
                open_rows.append(part.left)
                waiting.append(part)
                if swept is not None or sum(len(part.moved) for part in waiting) > enough:
                    counts += self._move_all(waiting, task.labels, sums), 0, 0
        counts += self._move_all(waiting, task.labels, sums), 0, 0
        left = np.concatenate(open_rows) if open_rows else np.empty(0, dtype=np.int64)
        if left.size:
            part = settle_left(self.backend, self.x, left, centers, task, self.common.dtype)
            counts += self._move(part, task.labels, sums), len(left), 0
        return counts

    def _plain(self, rows: slice | np.ndarray, centers: Centers, task: Task) -> Iterator[Swept]:
        """Assign rows block by block, where there is no compiled pass."""
        step = self.backend.pass_rows(self.n_features, len(centers.first))
        bounded, dtype = self.bounds is not None, self.common.dtype
        lo, hi = (0, len(rows)) if isinstance(rows, np.ndarray) else (rows.start, rows.stop)
        for i in range(lo, hi, step):
            part = slice(i, min(i + step, hi))
            some = rows[part] if isinstance(rows, np.ndarray) else part
            new = assign_rows(
                self.backend,
                self.x,
                some,
                task.norms,
                centers,
                dtype,
                tight=bounded,
                decide=False,
                known=task.labels,
            )
            if self.bounds is not None:
                self.bounds.renew(self.backend, some, new, centers, task.norms)
            changed = np.flatnonzero((new.labels != task.labels[some]) & new.certified)
            left = np.flatnonzero(~new.certified)
            moved = some[changed] if isinstance(some, np.ndarray) else changed + i
            left = some[left] if isinstance(some, np.ndarray) else left + i
            old = task.labels[moved]
            task.labels[moved] = new.labels[changed]
            yield Swept(len(moved), moved, old, left)

    def _move_all(self, parts: list[Swept], labels: np.ndarray, sums: ClusterSums | None) -> int:
        """`_move` for several parts together, taken out of the list."""
        if len(parts) > 1:
            moved = np.concatenate([part.moved for part in parts])
            old = np.concatenate([part.old for part in parts])
            parts[:] = [Swept(sum(part.changed for part in parts), moved, old, moved[:0])]
        return sum(self._move(parts.pop(), labels, sums) for _ in range(len(parts)))

    def _move(self, part: Swept, labels: np.ndarray, sums: ClusterSums | None) -> int:
        """Bring sums up to date with labels that changed; counts these."""
        if part.moved.size and sums is not None:
            w = None if self.w is None else self.w[part.moved]
            self.backend.move_rows(self.x, part.moved, w, part.old, labels, sums)
        return part.changed

    def _open_rows(
        self, batch: tuple[int, int], centers: Centers, labels: np.ndarray
    ) -> Iterator[slice | np.ndarray]:
        """Rows of a batch whose nearest centroid is not settled by bounds."""
        assert self._plan is not None
        lo, hi = batch
        drift, still = self._plan
        if self.bounds is None or drift is None:
            yield slice(lo, hi)
            return
        if still is None:
            still = self.bounds.age(self.backend, lo, hi, labels[lo:hi], drift)
        else:  # `begin` has let the bounds give way
            still = still[slice(*np.searchsorted(still, batch))]
        if len(still) >= _MOST_ROWS * (hi - lo):
            yield slice(lo, hi)
            return
        if len(centers.first) >= _TIGHTEN:
            still = self.bounds.tighten(self.backend, self.x, still, labels, centers, drift.half)
        if still.size:
            yield still

    def _batches(self, n_clusters: int) -> list[tuple[int, int]]:
        """Ranges of several blocks each: enough of them to keep all threads busy."""
        step, threads = self.backend.pass_rows(self.n_features, n_clusters), self.backend.n_threads
        blocks = -(-self.n_rows // step)
        size = step * max(1, min(blocks // (4 * threads), _BATCH_ROWS // step))
        if threads > 1 and self.n_rows > size:  # as many for each thread
            rounds = -(-self.n_rows // (size * threads))
            size = -(-self.n_rows // (rounds * threads))
        return self._ranges(size)

    def labelled(self, changed: int) -> None:
        """Take note that `labels` were brought up to date from elsewhere, after `begin`."""
        self._plan, self._changed = None, changed

    # ---- once a fit

    def row_norms(self) -> np.ndarray:
        """Upper bounds of the norms of the rows as the fast pass sees them; once a fit."""
        if self._norms is None:
            norms = np.empty(self.n_rows, dtype=np.float32)

            def fill(bounds: tuple[int, int]) -> None:
                rows = slice(*bounds)
                with np.errstate(all="ignore"):
                    norms[rows] = self.backend.framed_norms(self.x, rows, self.common.frame)

            with self.backend.session():
                self.backend.map(fill, self.blocks(16))
            self._norms = norms
        return self._norms

    def squares(self, weighted: bool) -> Dyadic:
        """Exact Σ w|x|² (or Σ |x|²) over these rows; computed once."""
        if weighted not in self._known_squares:
            grid, dtype = self.common.grid, self.common.dtype

            def part(bounds: tuple[int, int]) -> Dyadic:
                rows = slice(*bounds)
                w = self.w[rows] if weighted and self.w is not None else None
                return self.backend.square_sum(self.x, rows, w, grid, dtype)

            step = max(grid.rows, -(-self.n_rows // (4 * self.backend.n_threads)))
            with self.backend.session():
                parts = self.backend.map(part, self._ranges(step))
            self._known_squares[weighted] = sum(parts, Dyadic())
        return self._known_squares[weighted]

    def measured(self, weighted: bool) -> bool:
        """Whether `squares` are known, and the rows need not be here for them."""
        return weighted in self._known_squares

    # ---- rare passes

    def add(self, sums: ClusterSums, rows: np.ndarray, labels: np.ndarray, sign: int) -> None:
        """Add (or with ``sign=-1`` take away) some rows."""
        step = self.common.sum_rows
        for i in range(0, len(rows), step):
            some = rows[i : i + step]
            w = None if self.w is None else self.w[some]
            self.backend.cluster_sums(self.x, some, w, labels[i : i + step], sums, sign)

    def add_labelled(self, sums: ClusterSums, labels: np.ndarray) -> None:
        """Add all rows to the sums of these labels."""
        for lo, hi in self._batches(sums.shape[0]):
            rows, none = np.arange(lo, hi), np.full(hi - lo, -1, dtype=np.int32)
            self._move(Swept(hi - lo, rows, none, rows[:0]), labels, sums)

    def add_columns(self, sums: ClusterSums) -> None:
        """Add all rows, unweighted, to the sums of one cluster."""
        for lo, hi in self._ranges(self.common.sum_rows):
            rows = self.backend.host(self.x, lo, hi, self.common.dtype)
            sums.add(rows, None, np.zeros(hi - lo, dtype=np.int32))

    def farthest(self, centroids: np.ndarray, count: int) -> Far:
        """Up to `count` rows that empty clusters may take; labels belong to these centroids."""
        exponent = self.common.exponent_with(centroids)
        labels = self._known_labels()
        best = Far.of(np.empty(0), labels[:0], 0)
        for lo, hi in self.blocks(16):
            x = self.backend.host(self.x, lo, hi, self.common.dtype)
            p = rounded_products(x, centroids[labels[lo:hi]], None, exponent)
            if self.w is not None:
                p[self.w[lo:hi] == 0] = 0.0
            best = Far.best([best, Far.of(p, labels[lo:hi], lo)], count)
        return best

    def distances(self, centroids: np.ndarray) -> np.ndarray:
        """Distances of the rows to all centroids on the host, in their dtype."""
        common = self.common
        out = np.empty((self.n_rows, len(centroids)), dtype=common.dtype)

        def fill(bounds: tuple[int, int]) -> None:
            lo, hi = bounds
            rows = self.backend.host(self.x, lo, hi, common.dtype)
            out[lo:hi] = common.metric.distances(rows, centroids, common.exponent)

        self.backend.map(fill, self.blocks(2 * len(centroids)))
        return out

    # ---- rows

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Rows on the host, in the dtype of the centroids."""
        return self.backend.gather(self.x, np.asarray(indices), self.common.dtype)

    def potential(self, rows: np.ndarray | None = None, weighted: bool = True) -> Potential:
        """Potentials for k-means++ of all rows, or of those with increasing indices `rows`."""
        return host_potential(self, rows, weighted)

    def oversampling(
        self, rows: np.ndarray | None = None, weighted: bool = True
    ) -> HostOversampling:
        """Potentials for k-means||, as `potential`."""
        return HostOversampling(self, rows, weighted)

    def nearest_to(self, points: np.ndarray) -> Callable[[slice | np.ndarray], np.ndarray]:
        """Return what tells the nearest of some points, by |x − c|², for given rows."""
        dtype, norms = self.common.dtype, self.row_norms()
        centers = prepare(points, self.common.frame, self.backend.input_unit)

        def nearest(rows: slice | np.ndarray) -> np.ndarray:
            with np.errstate(all="ignore"):
                found = assign_rows(self.backend, self.x, rows, norms, centers, dtype, tight=False)
            return found.labels

        return nearest

    def blocks(self, n_clusters: int) -> list[tuple[int, int]]:
        """Row blocks sized for a pass over `n_clusters` centroids."""
        return self._ranges(self.backend.block_rows(self.n_features, n_clusters))

    def _ranges(self, step: int) -> list[tuple[int, int]]:
        return [(lo, min(lo + step, self.n_rows)) for lo in range(0, self.n_rows, step)]
