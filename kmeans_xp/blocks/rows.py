"""What every place for rows on the host has in common: the parts of an iteration around the pass.

A place may be one array or many parts (`part.Part`), which may live in other processes. Of its own
rows a part assigns all, sums them up, and finds the farthest; what only the whole can say is here
and in the seams of `RowBlocks`: exact sums of parts are added, in any order, then centroids move.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from kmeans_xp.backends import Backend
from kmeans_xp.backends.convert import from_numpy, to_numpy
from kmeans_xp.blocks.base import Oversampling, Potential, Step
from kmeans_xp.blocks.common import Common, Far
from kmeans_xp.blocks.part import Part
from kmeans_xp.blocks.passes import PassedOversampling
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.inertia import exact_variance, shift_bounds
from kmeans_xp.exact.sums import ClusterSums

__all__ = ["RowBlocks"]

# Labels looked at together.
_LABELS = 1 << 20


class RowBlocks(ABC):
    """`base.Blocks` with centroids, sums and labels on the host.

    A subclass says where the rows are by the abstract methods. It surveys the data first, which
    gives `Common`.

    Parameters
    ----------
    common : Common
    backend : Backend
        Does what is not done part by part; its session is that of the fit.
    w : ndarray, shape (N,), or None
        Validated weights.
    like : array
        Results come back in the namespace and on the device of this array.
    """

    def __init__(self, common: Common, backend: Backend, w: np.ndarray | None, like: Any) -> None:
        self.common, self.backend, self.w, self.like = common, backend, w, like
        self.n_rows, self.n_features, self.dtype = common.n_rows, common.n_features, common.dtype
        self.algorithm = "auto"
        self.label_store: np.ndarray | None = None
        self._known_squares: dict[bool, Dyadic] = {}
        self._known_variance: Fraction | None = None
        self.reset()

    device: str | None = None
    _labels: np.ndarray | None

    # ---- seams: where the rows are

    @abstractmethod
    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Rows on the host, in the dtype of the centroids."""

    @abstractmethod
    def in_order(self) -> Iterator[np.ndarray]:
        """All rows on the host, some at a time, each read once."""

    @abstractmethod
    def potential(self, rows: np.ndarray | None = None, weighted: bool = True) -> Potential:
        """Potentials for k-means++ of all rows, or of those with increasing indices `rows`."""

    @abstractmethod
    def distances(self, centroids: np.ndarray) -> np.ndarray:
        """Distances of all rows to all centroids on the host, in their dtype."""

    @abstractmethod
    def relabel(self, centroids: np.ndarray, sums: ClusterSums | None) -> tuple[int, int]:
        """Label every row; take the rows whose label changes from the sums of their old clusters to
        those of their new ones. Counts rows that changed and rows that were rechecked.
        """

    @abstractmethod
    def labelled_sums(self, labels: np.ndarray, n_clusters: int) -> ClusterSums:
        """Sums over clusters by labels given on the host; those of the fit stay."""

    @abstractmethod
    def column_sums(self) -> ClusterSums:
        """Unweighted sums over all rows as one cluster."""

    @abstractmethod
    def measure_squares(self, weighted: bool) -> Dyadic:
        """Exact Σ w|x|² (or Σ |x|²) over all rows."""

    @abstractmethod
    def farthest(self, centroids: np.ndarray, count: int) -> Far:
        """Up to `count` rows of positive weight by rn12(|x − c_label|²) > 0, ties to the lowest."""

    @abstractmethod
    def add(self, sums: ClusterSums, rows: np.ndarray, labels: np.ndarray, sign: int) -> None:
        """Add (or with ``sign=-1`` take away) some rows, few of them."""

    def unlabel(self) -> None:
        """Put every row in no cluster, in memory that was not handed over."""
        if self.label_store is None:
            self._labels = np.full(self.n_rows, -1, dtype=np.int32)
        else:
            self._labels = self.label_store
            self._labels.fill(-1)

    def new_sums(self, n_clusters: int) -> ClusterSums:
        """Sums of no rows yet, for `relabel`."""
        return self.common.cluster_sums(n_clusters)

    def oversampling(self, rows: np.ndarray | None = None, weighted: bool = True) -> Oversampling:
        """Potentials for k-means||, as `potential`; all rows are passed over, never gathered."""
        if rows is None:
            return PassedOversampling(self)
        return self.gathered(rows).oversampling(None, weighted)

    def gathered(self, rows: np.ndarray) -> Part:
        """Some rows in memory, with their weights."""
        w = None if self.w is None else self.w[rows]
        return Part(self.common, self.backend, len(rows), w, self.rows(rows))

    def means(self, sums: ClusterSums, old: np.ndarray) -> np.ndarray:
        """New centroids; a cluster without weight keeps its old one."""
        with self.session():
            return self.common.metric.finish(self.backend.means(sums, old), sums, old)

    # ---- data and centroids

    def session(self) -> contextlib.AbstractContextManager[None]:
        """Context in which the backend's threads are kept and BLAS is held back."""
        return self.backend.session()

    def weights(self) -> np.ndarray | None:
        """Weights on the host."""
        return self.w

    def place(self, centroids: np.ndarray) -> Any:
        """Handle of centroids: the array itself, with every zero made +0."""
        return np.ascontiguousarray(centroids, dtype=self.dtype) + self.dtype.type(0)

    def fetch(self, handle: Any) -> np.ndarray:
        """Centroids on the host."""
        host: np.ndarray = handle
        return host

    # ---- iterations

    def reset(self) -> None:
        """Forget the labels, before another start."""
        self._labels = None
        self._labelled = False
        self._sums: ClusterSums | None = None

    def step(self, handle: Any) -> Step:
        """One iteration: assign every row, then move every centroid."""
        changed, rechecked = self._assign(handle)
        assert self._sums is not None
        empty = self._sums.empty()
        moved = self._relocate(self._sums, handle, empty) if empty.size else None
        new = self.means(self._sums, handle)
        if moved is None:
            return Step(new, changed, 0, shift_bounds(new, handle), rechecked)
        # relocation leaves the labels alone: so must the sums
        self._transfer(self._sums, *moved, -1)
        return Step(new, changed, len(moved[0]), shift_bounds(new, handle), rechecked)

    def assign(self, handle: Any) -> None:
        """Make the labels belong to these centroids, and nothing else."""
        self._assign(handle, with_sums=False)

    def settle(self, handle: Any) -> None:
        """Make labels and sums belong to these centroids."""
        self._assign(handle)

    def settle_step(self, handle: Any) -> None:
        """Make the sums those that `step(handle)` made: they are."""
        assert self._sums is not None

    def _assign(self, centroids: np.ndarray, with_sums: bool = True) -> tuple[int, int]:
        """Label every row, bring the exact sums up to date; counts changed and rechecked rows."""
        if not self._labelled or (with_sums and self._sums is None):
            self.unlabel()
            self._labelled = True
            self._sums = self.new_sums(len(centroids)) if with_sums else None
        with self.session():
            return self.relabel(centroids, self._sums)

    # ---- empty clusters

    def _relocate(
        self, sums: ClusterSums, centroids: np.ndarray, empty: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give far rows to empty clusters in the sums; returns rows, their clusters, the empty
        ones.
        """
        far = self.farthest(centroids, len(empty))
        order = np.argsort(-far.values, kind="stable")
        moved = far.rows[order], far.labels[order], empty[: len(order)]
        self._transfer(sums, *moved, 1)
        return moved

    def _transfer(
        self, sums: ClusterSums, rows: np.ndarray, source: np.ndarray, target: np.ndarray, sign: int
    ) -> None:
        if rows.size:
            self.add(sums, rows, source, -sign)
            self.add(sums, rows, target, sign)

    # ---- results

    def labels(self) -> Any:
        """Labels in the namespace and on the device of the data; they are handed over."""
        assert self._labels is not None
        return from_numpy(self._labels, self.like)

    def distinct_labels(self, labels: Any, n_clusters: int) -> int:
        """How many of the clusters have a row."""
        host, found = to_numpy(labels), np.zeros(n_clusters, dtype=bool)
        for lo in range(0, len(host), _LABELS):  # indices take eight bytes each
            found[host[lo : lo + _LABELS]] = True
        return int(np.count_nonzero(found))

    def inertia(self, handle: Any) -> float:
        """Exact inertia of the settled assignment, rounded once."""
        assert self._sums is not None
        return self._inertia(self._sums, handle)

    def labelled_inertia(self, labels: np.ndarray, centroids: np.ndarray) -> float:
        """Exact inertia of labels and centroids given on the host, rounded once."""
        sums = self.labelled_sums(np.asarray(labels, dtype=np.int32), len(centroids))
        return self._inertia(sums, centroids)

    def _inertia(self, sums: ClusterSums, centroids: np.ndarray) -> float:
        weighted = self.common.weighted
        metric = self.common.metric
        return float(metric.inertia(lambda: self.squares(weighted), sums, centroids))

    def squares(self, weighted: bool) -> Dyadic:
        """Exact Σ w|x|² (or Σ |x|²) over all rows; computed once."""
        if weighted not in self._known_squares:
            with self.session():
                self._known_squares[weighted] = self.measure_squares(weighted)
        return self._known_squares[weighted]

    def variance(self) -> Fraction:
        """Mean over features of the variance of the rows (unweighted), exactly; computed once."""
        if self._known_variance is None:
            self._known_variance = self.measure_variance()
        return self._known_variance

    def measure_variance(self) -> Fraction:
        """Mean over features of the variance of the rows."""
        squares, known = self.squares(False), self._sums
        sums = self.column_sums() if known is None or self.common.weighted else known
        return exact_variance(squares, sums, self.n_rows)
