"""How good a clustering is: silhouette, Davies-Bouldin and Calinski-Harabasz, in blocks of rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from kmeans_xp.backends.convert import centroid_dtype, from_numpy, take_rows, to_numpy
from kmeans_xp.grouped import CLOSER, GroupedRows, dispersion, distance_sums
from kmeans_xp.seeding import Words, sample_rows
from kmeans_xp.validation import ArgumentError, as_array, check_count, check_random_state

__all__ = [
    "calinski_harabasz_score",
    "davies_bouldin_score",
    "silhouette_samples",
    "silhouette_score",
]

METRICS = ("euclidean", "l2", "sqeuclidean", "cosine")
# Centroids closer than this fraction of what they were computed from coincide.
_SAME = 2.0**-49


def silhouette_score(
    X: Any,
    labels: Any,
    *,
    metric: str = "euclidean",
    sample_size: int | None = None,
    random_state: Any = None,
) -> float:
    """Mean silhouette coefficient of all rows, or of a sample of them.

    Parameters
    ----------
    X : array, shape (N, D)
        Any dense array `kmeans` takes.
    labels : array-like, shape (N,)
        Cluster of each row: integers or, as NumPy or a list, anything that can be sorted.
    metric : {"euclidean", "l2", "sqeuclidean", "cosine"}
        Distance between rows.
    sample_size : int, optional
        Compute the coefficients of so many random rows among themselves. The rows depend on N,
        `sample_size` and `random_state` alone, not on the array library.
    random_state : None, int, SeedSequence, RandomState or Generator
        Seed of the sample.

    Returns
    -------
    float
        Between -1 and 1; higher is better.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.

    See Also
    --------
    silhouette_samples : the coefficient of each row; says what time and memory it takes.

    References
    ----------
    P. J. Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster
    analysis", J. Comput. Appl. Math. 20 (1987).

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp.metrics import silhouette_score
    >>> x = np.array([[0.0], [1.0], [8.0], [9.0]])
    >>> round(silhouette_score(x, [0, 0, 1, 1]), 6)
    0.87451
    """
    x, values = as_array(X), _label_values(labels)
    _check_length(values, x)
    check_random_state(random_state)
    if sample_size is not None and check_count(sample_size, "sample_size") < x.shape[0]:
        rows = sample_rows(int(x.shape[0]), int(sample_size), Words(random_state))
        x, values = take_rows(x, rows), values[rows]
    return float(np.mean(_silhouette(x, values, metric)))


def silhouette_samples(X: Any, labels: Any, *, metric: str = "euclidean") -> Any:
    """Silhouette coefficient of each row.

    It is (b - a) / max(a, b), a being the mean distance to the other rows of the row's own cluster
    and b the least mean distance to the rows of another cluster; 0 in a cluster of one row.

    Parameters
    ----------
    X, labels, metric
        As for `silhouette_score`.

    Returns
    -------
    array, shape (N,)
        In the namespace and on the device of X; float32 for float16, bfloat16 and float32 X, else
        float64. Absolute error about 1e-7 or 1e-13.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.

    Notes
    -----
    The time is that of N² distances; of their matrix a block of some 10 MB a thread exists at a
    time (about 0.5 GB on a device).

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp.metrics import silhouette_samples
    >>> x = np.array([[0.0], [1.0], [8.0], [9.0]])
    >>> silhouette_samples(x, [0, 0, 1, 1]).round(3)
    array([0.882, 0.867, 0.867, 0.882])
    """
    x, values = as_array(X), _label_values(labels)
    _check_length(values, x)
    return from_numpy(_silhouette(x, values, metric).astype(centroid_dtype(x)), x)


def davies_bouldin_score(X: Any, labels: Any) -> float:
    """Mean over clusters of the largest (s_i + s_j) / d_ij over the other clusters.

    s is the mean distance of a cluster's rows to their centroid, d that of two centroids. Clusters
    with the same centroid are not compared; the score is 0 if all rows are centroids.

    Parameters
    ----------
    X, labels
        As for `silhouette_score`.

    Returns
    -------
    float
        At least 0; lower is better. Relative error about 1e-13.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.

    References
    ----------
    D. L. Davies, D. W. Bouldin, "A cluster separation measure", IEEE Trans. Pattern Anal. Mach.
    Intell. 1 (1979).

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp.metrics import davies_bouldin_score
    >>> davies_bouldin_score(np.array([[0.0], [1.0], [8.0], [9.0]]), [0, 0, 1, 1])
    0.125
    """
    x, values = as_array(X), _label_values(labels)
    _check_length(values, x)
    data = GroupedRows(x, values)
    anchors, offsets, spread, _ = dispersion(data)
    spread = spread / data.counts
    n_clusters = len(spread)
    ratios = np.zeros(n_clusters)
    for k in range(n_clusters):
        far, near = data.differences(anchors[k], anchors), offsets[k] - offsets
        distance = _norms(far + near)
        distance[distance <= _SAME * (_norms(far) + _norms(offsets) + _norms(offsets[k]))] = np.inf
        ratios[k] = ((spread[k] + spread) / distance).max()
    return float(ratios.mean())


def calinski_harabasz_score(X: Any, labels: Any) -> float:
    """Ratio of the dispersion between clusters to that within, each over its degrees of freedom.

    Parameters
    ----------
    X, labels
        As for `silhouette_score`.

    Returns
    -------
    float
        Higher is better; 1 if all rows equal the centroid of their cluster. Relative error about
        1e-13.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.

    References
    ----------
    T. Caliński, J. Harabasz, "A dendrite method for cluster analysis", Commun. Stat. 3 (1974).

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp.metrics import calinski_harabasz_score
    >>> calinski_harabasz_score(np.array([[0.0], [1.0], [8.0], [9.0]]), [0, 0, 1, 1])
    128.0
    """
    x, values = as_array(X), _label_values(labels)
    _check_length(values, x)
    data = GroupedRows(x, values)
    anchors, offsets, spread, squares = dispersion(data)
    within = float(squares.sum())
    if within == 0.0:  # by underflow: then the ratio is beyond float64
        return math.inf if spread.any() else 1.0
    centroids = data.differences(anchors, anchors[0]) + offsets
    deviations = centroids - np.average(centroids, axis=0, weights=data.counts)
    between = float(data.counts @ np.square(deviations).sum(axis=1))
    n_clusters = len(data.counts)
    return between * (len(data.codes) - n_clusters) / (within * (n_clusters - 1))


def _label_values(labels: Any) -> np.ndarray:
    """Labels on the host."""
    values = to_numpy(labels) if is_array_api_obj(labels) else np.asarray(labels)
    if values.ndim != 1:
        raise ArgumentError(f"labels must be one-dimensional, got shape {values.shape}")
    if values.dtype.kind == "c":
        raise ArgumentError(f"labels must not be complex, got dtype {values.dtype}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("labels must be finite, got NaN or infinity")
    return values


def _check_length(labels: np.ndarray, x: Any) -> None:
    if len(labels) != x.shape[0]:
        raise ValueError(
            "Found input variables with inconsistent numbers of samples: labels must have one "
            f"entry a row of X, got {len(labels)} for {x.shape[0]} rows"
        )


def _silhouette(x: Any, labels: np.ndarray, metric: str) -> np.ndarray:
    """Coefficients of all rows, float64 on the host."""
    if not isinstance(metric, str) or metric not in METRICS:
        raise ValueError(
            f"metric must be one of {', '.join(map(repr, METRICS))}, got {metric!r}; callables and "
            "precomputed distances are not supported"
        )
    data = GroupedRows(x, labels, unit=metric == "cosine")
    root = metric in ("euclidean", "l2")
    out = np.empty(len(labels))

    def fill(rows: np.ndarray, closer: int = 0) -> None:
        sums = distance_sums(data, rows, root, closer)
        own = data.codes[rows]
        every = np.arange(len(rows))
        inside = sums[every, own] / np.maximum(data.counts[own] - 1, 1)
        sums /= data.counts
        sums[every, own] = np.inf
        outside = sums.min(axis=1)
        larger = np.maximum(inside, outside)
        out[rows] = (outside - inside) / np.where(larger == 0, 1.0, larger)
        out[rows[data.counts[own] == 1]] = 0.0
        for some in data.close(rows, larger, root, closer):
            fill(some, closer + CLOSER)

    with data.backend.session():
        data.backend.map(fill, data.clusters())
    return out


def _norms(vectors: np.ndarray) -> np.ndarray:
    size = np.abs(vectors).max(axis=-1, keepdims=True)
    size[size == 0] = 1.0
    return np.sqrt(np.square(vectors / size).sum(axis=-1)) * size[..., 0]  # no underflow
