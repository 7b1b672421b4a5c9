"""The exact sign of a real sum: which of two centroids is nearer, when floating point cannot
tell.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

__all__ = ["compare_scores", "sign_of_sums", "two_product"]

# Products of values within this many binades of 1 neither overflow nor lose their low parts to
# underflow.
_SAFE_BINADES = 400


def two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return p = fl(a·b) and the error e with a·b = p + e exactly (T. J. Dekker, 1971).

    Valid for float64 factors whose product neither overflows nor comes within 2**53 of the
    underflow limit.
    """
    split = 134217729.0  # 2**27 + 1
    product = a * b
    t = split * a
    a_high = t - (t - a)
    a_low = a - a_high
    t = split * b
    b_high = t - (t - b)
    b_low = b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def sign_of_sums(terms: np.ndarray) -> np.ndarray:
    """Exact signs of the real row sums of a float64 matrix.

    The leading bits of all terms of a row are rounded to integers on a common grid and added
    without error; what the rounding left over is smaller than half a grid step a term, so a large
    enough integer decides. Otherwise the integer goes back as one more term and the next, finer
    level is taken.

    Parameters
    ----------
    terms : ndarray, shape (m, t)
        Finite float64 values.

    Returns
    -------
    ndarray of int8, shape (m,)
        -1, 0 or 1.
    """
    rest = np.concatenate([terms, np.zeros((len(terms), 1))], axis=1)
    n_terms = rest.shape[1]
    width = 52 - math.ceil(math.log2(n_terms))
    signs = np.zeros(len(terms), dtype=np.int8)
    active = np.arange(len(terms))
    while active.size:
        largest = np.abs(rest).max(axis=1)
        alive = largest > 0
        active, rest, largest = active[alive], rest[alive], largest[alive]
        exponent = np.frexp(largest)[1] - width
        integers = np.rint(np.ldexp(rest, -exponent[:, None]))
        total = integers.sum(axis=1)
        rest -= np.ldexp(integers, exponent[:, None])
        decided = np.abs(total) > n_terms
        signs[active[decided]] = np.sign(total[decided])
        keep = ~decided
        active, rest = active[keep], rest[keep]
        # The last column is an exact multiple of the grid, so its own remainder is zero here.
        rest[:, -1] = np.ldexp(total[keep], exponent[keep])
    return signs


def compare_scores(
    x: np.ndarray, a: np.ndarray, b: np.ndarray, *, squares: bool = True
) -> np.ndarray:
    """Exact sign of s_a − s_b with s_c = x·c − |c|²/2, row by row: 1 where a is nearer to x than b.

    Parameters
    ----------
    x, a, b : ndarray, shape (m, D)
        float32 or float64, all of one dtype, finite.
    squares : bool, default True
        False compares x·a and x·b alone.

    Returns
    -------
    ndarray of int8, shape (m,)
    """
    if x.dtype == np.float32:  # products of two float32 numbers are exact in float64
        x, a, b = (v.astype(np.float64) for v in (x, a, b))
        terms = [x * a, -x * b] + ([-0.5 * a * a, 0.5 * b * b] if squares else [])
        return sign_of_sums(np.concatenate(terms, axis=1))
    together = np.abs(np.stack([x, a, b]))
    largest = together.max(axis=(0, 2))
    exponent = np.where(largest > 0, np.frexp(largest)[1], 0)
    smallest = np.where(together > 0, together, np.inf).min(axis=(0, 2))
    safe = ~(np.frexp(smallest)[1] < exponent - _SAFE_BINADES) | (largest == 0)
    signs = np.zeros(len(x), dtype=np.int8)
    if safe.any():
        x_s, a_s, b_s = (np.ldexp(v[safe], -exponent[safe, None]) for v in (x, a, b))
        products = [(1, x_s, a_s), (-1, x_s, b_s), (-0.5, a_s, a_s), (0.5, b_s, b_s)]
        parts = []
        for factor, u, v in products if squares else products[:2]:
            parts += [factor * part for part in two_product(u, v)]
        signs[safe] = sign_of_sums(np.concatenate(parts, axis=1))
    for i in np.flatnonzero(~safe):
        signs[i] = _fraction_sign(x[i], a[i], b[i], squares)
    return signs


def _fraction_sign(x: np.ndarray, a: np.ndarray, b: np.ndarray, squares: bool) -> int:
    total = Fraction(0)
    for xi, ai, bi in zip(x.tolist(), a.tolist(), b.tolist(), strict=True):
        total += Fraction(xi) * (Fraction(ai) - Fraction(bi))
        if squares:
            total += (Fraction(bi) ** 2 - Fraction(ai) ** 2) / 2
    return (total > 0) - (total < 0)
