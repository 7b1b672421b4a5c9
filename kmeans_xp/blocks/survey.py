"""One look at the data before any work: is every value usable, and how large do they get."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from kmeans_xp.backends import Backend
from kmeans_xp.backends.convert import to_numpy
from kmeans_xp.backends.cpu import NumpyBackend
from kmeans_xp.exact.bounds import EXACT_INTEGER

__all__ = ["RefusedRowError", "Survey", "survey", "weight_range"]


class RefusedRowError(ValueError):
    """A row that cannot be computed with; `text` says why, with {row} for its number."""

    def __init__(self, text: str, row: int) -> None:
        super().__init__(text.replace("{row}", str(row)))
        self.text, self.row = text, row

    def __reduce__(self) -> Any:
        return RefusedRowError, (self.text, self.row)

    def moved(self, by: int) -> RefusedRowError:
        """Return the same error where the array begins with another row of the data."""
        return RefusedRowError(self.text, self.row + by)


@dataclass(frozen=True)
class Survey:
    """Magnitudes of the data, for the levels of the exact sums.

    Attributes
    ----------
    largest : ndarray of float64, shape (D,)
        Largest magnitude a feature.
    smallest : float
        A lower bound of the smallest magnitude that is not zero.
    weight_range : tuple of float or None
        Smallest positive and largest weight.
    """

    largest: np.ndarray
    smallest: float
    weight_range: tuple[float, float] | None

    @classmethod
    def joined(cls, parts: Sequence[Survey], weight_range: tuple[float, float] | None) -> Survey:
        """Survey of all rows from those of parts, whatever these say of weights."""
        largest = np.max([part.largest for part in parts], axis=0)
        return cls(largest, min(part.smallest for part in parts), weight_range)


def weight_range(w: np.ndarray | None) -> tuple[float, float] | None:
    """Smallest positive and largest weight."""
    return None if w is None else (float(w[w > 0].min()), float(w.max()))


def survey(backend: Backend, x: Any, w: np.ndarray | None) -> Survey:
    """Measure the data in one pass over row blocks.

    Raises
    ------
    ValueError
        If a value is NaN, infinite, or an integer that float64 cannot hold.
    """
    entries = backend.survey_entries // max(1, backend.n_threads // 2)  # every thread has its own
    rows = max(1, entries // int(x.shape[1]))
    ranges = [(lo, min(lo + rows, x.shape[0])) for lo in range(0, x.shape[0], rows)]
    look = _look_numpy if isinstance(backend, NumpyBackend) else _look_generic
    if backend.flushes:  # the namespace cannot see subnormal values
        look = _look_host
    parts = backend.map(lambda part: backend.magnitudes(x, *part) or look(x, *part), ranges)
    largest = np.max([part[0] for part in parts], axis=0)
    smallest = min(part[1] for part in parts)
    return Survey(largest, smallest if math.isfinite(smallest) else 1.0, weight_range(w))


def _look_host(x: Any, lo: int, hi: int) -> tuple[np.ndarray, float]:
    block = to_numpy(x[lo:hi, :])
    largest, smallest = _look_numpy(block, 0, len(block), lo)
    if block.dtype == np.float32:
        magnitude = np.abs(block)
        smallest = float(np.where(magnitude > 0, magnitude, np.inf).min())
    return largest, smallest


def _look_numpy(
    x: np.ndarray, lo: int, hi: int, first_row: int | None = None
) -> tuple[np.ndarray, float]:
    block = x[lo:hi]
    lo = lo if first_row is None else first_row
    if block.dtype.kind == "b":
        block = block.view(np.uint8)
    high, low = block.max(axis=0), block.min(axis=0)
    if block.dtype.kind in "iu":
        return _integers(high, low, block, lo), 1.0
    if not (np.isfinite(high).all() and np.isfinite(low).all()):
        _refuse(~np.isfinite(block), lambda r, c: block[r, c], lo)
    largest = np.maximum(np.abs(high), np.abs(low)).astype(np.float64)
    if block.dtype.itemsize < 8:
        return largest, 2.0**-149
    magnitude = np.abs(block)
    return largest, float(np.where(magnitude > 0, magnitude, np.inf).min())


def _look_generic(x: Any, lo: int, hi: int) -> tuple[np.ndarray, float]:
    xp = array_namespace(x)
    block = x[lo:hi, :]
    if not xp.isdtype(x.dtype, "real floating"):  # unsigned types lack reductions in some libraries
        values = to_numpy(block)
        return _look_numpy(values, 0, len(values), lo)
    if not bool(xp.all(xp.isfinite(block))):
        values = to_numpy(block)
        _refuse(~np.isfinite(values), lambda r, c: values[r, c], lo)
    high, low = to_numpy(xp.max(block, axis=0)), to_numpy(xp.min(block, axis=0))
    largest = np.maximum(np.abs(high), np.abs(low)).astype(np.float64)
    if block.dtype != xp.float64:
        return largest, 2.0**-149
    magnitude = xp.abs(block)
    huge = xp.asarray(np.inf, dtype=block.dtype, device=magnitude.device)
    return largest, float(xp.min(xp.where(magnitude > 0, magnitude, huge)))


def _integers(high: np.ndarray, low: np.ndarray, block: np.ndarray, lo: int) -> np.ndarray:
    top = [max(abs(int(a)), abs(int(b))) for a, b in zip(high, low, strict=True)]
    if max(top) > EXACT_INTEGER:
        beyond = (block > EXACT_INTEGER) | (block < -EXACT_INTEGER)
        row, column = (int(i) for i in np.argwhere(beyond)[0])
        raise RefusedRowError(
            "X holds integers beyond 2**53, which float64 cannot hold exactly; "
            f"X[{{row}}, {column}] is {block[row, column]} (the first such value). "
            "Scale them down or subtract an offset first.",
            lo + row,
        )
    return np.asarray(top, dtype=np.float64)


def _refuse(bad: np.ndarray, value: Any, lo: int) -> None:
    row, column = (int(i) for i in np.argwhere(bad)[0])
    raise RefusedRowError(
        f"X must hold finite numbers, not NaN or infinity; X[{{row}}, {column}] is "
        f"{value(row, column)} (the first such value). Remove or impute such rows first.",
        lo + row,
    )
