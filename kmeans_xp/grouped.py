"""Rows by cluster: sums over clusters of distances between rows, and to the centroids.

Everything is computed in float64, in the namespace and on the device of the data (on the host where
that has no float64), from differences of nearby rows, so that an offset costs no digits. The
differences, not the rows, are scaled by a power of two, so that a spread far below the offset does
not underflow.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from kmeans_xp.backends import backend_for, forced_generic
from kmeans_xp.backends.abilities import has_float64
from kmeans_xp.backends.convert import from_numpy, on_cpu, to_numpy, zero_copy_numpy
from kmeans_xp.blocks.survey import survey

__all__ = [
    "CLOSER",
    "GroupedRows",
    "dispersion",
    "distance_sums",
    "in_float64",
]

# Rows and columns of a block of distances, on a CPU and on a device.
_BLOCK, _DEVICE_BLOCK = (256, 1024), (2048, 8192)
# |x - y|² from a matrix product has lost digits below this fraction of |x|²: take differences.
_CANCELS = 2.3 / 256
# Values that the rows of those differences may hold.
_PAIR_ENTRIES = 1 << 18
# Distances below 2**-this are taken again in a scale that is larger by as much.
CLOSER = 400
# Differences beyond 2**this in a closer look belong to clusters that are out of reach.
_OUT_OF_REACH = 100


class GroupedRows:
    """Rows by cluster, in float64, and a scale for their differences without overflow.

    Parameters
    ----------
    x : array, shape (N, D)
        Validated data.
    labels : ndarray, shape (N,)
        On the host.
    unit : bool
        Bring every row to length 1.
    """

    def __init__(self, x: Any, labels: np.ndarray, unit: bool = False) -> None:
        try:
            names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
        except TypeError as error:
            raise TypeError(f"labels must be of one kind that can be sorted: {error}") from None
        if not 1 < len(names) < len(labels):
            raise ValueError(
                f"Number of labels is {len(names)}. Valid values are 2 to n_samples - 1 (inclusive)"
            )
        self.codes, self.counts = codes.reshape(-1), counts
        self.order = np.argsort(self.codes, kind="stable")
        self.x = in_float64(x)
        self.xp = array_namespace(self.x)
        self.backend = backend_for(self.x)
        self.block = _BLOCK if on_cpu(self.x) else _DEVICE_BLOCK
        with self.backend.session():
            seen = survey(self.backend, self.x, None)
        exponent = math.frexp(float(seen.largest.max()))[1]
        # small values are scaled up, which is exact; only the largest of all are scaled down
        step = -max(exponent, -1000) if exponent < 0 else -128 if exponent > 900 else 0
        self._step = math.ldexp(1.0, step)
        self.unit = unit
        if unit:
            self._check_directions()
        self.exponent = self._fitting_exponent()

    def differences(self, rows: Any, others: Any, closer: int = 0) -> Any:
        """Rows minus others, scaled; in a closer look those out of reach are cut off."""
        scaled = (rows - others) * math.ldexp(1.0, min(self.exponent + closer, 1000))
        if not closer:
            return scaled
        limit = 2.0**_OUT_OF_REACH
        return self.xp.clip(scaled, -limit, limit)

    def _fitting_exponent(self) -> int:
        """Exponent that brings the largest difference to the first row near 1."""
        xp, first, largest = self.xp, self.rows(self.order[:1])[:1, :], 0.0
        for index in self.chunks(max(self.block[1], _PAIR_ENTRIES // int(self.x.shape[1]))):
            largest = max(largest, float(xp.max(xp.abs(self.rows(index) - first))))
        return min(max(-math.frexp(largest)[1], -1000), 1000)

    def rows(self, index: np.ndarray) -> Any:
        """Rows in float64, far from overflow; outside NumPy the last one is repeated to a power of
        two, because JAX compiles for every shape.
        """
        if not isinstance(self.x, np.ndarray):
            count = 1 << max(len(index) - 1, 0).bit_length()
            index = from_numpy(np.pad(index, (0, count - len(index)), mode="edge"), self.x)
        xp = self.xp
        rows = xp.astype(xp.take(self.x, index, axis=0), xp.float64)
        if self._step != 1.0:
            rows = rows * self._step
        if not self.unit:
            return rows
        rows = rows / xp.max(xp.abs(rows), axis=1, keepdims=True)
        return rows / xp.sqrt(xp.sum(rows * rows, axis=1, keepdims=True))

    def membership(self, index: np.ndarray, n_padded: int) -> tuple[slice, Any]:
        """Which clusters these rows (in order of cluster) belong to, and the one-hot matrix."""
        codes = self.codes[index]
        lo, hi = int(codes[0]), int(codes[-1]) + 1
        one_hot = np.zeros((n_padded, hi - lo))
        one_hot[np.arange(len(index)), codes - lo] = 1.0
        return slice(lo, hi), from_numpy(one_hot, self.x)

    def chunks(self, size: int) -> Iterator[np.ndarray]:
        """Indices of the rows in order of cluster, some at a time."""
        for lo in range(0, len(self.order), size):
            yield self.order[lo : lo + size]

    def clusters(self) -> list[np.ndarray]:
        """Indices of the rows in blocks that stay within a cluster unless clusters are small."""
        size = self.block[0]
        cuts = [0]
        for end in np.cumsum(self.counts).tolist():
            if end - cuts[-1] >= size // 4 or end == len(self.order):
                cuts.append(end)
        return [
            self.order[i : min(i + size, hi)]
            for lo, hi in itertools.pairwise(cuts)
            for i in range(lo, hi, size)
        ]

    def close(
        self, rows: np.ndarray, larger: np.ndarray, root: bool, closer: int
    ) -> list[np.ndarray]:
        """Rows, by cluster, that need a look `CLOSER` still: their distances may have underflowed.

        `larger` is the largest mean (squared) distance that their coefficients depend on.
        """
        if self.exponent + closer >= 1000:  # nothing is smaller
            return []
        several = self.counts[self.codes[rows]] > 1
        near = rows[several & (larger < 2.0 ** (-CLOSER if root else -2 * CLOSER))]
        codes = self.codes[near]
        return [near[codes == k] for k in np.unique(codes)]

    def _check_directions(self) -> None:
        xp, n_rows, size = self.xp, len(self.order), self.block[1]
        for lo in range(0, n_rows, size):
            block = xp.astype(self.x[lo : min(lo + size, n_rows), :], xp.float64)
            zero = to_numpy(xp.all(block == 0, axis=1))
            if zero.any():
                raise ValueError(
                    f"X[{lo + int(np.argmax(zero))}] is zero: it has no direction, which "
                    "metric='cosine' needs. Remove such rows first."
                )


def in_float64(x: Any) -> Any:
    """Return X where it can be computed in float64: itself, or a view or copy as NumPy."""
    host = None if forced_generic() else zero_copy_numpy(x)
    if host is not None:
        return host
    return x if has_float64(array_namespace(x), x) else to_numpy(x)


def distance_sums(data: GroupedRows, index: np.ndarray, root: bool, closer: int = 0) -> np.ndarray:
    """Sum of the (squared) distances of some rows to the rows of each cluster, on the host.

    They are in a scale of the data, times 2**closer: then clusters out of reach may be any far.
    """
    xp = data.xp
    rows = data.rows(index)
    # any center will do: a near one leaves few distances to do again
    center = rows[:1, :] + xp.mean(rows - rows[:1, :], axis=0, keepdims=True)
    rows = data.differences(rows, center, closer)
    squares = xp.sum(rows * rows, axis=1, keepdims=True)
    left = xp.concat([-2.0 * rows, squares, xp.ones_like(squares)], axis=1)
    near = _CANCELS * squares
    sums = np.zeros((len(index), len(data.counts)))
    for columns in data.chunks(data.block[1]):
        others = data.differences(data.rows(columns), center, closer)
        squares = xp.sum(others * others, axis=1, keepdims=True)
        right = xp.concat([others, xp.ones_like(squares), squares], axis=1)
        distances = xp.matmul(left, xp.matrix_transpose(right))
        again = distances <= near
        distances = xp.where(again, xp.zeros_like(distances), distances)
        clusters, one_hot = data.membership(columns, int(others.shape[0]))
        part = xp.matmul(xp.sqrt(distances) if root else distances, one_hot)
        sums[:, clusters] += to_numpy(part)[: len(index)]
        if bool(xp.any(again)):
            pairs = np.nonzero(to_numpy(again)[: len(index), : len(columns)])
            _add_pairs(data, index, columns, pairs, root, closer, sums)
    return sums


def _add_pairs(
    data: GroupedRows,
    index: np.ndarray,
    columns: np.ndarray,
    pairs: tuple[np.ndarray, ...],
    root: bool,
    closer: int,
    sums: np.ndarray,
) -> None:
    """Add the distances of these pairs of rows, from their differences."""
    xp = data.xp
    different = index[pairs[0]] != columns[pairs[1]]
    a, b = pairs[0][different], pairs[1][different]
    step = max(1, _PAIR_ENTRIES // int(data.x.shape[1]))
    for i in range(0, len(a), step):
        some, other = index[a[i : i + step]], columns[b[i : i + step]]
        difference = data.differences(data.rows(some), data.rows(other), closer)
        squared = to_numpy(xp.sum(difference * difference, axis=1))[: len(some)]
        place = a[i : i + step] * sums.shape[1] + data.codes[other]
        values = np.sqrt(squared) if root else squared
        sums += np.bincount(place, values, sums.size).reshape(sums.shape)


def dispersion(data: GroupedRows) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centroids as the first row of each cluster plus an offset, and for each cluster the sums of
    the distances to it and of their squares.

    Offsets and distances are in the scale of `GroupedRows.differences`. Only differences to the
    first row are rounded, so that the error is relative to the cluster.
    """
    xp = data.xp
    first = data.order[np.cumsum(data.counts) - data.counts]
    anchors = np.asarray(to_numpy(data.rows(first))[: len(first)])
    offsets = np.zeros_like(anchors)
    sums = np.zeros((2, len(anchors)))
    size = max(data.block[0], _PAIR_ENTRIES // anchors.shape[1])
    for last in (False, True):
        for index in data.chunks(size):
            rows = data.rows(index)
            codes = np.pad(data.codes[index], (0, int(rows.shape[0]) - len(index)), mode="edge")
            rest = data.differences(rows, from_numpy(anchors[codes], data.x))
            clusters, one_hot = data.membership(index, len(codes))
            if last:
                rest = rest - from_numpy(offsets[codes], data.x)
                size = xp.max(xp.abs(rest), axis=1, keepdims=True)
                size = xp.where(size == 0, xp.ones_like(size), size)
                rest = rest / size  # squares do not underflow
                length = xp.sqrt(xp.sum(rest * rest, axis=1)) * size[:, 0]
                rest = xp.stack([length, length * length], axis=1)
            part = to_numpy(xp.matmul(xp.matrix_transpose(one_hot), rest))
            if last:
                sums[:, clusters] += part.T
            else:
                offsets[clusters] += part
        if not last:
            offsets /= data.counts[:, None]
    return anchors, offsets, sums[0], sums[1]
