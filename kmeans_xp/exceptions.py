"""Warnings of the library."""

from __future__ import annotations

import functools
import sys
import warnings

from kmeans_xp.validation import outside

__all__ = ["ConvergenceWarning", "convergence_category", "warn_of_few_clusters"]


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
