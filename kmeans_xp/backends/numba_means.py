"""Compiled means of unweighted exact sums; this module needs numba (extra `cpu`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kmeans_xp.backends.jit import jit
from kmeans_xp.backends.numba_exact import fma, two_sum
from kmeans_xp.exact.grid import Grid
from kmeans_xp.exact.means import rounded_means, some_means
from kmeans_xp.exact.sums import ClusterSums

__all__ = ["means", "plain_means", "suits", "warmup"]

# Levels that the kernel knows, and powers of two that it may scale by.
_LEVELS = 3
_RANGE = 300
# Means that a worker forms at a time.
_TOGETHER = 1 << 14
# Means below this, by item size, are left to others: they could come near the subnormal numbers.
_SMALLEST = {4: 2.0**-120, 8: 2.0**-400}


@jit
def _means(
    levels: Any,
    depth: Any,
    step: Any,
    counts: Any,
    scale: Any,
    clusters: Any,
    narrow: Any,
    smallest: Any,
    out: Any,
    sure: Any,
) -> None:
    s0, s1, s2 = levels
    for i in range(len(clusters)):
        k = clusters[i]
        count = np.float64(counts[k])
        certain = True
        for j in range(len(scale)):
            # the sum in units of the first level: high + low, and `lost` may be missing
            top = s0[k, j]
            below = top & 0xFFFFFFFF
            high, low = two_sum(np.float64(top - below), np.float64(below))
            lost = 0.0
            if depth > 1:
                whole = s1[k, j]
                below = whole & 0xFFFFFFFF
                high, rest = two_sum(high, np.float64(whole - below) * step)
                low, error = two_sum(low, rest)
                lost += abs(error)
                high, rest = two_sum(high, np.float64(below) * step)
                low, error = two_sum(low, rest)
                lost += abs(error)
            if depth > 2:
                whole = s2[k, j]
                below = whole & 0xFFFFFFFF
                for part in (np.float64(whole - below), np.float64(below)):
                    high, rest = two_sum(high, part * step * step)
                    low, error = two_sum(low, rest)
                    lost += abs(error)
            high, low = two_sum(high, low)
            quotient = high / count
            tail = (fma(-quotient, count, high) + low) / count
            slack = abs(tail) * 2.0**-50 + (lost / count) * (1 + 2.0**-50)
            mean = quotient + tail
            if narrow:  # of one rounding to float32 the first, to float64, must be no part
                slack += abs(mean) * 2.0**-51
                ends = np.float32(mean - slack) == np.float32(mean + slack)
                certain &= ends | ((tail == 0) & (lost == 0))
            elif counts[k] & (counts[k] - 1) != 0 or lost != 0.0:
                # but a power of two divides without rounding, and the addition rounds once
                certain &= (quotient + (tail - slack) == mean) & (quotient + (tail + slack) == mean)
            value = mean * scale[j]
            certain &= (abs(value) > smallest) | ((high == 0) & (low == 0) & (lost == 0))
            out[i, j] = value
        sure[i] = certain


def plain_means(
    sums: ClusterSums, clusters: np.ndarray, dtype: np.dtype[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Rounded float32 or float64 means of some clusters without weights.

    Returns
    -------
    means : ndarray, shape (n, D)
    certain : ndarray of bool, shape (n,)
        Clusters all of whose means are right; the others are to be computed otherwise.
    """
    levels = [np.ascontiguousarray(level) for level in sums.values[:_LEVELS]]
    padded = tuple(levels + levels[:1] * (_LEVELS - len(levels)))
    scale = np.ldexp(1.0, sums.grid.exponents - sums.grid.bits)
    means = np.empty((len(clusters), sums.shape[1]), dtype=dtype)
    certain = np.empty(len(clusters), dtype=bool)
    units = 2.0**-sums.grid.bits, sums.weights[0], scale
    narrow = dtype == np.float32
    limit = _SMALLEST[means.itemsize]
    _means(padded, len(levels), *units, clusters, narrow, limit, means, certain)
    return means, certain


def means(sums: ClusterSums, old: np.ndarray, run: Callable[..., Any]) -> np.ndarray:
    """Rounded means of all clusters (`exact.means.rounded_means`).

    Parameters
    ----------
    sums : ClusterSums
    old : ndarray, shape (K, D)
        Rows of clusters without weight; their dtype is the result's.
    run : callable
        ``run(function, items)`` applies a function to every item.
    """
    if not suits(sums):
        return rounded_means(sums, old)
    new, filled = old.copy(), sums.filled()

    def work(clusters: np.ndarray) -> None:
        values, certain = plain_means(sums, clusters, old.dtype)
        for i in np.flatnonzero(~certain):
            values[i] = some_means(sums, clusters[i : i + 1], old.dtype)[0]
        new[clusters] = values

    step = max(1, _TOGETHER // old.shape[1])
    run(work, [filled[i : i + step] for i in range(0, len(filled), step)])
    return new + old.dtype.type(0)  # -0 becomes +0


def suits(sums: ClusterSums) -> bool:
    """Whether these sums have no weights, few levels, and exponents that scaling can express."""
    reach = int(np.abs(sums.grid.exponents).max())
    return not sums.weighted and len(sums.values) <= _LEVELS and reach <= _RANGE


def warmup() -> None:
    """Compile the kernel, or load it from the cache."""
    grid = Grid.fit(np.ones(1), 1.0, None, 2, 2, False)
    sums = ClusterSums(1, grid, False)
    sums.add(np.ones((1, 1)), None, np.zeros(1, dtype=np.int32))
    for dtype in (np.float32, np.float64):
        plain_means(sums, np.zeros(1, dtype=np.int64), np.dtype(dtype))
