"""Potentials of k-means|| on the device, where centres come many at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from kmeans_xp.backends.cuda_iteration import Iteration
from kmeans_xp.backends.cuda_seeding import DevicePotential, Frame, seed_kernel
from kmeans_xp.exact.dyadic import Dyadic

__all__ = ["DeviceOversampling"]


class DeviceOversampling(DevicePotential):
    """Potentials that many centres lower in a pass: the kernels of an iteration find the nearest
    one of each row, and only the distance to that is measured.

    The parameters are those of `DevicePotential`.
    """

    _lower: Any = None

    def accept_all(self, rows: np.ndarray) -> None:
        """Add rows as centres."""
        with self._device, self._stream:
            self._lower_by(self._rows.on_host(rows), self._frame)

    def shares(self, rows: np.ndarray) -> np.ndarray:
        """For each of these centres the weight of the rows nearest to it: rn of the real Σ w·2^−W,
        2^W above every weight.
        """
        import cupy as cp

        with self._device, self._stream:
            labelled = self._labelled(self._rows.on_host(rows))
            if self._weight_exponent is None:
                counts = cp.bincount(labelled.labels, minlength=len(rows))
                return np.asarray(counts.get().astype(np.float64))
            labelled.update()
            levels = labelled.weight_levels.get()
        unit = int(self._rows.weight_grid.top[0]) - self._weight_exponent
        places = [unit - 24 - 32 * level for level in range(len(levels))]
        return np.asarray([_total(column, places) for column in levels.T.tolist()])

    # ---- for rows that are a block of more, by centres from anywhere

    def lowered(self, potentials: np.ndarray, centres: np.ndarray) -> np.ndarray:
        """Return potentials of the rows, given on the host, lowered by these centres."""
        import cupy as cp

        with self._device, self._stream:
            self._p[: self._rows.N] = cp.asarray(potentials)
            frame = Frame.around(self._rows, self._frame.exponent, centres)
            self._lower_by(centres, frame)
            return np.asarray(self._p[: self._rows.N].get())

    def nearest(self, centres: np.ndarray) -> np.ndarray:
        """Which of these centres is nearest to each row, ties to the first."""
        with self._device, self._stream:
            return np.asarray(self._labelled(centres).labels.get())

    # ---- passes

    def _labelled(self, centres: np.ndarray) -> Iteration:
        """Label all rows by the nearest of these centres; returns what did it."""
        import cupy as cp

        labels = cp.empty(self._rows.N, cp.int32)
        found = Iteration(self._rows, labels, len(centres), self._target, log=0)
        found.place(cp.asarray(centres + centres.dtype.type(0)))
        found.label()
        return found

    def _lower_by(self, centres: np.ndarray, frame: Frame) -> None:
        labelled, rows = self._labelled(centres), self._rows
        if self._lower is None:
            self._lower = seed_kernel("lower_potentials", rows, self._target)
        self._counters.fill(0)
        self._lower(
            self._blocks,
            *(rows.X, np.uint64(0) if rows.weights is None else rows.weights),
            *self.weight_factors(),
            *(np.int32(rows.N), np.int32(rows.D), np.float64(frame.scale)),
            *(labelled.centroids, labelled.labels),
            *(np.float64(frame.relative), np.float64(frame.flush)),
            *(self._p, self._counters[1:]),
            *(self._open, np.int32(self._capacity), self._counters),
        )
        counters, left = self._counted()
        self._settle_lowered(left, centres.astype(np.float64), counters)


def _total(levels: list[int], places: list[int]) -> float:
    """Σ levels·2^places, rounded once."""
    terms = zip(levels, places, strict=True)
    return float(sum((Dyadic(n, e) for n, e in terms), Dyadic()))
