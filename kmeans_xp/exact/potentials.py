"""Squared distances rounded to 12 significant bits, certified: what seeding and relocation rank
by.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from kmeans_xp.exact.bounds import FLOAT64, TINY64, gamma, is_exact_grid
from kmeans_xp.exact.dyadic import rn12
from kmeans_xp.exact.predicate import two_product

__all__ = [
    "FLUSH",
    "accurate_distances",
    "certified_products",
    "integer_weights",
    "rounded_products",
    "weight_scale",
]

# Weighted squared distances below 2**(2E + W - 960) count as zero, 2**E being above every value and
# 2**W above every weight (docs/exactness.md).
FLUSH = 2.0**-960


def weight_scale(largest: float) -> int:
    """Power s of the integer weights: q = ⌊p·2^s⌋ stays below 2^31 for p up to `largest`."""
    return 31 - math.frexp(largest)[1]


def integer_weights(p: np.ndarray, scale: int) -> np.ndarray:
    """Return q = ⌊p·2^scale⌋ as int64."""
    return np.floor(np.ldexp(p, scale)).astype(np.int64)


def rounded_products(
    x: np.ndarray,
    centers: np.ndarray,
    w: np.ndarray | None,
    exponent: int,
    weight_exponent: int = 0,
) -> np.ndarray:
    """Certified rn12(w·|x − c|²), row by row.

    Parameters
    ----------
    x, centers : ndarray, shape (m, D)
        Rows and the centre each is measured from; float32 or float64.
    w : ndarray, shape (m,), or None
        Weights.
    exponent : int
        E: every value is below 2**E in magnitude.
    weight_exponent : int
        Every weight is below 2**weight_exponent.

    Returns
    -------
    ndarray of float64, shape (m,)
        In units of 2**(2·exponent + weight_exponent).
    """
    rows, points = x, centers
    x = np.ldexp(x.astype(np.float64), -exponent)
    c = np.ldexp(centers.astype(np.float64), -exponent)
    difference = x - c
    squared = np.einsum("ij,ij->i", difference, difference)
    error = gamma(x.shape[1] + 6, FLOAT64) * squared + TINY64
    scaled_w = None if w is None else np.ldexp(w.astype(np.float64), -weight_exponent)
    value, certain = certified_products(squared, error, scaled_w)
    left = np.flatnonzero(~certain)
    if left.size and is_exact_grid(x.shape[1], x[left], c[left]):  # lattices meet many midpoints
        part = None if scaled_w is None else scaled_w[left]
        value[left], certain[left] = certified_products(squared[left], np.zeros(left.size), part)
    for i in np.flatnonzero(~certain):
        weight = (
            Fraction(1) if w is None else Fraction(float(w[i])) / Fraction(2) ** weight_exponent
        )
        value[i] = _by_fractions(rows[i], points[i], weight / Fraction(4) ** exponent)
    return value


def accurate_distances(x: np.ndarray, centers: np.ndarray, exponent: int) -> np.ndarray:
    """All distances |x − c| in float64 to a few rounding errors, even where they nearly cancel.

    Parameters
    ----------
    x : ndarray, shape (n, D)
    centers : ndarray, shape (K, D)
    exponent : int
        Every value of x is below 2**exponent in magnitude.

    Returns
    -------
    ndarray of float64, shape (n, K)
    """
    largest = max(math.ldexp(1.0, min(exponent, 1023)), float(np.abs(centers).max()))
    exponent = math.frexp(largest)[1]
    with np.errstate(all="ignore"):
        x = np.ldexp(x.astype(np.float64), -exponent)
        c = np.ldexp(centers.astype(np.float64), -exponent)
        size = np.einsum("ij,ij->i", x, x)[:, None] + np.einsum("ij,ij->i", c, c)
        squared = size - 2.0 * (x @ c.T)
        distance = np.sqrt(squared)
        # a squared distance this far below its terms has lost digits: take differences first
        rows, columns = np.nonzero(~((squared > 1e-2 * size) & (size > 1e-250)))
        step = max(1, (1 << 18) // x.shape[1])
        for i in range(0, len(rows), step):
            some = rows[i : i + step], columns[i : i + step]
            difference = x[some[0]] - c[some[1]]
            unit = np.abs(difference).max(axis=1, keepdims=True)
            unit[unit == 0] = 1.0
            distance[some] = np.sqrt(np.square(difference / unit).sum(axis=1)) * unit[:, 0]
        return np.ldexp(distance, exponent)


def certified_products(
    squared: np.ndarray, error: np.ndarray, w: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Round w·squared, known within w·error, to 12 bits; says where that is certain."""
    low, high = squared - error, squared + error
    if w is not None:
        product, rest = two_product(squared, w)
        exact = (error == 0) & (rest == 0) & (product >= FLUSH)
        low = np.where(exact, product, low * w * (1 - 8 * FLOAT64))
        high = np.where(exact, product, high * w * (1 + 8 * FLOAT64))
    flushed = high < FLUSH
    value = rn12(np.maximum(low, 0.0))
    certain = flushed | ((low >= FLUSH) & (value == rn12(high)))
    value[flushed] = 0.0
    return value, certain


def _by_fractions(x: np.ndarray, c: np.ndarray, factor: Fraction) -> float:
    pairs = zip(x.tolist(), c.tolist(), strict=True)
    value = factor * sum(((Fraction(a) - Fraction(b)) ** 2 for a, b in pairs), Fraction(0))
    if value < Fraction(FLUSH):
        return 0.0
    top = value.numerator.bit_length() - value.denominator.bit_length()
    if Fraction(2) ** top > value:
        top -= 1
    unit = top - 11
    nearest = round(value / Fraction(2) ** unit)  # ties to even
    return math.ldexp(nearest, unit)
