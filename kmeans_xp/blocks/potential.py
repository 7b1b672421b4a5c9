"""Potentials of greedy k-means++ on the host, block by block."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from kmeans_xp.exact.bounds import FLOAT64, TINY64, gamma
from kmeans_xp.exact.dyadic import rn12
from kmeans_xp.exact.potentials import FLUSH, rounded_products

if TYPE_CHECKING:
    from kmeans_xp.blocks.memory import MemoryBlocks

__all__ = ["HostPotential", "integer_weights", "weight_scale"]


def weight_scale(largest: float) -> int:
    """Power s of the integer weights: q = ⌊p·2^s⌋ stays below 2^31 for p up to `largest`."""
    return 31 - math.frexp(largest)[1]


def integer_weights(p: np.ndarray, scale: int) -> np.ndarray:
    """Q = ⌊p·2^scale⌋ as int64."""
    return np.floor(np.ldexp(p, scale)).astype(np.int64)


class HostPotential:
    """Potentials in host memory: 8 bytes a row.

    Candidates' potentials are never stored for all rows: a pass gives their costs, and accepting
    one recomputes its own.
    """

    def __init__(self, blocks: MemoryBlocks) -> None:
        self.blocks = blocks
        self.p = np.empty(blocks.n_rows)
        self.scale = 0
        self.totals: list[int] = []

    def start(self, row: int) -> None:
        """Make p the potentials with this row as the only centre."""
        self.p.fill(math.inf)
        self.accept(row)

    def accept(self, row: int) -> None:
        """Add a centre."""
        center = self.blocks.rows(np.asarray([row]))
        ranges = self._ranges()

        def update(bounds: tuple[int, int]) -> float:
            lo, hi = bounds
            p = self.p[lo:hi]
            np.minimum(p, self._to_centers(lo, hi, center)[:, 0], out=p)
            return float(p.max())

        largest = max(self.blocks.backend.map(update, ranges))
        self.scale = weight_scale(largest) if largest > 0 else 0
        self.totals = self.blocks.backend.map(
            lambda r: int(integer_weights(self.p[r[0] : r[1]], self.scale).sum()), ranges
        )

    def total(self) -> int:
        """Exact Σ q."""
        return sum(self.totals)

    def locate(self, targets: list[int]) -> list[int]:
        """For each target the first row whose running sum of q exceeds it."""
        ranges, found = self._ranges(), []
        for target in targets:
            block = 0
            while target >= self.totals[block]:
                target -= self.totals[block]
                block += 1
            lo, hi = ranges[block]
            running = np.cumsum(integer_weights(self.p[lo:hi], self.scale))
            found.append(lo + int(np.searchsorted(running, target, side="right")))
        return found

    def costs(self, rows: list[int]) -> list[int]:
        """For each row the exact Σ q after adding it as a centre."""
        centers = self.blocks.rows(np.asarray(rows))

        def cost(bounds: tuple[int, int]) -> np.ndarray:
            lo, hi = bounds
            p = np.minimum(self._to_centers(lo, hi, centers), self.p[lo:hi, None])
            return integer_weights(p, self.scale).sum(axis=0)

        parts = self.blocks.backend.map(cost, self._ranges())
        return [sum(int(part[j]) for part in parts) for j in range(len(rows))]

    def _ranges(self) -> list[tuple[int, int]]:
        return self.blocks.ranges(16)

    def _to_centers(self, lo: int, hi: int, centers: np.ndarray) -> np.ndarray:
        """Certified rn12(w·|x − c|²) of rows lo..hi, shape (n, m)."""
        blocks = self.blocks
        exponent, weight_exponent = blocks.exponent, blocks.grid.weight_exponent
        x = blocks.backend.host(blocks.x, lo, hi, blocks.dtype)
        middle = np.ldexp(blocks.middle, -exponent)
        scaled = np.ldexp(x.astype(np.float64), -exponent) - middle
        c = np.ldexp(centers.astype(np.float64), -exponent) - middle
        squared = blocks.backend.distances(scaled, c)
        size = np.einsum("ij,ij->i", scaled, scaled)[:, None] + np.einsum("ij,ij->i", c, c)
        error = 6 * gamma(x.shape[1] + 8, FLOAT64) * size + TINY64
        w = None if blocks.w is None else blocks.w[lo:hi]
        low, high = squared - error, squared + error
        certain = low >= FLUSH
        if w is not None:
            factor = np.ldexp(w.astype(np.float64), -weight_exponent)[:, None]
            low, high = low * factor * (1 - 8 * FLOAT64), high * factor * (1 + 8 * FLOAT64)
            certain &= low > TINY64
        value = rn12(np.maximum(low, 0.0))
        certain &= value == rn12(high)
        for j in range(len(centers)):
            left = np.flatnonzero(~certain[:, j])
            for i in range(0, len(left), 4096):
                some = left[i : i + 4096]
                center = np.broadcast_to(centers[j], (len(some), x.shape[1]))
                part = None if w is None else w[some]
                value[some, j] = rounded_products(x[some], center, part, exponent, weight_exponent)
        return value
