"""Directions of sparse rows, and their cosines with centroids: stored entries alone count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from kmeans_xp.backends.sparse import CsrRows, SparseBackend, padded
from kmeans_xp.blocks.directions import refuse_zero_row
from kmeans_xp.blocks.sparse_survey import survey_rows
from kmeans_xp.exact.unit import norm_excess, unit_rows

__all__ = ["row_cosines", "sparse_directions"]

# Entries that padded rows may take at a time.
_ENTRIES = 1 << 18


def sparse_directions(x: CsrRows, dtype: np.dtype[Any]) -> CsrRows:
    """Every row divided by its norm, with the bits of the dense rows (`exact.unit.unit_rows`).

    Raises
    ------
    ValueError
        For a row of zeros, NaN and infinity.
    """
    survey_rows(x, None)
    x = replace(x, data=x.data.astype(dtype, copy=False))
    filled = np.zeros(x.shape[0], dtype=bool)
    filled[x.row_of_entries()[x.data != 0]] = True
    zero = np.flatnonzero(~filled)
    if zero.size:
        refuse_zero_row(int(zero[0]))
    data = np.empty_like(x.data)
    for rows, values in _padded_blocks(x):
        unit = unit_rows(values)
        counts = x.counts[rows]
        stored = np.arange(values.shape[1]) < counts[:, None]
        starts = np.repeat(x.indptr[rows] - (np.cumsum(counts) - counts), counts)
        data[starts + np.arange(len(starts))] = unit[stored]
    return replace(x, data=data)


def row_cosines(
    backend: SparseBackend, x: CsrRows, points: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """All 1 − x·c of rows and float64 points of length 1; `columns` are these transposed."""
    distance = 1.0 - backend.products(x, columns)
    near = distance < 1e-2
    if not near.any():
        return distance
    excess, center_excess = np.empty(x.shape[0]), norm_excess(points)[0]
    for rows, values in _padded_blocks(x):
        excess[rows] = norm_excess(values)[0]
    for k in range(len(points)):
        rows = np.flatnonzero(near[:, k])
        squared = _squared_distances(x.take(rows), points[k])
        distance[rows, k] = 0.5 * (squared - (excess[rows] + center_excess[k]))
    return distance


def _squared_distances(x: CsrRows, point: np.ndarray) -> np.ndarray:
    """Accurate |x − c|² of rows near a point: every term is formed as such."""
    out = np.empty(x.shape[0])
    own = np.flatnonzero(point)
    step = max(1, _ENTRIES // max(1, min(x.shape[1], len(own) + int(x.counts.max(initial=1)))))
    for lo in range(0, len(out), step):
        part = x.take(slice(lo, min(lo + step, len(out))))
        both = np.union1d(own, part.indices)
        difference = part.dense(np.dtype(np.float64), both) - point[both]
        out[lo : lo + step] = np.einsum("ij,ij->i", difference, difference)
    return out


def _padded_blocks(x: CsrRows) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of rows with about equally many entries, and these entries with zeros appended."""
    counts = x.counts
    order = np.argsort(counts, kind="stable")
    hi = len(order)
    while hi:
        lo = max(0, hi - max(1, _ENTRIES // max(1, int(counts[order[hi - 1]]))))
        rows = order[lo:hi]
        yield rows, padded(x.take(rows))[0]
        hi = lo
