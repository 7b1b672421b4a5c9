"""Tiny problems in host memory: each is fitted inside a compiled kernel; a batch of them in
threads.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np

from kmeans_xp.backends import forced_generic
from kmeans_xp.backends.convert import centroid_dtype, is_sparse, zero_copy_numpy
from kmeans_xp.backends.cpu import kernels, kernels_allowed
from kmeans_xp.backends.threads import thread_count

__all__ = ["TinySolver", "held_by_float64", "solver_for_one", "tiny_solver"]

# Values of a problem up to which a kernel alone beats the ordinary loop with all threads, and up to
# which it does so where other problems keep the other threads busy.
_MOST_ENTRIES, _MOST_OF_MANY = 1 << 17, 1 << 22
# Rows × features × clusters up to which one thread in a kernel beats the ordinary loop.
_MOST_TERMS = 1 << 23
_MODULE = "kmeans_xp.backends.numba_batch"
# Rows that a worker takes at a time, and problems at most.
_ROWS, _PROBLEMS = 1 << 14, 512


def tiny_solver(x: Any) -> TinySolver | None:
    """Solver for problems in this array; None where there is no numba, or it is not to be used."""
    if not isinstance(x, np.ndarray) or forced_generic() or kernels(x) is None:
        return None
    from kmeans_xp.backends import numba_batch

    return TinySolver(numba_batch)


def solver_for_one(x: Any, n_clusters: int) -> TinySolver | None:
    """Solver for a single problem; None where that does not suit it or is not ready.

    A kernel that is not compiled yet is left alone unless KMEANS_XP_NUMBA=1 asks for it: compiling
    takes longer than any tiny fit.

    Parameters
    ----------
    x : array, shape (N, D)
        Validated data; None is returned for values that a fit refuses.
    n_clusters : int
    """
    host = None if is_sparse(x) or forced_generic() else zero_copy_numpy(x)
    if host is None or host.size * n_clusters > _MOST_TERMS or not _plain(host):
        return None
    if not kernels_allowed() or (_MODULE not in sys.modules and kernels(host) is None):
        return None
    from kmeans_xp.backends import numba_batch

    if os.environ.get("KMEANS_XP_NUMBA") != "1" and not numba_batch.ready(centroid_dtype(x)):
        return None
    solver = TinySolver(numba_batch)
    suits = solver.suits(np.asarray(host.shape[:1]), host.shape[1]).all()
    return solver if suits and np.isfinite(host).all() else None


def held_by_float64(dtype: np.dtype[Any]) -> bool:
    """Whether float64 holds every value of this dtype; a fit refuses those that it does not."""
    kind, size = dtype.kind, dtype.itemsize
    return kind == "b" or (kind == "f" and size <= 8) or (kind in "iu" and size <= 4)


def _plain(x: np.ndarray) -> bool:
    """Whether float64 holds every value of this dtype, and no block size was asked for."""
    return held_by_float64(x.dtype) and "KMEANS_XP_BLOCK_ROWS" not in os.environ


class TinySolver:
    """Fits and labels tiny problems in threads; those that it cannot decide it leaves."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def suits(self, sizes: np.ndarray, n_features: int) -> np.ndarray:
        """Which problems are tiny enough."""
        if n_features > self._module.MOST_FEATURES:
            return np.zeros(len(sizes), dtype=bool)
        entries = _MOST_ENTRIES if len(sizes) < thread_count() else _MOST_OF_MANY
        return np.asarray(sizes <= min(self._module.MOST_ROWS, entries // n_features))

    def fit(
        self,
        rows: np.ndarray,
        w: np.ndarray | None,
        first: np.ndarray,
        sizes: np.ndarray,
        clusters: np.ndarray,
        start: np.ndarray | str,
        words: np.ndarray,
        n_init: int,
        max_iter: int,
        tol: float,
        dtype: np.dtype[Any],
        labels: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Centroids, inertia, iterations (-1: left undecided), convergence and clusters in use.

        Parameters
        ----------
        rows : ndarray, shape (M, D)
        w : ndarray, shape (M,), or None
            Weights of the rows.
        first, sizes, clusters : ndarray of int64, shape (B,)
            First row, rows and clusters of each problem.
        start : ndarray of shape (B, K, D), or name
            Given centroids, or how to start.
        words : ndarray of uint64, shape (B, W)
            Raw words of each problem's stream.
        n_init, max_iter, tol
            As for `kmeans`.
        dtype : numpy.dtype
            Of the centroids.
        labels : ndarray of int32, shape (M,)
            Takes the labels of the rows of the problems.
        """
        module, count = self._module, len(first)
        codes = {"random": module.RANDOM, "k-means++": module.PLUS_PLUS}
        code = codes[start] if isinstance(start, str) else module.GIVEN
        given = np.zeros((1, 1, 1)) if isinstance(start, str) else _doubles(start)
        rows = self._readable(rows, dtype)
        weights = np.empty(0) if w is None else np.ascontiguousarray(w, dtype=np.float64)
        centroids = np.zeros((count, int(clusters.max()), rows.shape[1]), dtype=dtype)
        inertia, converged = np.zeros(count), np.zeros(count, dtype=bool)
        n_iter, used = np.empty((2, count), dtype=np.int64)
        problems = rows, weights, first, sizes, clusters, code, given, words
        settings = n_init, max_iter, tol, dtype == np.float32

        def run(lo: int, hi: int) -> None:
            out = labels, centroids, inertia, n_iter, converged, used
            module.solve(*problems, *settings, lo, hi, *out)

        _each(run, sizes)
        return centroids, inertia, n_iter, converged, used

    def fit_one(
        self,
        x: Any,
        n_clusters: int,
        start: np.ndarray | str,
        words: np.ndarray,
        n_init: int,
        max_iter: int,
        tol: float,
        w: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, float, int, bool] | None:
        """`fit` for an array that `solver_for_one` took; None if left undecided."""
        rows = zero_copy_numpy(x)
        assert rows is not None
        size, labels = np.asarray([len(rows)]), np.empty(len(rows), dtype=np.int32)
        centroids, inertia, n_iter, converged, _ = self.fit(
            rows,
            w,
            np.zeros_like(size),
            size,
            np.asarray([n_clusters]),
            start if isinstance(start, str) else start[None],
            words[None],
            n_init,
            max_iter,
            tol,
            centroid_dtype(x),
            labels,
        )
        if n_iter[0] < 0:
            return None
        return labels, centroids[0], float(inertia[0]), int(n_iter[0]), bool(converged[0])

    def predict(
        self,
        rows: np.ndarray,
        first: np.ndarray,
        sizes: np.ndarray,
        centroids: np.ndarray,
        dtype: np.dtype[Any],
        labels: np.ndarray,
    ) -> np.ndarray:
        """Which problems were decided; their rows' labels are put into `labels`."""
        rows, points = self._readable(rows, dtype), _doubles(centroids)
        decided = np.empty(len(first), dtype=bool)

        def run(lo: int, hi: int) -> None:
            narrow = dtype == np.float32
            self._module.label(rows, first, sizes, points, narrow, lo, hi, labels, decided)

        _each(run, sizes)
        return decided

    @staticmethod
    def _readable(rows: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """Rows in the dtype of the centroids, which holds them exactly; the kernels want them
        read-only.
        """
        view = np.ascontiguousarray(rows, dtype=dtype).view()
        view.flags.writeable = False
        return view


def _doubles(values: np.ndarray) -> np.ndarray:
    """Return them as the kernels take them: another layout would be compiled for anew."""
    return np.array(values, dtype=np.float64, order="C")


def _each(run: Callable[[int, int], None], sizes: np.ndarray) -> None:
    """Run over ranges of problems, in threads."""
    share = -(-len(sizes) // (8 * thread_count()))  # threads end together
    step = int(np.clip(_ROWS // int(sizes.max()), 1, min(share, _PROBLEMS)))
    ranges = [(lo, min(lo + step, len(sizes))) for lo in range(0, len(sizes), step)]
    threads = min(thread_count(), len(ranges))
    if threads < 2:
        for lo, hi in ranges:
            run(lo, hi)
        return
    with ThreadPoolExecutor(threads, "kmeans_xp") as pool:
        list(pool.map(lambda bounds: run(*bounds), ranges))
