"""`KMeans` and `k_means`: Lloyd's algorithm with scikit-learn's names."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar, Self

from kmeans_xp.estimators.base import BaseKMeans, Interval, StrOptions
from kmeans_xp.exact.metric import METRICS
from kmeans_xp.functional import kmeans
from kmeans_xp.validation import ALGORITHMS

__all__ = ["KMeans", "k_means"]


class KMeans(BaseKMeans):
    """k-means clustering with scikit-learn's names, on any array.

    Attributes and results are in the namespace and on the device of X, wherever they are computed,
    and have the same bits on each of them: those of `kmeans`.

    Parameters
    ----------
    n_clusters : int, default 8
        Number of clusters K.
    init : {"k-means++", "k-means||", "random"}, array of shape (K, D), or callable
        Where the centroids start, as for `kmeans`; called as
        ``init(X, n_clusters, random_state=...)``.
    n_init : int or "auto", default "auto"
        Starts to make; 10 for "random" and callables, else 1, with "auto".
    max_iter : int, default 300
        Largest number of iterations of a start.
    tol : float, default 1e-4
        Relative tolerance on the squared shift of the centroids.
    verbose : int, default 0
        Print a line for every iteration, in scikit-learn's format.
    random_state : None, int, SeedSequence, RandomState or Generator
        Seed of the start.
    copy_x : bool, default True
        For compatibility: X is never modified.
    algorithm : {"auto", "lloyd", "hamerly", "elkan"}
        How to compute; the result has the same bits with each.
    metric : {"euclidean", "cosine"}, default "euclidean"
        "cosine" is spherical k-means, as for `kmeans`: rows of zeros are refused, the centroids are
        of length 1, and `transform` gives 1 − cosine.
    oversampling_factor : float, default 2.0
        "k-means||" draws this many candidates a cluster in each round.
    device : None, "cuda", "cuda:N", int or "cpu", default None
        "cuda" computes NumPy arrays and the blocks of a stream on a CUDA device, as for `kmeans`,
        in `fit`, `predict` and `score`; results are NumPy. None computes where X is.

    Attributes
    ----------
    cluster_centers_ : array, shape (K, D)
        Centroids: float32 for float16, bfloat16 and float32 X, else float64.
    labels_ : array of int32, shape (N,)
        Label of each row.
    inertia_ : float
        Weighted sum of squared distances to the nearest centroid (of 1 − cosine for "cosine").
    n_iter_ : int
        Iterations of the best start.
    n_features_in_ : int
        Features seen in `fit`.
    feature_names_in_ : ndarray of str, shape (D,)
        Their names, where X was a data frame with names that are all strings.

    See Also
    --------
    kmeans : The function behind it.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp import KMeans
    >>> X = np.array([[1, 2], [1, 4], [1, 0], [10, 2], [10, 4], [10, 0]])
    >>> model = KMeans(n_clusters=2, random_state=0).fit(X)
    >>> model.labels_
    array([1, 1, 1, 0, 0, 0], dtype=int32)
    >>> model.predict([[0, 0], [12, 3]])
    array([1, 0], dtype=int32)
    >>> model.cluster_centers_
    array([[10.,  2.],
           [ 1.,  2.]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseKMeans._parameter_constraints,
        "copy_x": ["boolean"],
        "algorithm": [StrOptions(set(ALGORITHMS))],
        "metric": [StrOptions(set(METRICS))],
        "oversampling_factor": [Interval(Real, 0, None, closed="neither")],
        "device": [object],  # what computes looks at it, with the data
    }

    _takes_streams = True
    _takes_chunks = True

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means++",
        n_init: int | str = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: int = 0,
        random_state: Any = None,
        copy_x: bool = True,
        algorithm: str = "auto",
        metric: str = "euclidean",
        oversampling_factor: float = 2.0,
        device: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.metric = metric
        self.oversampling_factor = oversampling_factor
        self.device = device

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Cluster the rows of X.

        Parameters
        ----------
        X : array, shape (N, D)
            Any array `kmeans` takes, data frames and lists.
        y : None
            Ignored.
        sample_weight : array, shape (N,), optional
            Weights of the rows, not negative.

        Returns
        -------
        KMeans
            The fitted estimator.

        Raises
        ------
        TypeError, ValueError
            For bad input, naming the argument.
        """
        self._validate_params()
        x = self._validate(X, reset=True)
        result = kmeans(
            x,
            self.n_clusters,
            init=self.init,
            oversampling_factor=self.oversampling_factor,
            n_init=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            sample_weight=self._weights(sample_weight, x),
            random_state=self.random_state,
            algorithm=self.algorithm,
            metric=self.metric,
            device=self.device,
            verbose=self.verbose,
        )
        self.cluster_centers_ = result.centroids
        self.labels_ = result.labels
        self.inertia_ = result.inertia
        self.n_iter_ = result.n_iter
        return self


def k_means(
    X: Any,
    n_clusters: int,
    *,
    sample_weight: Any = None,
    init: Any = "k-means++",
    n_init: int | str = "auto",
    max_iter: int = 300,
    verbose: int = 0,
    tol: float = 1e-4,
    random_state: Any = None,
    copy_x: bool = True,
    algorithm: str = "auto",
    return_n_iter: bool = False,
) -> tuple[Any, ...]:
    """Cluster the rows of X: `KMeans` as scikit-learn's function of this name.

    Parameters
    ----------
    X, sample_weight
        As for `KMeans.fit`.
    n_clusters, init, n_init, max_iter, verbose, tol, random_state, copy_x, algorithm
        As for `KMeans`.
    return_n_iter : bool, default False
        Whether to return the number of iterations too.

    Returns
    -------
    centroid : array, shape (K, D)
        The centroids.
    label : array of int32, shape (N,)
        Label of each row.
    inertia : float
        Weighted sum of squared distances to the nearest centroid.
    best_n_iter : int
        Iterations of the best start; only with `return_n_iter`.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.

    See Also
    --------
    kmeans : The same with a result object and more options.

    Examples
    --------
    >>> from kmeans_xp import k_means
    >>> centroid, label, inertia = k_means([[0.0], [1.0], [8.0], [9.0]], 2, random_state=0)
    >>> inertia
    1.0
    """
    model = KMeans(
        n_clusters,
        init=init,
        n_init=n_init,
        max_iter=max_iter,
        verbose=verbose,
        tol=tol,
        random_state=random_state,
        copy_x=copy_x,
        algorithm=algorithm,
    ).fit(X, sample_weight=sample_weight)
    found = model.cluster_centers_, model.labels_, model.inertia_
    return (*found, model.n_iter_) if return_n_iter else found
