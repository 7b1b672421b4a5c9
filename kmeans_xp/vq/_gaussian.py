"""Centroids drawn from a Gaussian with the mean and covariance of the data."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from kmeans_xp.seeding import Words

__all__ = ["gaussian"]


def gaussian(x: np.ndarray, k: int, words: Words) -> np.ndarray:
    """Draw from a Gaussian with mean and covariance of the rows."""
    n_rows, n_features = x.shape
    mean = x.mean(axis=0)
    x = x - mean
    x /= math.sqrt(max(n_rows - 1, 1))
    if n_features > n_rows:
        root = x  # a normal combination of the rows themselves has their covariance
    else:
        values, vectors = np.linalg.eigh(x.T @ x)
        root = (vectors * np.sqrt(np.maximum(values, 0))).T
    return mean + _normal(k * len(root), words).reshape(k, len(root)) @ root


def _normal(count: int, words: Words) -> np.ndarray:
    """Standard normal numbers, a word each, to 24 bits: beyond what differs between machines."""
    uniform = ((words.words(count) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    inverse = NormalDist().inv_cdf
    return np.array([inverse(u) for u in uniform.tolist()], dtype=np.float32).astype(np.float64)
