"""Choosing the place: where a validated array is computed."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
from array_api_compat import is_cupy_array, is_dask_array, is_jax_array, is_torch_array

from kmeans_xp.backends import forced_generic
from kmeans_xp.backends.chunked import refuse_device
from kmeans_xp.backends.convert import is_sparse, namespace_name, zero_copy_numpy
from kmeans_xp.blocks.base import Blocks
from kmeans_xp.blocks.directions import directions
from kmeans_xp.blocks.memory import MemoryBlocks
from kmeans_xp.blocks.sparse import SparseBlocks
from kmeans_xp.blocks.streamed import StreamBlocks
from kmeans_xp.exact.metric import EUCLIDEAN, Metric
from kmeans_xp.streams import is_stream
from kmeans_xp.validation import outside

__all__ = ["as_cupy", "open_blocks"]


def open_blocks(
    x: Any,
    w: np.ndarray | None,
    dtype: np.dtype[Any],
    device: str | None = None,
    algorithm: str = "auto",
    metric: Metric = EUCLIDEAN,
) -> Blocks:
    """Put an array where it will be computed.

    torch and JAX arrays on the CPU are viewed as NumPy, those on a CUDA device as CuPy where CuPy
    is installed; every other namespace, and KMEANS_XP_BACKEND=generic, gets the generic backend.

    Parameters
    ----------
    x : array, shape (N, D)
        Validated data.
    w : ndarray, shape (N,), or None
        Validated weights on the host.
    dtype : numpy.dtype
        float32 or float64: the dtype of the centroids.
    device : str or None
        "cuda" or "cuda:N" computes host data, or the blocks of a stream, on the current CUDA device
        (see `devices.on_cuda_device`).
    algorithm : str
        Whether to keep bounds: "lloyd" never does, "auto" once they pay.
    metric : Metric
        A spherical one computes with a copy of the rows, made of length 1; on a CUDA device by
        CuPy's own functions.
    """
    blocks = _open(x, w, dtype, device, metric)
    blocks.algorithm = algorithm
    return blocks


def _open(
    x: Any, w: np.ndarray | None, dtype: np.dtype[Any], device: str | None, metric: Metric
) -> Blocks:
    if is_sparse(x) or is_stream(x):
        special = _open_sparse if is_sparse(x) else _open_stream
        return special(x, w, dtype, device, metric)
    if is_dask_array(x):
        return _open_dask(x, w, dtype, device, metric)

    def in_memory(there: Any) -> MemoryBlocks:
        rows = directions(there, dtype) if metric.spherical else there
        return MemoryBlocks(rows, w, dtype, x, metric)

    host = zero_copy_numpy(x)
    if device is not None:
        on_device = as_cupy(x if host is None else host)
        if on_device is None:
            raise ValueError(
                f"device={device!r} takes NumPy, CuPy, torch or JAX arrays, not {namespace_name(x)}"
            )
        if forced_generic():
            return in_memory(on_device)
    elif forced_generic():
        return in_memory(x)
    elif host is not None:
        return in_memory(host)
    else:
        on_device = as_cupy(x)
    if on_device is None:
        return in_memory(x)
    if metric.spherical:  # the kernels know the Euclidean metric alone
        return in_memory(on_device)
    from kmeans_xp.blocks.device import DeviceBlocks, DeviceUnsupported

    try:
        return DeviceBlocks(on_device, w, dtype, x)
    except DeviceUnsupported as reason:
        _warn_of_no_kernels(reason)
        return in_memory(on_device)


def _warn_of_no_kernels(reason: Exception) -> None:
    warnings.warn(
        f"the CUDA kernels cannot be used here, using CuPy's own functions: {reason}",
        RuntimeWarning,
        stacklevel=outside(),
    )


def _open_stream(
    x: Any, w: np.ndarray | None, dtype: np.dtype[Any], device: str | None, metric: Metric
) -> Blocks:
    if device is None:
        return StreamBlocks(x, w, dtype, metric)
    from kmeans_xp.blocks.device_streamed import DeviceStreamBlocks

    blocks = DeviceStreamBlocks(x, w, dtype, metric)
    if blocks.unsupported is not None:
        _warn_of_no_kernels(blocks.unsupported)
    return blocks


def _open_dask(
    x: Any, w: np.ndarray | None, dtype: np.dtype[Any], device: str | None, metric: Metric
) -> Blocks:
    from kmeans_xp.blocks.dask import DaskBlocks

    refuse_device(device)
    return DaskBlocks(x, w, dtype, metric)


def _open_sparse(
    x: Any, w: np.ndarray | None, dtype: np.dtype[Any], device: str | None, metric: Metric
) -> Blocks:
    if device is not None:
        raise ValueError(
            f"device={device!r} takes dense arrays, and X is sparse, which the host computes; "
            "leave device out"
        )
    return SparseBlocks(x, w, dtype, metric)


def as_cupy(x: Any) -> Any:
    """Return x as a CuPy array, without a copy if it is on a CUDA device, else None."""
    if is_cupy_array(x):
        return x
    if not isinstance(x, np.ndarray):
        if not (is_torch_array(x) or is_jax_array(x)) or not _on_cuda(x):
            return None
        if "cupy" not in sys.modules and not _importable("cupy"):
            return None
    import cupy as cp

    if isinstance(x, np.ndarray):
        return cp.asarray(x)
    return cp.from_dlpack(x.detach() if is_torch_array(x) else x)


def _on_cuda(x: Any) -> bool:
    if is_torch_array(x):
        return bool(x.device.type == "cuda")
    return all(d.platform in ("gpu", "cuda") for d in x.devices())


def _importable(name: str) -> bool:
    from importlib.util import find_spec

    return find_spec(name) is not None
