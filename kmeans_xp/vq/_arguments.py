"""What the functions of `kmeans_xp.vq` take: observations, code books, numbers, seeds."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj

from kmeans_xp.backends.convert import to_numpy
from kmeans_xp.seeding import Words
from kmeans_xp.validation import as_array, check_random_state

__all__ = [
    "check_book",
    "check_observations",
    "check_rows",
    "check_thresh",
    "random_words",
    "scalar",
]


def check_observations(obs: Any, name: str, check_finite: bool) -> tuple[Any, bool]:
    """Observations as rows, and whether they were given in one dimension."""
    if not is_array_api_obj(obs) and isinstance(obs, list | tuple):
        obs = np.asarray(obs)
    flat = getattr(obs, "ndim", 2) == 1
    if flat and not is_array_api_obj(obs):  # a column of a data frame
        obs = np.asarray(obs)
    x = as_array(obs[:, None] if flat else obs, name)
    xp = array_namespace(x)
    if check_finite and xp.isdtype(x.dtype, "real floating") and not bool(xp.all(xp.isfinite(x))):
        raise ValueError(f"{name} must not hold infinity or NaN")
    return x, flat


def check_book(value: Any, flat: bool, name: str) -> np.ndarray:
    """Codes on the host, in two dimensions."""
    book = to_numpy(value) if is_array_api_obj(value) else np.asarray(value)
    if book.size == 0:
        raise ValueError(f"{name} must hold at least one code, got shape {book.shape}")
    if book.ndim != (1 if flat else 2):
        raise ValueError(
            f"{name} must have as many dimensions as the observations, {1 if flat else 2}, "
            f"got shape {book.shape}"
        )
    return book[:, None] if flat else book


def scalar(k: Any, name: str) -> float | None:
    """Return the number that `k` is, as in SciPy also as an array of one entry; None for codes."""
    if isinstance(k, str | bytes) or k is None or isinstance(k, bool):
        raise TypeError(f"{name} must be a number of clusters or an array, got {k!r}")
    value = to_numpy(k) if is_array_api_obj(k) else np.asarray(k)
    if value.size != 1:
        return None
    number = float(value.reshape(())[()])
    if not 1 <= number < math.inf:
        raise ValueError(f"{name} must be at least 1, got {k!r}")
    return number


def check_thresh(value: Any) -> float:
    if not isinstance(value, numbers.Real) or not float(value) >= 0:
        raise ValueError(f"thresh must be a number >= 0, got {value!r}")
    return float(value)


def check_rows(k: int, x: Any, name: str) -> None:
    if k > x.shape[0]:
        raise ValueError(
            f"{name} must be at most the number of observations, got {k} for {x.shape[0]}"
        )


def random_words(rng: Any, seed: Any) -> Words:
    if rng is not None and seed is not None:
        raise TypeError("rng and seed are one argument, by its new and its old name: pass one")
    chosen = seed if rng is None else rng
    check_random_state(chosen)
    return Words(chosen)
