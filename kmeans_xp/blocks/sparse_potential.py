"""Potentials of greedy k-means++ of sparse rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kmeans_xp.blocks.oversampling import HostOversampling
from kmeans_xp.blocks.potential import HostPotential
from kmeans_xp.blocks.sparse_distances import exact_products, squared_with_error
from kmeans_xp.exact.bounds import TINY64
from kmeans_xp.exact.potentials import certified_products

if TYPE_CHECKING:
    from kmeans_xp.blocks.sparse import SparseBlocks

__all__ = ["SparseOversampling", "SparsePotential"]


class SparsePotential(HostPotential):
    """Measures every row in float64, and exactly those whose 12 bits that leaves open."""

    def __init__(
        self, blocks: SparseBlocks, rows: np.ndarray | None = None, weighted: bool = True
    ) -> None:
        super().__init__(blocks, rows, weighted)
        self.blocks: SparseBlocks = blocks
        self._shift = blocks.safe_exponent(np.zeros(1))
        self.squares = blocks.squares_of_rows(self._shift)  # here, not in a worker
        self._last: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def _lowered(
        self, lo: int, hi: int, centers: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per centre the rows of lo..hi whose potential it lowers, and their new potentials."""
        blocks, p = self.blocks, self.p[lo:hi]
        which = self._places(lo, hi)
        x = blocks.scaled(self._shift).take(which)
        columns, center_squares = self._prepared(centers)
        products = blocks.backend.products(x, columns)
        out = []
        for c, center in enumerate(centers):
            squared, error = squared_with_error(
                products[:, c], self.squares[which], center_squares[c], x.counts, x.shape[1]
            )
            values, unsure = self._certified(squared, error, which, p)
            for i in range(0, len(unsure), 4096):
                some = unsure[i : i + 4096]
                values[some] = self._exactly(lo + some, center)
            less = np.flatnonzero(values < p)
            out.append((lo + less, values[less]))
        return out

    def _prepared(self, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scaled centres as columns, and their squares; the last ones are remembered."""
        known = self._last
        if known is None or known[0] is not centers:
            points = np.ldexp(centers.astype(np.float64), -self._shift)
            squares = np.einsum("ij,ij->i", points, points)
            known = self._last = centers, np.ascontiguousarray(points.T), squares
        return known[1:]

    def _certified(
        self, squared: np.ndarray, error: np.ndarray, which: slice | np.ndarray, p: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """New potentials, and where they are unknown but may be below p (infinite till then)."""
        unit = 2 * (self._shift - self.common.exponent)
        squared, error = np.ldexp(squared, unit), np.ldexp(error, unit) + TINY64
        w = None
        least = np.maximum(squared - error, 0.0) * (1 - 2.0**-10)
        if self.w is not None:
            w = np.ldexp(self.w[which].astype(np.float64), -self.weight_exponent)
            least *= w
        values, certain = certified_products(squared, error, w)
        values[~certain] = np.inf
        return values, np.flatnonzero(~certain & (least < p))

    def _exactly(self, places: np.ndarray, center: np.ndarray) -> np.ndarray:
        """Exact potentials of the rows at these places."""
        rows, blocks = self._which(places), self.blocks
        w = None if self.w is None else self.w[rows]
        exponents = self.common.exponent, self.weight_exponent
        return exact_products(blocks.x.take(rows), center, w, *exponents)


class SparseOversampling(SparsePotential, HostOversampling):
    """Likewise, with many centres at a time."""

    def _own(self, lo: int, hi: int, centers: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Potentials of rows lo..hi with one centre each; infinite where they lower nothing."""
        which = self._places(lo, hi)
        x = self.blocks.scaled(self._shift).take(which)
        columns, center_squares = self._prepared(centers)
        each = x.row_of_entries()
        products = np.bincount(each, x.data * columns[x.indices, labels[each]], hi - lo)
        squared, error = squared_with_error(
            products, self.squares[which], center_squares[labels], x.counts, x.shape[1]
        )
        values, unsure = self._certified(squared, error, which, self.p[lo:hi])
        unsure = unsure[np.argsort(labels[unsure], kind="stable")]
        for some in np.split(unsure, np.flatnonzero(np.diff(labels[unsure])) + 1):
            if some.size:
                values[some] = self._exactly(lo + some, centers[labels[some[0]]])
        return values
