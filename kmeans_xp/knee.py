"""What the inertia over the number of clusters says: its knee, and the gap statistic's rule.

Everything is arithmetic on a few host floats. Kneedle is a dozen lines, and the package that has it
would bring SciPy along, so it is written out here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

__all__ = ["bend", "first_gap", "knee", "speeds_up"]

# Data without clusters bend by up to 0.05, separate groups by 0.1 to 0.5.
_DROP = 0.075


def bend(sizes: Sequence[int], inertia: Sequence[float]) -> np.ndarray:
    """How far below its chord the inertia lies, in log-log axes scaled to the unit square.

    Data without clusters give an inertia that falls as a power of k (as k^(-2/D), P. L. Zador,
    IEEE Trans. Inf. Theory 28 (1982)): a straight line in these axes, where in linear ones every
    such curve seems to have a knee.

    Returns
    -------
    ndarray, shape of `sizes`
        Kneedle's difference curve; NaN where the inertia is 0, or where nothing can be said.
    """
    x, y = np.log(np.asarray(sizes, dtype=np.float64)), np.asarray(inertia, dtype=np.float64)
    curve = np.full(len(x), np.nan)
    positive = y > 0
    if positive.sum() < 3:
        return curve
    x, y = x[positive], np.log(y[positive])
    if y.max() > y.min():
        curve[positive] = (y.max() - y) / (y.max() - y.min()) - (x - x[0]) / (x[-1] - x[0])
    return curve


def knee(curve: np.ndarray, drop: float = _DROP) -> int | None:
    """Position of the knee: the highest of the local maxima that the curve falls well below.

    V. Satopaa, J. Albrecht, D. Irwin, B. Raghavan, "Finding a 'Kneedle' in a haystack", ICDCS
    workshops 2011: a maximum counts if, before the next one, the curve falls below it by a multiple
    of the mean step in x. Here by a fixed part of the unit square: that step is too much to ask of
    four values of k, and too little of forty.
    """
    known = np.flatnonzero(np.isfinite(curve))
    d = curve[known]
    tops = [i for i in range(1, len(d) - 1) if d[i - 1] < d[i] >= d[i + 1] and d[i] > 0]
    found = [
        top for top, end in itertools.pairwise([*tops, len(d)]) if d[top:end].min() < d[top] - drop
    ]
    return int(known[max(found, key=lambda i: d[i])]) if found else None


def speeds_up(curve: np.ndarray, drop: float = _DROP) -> bool:
    """Whether the inertia falls faster and faster, as it does before the number of groups."""
    known = curve[np.isfinite(curve)]
    return bool(known.size) and bool(known.min() < -drop)


def first_gap(gap: Sequence[float], error: Sequence[float]) -> int | None:
    """Return the first position whose gap is at least the next one less its error.

    R. Tibshirani, G. Walther, T. Hastie, "Estimating the number of clusters in a data set via the
    gap statistic", J. R. Stat. Soc. B 63 (2001), equation 6.
    """
    for i in range(len(gap) - 1):
        if gap[i] >= gap[i + 1] - error[i + 1] or math.isinf(gap[i]):
            return i
    return None
