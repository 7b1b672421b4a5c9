"""Numbers of the form n * 2**e with Python integers, and their correct rounding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["Dyadic", "float_integers", "lowest_bit", "rn12", "round_ratio"]

# significant bits and the exponent of the smallest subnormal number
_FORMAT = {np.dtype(np.float32): (24, -149), np.dtype(np.float64): (53, -1074)}


class Dyadic:
    """The exact number ``n * 2**e``."""

    __slots__ = ("e", "n")

    def __init__(self, n: int = 0, e: int = 0) -> None:
        self.n, self.e = n, e

    def __add__(self, other: Dyadic) -> Dyadic:
        e = min(self.e, other.e)
        return Dyadic((self.n << (self.e - e)) + (other.n << (other.e - e)), e)

    def __mul__(self, factor: int) -> Dyadic:
        return Dyadic(self.n * factor, self.e)

    def __float__(self) -> float:
        """Nearest float64, ties to even; infinity beyond the largest."""
        return round_ratio(self.n, 1, self.e, np.dtype(np.float64))

    def as_ratio(self) -> tuple[int, int]:
        """Integer numerator and denominator."""
        return (self.n << self.e, 1) if self.e >= 0 else (self.n, 1 << -self.e)


def round_ratio(num: int, den: int, exp: int, dtype: np.dtype[Any]) -> float:
    """Round ``num / den * 2**exp`` once to `dtype` (nearest, ties to even).

    Parameters
    ----------
    num, den : int
        Numerator and positive denominator.
    exp : int
        Power of two.
    dtype : numpy.dtype
        float32 or float64.

    Returns
    -------
    float
        A value of `dtype`; zero is +0, an overflow is infinite.
    """
    if num == 0:
        return 0.0
    sign, num = (-1.0, -num) if num < 0 else (1.0, num)
    bits, lowest = _FORMAT[np.dtype(dtype)]
    top = num.bit_length() - den.bit_length()
    if (num << max(-top, 0)) < (den << max(top, 0)):
        top -= 1  # now 2**top <= num / den < 2**(top + 1)
    unit = max(top + exp - bits + 1, lowest)
    shift = unit - exp
    num, den = (num, den << shift) if shift >= 0 else (num << -shift, den)
    quotient, rest = divmod(num, den)
    if 2 * rest > den or (2 * rest == den and quotient & 1):
        quotient += 1
    limit = float(np.finfo(dtype).max)
    try:
        value = math.ldexp(quotient, unit)
    except OverflowError:
        return sign * math.inf
    value = value if value <= limit else math.inf
    return sign * value if value else 0.0


def float_integers(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Write finite floats as Python integers times one common power of two.

    Parameters
    ----------
    values : ndarray of float32 or float64
        Any shape.

    Returns
    -------
    integers : ndarray of object
        Python integers, same shape.
    exponent : int
        ``values == integers * 2**exponent`` exactly.
    """
    mantissa, exponent = np.frexp(values.astype(np.float64))
    units = np.ldexp(mantissa, 53).astype(np.int64)
    nonzero = units != 0
    if not nonzero.any():
        return np.zeros(values.shape, dtype=object), 0
    lowest = int(exponent[nonzero].min())
    shift = np.where(nonzero, exponent.astype(np.int64) - lowest, 0)
    if int(shift.max()) <= 9:  # the common case stays within int64 until the very end
        return (units << shift).astype(object), lowest - 53
    return units.astype(object) << shift.astype(object), lowest - 53


def lowest_bit(values: np.ndarray) -> float:
    """Exponent of the lowest set bit over all `values` (infinite if all are zero)."""
    mantissa, exponent = np.frexp(values.astype(np.float64, copy=False))
    units = np.ldexp(mantissa, 53).astype(np.int64)
    nonzero = units != 0
    if not nonzero.any():
        return math.inf
    low = (units & -units)[nonzero].astype(np.float64)  # powers of two: exact
    return float((exponent[nonzero] + np.frexp(low)[1]).min()) - 54


def rn12(values: np.ndarray) -> np.ndarray:
    """Round non-negative float64 values to 12 significant bits, ties to even.

    Subnormal values must not occur: the callers scale and flush first.
    """
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.int64)
    drop = 53 - 12
    rounded = (bits + ((1 << (drop - 1)) - 1) + ((bits >> drop) & 1)) >> drop << drop
    return rounded.view(np.float64)
