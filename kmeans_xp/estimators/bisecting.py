"""`BisectingKMeans`: a tree of splits with scikit-learn's names."""

from __future__ import annotations

from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np

from kmeans_xp.backends.convert import from_numpy, to_numpy
from kmeans_xp.bisecting import Tree, bisect, walk
from kmeans_xp.estimators.base import BaseKMeans, Interval, StrOptions
from kmeans_xp.exceptions import warn_of_few_clusters, warn_of_overflow
from kmeans_xp.validation import ALGORITHMS, INIT_NAMES

__all__ = ["BisectingKMeans"]
STRATEGIES = ("biggest_inertia", "largest_cluster")


class BisectingKMeans(BaseKMeans):
    """Clustering by splitting clusters in two, on any array.

    All rows are split by k-means with two clusters, then one of the clusters found, and so on. The
    result is a tree: `predict` descends it, so that it may give a row another cluster than the one
    with the nearest centroid. It has the same bits on every array library and device.

    Parameters
    ----------
    n_clusters : int, default 8
        Number of clusters K.
    init : {"k-means++", "k-means||", "random"} or callable, default "random"
        Where the two centroids of a split start.
    n_init : int, default 1
        Starts to make for a split.
    random_state : None, int, SeedSequence, RandomState or Generator
        Seed of the starts.
    max_iter : int, default 300
        Largest number of iterations of a start.
    verbose : int, default 0
        Print a line for every iteration and the centroids of every split.
    tol : float, default 1e-4
        Relative tolerance on the squared shift of the centroids, for each split.
    copy_x : bool, default True
        For compatibility: X is never modified.
    algorithm : {"auto", "lloyd", "hamerly", "elkan"}
        How to compute; the result has the same bits with each.
    bisecting_strategy : {"biggest_inertia", "largest_cluster"}
        Whether the cluster of largest inertia or that with most rows is split next.
    device : None, "cuda", "cuda:N", int or "cpu", default None
        As for `KMeans`; the rows of every split are brought to the device anew.

    Attributes
    ----------
    cluster_centers_ : array, shape (K, D)
        Centroids: float32 for float16, bfloat16 and float32 X, else float64.
    labels_ : array of int32, shape (N,)
        Cluster of each row, numbered from left to right in the tree.
    inertia_ : float
        Weighted sum of squared distances to the centroid of the row's cluster.
    tree_ : Tree
        The K − 1 splits that `predict` descends: `centers`, shape (K − 1, 2, D), and `children`,
        shape (K − 1, 2), each the index of a split or −1 − k for cluster k. NumPy.
    n_features_in_ : int
        Features seen in `fit`.
    feature_names_in_ : ndarray of str, shape (D,)
        Their names, where X was a data frame with names that are all strings.

    See Also
    --------
    KMeans : All clusters at once.

    References
    ----------
    M. Steinbach, G. Karypis, V. Kumar, "A comparison of document clustering techniques", KDD
    workshop on text mining 2000.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp import BisectingKMeans
    >>> X = np.array([[0, 0], [0, 2], [9, 0], [9, 2], [50, 0], [50, 2], [50, 1]])
    >>> model = BisectingKMeans(n_clusters=3, random_state=0).fit(X)
    >>> model.predict([[1, 1], [8, 1], [60, 1]])
    array([1, 0, 2], dtype=int32)
    >>> model.inertia_
    6.0
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseKMeans._parameter_constraints,
        "init": [StrOptions(set(INIT_NAMES)), callable],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "copy_x": ["boolean"],
        "algorithm": [StrOptions(set(ALGORITHMS))],
        "bisecting_strategy": [StrOptions(set(STRATEGIES))],
        "device": [object],
    }
    _array_attributes = ("cluster_centers_", "labels_", "_split_centers", "_split_children")

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "random",
        n_init: int = 1,
        random_state: Any = None,
        max_iter: int = 300,
        verbose: int = 0,
        tol: float = 1e-4,
        copy_x: bool = True,
        algorithm: str = "auto",
        bisecting_strategy: str = "biggest_inertia",
        device: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.random_state = random_state
        self.max_iter = max_iter
        self.verbose = verbose
        self.tol = tol
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.bisecting_strategy = bisecting_strategy
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
        BisectingKMeans
            The fitted estimator.

        Raises
        ------
        TypeError, ValueError
            For bad input, naming the argument.
        """
        self._validate_params()
        x = self._validate(X, reset=True)
        found = bisect(
            x,
            self.n_clusters,
            strategy=self.bisecting_strategy,
            init=self.init,
            n_init=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            sample_weight=self._weights(sample_weight, x),
            random_state=self.random_state,
            algorithm=self.algorithm,
            device=self.device,
            verbose=self.verbose,
        )
        self.cluster_centers_ = from_numpy(found.centroids, x)
        self.labels_ = from_numpy(found.labels, x)
        self.inertia_ = found.inertia
        self._split_centers = from_numpy(found.tree.centers, x)
        self._split_children = from_numpy(found.tree.children, x)
        warn_of_few_clusters(len(np.unique(found.labels)), self.n_clusters)
        warn_of_overflow(found.inertia)
        return self

    def _labels(self, x: Any) -> Any:
        tree = self.tree_
        return walk(x, tree, self.device) if len(tree) else super()._labels(x)

    @property
    def tree_(self) -> Tree:
        """The splits that `predict` descends."""
        return Tree(to_numpy(self._split_centers), to_numpy(self._split_children))
