"""A pass over rows that are kept in cells (`Backend.cells`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from kmeans_xp.backends import Backend
from kmeans_xp.exact.sums import ClusterSums

__all__ = ["label_in_cells"]


def label_in_cells(
    backend: Backend,
    cells: Any,
    ranges: Iterable[tuple[int, int]],
    labels: np.ndarray,
    w: np.ndarray | None,
    sums: ClusterSums | None,
) -> tuple[int, list[np.ndarray]]:
    """Label the rows that their cells can, and bring the sums up to date.

    Parameters
    ----------
    backend : Backend
    cells : object
        What `Backend.cells` gave, made ready for the centroids.
    ranges : iterable of tuple
        Some of `cells.ranges`; other threads may take others.
    labels : ndarray of int32, shape (N,)
        Of all rows, changed in place.
    w : ndarray, shape (N,), or None
        Weights of all rows.
    sums : ClusterSums or None

    Returns
    -------
    changed : int
        Rows that have another label now.
    left : list of ndarray of int64
        Rows of each range that their cells cannot label.
    """
    told = [cells.assign(*part, labels) for part in ranges]
    if not told:
        return 0, []
    moved = np.concatenate([part.moved for part in told])
    if sums is not None and moved.size:
        weights = None if w is None else w[cells.order[moved]]
        old = np.concatenate([part.old for part in told])
        backend.move_rows(cells.x, moved, weights, old, cells.known, sums)
    return len(moved), [part.left for part in told]
