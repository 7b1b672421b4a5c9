"""What the estimators share: scikit-learn's contract around a fitted set of centroids."""

from __future__ import annotations

import copy
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from array_api_compat import device as device_of
from array_api_compat import is_array_api_obj, is_dask_array

try:
    from sklearn import config_context
    from sklearn.base import (
        BaseEstimator,
        ClassNamePrefixFeaturesOutMixin,
        ClusterMixin,
        TransformerMixin,
    )
    from sklearn.utils._param_validation import Interval, StrOptions
    from sklearn.utils.validation import check_is_fitted, validate_data
except ModuleNotFoundError as error:
    if error.name != "sklearn":
        raise
    raise ModuleNotFoundError(
        "the estimators of kmeans_xp need scikit-learn: pip install 'kmeans_xp[sklearn]'"
    ) from None

from kmeans_xp.backends.chunked import with_known_sizes
from kmeans_xp.backends.convert import (
    home,
    into_namespace,
    is_cupy_sparse,
    namespace_called,
    namespace_name,
    to_numpy,
)
from kmeans_xp.html import clusters_html
from kmeans_xp.prediction import distances, inertia, predict
from kmeans_xp.streams import is_stream
from kmeans_xp.validation import INIT_NAMES, as_array

__all__ = ["BaseKMeans"]

# NumPy's types that are taken as they are.
_PLAIN = frozenset(np.dtype(code).type for code in "?bBhHiIlLqQefd")
_TAKEN = [np.dtype(order + code) for order in "=<>" for code in "d?bBhHiIlLqQef"]


class BaseKMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """Base of the k-means estimators.

    A subclass has `fit(X, y=None, sample_weight=None)`, which calls `_validate_params` and
    `_validate` first and sets `cluster_centers_` and what else it promises.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions(set(INIT_NAMES)), callable, "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "random_state": [
            Interval(Integral, 0, None, closed="left"),
            np.random.RandomState,
            np.random.Generator,
            np.random.SeedSequence,
            None,
        ],
    }
    # Attributes that live in the namespace and on the device of the X of fit.
    _array_attributes: ClassVar[tuple[str, ...]] = ("cluster_centers_", "labels_")
    _takes_streams: ClassVar[bool] = False
    _takes_chunks: ClassVar[bool] = False

    device: Any
    cluster_centers_: Any
    labels_: Any

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit, and return the label of each row of X.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        array of int32, shape (N,)
            `labels_`.
        """
        return self.fit(X, sample_weight=sample_weight).labels_

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Fit, and return the distances of each row of X to the centroids.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        array, shape (N, K)
            As `transform` returns.
        """
        self.fit(X, sample_weight=sample_weight)
        return self._distances(self._validate(X, reset=False))

    def predict(self, X: Any) -> Any:
        """Return the index of the nearest centroid of each row.

        Parameters
        ----------
        X : array, shape (N, D)
            In the namespace and on the device of the fit (see `to`).

        Returns
        -------
        array of int32, shape (N,)
            Exact labels; ties go to the lowest index.
        """
        return self._labels(self._fitted_input(X, "predict"))

    def transform(self, X: Any) -> Any:
        """Return the distance of each row to every centroid.

        Parameters
        ----------
        X : array, shape (N, D)
            As for `predict`.

        Returns
        -------
        array, shape (N, K)
            Euclidean distances (1 − cosine where the estimator's `metric` is "cosine"), in the
            dtype that the centroids of such an X have.
        """
        return self._distances(self._fitted_input(X, "transform"))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Return minus the inertia of X with the fitted centroids.

        Parameters
        ----------
        X : array, shape (N, D)
            As for `predict`.
        y : None
            Ignored.
        sample_weight : array, shape (N,), optional
            Weights of the rows.

        Returns
        -------
        float
            The exact value, rounded once; of a Dask array a lazy array without dimensions.
        """
        x = self._fitted_input(X, "score")
        return self._score(x, self._weights(sample_weight, x))

    # What another way to predict may change.

    def _labels(self, x: Any) -> Any:
        return predict(x, self.cluster_centers_, metric=self._metric, device=self.device)

    def _distances(self, x: Any) -> Any:
        return distances(x, self.cluster_centers_, metric=self._metric)

    def _score(self, x: Any, sample_weight: Any) -> Any:
        options = {"metric": self._metric, "device": self.device}
        return -inertia(x, self.cluster_centers_, sample_weight=sample_weight, **options)

    @property
    def _metric(self) -> str:
        return getattr(self, "metric", "euclidean")

    def to(self, xp: Any, device: Any = None) -> Self:
        """Move the fitted estimator to another array library or device.

        Parameters
        ----------
        xp : str or module
            "numpy", "torch", "cupy", "jax.numpy" or another array-API namespace, by name or itself.
        device : optional
            A device of that library; its default device if None. Where the estimator computes NumPy
            arrays is another matter: its parameter `device` says that.

        Returns
        -------
        estimator
            This one: its fitted arrays now live there, with the same bits.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ModuleNotFoundError
            If there is no such library.
        TypeError
            If `xp` is not an array library.
        ValueError
            If it cannot hold the dtype of the centroids.
        """
        check_is_fitted(self)
        namespace = namespace_called(xp)
        moved = {
            name: into_namespace(to_numpy(getattr(self, name)), namespace, device)
            for name in self._array_attributes
            if hasattr(self, name) and not is_dask_array(getattr(self, name))
        }
        self.__dict__.update(moved)
        return self

    # ---- input

    def _validate(self, X: Any, *, reset: bool) -> Any:
        """Return X as an array, its features and their names remembered (`reset`) or compared.

        Accepted are arrays of any namespace, Dask's where `_takes_chunks`, SciPy's and CuPy's
        sparse matrices (as CSR), and whatever scikit-learn makes a NumPy array of. Only the shape
        and the dtype are looked at: what computes with X finds NaN and infinity, once.
        """
        if not reset and self._is_ready(X):
            return X
        if is_dask_array(X):
            X = as_array(X, chunked=self._takes_chunks)
            return validate_data(self, X, reset=reset, skip_check_array=True)
        if is_stream(X):
            X = as_array(X, streams=self._takes_streams)
            return validate_data(self, X, reset=reset, skip_check_array=True)
        if is_cupy_sparse(X):
            X = as_array(X, sparse=True)
            return validate_data(self, X, reset=reset, skip_check_array=True)
        own = is_array_api_obj(X) and not isinstance(X, np.ndarray | np.generic)
        if isinstance(X, np.ndarray) and X.ndim == 3:
            as_array(X)  # says what takes batches of problems
        if own or isinstance(X, np.ma.MaskedArray) or _is_bfloat16(X):
            X = as_array(X)
        # what is of no other kind becomes float64, numbers in strings for example
        rules = {"dtype": _TAKEN, "ensure_all_finite": False, "accept_sparse": "csr"}
        with config_context(array_api_dispatch=False):  # what is no array shall become NumPy
            X = validate_data(self, X, reset=reset, skip_check_array=own, **rules)
        return X if own else as_array(X, sparse=True)

    def _is_ready(self, X: Any) -> bool:
        """Whether X is an array that scikit-learn's checks, slow for small ones, would let by."""
        return (
            type(X) is np.ndarray
            and X.ndim == 2
            and X.dtype.type in _PLAIN
            and len(X) > 0
            and X.shape[1] == self.n_features_in_
            and not hasattr(self, "feature_names_in_")
        )

    def _fitted_input(self, X: Any, method: str) -> Any:
        """Return X as an array that the fitted arrays can meet."""
        check_is_fitted(self)
        x = self._validate(X, reset=False)
        if type(x) is type(self.cluster_centers_) is np.ndarray:
            return x
        if is_dask_array(x):
            return x  # whatever its chunks are, centroids go to them
        here, there = namespace_name(x), namespace_name(self.cluster_centers_)
        devices = device_of(home(x)), device_of(self.cluster_centers_)
        if here != there or devices[0] != devices[1]:
            where = "" if here == "numpy" else ", device=X.device"
            raise ValueError(
                f"{type(self).__name__}.{method}() must use the same namespace and device as "
                f"fit(): X is in {here} on {devices[0]}, the fitted arrays are in {there} on "
                f"{devices[1]}. Move them first with .to({here!r}{where})"
            )
        return x

    @staticmethod
    def _weights(sample_weight: Any, x: Any) -> Any:
        """Return weights that go with X: from any namespace, one number for all rows, or None."""
        if isinstance(sample_weight, Real):
            counted = with_known_sizes(x) if is_dask_array(x) else x
            return np.full(counted.shape[0], float(sample_weight))
        if is_dask_array(sample_weight):
            return sample_weight
        if is_array_api_obj(sample_weight):
            return to_numpy(sample_weight)
        return sample_weight

    # ---- scikit-learn's and pickle's protocols

    @property
    def _n_features_out(self) -> int:
        return int(self.cluster_centers_.shape[0])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.array_api_support = True
        tags.input_tags.sparse = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _repr_html_inner(self) -> str:
        return str(super()._repr_html_inner()) + self._clusters_html()

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, str]:
        """Show scikit-learn's diagram and, once fitted, a table of the clusters."""
        bundle: dict[str, str] = super()._repr_mimebundle_(**kwargs)
        if "text/html" in bundle:
            bundle["text/html"] += self._clusters_html()
        return bundle

    def _clusters_html(self) -> str:
        if not hasattr(self, "cluster_centers_"):
            return ""
        inertia = getattr(self, "inertia_", None)
        caption = "" if inertia is None else f"inertia {inertia:.6g}"
        names = getattr(self, "feature_names_in_", None)
        return clusters_html(self.cluster_centers_, getattr(self, "labels_", None), caption, names)

    def __getstate__(self) -> dict[str, Any]:
        """Arrays become NumPy, so that the estimator can be restored anywhere."""
        return {
            name: to_numpy(value) if is_array_api_obj(value) else value
            for name, value in super().__getstate__().items()
        }

    def __copy__(self) -> Self:
        return self._copied(self.__dict__)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self._copied(copy.deepcopy(self.__dict__, memo))

    def _copied(self, state: dict[str, Any]) -> Self:
        """Copy without a pickle, which would bring the arrays to NumPy."""
        new = type(self).__new__(type(self))
        new.__dict__.update(state)
        return new


def _is_bfloat16(x: Any) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.name == "bfloat16"
