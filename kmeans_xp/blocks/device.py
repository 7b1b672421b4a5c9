"""One array on a CUDA device: the iteration runs there, rare steps on the host."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np

from kmeans_xp.backends.convert import from_numpy, on_cpu
from kmeans_xp.backends.cuda import DeviceLloyd, DeviceUnsupported
from kmeans_xp.blocks.base import Oversampling, Potential, Step
from kmeans_xp.blocks.device_potential import DeviceOrHost
from kmeans_xp.blocks.memory import MemoryBlocks
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.grid import Grid
from kmeans_xp.exact.inertia import exact_inertia, exact_variance, shift_bounds
from kmeans_xp.exact.means import rounded_means
from kmeans_xp.exact.sums import ClusterSums

__all__ = ["DeviceBlocks", "DeviceUnsupported"]

# The device cuts sums into levels of this many bits.
_DEVICE_BITS = 32


class DeviceBlocks(MemoryBlocks):
    """A CuPy array and all that is kept on its device during a fit.

    The parameters are those of `MemoryBlocks`, x a cupy.ndarray.

    Raises
    ------
    DeviceUnsupported
        If this device has no kernels; the generic backend then does the work.
    """

    device: str | None = "cuda"

    def __init__(
        self,
        x: Any,
        w: np.ndarray | None,
        dtype: np.dtype[Any],
        like: Any,
    ) -> None:
        import cupy as cp

        super().__init__(x, w, dtype, like)
        with x.device:
            weights = None if w is None else cp.asarray(w)
            wide = x.dtype not in (cp.float16, cp.float32, cp.float64)
            self._data = x.astype(cp.float64) if wide else x
            self._loop = DeviceLloyd(self._data, weights)

    def place(self, centroids: np.ndarray) -> Any:
        """Handle of centroids on the device; labels are forgotten."""
        self._loop.algorithm = self.algorithm
        return self._loop.start(super().place(centroids))

    def fetch(self, handle: Any) -> np.ndarray:
        """Centroids on the host."""
        return self._loop.fetch(handle)

    def step(self, handle: Any) -> Step:
        """One iteration on the device; empty clusters are served on the host."""
        state = self._loop.step(handle)
        shift = (state.shift_low, state.shift_high)
        if not state.n_empty:
            return Step(state.centroids, state.changed, 0, shift, state.rechecked)
        old = self._loop.fetch(handle)
        new, relocated = self._relocated_means(handle, old)
        return Step(
            self._loop.upload(new),
            state.changed,
            relocated,
            shift_bounds(new, old),
            state.rechecked,
        )

    def assign(self, handle: Any) -> None:
        """Make the labels belong to these centroids."""
        self._loop.settle(handle)

    def settle(self, handle: Any) -> None:
        """Make labels and sums belong to these centroids."""
        self._loop.settle(handle)

    def settle_step(self, handle: Any) -> None:
        """Make the sums those that `step(handle)` made: the device has begun the next iteration."""
        self._loop.settle(handle)

    def labels(self) -> Any:
        """Labels in the namespace and on the device of the data."""
        return self._on_caller(self._loop.labels())

    def distinct_labels(self, labels: Any, n_clusters: int) -> int:
        """How many of the clusters have a row."""
        import cupy as cp

        if on_cpu(labels):
            return super().distinct_labels(labels, n_clusters)
        with self.x.device:
            counts = cp.bincount(cp.from_dlpack(labels), minlength=n_clusters)
            return int(cp.count_nonzero(counts))

    def potential(self, rows: np.ndarray | None = None, weighted: bool = True) -> Potential:
        """Potentials for k-means++ of all rows, or of those with increasing indices `rows`."""
        return DeviceOrHost(
            lambda: self._lloyd_of(rows, weighted).potential(self.common.exponents),
            lambda: self.part.potential(rows, weighted),
        )

    def oversampling(self, rows: np.ndarray | None = None, weighted: bool = True) -> Oversampling:
        """Potentials for k-means||, as `potential`."""
        return DeviceOrHost(
            lambda: self._lloyd_of(rows, weighted).oversampling(self.common.exponents),
            lambda: self.part.oversampling(rows, weighted),
        )

    def _lloyd_of(self, rows: np.ndarray | None, weighted: bool) -> DeviceLloyd:
        """Some of the rows, or all of them."""
        import cupy as cp

        if not weighted and self.w is not None:  # a sample without any weight: rare
            raise DeviceUnsupported("the device counts the weights")
        if rows is None:
            return self._loop
        with self.x.device:
            w = None if self.w is None else cp.asarray(self.w[rows])
            return DeviceLloyd(self._data[cp.asarray(rows)], w)

    def inertia(self, handle: Any) -> float:
        """Exact inertia of the settled assignment, rounded once."""
        squares, centroids = self.squares(self.w is not None), self._loop.fetch(handle)
        return float(exact_inertia(squares, self._device_sums(), centroids))

    def measure_squares(self, weighted: bool) -> Dyadic:
        """Exact Σ w|x|² (or Σ |x|²) over all rows."""
        try:
            levels, exponents = self._loop.column_sums(power=2, weighted=weighted)
        except DeviceUnsupported:  # squares span twice the bits
            return super().measure_squares(weighted)
        terms = zip(levels.ravel().tolist(), exponents.ravel().tolist(), strict=True)
        return sum((Dyadic(n, e) for n, e in terms if n), Dyadic())

    def measure_variance(self) -> Fraction:
        """Mean over features of the variance of the rows (unweighted), exactly."""
        levels, exponents = self._loop.column_sums(power=1, weighted=False)
        sums = self._as_sums(levels[:, None], exponents, np.array([[self.n_rows]]), None)
        return exact_variance(self.squares(False), sums, self.n_rows)

    def _relocated_means(self, handle: Any, old: np.ndarray) -> tuple[np.ndarray, int]:
        """Redo the means of this iteration with rows given to the empty clusters."""
        sums = self._device_sums()
        empty = sums.empty()
        rows = self._loop.farthest(handle, len(empty))
        if not rows.size:
            return rounded_means(sums, old), 0
        labels = self._loop.labels()
        with self.x.device:
            source = labels[from_numpy(rows, labels)].get()
        target = empty[: len(rows)]
        w = None if self.w is None else self.w[rows]
        x = self.rows(rows)
        for lo in range(0, len(rows), sums.grid.rows):
            some = slice(lo, lo + sums.grid.rows)
            part = None if w is None else w[some]
            sums.add(x[some], part, source[some], -1)
            sums.add(x[some], part, target[some], 1)
        return rounded_means(sums, old), len(rows)

    def _device_sums(self) -> ClusterSums:
        """The device's exact sums as host sums on the same levels."""
        levels, exponents, weight_levels, weight_exponents = self._loop.cluster_sums()
        top = None if self.w is None else int(weight_exponents[0])
        return self._as_sums(levels, exponents, weight_levels, top)

    def _as_sums(
        self,
        levels: np.ndarray,
        exponents: np.ndarray,
        weight_levels: np.ndarray,
        weight_top: int | None,
    ) -> ClusterSums:
        top = 0 if weight_top is None else weight_top + _DEVICE_BITS
        own = self.common.grid
        grid = Grid(
            exponents[0] + _DEVICE_BITS - top, top, _DEVICE_BITS, own.rows, own.narrow, own.wide
        )
        sums = ClusterSums(levels.shape[1], grid, weight_top is not None)
        sums.values, sums.weights = list(levels), list(weight_levels)
        return sums

    def _on_caller(self, labels: Any) -> Any:
        """Hand device labels to the caller's namespace, through the host if the data are there."""
        import cupy as cp
        from array_api_compat import array_namespace

        if isinstance(self.like, cp.ndarray):
            return labels
        if on_cpu(self.like):
            return from_numpy(labels.get(), self.like)
        return array_namespace(self.like).from_dlpack(labels)
