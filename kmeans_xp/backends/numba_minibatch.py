"""Compiled kernel for the inertia of a batch; this module needs numba (extra `cpu`)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmeans_xp.backends.jit import frozen, jit
from kmeans_xp.backends.numba_exact import fma, two_sum
from kmeans_xp.exact.bounds import FLOAT64, gamma
from kmeans_xp.exact.squares import TINY, Enclosure

__all__ = ["add_squares", "squares", "warmup"]


def squares(x: np.ndarray, labels: np.ndarray, centroids: np.ndarray, exponent: int) -> Enclosure:
    """Σ |x − c_label|² over rows, as `exact.squares.enclose_squares` encloses it.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (n, D)
        Rows that `cpu_numba.suits`.
    labels : ndarray of int32, shape (n,)
    centroids : ndarray, shape (K, D)
        In the dtype of x.
    exponent : int
        Every value is below 2**exponent in magnitude; between -1000 and 1000.
    """
    n, n_features = x.shape
    high, low = np.zeros(n_features), np.zeros(n_features)
    add_squares(frozen(x), frozen(labels), frozen(centroids), 2.0**-exponent, high, low)
    parts = high.tolist() + low.tolist()
    total = math.fsum(parts)
    rest = math.fsum([*parts, -total])
    # a column's lower parts are below u times its sum for each row, and so often rounded
    error = 1.1 * gamma(n + 8, FLOAT64) * (n + 8) * FLOAT64 * total
    error += 2 * FLOAT64 * abs(rest) + n * n_features * TINY
    return Enclosure(total, rest, error, 2 * exponent)


@jit
def add_squares(x: Any, labels: Any, c: Any, scale: Any, high: Any, low: Any) -> None:
    """Sums of every column in two parts; every operation but the lower sums is error-free."""
    for i in range(len(x)):
        k = labels[i]
        for j in range(len(high)):
            a, b = np.float64(x[i, j]) * scale, np.float64(c[k, j]) * scale
            d, lost = two_sum(a, -b)
            square = d * d
            rest = fma(d, d, -square) + 2 * d * lost
            high[j], more = two_sum(high[j], square)
            low[j] += more + rest


def warmup() -> None:
    """Compile the kernel, or load it from the cache."""
    for dtype in (np.float32, np.float64):
        x = np.ones((2, 2), dtype=dtype)
        squares(x, np.zeros(2, dtype=np.int32), x, 1)
