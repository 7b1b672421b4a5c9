"""A batch of independent problems in one call, each with the bits of its own single run."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from kmeans_xp.backends.convert import centroid_dtype, from_numpy, to_numpy
from kmeans_xp.backends.cuda_whole import Found
from kmeans_xp.backends.threads import map_alone
from kmeans_xp.blocks.device_tiny import DeviceSolver, device_solver
from kmeans_xp.blocks.tiny import TinySolver, tiny_solver
from kmeans_xp.exceptions import convergence_category, quiet_parts, warn_of_overflow
from kmeans_xp.problems import Problems, check_init, check_numbers_of_clusters
from kmeans_xp.result import BatchResult, KMeansResult
from kmeans_xp.seeding import batch_seeds, most_words
from kmeans_xp.validation import check_init_name, outside

__all__ = ["Single", "kmeans_batch", "predict_batch"]

#: fits one problem: (rows, n_clusters, init, weights, seed)
Single = Callable[[Any, int, Any, Any, Any], KMeansResult]
# Raw words and values that a pass over tiny problems may hold.
_WORDS, _ENTRIES = 1 << 21, 1 << 24
# Values from which a problem has work enough for all threads.
_LARGE = 1 << 22


@dataclass(frozen=True)
class _Settings:
    """What all problems share."""

    init: Any
    n_init: int
    max_iter: int
    tol: float


def kmeans_batch(
    problems: Problems,
    n_clusters: Any,
    *,
    init: Any,
    n_init: int,
    max_iter: int,
    tol: float,
    random_state: Any,
    single: Single,
    tiny: bool,
    device: str | None,
    threads: bool,
    on_done: Callable[[int], None],
) -> BatchResult:
    """Fit every problem.

    Parameters
    ----------
    problems : Problems
    n_clusters : int, or array of int, shape (B,)
    init : name, array of shape (K, D) or (B, K, D), or callable
    n_init, max_iter, tol, random_state
        Checked arguments of `kmeans`.
    single : callable
        Fits one problem.
    tiny : bool
        Whether compiled kernels may fit tiny problems.
    device : str or None
        As for `kmeans`.
    threads : bool
        Whether several problems may be fitted at a time, where their rows are in host memory.
    on_done : callable
        Called with the number of problems that were finished.
    """
    clusters = check_numbers_of_clusters(n_clusters, problems)
    init = check_init_name(init)
    named = isinstance(init, str) or callable(init)
    given = init if named else check_init(init, clusters, problems)
    settings = _Settings(given, n_init, max_iter, tol)
    seeds = None if not named else batch_seeds(random_state, len(problems))
    compiled = not named or (isinstance(init, str) and init in ("k-means++", "random"))
    solver = tiny_solver(problems.x) if tiny and compiled and device is None else None
    left = np.arange(len(problems))
    there = device_solver(problems.x, device) if tiny and compiled and solver is None else None
    found = None if there is None else _fit_on_device(there, problems, clusters, settings, seeds)
    if there is not None and found is not None:
        out = _Out(problems, clusters, found, there.on_caller)
        left = np.flatnonzero(found.n_iter < 0)
    else:
        out = _Out(problems, clusters)
    if solver is not None:
        left = _fit_tiny(solver, problems, clusters, settings, seeds, out)
    on_done(len(problems) - len(left))

    def fit(b: int) -> None:
        k = int(clusters[b])
        first = given if named else given[b if len(given) > 1 else 0, :k]
        seed = None if seeds is None else seeds[b]
        out.put(b, single(problems.rows(b), k, first, problems.weights(b), seed))

    threads = threads and isinstance(problems.x, np.ndarray) and not callable(init)
    with quiet_parts():
        for _ in _each(fit, left, problems, threads):
            on_done(1)
    _warn_if_few(out.used, clusters)
    warn_of_overflow(out.inertia)
    return out.result()


def _each(
    fit: Callable[[int], None], left: np.ndarray, problems: Problems, threads: bool
) -> Iterator[None]:
    """Fit problems: large ones one by one, the others in threads if that is allowed."""
    alone = problems.sizes[left] * problems.n_features >= _LARGE if threads else left >= 0
    yield from map(fit, left[alone].tolist())
    yield from map_alone(fit, left[~alone].tolist())


class _Out:
    """The results, filled problem by problem.

    What a device has found is where it begins: labels and centroids stay there until the end, when
    `on_caller` brings them to the caller.
    """

    def __init__(
        self,
        problems: Problems,
        clusters: np.ndarray,
        found: Found | None = None,
        on_caller: Callable[[Any], Any] | None = None,
    ) -> None:
        self.problems, self.clusters = problems, clusters
        self.on_caller = on_caller or functools.partial(from_numpy, like=problems.like)
        if found is None:
            found = self._none(problems, int(clusters.max()))
        self.labels, self.centroids = found.labels, found.centroids
        self.inertia, self.n_iter = found.inertia, found.n_iter
        self.converged, self.used = found.converged, found.used

    @staticmethod
    def _none(problems: Problems, most: int) -> Found:
        count, dtype = len(problems), centroid_dtype(problems.like)
        return Found(
            np.full(tuple(problems.x.shape[:-1]), -1, dtype=np.int32),
            np.zeros((count, most, problems.n_features), dtype=dtype),
            np.zeros(count),
            np.zeros(count, dtype=np.int64),
            np.zeros(count, dtype=bool),
            np.zeros(count, dtype=np.int64),
        )

    def labels_of(self, b: int) -> Any:
        """Labels of one problem, a view."""
        lo, n = int(self.problems.first[b]), int(self.problems.sizes[b])
        return self.labels[b, :n] if self.problems.padded else self.labels[lo : lo + n]

    def flat_labels(self, lo: int, hi: int) -> np.ndarray:
        """Labels of problems lo..hi, padding included, one after the other: a view."""
        return np.asarray(self.problems.block(lo, hi, self.labels)).reshape(-1)

    def put(self, b: int, found: KMeansResult) -> None:
        """Take the outcome of one problem."""
        labels = to_numpy(found.labels)
        self.labels_of(b)[:] = from_numpy(labels, self.labels)
        self.used[b] = np.count_nonzero(np.bincount(labels))
        centroids = from_numpy(to_numpy(found.centroids), self.centroids)
        self.centroids[b, : int(self.clusters[b])] = centroids
        self.inertia[b], self.n_iter[b] = found.inertia, found.n_iter
        self.converged[b] = found.converged

    def result(self) -> BatchResult:
        """All of them, in the namespace of the data."""
        unused = np.arange(self.centroids.shape[1]) >= self.clusters[:, None]
        if unused.any():  # copies of the first lose every tie against it: `predict` needs no mask
            xp, c = array_namespace(self.centroids), self.centroids
            self.centroids = xp.where(from_numpy(unused[:, :, None], c), c[:, :1], c)
        return BatchResult(
            self.on_caller(self.labels),
            self.on_caller(self.centroids),
            self.inertia,
            self.n_iter,
            self.converged,
            np.array(self.clusters),
            self.problems.first if not self.problems.padded else None,
            self.problems.sizes,
        )


def _fit_tiny(
    solver: TinySolver,
    problems: Problems,
    clusters: np.ndarray,
    settings: _Settings,
    seeds: Any,
    out: _Out,
) -> np.ndarray:
    """Fit the tiny problems; indices of those that are left to do one by one."""
    tiny = solver.suits(problems.sizes, problems.n_features)
    most = int(clusters.max())
    n_words = 0 if seeds is None else most_words(most, settings.n_init)
    step = max(1, _WORDS // max(1, n_words))
    for begin, end in problems.chunks(_ENTRIES):
        for lo in range(begin, end, step):
            hi = min(lo + step, end)
            which = lo + np.flatnonzero(tiny[lo:hi])
            if not which.size:
                continue
            start, words = settings.init, np.zeros((1, 1), dtype=np.uint64)
            if seeds is None:
                start = start[which] if len(start) > 1 else np.repeat(start, len(which), axis=0)
            else:
                words = seeds.words(which, n_words)
            rows, first = problems.flat(lo, hi)
            w = None if problems.w is None else problems.block(lo, hi, problems.w).reshape(-1)
            centroids, *found = solver.fit(
                rows,
                w,
                first[which - lo],
                problems.sizes[which],
                clusters[which],
                start,
                words,
                settings.n_init,
                settings.max_iter,
                settings.tol,
                out.centroids.dtype,
                out.flat_labels(lo, hi),
            )
            decided = found[1] >= 0
            tiny[which[~decided]] = False
            done = which[decided]
            out.centroids[done, : centroids.shape[1]] = centroids[decided]
            targets = out.inertia, out.n_iter, out.converged, out.used
            for target, values in zip(targets, found, strict=True):
                target[done] = values[decided]
    return np.flatnonzero(~tiny)


def _fit_on_device(
    solver: DeviceSolver, problems: Problems, clusters: np.ndarray, settings: _Settings, seeds: Any
) -> Found | None:
    """Fit the tiny problems on a CUDA device; None where there are none."""
    count = len(problems)
    tiny = solver.suits(problems.sizes, clusters, problems.w is not None)
    if not tiny.any():
        return None
    return solver.fit(
        problems.w,
        problems.begins(0, count),
        problems.sizes,
        clusters,
        np.flatnonzero(tiny),
        settings.init,
        None if seeds is None else seeds.states(np.arange(count)),
        settings.n_init,
        settings.max_iter,
        settings.tol,
    )


def _warn_if_few(used: np.ndarray, clusters: np.ndarray) -> None:
    """Warn once if problems ended with fewer clusters than were asked for."""
    few = np.flatnonzero(used < clusters)
    if few.size:
        warnings.warn(
            f"{few.size} of {len(used)} problems have fewer distinct clusters than "
            f"n_clusters, the first of them problem {few[0]} ({used[few[0]]} of "
            f"{clusters[few[0]]}). Possibly due to duplicate points in X.",
            convergence_category(),
            stacklevel=outside(),
        )


def predict_batch(
    problems: Problems,
    centroids: Any,
    single: Callable[[Any, Any], Any],
    *,
    tiny: bool,
    device: str | None,
    threads: bool,
) -> Any:
    """Labels of every problem's rows by its own centroids; -1 for padding.

    Parameters
    ----------
    problems : Problems
    centroids : array, shape (K, D) or (B, K, D)
    single : callable
        Labels one problem: (rows, centroids).
    tiny : bool
        Whether compiled kernels may be used.
    device, threads
        As for `kmeans_batch`.
    """
    shape = tuple(np.shape(centroids))
    n_clusters = shape[-2] if len(shape) in (2, 3) else 1
    clusters = np.full(len(problems), n_clusters)
    given = check_init(centroids, clusters, problems, "centroids")
    there = device_solver(problems.x, device) if tiny else None
    found = None if there is None else _label_on_device(there, problems, given)
    given = np.broadcast_to(given, (len(problems), *given.shape[1:]))
    labels: Any = None if found is None else found.labels
    if found is None:
        labels = np.full(tuple(problems.x.shape[:-1]), -1, dtype=np.int32)
    suits = np.zeros(len(problems), dtype=bool) if found is None else found.n_iter >= 0
    solver = tiny_solver(problems.x) if tiny and device is None else None
    if solver is not None:
        suits = solver.suits(problems.sizes, problems.n_features)
        for lo, hi in problems.chunks(_ENTRIES):
            which = lo + np.flatnonzero(suits[lo:hi])
            if not which.size:
                continue
            rows, first = problems.flat(lo, hi)
            target = np.asarray(problems.block(lo, hi, labels)).reshape(-1)
            decided = solver.predict(
                rows, first[which - lo], problems.sizes[which], given[which], given.dtype, target
            )
            suits[which[~decided]] = False
    out = Problems(labels[..., None], None, problems.first, problems.sizes)

    def label(b: int) -> None:
        found = to_numpy(single(problems.rows(b), given[b]))
        out.rows(b)[:, 0] = from_numpy(found, labels)

    threads = threads and isinstance(problems.x, np.ndarray)
    for _ in _each(label, np.flatnonzero(~suits), problems, threads):
        pass
    if there is None or found is None:
        return from_numpy(labels, problems.like)
    return there.on_caller(labels)


def _label_on_device(
    solver: DeviceSolver, problems: Problems, centroids: np.ndarray
) -> Found | None:
    """Label the rows of the tiny problems on a CUDA device; None where there are none."""
    clusters = np.full(len(problems), centroids.shape[1])
    settings = _Settings(centroids, 1, 0, 0.0)
    unweighted = replace(problems, w=None)
    return _fit_on_device(solver, unweighted, clusters, settings, None)
