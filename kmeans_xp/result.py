"""What a fit returns, and what it means that two such things are equal."""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj

from kmeans_xp.backends.convert import namespace_name, to_numpy
from kmeans_xp.html import clusters_html, problems_html

__all__ = ["BatchResult", "KMeansResult", "SameBits", "fingerprint"]


class SameBits:
    """Dataclasses that are equal if all their values are, arrays bit for bit.

    Arrays of different libraries and devices are compared on the host. The hash is that of the
    numbers and the shapes alone, so it costs nothing.
    """

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self is other or all(
            _equal(getattr(self, name), getattr(other, name)) for name in self._compared()
        )

    def __hash__(self) -> int:
        values = (getattr(self, name) for name in self._compared())
        return hash(tuple(_key(value) for value in values))

    def _compared(self) -> list[str]:
        return [field.name for field in fields(self) if field.compare]  # type: ignore[arg-type] # those are dataclasses


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if not (is_array_api_obj(one) and is_array_api_obj(other)):
        either = is_array_api_obj(one) or is_array_api_obj(other)
        return not either and bool(one == other)
    if tuple(one.shape) != tuple(other.shape):
        return False
    one, other = to_numpy(one), to_numpy(other)
    same_type = one.dtype.newbyteorder("=") == other.dtype.newbyteorder("=")
    return same_type and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _key(value: Any) -> Any:
    """What of a value goes into the hash."""
    if is_array_api_obj(value):
        return tuple(value.shape)
    return value if isinstance(value, int | float | str) else None


@dataclass(frozen=True, eq=False, repr=False)
class KMeansResult(SameBits):
    """Outcome of `kmeans`. Arrays are in the namespace and on the device of X.

    Results are equal if they have the same bits, whatever library holds their arrays.

    Attributes
    ----------
    labels : array of int32, shape (N,)
        Index of the nearest centroid of each row.
    centroids : array of float32 or float64, shape (K, D)
        The centroids.
    inertia : float
        ``Σ w |x − c_label|²``, the exact value rounded once.
    n_iter : int
        Iterations run.
    converged : bool
        False if `max_iter` or a callback ended the loop before the stop rule held.
    """

    labels: Any
    centroids: Any
    inertia: float
    n_iter: int
    converged: bool

    def __repr__(self) -> str:
        n_clusters, n_features = self.centroids.shape
        rows = "" if self.labels is None else f"n_rows={self.labels.shape[0]}, "
        return (
            f"KMeansResult(n_clusters={n_clusters}, {rows}n_features={n_features}, "
            f"inertia={self.inertia!r}, n_iter={self.n_iter}, converged={self.converged}, "
            f"arrays={namespace_name(self.centroids)} {str(self.centroids.dtype).split('.')[-1]})"
        )

    def _repr_html_(self) -> str:
        """Show a table of the clusters in a notebook."""
        end = "converged" if self.converged else "not converged"
        caption = f"KMeansResult: inertia {self.inertia:.6g}, {self.n_iter} iterations, {end}"
        return clusters_html(self.centroids, self.labels, caption)


@dataclass(frozen=True, eq=False, repr=False)
class BatchResult(SameBits):
    """Outcome of `kmeans` for a batch of B problems; ``result[b]`` is that of one of them.

    Equal if all values are, as for `KMeansResult`.

    Attributes
    ----------
    labels : array of int32, shape (B, N) or (M,), or None
        Labels in the layout of the rows; -1 for padding. None where they were not saved.
    centroids : array of float32 or float64, shape (B, K, D)
        Centroids; those beyond a problem's own number repeat its first, so that no row prefers
        them.
    inertia : ndarray of float64, shape (B,)
        Exact values, rounded once.
    n_iter : ndarray of int64, shape (B,)
        Iterations run.
    converged : ndarray of bool, shape (B,)
        As in `KMeansResult`.
    n_clusters_used : ndarray of int64, shape (B,)
        How many of the K centroids belong to each problem.
    first : ndarray of int64, shape (B,), or None
        First row of each problem where the rows are flat.
    lengths : ndarray of int64, shape (B,)
        Rows of each problem.
    """

    labels: Any
    centroids: Any
    inertia: np.ndarray
    n_iter: np.ndarray
    converged: np.ndarray
    n_clusters_used: np.ndarray
    first: np.ndarray | None
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.inertia)

    def __repr__(self) -> str:
        _, n_clusters, n_features = self.centroids.shape
        return (
            f"BatchResult({len(self)} problems, n_clusters={n_clusters}, n_features={n_features}, "
            f"{int(self.converged.sum())} converged)"
        )

    def _repr_html_(self) -> str:
        """Show a table of the problems in a notebook."""
        caption = f"BatchResult: {len(self):,} problems, {int(self.converged.sum()):,} converged"
        columns = {
            "rows": self.lengths,
            "clusters": self.n_clusters_used,
            "inertia": self.inertia,
            "iterations": self.n_iter,
            "converged": self.converged,
        }
        return problems_html(columns, caption)

    def __getitem__(self, b: int) -> KMeansResult:
        try:
            b = operator.index(b)
        except TypeError:
            raise TypeError(
                f"a batch is indexed by the number of a problem, got {type(b).__name__}; its "
                "arrays take slices and masks: result.labels[...]"
            ) from None
        if not -len(self) <= b < len(self):
            raise IndexError(f"problem {b} of a batch of {len(self)}")
        b = b % len(self)
        n, k = int(self.lengths[b]), int(self.n_clusters_used[b])
        if self.labels is None:
            labels = None
        elif self.first is None:
            labels = self.labels[b, :n]
        else:
            lo = int(self.first[b])
            labels = self.labels[lo : lo + n]
        return KMeansResult(
            labels,
            self.centroids[b, :k, :],
            float(self.inertia[b]),
            int(self.n_iter[b]),
            bool(self.converged[b]),
        )


def fingerprint(result: KMeansResult) -> str:
    """Hash of labels, centroids, inertia and iteration count: equal on every backend.

    Parameters
    ----------
    result : KMeansResult
        With labels; arrays of any library and device.

    Returns
    -------
    str
        16 hexadecimal digits of SHA-256 over the labels (little-endian int32), the centroids
        (little-endian, C order), the inertia (little-endian float64) and the decimal `n_iter`.

    Examples
    --------
    >>> from kmeans_xp import fingerprint, kmeans
    >>> x = [[0.0], [1.0], [8.0], [9.0]]
    >>> fingerprint(kmeans(x, 2, random_state=0)) == fingerprint(kmeans(x, 2, random_state=0))
    True
    """
    labels, centroids = to_numpy(result.labels), to_numpy(result.centroids)
    digest = hashlib.sha256(np.ascontiguousarray(labels, dtype="<i4").tobytes())
    little = centroids.dtype.newbyteorder("<")
    digest.update(np.ascontiguousarray(centroids, dtype=little).tobytes())
    digest.update(np.asarray(result.inertia, dtype="<f8").tobytes())
    digest.update(str(result.n_iter).encode())
    return digest.hexdigest()[:16]
