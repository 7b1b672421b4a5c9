"""`MiniBatchKMeans`: mini-batches with scikit-learn's names."""

from __future__ import annotations

from dataclasses import fields, replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

from kmeans_xp.backends.convert import to_numpy
from kmeans_xp.estimators.base import BaseKMeans, Interval, StrOptions
from kmeans_xp.exact.metric import METRICS
from kmeans_xp.minibatch import MiniBatchResult, MiniBatchState, Options, fit, partial_fit

__all__ = ["MiniBatchKMeans"]


class MiniBatchKMeans(BaseKMeans):
    """Mini-batch k-means with scikit-learn's names, on any array.

    Every batch is computed exactly, so attributes and results have the same bits in every array
    library, on every device and with any number of threads; docs/exactness.md, "Mini-batch",
    defines them.

    Parameters
    ----------
    n_clusters : int, default 8
        Number of clusters K.
    init : {"k-means++", "k-means||", "random"}, array of shape (K, D), or callable
        Where the centroids start.
    max_iter : int, default 100
        Passes over the data, at most.
    batch_size : int, default 1024
        Rows that `fit` draws for a batch.
    verbose : int, default 0
        Print a line for every batch.
    compute_labels : bool, default True
        Whether labels and inertia of all rows are computed at the end of `fit` and `partial_fit`.
    random_state : None, int, SeedSequence, RandomState or Generator
        Seed of the start, the batches and the reassignments.
    tol : float, default 0.0
        Stop when a batch moves the centroids by Σ|Δ|² <= tol times the mean variance of the
        features; 0: never.
    max_no_improvement : int or None, default 10
        Stop after so many batches in turn that do not lower the moving average of the inertia;
        None: never.
    init_size : int or None, default None
        Rows the start looks at; None: three batches, or three rows a cluster if those are too few.
    n_init : int or "auto", default "auto"
        Starts to try, of which the best on drawn rows is taken; "auto": 3 unless centroids are
        given. `partial_fit` makes one.
    reassignment_ratio : float, default 0.01
        Clusters with less than this part of the largest weight start anew at drawn rows.
    metric : {"euclidean", "cosine"}, default "euclidean"
        "cosine" is spherical k-means, as for `KMeans`.
    oversampling_factor : float, default 2.0
        "k-means||" draws this many candidates a cluster in each round.
    device : None, "cuda", "cuda:N", int or "cpu", default None
        "cuda" keeps the rows on a CUDA device during `fit` and labels all of them there, as
        `predict` and `score` do; batches, small as they are, come to the host.

    Attributes
    ----------
    cluster_centers_ : array, shape (K, D)
        Centroids: float32 for float16, bfloat16 and float32 X, else float64.
    labels_ : array of int32, shape (N,)
        Label of each row; only with `compute_labels`.
    inertia_ : float
        Weighted sum of squared distances to the nearest centroid, exact, rounded once. Without
        `compute_labels` an estimate from the batches of `fit`.
    counts_ : array, shape (K,)
        Weight that each cluster has seen.
    n_iter_ : int
        Passes over the data that the batches of `fit` amount to.
    n_steps_ : int
        Batches.
    n_features_in_ : int
        Features seen in `fit`.
    feature_names_in_ : ndarray of str, shape (D,)
        Their names, where X was a data frame with names that are all strings.

    See Also
    --------
    KMeans : All rows in every iteration.

    References
    ----------
    D. Sculley, "Web-scale k-means clustering", WWW 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp import MiniBatchKMeans
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = MiniBatchKMeans(2, init=X[[0, 3]])
    >>> for batch in (X[:4], X[2:]):
    ...     model = model.partial_fit(batch)
    >>> model.n_steps_
    2
    >>> sorted(model.cluster_centers_.tolist())
    [[1.0, 1.5], [10.0, 2.0]]
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseKMeans._parameter_constraints,
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "compute_labels": ["boolean"],
        "max_no_improvement": [Interval(Integral, 0, None, closed="left"), None],
        "init_size": [Interval(Integral, 1, None, closed="left"), None],
        "reassignment_ratio": [Interval(Real, 0, None, closed="left")],
        "metric": [StrOptions(set(METRICS))],
        "oversampling_factor": [Interval(Real, 0, None, closed="neither")],
        "device": [object],
    }
    _takes_streams = True
    _array_attributes: ClassVar[tuple[str, ...]] = ("cluster_centers_", "labels_", "counts_")

    _state: MiniBatchState

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        max_iter: int = 100,
        batch_size: int = 1024,
        verbose: int = 0,
        compute_labels: bool = True,
        random_state: Any = None,
        tol: float = 0.0,
        max_no_improvement: int | None = 10,
        init_size: int | None = None,
        n_init: int | str = "auto",
        reassignment_ratio: float = 0.01,
        metric: str = "euclidean",
        oversampling_factor: float = 2.0,
        device: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.verbose = verbose
        self.compute_labels = compute_labels
        self.random_state = random_state
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.init_size = init_size
        self.n_init = n_init
        self.reassignment_ratio = reassignment_ratio
        self.metric = metric
        self.oversampling_factor = oversampling_factor
        self.device = device

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Cluster the rows of X by batches drawn from them.

        Parameters
        ----------
        X : array, shape (N, D)
            Any array `kmeans` takes, data frames and lists. Of a sparse matrix every batch is made
            dense, and so are the rows the start looks at. Of a stream the rows of many batches
            are gathered in one pass.
        y : None
            Ignored.
        sample_weight : array, shape (N,), optional
            Weights of the rows, not negative: rows are drawn by them.

        Returns
        -------
        MiniBatchKMeans
            The fitted estimator.

        Raises
        ------
        TypeError, ValueError
            For bad input, naming the argument.
        """
        self._validate_params()
        x = self._validate(X, reset=True)
        result = fit(x, self._options(), self._weights(sample_weight, x))
        self.n_iter_ = result.n_iter
        return self._take(result)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Move the centroids by one batch: all rows of X.

        As in scikit-learn, parameters are checked before the first batch alone.

        Parameters
        ----------
        X : array, shape (n, D)
            The batch, in the namespace and on the device of those before; the first one has at
            least as many rows as clusters.
        y : None
            Ignored.
        sample_weight : array, shape (n,), optional
            Weights of the rows, not negative.

        Returns
        -------
        MiniBatchKMeans
            The estimator.

        Raises
        ------
        TypeError, ValueError
            For bad input, naming the argument.
        """
        state = getattr(self, "_state", None)
        if state is None:  # as in scikit-learn, a stream's parameters are looked at once
            self._validate_params()
            x = self._validate(X, reset=True)
        else:
            x = self._fitted_input(X, "partial_fit")
            state = replace(state, centroids=to_numpy(self.cluster_centers_))
        weights = self._weights(sample_weight, x)
        return self._take(
            partial_fit(x, self._options(), state, getattr(self, "n_steps_", 0), weights)
        )

    def _options(self) -> Options:
        return Options(**{field.name: getattr(self, field.name) for field in fields(Options)})

    def _take(self, result: MiniBatchResult) -> Self:
        self._state = result.state
        self.cluster_centers_ = result.centroids
        self.counts_ = result.counts
        self.n_steps_ = result.n_steps
        found = {"labels_": result.labels, "inertia_": result.inertia}
        for name, value in found.items():  # what is not known must not stay from an earlier fit
            self.__dict__.pop(name, None)
            if value is not None:
                setattr(self, name, value)
        return self
