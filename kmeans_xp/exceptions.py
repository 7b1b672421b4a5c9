"""Warnings of the library."""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Iterator

import numpy as np

from kmeans_xp.validation import outside

__all__ = [
    "ConvergenceWarning",
    "convergence_category",
    "quiet_parts",
    "warn_of_few_clusters",
    "warn_of_overflow",
]

_OVERFLOW = "inertia is inf: "


class ConvergenceWarning(UserWarning):
    """Fewer distinct clusters were found than asked for.

    Where scikit-learn is in use, the warning given is an instance of its class of this name too, so
    that filters for either catch it.
    """


def warn_of_few_clusters(found: int, n_clusters: int) -> None:
    """Warn the caller of this package if fewer clusters have rows than were asked for."""
    if found < n_clusters:
        warnings.warn(
            f"Number of distinct clusters ({found}) found smaller than n_clusters ({n_clusters}). "
            "Possibly due to duplicate points in X.",
            convergence_category(),
            stacklevel=outside(),
        )


def warn_of_overflow(inertia: float | np.ndarray) -> None:
    """Warn the caller of this package if an inertia is beyond float64."""
    if np.isinf(inertia).any():
        warnings.warn(
            f"{_OVERFLOW}the sum of squared distances is beyond float64. Labels and centroids are "
            "exact, but no start and no number of clusters is better than another by such an "
            "inertia; scale X (as X * 2.0**-600) or sample_weight",
            RuntimeWarning,
            stacklevel=outside(),
        )


@contextlib.contextmanager
def quiet_parts() -> Iterator[None]:
    """Keep the warnings of fits that are part of another: that speaks for all of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", _OVERFLOW, RuntimeWarning)
        yield


def convergence_category() -> type[ConvergenceWarning]:
    """Return the class to warn with: scikit-learn's too if that was imported already."""
    if "sklearn.exceptions" not in sys.modules:
        return ConvergenceWarning
    return _shared_warning()


@functools.cache
def _shared_warning() -> type[ConvergenceWarning]:
    from sklearn import exceptions

    bases = (ConvergenceWarning, exceptions.ConvergenceWarning)
    return type("ConvergenceWarning", bases, {"__doc__": ConvergenceWarning.__doc__})
