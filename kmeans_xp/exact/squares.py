"""The exact Σ w·|x − c|² of a batch, rounded once: float64 with a certificate, Python integers
where it fails.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kmeans_xp.exact.bounds import FLOAT64, gamma
from kmeans_xp.exact.dyadic import Dyadic, float_integers
from kmeans_xp.exact.predicate import two_product

__all__ = ["TINY", "Enclosure", "enclose_squares", "exact_squares", "round_enclosures"]

# Terms smaller than this, in units where every value is below 1, may have underflowed.
TINY = 2.0**-990


@dataclass(frozen=True)
class Enclosure:
    """A real number known as ``(whole + rest ± error) * 2**exponent``, `whole` an integer."""

    whole: float
    rest: float
    error: float
    exponent: int


def enclose_squares(
    x: np.ndarray, c: np.ndarray, w: np.ndarray | None, exponent: int, weight_exponent: int = 0
) -> Enclosure:
    """Σ w·|x − c|² over rows, to about 70 bits.

    Parameters
    ----------
    x, c : ndarray, shape (n, D)
        Rows and the centroid of each; float32 or float64.
    w : ndarray, shape (n,), or None
        Weights.
    exponent, weight_exponent : int
        Every value is below 2**exponent in magnitude, every weight below 2**weight_exponent.
    """
    square, low = _terms(x, c, w, exponent, weight_exponent)
    n = square.size
    scale = 52 - math.ceil(math.log2(max(n, 2))) - math.frexp(float(square.max()))[1]
    square = square * 2.0**scale if abs(scale) < 1000 else np.ldexp(square, scale)
    whole = np.rint(square)  # their sum stays below 2**53
    square -= whole
    main, fraction = float(whole.sum()), float(square.sum())
    below = math.ldexp(float(low.sum()), scale)
    low_size = math.ldexp(float(np.abs(low, out=low).sum()), scale)
    size = float(np.abs(square, out=square).sum())
    error = gamma(n, FLOAT64) * (size + low_size) + math.ldexp(n * TINY, scale)
    if low_size:  # each lower part is off by a few roundings of its own, and lacks w·lost²
        error += 32 * FLOAT64**2 * (main + size + low_size)
        error += 2 * FLOAT64 * (abs(fraction) + abs(below))
    unit = 2 * exponent + weight_exponent - scale
    return Enclosure(main, fraction + below, error * (1 + 1e-9), unit)


def _terms(
    x: np.ndarray, c: np.ndarray, w: np.ndarray | None, exponent: int, weight_exponent: int
) -> tuple[np.ndarray, np.ndarray]:
    """High and low parts of the terms, in units of 2**(2·exponent + weight_exponent)."""
    if abs(exponent) < 1000:
        x, c = x * np.float64(2.0**-exponent), c * np.float64(2.0**-exponent)
    else:
        x, c = (np.ldexp(part.astype(np.float64), -exponent) for part in (x, c))
    difference = x - c
    virtual = difference - x  # what the difference lost, exactly
    x -= difference - virtual
    c += virtual
    x -= c
    square = difference * difference
    high = difference * 134217729.0  # 2**27 + 1: two halves of 26 bits
    high -= high - difference
    rest = difference - high
    low = high * high
    low -= square
    high *= 2
    low += high * rest
    rest *= rest
    low += rest
    difference *= 2
    x *= difference
    low += x
    if w is not None:
        weights = np.ldexp(w.astype(np.float64), -weight_exponent)[:, None]
        low *= weights
        square, rest = two_product(square, weights)
        low += rest
    return square, low


def round_enclosures(parts: list[Enclosure]) -> float | None:
    """Round the sum of some numbers >= 0 once to float64; None where that is not certain."""
    if not all(math.isfinite(part.rest + part.error) for part in parts):
        return None
    if len(parts) == 1 and (usual := _round_usual(parts[0])) is not None:
        return usual
    middle, error = Dyadic(), Dyadic()
    for part in parts:
        middle += _dyadic(part.whole, part.exponent) + _dyadic(part.rest, part.exponent)
        error += _dyadic(part.error, part.exponent)
    below, above = float(middle + error * -1), float(middle + error)
    return above if below == above else None


def _round_usual(part: Enclosure) -> float | None:
    """Round one enclosure in float64; None where that is not certain or near the limits."""
    margin = part.error * (1 + 1e-9) + abs(part.rest) * 2.0**-51  # the sums below round once
    below = part.whole + (part.rest - margin)
    above = part.whole + (part.rest + margin)
    if below != above or not 2.0**-900 < below < 2.0**900 or abs(part.exponent) > 100:
        return None
    return math.ldexp(above, part.exponent)


def _dyadic(value: float, exponent: int) -> Dyadic:
    n, d = value.as_integer_ratio()
    return Dyadic(n, exponent - d.bit_length() + 1)


def exact_squares(x: np.ndarray, c: np.ndarray, w: np.ndarray | None) -> Dyadic:
    """Σ w·|x − c|² in Python integers; parameters as for `enclose_squares`."""
    values, unit = float_integers(np.stack([x.astype(np.float64), c.astype(np.float64)]))
    squares = ((values[0] - values[1]) ** 2).sum(axis=1)
    if w is None:
        return Dyadic(int(squares.sum()), 2 * unit)
    weights, weight_unit = float_integers(w)
    return Dyadic(int(np.dot(weights, squares)), 2 * unit + weight_unit)
