"""Distances of sparse rows: |x|² − 2x·c + |c|² in float64 with its bound, exactly where needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kmeans_xp.backends.sparse import CsrRows, SparseBackend
from kmeans_xp.blocks.common import Far
from kmeans_xp.exact.bounds import FLOAT64, TINY64, gamma
from kmeans_xp.exact.potentials import certified_products, rounded_products

if TYPE_CHECKING:
    from kmeans_xp.blocks.sparse import SparseBlocks

__all__ = ["exact_products", "far_rows", "row_distances", "squared_with_error"]

# Entries that rows made dense may take at a time.
_ENTRIES = 1 << 18


def squared_with_error(
    products: np.ndarray,
    squares: np.ndarray,
    center_squares: np.ndarray,
    counts: np.ndarray,
    n_features: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances from float64 sums over `counts` terms, and how far off they may be.

    The squares of the centres are sums over `n_features` terms.
    """
    size = squares + center_squares
    squared = np.maximum(size - 2.0 * products, 0.0)
    # 2|x·c| is at most |x|² + |c|²
    error = (2.01 * FLOAT64) * (counts + 10) * size + gamma(
        n_features + 4, FLOAT64
    ) * center_squares
    return squared, error * (1 + 1e-6) + TINY64 * (counts + 8)


def exact_products(
    x: CsrRows,
    center: np.ndarray,
    w: np.ndarray | None,
    exponent: int,
    weight_exponent: int = 0,
) -> np.ndarray:
    """`rounded_products` of sparse rows with one centre, on the columns that either has."""
    out = np.empty(x.shape[0])
    own = np.flatnonzero(center)
    most = int(x.counts.max(initial=1))
    step = 4096
    while step > 1 and step * min(x.shape[1], len(own) + step * most) > _ENTRIES:
        step //= 2
    for lo in range(0, len(out), step):
        rows = slice(lo, min(lo + step, len(out)))
        part = x.take(rows)
        columns = np.union1d(own, part.indices)
        dense = part.dense(center.dtype, columns)
        points = np.broadcast_to(center[columns], dense.shape)
        weights = None if w is None else w[rows]
        out[rows] = rounded_products(dense, points, weights, exponent, weight_exponent)
    return out


def row_distances(
    backend: SparseBackend,
    x: CsrRows,
    squares: np.ndarray,
    points: np.ndarray,
    columns: np.ndarray,
) -> np.ndarray:
    """All distances of rows to the float64 points; `columns` are these transposed."""
    center_squares = np.einsum("ij,ij->i", points, points)
    size = squares[:, None] + center_squares
    squared = size - 2.0 * backend.products(x, columns)
    distance = np.sqrt(np.maximum(squared, 0.0))
    # a squared distance this far below its terms has lost digits: take differences first
    for k in range(len(points)):
        poor = ~((squared[:, k] > 1e-2 * size[:, k]) & (size[:, k] > 1e-250))
        distance[poor, k] = _differences(x.take(np.flatnonzero(poor)), points[k])
    return distance


def _differences(x: CsrRows, point: np.ndarray) -> np.ndarray:
    """Accurate distances of rows to one point, on the columns that either has."""
    out = np.empty(x.shape[0])
    own = np.flatnonzero(point)
    step = max(1, _ENTRIES // max(1, min(x.shape[1], len(own) + int(x.counts.max(initial=1)))))
    for lo in range(0, len(out), step):
        part = x.take(slice(lo, min(lo + step, len(out))))
        columns = np.union1d(own, part.indices)
        difference = part.dense(np.dtype(np.float64), columns) - point[columns]
        unit = np.abs(difference).max(axis=1, keepdims=True, initial=0.0)
        unit[unit == 0] = 1.0
        norms = np.sqrt(np.square(difference / unit).sum(axis=1))
        out[lo : lo + step] = norms * unit[:, 0]
    return out


def far_rows(blocks: SparseBlocks, centroids: np.ndarray, labels: np.ndarray, count: int) -> Far:
    """Up to `count` rows that empty clusters may take."""
    exponent = blocks.common.exponent_with(centroids)
    shift = blocks.safe_exponent(centroids)
    unit = 2 * (shift - exponent)
    points = np.ldexp(centroids.astype(np.float64), -shift)
    center_squares = np.einsum("ij,ij->i", points, points)
    x, squares = blocks.scaled(shift), blocks.squares_of_rows(shift)
    best = Far.of(np.empty(0), labels[:0], 0)
    for lo, hi in blocks.ranges(16):
        part, own = x.take(slice(lo, hi)), labels[lo:hi]
        each = part.row_of_entries()
        products = np.bincount(each, part.data * points[own[each], part.indices], hi - lo)
        squared, error = squared_with_error(
            products, squares[lo:hi], center_squares[own], part.counts, x.shape[1]
        )
        squared, error = np.ldexp(squared, unit), np.ldexp(error, unit) + TINY64
        p, certain = certified_products(squared, error, None)
        if blocks.w is not None:
            certain |= blocks.w[lo:hi] == 0
            p[blocks.w[lo:hi] == 0] = 0.0
        known = np.concatenate([best.values, p[certain]])
        least = np.partition(known, -count)[-count] if len(known) >= count else 0.0
        hopeless = (squared + error) * (1 + 2.0**-11) < least
        p[hopeless] = 0.0
        for i in np.flatnonzero(~certain & ~hopeless).tolist():
            one = blocks.x.take(slice(lo + i, lo + i + 1))
            p[i] = exact_products(one, centroids[own[i]], None, exponent)[0]
        best = Far.best([best, Far.of(p, own, lo)], count)
    return best
