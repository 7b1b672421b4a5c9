"""Data for the tests, made from `PCG64.random_raw` integers and exact arithmetic only.

NumPy freezes that stream and promises nothing about `Generator` methods, so the committed hashes
stand on this.
"""

from __future__ import annotations

import numpy as np

FLOATS = ("float16", "float32", "float64")
KINDS = (
    "blobs",
    "digits",
    "uniform",
    "grid",
    "duplicates",
    "bisectors",
    "offset",
    "outlier",
    "tiny",
    "decades",
    "huge",
)


def words(seed: int, shape) -> np.ndarray:
    """Non-negative 53-bit integers as int64."""
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    return (raw >> np.uint64(11)).astype(np.int64).reshape(shape)


def uniform(seed: int, shape) -> np.ndarray:
    """Multiples of 2**-53 in [0, 1)."""
    return words(seed, shape) * 2.0**-53


def integers(seed: int, shape, high: int) -> np.ndarray:
    return words(seed, shape) % high


def bell(seed: int, shape) -> np.ndarray:
    """Multiples of 2**-20 in [-2, 2), denser around 0: four uniforms, added as integers."""
    parts = words(seed, (4, *shape)) >> 33
    return (parts.sum(axis=0) - 2 * 2**20) * 2.0**-20


def blobs(seed: int, n: int, d: int, k: int) -> np.ndarray:
    centers = integers(seed, (k, d), 32) - 16
    return centers[integers(seed + 1, n, k)] + bell(seed + 2, (n, d))


def digits(n: int, d: int) -> np.ndarray:
    from sklearn.datasets import load_digits

    return load_digits().data[:n, 20 : 20 + d]


def make(kind: str, dtype: str = "float64", n: int = 60, d: int = 3, k: int = 4, seed: int = 0):
    """An (n, d) array of one of KINDS."""
    dtype = np.dtype(dtype)
    info = np.finfo(dtype)
    if kind == "blobs":
        X = blobs(seed, n, d, k)
    elif kind == "digits":
        X = digits(n, d)
    elif kind == "uniform":
        X = uniform(seed, (n, d))
    elif kind == "grid":
        X = integers(seed, (n, d), 4) - 1
    elif kind == "duplicates":
        X = blobs(seed, k + 1, d, k)[integers(seed + 3, n, k + 1)]
    elif kind == "bisectors":
        return bisectors(dtype, n, d, k, seed)[0]
    elif kind == "offset":
        X = blobs(seed, n, d, k) + (1e6 if dtype != np.float16 else 1e4)
    elif kind == "outlier":
        X = blobs(seed, n, d, k)
        X[n // 2, 0] = 1e30 if dtype != np.float16 else 6e4
    elif kind == "tiny":
        X = np.trunc(blobs(seed, n, d, k) * 16) * float(info.smallest_subnormal)
    elif kind == "decades":
        last = 15 if dtype != np.float16 else 3
        X = blobs(seed, n, d, k) * np.array([10.0**e for e in np.linspace(-last, last, d)])
    elif kind == "huge":
        X = (uniform(seed, (n, d)) - 0.5) * 2 * float(info.max)
    else:
        raise ValueError(kind)
    return np.ascontiguousarray(X.astype(dtype))


def bisectors(dtype, n: int, d: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows on, or one unit in the last place beside, a bisector of two centroids; the centroids.

    Each row is the exact middle of two centroids plus an exact step along a coordinate in which
    all agree; two thirds of the rows are then moved by one ulp along the first coordinate.
    """
    dtype = np.dtype(dtype)
    centroids = (integers(seed, (k, d), 7) * 2).astype(dtype)
    centroids[:, -1] = 4
    a, b = integers(seed + 1, n, k), integers(seed + 2, n, k)
    X = (centroids[a] + centroids[b]) / 2
    X[:, -1] += integers(seed + 3, n, 3).astype(dtype)
    step = integers(seed + 4, n, 3) - 1
    toward = X[:, 0] + step.astype(dtype) * 8
    X[:, 0] = np.nextafter(X[:, 0], toward)
    return np.ascontiguousarray(X), centroids


def weights(kind: str | None, n: int, seed: int = 0):
    """None, or sample weights of one of three types; every fifth of the integer ones is zero."""
    if kind is None:
        return None
    if kind == "integer":
        return integers(seed + 7, n, 5)
    return (uniform(seed + 8, n) * 3 * (integers(seed + 9, n, 6) > 0)).astype(kind)
