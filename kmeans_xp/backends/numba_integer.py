"""The fast pass in 16-bit integers: exact products of rounded rows; this module needs numba.

Rows x̂ and centroids ĉ are rounded to integers q = rint(s·x̂) and p = rint(t·ĉ), whose scores
q·p + rint(s·t·bias) are exact in 32 bits. With e = s·x̂ − q and f = t·ĉ − p measured,

    |x̂·ĉ − q·p/(s·t)| <= (|e|/s)·(|ĉ| + |f|/t) + |x̂|·|f|/t

bounds what the rounding has done to a score of this row. It is taken off the best score and added
to the second best: what is certain after that is certain. Processors multiply such integers about
twice as fast as float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmeans_xp.backends.jit import score_jit, sum_jit
from kmeans_xp.backends.numba_kernels import BLOCK
from kmeans_xp.backends.numba_sweep import scratch, settle
from kmeans_xp.backends.numba_vectors import (
    CENTERS,
    LANES,
    ROWS,
    address,
    available,
    best_two,
    turn,
)
from kmeans_xp.backends.records import Frame, Tile
from kmeans_xp.exact.bounds import FLOAT32

__all__ = ["IntegerTile", "integer_sweep", "integer_tile", "integer_top_two"]

# The largest integer of a pair, short of what could overflow; what a score may come to.
_LARGEST, _MOST = 32766, 2**31 - 2**20
# Rows of so few features are rounded together, without a look at how far off that is.
_SHORT = 64
# Score of a centroid that takes no part.
_NEVER = -(2**31)
# The bias of a centroid out of reach of the fast pass is below this.
_NO_BIAS = np.float32(-1e37)


@dataclass(frozen=True)
class IntegerTile:
    """Centroids ready for the pass in integers.

    Attributes
    ----------
    centers : ndarray of int32
        Pairs of 16-bit values in blocks of centroids (`numba_vectors.best_two`).
    bias : ndarray of int32
    pairs, blocks : int
        Pairs a row, blocks of centroids.
    scale : float
        What framed rows are multiplied by before they are rounded.
    terms : ndarray of float64, shape (5,)
        The value of a score's unit; what a row's own rounding error, its norm and anything add to
        the error of a score; and the norm from which a score could overflow.
    """

    centers: np.ndarray
    bias: np.ndarray
    pairs: int
    blocks: int
    scale: float
    terms: np.ndarray

    def arguments(self, dtype: np.dtype[Any]) -> tuple[Any, ...]:
        """What the kernels take, for rows of this dtype."""
        scale = dtype.type(self.scale)
        return self.centers, self.bias, self.pairs, self.blocks, scale, self.terms


def integer_tile(tile: Tile, frame: Frame) -> IntegerTile | None:
    """Round centroids to integers; None where there are no instructions for them, or no scale."""
    return tile.integers.get(lambda: _integer_tile(tile, frame)) if available() else None


def _largest_norm(points: np.ndarray) -> float:
    return math.sqrt(np.einsum("ij,ij->i", points, points).max()) * (1 + 1e-9)


def _integer_tile(tile: Tile, frame: Frame) -> IntegerTile | None:
    n_clusters, n_features = tile.centers.shape
    points, bias = tile.centers.astype(np.float64), tile.bias.astype(np.float64)
    near = tile.bias > _NO_BIAS
    size, offset = _largest_norm(points), float(np.abs(bias[near]).max(initial=0.0))
    scales = _scales(frame, size, float(np.abs(points).max()), offset)
    if scales is None:
        return None
    s, t = scales
    rounded = np.rint(points * t)
    error = _largest_norm(points * t - rounded) / t + 2.0**-40 * size
    # rows may have this norm in integers, their own rounding included
    most = (_MOST - s * t * offset) / max(_largest_norm(rounded), 1.0)
    reach = (most - 0.51 * math.sqrt(n_features)) / s * (1 - 1e-6)
    if not reach > 0:
        return None
    # scaling rounds a row once more; a score is rounded to float32 when it leaves the integers
    own, shared = (size + error) / s, error + 1.02 * FLOAT32 * (size + error)
    terms = (1 / (s * t), own, shared, 300 / (s * t), reach)
    blocks, pairs = -(-n_clusters // CENTERS), -(-n_features // 2)
    padded = np.zeros((blocks * CENTERS, 2 * pairs), dtype=np.int16)
    padded[:n_clusters, :n_features] = rounded
    centers = padded.view(np.int32).reshape(blocks, CENTERS, pairs).transpose(0, 2, 1)
    biases = np.full(blocks * CENTERS, _NEVER, dtype=np.int32)
    biases[:n_clusters][near] = np.rint(bias[near] * (s * t))
    return IntegerTile(np.ravel(centers), biases, pairs, blocks, s, np.array(terms))


def _scales(frame: Frame, size: float, largest: float, offset: float) -> tuple[float, float] | None:
    """Scales of rows and centroids: both as large as 16 and 32 bits allow, the errors balanced."""
    norm, reach = frame.norm, frame.largest
    if not (0 < norm < 1e15 and 0 < size < 1e15 and reach > 0 and norm * size > 1e-15):
        return None
    product = 0.98 * _MOST / (norm * size + offset)
    s = min(math.sqrt(product * size / norm), _LARGEST / reach)
    t = min(product / s, _LARGEST / largest)
    s = float(np.float32(min(product / t, _LARGEST / reach)))
    return s, t


@score_jit
def _round_row(
    x: Any, row: Any, scale: Any, center: Any, s: Any, out: Any, r: Any, errors: Any
) -> None:
    """Round a framed row to integers; by how much."""
    low, high = x.dtype.type(-_LARGEST), x.dtype.type(_LARGEST)
    for j in range(x.shape[1]):
        value = (x[row, j] * scale - center[j]) * s
        nearest = np.rint(value)
        nearest = low if nearest < low else nearest
        nearest = high if nearest > high else nearest
        out[r, j] = np.int16(np.int32(nearest))
        errors[j] = value - nearest


@sum_jit
def _square_sum(values: Any) -> Any:
    """Sum of squares: on its own, since here the order is free."""
    total = values.dtype.type(0)
    for j in range(len(values)):  # an iterator would go by a stride that the compiler does not know
        total += values[j] * values[j]
    return total


@score_jit
def _round_short(x: Any, at: Any, scale: Any, center: Any, s: Any, out: Any) -> Any:
    """Round short framed rows that follow each other to integers, all of them in one loop; how many
    values are too large.
    """
    too_large = np.int32(0)
    low, high = x.dtype.type(-_LARGEST), x.dtype.type(_LARGEST)
    start = at * x.shape[1]
    values = x.ravel()[start : start + len(center)]
    for i in range(len(values)):
        value = np.rint((values[i] * scale - center[i]) * s)
        nearest = low if value < low else value
        nearest = high if nearest > high else nearest
        too_large += np.int32(nearest != value)
        out[i] = np.int16(np.int32(nearest))
    return too_large


@score_jit
def _round_rows(
    x: Any, at: Any, n: Any, rows: Any, view: Any, s: Any, work: Any, norms: Any
) -> None:
    """Round n rows from `at` on (of x, or of the list `rows`) to integers; norms, and of the
    squares of the errors.
    """
    (scale, center), (integers, total, size, repeated, errors) = view, work
    short, width = integers.view(np.int16), -(-x.shape[1] // 2) * 2
    together = len(repeated) > 0 and len(rows) == 0 and n == ROWS
    if together and _round_short(x, at, scale, repeated, s, short) == 0:
        for r in range(ROWS):  # no error is above one half, but for what rounding adds
            size[r], total[r] = norms[at + r], 0.26 * x.shape[1]
        return
    table = short[: ROWS * width].reshape(ROWS, width)
    for r in range(n):
        row = rows[at + r] if len(rows) else at + r
        _round_row(x, row, scale, center, s, table, r, errors)
        total[r] = _square_sum(errors)
        size[r] = norms[row]


@score_jit
def _score_rows(
    x: Any, at: Any, n: Any, rows: Any, view: Any, tile: Any, norms: Any, work: Any, state: Any
) -> None:
    """Best two scores of n rows from `at` on (of x, or of the list `rows`), each made worse by its
    error: less for the best, more for the second.
    """
    centers, bias, pairs, blocks, s, terms = tile
    rounding, panel, found = work
    integers, total, size = rounding[:3]
    unit, own, shared, always, reach = terms[0], terms[1], terms[2], terms[3], terms[4]
    own *= 1 + (x.shape[1] + 16) * 2.0**-23  # the sum of squares is rounded
    for p in range(0, n, ROWS):
        _round_rows(x, at + p, min(ROWS, n - p), rows, view, s, rounding, norms)
        turn(address(integers), pairs, -(-pairs // LANES), address(panel))
        found[: 2 * ROWS], found[2 * ROWS :] = _NEVER, 0
        best_two(address(panel), pairs, address(centers), blocks, address(bias), address(found))
        for r in range(ROWS):
            error = np.sqrt(total[r]) * own + size[r] * shared + always
            error = error if size[r] < reach else np.inf
            state[p + r] = np.float32(found[r] * unit - error)
            state[BLOCK + p + r] = np.float32(found[ROWS + r] * unit + error)
            state[2 * BLOCK + p + r] = np.float32(found[2 * ROWS + r])


@score_jit
def _work(n_features: Any, center: Any) -> Any:
    """Memory of `_score_rows`: rows in integers, sums of squared errors, norms, the centre again
    and again for short rows, the errors of one; a panel; what is found.
    """
    pairs = -(-n_features // 2)
    chunks = -(-pairs // LANES)
    repeated = np.empty(
        ROWS * n_features if n_features % 2 == 0 and n_features <= _SHORT else 0, center.dtype
    )
    for i in range(len(repeated)):
        repeated[i] = center[i % n_features]
    integers, errors = np.zeros(pairs * ROWS + LANES, np.int32), np.empty(n_features, center.dtype)
    rounding = integers, np.zeros(ROWS), np.zeros(ROWS), repeated, errors
    return rounding, np.empty(chunks * LANES * ROWS, np.int32), np.empty(3 * ROWS, np.int32)


@score_jit
def integer_sweep(
    x: Any, lo: Any, hi: Any, rows: Any, view: Any, tile: Any, task: Any, out: Any, sums: Any
) -> None:
    """Assign rows lo..hi (of x, or of the list `rows`); see `numba_sweep.settle`.

    `view` is scale and centre, `tile` an `IntegerTile` as `arguments` gives it.
    """
    state, work, memory = (
        np.zeros(3 * BLOCK, np.float32),  # `settle` reads the labels of a short block to its end
        _work(x.shape[1], view[1]),
        scratch(x.shape[1]),
    )
    for at in range(lo, hi, BLOCK):
        n = min(BLOCK, hi - at)
        _score_rows(x, at, n, rows, view, tile, task[1], work, state)
        settle(x, state, n, at, rows, task, out, sums, memory)


@score_jit
def integer_top_two(
    x: Any, view: Any, tile: Any, norms: Any, best: Any, score: Any, lead: Any
) -> None:
    """Index of the best score of every row, that score and its lead, less what they may be off."""
    state, work, rows = (
        np.empty(3 * BLOCK, np.float32),
        _work(x.shape[1], view[1]),
        np.empty(0, np.int64),
    )
    for at in range(0, len(x), BLOCK):
        n = min(BLOCK, len(x) - at)
        _score_rows(x, at, n, rows, view, tile, norms, work, state)
        for r in range(n):
            best[at + r] = np.int32(state[2 * BLOCK + r])
            score[at + r] = state[r]
            lead[at + r] = state[r] - state[BLOCK + r]
