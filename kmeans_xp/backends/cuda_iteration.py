"""The kernels of one Lloyd iteration for a given number of clusters, and the memory they share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmeans_xp.backends import cuda_kernels as variants
from kmeans_xp.backends.cuda_bounds import NULL, RowBounds
from kmeans_xp.backends.cuda_data import Rows
from kmeans_xp.backends.cuda_kernels import Kernel, Target

# struct State of common.cuh
STATE = np.dtype(
    [
        *[(name, np.float32) for name in ("norm", "error", "error2", "far")],
        *[
            (name, np.int32)
            for name in (
                "n_open",
                "n_pair",
                "n_full",
                "n_tied",
                "n_changed",
                "n_todo",
                "n_slow_means",
                "n_empty",
                "n_moved",
                "skip",
                "iteration",
                "delta",
            )
        ],
        ("shift", np.float64),
        ("listed", np.int32),
        ("padding", np.int32, 13),
    ]
)

# Units of 2^-24 sum |x_i c_i| lost per column by the tensor core. On Hopper a bit-exact model of
# wgmma (each k16 step truncates its 17 addends at 2^(emax - 25) and the result to 24 bits) gives at
# most 0.66. Other tensor cores would be covered if they keep 24 bits of every addend and of the
# result and add at least 4 products at a time (at most 3); that has been measured on none, and
# `Target.current` refuses them. tests/cuda/test_accumulation.py repeats the measurement.
LOST_WGMMA, LOST_MMA = 1.0, 4.0
EMPTY = 0x7FFFFFFF  # a free place of the hash table of centroids


class Iteration:
    """One iteration: `place` centroids, `run` the chain, read the results.

    Parameters
    ----------
    rows : Rows
        The array.
    labels : cupy.ndarray
        (N,) int32, the labels.
    K : int
        Number of clusters.
    target : Target
        The device.
    log : int
        Address of the pinned ring of states.
    testing : frozenset of str
        "no-certificate", "slow-means" and "sums-anew" switch parts off or on, for tests only.
    differences : bool, default False
        The rows are a block of many, and the sums what passes over blocks change of those of all:
        a cluster beyond the others holds the rows that are in none.
    """

    def __init__(
        self,
        rows: Rows,
        labels: Any,
        K: int,
        target: Target,
        log: int,
        testing: frozenset[str] = frozenset(),
        differences: bool = False,
    ) -> None:
        self.rows, self.K, self.target = rows, K, target
        self.labels, self.differences = labels, differences
        self.bins = K + differences
        self.most_entries = 2 * rows.N if differences else rows.N
        self._log = np.uint64(log)
        self._graphs: dict[bool, Any] = {}
        self._runs = {False: 0, True: 0}
        self._testing = testing
        self.bounds: RowBounds | None = None
        self._shape(testing)
        self._allocate()
        self._prepare_kernels(testing)

    def _shape(self, testing: frozenset[str]) -> None:
        rows, target = self.rows, self.target
        self.first = variants.certify_tiles(rows.Dp, self.K, target)
        self.second = variants.recheck_tiles(rows.Dp, target)
        self.run_length = 256 if rows.N >= 1 << 22 else 128
        self.run_bits = int(math.log2(self.run_length))
        weighted = rows.weights is not None
        if rows.bits == 64 or weighted:
            self.terms = min(4, max(1, -(-rows.spread // (52 - self.run_bits))))
        else:
            self.terms = 0
        widest = 2 if rows.bits == 64 else 4
        aligned = rows.X.data.ptr % 16 == 0
        self.vec = next(
            v for v in (4, 2, 1) if v <= widest and rows.D % v == 0 and (aligned or v == 1)
        )
        room = min(target.shared_bytes - 2048, 160 * 1024)
        self.use_shared = room // 8 >= self.bins

    def _allocate(self) -> None:
        import cupy as cp

        N, D, K, rows = self.rows.N, self.rows.D, self.K, self.rows
        self.places = -(-K // 128) * 128
        self.image1 = cp.zeros(self._image_bytes(self.first), cp.uint8)
        self.image2 = cp.zeros(self._image_bytes(self.second), cp.uint8)
        centre = cp.float64 if rows.bits == 64 else cp.float32
        self.centroids = cp.zeros((K, D), centre)
        self.ring = cp.zeros((4, K, D), centre)
        self.repeats = cp.zeros(K, cp.uint8)
        self.table = cp.empty(1 << (2 * K - 1).bit_length(), cp.int32)
        self.state = cp.zeros(STATE.itemsize, cp.uint8)
        self.control = cp.zeros(4, cp.int32)
        self.old = cp.full(N, -1, cp.int32)
        # two lists, each used twice: open and full rows, then the sorted entries; pairs, then the
        # moved rows
        self.sorted = cp.empty((self.most_entries, 2), cp.int32)
        self.open_rows, self.full_rows = self.sorted.reshape(2, self.most_entries)
        self.pairs = cp.empty((N, 2), cp.int32)
        bins = self.bins
        self.entries, self.cursor, self.counts = cp.zeros((3, bins), cp.int32)
        weight_levels = rows.weight_levels if rows.weights is not None else 0
        self.all_levels = cp.zeros(rows.levels * bins * D + weight_levels * bins, cp.int64)
        self.levels = self.all_levels[: rows.levels * bins * D].reshape(rows.levels, bins, D)
        unit = -24 - 32 * np.arange(rows.levels)
        self.exponents = unit[:, None] + rows.grid.top
        self.weight_levels = self.all_levels[self.levels.size :].reshape(weight_levels, bins)
        if rows.weights is not None:
            self.exponents = self.exponents + rows.weight_grid.top
        self.exponent0 = cp.asarray(self.exponents[0].astype(np.int32))
        scale, scale2 = rows.grid.factors()
        self.scale, self.scale2 = cp.asarray(scale), cp.asarray(scale2)
        top, bits = rows.grid.top, self.run_bits
        coarse = np.where(rows.grid.bottom >= top - 53 + bits, 0.0, np.ldexp(1.0, top - 30 + bits))
        self.coarse = cp.asarray(np.minimum(coarse, 3e38).astype(np.float32))

    def _image_bytes(self, tiles: variants.Tiles) -> int:
        return self.places // tiles.tile * (self.rows.Dp // tiles.chunk) * tiles.stage_bytes

    def _prepare_kernels(self, testing: frozenset[str]) -> None:
        target, rows, bits = self.target, self.rows, self.rows.bits
        mutate = "no-certificate" in testing
        weighted = rows.weights is not None
        first, second = self.first, self.second

        self._certify = self._certify_kernel(bounds=False)
        self._recheck = self._tile_kernel(
            variants.recheck_variant(second, target, mutate=mutate), "recheck", second
        )
        centroids = variants.centroids_variant(bits, first, second)
        self._begin = Kernel(centroids, "begin", target, threads=256)
        self._write_images = Kernel(centroids, "write_images", target, threads=256)
        self._finish = Kernel(centroids, "finish", target, threads=1)
        self._find_repeats = Kernel(centroids, "find_repeats", target, threads=128)
        decide = variants.plain_variant(("exact.cuh", "decide.cu"), X_BITS=bits)
        self._decide_pairs = Kernel(decide, "decide_pairs", target, threads=256)
        self._decide_rows = Kernel(decide, "decide_rows", target, threads=512)
        anew = "sums-anew" in testing
        sums = variants.sums_variant(bits, self.vec, self.terms, weighted, self.differences, anew)
        shared = self.bins * 4 if self.use_shared else 0
        self._list_moved = Kernel(sums, "list_moved", target, threads=512)
        self._count = Kernel(sums, "count_entries", target, threads=512, shared=2 * shared)
        self._scan = Kernel(sums, "scan_entries", target, threads=1024)
        self._place = Kernel(sums, "place_entries", target, threads=1024, shared=shared)
        self._segment_sums = Kernel(sums, "segment_sums", target, threads=256)
        if weighted:
            self._segment_weights = Kernel(sums, "segment_weights", target, threads=256)
        if self.differences:
            bounds = variants.bounds_variant(bits)
            self._mark_open = Kernel(bounds, "mark_open", target, threads=256)
        means = variants.means_variant(bits, weighted, "slow-means" in testing)
        self._means = Kernel(means, "means", target, threads=256)

    def _tile_kernel(self, variant: variants.Variant, name: str, tiles: variants.Tiles) -> Kernel:
        threads, shared = tiles.warpgroups * 128, tiles.shared_bytes
        return Kernel(variant, name, self.target, threads=threads, shared=shared)

    def _certify_kernel(self, *, bounds: bool) -> Kernel:
        mutate = "no-certificate" in self._testing
        variant = variants.certify_variant(self.first, self.target, bounds=bounds, mutate=mutate)
        return self._tile_kernel(variant, "certify", self.first)

    def make_bounds(self) -> None:
        """Take the memory of bounds, and the kernels that write them."""
        if self.bounds is None:
            self._certify_bounded = self._certify_kernel(bounds=True)
            self.bounds = RowBounds(self.rows, self.K, self.target, used=not self.differences)

    # ---- what the host does between iterations

    def forget(self) -> None:
        """Forget labels and sums."""
        self.old.fill(-1)
        self.counts.fill(0)

    def place(self, centroids: Any) -> None:
        """Start the next iteration from these centroids, whatever the last one left.

        Centroids that equal an earlier one are left out of the fast passes (a shortcut; ties are
        exact anyway). They stay without rows, so that the iteration after this one is never a
        speculated one that would miss them.
        """
        self.centroids[...] = centroids
        self.control[:2] = 0  # neither a reason to wait nor bounds that are right
        self.table.fill(EMPTY)
        K, D, mask = np.int32(self.K), np.int32(self.rows.D), np.int32(self.table.size - 1)
        for phase in (0, 1):
            self._find_repeats(
                -(-self.K // 128),
                *(self.centroids, K, D, self.table, mask, np.int32(phase), self.repeats),
            )

    # ---- the chain

    def run(self, stream: Any, *, bounded: bool = False) -> None:
        """Enqueue one iteration: kernel by kernel the first time, then as a graph.

        A bounded one keeps bounds (`make_bounds`), and uses those of the one before if that did.
        """
        import cupy as cp

        self._runs[bounded] += 1
        if self._runs[bounded] < 3:
            self.enqueue(bounded=bounded)
            return
        if bounded not in self._graphs:
            side = cp.cuda.Stream(non_blocking=True)
            with side:
                side.begin_capture()
                self.enqueue(bounded=bounded)
                self._graphs[bounded] = side.end_capture()
            self._graphs[bounded].upload(stream)
        self._graphs[bounded].launch(stream)

    def enqueue(self, *, bounded: bool = False) -> None:
        """Enqueue the kernels on the current stream."""
        self.label(bounded=bounded)
        self.update()
        if not self.differences:
            self._move_centroids()
        self._finish(1, self.state, self.control, self._log)

    def label(self, *, bounded: bool = False) -> None:
        """Enqueue the labels alone."""
        self._open(bounded)
        if bounded and not self.differences:
            assert self.bounds is not None
            self.bounds.look(self.centroids, self.labels, self.control, self.state)
        self.assign(bounded=bounded)

    def _open(self, bounded: bool) -> None:
        blocks, bins = -(-self.bins // 256), np.int32(self.bins)
        self._begin(blocks, self.state, self.control, self.entries, bins, np.int32(bounded))

    def look(self) -> None:
        """Enqueue the certified pass alone: labels, −2 for rows that it leaves open."""
        self._open(bounded=False)
        self.certify()
        blocks = min(self.target.multiprocessors, -(-self.rows.N // 256))
        self._mark_open(blocks, self.open_rows, self.state, self.labels)

    def certify(self, *, bounded: bool = False) -> None:
        """Labels by tensor cores, which leave some rows open."""
        certify, listed = self._certify, NULL
        if bounded:
            assert self.bounds is not None
            certify, listed = self._certify_bounded, self.bounds.list
        rows, K, N, Dp, first = self.rows, self.K, self.rows.N, self.rows.Dp, self.first
        self._write_images(
            -(-self.places // 8),
            self.centroids,
            rows.centre,
            np.int32(K),
            np.int32(rows.D),
            np.int32(Dp),
            np.int32(self.places),
            np.float64(rows.scale),
            np.float64(rows.limit * 1.0001),
            self.repeats,
            self.image1,
            self.image2,
            self.state,
        )
        certify(
            min(self.target.multiprocessors, -(-N // (first.warpgroups * 64))),
            rows.hi,
            self.image1,
            np.int32(N),
            np.int32(-(-K // first.tile)),
            np.int32(Dp // first.chunk),
            rows.norms,
            self.state,
            np.float32(self._alpha(first)),
            np.uint32(64),
            self.labels,
            self.open_rows,
            listed,
            *self._bounds_of(bounded),
        )

    def _bounds_of(self, bounded: bool) -> tuple[Any, Any]:
        """What the kernels that write bounds are given."""
        if not bounded:
            return NULL, NULL
        assert self.bounds is not None
        return self.bounds.values, self.bounds.passed

    def assign(self, *, bounded: bool = False) -> None:
        """Labels: tensor cores, recheck, float64, exact signs."""
        self.certify(bounded=bounded)
        rows, K, N, Dp = self.rows, self.K, self.rows.N, self.rows.Dp
        D, distance_scale = np.int32(rows.D), np.float64(rows.distance_scale)
        second, sms = self.second, self.target.multiprocessors
        self._recheck(
            min(sms * second.blocks_per_sm, -(-N // (second.warpgroups * 64))),
            rows.hi,
            rows.lo,
            self.image2,
            np.int32(-(-K // second.tile)),
            np.int32(Dp // second.chunk),
            rows.norms,
            self.state,
            np.float32(self._alpha(second)),
            self.labels,
            self.open_rows,
            self.pairs,
            self.full_rows,
            *self._bounds_of(bounded),
        )
        exact = (rows.X, self.centroids, D)
        blocks = min(2 * sms, -(-N // 8))
        self._decide_pairs(blocks, *exact, distance_scale, self.pairs, self.state, self.labels)
        blocks = min(2 * sms, N)
        self._decide_rows(
            blocks, *exact, np.int32(K), distance_scale, self.full_rows, self.state, self.labels
        )

    def _alpha(self, tiles: variants.Tiles) -> float:
        """Bound of the accumulation error in units of 2^-24 sum |x_i c_i|."""
        lost = (LOST_WGMMA if self.target.wgmma else LOST_MMA) * (3 if tiles.parts == 2 else 1)
        if not tiles.chunked:
            return lost * tiles.chunk
        return lost * tiles.chunk + self.rows.Dp // tiles.chunk + 2

    def update(self) -> None:
        """Sums of the rows that moved (or of all)."""
        rows, K, N, sms = (
            self.rows,
            np.int32(self.bins),
            np.int32(self.rows.N),
            self.target.multiprocessors,
        )
        state, use_shared = self.state, np.int32(self.use_shared)
        grid = min(4 * sms, -(-rows.N // 2048))
        listed = NULL if self.bounds is None else self.bounds.list
        self._list_moved(grid, self.labels, self.old, N, listed, self.pairs, state)
        self._count(
            min(2 * sms, -(-rows.N // 512)),
            *(self.labels, self.pairs, N, K, use_shared, self.entries, self.counts),
            *(self.all_levels, np.int64(self.all_levels.size), state),
        )
        self._scan(1, self.entries, K, self.cursor, state)
        self._place(
            min(2 * sms, -(-rows.N // 1024)),
            *(self.labels, self.pairs, N, K, use_shared, self.cursor, self.sorted, state),
        )
        self._sum_segments(N, K)

    def _move_centroids(self) -> None:
        """Means of the sums."""
        rows, size = self.rows, self.K * self.rows.D
        self._means(
            min(-(-size // 256), 16 * self.target.multiprocessors),
            self.levels,
            np.int32(rows.levels),
            self.exponent0,
            self.counts,
            self.weight_levels,
            np.int32(len(self.weight_levels)),
            np.int32(rows.weight_grid.top[0] - 24 if rows.weights is not None else 0),
            np.int32(self.K),
            np.int32(rows.D),
            np.float64(rows.distance_scale),
            self.centroids,
            self.ring,
            self.state,
        )

    def _sum_segments(self, N: np.int32, K: np.int32) -> None:
        rows = self.rows
        lanes, run = rows.D // self.vec, self.run_length
        weights, factors = rows.X, (1.0, 1.0)
        if rows.weights is not None:
            a, b = rows.weight_grid.factors()
            weights, factors = rows.weights, (float(a[0]), float(b[0]))
        w1, w2 = np.float64(factors[0]), np.float64(factors[1])
        self._segment_sums(
            -(-(-(-self.most_entries // run) * lanes) // 256),
            rows.X,
            weights,
            self.sorted,
            N,
            np.int32(rows.D),
            np.int64(self.bins * rows.D),
            np.int32(run),
            np.int32(self.run_bits),
            self.scale,
            self.scale2,
            self.coarse,
            w1,
            w2,
            self.levels,
            np.int32(rows.levels),
            self.state,
        )
        if rows.weights is None:
            return
        run = 32
        self._segment_weights(
            -(-self.most_entries // (run * 256)),
            *(weights, self.sorted, N, K, np.int32(run), w1, w2),
            *(self.weight_levels, np.int32(rows.weight_levels), self.state),
        )

    def sums_on_host(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return levels and exponents of the sums and of the weights (or counts)."""
        levels = self.levels.get()
        if self.rows.weights is None:
            return (
                levels,
                self.exponents,
                self.counts.get()[None].astype(np.int64),
                np.zeros(1, np.int64),
            )
        unit = -24 - 32 * np.arange(self.rows.weight_levels)
        return levels, self.exponents, self.weight_levels.get(), unit + self.rows.weight_grid.top[0]
