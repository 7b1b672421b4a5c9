"""Warnings of the library."""

from __future__ import annotations

import functools
import sys

__all__ = ["ConvergenceWarning", "convergence_warning"]


class ConvergenceWarning(UserWarning):
    """Fewer distinct clusters were found than asked for.

    Where scikit-learn is in use, the warning given is an instance of its class of this name too, so
    that filters for either catch it.
    """


def convergence_warning() -> type[ConvergenceWarning]:
    """Return the class to warn with: scikit-learn's too if that was imported already."""
    if "sklearn.exceptions" not in sys.modules:
        return ConvergenceWarning
    return _shared_warning()


@functools.cache
def _shared_warning() -> type[ConvergenceWarning]:
    from sklearn import exceptions

    bases = (ConvergenceWarning, exceptions.ConvergenceWarning)
    return type("ConvergenceWarning", bases, {"__doc__": ConvergenceWarning.__doc__})
