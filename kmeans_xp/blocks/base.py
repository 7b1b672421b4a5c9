"""What the loop and the seeding know of the data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

__all__ = ["Blocks", "Oversampling", "Potential", "Step"]


@dataclass(frozen=True)
class Step:
    """Outcome of one iteration.

    Attributes
    ----------
    centroids : object
        Handle of the new centroids.
    changed : int
        Rows whose label differs from the previous assignment.
    relocated : int
        Empty clusters that took a row.
    shift : tuple of float
        Bounds of the real Σ_k |c_new − c_old|²; (0, 0) if and only if nothing moved.
    rechecked : int
        Rows that the fast pass could not certify.
    bytes_moved : int
        Of centroids and sums between processes.
    """

    centroids: Any
    changed: int
    relocated: int
    shift: tuple[float, float]
    rechecked: int
    bytes_moved: int = 0


class Potential(Protocol):
    """Potentials p_i of greedy k-means++ (docs/exactness.md) and the integer weights made of
    them.
    """

    def start(self, row: int) -> None:
        """Make p the potentials with this row as the only centre."""

    def total(self) -> int:
        """Exact Σ q of the current potentials; 0 if all are zero."""

    def locate(self, targets: list[int]) -> list[int]:
        """For each target r the first row whose running sum of q exceeds r."""

    def costs(self, rows: list[int]) -> list[int]:
        """For each row the exact Σ q after adding it as a centre, in the scale of the current
        potentials.
        """

    def accept(self, row: int) -> None:
        """Add a centre."""


class Oversampling(Protocol):
    """The same potentials for k-means||, whose centres come many at a time."""

    def start(self, row: int) -> None:
        """Make p the potentials with this row as the only centre."""

    def total(self) -> int:
        """Exact Σ q of the current potentials; 0 if all are zero."""

    def locate(self, targets: list[int]) -> list[int]:
        """For each target r the first row whose running sum of q exceeds r."""

    def accept_all(self, rows: np.ndarray) -> None:
        """Add centres, in one pass over the rows."""

    def shares(self, rows: np.ndarray) -> np.ndarray:
        """For each of these centres the weight of the rows nearest to it (|x − c|², ties to the
        first): rn of the real Σ w·2^−W, float64.
        """


class Blocks(Protocol):
    """Rows in one place or many.

    Centroids are handles: a place may keep them on a device. `place` makes one, `fetch` reads it.

    Attributes
    ----------
    n_rows, n_features : int
    dtype : numpy.dtype
        Of the centroids.
    algorithm : str
        As for `kmeans`.
    label_store : ndarray of int32, shape (n_rows,), or None
        Where labels may be kept, by one start after the other.
    device : str or None
        Where large arrays made of these rows are computed, as `open_blocks` takes it.
    """

    n_rows: int
    n_features: int
    dtype: np.dtype[Any]
    algorithm: str
    label_store: np.ndarray | None
    device: str | None

    def session(self) -> AbstractContextManager[None]:
        """Context of a fit: threads are kept, library settings held."""

    def place(self, centroids: np.ndarray) -> Any:
        """Handle of centroids given on the host."""

    def fetch(self, handle: Any) -> np.ndarray:
        """Centroids on the host."""

    def reset(self) -> None:
        """Forget the labels, before another start."""

    def step(self, handle: Any) -> Step:
        """One iteration: assign every row, then move every centroid."""

    def assign(self, handle: Any) -> None:
        """Make the labels belong to these centroids, and nothing else."""

    def settle(self, handle: Any) -> None:
        """Make labels and sums belong to these centroids."""

    def settle_step(self, handle: Any) -> None:
        """Make the sums those that `step(handle)` made, where they have gone on to the next."""

    def labels(self) -> Any:
        """Labels in the namespace and on the device of the data."""

    def distinct_labels(self, labels: Any, n_clusters: int) -> int:
        """How many of the clusters have a row."""

    def inertia(self, handle: Any) -> float:
        """Exact inertia of the settled assignment, rounded once."""

    def labelled_inertia(self, labels: np.ndarray, centroids: np.ndarray) -> float:
        """Exact inertia of labels and centroids given on the host, rounded once."""

    def variance(self) -> Fraction:
        """Mean over features of the variance of the rows (unweighted), exactly."""

    def distances(self, centroids: np.ndarray) -> np.ndarray:
        """Distances of all rows to all centroids on the host, in their dtype."""

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Rows on the host, in the dtype of the centroids."""

    def in_order(self) -> Iterator[np.ndarray]:
        """All rows on the host, some at a time, each read once."""

    def weights(self) -> np.ndarray | None:
        """Weights on the host."""

    def potential(self, rows: np.ndarray | None = None, weighted: bool = True) -> Potential:
        """Potentials for k-means++ of all rows, or of those with increasing indices `rows`.

        ``weighted=False`` leaves the weights out.
        """

    def oversampling(self, rows: np.ndarray | None = None, weighted: bool = True) -> Oversampling:
        """Potentials for k-means||, as `potential`; all rows are passed over, never gathered."""
