"""What passes over rows are told and what they answer: records that all backends share."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

if TYPE_CHECKING:
    from kmeans_xp.backends.numba_integer import IntegerTile

__all__ = ["Doubles", "Frame", "Once", "Own", "Swept", "Task", "Tile"]

T = TypeVar("T")


class Once(Generic[T]):
    """A value that several threads may ask for: the first makes it, the others wait for it."""

    def __init__(self) -> None:
        self._lock, self._made = threading.Lock(), list[T]()

    def get(self, make: Callable[[], T]) -> T:
        """Return the value; made by `make` if nobody has asked before."""
        with self._lock:
            if not self._made:
                self._made.append(make())
            return self._made[0]


@dataclass(frozen=True)
class Frame:
    """Where the fast pass looks at the data from: rows become x·scale − center. Changes speed only.

    Attributes
    ----------
    scale : float
        A power of two.
    center : ndarray of float32, shape (D,)
        In scaled units.
    norm, largest : float
        Norm of nearly all rows at most, as framed, and magnitude of their values; 0 if not known.
    """

    scale: float
    center: np.ndarray
    norm: float = 0.0
    largest: float = 0.0

    def cast(self, dtype: np.dtype[Any]) -> tuple[np.floating[Any], np.ndarray]:
        """Scale and centre as kernels take them for rows of this dtype."""
        return dtype.type(self.scale), self.center.astype(dtype)


@dataclass(frozen=True)
class Tile:
    """Centroids ready for the fast pass: float32, scaled and centred, and the bias −|c|²/2.

    `integers` are the same for the pass in integers (`numba_integer`); None where it has no scale.
    """

    centers: np.ndarray
    bias: np.ndarray
    integers: Once[IntegerTile | None] = field(default_factory=Once, compare=False, repr=False)


@dataclass(frozen=True)
class Doubles:
    """Centroids in float64, for what the fast pass leaves open; all times 2**-exponent.

    Attributes
    ----------
    exponent : int
        Above all values.
    middle : ndarray, shape (D,)
        What rows and centroids have taken off.
    points : ndarray, shape (U, D)
        Centroids less the middle.
    bias : ndarray, shape (U,)
        What their scores have beside x·c.
    slope, offset : ndarray, shape (U,)
        A float64 score of row x is off by slope·|x| + offset at most.
    """

    exponent: int
    middle: np.ndarray
    points: np.ndarray
    bias: np.ndarray
    slope: np.ndarray
    offset: np.ndarray

    @functools.cached_property
    def columns(self) -> np.ndarray:
        """The points feature by feature."""
        return np.ascontiguousarray(self.points.T)


@dataclass(frozen=True)
class Task:
    """What assigning rows needs and changes, all on the host.

    Attributes
    ----------
    frame : Frame
    tile : Tile
    ids : ndarray of int32, shape (U,)
        Label of each centroid of the tile.
    norms : ndarray of float32, shape (N,)
        Upper bounds of the norms of all rows as framed.
    labels : ndarray of int32, shape (N,)
        Of all rows; changed in place.
    terms : tuple of float
        Slope, offset and limit of the certificate (`Backend.nearest`), then what `Backend.renew`
        takes besides the slope: offset, shrink, tiny and the norm of the nearest centroid outside
        the fast pass.
    bounds : tuple of ndarray of float32, shape (N,), or None
        Upper and lower bounds of all rows, changed in place.
    """

    frame: Frame
    tile: Tile
    ids: np.ndarray
    norms: np.ndarray
    labels: np.ndarray
    terms: tuple[float, float, float, float, float, float, float]
    bounds: tuple[np.ndarray, np.ndarray] | None


@dataclass(frozen=True)
class Own:
    """What measuring rows against their own centroids takes.

    Attributes
    ----------
    frame : Frame
    points : ndarray of float32, shape (K, D)
        Centroids in the frame.
    errors : ndarray of float64, shape (K,)
        How far each point is from its centroid, at most.
    grow : float
        Factor that covers the rounding of a float32 distance.
    spread : float
        Added to the square of a distance (`assignment.Centers.spread`).
    """

    frame: Frame
    points: np.ndarray
    errors: np.ndarray
    grow: float
    spread: float


@dataclass(frozen=True)
class Swept:
    """Outcome of `Backend.sweep`.

    Attributes
    ----------
    changed : int
        How many rows have another label.
    moved, old : ndarray, shape (n,)
        Those of them that the sums do not know of yet, and their labels before.
    left : ndarray of int64
        Rows whose label is still open.
    """

    changed: int
    moved: np.ndarray
    old: np.ndarray
    left: np.ndarray
