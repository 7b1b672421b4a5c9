"""Compiled passes of greedy k-means++ without weights; this module needs numba (extra `cpu`).

A row is left out where the triangle inequality tells that no candidate can be nearer than its
centre (E. Raff, "Exact acceleration of k-means++ and k-means‖", IJCAI 2021). The others are
measured in float32, whose bound certifies the twelve bits of most potentials, and in float64 where
it does not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmeans_xp.backends.jit import frozen, jit, sum_jit
from kmeans_xp.backends.records import Frame
from kmeans_xp.exact.bounds import FLOAT32, FLOAT64, TINY64, gamma
from kmeans_xp.exact.potentials import FLUSH

__all__ = [
    "UNKNOWN",
    "apply",
    "codes",
    "lower",
    "potentials",
    "reach",
    "suits",
    "totals",
    "warmup",
]

#: code of a potential that float64 cannot tell
UNKNOWN = -1
_BLOCK = 256
# Features of a transposed block lie this far apart: not at the same place in a page.
_STRIDE = _BLOCK + 16
# Up to this many features a block of rows is transposed, beyond it they are taken one by one.
_NARROW = 32
# Beyond so many features float32 sums tell nothing.
_MOST_FEATURES = 1 << 22
# Bits of a float64 that twelve significant ones leave zero.
_SHIFT = 41
# Float32 squares above this have met no underflow that counts.
_SAFE_SQUARE = 2.0**-80


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
    for q in range(0, len(point), 4):
        p0, p1, p2, p3 = point[q], point[q + 1], point[q + 2], point[q + 3]
        x = block[q * _STRIDE :]
        for r in range(_BLOCK):
            d0, d1 = x[r] - p0, x[_STRIDE + r] - p1
            d2, d3 = x[2 * _STRIDE + r] - p2, x[3 * _STRIDE + r] - p3
            squares[r] += d0 * d0 + d1 * d1 + d2 * d2 + d3 * d3


@sum_jit
def _far_row(framed: Any, point: Any) -> Any:
    """Float32 squared distance of one framed row to a point."""
    total = np.float32(0)
    for j in range(len(framed)):
        difference = framed[j] - point[j]
        total += difference * difference
    return total


@jit
def _turn(x: Any, rows: Any, view: Any, block: Any) -> None:
    """Frame rows and bring them into a block, feature by feature."""
    scale, center = view
    for r in range(len(rows)):
        row = np.uint64(rows[r])
        for j in range(x.shape[1]):
            block[j * _STRIDE + r] = np.float32(x[row, j] * scale - center[j])


@jit
def _distances(x: Any, rows: Any, view: Any, points: Any, block: Any, squares: Any) -> None:
    """Float32 squared distances of at most a block of rows to all points."""
    if x.shape[1] <= _NARROW:
        _turn(x, rows, view, block)
        for c in range(len(points)):
            _far(block, points[c], squares[c])
        return
    scale, center = view
    framed = block[: x.shape[1]]
    for r in range(len(rows)):
        row = np.uint64(rows[r])
        for j in range(len(framed)):
            framed[j] = np.float32(x[row, j] * scale - center[j])
        for c in range(len(points)):
            squares[c, r] = _far_row(framed, points[c])


@sum_jit
def _square(x: Any, row: Any, unit: Any, center: Any) -> Any:
    """Float64 squared distance of a scaled row to a scaled centre."""
    total = 0.0
    for j in range(len(center)):
        difference = x[row, j] * unit - center[j]
        total += difference * difference
    return total


@jit
def _certain(square: Any, off: Any, low: Any, high: Any, unit: Any) -> Any:
    """rn12 of a squared distance from its float32 value, or -1 where that is not certain.

    The distance itself is off by `off` at most, its square by the factors `low` and `high`.
    """
    if not square > _SAFE_SQUARE:
        return -1.0
    root = math.sqrt(np.float64(square))
    least = max(root * low - off, 0.0)
    most = root * high + off
    least, most = least * least * unit, most * most * unit
    if not (least >= FLUSH and most < 1e300):
        return -1.0
    value = _rn12(least)
    return value if value == _rn12(most) else -1.0


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
def _limits(p: Any, some: Any, rows: Any, norms: Any, terms: Any, off: Any, limit: Any) -> None:
    """Errors of the distances of some rows, and the float32 squares that may lower potentials."""
    farthest, up, grow = terms
    for r in range(len(some)):
        off[r] = 2 * FLOAT32 * (np.float64(norms[rows[r]]) + farthest) + 2.0**-100
        most = math.sqrt(p[some[r]] * up) + off[r]
        limit[r] = most * most * grow + 2.0**-120


@jit
def _measure(
    x: Any,
    lo: Any,
    some: Any,
    rows: Any,
    p: Any,
    scaled: Any,
    terms: Any,
    squares: Any,
    limits: Any,
    hits: Any,
    out: Any,
) -> None:
    """Take in the potentials that are lowered, from the float32 squares of some rows."""
    unit, low, high, back, relative, step = terms
    off, limit = limits
    places, codes, counts, unknown, saved = out
    for c in range(len(scaled)):
        n_hits = 0
        for r in range(len(some)):
            hits[n_hits] = r
            n_hits += not squares[c, r] > limit[r]
        for h in range(n_hits):
            r = hits[h]
            value = _certain(squares[c, r], off[r], low, high, back)
            if value < 0:
                value = _potential(_square(x, rows[r], unit, scaled[c]), relative)
            old = p[some[r]]
            if not value < old:
                continue
            places[c, counts[c]] = some[r] - lo
            if value < 0:
                codes[c, counts[c]] = UNKNOWN
                unknown[c] += 1
            else:
                codes[c, counts[c]] = np.float64(value).view(np.int64) >> _SHIFT
                if old < np.inf:
                    saved[c] += np.int64(old * step) - np.int64(value * step)
            counts[c] += 1


@jit
def _lower(
    x: Any,
    chosen: Any,
    lo: Any,
    hi: Any,
    p: Any,
    near: Any,
    reaches: Any,
    norms: Any,
    view: Any,
    points: Any,
    scaled: Any,
    limiting: Any,
    terms: Any,
    out: Any,
) -> None:
    block = np.zeros(max(points.shape[1] * _STRIDE, x.shape[1]), dtype=np.float32)
    squares = np.zeros((len(points), _BLOCK), dtype=np.float32)
    limits = np.empty(_BLOCK), np.empty(_BLOCK)
    hits = np.empty(_BLOCK, dtype=np.int64)
    some = np.empty(_BLOCK, dtype=np.int64)
    rows = np.empty(_BLOCK, dtype=np.int64)
    n = 0
    for i in range(lo, hi):
        some[n] = i
        n += not p[i] <= reaches[near[i]]
        if n == _BLOCK or i == hi - 1:
            for r in range(n):
                rows[r] = chosen[some[r]] if len(chosen) else some[r]
            _distances(x, rows[:n], view, points, block, squares)
            _limits(p, some[:n], rows, norms, limiting, *limits)
            _measure(x, lo, some[:n], rows, p, scaled, terms, squares, limits, hits, out)
            n = 0


@jit
def _apply(p: Any, near: Any, lo: Any, places: Any, codes: Any, center: Any) -> None:
    """Take lowered potentials over."""
    for i in range(len(places)):
        row = lo + places[i]
        p[row] = np.int64(np.int64(codes[i]) << _SHIFT).view(np.float64)
        near[row] = center


@jit
def _totals(p: Any, step: Any, rows: Any, out: Any) -> Any:
    """Sums of the integer weights of blocks of rows; returns the bits of the largest potential."""
    bits, largest = p.view(np.int64), np.int64(0)
    for b in range(len(out)):
        total = np.int64(0)
        for i in range(b * rows, min((b + 1) * rows, len(p))):
            total += np.int64(p[i] * step)
            largest = max(largest, bits[i])
        out[b] = total
    return largest


@sum_jit
def _reach(centers: Any, scaled: Any, out: Any) -> None:
    """A quarter of the smallest squared distance of each centre to some points."""
    for k in range(len(centers)):
        least = np.inf
        for c in range(len(scaled)):
            total = 0.0
            for j in range(centers.shape[1]):
                difference = centers[k, j] - scaled[c, j]
                total += difference * difference
            least = min(least, total)
        out[k] = least * (0.25 - 2.0**-11)


def suits(n_features: int, exponent: int, view: Frame, norms: np.ndarray) -> bool:
    """Whether float32 squares of the framed rows are safe, and potentials far from every limit.

    Parameters
    ----------
    n_features : int
    exponent : int
        Every value of x is below 2**exponent.
    view : Frame
    norms : ndarray of float32
        Upper bounds of the norms of the framed rows.
    """
    shift = _unit_shift(exponent, view)
    few = n_features < _MOST_FEATURES
    return few and max(abs(exponent), abs(shift)) <= 800 and float(norms.max()) < 1e17


def _unit_shift(exponent: int, view: Frame) -> int:
    """2**this is a unit of the potentials as a float32 square."""
    return 2 * (exponent + math.frexp(view.scale)[1] - 1)


def reach(centers: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Potentials up to which rows of each centre are not lowered by any of some points.

    Let c be the centre of a row x: where |c − point| is twice |x − c| or more, the point is no
    nearer. Both arguments are float64 and scaled by 2**-exponent; potentials are rounded to twelve
    bits, which the result allows for.
    """
    out = np.empty(len(centers))
    _reach(frozen(centers), frozen(points), out)
    return out


def lower(
    x: np.ndarray,
    chosen: np.ndarray,
    bounds: tuple[int, int],
    p: np.ndarray,
    near: np.ndarray,
    reaches: np.ndarray,
    norms: np.ndarray,
    view: Frame,
    centers: np.ndarray,
    exponent: int,
    scale: int,
    found: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the rows whose potential each of a few new centres lowers.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (N, D)
        Data that `cpu_numba.suits`.
    chosen : ndarray of int64, shape (n,)
        The rows that have potentials; empty if all have.
    bounds : tuple of int
        First of the n rows to look at, and the one after the last.
    p : ndarray of float64, shape (n,)
        Potentials in units of 2**(2·exponent).
    near : ndarray of int32, shape (n,)
        The centre each potential belongs to.
    reaches : ndarray of float64
        `reach` of those centres.
    norms : ndarray of float32, shape (N,)
        Upper bounds of the norms of the framed rows.
    view : Frame
    centers : ndarray, shape (m, D)
    exponent : int
        Every value of x is below 2**exponent.
    scale : int
        Integer weights are ⌊p·2^scale⌋.
    found : tuple of ndarray of int32, shape (m, rows)
        For each centre, what is found: places, counted from the first row, and new potentials as
        `potentials` reads them, `UNKNOWN` where float64 cannot tell.

    Returns
    -------
    counts, unknown, saved : ndarray of int64, shape (m,)
        For each centre how many are found, how many of these are unknown, and by how much the
        others lower the sum of integer weights.
    """
    shift, n_features = _unit_shift(exponent, view), x.shape[1]
    framed = centers.astype(np.float64) * view.scale - view.center
    farthest = math.sqrt(float(np.square(framed).sum(axis=1).max())) * (1 + 2.0**-20)
    width = -(-n_features // 4) * 4 if n_features <= _NARROW else n_features
    points = np.zeros((len(centers), width), dtype=np.float32)
    points[:, :n_features] = framed
    error = gamma(n_features + 4, FLOAT32) * (1 + 2.0**-10) + 2.0**-30
    up = math.ldexp(1 + 2.0**-10, shift)  # rounding to 12 bits moves a potential by 2^-12
    limiting = farthest, up, 1 + error
    low = math.sqrt(1 - error)
    relative = gamma(n_features + 8, FLOAT64)
    terms = math.ldexp(1.0, -exponent), low, 1 / low, math.ldexp(1.0, -shift), relative, 2.0**scale
    counts, unknown, saved = np.zeros((3, len(centers)), dtype=np.int64)
    frame = view.cast(x.dtype)
    scaled = np.ldexp(centers.astype(np.float64), -exponent)
    out = *found, counts, unknown, saved
    state = p, near, reaches, norms
    _lower(frozen(x), chosen, *bounds, *state, frame, points, scaled, limiting, terms, out)
    return counts, unknown, saved


def apply(
    p: np.ndarray, near: np.ndarray, lo: int, places: np.ndarray, codes: np.ndarray, center: int
) -> None:
    """Take over what `lower` found for the rows from `lo` on."""
    _apply(p, near, lo, places, codes, center)


def totals(p: np.ndarray, scale: int, rows: int) -> tuple[list[int], float]:
    """Sums of the integer weights of potentials, so many rows each, and the largest potential."""
    out = np.empty(-(-len(p) // rows), dtype=np.int64)
    largest = _totals(p, 2.0**scale, rows, out)
    return out.tolist(), float(np.int64(largest).view(np.float64))


def codes(values: np.ndarray) -> np.ndarray:
    """Potentials, of twelve bits each, as `lower` tells them."""
    return (values.view(np.int64) >> _SHIFT).astype(np.int32)


def potentials(codes: np.ndarray) -> np.ndarray:
    """Potentials that these codes stand for."""
    return (codes.astype(np.int64) << _SHIFT).view(np.float64)


def warmup() -> None:
    """Compile the kernels, or load them from the cache."""
    view = Frame(1.0, np.zeros(1, dtype=np.float32))
    near, found = np.zeros(1, dtype=np.int32), np.zeros((2, 1, 1), dtype=np.int32)
    none, norms = np.empty(0, dtype=np.int64), np.ones(1, dtype=np.float32)
    p = np.ones(1)
    for dtype in (np.float32, np.float64):
        x = np.ones((1, 1), dtype=dtype)
        reaches = reach(np.zeros((1, 1)), np.ones((1, 1)))
        lower(x, none, (0, 1), p, near, reaches, norms, view, x, 1, 0, (found[0], found[1]))
    apply(p, near, 0, found[0, 0], found[1, 0], 0)
    totals(p, 0, 1)
