"""Checks of arguments, before any work: each error names the argument, what was wrong and what
would be right.
"""

from __future__ import annotations

import math
import numbers
import os
import sys
import warnings
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, is_dask_array

from kmeans_xp.backends import require_cuda
from kmeans_xp.backends.abilities import has_float64
from kmeans_xp.backends.chunked import check_chunks, chunks_of_rows, with_known_sizes
from kmeans_xp.backends.convert import (
    cupy_sparse_on_host,
    home,
    is_cupy_sparse,
    is_sparse,
    namespace_name,
    to_numpy,
)
from kmeans_xp.exact.bounds import EXACT_INTEGER
from kmeans_xp.exact.metric import METRICS, Metric
from kmeans_xp.streams import is_stream

__all__ = [
    "ArgumentError",
    "as_array",
    "check_algorithm",
    "check_centroids",
    "check_count",
    "check_device",
    "check_init_name",
    "check_init_size",
    "check_metric",
    "check_n_clusters",
    "check_n_init",
    "check_oversampling_factor",
    "check_random_state",
    "check_tol",
    "check_weights",
    "outside",
    "weights_on_host",
    "with_rows_counted",
]

ALGORITHMS = ("auto", "lloyd", "hamerly", "elkan")
INITS = ("k-means++", "k-means||", "random")
_ALIASES = {"scalable-k-means++": "k-means||"}
#: all of them
INIT_NAMES = (*INITS, *_ALIASES)


class ArgumentError(TypeError, ValueError):
    """An argument of a kind that is not taken: both errors, as scikit-learn's for parameters."""


def outside() -> int:
    """Return the `stacklevel` that makes `warnings.warn` point outside this package."""
    package = os.path.dirname(__file__)
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(package):
        level, frame = level + 1, frame.f_back
    return level


def as_array(
    x: Any,
    name: str = "X",
    n_dims: int = 2,
    *,
    sparse: bool = False,
    streams: bool = False,
    chunked: bool = False,
) -> Any:
    """Return X as a real array of its own namespace (lists and data frames become NumPy).

    It has two dimensions, or three for a batch. bfloat16 becomes float32, which holds it exactly.
    With `sparse` SciPy's and CuPy's sparse matrices are let through, as SciPy's CSR (results of
    CuPy's will be CuPy's); with `streams` a `Stream`; with `chunked` a Dask array, chunked along
    its rows alone.

    Raises
    ------
    TypeError
        For a dtype that is not real, or something that is not let through.
    ValueError
        For a wrong number of dimensions, or no rows or features.
    """
    if isinstance(x, np.ma.MaskedArray) and np.ma.is_masked(x):
        raise ArgumentError(
            f"{name} is a masked array; fill or drop what is masked, as {name}.filled(0)"
        )
    if is_stream(x):
        if not streams:
            raise ArgumentError(
                f"{name} is a stream, and this takes arrays alone; kmeans, KMeans and "
                "MiniBatchKMeans.fit take streams"
            )
        return x
    if is_sparse(x) or is_cupy_sparse(x):
        if not sparse:
            raise ArgumentError(
                f"{name} is a sparse matrix, and this takes dense arrays alone; pass "
                f"{name}.toarray()"
            )
        return _from_sparse(x, name)
    if not is_array_api_obj(x) or isinstance(x, np.generic):
        x = _from_python(x, name)
    if is_dask_array(x):
        if not chunked or n_dims != 2:
            raise ArgumentError(
                f"{name} is a Dask array, and this takes arrays in memory alone; kmeans, KMeans "
                f"and predict take Dask arrays of two dimensions. Pass {name}.compute()"
            )
        _check_shape(x, name, n_dims)
        check_chunks(x, name)
        wanted = _check_dtype(np.empty(0, dtype=x.dtype), name).dtype
        x = x if x.dtype == wanted else x.astype(wanted)
        return chunks_of_rows(x, name, outside())
    if isinstance(x, np.ndarray) and type(x) is not np.ndarray:
        x = x.view(np.ndarray)
    _check_shape(x, name, n_dims)
    return _check_dtype(x, name)


def _from_python(x: Any, name: str) -> np.ndarray:
    """Make an array of lists, data frames and other array-likes."""
    if x is None or isinstance(x, str | bytes | dict | set):
        raise ArgumentError(
            f"{name} must be an array of rows and features, got {type(x).__name__}: {x!r:.60}"
        )
    try:
        return np.asarray(x)
    except ValueError as error:
        problems = any(getattr(rows, "ndim", 1) == 2 for rows in x)
        hint = "; problems of different lengths go one after the other, with offsets"
        raise ValueError(
            f"{name} must have rows of equal length{hint if problems else ''}: {error}"
        ) from None


def _from_sparse(x: Any, name: str) -> Any:
    """Return a SciPy matrix or array in CSR format."""
    _check_shape(x, name, 2)
    if x.dtype.kind not in "biu" and x.dtype not in (np.float32, np.float64):
        raise ArgumentError(
            f"{name} must hold real numbers (bool, integers, float32 or float64), got dtype "
            f"{x.dtype}; convert it, for example with {name}.astype(float)"
        )
    return cupy_sparse_on_host(x) if is_cupy_sparse(x) else x.tocsr()


def _check_shape(x: Any, name: str, n_dims: int) -> None:
    shape = tuple(x.shape)
    if n_dims == 3:
        if len(shape) != 3 or 0 in shape:
            raise ValueError(
                f"{name} must be three-dimensional (problems, rows, features) and not empty, got "
                f"shape {shape}"
            )
        return
    if len(shape) == 1:
        raise ArgumentError(
            f"{name} must be two-dimensional (rows, features), got one dimension, shape "
            f"{shape}. Reshape it: "
            f"{name}.reshape(-1, 1) if it is one feature, {name}.reshape(1, -1) if it is one row"
        )
    if len(shape) != 2:
        hint = "; kmeans and predict take batches of problems" if len(shape) == 3 else ""
        raise ArgumentError(
            f"{name} must be two-dimensional (rows, features), got shape {shape}{hint}"
        )
    if 0 in shape:
        raise ValueError(f"{name} must have at least one row and one feature, got shape {shape}")


def _check_dtype(x: Any, name: str) -> Any:
    if isinstance(x, np.ndarray):
        x = _from_objects(x, name)
        native = x.dtype.newbyteorder("=")
        if x.dtype.kind in "biu" or native in (np.float16, np.float32, np.float64):
            return x
        if x.dtype.name == "bfloat16":
            return x.astype(np.float32)
        raise ArgumentError(
            f"{name} must hold real numbers (bool, integers, float16, bfloat16, float32 or "
            "float64), got dtype "
            f"{x.dtype}; convert it, for example with {name}.astype(float)"
        )
    xp = array_namespace(x)
    kind = str(x.dtype).split(".")[-1]
    if kind == "bfloat16":
        return xp.astype(x, xp.float32)
    if kind in ("float16", "float32", "float64"):
        return x
    if kind.startswith(("int", "uint", "bool")):
        if has_float64(xp, x):
            return x
        raise ArgumentError(
            f"{name} holds integers (dtype {x.dtype}), which need float64, and "
            f"{namespace_name(x)} has it "
            "switched off; enable it (JAX: jax.config.update('jax_enable_x64', True)) or "
            f"convert {name} to float32"
        )
    raise ArgumentError(
        f"{name} must hold real numbers (bool, integers, float16, bfloat16, float32 or "
        f"float64), got dtype {x.dtype}"
    )


def _from_objects(x: np.ndarray, name: str) -> np.ndarray:
    """Make an array of numbers of one of objects, such as mixed columns of a data frame."""
    if x.dtype.kind != "O" or not x.size:
        return x
    for place, value in np.ndenumerate(x):
        where = ", ".join(map(str, place))
        if not isinstance(value, numbers.Real):
            raise ArgumentError(
                f"{name} must hold real numbers, got dtype object; {name}[{where}] is "
                f"{value!r:.40} (the first that is no number). Drop, impute or encode such columns "
                "first"
            )
        if isinstance(value, numbers.Integral) and abs(int(value)) > EXACT_INTEGER:
            raise ValueError(
                f"{name} holds integers beyond 2**53, which float64 cannot hold exactly; "
                f"{name}[{where}] is {value} (the first such value)"
            )
    return x.astype(np.float64)


def check_count(value: Any, name: str, lowest: int = 1) -> int:
    """Return an integer argument."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise ArgumentError(f"{name} must be an integer >= {lowest}, got {value!r}")
    if value < lowest:
        raise ValueError(f"{name} must be >= {lowest}, got {value}")
    return int(value)


def check_n_clusters(value: Any, n_rows: float) -> int:
    """Return n_clusters, between 1 and the number of rows (NaN where that is unknown)."""
    n_clusters = check_count(value, "n_clusters")
    if n_clusters > n_rows:
        raise ValueError(
            f"n_clusters must be at most the number of rows of X, got n_clusters={n_clusters} for "
            f"n_samples={n_rows} rows; ask for fewer clusters or give more data"
        )
    return n_clusters


def with_rows_counted(x: Any, n_clusters: int) -> Any:
    """Return X with a known number of rows, at least n_clusters.

    That of a Dask array may be unknown; its chunks are then computed, and kept by the result.
    """
    counted = with_known_sizes(x) if is_dask_array(x) else x
    if counted is not x:
        check_n_clusters(n_clusters, int(counted.shape[0]))
    return counted


def check_random_state(value: Any) -> None:
    """Refuse what cannot seed, without drawing from it.

    Raises
    ------
    ValueError
        For a negative int.
    TypeError
        For anything but None, an int, a SeedSequence, a RandomState or a Generator.
    """
    known = np.random.SeedSequence | np.random.RandomState | np.random.Generator
    if value is None or value is np.random or isinstance(value, known):
        return
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise ArgumentError(
            "random_state must be None, an int, a numpy SeedSequence, RandomState or Generator, "
            f"got {type(value).__name__}"
        )
    if int(value) < 0:
        raise ValueError(f"random_state must be non-negative, got {value}")


def check_tol(value: Any, name: str = "tol") -> float:
    """Return a finite number that is not negative."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise ArgumentError(f"{name} must be a number >= 0, got {value!r}")
    tol = float(value)
    if not 0 <= tol < math.inf:
        raise ValueError(f"{name} must be finite and >= 0, got {value}")
    return tol


def check_n_init(value: Any, init: Any, auto: int = 10) -> int:
    """Return how many starts to make; "auto" stands for `auto` where chance alone chooses.

    Warns if there could be several from the same array.
    """
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f"n_init must be 'auto' or an integer >= 1, got {value!r}")
        return auto if callable(init) or (isinstance(init, str) and init == "random") else 1
    n_starts = check_count(value, "n_init")
    if n_starts > 1 and not isinstance(init, str) and not callable(init):
        warnings.warn(
            "init is an array, so every start would be the same: making one instead of "
            f"n_init={n_starts}",
            RuntimeWarning,
            stacklevel=outside(),
        )
        return 1
    return n_starts


def check_init_name(init: Any) -> Any:
    """Return a start by its own name; refuse an unknown name."""
    if not isinstance(init, str):
        return init
    name = _ALIASES.get(init, init)
    if name not in INITS:
        names = ", ".join(map(repr, INITS))
        raise ValueError(f"init must be {names}, an array or a callable, got {init!r}")
    return name


def check_oversampling_factor(value: Any) -> float:
    """Return the draws a round and cluster of k-means||: finite and positive."""
    factor = check_tol(value, "oversampling_factor")
    if factor == 0:
        raise ValueError(f"oversampling_factor must be above 0, got {value!r}")
    return factor


def check_init_size(value: Any, n_clusters: int) -> int | str:
    """Return init_size: "auto" or a number of rows, at least n_clusters."""
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f"init_size must be 'auto' or an integer >= n_clusters, got {value!r}")
        return value
    size = check_count(value, "init_size")
    if size < n_clusters:
        raise ValueError(f"init_size must be at least n_clusters={n_clusters}, got {size}")
    return size


def check_algorithm(value: Any) -> str:
    """Return the algorithm's name; all of them give the same bits."""
    if not isinstance(value, str) or value not in ALGORITHMS:
        raise ValueError(
            f"algorithm must be one of {', '.join(map(repr, ALGORITHMS))}, got {value!r}"
        )
    return str(value)


def check_metric(value: Any) -> Metric:
    """Return the metric of this name."""
    if not isinstance(value, str) or value not in METRICS:
        names = ", ".join(map(repr, METRICS))
        raise ValueError(f"metric must be one of {names}, got {value!r}")
    return METRICS[value]


def check_device(value: Any) -> str | None:
    """Return the device to compute on: None (that of X) or "cuda"."""
    if value is not None and not (isinstance(value, str) and value == "cuda"):
        raise ValueError(f"device must be None or 'cuda', got {value!r}")
    if value == "cuda":
        require_cuda()
    return None if value is None else str(value)


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
    if hasattr(value, "centroids"):
        raise ArgumentError(f"{name} must be an array, got a result; pass its .centroids")
    if is_sparse(value) or is_cupy_sparse(value):
        value = value.toarray()
    given = to_numpy(value) if is_array_api_obj(value) else _from_python(value, name)
    given = _from_objects(given, name)
    if given.dtype.kind not in "biuf" and given.dtype.name != "bfloat16":
        hint = (
            f"; the names known are {', '.join(map(repr, INITS))}"
            if given.dtype.kind in "US"
            else ""
        )
        raise ArgumentError(f"{name} must hold real numbers, got dtype {given.dtype}{hint}")
    n_clusters, n_features = shape
    if given.ndim != 2 or given.shape[1] != n_features or n_clusters not in (None, given.shape[0]):
        rows = "n_clusters" if n_clusters is None else n_clusters
        raise ValueError(
            f"{name} must have shape (n_clusters, n_features) = ({rows}, {n_features}), got "
            f"{given.shape}"
        )
    if not len(given):
        raise ValueError(f"{name} must hold at least one centroid, got shape {given.shape}")
    with np.errstate(over="ignore"):
        rounded = given.astype(dtype)
    bad = np.argwhere(~np.isfinite(rounded))
    if len(bad):
        row, column = (int(i) for i in bad[0])
        raise ValueError(
            f"{name} must be finite as {dtype}; {name}[{row}, {column}] is {given[row, column]} "
            "(the first such value)"
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
    w = _from_objects(weights_on_host(value, x), name)
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
