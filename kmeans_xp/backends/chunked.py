"""Dask arrays as they come: chunks along the rows alone, and how many rows each has."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from array_api_compat import is_cupy_array

__all__ = ["check_chunks", "chunks_of_rows", "refuse_device", "with_known_sizes"]


def check_chunks(x: Any, name: str) -> None:
    """Refuse a Dask array of anything but NumPy or CuPy arrays.

    Raises
    ------
    TypeError
    """
    if not isinstance(x._meta, np.ndarray) and not is_cupy_array(x._meta):
        raise TypeError(
            f"{name} must have chunks of NumPy or CuPy arrays, got {type(x._meta).__name__}; "
            f"convert them, for example with {name}.map_blocks(...)"
        )


def chunks_of_rows(x: Any, name: str, stacklevel: int) -> Any:
    """Dask array whose chunks hold whole rows; warns where they must be put together."""
    if x.numblocks[1] == 1:
        return x
    from dask.array import PerformanceWarning

    warnings.warn(
        f"{name} has {x.numblocks[1]} chunks along its features, and rows are needed whole: "
        f"rechunking; {name}.rechunk({{1: -1}}) before a persist() does it once",
        PerformanceWarning,
        stacklevel=stacklevel,
    )
    return x.rechunk({1: -1})


def with_known_sizes(x: Any) -> Any:
    """Dask array whose chunks have known numbers of rows; computes and keeps them otherwise."""
    if not any(math.isnan(size) for size in x.shape):
        return x
    kept = x.persist()  # a new array: that of the caller stays as it is
    kept.compute_chunk_sizes()
    return kept


def refuse_device(device: str | None) -> None:
    """Say how a Dask array is computed on a device."""
    if device is not None:
        raise ValueError(
            f"device={device!r} takes arrays in memory, and X is a Dask array; make its chunks "
            "CuPy arrays instead: X.map_blocks(cupy.asarray)"
        )
