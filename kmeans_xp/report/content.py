"""What the page is about, before it is words and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kmeans_xp.history import History
from kmeans_xp.report.numbers import Portrait
from kmeans_xp.result import KMeansResult
from kmeans_xp.selection import KSelection

__all__ = ["Choice", "Content", "Silhouettes"]


@dataclass(frozen=True)
class Choice:
    """The number of clusters, why, and how many rows were looked at."""

    k: int
    reason: str
    selection: KSelection
    n_rows: int


@dataclass(frozen=True)
class Silhouettes:
    """Silhouettes of some of `n_total` rows and their labels."""

    values: np.ndarray
    labels: np.ndarray
    n_total: int


@dataclass(frozen=True)
class Content:
    """Everything the page tells of.

    `x` is of any namespace, other arrays are on the host; `mean` and `scale` lead from its units to
    those of the data.
    """

    title: str
    x: Any
    names: list[str]
    mean: np.ndarray | None
    scale: np.ndarray | None
    result: KMeansResult
    labels: np.ndarray
    centroids: np.ndarray
    portrait: Portrait
    choice: Choice | None
    silhouettes: Silhouettes | None
    history: History
    settings: dict[str, Any]
    details: dict[str, str]
    seed: Any

    @property
    def n_rows(self) -> int:
        """Rows of the data."""
        return len(self.labels)

    @property
    def n_features(self) -> int:
        """Features of the data."""
        return len(self.names)

    @property
    def k(self) -> int:
        """Clusters."""
        return len(self.centroids)

    @property
    def cosine(self) -> bool:
        """Whether rows count by their direction."""
        return bool(self.settings["metric"] == "cosine")

    def in_units(self, values: np.ndarray) -> np.ndarray:
        """Return rows or centroids in the units of the data."""
        wide = values.astype(np.float64)
        return wide if self.mean is None or self.scale is None else wide * self.scale + self.mean
