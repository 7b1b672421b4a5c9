"""Running means: centroids that stand for all rows before, and what a batch adds, rounded once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmeans_xp.exact.bounds import FLOAT64
from kmeans_xp.exact.dyadic import Dyadic, round_ratio
from kmeans_xp.exact.means import (
    PLAIN_EXPONENTS,
    PLAIN_LEVELS,
    divide,
    double_double,
    round_certainly,
)
from kmeans_xp.exact.predicate import two_product
from kmeans_xp.exact.sums import ClusterSums

__all__ = ["Totals", "blended_means"]

# Factors between these limits multiply without underflow in either part of the product.
_SMALL, _LARGE = 2.0**-400, 2.0**400
_MANTISSA = 1 << 53
# So few means cost less in Python integers than their rows in twice the digits of float64.
_FEW = 16

_Pair = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Totals:
    """Exact total weight that every cluster has seen: ``units * 2**exponent``.

    Attributes
    ----------
    units : ndarray, shape (K,)
        int64 as long as rows were counted without weights; else Python integers.
    exponent : int
    """

    units: np.ndarray
    exponent: int = 0

    @classmethod
    def none(cls, n_clusters: int) -> Totals:
        """Nothing seen yet."""
        return cls(np.zeros(n_clusters, dtype=np.int64))

    def plus(self, sums: ClusterSums) -> Totals:
        """With the weights of a batch."""
        if self.units.dtype != object and not sums.weighted:
            return Totals(self.units + sums.weights[0])
        exponent = min(self.exponent, sums.weight_unit())
        mine = self.units.astype(object) * (1 << (self.exponent - exponent))
        return Totals(
            mine + sums.weight_integers() * (1 << (sums.weight_unit() - exponent)), exponent
        )

    def rare(self, ratio: float) -> np.ndarray:
        """Clusters whose weight is below `ratio` (at most 1) times the largest one."""
        n, d = min(float(ratio), 1.0).as_integer_ratio()
        limit = -(-n * int(self.units.max()) // d)
        return np.asarray(self.units < limit, dtype=bool)

    def lifted(self, clusters: np.ndarray) -> Totals:
        """With the weight of these clusters set to the least weight of all others."""
        others = np.ones(len(self.units), dtype=bool)
        others[clusters] = False
        units = self.units.copy()
        units[clusters] = self.units[others].min()
        return Totals(units, self.exponent)

    def floats(self) -> np.ndarray:
        """Nearest float64 values."""
        if self.units.dtype != object:
            return self.units.astype(np.float64)
        return np.asarray([float(Dyadic(unit, self.exponent)) for unit in self.units.tolist()])

    def top(self) -> int:
        """Exponent of a power of two above all of them; 0 for counts."""
        if self.units.dtype != object:
            return 0
        return self.exponent + int(self.units.max()).bit_length()

    def pair(self, top: int) -> _Pair:
        """(high, low, error bound) in units of 2**top."""
        if self.units.dtype != object and top == 0:
            high = self.units.astype(np.float64)
            return high, np.zeros_like(high), np.where(high < _MANTISSA, 0.0, math.inf)
        parts = [_split(unit, self.exponent - top) for unit in self.units.tolist()]
        high, low, error = np.asarray(parts).T
        return high, low, error


def _split(n: int, exponent: int) -> tuple[float, float, float]:
    """n·2**exponent as a sum of two floats and what is missing at most."""
    drop = max(n.bit_length() - 106, 0)
    kept = n >> drop
    high = float(kept)
    unit = drop + exponent
    error = math.ldexp(1.0, unit) if drop else 0.0
    if unit < -1000:  # parts of it may underflow
        error += 2.0**-900
    return math.ldexp(high, unit), math.ldexp(float(kept - int(high)), unit), error


def blended_means(sums: ClusterSums, totals: Totals, old: np.ndarray) -> np.ndarray:
    """Means of the rows of a batch and of all rows before, correctly rounded.

    Parameters
    ----------
    sums : ClusterSums
        Exact sums and weights of the batch.
    totals : Totals
        Weight W of each cluster before the batch.
    old : ndarray, shape (K, D)
        Centroids c before the batch, float32 or float64.

    Returns
    -------
    ndarray, shape (K, D)
        (W·c + Σ w·x) / (W + Σ w); a cluster without weight in the batch keeps its row.
    """
    new = old.copy()
    after = totals.plus(sums)
    clusters = np.arange(len(old))
    if (empty := sums.empty()).size:
        clusters = np.setdiff1d(clusters, empty, assume_unique=True)
    with np.errstate(all="ignore"):  # what is not finite is not certain
        value, certain = _float32_means(sums, totals, after, old, clusters)
        rows, columns = np.nonzero(~certain)
        if certain.shape == value.shape and rows.size <= _FEW:  # ties, most of them
            some = clusters[rows]
            value[rows, columns] = _by_integers(sums, totals, after, old, some, columns)
        elif rows.size:
            left = np.unique(rows)
            value[left] = _any_means(sums, totals, after, old, clusters[left])
    new[clusters] = value
    return new + old.dtype.type(0)  # -0 becomes +0


def _float32_means(
    sums: ClusterSums, totals: Totals, after: Totals, old: np.ndarray, clusters: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Unweighted means in plain float64, and whether that decides all bits of float32."""
    grid, levels = sums.grid, len(sums.values)
    plain = old.dtype == np.float32 and after.units.dtype != object
    plain &= levels <= PLAIN_LEVELS and int(np.abs(grid.exponents).max()) <= PLAIN_EXPONENTS
    if not plain or int(after.units.max()) >= _MANTISSA:
        return old[clusters], np.zeros((len(clusters), 1), dtype=bool)
    total = size = np.zeros((len(clusters), sums.shape[1]))
    for level in reversed(sums.values):
        digits = level[clusters].astype(np.float64)
        total = (total + digits) * 2.0**-grid.bits
        size = (size + np.abs(digits)) * 2.0**-grid.bits
    earlier = old[clusters] * np.ldexp(1.0, -grid.exponents)
    earlier *= totals.units[clusters, None]
    total, size = total + earlier, size + np.abs(earlier)
    # a conversion and an addition a level, a product and an addition, the division, this bound
    slack = size * ((2 * levels + 10) * FLOAT64)
    counts = after.units[clusters, None].astype(np.float64)
    value = ((total - slack) / counts).astype(np.float32)
    certain = value == ((total + slack) / counts).astype(np.float32)
    # neither this nor the final value may be near the limits of float32
    magnitude = np.abs(value)
    certain &= ((magnitude > 2.0**-60) & (magnitude < 2.0**60)) | (size == 0)
    return value * np.ldexp(np.float32(1), grid.exponents.astype(np.int32)), certain


def _any_means(
    sums: ClusterSums, totals: Totals, after: Totals, old: np.ndarray, clusters: np.ndarray
) -> np.ndarray:
    """Means in twice the digits of float64, and in Python integers where that is too few."""
    top = after.top()
    numerator = _numerator(sums, totals, old, clusters, top)
    high, low, error = (part[clusters, None] for part in after.pair(top))
    parts = divide(numerator, (high, low, error))
    value, certain = round_certainly(*parts, sums.grid.exponents, old.dtype)
    rows, columns = np.nonzero(~certain)
    if rows.size:
        some = clusters[rows]
        value[rows, columns] = _by_integers(sums, totals, after, old, some, columns)
    return value


def _numerator(
    sums: ClusterSums, totals: Totals, old: np.ndarray, clusters: np.ndarray, top: int
) -> _Pair:
    """W·c + Σ w·x in units of 2**(grid exponent + top)."""
    high, low, error = double_double([v[clusters] for v in sums.values], sums.grid.bits)
    shift = sums.grid.weight_exponent - top
    if shift:
        high, low, error = (np.ldexp(part, shift) for part in (high, low, error))
        error = error + 2.0**-1000
    c = np.ldexp(old[clusters].astype(np.float64), -sums.grid.exponents)
    weight, rest_weight, weight_error = (part[clusters, None] for part in totals.pair(top))
    product, rest = two_product(weight, c)
    total = product + high
    virtual = total - product
    lost = (product - (total - virtual)) + (high - virtual)
    small = rest_weight * c
    low_sum = ((lost + rest) + low) + small
    n_parts = (lost != 0).astype(np.int8) + (rest != 0) + (low != 0)
    exact = (n_parts <= 1) & (small == 0)
    size = np.abs(c)
    error = error + weight_error * size
    error = error + np.where(exact, 0.0, 64 * FLOAT64**2 * (np.abs(product) + np.abs(high)))
    usual = (old[clusters] == 0) | ((size > _SMALL) & (size < _LARGE))
    usual &= (weight == 0) | (weight > _SMALL)
    return total, low_sum, np.where(usual, error, math.inf)


def _by_integers(
    sums: ClusterSums,
    before: Totals,
    after: Totals,
    old: np.ndarray,
    clusters: np.ndarray,
    columns: np.ndarray,
) -> list[float]:
    integers = sums.value_integers((clusters, columns)).tolist()
    exponents = sums.value_exponents()[columns].tolist()
    values: list[Any] = old[clusters, columns].tolist()
    means = []
    for k, integer, exponent, c in zip(clusters.tolist(), integers, exponents, values, strict=True):
        n, d = c.as_integer_ratio()
        earlier = Dyadic(int(before.units[k]) * n, before.exponent - d.bit_length() + 1)
        total = earlier + Dyadic(integer, exponent)
        means.append(round_ratio(total.n, int(after.units[k]), total.e - after.exponent, old.dtype))
    return means
