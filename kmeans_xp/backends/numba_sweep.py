"""One compiled pass over rows: score, certify, label, list what changed; this module needs numba.

A row is settled here when its lead is certain. The others are listed, and the caller decides them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kmeans_xp.backends.jit import jit, score_jit, sum_jit
from kmeans_xp.backends.numba_kernels import BLOCK, LOWEST, keep_products, score_block

__all__ = [
    "direct_memory",
    "direct_sweep",
    "few_products",
    "frame_tile",
    "move",
    "scratch",
    "settle",
    "tile_sweep",
]


# Rows of so few features are faster added one value at a time.
_NARROW = 4


@score_jit
def _renew(state: Any, size: Any, sure: Any, terms: Any) -> None:
    """Bounds of distances from scores: |x - c|² = |x|² - 2s; see `Backend.renew` for the terms.

    They replace the scores.
    """
    slope, offset, shrink, tiny, far_norm = terms[0], terms[3], terms[4], terms[5], terms[6]
    upper, lower = state[:BLOCK], state[BLOCK : 2 * BLOCK]
    for r in range(BLOCK):
        norm = np.float64(size[r])
        slack = slope * norm + offset
        small = max(norm * shrink - tiny, 0.0)
        near = norm * norm * (1 + 2.0**-20) - 2 * np.float64(upper[r]) + slack
        far = small * small - 2 * np.float64(lower[r]) - slack
        below = np.sqrt(max(far, 0.0)) * (1 - 2.0**-20)
        below = min(below, far_norm - norm * (1 + 2.0**-20))
        above = np.sqrt(max(near, 0.0)) * (1 + 2.0**-20) + 2.0**-100
        upper[r] = above if sure[r] else np.inf
        lower[r] = min(max(below, 0.0), 1e30) if sure[r] else 0.0


@score_jit
def _certify(state: Any, size: Any, terms: Any, sure: Any) -> None:
    """Which leads exceed twice the error of a score."""
    slope, offset, limit = terms[0], terms[1], terms[2]
    best, second = state[:BLOCK], state[BLOCK : 2 * BLOCK]
    for r in range(BLOCK):
        norm = np.float64(size[r])
        sure[r] = (np.float64(best[r] - second[r]) > slope * norm + offset) & (norm < limit)


@score_jit
def _work() -> Any:
    """Memory of `_label`: norms, which are sure, labels before and now, which need a look."""
    size, sure = np.zeros(BLOCK, np.float32), np.zeros(BLOCK, np.bool_)
    before, now = np.zeros(BLOCK, np.int32), np.zeros(BLOCK, np.int32)
    return size, sure, before, now, np.zeros(BLOCK, np.bool_)


@score_jit
def _reset(state: Any) -> None:
    """No score yet."""
    state[: 2 * BLOCK] = LOWEST
    state[2 * BLOCK :] = np.float32(0)


@score_jit
def _compare(state: Any, ids: Any, terms: Any, work: Any) -> None:
    """Labels of a block, which of them are sure, and which rows need a look: new or not sure."""
    size, sure, before, now, news = work
    _certify(state, size, terms, sure)
    index = state[2 * BLOCK :]
    for r in range(BLOCK):
        now[r] = np.int32(index[r])
    if len(ids):
        for r in range(BLOCK):
            now[r] = ids[np.uint32(now[r])]
    for r in range(BLOCK):
        news[r] = (not sure[r]) | (now[r] != before[r])


@score_jit
def _label(state: Any, n: Any, at: Any, rows: Any, task: Any, out: Any, work: Any) -> None:
    """Label the certain rows of a block, list those that changed and those that are not certain."""
    ids, norms, terms, labels, up, low = task
    moved, old, left, counts = out
    size, sure, before, now, news = work
    if len(rows):
        for r in range(n):
            size[r], before[r] = norms[rows[at + r]], labels[rows[at + r]]
    else:
        size[:n], before[:n] = norms[at : at + n], labels[at : at + n]
    _compare(state, ids, terms, work)
    n_moved, n_left = counts[0], counts[1]
    for r in range(n):
        if news[r]:
            row = rows[at + r] if len(rows) else at + r
            if sure[r]:
                labels[row] = now[r]
                moved[n_moved], old[n_moved] = row, before[r]
                n_moved += 1
            else:
                left[n_left] = row
                n_left += 1
    counts[0], counts[1] = n_moved, n_left
    if len(up):
        _renew(state, size, sure, terms)
        _keep_bounds(state, n, at, rows, up, low)


@score_jit
def _keep_bounds(state: Any, n: Any, at: Any, rows: Any, up: Any, low: Any) -> None:
    """Store the bounds of a block."""
    if len(rows):
        for r in range(n):
            up[rows[at + r]], low[rows[at + r]] = state[r], state[BLOCK + r]
    else:
        up[at : at + n], low[at : at + n] = state[:n], state[BLOCK : BLOCK + n]


@score_jit
def _turn_listed(x: Any, rows: Any, scale: Any, center: Any, block: Any) -> None:
    """Frame the listed rows and bring them into a block, feature by feature."""
    for r in range(len(rows)):
        row = np.uint64(rows[r])
        for q in range(x.shape[1]):
            block[q * BLOCK + r] = np.float32(x[row, q] * scale - center[q])


@score_jit
def _turn(x: Any, scale: Any, center: Any, block: Any) -> None:
    """Frame rows and bring them into a block, feature by feature."""
    width = x.shape[1]
    whole = width // 4 * 4 if width >= 8 else 0
    for q in range(0, whole, 4):
        c0, c1, c2, c3 = center[q], center[q + 1], center[q + 2], center[q + 3]
        for r in range(len(x)):
            block[q * BLOCK + r] = np.float32(x[r, q] * scale - c0)
            block[(q + 1) * BLOCK + r] = np.float32(x[r, q + 1] * scale - c1)
            block[(q + 2) * BLOCK + r] = np.float32(x[r, q + 2] * scale - c2)
            block[(q + 3) * BLOCK + r] = np.float32(x[r, q + 3] * scale - c3)
    for q in range(whole, width):
        c = center[q]
        for r in range(len(x)):
            block[q * BLOCK + r] = np.float32(x[r, q] * scale - c)


# Views of single rows would count references, which costs more than adding a short row.


@jit
def _cut(x: Any, row: Any, scale: Any, step: Any, depth: Any, parts: Any, rest: Any) -> Any:
    """Integers of a row, level by level; how many levels it takes, or 0 if `depth` is too few."""
    more = False
    for j in range(len(rest)):
        value = np.float64(x[row, j]) * scale[j]
        integer = np.rint(value)
        parts[0, j] = np.int64(integer)
        rest[j] = (value - integer) * step
        more |= value != integer
    used = 1
    while more and used < depth:
        more = False
        for j in range(len(rest)):
            integer = np.rint(rest[j])
            parts[used, j] = np.int64(integer)
            more |= rest[j] != integer
            rest[j] = (rest[j] - integer) * step
        used += 1
    return 0 if more or depth == 0 else used


@jit
def _add(values: Any, parts: Any, level: Any, target: Any, source: Any) -> None:
    """Add to the row of the target, and take away from that of the source if there is one."""
    for j in range(parts.shape[1]):
        values[target, j] += parts[level, j]
    if source >= 0:
        for j in range(parts.shape[1]):
            values[source, j] -= parts[level, j]


@jit
def _move_narrow(x: Any, row: Any, scale: Any, target: Any, source: Any, values: Any) -> Any:
    """Move a short row for which one level is enough; False where it is not."""
    for j in range(x.shape[1]):
        value = np.float64(x[row, j]) * scale[j]
        if np.rint(value) != value:
            return False
    for j in range(x.shape[1]):
        part = np.int64(np.float64(x[row, j]) * scale[j])
        values[target, j] += part
        if source >= 0:
            values[source, j] -= part
    return True


@jit
def _move(
    x: Any,
    rows: Any,
    old: Any,
    first: Any,
    last: Any,
    labels: Any,
    sums: Any,
    owed: Any,
    n_owed: Any,
) -> Any:
    """Move rows first..last of a list from the sums of their old clusters to those of their labels.

    A negative old label means no cluster. Only the first `depth` levels are there; the places of
    rows that need more are added to the `n_owed` in `owed`, and nothing is moved for them.
    """
    scale, step, depth, s0, s1, s2, sizes, parts, rest = sums
    narrow = len(rest) <= _NARROW and depth > 0
    for i in range(first, last):
        row, source, target = np.uint64(rows[i]), old[i], np.uint32(labels[rows[i]])
        if not (narrow and _move_narrow(x, row, scale, target, source, s0)):
            used = _cut(x, row, scale, step, depth, parts, rest)
            if used == 0:
                owed[n_owed] = i
                n_owed += 1
                continue
            _add(s0, parts, 0, target, source)
            if used > 1:
                _add(s1, parts, 1, target, source)
            if used > 2:
                _add(s2, parts, 2, target, source)
        sizes[target] += 1
        if source >= 0:
            sizes[source] -= 1
    return n_owed


@jit
def move(
    x: Any,
    rows: Any,
    old: Any,
    labels: Any,
    unit: Any,
    step: Any,
    depth: Any,
    s0: Any,
    s1: Any,
    s2: Any,
    sizes: Any,
    owed: Any,
) -> Any:
    """`_move` for a whole list; how many rows are owed."""
    parts, rest = np.empty((3, x.shape[1]), np.int64), np.empty(x.shape[1])
    sums = unit, step, depth, s0, s1, s2, sizes, parts, rest
    return _move(x, rows, old, 0, len(rows), labels, sums, owed, 0)


def direct_memory(width: int) -> int:
    """Return how many float32 values `direct_sweep` works in.

    Block, sums and state lie apart by odd parts of 4096 bytes: loads that follow stores at the same
    place in a page wait for them.
    """
    return (width + 7) * BLOCK + 192


@score_jit
def settle(
    x: Any, state: Any, n: Any, at: Any, rows: Any, task: Any, out: Any, sums: Any, work: Any
) -> None:
    """Label the certain rows of a block, list the others, and bring the sums up to date.

    `task` are ids, norms, terms, labels and the two bounds (`records.Task`), or arrays of length 0
    where there are none. `out` are lists of the rows that changed, of their labels before, and of
    the rows that are left; how long the lists are; and the places in the first of rows that the
    sums are owed. `work` is that of `scratch`.
    """
    moved, old, left, counts, owed = out
    block, parts, rest = work
    done = counts[0]
    _label(state, n, at, rows, task, (moved, old, left, counts), block)
    if counts[0] > done:
        levels = (*sums, parts, rest)
        counts[2] = _move(x, moved, old, done, counts[0], task[3], levels, owed, counts[2])


@score_jit
def scratch(n_features: Any) -> Any:
    """Memory of `settle`."""
    return _work(), np.empty((3, n_features), np.int64), np.empty(n_features)


@score_jit
def direct_sweep(
    x: Any,
    lo: Any,
    hi: Any,
    rows: Any,
    view: Any,
    centers: Any,
    bias: Any,
    memory: Any,
    task: Any,
    out: Any,
    sums: Any,
) -> None:
    """Assign rows lo..hi (of x, or of the list `rows`) of few features.

    See `direct_memory`, and `settle` for what is told and answered; `view` is scale and centre.
    """
    (scale, center), width = view, centers.shape[1]
    block = memory[: width * BLOCK]
    block[:] = np.float32(0)
    partial = memory[width * BLOCK + 128 :][: 4 * BLOCK]
    state = memory[(width + 4) * BLOCK + 192 :][: 3 * BLOCK]
    work = scratch(x.shape[1])
    for at in range(lo, hi, BLOCK):
        n = min(BLOCK, hi - at)
        if len(rows):
            _turn_listed(x, rows[at : at + n], scale, center, block)
        else:
            _turn(x[at : at + n], scale, center, block)
        _reset(state)
        score_block(block, centers, bias, partial, state)
        settle(x, state, n, at, rows, task, out, sums, work)


@score_jit
def tile_sweep(
    products: Any,
    x: Any,
    at: Any,
    n: Any,
    rows: Any,
    bias: Any,
    task: Any,
    out: Any,
    sums: Any,
) -> None:
    """Assign n rows whose products with all centroids are there, shape (K, n or more)."""
    state = np.empty(3 * BLOCK, np.float32)
    _reset(state)
    keep_products(products, bias, state)
    settle(x, state, n, at, rows, task, out, sums, scratch(x.shape[1]))


@sum_jit
def _dot_four(rows: Any, centers: Any, k: Any, products: Any, r: Any) -> None:
    """Products of four rows with the centroids k to k + 3."""
    zero = np.float32(0)
    a0 = a1 = a2 = a3 = b0 = b1 = b2 = b3 = zero
    c0 = c1 = c2 = c3 = d0 = d1 = d2 = d3 = zero
    for j in range(rows.shape[1]):
        x0, x1, x2, x3 = rows[0, j], rows[1, j], rows[2, j], rows[3, j]
        y0, y1, y2, y3 = centers[k, j], centers[k + 1, j], centers[k + 2, j], centers[k + 3, j]
        a0, a1, a2, a3 = a0 + x0 * y0, a1 + x0 * y1, a2 + x0 * y2, a3 + x0 * y3
        b0, b1, b2, b3 = b0 + x1 * y0, b1 + x1 * y1, b2 + x1 * y2, b3 + x1 * y3
        c0, c1, c2, c3 = c0 + x2 * y0, c1 + x2 * y1, c2 + x2 * y2, c3 + x2 * y3
        d0, d1, d2, d3 = d0 + x3 * y0, d1 + x3 * y1, d2 + x3 * y2, d3 + x3 * y3
    for i, (a, b, c, d) in enumerate(
        ((a0, b0, c0, d0), (a1, b1, c1, d1), (a2, b2, c2, d2), (a3, b3, c3, d3))
    ):
        products[k + i, r], products[k + i, r + 1] = a, b
        products[k + i, r + 2], products[k + i, r + 3] = c, d


@jit
def few_products(
    x: Any, at: Any, n: Any, rows: Any, scale: Any, center: Any, centers: Any, products: Any
) -> None:
    """Products of rows, framed on the way, with a few centroids (a multiple of four of them).

    `products` has room for a multiple of four rows.
    """
    four = np.zeros((4, x.shape[1]), np.float32)
    for r in range(0, n, 4):
        for i in range(min(4, n - r)):
            row = rows[at + r + i] if len(rows) else at + r + i
            for j in range(x.shape[1]):
                four[i, j] = np.float32(x[row, j] * scale - center[j])
        for k in range(0, len(centers), 4):
            _dot_four(four, centers, k, products, r)


@jit
def frame_tile(x: Any, at: Any, rows: Any, scale: Any, center: Any, out: Any) -> None:
    """Frame some rows, of x or of the list `rows`."""
    for i in range(len(out)):
        row = rows[at + i] if len(rows) else at + i
        for j in range(x.shape[1]):
            out[i, j] = np.float32(x[row, j] * scale - center[j])
