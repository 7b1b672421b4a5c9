"""Exact totals of many floating-point numbers of any size, and of their squares."""

from __future__ import annotations

import numpy as np

from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.predicate import two_product

__all__ = ["exact_total", "square_total"]

# Numbers taken at a time: halves of 27 bits, this many of them, sum below 2^53.
_CHUNK = 1 << 20
_LOW = 26


def exact_total(values: np.ndarray, exponents: np.ndarray | int = 0) -> Dyadic:
    """Real Σ values·2^exponents: mantissas are counted by exponent, in two halves that never round.

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
    exponents : ndarray of int, shape (n,), or int
    """
    total, scales = Dyadic(), np.broadcast_to(exponents, values.shape)
    for i in range(0, len(values), _CHUNK):
        part = slice(i, i + _CHUNK)
        mantissa, exponent = np.frexp(values[part])
        exponent = exponent + scales[part]
        some = mantissa != 0
        if not some.any():
            continue
        units, exponent = np.ldexp(mantissa[some], 53).astype(np.int64), exponent[some]
        lowest = int(exponent.min())
        bins = exponent - lowest
        high = np.bincount(bins, units >> _LOW)
        low = np.bincount(bins, units & ((1 << _LOW) - 1))
        for place in np.flatnonzero((high != 0) | (low != 0)).tolist():
            count = (int(high[place]) << _LOW) + int(low[place])
            total = total + Dyadic(count, lowest + place - 53)
    return total


def square_total(x: np.ndarray, w: np.ndarray | None = None) -> Dyadic:
    """Real Σ w·x² of float32 or float64 numbers, shape (n,); Σ x² without weights."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    exponent = 2 * exponent.astype(np.int64)
    narrow = x.dtype == np.float32  # squares are exact then
    parts = [mantissa * mantissa] if narrow else list(two_product(mantissa, mantissa))
    if w is not None:
        factor, scale = np.frexp(w.astype(np.float64))
        exponent = exponent + scale
        parts = [piece for part in parts for piece in two_product(part, factor)]
    total = Dyadic()
    for part in parts:
        total = total + exact_total(part, exponent)
    return total
