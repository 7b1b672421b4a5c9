"""Which of two centroids is nearer to a sparse row, exactly, by the row's stored entries alone.

With s_c = x·c − |c|²/2 the sign of s_a − s_b decides. The products need only the entries of x; the
squared norms are exact numbers, computed once a centroid and written as a few floating-point terms.
"""

from __future__ import annotations

import math

import numpy as np

from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.predicate import compare_scores, sign_of_sums, two_product
from kmeans_xp.exact.totals import square_total

__all__ = ["ExactNorms", "compare_sparse"]

# Magnitudes within this many binades multiply without underflow, low parts included.
_SAFE_BINADES = 400


class ExactNorms:
    """Real |c|² of centroids, each computed when first needed.

    Parameters
    ----------
    centers : ndarray of float32 or float64, shape (K, D)
    counted : bool, default True
        False takes them for zero: products alone decide.
    """

    def __init__(self, centers: np.ndarray, counted: bool = True) -> None:
        self.centers, self.counted = centers, counted
        self._known: dict[int, Dyadic] = {}
        size = np.abs(centers)
        smallest = float(np.where(size > 0, size, np.inf).min())
        self.range = (smallest if math.isfinite(smallest) else 1.0, float(size.max()))

    def ranks(self, which: np.ndarray) -> np.ndarray:
        """Numbers in the order of the norms of these centroids; equal ones for equal norms."""
        squares = [self._square(k) for k in which.tolist()]
        lowest = min(square.e for square in squares)
        whole = [square.n << (square.e - lowest) for square in squares]
        order = {value: rank for rank, value in enumerate(sorted(set(whole)))}
        return np.asarray([order[value] for value in whole])

    def halves(self, which: np.ndarray, scale: int) -> np.ndarray:
        """Terms of 2^scale·|c|²/2 for each of these centroids, zeros appended."""
        parts = {k: _terms(self._square(k), scale - 1) for k in np.unique(which).tolist()}
        out = np.zeros((len(which), max(map(len, parts.values()))))
        for k, terms in parts.items():
            out[which == k, : len(terms)] = terms
        return out

    def _square(self, k: int) -> Dyadic:
        if not self.counted:
            return Dyadic()
        if k not in self._known:
            row = self.centers[k]
            self._known[k] = square_total(row[row != 0])
        return self._known[k]


def _terms(number: Dyadic, scale: int) -> list[float]:
    """Floats whose sum is number·2^scale."""
    rest, unit, terms = number.n, number.e + scale, []
    while rest:
        terms.append(math.ldexp(rest & ((1 << 53) - 1), unit))
        rest, unit = rest >> 53, unit + 53
    return terms


def compare_sparse(
    values: np.ndarray, columns: np.ndarray, a: np.ndarray, b: np.ndarray, norms: ExactNorms
) -> np.ndarray:
    """Exact sign of s_a − s_b for sparse rows: 1 where a is nearer.

    Parameters
    ----------
    values : ndarray, shape (m, L)
        Stored entries of the rows, in the dtype of the centroids, zeros appended.
    columns : ndarray of int, shape (m, L)
        Their columns; any where the value is zero.
    a, b : ndarray of int, shape (m,)
        Centroids to compare.
    norms : ExactNorms

    Returns
    -------
    ndarray of int8, shape (m,)
    """
    near, far = norms.centers[a[:, None], columns], norms.centers[b[:, None], columns]
    if values.dtype == np.float32:  # products are exact in float64
        x, near, far = (v.astype(np.float64) for v in (values, near, far))
        return _signs([x * near, -x * far], a, b, 0, norms)
    smallest, largest = norms.range
    size = np.abs(values)
    exponent = int(np.frexp(max(largest, float(size.max(initial=0.0))))[1])
    lowest = np.where(size > 0, size, np.inf).min(initial=smallest)
    if np.frexp(lowest)[1] < exponent - _SAFE_BINADES:
        return _by_all_columns(values, columns, a, b, norms)
    x, near, far = (np.ldexp(v, -exponent) for v in (values, near, far))
    return _signs([*two_product(x, near), *two_product(-x, far)], a, b, -2 * exponent, norms)


def _signs(
    terms: list[np.ndarray], a: np.ndarray, b: np.ndarray, scale: int, norms: ExactNorms
) -> np.ndarray:
    both = norms.halves(np.concatenate([b, a]), scale)
    return sign_of_sums(np.concatenate([*terms, both[: len(b)], -both[len(b) :]], axis=1))


def _by_all_columns(
    values: np.ndarray, columns: np.ndarray, a: np.ndarray, b: np.ndarray, norms: ExactNorms
) -> np.ndarray:
    """Row by row on all columns, for values too far apart in size."""
    centers = norms.centers
    signs = np.zeros(len(values), dtype=np.int8)
    for i in range(len(values)):
        row = np.zeros((1, centers.shape[1]), dtype=centers.dtype)
        stored = values[i] != 0
        row[0, columns[i, stored]] = values[i, stored]
        near, far = centers[a[i]][None], centers[b[i]][None]
        signs[i] = compare_scores(row, near, far, squares=norms.counted)[0]
    return signs
