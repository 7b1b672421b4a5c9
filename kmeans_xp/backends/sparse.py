"""Compressed sparse rows on the host: what is stored is touched, what is not stays zero.

Rows are made dense only a few at a time, where centroids are rows of the data.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kmeans_xp.backends import forced_generic
from kmeans_xp.backends.cpu import NumpyBackend
from kmeans_xp.backends.generic import chosen_block_rows
from kmeans_xp.exact.sums import ClusterSums

__all__ = ["CsrRows", "SparseBackend", "padded"]

# Scores, or stored values, that a block holds.
_BLOCK_ENTRIES = 1 << 19
# Values that exact sums take at a time.
_SUM_ENTRIES = 1 << 17
# The compiled kernel takes this many scores at a time.
_PADDING = 8


@dataclass(frozen=True)
class CsrRows:
    """Rows of a sparse matrix.

    Attributes
    ----------
    data : ndarray of float32 or float64, shape (nnz,)
    indices : ndarray of int32 or int64, shape (nnz,)
        Columns, no two equal within a row, in any order.
    indptr : ndarray of int64, shape (N + 1,)
        Where each row starts and ends.
    shape : tuple of int
    """

    data: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray
    shape: tuple[int, int]

    @property
    def counts(self) -> np.ndarray:
        """Entries stored in each row."""
        return np.diff(self.indptr)

    def row_of_entries(self) -> np.ndarray:
        """For each entry the row it is in."""
        return np.repeat(np.arange(self.shape[0]), self.counts)

    def take(self, rows: slice | np.ndarray) -> CsrRows:
        """Some rows: a view for a slice, else a copy of their entries."""
        if isinstance(rows, slice):
            lo, hi = int(self.indptr[rows.start]), int(self.indptr[rows.stop])
            indptr = self.indptr[rows.start : rows.stop + 1] - lo
            where: slice | np.ndarray = slice(lo, hi)
        else:
            counts = self.indptr[rows + 1] - self.indptr[rows]
            indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
            where = np.repeat(self.indptr[rows] - indptr[:-1], counts) + np.arange(indptr[-1])
        shape = (len(indptr) - 1, self.shape[1])
        return CsrRows(self.data[where], self.indices[where], indptr, shape)

    def dense(self, dtype: np.dtype[Any], columns: np.ndarray | None = None) -> np.ndarray:
        """Rows with their zeros: all columns, or increasing ones that hold all that is stored."""
        places, width = self.indices, self.shape[1]
        if columns is not None:
            places, width = np.searchsorted(columns, places), len(columns)
        out = np.zeros((self.shape[0], width), dtype=dtype)
        out[self.row_of_entries(), places] = self.data
        return out


def padded(x: CsrRows) -> tuple[np.ndarray, np.ndarray]:
    """Values and columns of sparse rows, shape (n, L), with zeros appended."""
    counts = x.counts
    values = np.zeros((len(counts), int(counts.max(initial=0))), dtype=x.data.dtype)
    columns = np.zeros(values.shape, dtype=np.int64)
    each = x.row_of_entries()
    places = np.arange(len(each)) - x.indptr[each]
    values[each, places], columns[each, places] = x.data, x.indices
    return values, columns


class SparseBackend(NumpyBackend):
    """Sparse rows: the threads of the NumPy backend, and loops over stored entries."""

    def __init__(self, x: CsrRows) -> None:
        super().__init__(x.data)
        if forced_generic():
            self._fast = None
        self.mean_entries = max(1, len(x.data) // x.shape[0])

    def block_rows(self, n_features: int, n_clusters: int) -> int:
        """Rows a block, by how many values a row stores."""
        chosen = chosen_block_rows()
        if chosen is not None:
            return chosen
        entries = _BLOCK_ENTRIES // max(1, self.n_threads // 2)
        return int(np.clip(entries // max(self.mean_entries, n_clusters), 64, 16384))

    def gather(self, x: Any, rows: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """Rows with the given indices, dense, in the working dtype."""
        return x.take(rows).dense(dtype)

    def products(self, x: CsrRows, centers: np.ndarray) -> np.ndarray:
        """Products of rows with the columns of `centers`, float64 of shape (D, m)."""
        if self._fast is not None:
            from kmeans_xp.backends import numba_sparse

            return numba_sparse.products(x, centers)
        from scipy.sparse import csr_array

        rows = csr_array((x.data, x.indices, x.indptr), shape=x.shape)
        return np.asarray(rows @ centers)

    def scores(
        self, x: CsrRows, centers: np.ndarray, bias: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Index of the best score x·c + bias of every row, and its lead over the second best.

        Parameters
        ----------
        x : CsrRows
        centers : ndarray of float32 or float64, shape (D, m)
            Sums are formed in this dtype.
        bias : ndarray, shape (m,)
            In the same dtype.
        """
        if self._fast is not None:
            from kmeans_xp.backends import numba_sparse

            return numba_sparse.scores(x, centers, bias)
        from scipy.sparse import csr_array

        rows = csr_array((x.data, x.indices, x.indptr), shape=x.shape)
        scores = np.asarray(rows @ centers)
        scores += bias
        every = np.arange(len(scores))
        best = scores.argmax(axis=1)
        top = scores[every, best]
        scores[every, best] = np.finfo(scores.dtype).min
        return best.astype(np.int32), top - scores[every, scores.argmax(axis=1)]

    def packed(self, centers: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centres, shape (m, D), and their bias as `scores` wants them."""
        width = len(bias) if self._fast is None else -(-len(bias) // _PADDING) * _PADDING
        columns = np.zeros((centers.shape[1], width), dtype=centers.dtype)
        columns[:, : len(bias)] = centers.T
        offsets = np.full(width, np.finfo(centers.dtype).min, dtype=centers.dtype)
        offsets[: len(bias)] = bias
        return columns, offsets

    def add_rows(
        self,
        x: CsrRows,
        rows: np.ndarray,
        w: np.ndarray | None,
        labels: np.ndarray,
        signs: np.ndarray,
        sums: ClusterSums,
    ) -> None:
        """Add rows (sign 1) to the levels of exact sums or take them away (-1), weights aside.

        No two threads may work on the same clusters at a time.
        """
        first_level = 0
        with sums.lock:
            sums.value_level(0)  # there even if no row stores anything
        if self._fast is not None and w is None:
            from kmeans_xp.backends import numba_sparse

            left, first_level = numba_sparse.add_rows(x, rows, labels, signs, sums)
            rows, labels, signs = rows[left], labels[left], signs[left]
        counts = np.concatenate([[0], np.cumsum(x.indptr[rows + 1] - x.indptr[rows])])
        lo = 0
        while lo < len(rows):
            hi = int(np.searchsorted(counts, counts[lo] + _SUM_ENTRIES, side="right")) - 1
            part = slice(lo, max(hi, lo + 1))
            some = x.take(rows[part])
            each = some.row_of_entries()
            weights = None if w is None else w[part][each]
            clusters, sign = labels[part][each], signs[part][each]
            _add_entries(some, weights, clusters, sign, sums, first_level)
            lo = part.stop


def _add_entries(
    x: CsrRows,
    w: np.ndarray | None,
    clusters: np.ndarray,
    signs: np.ndarray,
    sums: ClusterSums,
    first_level: int,
) -> None:
    """Add every stored entry to the levels of its cluster's sum, from `first_level` on."""
    if not len(x.data):
        return
    grid = replace(sums.grid, exponents=sums.grid.exponents[x.indices][:, None])
    where = clusters.astype(np.int64) * sums.shape[1] + x.indices
    for level, integers in grid.value_terms(x.data.astype(np.float64)[:, None], w):
        if level >= first_level:
            with sums.lock:
                flat = sums.value_level(level).reshape(-1)
            np.add.at(flat, where, integers[:, 0].astype(np.int64) * signs)
