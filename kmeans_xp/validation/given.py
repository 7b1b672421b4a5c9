"""Centroids and weights that are given: arrays that go with the data."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import device, is_array_api_obj, is_dask_array

from kmeans_xp.backends.convert import home, is_cupy_sparse, is_sparse, namespace_name, to_numpy
from kmeans_xp.validation.arrays import from_objects, from_python
from kmeans_xp.validation.errors import ArgumentError
from kmeans_xp.validation.parameters import INITS

__all__ = ["check_centroids", "check_weights", "numbers_of", "rounded_centroids", "weights_on_host"]


def check_centroids(
    value: Any, shape: tuple[int | None, int], dtype: np.dtype[Any], name: str = "init"
) -> np.ndarray:
    """Return given centroids on the host, rounded to the dtype of the result.

    Raises
    ------
    TypeError
        If they are not real numbers.
    ValueError
        For a wrong shape, NaN or infinity (also where rounding overflows).
    """
    given = numbers_of(value, name)
    n_clusters, n_features = shape
    if given.ndim != 2 or given.shape[1] != n_features or n_clusters not in (None, given.shape[0]):
        rows = "n_clusters" if n_clusters is None else n_clusters
        raise ValueError(
            f"{name} must have shape (n_clusters, n_features) = ({rows}, {n_features}), got "
            f"{given.shape}"
        )
    if not len(given):
        raise ValueError(f"{name} must hold at least one centroid, got shape {given.shape}")
    return rounded_centroids(given, dtype, name)


def numbers_of(value: Any, name: str) -> np.ndarray:
    """Return given centroids on the host, their shape and values still unchecked.

    Raises
    ------
    ArgumentError
        If they are not real numbers.
    """
    if hasattr(value, "centroids"):
        raise ArgumentError(f"{name} must be an array, got a result; pass its .centroids")
    if hasattr(value, "predict"):
        raise ArgumentError(
            f"{name} must be an array, got {type(value).__name__}; pass its .cluster_centers_"
        )
    if is_sparse(value) or is_cupy_sparse(value):
        value = value.toarray()
    given = to_numpy(value) if is_array_api_obj(value) else from_python(value, name)
    given = from_objects(given, name)
    if given.dtype.kind not in "biuf" and given.dtype.name != "bfloat16":
        known = f"; the names known are {', '.join(map(repr, INITS))}"
        hint = known if given.dtype.kind in "US" else ""
        raise ArgumentError(f"{name} must hold real numbers, got dtype {given.dtype}{hint}")
    return given


def rounded_centroids(
    given: np.ndarray, dtype: np.dtype[Any], name: str, used: np.ndarray | None = None
) -> np.ndarray:
    """Round to the dtype of the result, every zero +0; what is not `used` becomes 0.

    Raises
    ------
    ValueError
        For NaN or infinity, also where rounding overflows.
    """
    with np.errstate(over="ignore"):
        rounded = given.astype(dtype)
    if used is not None:
        rounded = np.where(used, rounded, dtype.type(0))
    bad = np.argwhere(~np.isfinite(rounded))
    if len(bad):
        place = ", ".join(str(int(i)) for i in bad[0])
        raise ValueError(
            f"{name} must be finite as {dtype}; {name}[{place}] is {given[tuple(bad[0])]} (the "
            "first such value)"
        )
    return rounded + dtype.type(0)


def check_weights(value: Any, x: Any) -> np.ndarray | None:
    """Return sample weights on the host, float32 or float64 as given, all else as float64.

    Raises
    ------
    TypeError
        If they are not real numbers, or in another namespace or on another device than X.
    ValueError
        For a wrong shape, or weights that are negative, not finite or all zero.
    """
    if value is None:
        return None
    name = "sample_weight"
    w = from_objects(weights_on_host(value, x), name)
    if w.dtype.kind not in "biuf" and w.dtype.name != "bfloat16":
        raise ArgumentError(f"{name} must hold real numbers, got dtype {w.dtype}")
    if w.shape != (x.shape[0],):
        raise ValueError(
            f"{name} must have shape ({x.shape[0]},), one weight a row of X, got {w.shape}"
        )
    native = w.dtype.newbyteorder("=")
    w = w.astype(native if native in (np.float32, np.float64) else np.float64)
    for bad, what in ((~np.isfinite(w), "finite"), (w < 0, "non-negative")):
        if bad.any():
            i = int(np.argmax(bad))
            raise ValueError(f"{name} must be {what}; {name}[{i}] is {w[i]} (the first such value)")
    if not w.any():
        raise ValueError(f"{name} must have a positive weight; all {len(w)} are zero")
    return w + w.dtype.type(0)


def weights_on_host(value: Any, x: Any) -> np.ndarray:
    """Return sample weights, still unchecked, as NumPy.

    Raises
    ------
    TypeError
        If they are in another namespace or on another device than X.
    """
    name = "sample_weight"
    if not is_array_api_obj(value) or isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    if is_dask_array(value) and is_dask_array(x):
        return to_numpy(value)
    here, there = namespace_name(value), namespace_name(x)
    if here != there:
        raise ArgumentError(
            f"{name} is in the namespace {here} but X is in {there}; pass NumPy or a {there} array"
        )
    if device(value) != device(home(x)):
        raise ArgumentError(
            f"{name} is on device {device(value)} but X is on {device(home(x))}; move one of them"
        )
    return to_numpy(value)
