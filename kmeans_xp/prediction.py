"""What given centroids say of rows: labels, inertia, distances."""

from __future__ import annotations

from typing import Any

import numpy as np

from kmeans_xp.backends.convert import centroid_dtype, from_numpy
from kmeans_xp.batch import predict_batch
from kmeans_xp.blocks.base import Blocks
from kmeans_xp.blocks.open import open_blocks
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
    device: str | None = None,
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
    device : {"cuda", None}
        As for `kmeans`.
    lengths, offsets : array of int, optional
        Layout of a batch, as for `kmeans`.

    Returns
    -------
    array of int32, shape (N,) or (B, N)
        In the namespace and on the device of X; -1 for padding.

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
        check_device(device)
        spherical = check_metric(metric).spherical
        problems = open_problems(X, lengths, offsets, directions=spherical)
        return predict_batch(
            problems,
            centroids,
            lambda rows, c: predict(rows, c, metric=metric, device=device),
            tiny=device is None and not spherical,
        )
    _, blocks, given = _opened(X, centroids, metric, device=device)
    with blocks.session():
        blocks.assign(blocks.place(given))
    return blocks.labels()


def inertia(
    X: Any, centroids: Any, *, sample_weight: Any = None, metric: str = "euclidean"
) -> float:
    """Weighted sum of squared distances (or of 1 − cosine) of the rows of X to their nearest
    centroid.

    Parameters
    ----------
    X, centroids, metric
        As for `predict`.
    sample_weight : array, shape (N,), optional
        Weights of the rows.

    Returns
    -------
    float
        The exact value, rounded once to float64.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.
    """
    _, blocks, given = _opened(X, centroids, metric, sample_weight)
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
    _, blocks, given = _opened(X, centroids, "euclidean", sample_weight)
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
        In the namespace and on the device of X and the dtype of the centroids. Relative error about
        1e-7 in float32 and 1e-13 in float64; unlike labels and centroids these bits may differ
        between machines. 1 − cosine is taken of the rounded directions: it may be a rounding below
        zero.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.
    """
    x, blocks, given = _opened(X, centroids, metric)
    with blocks.session():
        return from_numpy(blocks.distances(given), x)


def _opened(
    X: Any,
    centroids: Any,
    metric: str,
    sample_weight: Any = None,
    device: str | None = None,
) -> tuple[Any, Blocks, np.ndarray]:
    """Check data and given centroids; returns X as an array, its blocks and the centroids."""
    x = as_array(X, sparse=True, streams=True)
    check_device(device)
    dtype, measure = centroid_dtype(x), check_metric(metric)
    given = check_centroids(centroids, (None, int(x.shape[1])), dtype, "centroids")
    given = measure.given(given, "centroids")
    w = check_weights(sample_weight, x)
    return x, open_blocks(x, w, dtype, device, metric=measure), given
