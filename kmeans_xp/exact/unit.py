"""Rows of length 1: norms rounded once to 53 bits, quotients rounded once to the dtype.

A norm is the square root of a sum of two float64 numbers, with a certificate; Python integers
decide where it fails.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmeans_xp.exact.bounds import FLOAT64, TINY64
from kmeans_xp.exact.dyadic import float_integers, round_ratio
from kmeans_xp.exact.predicate import two_product

__all__ = [
    "UNIT_ERROR",
    "accurate_cosines",
    "norm_excess",
    "rounded_norms",
    "unit_centroids",
    "unit_rows",
]

# Every centroid has ||c|² − 1| <= UNIT_ERROR[dtype]: its norm is within 2**(2 − p) of 1, p the bits
# of its dtype, and that norm was rounded.
UNIT_ERROR = {np.dtype(np.float32): 2.0**-20, np.dtype(np.float64): 2.0**-49}
_KEEP = {np.dtype(np.float32): 2.0**-22, np.dtype(np.float64): 2.0**-51}
# Exponents beyond this are moved towards zero before a division.
_LARGE_EXPONENT = 900
# One exact level of squares is enough up to this many features.
_ONE_LEVEL = 128
# Values worked on at a time: the temporary arrays stay in cache.
_ENTRIES = 1 << 15


def unit_rows(x: np.ndarray) -> np.ndarray:
    """Correctly rounded x/n, row by row, n the norm |x| correctly rounded to 53 bits.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (m, D)
        Finite rows, none of them zero.

    Returns
    -------
    ndarray, shape (m, D)
        In the dtype of x; every zero is +0.
    """
    out = np.empty_like(x)
    step = max(1, _ENTRIES // x.shape[1])
    with np.errstate(all="ignore"):
        for i in range(0, len(x), step):
            out[i : i + step] = _quotients(x[i : i + step])
    return out + x.dtype.type(0)


def _quotients(x: np.ndarray) -> np.ndarray:
    """Rows over their norms in float64, to be rounded to the dtype of x."""
    rows = x.astype(np.float64)
    norms, exponents = rounded_norms(rows, x.dtype == np.float32)
    # a subnormal quotient is rounded once, so nothing may underflow before: what does so here
    # is too small to show in the quotient
    shift = np.where(exponents > _LARGE_EXPONENT, -128, 0)
    shift[exponents < -_LARGE_EXPONENT] = 256
    if shift.any():
        rows = np.ldexp(rows, shift[:, None])
    norms = np.ldexp(norms, exponents + shift)[:, None]
    quotient = rows / norms
    if x.dtype == np.float32:
        _leave_middles(quotient, rows, norms)
    return quotient


def unit_centroids(given: np.ndarray, name: str) -> np.ndarray:
    """`unit_rows` of given centroids; those of norm 1 up to rounding are kept as they are.

    So the centroids that a fit returned mean the same when they are given back.

    Raises
    ------
    ValueError
        For a zero row, naming the argument.
    """
    zero = np.flatnonzero(~given.any(axis=1))
    if zero.size:
        raise ValueError(
            f"{name} must have a direction for metric='cosine'; {name}[{zero[0]}] is zero as "
            f"{given.dtype} (the first such row)"
        )
    norms, exponents = rounded_norms(given.astype(np.float64), given.dtype == np.float32)
    exponents = np.clip(exponents, -64, 64)  # still far from 1, and no overflow
    keep = np.abs(np.ldexp(norms, exponents) - 1) <= _KEEP[given.dtype]
    return np.where(keep[:, None], given, unit_rows(given))


def norm_excess(x: np.ndarray) -> tuple[np.ndarray, float]:
    """|x|² − 1 of rows of about length 1, and how far off any of them may be."""
    high, low, slack = _squared_norms(x.astype(np.float64), x.dtype == np.float32)
    excess = (high - 1.0) + low  # the difference is exact
    return excess, slack + 2 * FLOAT64 * float(np.abs(excess).max())


def accurate_cosines(x: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """All 1 − x·c in float64 to a few rounding errors, even where they nearly cancel.

    Parameters
    ----------
    x : ndarray, shape (n, D)
    centers : ndarray, shape (K, D)
        Both of length 1 up to rounding.

    Returns
    -------
    ndarray of float64, shape (n, K)
    """
    x, c = x.astype(np.float64), centers.astype(np.float64)
    distance = 1.0 - x @ c.T
    rows, columns = np.nonzero(distance < 1e-2)
    excess, center_excess = norm_excess(x)[0], norm_excess(c)[0]
    step = max(1, _ENTRIES // x.shape[1])
    for i in range(0, len(rows), step):
        r, k = rows[i : i + step], columns[i : i + step]
        difference = x[r] - c[k]
        squared = np.einsum("ij,ij->i", difference, difference)
        distance[r, k] = 0.5 * (squared - (excess[r] + center_excess[k]))
    return distance


def rounded_norms(x: np.ndarray, narrow: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Norms of float64 rows, correctly rounded to 53 bits without a limit of the exponent.

    Parameters
    ----------
    x : ndarray of float64, shape (m, D)
        Finite.
    narrow : bool
        Every value is a float32: squares are exact.

    Returns
    -------
    value : ndarray of float64, shape (m,)
    exponent : ndarray of int, shape (m,)
        The norms are value·2**exponent; ½ <= value <= √D·(1 + 2**-53), or 0.
    """
    exponents = np.frexp(np.abs(x).max(axis=1))[1]
    high, low, slack = _squared_norms(np.ldexp(x, -exponents[:, None]), narrow)
    with np.errstate(all="ignore"):  # zero rows, for one
        squared = high + low
        rest = low - (squared - high)
        root = np.sqrt(squared)
        product, error = two_product(root, root)
        correction = (((squared - product) - error) + rest) / (2 * root)
        slack = slack / root + 2.0**-98 * root
    value = root + (correction - slack)
    certain = (value == root + (correction + slack)) | (squared == 0)
    value[squared == 0] = 0.0
    for i in np.flatnonzero(~certain):
        value[i] = _norm_by_integers(x[i], int(exponents[i]))
    return value, exponents


def _squared_norms(x: np.ndarray, narrow: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Row sums of squares of float64 values up to 1 in magnitude, as high + low, and how far off.

    Leading bits are added as multiples of a common power of two, without error.
    """
    n_features = x.shape[1]
    bits = 52 - math.ceil(math.log2(n_features + 1))
    square, tail = (x * x, None) if narrow else two_product(x, x)
    levels = []
    for level in range(1 if n_features <= _ONE_LEVEL else 2):
        unit = 2.0 ** -(bits * (level + 1))
        part = np.rint(square / unit) * unit
        levels.append(part.sum(axis=1))
        square -= part
        if level == 0 and tail is not None:
            square += tail  # rounds once: the tail is below 2**-53
    low = square.sum(axis=1)
    for level in levels[:0:-1]:
        low = level + low
    # what is left is below one unit of the last level a feature, and D additions round it
    rounding = 2 + (n_features + 3) * (2.0**-bits if len(levels) > 1 else 1.0)
    slack = 2 * FLOAT64 * n_features * 2.0**-bits * rounding + n_features * TINY64
    return levels[0], low, slack


def _norm_by_integers(x: np.ndarray, exponent: int) -> float:
    """Norm of one row in units of 2**exponent, by an integer square root."""
    integers, unit = float_integers(x)
    square = int(np.dot(integers, integers))
    more = max(0, 112 - square.bit_length()) // 2 + 1
    root = math.isqrt(square << 2 * more)
    inexact = root * root != square << 2 * more
    return round_ratio(2 * root + inexact, 1, unit - more - 1 - exponent, np.dtype(np.float64))


def _leave_middles(quotient: np.ndarray, x: np.ndarray, norms: np.ndarray) -> None:
    """Make float64 quotients safe to round again to float32, in place.

    Only a quotient in the very middle of two float32 numbers could round to the wrong one: it
    takes one step towards the real quotient.
    """
    middle = (quotient.view(np.int64) & ((1 << 29) - 1)) == 1 << 28
    small = np.abs(quotient) < 2.0**-126
    if small.any():
        units = quotient[small] * 2.0**149
        middle[small] = units - np.floor(units) == 0.5
    where: Any = np.nonzero(middle)
    some = quotient[where]
    product, error = two_product(some, np.broadcast_to(norms, x.shape)[where])
    rest = (x[where] - product) - error
    quotient[where] = np.nextafter(some, np.where(rest == 0, some, np.copysign(np.inf, rest)))
