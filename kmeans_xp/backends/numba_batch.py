"""Whole fits of tiny problems inside one compiled call each; this module needs numba.

A problem either ends with the bits that docs/exactness.md defines, every decision certified, or is
left to the ordinary loop: `solve` says which. Left are ties that pairs of float64 cannot decide,
empty clusters, and values outside 2**±200.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numba.np.numpy_support import as_dtype

from kmeans_xp.backends.jit import frozen, jit
from kmeans_xp.backends.numba_batch_start import drawn_rows, plus_plus
from kmeans_xp.backends.numba_distances import (
    mean_variance,
    nearest_two,
    spread,
    transposed,
    within_range,
)
from kmeans_xp.backends.numba_exact import (
    far_apart,
    fma,
    quotient,
    rounded,
    square_distance,
    two_sum,
)

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
MOST_ROWS, MOST_FEATURES = 1 << 13, 1 << 9
# Bits a level of the exact sums: those of 2**13 rows fit 53.
_BITS = 40
_LEVELS = 3
# Squares below may have met the underflow limit of float32.
_TINY_FAST = 2.0**-80
# Relative error of an inertia of that size summed in pairs.
_COST = 2.0**-78


@jit
def _levels(x: Any, exponents: Any, levels: Any) -> int:
    """Fill the integer levels of every value, side by side; how many, or -1 for too many."""
    d, n = x.shape
    unit = 2.0**_BITS
    for level in range(_LEVELS):
        left = False
        for j in range(d):
            up = 2.0 ** -exponents[j]
            row = x[j]
            for r in range(n):
                rest = row[r] * up
                for _ in range(level):
                    rest = rest * unit
                    rest -= np.rint(rest)
                integer = np.rint(rest * unit)
                left |= rest * unit != integer
                levels[r, level * d + j] = np.int64(integer)
        if not left:
            return level + 1
    return -1


@jit
def _assign(x: Any, exact: Any, c: Any, slack: float, work: Any, new: Any) -> bool:
    """Nearest centroid of every row; False if one cannot be told.

    x are the rows in the dtype of the fast pass, `slack` its relative error; `exact` are they in
    float64.
    """
    n_rows = x.shape[1]
    points = np.zeros((len(c) + len(c) % 2, len(x)), x.dtype)
    points[: len(c), : c.shape[1]] = c
    if len(c) % 2:
        points[len(c)] = np.inf  # makes pairs; never nearest
    best, second = work[2, :n_rows], work[3, :n_rows]
    nearest_two(x, points, work[0, :n_rows], work[1, :n_rows], best, second, new)
    widened, tiny = 1 + 3 * slack, _TINY_FAST if x.itemsize == 4 else 0.0
    for r in range(n_rows):
        limit = best[r] * widened + tiny
        if not second[r] > limit:
            found = _settle(exact, r, c, limit * (1 + 2.0**-20))
            if found < 0:
                return False
            new[r] = found
    return True


@jit
def _settle(x: Any, row: int, c: Any, limit: float) -> int:
    """Nearest centroid of a row among those within `limit`; -1 if it cannot be told."""
    nearest, least = -1, (np.inf, 0.0, False)
    for k in range(len(c)):
        rough = 0.0
        for j in range(len(x)):
            rough += (x[j, row] - c[k, j]) ** 2
        if rough > limit * (1 + 2.0**-30):
            continue
        d = square_distance(x, row, c, k)
        if nearest < 0:
            nearest, least = k, d
            continue
        sign = far_apart(d, least)
        if sign == 2 and not np.all(c[k] == c[nearest]):
            return -1
        if sign == -1:
            nearest, least = k, d
    return nearest


@jit
def _move(levels: Any, new: Any, labels: Any, sums: Any, counts: Any, touched: Any) -> int:
    """Bring the exact sums up to date with new labels, which become the labels; counts changes."""
    changed = 0
    for r in range(len(labels)):
        a, b = labels[r], new[r]
        if a == b:
            continue
        changed += 1
        counts[b] += 1
        touched[b] = True
        for i in range(sums.shape[1]):
            sums[b, i] += levels[r, i]
        if a >= 0:
            counts[a] -= 1
            touched[a] = True
            for i in range(sums.shape[1]):
                sums[a, i] -= levels[r, i]
        labels[r] = b
    return changed


@jit
def _sum(sums: Any, k: int, j: int, d: int) -> tuple[float, float, float]:
    """Parts of the exact sum of a feature of a cluster, in units of the feature's exponent."""
    unit = 2.0**-_BITS
    n_levels = sums.shape[1] // d
    second = sums[k, d + j] * unit**2 if n_levels > 1 else 0.0
    third = sums[k, 2 * d + j] * unit**3 if n_levels > 2 else 0.0
    return sums[k, j] * unit, second, third


@jit
def _means(sums: Any, counts: Any, touched: Any, exponents: Any, narrow: bool, c: Any) -> bool:
    """Correctly rounded means of the clusters that were touched; False if one is empty or a
    rounding cannot be told.
    """
    d = c.shape[1]
    for k in range(len(c)):
        if counts[k] == 0:
            return False
        if not touched[k]:
            continue
        touched[k] = False
        for j in range(d):
            parts = _sum(sums, k, j, d)
            high, low, error = quotient(parts[0], parts[1], parts[2], np.float64(counts[k]))
            value, certain = rounded(high, low, error, narrow)
            small = value != 0 and abs(value) < 2.0**-100
            if not certain or small:
                return False
            value *= 2.0 ** exponents[j]
            if value != 0 and abs(value) < (2.0**-120 if narrow else 2.0**-400):
                return False
            c[k, j] = value + 0.0
    return True


@jit
def _shift(new: Any, old: Any) -> float:
    total = 0.0
    for k in range(len(new)):
        for j in range(new.shape[1]):
            total += (new[k, j] - old[k, j]) ** 2
    return total


@jit
def _inertia(x: Any, c: Any, labels: Any, work: Any) -> tuple[float, bool]:
    """Σ |x − c_label|² rounded once; says whether that is certain."""
    n_rows = x.shape[1]
    high, low, point = work[0, :n_rows], work[1, :n_rows], work[2, :n_rows]
    high[:] = 0
    low[:] = 0
    for j in range(len(x)):
        row = x[j]
        for r in range(n_rows):
            point[r] = c[labels[r], j]
        for r in range(n_rows):
            d, e = two_sum(row[r], -point[r])
            square = d * d
            total, error = two_sum(high[r], square)
            high[r] = total
            low[r] += error + (fma(d, d, -square) + (2 * d * e + e * e))
    total, rest = 0.0, 0.0
    for r in range(n_rows):
        total, error = two_sum(total, high[r])
        rest += error + low[r]
    total, rest = two_sum(total, rest)
    if total == 0:
        return 0.0, True
    return rounded(total, rest, _COST * total, False)


@jit
def _within(shift: float, limit: tuple[float, float], slack: float) -> int:
    """Whether the shift is at most the limit, known as an interval: 0, 1, or 2 for not known."""
    if shift == 0:
        return 1
    if shift * (1 - slack) > limit[1]:
        return 0
    return 1 if shift * (1 + slack) <= limit[0] else 2


@jit
def _lloyd(
    x: Any,
    fast: Any,
    c: Any,
    levels: Any,
    width: int,
    exponents: Any,
    limit: tuple[float, float],
    max_iter: int,
    narrow: bool,
    labels: Any,
    work: Any,
    exact_work: Any,
) -> tuple[float, int, bool]:
    """Iterate from the centroids c, which move; (inertia, iterations, converged).

    The number of iterations is -1 where something could not be told.
    """
    k, d = c.shape
    sums, counts = np.zeros((k, width), np.int64), np.zeros(k, np.int64)
    touched = np.zeros(k, np.bool_)
    old, new = np.empty_like(c), np.empty(x.shape[1], np.int32)
    slack = (d + 8) * (2.0**-23 if fast.itemsize == 4 else 2.0**-52)
    shift_slack = (k * d + 8) * 2.0**-52
    labels[:] = -1
    iteration, converged, shift = 0, False, 1.0
    while iteration < max_iter and not converged:
        iteration += 1
        if not _assign(fast, x, c, slack, work, new):
            return 0.0, -1, False
        changed = _move(levels, new, labels, sums, counts, touched)
        old[:] = c
        if not _means(sums, counts, touched, exponents, narrow, c):
            return 0.0, -1, False
        shift = _shift(c, old)
        within = _within(shift, limit, shift_slack)
        if changed and within == 2:
            return 0.0, -1, False
        converged = changed == 0 or within == 1
    if shift != 0:
        if not _assign(fast, x, c, slack, work, new):
            return 0.0, -1, False
        labels[:] = new
    cost, certain = _inertia(x, c, labels, exact_work)
    return cost, iteration if certain else -1, converged


@jit
def solve(
    x: Any,
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
) -> None:
    """Fit problems lo..hi; `n_iter` is -1 for those that are left to the ordinary loop.

    Parameters
    ----------
    x : array of float32 or float64, shape (M, D)
        Rows of all problems, finite.
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
    centroids : array of float64, shape (B, K, D)
    inertia, n_iter, converged : array, shape (B,)
        Outcome.
    """
    most, d = 0, x.shape[1]
    padded = (d + 3) // 4 * 4
    for b in range(lo, hi):
        most = max(most, sizes[b])
    work, exact_work, trial = (
        np.empty((4, most), x.dtype),
        np.empty((4, most)),
        np.empty(most, np.int32),
    )
    levels, exponents = np.empty((most, _LEVELS * d), np.int64), np.empty(d, np.int64)
    flat, flat_fast = np.empty(d * most), np.empty(padded * most, x.dtype)
    for b in range(lo, hi):
        n, k = sizes[b], n_clusters[b]
        n_iter[b] = -1
        rows = flat[: d * n].reshape(d, n)
        fast = flat_fast[: padded * n].reshape(padded, n)
        if not transposed(x[first[b] : first[b] + n], rows, fast):
            continue
        spread(rows, exponents)
        n_levels = _levels(rows, exponents, levels)
        if n_levels < 0:
            continue
        limit = (0.0, 0.0)
        if tol > 0:
            low, high = mean_variance(rows)
            limit = (low * tol * (1 - 2.0**-50), high * tol * (1 + 2.0**-50))
        place = 0
        c = np.empty((k, d))
        for index in range(n_init):
            if start == GIVEN:
                c[:] = given[b, :k]
                place = 0 if within_range(c, narrow) else -1
            elif start == RANDOM:
                place = drawn_rows(rows, words[b], place, c)
            else:
                place = plus_plus(rows, words[b], place, c, exact_work)
            cost, count, done = 0.0, -1, False
            if place >= 0:
                cost, count, done = _lloyd(
                    rows,
                    fast,
                    c,
                    levels,
                    n_levels * d,
                    exponents,
                    limit,
                    max_iter,
                    narrow,
                    trial[:n],
                    work,
                    exact_work,
                )
            if count < 0:
                n_iter[b] = -1
                break
            if index == 0 or cost < inertia[b]:
                inertia[b], n_iter[b], converged[b] = cost, count, done
                centroids[b, :k] = c
                labels[first[b] : first[b] + n] = trial[:n]


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
    most, d = 0, x.shape[1]
    padded = (d + 3) // 4 * 4
    for b in range(lo, hi):
        most = max(most, sizes[b])
    work = np.empty((4, most), x.dtype)
    flat, flat_fast = np.empty(d * most), np.empty(padded * most, x.dtype)
    slack = (d + 8) * (2.0**-23 if narrow else 2.0**-52)
    for b in range(lo, hi):
        n = sizes[b]
        rows, fast = flat[: d * n].reshape(d, n), flat_fast[: padded * n].reshape(padded, n)
        fine = transposed(x[first[b] : first[b] + n], rows, fast)
        fine = fine and within_range(centroids[b], narrow)
        new = labels[first[b] : first[b] + n]
        decided[b] = fine and _assign(fast, rows, centroids[b], slack, work, new)


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
    given, centroids = np.zeros((1, 1, 1)), np.zeros((1, 1, 1))
    labels, decided = np.empty(2, np.int32), np.empty(1, bool)
    out = labels, centroids, np.zeros(1), np.empty(1, np.int64), np.zeros(1, bool)
    for dtype in _DTYPES:
        x, narrow = frozen(np.ones((2, 1), dtype)), dtype == np.float32
        solve(x, first, sizes, clusters, GIVEN, given, words, 1, 1, 0.0, narrow, 0, 1, *out)
        label(x, first, sizes, given, narrow, 0, 1, labels, decided)
