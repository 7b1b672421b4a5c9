"""Candidates of k-means||: a few rounds draw many rows at a time.

B. Bahmani, B. Moseley, A. Vattani, R. Kumar, S. Vassilvitskii, "Scalable k-means++", PVLDB 5
(2012). docs/exactness.md, "The start", defines the draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from kmeans_xp.blocks.base import Oversampling

__all__ = ["draw_candidates", "draws_a_round"]

# Rounds after which enough candidates are enough.
_ROUNDS = 5


def draws_a_round(factor: float, n_clusters: int) -> int:
    """Return ⌈factor·K⌉, exactly."""
    return math.ceil(Fraction(factor) * n_clusters)


def draw_candidates(
    potential: Oversampling,
    first: int,
    n_draws: int,
    n_clusters: int,
    below: Callable[[int], int],
) -> np.ndarray:
    """Draw rows with probability proportional to their potential, round after round.

    Parameters
    ----------
    potential : Oversampling
        Of the rows to draw from; its centres are the candidates.
    first : int
        The first candidate.
    n_draws : int
        Draws a round, with replacement.
    n_clusters : int
        Candidates that are enough.
    below : callable
        Gives a random integer in [0, total).

    Returns
    -------
    ndarray of int64
        Increasing rows without repeats: fewer than `n_clusters` only where all others coincide with
        one of them.
    """
    chosen = newest = np.asarray([first], dtype=np.int64)
    potential.start(first)
    rounds = 0
    while rounds < _ROUNDS or len(chosen) < n_clusters:
        if rounds:
            potential.accept_all(newest)
        total = potential.total()
        if total == 0:
            break
        newest = np.unique(potential.locate([below(total) for _ in range(n_draws)]))
        chosen = np.union1d(chosen, newest)
        rounds += 1
    return chosen
