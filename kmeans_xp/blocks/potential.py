"""Potentials of greedy k-means++ on the host, block by block."""

from __future__ import annotations

import bisect
import itertools
import math
from typing import TYPE_CHECKING

import numpy as np

from kmeans_xp.exact.bounds import TINY_SQUARE, distance_slack
from kmeans_xp.exact.potentials import integer_weights, rounded_products, weight_scale

if TYPE_CHECKING:
    from kmeans_xp.blocks.part import Part
    from kmeans_xp.blocks.sparse import SparseBlocks

__all__ = ["HostPotential"]

# Lowered potentials of candidates that are kept until one is accepted, beside one a row.
_KEPT = 1 << 20

_Lowered = tuple[np.ndarray, np.ndarray]


class HostPotential:
    """Potentials in host memory: 8 bytes a row.

    A new centre lowers the potential of few rows. A float32 pass with a proven bound finds those it
    may lower; only they are measured exactly.
    """

    def __init__(
        self, blocks: Part | SparseBlocks, rows: np.ndarray | None = None, weighted: bool = True
    ) -> None:
        self.blocks, self.common, self.chosen = blocks, blocks.common, rows
        self.w = blocks.w if weighted else None
        self.weight_exponent = 0 if self.w is None else blocks.common.grid.weight_exponent
        self.norms = blocks.row_norms()  # here, not in a worker: it uses the workers itself
        self.p = np.empty(blocks.n_rows if rows is None else len(rows))
        self.scale = 0
        self.totals: list[int] = []
        self._tried: dict[int, list[_Lowered]] = {}

    def start(self, row: int) -> None:
        """Make p the potentials with this row as the only centre."""
        self.p.fill(math.inf)
        self.accept(row)

    def accept(self, row: int) -> None:
        """Add a centre."""
        center = self.blocks.rows(self._which(np.asarray([row])))
        tried, self._tried = self._tried.get(row), {}

        def update(index: int, bounds: tuple[int, int]) -> float:
            rows, lowered = tried[index] if tried else self._lowered(*bounds, center)[0]
            self.p[rows] = lowered
            return float(self.p[slice(*bounds)].max())

        ranges = list(enumerate(self._ranges()))
        self.rescale(max(self.blocks.backend.map(lambda item: update(*item), ranges)))

    def rescale(self, largest: float) -> None:
        """Make integer weights of potentials up to `largest`."""
        self.scale = weight_scale(largest) if largest > 0 else 0
        self.totals = self.blocks.backend.map(
            lambda r: int(integer_weights(self.p[slice(*r)], self.scale).sum()), self._ranges()
        )

    def total(self) -> int:
        """Exact Σ q."""
        return sum(self.totals)

    def locate(self, targets: list[int]) -> list[int]:
        """For each target the first row whose running sum of q exceeds it."""
        ranges, ends = self._ranges(), list(itertools.accumulate(self.totals))
        owners = [bisect.bisect_right(ends, target) for target in targets]
        found = np.empty(len(targets), dtype=np.int64)
        for block in set(owners):
            lo, hi = ranges[block]
            running = np.cumsum(integer_weights(self.p[lo:hi], self.scale))
            before = ends[block] - self.totals[block]
            mine = [i for i, owner in enumerate(owners) if owner == block]
            inside = [targets[i] - before for i in mine]
            found[mine] = lo + np.searchsorted(running, inside, side="right")
        return found.tolist()

    def costs(self, rows: list[int]) -> list[int]:
        """For each row the exact Σ q after adding it as a centre."""
        centers = self.blocks.rows(self._which(np.asarray(rows)))

        def saved(bounds: tuple[int, int]) -> tuple[list[int], list[_Lowered]]:
            lowered = self._lowered(*bounds, centers)
            old = [integer_weights(self.p[i], self.scale) for i, _ in lowered]
            new = [integer_weights(low, self.scale) for _, low in lowered]
            return [int((a - b).sum()) for a, b in zip(old, new, strict=True)], lowered

        results = self.blocks.backend.map(saved, self._ranges())
        parts = [savings for savings, _ in results]
        kept = sum(len(i) for _, lowered in results for i, _ in lowered)
        if kept <= _KEPT + len(self.p):  # one of them is accepted next: 16 bytes an entry
            found = zip(*(lowered for _, lowered in results), strict=True)
            self._tried = {row: list(part) for row, part in zip(rows, found, strict=True)}
        return [self.total() - sum(column) for column in zip(*parts, strict=True)]

    def _places(self, lo: int, hi: int) -> slice | np.ndarray:
        """Indices in the data of rows lo..hi of those that are chosen."""
        return slice(lo, hi) if self.chosen is None else self.chosen[lo:hi]

    def _ranges(self) -> list[tuple[int, int]]:
        step = self.blocks.backend.block_rows(self.blocks.n_features, 16)
        return [(lo, min(lo + step, len(self.p))) for lo in range(0, len(self.p), step)]

    def _which(self, positions: np.ndarray) -> np.ndarray:
        """Indices in the data of rows that are counted by their place among the chosen."""
        return positions if self.chosen is None else self.chosen[positions]

    def _lowered(
        self, lo: int, hi: int, centers: np.ndarray
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per centre the rows of lo..hi whose potential it lowers, and their new potentials."""
        return [
            self._finished(rows, center)
            for rows, center in zip(self._suspects(lo, hi, centers), centers, strict=True)
        ]

    def _finished(self, rows: np.ndarray, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Measure rows exactly; keep those that are lowered."""
        values = self._measured(rows, center)
        less = values < self.p[rows]
        return rows[less], values[less]

    def _measured(self, rows: np.ndarray, center: np.ndarray) -> np.ndarray:
        """Exact potentials of rows around a centre."""
        blocks, exponent = self.blocks, self.common.exponent
        values = np.empty(len(rows))
        for i in range(0, len(rows), 4096):
            places = slice(i, i + 4096)
            some = self._which(rows[places])
            x = blocks.backend.gather(blocks.x, some, self.common.dtype)
            w = None if self.w is None else self.w[some]
            points = np.broadcast_to(center, x.shape)
            values[places] = rounded_products(x, points, w, exponent, self.weight_exponent)
        return values

    def _suspects(self, lo: int, hi: int, centers: np.ndarray) -> list[np.ndarray]:
        """Per centre the rows whose potential it may lower, by float32 distances and their
        bound.
        """
        blocks, frame = self.blocks, self.common.frame
        p = self.p[lo:hi]
        if math.isinf(p[0]):  # the first centre: every row
            return [np.arange(lo, hi)] * len(centers)
        with np.errstate(all="ignore"):
            points = (centers.astype(np.float64) * frame.scale - frame.center).astype(np.float32)
            sizes = np.einsum("ij,ij->i", points, points)
            which = self._places(lo, hi)
            rows = blocks.backend.frame_rows(blocks.x, which, frame)
            norms = self.norms[which].astype(np.float64)
            near = blocks.backend.cross(rows, -2 * points)[:, : hi - lo] + sizes[:, None]
            # potentials in the units of the float32 pass; rounding to 12 bits moves them by 2^-12
            w = 1.0 if self.w is None else np.ldexp(self.w[which], -self.weight_exponent)
            unit = 2 * (self.common.exponent + math.frexp(frame.scale)[1] - 1)
            farthest = math.sqrt(float(sizes.max()))
            slack = distance_slack(blocks.n_features, blocks.backend.input_unit)
            limit = np.ldexp(p / w * (1 + 2.0**-10), unit) - np.square(norms) + TINY_SQUARE
            limit += slack * np.square(norms + farthest)
            limit[norms * farthest > 1e35] = math.inf  # the pass may have overflowed
            limit[p == 0] = -math.inf
            suspect = ~(near > np.nextafter(limit.astype(np.float32), np.float32(np.inf)))
        return [lo + np.flatnonzero(row) for row in suspect]
