"""The kernels of one Lloyd iteration for a given number of clusters, and the memory they share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmeans_xp.backends import cuda_kernels as variants
from kmeans_xp.backends.cuda_data import Rows
from kmeans_xp.backends.cuda_kernels import Kernel, Target
from kmeans_xp.backends.cuda_sums import Sums

# struct State of common.cuh
COUNTS = (
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
STATE = np.dtype(
    [
        *[(name, np.float32) for name in ("norm", "error", "error2", "far")],
        *[(name, np.int32) for name in COUNTS],
        ("shift", np.float64),
        ("padding", np.int32, 14),
    ]
)

EMPTY = 0x7FFFFFFF  # a free place of the hash table of centroids
SMALL_COLUMNS, SMALL_CLUSTERS = 4, 128
SLICE_BYTES, SLICES = 112, 8  # struct Slice of decide.cu, and how many a block has


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
        "no-certificate", "slow-means" and "no-small" switch parts off or on, for tests only.
    """

    def __init__(
        self, rows: Rows, labels: Any, K: int, target: Target, log: int, testing: frozenset[str]
    ) -> None:
        self.rows, self.K, self.target, self.labels = rows, K, target, labels
        self._log = np.uint64(log)
        self._graphs: dict[bool, Any] = {}
        self._runs = {False: 0, True: 0}
        self._mutate = "no-certificate" in testing
        self.small = (
            rows.D <= SMALL_COLUMNS
            and K <= SMALL_CLUSTERS
            and rows.X.data.ptr % 16 == 0
            and "no-small" not in testing
        )
        self._allocate()
        self.sums = Sums(self, testing)
        if self.small:
            self._prepare_small()
        else:
            self._prepare_tiles()
        self.pruning: Pruning | None = None

    def _allocate(self) -> None:
        import cupy as cp

        N, D, K = self.rows.N, self.rows.D, self.K
        centre = cp.float64 if self.rows.bits == 64 else cp.float32
        self.centroids = cp.zeros((K, D), centre)
        self.ring = cp.zeros((4, K, D), centre)
        self.repeats = cp.zeros(K, cp.uint8)
        self.table = cp.empty(1 << (2 * K - 1).bit_length(), cp.int32)
        fresh = np.zeros(1, STATE)
        fresh["far"] = np.inf
        self.state = cp.asarray(fresh.view(np.int32))
        self._skip = self.state[4 + COUNTS.index("skip") :][:1]
        self.control = cp.zeros(4, cp.int32)
        # two lists of 8 bytes a row, each used twice: open and full rows, then the sorted entries;
        # pairs, then the moved rows
        self.sorted = cp.empty((N, 2), cp.int32)
        self.open_rows, self.full_rows = self.sorted.reshape(2, N)
        self.moved = self.pairs = cp.empty((N, 2), cp.int32)
        self.entries = cp.zeros(K, cp.int32)

    # ---- kernels -------------------------------------------------------------------------------
    def _prepare_tiles(self) -> None:
        import cupy as cp

        target, rows, K = self.target, self.rows, self.K
        self.first = first = variants.certify_tiles(rows.Dp, K, target)
        self.second = second = variants.recheck_tiles(rows.Dp, target)
        self.places = -(-K // 128) * 128
        chunks = rows.Dp // first.chunk, rows.Dp // second.chunk
        self.image1 = cp.zeros(self.places // first.tile * chunks[0] * first.stage_bytes, cp.uint8)
        self.image2 = cp.zeros(
            self.places // second.tile * chunks[1] * second.stage_bytes, cp.uint8
        )
        self.certify_kernel(listed=False)
        variant = variants.recheck_variant(second, target, mutate=self._mutate)
        threads = second.warpgroups * 128
        self._recheck = Kernel(
            variant, "recheck", target, threads=threads, shared=second.shared_bytes
        )
        self.hi, self.lo, self.norms = rows.halves()
        centroids = variants.centroids_variant(rows.bits, first, second)
        self._write_images = Kernel(centroids, "write_images", target, threads=256)
        self._prepare_exact(centroids)

    def certify_kernel(self, *, listed: bool) -> Kernel:
        """Return the certified pass over all rows, or over a list."""
        variant = variants.certify_variant(
            self.first, self.target, listed=listed, mutate=self._mutate
        )
        kernel = Kernel(
            variant,
            "certify",
            self.target,
            threads=self.first.warpgroups * 128,
            shared=self.first.shared_bytes,
        )
        if not listed:
            self._certify = kernel
        return kernel

    def _prepare_small(self) -> None:
        target, rows = self.target, self.rows
        small = variants.plain_variant(("small.cu",), X_BITS=rows.bits, COLUMNS=rows.D)
        shared = self.K * (rows.D + 1) * 4
        self._label_small = Kernel(small, "label_small", target, threads=512, shared=shared)
        self._decide_small = Kernel(small, "decide_small", target, threads=256)
        tiles = variants.Tiles(64, 32, False, 1, 2, 2)  # of no importance for what is used of it
        self._prepare_exact(variants.centroids_variant(rows.bits, tiles, tiles))

    def _prepare_exact(self, centroids: variants.Variant) -> None:
        import cupy as cp

        target = self.target
        self._find_repeats = Kernel(centroids, "find_repeats", target, threads=128)
        decide = variants.plain_variant(("exact.cuh", "decide.cu"), X_BITS=self.rows.bits)
        self._decide_pairs = Kernel(decide, "decide_pairs", target, threads=256)
        self._decide_rows = Kernel(decide, "decide_rows", target, threads=256)
        self.exact_blocks = 2 * target.multiprocessors
        self.scratch = cp.empty(self.exact_blocks * SLICES * SLICE_BYTES, cp.uint8)
        self.tickets = cp.zeros(self.exact_blocks, cp.int32)

    # ---- what the host does between iterations -------------------------------------------------
    def forget(self) -> None:
        """Forget labels and sums."""
        self.labels.fill(-1)
        self.sums.forget()

    def place(self, centroids: Any) -> None:
        """Start the next iteration from these centroids, whatever the last one left.

        Centroids that equal an earlier one are left out of the fast passes (a shortcut; ties are
        exact anyway). They stay without rows, so that the iteration after this one is never a
        speculated one that would miss them.
        """
        self.centroids[...] = centroids
        self._skip.fill(0)
        self.table.fill(EMPTY)
        K, D, mask = np.int32(self.K), np.int32(self.rows.D), np.int32(self.table.size - 1)
        for phase in (0, 1):
            self._find_repeats(
                -(-self.K // 128),
                *(self.centroids, K, D, self.table, mask, np.int32(phase), self.repeats),
            )
        if self.pruning is not None:
            self.pruning.reset()

    # ---- the chain -----------------------------------------------------------------------------
    def ready(self, pruned: bool) -> bool:
        """Whether `run` only launches a graph."""
        return pruned in self._graphs

    def run(self, stream: Any, pruned: bool) -> None:
        """Enqueue one iteration: kernel by kernel the first two times, then as a graph."""
        import cupy as cp

        graph = self._graphs.get(pruned)
        if graph is not None:
            graph.launch(stream)
            return
        self._runs[pruned] += 1
        if self._runs[pruned] < 3:
            self.enqueue(pruned)
            return
        side = cp.cuda.Stream(non_blocking=True)
        with side:
            side.begin_capture()
            self.enqueue(pruned)
            graph = side.end_capture()
        graph.upload(stream)
        self._graphs[pruned] = graph
        graph.launch(stream)

    def enqueue(self, pruned: bool = False) -> None:
        """Enqueue the kernels on the current stream."""
        if self.small:
            self._assign_small()
        else:
            self._assign(self.pruning if pruned else None)
        self.sums.update(self.pruning.todo if pruned and self.pruning is not None else None)
        self.sums.means(self._log)

    def _assign(self, pruning: Pruning | None) -> None:
        """Labels: tensor cores, recheck, float64, exact signs."""
        rows, K, N, Dp = self.rows, self.K, self.rows.N, self.rows.Dp
        first, second, sms = self.first, self.second, self.target.multiprocessors
        self._write_images(
            -(-self.places // 8),
            *(self.centroids, rows.centre, np.int32(K), np.int32(rows.D), np.int32(Dp)),
            *(np.int32(self.places), np.float64(rows.scale), np.float64(rows.limit * 1.0001)),
            *(self.repeats, self.image1, self.image2, self.entries, self.state),
        )
        null = np.uint64(0)
        certify, lists = self._certify, (null, null, null)
        if pruning is not None:
            pruning.list_unsafe()
            certify, lists = pruning.certify, (pruning.todo, pruning.gaps, pruning.drift)
        certify(
            min(sms, -(-N // (first.warpgroups * 64))),
            *(self.hi, self.image1, np.int32(N), np.int32(-(-K // first.tile))),
            *(np.int32(Dp // first.chunk), self.norms, self.state),
            *(np.float32(self._alpha(first)), np.uint32(64), self.labels, self.open_rows),
            *lists,
        )
        self._recheck(
            min(sms * second.blocks_per_sm, -(-N // (second.warpgroups * 64))),
            *(self.hi, self.lo, self.image2, np.int32(-(-K // second.tile))),
            *(np.int32(Dp // second.chunk), self.norms, self.state),
            *(np.float32(self._alpha(second)), self.labels, self.open_rows),
            *(self.pairs, self.full_rows),
        )
        self._decide_pairs(
            min(2 * sms, -(-N // 8)),
            *(rows.X, self.centroids, np.int32(rows.D), np.float64(rows.distance_scale)),
            *(self.pairs, self.state, self.labels),
        )
        self._decide(null)

    def _decide(self, moved: Any) -> None:
        rows = self.rows
        self._decide_rows(
            self.exact_blocks,
            *(rows.X, self.centroids, np.int32(rows.D), np.int32(self.K)),
            *(np.float64(rows.distance_scale), self.full_rows, self.scratch, self.tickets),
            *(moved, self.state, self.labels),
        )

    def _assign_small(self) -> None:
        """Labels of few columns and clusters, and the rows that moved."""
        rows, sms, K = self.rows, self.target.multiprocessors, np.int32(self.K)
        self._label_small(
            min(4 * sms, -(-rows.N // 2048)),
            *(rows.X, self.centroids, rows.centre, np.int32(rows.N), K, np.float64(rows.scale)),
            *(self.repeats, self.labels, self.moved, self.open_rows, self.entries, self.state),
        )
        self._decide_small(
            min(4 * sms, -(-rows.N // 256)),
            *(rows.X, self.centroids, K, np.float64(rows.distance_scale), self.repeats),
            *(self.open_rows, self.full_rows, self.moved, self.labels, self.state),
        )
        self._decide(self.moved)

    def _alpha(self, tiles: variants.Tiles) -> float:
        """Bound of the accumulation error in units of 2^-24 sum |x_i c_i|."""
        lost = variants.lost_units_allowed(self.target) * (3 if tiles.parts == 2 else 1)
        if not tiles.chunked:
            return lost * tiles.chunk
        return lost * tiles.chunk + self.rows.Dp // tiles.chunk + 2

    # ---- pruning -------------------------------------------------------------------------------
    def prune(self) -> None:
        """Begin (again) with distance bounds: the next pruned iteration looks at every row."""
        if self.pruning is None:
            self.pruning = Pruning(self)
        self.pruning.reset()


class Pruning:
    """Distance bounds that let rows keep their label unseen (kernels/bounds.cu)."""

    def __init__(self, iteration: Iteration) -> None:
        import cupy as cp

        self._of = iteration
        rows, K, target = iteration.rows, iteration.K, iteration.target
        self.gaps = cp.empty(rows.N, cp.float32)
        self.todo = cp.empty(rows.N, cp.int32)
        self.previous = cp.empty_like(iteration.centroids)
        self.drift, self._shifts = cp.zeros((2, K), cp.float32)
        self._largest = cp.zeros(1, cp.float32)
        self.certify = iteration.certify_kernel(listed=True)
        variant = variants.plain_variant(("bounds.cu",), X_BITS=rows.bits)
        self._measure = Kernel(variant, "measure_shifts", target, threads=256)
        self._add = Kernel(variant, "add_drift", target, threads=256)
        self._list = Kernel(variant, "list_unsafe", target, threads=512)

    def reset(self) -> None:
        """Know nothing about any row; the centroids are where they are."""
        self.gaps.fill(-math.inf)
        self.drift.fill(0)
        self._largest.fill(0)
        self.previous[...] = self._of.centroids

    def list_unsafe(self) -> None:
        """Enqueue: how far the centroids moved, and the rows that must be looked at."""
        of, rows, K = self._of, self._of.rows, np.int32(self._of.K)
        sms = of.target.multiprocessors
        self._measure(
            -(-of.K // 8),
            *(of.centroids, self.previous, K, np.int32(rows.D), np.float64(rows.scale)),
            *(self._shifts, self._largest, of.state),
        )
        self._add(-(-of.K // 256), self.drift, self._shifts, self._largest, K, of.state)
        self._list(
            min(4 * sms, -(-rows.N // 2048)),
            *(of.labels, self.gaps, np.int32(rows.N), self.drift, self._largest),
            *(self.todo, of.state),
        )
