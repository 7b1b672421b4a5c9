"""Which rows may skip the fast pass: one upper and one lower bound a row.

G. Hamerly, "Making k-means even faster", SDM 2010. A row keeps an upper bound of the distance to
its own centroid and a lower bound of the distance to every other; when centroids move both give way
by how far, and while the upper stays below the lower the label cannot change. Every rounding goes
the safe way, so a pruned iteration has the bits of a plain one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kmeans_xp.assignment import Assigned, Centers
from kmeans_xp.backends import Backend
from kmeans_xp.backends.records import Own
from kmeans_xp.exact.bounds import FLOAT32, gamma

__all__ = ["Bounds", "Drift", "bound_terms"]

# Distances between centroids are worth their cost up to this many of them.
_MOST_PAIRS = 2048


@dataclass(frozen=True)
class Drift:
    """What happened to the centroids since the bounds were right; all float32, rounded up or down.

    Attributes
    ----------
    own : ndarray, shape (K,)
        How far each moved, at least.
    others : ndarray, shape (K,)
        How far any other one moved, at least.
    half : ndarray, shape (K,)
        At most half the distance to the nearest other centroid, where they are now.
    """

    own: np.ndarray
    others: np.ndarray
    half: np.ndarray


class Bounds:
    """Bounds of the distances of all rows, in the frame of the fast pass: 8 bytes a row."""

    def __init__(self, n_rows: int) -> None:
        self.upper = np.full(n_rows, np.inf, dtype=np.float32)
        self.lower = np.zeros(n_rows, dtype=np.float32)
        self._known: np.ndarray | None = None

    def follow(self, centroids: np.ndarray, centers: Centers) -> Drift | None:
        """Tell how the bounds change for new centroids; None if they cannot be used for them."""
        known, self._known = self._known, centroids
        if len(centers.values) < len(centroids):
            self._known = None  # of equal centroids any may leave: nothing bounds that
        if known is None or self._known is None:
            self.upper.fill(np.inf)
            return None
        scale = centers.frame.scale
        with np.errstate(all="ignore"):
            step = (centroids.astype(np.float64) - known) * scale
            moved = np.sqrt(np.einsum("ij,ij->i", step, step)) * (1 + 1e-9) + 1e-30
            # an overflow is infinite, and an infinite drift settles nothing
            own = (moved * (1 + 2.0**-22)).astype(np.float32)
        order = np.argsort(own)
        others = np.full(len(own), own[order[-1]])
        others[order[-1]] = own[order[-2]]
        return Drift(own, others, _half_distances(centers))

    def age(
        self, backend: Backend, lo: int, hi: int, labels: np.ndarray, drift: Drift
    ) -> np.ndarray:
        """Let the bounds of rows lo..hi give way; returns the rows they no longer settle."""
        upper, lower = self.upper[lo:hi], self.lower[lo:hi]
        return lo + backend.age(upper, lower, labels, drift.own, drift.others, drift.half)

    def tighten(
        self,
        backend: Backend,
        x: Any,
        rows: np.ndarray,
        labels: np.ndarray,
        centers: Centers,
        half: np.ndarray,
    ) -> np.ndarray:
        """Measure the distances of open rows to their own centroids anew.

        Parameters
        ----------
        backend : Backend
        x : array, shape (N, D)
            The data.
        rows : ndarray of int64, shape (n,)
            Indices of the rows.
        labels : ndarray of int32, shape (N,)
            Labels of all rows.
        centers : Centers
        half : ndarray, shape (K,)
            `Drift.half`.

        Returns
        -------
        ndarray of int64
            The rows that are still open.
        """
        grow = 1 + 2 * gamma(centers.values.shape[1] + 6, FLOAT32) + 2.0**-20
        own = Own(centers.frame, centers.points, centers.errors, grow, centers.spread)
        return backend.tighten(x, rows, labels, own, self.upper, self.lower, half)

    def renew(
        self,
        backend: Backend,
        rows: slice | np.ndarray,
        new: Assigned,
        centers: Centers,
        norms: np.ndarray,
    ) -> None:
        """Take bounds from the scores of rows just assigned; uncertified rows stay open.

        Where |c|² counts in the distance but not in the label (`Centers.spread`), an upper bound u
        of a distance d holds with a margin: u² >= d² + spread. It keeps that when it gives way, and
        u below the lower bound (or half the distance of the centroids) then settles the label.
        """
        if new.score is None or new.lead is None:
            return
        terms = centers.slope, *bound_terms(centers)
        backend.renew(
            self.upper, self.lower, rows, new.score, new.lead, new.certified, norms, terms
        )


def bound_terms(centers: Centers) -> tuple[float, float, float, float]:
    """Return the terms of `Backend.renew` after the slope."""
    n_features = centers.values.shape[1]
    shrink = 1 - 2 * gamma(n_features + 8, FLOAT32) - 4e-6  # the norms are upper bounds
    offset = centers.offset + 2 * centers.spread
    return offset, shrink, 2.0**-56 * n_features, centers.far_norm


def _half_distances(centers: Centers) -> np.ndarray:
    """Lower bounds of half the distance from each centroid to the nearest other one."""
    n_clusters, n_features = centers.values.shape
    half = np.zeros(n_clusters, dtype=np.float32)
    if n_clusters > _MOST_PAIRS:
        return half
    frame = centers.frame
    with np.errstate(all="ignore"):
        points = centers.values.astype(np.float64) * frame.scale - frame.center
        squares = np.einsum("ij,ij->i", points, points)
        slack = 16 * gamma(n_features + 8, 2.0**-53)
        step = max(1, (1 << 18) // n_clusters)
        for lo in range(0, n_clusters, step):
            some = points[lo : lo + step]
            sums = squares[lo : lo + step, None] + squares
            squared = sums * (1 - slack) - 2 * (some @ points.T)
            squared[np.arange(len(some)), np.arange(lo, lo + len(some))] = np.inf
            nearest = np.sqrt(np.maximum(np.nan_to_num(squared.min(axis=1), nan=0.0), 0))
            half[lo : lo + step] = np.minimum(nearest * (0.5 - 2.0**-20), 1e30)
    return half
