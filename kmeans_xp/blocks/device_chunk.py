"""Rows that are on a CUDA device already, as a part of a whole that is not: a chunk of an array.

The passes of `cuda_blocks` assign them where they are. Labels are kept on the host, as of every
part.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np

from kmeans_xp.assignment import Centers
from kmeans_xp.backends import Backend, forced_generic
from kmeans_xp.backends.cuda_blocks import BlockPasses, DeviceUnsupported, Facts, Place, host_grid
from kmeans_xp.blocks.common import Common
from kmeans_xp.blocks.part import Part
from kmeans_xp.blocks.pinned import copy_labels
from kmeans_xp.exact.sums import ClusterSums

__all__ = ["DevicePart", "Shared", "facts_of", "on_levels"]


def facts_of(common: Common, n_rows: int, dtype: np.dtype[Any]) -> Facts:
    """What the kernels must know of a whole whose largest block has `n_rows` of this dtype."""
    seen = common.survey
    weights = common.weight_dtype, seen.weight_range
    return Facts(n_rows, dtype, seen.largest, seen.smallest, *weights, common.frame)


def on_levels(common: Common, n_rows: int, dtype: np.dtype[Any]) -> Common:
    """The same, with levels of the exact sums that lie where the device's are.

    Raises
    ------
    DeviceUnsupported
        If the numbers span more bits than the device's sums hold.
    """
    return replace(common, levels=host_grid(facts_of(common, n_rows, dtype), common.grid))


class Shared:
    """What the chunks of one process share: the kernels, and memory for the largest of them.

    It is made anew where it is sent.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._known: dict[int, tuple[BlockPasses, Place] | None] = {}

    def __reduce__(self) -> Any:
        return Shared, ()

    def passes(self, common: Common, n_rows: int, x: Any) -> tuple[BlockPasses, Place] | None:
        """Return passes over blocks of up to so many rows on the device of x; None for none."""
        if common.levels is None or common.metric.spherical or forced_generic():
            return None
        number = int(x.device.id)
        with self.lock:
            if number not in self._known:
                with x.device:
                    try:
                        made = BlockPasses(facts_of(common, n_rows, x.dtype)), Place(n_rows)
                        self._known[number] = made
                    except (DeviceUnsupported, MemoryError):
                        self._known[number] = None
        return self._known[number]


class DevicePart(Part):
    """A part whose rows a CUDA device holds and its kernels assign.

    Parameters
    ----------
    common, backend, w, x
        As of `Part`; x is a CuPy array.
    passes : tuple of BlockPasses and Place
        Shared with other parts; so is the lock.
    lock : threading.Lock
    """

    def __init__(
        self,
        common: Common,
        backend: Backend,
        w: np.ndarray | None,
        x: Any,
        passes: tuple[BlockPasses, Place],
        lock: threading.Lock,
    ) -> None:
        import cupy as cp

        super().__init__(common, backend, len(x), w, x)
        self._passes, self._lock = passes, lock
        with x.device:
            self._rows = cp.ascontiguousarray(x)
            self._weights = None if w is None else cp.asarray(w.astype(np.float64))

    def relabel(
        self, centroids: np.ndarray, centers: Centers, sums: ClusterSums | None
    ) -> tuple[int, int]:
        """Label every row; counts changed and rechecked ones."""
        passes, place = self._passes
        labels = self._known_labels()
        with self._lock, self._rows.device:
            place.x, place.weights, place.n_rows = self._rows, self._weights, self.n_rows
            copy_labels(self.backend, labels, place.host_labels, len(centroids))
            passes.begin(centroids)
            passes.bring_labels(place)
            passes.enqueue(place, bounded=False)
            counts = passes.finished(place)
            labels[:] = place.host_labels[: self.n_rows]
            place.x = place.weights = None
            if sums is not None:
                passes.add_to(sums)
        self.labelled(counts[0])
        return counts
