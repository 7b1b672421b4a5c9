"""Error-free arithmetic for compiled kernels: pairs of float64 whose sum is known to 100 bits.

T. J. Dekker, "A floating-point technique for extending the available precision", Numer. Math. 18
(1971); T. Ogita, S. M. Rump, S. Oishi, "Accurate sum and dot product", SIAM J. Sci. Comput. 26
(2005). Nothing here may be contracted or reordered, so nothing is compiled with fastmath.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from kmeans_xp.backends.jit import jit

__all__ = ["UNIT", "far_apart", "fma", "quotient", "rn12", "rounded", "square_distance", "two_sum"]

#: Unit roundoff of float64.
UNIT = 2.0**-53
# Relative error of a pair that holds a sum of squares of up to 2**16 terms.
_PAIR = 2.0**-85
_HALF = np.int64((1 << 40) - 1)
_MASK = np.int64(~((1 << 41) - 1))


@intrinsic  # type: ignore[misc] # numba has no types
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a·b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    double = types.float64
    return double(double, double, double), generate


@jit
def two_sum(a: float, b: float) -> tuple[float, float]:
    """Return a + b as the rounded sum and its error."""
    total = a + b
    virtual = total - a
    return total, (a - (total - virtual)) + (b - virtual)


@jit
def square_distance(x: Any, row: int, c: Any, k: int) -> tuple[float, float, bool]:
    """|x_row − c_k|² as a pair within `_PAIR`, and whether it is exact."""
    high, low, exact = 0.0, 0.0, True
    for j in range(c.shape[1]):
        d, e = two_sum(np.float64(x[row, j]), -c[k, j])
        square = d * d
        rest = fma(d, d, -square)
        if e != 0:
            rest += 2 * d * e + e * e
            exact = False
        high, error = two_sum(high, square)
        error, lost = two_sum(error, rest)
        low, more = two_sum(low, error)
        exact = exact and lost == 0 and more == 0
    high, low = two_sum(high, low)
    return high, low, exact


@jit
def far_apart(a: tuple[float, float, bool], b: tuple[float, float, bool]) -> int:
    """Sign of the real a − b of two such pairs; 2 where it is not known."""
    difference = (a[0] - b[0]) + (a[1] - b[1])
    if a[2] and b[2] and a[0] == b[0] and a[1] == b[1]:
        return 0
    if abs(difference) <= _PAIR * (a[0] + b[0]):
        return 2
    return 1 if difference > 0 else -1


@jit
def rn12(value: float) -> float:
    """Round a normal value to 12 significant bits, ties to even."""
    bits = np.float64(value).view(np.int64)
    bits = (bits + _HALF + ((bits >> np.int64(41)) & np.int64(1))) & _MASK
    return np.int64(bits).view(np.float64)


@jit
def rounded(high: float, low: float, error: float, narrow: bool) -> tuple[float, bool]:
    """Round high + low, known within `error`, once; says whether that is certain.

    An error of zero means that the sum is exact.
    """
    if not narrow:
        below, above = high + (low - error), high + (low + error)
        return below, below == above
    if error == 0 and low == 0:
        return np.float64(np.float32(high)), True
    # one ulp outwards, or rounding twice could cross a midpoint
    below = np.nextafter(high + (low - error), -np.inf)
    above = np.nextafter(high + (low + error), np.inf)
    down, up = np.float32(below), np.float32(above)
    return np.float64(down), down == up


@jit
def quotient(a: float, b: float, c: float, n: float) -> tuple[float, float, float]:
    """(a + b + c) / n as a pair and the error of the pair; 0 if it is exact."""
    a, b = two_sum(a, b)
    b, c = two_sum(b, c)
    a, b = two_sum(a, b)
    b, c = two_sum(b, c)
    high = a / n
    product = high * n
    rest, lost = two_sum((a - product) - fma(high, n, -product), b)
    low = rest / n
    if c == 0 and lost == 0 and fma(low, n, -rest) == 0:
        return high, low, 0.0
    return high, low, 8 * UNIT * abs(low) + 2 * (abs(c) + abs(lost)) / n + 4 * UNIT**2 * abs(high)
