"""A mini-batch step in compiled loops; this module needs numba (extra `cpu`).

Rows are labelled by their squared distances, formed from differences: every one of them is off by a
few roundings of its own size, whatever the offset of the data. Sums are kept as two floats and what
those may lack, so that nearly every mean is known well enough to be rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kmeans_xp.backends.jit import frozen, jit, score_jit
from kmeans_xp.backends.numba_exact import fma, two_sum
from kmeans_xp.backends.numba_minibatch import add_squares
from kmeans_xp.exact.bounds import FLOAT32, FLOAT64, gamma
from kmeans_xp.exact.squares import TINY, Enclosure

__all__ = ["MOST_CLUSTERS", "MOST_FEATURES", "MOST_ROWS", "blend", "inertia", "nearest", "warmup"]

# Up to this many features distances are formed here, by item size; beyond it BLAS is faster.
MOST_FEATURES = {4: 256, 8: 64}
# Float32 numbers the centroids.
MOST_CLUSTERS = 1 << 24
# Rows of a batch, at most: more are shared among threads.
MOST_ROWS = 1 << 14

# Rows a transposed block.
_BLOCK = 256
# Numbers between these limits multiply and divide without underflow in what is lost.
_SMALL, _LARGE = 2.0**-900, 2.0**900
# Counts up to this are float64 numbers.
_MOST_SEEN = 1 << 52


def largest_jit(function: Callable[..., Any]) -> Any:
    """Compile for finite values: maxima in any order."""
    return jit(function, fastmath={"nnan", "nsz", "reassoc"})


# ---- labels


def nearest(x: np.ndarray, centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest centroid of every row, and the rows for which that is not certain.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, D)
        Rows that `cpu_numba.suits`.
    centroids : ndarray, shape (K, D)
        In the dtype of x; more than one.

    Returns
    -------
    labels : ndarray of int32, shape (n,)
    left : ndarray of int64
    """
    n, n_features = x.shape
    labels, left = np.empty(n, dtype=np.int32), np.empty(n, dtype=np.int64)
    # differences and their squares, a sum, and the evaluation of the comparison
    slack = gamma(n_features + 12, FLOAT32 if x.dtype == np.float32 else FLOAT64)
    tiny = (n_features + 4) * (2.0**-125 if x.dtype == np.float32 else 2.0**-1021)
    huge = x.dtype.type(1e38 if x.dtype == np.float32 else 1e307)
    fine = gamma(n_features + 12, FLOAT64)
    count = _nearest(frozen(x), frozen(centroids), slack, tiny, huge, fine, labels, left)
    return labels, left[:count]


@score_jit
def _keep(d: Any, j: Any, best: Any, second: Any, index: Any) -> Any:
    """Take one more distance into the least two."""
    better = d < best
    other = best if better else d
    return (
        d if better else best,
        other if other < second else second,
        j if better else index,
    )


@score_jit
def _add_four(x: Any, c: Any, k: Any, q: Any, sums: Any) -> None:
    """Add four features to the distances of four centroids."""
    c00, c10, c20, c30 = c[k, q], c[k + 1, q], c[k + 2, q], c[k + 3, q]
    c01, c11, c21, c31 = c[k, q + 1], c[k + 1, q + 1], c[k + 2, q + 1], c[k + 3, q + 1]
    c02, c12, c22, c32 = c[k, q + 2], c[k + 1, q + 2], c[k + 2, q + 2], c[k + 3, q + 2]
    c03, c13, c23, c33 = c[k, q + 3], c[k + 1, q + 3], c[k + 2, q + 3], c[k + 3, q + 3]
    for r in range(_BLOCK):
        v0, v1, v2, v3 = x[q, r], x[q + 1, r], x[q + 2, r], x[q + 3, r]
        s0, s1, s2, s3 = sums[0, r], sums[1, r], sums[2, r], sums[3, r]
        a0, a1, a2, a3 = v0 - c00, v0 - c10, v0 - c20, v0 - c30
        s0, s1, s2, s3 = s0 + a0 * a0, s1 + a1 * a1, s2 + a2 * a2, s3 + a3 * a3
        a0, a1, a2, a3 = v1 - c01, v1 - c11, v1 - c21, v1 - c31
        s0, s1, s2, s3 = s0 + a0 * a0, s1 + a1 * a1, s2 + a2 * a2, s3 + a3 * a3
        a0, a1, a2, a3 = v2 - c02, v2 - c12, v2 - c22, v2 - c32
        s0, s1, s2, s3 = s0 + a0 * a0, s1 + a1 * a1, s2 + a2 * a2, s3 + a3 * a3
        a0, a1, a2, a3 = v3 - c03, v3 - c13, v3 - c23, v3 - c33
        sums[0, r], sums[1, r] = s0 + a0 * a0, s1 + a1 * a1
        sums[2, r], sums[3, r] = s2 + a2 * a2, s3 + a3 * a3


@score_jit
def _keep_four(sums: Any, j: Any, one: Any, state: Any) -> None:
    """Take the distances of centroids j to j + 3 into the state of every row."""
    for r in range(_BLOCK):
        best, second, index = state[0, r], state[1, r], state[2, r]
        best, second, index = _keep(sums[0, r], j, best, second, index)
        best, second, index = _keep(sums[1, r], j + one, best, second, index)
        best, second, index = _keep(sums[2, r], j + one + one, best, second, index)
        best, second, index = _keep(sums[3, r], j + one + one + one, best, second, index)
        state[0, r], state[1, r], state[2, r] = best, second, index


@score_jit
def _nearest(
    x: Any, c: Any, slack: Any, tiny: Any, huge: Any, fine: Any, labels: Any, left: Any
) -> Any:
    """Label the rows, and list those whose two least distances are too close to call."""
    n, n_features = x.shape
    n_clusters, width = -(-len(c) // 4) * 4, -(-n_features // 4) * 4
    points = np.zeros((n_clusters, width), x.dtype)
    points[: len(c), :n_features] = c
    block, sums = np.zeros((width, _BLOCK), x.dtype), np.empty((4, _BLOCK), x.dtype)
    state = np.empty((3, _BLOCK), x.dtype)
    codes, zero = np.arange(n_clusters).astype(x.dtype), huge - huge
    n_left = 0
    for at in range(0, n, _BLOCK):
        count = min(_BLOCK, n - at)
        for r in range(count):
            for j in range(n_features):
                block[j, r] = x[at + r, j]
        state[:2] = 3 * huge
        state[2] = zero
        for k in range(0, n_clusters, 4):
            for i in range(4):
                sums[i] = zero if k + i < len(c) else 2 * huge
            for q in range(0, width, 4):
                _add_four(block, points, k, q, sums)
            _keep_four(sums, codes[k], codes[1], state)
        for r in range(count):
            best, second = np.float64(state[0, r]), np.float64(state[1, r])
            labels[at + r] = np.int32(state[2, r])
            sure = (best + tiny) * (1 + slack) < (second - tiny) * (1 - slack)
            if not (sure and second < huge) and not _nearest_one(x, at + r, c, fine, labels):
                left[n_left] = at + r
                n_left += 1
    return n_left


@score_jit
def _nearest_one(x: Any, row: Any, c: Any, slack: Any, labels: Any) -> Any:
    """Label a row in float64; whether that is certain."""
    best, second = np.inf, np.inf
    for k in range(len(c)):
        total = 0.0
        for j in range(x.shape[1]):
            d = np.float64(x[row, j]) - np.float64(c[k, j])
            total += d * d
        if total < best:
            best, second, labels[row] = total, best, k
        elif total < second:
            second = total
    return best * (1 + slack) < second * (1 - slack) and 2.0**-900 < second < 2.0**900


# ---- means and inertia


def blend(
    x: np.ndarray, labels: np.ndarray, centroids: np.ndarray, seen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Enclosure] | None:
    """Running means of labelled rows of weight 1 and of all before, rounded once; their number; and
    Σ |x − c_label|², before the means move.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, D)
        Rows that `cpu_numba.suits`.
    labels : ndarray of int32, shape (n,)
    centroids : ndarray, shape (K, D)
        In the dtype of x.
    seen : ndarray of int64, shape (K,)
        How many rows each of them stands for.

    Returns
    -------
    tuple or None
        None where a mean is not certain, or numbers are near the limits of float64.
    """
    new, counts = np.empty_like(centroids), np.zeros(len(centroids), dtype=np.int64)
    found = np.empty(3)
    # float32 is rounded to by way of float64
    widen = 2.0**-51 if x.dtype == np.float32 else 0.0
    if not _blend(frozen(x), frozen(labels), frozen(centroids), seen, widen, new, counts, found):
        return None
    return new, counts, _enclosure(found, x)


def inertia(x: np.ndarray, labels: np.ndarray, centroids: np.ndarray) -> Enclosure | None:
    """Σ |x − c_label|² alone; see `blend`."""
    found = np.empty(3)
    narrow = x.dtype == np.float32
    if not _inertia(frozen(x), frozen(labels), frozen(centroids), narrow, found):
        return None
    return _enclosure(found, x)


def _enclosure(found: np.ndarray, x: np.ndarray) -> Enclosure:
    (n, n_features), (whole, rest, exponent) = x.shape, found.tolist()
    # a column's lower parts are below u times its sum for each row, and so often rounded
    error = 1.2 * FLOAT64**2 * whole * (n + 2 * n_features + 16) ** 2
    error += 2 * FLOAT64 * abs(rest) + n * n_features * TINY
    return Enclosure(whole, rest, error, 2 * int(exponent))


@jit
def _add_rows(x: Any, labels: Any, high: Any, low: Any, rest: Any, counts: Any) -> None:
    """Σ x of every cluster: high + low, off by `rest` at most; exactly that where it is 0."""
    for i in range(len(x)):
        k = np.uint32(labels[i])
        counts[k] += 1
        for j in range(x.shape[1]):
            total, lost = two_sum(high[k, j], np.float64(x[i, j]))
            under, off = two_sum(low[k, j], lost)
            high[k, j], low[k, j] = total, under
            rest[k, j] += abs(off)


@jit
def _add_earlier(k: Any, c: Any, weight: Any, high: Any, low: Any, rest: Any) -> None:
    """Add weight·c to the sums of a cluster."""
    for j in range(c.shape[1]):
        value = np.float64(c[k, j])
        size = abs(value)
        product = weight * value
        tail = fma(weight, value, -product)
        usual = (value == 0) | ((size > _SMALL) & (size < _LARGE))
        upper, lost = two_sum(product, high[k, j])
        lower, off = two_sum(tail, lost)
        lower, more = two_sum(lower, low[k, j])
        high[k, j], low[k, j] = two_sum(upper, lower)
        rest[k, j] += (abs(off) + abs(more)) if usual else np.inf


@jit
def _divide(
    k: Any, total: Any, widen: Any, high: Any, low: Any, rest: Any, below: Any, above: Any
) -> None:
    """Bounds of the means of a cluster, rounded."""
    for j in range(high.shape[1]):
        h = high[k, j]
        q = h / total
        correction = (fma(-q, total, h) + low[k, j]) / total
        slack = 4 * FLOAT64 * abs(correction) + 2 * rest[k, j] / total
        size = abs(q)
        usual = ((size > _SMALL) & (size < _LARGE)) | ((h == 0) & (low[k, j] == 0))
        slack = slack if usual else np.inf
        below[j] = (q + (correction - slack)) - widen * size
        above[j] = (q + (correction + slack)) + widen * size


@jit
def _between(h: Any, low: Any, total: Any, down: Any, up: Any, middle: Any) -> Any:
    """Sign of (h + low) / total less the middle of two neighbours; 2 where it is not known.

    `middle[0]` becomes their middle, rounded to even.
    """
    half = (up - down) * 0.5
    middle[0] = down + half
    if middle[0] != down and middle[0] != up:  # there are others in between
        return 2
    product = down * total
    tail = fma(down, total, -product)
    upper, first = two_sum(h, -product)
    upper, second = two_sum(upper, -half * total)
    lower, third = two_sum(low, -tail)
    upper, lower = two_sum(upper, lower)
    if first != 0 or second != 0 or third != 0:
        return 2
    return np.sign(upper) if upper != 0 else np.sign(lower)


@jit
def _blend(
    x: Any, labels: Any, c: Any, seen: Any, widen: Any, new: Any, counts: Any, found: Any
) -> Any:
    """See `blend`; False where it has no answer."""
    n_clusters, n_features = c.shape
    high, low = np.zeros((n_clusters, n_features)), np.zeros((n_clusters, n_features))
    rest = np.zeros((n_clusters, n_features))
    _add_rows(x, labels, high, low, rest, counts)
    below, above = np.empty(n_features, c.dtype), np.empty(n_features, c.dtype)
    middle = np.empty(1, c.dtype)
    zero = abs(c[0, 0]) * 0
    for k in range(n_clusters):
        if counts[k] == 0:
            new[k] = c[k]
            continue
        if seen[k] > _MOST_SEEN:
            return False
        if seen[k] > 0:
            _add_earlier(k, c, np.float64(seen[k]), high, low, rest)
        total = np.float64(seen[k] + counts[k])
        _divide(k, total, widen, high, low, rest, below, above)
        for j in range(n_features):
            if below[j] != above[j]:
                down, up = np.float64(below[j]), np.float64(above[j])
                side = 2 if rest[k, j] != 0 else 1
                if side == 1:
                    side = _between(high[k, j], low[k, j], total, down, up, middle)
                if side == 2:
                    return False
                below[j] = middle[0] if side == 0 else (below[j] if side < 0 else above[j])
            new[k, j] = below[j] + zero  # -0 becomes +0
    return _inertia(x, labels, c, widen > 0, found)


@largest_jit
def _largest(x: Any) -> Any:
    """Largest magnitude."""
    largest = 0.0
    for i in range(len(x)):
        for j in range(x.shape[1]):
            size = abs(np.float64(x[i, j]))
            largest = size if size > largest else largest
    return largest


@jit
def _inertia(x: Any, labels: Any, c: Any, narrow: Any, found: Any) -> Any:
    """Sum of squared distances in two floats, in units of 4**exponent; False near the limits."""
    exponent = 0 if narrow else math.frexp(max(_largest(x), _largest(c)))[1]
    if abs(exponent) > 1000:
        return False
    high, low = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    add_squares(x, labels, c, 2.0**-exponent, high, low)
    total, rest = 0.0, 0.0
    for j in range(x.shape[1]):
        total, lost = two_sum(total, high[j])
        rest += lost + low[j]
    found[0], found[1], found[2] = total, rest, exponent
    return True


def warmup() -> None:
    """Compile the kernels, or load them from the cache."""
    for dtype in (np.float32, np.float64):
        x = np.eye(2, dtype=dtype)
        labels, _ = nearest(x, x)
        blend(x, labels, x, np.ones(2, dtype=np.int64))
        inertia(x, labels, x)
