"""The loop of docs/exactness.md for a tiny problem; this module needs numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from kmeans_xp.backends.jit import copied, inlined, jit
from kmeans_xp.backends.numba_batch_cost import inertia
from kmeans_xp.backends.numba_batch_nearest import assign, drifts, forget
from kmeans_xp.backends.numba_batch_sums import LEVELS, carry, means, move
from kmeans_xp.backends.numba_batch_weights import carry_weighted, move_weighted
from kmeans_xp.backends.numba_exact import rn12, square_distance

__all__ = ["lloyd", "slack_of"]


@jit
def slack_of(n_features: int, narrow: bool) -> float:
    """Relative error of a squared distance in the fast pass."""
    return (n_features + 8) * (2.0**-23 if narrow else 2.0**-52)


@jit
def _potentials(x: Any, w: Any, c: Any, labels: Any, p: Any) -> bool:
    """rn12 of the squared distance of every row to its own centroid, 0 for rows that do not weigh;
    False if one cannot be told.
    """
    slack = (c.shape[1] + 8) * 2.0**-52
    for r in range(len(x)):
        if len(w) and w[r] == 0:
            p[r] = 0
            continue
        k, value = np.uintp(labels[r]), 0.0
        for j in range(c.shape[1]):
            value += (x[r, j] - c[k, j]) ** 2
        low, high = rn12(value * (1 - slack)), rn12(value * (1 + slack))
        if value == 0:
            low = high = 0.0
        if low != high:
            exact = square_distance(x, r, c, k)
            if not exact[2] or exact[1] != 0:
                return False
            low = rn12(exact[0])
        p[r] = low
    return True


@jit
def _relocate(x: Any, w: Any, c: Any, labels: Any, counts: Any, p: Any, rows: Any) -> int:
    """Find a row for every empty cluster; how many are found, or -1 if that cannot be told.

    `rows` has the row of each cluster, -1 for none.
    """
    if not _potentials(x, w, c, labels, p):
        return -1
    moved = 0
    for k in range(len(c)):
        rows[k] = -1
        if counts[k] == 0:
            row = np.argmax(p)
            if p[row] > 0:
                rows[k], p[row] = row, 0
                moved += 1
    return moved


@jit
def _lend(
    x: Any,
    w: Any,
    labels: Any,
    rows: Any,
    back: bool,
    scale: Any,
    step: float,
    sums: Any,
    clusters: Any,
) -> bool:
    """Take rows from their clusters to the empty ones that they were found for, or back."""
    counts, touched = clusters
    for k in range(len(counts) - 1):
        row = rows[k]
        if row < 0:
            continue
        owner = np.uintp(labels[row])
        source, target = (np.uintp(k), owner) if back else (owner, np.uintp(k))
        counts[source] -= 1
        counts[target] += 1
        touched[source] = touched[target] = True
        if len(w):
            if not carry_weighted(x, w, row, source, target, scale, step, sums):
                return False
        elif not carry(x, row, source, target, scale, step, sums):
            return False
    return True


@jit
def _update(
    x: Any,
    w: Any,
    c: Any,
    labels: Any,
    grid: Any,
    sums: Any,
    clusters: Any,
    narrow: bool,
    scratch: Any,
) -> int:
    """Move every centroid; how many rows were lent to empty clusters, or -1."""
    scale, back, step = grid
    counts, touched = clusters
    rows, p = scratch
    lent: Any = np.int64(0)
    if np.any(counts[:-1] == 0):
        lent = _relocate(x, w, c, labels, counts, p[: len(x)], rows)
        if lent < 0:
            return -1
    for again in (False, True):
        if lent and not _lend(x, w, labels, rows, again, scale, step, sums, clusters):
            return -1
        if not again and not means(sums, counts, touched, back, step, narrow, c):
            return -1
    return lent


@jit
def _within(shift: float, limit: tuple[float, float], slack: float) -> int:
    """Whether the shift is at most the limit, known as an interval: 0, 1, or 2 for not known."""
    if shift == 0:
        return 1
    if shift * (1 - slack) > limit[1]:
        return 0
    return 1 if shift * (1 + slack) <= limit[0] else 2


@inlined
def lloyd(
    x: Any,
    turned: Any,
    w: Any,
    c: Any,
    grid: Any,
    limit: tuple[float, float],
    max_iter: int,
    narrow: bool,
    labels: Any,
    work: Any,
    memory: Any,
) -> tuple[float, int, bool]:
    """Iterate from the centroids c, which move; (inertia, iterations, converged).

    The number of iterations is -1 where something, the rounding of a mean say, could not be told.

    Parameters
    ----------
    x : array, shape (n, D)
    turned : array, shape (P, n)
        Its features, padded.
    w : array of float64, shape (n,) or (0,)
        Weights, or none.
    c : array of float64, shape (K, D)
    grid : tuple
        What brings features to units and back, and the step between levels.
    limit : tuple of float
        Bounds of the largest shift that stops.
    max_iter : int
    narrow : bool
        Whether centroids are float32.
    labels : array of int32, shape (n,)
        Outcome.
    work : tuple
        For `assign`.
    memory : tuple
        Sums, counts, touched, old centroids, new labels, rows and numbers to work with.
    """
    k, d = c.shape
    width = d + 1 if len(w) else d
    sums = memory[0][: LEVELS * (k + 1) * width].reshape(LEVELS, k + 1, width)
    counts, touched = memory[1][: k + 1], memory[2][: k + 1]
    old, new, scratch = memory[3][:k], memory[4][: len(x)], (memory[5], memory[6])
    clusters = counts, touched
    sums[:] = 0
    counts[:] = 0
    labels[:] = k  # in no cluster yet
    forget(work)
    slack, shift_slack = slack_of(d, narrow), (k * d + 8) * 2.0**-52
    iteration: Any = np.int64(0)
    converged: Any = False
    over: Any = False
    while True:
        if not assign(x, turned, labels, c, slack, work, new):
            return 0.0, -1, False
        if over:
            copied(new, labels)
            break
        iteration += 1
        if len(w):
            changed = move_weighted(x, w, new, labels, grid[0], grid[2], sums, counts, touched)
        else:
            changed = move(x, new, labels, grid[0], grid[2], sums, counts, touched)
        for i in range(k):
            copied(c[i], old[i])
        lent = -1
        if changed >= 0:
            lent = _update(x, w, c, labels, grid, sums, clusters, narrow, scratch)
        if lent < 0:
            return 0.0, -1, False
        shift = drifts(c, old, work)
        within = _within(shift, limit, shift_slack)
        if within == 2 and (changed or lent):
            return 0.0, -1, False
        converged = within == 1 or (changed == 0 and lent == 0)
        over = converged or iteration >= max_iter
        if over and shift == 0:
            break
    cost, certain = inertia(x, turned, w, c, labels, memory[7])
    return cost, iteration if certain else -1, converged
