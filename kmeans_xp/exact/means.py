"""Means rounded once: double-double arithmetic with a certificate, Python integers where it
fails.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kmeans_xp.exact.bounds import FLOAT64
from kmeans_xp.exact.dyadic import round_ratio
from kmeans_xp.exact.predicate import two_product
from kmeans_xp.exact.sums import ClusterSums
from kmeans_xp.exact.unit import unit_rows

__all__ = [
    "PLAIN_EXPONENTS",
    "PLAIN_LEVELS",
    "directed",
    "divide",
    "double_double",
    "round_certainly",
    "rounded_directions",
    "rounded_means",
    "some_means",
]

# Entries worked on at a time: the float64 helpers stay small beside the centroids.
_ENTRIES = 1 << 16

# Plain float64 is tried for float32 means of at most so many levels, and scales 2**±so much.
PLAIN_LEVELS = 8
PLAIN_EXPONENTS = 60

_Pair = tuple[np.ndarray, np.ndarray, np.ndarray]


def rounded_means(sums: ClusterSums, old: np.ndarray) -> np.ndarray:
    """Correctly rounded cluster means.

    Parameters
    ----------
    sums : ClusterSums
        Exact sums and weights.
    old : ndarray, shape (K, D)
        The previous centroids, float32 or float64: their dtype is the result's, and a cluster
        without weight keeps its row.

    Returns
    -------
    ndarray, shape (K, D)
    """
    new, filled = old.copy(), sums.filled()
    step = max(1, _ENTRIES // old.shape[1])
    for i in range(0, len(filled), step):
        new[filled[i : i + step]] = some_means(sums, filled[i : i + step], old.dtype)
    return new + old.dtype.type(0)  # -0 becomes +0


def rounded_directions(sums: ClusterSums, old: np.ndarray) -> np.ndarray:
    """Correctly rounded cluster means, divided by their norms (`exact.unit.unit_rows`).

    A cluster without weight, or whose mean is zero, keeps its row of `old`.
    """
    return directed(rounded_means(sums, old), sums, old)


def directed(means: np.ndarray, sums: ClusterSums, old: np.ndarray) -> np.ndarray:
    """Means divided by their norms, in place, but for clusters without weight or of mean zero.

    Those keep their row of `old`.
    """
    moved = np.any(means != 0, axis=1)
    moved[sums.empty()] = False
    means[moved] = unit_rows(means[moved])
    means[~moved] = old[~moved]
    return means


def some_means(sums: ClusterSums, clusters: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Means of a few clusters that have weight."""
    reach = int(np.abs(sums.grid.exponents).max())
    plain = not sums.weighted and len(sums.values) <= PLAIN_LEVELS and reach <= PLAIN_EXPONENTS
    if dtype != np.float32 or not plain:
        return _any_means(sums, clusters, dtype)
    with np.errstate(all="ignore"):
        value, certain = _float32_means(sums, clusters)
    left = np.flatnonzero(~certain.all(axis=1))
    if left.size:
        value[left] = _any_means(sums, clusters[left], dtype)
    return value


def _float32_means(sums: ClusterSums, clusters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unweighted means in plain float64, and whether that decides all bits of float32."""
    unit = 2.0**-sums.grid.bits
    total = size = np.zeros((len(clusters), sums.shape[1]))
    for level in reversed(sums.values):
        digits = level[clusters].astype(np.float64)
        total = (total + digits) * unit
        size = (size + np.abs(digits)) * unit
    # a conversion and an addition a level, the division, and the evaluation of this bound
    slack = size * ((2 * len(sums.values) + 6) * FLOAT64)
    counts = sums.weights[0][clusters].astype(np.float64)[:, None]
    value = ((total - slack) / counts).astype(np.float32)
    certain = value == ((total + slack) / counts).astype(np.float32)
    # neither this nor the final value may be near the subnormal numbers
    certain &= (np.abs(value) > 2.0**-60) | (size == 0)
    return value * np.ldexp(np.float32(1), sums.grid.exponents.astype(np.int32)), certain


def _any_means(sums: ClusterSums, clusters: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Means of clusters that have weight, in twice the digits of float64."""
    numerator = double_double([v[clusters] for v in sums.values], sums.grid.bits)
    if sums.weighted:
        high, low, error = double_double([v[clusters] for v in sums.weights], sums.grid.bits)
    else:
        high = sums.weights[0][clusters].astype(np.float64)
        low = error = np.zeros_like(high)
    with np.errstate(all="ignore"):  # what is not finite is not certain
        parts = divide(numerator, (high[:, None], low[:, None], error[:, None]))
        value, certain = round_certainly(*parts, sums.grid.exponents, dtype)
    rows, columns = np.nonzero(~certain)
    if rows.size:
        value[rows, columns] = _by_integers(sums, clusters[rows], columns, dtype)
    return value


def double_double(levels: list[np.ndarray], bits: int) -> _Pair:
    """Sum of levels in units of the top as (high, low, error bound); an error of 0 means exact."""
    digits = [level.copy() for level in levels]
    half = 1 << (bits - 1)
    for upper, lower in zip(digits[-2::-1], digits[:0:-1], strict=True):
        carry = (lower + half) >> bits  # digits in [-half, half): no cancellation between levels
        lower -= carry << bits
        upper += carry
    unit = 2.0**-bits
    top_low = digits[0] & 0xFFFFFFFF
    terms = [(digits[0] - top_low).astype(np.float64) * unit, top_low.astype(np.float64) * unit]
    for level, digit in enumerate(digits[1:], start=2):
        if level * bits < 900:
            terms.append(digit.astype(np.float64) * 2.0 ** (-level * bits))
    high = np.zeros(levels[0].shape)
    low = np.zeros_like(high)
    size = np.zeros_like(high)
    exact = np.ones(high.shape, dtype=bool)
    for term in terms:
        total = high + term
        virtual = total - high
        rest = (high - (total - virtual)) + (term - virtual)
        exact &= (rest == 0) | (low == 0)
        high = total
        low = low + rest
        size += np.abs(term)
    error = np.where(exact, 0.0, 64 * len(terms) ** 2 * FLOAT64**2 * size)
    if len(digits) * bits >= 900:
        error += 2.0**-800
    return high, low, error


def divide(a: _Pair, b: _Pair) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Divide two such pairs: (high, low, error bound of high + low, high is the exact quotient)."""
    a_high, a_low, a_error = a
    b_high, b_low, b_error = b
    quotient = a_high / b_high
    product, residue = two_product(quotient, np.broadcast_to(b_high, quotient.shape))
    rest = ((a_high - product) - residue) + (a_low - quotient * b_low)
    correction = rest / b_high
    exact = (rest == 0) & (a_low == 0) & (b_low == 0) & (a_error == 0) & (b_error == 0)
    size = np.abs(quotient)
    error = 64 * FLOAT64**2 * size + 16 * FLOAT64 * np.abs(correction)
    error += 2 * (a_error + size * b_error) / b_high
    return quotient, correction, error, exact


def round_certainly(
    high: np.ndarray,
    low: np.ndarray,
    slack: np.ndarray,
    exact: np.ndarray,
    exponents: np.ndarray,
    dtype: np.dtype[Any],
) -> tuple[np.ndarray, np.ndarray]:
    """Round high + low, known within `slack`, to `dtype` times 2**exponents; says where that is
    certain.
    """
    below, above = high + (low - slack), high + (low + slack)
    if dtype == np.float32:  # one ulp outwards, or rounding twice could cross a midpoint
        below, above = np.nextafter(below, -np.inf), np.nextafter(above, np.inf)
    below = np.where(exact, high, below)
    above = np.where(exact, high, above)
    reach, floor_scaled = (120, -125) if dtype == np.float32 else (900, -1021)
    size = np.abs(high)
    # running means may be far above the exponents, which are those of a batch
    normal = (size > 2.0**-reach) & (size < 2.0**reach)
    normal &= np.frexp(size)[1] + exponents > floor_scaled
    down, up = below.astype(dtype), above.astype(dtype)
    certain = ((down == up) & normal) | (exact & (high == 0))
    value = np.ldexp(down, np.where(certain, exponents, 0).astype(np.int32))
    return value, certain


def _by_integers(
    sums: ClusterSums, rows: np.ndarray, columns: np.ndarray, dtype: np.dtype[Any]
) -> list[float]:
    numerators = sums.value_integers((rows, columns)).tolist()
    weights = sums.weight_integers()
    exponents = (sums.value_exponents() - sums.weight_unit()).tolist()
    return [
        round_ratio(num, weights[k], exponents[j], dtype)
        for num, k, j in zip(numerators, rows.tolist(), columns.tolist(), strict=True)
    ]
