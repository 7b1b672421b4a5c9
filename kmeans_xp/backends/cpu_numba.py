"""Compiled kernels for NumPy arrays; this module needs numba (extra `cpu`).

They return what the NumPy code returns: framed rows and sums to the last bit, scores within
`exact.bounds.score_bound`.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from kmeans_xp.backends import numba_kernels as kernels
from kmeans_xp.backends import numba_sweep
from kmeans_xp.backends.jit import frozen
from kmeans_xp.backends.numba_integer import (
    IntegerTile,
    integer_sweep,
    integer_tile,
    integer_top_two,
)
from kmeans_xp.backends.numba_vectors import LANES
from kmeans_xp.backends.records import Frame, Swept, Task, Tile
from kmeans_xp.exact.grid import Grid
from kmeans_xp.exact.sums import ClusterSums

__all__ = [
    "certified",
    "frame",
    "framed_top_two",
    "move_rows",
    "nearest",
    "suits",
    "sweep",
    "top_two",
    "warmup",
]

# Up to this many features the scores are formed in registers, beyond it by BLAS.
_DIRECT = 32
# Up to this many centroids BLAS is faster with the rows as its first factor.
_FEW_CENTERS = 16
# OpenBLAS multiplies without copying where the product has at most so many terms, and rows.
_SMALL_PRODUCT = 900_000
_SMALL_ROWS = 96
# Bytes the scores of one BLAS product may take: they should stay in the second-level cache.
_SCORE_BYTES = 1 << 19
# The pass in integers pays from so many products a row (wide vectors, others), centroids and rows,
# and if it leaves no larger part of them open; one row in so many is tried first.
_LEAST_PRODUCTS, _LEAST_CENTERS, _LEAST_ROWS, _MOST_OPEN = (1024, 2048), 10, 1024, 0.4
_TRIED = 16
# Levels of the exact sums that the kernel knows.
_LEVELS = 3


_local = threading.local()


def _scratch(size: int) -> np.ndarray:
    """Memory of this thread for `size` float32 values; the next call hands it out again."""
    held: np.ndarray | None = getattr(_local, "scratch", None)
    if held is None or held.size < size:
        memory = np.empty(size + 16, dtype=np.float32)
        skip = -memory.ctypes.data % 64 // 4  # vectors that cross cache lines are slow
        held = _local.scratch = memory[skip : skip + size]
    return held[:size]


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
    return framed_top_two(np.ascontiguousarray(rows), None, centers, bias)


def framed_top_two(
    x: np.ndarray, view: Frame | None, centers: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`top_two` of the rows that `frame` makes of x, an array that `suits`; of x itself without."""
    best = np.empty(len(x), dtype=np.int32)
    out = best, np.empty(len(x), dtype=np.float32), np.empty(len(x), dtype=np.float32)
    n_features, offsets = centers.shape[1], _offsets(bias)
    if n_features > _DIRECT:
        _reduce_tiles(x, view, centers, offsets, out)
        return out
    points = _points(centers)
    reach = np.array([np.abs(points).max(), np.abs(bias).max()])
    view = view or Frame(1.0, np.zeros(n_features, dtype=np.float32))
    kernels.direct(frozen(x), *view.cast(x.dtype), points, offsets, reach, *out)
    return out


def _offsets(bias: np.ndarray) -> np.ndarray:
    """The bias of each centroid, for a multiple of four of them."""
    offsets = np.full(-(-len(bias) // 4) * 4, kernels.LOWEST)
    offsets[: len(bias)] = bias
    return offsets


def _points(centers: np.ndarray) -> np.ndarray:
    """Centroids of few features as `score_block` takes them: fours of both, or two features."""
    n_clusters, n_features = centers.shape
    width = 2 if n_features <= 2 else -(-n_features // 4) * 4
    points = np.zeros((-(-n_clusters // 4) * 4, width), dtype=np.float32)
    points[:n_clusters, :n_features] = centers
    return points


def _tile_rows(n_clusters: int, n_features: int) -> int:
    """Rows a BLAS product: its scores stay in cache, and few centroids keep it small."""
    if n_clusters <= _FEW_CENTERS:
        small = min(_SMALL_ROWS, _SMALL_PRODUCT // (n_clusters * n_features))
        return small // 16 * 16 if small >= 32 else kernels.BLOCK
    return max(16, min(kernels.BLOCK, _SCORE_BYTES // (64 * n_clusters) * 16))


def _reduce_tiles(
    x: np.ndarray,
    view: Frame | None,
    centers: np.ndarray,
    offsets: np.ndarray,
    out: tuple[np.ndarray, ...],
) -> None:
    """Scores by BLAS, a tile of rows at a time; `offsets` are padded to a multiple of four."""
    n_clusters, padded = len(centers), len(offsets)
    tile = _tile_rows(*centers.shape)
    memory = _scratch((padded + x.shape[1]) * tile)
    for lo in range(0, len(x), tile):
        part = slice(lo, min(lo + tile, len(x)))
        count = part.stop - lo
        products = memory[: padded * count].reshape(padded, count)
        rows = x[part]
        if view is not None:
            framed = memory[padded * count :][: rows.size].reshape(rows.shape)
            rows = frame(rows, view, framed)
        if n_clusters <= _FEW_CENTERS:
            kernels.turn(np.matmul(rows, centers.T), products)
        else:
            np.matmul(centers, rows.T, out=products[:n_clusters])
        products[n_clusters:] = 0
        kernels.reduce(products, offsets, *(array[part] for array in out))


def nearest(
    x: np.ndarray,
    view: Frame,
    tile: Tile,
    norms: np.ndarray,
    bound: tuple[float, float, float],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Best score of the rows of an array that `suits`; see `Backend.nearest`."""
    integers = _integers(tile, view, len(x))
    if integers is None:
        best, score, lead = framed_top_two(x, view, tile.centers, tile.bias)
        return best, score, lead, certified(lead, norms, *bound)
    best = np.empty(len(x), dtype=np.int32)
    score, lead = np.zeros((2, len(x)), dtype=np.float32)
    sure = np.zeros(len(x), dtype=bool)
    given = view.cast(x.dtype), integers.arguments(x.dtype)
    for part in _tried(0, len(x)):
        out = best[part], score[part], lead[part]
        integer_top_two(frozen(x[part]), *given, norms[part], *out)
        sure[part] = certified(lead[part], norms[part], *bound)
        if _many_open(int(np.count_nonzero(~sure[part])), part):
            break
    left = np.flatnonzero(~sure)
    if left.size:
        again = framed_top_two(x[left], view, tile.centers, tile.bias)
        best[left], score[left], lead[left] = again
        sure[left] = certified(again[2], norms[left], *bound)
    return best, score, lead, sure


def certified(
    lead: np.ndarray, norms: np.ndarray, slope: float, offset: float, limit: float
) -> np.ndarray:
    """Rows whose lead exceeds slope·norm + offset, with finite scores and a norm below `limit`."""
    out = np.empty(len(lead), dtype=bool)
    kernels.certify(lead, norms, slope, offset, limit, out)
    return out


def suits(x: np.ndarray) -> bool:
    """Whether the kernels read this array in place: float32 or float64, C-contiguous."""
    native = x.dtype in (np.float32, np.float64) and x.dtype.isnative
    return bool(native and x.flags.c_contiguous and x.flags.aligned)


def _levels(sums: ClusterSums | None, depth: int) -> tuple[Any, ...] | None:
    """What kernels need of sums with `depth` levels or more; None if they cannot add to them."""
    units = None if sums is None or sums.weighted else sums.grid.units
    if sums is None or units is None:
        return None
    sums.value_level(depth - 1)
    levels = sums.values[:_LEVELS]
    padded = levels + levels[:1] * (_LEVELS - len(levels))
    return units, 2.0**sums.grid.bits, len(levels), *padded, sums.weights[0]


_NOTHING = np.zeros((1, 1), dtype=np.int64)
_NO_SUMS = np.empty(0), 1.0, 0, _NOTHING, _NOTHING, _NOTHING, _NOTHING[:, 0]


def move_rows(
    x: np.ndarray, rows: np.ndarray, old: np.ndarray, labels: np.ndarray, sums: ClusterSums
) -> np.ndarray:
    """Move rows without weights between exact sums; see `Backend.move_rows`.

    Returns
    -------
    left : ndarray of int64
        Positions in `rows` of those that need more levels than the kernel knows; not moved.
    """
    places = np.arange(len(rows))
    with sums.lock:
        for depth in range(min(_LEVELS, max(2, len(sums.values))), _LEVELS + 1):
            levels = _levels(sums, depth)
            if levels is None or not places.size:
                break
            owed = np.empty(len(places), dtype=np.int64)
            n_owed = numba_sweep.move(frozen(x), rows[places], old[places], labels, *levels, owed)
            places = places[owed[:n_owed]]
    return places


def sweep(x: np.ndarray, rows: slice | np.ndarray, task: Task, sums: ClusterSums | None) -> Swept:
    """Assign some rows of an array that `suits`; see `Backend.sweep`.

    In integers first, where that pays; what these leave open is looked at in float32.
    """
    chosen = rows if isinstance(rows, np.ndarray) else np.empty(0, dtype=np.int64)
    lo, hi = (0, len(rows)) if isinstance(rows, np.ndarray) else (rows.start, rows.stop)
    n_rows, n_clusters = hi - lo, len(task.ids)
    moved, left, owed = np.empty((3, n_rows), dtype=np.int64)
    old, counts = np.empty(n_rows, dtype=np.int32), np.zeros(3, dtype=np.int64)
    out = moved, old, left, counts, owed
    ids = task.ids if task.ids[-1] != n_clusters - 1 else task.ids[:0]  # else each is its own
    up, low = task.bounds or (np.empty(0, dtype=np.float32),) * 2
    given = ids, task.norms, np.array(task.terms), task.labels, up, low
    levels = _levels(sums, 2) or _NO_SUMS
    x, view = frozen(x), task.frame.cast(x.dtype)
    tile = _integers(task.tile, task.frame, n_rows)
    if tile is not None:
        for part in _tried(lo, hi):
            before, lo = counts[1], part.stop
            arguments = tile.arguments(x.dtype)
            integer_sweep(x, part.start, lo, chosen, view, arguments, given, out, levels)
            if _many_open(counts[1] - before, part):
                break
        again, counts[1] = left[: counts[1]].copy(), 0
        _float_sweep(x, 0, len(again), again, view, task.tile, given, out, levels)
    _float_sweep(x, lo, hi, chosen, view, task.tile, given, out, levels)
    places = owed[: counts[2]]
    return Swept(int(counts[0]), moved[places], old[places], left[: counts[1]])


def _float_sweep(
    x: np.ndarray,
    lo: int,
    hi: int,
    rows: np.ndarray,
    view: tuple[np.floating[Any], np.ndarray],
    tile: Tile,
    *given: tuple[Any, ...],
) -> None:
    """Assign rows by float32 scores: in registers, or for many features by BLAS."""
    if lo == hi:
        return
    offsets = _offsets(tile.bias)
    if tile.centers.shape[1] > _DIRECT:
        _sweep_tiles(x, (lo, hi), rows, view, tile.centers, offsets, given)
        return
    points = _points(tile.centers)
    memory = _scratch(numba_sweep.direct_memory(points.shape[1]))
    numba_sweep.direct_sweep(x, lo, hi, rows, view, points, offsets, memory, *given)


def _sweep_tiles(
    x: np.ndarray,
    bounds: tuple[int, int],
    rows: np.ndarray,
    view: tuple[np.floating[Any], np.ndarray],
    centers: np.ndarray,
    offsets: np.ndarray,
    given: tuple[tuple[Any, ...], ...],
) -> None:
    """Products by BLAS, or by a kernel for few centroids, a tile of rows at a time."""
    n_clusters, n_features = centers.shape
    padded = len(offsets)
    few = n_clusters <= _FEW_CENTERS
    tile = kernels.BLOCK if few else _tile_rows(n_clusters, n_features)
    memory = _scratch((padded + n_features) * tile)
    products = memory[: padded * tile].reshape(padded, tile)
    products[n_clusters:] = 0
    if few:
        points = np.zeros((padded, n_features), dtype=np.float32)
        points[:n_clusters] = centers
    framed = memory[padded * tile :].reshape(tile, n_features)
    for at in range(bounds[0], bounds[1], tile):
        n = min(tile, bounds[1] - at)
        if few:
            numba_sweep.few_products(x, at, n, rows, *view, points, products)
        else:
            numba_sweep.frame_tile(x, at, rows, *view, framed[:n])
            np.matmul(centers, framed[:n].T, out=products[:n_clusters, :n])
        numba_sweep.tile_sweep(products, x, at, n, rows, offsets, *given)


def _integers(tile: Tile, frame: Frame, n_rows: int) -> IntegerTile | None:
    """Centroids for the pass in integers; None where it would not pay."""
    products = tile.centers.size
    few = products < _LEAST_PRODUCTS[LANES < 16] or len(tile.bias) < _LEAST_CENTERS
    if few or n_rows < _LEAST_ROWS:
        return None
    return integer_tile(tile, frame)


def _tried(lo: int, hi: int) -> tuple[slice, slice]:
    """Rows lo..hi for the pass in integers: some that show whether it pays, and the others.

    Every call finds out for itself: what others found would depend on which thread came first.
    """
    some = min(hi, lo + max(_LEAST_ROWS // 2, (hi - lo) // _TRIED) // kernels.BLOCK * kernels.BLOCK)
    return slice(lo, some), slice(some, hi)


def _many_open(n_open: int, part: slice) -> bool:
    """Whether the pass in integers left too many of these rows open."""
    return n_open > _MOST_OPEN * (part.stop - part.start)


def frame(x: np.ndarray, view: Frame, out: np.ndarray | None = None) -> np.ndarray:
    """Rows of an array that `suits`, scaled and centred, float32."""
    if out is None:
        out = np.empty(x.shape, dtype=np.float32)
    kernels.frame(frozen(x), *view.cast(x.dtype), out)
    return out


def warmup() -> None:
    """Compile all kernels, or load them from the cache, so that no later call has to."""
    for dtype in (np.float32, np.float64):
        for n_features in (2, _DIRECT + 1):
            x = np.ones((_LEAST_ROWS, n_features), dtype=dtype)
            view = Frame(1.0, np.zeros(n_features, dtype=np.float32), 1.0, 1.0)
            for n_clusters in (1, 64):
                _warm_up_passes(x, view, n_clusters)
            grid = Grid.fit(np.ones(n_features), 1.0, None, 2, 2, dtype == np.float32)
            labels = np.zeros(2, dtype=np.int32)
            move_rows(x, np.arange(2), labels, labels, ClusterSums(1, grid, False))


def _warm_up_passes(x: np.ndarray, view: Frame, n_clusters: int) -> None:
    """Passes over rows that are all alike: no path is sure of them, so that each is taken."""
    tile = Tile(np.ones((n_clusters, x.shape[1]), np.float32), np.zeros(n_clusters, np.float32))
    norms, labels = np.ones(len(x), dtype=np.float32), np.zeros(len(x), dtype=np.int32)
    nearest(x, view, tile, norms, (1.0, 1.0, 1.0))
    tile = Tile(tile.centers, tile.bias)
    ids = np.arange(n_clusters, dtype=np.int32)
    task = Task(view, tile, ids, norms, labels, (1.0,) * 7, None)
    sweep(x, slice(0, len(x)), task, None)
