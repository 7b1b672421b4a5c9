"""Taking a SciPy matrix in: is its structure sound, is every value usable, how large are they."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmeans_xp.backends.sparse import CsrRows
from kmeans_xp.blocks.survey import Survey, weight_range
from kmeans_xp.exact.bounds import EXACT_INTEGER

__all__ = ["csr_rows", "survey_rows"]

# Entries looked at in one go.
_ENTRIES = 1 << 20


def csr_rows(x: Any) -> CsrRows:
    """View a CSR matrix or array; values that are not float32 or float64 become float64.

    Raises
    ------
    ValueError
        If its index arrays contradict its shape, an entry is stored twice, or an integer is beyond
        float64.
    """
    n_rows, n_features = (int(n) for n in x.shape)
    indptr = np.asarray(x.indptr).astype(np.int64, copy=False)
    stored = int(indptr[-1]) if len(indptr) else -1
    indices, data = np.asarray(x.indices)[: max(stored, 0)], np.asarray(x.data)[: max(stored, 0)]
    sound = len(indptr) == n_rows + 1 and indptr[0] == 0 and (np.diff(indptr) >= 0).all()
    sound = sound and len(indices) == len(data) == stored
    if not sound or (stored and not 0 <= indices.min() <= indices.max() < n_features):
        raise ValueError(
            "X is not a valid sparse matrix: its indptr, indices and data contradict each other or "
            f"its shape {x.shape}; X.check_format() tells more"
        )
    indices = indices.astype(np.int32 if n_features < 1 << 31 else np.int64, copy=False)
    rows = CsrRows(data, indices, indptr, (n_rows, n_features))
    _refuse_duplicates(rows)
    if data.dtype.kind in "iu" and stored:
        _refuse_large(rows)
    dtype = data.dtype if data.dtype.kind == "f" else np.float64
    data = data.astype(dtype, copy=False)
    return CsrRows(data, indices, indptr, rows.shape)


def survey_rows(x: CsrRows, w: np.ndarray | None) -> Survey:
    """Measure the data.

    Raises
    ------
    ValueError
        If a value is NaN or infinite.
    """
    largest = np.zeros(x.shape[1])
    smallest = math.inf
    for lo in range(0, len(x.data), _ENTRIES):
        size = np.abs(x.data[lo : lo + _ENTRIES])
        if not np.isfinite(size).all():
            _refuse_first(
                x,
                lambda data: ~np.isfinite(data),
                "must hold finite numbers, not NaN or infinity",
                "Remove or impute such rows first",
            )
        np.maximum.at(largest, x.indices[lo : lo + _ENTRIES], size.astype(np.float64))
        smallest = min(smallest, float(np.where(size > 0, size, np.inf).min()))
    return Survey(largest, smallest if math.isfinite(smallest) else 1.0, weight_range(w))


def _refuse_duplicates(x: CsrRows) -> None:
    """Refuse a row that stores an entry twice; rows that are in order cannot."""
    if len(x.data) < 2:
        return
    falls = np.flatnonzero(x.indices[1:] <= x.indices[:-1]) + 1  # where the order breaks
    if not falls.size:
        return
    owner = np.searchsorted(x.indptr, falls, side="right") - 1
    unordered = np.unique(owner[x.indptr[owner] != falls])  # but not at the start of a row
    for i in range(0, len(unordered), 1 << 14):
        some = x.take(unordered[i : i + (1 << 14)])
        key = some.row_of_entries() * some.shape[1] + some.indices
        key.sort()
        twice = np.flatnonzero(key[1:] == key[:-1])
        if twice.size:
            row, column = divmod(int(key[twice[0]]), x.shape[1])
            raise ValueError(
                f"X stores X[{unordered[i + row]}, {column}] more than once (the first such entry);"
                " call X.sum_duplicates() first"
            )


def _refuse_large(x: CsrRows) -> None:
    if max(abs(int(x.data.min())), abs(int(x.data.max()))) > EXACT_INTEGER:
        _refuse_first(
            x,
            lambda data: (data > EXACT_INTEGER) | (data < -EXACT_INTEGER),
            "holds integers beyond 2**53, which float64 cannot hold exactly",
            "Scale them down or subtract an offset first",
        )


def _refuse_first(x: CsrRows, bad: Any, wrong: str, remedy: str) -> None:
    """Name the first such value, by rows and then by columns."""
    places = np.flatnonzero(bad(x.data))
    row = int(np.searchsorted(x.indptr, places[0], side="right")) - 1
    inside = places[places < x.indptr[row + 1]]
    place = inside[np.argmin(x.indices[inside])]
    raise ValueError(
        f"X {wrong}; X[{row}, {x.indices[place]}] is {x.data[place]} (the first such value). "
        f"{remedy}."
    )
