"""The inertia of a tiny problem, rounded once; this module needs numba."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmeans_xp.backends.jit import jit
from kmeans_xp.backends.numba_batch_nearest import BLOCK
from kmeans_xp.backends.numba_batch_sums import LEVELS, pair
from kmeans_xp.backends.numba_batch_weights import carry_value
from kmeans_xp.backends.numba_exact import fma, rounded, two_sum

__all__ = ["inertia"]

# Relative error of an inertia of that size summed in pairs.
_COST = 2.0**-78
# Pairs that are added side by side: features, or rows where there are fewer features.
_LANES = 8


@jit
def _add_square(difference: float, rest: float, high: float, low: float) -> tuple[float, float]:
    """Add (difference + rest)² to a pair."""
    square = difference * difference
    total, error = two_sum(high, square)
    error += fma(difference, difference, -square) + (2 * difference * rest + rest * rest)
    return total, low + error


@jit
def _by_rows(x: Any, c: Any, labels: Any, lo: int, hi: int, high: Any, low: Any) -> None:
    """Add (x − c_label)² of some rows, feature by feature, to pairs."""
    for r in range(lo, hi):
        k = np.uintp(labels[r])
        for j in range(x.shape[1]):
            d, e = two_sum(np.float64(x[r, j]), -c[k, j])
            high[j], low[j] = _add_square(d, e, high[j], low[j])


@jit
def _by_weighted_rows(
    x: Any, w: Any, c: Any, labels: Any, lo: int, hi: int, high: Any, low: Any
) -> None:
    """Add w·(x − c_label)² of some rows, feature by feature, to pairs."""
    for r in range(lo, hi):
        k, weight = np.uintp(labels[r]), w[r]
        for j in range(x.shape[1]):
            d, e = two_sum(np.float64(x[r, j]), -c[k, j])
            square = d * d
            more = fma(d, d, -square) + (2 * d * e + e * e)
            product = weight * square
            high[j], error = two_sum(high[j], product)
            low[j] += error + (fma(weight, square, -product) + weight * more)


@jit
def _by_features(turned: Any, lo: int, c: Any, labels: Any, work: Any) -> None:
    """Add Σ_j (x − c_label)² of rows from `lo` to pairs, one a row."""
    high, low, point = work[0], work[1], work[2]
    for j in range(c.shape[1]):
        row = turned[j, lo : lo + len(labels)]
        for r in range(len(labels)):
            point[r] = c[np.uintp(labels[r]), j]
        for r in range(len(labels)):
            d, e = two_sum(np.float64(row[r]), -point[r])
            high[r], low[r] = _add_square(d, e, high[r], low[r])


@jit
def _fold(high: Any, low: Any) -> None:
    """Add up pairs until `_LANES` of them are left."""
    half = len(high) // 2
    while half >= _LANES:
        other, error = high[half : 2 * half], low[half : 2 * half]
        for r in range(half):
            together, lost = two_sum(high[r], other[r])
            high[r] = together
            low[r] += error[r] + lost
        half //= 2


@jit
def _exactly(x: Any, w: Any, c: Any, labels: Any, about: float) -> tuple[float, bool]:
    """The inertia, which is `about` so much, where it may be a tie; says whether that is certain.

    All products are pairs, and their sum one of integers. That takes time, and is rarely needed.
    """
    sums, fine = np.zeros((LEVELS, 2, 1), np.int64), True
    scale = 2.0 ** (61 - math.frexp(about)[1])
    step = 2.0 ** (62 - math.frexp(16.0 * len(x) * x.shape[1])[1])
    terms = np.empty(6)
    for r in range(len(x)):
        k, weight = np.uintp(labels[r]), w[r] if len(w) else 1.0
        for j in range(x.shape[1]):
            d, e = two_sum(np.float64(x[r, j]), -c[k, j])
            terms[0], terms[2], terms[4] = d * d, 2 * d * e, e * e
            terms[1], terms[3] = fma(d, d, -terms[0]), fma(2 * d, e, -terms[2])
            terms[5] = fma(e, e, -terms[4])
            for term in terms:
                high = weight * term
                low = fma(weight, term, -high)
                fine &= carry_value(high * scale, 0, 1, 0, step, sums)
                fine &= carry_value(low * scale, 0, 1, 0, step, sums)
    high, low, lost = pair(sums, 0, 0, step)
    return (high + low) / scale, fine and lost == 0


@jit
def inertia(x: Any, turned: Any, w: Any, c: Any, labels: Any, work: Any) -> tuple[float, bool]:
    """Σ w|x − c_label|² rounded once; says whether that is certain."""
    n, lanes = len(x), max(c.shape[1], _LANES)
    high, low = work[0], work[1]
    total, rest = 0.0, 0.0
    for lo in range(0, n, BLOCK):
        hi = min(lo + BLOCK, n)
        high[:] = 0
        low[:] = 0
        if len(w):
            _by_weighted_rows(x, w, c, labels, lo, hi, high, low)
        elif c.shape[1] >= _LANES:
            _by_rows(x, c, labels, lo, hi, high, low)
        else:
            _by_features(turned, lo, c, labels[lo:hi], work)
            _fold(high[:BLOCK], low[:BLOCK])
        for i in range(lanes):
            total, error = two_sum(total, high[i])
            rest += error + low[i]
    total, rest = two_sum(total, rest)
    if total == 0:
        return 0.0, True
    value, certain = rounded(total, rest, _COST * total, False)
    if not certain:
        value, certain = _exactly(x, w, c, labels, total)
    return value, certain
