"""Where the levels of exact sums lie, and how values are cut into them.

A value is cut into integers of at most `bits` bits, one a level: level l counts units of
2**(exponent − (l + 1)·bits), and levels go on until nothing is left.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.predicate import two_product
from kmeans_xp.exact.scratch import scratch

__all__ = ["Grid", "SquareSum", "square_sum"]

# Exponents farther apart than this are handled in bands, so that products neither under- nor
# overflow.
_BAND = 400
# Powers of two that scaling in one step may use.
_RANGE = 1000
# Values worked on at a time, so that the helpers stay in cache.
_CACHED = 1 << 14


@dataclass(frozen=True)
class Grid:
    """Where the levels lie.

    Attributes
    ----------
    exponents : ndarray of int64, shape (D,)
        ``|x_j| < 2**exponents[j]`` for every row.
    weight_exponent : int
        ``w < 2**weight_exponent`` for every weight (0 without weights).
    bits : int
        Bits a level.
    rows : int
        At most this many rows go into one float64 partial sum.
    narrow : bool
        Every value and weight is a float32: products are exact in float64.
    wide : bool
        The exponents spread so far that plain scaling would underflow: work in bands.
    """

    exponents: np.ndarray
    weight_exponent: int
    bits: int
    rows: int
    narrow: bool
    wide: bool

    @classmethod
    def fit(
        cls,
        largest: np.ndarray,
        smallest: float,
        weight_range: tuple[float, float] | None,
        n_rows: int,
        rows: int,
        narrow: bool,
    ) -> Grid:
        """Choose the levels for data with the given largest magnitude a column and smallest
        non-zero one.
        """
        exponents = np.frexp(largest.astype(np.float64))[1].astype(np.int64)
        low_w, high_w = weight_range or (1.0, 0.5)
        weight_exponent = math.frexp(high_w)[1]
        spread = int(exponents.max(initial=0)) - math.frexp(smallest)[1]
        weight_spread = weight_exponent - math.frexp(low_w)[1]
        bits = min(
            53 - math.ceil(math.log2(max(rows, 2))), 62 - math.ceil(math.log2(max(n_rows, 2)))
        )
        wide = 2 * spread + weight_spread > 850
        return cls(exponents, weight_exponent, bits, rows, narrow, wide)

    @functools.cached_property
    def units(self) -> np.ndarray | None:
        """What a value is multiplied by to count the units of the first level, a column.

        None where float64 does not hold it safely.
        """
        shift = self.bits - self.exponents
        if self.wide or (np.abs(shift) > _RANGE).any():
            return None
        return np.ldexp(1.0, shift)

    def value_terms(
        self, x: np.ndarray, w: np.ndarray | None, columns: slice = slice(None)
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Cut w·x into levels: yields (level, integers) for x of shape (n, D), or some columns.

        The integers are good until the next ones are asked for.
        """
        if self.wide:
            factors = [x] if w is None else [w[:, None], x]
            yield from self._wide_terms(factors, self._shift()[columns])
            return
        if w is None and self.units is not None:
            out = scratch("scaled", x.shape, np.float64)
            yield from _levels(_times(x, self.units[columns], out), self.bits, begun=True)
            return
        scaled = self._scaled(x, columns)
        for term in _products(scaled, self._scaled_weights(w), self.narrow):
            yield from _levels(term, self.bits)

    def square_terms(self, x: np.ndarray, w: np.ndarray | None) -> Iterator[tuple[int, np.ndarray]]:
        """Cut w·x² into levels, in units of the squared scale."""
        if self.wide:
            factors = [x, x] if w is None else [w[:, None], x, x]
            yield from self._wide_terms(factors, self.square_tops(w))
            return
        scaled = self._scaled(x)
        if self.narrow:
            squares = [np.multiply(scaled, scaled, out=scaled)]
        else:
            squares = list(two_product(scaled, scaled))
        weights = self._scaled_weights(w)
        for square in squares:
            for term in _products(square, weights, False):
                yield from _levels(term, self.bits)

    def square_tops(self, w: np.ndarray | None) -> np.ndarray:
        """Exponents above w·x² (x² without weights), a column."""
        return 2 * self.exponents + (0 if w is None else self.weight_exponent)

    def weight_terms(self, w: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Cut weights into levels: (level, integers (n,))."""
        if self.wide:
            yield from self._wide_terms([w], np.asarray(self.weight_exponent))
        else:
            yield from _levels(np.ldexp(w.astype(np.float64), -self.weight_exponent), self.bits)

    def _shift(self) -> np.ndarray:
        return self.exponents + self.weight_exponent

    def _scaled(self, x: np.ndarray, columns: slice = slice(None)) -> np.ndarray:
        """Float64 x as fractions of the top of its column, in memory of this thread."""
        out = scratch("scaled", x.shape, np.float64)
        exponents = self.exponents[columns]
        if np.abs(exponents).max() >= 1000:
            return np.ldexp(x, -exponents, out=out)
        return _times(x, np.ldexp(1.0, -exponents), out)  # far cheaper than ldexp of every value

    def _scaled_weights(self, w: np.ndarray | None) -> np.ndarray | None:
        return None if w is None else np.ldexp(w.astype(np.float64), -self.weight_exponent)[:, None]

    def _wide_terms(
        self, factors: list[np.ndarray], shift: np.ndarray
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Multiply mantissas exactly, keep exponents apart, and cut band by band."""
        mantissa, exponent = np.frexp(factors[0].astype(np.float64))
        parts = [mantissa]
        exponent = exponent.astype(np.int64)
        for factor in factors[1:]:
            m, e = np.frexp(factor.astype(np.float64))
            parts = [
                p
                for part in parts
                for p in two_product(part, np.broadcast_to(m, np.shape(part * m)))
            ]
            exponent = exponent + e
        depth = shift - exponent  # the value is below 2**-depth of the top
        per_band = _BAND // self.bits
        width = per_band * self.bits
        band = depth // width
        for part in parts:
            for b in np.unique(band[part != 0]).tolist():
                inside = np.where(band == b, part, 0.0)
                for level, integers in _levels(np.ldexp(inside, b * width - depth), self.bits):
                    yield b * per_band + level, integers


def _products(x: np.ndarray, w: np.ndarray | None, narrow: bool) -> list[np.ndarray]:
    """Terms whose sum is w·x exactly; the array x may be reused."""
    if w is None:
        return [x]
    if narrow:
        return [x * w]
    return list(two_product(x, np.broadcast_to(w, x.shape)))


def _times(x: np.ndarray, units: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Rows times one factor a column."""
    factors: Any = units
    if (units == units[0]).all():
        factors = units[0]
    elif units.ndim == 1 and len(units) < 64:
        # short rows: one long product is faster than one that repeats
        factors = np.tile(units, (len(x), 1))
    return np.multiply(x, factors, out=out, dtype=np.float64)


def _levels(rest: np.ndarray, bits: int, begun: bool = False) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (level, integers) until nothing is left; consumes `rest`, whose values are below 1 in
    magnitude, or (`begun`) count units of the first level already. The integers are good until the
    next ones are asked for.
    """
    integers = scratch("integers", rest.shape, np.float64)
    step = 2.0**bits
    level = 0
    more = True
    while more:
        if level or not begun:
            rest *= step  # a power of two: exact
        np.rint(rest, out=integers)
        more = not (integers == rest).all()
        if more:
            rest -= integers
        yield level, integers
        level += 1


class SquareSum:
    """Exact Σ w·|x|² of rows that are added some at a time.

    Parameters
    ----------
    grid : Grid
        Its number of rows in all limits what may be added.
    weighted : bool
    """

    def __init__(self, grid: Grid, weighted: bool) -> None:
        self.grid, self.weighted = grid, weighted
        self._levels: dict[int, np.ndarray] = {}

    def add(self, x: np.ndarray, w: np.ndarray | None) -> None:
        """Add rows x, shape (n, D)."""
        levels = self._levels
        step = min(max(1, _CACHED // x.shape[1]), self.grid.rows)
        for lo in range(0, len(x), step):
            weights = None if w is None else w[lo : lo + step]
            for level, integers in self.grid.square_terms(x[lo : lo + step], weights):
                column = integers.sum(axis=0).astype(np.int64)
                levels[level] = levels[level] + column if level in levels else column

    def total(self) -> Dyadic:
        """Sum of all that was added."""
        total = Dyadic()
        tops = 2 * self.grid.exponents + (self.grid.weight_exponent if self.weighted else 0)
        for top in np.unique(tops).tolist():
            some = tops == top
            for level, columns in self._levels.items():
                whole = sum(columns[some].tolist())
                total = total + Dyadic(whole, top - (level + 1) * self.grid.bits)
        return total


def square_sum(grid: Grid, x: np.ndarray, w: np.ndarray | None) -> Dyadic:
    """Exact Σ w·|x|² over rows."""
    squares = SquareSum(grid, w is not None)
    squares.add(x, w)
    return squares.total()
