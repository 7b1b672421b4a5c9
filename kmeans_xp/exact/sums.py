"""Exact sums over clusters, in levels of integers.

A value is cut into integers of at most `bits` bits, one a level: level l counts units of
2**(exponent − (l + 1)·bits), and levels go on until nothing is left. Sums of these integers never
round, so rows may be added in any order and any blocks, on any device, and taken away again, with
the same result.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.predicate import two_product

__all__ = ["ClusterSums", "Grid", "square_sum"]

# Exponents farther apart than this are handled in bands, so that products neither under- nor
# overflow.
_BAND = 400
# Powers of two that scaling in one step may use.
_RANGE = 1000
# Values worked on at a time, so that the helpers stay in cache.
_CACHED = 1 << 14
# Up to this many clusters a matrix product with zeros and ones sums faster than sorting.
_FEW_CLUSTERS = 16


@dataclass(frozen=True)
class Grid:
    """Where the levels lie.

    Attributes
    ----------
    exponents : ndarray of int64, shape (D,)
        ``|x_j| < 2**exponents[j]`` for every row.
    weight_exponent : int
        ``w < 2**weight_exponent`` for every weight (0 without weights).
    bits : int
        Bits a level.
    rows : int
        At most this many rows go into one float64 partial sum.
    narrow : bool
        Every value and weight is a float32: products are exact in float64.
    wide : bool
        The exponents spread so far that plain scaling would underflow: work in bands.
    """

    exponents: np.ndarray
    weight_exponent: int
    bits: int
    rows: int
    narrow: bool
    wide: bool

    @classmethod
    def fit(
        cls,
        largest: np.ndarray,
        smallest: float,
        weight_range: tuple[float, float] | None,
        n_rows: int,
        rows: int,
        narrow: bool,
    ) -> Grid:
        """Choose the levels for data with the given largest magnitude a column and smallest
        non-zero one.
        """
        exponents = np.frexp(largest.astype(np.float64))[1].astype(np.int64)
        low_w, high_w = weight_range or (1.0, 0.5)
        weight_exponent = math.frexp(high_w)[1]
        spread = int(exponents.max(initial=0)) - math.frexp(smallest)[1]
        weight_spread = weight_exponent - math.frexp(low_w)[1]
        bits = min(
            53 - math.ceil(math.log2(max(rows, 2))), 62 - math.ceil(math.log2(max(n_rows, 2)))
        )
        wide = 2 * spread + weight_spread > 850
        return cls(exponents, weight_exponent, bits, rows, narrow, wide)

    @functools.cached_property
    def units(self) -> np.ndarray | None:
        """What a value is multiplied by to count the units of the first level, a column.

        None where float64 does not hold it safely.
        """
        shift = self.bits - self.exponents
        if self.wide or (np.abs(shift) > _RANGE).any():
            return None
        return np.ldexp(1.0, shift)

    def value_terms(self, x: np.ndarray, w: np.ndarray | None) -> Iterator[tuple[int, np.ndarray]]:
        """Cut w·x into levels: yields (level, integers) for float64 x of shape (n, D)."""
        if self.wide:
            yield from self._wide_terms([x] if w is None else [w[:, None], x], self._shift())
            return
        scaled = self._scaled(x)
        for term in _products(scaled, self._scaled_weights(w), self.narrow):
            yield from _levels(term, self.bits)

    def square_terms(self, x: np.ndarray, w: np.ndarray | None) -> Iterator[tuple[int, np.ndarray]]:
        """Cut w·x² into levels, in units of the squared scale."""
        if self.wide:
            factors = [x, x] if w is None else [w[:, None], x, x]
            yield from self._wide_terms(factors, self.square_tops(w))
            return
        scaled = self._scaled(x)
        squares = [scaled * scaled] if self.narrow else list(two_product(scaled, scaled))
        weights = self._scaled_weights(w)
        for square in squares:
            for term in _products(square, weights, False):
                yield from _levels(term, self.bits)

    def square_tops(self, w: np.ndarray | None) -> np.ndarray:
        """Exponents above w·x² (x² without weights), a column."""
        return 2 * self.exponents + (0 if w is None else self.weight_exponent)

    def weight_terms(self, w: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Cut weights into levels: (level, integers (n,))."""
        if self.wide:
            yield from self._wide_terms([w], np.asarray(self.weight_exponent))
        else:
            yield from _levels(np.ldexp(w.astype(np.float64), -self.weight_exponent), self.bits)

    def _shift(self) -> np.ndarray:
        return self.exponents + self.weight_exponent

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        """A copy of float64 x as fractions of the top of its column."""
        if np.abs(self.exponents).max() < 1000:
            return x * np.ldexp(1.0, -self.exponents)  # far cheaper than ldexp of every value
        return np.ldexp(x, -self.exponents)

    def _scaled_weights(self, w: np.ndarray | None) -> np.ndarray | None:
        return None if w is None else np.ldexp(w.astype(np.float64), -self.weight_exponent)[:, None]

    def _wide_terms(
        self, factors: list[np.ndarray], shift: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Multiply mantissas exactly, keep exponents apart, and cut band by band."""
        mantissa, exponent = np.frexp(factors[0].astype(np.float64))
        parts = [mantissa]
        exponent = exponent.astype(np.int64)
        for factor in factors[1:]:
            m, e = np.frexp(factor.astype(np.float64))
            parts = [
                p
                for part in parts
                for p in two_product(part, np.broadcast_to(m, np.shape(part * m)))
            ]
            exponent = exponent + e
        depth = shift - exponent  # the value is below 2**-depth of the top
        per_band = _BAND // self.bits
        width = per_band * self.bits
        band = depth // width
        for part in parts:
            for b in np.unique(band[part != 0]).tolist():
                inside = np.where(band == b, part, 0.0)
                for level, integers in _levels(np.ldexp(inside, b * width - depth), self.bits):
                    yield b * per_band + level, integers


def _products(x: np.ndarray, w: np.ndarray | None, narrow: bool) -> list[np.ndarray]:
    """Terms whose sum is w·x exactly; the array x may be reused."""
    if w is None:
        return [x]
    if narrow:
        return [x * w]
    return list(two_product(x, np.broadcast_to(w, x.shape)))


def _levels(rest: np.ndarray, bits: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (level, integers) until nothing is left; consumes `rest`, whose values are below 1 in
    magnitude.
    """
    step = 2.0**bits
    level = 0
    while level == 0 or rest.any():
        rest *= step  # a power of two: exact
        integers = np.rint(rest)
        rest -= integers
        yield level, integers
        level += 1


class Groups:
    """Rows brought together by label, so that sums over clusters are cheap.

    A few clusters: a product with the matrix of zeros and ones; its sums are integers that float64
    holds, so it cannot round. Many clusters: bins for a few columns, else sorted rows and sums over
    runs of them.
    """

    def __init__(self, labels: np.ndarray, n_clusters: int, n_features: int) -> None:
        self.labels, self.n_clusters = labels, n_clusters
        self.by_product = n_clusters <= _FEW_CLUSTERS
        self.by_bins = not self.by_product and n_features <= 4
        self.order: np.ndarray | slice = slice(None)
        self.present: np.ndarray | slice = slice(None)
        if self.by_product:
            self.members = (np.arange(n_clusters)[:, None] == labels).astype(np.float64)
        elif not self.by_bins:
            key = labels.astype(np.uint16) if n_clusters <= 1 << 16 else labels  # 16: radix sort
            self.order = np.argsort(key, kind="stable")
            ordered = labels[self.order]
            self.starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
            self.present = ordered[self.starts]

    def sum(self, integers: np.ndarray) -> np.ndarray:
        """Sum rows (already in this object's order) over each present label; int64."""
        if self.by_product:
            product: np.ndarray = self.members @ integers
            return product.astype(np.int64)
        if not self.by_bins:
            return np.add.reduceat(integers, self.starts, axis=0).astype(np.int64)
        columns = integers.reshape(len(integers), -1)
        sums = [np.bincount(self.labels, column, self.n_clusters) for column in columns.T]
        return (
            np.stack(sums, axis=-1).astype(np.int64).reshape((self.n_clusters, *integers.shape[1:]))
        )


class ClusterSums:
    """Exact Σ w·x and Σ w of every cluster. Several threads may add at once.

    Attributes
    ----------
    values : list of ndarray of int64, shape (K, D)
        Levels of the sums.
    weights : list of ndarray of int64, shape (K,)
        Levels of the weights; without weights the one entry is the row counts.
    """

    def __init__(self, n_clusters: int, grid: Grid, weighted: bool) -> None:
        self.grid, self.weighted = grid, weighted
        self.shape = (n_clusters, len(grid.exponents))
        self._lock = threading.Lock()
        self.values: list[np.ndarray] = []
        self.weights: list[np.ndarray] = [np.zeros(n_clusters, dtype=np.int64)]

    def value_level(self, level: int) -> np.ndarray:
        """Level `level` of the sums, made when first needed."""
        while len(self.values) <= level:
            self.values.append(np.zeros(self.shape, dtype=np.int64))
        return self.values[level]

    def weight_level(self, level: int) -> np.ndarray:
        """Level `level` of the weights, made when first needed."""
        while len(self.weights) <= level:
            self.weights.append(np.zeros(self.shape[0], dtype=np.int64))
        return self.weights[level]

    def add(self, x: np.ndarray, w: np.ndarray | None, labels: np.ndarray, sign: int = 1) -> None:
        """Add (or with ``sign=-1`` take away) rows x, shape (n, D), at most `grid.rows` of them."""
        step = max(1, _CACHED // x.shape[1]) if self.shape[0] <= _FEW_CLUSTERS else len(x)
        for lo in range(0, len(x), max(step, 1)):
            part = slice(lo, lo + step)
            self._add_some(x[part], None if w is None else w[part], labels[part], sign)

    def _add_some(self, x: np.ndarray, w: np.ndarray | None, labels: np.ndarray, sign: int) -> None:
        groups = Groups(labels, *self.shape)
        x = x[groups.order].astype(np.float64)
        w = None if w is None else w[groups.order]
        for level, integers in self.grid.value_terms(x, w):
            part = groups.sum(integers)
            with self._lock:
                self._accumulate(self.value_level(level), groups.present, part, sign)
        if w is None:
            part = np.bincount(labels, minlength=self.shape[0])
            with self._lock:
                self._accumulate(self.weights[0], slice(None), part, sign)
        else:
            for level, integers in self.grid.weight_terms(w):
                part = groups.sum(integers)
                with self._lock:
                    self._accumulate(self.weight_level(level), groups.present, part, sign)

    @staticmethod
    def _accumulate(
        total: np.ndarray, where: np.ndarray | slice, part: np.ndarray, sign: int
    ) -> None:
        if sign > 0:
            total[where] += part
        else:
            total[where] -= part

    def merge(self, other: ClusterSums) -> None:
        """Add the sums of other rows, cut on the same grid."""
        with self._lock:
            for level, values in enumerate(other.values):
                self.value_level(level)[...] += values
            for level, weights in enumerate(other.weights):
                self.weight_level(level)[...] += weights

    def add_weights(self, labels: np.ndarray, w: np.ndarray | None, signs: np.ndarray) -> None:
        """Add (sign 1) or take away (-1) weights alone."""
        if w is None:
            self.weights[0] += np.bincount(labels, signs, self.shape[0]).astype(np.int64)
            return
        for level, integers in self.grid.weight_terms(w):
            np.add.at(self.weight_level(level), labels, integers.astype(np.int64) * signs)

    def value_exponents(self) -> np.ndarray:
        """Exponent of the unit of the last level, a column."""
        depth = self.grid.bits * max(len(self.values), 1)
        return self.grid.exponents + self.grid.weight_exponent - depth

    def weight_unit(self) -> int:
        """Exponent of the unit of the last level of the weights."""
        if not self.weighted:
            return 0
        return self.grid.weight_exponent - self.grid.bits * len(self.weights)

    def value_integers(self, index: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
        """Python integers Σ w·x in units of `value_exponents`: all, or those at (rows, columns)."""
        if index is None:
            return _join(self.values, self.grid.bits, self.shape)
        return _join([v[index] for v in self.values], self.grid.bits, np.shape(index[0]))

    def column_integers(self) -> np.ndarray:
        """Python integers Σ w·x over all clusters, shape (D,), in units of `value_exponents`."""
        # a level holds so few bits that its sum over all rows fits an int64
        return _join([v.sum(axis=0) for v in self.values], self.grid.bits, self.shape[1:])

    def weight_integers(self) -> np.ndarray:
        """Python integers Σ w, shape (K,), in units of `weight_unit`."""
        return _join(self.weights, self.grid.bits, self.shape[:1])

    def empty(self) -> np.ndarray:
        """Indices of the clusters whose weight is zero."""
        if len(self.weights) == 1:
            return np.flatnonzero(self.weights[0] == 0)
        return np.flatnonzero(self.weight_integers() == 0)


def _join(levels: list[np.ndarray], bits: int, shape: tuple[int, ...]) -> np.ndarray:
    if not levels:
        return np.zeros(shape, dtype=object)
    total = levels[0].astype(object)
    for level in levels[1:]:
        total = total * (1 << bits) + level.astype(object)
    return total


def square_sum(grid: Grid, x: np.ndarray, w: np.ndarray | None) -> Dyadic:
    """Exact Σ w·|x|² over at most `grid.rows` rows."""
    levels: dict[int, np.ndarray] = {}
    step = max(1, _CACHED // x.shape[1])
    for lo in range(0, len(x), step):
        rows = x[lo : lo + step].astype(np.float64)
        for level, integers in grid.square_terms(rows, None if w is None else w[lo : lo + step]):
            column = integers.sum(axis=0).astype(np.int64)
            levels[level] = levels[level] + column if level in levels else column
    total = Dyadic()
    tops = grid.square_tops(w).tolist()
    for level, columns in levels.items():
        for top, column in zip(tops, columns.tolist(), strict=True):
            if column:
                total = total + Dyadic(column, top - (level + 1) * grid.bits)
    return total
