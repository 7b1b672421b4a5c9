"""Whole fits of tiny problems on a CUDA device: a block of threads each, many in one launch.

The kernel (`kernels/whole.cu`) is to the device what `numba_batch` is to the host: a problem ends
with the bits that docs/exactness.md defines, or is left to the ordinary loop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmeans_xp.backends.cuda_data import free_bytes
from kmeans_xp.backends.cuda_kernels import Kernel, Target, most_threads, whole_variant
from kmeans_xp.backends.nvrtc import DeviceUnsupported

__all__ = ["DeviceUnsupported", "Found", "Problems", "fit_whole", "suits"]

# How problems start.
GIVEN, RANDOM, PLUS_PLUS = 0, 1, 2
STARTS = {"random": RANDOM, "k-means++": PLUS_PLUS}
# For these the constants of the kernel are proven.
MOST_ROWS, MOST_FEATURES = 1 << 17, 1 << 9
# Rows x features x clusters for which a block beats the whole device, problem by problem.
MOST_TERMS = 1 << 22
# Bytes of shared memory that are the kernel's own, and threads that registers allow.
OWN_BYTES, RESIDENT_THREADS = 1024, 512
# Levels of sums: what float32 nearly always needs, and what the kernel knows.
FEW_LEVELS, MOST_LEVELS = 1, 3


@dataclass(frozen=True)
class Problems:
    """Where the problems are.

    Attributes
    ----------
    x : cupy.ndarray, shape (M, D)
        Rows of all of them, C-contiguous; float16, float32 or float64.
    w : cupy.ndarray of float64, shape (M,), or None
    first, sizes, clusters : ndarray of int64, shape (B,)
        First row, number of rows and number of clusters of each.
    """

    x: Any
    w: Any
    first: np.ndarray
    sizes: np.ndarray
    clusters: np.ndarray

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the centroids."""
        return np.dtype(np.float64 if self.x.dtype.itemsize == 8 else np.float32)


@dataclass(frozen=True)
class Found:
    """What came out.

    Attributes
    ----------
    labels : cupy.ndarray of int32, shape (M,)
        -1 for rows of no problem.
    centroids : cupy.ndarray, shape (B, K, D)
    inertia, n_iter, converged, used : ndarray, shape (B,)
        ``n_iter`` is -1 for problems that are left; nothing else is known of them.
    """

    labels: Any
    centroids: Any
    inertia: np.ndarray
    n_iter: np.ndarray
    converged: np.ndarray
    used: np.ndarray


def _bytes(
    sizes: np.ndarray, clusters: np.ndarray, d: int, itemsize: int, weighted: bool, levels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Bytes that a block needs for the clusters, and for the rows, of each problem."""
    n, k = sizes.astype(np.int64), clusters.astype(np.int64)
    width, group = d + weighted, 32 // itemsize
    places = -(-k // group) * group

    def rounded(count: np.ndarray, size: int) -> np.ndarray:
        return -(-count * size // 16) * 16

    fixed = rounded(levels * k * width, 8) + rounded(d * places, itemsize)
    fixed += rounded(4 * k + width, 4)
    rows = rounded(n, 8) * (1 + weighted) + rounded(n, 4) + rounded(d * (n | 1), itemsize)
    return fixed, rows


def _threads(sizes: np.ndarray, itemsize: int) -> np.ndarray:
    """Threads for so many rows: two rows each, as far as registers allow."""
    wanted = np.ceil(np.log2(np.maximum(sizes, 2) / 2)).astype(np.int64)
    return np.minimum(1 << np.clip(wanted, 6, 9), most_threads(8 * itemsize))


def suits(
    sizes: np.ndarray, clusters: np.ndarray, d: int, itemsize: int, weighted: bool, target: Target
) -> np.ndarray:
    """Which problems a block should fit, given how many there are."""
    wide = max(itemsize, 4)
    levels = MOST_LEVELS if wide == 8 or weighted else FEW_LEVELS
    fixed, _ = _bytes(sizes, clusters, d, wide, weighted, levels)
    fits = (fixed <= target.shared_bytes - OWN_BYTES) & (sizes <= MOST_ROWS)
    terms = MOST_TERMS * min(len(sizes), target.multiprocessors)
    return np.asarray(fits & (sizes * d * clusters <= terms) & (d <= MOST_FEATURES))


def fit_whole(
    problems: Problems,
    which: np.ndarray,
    start: np.ndarray | str,
    streams: np.ndarray | None,
    n_init: int,
    max_iter: int,
    tol: float,
    target: Target,
) -> Found:
    """Fit problems, each in a block of its own.

    Parameters
    ----------
    problems : Problems
    which : ndarray of int64, shape (n,)
        Those to fit; `suits` says which can be.
    start : name, or ndarray of shape (B, K, D) or (1, K, D)
        How they start, or given centroids.
    streams : ndarray of uint64, shape (B, 4), or None
        State and increment of each problem's PCG64, the high words first; None where centroids are
        given.
    n_init, max_iter, tol
        As for `kmeans`; with `max_iter` 0 rows are labelled alone.
    target : Target

    Raises
    ------
    DeviceUnsupported
        If the kernel does not compile here.
    """
    run = _Run(problems, start, streams, target)
    narrow = problems.x.dtype.itemsize < 8 and problems.w is None
    for levels in (FEW_LEVELS, MOST_LEVELS) if narrow else (MOST_LEVELS,):
        run.launch(which, levels, n_init, max_iter, tol)
        n_iter = run.n_iter.get().astype(np.int64)
        which = which[n_iter[which] < 0]
        if not which.size:
            break
    inertia, converged, used = (a.get() for a in (run.inertia, run.converged, run.used))
    return Found(
        run.labels, run.centroids, inertia, n_iter, converged.astype(bool), used.astype(np.int64)
    )


class _Run:
    """Problems on the device, with room for what comes out."""

    def __init__(
        self,
        problems: Problems,
        start: np.ndarray | str,
        streams: np.ndarray | None,
        target: Target,
    ) -> None:
        import cupy as cp

        self.problems, self.target = problems, target
        count, most, d = len(problems.sizes), int(problems.clusters.max()), problems.x.shape[1]
        self.start, self.given, self.given_step = GIVEN, np.uint64(0), 0
        if isinstance(start, str):
            self.start = STARTS[start]
        else:
            given = np.ascontiguousarray(start, dtype=problems.dtype)
            self.given, self.given_step = cp.asarray(given), given[0].size * (len(given) > 1)
        self.streams = np.uint64(0) if streams is None else cp.asarray(streams)
        trials = np.array([2 + int(math.log(k)) for k in range(1, most + 1)], np.int32)
        self.first = cp.asarray(problems.first.astype(np.int64))
        small = np.stack([problems.sizes, problems.clusters, trials[problems.clusters - 1]])
        self.sizes, self.clusters, self.trials = cp.asarray(small.astype(np.int32))
        self.labels = cp.full(problems.x.shape[0], -1, cp.int32)
        self.centroids = cp.zeros((count, most, d), problems.dtype)
        self.inertia = cp.zeros(count, cp.float64)
        self.n_iter, self.converged, self.used = cp.full((3, count), -1, cp.int32)

    def launch(
        self, which: np.ndarray, levels: int, n_init: int, max_iter: int, tol: float
    ) -> None:
        """Enqueue these problems, those of a kind together."""
        problems, d = self.problems, int(self.problems.x.shape[1])
        sizes, clusters = problems.sizes[which], problems.clusters[which]
        weighted, itemsize = problems.w is not None, problems.dtype.itemsize
        fixed, rows = _bytes(sizes, clusters, d, itemsize, weighted, levels)
        room, threads = self.target.shared_bytes - OWN_BYTES, _threads(sizes, itemsize)
        inside = fixed + rows <= room
        shared = np.where(inside, fixed + rows, fixed)
        kinds = np.stack([inside, threads, np.ceil(np.log2(shared)).astype(np.int64)])
        for kind in np.unique(kinds[:, fixed <= room], axis=1).T:
            same = np.flatnonzero((kinds == kind[:, None]).all(axis=0))
            shape = int(kind[1]), int(shared[same].max())
            scratch = 0 if kind[0] else int(rows[same].max())
            self._launch(which[same], levels, shape, scratch, (n_init, max_iter, tol))

    def _launch(
        self,
        which: np.ndarray,
        levels: int,
        shape: tuple[int, int],
        scratch: int,
        settings: tuple[int, int, float],
    ) -> None:
        import cupy as cp

        (threads, shared), (n_init, max_iter, tol) = shape, settings
        problems, target = self.problems, self.target
        bits, weighted = problems.x.dtype.itemsize * 8, problems.w is not None
        variant = whole_variant(bits, weighted, levels, scratch == 0)
        kernel = Kernel(variant, "fit_whole", target, threads=threads, shared=shared)
        resident = target.shared_bytes // (shared + OWN_BYTES)
        blocks = min(
            max(1, min(resident, RESIDENT_THREADS // threads)) * target.multiprocessors, len(which)
        )
        if scratch:
            blocks = min(blocks, max(1, free_bytes() // 4 // scratch))
        room = cp.empty(max(1, blocks * scratch), cp.uint8)
        kernel(
            blocks,
            problems.x,
            np.uint64(0) if problems.w is None else problems.w,
            *(self.first, self.sizes, self.clusters, self.trials),
            *(cp.asarray(which.astype(np.int32)), np.int32(len(which)), cp.zeros(1, cp.int32)),
            *(np.int32(problems.x.shape[1]), np.int32(self.start)),
            *(self.given, np.int64(self.given_step), self.streams),
            *(np.int32(n_init), np.int32(max_iter), np.float64(tol)),
            *(room, np.int64(scratch), np.int32(self.centroids.shape[1])),
            *(self.labels, self.centroids, self.inertia),
            *(self.n_iter, self.converged, self.used),
        )
