"""The loops of `numba_cells`, compiled on first use and cached on disk; they need numba."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmeans_xp.backends.cells import OPEN, PAD
from kmeans_xp.backends.jit import jit, score_jit
from kmeans_xp.backends.numba_kernels import LOWEST

__all__ = ["assign", "build", "number", "sort"]

# A cell's code below OPEN lists candidates. As a label OPEN means: not known here; a row that its
# cell cannot label is unsure.
_UNSURE = np.int32(-4)
# Rows worked on at a time; a block is filled up to a multiple of _LANES.
_BLOCK, _LANES, _ROW = 256, 32, 272


# Rows in turn are read from a flat array at constant steps, which the compiler makes wide loads. A
# block is one array of six rows, so that the compiler sees that they do not overlap: best score,
# second best, index of the best (as float32), and three features. The odd length of a row keeps
# them off the same places in pages, where loads would wait for stores.


@score_jit
def _turn_two(x: Any, n: Any, view: Any, block: Any) -> None:
    scale, center = view
    c0, c1 = center[0], center[1]
    for r in range(n):
        at = 2 * np.uint64(r)
        block[3 * _ROW + r] = np.float32(x[at] * scale - c0)
        block[4 * _ROW + r] = np.float32(x[at + np.uint64(1)] * scale - c1)


@score_jit
def _turn_three(x: Any, n: Any, view: Any, block: Any) -> None:
    scale, center = view
    c0, c1, c2 = center[0], center[1], center[2]
    for r in range(n):
        at = 3 * np.uint64(r)
        block[3 * _ROW + r] = np.float32(x[at] * scale - c0)
        block[4 * _ROW + r] = np.float32(x[at + np.uint64(1)] * scale - c1)
        block[5 * _ROW + r] = np.float32(x[at + np.uint64(2)] * scale - c2)


@score_jit
def _turn(x: Any, lo: Any, hi: Any, view: Any, block: Any) -> None:
    """Frame rows and bring them into a block, feature by feature."""
    flat, n = x[lo:hi].reshape(-1), hi - lo
    if x.shape[1] == 1:
        scale, c = view[0], view[1][0]
        for r in range(n):
            block[3 * _ROW + r] = np.float32(flat[r] * scale - c)
    elif x.shape[1] == 2:
        _turn_two(flat, n, view, block)
    else:
        _turn_three(flat, n, view, block)


@score_jit
def number(x: Any, view: Any, box: Any, out: Any) -> None:
    """Number the cells of rows."""
    base, inverse, top, side = box
    block, zero = np.zeros(6 * _ROW, np.float32), np.float32(0)
    for at in range(0, len(x), _BLOCK):
        some = out[at : at + _BLOCK]
        _turn(x, at, at + len(some), view, block)
        some[:] = 0
        for j in range(x.shape[1]):
            column, b, i = block[(3 + j) * _ROW :][:_BLOCK], base[j], inverse[j]
            for r in range(len(some)):
                place = (column[r] - b) * i
                place = place if place > zero else zero
                some[r] = some[r] * side + np.int32(place if place < top else top)


@jit
def sort(x: Any, numbers: Any, place: Any, labels: Any, rows: Any, order: Any, known: Any) -> None:
    """Bring rows and their labels into the order of the cells, which begin at `place`."""
    for i in range(len(x)):
        to = np.uint32(place[np.uint32(numbers[i])])
        place[np.uint32(numbers[i])] += 1
        order[to], known[to] = i, labels[i]
        for j in range(x.shape[1]):
            rows[to, j] = x[i, j]


@jit
def _narrow(
    points: Any,
    found: Any,
    n: Any,
    middle: Any,
    half: Any,
    slack: Any,
    room: Any,
    distance: Any,
    out: Any,
) -> Any:
    """Candidates that may be nearest somewhere in a box when none moves beyond `room`; how many."""
    near, least, wide = 0, np.inf, 0.0
    for j in range(points.shape[1]):
        wide += half[j] ** 2
    for i in range(n):
        total = 0.0
        for j in range(points.shape[1]):
            total += (middle[j] - points[found[i], j]) ** 2
        distance[i] = total
        if total < least:
            near, least = found[i], total
    count, wide = 0, 2 * math.sqrt(wide) + math.sqrt(least)
    for i in range(n):
        k, reach = found[i], 0.0
        for j in range(points.shape[1]):
            reach += half[j] * abs(points[k, j] - points[near, j])
        # |x - k|² - |x - near|² is linear: here is its least value in the box
        # and moves change that by 2·room·(|x - k| + |x - near|) at most
        give = 2 * room * (math.sqrt(distance[i]) + wide)
        if not distance[i] - least - 2 * reach > slack + give:
            out[count] = k
            count += 1
    return count


@jit
def _code(found: Any, n: Any, ids: Any, lists: Any, used: Any) -> Any:
    """Code of a cell with these candidates."""
    if n == 1:
        return ids[found[0]]
    if n > lists.shape[1] - 1 or used[0] == used[1]:
        return OPEN
    row = used[0]
    used[0] += 1
    lists[row, 0] = n
    for i in range(n):
        lists[row, 1 + i] = found[i]
    return OPEN - 1 - row


@jit
def _fill(table: Any, corner: Any, size: Any, code: Any) -> None:
    """Give a box of cells its code."""
    last = np.ones(3, np.int64)
    for axis in range(3):
        last[axis] = corner[axis] + (size if table.shape[axis] > 1 else 1)
    for a in range(corner[0], last[0]):
        for b in range(corner[1], last[1]):
            for c in range(corner[2], last[2]):
                table[a, b, c] = code


@jit
def _corner(parent: Any, turn: Any, size: Any, n_features: Any, out: Any) -> None:
    """Where a child of a box begins."""
    for axis in range(3):
        out[axis] = parent[axis]
        if axis < n_features:
            out[axis] += ((turn >> axis) & 1) * size


@jit
def build(
    points: Any,
    ids: Any,
    base: Any,
    width: Any,
    slack: Any,
    room: Any,
    held: Any,
    starts: Any,
    table: Any,
    lists: Any,
    used: Any,
    part: Any,
) -> None:
    """Fill the table: boxes that hold rows are halved until one centroid is left, or one cell.

    `held` tells which boxes hold rows, for each depth from `starts[depth]` on; `used` which of the
    lists are free: from the first number up to the second. Of the halves of the whole box only the
    one numbered `part` is looked at.
    """
    n_features, depths = points.shape[1], len(starts)
    found = np.empty((depths + 1, len(points)), np.int32)
    count, turn = np.zeros(depths + 1, np.int64), np.zeros(depths, np.int64)
    corner = np.zeros((depths, 3), np.int64)
    corner[0, :n_features] = 1
    middle, half = np.empty(n_features), np.empty(n_features)
    distance = np.empty(len(points))
    found[0], count[0] = np.arange(len(points)), len(points)
    depth = 0
    while depth >= 0:
        size = 1 << (depths - 1 - depth)
        if turn[depth] == 0:
            box = 0
            for j in range(n_features):
                box = (box << depth) + (corner[depth, j] - 1) // size
                half[j] = (0.5 * size + PAD) * width[j]
                middle[j] = base[j] + (corner[depth, j] + 0.5 * size) * width[j]
            n = 0
            if held[starts[depth] + box]:
                some, below = found[depth], found[depth + 1]
                terms = middle, half, slack, room, distance
                n = _narrow(points, some, count[depth], *terms, below)
                count[depth + 1] = n
                if n == 1 or size == 1:
                    _fill(table, corner[depth], size, _code(below, n, ids, lists, used))
            if n < 2 or size == 1:
                depth -= 1
                continue
            if depth == 0:
                turn[0] = part
        if turn[depth] == (part + 1 if depth == 0 else 1 << n_features):
            turn[depth] = 0
            depth -= 1
            continue
        _corner(corner[depth], turn[depth], size // 2, n_features, corner[depth + 1])
        turn[depth] += 1
        depth += 1
        turn[depth] = 0


@score_jit
def _score(block: Any, n: Any, points: Any, lists: Any, entry: Any) -> None:
    """Best and second best score of each row of a block among the candidates of its cell."""
    block[:n] = LOWEST
    block[_ROW : _ROW + n] = LOWEST
    for i in range(1, lists[entry, 0] + 1):
        k = lists[entry, i]
        c0, c1, c2, bias = points[k, 0], points[k, 1], points[k, 2], points[k, 3]
        index = np.float32(k)
        for r in range(n):
            s = bias + block[3 * _ROW + r] * c0 + block[4 * _ROW + r] * c1
            s += block[5 * _ROW + r] * c2
            best, second = block[r], block[_ROW + r]
            lower = best if s > best else s
            block[_ROW + r] = lower if lower > second else second
            block[2 * _ROW + r] = index if s > best else block[2 * _ROW + r]
            block[r] = s if s > best else best


@score_jit
def _least_lead(n: Any, block: Any, margin: Any) -> Any:
    """Least lead of the rows of a block that are sure of their labels."""
    least = np.float32(np.inf)
    for r in range(n):
        lead = block[r] - block[_ROW + r]
        least = lead if lead > margin and lead < least else least
    return least


@jit
def _give(kept: Any, cell: Any, middle: Any, half: Any, points: Any, old: Any) -> Any:
    """How much leads among the kept candidates of a cell may have shrunk, at most.

    The score of x changes by δ·(x − (c + c_old) / 2), δ = c − c_old.
    """
    high, low, moved = -np.inf, np.inf, False
    for i in range(1, kept[cell, 0] + 1):
        k, change, reach = np.uint32(kept[cell, i]), 0.0, 0.0
        for j in range(points.shape[1]):
            c, before = points[k, j], old[k, j]
            change += (c - before) * (middle[j] - 0.5 * (c + before))
            reach += abs(c - before) * half[j]
        moved |= reach != 0
        high, low = max(high, change + reach), min(low, change - reach)
    return (high - low) * (1 + 2.0**-40) if moved else 0.0


@jit
def _within(lists: Any, entry: Any, kept: Any, cell: Any) -> Any:
    """Whether all candidates of one list, in order, are in the other."""
    i, n = 1, lists[entry, 0]
    for place in range(1, kept[cell, 0] + 1):
        i += i <= n and lists[entry, i] == kept[cell, place]
    return i > n


@jit
def _settled(cell: Any, entry: Any, where: Any, lists: Any, proof: Any, middle: Any) -> Any:
    """Whether the rows of a cell that were sure of their labels keep them: all that they were
    compared with is too far still, and nothing else came near.
    """
    numbers, side, base, width, half, slack = where
    kept, _, least, points, old = proof
    if not least[cell] > 0 or not _within(lists, entry, kept, cell):
        return False
    number = np.uint32(numbers[cell])
    for j in range(points.shape[1] - 1, -1, -1):
        middle[j] = base[j] + (number % side + 0.5) * width[j]
        number //= side
    give = _give(kept, cell, middle, half, points, old)
    if give != 0:
        least[cell] -= give + slack
    return least[cell] > 0


@score_jit
def _differing(n: Any, block: Any, ids: Any, margin: Any, known: Any, news: Any, codes: Any) -> Any:
    """Rows of a block that are not sure to have their known label; how many."""
    count = 0
    for r in range(n):
        label = ids[np.uint32(block[2 * _ROW + r])]
        label = label if block[r] - block[_ROW + r] > margin else _UNSURE
        news[count], codes[count] = r, label
        count += label != known[r]
    return count


@jit
def _differing_from(label: Any, known: Any, news: Any, codes: Any) -> Any:
    """Rows of a block that are not known to have this label; how many."""
    count = 0
    for r in range(len(known)):
        news[count], codes[count] = r, label
        count += label != known[r]
    return count


@jit
def _note(
    at: Any,
    count: Any,
    news: Any,
    codes: Any,
    sorted_rows: Any,
    labels: Any,
    out: Any,
    counts: Any,
    unsure: Any,
    cell: Any,
) -> None:
    """Label rows of a block; list those that changed, by their place, and those not sure."""
    _, order, known = sorted_rows
    moved, old, left = out
    for i in range(count):
        place, label = at + news[i], codes[i]
        row = order[place]
        if label == _UNSURE:
            left[counts[1]] = row
            counts[1] += 1
            known[place] = OPEN  # others will label it
            unsure[cell, 0] += 1
            if unsure[cell, 0] < unsure.shape[1]:
                unsure[cell, unsure[cell, 0]] = place
            continue
        before = labels[row] if known[place] == OPEN else known[place]
        known[place] = label
        if label != before:
            labels[row] = label
            moved[counts[0]], old[counts[0]] = place, before
            counts[0] += 1


@score_jit
def assign(
    first: Any,
    last: Any,
    starts: Any,
    codes: Any,
    before: Any,
    sorted_rows: Any,
    view: Any,
    lists: Any,
    points: Any,
    ids: Any,
    margin: Any,
    where: Any,
    proof: Any,
    labels: Any,
    out: Any,
    counts: Any,
) -> None:
    """Label the rows of the cells first..last; see `_note`."""
    rows, order, known = sorted_rows
    kept, unsure, least, middle = proof[0], proof[1], proof[2], np.empty(3)
    block, found = np.zeros(6 * _ROW, np.float32), np.empty(_BLOCK + 1, np.int32)
    news = np.empty(_BLOCK + 1, np.int64)
    for cell in range(first, last):
        code = codes[cell]
        if code >= 0 and code == before[cell]:
            continue
        entry = OPEN - 1 - code
        seen = code < OPEN and before[cell] < OPEN
        if seen and _settled(cell, entry, where, lists, proof, middle):
            for i in range(unsure[cell, 0]):
                out[2][counts[1]] = order[unsure[cell, 1 + i]]
                counts[1] += 1
            continue
        before[cell], lead = code, np.float32(np.inf)
        unsure[cell, 0] = 0
        for at in range(starts[cell], starts[cell + 1], _BLOCK):
            n = min(_BLOCK, starts[cell + 1] - at)
            some = known[at : at + n]
            if code >= OPEN:
                count = _differing_from(code if code >= 0 else _UNSURE, some, news, found)
            else:
                _turn(rows, at, at + n, view, block)
                lanes = (n + _LANES - 1) // _LANES * _LANES
                _score(block, lanes, points, lists, entry)
                lead = min(lead, _least_lead(n, block, margin))
                count = _differing(n, block, ids, margin, some, news, found)
            _note(at, count, news, found, sorted_rows, labels, out, counts, unsure, cell)
        if code < OPEN:
            few = unsure[cell, 0] < unsure.shape[1]
            least[cell] = np.float64(lead) - margin if few else 0.0
            for i in range(lists[entry, 0] + 1):
                kept[cell, i] = lists[entry, i]
