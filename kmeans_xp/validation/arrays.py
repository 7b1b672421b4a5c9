"""Data: any array, or what can be made one."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj, is_dask_array

from kmeans_xp.backends.abilities import has_float64
from kmeans_xp.backends.chunked import check_chunks, chunks_of_rows, with_known_sizes
from kmeans_xp.backends.convert import (
    cupy_sparse_on_host,
    is_cupy_sparse,
    is_sparse,
    namespace_name,
)
from kmeans_xp.exact.bounds import EXACT_INTEGER
from kmeans_xp.streams import is_stream
from kmeans_xp.validation.errors import ArgumentError, outside
from kmeans_xp.validation.parameters import check_n_clusters

__all__ = ["as_array", "from_objects", "from_python", "with_rows_counted"]


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
        x = from_python(x, name)
    if is_dask_array(x):
        if not chunked or n_dims != 2:
            raise ArgumentError(
                f"{name} is a Dask array, and this takes arrays in memory alone; kmeans, KMeans "
                f"and predict take Dask arrays of two dimensions. Pass {name}.compute()"
            )
        return _from_dask(x, name)
    if isinstance(x, np.ndarray) and type(x) is not np.ndarray:
        x = x.view(np.ndarray)
    _check_shape(x, name, n_dims)
    return _check_dtype(x, name)


def from_python(x: Any, name: str) -> np.ndarray:
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


def _from_dask(x: Any, name: str) -> Any:
    """Return a Dask array of a dtype that is taken, chunked along its rows alone."""
    _check_shape(x, name, 2)
    check_chunks(x, name)
    wanted = _check_dtype(np.empty(0, dtype=x.dtype), name).dtype
    x = x if x.dtype == wanted else x.astype(wanted)
    return chunks_of_rows(x, name, outside())


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
        x = from_objects(x, name)
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


def from_objects(x: np.ndarray, name: str) -> np.ndarray:
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


def with_rows_counted(x: Any, n_clusters: int) -> Any:
    """Return X with a known number of rows, at least n_clusters.

    That of a Dask array may be unknown; its chunks are then computed, and kept by the result.
    """
    counted = with_known_sizes(x) if is_dask_array(x) else x
    if counted is not x:
        check_n_clusters(n_clusters, int(counted.shape[0]))
    return counted
