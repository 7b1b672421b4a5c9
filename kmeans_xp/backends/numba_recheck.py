"""Compiled float64 scores for rows that float32 leaves open; this module needs numba."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmeans_xp.backends.jit import copied, frozen, jit, score_jit
from kmeans_xp.backends.records import Doubles

__all__ = ["recheck", "warmup"]

# Beyond so many values the centroids leave the cache between two rows: BLAS takes more at a time.
_MOST_VALUES = 1 << 15
# Scaling beyond is not one multiplication.
_RANGE = 1000


@score_jit
def _add_products(value: Any, point: Any, scores: Any) -> None:
    for k in range(len(scores)):
        scores[k] += value * point[k]


@score_jit
def _least(norm: Any, doubles: Any, scores: Any) -> Any:
    """Greatest of the least values that the scores may really have."""
    slope, offset = doubles
    best = -np.inf
    for k in range(len(scores)):
        low = scores[k] - (norm * slope[k] + offset[k])
        best = low if low > best else best
    return best


@score_jit
def _candidates(norm: Any, doubles: Any, scores: Any, least: Any) -> Any:
    """How many centroids may be nearest, and the last of them."""
    slope, offset = doubles
    count, last = 0, 0
    for k in range(len(scores)):
        may = scores[k] + (norm * slope[k] + offset[k]) >= least
        count += may
        last = k if may else last
    return count, last


@jit
def _recheck(
    rows: Any, scale: Any, middle: Any, points: Any, bias: Any, errors: Any, out: Any
) -> None:
    scores = np.empty(len(bias))
    for i in range(len(rows)):
        copied(bias, scores)
        squares = 0.0
        for j in range(len(middle)):
            value = np.float64(rows[i, j]) * scale - middle[j]
            squares += value * value
            _add_products(value, points[j], scores)
        norm = math.sqrt(squares)
        count, last = _candidates(norm, errors, scores, _least(norm, errors, scores))
        out[i] = last if count == 1 else -1


def recheck(rows: np.ndarray, doubles: Doubles) -> np.ndarray | None:
    """The one centroid that may be nearest to each row, −1 where there are several.

    None for centroids of so many values that another way is faster.
    """
    if doubles.points.size > _MOST_VALUES or abs(doubles.exponent) > _RANGE:
        return None
    out = np.empty(len(rows), dtype=np.int32)
    scale, errors = math.ldexp(1.0, -doubles.exponent), (doubles.slope, doubles.offset)
    rows = frozen(np.ascontiguousarray(rows))
    _recheck(rows, scale, doubles.middle, doubles.columns, doubles.bias, errors, out)
    return out


def warmup() -> None:
    """Compile the kernel, or load it from the cache."""
    one = np.ones(1)
    for dtype in (np.float32, np.float64):
        recheck(np.ones((1, 1), dtype=dtype), Doubles(0, one, one[None], one, one, one))
