"""Compiled kernels for the bounds of `kmeans_xp.pruning`; this module needs numba (extra `cpu`).

They do what the NumPy code does, in one pass over the rows. Sums may be reassociated: the slack of
the bounds holds for any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kmeans_xp.backends.jit import frozen, jit, sum_jit
from kmeans_xp.backends.records import Frame, Own
from kmeans_xp.exact.bounds import FLOAT32

__all__ = ["age", "renew", "tighten", "warmup"]

_UP = np.float32(1 + 2.0**-22)
_DOWN = np.float32(1 - 2.0**-22)


@jit
def _age(upper: Any, lower: Any, labels: Any, give: Any, out: Any) -> Any:
    """Let bounds give way; the rows that are still open go to `out`."""
    count = 0
    zero = np.float32(0)
    for i in range(len(upper)):
        k = np.uint32(labels[i])
        u = (upper[i] + give[k, 0]) * _UP
        b = max(min(lower[i] - give[k, 1], give[k, 2] - u), zero) * _DOWN
        upper[i] = u
        lower[i] = b
        out[count] = i
        count += not u < max(b, give[k, 3])
    return count


def age(upper: np.ndarray, lower: np.ndarray, labels: np.ndarray, give: np.ndarray) -> np.ndarray:
    """Let the bounds of some rows give way, in place.

    Parameters
    ----------
    upper, lower : ndarray of float32, shape (n,)
    labels : ndarray of int32, shape (n,)
    give : ndarray of float32, shape (K, 4)
        `kmeans_xp.pruning.Drift.table`.

    Returns
    -------
    ndarray of int64
        Positions of the rows that the bounds no longer settle.
    """
    out = np.empty(len(upper) + 1, dtype=np.int64)
    return out[: _age(upper, lower, labels, give, out)]


@sum_jit
def _measure(x: Any, row: Any, scale: Any, center: Any, points: Any, k: Any) -> Any:
    """Squared distance of a framed row to a point, and its squared norm."""
    distance = np.float32(0)
    size = np.float32(0)
    for j in range(x.shape[1]):
        value = np.float32(x[row, j] * scale - center[j])
        difference = value - points[k, j]
        distance += difference * difference
        size += value * value
    return distance, size


@jit
def _tighten(
    x: Any,
    rows: Any,
    labels: Any,
    scale: Any,
    center: Any,
    points: Any,
    errors: Any,
    grow: Any,
    spread: Any,
    upper: Any,
    lower: Any,
    half: Any,
    out: Any,
) -> Any:
    """Bring the upper bounds of rows down; those that are still open go to `out`."""
    count = 0
    for i in range(len(rows)):
        row = rows[i]
        k = labels[row]
        square, size = _measure(x, row, scale, center, points, k)
        # the roundings of centroid and row
        off = errors[k] + 4 * FLOAT32 * np.sqrt(np.float64(size)) * (1 + 2.0**-20)
        bound = np.float32((np.sqrt(np.float64(square)) + off) * grow + 2.0**-100)
        if spread > 0:
            bound = np.sqrt(bound * bound + np.float32(spread)) * _UP
        if bound < upper[row]:
            upper[row] = bound
        out[count] = row
        count += not upper[row] < max(lower[row], half[k])
    return count


def tighten(
    x: np.ndarray,
    rows: np.ndarray,
    labels: np.ndarray,
    own: Own,
    upper: np.ndarray,
    lower: np.ndarray,
    half: np.ndarray,
) -> np.ndarray:
    """Measure rows of data that `cpu_numba.suits` against their centroids; `Backend.tighten`."""
    out = np.empty(len(rows) + 1, dtype=np.int64)
    scale, center = own.frame.cast(x.dtype)
    place = scale, center, frozen(own.points), own.errors, own.grow, own.spread
    return out[: _tighten(frozen(x), rows, labels, *place, upper, lower, half, out)]


@jit
def _renew(
    upper: Any, lower: Any, rows: Any, score: Any, lead: Any, certified: Any, norms: Any, terms: Any
) -> None:
    """Bounds from the scores of rows; see `pruning.Bounds.renew` for the terms."""
    slope, offset, shrink, tiny, far_norm = terms
    for i in range(len(rows)):
        row = rows[i]
        if not certified[i]:
            upper[row] = np.inf
            lower[row] = 0
            continue
        size = np.float64(norms[row])
        slack = slope * size + offset
        best = np.float64(score[i])
        second = best - np.float64(lead[i]) * (1 - 2.0**-22)
        small = max(size * shrink - tiny, 0.0)
        near = size * size * (1 + 2.0**-20) - 2 * best + slack
        far = small * small - 2 * second - slack
        b = np.sqrt(max(far, 0.0)) * (1 - 2.0**-20)
        b = min(b, far_norm - size * (1 + 2.0**-20))
        upper[row] = np.sqrt(max(near, 0.0)) * (1 + 2.0**-20) + 2.0**-100
        lower[row] = min(max(b, 0.0), 1e30)


def renew(
    upper: np.ndarray,
    lower: np.ndarray,
    rows: slice | np.ndarray,
    score: np.ndarray,
    lead: np.ndarray,
    certified: np.ndarray,
    norms: np.ndarray,
    terms: tuple[float, float, float, float, float],
) -> None:
    """Take bounds from scores, as `Backend.renew`."""
    if isinstance(rows, slice):
        upper, lower, norms = upper[rows], lower[rows], norms[rows]
        rows = np.arange(len(upper))
    _renew(upper, lower, rows, score, lead, certified, norms, terms)


def warmup() -> None:
    """Compile the kernels, or load them from the cache."""
    one = np.ones(1, dtype=np.float32)
    labels = np.zeros(1, dtype=np.int32)
    age(one.copy(), one.copy(), labels, np.ones((1, 4), dtype=np.float32))
    sure = np.ones(1, dtype=bool)
    renew(one.copy(), one.copy(), slice(0, 1), one, one, sure, one, (0.0, 0.0, 1.0, 0.0, 1.0))
    own = Own(Frame(1.0, one), one[:, None], np.zeros(1), 1.0, 0.0)
    for dtype in (np.float32, np.float64):
        x = np.ones((1, 1), dtype=dtype)
        tighten(x, np.zeros(1, dtype=np.int64), labels, own, one.copy(), one.copy(), one)
