"""What the page says in numbers: plain float64, shown and never used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmeans_xp.backends.convert import to_numpy

__all__ = ["Portrait", "cluster_costs", "directions", "portrait"]

NEAREST = 5  # rows named for each cluster
CHUNK = 1 << 20  # entries looked at together
# Rounding alone gives a constant feature such a deviation, relative to its size.
CONSTANT = 1e-12


@dataclass(frozen=True)
class Portrait:
    """Clusters in numbers.

    Attributes
    ----------
    sizes : ndarray of int, shape (K,)
        Rows.
    weights : ndarray, shape (K,), or None
        Their weight.
    shares : ndarray, shape (K,)
        Of the inertia; NaN where that is 0.
    mean : ndarray, shape (D,)
        Of the features over all rows, weighted.
    deviation : ndarray, shape (D,)
        Their standard deviations.
    contrast : ndarray, shape (K, D)
        Centroids less the mean, in standard deviations; 0 for a constant feature.
    nearest : list of ndarray
        For each cluster its rows nearest to the centroid.
    distances : list of ndarray
        Their distances; with the cosine metric 1 − cosine.
    """

    sizes: np.ndarray
    weights: np.ndarray | None
    shares: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray
    contrast: np.ndarray
    nearest: list[np.ndarray]
    distances: list[np.ndarray]


def portrait(
    x: Any,
    labels: np.ndarray,
    centroids: np.ndarray,
    weights: np.ndarray | None,
    metric: str,
    largest: float,
) -> Portrait:
    """Look at all rows, some at a time.

    Parameters
    ----------
    x : array, shape (N, D)
        Validated, of any namespace.
    labels, centroids, weights : ndarray
        On the host.
    metric : {"euclidean", "cosine"}
    largest : float
        Magnitude in x.
    """
    cosine = metric == "cosine"
    unit, centers = _scaled(centroids, metric, largest)
    w = _relative(weights, len(labels))
    mean = sum(w[rows] @ block for rows, block in _blocks(x, unit, cosine)) / w.sum()
    squares = np.zeros(centers.shape[1])
    costs = np.empty(len(labels))
    for rows, block in _blocks(x, unit, cosine):
        squares += w[rows] @ np.square(block - mean)
        costs[rows] = _costs(block, centers, labels[rows])
    deviation = np.sqrt(squares / w.sum())
    constant = deviation <= CONSTANT * np.abs(mean)
    contrast = (centers - mean) / np.where(constant, 1.0, deviation)
    contrast[:, constant] = 0.0

    k = len(centers)
    parts = np.bincount(labels, w * costs, minlength=k)
    nearest = _nearest(labels, costs, k)
    return Portrait(
        sizes=np.bincount(labels, minlength=k),
        weights=None if weights is None else np.bincount(labels, weights, minlength=k),
        shares=parts / parts.sum() if parts.sum() > 0 else np.full(k, np.nan),
        mean=mean * unit,
        deviation=np.where(constant, 0.0, deviation) * unit,
        contrast=contrast,
        nearest=nearest,
        distances=[costs[r] / 2 if cosine else np.sqrt(costs[r]) * unit for r in nearest],
    )


def cluster_costs(
    x: np.ndarray,
    labels: np.ndarray,
    centroids: np.ndarray,
    weights: np.ndarray | None,
    metric: str,
) -> np.ndarray:
    """Inertia of each cluster over a common factor.

    Parameters
    ----------
    x : ndarray, shape (N, D)
    labels, centroids, weights
        As for `portrait`.
    metric : {"euclidean", "cosine"}
    """
    largest = max(abs(float(a)) for a in (x.max(), x.min(), centroids.max(), centroids.min()))
    unit, centers = _scaled(centroids, metric, largest)
    w, found = _relative(weights, len(labels)), np.zeros(len(centroids))
    for rows, block in _blocks(x, unit, metric == "cosine"):
        costs = _costs(block, centers, labels[rows])
        found += np.bincount(labels[rows], w[rows] * costs, minlength=len(found))
    return found


def _scaled(centroids: np.ndarray, metric: str, largest: float) -> tuple[float, np.ndarray]:
    """A unit in which no square overflows, and the centroids in it (of length 1 for cosine)."""
    if metric == "cosine":
        return 1.0, directions(centroids)
    unit = largest or 1.0
    return unit, centroids.astype(np.float64) / unit


def _relative(weights: np.ndarray | None, n_rows: int) -> np.ndarray:
    """Weights over the largest; 1 where there are none, or none counts."""
    if weights is None or not weights.any():
        return np.ones(n_rows)
    return np.asarray(weights / weights.max())


def _costs(block: np.ndarray, centers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Squared distances to the own centroid; with the cosine metric twice 1 − cosine."""
    return np.asarray(np.square(block - centers[labels]).sum(axis=1))


def directions(rows: np.ndarray) -> np.ndarray:
    """Bring rows to length 1."""
    wide = rows.astype(np.float64)
    wide = wide / np.maximum(np.abs(wide).max(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))


def _blocks(x: Any, unit: float, cosine: bool) -> Iterator[tuple[slice, np.ndarray]]:
    step = max(1, CHUNK // int(x.shape[1]))
    for lo in range(0, int(x.shape[0]), step):
        rows = slice(lo, min(lo + step, int(x.shape[0])))
        block = to_numpy(x[rows, :]).astype(np.float64)
        yield rows, directions(block) if cosine else block / unit


def _nearest(labels: np.ndarray, costs: np.ndarray, k: int) -> list[np.ndarray]:
    """The rows of least cost in each cluster, the lower row first among equals."""
    order = np.argsort(labels, kind="stable")
    found = []
    for rows in np.split(order, np.cumsum(np.bincount(labels, minlength=k))[:-1]):
        if len(rows) > NEAREST:
            limit = np.partition(costs[rows], NEAREST - 1)[NEAREST - 1]
            rows = rows[costs[rows] <= limit]
        found.append(rows[np.argsort(costs[rows], kind="stable")][:NEAREST])
    return found
