"""New arrays."""

from __future__ import annotations

import numpy as np

from ._array import asarray, empty, ndarray


def ascontiguousarray(a, dtype=None):
    return asarray(a, dtype, "C")


def asfortranarray(a, dtype=None):
    return asarray(a, dtype, "F")


def full(shape, fill_value, dtype=None, order="C"):
    out = empty(shape, np.asarray(fill_value).dtype if dtype is None else dtype, order)
    out.fill(fill_value)
    return out


def zeros(shape, dtype=float, order="C"):
    return full(shape, 0, dtype, order)


def ones(shape, dtype=float, order="C"):
    return full(shape, 1, dtype, order)


def full_like(a, fill_value, dtype=None):
    return full(a.shape, fill_value, a.dtype if dtype is None else dtype)


def empty_like(a, dtype=None):
    return empty(a.shape, a.dtype if dtype is None else dtype)


def zeros_like(a, dtype=None):
    return full_like(a, 0, dtype)


def ones_like(a, dtype=None):
    return full_like(a, 1, dtype)


def arange(start, stop=None, step=1, dtype=None):
    bounds = (0, start) if stop is None else (start, stop)
    return asarray(np.arange(*bounds, step, dtype=dtype))


def from_dlpack(array, *, device=None, copy=None):
    if not isinstance(array, ndarray):
        raise BufferError("this array is not in device memory")
    return array.view()
