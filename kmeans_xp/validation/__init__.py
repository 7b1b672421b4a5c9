"""Checks of arguments, before any work: each error names the argument, what was wrong and what
would be right.
"""

from kmeans_xp.validation.arrays import as_array, with_rows_counted
from kmeans_xp.validation.errors import ArgumentError, outside
from kmeans_xp.validation.given import (
    check_centroids,
    check_weights,
    numbers_of,
    rounded_centroids,
    weights_on_host,
)
from kmeans_xp.validation.parameters import (
    ALGORITHMS,
    INIT_NAMES,
    INITS,
    check_algorithm,
    check_count,
    check_device,
    check_init_name,
    check_init_size,
    check_metric,
    check_n_clusters,
    check_n_init,
    check_oversampling_factor,
    check_random_state,
    check_tol,
)

__all__ = [
    "ALGORITHMS",
    "INITS",
    "INIT_NAMES",
    "ArgumentError",
    "as_array",
    "check_algorithm",
    "check_centroids",
    "check_count",
    "check_device",
    "check_init_name",
    "check_init_size",
    "check_metric",
    "check_n_clusters",
    "check_n_init",
    "check_oversampling_factor",
    "check_random_state",
    "check_tol",
    "check_weights",
    "numbers_of",
    "outside",
    "rounded_centroids",
    "weights_on_host",
    "with_rows_counted",
]
