"""Plain passes over a transposed tiny problem, vectorised over its rows; results in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kmeans_xp.backends.jit import jit, sum_jit

__all__ = ["distances", "mean_variance", "nearest_two", "spread", "transposed", "within_range"]

# Squares of differences inside are at least 2**-504: above the potentials that count as zero,
# which are below 2**(2·200 - 960), and far from underflow.
_SMALL, _LARGE = 2.0**-200, 2.0**200
# For float32 2**9 squares must not overflow; underflow is left to the exact pass.
_LARGE_FAST = 2.0**58


def _pass_jit(function: Callable[..., Any]) -> Any:
    """Distances may use FMA; infinity keeps its meaning."""
    return jit(function, fastmath={"contract", "nsz"})


@jit
def transposed(x: Any, out: Any) -> None:
    """Copy x feature by feature; features that x lacks are zero."""
    d = x.shape[1]
    whole = d // 4 * 4
    for j in range(0, whole, 4):
        for r in range(len(x)):
            out[j, r], out[j + 1, r] = x[r, j], x[r, j + 1]
            out[j + 2, r], out[j + 3, r] = x[r, j + 2], x[r, j + 3]
    for j in range(whole, d):
        for r in range(len(x)):
            out[j, r] = x[r, j]
    out[d:] = 0


@sum_jit
def spread(x: Any, totals: Any) -> bool:
    """Σ|x| of every feature; False if a value is outside the range that is proven."""
    large = _LARGE if x.itemsize == 8 else _LARGE_FAST
    fine = True
    for j in range(len(totals)):
        row, total, tiny = x[j], 0.0, 0
        for r in range(len(row)):
            size = abs(np.float64(row[r]))
            total += size
            tiny += (size < _SMALL) & (size != 0)
        totals[j] = total
        fine &= (total < large) & (tiny == 0)
    return fine


@jit
def within_range(c: Any, narrow: bool) -> bool:
    """Whether centroids are inside the range that is proven."""
    large = _LARGE_FAST if narrow else _LARGE
    for k in range(c.shape[0]):
        for j in range(c.shape[1]):
            size = abs(c[k, j])
            if size != 0 and not (size > _SMALL and size < large):
                return False
    return True


@jit
def distances(x: Any, c: Any, k: int, out: Any) -> None:
    """|x − c_k|² of every row, within (D + 4)·2**-53 relatively."""
    n, d = x.shape[1], c.shape[1]
    c0 = c[k, 0]
    first = x[0]
    for r in range(n):
        out[r] = (first[r] - c0) * (first[r] - c0)
    j = 1
    while j + 3 < d:
        a0, a1, a2, a3 = x[j], x[j + 1], x[j + 2], x[j + 3]
        c0, c1, c2, c3 = c[k, j], c[k, j + 1], c[k, j + 2], c[k, j + 3]
        for r in range(n):
            v0, v1, v2, v3 = a0[r] - c0, a1[r] - c1, a2[r] - c2, a3[r] - c3
            out[r] += (v0 * v0 + v1 * v1) + (v2 * v2 + v3 * v3)
        j += 4
    while j < d:
        row, c0 = x[j], c[k, j]
        for r in range(n):
            out[r] += (row[r] - c0) * (row[r] - c0)
        j += 1


@_pass_jit
def nearest_two(x: Any, points: Any, d0: Any, d1: Any, best: Any, second: Any, index: Any) -> None:
    """Least and second least squared distance of every row, and the index of the least.

    The number of features is a multiple of four, that of points even. Equal distances keep the
    lowest index.
    """
    n, last = x.shape[1], x.shape[0] - 4
    best[:] = np.inf
    second[:] = np.inf
    for k in range(0, len(points), 2):
        d0[:] = 0
        d1[:] = 0
        for j in range(0, last, 4):
            _add_four(x[j : j + 4], points[k : k + 2, j : j + 4], d0, d1)
        y0, y1, y2, y3 = x[last], x[last + 1], x[last + 2], x[last + 3]
        p, q = points[k, last:], points[k + 1, last:]
        p0, p1, p2, p3 = p[0], p[1], p[2], p[3]
        q0, q1, q2, q3 = q[0], q[1], q[2], q[3]
        for r in range(n):
            v0, v1, v2, v3 = y0[r], y1[r], y2[r], y3[r]
            a0, a1, a2, a3 = v0 - p0, v1 - p1, v2 - p2, v3 - p3
            b0, b1, b2, b3 = v0 - q0, v1 - q1, v2 - q2, v3 - q3
            a = d0[r] + (a0 * a0 + a1 * a1) + (a2 * a2 + a3 * a3)
            b = d1[r] + (b0 * b0 + b1 * b1) + (b2 * b2 + b3 * b3)
            near, far, which = (b, a, k + 1) if b < a else (a, b, k)
            top = best[r]
            runner = min(second[r], far)
            better = near < top
            second[r] = min(runner, top if better else near)
            best[r] = near if better else top
            index[r] = which if better else index[r]


@_pass_jit
def _add_four(x: Any, points: Any, d0: Any, d1: Any) -> None:
    """Add the squares of four features to the distances from two points."""
    y0, y1, y2, y3 = x[0], x[1], x[2], x[3]
    p0, p1, p2, p3 = points[0, 0], points[0, 1], points[0, 2], points[0, 3]
    q0, q1, q2, q3 = points[1, 0], points[1, 1], points[1, 2], points[1, 3]
    for r in range(len(d0)):
        v0, v1, v2, v3 = y0[r], y1[r], y2[r], y3[r]
        a0, a1, a2, a3 = v0 - p0, v1 - p1, v2 - p2, v3 - p3
        b0, b1, b2, b3 = v0 - q0, v1 - q1, v2 - q2, v3 - q3
        d0[r] += (a0 * a0 + a1 * a1) + (a2 * a2 + a3 * a3)
        d1[r] += (b0 * b0 + b1 * b1) + (b2 * b2 + b3 * b3)


@sum_jit
def mean_variance(x: Any, totals: Any) -> tuple[float, float]:
    """Bounds of the mean over features of the variance of the rows, given `spread`."""
    n = x.shape[1]
    low, high = 0.0, 0.0
    for j in range(len(x)):
        row = x[j]
        total, size = 0.0, totals[j]
        for r in range(n):
            total += row[r]
        mean = total / n
        squares = 0.0
        for r in range(n):
            squares += (row[r] - mean) * (row[r] - mean)
        squares /= n
        off = (2.0**-52 * (n + 4) * (size / n)) ** 2  # the mean itself is rounded
        slack = squares * (n + 8) * 2.0**-52
        low += max(squares - slack - off, 0.0)
        high += squares + slack
    count = len(x)
    slack = (count + 4) * 2.0**-52
    return low / count * (1 - slack), high / count * (1 + slack)
