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

__all__ = ["FLUSH", "accurate_distances", "rounded_products"]

# Squared distances below 2**(2E - 960) count as zero, 2**E being above every value (see
# docs/exactness.md).
FLUSH = 2.0**-960


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
    value, certain = _certified(squared, error, scaled_w)
    left = np.flatnonzero(~certain)
    if left.size and is_exact_grid(x.shape[1], x[left], c[left]):  # lattices meet many midpoints
        part = None if scaled_w is None else scaled_w[left]
        value[left], certain[left] = _certified(squared[left], np.zeros(left.size), part)
    for i in np.flatnonzero(~certain):
        weight = (
            Fraction(1) if w is None else Fraction(float(w[i])) / Fraction(2) ** weight_exponent
        )
        value[i] = _by_fractions(rows[i], points[i], weight / Fraction(4) ** exponent, exponent)
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
    exponent = max(exponent, int(np.frexp(np.abs(centers).max())[1]))
    x = np.ldexp(x.astype(np.float64), -exponent)
    c = np.ldexp(centers.astype(np.float64), -exponent)
    size = np.einsum("ij,ij->i", x, x)[:, None] + np.einsum("ij,ij->i", c, c)
    squared = size - 2.0 * (x @ c.T)
    # a squared distance this far below its terms has lost digits: take differences first
    rows, columns = np.nonzero(~(squared > 1e-2 * size))
    step = max(1, (1 << 18) // x.shape[1])
    for i in range(0, len(rows), step):
        difference = x[rows[i : i + step]] - c[columns[i : i + step]]
        squared[rows[i : i + step], columns[i : i + step]] = np.square(difference).sum(axis=1)
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(np.sqrt(squared), exponent)


def _certified(
    squared: np.ndarray, error: np.ndarray, w: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Round w·squared, known within w·error, to 12 bits; says where that is certain."""
    flushed = squared + error < FLUSH
    sure = (squared - error >= FLUSH) | flushed
    if w is None:
        low, high = squared - error, squared + error
    else:
        product, rest = two_product(squared, w)
        exact = (error == 0) & (rest == 0) & (product > TINY64)
        low = np.where(exact, product, (product - w * error) * (1 - 4 * FLOAT64))
        high = np.where(exact, product, (product + w * error) * (1 + 4 * FLOAT64))
        sure &= (product > TINY64) | (w == 0)
    low, high = np.maximum(low, 0.0), np.maximum(high, 0.0)
    value = rn12(low)
    certain = sure & (flushed | (value == rn12(high)))
    value[flushed] = 0.0
    return value, certain


def _by_fractions(x: np.ndarray, c: np.ndarray, factor: Fraction, exponent: int) -> float:
    pairs = zip(x.tolist(), c.tolist(), strict=True)
    squared = sum(((Fraction(a) - Fraction(b)) ** 2 for a, b in pairs), Fraction(0))
    value = squared * factor
    if squared < Fraction(FLUSH) * Fraction(4) ** exponent or value == 0:
        return 0.0
    top = value.numerator.bit_length() - value.denominator.bit_length()
    if Fraction(2) ** top > value:
        top -= 1
    unit = top - 11
    return math.ldexp(
        round(value / Fraction(2) ** unit), unit
    )  # round() is to nearest, ties to even
