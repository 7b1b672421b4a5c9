"""Bounds of the rows' distances on the device, and when it pays to keep them.

Hamerly's bounds, as in `pruning`, but a row keeps a single number, which says when its margin ends:
4 bytes, and 4 for the list of rows that are not settled. An iteration that keeps bounds assigns
those rows alone:

    measure_drift   how far every centroid has moved, and what that costs the rows of each cluster
    list_unsettled  rows whose margin has ended go to a list
    certify         the listed rows (all, where there are no bounds yet); they get new bounds
    recheck         the open ones of them get tighter bounds
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kmeans_xp.backends.cuda_data import Rows
from kmeans_xp.backends.cuda_kernels import Kernel, Target, bounds_variant

__all__ = ["BYTES_A_ROW", "NULL", "Choice", "RowBounds", "most_listed"]

NULL = np.uint64(0)
BYTES_A_ROW = 8  # when its margin ends, and a place in the list

# With "auto" bounds are tried once fewer rows than this change their label, and some iterations
# have passed: on an H100 an attempt that fails costs up to one plain iteration.
_FEW_CHANGES = 0.1
_FIRST_TRY = 3
_PAUSE, _LONGEST_PAUSE = 8, 64
# What bounds cost: bytes that the device moves to look at a row, and how much more a row that is
# assigned takes than in a plain pass.
_LOOKED_AT = 8.0
_LISTED = 1.2
# Products of half-precision numbers in the time of one byte: 700 TFLOP/s against 2.6 TB/s.
_PRODUCTS = 135.0


def most_listed(Dp: int, K: int) -> float:
    """Return the part of the rows up to which a pass over listed rows pays.

    Parameters
    ----------
    Dp : int
        Columns of the half-precision copy.
    K : int
        Number of clusters.
    """
    row = 2 * Dp + 12 + Dp * K / _PRODUCTS
    return max(0.0, 1 - _LOOKED_AT / row) / _LISTED


class RowBounds:
    """The memory of the bounds and the kernels that look at them.

    Parameters
    ----------
    rows : Rows
    K : int
        Number of clusters.
    target : Target
    used : bool, default True
        Whether they stay on the device for the next iteration; else they are for the host.

    Attributes
    ----------
    values : cupy.ndarray, shape (N,) or (N, 2)
        What `passed` of its label must not reach while a row is settled; or, for the host, an upper
        bound of the distance to its own centroid and a lower bound of that to any other, scaled as
        the half-precision copies are.
    passed : cupy.ndarray, shape (K,), or NULL
        What the margins of the rows of each cluster have lost.
    list : cupy.ndarray or NULL
        Rows that the certified pass takes, `n_todo` of the state.
    """

    def __init__(self, rows: Rows, K: int, target: Target, *, used: bool = True) -> None:
        import cupy as cp

        self._rows, self._K, self._sms = rows, K, target.multiprocessors
        self.passed: Any = NULL
        self.list: Any = NULL
        if not used:
            self.values = cp.empty((rows.N, 2), cp.float32)
            return
        self.values, self.list = cp.empty(rows.N, cp.float32), cp.empty(rows.N, cp.int32)
        self.passed, self._total = cp.empty(K, cp.float32), cp.empty(K, cp.float64)
        self._known = cp.zeros((K, rows.D), cp.float64 if rows.bits == 64 else cp.float32)
        self._drift = cp.empty(K, cp.float32)
        self._widest = cp.zeros(4, cp.int32)
        kernels = bounds_variant(rows.bits)
        self._measure_drift = Kernel(kernels, "measure_drift", target, threads=256)
        self._list_unsettled = Kernel(kernels, "list_unsettled", target, threads=512)

    def look(self, centroids: Any, labels: Any, control: Any, state: Any) -> None:
        """Enqueue what makes the list for these centroids."""
        N = np.int32(self._rows.N)
        self._measure_drift(
            -(-self._K // 8),
            *(centroids, self._known, np.int32(self._K), np.int32(self._rows.D)),
            *(np.float64(self._rows.scale), N, self._drift, self._total, self.passed),
            *(self._widest, control, state),
        )
        self._list_unsettled(
            min(4 * self._sms, -(-self._rows.N // 2048)),
            *(labels, self.values, N, self.passed, self.list, state),
        )


class Choice:
    """Whether the next iteration keeps bounds. The bits are the same either way.

    Parameters
    ----------
    algorithm : {"auto", "lloyd", "hamerly", "elkan"}
        "lloyd" never does, "auto" while they settle enough rows, the others always.
    n_rows : int
    most : float
        Part of the rows up to which a list of them pays.
    """

    def __init__(self, algorithm: str, n_rows: int, most: float) -> None:
        self.bounded = algorithm not in ("auto", "lloyd")
        self._free = algorithm == "auto"
        self._n_rows, self._most = n_rows, most
        self._wait, self._pause, self._made = _FIRST_TRY, _PAUSE, 0

    def refuse(self) -> None:
        """Keep no bounds from now on: there is no memory for them."""
        self.bounded = self._free = False

    def saw(self, n_changed: int, n_listed: int | None, *, bounded: bool) -> None:
        """Take note of an iteration.

        Parameters
        ----------
        n_changed : int
            Rows whose label changed.
        n_listed : int or None
            Rows that bounds did not settle; None where there were none to use.
        bounded : bool
            Whether the iteration kept bounds.
        """
        if not self._free:
            return
        if not bounded:  # one that was queued before the last decision may follow it
            self._wait = max(self._wait - 1, 0)
            few = n_changed < _FEW_CHANGES * self._n_rows
            self.bounded = self.bounded or (few and not self._wait)
            return
        # bounds made twice without being used are lost every time, to centroids the host has moved
        self._made = self._made + 1 if n_listed is None else 0
        useless = self._made > 1 if n_listed is None else n_listed > self._most * self._n_rows
        if self.bounded and useless:
            self.bounded, self._made = False, 0
            self._wait, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
