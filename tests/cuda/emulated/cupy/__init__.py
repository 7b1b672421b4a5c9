"""A stand-in for CuPy whose device is the host: what kmeans_xp uses of it, and nothing more.

Arrays are a type of their own that NumPy cannot read by accident, fresh memory holds rubbish
between guards, and kernels run only when somebody waits for their stream. What CuPy has and this
has not raises; add it here when the package comes to use it. `tests/cuda/emulated/test_stand_in.py`
compares names and arguments with the real CuPy where that is installed.
"""

from __future__ import annotations

import numpy as _np

from . import cuda, fft, linalg
from ._array import array, asarray, asnumpy, empty, ndarray
from ._creation import (
    arange,
    ascontiguousarray,
    asfortranarray,
    empty_like,
    from_dlpack,
    full,
    full_like,
    ones,
    ones_like,
    zeros,
    zeros_like,
)
from ._functions import SIGNATURES as _SIGNATURES
from ._functions import forward as _forward

__version__ = "14.2.0"

_SHARED = """bool_ complex64 complex128 complexfloating dtype e finfo float16 float32 float64
floating iinfo inexact inf int8 int16 int32 int64 integer intp isdtype issubdtype nan newaxis number
pi result_type signedinteger uint8 uint16 uint32 uint64 unsignedinteger"""
globals().update({_name: getattr(_np, _name) for _name in _SHARED.split()})
globals().update({_name: _forward(_name) for _name in _SIGNATURES})


def get_default_memory_pool():
    return cuda.memory.pool


def __getattr__(name):
    raise AttributeError(f"the stand-in for CuPy has no {name!r}: see {__file__}")
