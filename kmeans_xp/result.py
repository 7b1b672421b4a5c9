"""What a fit returns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmeans_xp.backends.convert import to_numpy

__all__ = ["KMeansResult", "fingerprint"]


@dataclass(frozen=True)
class KMeansResult:
    """Outcome of `kmeans`. Arrays are in the namespace and on the device of X.

    Attributes
    ----------
    labels : array of int32, shape (N,)
        Index of the nearest centroid of each row.
    centroids : array of float32 or float64, shape (K, D)
        The centroids.
    inertia : float
        Σ w |x − c_label|², the exact value rounded once.
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


def fingerprint(result: KMeansResult) -> str:
    """Hash of labels, centroids, inertia and iteration count: equal on every backend.

    Returns
    -------
    str
        16 hexadecimal digits of SHA-256 over the labels (little-endian int32), the centroids
        (little-endian, C order), the inertia (little-endian float64) and the decimal `n_iter`.
    """
    labels, centroids = to_numpy(result.labels), to_numpy(result.centroids)
    digest = hashlib.sha256(np.ascontiguousarray(labels, dtype="<i4").tobytes())
    little = centroids.dtype.newbyteorder("<")
    digest.update(np.ascontiguousarray(centroids, dtype=little).tobytes())
    digest.update(np.asarray(result.inertia, dtype="<f8").tobytes())
    digest.update(str(result.n_iter).encode())
    return digest.hexdigest()[:16]
