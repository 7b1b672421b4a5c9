"""The `init` argument: what it may be, and the centroids it gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from kmeans_xp.backends.convert import centroid_dtype
from kmeans_xp.blocks.base import Blocks
from kmeans_xp.exact.metric import EUCLIDEAN, Metric
from kmeans_xp.seeding import Words, parallel, plus_plus, random_rows
from kmeans_xp.streams import is_stream
from kmeans_xp.validation import (
    check_centroids,
    check_init_name,
    check_init_size,
    check_oversampling_factor,
)

__all__ = ["Start"]


class Start:
    """The `init` argument, checked, and the centroids it gives.

    Parameters
    ----------
    x : array, shape (N, D)
        Validated data.
    init : str, array or callable
    n_clusters : int
    init_size : int or "auto"
    metric : Metric
    oversampling_factor : float
        Of k-means||.

    Raises
    ------
    TypeError, ValueError
        For an unknown name, and for centroids that `check_centroids` refuses.
    """

    def __init__(
        self,
        x: Any,
        init: Any,
        n_clusters: int,
        init_size: Any,
        metric: Metric = EUCLIDEAN,
        oversampling_factor: Any = 2.0,
    ) -> None:
        self.x, self.n_clusters, self.metric = x, n_clusters, metric
        self.init_size = check_init_size(init_size, n_clusters)
        self.oversampling_factor = check_oversampling_factor(oversampling_factor)
        self.given: np.ndarray | None = None
        self.init = check_init_name(init)
        self.name = self.init if isinstance(self.init, str) else None
        if callable(init) and is_stream(x):
            raise TypeError("init must not be a callable for a stream: it would need all rows")
        if not isinstance(init, str) and not callable(init):
            self.given = self._checked(init)

    def _checked(self, init: Any) -> np.ndarray:
        shape = self.n_clusters, int(self.x.shape[1])
        return self.metric.given(check_centroids(init, shape, centroid_dtype(self.x)), "init")

    def centroids(self, blocks: Blocks, words: Words, x: Any = None) -> np.ndarray:
        """Centroids of one start, on the host, drawing from `words` what is random.

        `x` is what a callable gets to see, where that is not all the data.
        """
        if self.given is not None:
            return self.given
        if callable(self.init):
            state = np.random.RandomState(np.random.PCG64(words.word()))
            return self._checked(
                self.init(self.x if x is None else x, self.n_clusters, random_state=state)
            )
        if self.name == "random":
            return blocks.rows(random_rows(blocks, self.n_clusters, words))
        if self.name == "k-means||":
            factor = self.oversampling_factor
            return parallel(blocks, self.n_clusters, words, factor, self.init_size)
        return plus_plus(blocks, self.n_clusters, words, self.init_size)[0]
