"""What given centroids say of rows: labels, inertia, distances."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import is_dask_array

from kmeans_xp.backends.chunked import refuse_device, with_known_sizes
from kmeans_xp.backends.convert import centroid_dtype, from_numpy
from kmeans_xp.backends.devices import on_cuda_device
from kmeans_xp.batch import predict_batch
from kmeans_xp.blocks.open import open_blocks
from kmeans_xp.exact.metric import Metric
from kmeans_xp.problems import is_batch, open_problems
from kmeans_xp.validation import (
    as_array,
    check_centroids,
    check_device,
    check_metric,
    check_weights,
)

__all__ = ["distances", "inertia", "labelled_inertia", "predict"]


def predict(
    X: Any,
    centroids: Any,
    *,
    metric: str = "euclidean",
    device: Any = None,
    lengths: Any = None,
    offsets: Any = None,
) -> Any:
    """Assign every row of X to its nearest centroid, exactly; ties go to the lowest index.

    Parameters
    ----------
    X : array, shape (N, D) or (B, N, D)
        As for `kmeans`.
    centroids : array, shape (K, D) or (B, K, D)
        Any namespace and real dtype; rounded to float32 for float16, bfloat16 and float32 X.
    metric : {"euclidean", "cosine"}
        As for `kmeans`; "cosine" counts the directions of rows and centroids.
    device : None, "cuda", "cuda:N", int or "cpu"
        As for `kmeans`.
    lengths, offsets : array of int, optional
        Layout of a batch, as for `kmeans`.

    Returns
    -------
    array of int32, shape (N,) or (B, N)
        In the namespace and on the device of X; -1 for padding. Of a Dask array a lazy one.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.

    Examples
    --------
    >>> from kmeans_xp import predict
    >>> predict([[0.0], [4.0], [9.0]], [[0.0], [8.0]])
    array([0, 0, 1], dtype=int32)
    """
    if is_batch(X, lengths, offsets):
        device = check_device(device, X)
        spherical = check_metric(metric).spherical
        problems = open_problems(X, lengths, offsets, directions=spherical)
        return predict_batch(
            problems,
            centroids,
            lambda rows, c: predict(rows, c, metric=metric, device=device),
            tiny=not spherical,
            device=device,
            threads=device is None,
        )
    x, given, measure = _checked(X, centroids, metric)
    device = check_device(device, x)
    if is_dask_array(x):
        refuse_device(device)
        return _lazy().lazy_labels(x, given, measure)
    with on_cuda_device(device, x):
        blocks = open_blocks(x, None, given.dtype, device, metric=measure)
        with blocks.session():
            blocks.assign(blocks.place(given))
        return blocks.labels()


def inertia(
    X: Any,
    centroids: Any,
    *,
    sample_weight: Any = None,
    metric: str = "euclidean",
    device: Any = None,
) -> Any:
    """Weighted sum of squared distances (or of 1 − cosine) of the rows of X to their nearest
    centroid.

    Parameters
    ----------
    X, centroids, metric, device
        As for `predict`.
    sample_weight : array, shape (N,), optional
        Weights of the rows.

    Returns
    -------
    float
        The exact value, rounded once to float64. Of a Dask array a lazy array without dimensions.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.
    """
    x, given, measure = _checked(X, centroids, metric)
    device = check_device(device, x)
    if is_dask_array(x):
        refuse_device(device)
        x = x if sample_weight is None else with_known_sizes(x)
        return _lazy().lazy_inertia(x, given, check_weights(sample_weight, x), measure)
    w = check_weights(sample_weight, x)
    with on_cuda_device(device, x):
        blocks = open_blocks(x, w, given.dtype, device, metric=measure)
        with blocks.session():
            handle = blocks.place(given)
            blocks.settle(handle)
            return blocks.inertia(handle)


def labelled_inertia(
    X: Any, centroids: Any, labels: np.ndarray, *, sample_weight: Any = None
) -> float:
    """Weighted sum of squared distances of the rows of X to the centroids of given labels.

    Parameters
    ----------
    X, centroids, sample_weight
        As for `inertia`.
    labels : ndarray of int32, shape (N,)
        Index of a centroid for each row.

    Returns
    -------
    float
        The exact value, rounded once to float64.
    """
    x, given, measure = _checked(X, centroids, "euclidean", chunked=False)
    blocks = open_blocks(x, check_weights(sample_weight, x), given.dtype, metric=measure)
    with blocks.session():
        return blocks.labelled_inertia(labels, given)


def distances(X: Any, centroids: Any, *, metric: str = "euclidean") -> Any:
    """Distances of every row of X to every centroid: Euclidean, or 1 − cosine.

    Parameters
    ----------
    X, centroids, metric
        As for `predict`.

    Returns
    -------
    array, shape (N, K)
        In the namespace and on the device of X (lazy for a Dask array) and the dtype of the
        centroids. Relative error about 1e-7 in float32 and 1e-13 in float64; unlike labels and
        centroids these bits may differ between machines. 1 − cosine is taken of the rounded
        directions: it may be a rounding below zero.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.
    """
    x, given, measure = _checked(X, centroids, metric)
    if is_dask_array(x):
        return _lazy().lazy_distances(x, given, measure)
    with on_cuda_device(None, x):
        blocks = open_blocks(x, None, given.dtype, metric=measure)
        with blocks.session():
            return from_numpy(blocks.distances(given), x)


def _checked(
    X: Any, centroids: Any, metric: str, chunked: bool = True
) -> tuple[Any, np.ndarray, Metric]:
    """Check data and given centroids; returns X as an array, the centroids and the metric."""
    x = as_array(X, sparse=True, streams=True, chunked=chunked)
    dtype, measure = centroid_dtype(x), check_metric(metric)
    given = check_centroids(centroids, (None, int(x.shape[1])), dtype, "centroids")
    return x, measure.given(given, "centroids"), measure


def _lazy() -> Any:
    """What works on Dask arrays; imported when there is one."""
    from kmeans_xp.blocks import lazy

    return lazy
