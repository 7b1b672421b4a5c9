"""Weights of a tiny problem: which are taken, and exact sums of w·x and w; needs numba.

Sums are those of `numba_batch_sums`, with one feature more: the weight itself. A product w·x is the
pair of float64 that holds it exactly. A problem without weights has an array of none.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kmeans_xp.backends.jit import jit
from kmeans_xp.backends.numba_batch_sums import LEVELS
from kmeans_xp.backends.numba_exact import fma

__all__ = ["carry_value", "carry_weighted", "move_weighted", "weighted_totals"]

# Weights inside, and not so far below the largest, keep all potentials above those that count as
# zero, and all products far from the ends of float64.
_SMALL, _LARGE, _RATIO = 2.0**-100, 2.0**100, 2.0**-50


@jit
def weighted_totals(x: Any, w: Any, totals: Any) -> bool:
    """Σ w|x| of every feature and Σ w, roughly; False for weights that are not taken."""
    largest, least, total = 0.0, np.inf, 0.0
    for r in range(len(w)):
        largest, total = max(largest, w[r]), total + w[r]
        if w[r] > 0:
            least = min(least, w[r])
    totals[:] = 0
    for r in range(len(w)):
        for j in range(x.shape[1]):
            totals[j] += abs(w[r] * x[r, j])
    totals[x.shape[1]] = total
    return _SMALL < largest < _LARGE and least >= largest * _RATIO


@jit
def carry_value(value: float, j: int, source: Any, target: Any, step: float, sums: Any) -> bool:
    """Take a value, in units of the first level, from a cluster to another; False if it is too fine
    for the levels.
    """
    for level in range(LEVELS):
        part = np.rint(value)
        sums[level, target, j] += np.int64(part)
        sums[level, source, j] -= np.int64(part)
        value = (value - part) * step
        if value == 0:
            return True
    return False


@jit
def carry_weighted(
    x: Any, w: Any, row: int, source: Any, target: Any, scale: Any, step: float, sums: Any
) -> bool:
    """Take a row from the sums of one cluster to those of another; False if the levels do not
    hold it.
    """
    d, weight, fine = x.shape[1], w[row], True
    for j in range(d):
        value = np.float64(x[row, j])
        high = weight * value
        low = fma(weight, value, -high)
        fine &= carry_value(high * scale[j], j, source, target, step, sums)
        if low != 0:
            fine &= carry_value(low * scale[j], j, source, target, step, sums)
    return fine and carry_value(weight * scale[d], d, source, target, step, sums)


@jit
def move_weighted(
    x: Any,
    w: Any,
    new: Any,
    labels: Any,
    scale: Any,
    step: float,
    sums: Any,
    counts: Any,
    touched: Any,
) -> int:
    """`numba_batch_sums.move` with weights: rows of weight zero count as changed alone."""
    changed = 0
    for r in range(len(new)):
        source, target = np.uintp(labels[r]), np.uintp(new[r])
        if source == target:
            continue
        changed += 1
        labels[r] = new[r]
        if w[r] == 0:
            continue
        counts[source] -= 1
        counts[target] += 1
        touched[source] = touched[target] = True
        if not carry_weighted(x, w, r, source, target, scale, step, sums):
            return -1
    return changed
