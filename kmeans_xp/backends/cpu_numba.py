"""Compiled kernels for NumPy arrays; this module needs numba (extra `cpu`).

They return what the NumPy code returns: framed rows and sums to the last bit, scores within
`exact.bounds.score_bound`. Loops run over blocks of rows that were transposed first, so that the
compiler can vectorise over rows. No kernel is compiled before its first call; the result is cached
on disk.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from kmeans_xp.backends.generic import Frame
from kmeans_xp.exact.sums import ClusterSums, Grid

__all__ = ["add_rows", "frame", "suits", "top_two", "warmup"]

# Rows a transposed block; the state of a block is three rows of this length.
_BLOCK = 256
# Up to this many features the scores are formed here, beyond it by BLAS.
_DIRECT = 32
# Up to this many centroids BLAS is faster with the rows as its first factor.
_FEW_CENTERS = 16
# Bytes the scores of one BLAS product may take: they should stay in the second-level cache.
_SCORE_BYTES = 1 << 19
# No score is below this; a score that may not be finite must not be trusted.
_LOWEST = np.float32(-3.4e38)
_LARGEST = np.float32(3e38)
# Levels of the exact sums that the kernel knows.
_LEVELS = 3
# Powers of two that scaling may use.
_RANGE = 1000


def _jit(function: Callable[..., Any], **options: Any) -> Any:
    """Compile on the first call, releasing the GIL; cached where a directory can be written."""
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no place for a cache
        return numba.njit(**options)(function)


def _score_jit(function: Callable[..., Any]) -> Any:
    """Scores may use FMA and lose the sign of zero; NaN and infinity keep their meaning."""
    return _jit(function, fastmath={"contract", "nsz"})


def _inline(function: Callable[..., Any]) -> Any:
    """Copy into every caller: a call with many arrays costs more than a few additions."""
    return numba.njit(inline="always")(function)


# ---- the two best scores


@_score_jit
def _keep(s: Any, j: Any, best: Any, second: Any, index: Any) -> Any:
    """Take one more score into the best two; equal scores make the lead zero."""
    better = s > best
    lower = best if better else s
    return (
        s if better else best,
        lower if lower > second else second,
        j if better else index,
    )


@_score_jit
def _keep_four(j: Any, s0: Any, s1: Any, s2: Any, s3: Any, state: Any, r: Any) -> None:
    """Take the scores of centroids j to j + 3 into the state of row r."""
    best, second, index = state[r], state[_BLOCK + r], state[2 * _BLOCK + r]
    best, second, index = _keep(s0, j, best, second, index)
    best, second, index = _keep(s1, j + np.float32(1), best, second, index)
    best, second, index = _keep(s2, j + np.float32(2), best, second, index)
    best, second, index = _keep(s3, j + np.float32(3), best, second, index)
    state[r], state[_BLOCK + r], state[2 * _BLOCK + r] = best, second, index


@_score_jit
def _score_two(x: Any, c: Any, bias: Any, j: Any, state: Any) -> None:
    """Scores of four centroids that have two features."""
    c00, c10, c20, c30 = c[0, 0], c[1, 0], c[2, 0], c[3, 0]
    c01, c11, c21, c31 = c[0, 1], c[1, 1], c[2, 1], c[3, 1]
    h0, h1, h2, h3 = bias[0], bias[1], bias[2], bias[3]
    for r in range(_BLOCK):
        v0, v1 = x[r], x[_BLOCK + r]
        s0, s1 = h0 + v0 * c00 + v1 * c01, h1 + v0 * c10 + v1 * c11
        s2, s3 = h2 + v0 * c20 + v1 * c21, h3 + v0 * c30 + v1 * c31
        _keep_four(j, s0, s1, s2, s3, state, r)


@_score_jit
def _add_four(x: Any, c: Any, sums: Any) -> None:
    """Add the products of four features to the scores of four centroids."""
    c00, c10, c20, c30 = c[0, 0], c[1, 0], c[2, 0], c[3, 0]
    c01, c11, c21, c31 = c[0, 1], c[1, 1], c[2, 1], c[3, 1]
    c02, c12, c22, c32 = c[0, 2], c[1, 2], c[2, 2], c[3, 2]
    c03, c13, c23, c33 = c[0, 3], c[1, 3], c[2, 3], c[3, 3]
    for r in range(_BLOCK):
        v0, v1, v2, v3 = x[r], x[_BLOCK + r], x[2 * _BLOCK + r], x[3 * _BLOCK + r]
        s0, s1 = sums[r], sums[_BLOCK + r]
        s2, s3 = sums[2 * _BLOCK + r], sums[3 * _BLOCK + r]
        sums[r] = s0 + v0 * c00 + v1 * c01 + v2 * c02 + v3 * c03
        sums[_BLOCK + r] = s1 + v0 * c10 + v1 * c11 + v2 * c12 + v3 * c13
        sums[2 * _BLOCK + r] = s2 + v0 * c20 + v1 * c21 + v2 * c22 + v3 * c23
        sums[3 * _BLOCK + r] = s3 + v0 * c30 + v1 * c31 + v2 * c32 + v3 * c33


@_score_jit
def _score_four(x: Any, c: Any, sums: Any, j: Any, state: Any) -> None:
    """Add the last four features to the scores of four centroids and take them in."""
    c00, c10, c20, c30 = c[0, 0], c[1, 0], c[2, 0], c[3, 0]
    c01, c11, c21, c31 = c[0, 1], c[1, 1], c[2, 1], c[3, 1]
    c02, c12, c22, c32 = c[0, 2], c[1, 2], c[2, 2], c[3, 2]
    c03, c13, c23, c33 = c[0, 3], c[1, 3], c[2, 3], c[3, 3]
    for r in range(_BLOCK):
        v0, v1, v2, v3 = x[r], x[_BLOCK + r], x[2 * _BLOCK + r], x[3 * _BLOCK + r]
        s0 = sums[r] + v0 * c00 + v1 * c01 + v2 * c02 + v3 * c03
        s1 = sums[_BLOCK + r] + v0 * c10 + v1 * c11 + v2 * c12 + v3 * c13
        s2 = sums[2 * _BLOCK + r] + v0 * c20 + v1 * c21 + v2 * c22 + v3 * c23
        s3 = sums[3 * _BLOCK + r] + v0 * c30 + v1 * c31 + v2 * c32 + v3 * c33
        _keep_four(j, s0, s1, s2, s3, state, r)


@_score_jit
def _keep_sums(s0: Any, s1: Any, s2: Any, s3: Any, bias: Any, j: Any, state: Any) -> None:
    """Take scores that lack only their bias into the state, and note those that are not finite."""
    h0, h1, h2, h3 = bias[0], bias[1], bias[2], bias[3]
    zero = np.float32(0)
    for r in range(len(s0)):
        v0, v1, v2, v3 = s0[r] + h0, s1[r] + h1, s2[r] + h2, s3[r] + h3
        state[3 * _BLOCK + r] += v0 * zero + v1 * zero + v2 * zero + v3 * zero
        _keep_four(j, v0, v1, v2, v3, state, r)


@_score_jit
def _score_block(x: Any, centers: Any, bias: Any, sums: Any, state: Any) -> None:
    """The two best scores of a transposed block."""
    width = centers.shape[1]
    for j in range(0, len(centers), 4):
        c, first = centers[j : j + 4], np.float32(j)
        if width == 2:
            _score_two(x, c, bias[j : j + 4], first, state)
            continue
        for i in range(4):
            sums[i * _BLOCK : (i + 1) * _BLOCK] = bias[j + i]
        for q in range(0, width - 4, 4):
            _add_four(x[q * _BLOCK : (q + 4) * _BLOCK], c[:, q : q + 4], sums)
        _score_four(x[(width - 4) * _BLOCK :], c[:, width - 4 :], sums, first, state)


@_score_jit
def _transpose(rows: Any, x: Any, size: Any) -> None:
    """Bring rows into a block, feature by feature, and sum up their magnitudes."""
    for r in range(len(rows)):
        total = np.float32(0)
        for q in range(rows.shape[1]):
            x[q * _BLOCK + r] = rows[r, q]
            total += abs(rows[r, q])
        size[r] = total


@_score_jit
def _direct(
    rows: Any, centers: Any, bias: Any, reach: Any, best: Any, score: Any, lead: Any
) -> None:
    """The whole of `top_two` for few features; `reach` bounds |c_kj| and |bias|."""
    x = np.zeros(centers.shape[1] * _BLOCK, np.float32)
    sums, size = np.empty(4 * _BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    state = np.empty(3 * _BLOCK, np.float32)
    for lo in range(0, len(rows), _BLOCK):
        n = min(_BLOCK, len(rows) - lo)
        _transpose(rows[lo : lo + n], x, size)
        state[: 2 * _BLOCK] = _LOWEST
        state[2 * _BLOCK :] = np.float32(0)
        _score_block(x, centers, bias, sums, state)
        for r in range(n):
            best[lo + r] = np.int32(state[2 * _BLOCK + r])
            score[lo + r] = state[r]
            gap = state[r] - state[_BLOCK + r]
            finite = size[r] * reach[0] + reach[1] < _LARGEST
            lead[lo + r] = gap if finite else np.float32(np.nan)


@_score_jit
def _reduce(products: Any, bias: Any, best: Any, score: Any, lead: Any) -> None:
    """The two best of scores that BLAS has formed, shape (K, n), but for their bias."""
    state = np.zeros(4 * _BLOCK, np.float32)
    state[: 2 * _BLOCK] = _LOWEST
    for j in range(0, len(products), 4):
        s0, s1, s2, s3 = products[j], products[j + 1], products[j + 2], products[j + 3]
        _keep_sums(s0, s1, s2, s3, bias[j : j + 4], np.float32(j), state)
    for r in range(products.shape[1]):
        best[r] = np.int32(state[2 * _BLOCK + r])
        score[r] = state[r]
        lead[r] = state[r] - state[_BLOCK + r] + state[3 * _BLOCK + r]


@_score_jit
def _turn(scores: Any, products: Any) -> None:
    """Transpose."""
    for r in range(len(scores)):
        for k in range(scores.shape[1]):
            products[k, r] = scores[r, k]


_local = threading.local()


def _scratch(size: int) -> np.ndarray:
    """Memory of this thread for `size` float32 values; the next call hands it out again."""
    held: np.ndarray | None = getattr(_local, "scratch", None)
    if held is None or held.size < size:
        held = _local.scratch = np.empty(size, dtype=np.float32)
    return held[:size]


def _frozen(array: np.ndarray) -> np.ndarray:
    """A read-only view: kernels are compiled for these alone."""
    view = array.view()
    view.flags.writeable = False
    return view


def top_two(
    rows: np.ndarray, centers: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Index of the best score x·c + bias of every row, that score, and its lead over the second.

    Equal scores have lead 0, and either index. Where any score of a row may be NaN or infinite, the
    lead is NaN or infinite.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, D)
    centers : ndarray of float32, shape (K, D)
    bias : ndarray of float32, shape (K,)

    Returns
    -------
    best : ndarray of int32, shape (n,)
    score, lead : ndarray of float32, shape (n,)
    """
    rows = np.ascontiguousarray(rows)
    n_rows, n_features = rows.shape
    n_clusters = len(centers)
    best = np.empty(n_rows, dtype=np.int32)
    out = best, np.empty(n_rows, dtype=np.float32), np.empty(n_rows, dtype=np.float32)
    padded = -(-n_clusters // 4) * 4
    offsets = np.full(padded, _LOWEST)
    offsets[:n_clusters] = bias
    if n_features <= _DIRECT:
        width = 2 if n_features <= 2 else -(-n_features // 4) * 4
        points = np.zeros((padded, width), dtype=np.float32)
        points[:n_clusters, :n_features] = centers
        reach = np.array([np.abs(points).max(), np.abs(bias).max()])
        _direct(_frozen(rows), points, offsets, reach, *out)
        return out
    tile = max(16, min(_BLOCK, _SCORE_BYTES // (64 * padded) * 16))
    memory = _scratch(padded * tile)
    for lo in range(0, n_rows, tile):
        part = slice(lo, min(lo + tile, n_rows))
        count = part.stop - lo
        products = memory[: padded * count].reshape(padded, count)
        if n_clusters <= _FEW_CENTERS:
            _turn(np.matmul(rows[part], centers.T), products)
        else:
            np.matmul(centers, rows[part].T, out=products[:n_clusters])
        products[n_clusters:] = 0
        _reduce(products, offsets, *(array[part] for array in out))
    return out


# ---- exact sums


@_inline
def _add_level(rest: Any, step: Any, sign: Any, level: Any, k: Any) -> Any:
    """Move the integers of `rest` into row k of a level; True if something is left."""
    more = False
    for j in range(len(rest)):
        integer = np.rint(rest[j])
        level[k, j] += np.int64(integer) * sign
        more |= rest[j] != integer
        rest[j] = (rest[j] - integer) * step
    return more


@_jit
def _add(
    x: Any,
    rows: Any,
    labels: Any,
    scale: Any,
    step: Any,
    sign: Any,
    depth: Any,
    s0: Any,
    s1: Any,
    s2: Any,
    counts: Any,
    left: Any,
) -> Any:
    """Add rows to the first `depth` levels; those that need more are listed in `left`."""
    rest = np.empty(x.shape[1])
    n_left, i, unit = 0, 0, sign
    while i < len(rows):
        k, row = labels[i], rows[i]
        more = False
        for j in range(len(rest)):
            value = np.float64(x[row, j]) * scale[j]
            integer = np.rint(value)
            s0[k, j] += np.int64(integer) * unit
            more |= value != integer
            rest[j] = (value - integer) * step
        if more and depth > 1:
            more = _add_level(rest, step, unit, s1, k)
        if more and depth > 2:
            more = _add_level(rest, step, unit, s2, k)
        counts[k] += unit
        if more and unit == sign:  # once more, to take it away again
            unit = -sign
            left[n_left] = i
            n_left += 1
        else:
            unit = sign
            i += 1
    return n_left


def suits(x: np.ndarray) -> bool:
    """Whether the kernels read this array in place: float32 or float64, C-contiguous."""
    native = x.dtype in (np.float32, np.float64) and x.dtype.isnative
    return bool(native and x.flags.c_contiguous and x.flags.aligned)


def add_rows(
    x: np.ndarray, rows: np.ndarray, labels: np.ndarray, sums: ClusterSums, sign: int
) -> np.ndarray:
    """Add rows without weights to exact sums, as `ClusterSums.add` does.

    Only levels that `sums` has already are filled.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (N, D)
        Data that `suits`.
    rows : ndarray of int64, shape (n,)
    labels : ndarray of int32, shape (n,)
    sums : ClusterSums
    sign : int
        1 or -1.

    Returns
    -------
    left : ndarray of int64
        Positions in `rows` of those that were not added: they need further levels.
    """
    grid = sums.grid
    shift = grid.bits - grid.exponents
    if grid.wide or (np.abs(shift) > _RANGE).any():
        return np.arange(len(rows))
    left = np.empty(len(rows), dtype=np.int64)
    given = _frozen(x), rows.astype(np.int64, copy=False), labels.astype(np.int32, copy=False)
    units = np.ldexp(1.0, shift), 2.0**grid.bits, sign

    def run(levels: list[np.ndarray], counts: np.ndarray) -> int:
        padded = levels + levels[:1] * (_LEVELS - len(levels))
        return int(_add(*given, *units, len(levels), *padded, counts, left))

    with sums._lock:
        sums.value_level(0)
        levels = sums.values[:_LEVELS]
        if len(rows) < 4 * len(sums.weights[0]):  # not worth memory of its own
            return left[: run(levels, sums.weights[0])]
    mine = [np.zeros_like(level) for level in levels]
    counts = np.zeros_like(sums.weights[0])
    n_left = run(mine, counts)
    with sums._lock:
        for level, part in zip(levels, mine, strict=True):
            level += part
        sums.weights[0] += counts
    return left[:n_left]


# ---- framing


@_jit
def _frame(x: Any, scale: Any, center: Any, out: Any) -> None:
    """Scale and centre in the dtype of x."""
    for i in range(len(x)):
        for j in range(x.shape[1]):
            out[i, j] = np.float32(x[i, j] * scale - center[j])


def frame(x: np.ndarray, view: Frame) -> np.ndarray:
    """Rows of an array that `suits`, scaled and centred, float32."""
    out = np.empty(x.shape, dtype=np.float32)
    scale, center = x.dtype.type(view.scale), view.center.astype(x.dtype)
    _frame(_frozen(x), scale, center, out)
    return out


def warmup() -> None:
    """Compile all kernels, or load them from the cache, so that no later call has to."""
    for dtype in (np.float32, np.float64):
        x = np.ones((2, 2), dtype=dtype)
        frame(x, Frame(1.0, np.zeros(2, dtype=np.float32)))
        largest = np.ones(2)
        sums = ClusterSums(1, Grid.fit(largest, 1.0, None, 2, 2, dtype == np.float32), False)
        add_rows(x, np.arange(2), np.zeros(2, dtype=np.int32), sums, 1)
    for n_features in (2, _DIRECT + 1):
        rows = np.ones((2, n_features), dtype=np.float32)
        top_two(rows, rows, np.zeros(2, dtype=np.float32))
