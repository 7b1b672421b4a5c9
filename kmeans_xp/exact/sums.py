"""Exact sums over clusters, in levels of integers (`exact.grid`).

Sums of these integers never round, so rows may be added in any order and any blocks, on any device,
and taken away again, with the same result.
"""

from __future__ import annotations

import threading

import numpy as np

from kmeans_xp.exact.grid import Grid
from kmeans_xp.exact.scratch import scratch

__all__ = ["ClusterSums"]

# Values worked on at a time, so that the helpers stay in cache.
_CACHED = 1 << 14
# Up to this many clusters a matrix product with zeros and ones sums faster than sorting.
_FEW_CLUSTERS = 32
# Up to this many columns bins win.
_FEW_COLUMNS = 4
# Values that must be added for each round of additions to pay.
_ROUND = 1 << 11
# Columns worked on at a time, at least.
_SLAB = 64
# Fewer rows a cluster make sums over runs of equal labels pointless.
_ROWS_A_CLUSTER = 4


class Groups:
    """Rows brought together by label, so that sums over clusters are cheap.

    A few columns: bins. A few clusters: a product with the matrix of ones where rows enter and −1
    where they leave; its sums are integers that float64 holds, so it cannot round. Otherwise rows
    in an order that brings those of a cluster together (`_Rounds`, `_Runs`).
    """

    def __init__(
        self, labels: np.ndarray, old: np.ndarray | None, n_clusters: int, n_features: int
    ) -> None:
        self.n_clusters = n_clusters
        self.sides = [(labels.astype(np.intp), 1)]
        if old is not None:
            self.sides.append((old.astype(np.intp), -1))
        self.members: np.ndarray | None = None
        self.ordered: list[tuple[_Rounds | _Runs, int]] = []
        if n_features <= _FEW_COLUMNS:
            return
        if n_clusters <= _FEW_CLUSTERS:
            self.members = np.zeros((n_clusters, len(labels)))
            for side, sign in self.sides:
                self.members[side, np.arange(len(labels))] += sign
        else:
            self.ordered = [
                (_in_order(side, n_clusters, n_features), sign) for side, sign in self.sides
            ]

    def sum(self, integers: np.ndarray) -> list[tuple[np.ndarray | slice, np.ndarray, int]]:
        """Sum rows over each label: pieces (clusters, int64 sums, sign)."""
        if self.members is not None:
            product: np.ndarray = self.members @ integers
            return [(slice(None), product.astype(np.int64), 1)]
        if self.ordered and integers.ndim > 1:
            out = scratch("ordered", integers.shape, np.float64)
            return [
                (way.present, way.sum(integers.take(way.order, 0, out, "clip")), sign)
                for way, sign in self.ordered
            ]
        shape = (self.n_clusters, *integers.shape[1:])
        columns = integers.reshape(len(integers), -1).T
        pieces: list[tuple[np.ndarray | slice, np.ndarray, int]] = []
        for side, sign in self.sides:
            sums = [np.bincount(side, column, self.n_clusters) for column in columns]
            pieces.append(
                (slice(None), np.stack(sums, axis=-1).astype(np.int64).reshape(shape), sign)
            )
        return pieces

    def counts(self) -> np.ndarray:
        """How many rows enter each cluster, less those that leave it."""
        counts = np.zeros(self.n_clusters, dtype=np.int64)
        for side, sign in self.sides:
            counts += sign * np.bincount(side, minlength=self.n_clusters)
        return counts


class _Runs:
    """Rows in the order of their labels, those of a cluster in one run: good for long runs.

    Attributes
    ----------
    order : ndarray of int64
    starts : ndarray of int64
        Where the runs begin.
    present : ndarray of int64
        Labels of the runs.
    """

    def __init__(self, order: np.ndarray, starts: np.ndarray, present: np.ndarray) -> None:
        self.order, self.starts, self.present = order, starts, present

    def sum(self, ordered: np.ndarray) -> np.ndarray:
        """Int64 sums of the runs of rows in this order."""
        return np.add.reduceat(ordered, self.starts, axis=0).astype(np.int64)


class _Rounds:
    """The first row of every cluster, then the second of those that have one, and so on.

    Large clusters come first, so that each round is added to the front of the first one: good for
    a few rows a cluster.

    Attributes
    ----------
    order : ndarray of int64
    ends : list of int
        Where the rounds end.
    present : ndarray of int64
        Labels of the first round.
    """

    def __init__(self, runs: _Runs, sizes: np.ndarray) -> None:
        by_size = np.argsort(-sizes, kind="stable")
        self.present = runs.present[by_size]
        place = np.empty_like(by_size)
        place[by_size] = np.arange(len(by_size))
        # how many clusters have more than 0, 1, ... rows
        left = len(sizes) - np.cumsum(np.bincount(sizes))[:-1]
        ends = np.cumsum(left)
        turn = np.arange(len(runs.order)) - np.repeat(runs.starts, sizes)
        self.order = np.empty_like(runs.order)
        self.order[(ends - left)[turn] + np.repeat(place, sizes)] = runs.order
        self.ends = ends.tolist()

    def sum(self, ordered: np.ndarray) -> np.ndarray:
        """Int64 sums of the clusters, of rows in this order, which are spoilt."""
        begin = self.ends[0]
        total = ordered[:begin]
        for end in self.ends[1:]:
            total[: end - begin] += ordered[begin:end]
            begin = end
        return total.astype(np.int64)


def _in_order(labels: np.ndarray, n_clusters: int, n_features: int) -> _Rounds | _Runs:
    key = labels.astype(np.uint16) if n_clusters <= 1 << 16 else labels  # 16 bits: radix sort
    order = np.argsort(key, kind="stable")
    ordered = labels[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    runs = _Runs(order, starts, ordered[starts])
    sizes = np.diff(starts, append=len(labels))
    few = int(sizes.max()) * _ROUND <= len(labels) * n_features
    return _Rounds(runs, sizes) if few else runs


class ClusterSums:
    """Exact Σ w·x and Σ w of every cluster. Several threads may `add` at once.

    Attributes
    ----------
    values : list of ndarray of int64, shape (K, D)
        Levels of the sums, at least one.
    weights : list of ndarray of int64, shape (K,)
        Levels of the weights; without weights the one entry is the row counts.
    lock : threading.Lock
        Held by those who make levels or change them, so that several threads can.
    """

    def __init__(self, n_clusters: int, grid: Grid, weighted: bool) -> None:
        self.grid, self.weighted = grid, weighted
        self.shape = (n_clusters, len(grid.exponents))
        self.lock = threading.Lock()
        self.values: list[np.ndarray] = [np.zeros(self.shape, dtype=np.int64)]
        self.weights: list[np.ndarray] = [np.zeros(n_clusters, dtype=np.int64)]

    def value_level(self, level: int) -> np.ndarray:
        """Level `level` of the sums, made when first needed."""
        while len(self.values) <= level:
            self.values.append(np.zeros(self.shape, dtype=np.int64))
        return self.values[level]

    def weight_level(self, level: int) -> np.ndarray:
        """Level `level` of the weights, made when first needed."""
        while len(self.weights) <= level:
            self.weights.append(np.zeros(self.shape[0], dtype=np.int64))
        return self.weights[level]

    def add(
        self,
        x: np.ndarray,
        w: np.ndarray | None,
        labels: np.ndarray,
        sign: int = 1,
        old: np.ndarray | None = None,
    ) -> None:
        """Add (or with ``sign=-1`` take away) rows x, shape (n, D), at most `grid.rows` of them.

        With `old` they leave these clusters at the same time.
        """
        n_clusters, n_features = self.shape
        if n_features > _FEW_COLUMNS and n_clusters <= _FEW_CLUSTERS:
            step = max(1, 4 * _CACHED // max(n_features, n_clusters))
        else:
            step = max(4 * _CACHED // n_features, _ROWS_A_CLUSTER * n_clusters)
        for lo in range(0, len(x), step):
            part = slice(lo, lo + step)
            weights = None if w is None else w[part]
            groups = Groups(labels[part], None if old is None else old[part], *self.shape)
            self._add_some(x[part], weights, groups, sign)

    def _add_some(self, x: np.ndarray, w: np.ndarray | None, groups: Groups, sign: int) -> None:
        n_features = self.shape[1]
        width = max(_SLAB, 4 * _CACHED // len(x)) if groups.ordered else n_features
        for lo in range(0, n_features, width):
            columns = slice(lo, min(lo + width, n_features))
            for level, integers in self.grid.value_terms(x[:, columns], w, columns):
                pieces = groups.sum(integers)
                with self.lock:
                    _accumulate(self.value_level(level)[:, columns], pieces, sign)
        if w is None:
            counts = groups.counts()
            with self.lock:
                self.weights[0] += sign * counts
            return
        for level, integers in self.grid.weight_terms(w):
            pieces = groups.sum(integers)
            with self.lock:
                _accumulate(self.weight_level(level), pieces, sign)

    def merge(self, other: ClusterSums) -> None:
        """Add the sums of other rows, cut on the same grid."""
        with self.lock:
            for level, values in enumerate(other.values):
                self.value_level(level)[...] += values
            for level, weights in enumerate(other.weights):
                self.weight_level(level)[...] += weights

    def add_weights(self, labels: np.ndarray, w: np.ndarray | None, signs: np.ndarray) -> None:
        """Add (sign 1) or take away (-1) weights alone."""
        if w is None:
            self.weights[0] += np.bincount(labels, signs, self.shape[0]).astype(np.int64)
            return
        for level, integers in self.grid.weight_terms(w):
            np.add.at(self.weight_level(level), labels, integers.astype(np.int64) * signs)

    def value_exponents(self) -> np.ndarray:
        """Exponent of the unit of the last level, a column."""
        depth = self.grid.bits * len(self.values)
        return self.grid.exponents + self.grid.weight_exponent - depth

    def weight_unit(self) -> int:
        """Exponent of the unit of the last level of the weights."""
        if not self.weighted:
            return 0
        return self.grid.weight_exponent - self.grid.bits * len(self.weights)

    def value_integers(self, index: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
        """Python integers Σ w·x in units of `value_exponents`: all, or those at (rows, columns)."""
        if index is None:
            return _join(self.values, self.grid.bits, self.shape)
        return _join([v[index] for v in self.values], self.grid.bits, np.shape(index[0]))

    def column_integers(self) -> np.ndarray:
        """Python integers Σ w·x over all clusters, shape (D,), in units of `value_exponents`."""
        # a level holds so few bits that its sum over all rows fits an int64
        return _join([v.sum(axis=0) for v in self.values], self.grid.bits, self.shape[1:])

    def weight_integers(self) -> np.ndarray:
        """Python integers Σ w, shape (K,), in units of `weight_unit`."""
        return _join(self.weights, self.grid.bits, self.shape[:1])

    def empty(self) -> np.ndarray:
        """Indices of the clusters whose weight is zero."""
        if len(self.weights) == 1:
            return np.flatnonzero(self.weights[0] == 0)
        return np.flatnonzero(self.weight_integers() == 0)

    def filled(self) -> np.ndarray:
        """Indices of the others."""
        every, empty = np.arange(self.shape[0]), self.empty()
        return np.setdiff1d(every, empty, assume_unique=True) if empty.size else every


def _accumulate(
    total: np.ndarray, pieces: list[tuple[np.ndarray | slice, np.ndarray, int]], sign: int
) -> None:
    for clusters, part, side in pieces:
        if side == sign:
            total[clusters] += part
        else:
            total[clusters] -= part


def _join(levels: list[np.ndarray], bits: int, shape: tuple[int, ...]) -> np.ndarray:
    if not levels:
        return np.zeros(shape, dtype=object)
    total = levels[0].astype(object)
    for level in levels[1:]:
        total = total * (1 << bits) + level.astype(object)
    return total
