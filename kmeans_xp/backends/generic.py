"""The backend for any array namespace, in array-API terms: the specification in code."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from array_api_compat import array_namespace, device

from kmeans_xp.backends import host_bounds
from kmeans_xp.backends.abilities import flushes, has_float64, true_float32
from kmeans_xp.backends.convert import centroid_dtype, from_numpy, on_cpu, to_numpy
from kmeans_xp.backends.records import Doubles, Frame, Own, Swept, Task, Tile
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.grid import Grid, SquareSum
from kmeans_xp.exact.means import rounded_means
from kmeans_xp.exact.squares import Enclosure, enclose_squares
from kmeans_xp.exact.sums import ClusterSums

__all__ = ["Backend", "chosen_block_rows", "quiet"]

# Values worked on at a time, so that the helpers stay in cache.
_CACHED = 1 << 13

T = TypeVar("T")
R = TypeVar("R")


class Backend:
    """Any namespace that array-api-compat knows, one array at a time."""

    #: scores a block: small enough that the scores stay in cache
    preferred_scores = 1 << 20
    #: values one look at the data takes at a time
    survey_entries = 1 << 19
    #: relative rounding of the factors of a matrix product, beyond float32's own
    input_unit = 0.0
    #: subnormal values count as zero
    flushes = False

    def __init__(self, x: Any) -> None:
        self.xp = array_namespace(x)
        self.device = device(x)
        # A float32 matrix product is only a float32 product on a CPU, and not even there if asked
        # otherwise; elsewhere the pass runs in float64 or counts on bfloat16 factors.
        self.has_float64 = has_float64(self.xp, x)
        self.input_unit = 0.0 if on_cpu(x) and true_float32(x) else 2.0**-8
        self.index_dtype = np.int64 if self.has_float64 else np.int32
        self.flushes = flushes(self.xp, self.device)
        if not on_cpu(x):
            self.survey_entries = 1 << 27
        self.pass_dtype = self.xp.float32
        if self.input_unit and self.has_float64:
            self.input_unit, self.pass_dtype = 0.0, self.xp.float64

    @property
    def n_threads(self) -> int:
        """Number of threads `map` uses."""
        return 1

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Hold this backend's thread settings."""
        with quiet():
            yield

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Apply `function` to every item."""
        return [function(item) for item in items]

    def block_rows(self, n_features: int, n_clusters: int) -> int:
        """Rows a block."""
        chosen = chosen_block_rows()
        if chosen is not None:
            return chosen
        entries = self.preferred_scores // max(1, self.n_threads // 2)  # every thread has a block
        return min(max(entries // max(n_features, n_clusters), 64), 16384)

    def pass_rows(self, n_features: int, n_clusters: int) -> int:
        """Rows a block of the fast pass."""
        return self.block_rows(n_features, n_clusters)

    def host(self, x: Any, lo: int, hi: int, dtype: np.dtype[Any]) -> np.ndarray:
        """Rows lo..hi as NumPy, in the working dtype."""
        return np.asarray(to_numpy(x[lo:hi, :]), dtype=dtype)

    def gather(self, x: Any, rows: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """Rows with the given indices as NumPy, in the working dtype."""
        taken = to_numpy(self._take(x, rows))
        return np.asarray(taken[: len(rows)], dtype=dtype)

    def _take(self, x: Any, rows: np.ndarray) -> Any:
        """Rows of x, the last one repeated to a power of two: JAX compiles for every shape."""
        count = 1 << max(len(rows) - 1, 0).bit_length()
        padded = np.pad(rows, (0, count - len(rows)), mode="edge")
        index = from_numpy(padded.astype(self.index_dtype), x)
        return self.xp.take(x, index, axis=0)

    def frame_rows(self, x: Any, rows: slice | np.ndarray, frame: Frame) -> Any:
        """Rows, scaled and centred, each value rounded at most twice; more rows may follow them."""
        xp = self.xp
        work = xp.float32 if centroid_dtype(x) == np.float32 else xp.float64
        chosen = x[rows, :] if isinstance(rows, slice) else self._take(x, rows)
        framed = xp.astype(chosen, work)
        if frame.scale != 1.0:
            framed = framed * frame.scale
        center = xp.astype(from_numpy(frame.center, x), work)
        return xp.astype(framed - center[None, :], xp.float32)

    def magnitudes(self, x: Any, lo: int, hi: int) -> tuple[np.ndarray, float] | None:
        """Largest magnitude a feature of rows lo..hi, and the smallest one above zero.

        None where there is no fast way, or a value is not finite.
        """
        return None

    def framed_norms(self, x: Any, rows: slice, frame: Frame) -> np.ndarray:
        """Upper bounds of |x̂| of some rows, float32."""
        return self.row_norms(self.frame_rows(x, rows, frame))

    def square_sum(
        self,
        x: Any,
        rows: slice,
        w: np.ndarray | None,
        grid: Grid,
        dtype: np.dtype[Any],
    ) -> Dyadic:
        """Exact Σ w|x|² over some rows, `w` their weights."""
        squares = SquareSum(grid, w is not None)
        for lo in range(rows.start, rows.stop, grid.rows):
            hi = min(lo + grid.rows, rows.stop)
            weights = None if w is None else w[lo - rows.start : hi - rows.start]
            squares.add(self.host(x, lo, hi, dtype), weights)
        return squares.total()

    def row_norms(self, rows: Any) -> np.ndarray:
        """Upper bounds of |x̂|, float32."""
        xp = self.xp
        n_features = rows.shape[1]
        squares = to_numpy(xp.sum(rows * rows, axis=1, dtype=xp.float32)).astype(np.float64)
        return host_bounds.upper_norms(squares, n_features)

    def nearest(
        self,
        x: Any,
        rows: slice | np.ndarray,
        norms: np.ndarray,
        frame: Frame,
        tile: Tile,
        bound: tuple[float, float, float],
        tight: bool = True,
        guess: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Best score of some rows: index, score, lead over the second, and whether that is certain.

        Parameters
        ----------
        x : array, shape (N, D)
        rows : slice or ndarray of int64, shape (n,)
        norms : ndarray of float32, shape (n,)
            Upper bounds of the norms of these rows as framed.
        frame : Frame
        tile : Tile
        bound : tuple of float
            (slope, offset, limit): a row is certain if its lead exceeds slope·norm + offset and its
            norm is below the limit.
        tight : bool, default True
            False: the lead of a certain row may be any that it exceeds and that makes it certain.
        guess : ndarray of int32, shape (n,), optional
            Which centroid of the tile each row is likely nearest to: looked at first, where that is
            faster.
        """
        slope, offset, limit = bound
        framed = self.frame_rows(x, rows, frame)
        best, score, lead = (part[: len(norms)] for part in self.top_two(framed, tile))
        size = norms.astype(np.float64)
        certified = (lead > slope * size + offset) & (lead < 3e38) & (size < limit)
        return best, score, lead, certified

    def cells(self, x: Any, frame: Frame, labels: np.ndarray) -> Any:
        """Table that labels most rows of few features at a glance; None where there is none."""
        return None

    def sweep(
        self, x: Any, rows: slice | np.ndarray, task: Task, sums: ClusterSums | None
    ) -> Swept | None:
        """Assign rows in one compiled pass; None where there is none.

        Parameters
        ----------
        x : array, shape (N, D)
        rows : slice or ndarray of int64, shape (n,)
        task : Task
        sums : ClusterSums or None
            Sums that may be brought up to date on the way: no other thread changes them.
        """
        return None

    def cross(self, rows: Any, centers: np.ndarray) -> np.ndarray:
        """Products of a few float32 centres with framed rows, float32 on the host, shape (m, n)."""
        xp = self.xp
        points = xp.astype(from_numpy(centers, rows), self.pass_dtype)
        product = xp.matmul(points, xp.matrix_transpose(xp.astype(rows, self.pass_dtype)))
        return to_numpy(xp.astype(product, xp.float32))

    def top_two(self, rows: Any, tile: Tile) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Index of the best score of every row, that score, and its lead over the second best."""
        xp = self.xp
        centers = xp.astype(from_numpy(tile.centers, rows), self.pass_dtype)
        bias = xp.astype(from_numpy(tile.bias, rows), self.pass_dtype)
        scores = (
            xp.matmul(xp.astype(rows, self.pass_dtype), xp.matrix_transpose(centers))
            + bias[None, :]
        )
        best = xp.argmax(scores, axis=1)
        columns = xp.arange(scores.shape[1], device=self.device)
        lowest = xp.asarray(float(np.finfo(np.float32).min), dtype=scores.dtype, device=self.device)
        others = xp.where(columns[None, :] == best[:, None], lowest, scores)
        top = xp.max(scores, axis=1)
        lead = top - xp.max(others, axis=1)
        return (
            to_numpy(best).astype(np.int32),
            to_numpy(top).astype(np.float32),
            to_numpy(lead).astype(np.float32),
        )

    def seeding_kernels(self, x: Any) -> ModuleType | None:
        """Compiled passes of k-means++ over this array; None where there are none."""
        return None

    def minibatch_kernels(self, x: Any) -> ModuleType | None:
        """Compiled steps of mini-batches like this one; None where there are none."""
        return None

    def recheck(self, rows: np.ndarray, doubles: Doubles) -> np.ndarray | None:
        """The one centroid that may be nearest to each row on the host by its float64 scores, −1
        where there are several; None where there is no compiled pass.
        """
        return None

    def age(
        self, upper: np.ndarray, lower: np.ndarray, labels: np.ndarray, give: np.ndarray
    ) -> np.ndarray:
        """Let bounds give way in place; positions of the rows left open.

        `give` is `pruning.Drift.table`.
        """
        return host_bounds.age(upper, lower, labels, give)

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
        """Bounds of distances from scores: |x - c|² = |x|² - 2s, every slack the safe way.

        `terms` are slope and offset of twice the error of a score, what takes a norm's upper bound
        to a lower one (a factor, less a tiny amount), and the norm of the nearest centroid outside
        the fast pass.
        """
        host_bounds.renew(upper, lower, rows, score, lead, certified, norms, terms)

    def tighten(
        self,
        x: Any,
        rows: np.ndarray,
        labels: np.ndarray,
        own: Own,
        upper: np.ndarray,
        lower: np.ndarray,
        half: np.ndarray,
    ) -> np.ndarray:
        """Measure the distances of rows to their own centroids; returns those still open.

        Parameters
        ----------
        x : array, shape (N, D)
        rows : ndarray of int64, shape (n,)
        labels : ndarray of int32, shape (N,)
        own : Own
        upper, lower : ndarray of float32, shape (N,)
            Bounds; the upper ones are brought down.
        half : ndarray of float32, shape (K,)
            See `pruning.Drift`.
        """
        still = []
        step = self.block_rows(x.shape[1], 16)
        for i in range(0, len(rows), step):
            some = rows[i : i + step]
            label = labels[some]
            framed = to_numpy(self.frame_rows(x, some, own.frame))[: len(some)]
            bound = host_bounds.distances_above(framed, label, own)
            bound = np.fmin(bound, upper[some])
            upper[some] = bound
            still.append(some[~(bound < np.maximum(lower[some], half[label]))])
        return np.concatenate(still) if still else rows

    def cluster_sums(
        self,
        x: Any,
        rows: np.ndarray,
        w: np.ndarray | None,
        labels: np.ndarray,
        sums: ClusterSums,
        sign: int,
    ) -> None:
        """Add rows to exact sums: integer levels, added by a one-hot matrix product that cannot
        round.
        """
        grid = sums.grid
        if w is not None or grid.wide or not self.has_float64:
            dtype = np.dtype(np.float32 if grid.narrow else np.float64)
            sums.add(self.gather(x, rows, dtype), w, labels, sign)
            return
        xp = self.xp
        rest = xp.astype(self._take(x, rows), xp.float64)
        column = np.pad(labels, (0, rest.shape[0] - len(labels)), constant_values=-1)
        for part in (-(grid.exponents // 2), grid.exponents // 2 - grid.exponents):
            rest = (
                rest * from_numpy(np.ldexp(1.0, part), x)[None, :]
            )  # two steps: one could overflow
        clusters = xp.arange(sums.shape[0], device=self.device)
        one_hot = xp.astype(
            clusters[:, None] == from_numpy(column.astype(np.int64), x)[None, :], xp.float64
        )
        level = 0
        while level == 0 or bool(xp.any(rest != 0)):
            rest = rest * 2.0**grid.bits
            integers = xp.round(rest)
            rest = rest - integers
            part = to_numpy(xp.matmul(one_hot, integers)).astype(np.int64)
            sums.value_level(level)[...] += sign * part
            level += 1
        sums.weights[0] += sign * np.bincount(labels, minlength=sums.shape[0])

    def means(self, sums: ClusterSums, old: np.ndarray) -> np.ndarray:
        """Rounded means of all clusters (`exact.means.rounded_means`)."""
        return rounded_means(sums, old)

    def squares(
        self,
        x: np.ndarray,
        labels: np.ndarray,
        centroids: np.ndarray,
        w: np.ndarray | None,
        exponent: int,
        weight_exponent: int,
    ) -> list[Enclosure]:
        """Σ w·|x − c_label|² of host rows, in parts (`exact.squares.enclose_squares`)."""
        step = max(1, _CACHED // x.shape[1])
        parts = [slice(lo, lo + step) for lo in range(0, len(x), step)]
        return [
            enclose_squares(
                x[part],
                centroids[labels[part]],
                None if w is None else w[part],
                exponent,
                weight_exponent,
            )
            for part in parts
        ]

    def move_rows(
        self,
        x: Any,
        rows: np.ndarray,
        w: np.ndarray | None,
        old: np.ndarray,
        labels: np.ndarray,
        sums: ClusterSums,
    ) -> None:
        """Move rows from the sums of their old clusters to those of their labels.

        Parameters
        ----------
        x : array, shape (N, D)
        rows : ndarray of int64, shape (n,)
        w : ndarray, shape (n,), or None
            Their weights.
        old : ndarray of int32, shape (n,)
            Negative where a row was in no cluster.
        labels : ndarray of int32, shape (N,)
        sums : ClusterSums
        """
        for i in range(0, len(rows), sums.grid.rows):
            part = slice(i, i + sums.grid.rows)
            some, before = rows[part], old[part]
            weights = None if w is None else w[part]
            self.cluster_sums(x, some, weights, labels[some], sums, 1)
            known = before >= 0
            if known.any():
                weights = None if weights is None else weights[known]
                self.cluster_sums(x, some[known], weights, before[known], sums, -1)


def chosen_block_rows() -> int | None:
    """Rows a block as KMEANS_XP_BLOCK_ROWS sets them."""
    chosen = os.environ.get("KMEANS_XP_BLOCK_ROWS")
    if chosen is not None and (not chosen.isdigit() or int(chosen) < 1):
        raise ValueError(f"KMEANS_XP_BLOCK_ROWS must be a positive integer, got {chosen!r}")
    return None if chosen is None else int(chosen)


def quiet() -> np.errstate:
    """Silence floating-point warnings: what is not finite or not normal is never certified."""
    return np.errstate(all="ignore")
