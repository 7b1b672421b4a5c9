"""The starts of docs/exactness.md for a tiny problem, from the raw words of its stream."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmeans_xp.backends.jit import copied, jit
from kmeans_xp.backends.numba_distances import distances
from kmeans_xp.backends.numba_exact import fma, rn12, square_distance

__all__ = ["drawn_rows", "plus_plus", "weighted_rows"]


@jit
def _scaled(word: Any, total: int) -> Any:
    """(word · total) >> 64 of unsigned 64-bit numbers."""
    low32, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    t = np.uint64(total)
    a1, a0, b1, b0 = word >> shift, word & low32, t >> shift, t & low32
    middle = a1 * b0 + (a0 * b0 >> shift)
    other = a0 * b1 + (middle & low32)
    return np.int64(a1 * b1 + (middle >> shift) + (other >> shift))


@jit
def drawn_rows(x: Any, words: Any, place: int, c: Any) -> int:
    """Centroids at rows drawn without replacement; the place after the words that were used."""
    left = len(x)
    gone = np.empty(len(c), np.int64)
    for k in range(len(c)):
        row = _scaled(words[place], left << 30) >> 30
        place += 1
        left -= 1
        at = 0
        while at < k and gone[at] <= row:  # rows that are gone do not count
            row += 1
            at += 1
        for i in range(k, at, -1):
            gone[i] = gone[i - 1]
        gone[at] = row
        copied(x[row], c[k])
    return place


@jit
def weighted_rows(x: Any, w: Any, words: Any, place: int, c: Any, q: Any, rows: Any) -> int:
    """`drawn_rows` in proportion to weights; q has room for the rows, `rows` for those drawn."""
    scale, total = 2.0 ** (31 - math.frexp(w.max())[1]), np.int64(0)
    for r in range(len(w)):
        q[r] = math.floor(w[r] * scale)
        total += np.int64(q[r])
    for k in range(len(c)):
        if total == 0:  # those that are left count equally
            q[:] = 1.0
            for i in range(k):
                q[rows[i]] = 0.0
            total += len(w) - k
        row = _draw(q, 1.0, _scaled(words[place], total))
        place += 1
        total -= np.int64(q[row])
        q[row] = 0.0
        rows[k] = row
        copied(x[row], c[k])
    return place


@jit
def _potentials(x: Any, turned: Any, w: Any, c: Any, k: int, old: Any, d: Any, out: Any) -> bool:
    """rn12 of the weighted squared distance to centroid k, at most `old`; False if it cannot be
    told.
    """
    slack = (c.shape[1] + 8) * 2.0**-52
    distances(turned, c, k, d)
    for r in range(len(x)):
        weight = w[r] if len(w) else 1.0
        value = d[r] * weight
        low, high = rn12(value * (1 - slack)), rn12(value * (1 + slack))
        if value == 0:
            low = high = 0.0
        if low >= old[r]:
            out[r] = old[r]
            continue
        if low != high:
            exact = square_distance(x, r, c, k)
            value = exact[0] * weight
            if not exact[2] or exact[1] != 0 or fma(exact[0], weight, -value) != 0:
                return False
            low = rn12(value)
        out[r] = min(old[r], low)
    return True


@jit
def _draw(p: Any, scale: float, target: int) -> int:
    """The first row whose running sum of q exceeds the target."""
    running = 0
    for r in range(len(p)):
        running += math.floor(p[r] * scale)
        if running > target:
            return r
    return len(p) - 1


@jit
def _total(p: Any, scale: float) -> int:
    """Σ q."""
    total = 0
    for r in range(len(p)):
        total += math.floor(p[r] * scale)
    return total


@jit
def plus_plus(x: Any, turned: Any, w: Any, words: Any, place: int, c: Any, work: Any) -> int:
    """Greedy k-means++; the place after the words that were used, -1 if it cannot be told.

    `turned` has the features of x as rows; `work` has four rows of at least N values.
    """
    n = len(x)
    d, p = work[0, :n], work[1, :n]
    best_p, trial_p = work[2, :n], work[3, :n]
    trials = 2 + int(math.log(len(c)))
    p[:] = np.inf
    first, whole = 1.0, np.int64(0)
    if len(w):
        first = 2.0 ** (31 - math.frexp(w.max())[1])
        whole = _total(w, first)
    for k in range(len(c)):
        largest = 0.0 if k == 0 else p.max()
        scale, total = 2.0 ** (31 - math.frexp(largest)[1]), np.int64(0)
        if largest > 0:
            total = _total(p, scale)
        best_row, best_cost = np.int64(-1), np.int64(0)
        for _ in range(trials if largest > 0 else 1):
            if largest > 0:
                row = _draw(p, scale, _scaled(words[place], total))
            elif len(w):  # the first, or all that weigh coincide with centres
                row = _draw(w, first, _scaled(words[place], whole))
            else:
                row = _scaled(words[place], n << 30) >> 30
            place += 1
            copied(x[row], c[k])
            if len(c) > 1 and not _potentials(x, turned, w, c, k, p, d, trial_p):
                return -1
            cost = np.int64(0)
            if largest > 0:
                cost = _total(trial_p, scale)
            if best_row < 0 or cost < best_cost:
                best_row, best_cost = row, cost
                copied(trial_p, best_p)
        copied(x[best_row], c[k])
        copied(best_p, p)
    return place
