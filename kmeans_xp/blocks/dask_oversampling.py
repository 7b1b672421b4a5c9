"""Potentials of k-means|| where the rows are: candidates go out, totals come back."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from dask.delayed import Delayed

from kmeans_xp.blocks.chunk import Chunk, Delta, Fit, to_centroids
from kmeans_xp.blocks.dask_tasks import hold
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.sums import ClusterSums

if TYPE_CHECKING:
    from kmeans_xp.blocks.dask import DaskBlocks

__all__ = ["DaskOversampling"]


class DaskOversampling:
    """Potentials of all rows of a Dask array: 8 bytes a row on its worker.

    They are a cache as labels are: every task names all centres.
    """

    def __init__(self, blocks: DaskBlocks) -> None:
        self.blocks = blocks
        self._centers: list[Delayed] = []
        self._largest = 0.0
        self._totals: list[int] = []

    def start(self, row: int) -> None:
        """Make p the potentials with this row as the only centre."""
        self._centers = []
        self.accept_all(np.asarray([row]))

    def accept_all(self, rows: np.ndarray) -> None:
        """Add centres, in one pass over the rows."""
        blocks = self.blocks
        self._centers.append(hold(to_centroids, blocks.rows(rows)))
        self._largest = blocks.combine(_largest, max, *self._centers)
        given = blocks.plan(), self._largest, *self._centers
        self._totals = blocks.chunks.each(_total, *given)

    def total(self) -> int:
        """Exact Σ q of the current potentials; 0 if all are zero."""
        return sum(self._totals)

    def locate(self, targets: list[int]) -> list[int]:
        """For each target r the first row whose running sum of q exceeds r."""
        blocks, ends = self.blocks, list(itertools.accumulate(self._totals))
        owners = [bisect.bisect_right(ends, target) for target in targets]
        found, used = [0] * len(targets), sorted(set(owners))
        mine = [[i for i, owner in enumerate(owners) if owner == chunk] for chunk in used]
        inside = [
            ([targets[i] - ends[chunk] + self._totals[chunk] for i in places],)
            for chunk, places in zip(used, mine, strict=True)
        ]
        given = blocks.plan(), self._largest, *self._centers
        rows = blocks.chunks.keep(used).each(_located, *given, own=inside)
        for chunk, places, some in zip(used, mine, rows, strict=True):
            for i, row in zip(places, some, strict=True):
                found[i] = int(blocks.starts[chunk]) + row
        return found

    def shares(self, rows: np.ndarray) -> np.ndarray:
        """For each of these centres the weight of the rows nearest to it: rn of the real Σ w·2^−W,
        2^W above every weight.
        """
        blocks = self.blocks
        sums = ClusterSums(len(rows), blocks.common.grid, blocks.common.weighted)
        centers = hold(to_centroids, blocks.rows(rows))
        blocks.combine(_shares, Delta.joined, centers).add_to(sums)
        unit = sums.weight_unit()
        if blocks.common.weighted:
            unit -= blocks.common.grid.weight_exponent
        return np.asarray([float(Dyadic(n, unit)) for n in sums.weight_integers().tolist()])


def _largest(chunk: Chunk, fit: Fit, *centers: np.ndarray) -> float:
    with chunk.lock:
        return float(chunk.drawing(fit, centers).p.max())


def _total(chunk: Chunk, fit: Fit, largest: float, *centers: np.ndarray) -> int:
    with chunk.lock:
        drawing = chunk.drawing(fit, centers)
        drawing.rescale(largest)
        return drawing.total()


def _located(
    chunk: Chunk, targets: Sequence[int], fit: Fit, largest: float, *centers: np.ndarray
) -> list[int]:
    with chunk.lock:
        drawing = chunk.drawing(fit, centers)
        drawing.rescale(largest)
        return drawing.locate(list(targets))


def _shares(chunk: Chunk, fit: Fit, centers: np.ndarray) -> Delta:
    sums = ClusterSums(len(centers), fit.common.grid, fit.common.weighted)
    with chunk.lock:
        labels = chunk.part(fit).oversampling().nearest(centers)
    sums.add_weights(labels, chunk.w, np.ones(len(labels), dtype=np.int64))
    return Delta.of(sums)
