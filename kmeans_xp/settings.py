"""The arguments of `kmeans` that are not data, as records that rooms hand to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from kmeans_xp.exact.metric import METRICS, Metric
from kmeans_xp.lloyd import State
from kmeans_xp.progress import check_progress
from kmeans_xp.validation import (
    check_algorithm,
    check_count,
    check_device,
    check_metric,
    check_n_init,
    check_oversampling_factor,
    check_random_state,
    check_tol,
)

__all__ = ["Settings", "Watchers"]


@dataclass(frozen=True)
class Settings:
    """How to fit: what decides the result, and where it is computed. See `kmeans`."""

    init: Any
    init_size: int | str
    oversampling_factor: float
    n_init: int | str
    max_iter: int
    tol: float
    metric: str
    random_state: Any
    algorithm: str
    device: Any

    def checked(self, X: Any) -> Settings:
        """Check everything that no values of X decide; numbers become plain, "auto" a number.

        Raises
        ------
        TypeError, ValueError
            Naming the argument.
        """
        max_iter, tol = check_count(self.max_iter, "max_iter"), check_tol(self.tol)
        algorithm, device = check_algorithm(self.algorithm), check_device(self.device, X)
        check_metric(self.metric)
        check_oversampling_factor(self.oversampling_factor)
        check_random_state(self.random_state)
        n_init = check_n_init(self.n_init, self.init)
        return replace(
            self, max_iter=max_iter, tol=tol, algorithm=algorithm, device=device, n_init=n_init
        )

    @property
    def measure(self) -> Metric:
        """The metric of this name."""
        return METRICS[self.metric]


@dataclass(frozen=True)
class Watchers:
    """Who looks on, and what is kept outside the result. See `kmeans`."""

    progress: bool = False
    callback: Callable[[State], bool | None] | None = None
    verbose: int = 0
    checkpoint: Any = None
    resume: Any = None
    labels_out: Any = None

    def check(self) -> None:
        """Refuse what cannot look on, before any work."""
        if self.callback is not None and not callable(self.callback):
            raise TypeError(f"callback must be callable, got {self.callback!r}")
        check_progress(self.progress)

    @property
    def anyone(self) -> bool:
        """Whether anything but the result is asked for."""
        kept = (self.callback, self.checkpoint, self.resume, self.labels_out)
        return bool(self.progress or self.verbose) or any(one is not None for one in kept)
