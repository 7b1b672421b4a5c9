"""Nearest centroids of a tiny problem, every one certain; this module needs numba.

Where that is little work all rows are looked at together; else those alone that bounds leave open
(G. Hamerly, "Making k-means even faster", SDM 2010), gathered into blocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kmeans_xp.backends.jit import copied, inlined, jit, sum_jit
from kmeans_xp.backends.numba_distances import nearest_two
from kmeans_xp.backends.numba_exact import far_apart, square_distance

__all__ = ["BLOCK", "assign", "drifts", "forget", "memory", "padded"]

#: Rows that are looked at together.
BLOCK = 256
# Rows that are gathered: a power of two would put all features of a row into a few cache sets.
_GATHERED = 272
# Without bounds: so many rows, or more where a row has few values to be compared with.
_FEW_ROWS, _MORE_ROWS, _FEW_TERMS = 256, 1 << 13, 1 << 8
# Squares below may have met the underflow limit of float32.
_TINY_FAST = 2.0**-80
# Centroids from which a row is measured against its own before all others.
_TIGHTEN = 16
# Makes up for the roundings of a few float64 operations.
_UP, _DOWN = 1 + 2.0**-48, 1 - 2.0**-48


@jit
def padded(n_features: int) -> int:
    """Features of the rows of the fast pass, a multiple of four."""
    return (n_features + 3) // 4 * 4


@jit
def _together(n_rows: int, n_terms: int) -> bool:
    """Whether bounds are too much work."""
    return n_rows <= _FEW_ROWS or (n_rows <= _MORE_ROWS and n_terms <= _FEW_TERMS)


@jit
def memory(x: Any, n_rows: int, n_clusters: int) -> Any:
    """What `assign` works with, for problems of up to so many rows like x and clusters."""
    width = padded(x.shape[1])
    plain = _together(n_rows, width * n_clusters)
    few, many = (n_rows, 0) if plain else (min(n_rows, _MORE_ROWS), n_rows)
    state = np.empty((4, max(few, _GATHERED)), x.dtype)
    points = np.zeros((n_clusters + 1, width), x.dtype)
    block = np.zeros((width, _GATHERED if many else 0), x.dtype)
    found = np.empty(_GATHERED, np.int32)
    every = np.arange(few)
    bounds = np.empty((2, many))
    drift = np.zeros((2, n_clusters + 1))
    rows, above, below = np.empty(many, np.int64), np.empty(_GATHERED), np.empty(_GATHERED)
    return state, points, block, found, every, rows, bounds, drift, above, below


@jit
def forget(work: Any) -> None:
    """Nothing is known of any row."""
    bounds, drift = work[6], work[7]
    bounds[0] = np.inf
    bounds[1] = 0
    drift[:] = 0


@jit
def drifts(c: Any, old: Any, work: Any) -> float:
    """Note how far the centroids moved; returns Σ |c − c_old|² in float64."""
    drift = work[7]
    total, most, next_most, who = 0.0, 0.0, 0.0, -1
    for k in range(len(c)):
        square = 0.0
        for j in range(c.shape[1]):
            square += (c[k, j] - old[k, j]) ** 2
        total += square
        moved = np.sqrt(square) * (1 + 2.0**-40)
        drift[0, k] = moved
        if moved > most:
            most, next_most, who = moved, most, k
        elif moved > next_most:
            next_most = moved
    for k in range(len(c)):
        drift[1, k] = next_most if k == who else most
    return total


@jit
def _settle(x: Any, row: int, c: Any, limit: float) -> int:
    """Nearest centroid of a row among those within `limit`; -1 if it cannot be told."""
    nearest: Any = np.int64(-1)
    least = (np.inf, 0.0, np.bool_(False))
    for k in range(len(c)):
        rough = 0.0
        for j in range(c.shape[1]):
            rough += (x[row, j] - c[k, j]) ** 2
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
def _certain(
    x: Any, rows: Any, n: int, c: Any, slack: float, best: Any, second: Any, found: Any
) -> bool:
    """Settle those of n rows whose nearest centroid is not certain; False if one cannot be told.

    Nothing is known then of the distance to their other centroids.
    """
    widened, tiny = 1 + 3 * slack, _TINY_FAST if x.itemsize == 4 else 0.0
    left = 0
    for r in range(n):
        left += not second[r] > best[r] * widened + tiny
    if left == 0:
        return True
    for r in range(n):
        limit = best[r] * widened + tiny
        if not second[r] > limit:
            k = _settle(x, rows[r], c, limit * (1 + 2.0**-20))
            if k < 0:
                return False
            found[r] = k
            second[r] = 0
    return True


@jit
def _age(labels: Any, work: Any) -> int:
    """List the rows that bounds leave open after the centroids have drifted; how many they are."""
    rows, bounds, drift = work[5], work[6], work[7]
    count = 0
    for r in range(len(labels)):
        k = np.uintp(labels[r])
        upper = (bounds[0, r] + drift[0, k]) * _UP
        lower = (bounds[1, r] - drift[1, k]) * _DOWN
        bounds[0, r], bounds[1, r] = upper, lower
        rows[count] = r
        count += not upper < lower
    return count


@sum_jit
def _own(x: Any, row: int, c: Any, k: int) -> float:
    """Upper bound of the distance of a row to its own centroid."""
    square = 0.0
    for j in range(c.shape[1]):
        square += (x[row, j] - c[k, j]) ** 2
    return np.sqrt(square * (1 + (c.shape[1] + 4) * 2.0**-52)) * _UP


@jit
def _nearest(
    x: Any,
    values: Any,
    rows: Any,
    c: Any,
    points: Any,
    slack: float,
    state: Any,
    n: int,
    found: Any,
) -> bool:
    """Nearest centroid of the first n of the rows whose values are listed feature by feature.

    What is known of distances stays in `state`. False if a row cannot be told.
    """
    width = values.shape[1]
    best, second = state[2, :width], state[3, :width]
    nearest_two(values, points, state[0, :width], state[1, :width], best, second, found)
    return _certain(x, rows, n, c, slack, best, second, found)


@jit
def _renew(rows: Any, itemsize: int, slack: float, work: Any, new: Any) -> None:
    """Take labels and bounds of rows from the block that they were gathered into."""
    state, found, bounds, above, below = work[0], work[3], work[6], work[8], work[9]
    best, second = state[2, :_GATHERED], state[3, :_GATHERED]
    tiny, up, down = _TINY_FAST if itemsize == 4 else 0.0, 1 + 3 * slack, 1 - 3 * slack
    for i in range(_GATHERED):
        above[i] = np.sqrt(best[i] * up + tiny) * _UP
        below[i] = np.sqrt(max(second[i] * down - tiny, 0.0)) * _DOWN
    for i in range(len(rows)):
        row = rows[i]
        new[row], bounds[0, row], bounds[1, row] = found[i], above[i], below[i]


@jit
def _gather(x: Any, labels: Any, c: Any, place: int, count: int, n: int, work: Any) -> Any:
    """Fill the block with rows from the list, but for those that their own centroid is certain of.

    The list is shortened: the block's rows begin at n. Returns the next place and the end of them.
    """
    block, rows, bounds = work[2], work[5], work[6]
    begin = n
    while place < count and n - begin < _GATHERED:
        row = rows[place]
        place += 1
        if len(c) >= _TIGHTEN and bounds[1, row] > 0:
            bounds[0, row] = _own(x, row, c, labels[row])
            if bounds[0, row] < bounds[1, row]:
                continue
        rows[n] = row  # n never overtakes the place
        for j in range(c.shape[1]):
            block[j, n - begin] = x[row, j]
        n += 1
    return place, n


@jit
def _bounded(
    x: Any, turned: Any, labels: Any, c: Any, points: Any, slack: float, work: Any, new: Any
) -> bool:
    """Nearest centroids of rows that bounds leave open; the others keep their labels."""
    state, block, found, rows = work[0], work[2], work[3], work[5]
    copied(labels, new)
    n, place, count = np.int64(0), np.int64(0), _age(labels, work)
    while place < count:
        begin = n
        if count == len(x):  # all are listed in order
            n = place = min(begin + _GATHERED, count)
            for j in range(c.shape[1]):
                copied(turned[j, begin:n], block[j])
        else:
            place, n = _gather(x, labels, c, place, count, n, work)
        part = rows[begin:n]
        if not _nearest(x, block, part, c, points, slack, state, len(part), found):
            return False
        _renew(part, x.itemsize, slack, work, new)
    return True


@inlined
def assign(x: Any, turned: Any, labels: Any, c: Any, slack: float, work: Any, new: Any) -> bool:
    """Nearest centroid of every row; False if one cannot be told.

    Parameters
    ----------
    x : array, shape (n, D)
        Rows.
    turned : array, shape (P, n)
        Their features, padded with zeros.
    labels : array of int32, shape (n,)
        Labels that the bounds in `work` speak of.
    c : array of float64, shape (K, D)
    slack : float
        Relative error of a squared distance in the dtype of x.
    work : tuple
        Of `memory`.
    new : array of int32, shape (n,)
        Outcome.
    """
    n, k = len(x), len(c)
    points = work[1][: k + k % 2]
    for i in range(k):
        for j in range(c.shape[1]):
            points[i, j] = c[i, j]
    if k % 2:
        points[k, : c.shape[1]] = np.inf  # makes pairs; never nearest
    if not _together(n, k * points.shape[1]):
        return _bounded(x, turned, labels, c, points, slack, work, new)
    return _nearest(x, turned, work[4], c, points, slack, work[0], n, new)
