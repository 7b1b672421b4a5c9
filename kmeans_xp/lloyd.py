"""The loop and its stop rule. Imports no array library: what moves is behind `Blocks`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from kmeans_xp.blocks.base import Blocks, Step
from kmeans_xp.exact.inertia import exact_shift
from kmeans_xp.result import SameBits

__all__ = ["LoopResult", "State", "lloyd"]


@dataclass(frozen=True, eq=False)
class State(SameBits):
    """One finished iteration, as a callback sees it.

    Attributes
    ----------
    start : int
        Which of the `n_init` starts, from 0.
    iteration : int
        From 1.
    centroids : array, shape (K, D)
        The new centroids, in the namespace and on the device of X.
    shift : float
        ``Σ_k |c_new − c_old|²``, rounded up; infinite where float64 cannot tell.
    changed : int
        Rows whose label changed (all rows in the first iteration).
    relocated : int
        Empty clusters that took a row.
    rechecked : int
        Rows that needed more than the fast pass.
    seconds : float
        Time the iteration took.
    bytes_moved : int
        Bytes of centroids and sums that went from one process to another: 0 but for Dask arrays.
    bytes_read, bytes_skipped : int
        Of a stream, what the iteration read, and what it left unread because no label in it could
        change; 0 for arrays.
    inertia : float
        Exact ``Σ w |x − c|²`` of this iteration's labels around the centroids they were assigned
        to, before these moved; rounded once. Computed when asked for, which can be only while the
        callback runs.
    """

    start: int
    iteration: int
    centroids: Any
    shift: float
    changed: int
    relocated: int
    rechecked: int
    seconds: float
    bytes_moved: int
    measure: Callable[[], float] = field(repr=False, compare=False)
    bytes_read: int = 0
    bytes_skipped: int = 0

    @property
    def inertia(self) -> float:
        """``Σ w |x − c|²`` of this iteration's labels around the centroids before they moved."""
        return self.measure()


@dataclass(frozen=True)
class LoopResult:
    """What the loop ended with."""

    centroids: Any
    n_iter: int
    converged: bool


def lloyd(
    blocks: Blocks,
    centroids: Any,
    *,
    max_iter: int,
    tol: float,
    on_iteration: Callable[[int, Step, float], bool] | None = None,
    on_going: Callable[[int, Any, Any], None] | None = None,
    done: int = 0,
) -> LoopResult:
    """Iterate until no label changes, the centroids move less than `tol`, or `max_iter` is reached.

    S. P. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28 (1982).

    Parameters
    ----------
    blocks : Blocks
        The rows; labels and sums stay there.
    centroids : object
        Handle of the first centroids.
    max_iter : int
        Largest number of iterations.
    tol : float
        Relative to the mean variance of the features.
    on_iteration : callable, optional
        Called with (iteration, step, seconds); returning True stops.
    on_going : callable, optional
        Called with (iteration, centroids before, centroids after), before `on_iteration`, if the
        stop rule does not hold.
    done : int, default 0
        Iterations made before: `blocks` is settled for the centroids before the last of them.

    Returns
    -------
    LoopResult
        Labels and sums in `blocks` belong to its centroids.
    """
    converged = False
    iteration = done
    stale = True
    while iteration < max_iter:
        iteration += 1
        began = time.perf_counter()
        step = blocks.step(centroids)
        unchanged = step.changed == 0 and not step.relocated
        converged = unchanged or _within(blocks, step, centroids, tol)
        stale = step.shift != (0.0, 0.0)
        before, centroids = centroids, step.centroids
        seconds = time.perf_counter() - began
        if on_going is not None and not converged:
            on_going(iteration, before, centroids)
        if (on_iteration is not None and on_iteration(iteration, step, seconds)) or converged:
            break
    if stale:
        blocks.settle(centroids)
    return LoopResult(centroids, iteration, converged)


def _within(blocks: Blocks, step: Step, old: Any, tol: float) -> bool:
    """Whether the real shift is at most tol times the mean variance; exact only where bounds cannot
    tell.
    """
    low, high = step.shift
    if high == 0.0:
        return True
    if tol == 0.0:
        return False
    limit = Fraction(tol) * blocks.variance()
    if Fraction(low) > limit:
        return False
    if high < float("inf") and Fraction(high) <= limit:
        return True
    return exact_shift(blocks.fetch(step.centroids), blocks.fetch(old)) <= limit
