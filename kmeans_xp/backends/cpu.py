"""NumPy in threads: row blocks that stay in cache, one BLAS thread a worker."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from array_api_compat import array_namespace

from kmeans_xp.backends import cells, cpu_numpy
from kmeans_xp.backends.generic import Backend, quiet
from kmeans_xp.backends.host_bounds import upper_norms
from kmeans_xp.backends.records import Doubles, Frame, Own, Swept, Task, Tile
from kmeans_xp.backends.threads import BlasHeld, installed, thread_count
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.grid import Grid
from kmeans_xp.exact.squares import Enclosure
from kmeans_xp.exact.sums import ClusterSums

__all__ = ["NumpyBackend", "kernels", "kernels_allowed"]

# Values from which compiled kernels pay, and from which it pays to load them (or to compile them,
# the first time of all) in a process that has not.
_SMALL, _FIRST = 1 << 14, 1 << 18
# The kernels carry the index of a centroid as float32.
_MOST_CENTERS = 1 << 24
# Rows a block of the pass without kernels: enough to make light of the interpreter.
_MOST_PASS_ROWS = 1 << 16

# Their product is zero where a process flushes subnormal operands.
_SUBNORMAL, _LARGE = np.float32(2.0**-140), np.float32(2.0**100)

T = TypeVar("T")
R = TypeVar("R")


def kernels(x: np.ndarray, values: int | None = None) -> ModuleType | None:
    """Compiled kernels for this array, if numba is there and KMEANS_XP_NUMBA does not forbid it.

    By default small arrays do without, and so do those that would be the first to need them and are
    not large; KMEANS_XP_NUMBA=1 loads them always, and fails where numba is missing.
    """
    choice = _numba_choice()
    values = x.size if values is None else values
    loaded = "kmeans_xp.backends.cpu_numba" in sys.modules
    few = values < (_SMALL if loaded else _FIRST)
    if choice == "0" or (choice == "auto" and (few or not installed("numba"))):
        return None
    from kmeans_xp.backends import cpu_numba

    return cpu_numba


def kernels_allowed() -> bool:
    """Whether KMEANS_XP_NUMBA leaves compiled kernels on."""
    return _numba_choice() != "0"


def _numba_choice() -> str:
    choice = os.environ.get("KMEANS_XP_NUMBA", "auto")
    if choice not in ("auto", "0", "1"):
        raise ValueError(f"KMEANS_XP_NUMBA must be 'auto', '0' or '1', got {choice!r}")
    return choice


class NumpyBackend(Backend):
    """Arrays in host memory, of any layout and byte order."""

    def __init__(self, x: np.ndarray, values: int | None = None) -> None:
        self.xp, self.device = array_namespace(x), "cpu"
        self.has_float64, self.index_dtype, self.pass_dtype = True, np.int64, np.float32
        self.flushes = bool(_SUBNORMAL * _LARGE == 0)
        self._fast = kernels(x, values)
        # without threadpoolctl BLAS brings its own threads: one worker leaves them to it
        self._threads = thread_count() if installed("threadpoolctl") else 1
        self._pool: ThreadPoolExecutor | None = None
        self._held: contextlib.ExitStack | None = None

    @property
    def n_threads(self) -> int:
        """Number of threads `map` uses."""
        return self._threads

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Hold BLAS to one thread a worker (if threadpoolctl is there) and keep the workers.

        They start when there is work for more than one.
        """
        if self._held is not None:
            yield
            return
        with contextlib.ExitStack() as held, BlasHeld(), quiet():
            self._held = held
            try:
                yield
            finally:
                self._held = self._pool = None

    def _workers(self) -> ThreadPoolExecutor | None:
        if self._pool is None and self._held is not None and self._threads > 1:
            pool = ThreadPoolExecutor(self._threads, "kmeans_xp")
            self._pool = self._held.enter_context(pool)
        return self._pool

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Apply `function` to every item, in the session's threads."""
        items = list(items)
        pool = self._workers() if len(items) > 1 else None
        if pool is None:
            return [function(item) for item in items]

        def quietly(item: T) -> R:
            with quiet():  # a worker has floating-point settings of its own
                return function(item)

        if len(items) > self._threads:
            return list(pool.map(quietly, items))
        others = [pool.submit(quietly, item) for item in items[1:]]
        try:
            first = quietly(items[0])  # this thread would only wait
        finally:
            wait(others)
        return [first, *(other.result() for other in others)]

    def pass_rows(self, n_features: int, n_clusters: int) -> int:
        """Rows a block of the fast pass: without kernels it works in tiles of its own."""
        if self._fast is not None or "KMEANS_XP_BLOCK_ROWS" in os.environ:
            return self.block_rows(n_features, n_clusters)
        return int(np.clip(4 * self.preferred_scores // n_features, 64, _MOST_PASS_ROWS))

    def host(self, x: np.ndarray, lo: int, hi: int, dtype: np.dtype[Any]) -> np.ndarray:
        """Rows lo..hi in the working dtype (a view where it is that already)."""
        return x[lo:hi].astype(dtype, copy=False)

    def gather(self, x: np.ndarray, rows: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """Rows with the given indices in the working dtype."""
        return cpu_numpy.take(x, rows).astype(dtype, copy=False)

    def frame_rows(self, x: np.ndarray, rows: slice | np.ndarray, frame: Frame) -> np.ndarray:
        """Rows, scaled and centred, float32."""
        block = cpu_numpy.take(x, rows)
        if self._fast is not None and self._fast.suits(block):
            compiled: np.ndarray = self._fast.frame(block, frame)
            return compiled
        work = np.float32 if block.dtype.kind == "f" and block.dtype.itemsize <= 4 else np.float64
        if frame.scale != 1.0:
            block = np.multiply(block, frame.scale, dtype=work)
        framed = np.subtract(block, frame.center, dtype=work, order="C")
        return framed.astype(np.float32, copy=False)

    def magnitudes(self, x: np.ndarray, lo: int, hi: int) -> tuple[np.ndarray, float] | None:
        """Largest magnitude a feature of rows lo..hi, and the smallest one above zero."""
        if self._fast is None or not self._fast.suits(x):
            return None
        from kmeans_xp.backends import numba_survey

        return numba_survey.magnitudes(x[lo:hi])

    def framed_norms(self, x: np.ndarray, rows: slice, frame: Frame) -> np.ndarray:
        """Upper bounds of |x̂| of some rows, float32."""
        if self._fast is None or not self._fast.suits(x):
            return super().framed_norms(x, rows, frame)
        from kmeans_xp.backends import numba_survey

        return numba_survey.norms(x[rows], frame)

    def square_sum(
        self,
        x: np.ndarray,
        rows: slice,
        w: np.ndarray | None,
        grid: Grid,
        dtype: np.dtype[Any],
    ) -> Dyadic:
        """Exact Σ w|x|² over some rows."""
        total = None
        if self._fast is not None and w is None and self._fast.suits(x):
            from kmeans_xp.backends import numba_survey

            total = numba_survey.square_sum(grid, x[rows])
        return super().square_sum(x, rows, w, grid, dtype) if total is None else total

    def row_norms(self, rows: np.ndarray) -> np.ndarray:
        """Upper bounds of |x̂|, float32."""
        return upper_norms(np.einsum("ij,ij->i", rows, rows).astype(np.float64), rows.shape[1])

    def cross(self, rows: np.ndarray, centers: np.ndarray) -> np.ndarray:
        """Products of a few centres with framed rows, float32, shape (m, n)."""
        return centers @ rows.T

    def top_two(self, rows: np.ndarray, tile: Tile) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Index of the best score of every row, that score, and its lead over the second best."""
        if self._fast is not None and len(tile.bias) < _MOST_CENTERS:
            best, score, lead = self._fast.top_two(rows, tile.centers, tile.bias)
            return best, score, lead
        frame = Frame(1.0, np.zeros(rows.shape[1], dtype=np.float32))
        none = np.zeros(len(rows), dtype=np.float32)
        bound = (0.0, 0.0, np.inf)
        return cpu_numpy.nearest(rows, slice(0, len(rows)), none, frame, tile, bound, True)[:3]

    def seeding_kernels(self, x: np.ndarray) -> ModuleType | None:
        """Compiled passes of k-means++ over this array; None where there are none."""
        if self._fast is None or not self._fast.suits(x):
            return None
        from kmeans_xp.backends import numba_seeding

        return numba_seeding

    def minibatch_kernels(self, x: np.ndarray) -> ModuleType | None:
        """Compiled steps of mini-batches like this one; None where there are none."""
        if self._fast is None or not self._fast.suits(x):
            return None
        from kmeans_xp.backends import numba_minibatch_step

        return numba_minibatch_step

    def nearest(
        self,
        x: np.ndarray,
        rows: slice | np.ndarray,
        norms: np.ndarray,
        frame: Frame,
        tile: Tile,
        bound: tuple[float, float, float],
        tight: bool = True,
        guess: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Best score of some rows: index, score, lead over the second, and its certificate."""
        if self._fast is None or len(tile.bias) >= _MOST_CENTERS:
            return cpu_numpy.nearest(x, rows, norms, frame, tile, bound, tight, guess)
        if self._fast.suits(x):
            block = cpu_numpy.take(x, rows)
            found: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
            found = self._fast.nearest(block, frame, tile, norms, bound)
            return found
        return super().nearest(x, rows, norms, frame, tile, bound)

    def recheck(self, rows: np.ndarray, doubles: Doubles) -> np.ndarray | None:
        """The one centroid that may be nearest to each row by its float64 scores."""
        if self._fast is None:
            return None
        from kmeans_xp.backends import numba_recheck

        return numba_recheck.recheck(rows, doubles)

    def age(
        self, upper: np.ndarray, lower: np.ndarray, labels: np.ndarray, give: np.ndarray
    ) -> np.ndarray:
        """Let bounds give way in place (`pruning.Drift`); positions of the rows left open."""
        if self._fast is None:
            return super().age(upper, lower, labels, give)
        from kmeans_xp.backends import numba_bounds

        return numba_bounds.age(upper, lower, labels, give)

    def renew(
        self,
        upper: np.ndarray,
        lower: np.ndarray,
        rows: slice | np.ndarray,
        score: np.ndarray,
        lead: np.ndarray,
        certified: np.ndarray,
        norms: np.ndarray,
        terms: tuple[float, float, float, float, float],
    ) -> None:
        """Bounds of distances from scores."""
        if self._fast is None:
            return super().renew(upper, lower, rows, score, lead, certified, norms, terms)
        from kmeans_xp.backends import numba_bounds

        return numba_bounds.renew(upper, lower, rows, score, lead, certified, norms, terms)

    def tighten(
        self,
        x: np.ndarray,
        rows: np.ndarray,
        labels: np.ndarray,
        own: Own,
        upper: np.ndarray,
        lower: np.ndarray,
        half: np.ndarray,
    ) -> np.ndarray:
        """Measure the distances of rows to their own centroids; returns those still open."""
        if self._fast is None or not self._fast.suits(x):
            return super().tighten(x, rows, labels, own, upper, lower, half)
        from kmeans_xp.backends import numba_bounds

        return numba_bounds.tighten(x, rows, labels, own, upper, lower, half)

    def means(self, sums: ClusterSums, old: np.ndarray) -> np.ndarray:
        """Rounded means of all clusters, by compiled code where it can."""
        if self._fast is None:
            return super().means(sums, old)
        from kmeans_xp.backends import numba_means

        return numba_means.means(sums, old, self.map)

    def squares(
        self,
        x: np.ndarray,
        labels: np.ndarray,
        centroids: np.ndarray,
        w: np.ndarray | None,
        exponent: int,
        weight_exponent: int,
    ) -> list[Enclosure]:
        """Σ w·|x − c_label|² of some rows, in parts."""
        if self._fast is None or w is not None or abs(exponent) > 1000 or not self._fast.suits(x):
            return super().squares(x, labels, centroids, w, exponent, weight_exponent)
        from kmeans_xp.backends import numba_minibatch

        return [numba_minibatch.squares(x, labels, centroids, exponent)]

    def cluster_sums(
        self,
        x: np.ndarray,
        rows: np.ndarray,
        w: np.ndarray | None,
        labels: np.ndarray,
        sums: ClusterSums,
        sign: int,
    ) -> None:
        """Add rows to exact sums, grouped by label."""
        sums.add(cpu_numpy.take(x, rows), w, labels, sign)

    def cells(self, x: np.ndarray, frame: Frame, labels: np.ndarray) -> Any:
        """Rows kept in the order of cells, where that pays."""
        if self._fast is None or not self._fast.suits(x):
            return cells.Cells.over(x, frame, labels)
        from kmeans_xp.backends import numba_cells

        return numba_cells.Cells.over(x, frame, labels)

    def sweep(
        self, x: np.ndarray, rows: slice | np.ndarray, task: Task, sums: ClusterSums | None
    ) -> Swept | None:
        """Assign rows in one compiled pass; None where there is none."""
        if self._fast is None or len(task.ids) >= _MOST_CENTERS or not self._fast.suits(x):
            return None
        swept: Swept = self._fast.sweep(x, rows, task, sums)
        return swept

    def move_rows(
        self,
        x: np.ndarray,
        rows: np.ndarray,
        w: np.ndarray | None,
        old: np.ndarray,
        labels: np.ndarray,
        sums: ClusterSums,
    ) -> None:
        """Move rows between exact sums: by compiled kernels, else both sides at once."""
        if self._fast is not None and w is None and self._fast.suits(x):
            left = self._fast.move_rows(x, rows, old, labels, sums)
            rows, old = rows[left], old[left]
        for i in range(0, len(rows), sums.grid.rows):
            part = slice(i, i + sums.grid.rows)
            some, before = rows[part], old[part]
            weights = None if w is None else w[part]
            if before.min() >= 0:
                sums.add(cpu_numpy.take(x, some), weights, labels[some], 1, before)
            else:  # some were in no cluster
                super().move_rows(x, some, weights, before, labels, sums)
