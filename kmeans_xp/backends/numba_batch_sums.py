"""Exact sums of a tiny problem's clusters, which rows join and leave, and their rounded means.

A value is a sum of integers, level by level. Units of the first level are powers of two, as small
as sums of all rows allow; those of each further level are `step` times smaller. This module needs
numba.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmeans_xp.backends.jit import jit
from kmeans_xp.backends.numba_exact import fma, quotient, rounded, two_sum

__all__ = ["LEVELS", "carry", "means", "move", "pair", "units"]

#: Levels that the kernels know.
LEVELS = 3
# Sums of all rows fit int64 with a bit to spare.
_SUM_BITS = 62


@jit
def units(totals: Any, n_rows: int, scale: Any, back: Any) -> float:
    """Fill what brings each feature to units of the first level, and back; returns `step`.

    `totals` are Σ|x| of the features: no sum of some rows can be larger.
    """
    for j in range(len(totals)):
        up = _SUM_BITS - 1 - math.frexp(totals[j])[1]
        scale[j], back[j] = 2.0**up, 2.0**-up
    return 2.0 ** (_SUM_BITS - math.frexp(np.float64(n_rows))[1])


@jit
def _deeper(x: Any, row: int, source: Any, target: Any, scale: Any, step: float, sums: Any) -> bool:
    """Carry what the first level leaves of a row; False if the levels do not hold it."""
    left = False
    for j in range(x.shape[1]):
        rest = np.float64(x[row, j]) * scale[j]
        rest -= np.rint(rest)
        for level in range(1, LEVELS):
            rest *= step
            part = np.rint(rest)
            sums[level, target, j] += np.int64(part)
            sums[level, source, j] -= np.int64(part)
            rest -= part
        left |= rest != 0
    return not left


@jit
def carry(x: Any, row: int, source: Any, target: Any, scale: Any, step: float, sums: Any) -> bool:
    """Take a row from the sums of one cluster to those of another; False if the levels do not
    hold it.
    """
    more = 0
    for j in range(x.shape[1]):
        value = np.float64(x[row, j]) * scale[j]
        whole = np.rint(value)
        part = np.int64(whole)
        more += value != whole
        sums[0, target, j] += part
        sums[0, source, j] -= part
    return more == 0 or _deeper(x, row, source, target, scale, step, sums)


@jit
def move(
    x: Any,
    new: Any,
    labels: Any,
    scale: Any,
    step: float,
    sums: Any,
    counts: Any,
    touched: Any,
) -> int:
    """Bring sums and counts up to date with new labels, which become the labels.

    How many rows changed is returned, or -1 if the levels do not hold one. Rows that are in no
    cluster yet have a label of their own, one beyond the last.
    """
    changed = 0
    for r in range(len(new)):
        source, target = np.uintp(labels[r]), np.uintp(new[r])
        if source == target:
            continue
        changed += 1
        counts[source] -= 1
        counts[target] += 1
        touched[source] = touched[target] = True
        labels[r] = new[r]
        more = 0
        for j in range(x.shape[1]):  # as `carry`: a call a row would take twice the time
            value = np.float64(x[r, j]) * scale[j]
            whole = np.rint(value)
            part = np.int64(whole)
            more += value != whole
            sums[0, target, j] += part
            sums[0, source, j] -= part
        if more and not _deeper(x, r, source, target, scale, step, sums):
            return -1
    return changed


@jit
def _quick_means(
    sums: Any, k: int, step: float, count: float, sure: bool, back: Any, c: Any
) -> bool:
    """Means of a cluster in float64, rounded to float32; False if a rounding is not certain.

    `count` is exact where that is `sure`, else rounded.
    """
    open_values, slack = 0, 2.0**-49 / count
    unit = 1 / step
    for j in range(c.shape[1]):
        first = np.float64(sums[0, k, j])
        second = np.float64(sums[1, k, j]) * unit
        third = np.float64(sums[2, k, j]) * unit * unit
        value = (first + second + third) / count
        size = abs(first) + abs(second) + abs(third)
        off = size * slack
        mean = np.float32(value)
        out = np.float64(mean) * back[j]
        same = (np.float32(value - off) == mean) & (np.float32(value + off) == mean)
        exact = sure & (second == 0) & (third == 0) & (np.int64(first) == sums[0, k, j])
        exact &= fma(value, count, -first) == 0  # then the one rounding is that to float32
        normal = (abs(value) > 2.0**-100) & (abs(out) > 2.0**-120)
        open_values += not (((same | exact) & normal) | (size == 0))
        c[k, j] = out + 0.0
    return open_values == 0


@jit
def pair(sums: Any, k: int, j: int, step: float) -> tuple[float, float, float]:
    """Sum of a feature of a cluster in units of the first level: a pair, and what it may lack."""
    high, low, lost, unit = 0.0, 0.0, 0.0, 1.0
    for level in range(LEVELS):
        whole = sums[level, k, j]
        below = whole & 0xFFFFFFFF
        for part in (np.float64(whole - below) * unit, np.float64(below) * unit):
            high, rest = two_sum(high, part)
            low, error = two_sum(low, rest)
            lost += abs(error)
        unit /= step
    high, low = two_sum(high, low)
    return high, low, lost


@jit
def _is_quotient(value: float, high: float, low: float, count: tuple[float, float]) -> bool:
    """Whether value times the pair `count` surely is high + low, which it nearly is."""
    first, second = value * count[0], value * count[1]
    left, e0 = two_sum(high, -first)
    left, e1 = two_sum(left, -fma(value, count[0], -first))
    left, e2 = two_sum(left, low)
    left, e3 = two_sum(left, -second)
    inexact = (e0 != 0) | (e1 != 0) | (e2 != 0) | (e3 != 0)
    return left == 0 and not inexact and fma(value, count[1], -second) == 0


@jit
def _mean(
    sums: Any, k: int, j: int, step: float, count: tuple[float, float], narrow: bool
) -> tuple[float, bool]:
    """Mean of a feature of a cluster in units of the first level, and whether it is certain."""
    high, low, lost = pair(sums, k, j, step)
    near, rest, error = quotient(high, low, 0.0, count[0])
    if count[1] != 0:
        rest -= near * (count[1] / count[0])
        error += 2.0**-100 * abs(near)
        if lost == 0 and _is_quotient(near + rest, high, low, count):
            near, rest, error = near + rest, 0.0, 0.0
    if lost != 0:  # it may be too small to move the sums that `rounded` forms: they round, too
        error += 2 * lost / count[0] + 2.0**-52 * abs(rest)
    value, certain = rounded(near, rest, error, narrow)
    return value, certain and ((high == 0 and lost == 0) or abs(value) > 2.0**-100)


@jit
def means(
    sums: Any, counts: Any, touched: Any, back: Any, step: float, narrow: bool, c: Any
) -> bool:
    """Correctly rounded means of the clusters that were touched; False if a rounding cannot be
    told. A cluster without rows that weigh keeps its centroid.
    """
    smallest, weighted = 2.0**-120 if narrow else 2.0**-400, sums.shape[2] > c.shape[1]
    for k in range(len(c)):
        if not touched[k]:
            continue
        touched[k] = False
        if counts[k] == 0:
            continue
        count, rest, lost = np.float64(counts[k]), 0.0, 0.0
        if weighted:
            count, rest, lost = pair(sums, k, c.shape[1], step)
        if lost != 0:
            return False
        if narrow and _quick_means(sums, k, step, count, rest == 0, back, c):
            continue
        for j in range(c.shape[1]):
            value, certain = _mean(sums, k, j, step, (count, rest), narrow)
            value *= back[j]
            if not certain or (value != 0 and abs(value) < smallest):
                return False
            c[k, j] = value + 0.0
    return True
