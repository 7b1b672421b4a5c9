"""What a sound model consists of, and the states of estimators as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kmeans_xp.exact.blend import Totals
from kmeans_xp.minibatch import MiniBatchState
from kmeans_xp.seeding import Words

__all__ = [
    "ModelError",
    "check_batch",
    "check_estimator",
    "check_quantizer",
    "check_result",
    "state_data",
    "state_of",
]


class ModelError(ValueError):
    """A file is no model file, or a damaged one."""


def check_result(found: Mapping[str, Any], expected: set[str]) -> None:
    """Refuse parts that make no `KMeansResult`."""
    _check_names(found, expected)
    _check_arrays(found["centroids"], found["labels"])
    _check_numbers(found["inertia"], found["n_iter"], found["converged"])


def check_batch(found: Mapping[str, Any], expected: set[str]) -> None:
    """Refuse parts that make no `BatchResult`."""
    _check_names(found, expected)
    _check_floats(found["centroids"], 3)
    count, n_clusters = found["centroids"].shape[:2]
    kinds = {"inertia": "f8", "n_iter": "i8", "converged": "?"}
    for name, kind in {**kinds, "n_clusters_used": "i8", "lengths": "i8"}.items():
        value = found[name]
        if not isinstance(value, np.ndarray) or value.dtype != kind or value.shape != (count,):
            raise ModelError(f"{name} is no array of {kind}, one a problem")
    used, lengths, first = found["n_clusters_used"], found["lengths"], found["first"]
    if not np.isfinite(found["inertia"]).all() or found["n_iter"].min() < 0:
        raise ModelError("an inertia is not finite, or an n_iter negative")
    if used.min() < 1 or used.max() > n_clusters or lengths.min() < 1:
        raise ModelError("a problem has no rows, or a wrong number of clusters")
    flat = first is not None
    if flat and not np.array_equal(first, np.cumsum(lengths) - lengths):
        raise ModelError("the problems do not lie one after the other")
    if found["labels"] is not None:
        _check_batch_labels(found["labels"], used, lengths, flat)


def _check_batch_labels(labels: Any, used: np.ndarray, lengths: np.ndarray, flat: bool) -> None:
    if not isinstance(labels, np.ndarray) or labels.dtype != np.int32:
        raise ModelError("the labels are no array of int32")
    if flat:
        if labels.shape != (int(lengths.sum()),):
            raise ModelError(f"labels of shape {labels.shape} for {lengths.sum()} rows")
        below, padding = np.repeat(used, lengths), np.zeros(labels.shape, dtype=bool)
    else:
        if labels.ndim != 2 or len(labels) != len(used) or labels.shape[1] < lengths.max():
            raise ModelError(f"labels of shape {labels.shape} for {len(used)} problems")
        below = used[:, None]
        padding = np.arange(labels.shape[1]) >= lengths[:, None]
    if not np.where(padding, labels == -1, (labels >= 0) & (labels < below)).all():
        raise ModelError("a label has no centroid")


def check_quantizer(found: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """Refuse parts that make no fitted `ProductQuantizer`."""
    _check_names(found, {"codebooks_", "n_features_in_", "reconstruction_error_"})
    codebooks, error = found["codebooks_"], found["reconstruction_error_"]
    _check_floats(codebooks, 3)
    numbers = parameters.get("n_subvectors"), parameters.get("n_clusters")
    if numbers != codebooks.shape[:2] or any(type(n) is not int for n in numbers):
        raise ModelError(f"codebooks of shape {codebooks.shape} for other parameters")
    n_features = found["n_features_in_"]
    if type(n_features) is not int or n_features != codebooks.shape[0] * codebooks.shape[2]:
        raise ModelError("the number of features is not that of the codebooks")
    if type(error) is not float or not 0 <= error < math.inf:
        raise ModelError(f"the reconstruction error is {error!r}")


def check_estimator(found: Mapping[str, Any], arrays: tuple[str, ...]) -> None:
    """Refuse attributes that make no fitted estimator; `arrays` must be arrays where they are."""
    for name in arrays:
        if name in found and not isinstance(found[name], np.ndarray):
            raise ModelError(f"{name} is no array")
    centroids = found["cluster_centers_"]
    _check_arrays(centroids, found.get("labels_"))
    if found.get("n_features_in_") != centroids.shape[1]:
        raise ModelError("the number of features is not that of the centroids")
    if "_split_children" in arrays:
        _check_tree(found["_split_centers"], found["_split_children"], centroids)


def _check_tree(centers: np.ndarray, children: np.ndarray, centroids: np.ndarray) -> None:
    """Refuse what is no binary tree with a leaf for each centroid: descending it would not end."""
    n_splits = len(centroids) - 1
    if centers.shape != (n_splits, 2, centroids.shape[1]) or children.shape != (n_splits, 2):
        raise ModelError(f"a tree of shape {children.shape} for {len(centroids)} clusters")
    if centers.dtype != centroids.dtype or not np.isfinite(centers).all():
        raise ModelError("the centroids of the tree are not finite or of another type")
    below = [*range(-len(centroids), 0), *range(1, n_splits)]
    downwards = (children < 0) | (children > np.arange(n_splits)[:, None])
    if n_splits and (sorted(children.ravel().tolist()) != below or not downwards.all()):
        raise ModelError("the splits are no tree")


def state_data(state: MiniBatchState) -> dict[str, Any]:
    """Return what a further batch needs as arrays and numbers."""
    return {
        "centroids": state.centroids,
        "counted": state.totals.units.dtype != object,
        "units": state.totals.units.tolist(),
        "exponent": state.totals.exponent,
        "waiting": state.waiting,
        "words": state.words.state,
    }


def state_of(data: Mapping[str, Any], centroids: np.ndarray) -> MiniBatchState:
    """Return the state that `state_data` described."""
    own, units = data["centroids"], data["units"]
    _check_arrays(own, None)
    if (own.shape, own.dtype) != (centroids.shape, centroids.dtype):
        raise ModelError("the state of the stream has other centroids")
    numbers = [*units, data["exponent"], data["waiting"]]
    if len(units) != len(own) or any(type(n) is not int for n in numbers) or min(units) < 0:
        raise ModelError("the weights of the stream are no numbers")
    words = Words(0)
    words.state = data["words"]
    kept = np.array(units, dtype=np.int64 if data["counted"] else object)
    return MiniBatchState(own, Totals(kept, data["exponent"]), data["waiting"], words)


def _check_names(found: Mapping[str, Any], expected: set[str]) -> None:
    if set(found) != expected:
        raise ModelError(f"holds {', '.join(sorted(found))} in place of {', '.join(expected)}")


def _check_floats(centroids: Any, n_dims: int) -> None:
    if not isinstance(centroids, np.ndarray) or centroids.dtype not in (np.float32, np.float64):
        raise ModelError("the centroids are no array of float32 or float64")
    if centroids.ndim != n_dims or 0 in centroids.shape or not np.isfinite(centroids).all():
        raise ModelError(f"the centroids are not finite or of a wrong shape, {centroids.shape}")


def _check_arrays(centroids: Any, labels: Any) -> None:
    _check_floats(centroids, 2)
    if labels is None:
        return
    if not isinstance(labels, np.ndarray) or labels.dtype != np.int32 or labels.ndim != 1:
        raise ModelError("the labels are no list of int32")
    if labels.size and not 0 <= labels.min() <= labels.max() < len(centroids):
        raise ModelError("a label has no centroid")


def _check_numbers(inertia: Any, n_iter: Any, converged: Any) -> None:
    if type(inertia) is not float or not math.isfinite(inertia):  # cosines: a rounding below 0
        raise ModelError(f"the inertia is {inertia!r}")
    if type(n_iter) is not int or n_iter < 0 or type(converged) is not bool:
        raise ModelError(f"n_iter is {n_iter!r}, converged {converged!r}")
