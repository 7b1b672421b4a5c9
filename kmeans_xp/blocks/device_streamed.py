"""A stream whose blocks are assigned on a CUDA device: they are copied there ahead of their use.

The host keeps what it keeps of a stream: labels, squares, pruning bounds, exact sums. Where bounds
settle most rows of a block, the others alone are copied. Where there is room, half-precision copies
stay on the device, and settle rows likewise, before blocks are read. Rare passes (relocation, sums
of given labels) are made by the host as the blocks come by.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from kmeans_xp.assignment import Centers
from kmeans_xp.backends import Backend, forced_generic
from kmeans_xp.backends.cuda_blocks import (
    BlockCopies,
    BlockPasses,
    CopiedPlace,
    DeviceUnsupported,
    Place,
)
from kmeans_xp.blocks.base import Oversampling, Potential
from kmeans_xp.blocks.device_chunk import facts_of, on_levels
from kmeans_xp.blocks.device_passes import (
    DevicePassedOversampling,
    gathered_oversampling,
    gathered_potential,
)
from kmeans_xp.blocks.part import Part
from kmeans_xp.blocks.pinned import copy_labels, copy_rows
from kmeans_xp.blocks.streamed import StreamBlocks
from kmeans_xp.exact.metric import EUCLIDEAN, Metric
from kmeans_xp.exact.sums import ClusterSums
from kmeans_xp.streams import Stream

__all__ = ["DeviceStreamBlocks"]


class DeviceStreamBlocks(StreamBlocks):
    """The blocks of a stream, assigned on the current CUDA device.

    The kernels assign its blocks; where none serve, CuPy's own functions do.

    The parameters are those of `StreamBlocks`.

    Attributes
    ----------
    unsupported : DeviceUnsupported or None
        Why there are no kernels for these rows.
    """

    def __init__(
        self, stream: Stream, w: np.ndarray | None, dtype: np.dtype[Any], metric: Metric = EUCLIDEAN
    ) -> None:
        import cupy as cp

        super().__init__(stream, w, dtype, metric)
        common, stored = self.common, stream.dtype
        there = stored.newbyteorder("=") if stored.kind == "f" else np.dtype(np.float64)
        if metric.spherical:
            there = self.dtype
        n_rows = max(hi - lo for lo, hi in stream.bounds)
        self._copies = BlockCopies(n_rows, self.n_features, there, common.weighted)
        self._there = Backend(cp.empty((1, self.n_features), there))
        self.unsupported: DeviceUnsupported | None = None
        self._passes: BlockPasses | None = None
        if not metric.spherical and not forced_generic():  # they know the Euclidean metric alone
            try:
                self._passes = BlockPasses(facts_of(common, n_rows, there), stream.resident_bytes)
                self.common = on_levels(common, n_rows, there)
            except DeviceUnsupported as reason:
                self.unsupported = reason
        self.device = None if self._passes is None else "cuda"
        for part in self._parts:
            part.eager = self._passes is None  # a pass of the kernels costs less than the copy

    def potential(self, rows: np.ndarray | None = None, weighted: bool = True) -> Potential:
        """Potentials of rows that are gathered in memory and brought to the device."""
        if self._passes is None or (self.w is not None and not weighted):
            return super().potential(rows, weighted)
        return gathered_potential(self, np.arange(self.n_rows) if rows is None else rows)

    def oversampling(self, rows: np.ndarray | None = None, weighted: bool = True) -> Oversampling:
        """Potentials for k-means||, as `potential`; of all rows their blocks come by."""
        if self._passes is None or (self.w is not None and not weighted):
            return super().oversampling(rows, weighted)
        if rows is None:
            return DevicePassedOversampling(self)
        return gathered_oversampling(self, rows)

    def relabel(self, centroids: np.ndarray, sums: ClusterSums | None) -> tuple[int, int]:
        """Label every row, bring the sums up to date; counts changed and rechecked rows."""
        centers, wanted = self._begin(centroids)
        counts = np.zeros(2, dtype=np.int64)
        passes, queued = self._passes, deque[tuple[Part, Place, np.ndarray | None]]()
        if passes is not None and wanted:
            passes.begin(centroids)
        try:
            rows = self._unsettled(wanted)
            self.stream.skip(list(rows))
            for i, block in self.stream.each(list(rows)):
                part = self._parts[i]
                if passes is None:
                    place = self._sent(part, block)
                    counts += self._by_functions(part, place, centroids, centers, sums)
                    continue
                place = self._sent(part, block, rows[i], unlabelled=len(centroids))
                keep = i if rows[i] is None and sums is not None else None
                passes.enqueue(place, bounded=part.bounds is not None, keep=keep)
                queued.append((part, place, rows[i]))
                if len(queued) > 1:  # the device has the next block to go on with
                    counts += self._landed(*queued.popleft())
                if passes.full and sums is not None:
                    passes.add_to(sums)
            while queued:
                counts += self._landed(*queued.popleft())
            if passes is not None and wanted and sums is not None:
                passes.add_to(sums)
        finally:
            self._copies.wait()
        return int(counts[0]), int(counts[1])

    def _algorithm_of(self, block: int) -> str:
        """Bounds are let be where a copy tells more: the host takes longer to look at them."""
        kept = self._passes is not None and self._passes.keeps(block)
        return "lloyd" if kept and self.algorithm == "auto" else self.algorithm

    def _unsettled(self, wanted: list[int]) -> dict[int, np.ndarray | None]:
        """Rows of wanted blocks, None for all, that neither bounds nor copies settle.

        Blocks without such rows are left out.
        """
        if self._passes is None:
            return dict.fromkeys(wanted)
        found: dict[int, np.ndarray | None] = {}
        queued = deque[tuple[int, Place]]()

        def land(i: int, place: Place) -> None:
            part = self._parts[i]
            place.done.synchronize()
            assert part.labels is not None
            rows = part.open_rows(place.host_labels[: place.n_rows] != part.labels)
            if rows is None or rows.size:
                found[i] = rows
            else:
                part.labelled(0)

        for i in wanted:
            if not self._passes.keeps(i):
                found[i] = self._parts[i].open_rows()
                continue
            queued.append((i, self._copies.next()))
            self._passes.look(*queued[-1])
            if len(queued) > 1:
                land(*queued.popleft())
        while queued:
            land(*queued.popleft())
        return dict(sorted(found.items()))

    def _sent(
        self,
        part: Part,
        block: np.ndarray,
        rows: np.ndarray | None = None,
        unlabelled: int | None = None,
    ) -> CopiedPlace:
        """Put a block, or some of its rows, into pinned memory and on its way.

        `unlabelled` is the label of rows in no cluster; without it no labels are sent.
        """
        part.x = self._as_computed(block)
        place = self._copies.next()
        try:
            with self.session():
                self._first_look(part)
                copy_rows(self.backend, part.x, place.host_x, rows)
        finally:
            part.x = None
        n_rows, which = (part.n_rows, slice(None)) if rows is None else (len(rows), rows)
        if unlabelled is not None:
            assert part.labels is not None
            copy_labels(self.backend, part.labels[which], place.host_labels, unlabelled)
            if part.w is not None and place.host_weights is not None:
                weights = part.w[which, None], place.host_weights[:, None]
                copy_rows(self.backend, *weights)
        self._copies.send(place, n_rows, labels=unlabelled is not None)
        return place

    def _landed(self, part: Part, place: Place, rows: np.ndarray | None) -> tuple[int, int]:
        """Take over what the kernels found of a block, or of some of its rows."""
        assert self._passes is not None and part.labels is not None
        which = slice(None) if rows is None else rows
        changed, rechecked = self._passes.finished(place)
        if changed and rows is None:
            copy_rows(self.backend, place.host_labels[: place.n_rows, None], part.labels[:, None])
        elif changed:
            part.labels[which] = place.host_labels[: place.n_rows]
        if part.bounds is not None:
            part.bounds.replace(which, *self._passes.bounds(place))
        part.labelled(changed)
        return changed, rechecked

    def _by_functions(
        self,
        part: Part,
        place: CopiedPlace,
        centroids: np.ndarray,
        centers: Centers,
        sums: ClusterSums | None,
    ) -> tuple[int, int]:
        """Assign a block that is on the device by CuPy's own functions."""
        part.x, part.backend = place.x[: part.n_rows], self._there
        try:
            return part.relabel(centroids, centers, sums)
        finally:
            part.x, part.backend = None, self.backend
            place.done.record(self._copies.stream)
