"""Copies between ordinary and pinned memory of the host, by all threads."""

from __future__ import annotations

import numpy as np

from kmeans_xp.backends import Backend

__all__ = ["copy_labels", "copy_rows"]

# Values that a thread copies at a time.
_COPIED = 1 << 20
# Labels likewise: few enough to stay in the cache.
_LABELS = 1 << 18


def copy_rows(
    backend: Backend, x: np.ndarray, out: np.ndarray, rows: np.ndarray | None = None
) -> None:
    """Copy rows into pinned memory or out of it, by all threads: one is slower than the bus."""
    n_rows, step = len(x) if rows is None else len(rows), max(1, _COPIED // x.shape[1])

    def some(lo: int) -> None:
        part = slice(lo, min(lo + step, n_rows))
        np.copyto(out[part], x[part] if rows is None else x[rows[part]], casting="unsafe")

    backend.map(some, range(0, n_rows, step))


def copy_labels(backend: Backend, labels: np.ndarray, out: np.ndarray, unlabelled: int) -> None:
    """Copy labels likewise, with `unlabelled` for rows in no cluster."""

    def some(lo: int) -> None:
        known = labels[lo : lo + _LABELS]
        place = out[lo : lo + len(known)]
        np.copyto(place, known)
        if known.min() < 0:  # before the first pass
            np.copyto(place, unlabelled, where=known < 0)

    backend.map(some, range(0, len(labels), _LABELS))
