"""What given centroids say of a Dask array, chunk by chunk, once it is asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed

from kmeans_xp.backends.convert import from_numpy
from kmeans_xp.backends.threads import one_thread
from kmeans_xp.blocks.base import Blocks
from kmeans_xp.blocks.chunk import add_dyadics, to_centroids
from kmeans_xp.blocks.dask_tasks import tree
from kmeans_xp.blocks.directions import directions
from kmeans_xp.blocks.memory import MemoryBlocks
from kmeans_xp.blocks.open import open_blocks
from kmeans_xp.blocks.survey import RefusedRowError
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.metric import Metric

__all__ = ["lazy_distances", "lazy_inertia", "lazy_labels"]


def lazy_labels(x: Any, centroids: np.ndarray, metric: Metric) -> Any:
    """Label of every row, a Dask array with the chunks of the rows.

    Parameters
    ----------
    x : dask.array.Array, shape (N, D)
        One chunk along the features; numbers of rows may be unknown.
    centroids : ndarray, shape (K, D)
        Checked.
    metric : Metric
    """
    like = x._meta.reshape(-1).astype(np.int32)
    given = _sent(centroids), metric, _starts(x)
    return x.map_blocks(_labels, *given, drop_axis=1, meta=like)


def lazy_distances(x: Any, centroids: np.ndarray, metric: Metric) -> Any:
    """Distances of every row to every centroid, a Dask array; parameters as for `lazy_labels`."""
    like = x._meta.astype(centroids.dtype)
    chunks = (x.chunks[0], (len(centroids),))
    given = _sent(centroids), metric, _starts(x)
    return x.map_blocks(_distances, *given, chunks=chunks, meta=like)


def lazy_inertia(x: Any, centroids: np.ndarray, w: np.ndarray | None, metric: Metric) -> Any:
    """Exact inertia rounded once, a Dask array without dimensions.

    Parameters
    ----------
    x, centroids, metric
        As for `lazy_labels`.
    w : ndarray, shape (N,), or None
        Checked weights; then the numbers of rows are known.
    """
    starts, parts, given = _starts(x), [], _sent(centroids)
    for i, rows in enumerate(x.to_delayed().ravel()):
        own, start = None, None if starts is None else starts[i]
        if w is not None and start is not None:
            own = w[start : start + int(x.chunks[0][i])]
        parts.append(delayed(_inertia, pure=False)(rows, own, given, metric, start, i))
    total = delayed(_rounded, pure=False)(tree(add_dyadics, parts))
    return da.from_delayed(total, (), meta=np.empty((), dtype=np.float64))


def _sent(centroids: np.ndarray) -> Delayed:
    """One task gives the centroids to all others, so that a worker gets them once."""
    return delayed(to_centroids, pure=False)(centroids)


def _starts(x: Any) -> list[int] | None:
    """First row of each chunk; None where that is unknown."""
    sizes = np.asarray(x.chunks[0], dtype=np.float64)
    if np.isnan(sizes).any():
        return None
    return [int(end - size) for end, size in zip(np.cumsum(sizes), sizes, strict=True)]


@contextlib.contextmanager
def _one_chunk(start: int | None, i: int) -> Iterator[None]:
    """Context of a task: one thread, and a refused row is named by its number in the whole."""
    try:
        with one_thread():
            yield
    except RefusedRowError as error:
        if start is not None:
            raise error.moved(start) from None
        text = f"{error} It is counted from the first row of chunk {i}."
        raise RefusedRowError(text, error.row) from None


def _opened(
    rows: Any, centroids: np.ndarray, metric: Metric, starts: list[int] | None, i: int
) -> Blocks:
    with _one_chunk(None if starts is None else starts[i], i):
        return open_blocks(rows, None, centroids.dtype, metric=metric)


def _labels(
    rows: Any,
    centroids: np.ndarray,
    metric: Metric,
    starts: list[int] | None,
    block_id: tuple[int, ...] = (0,),
) -> Any:
    if not len(rows):
        return from_numpy(np.empty(0, dtype=np.int32), rows)
    blocks = _opened(rows, centroids, metric, starts, block_id[0])
    with blocks.session():
        blocks.assign(blocks.place(centroids))
    return blocks.labels()


def _distances(
    rows: Any,
    centroids: np.ndarray,
    metric: Metric,
    starts: list[int] | None,
    block_id: tuple[int, ...] = (0,),
) -> Any:
    if not len(rows):
        return from_numpy(np.empty((0, len(centroids)), dtype=centroids.dtype), rows)
    blocks = _opened(rows, centroids, metric, starts, block_id[0])
    with blocks.session():
        return from_numpy(blocks.distances(centroids), rows)


def _inertia(
    rows: Any,
    w: np.ndarray | None,
    centroids: np.ndarray,
    metric: Metric,
    start: int | None,
    i: int,
) -> Dyadic:
    """Inertia of one chunk, not rounded."""
    if not len(rows) or (w is not None and not w.any()):
        return Dyadic()
    with _one_chunk(start, i):
        ready = directions(rows, centroids.dtype) if metric.spherical else rows
        part = MemoryBlocks(ready, w, centroids.dtype, rows, metric).part
    sums = part.common.cluster_sums(len(centroids))
    with part.backend.session():
        part.relabel(centroids, part.prepare(centroids), sums)
        return metric.inertia(lambda: part.squares(w is not None), sums, centroids)


def _rounded(total: Dyadic) -> np.ndarray:
    return np.asarray(float(total))
