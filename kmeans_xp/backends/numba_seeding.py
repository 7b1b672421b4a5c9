"""Compiled pass of k-means++: which rows new centres bring closer; this module needs numba."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmeans_xp.backends.jit import frozen, jit, sum_jit
from kmeans_xp.backends.records import Frame
from kmeans_xp.exact.bounds import FLOAT32, FLOAT64, TINY64, gamma
from kmeans_xp.exact.potentials import FLUSH

__all__ = ["lowered", "warmup"]

_BLOCK = 256
# Up to this many features a block of rows is transposed, beyond it they are taken one by one.
_NARROW = 32


@jit
def _rn12(value: Any) -> Any:
    """Round a positive normal number to 12 significant bits, ties to even."""
    bits = np.float64(value).view(np.int64)
    bits += (np.int64(1) << 40) - 1 + ((bits >> 41) & 1)  # a carry moves on to the exponent
    return np.int64((bits >> 41) << 41).view(np.float64)


@sum_jit
def _far(block: Any, point: Any, squares: Any) -> None:
    """Float32 squared distances of a transposed block of rows to one point."""
    squares[:] = 0
    for j in range(len(point)):
        p = point[j]
        for r in range(_BLOCK):
            difference = block[j, r] - p
            squares[r] += difference * difference


@sum_jit
def _far_row(row: Any, points: Any, squares: Any, r: Any) -> None:
    """Float32 squared distances of one framed row to all points."""
    for c in range(len(points)):
        total = np.float32(0)
        for j in range(len(row)):
            difference = row[j] - points[c, j]
            total += difference * difference
        squares[c, r] = total


@jit
def _transpose(x: Any, rows: Any, view: Any, block: Any) -> None:
    """Frame rows and bring them into a block, feature by feature."""
    scale, center = view
    first, n = rows[0], len(rows)
    if rows[n - 1] - first == n - 1:  # neighbours: without their list the loop vectorises
        part = x[first : first + n]
        for j in range(x.shape[1]):
            c = center[j]
            for r in range(n):
                block[j, r] = np.float32(part[r, j] * scale - c)
        return
    for r in range(n):
        row = np.uint64(rows[r])
        for j in range(x.shape[1]):
            block[j, r] = np.float32(x[row, j] * scale - center[j])


@jit
def _distances(x: Any, rows: Any, view: Any, points: Any, block: Any, squares: Any) -> None:
    """Float32 squared distances of a block of rows to all points."""
    scale, center = view
    if x.shape[1] <= _NARROW:
        _transpose(x, rows, view, block)
        for c in range(len(points)):
            _far(block, points[c], squares[c])
        return
    framed = block.reshape(-1)
    for r in range(len(rows)):
        row = np.uint64(rows[r])
        for j in range(len(framed)):
            framed[j] = np.float32(x[row, j] * scale - center[j])
        _far_row(framed, points, squares, r)


@sum_jit
def _square(x: Any, row: Any, unit: Any, center: Any) -> Any:
    """Float64 squared distance of a scaled row to a scaled centre."""
    total = 0.0
    for j in range(len(center)):
        difference = x[row, j] * unit - center[j]
        total += difference * difference
    return total


@jit
def _potential(square: Any, relative: Any) -> Any:
    """rn12 of a squared distance known within relative·square, or -1 where that is not certain."""
    error = relative * square + TINY64
    if square + error < FLUSH:
        return 0.0
    if square - error < FLUSH:
        return -1.0
    low = _rn12(square - error)
    return low if low == _rn12(square + error) else -1.0


@jit
def _lowered(
    x: Any,
    rows: Any,
    p: Any,
    norms: Any,
    view: Any,
    points: Any,
    scaled: Any,
    terms: Any,
    places: Any,
    values: Any,
    counts: Any,
) -> None:
    unit, reach, farthest, grow, relative = terms
    narrow = x.shape[1] <= _NARROW
    block = np.zeros((x.shape[1], _BLOCK if narrow else 1), dtype=np.float32)
    squares = np.zeros((len(points), _BLOCK), dtype=np.float32)
    limit = np.empty(_BLOCK)
    for lo in range(0, len(rows), _BLOCK):
        n = min(_BLOCK, len(rows) - lo)
        some = rows[lo : lo + n]
        _distances(x, some, view, points, block, squares)
        for r in range(n):
            # the roundings of row and centre to float32, then that of the sum
            off = 4 * FLOAT32 * (np.float64(norms[some[r]]) + farthest) + 2.0**-100
            limit[r] = (math.sqrt(p[lo + r] * reach) + off) ** 2 * grow
        for c in range(len(points)):
            for r in range(n):
                if not squares[c, r] > limit[r]:
                    value = _potential(_square(x, some[r], unit, scaled[c]), relative)
                    if value < p[lo + r]:
                        places[c, counts[c]] = lo + r
                        values[c, counts[c]] = value
                        counts[c] += 1


def lowered(
    x: np.ndarray,
    rows: np.ndarray,
    p: np.ndarray,
    norms: np.ndarray,
    view: Frame,
    centers: np.ndarray,
    exponent: int,
) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Rows whose potential each of a few new centres lowers, without weights.

    Float32 distances rule most rows out, within their error bound; the others are measured in
    float64.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (N, D)
        Data that `cpu_numba.suits`.
    rows : ndarray of int64, shape (n,)
        The rows to look at.
    p : ndarray of float64, shape (n,)
        Their potentials, in units of 2**(2·exponent).
    norms : ndarray of float32, shape (N,)
        Upper bounds of the norms of the framed rows.
    view : Frame
    centers : ndarray, shape (m, D)
    exponent : int
        Every value of x is below 2**exponent.

    Returns
    -------
    list of (places, values), or None
        For each centre the positions in `rows` and their new potentials; -1 where float64 cannot
        tell. None if the scale of the data does not suit the kernel.
    """
    shift = 2 * (exponent + math.frexp(view.scale)[1] - 1)
    if max(abs(exponent), abs(shift)) > 900:
        return None
    points = (centers.astype(np.float64) * view.scale - view.center).astype(np.float32)
    farthest = math.sqrt(float(np.square(points.astype(np.float64)).sum(axis=1).max())) * (1 + 1e-9)
    if not (farthest < 1e17 and float(norms[rows].max()) < 1e17):  # float32 squares could overflow
        return None
    n_features = x.shape[1]
    grow = 1 + 2 * gamma(n_features + 6, FLOAT32) + 2.0**-20
    terms = (
        math.ldexp(1.0, -exponent),
        math.ldexp(1 + 2.0**-10, shift),  # rounding to 12 bits moves a potential by 2^-12
        farthest,
        grow,
        gamma(n_features + 8, FLOAT64),
    )
    places = np.empty((len(centers), len(rows)), dtype=np.int64)
    values = np.empty(places.shape)
    counts = np.zeros(len(centers), dtype=np.int64)
    frame = x.dtype.type(view.scale), view.center.astype(x.dtype)
    scaled = np.ldexp(centers.astype(np.float64), -exponent)
    _lowered(frozen(x), rows, p, norms, frame, points, scaled, terms, places, values, counts)
    return [(places[c, :n], values[c, :n]) for c, n in enumerate(counts.tolist())]


def warmup() -> None:
    """Compile the kernel, or load it from the cache."""
    view = Frame(1.0, np.zeros(1, dtype=np.float32))
    for dtype in (np.float32, np.float64):
        x = np.ones((1, 1), dtype=dtype)
        norms = np.ones(1, dtype=np.float32)
        lowered(x, np.zeros(1, dtype=np.int64), np.ones(1), norms, view, x, 1)
