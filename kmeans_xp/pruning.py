"""Which rows may skip the fast pass: one upper and one lower bound a row.

G. Hamerly, "Making k-means even faster", SDM 2010. A row keeps an upper bound of the distance to
its own centroid and a lower bound of the distance to every other; when centroids move both give way
by how far, and while the upper stays below the lower the label cannot change. Every rounding goes
the safe way, so a pruned iteration has the bits of a plain one.

Distances between centroids tell which of them a cluster need not fear, which is much on separated
clusters and nothing on crowded ones, where they are looked at from time to time only.

Bounds for groups of centroids (Y. Ding et al., "Yinyang k-means", ICML 2015) are not kept. They
save nothing on separated clusters, where those of all others settle nearly all rows. On crowded
ones of few features they leave a small part of the products, but of a few scattered groups of each
row, and these cost several times what products of whole blocks do: a compiled trial gained nothing
with a hundred centroids, and something only with a thousand.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmeans_xp.assignment import Assigned, Centers
from kmeans_xp.backends import Backend
from kmeans_xp.backends.records import Own
from kmeans_xp.exact.bounds import FLOAT32, gamma

__all__ = ["Bounds", "Drift", "bound_terms"]

# Distances between centroids are worth their cost up to so many pairs, and so many a row.
_MOST_PAIRS, _PAIRS_A_ROW = 1 << 22, 64
# Centroids farther than this many times the largest upper bound of a cluster cannot take its rows.
_REACH = np.float32(2.1)
# Rows that tell how large the bounds are.
_SAMPLE = 1 << 13
# Where they leave the median cluster more than this part of the largest move of all centroids, they
# tell next to nothing, and are not looked at for so many iterations at most.
_USELESS = 0.5
_LONGEST_PAUSE = 15
# More than any distance.
_FAR = np.float32(1e30)


@dataclass(frozen=True)
class Drift:
    """What happened to the centroids since the bounds were right; all float32, rounded up or down.

    Attributes
    ----------
    own : ndarray, shape (K,)
        How far each moved, at least.
    others : ndarray, shape (K,)
        How far any other one moved, at least, of those not beyond.
    beyond : ndarray, shape (K,)
        At most the distance, where they are now, to the nearest other one that moved and is left
        out of `others`: rows of k are nearer to k than to those if they are nearer than half this.
    half : ndarray, shape (K,)
        At most half the distance to the nearest other centroid, where they are now.
    """

    own: np.ndarray
    others: np.ndarray
    beyond: np.ndarray
    half: np.ndarray

    @functools.cached_property
    def table(self) -> np.ndarray:
        """All of them, a row a cluster: what a row of X needs lies together."""
        return np.stack([self.own, self.others, self.beyond, self.half], axis=1)


class Bounds:
    """Bounds of the distances of all rows, in the frame of the fast pass: 8 bytes a row."""

    def __init__(self, n_rows: int) -> None:
        self.upper = np.full(n_rows, np.inf, dtype=np.float32)
        self.lower = np.zeros(n_rows, dtype=np.float32)
        self._known: np.ndarray | None = None
        self._pause = self._left = 0

    def follow(
        self, centroids: np.ndarray, centers: Centers, labels: np.ndarray | None
    ) -> Drift | None:
        """Tell how the bounds change for new centroids; None if they cannot be used for them."""
        known, self._known = self._known, centroids
        if len(centers.values) < len(centroids):
            self._known = None  # of equal centroids any may leave: nothing bounds that
        if known is None or self._known is None or labels is None:
            self.upper.fill(np.inf)
            return None
        with np.errstate(all="ignore"):
            step = (centroids.astype(np.float64) - known) * centers.frame.scale
            distance = np.sqrt(np.einsum("ij,ij->i", step, step)) * (1 + 1e-9) + 1e-30
            moved = (centroids != known).any(axis=1)
            # an overflow is infinite, and an infinite drift settles nothing
            own = np.where(moved, distance * (1 + 2.0**-22), 0).astype(np.float32)
        if self._left or len(own) ** 2 > min(_PAIRS_A_ROW * len(self.upper), _MOST_PAIRS):
            self._left = max(self._left - 1, 0)
            order = np.argsort(own)
            others = np.full(len(own), own[order[-1]])
            others[order[-1]] = own[order[-2]]
            nowhere = np.full(len(own), _FAR)
            return Drift(own, others, nowhere, np.zeros_like(own))
        between = centers.between
        reach = _REACH * self._radii(own, labels)
        others, beyond = _parted(between, np.flatnonzero(moved), own, reach)
        tell = np.median(others) <= _USELESS * own.max()
        self._pause = self._left = 0 if tell else min(2 * self._pause + 1, _LONGEST_PAUSE)
        return Drift(own, others, beyond, between.min(axis=1) * np.float32(0.5))

    def _radii(self, own: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """About how large the upper bounds of each cluster get, from a sample of the rows."""
        some = slice(None, None, max(1, len(labels) // _SAMPLE))
        label = labels[some]
        upper = self.upper[some] + own[label]
        upper[upper > _FAR] = 0
        radii = np.zeros_like(own)
        np.maximum.at(radii, label, upper)
        return radii

    def age(
        self, backend: Backend, lo: int, hi: int, labels: np.ndarray, drift: Drift
    ) -> np.ndarray:
        """Let the bounds of rows lo..hi give way; returns the rows they no longer settle."""
        upper, lower = self.upper[lo:hi], self.lower[lo:hi]
        return lo + backend.age(upper, lower, labels, drift.table)

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

    def replace(self, rows: slice | np.ndarray, upper: np.ndarray, lower: np.ndarray) -> None:
        """Take bounds of rows that were assigned elsewhere."""
        self.upper[rows] = upper
        self.lower[rows] = lower


def bound_terms(centers: Centers) -> tuple[float, float, float, float]:
    """Return the terms of `Backend.renew` after the slope."""
    n_features = centers.values.shape[1]
    shrink = 1 - 2 * gamma(n_features + 8, FLOAT32) - 4e-6  # the norms are upper bounds
    offset = centers.offset + 2 * centers.spread
    return offset, shrink, 2.0**-56 * n_features, centers.far_norm


def _parted(
    between: np.ndarray, moved: np.ndarray, own: np.ndarray, reach: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """`Drift.others` of centroids within reach, and `Drift.beyond`."""
    others, beyond = np.zeros_like(own), np.full_like(own, _FAR)
    step = max(1, (1 << 18) // max(len(moved), 1))
    for lo in range(0, len(own) if moved.size else 0, step):
        rows = slice(lo, lo + step)
        distances = between[rows] if len(moved) == len(own) else between[rows, moved]
        near = distances <= reach[rows, None]
        np.max(np.where(near, own[moved], 0), axis=1, out=others[rows])
        np.min(np.where(near, _FAR, distances), axis=1, out=beyond[rows])
    return others, np.minimum(beyond, _FAR)
