"""Potentials of k-means|| on the host, whose centres come many at a time."""

from __future__ import annotations

import numpy as np

from kmeans_xp.blocks.potential import HostPotential
from kmeans_xp.exact.potentials import rounded_products
from kmeans_xp.exact.totals import exact_total

__all__ = ["HostOversampling"]


class HostOversampling(HostPotential):
    """Potentials in host memory, 8 bytes a row, lowered by many centres in a pass.

    The fast pass of an iteration finds the nearest of the centres; only the distance to that one is
    measured.
    """

    def accept_all(self, rows: np.ndarray) -> None:
        """Add centres: only the nearest of them may lower a potential."""
        self._tried = {}
        self.lower(self.blocks.rows(self._which(np.asarray(rows))))
        self.rescale(float(self.p.max()))

    def lower(self, centers: np.ndarray) -> None:
        """Lower the potentials by new centres; totals and scale stay behind."""
        nearest = self.blocks.nearest_to(centers)

        def update(bounds: tuple[int, int]) -> None:
            lo, hi = bounds
            labels = nearest(self._places(lo, hi))
            np.minimum(self.p[lo:hi], self._own(lo, hi, centers, labels), out=self.p[lo:hi])

        self.blocks.backend.map(update, self._passes(len(centers)))

    def shares(self, rows: np.ndarray) -> np.ndarray:
        """For each of these centres the weight of the rows nearest to it: rn of the real Σ w·2^−W,
        2^W above every weight.
        """
        return self.added(self.nearest(self.blocks.rows(self._which(np.asarray(rows)))), len(rows))

    def nearest(self, centers: np.ndarray) -> np.ndarray:
        """Which of these centres is nearest to each row."""
        nearest = self.blocks.nearest_to(centers)
        labels = np.empty(len(self.p), dtype=np.int32)

        def fill(bounds: tuple[int, int]) -> None:
            labels[slice(*bounds)] = nearest(self._places(*bounds))

        self.blocks.backend.map(fill, self._passes(len(centers)))
        return labels

    def added(self, labels: np.ndarray, count: int) -> np.ndarray:
        """The weights of the rows, added up by their labels."""
        if self.w is None:
            return np.bincount(labels, minlength=count).astype(np.float64)
        w = self.w if self.chosen is None else self.w[self.chosen]
        order = np.argsort(labels, kind="stable")
        parts = np.split(w[order].astype(np.float64), np.cumsum(np.bincount(labels, None, count)))
        return np.asarray([float(exact_total(part, -self.weight_exponent)) for part in parts[:-1]])

    def _own(self, lo: int, hi: int, centers: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Potentials of rows lo..hi with one centre each."""
        blocks, which, common = self.blocks, self._places(lo, hi), self.common
        if isinstance(which, slice):
            x = blocks.backend.host(blocks.x, lo, hi, common.dtype)
        else:
            x = blocks.backend.gather(blocks.x, which, common.dtype)
        w = None if self.w is None else self.w[which]
        return rounded_products(x, centers[labels], w, common.exponent, self.weight_exponent)

    def _passes(self, n_centers: int) -> list[tuple[int, int]]:
        """Ranges sized for a pass over so many centres."""
        step = self.blocks.backend.block_rows(self.blocks.n_features, n_centers)
        return [(lo, min(lo + step, len(self.p))) for lo in range(0, len(self.p), step)]
