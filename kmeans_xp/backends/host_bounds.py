"""Bounds of norms and distances in NumPy, every rounding the safe way (`pruning`)."""

from __future__ import annotations

import numpy as np

from kmeans_xp.backends.records import Own
from kmeans_xp.exact.bounds import FLOAT32, gamma

__all__ = ["age", "distances_above", "renew", "upper_norms"]

# Float32 factors that turn the rounding of one operation upwards and downwards.
_UP = np.float32(1 + 2.0**-22)
_TINY = np.float32(2.0**-100)
_DOWN = np.float32(1 - 2.0**-22)


def upper_norms(squares: np.ndarray, n_features: int) -> np.ndarray:
    """Round norms up to float32 from squares that were summed in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        bound = np.sqrt(squares) * (1 + gamma(n_features + 4, FLOAT32)) * (1 + 1e-6)
        # squares below the normal range may have been flushed to zero
        return (bound + 2.0**-62 * np.sqrt(n_features)).astype(np.float32)


def age(upper: np.ndarray, lower: np.ndarray, labels: np.ndarray, give: np.ndarray) -> np.ndarray:
    """Let bounds give way in place; see `Backend.age`."""
    own, others, beyond, half = give.T
    upper += own[labels]
    upper *= _UP
    lower -= others[labels]
    np.minimum(lower, beyond[labels] - upper, out=lower)
    np.maximum(lower, 0, out=lower)
    lower *= _DOWN
    return np.flatnonzero(~(upper < np.maximum(lower, half[labels])))


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
    """Take bounds from scores; see `Backend.renew`."""
    slope, offset, shrink, tiny, far_norm = terms
    size = norms[rows].astype(np.float64)
    slack = slope * size + offset
    best = score.astype(np.float64)
    second = best - lead.astype(np.float64) * (1 - 2.0**-22)
    small = np.maximum(size * shrink - tiny, 0)
    near = np.square(size) * (1 + 2.0**-20) - 2 * best + slack
    far = np.square(small) - 2 * second - slack
    above = np.sqrt(np.maximum(near, 0)) * (1 + 2.0**-20) + 2.0**-100
    below = np.sqrt(np.maximum(far, 0)) * (1 - 2.0**-20)
    below = np.minimum(below, far_norm - size * (1 + 2.0**-20))
    upper[rows] = np.where(certified, above, np.inf)
    lower[rows] = np.where(certified, np.clip(below, 0, 1e30), 0)


def distances_above(framed: np.ndarray, labels: np.ndarray, own: Own) -> np.ndarray:
    """Upper bounds of the distances of framed rows to the centroids of these labels, float32."""
    difference = framed - own.points[labels]
    distance = np.sqrt(np.einsum("ij,ij->i", difference, difference))
    size = np.sqrt(np.einsum("ij,ij->i", framed, framed))
    # the roundings of centroid and row
    off = own.errors[labels] + 4 * FLOAT32 * size.astype(np.float64)
    bound = ((distance + off) * own.grow + _TINY).astype(np.float32)
    if own.spread:
        bound = np.sqrt(np.square(bound) + np.float32(own.spread)) * _UP
    return bound
