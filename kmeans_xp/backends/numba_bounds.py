"""Compiled kernels for the bounds of `kmeans_xp.pruning`; this module needs numba (extra `cpu`).

They do what the NumPy code does, in one pass over the rows. Sums may be reassociated: the slack of
the bounds holds for any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kmeans_xp.backends.generic import Frame
from kmeans_xp.backends.jit import frozen, jit, sum_jit

__all__ = ["age", "measure", "renew", "warmup"]

_UP = np.float32(1 + 2.0**-22)
_DOWN = np.float32(1 - 2.0**-22)


@jit
def _age(upper: Any, lower: Any, labels: Any, own: Any, others: Any, half: Any, out: Any) -> Any:
    """Let bounds give way; the rows that are still open go to `out`."""
    count = 0
    zero = np.float32(0)
    for i in range(len(upper)):
        k = labels[i]
        u = (upper[i] + own[k]) * _UP
        b = max(lower[i] - others[k], zero) * _DOWN
        upper[i] = u
        lower[i] = b
        out[count] = i
        count += not u < max(b, half[k])
    return count


def age(
    upper: np.ndarray,
    lower: np.ndarray,
    labels: np.ndarray,
    own: np.ndarray,
    others: np.ndarray,
    half: np.ndarray,
) -> np.ndarray:
    """Let the bounds of some rows give way, in place.

    Parameters
    ----------
    upper, lower : ndarray of float32, shape (n,)
    labels : ndarray of int32, shape (n,)
    own, others, half : ndarray of float32, shape (K,)
        See `kmeans_xp.pruning.Drift`.

    Returns
    -------
    ndarray of int64
        Positions of the rows that the bounds no longer settle.
    """
    out = np.empty(len(upper) + 1, dtype=np.int64)
    return out[: _age(upper, lower, labels, own, others, half, out)]


@sum_jit
def _measure(
    x: Any, rows: Any, labels: Any, scale: Any, center: Any, points: Any, out: Any
) -> None:
    """Squared distances of framed rows to their own points, and their squared norms."""
    for i in range(len(rows)):
        row, k = rows[i], labels[i]
        distance = np.float32(0)
        size = np.float32(0)
        for j in range(x.shape[1]):
            value = np.float32(x[row, j] * scale - center[j])
            difference = value - points[k, j]
            distance += difference * difference
            size += value * value
        out[0, i] = distance
        out[1, i] = size


def measure(
    x: np.ndarray, rows: np.ndarray, labels: np.ndarray, view: Frame, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distances of rows to their own points and norms of the rows, in float32.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (N, D)
        Data that `cpu_numba.suits`.
    rows, labels : ndarray, shape (n,)
    view : Frame
    points : ndarray of float32, shape (K, D)
        Scaled and centred.

    Returns
    -------
    distance, size : ndarray of float32, shape (n,)
    """
    out = np.empty((2, len(rows)), dtype=np.float32)
    scale, center = x.dtype.type(view.scale), view.center.astype(x.dtype)
    _measure(frozen(x), rows, labels, scale, center, frozen(points), out)
    np.sqrt(out, out=out)
    return out[0], out[1]


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
    age(one.copy(), one.copy(), labels, one, one, one)
    sure = np.ones(1, dtype=bool)
    renew(one.copy(), one.copy(), slice(0, 1), one, one, sure, one, (0.0, 0.0, 1.0, 0.0, 1.0))
    view = Frame(1.0, one)
    for dtype in (np.float32, np.float64):
        measure(
            np.ones((1, 1), dtype=dtype), np.zeros(1, dtype=np.int64), labels, view, one[:, None]
        )
