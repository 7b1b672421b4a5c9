"""Whole fits of tiny problems inside one compiled call each; this module needs numba.

A problem either ends with the bits that docs/exactness.md defines, every decision certified, or is
left to the ordinary loop: `solve` says which. Left are ties and means that pairs of float64 cannot
decide, values of a range that the exact sums do not hold, and values outside 2**±200.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numba.np.numpy_support import as_dtype

from kmeans_xp.backends.jit import copied, frozen, inlined, jit
from kmeans_xp.backends.numba_batch_loop import lloyd, slack_of
from kmeans_xp.backends.numba_batch_nearest import BLOCK, assign, forget, memory, padded
from kmeans_xp.backends.numba_batch_start import drawn_rows, plus_plus, weighted_rows
from kmeans_xp.backends.numba_batch_sums import LEVELS, units
from kmeans_xp.backends.numba_batch_weights import weighted_totals
from kmeans_xp.backends.numba_distances import mean_variance, spread, transposed, within_range

__all__ = [
    "GIVEN",
    "MOST_FEATURES",
    "MOST_ROWS",
    "PLUS_PLUS",
    "RANDOM",
    "label",
    "ready",
    "solve",
    "warmup",
]

# Dtypes that rows may have.
_DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
# Where a problem starts.
GIVEN, RANDOM, PLUS_PLUS = 0, 1, 2
# Sizes for which the constants here are proven.
MOST_ROWS, MOST_FEATURES = 1 << 17, 1 << 9


@inlined
def _records(x: Any, n_rows: int, n_clusters: int, seeding: bool) -> Any:
    """Memory for problems of up to so many rows like x and clusters, as `lloyd` names it."""
    d = x.shape[1]
    return (
        np.empty(LEVELS * (n_clusters + 1) * (d + 1), np.int64),
        np.empty(n_clusters + 1, np.int64),
        np.zeros(n_clusters + 1, np.bool_),
        np.empty((n_clusters, d)),
        np.empty(n_rows, np.int32),
        np.empty(n_clusters, np.int64),
        np.empty(n_rows),
        np.empty((3, max(BLOCK, d))),
        np.empty((4, n_rows if seeding else 0)),
        np.empty((3, d + 1)),
        np.empty((n_clusters, d)),
        np.empty(n_rows, np.int32),
        np.empty(padded(d) * n_rows, x.dtype),
    )


@inlined
def _started(
    start: int,
    given: Any,
    words: Any,
    place: int,
    x: Any,
    turned: Any,
    w: Any,
    narrow: bool,
    c: Any,
    p: Any,
    rows: Any,
) -> int:
    """Put the first centroids into c; the place after the words that were used, -1 for failure."""
    if start == GIVEN:
        for k in range(len(c)):
            copied(given[k], c[k])
        return place if within_range(c, narrow) else -1
    if start == PLUS_PLUS:
        place = plus_plus(x, turned, w, words, place, c, p)
    elif len(w):
        place = weighted_rows(x, w, words, place, c, p[0, : len(w)], rows)
    else:
        place = drawn_rows(x, words, place, c)
    c += 0.0  # every zero is +0
    return place


@jit
def _distinct(labels: Any, seen: Any) -> int:
    """How many labels there are."""
    seen[:] = False
    for label in labels:
        seen[np.uintp(label)] = True
    return int(np.count_nonzero(seen))


@jit
def _grid(x: Any, w: Any, numbers: Any) -> Any:
    """What brings features to units of sums and back, and the step between levels.

    `numbers` has Σ|x| in its first row, and room; the step is 0 for weights that are not taken.
    """
    n, d = x.shape
    if len(w) == 0:
        step = units(numbers[0, :d], n, numbers[1, :d], numbers[2, :d])
    elif weighted_totals(x, w, numbers[0]):
        step = units(numbers[0], n, numbers[1], numbers[2])
        numbers[2, :d] *= numbers[1, d]  # means are quotients of sums
    else:
        step = 0.0
    return numbers[1], numbers[2], step


@inlined
def _best(
    x: Any,
    w: Any,
    k: int,
    start: int,
    given: Any,
    words: Any,
    n_init: int,
    max_iter: int,
    tol: float,
    narrow: bool,
    labels: Any,
    centroids: Any,
    work: Any,
    records: Any,
) -> tuple[float, int, bool, int]:
    """Inertia, iterations (-1: undecided), convergence and number of labels of the best start.

    Its labels and centroids are stored.
    """
    n, d = x.shape
    turned = records[12][: padded(d) * n].reshape(padded(d), n)
    transposed(x, turned)
    values, numbers = turned[:d], records[9]
    if not spread(values, numbers[0, :d]):
        return 0.0, -1, False, 0
    limit = (0.0, 0.0)
    if tol > 0:
        low, high = mean_variance(values, numbers[0])
        limit = (low * tol * (1 - 2.0**-50), high * tol * (1 + 2.0**-50))
    grid = _grid(x, w, numbers)
    if grid[2] == 0:
        return 0.0, -1, False, 0
    c, trial = records[10][:k], records[11][:n]
    place: Any = np.int64(0)
    count: Any = np.int64(-1)
    best, done = 0.0, False
    for index in range(n_init):
        place = _started(
            start, given, words, place, x, turned, w, narrow, c, records[8], records[5]
        )
        if place < 0:
            return 0.0, -1, False, 0
        cost, last, end = lloyd(
            x, turned, w, c, grid, limit, max_iter, narrow, trial, work, records
        )
        if last < 0:
            return 0.0, -1, False, 0
        if index == 0 or cost < best:
            best, count, done = cost, last, end
            for i in range(k):
                copied(c[i], centroids[i])
            copied(trial, labels)
    return best, count, done, _distinct(labels, records[2][:k])


@jit
def solve(
    x: Any,
    w: Any,
    first: Any,
    sizes: Any,
    n_clusters: Any,
    start: int,
    given: Any,
    words: Any,
    n_init: int,
    max_iter: int,
    tol: float,
    narrow: bool,
    lo: int,
    hi: int,
    labels: Any,
    centroids: Any,
    inertia: Any,
    n_iter: Any,
    converged: Any,
    used: Any,
) -> None:
    """Fit problems lo..hi; `n_iter` is -1 for those that are left to the ordinary loop.

    Parameters
    ----------
    x : array of float32 or float64, shape (M, D)
        Rows of all problems, finite.
    w : array of float64, shape (M,) or (0,)
        Their weights, or none.
    first, sizes, n_clusters : array of int64, shape (B,)
        First row, number of rows and number of clusters of each problem.
    start : int
        GIVEN, RANDOM or PLUS_PLUS.
    given : array of float64, shape (B, K, D)
        First centroids, for GIVEN.
    words : array of uint64, shape (B, W)
        Raw words of each problem's stream, for the others.
    n_init, max_iter, tol
        As for `kmeans`.
    narrow : bool
        Whether centroids are float32.
    lo, hi : int
        Which problems.
    labels : array of int32, shape (M,)
        Outcome; other rows are left as they are.
    centroids : array of float32 or float64, shape (B, K, D)
    inertia, n_iter, converged, used : array, shape (B,)
        Outcome; `used` is the number of clusters that have a row.
    """
    most, most_clusters = np.int64(0), np.int64(0)
    for b in range(lo, hi):
        most, most_clusters = max(most, sizes[b]), max(most_clusters, n_clusters[b])
    work = memory(x, most, most_clusters)
    records = _records(x, most, most_clusters, start != GIVEN)
    for b in range(lo, hi):
        begin, end = first[b], first[b] + sizes[b]
        inertia[b], n_iter[b], converged[b], used[b] = _best(
            x[begin:end],
            w[begin:end],
            n_clusters[b],
            start,
            given[b if start == GIVEN else 0],
            words[0 if start == GIVEN else b],
            n_init,
            max_iter,
            tol,
            narrow,
            labels[begin:end],
            centroids[b],
            work,
            records,
        )


@jit
def label(
    x: Any,
    first: Any,
    sizes: Any,
    centroids: Any,
    narrow: bool,
    lo: int,
    hi: int,
    labels: Any,
    decided: Any,
) -> None:
    """Label the rows of problems lo..hi, as `solve` does; `decided` says for which that worked."""
    most, d = np.int64(0), x.shape[1]
    for b in range(lo, hi):
        most = max(most, sizes[b])
    work = memory(x, most, centroids.shape[1])
    none, largest = np.zeros(most, np.int32), np.empty(d)
    flat = np.empty(padded(d) * most, x.dtype)
    for b in range(lo, hi):
        n, c = sizes[b], centroids[b]
        rows, new = x[first[b] : first[b] + n], labels[first[b] : first[b] + n]
        turned = flat[: padded(d) * n].reshape(padded(d), n)
        transposed(rows, turned)
        forget(work)
        fine = spread(turned[:d], largest) and within_range(c, narrow)
        decided[b] = fine and assign(rows, turned, none[:n], c, slack_of(d, narrow), work, new)


def ready(dtype: np.dtype[Any]) -> bool:
    """Whether `solve` for rows of this dtype is compiled, in this process or in numba's cache."""
    if any(as_dtype(arguments[0].dtype) == dtype for arguments in solve.signatures):
        return True
    folder, code = solve.stats.cache_path, solve.py_func.__code__
    if folder is None:
        return False
    since = Path(code.co_filename).stat().st_mtime
    pattern = f"{Path(code.co_filename).stem}.solve-{code.co_firstlineno}.*.nbc"
    kept = [file for file in Path(folder).glob(pattern) if file.stat().st_mtime >= since]
    return len(kept) >= len(_DTYPES)  # the files do not tell their dtypes: all must be there


def warmup() -> None:
    """Compile all kernels, or load them from the cache, so that no later call has to."""
    first, sizes, clusters = np.zeros(1, np.int64), np.full(1, 2), np.ones(1, np.int64)
    words = np.zeros((1, 8), np.uint64)
    given, w = np.zeros((1, 1, 1)), np.empty(0)
    labels, decided = np.empty(2, np.int32), np.empty(1, bool)
    numbers = np.zeros(1, np.int64), np.zeros(1, np.int64)
    out = np.zeros(1), numbers[0], np.zeros(1, bool), numbers[1]
    for dtype in _DTYPES:
        centroids = np.zeros((1, 1, 1), dtype)
        x, narrow = frozen(np.ones((2, 1), dtype)), dtype == np.float32
        solve(
            x,
            w,
            first,
            sizes,
            clusters,
            GIVEN,
            given,
            words,
            1,
            1,
            0.0,
            narrow,
            0,
            1,
            labels,
            centroids,
            *out,
        )
        label(x, first, sizes, given, narrow, 0, 1, labels, decided)
