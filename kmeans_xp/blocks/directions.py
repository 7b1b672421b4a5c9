"""Directions of the rows: the copy of the data that the cosine metric works on."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from kmeans_xp.backends import backend_for
from kmeans_xp.backends.convert import from_numpy
from kmeans_xp.blocks.survey import RefusedRowError, survey
from kmeans_xp.exact.unit import unit_rows

__all__ = ["directions", "refuse_zero_row"]


def refuse_zero_row(row: int) -> NoReturn:
    """Say that a row has no direction."""
    raise RefusedRowError(
        "X must have no row of zeros for metric='cosine', which has no direction; "
        "X[{row}] is one (the first such row). Remove such rows first.",
        row,
    )


def directions(x: Any, dtype: np.dtype[Any]) -> Any:
    """Every row divided by its norm (`exact.unit.unit_rows`), in the namespace of x.

    The rows are computed on the host, block by block: square roots and quotients of other
    libraries need not be correctly rounded.

    Parameters
    ----------
    x : array, shape (N, D)
        Validated data, never modified.
    dtype : numpy.dtype
        float32 or float64: the dtype of the centroids, and of the result.

    Raises
    ------
    ValueError
        For a row of zeros, and where `survey` refuses the data.
    """
    n_rows, n_features = (int(size) for size in x.shape)
    backend = backend_for(x)
    out = np.empty((n_rows, n_features), dtype=dtype)

    def fill(bounds: tuple[int, int]) -> None:
        lo, hi = bounds
        rows = backend.host(x, lo, hi, dtype)
        zero = np.flatnonzero(~rows.any(axis=1))
        if zero.size:
            refuse_zero_row(lo + int(zero[0]))
        out[lo:hi] = unit_rows(rows)

    step = backend.block_rows(n_features, 1)
    with backend.session():
        survey(backend, x, None)
        backend.map(fill, [(lo, min(lo + step, n_rows)) for lo in range(0, n_rows, step)])
    return from_numpy(out, x)
