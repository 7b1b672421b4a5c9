"""Starts of a stream whose blocks a CUDA device computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kmeans_xp.backends.cuda import DeviceLloyd
from kmeans_xp.blocks.base import Oversampling, Potential
from kmeans_xp.blocks.device_potential import REFUSALS, DeviceOrHost
from kmeans_xp.blocks.passes import PassedOversampling

if TYPE_CHECKING:
    from kmeans_xp.blocks.rows import RowBlocks

__all__ = ["DevicePassedOversampling", "gathered_oversampling", "gathered_potential"]


def gathered_potential(whole: RowBlocks, rows: np.ndarray) -> Potential:
    """Potentials for k-means++ of rows that are gathered on the host and brought to the device."""
    part = whole.gathered(rows)
    return DeviceOrHost(
        lambda: _brought(part.x, part.w).potential(whole.common.exponents), part.potential
    )


def gathered_oversampling(whole: RowBlocks, rows: np.ndarray) -> Oversampling:
    """Potentials for k-means|| of such rows."""
    part = whole.gathered(rows)
    return DeviceOrHost(
        lambda: _brought(part.x, part.w).oversampling(whole.common.exponents), part.oversampling
    )


class DevicePassedOversampling(PassedOversampling):
    """Potentials of all rows, kept on the host: their blocks come to the device one by one.

    A block that the device cannot serve is the host's.
    """

    def lower(self, centers: np.ndarray) -> None:
        """Lower the potentials by new centres; totals and scale stay behind."""
        for rows, part in self._parts():
            try:
                block = _brought(part.x, part.w).oversampling(self.common.exponents)
                self.p[rows] = block.lowered(self.p[rows], centers)
            except REFUSALS:
                self._lower_part(rows, part, centers)

    def nearest(self, centers: np.ndarray) -> np.ndarray:
        """Which of these centres is nearest to each row."""
        labels = np.empty(len(self.p), dtype=np.int32)
        for rows, part in self._parts():
            try:
                block = _brought(part.x, part.w).oversampling(self.common.exponents)
                labels[rows] = block.nearest(centers)
            except REFUSALS:
                labels[rows] = part.oversampling().nearest(centers)
        return labels


def _brought(x: Any, w: np.ndarray | None) -> DeviceLloyd:
    """Bring rows to the current device."""
    import cupy as cp

    return DeviceLloyd(cp.asarray(x), None if w is None else cp.asarray(w))
