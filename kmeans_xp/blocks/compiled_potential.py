"""Potentials of greedy k-means++ on the host by compiled passes, where there are such."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from kmeans_xp.blocks.potential import HostPotential
from kmeans_xp.exact.potentials import integer_weights, weight_scale

if TYPE_CHECKING:
    from kmeans_xp.blocks.part import Part

__all__ = ["host_potential"]

# Rows whose integer weights are summed together, and the least that a worker takes at a time.
_TOTAL_ROWS = 2048
_TASK_ROWS = 1 << 14

R = TypeVar("R")


def host_potential(blocks: Part, rows: np.ndarray | None, weighted: bool = True) -> HostPotential:
    """Potentials of all rows, or of those with increasing indices `rows`."""
    if blocks.w is None or not weighted:
        common, kernels = blocks.common, blocks.backend.seeding_kernels(blocks.x)
        scale = blocks.n_features, common.exponent, common.frame, blocks.row_norms()
        if kernels is not None and kernels.suits(*scale):
            return CompiledPotential(blocks, rows, kernels)
    return HostPotential(blocks, rows, weighted)


class CompiledPotential(HostPotential):
    """Potentials without weights: 12 bytes a row, and up to 8 for each that a candidate lowers."""

    def __init__(self, blocks: Part, rows: np.ndarray | None, kernels: Any) -> None:
        super().__init__(blocks, rows, weighted=False)
        self.kernels = kernels
        self.near = np.zeros(len(self.p), dtype=np.int32)
        step = -(-len(self.p) // (4 * blocks.backend.n_threads))
        step = max(-(-step // _TOTAL_ROWS) * _TOTAL_ROWS, _TASK_ROWS)
        self._tasks = [(i, min(i + step, len(self.p))) for i in range(0, len(self.p), step)]
        # for each task places and codes (`lower`), and for each row tried which of them are its own
        self._lists: list[Any] = [np.empty((2, 0, 0), dtype=np.int32)] * len(self._tasks)
        self._counts: dict[int, list[tuple[int, int]]] = {}
        self._scaled = np.empty((0, blocks.n_features))

    def start(self, row: int) -> None:
        """Make p the potentials with this row as the only centre."""
        self._scaled, self._counts = self._scaled[:0], {}
        super().start(row)

    def accept(self, row: int) -> None:
        """Add a centre."""
        if row not in self._counts:
            self._look([row])
        counts, center = self._counts[row], len(self._scaled)
        self._scaled = np.concatenate([self._scaled, self._prepared([row])[1]])

        def update(task: int) -> tuple[list[int], float]:
            which, n = counts[task]
            places, codes = self._lists[task][:, which, :n]
            self.kernels.apply(self.p, self.near, self._tasks[task][0], places, codes, center)
            return self._summed(task)

        parts = self._map(update)
        largest = max(part[1] for part in parts)
        scale = weight_scale(largest) if largest > 0 else 0
        if scale != self.scale:
            self.scale = scale
            parts = self._map(self._summed)
        self.totals = [total for totals, _ in parts for total in totals]
        self._counts = {}

    def costs(self, rows: list[int]) -> list[int]:
        """For each row the exact Σ q after adding it as a centre."""
        total = self.total()
        return [total - saved for saved in self._look(rows)]

    def _look(self, rows: list[int]) -> list[int]:
        """Find what each of some rows would lower; returns by how much that lowers Σ q."""
        self._counts = {}
        kernels, common, x = self.kernels, self.common, self.blocks.x
        centers, scaled = self._prepared(rows)
        reach = np.full(1, -1.0)  # the first centre settles nothing
        if len(self._scaled):
            reach = kernels.reach(self._scaled, scaled)
        chosen = np.empty(0, dtype=np.int64) if self.chosen is None else self.chosen
        state = self.p, self.near, reach, self.norms, common.frame, centers, common.exponent

        def look(task: int) -> tuple[list[int], list[int]]:
            lo, hi = bounds = self._tasks[task]
            if self._lists[task].shape[1] < len(rows):
                self._lists[task] = np.empty((2, len(rows), hi - lo), dtype=np.int32)
            found = self._lists[task]
            counts, unknown, saved = kernels.lower(x, chosen, bounds, *state, self.scale, found)
            for c in np.flatnonzero(unknown):
                saved[c] += self._measure_unknown(lo, found[:, c, : counts[c]], centers[c])
            return counts.tolist(), saved.tolist()

        parts = self._map(look)
        for c, row in enumerate(rows):
            self._counts[row] = [(c, counts[c]) for counts, _ in parts]
        return [sum(column) for column in zip(*(part[1] for part in parts), strict=True)]

    def _measure_unknown(self, lo: int, found: np.ndarray, center: np.ndarray) -> int:
        """Measure exactly what float64 cannot tell; by how much it lowers the sum of q."""
        unknown = np.flatnonzero(found[1] == self.kernels.UNKNOWN)
        rows = lo + found[0, unknown]
        old = self.p[rows]
        new = np.minimum(self._measured(rows, center), old)
        found[1, unknown] = self.kernels.codes(new)
        if math.isinf(old.max()):
            return 0
        return int((integer_weights(old, self.scale) - integer_weights(new, self.scale)).sum())

    def _prepared(self, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Rows as centres, and scaled for `reach`."""
        centers = self.blocks.rows(self._which(np.asarray(rows)))
        return centers, np.ldexp(centers.astype(np.float64), -self.common.exponent)

    def _summed(self, task: int) -> tuple[list[int], float]:
        """Sums of integer weights over the blocks of a task, and its largest potential."""
        lo, hi = self._tasks[task]
        totals, largest = self.kernels.totals(self.p[lo:hi], self.scale, _TOTAL_ROWS)
        return totals, largest

    def _map(self, function: Callable[[int], R]) -> list[R]:
        return self.blocks.backend.map(function, range(len(self._tasks)))

    def _ranges(self) -> list[tuple[int, int]]:
        return [
            (lo, min(lo + _TOTAL_ROWS, len(self.p))) for lo in range(0, len(self.p), _TOTAL_ROWS)
        ]
