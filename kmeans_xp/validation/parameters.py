"""Parameters that are no arrays."""

from __future__ import annotations

import math
import numbers
import warnings
from typing import Any

import numpy as np
from array_api_compat import device, is_array_api_obj, is_dask_array

from kmeans_xp.backends.convert import home, on_cpu
from kmeans_xp.backends.devices import ACCEPTED, cuda_number, device_name, require_cuda
from kmeans_xp.exact.metric import METRICS, Metric
from kmeans_xp.validation.errors import ArgumentError, outside

__all__ = [
    "ALGORITHMS",
    "INITS",
    "INIT_NAMES",
    "check_algorithm",
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
]

ALGORITHMS = ("auto", "lloyd", "hamerly", "elkan")
INITS = ("k-means++", "k-means||", "random")
_ALIASES = {"scalable-k-means++": "k-means||"}
#: all of them
INIT_NAMES = (*INITS, *_ALIASES)


def check_count(value: Any, name: str, lowest: int = 1) -> int:
    """Return an integer argument."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Integral):
        raise ArgumentError(f"{name} must be an integer >= {lowest}, got {value!r}")
    if value < lowest:
        raise ValueError(f"{name} must be >= {lowest}, got {value}")
    return int(value)


def check_n_clusters(value: Any, n_rows: float, name: str = "n_clusters") -> int:
    """Return n_clusters, between 1 and the number of rows (NaN where that is unknown)."""
    n_clusters = check_count(value, name)
    if n_clusters > n_rows:
        raise ValueError(
            f"{name} must be at most the number of rows of X, got {name}={n_clusters} for "
            f"n_samples={n_rows} rows; ask for fewer clusters or give more data"
        )
    return n_clusters


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


def check_device(value: Any, x: Any) -> str | None:
    """Return the device to compute X on: None (where X is), "cuda" (the current one) or "cuda:N".

    "cpu" says what is so of data on the host, and is refused for other data.
    """
    if value is None:
        return None
    name = device_name(value)
    if name is None:
        raise ValueError(f"device must be {ACCEPTED}, got {value!r}")
    place = x._meta if is_dask_array(x) else home(x)
    there = device(place) if is_array_api_obj(place) and not on_cpu(place) else None
    if name != "cpu":
        require_cuda(name)
        if cuda_number(name) is not None and there is not None and device_name(there) != name:
            raise ValueError(
                f"device={name!r} is another than that of X, {there}; leave device out to compute "
                "X where it is, or bring it there first"
            )
        return name
    if there is not None:
        raise ValueError(
            f"device='cpu' takes data on the host, and X is on {there}; bring it to the host "
            "first, or leave device out"
        )
    return None
