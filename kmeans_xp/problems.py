"""Many problems in one array: where the rows of each are, and whether all of them can be fitted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_array_api_obj

from kmeans_xp.backends.convert import centroid_dtype, to_numpy, zero_copy_numpy
from kmeans_xp.exact.bounds import EXACT_INTEGER
from kmeans_xp.validation import (
    as_array,
    check_weights,
    numbers_of,
    rounded_centroids,
    weights_on_host,
)

__all__ = ["Problems", "check_init", "check_numbers_of_clusters", "is_batch", "open_problems"]

# Values looked at together.
_ENTRIES = 1 << 22


@dataclass(frozen=True)
class Problems:
    """B independent problems.

    Attributes
    ----------
    x : array, shape (B, N, D) or (M, D)
        Padded or flat rows; NumPy where they are in host memory.
    like : array
        What the caller gave: results come back in its namespace.
    first : ndarray of int64, shape (B,)
        First row of each problem in flat rows; 0 in padded ones.
    sizes : ndarray of int64, shape (B,)
        Rows of each problem.
    w : ndarray of the shape of the rows, or None
        Weights on the host.
    """

    x: Any
    like: Any
    first: np.ndarray
    sizes: np.ndarray
    w: np.ndarray | None = None

    @property
    def padded(self) -> bool:
        """Whether the rows are padded to one length, (B, N, D)."""
        return len(self.x.shape) == 3

    @property
    def n_features(self) -> int:
        """Number of features D."""
        return int(self.x.shape[-1])

    def __len__(self) -> int:
        return len(self.sizes)

    def rows(self, b: int) -> Any:
        """Rows of one problem, (n, D); in host memory they lie side by side."""
        lo, n = int(self.first[b]), int(self.sizes[b])
        rows = self.x[b, :n, :] if self.padded else self.x[lo : lo + n, :]
        return np.ascontiguousarray(rows) if isinstance(rows, np.ndarray) else rows

    def weights(self, b: int) -> np.ndarray | None:
        """Weights of one problem."""
        if self.w is None:
            return None
        lo, n = int(self.first[b]), int(self.sizes[b])
        return self.w[b, :n] if self.padded else self.w[lo : lo + n]

    def flat(self, lo: int, hi: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows of host problems lo..hi one after the other, and where each begins."""
        rows = np.ascontiguousarray(self.block(lo, hi)).reshape(-1, self.n_features)
        return rows, self.begins(lo, hi)

    def begins(self, lo: int, hi: int) -> np.ndarray:
        """First row of each of the problems lo..hi among their rows."""
        if self.padded:
            return np.arange(hi - lo) * self.x.shape[1]
        return self.first[lo:hi] - self.first[lo]

    def block(self, lo: int, hi: int, values: Any = None) -> Any:
        """Rows of problems lo..hi as they lie, padding included; or other values of these rows."""
        values = self.x if values is None else values
        if self.padded:
            return values[lo:hi, ...]
        return values[int(self.first[lo]) : int(self.first[hi - 1] + self.sizes[hi - 1]), ...]

    def place(self, lo: int, row: tuple[int, ...]) -> tuple[int, int] | None:
        """Problem and row of a place in a block that begins with problem `lo`; None in padding."""
        if self.padded:
            b, r = lo + row[0], row[1]
            return (b, r) if r < self.sizes[b] else None
        flat = int(self.first[lo]) + row[0]
        b = int(np.searchsorted(self.first, flat, side="right")) - 1
        return b, flat - int(self.first[b])

    def chunks(self, entries: int = _ENTRIES) -> Iterator[tuple[int, int]]:
        """Ranges of problems of about so many values each."""
        most = max(1, int(self.sizes.max())) * self.n_features
        step = max(1, entries // most)
        for lo in range(0, len(self), step):
            yield lo, min(lo + step, len(self))


def is_batch(x: Any, lengths: Any = None, offsets: Any = None) -> bool:
    """Whether these arguments describe a batch of problems."""
    if lengths is not None or offsets is not None:
        return True
    if isinstance(x, list | tuple):
        try:
            return np.ndim(x) == 3
        except ValueError:  # ragged: `as_array` says so
            return False
    return is_array_api_obj(x) and len(x.shape) == 3


def open_problems(
    X: Any, lengths: Any, offsets: Any, sample_weight: Any = None, *, directions: bool = False
) -> Problems:
    """Check a batch and its layout, before any work; `directions` refuses rows of zeros.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, and the problem, row and column of a value that is not finite.
    """
    if lengths is not None and offsets is not None:
        raise ValueError(
            "give lengths (padded rows, X of shape (B, N, D)) or offsets (flat rows, X of shape "
            "(M, D)), not both"
        )
    if offsets is not None and getattr(X, "ndim", 2) == 3:
        raise ValueError(
            f"X must be flat rows of shape (M, D) where offsets are given, got shape "
            f"{tuple(X.shape)}; leave them out, or give lengths"
        )
    x = as_array(X, n_dims=3 if offsets is None else 2)
    if offsets is None:
        n_problems, n_rows = int(x.shape[0]), int(x.shape[1])
        sizes = _check_lengths(lengths, n_problems, n_rows)
        first = np.zeros(n_problems, dtype=np.int64)
    else:
        bounds = _check_offsets(offsets, int(x.shape[0]))
        first, sizes = bounds[:-1], np.diff(bounds)
    host = zero_copy_numpy(x)
    problems = Problems(x if host is None else host, x, first, sizes)
    _check_values(problems)
    if directions:
        _check_directions(problems)
    w = None if sample_weight is None else _weights(sample_weight, problems)
    return Problems(problems.x, x, first, sizes, w)


def _integers(value: Any, name: str) -> np.ndarray:
    array = to_numpy(value) if is_array_api_obj(value) else np.asarray(value)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise TypeError(
            f"{name} must be a one-dimensional array of integers, got dtype {array.dtype} and "
            f"shape {array.shape}"
        )
    return array.astype(np.int64)


def _check_lengths(lengths: Any, n_problems: int, n_rows: int) -> np.ndarray:
    if lengths is None:
        return np.full(n_problems, n_rows, dtype=np.int64)
    sizes = _integers(lengths, "lengths")
    if sizes.shape != (n_problems,):
        raise ValueError(
            f"lengths must have shape ({n_problems},), one a problem, got {sizes.shape}"
        )
    bad = np.flatnonzero((sizes < 1) | (sizes > n_rows))
    if bad.size:
        raise ValueError(
            f"lengths must be between 1 and the {n_rows} rows of X; lengths[{bad[0]}] is "
            f"{sizes[bad[0]]}"
        )
    return sizes


def _check_offsets(offsets: Any, n_rows: int) -> np.ndarray:
    bounds = _integers(offsets, "offsets")
    if len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != n_rows:
        raise ValueError(
            f"offsets must begin with 0 and end with the {n_rows} rows of X, got "
            f"{bounds[:1].tolist()} … {bounds[-1:].tolist()} of length {len(bounds)}"
        )
    bad = np.flatnonzero(np.diff(bounds) < 1)
    if bad.size:
        raise ValueError(
            f"every problem needs a row: offsets[{bad[0] + 1}] is {bounds[bad[0] + 1]} after "
            f"{bounds[bad[0]]}"
        )
    return bounds


def _check_values(problems: Problems) -> None:
    """Refuse what is not finite, or no exact float64, in a row that counts."""
    x = problems.x
    integers = str(x.dtype).split(".")[-1].lstrip("<>=").startswith(("int", "uint", "i", "u"))
    xp = array_namespace(x)
    host = isinstance(x, np.ndarray)
    floating = not host and xp.isdtype(x.dtype, "real floating")
    for lo, hi in problems.chunks():
        block = problems.block(lo, hi)
        if host and not integers and _finite_sum(block):
            continue
        if floating and bool(xp.all(xp.isfinite(block))):
            continue
        values = to_numpy(block)
        if integers:
            good = (values <= EXACT_INTEGER) & (values >= -EXACT_INTEGER)
        else:
            good = np.isfinite(values)
        if not good.all():
            _refuse(problems, lo, ~good, values, "within ±2**53" if integers else "finite")


def _finite_sum(values: np.ndarray) -> bool:
    """Whether the sum shows all values to be finite, in half the time that looking takes."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(values.sum()))


def _refuse(problems: Problems, lo: int, bad: np.ndarray, values: np.ndarray, what: str) -> None:
    for place in np.argwhere(bad):
        *row, column = (int(i) for i in place)
        found = problems.place(lo, tuple(row))
        if found is not None:
            raise ValueError(
                f"X must hold numbers that are {what}; problem {found[0]} has "
                f"{values[tuple(place)]} in row {found[1]}, column {column} (the first such value)"
            )


def _check_directions(problems: Problems) -> None:
    """Refuse a row of zeros that counts."""
    for lo, hi in problems.chunks():
        zero = ~to_numpy(problems.block(lo, hi)).any(axis=-1)
        for place in np.argwhere(zero):
            found = problems.place(lo, tuple(int(i) for i in place))
            if found is not None:
                raise ValueError(
                    "X must have no row of zeros for metric='cosine', which has no direction; "
                    f"problem {found[0]} has one, row {found[1]} (the first such row)"
                )


def _weights(sample_weight: Any, problems: Problems) -> np.ndarray:
    """Weights of the shape of the rows; those of padding do not count."""
    shape = tuple(problems.like.shape[:-1])
    w = weights_on_host(sample_weight, problems.like)
    if w.shape != shape:
        raise ValueError(
            f"sample_weight must have shape {shape}, one weight a row of X, got {w.shape}"
        )
    parts = Problems(problems.x, problems.like, problems.first, problems.sizes, w)
    for b in _doubtful(parts, w):
        try:
            check_weights(parts.weights(b), np.empty((int(problems.sizes[b]), 0)))
        except (TypeError, ValueError) as error:
            raise type(error)(f"problem {b}: {error}") from None
    native = w.dtype.newbyteorder("=")
    out = w.astype(native if native in (np.float32, np.float64) else np.float64)
    if problems.padded:
        out[np.arange(shape[1]) >= problems.sizes[:, None]] = 0
    return out + out.dtype.type(0)


def _doubtful(problems: Problems, w: np.ndarray) -> Sequence[int]:
    """Problems whose weights may have to be refused; all, where weights are no plain numbers."""
    if w.dtype.kind not in "biuf":
        return range(len(problems))
    bad, positive = ~(np.isfinite(w) & (w >= 0)), w > 0
    if problems.padded:
        counts = np.arange(w.shape[1]) < problems.sizes[:, None]
        found = (bad & counts).any(axis=1) | ~(positive & counts).any(axis=1)
    else:
        found = np.logical_or.reduceat(bad, problems.first)
        found |= ~np.logical_or.reduceat(positive, problems.first)
    return [int(b) for b in np.flatnonzero(found)]


def check_numbers_of_clusters(value: Any, problems: Problems) -> np.ndarray:
    """Return the number of clusters of every problem."""
    n_problems = len(problems)
    array = to_numpy(value) if is_array_api_obj(value) else np.asarray(value)
    if array.dtype.kind not in "iu" or array.shape not in ((), (n_problems,)):
        raise TypeError(
            f"n_clusters must be an integer, or {n_problems} integers, one a problem, "
            f"got {array.dtype} of shape {array.shape}"
        )
    clusters = np.broadcast_to(array.astype(np.int64), (n_problems,))
    few = np.flatnonzero(clusters < 1)
    if few.size:
        raise ValueError(f"n_clusters must be >= 1; for problem {few[0]} it is {clusters[few[0]]}")
    many = np.flatnonzero(clusters > problems.sizes)
    if many.size:
        b = int(many[0])
        raise ValueError(
            f"n_clusters must be at most the number of rows; problem {b} has "
            f"{problems.sizes[b]} rows for {clusters[b]} clusters"
        )
    return clusters


def check_init(
    init: Any, clusters: np.ndarray, problems: Problems, name: str = "init"
) -> np.ndarray:
    """Return given centroids as (B, K, D) or (1, K, D) in the dtype of the result."""
    values = numbers_of(init, name)
    most, d = int(clusters.max()), problems.n_features
    shared, each = (most, d), (len(problems), most, d)
    if values.shape not in (shared, each):
        raise ValueError(
            f"{name} must have shape (K, D) = {shared}, shared by all problems, or (B, K, D) = "
            f"{each}, got {values.shape}"
        )
    dtype = centroid_dtype(problems.like)
    used = None if values.ndim == 2 else (np.arange(most) < clusters[:, None])[:, :, None]
    return rounded_centroids(values, dtype, name, used).reshape(-1, most, d)
