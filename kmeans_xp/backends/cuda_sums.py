"""Exact sums of the clusters, kept from one iteration to the next, and the means made of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from kmeans_xp.backends import cuda_kernels as variants
from kmeans_xp.backends.cuda_kernels import Kernel

if TYPE_CHECKING:
    from kmeans_xp.backends.cuda_iteration import Iteration

DIRECT = 1 << 20  # elements of X up to which moved rows are summed without a sort


class Sums:
    """The levels of every sum, and the kernels that update them by the rows that moved."""

    def __init__(self, of: Iteration, testing: frozenset[str]) -> None:
        self._of = of
        rows = of.rows
        self.run_length = 256 if rows.N >= 1 << 22 else 128
        self.run_bits = int(math.log2(self.run_length))
        self.weighted = rows.weights is not None
        self.terms = 0
        if rows.bits == 64 or self.weighted:
            self.terms = min(4, max(1, -(-rows.spread // (52 - self.run_bits))))
        widest = 2 if rows.bits == 64 else 4
        aligned = rows.X.data.ptr % 16 == 0
        self.vec = next(
            v for v in (4, 2, 1) if v <= widest and rows.D % v == 0 and (aligned or v == 1)
        )
        room = min(of.target.shared_bytes - 2048, 160 * 1024)
        self.use_shared = room >= 8 * of.K
        self.direct = not of.small and rows.N * rows.D <= DIRECT
        self._allocate()
        self._prepare(testing)

    def _allocate(self) -> None:
        import cupy as cp

        rows, K = self._of.rows, self._of.K
        top, bits, size = rows.grid.top, self.run_bits, rows.levels * K * rows.D
        self.old = None if self._of.small else cp.full(rows.N, -1, cp.int32)
        self.cursor, self.counts = cp.zeros((2, K), cp.int32)
        n_weight_levels = rows.weight_levels if self.weighted else 0
        self.all_levels = cp.zeros(size + n_weight_levels * K, cp.int64)
        self.levels = self.all_levels[:size].reshape(rows.levels, K, rows.D)
        self.weight_levels = self.all_levels[size:].reshape(n_weight_levels, K)
        self.exponents = (-24 - 32 * np.arange(rows.levels))[:, None] + top
        self.factors = (np.float64(1), np.float64(1))
        self.weight_top = 0
        if self.weighted:
            self.weight_top = int(rows.weight_grid.top[0])
            self.exponents = self.exponents + self.weight_top
            first, second = rows.weight_grid.factors()
            self.factors = (np.float64(first[0]), np.float64(second[0]))
        self.exponent0 = cp.asarray(self.exponents[0].astype(np.int32))
        self.scales = tuple(cp.asarray(f) for f in rows.grid.factors())
        with np.errstate(over="ignore", under="ignore"):
            coarse = np.ldexp(1.0, (top - 30 + bits).astype(np.intc))
        coarse = np.where(rows.grid.bottom >= top - 53 + bits, 0.0, coarse)
        self.coarse = cp.asarray(np.minimum(coarse, 3e38).astype(np.float32))

    def _prepare(self, testing: frozenset[str]) -> None:
        of = self._of
        sums = variants.sums_variant(of.rows.bits, self.vec, self.terms, self.weighted)
        shared = of.K * 4 if self.use_shared else 0

        def kernel(name: str, threads: int, shared: int = 0) -> Kernel:
            return Kernel(sums, name, of.target, threads=threads, shared=shared)

        self._list_moved = kernel("list_moved", 512)
        self._count = kernel("count_entries", 512, 2 * shared)
        self._scan = kernel("scan_entries", 1024)
        self._place = kernel("place_entries", 1024, shared)
        self._segment_sums = kernel("segment_sums", 256)
        self._sum_moved = kernel("sum_moved", 256)
        if self.weighted:
            self._segment_weights = kernel("segment_weights", 256)
        means = variants.means_variant(of.rows.bits, self.weighted, "slow-means" in testing)
        self._means = Kernel(means, "means", of.target, threads=256)

    def forget(self) -> None:
        """Know of no row."""
        if self.old is not None:
            self.old.fill(-1)
        self.counts.fill(0)
        self.all_levels.fill(0)

    def update(self, todo: Any | None) -> None:
        """Enqueue: the sums follow the labels. `todo` lists the rows that were looked at."""
        of = self._of
        rows, sms, N, K = of.rows, of.target.multiprocessors, np.int32(of.rows.N), np.int32(of.K)
        if self.direct:
            self._update_directly()
            return
        if not of.small:
            grid = min(4 * sms, -(-rows.N // 2048))
            todo = np.uint64(0) if todo is None else todo
            self._list_moved(grid, of.labels, self.old, N, todo, of.moved, of.state)
        use_shared = np.int32(self.use_shared)
        self._count(
            min(2 * sms, -(-rows.N // 512)),
            *(of.labels, of.moved, N, K, use_shared, of.entries, self.counts),
            *(self.all_levels, np.int64(self.all_levels.size), of.state),
        )
        self._scan(1, of.entries, K, self.cursor, of.state)
        self._place(
            min(2 * sms, -(-rows.N // 1024)),
            *(of.labels, of.moved, N, K, use_shared, self.cursor, of.sorted, of.state),
        )
        weights = rows.weights if self.weighted else rows.X
        lanes, run = rows.D // self.vec, self.run_length
        self._segment_sums(
            -(-(-(-rows.N // run) * lanes) // 256),
            *(rows.X, weights, of.sorted, N, np.int32(rows.D), np.int64(of.K * rows.D)),
            *(np.int32(run), np.int32(self.run_bits), *self.scales, self.coarse, *self.factors),
            *(self.levels, np.int32(rows.levels), of.state),
        )
        if self.weighted:
            run = 32
            self._segment_weights(
                -(-rows.N // (run * 256)),
                *(weights, of.sorted, N, K, np.int32(run), *self.factors),
                *(self.weight_levels, np.int32(rows.weight_levels), of.state),
            )

    def _update_directly(self) -> None:
        of, rows = self._of, self._of.rows
        self._sum_moved(
            min(8 * of.target.multiprocessors, -(-rows.N // 8)),
            *(rows.X, rows.weights if self.weighted else rows.X, of.labels, self.old),
            *(np.int32(rows.N), np.int32(rows.D), np.int32(of.K), *self.scales, *self.factors),
            *(self.counts, self.levels, np.int32(rows.levels)),
            *(self.weight_levels, np.int32(len(self.weight_levels)), of.state),
        )

    def means(self, log: np.uint64) -> None:
        """Enqueue: the centroids become the means, and the iteration is over."""
        of, rows = self._of, self._of.rows
        size = of.K * rows.D
        self._means(
            min(-(-size // 256), 16 * of.target.multiprocessors),
            *(self.levels, np.int32(rows.levels), self.exponent0, self.counts),
            *(self.weight_levels, np.int32(len(self.weight_levels))),
            *(np.int32(self.weight_top - 24), np.int32(of.K), np.int32(rows.D)),
            *(np.float64(rows.distance_scale), of.centroids, of.ring),
            *(of.state, of.control, log),
        )

    def on_host(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return levels and exponents of the sums, and of the weights (or counts)."""
        levels = self.levels.get()
        if not self.weighted:
            counts = self.counts.get()[None].astype(np.int64)
            return levels, self.exponents, counts, np.zeros(1, np.int64)
        unit = -24 - 32 * np.arange(len(self.weight_levels))
        return levels, self.exponents, self.weight_levels.get(), unit + self.weight_top
