"""Inertia from the exact sums: Σ w|x|² − 2 Σ_k c_k·S_k + Σ_k W_k |c_k|², rounded once.

Under the cosine metric it is Σ_k W_k − Σ_k c_k·S_k.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from kmeans_xp.exact.dyadic import Dyadic, float_integers
from kmeans_xp.exact.sums import ClusterSums

__all__ = [
    "exact_cosine_inertia",
    "exact_inertia",
    "exact_shift",
    "exact_variance",
    "shift_bounds",
]

# Python integers worked on at a time.
_ENTRIES = 1 << 14


def exact_inertia(squares: Dyadic, sums: ClusterSums, centroids: np.ndarray) -> Dyadic:
    """Inertia of the assignment that `sums` belongs to.

    Parameters
    ----------
    squares : Dyadic
        Exact Σ w|x|² over all rows.
    sums : ClusterSums
        Exact sums of the assignment.
    centroids : ndarray, shape (K, D)

    Returns
    -------
    Dyadic
        The real number, to be rounded by ``float``.
    """
    total = squares
    weights, weight_unit = sums.weight_integers(), sums.weight_unit()
    exponents = sums.value_exponents().tolist()
    step = max(1, _ENTRIES // len(centroids))
    for lo in range(0, centroids.shape[1], step):
        part = slice(lo, lo + step)
        c, c_unit = float_integers(centroids[:, part])
        products = (c * _columns(sums, part)).sum(axis=0).tolist()
        for product, exponent in zip(products, exponents[part], strict=True):
            total = total + Dyadic(-2 * product, c_unit + exponent)
        squared = int(np.dot(weights, (c * c).sum(axis=1)))
        total = total + Dyadic(squared, weight_unit + 2 * c_unit)
    return total


def exact_cosine_inertia(sums: ClusterSums, centroids: np.ndarray) -> Dyadic:
    """Real Σ w(1 − x·c) of the assignment that `sums` belongs to."""
    total = Dyadic(int(sums.weight_integers().sum()), sums.weight_unit())
    exponents = sums.value_exponents().tolist()
    step = max(1, _ENTRIES // len(centroids))
    for lo in range(0, centroids.shape[1], step):
        part = slice(lo, lo + step)
        c, c_unit = float_integers(centroids[:, part])
        products = (c * _columns(sums, part)).sum(axis=0).tolist()
        for product, exponent in zip(products, exponents[part], strict=True):
            total = total + Dyadic(-product, c_unit + exponent)
    return total


def _columns(sums: ClusterSums, part: slice) -> np.ndarray:
    columns = np.arange(sums.shape[1])[part]
    shape = (sums.shape[0], len(columns))
    rows = np.broadcast_to(np.arange(shape[0])[:, None], shape)
    return sums.value_integers((rows, np.broadcast_to(columns, shape)))


def exact_variance(squares: Dyadic, sums: ClusterSums, n_rows: int) -> Fraction:
    """Mean over features of the variance (ddof 0), from unweighted sums over any clustering of the
    rows.
    """
    total = squares * n_rows
    exponents, columns = sums.value_exponents(), sums.column_integers()
    for exponent in np.unique(exponents).tolist():
        some = columns[exponents == exponent]
        total = total + Dyadic(-int(np.dot(some, some)), 2 * exponent)
    return Fraction(*total.as_ratio()) / (len(exponents) * n_rows**2)


def exact_shift(new: np.ndarray, old: np.ndarray) -> Fraction:
    """Real Σ_k |new_k − old_k|²."""
    total = Dyadic()
    for row in np.flatnonzero((new != old).any(axis=1)):
        values, unit = float_integers(np.stack([new[row], old[row]]))
        difference = values[0] - values[1]
        total = total + Dyadic(int(np.dot(difference, difference)), 2 * unit)
    return Fraction(*total.as_ratio())


def shift_bounds(new: np.ndarray, old: np.ndarray) -> tuple[float, float]:
    """Float64 bounds of the real Σ_k |new_k − old_k|²; (0, 0) if and only if nothing moved."""
    if np.array_equal(new, old):
        return 0.0, 0.0
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        difference = new.astype(np.float64) - old
        value = float(np.sum(difference * difference))
    # every partial sum is of positive terms: n additions, a product and a difference
    slack = 2.0**-52 * (new.size + 4)
    if not (1e-280 < value < 1e300) or slack > 0.01:
        return 0.0, float("inf")
    return value * (1 - slack), value * (1 + slack)
