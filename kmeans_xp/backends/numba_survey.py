"""Compiled passes that a fit makes once: magnitudes, norms, squares; this module needs numba."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmeans_xp.backends.jit import frozen, jit, sum_jit
from kmeans_xp.backends.numba_exact import fma
from kmeans_xp.backends.records import Frame
from kmeans_xp.exact.bounds import FLOAT32, gamma
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.grid import Grid
from kmeans_xp.exact.totals import exact_total

__all__ = ["magnitudes", "norms", "square_sum", "warmup"]

# Values worked on together, in whole rows.
_TOGETHER = 512
# Rows of so few features are faster turned, to be worked on side by side.
_SHORT = 8
_BLOCK = 256
# Levels that squares are cut into, by item size; what is left after them is listed.
_LEVELS = {4: 3, 8: 4}
# Values of a pass that may be listed; exponents that scaling can express.
_LISTED = 1 << 14
_RANGE = 1000


@jit
def _magnitudes(values: Any, top: Any, low: Any, odd: Any) -> None:
    """Largest magnitudes, the least ones above zero, and NaN in `odd` where one is not finite."""
    huge = low[0]
    for start in range(0, len(values), len(top)):
        part = values[start : start + len(top)]
        for j in range(len(part)):
            value = part[j]
            odd[j] += value - value
            value = abs(value)
            top[j] = value if value > top[j] else top[j]
            least = value if value > 0 else huge
            low[j] = least if least < low[j] else low[j]


def magnitudes(x: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Largest magnitude a feature and the smallest one above zero of rows that `cpu_numba.suits`.

    None where a value is not finite.
    """
    n_features = x.shape[1]
    shape = max(1, _TOGETHER // n_features), n_features
    top, low = np.zeros(shape, x.dtype), np.full(shape, np.inf, x.dtype)
    odd = np.zeros(shape, x.dtype)
    _magnitudes(frozen(x.reshape(-1)), top.reshape(-1), low.reshape(-1), odd.reshape(-1))
    if odd.any():
        return None
    return top.max(axis=0).astype(np.float64), float(low.min())


@sum_jit
def _norms(x: Any, scale: Any, center: Any, grow: Any, tiny: Any, out: Any) -> None:
    for i in range(len(x)):
        total = np.float32(0)
        for j in range(x.shape[1]):
            value = np.float32(x[i, j] * scale - center[j])
            total += value * value
        out[i] = np.sqrt(np.float64(total)) * grow + tiny


@sum_jit
def _short_norms(x: Any, scale: Any, center: Any, grow: Any, tiny: Any, out: Any) -> None:
    total = np.empty(_BLOCK, np.float32)
    for lo in range(0, len(x), _BLOCK):
        part, norm = x[lo : lo + _BLOCK], out[lo : lo + _BLOCK]
        total[:] = np.float32(0)
        for j in range(x.shape[1]):
            c = center[j]
            for r in range(len(part)):
                value = np.float32(part[r, j] * scale - c)
                total[r] += value * value
        for r in range(len(part)):
            norm[r] = np.sqrt(np.float64(total[r])) * grow + tiny


def norms(x: np.ndarray, view: Frame) -> np.ndarray:
    """Upper bounds of the norms of framed rows, as `generic.upper_norms` rounds them up."""
    n_features = x.shape[1]
    grow = (1 + gamma(n_features + 4, FLOAT32)) * (1 + 1e-6)
    tiny = 2.0**-62 * math.sqrt(n_features)
    out = np.empty(len(x), dtype=np.float32)
    run = _short_norms if n_features < _SHORT else _norms
    run(frozen(x), *view.cast(x.dtype), grow, tiny, out)
    return out


@jit
def _cut(rest: Any, n: Any, step: Any, sums: Any) -> bool:
    """Add values below 1 to integer levels; says whether anything is left of any."""
    more = True
    for level in range(len(sums)):
        more = False
        row = sums[level]
        for j in range(n):
            value = rest[j] * step
            integer = np.rint(value)
            row[j] += np.int64(integer)
            rest[j] = value - integer
            more |= value != integer
        if not more:
            break
    return more


@jit
def _squares(
    values: Any, units: Any, step: Any, exact: Any, sums: Any, left: Any, columns: Any
) -> Any:
    """Add squares to integer levels and list what the last level leaves; how many, or -1 for too
    many. `exact` says that float64 holds the squares.
    """
    width, count = len(units), 0
    rest, tail = np.empty(width), np.empty(width)
    for start in range(0, len(values), width):
        part = values[start : start + width]
        n = len(part)
        for j in range(n):
            value = np.float64(part[j]) * units[j]
            rest[j] = value * value
            tail[j] = 0.0 if exact else fma(value, value, -rest[j])
        for side in range(1 if exact else 2):
            some = tail if side else rest
            if _cut(some, n, step, sums):
                if count + n > len(left):
                    return -1
                for j in range(n):
                    left[count], columns[count] = some[j], j
                    count += some[j] != 0
    return count


def square_sum(grid: Grid, x: np.ndarray) -> Dyadic | None:
    """Exact Σ |x|² of rows that `cpu_numba.suits`; None where the kernel cannot tell."""
    if grid.wide or np.abs(grid.exponents).max() > _RANGE:
        return None
    n_features, n_levels = x.shape[1], _LEVELS[x.itemsize]
    shape = max(1, _TOGETHER // n_features), n_features
    units = np.tile(np.ldexp(1.0, -grid.exponents), shape[0])
    sums = np.zeros((n_levels, units.size), dtype=np.int64)
    left = np.empty(max(_LISTED, units.size))
    columns = np.empty(len(left), dtype=np.int64)
    step = 2.0**grid.bits
    count = _squares(frozen(x.reshape(-1)), units, step, x.itemsize == 4, sums, left, columns)
    if count < 0:
        return None
    tops = 2 * grid.exponents
    last = tops[columns[:count] % n_features] - n_levels * grid.bits
    total = exact_total(left[:count], last)
    by_feature = sums.reshape(n_levels, -1, n_features).sum(axis=1).tolist()
    for level, row in enumerate(by_feature, start=1):
        for top, value in zip(tops.tolist(), row, strict=True):
            if value:
                total = total + Dyadic(value, top - level * grid.bits)
    return total


def warmup() -> None:
    """Compile the kernels, or load them from the cache."""
    for dtype in (np.float32, np.float64):
        for n_features in (1, _SHORT):
            x = np.ones((2, n_features), dtype=dtype)
            norms(x, Frame(1.0, np.zeros(n_features, dtype=np.float32)))
        magnitudes(x)
        square_sum(Grid.fit(np.ones(_SHORT), 1.0, None, 2, 2, dtype == np.float32), x)
