"""Tiny problems on a CUDA device: a block of threads fits each of them whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_cupy_array

from kmeans_xp.backends import forced_generic
from kmeans_xp.backends.convert import (
    centroid_dtype,
    from_numpy,
    is_sparse,
    on_cpu,
    zero_copy_numpy,
)
from kmeans_xp.backends.cuda_kernels import Target
from kmeans_xp.backends.cuda_whole import DeviceUnsupported, Found, Problems, fit_whole, suits
from kmeans_xp.backends.devices import on_cuda_device
from kmeans_xp.blocks.open import as_cupy
from kmeans_xp.blocks.tiny import held_by_float64

__all__ = ["DeviceSolver", "device_solver"]


def device_solver(x: Any, device: str | None = None) -> DeviceSolver | None:
    """Solver for problems in this array; None where they are not computed on a CUDA device.

    Parameters
    ----------
    x : array
        Rows of one problem or of many.
    device : str or None
        As for `open_blocks`: "cuda" and "cuda:N" bring rows of the host there.
    """
    host = None if is_sparse(x) else zero_copy_numpy(x)
    if forced_generic() or is_sparse(x) or (device is None and host is not None):
        return None
    with on_cuda_device(device, x):
        rows = as_cupy(x) if host is None else host  # rows of the host go there if one is tiny
        if rows is None:
            return None
        import cupy as cp

        place: Any = rows.device if host is None else cp.cuda.Device()
        try:
            with place:  # no kernel here needs the newest tensor cores
                return DeviceSolver(rows, x, place, Target.current(engine="mma"))
        except DeviceUnsupported:
            return None


class DeviceSolver:
    """Fits and labels tiny problems; those that it cannot decide it leaves.

    Parameters
    ----------
    x : cupy.ndarray or ndarray, shape (..., D)
        Rows, one problem after the other; nothing is copied before a fit.
    like : array
        What the caller gave.
    device : cupy.cuda.Device
    target : Target
        What this device can do.
    """

    def __init__(self, x: Any, like: Any, device: Any, target: Target) -> None:
        self._x, self._like, self._device, self._target = x, like, device, target
        known = x.dtype in (np.float16, np.float32, np.float64)
        self._dtype = np.dtype(x.dtype if known else centroid_dtype(like))

    @property
    def refusable(self) -> bool:
        """Whether the values may be some that float64 does not hold: a fit refuses these."""
        return not held_by_float64(self._x.dtype)

    def suits(self, sizes: np.ndarray, clusters: np.ndarray, weighted: bool) -> np.ndarray:
        """Which problems are tiny enough."""
        d, itemsize = self._x.shape[-1], self._dtype.itemsize
        return suits(sizes, clusters, d, itemsize, weighted, self._target)

    def fit(
        self,
        w: np.ndarray | None,
        first: np.ndarray,
        sizes: np.ndarray,
        clusters: np.ndarray,
        which: np.ndarray,
        start: np.ndarray | str,
        streams: np.ndarray | None,
        n_init: int,
        max_iter: int,
        tol: float,
    ) -> Found | None:
        """Fit those of the problems that `which` names; None if the device has no kernel for that.

        Parameters
        ----------
        w : ndarray, or None
            Weights of the rows.
        first, sizes, clusters : ndarray of int64, shape (B,)
            First row, rows and clusters of each problem.
        which : ndarray of int64, shape (n,)
        start : ndarray of shape (B, K, D) or (1, K, D), or name
        streams : ndarray of uint64, shape (B, 4), or None
            Where each problem's random stream begins.
        n_init, max_iter, tol
            As for `kmeans`.

        Returns
        -------
        Found
            With labels in the shape of the rows.
        """
        import cupy as cp

        with self._device:
            weights = None if w is None else cp.asarray(w.reshape(-1).astype(np.float64))
            x = cp.ascontiguousarray(cp.asarray(self._x), dtype=self._dtype)
            problems = Problems(x.reshape(-1, x.shape[-1]), weights, first, sizes, clusters)
            settings = n_init, max_iter, tol
            try:
                found = fit_whole(problems, which, start, streams, *settings, self._target)
            except DeviceUnsupported:
                return None
            return replace(found, labels=found.labels.reshape(x.shape[:-1]))

    def on_caller(self, values: Any) -> Any:
        """Hand a device array to the caller's namespace, through the host if the rows are there."""
        if is_cupy_array(self._like):
            return values
        if on_cpu(self._like):
            return from_numpy(values.get(), self._like)
        return array_namespace(self._like).from_dlpack(values)
