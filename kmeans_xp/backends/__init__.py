"""Backends: the few functions that touch an array library.

The contract, which `generic.Backend` states in code with the array API alone:

======================  ===========================================================================
`host(X, lo, hi)`       rows lo..hi as a NumPy array of the working dtype
`gather(X, rows)`       the rows with these indices, likewise
`frame_rows(X, ...)`    rows, scaled and centred, in float32 in the backend's own namespace
`magnitudes(X, ...)`    largest and smallest magnitudes of rows, or None
`row_norms(rows)`       upper bounds of the norms of framed rows
`framed_norms(X, …)`    framing and norms in one
`square_sum(X, ...)`    exact Σ w|x|² over rows
`top_two(rows, tile)`   per row the best score, its index and its lead over the second best
`nearest(X, ...)`       both of these and the certificate in one
`cells(X, ...)`         rows in cells that label most of them (few features), or None
`recheck(rows, ...)`    the nearest centroid by float64 scores, or None where nothing is compiled
`sweep(X, ...)`         assign rows in one compiled pass, or None where there is none
`seeding_kernels(X)`    compiled passes of k-means++, or None
`minibatch_kernels(X)`  compiled steps of mini-batches, or None
`age(...)`              let pruning bounds give way
`renew(...)`            take pruning bounds from scores
`tighten(...)`          measure rows against their own centroids
`cluster_sums(...)`     exact sums of some rows in levels (`exact.sums`)
`move_rows(...)`        move rows from the sums of their old clusters to those of their labels
`cross(rows, centers)`  products of rows with a few centres
`means(sums, old)`      rounded means of all clusters
`squares(...)`          Σ w·|x − c_label|² of host rows, enclosed (`exact.squares`)
`session()`             a context in which this backend's thread settings hold
`map(fn, items)`        run fn over items, possibly in threads
`block_rows(D, K)`      how many rows to work on at a time
`pass_rows(D, K)`       likewise in the fast pass
======================  ===========================================================================

A faster backend overrides functions, never the loop, and must return the same labels and sums.
Scores may carry any rounding error within `exact.bounds.score_bound`.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from kmeans_xp.backends.generic import Backend

__all__ = ["Backend", "backend_for", "forced_generic", "warmup"]

# Modules of compiled kernels that are called from elsewhere.
_KERNELS = (
    "cpu_numba",
    "numba_batch",
    "numba_bounds",
    "numba_cells",
    "numba_means",
    "numba_recheck",
    "numba_minibatch",
    "numba_minibatch_step",
    "numba_seeding",
    "numba_sparse",
    "numba_survey",
)


def forced_generic() -> bool:
    """Whether KMEANS_XP_BACKEND=generic asks for the array-API backend everywhere."""
    choice = os.environ.get("KMEANS_XP_BACKEND", "auto")
    if choice not in ("auto", "generic"):
        raise ValueError(f"KMEANS_XP_BACKEND must be 'auto' or 'generic', got {choice!r}")
    return choice == "generic"


def warmup() -> None:
    """Compile the CPU kernels ahead of their first use, or load them from numba's cache.

    A fit compiles what it needs when it first needs it; a service calls this at its start instead.

    Raises
    ------
    ModuleNotFoundError
        If numba is not installed.

    Examples
    --------
    >>> from importlib.util import find_spec
    >>> if find_spec("numba"):
    ...     from kmeans_xp import warmup
    ...     warmup()
    """
    if find_spec("numba") is None:
        raise ModuleNotFoundError("warmup() needs numba: pip install 'kmeans_xp[cpu]'")
    for name in _KERNELS:
        import_module(f"kmeans_xp.backends.{name}").warmup()


def backend_for(x: Any, values: int | None = None) -> Backend:
    """Choose the backend for an array (already brought to NumPy where that costs no copy).

    `values` says how many values it will work on in all, where that is not the size of x.
    """
    import numpy as np

    if isinstance(x, np.ndarray) and not forced_generic():
        from kmeans_xp.backends.cpu import NumpyBackend

        return NumpyBackend(x, values)
    return Backend(x)
