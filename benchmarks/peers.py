"""What the CPU benchmark compares: fits of several libraries from the same centroids, data for
them, and checks of what they return.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from kmeans_xp import kmeans

__all__ = [
    "AGREE",
    "BASE",
    "Fit",
    "Fitted",
    "bell_clusters",
    "checks",
    "default_fits",
    "fits",
    "ours",
    "uniform",
]

BASE = "scikit-learn lloyd"
AGREE = 1e-5
# Centroids this close, relative to the spread of the data, have gone the same way.
SAME_PATH = 1e-4
SAME_LABELS = 0.999


@dataclass(frozen=True)
class Fitted:
    """Outcome of a fit; inertia is None where a library reports another one than this."""

    centroids: np.ndarray
    labels: np.ndarray
    inertia: float | None
    n_iter: int


# data, centroids, iterations -> outcome
Fit = Callable[[np.ndarray, np.ndarray, int], Fitted]


def ours(numba: str, algorithm: str) -> Fit:
    """Fits with `kmeans`, its numba kernels on ("1") or off ("0")."""

    def fit(X: np.ndarray, init: np.ndarray, max_iter: int) -> Fitted:
        os.environ["KMEANS_XP_NUMBA"] = numba
        result = kmeans(
            X, len(init), init=init, n_init=1, max_iter=max_iter, tol=0, algorithm=algorithm
        )
        return Fitted(result.centroids, result.labels, float(result.inertia), result.n_iter)

    return fit


def sklearn(algorithm: str) -> Fit:
    """Fits with scikit-learn's KMeans."""

    def fit(X: np.ndarray, init: np.ndarray, max_iter: int) -> Fitted:
        from sklearn.cluster import KMeans

        estimator = KMeans(
            len(init), init=init, n_init=1, max_iter=max_iter, tol=0, algorithm=algorithm
        )
        return _fitted(estimator, X)

    return fit


def _fitted(estimator: Any, X: np.ndarray) -> Fitted:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the limit of iterations is meant
        estimator.fit(X)
    return Fitted(
        estimator.cluster_centers_,
        estimator.labels_,
        float(estimator.inertia_),
        int(estimator.n_iter_),
    )


def faiss(X: np.ndarray, init: np.ndarray, max_iter: int) -> Fitted:
    """Fit with faiss: float32 only, always all iterations, no labels."""
    import faiss as library

    n, d = X.shape
    clustering = library.Kmeans(
        d, len(init), niter=max_iter, max_points_per_centroid=n, min_points_per_centroid=1
    )
    clustering.train(X, init_centroids=init)
    # it keeps no labels, and its objective is that of the centroids before the last update
    centroids = np.asarray(clustering.centroids)
    return Fitted(centroids, np.empty(0, dtype=np.int64), None, max_iter)


def fits(dtype: str, algorithm: str) -> dict[str, Fit]:
    """Those that can be run here, by name."""
    found: dict[str, Fit] = {}
    if find_spec("numba") is not None:
        found["kmeans_xp numba"] = ours("1", algorithm)
    found["kmeans_xp NumPy"] = ours("0", algorithm)
    found[BASE] = sklearn("lloyd")
    if algorithm != "lloyd":
        found["scikit-learn elkan"] = sklearn("elkan")
    if find_spec("faiss") is not None and dtype == "float32":
        found["faiss"] = faiss
    return found


def default_fits() -> dict[str, Callable[[np.ndarray, int], Fitted]]:
    """Fits with nothing but K and a seed given: seeding and stop rule included."""

    def mine(numba: str) -> Callable[[np.ndarray, int], Fitted]:
        def fit(X: np.ndarray, k: int) -> Fitted:
            os.environ["KMEANS_XP_NUMBA"] = numba
            result = kmeans(X, k, random_state=0)
            return Fitted(result.centroids, result.labels, float(result.inertia), result.n_iter)

        return fit

    def theirs(X: np.ndarray, k: int) -> Fitted:
        from sklearn.cluster import KMeans

        return _fitted(KMeans(k, random_state=0), X)

    found = {"kmeans_xp NumPy": mine("0"), BASE: theirs}
    return {"kmeans_xp numba": mine("1"), **found} if find_spec("numba") else found


# Data


def uniform(n: int, d: int, dtype: str, seed: int = 0) -> np.ndarray:
    """Uniform points: no fit of a few iterations ends early on them."""
    words = np.random.PCG64([n, d, seed]).random_raw(n * d).reshape(n, d)
    return ((words >> np.uint64(40)) * 2.0**-24).astype(dtype)


def bell_clusters(n: int, d: int, k: int, seed: int = 0) -> np.ndarray:
    """Sums of four uniform numbers around k centres, in random order."""
    noise = sum(uniform(n, d, "float32", 4 * seed + i) for i in range(4)) - 2
    which = (uniform(n, 1, "float64", seed)[:, 0] * k).astype(np.int64)
    return (8 * uniform(k, d, "float32", seed)[which] + noise).astype(np.float32)


# Checks


def measured(X: np.ndarray, fitted: Fitted) -> tuple[float, float]:
    """Float64 inertia of the centroids with the nearest and with the given labels."""
    middle = X.mean(axis=0, dtype=np.float64)
    centroids = fitted.centroids.astype(np.float64) - middle
    squares = np.einsum("ij,ij->i", centroids, centroids)
    step = max(1, (1 << 22) // max(len(centroids), X.shape[1]))
    nearest = labelled = 0.0
    for lo in range(0, len(X), step):
        x = X[lo : lo + step].astype(np.float64) - middle
        scores = x @ (-2 * centroids.T) + squares
        best = scores.min(axis=1)
        size = float(np.einsum("ij,ij->", x, x))
        nearest += size + float(best.sum())
        if len(fitted.labels):
            mine = fitted.labels[lo : lo + step].astype(np.int64)
            labelled += size + float(np.take_along_axis(scores, mine[:, None], axis=1).sum())
    return nearest, labelled if len(fitted.labels) else nearest


def checks(X: np.ndarray, done: dict[str, Fitted]) -> dict[str, dict[str, Any]]:
    """What must hold of every outcome (true or false), and how it compares with scikit-learn's.

    Each is measured in float64 by its own centroids: the reported inertia and the labels must be
    right for them. Where the centroids are those of scikit-learn but for rounding, the inertia must
    agree too; where rounding or the handling of empty clusters has parted the ways, only how far
    the inertias differ is told.
    """
    inertias = {name: measured(X, fitted) for name, fitted in done.items()}
    base, reference = done[BASE], inertias[BASE][0]
    spread = float(np.sqrt(X.var(axis=0, dtype=np.float64).mean()))
    found = {}
    for name, fitted in done.items():
        nearest, labelled = inertias[name]
        told = nearest if fitted.inertia is None else fitted.inertia
        entry: dict[str, Any] = {
            "inertia": nearest,
            "n_iter": fitted.n_iter,
            "inertia_is_right": _close(told, nearest),
            "labels_are_right": _close(labelled, nearest),
        }
        apart = float(np.abs(fitted.centroids.astype(np.float64) - base.centroids).max()) / spread
        if fitted.n_iter == base.n_iter and apart < SAME_PATH:
            entry["inertia_agrees"] = _close(nearest, reference)
            if len(fitted.labels):
                share = float((fitted.labels == base.labels).mean())
                entry["labels_agree"] = share > SAME_LABELS
        else:
            entry["parted_from_scikit_learn"] = nearest / reference - 1
        found[name] = entry
    return found


def _close(value: float, truth: float) -> bool:
    return abs(value - truth) <= AGREE * abs(truth)
