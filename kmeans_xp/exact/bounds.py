"""Rounding error bounds: what a fast result may be off by.

The constants follow N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed. (SIAM
2002), section 3.1; they hold for any order of summation, with or without fused multiply-add.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kmeans_xp.exact.dyadic import lowest_bit

__all__ = [
    "EXACT_INTEGER",
    "FLOAT32",
    "FLOAT64",
    "TINY_SQUARE",
    "ScoreBound",
    "distance_slack",
    "gamma",
    "is_exact_grid",
    "score_bound",
]

FLOAT32 = 2.0**-24
FLOAT64 = 2.0**-53
# Every integer up to this magnitude is a float64 number.
EXACT_INTEGER = 1 << 53
# An operation may flush a subnormal result to zero.
TINY32 = 2.0**-126
TINY_SQUARE = 2.0**-80
# Float64 work is done on data scaled to about 1, where this covers every underflow.
TINY64 = 2.0**-1000


def gamma(n: int, unit: float) -> float:
    """Higham's γ_n = n·u / (1 − n·u); infinite where it says nothing."""
    return n * unit / (1 - n * unit) if n * unit < 0.5 else math.inf


@dataclass(frozen=True)
class ScoreBound:
    """Bound of the error of every fast score of a row: ``slope * |row| + offset``."""

    slope: float
    offset: float


def score_bound(
    n_features: int,
    center_norm: float,
    center_error: float,
    *,
    input_unit: float = 0.0,
    shift: float = 0.0,
) -> ScoreBound:
    """Bound |ŝ − s| for the float32 score s = x·c − |c|²/2, as a function of |x̂|.

    Rows are x̂ = fl(x·scale − centre), so |x̂ − x| <= u|x| and an underflow per feature;
    centroids are off by
    at most `center_error`. The D + 1 products are summed in float32 in any order.

    Parameters
    ----------
    n_features : int
        D.
    center_norm : float
        Largest |c| over the centroids (upper bound, scaled and centred).
    center_error : float
        Largest |c − ĉ| over the centroids (upper bound).
    input_unit : float
        Relative rounding of the factors inside the matrix product: 0 for a true float32 product,
        2**-11 for TF32, 2**-8 for bfloat16.
    shift : float
        The most that was added to −|c|²/2, before it was rounded to float32.
    """
    u = FLOAT32
    half = 0.5 * (center_norm + center_error) ** 2 + shift
    product = gamma(n_features + 4, u) + 2 * input_unit + input_unit**2
    row_error = 1.01 * u + 2.0**-50
    slope = product * (center_norm + center_error) + center_error + row_error * center_norm
    tiny = TINY32 * (4 * n_features + 8 + 2 * math.sqrt(n_features) * (center_norm + 1))
    offset = (gamma(n_features + 4, u) + 2 * input_unit + 2 * u) * half + tiny
    # The margin pays for evaluating these few operations, and the row's norm, in floating point.
    return ScoreBound(slope * (1 + 1e-5), offset * (1 + 1e-5) + TINY32)


def distance_slack(n_features: int, input_unit: float = 0.0) -> float:
    """Bound |d̂ − d| <= slack·(|x̂| + |ĉ|)² + tiny of d̂ = |x̂|² − 2x̂·ĉ + |ĉ|² computed in
    float32.

    |x̂|² may come from `Backend.row_norms`, which rounds up. The roundings of the rows and centres
    to float32 are covered too; tiny is `TINY_SQUARE`.
    """
    return 6 * gamma(n_features + 8, FLOAT32) + 64 * FLOAT32 + 5 * input_unit


def is_exact_grid(n_features: int, *arrays: np.ndarray) -> bool:
    """Whether float64 computes distances and scores among these values without any rounding.

    True if all values are multiples of one power of two and so small a multiple that differences,
    products and their sums over `n_features` need at most 53 bits.
    """
    largest = max((float(np.abs(a).max()) for a in arrays if a.size), default=0.0)
    if largest == 0.0:
        return True
    grid = min(lowest_bit(a) for a in arrays)
    steps = math.frexp(largest)[1] + 1 - grid  # bits of a difference
    return 2 * steps + math.ceil(math.log2(n_features + 1)) + 3 <= 53
