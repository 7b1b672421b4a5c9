"""What mini-batch k-means is asked for, checked against the data."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

from kmeans_xp.start import Start
from kmeans_xp.validation import (
    check_count,
    check_device,
    check_metric,
    check_n_clusters,
    check_n_init,
    check_random_state,
    check_tol,
    outside,
)

__all__ = ["Options", "Plan"]

# Starts that "auto" makes unless centroids are given, of k-means++ too.
_STARTS = 3


@dataclass(frozen=True)
class Plan:
    """What a fit makes of its options.

    Attributes
    ----------
    start : Start
    size : int
        Rows it looks at.
    n_batch : int
        Rows a batch of `fit`.
    n_init : int
        Starts to try.
    device : str or None
        Where the rows are.
    """

    start: Start
    size: int
    n_batch: int
    n_init: int
    device: str | None


@dataclass(frozen=True)
class Options:
    """What is asked for, in the words of scikit-learn's MiniBatchKMeans.

    Attributes
    ----------
    n_clusters : int, default 8
    init : {"k-means++", "k-means||", "random"}, array of shape (K, D), or callable
    max_iter : int, default 100
        Passes over the data, at most.
    batch_size : int, default 1024
        Rows a batch of `fit`.
    verbose : int, default 0
    compute_labels : bool, default True
        Whether labels and inertia of all rows are computed at the end.
    random_state : None, int, SeedSequence, RandomState or Generator
    tol : float, default 0
        Stop when the centroids move by Σ|Δ|² <= tol times the mean variance of the features; 0:
        never.
    max_no_improvement : int or None, default 10
        Stop after so many batches in turn that do not lower the average inertia; None: never.
    init_size : int or None, default None
        Rows the start looks at; None: three batches, or three rows a cluster if those are too few.
    n_init : int or "auto", default "auto"
        Starts to try, of which the best on drawn rows is taken; "auto": 3 unless centroids are
        given.
    reassignment_ratio : float, default 0.01
        Clusters with less than this part of the largest weight start anew.
    metric : {"euclidean", "cosine"}
    oversampling_factor : float, default 2.0
        Candidates a cluster in each round of k-means||.
    device : optional
        Where `fit` keeps the rows and labels all of them, as for `kmeans`; batches are the host's.
    """

    n_clusters: int = 8
    init: Any = "k-means++"
    max_iter: int = 100
    batch_size: int = 1024
    verbose: int = 0
    compute_labels: bool = True
    random_state: Any = None
    tol: float = 0.0
    max_no_improvement: int | None = 10
    init_size: int | None = None
    n_init: int | str = "auto"
    reassignment_ratio: float = 0.01
    metric: str = "euclidean"
    oversampling_factor: float = 2.0
    device: Any = None

    def checked(self, x: Any) -> Plan:
        """Check all of them against the data."""
        n_rows = int(x.shape[0])
        n_clusters = check_n_clusters(self.n_clusters, n_rows)
        check_count(self.max_iter, "max_iter")
        check_tol(self.tol)
        check_tol(self.reassignment_ratio, "reassignment_ratio")
        if self.max_no_improvement is not None:
            check_count(self.max_no_improvement, "max_no_improvement", 0)
        check_random_state(self.random_state)
        device = check_device(self.device, x)
        n_init = check_n_init(self.n_init, self.init, _STARTS)
        if isinstance(self.n_init, str) and isinstance(self.init, str):
            n_init = _STARTS
        n_batch = min(check_count(self.batch_size, "batch_size"), n_rows)
        size = min(self._start_rows(n_batch), n_rows)
        metric = check_metric(self.metric)
        start = Start(x, self.init, n_clusters, size, metric, self.oversampling_factor)
        return Plan(start, size, n_batch, n_init, device)

    def _start_rows(self, n_batch: int) -> int:
        few = 3 * self.n_clusters
        if self.init_size is None:
            return 3 * n_batch if 3 * n_batch >= self.n_clusters else few
        size = check_count(self.init_size, "init_size")
        if size >= self.n_clusters:
            return size
        warnings.warn(
            f"init_size={size} should be larger than n_clusters={self.n_clusters}. Setting it to "
            "min(3*n_clusters, n_samples)",
            RuntimeWarning,
            stacklevel=outside(),
        )
        return few
