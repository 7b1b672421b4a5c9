"""What tells one metric from the other: the sign that decides labels, means, inertia, distances.

Under "cosine" all rows and centroids have length 1 up to rounding (`exact.unit`), so that the
nearest centroid nearly is the one of largest x·c: |x − c|² = |x|² + |c|² − 2·x·c. The fast pass
scores x·c − |c|²/2 as ever, plus (|c|² − 1)/2, and bounds of Euclidean distances hold with a
margin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.inertia import exact_cosine_inertia, exact_inertia
from kmeans_xp.exact.means import directed, rounded_directions, rounded_means
from kmeans_xp.exact.potentials import accurate_distances
from kmeans_xp.exact.predicate import compare_scores
from kmeans_xp.exact.sums import ClusterSums
from kmeans_xp.exact.unit import accurate_cosines, unit_centroids

__all__ = ["COSINE", "EUCLIDEAN", "METRICS", "Metric"]


@dataclass(frozen=True)
class Metric:
    """One of the two metrics.

    Attributes
    ----------
    name : str
    spherical : bool
        Whether rows and centroids are of length 1.
    given : callable
        ``given(centroids, name)``: checked centroids of an argument as the fit takes them.
    compare : callable
        ``compare(x, a, b)``: exact sign, row by row: 1 where a is nearer to x than b.
    means : callable
        ``means(sums, old)``: the new centroids.
    finish : callable
        ``finish(means, sums, old)``: the new centroids where their rounded means are known.
    inertia : callable
        ``inertia(squares, sums, centroids)``, the real number, `squares` a function that gives the
        exact Σ w|x|².
    distances : callable
        ``distances(x, centroids, exponent)`` in float64, every value of x below 2**exponent.
    """

    name: str
    spherical: bool
    given: Callable[[np.ndarray, str], np.ndarray]
    compare: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    means: Callable[[ClusterSums, np.ndarray], np.ndarray]
    finish: Callable[[np.ndarray, ClusterSums, np.ndarray], np.ndarray]
    inertia: Callable[[Callable[[], Dyadic], ClusterSums, np.ndarray], Dyadic]
    distances: Callable[[np.ndarray, np.ndarray, int], np.ndarray]

    def __reduce__(self) -> tuple[Callable[[str], Metric], tuple[str]]:
        return _named, (self.name,)  # it travels by name


def _named(name: str) -> Metric:
    return METRICS[name]


EUCLIDEAN = Metric(
    "euclidean",
    False,
    lambda centroids, name: centroids,
    compare_scores,
    rounded_means,
    lambda means, sums, old: means,
    lambda squares, sums, centroids: exact_inertia(squares(), sums, centroids),
    accurate_distances,
)
COSINE = Metric(
    "cosine",
    True,
    unit_centroids,
    partial(compare_scores, squares=False),
    rounded_directions,
    directed,
    lambda squares, sums, centroids: exact_cosine_inertia(sums, centroids),
    lambda x, centroids, exponent: accurate_cosines(x, centroids),
)
METRICS = {metric.name: metric for metric in (EUCLIDEAN, COSINE)}
