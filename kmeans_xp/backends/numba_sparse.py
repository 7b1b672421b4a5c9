"""Compiled loops over compressed sparse rows; this module needs numba (extra `cpu`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from kmeans_xp.backends.jit import frozen, jit
from kmeans_xp.exact.sums import ClusterSums

if TYPE_CHECKING:
    from kmeans_xp.backends.sparse import CsrRows

__all__ = ["add_rows", "products", "scores", "warmup"]

# Levels of the exact sums that the kernel knows, and powers of two that its scaling may use.
_LEVELS = 3
_RANGE = 1000


def _score_jit(function: Any) -> Any:
    """Sums may use FMA and lose the sign of zero; NaN and infinity keep their meaning."""
    return jit(function, fastmath={"contract", "nsz"})


def _inline(function: Any) -> Any:
    """Copy into every caller: the compiler then knows what the arrays are."""
    return numba.njit(inline="always")(function)


@_inline
def _accumulate(data: Any, indices: Any, lo: Any, hi: Any, centers: Any, sums: Any) -> None:
    """Add the products of one row with all columns of `centers`: four entries at a time."""
    p = lo
    while p + 3 < hi:
        v0, v1, v2, v3 = data[p], data[p + 1], data[p + 2], data[p + 3]
        c0, c1 = centers[indices[p]], centers[indices[p + 1]]
        c2, c3 = centers[indices[p + 2]], centers[indices[p + 3]]
        for k in range(len(sums)):
            sums[k] += v0 * c0[k] + v1 * c1[k] + v2 * c2[k] + v3 * c3[k]
        p += 4
    while p < hi:
        v, c = data[p], centers[indices[p]]
        for k in range(len(sums)):
            sums[k] += v * c[k]
        p += 1


@_score_jit
def _products(data: Any, indices: Any, indptr: Any, centers: Any, out: Any) -> None:
    for i in range(len(out)):
        _accumulate(data, indices, indptr[i], indptr[i + 1], centers, out[i])


@_score_jit
def _scores(
    data: Any,
    indices: Any,
    indptr: Any,
    centers: Any,
    bias: Any,
    lowest: Any,
    best: Any,
    lead: Any,
) -> None:
    sums = np.empty_like(bias)
    for i in range(len(best)):
        sums[:] = bias
        _accumulate(data, indices, indptr[i], indptr[i + 1], centers, sums)
        top, second, index, doubt = lowest, lowest, 0, lowest * 0
        for k in range(len(sums)):
            s = sums[k]
            doubt += s * 0
            if s > top:
                top, second, index = s, top, k
            elif s > second:
                second = s
        best[i] = index
        lead[i] = top - second + doubt


@jit
def _add(
    data: Any,
    indices: Any,
    indptr: Any,
    rows: Any,
    labels: Any,
    signs: Any,
    scale: Any,
    step: Any,
    depth: Any,
    s0: Any,
    s1: Any,
    s2: Any,
    more: Any,
) -> Any:
    """Add rows to the first `depth` levels; `more` tells which have further ones."""
    n_more = 0
    for i in range(len(rows)):
        k, sign, left = labels[i], signs[i], False
        for p in range(indptr[rows[i]], indptr[rows[i] + 1]):
            j = indices[p]
            value = np.float64(data[p]) * scale[j]
            integer = np.rint(value)
            s0[k, j] += np.int64(integer) * sign
            rest = value - integer
            if rest != 0 and depth > 1:
                value = rest * step
                integer = np.rint(value)
                s1[k, j] += np.int64(integer) * sign
                rest = value - integer
            if rest != 0 and depth > 2:
                value = rest * step
                integer = np.rint(value)
                s2[k, j] += np.int64(integer) * sign
                rest = value - integer
            left |= rest != 0
        more[i] = left
        n_more += left
    return n_more


def products(x: CsrRows, centers: np.ndarray) -> np.ndarray:
    """Products of rows with the columns of `centers`, float64 of shape (D, m)."""
    out = np.zeros((x.shape[0], centers.shape[1]))
    _products(frozen(x.data), frozen(x.indices), frozen(x.indptr), centers, out)
    return out


def scores(x: CsrRows, centers: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the best score x·c + bias of every row, and its lead over the second best.

    A score that is not finite makes the lead NaN.
    """
    best = np.empty(x.shape[0], dtype=np.int32)
    lead = np.empty(x.shape[0], dtype=centers.dtype)
    given = frozen(x.data), frozen(x.indices), frozen(x.indptr)
    _scores(*given, centers, bias, np.finfo(bias.dtype).min, best, lead)
    return best, lead


def add_rows(
    x: CsrRows, rows: np.ndarray, labels: np.ndarray, signs: np.ndarray, sums: ClusterSums
) -> tuple[np.ndarray, int]:
    """Add rows to the first levels of exact sums, or take them away.

    Returns
    -------
    left : ndarray of int64
        Positions in `rows` of those that have further levels.
    depth : int
        The first of these levels.
    """
    grid = sums.grid
    shift = grid.bits - grid.exponents
    if grid.wide or (np.abs(shift) > _RANGE).any():
        return np.arange(len(rows)), 0
    with sums.lock:
        sums.value_level(1)
        levels = sums.values[:_LEVELS]
    padded = levels + levels[:1] * (_LEVELS - len(levels))
    more = np.empty(len(rows), dtype=bool)
    given = frozen(x.data), frozen(x.indices), frozen(x.indptr)
    some = rows.astype(np.int64, copy=False), labels.astype(np.int32, copy=False), signs
    units = np.ldexp(1.0, shift), 2.0**grid.bits, len(levels)
    n_left = _add(*given, *some, *units, *padded, more)
    return (np.flatnonzero(more) if n_left else np.empty(0, dtype=np.int64)), len(levels)


def warmup() -> None:
    """Compile all kernels, or load them from the cache, so that no later call has to."""
    from kmeans_xp.backends.sparse import CsrRows
    from kmeans_xp.exact.grid import Grid

    zero, ones = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64)
    for dtype in (np.float32, np.float64):
        ends = np.array([0, 1], dtype=np.int64)
        x = CsrRows(np.ones(1, dtype), np.zeros(1, np.int32), ends, (1, 1))
        products(x, np.ones((1, 1)))
        scores(x, np.ones((1, 8), dtype), np.zeros(8, dtype))
        grid = Grid.fit(np.ones(1), 1.0, None, 2, 2, dtype == np.float32)
        add_rows(x, zero, zero, ones, ClusterSums(1, grid, False))
