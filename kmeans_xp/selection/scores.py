"""What the criteria say of clusterings: scores of one, and the gap of all to uniform data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from kmeans_xp.backends.convert import centroid_dtype, from_numpy, take_rows, to_numpy
from kmeans_xp.functional import kmeans
from kmeans_xp.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score
from kmeans_xp.seeding import Words, sample_rows

__all__ = ["Scores", "add_column", "add_gaps"]


class Scores:
    """Criteria of one clustering of the data."""

    def __init__(self, x: Any, sample_size: int, seed: Any, metric: str) -> None:
        self.metric = metric
        self.x, self.sampled = x, sample_size < x.shape[0]
        self.seed, self._size = seed, sample_size
        self._sample: tuple[Any, np.ndarray] | None = None

    def __call__(self, name: str, result: Any) -> float:
        """Score a result by the criterion of this name."""
        value: float = getattr(self, name)(result)
        return value

    def silhouette(self, result: Any) -> float:
        """Mean silhouette coefficient, of a sample where there are more rows."""
        if not self.sampled:
            return self._silhouette(self.x, to_numpy(result.labels))
        if self._sample is None:
            rows = sample_rows(int(self.x.shape[0]), self._size, Words(self.seed))
            self._sample = take_rows(self.x, rows), rows
        some, rows = self._sample
        return self._silhouette(some, to_numpy(result.labels)[rows])

    def _silhouette(self, x: Any, labels: np.ndarray) -> float:
        return _defined(partial(silhouette_score, metric=self.metric), x, labels)

    def calinski_harabasz(self, result: Any) -> float:
        """Ratio of dispersions."""
        return _defined(calinski_harabasz_score, self.x, to_numpy(result.labels))

    def davies_bouldin(self, result: Any) -> float:
        """Mean similarity of clusters."""
        return _defined(davies_bouldin_score, self.x, to_numpy(result.labels))

    def bic(self, result: Any) -> float:
        """Bayesian information criterion of spherical Gaussians of one variance."""
        n_rows, n_features = (int(n) for n in self.x.shape)
        counts = np.unique(to_numpy(result.labels), return_counts=True)[1]
        if result.inertia == 0.0:
            return -math.inf
        variance = result.inertia / (n_rows * n_features)
        likelihood = float(counts @ np.log(counts / n_rows))
        likelihood -= 0.5 * n_rows * n_features * (math.log(2 * math.pi * variance) + 1)
        parameters = len(counts) * (n_features + 1)  # means, shares less one, one variance
        return parameters * math.log(n_rows) - 2 * likelihood


def _defined(score: Callable[[Any, np.ndarray], float], x: Any, labels: np.ndarray) -> float:
    """Score of a clustering, NaN where it has one cluster or as many as rows."""
    return score(x, labels) if 1 < len(np.unique(labels)) < len(labels) else math.nan


def add_column(rows: list[dict[str, float]], name: str, values: Sequence[float]) -> None:
    """Write a column into the rows of a table."""
    for row, value in zip(rows, values, strict=True):
        row[name] = value


def add_gaps(
    rows: list[dict[str, float]],
    x: Any,
    sizes: list[int],
    n_references: int,
    seed: Any,
    options: dict[str, Any],
    on_done: Callable[[int], None],
) -> None:
    """Gap statistic against data uniform in the box around X, drawn on the host."""
    low, high = _box(x)
    words = Words(seed)
    logs = np.empty((n_references, len(sizes)))
    for i in range(n_references):
        raw = words.words(int(x.shape[0]) * len(low)).reshape(int(x.shape[0]), len(low))
        unit = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
        drawn = (low * (1 - unit) + high * unit).astype(centroid_dtype(x))
        reference, word = from_numpy(drawn, x), words.word()
        for j, k in enumerate(sizes):
            logs[i, j] = _log(kmeans(reference, k, random_state=word, **options).inertia)
            on_done(1)
    with np.errstate(invalid="ignore"):
        gaps = logs.mean(axis=0) - [_log(row["inertia"]) for row in rows]
        errors = logs.std(axis=0) * math.sqrt(1 + 1 / n_references)
    add_column(rows, "gap", gaps.tolist())
    add_column(rows, "gap_error", errors.tolist())


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _box(x: Any) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of every feature, float64 on the host."""
    xp = array_namespace(x)
    if not xp.isdtype(x.dtype, "real floating"):
        x = xp.astype(x, xp.float64)
    low, high = to_numpy(xp.min(x, axis=0)), to_numpy(xp.max(x, axis=0))
    return low.astype(np.float64), high.astype(np.float64)
