"""scikit-learn's face of the library: an estimator over `kmeans`, no arithmetic of its own."""

from __future__ import annotations

from typing import Any, Self

try:
    from sklearn.base import (
        BaseEstimator,
        ClassNamePrefixFeaturesOutMixin,
        ClusterMixin,
        TransformerMixin,
    )
    from sklearn.utils.validation import check_is_fitted
except ModuleNotFoundError as error:
    if error.name != "sklearn":
        raise
    raise ModuleNotFoundError(
        "kmeans_xp.KMeans needs scikit-learn: pip install 'kmeans_xp[sklearn]'"
    ) from None

from kmeans_xp.functional import distances, inertia, kmeans, predict
from kmeans_xp.validation import as_array

__all__ = ["KMeans"]


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """k-means clustering with scikit-learn's names, on any array.

    Parameters
    ----------
    n_clusters : int, default 8
        Number of clusters K.
    init : {"k-means++", "random"}, array of shape (K, D), or callable
        Where the centroids start.
    n_init : int or "auto", default "auto"
        Starts to make; 10 for "random" and callables, else 1, with "auto".
    max_iter : int, default 300
        Largest number of iterations of a start.
    tol : float, default 1e-4
        Relative tolerance on the squared shift of the centroids.
    verbose : int, default 0
        Print a line for every iteration.
    random_state : None, int, SeedSequence, RandomState or Generator
        Seed of the start.
    copy_x : bool, default True
        For compatibility: X is never modified.
    algorithm : {"auto", "lloyd", "hamerly", "elkan"}
        How to compute; the result has the same bits with each.

    Attributes
    ----------
    cluster_centers_ : array, shape (K, D)
        Centroids, in the namespace and on the device of X.
    labels_ : array of int32, shape (N,)
        Label of each row.
    inertia_ : float
        Weighted sum of squared distances to the nearest centroid.
    n_iter_ : int
        Iterations of the best start.
    n_features_in_ : int
        Features seen in `fit`.
    """

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

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Cluster the rows of X.

        Parameters
        ----------
        X : array, shape (N, D)
            Any array `kmeans` takes.
        y : None
            Ignored.
        sample_weight : array, shape (N,), optional
            Weights of the rows.

        Returns
        -------
        KMeans
            The fitted estimator.

        Raises
        ------
        TypeError, ValueError
            For bad input, naming the argument.
        """
        result = kmeans(
            X,
            self.n_clusters,
            init=self.init,
            n_init=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            sample_weight=sample_weight,
            random_state=self.random_state,
            algorithm=self.algorithm,
            verbose=self.verbose,
        )
        self.cluster_centers_ = result.centroids
        self.labels_ = result.labels
        self.inertia_ = result.inertia
        self.n_iter_ = result.n_iter
        self.n_features_in_ = int(result.centroids.shape[1])
        self._n_features_out = int(result.centroids.shape[0])
        return self

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit and return the labels of the rows of X, int32 of shape (N,)."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def predict(self, X: Any) -> Any:
        """Return the index of the nearest centroid of each row, int32 of shape (N,)."""
        return predict(self._checked(X), self.cluster_centers_)

    def transform(self, X: Any) -> Any:
        """Return the distances to every centroid, shape (N, K), in the dtype of the centroids."""
        return distances(self._checked(X), self.cluster_centers_)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Return minus the inertia of X: the exact value for the fitted centroids, rounded once."""
        return -inertia(self._checked(X), self.cluster_centers_, sample_weight=sample_weight)

    def _checked(self, X: Any) -> Any:
        """Return X as an array with the features of the fit."""
        check_is_fitted(self)
        x = as_array(X)
        if x.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {x.shape[1]} features, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} features as input"
            )
        return x
