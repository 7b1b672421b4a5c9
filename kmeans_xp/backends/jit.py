"""How kernels are compiled: numba without the GIL, cached on disk; this module needs numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

__all__ = ["copied", "frozen", "inlined", "jit", "score_jit", "sum_jit"]


def jit(function: Callable[..., Any], **options: Any) -> Any:
    """Compile on the first call, releasing the GIL; cached where a directory can be written."""
    options = {"nogil": True, "error_model": "numpy", **options}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no place for a cache
        return numba.njit(**options)(function)


def score_jit(function: Callable[..., Any]) -> Any:
    """Compile with FMA and without the sign of zero; NaN and infinity keep their meaning."""
    return jit(function, fastmath={"contract", "nsz"})


def sum_jit(function: Callable[..., Any]) -> Any:
    """Compile with sums in any order and FMA: for results that carry a bound for any order."""
    return jit(function, fastmath={"contract", "nsz", "reassoc"})


def inlined(function: Callable[..., Any]) -> Any:
    """Compile as a part of its caller: for what has one caller, and would be compiled twice."""
    return numba.njit(inline="always", nogil=True, error_model="numpy")(function)


@jit
def copied(source: Any, target: Any) -> None:
    """``target[:] = source`` for equal shapes; that compiles an error message with its text."""
    for i in range(len(target)):
        target[i] = source[i]


def frozen(array: np.ndarray) -> np.ndarray:
    """Return a read-only view: kernels are compiled for these alone."""
    view = array.view()
    view.flags.writeable = False
    return view
