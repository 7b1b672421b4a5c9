"""One problem from its arguments to its result: check, choose where, seed, run the loop."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from kmeans_xp.backends.convert import centroid_dtype, from_numpy
from kmeans_xp.backends.devices import on_cuda_device
from kmeans_xp.blocks.base import Blocks
from kmeans_xp.blocks.device_tiny import device_solver
from kmeans_xp.blocks.open import open_blocks
from kmeans_xp.blocks.tiny import solver_for_one
from kmeans_xp.checkpoint import Best, Keeper, described, open_keeper
from kmeans_xp.exceptions import warn_of_few_clusters, warn_of_overflow
from kmeans_xp.label_files import LabelSink, check_labels_out
from kmeans_xp.lloyd import LoopResult, lloyd
from kmeans_xp.progress import Watch, pass_bars
from kmeans_xp.result import KMeansResult
from kmeans_xp.seeding import Words, most_words
from kmeans_xp.settings import Settings, Watchers
from kmeans_xp.start import Start
from kmeans_xp.validation import as_array, check_n_clusters, check_weights, with_rows_counted

__all__ = ["fit_one"]


def fit_one(
    X: Any,
    n_clusters: int,
    settings: Settings,
    sample_weight: Any = None,
    watchers: Watchers | None = None,
) -> KMeansResult:
    """Fit one problem; the parameters are those of `kmeans`.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument, before any work.
    """
    watchers = watchers or Watchers()
    x = as_array(X, sparse=True, streams=True, chunked=True)
    n_clusters = check_n_clusters(n_clusters, x.shape[0])
    settings = settings.checked(x)
    start = Start(
        x,
        settings.init,
        n_clusters,
        settings.init_size,
        settings.measure,
        settings.oversampling_factor,
    )
    watchers.check()
    keeper = open_keeper(watchers.checkpoint, watchers.resume)
    x = with_rows_counted(x, n_clusters)
    w = check_weights(sample_weight, x)
    target = check_labels_out(watchers.labels_out, int(x.shape[0]))
    words = functools.cache(lambda: Words(settings.random_state))  # once all is checked
    fitted = None if watchers.anyone else _fit_tiny(x, w, start, words, settings)
    if fitted is None:
        fitted = _fit_blocks(x, w, start, words, settings, watchers, keeper, target)
    warn_of_overflow(fitted.inertia)
    return fitted


def _fit_blocks(
    x: Any,
    w: np.ndarray | None,
    start: Start,
    words: Callable[[], Words],
    settings: Settings,
    watchers: Watchers,
    keeper: Keeper,
    target: Any,
) -> KMeansResult:
    """Fit by the loop, with labels in `target` where there is one."""
    here = on_cuda_device(settings.device, x)
    with here, LabelSink(target, int(x.shape[0])) as sink, pass_bars(x, watchers.progress):
        blocks = open_blocks(
            x, w, centroid_dtype(x), settings.device, settings.algorithm, settings.measure
        )
        blocks.label_store = sink.store
        watch = functools.partial(
            Watch,
            blocks,
            x,
            max_iter=settings.max_iter,
            progress=watchers.progress,
            callback=watchers.callback,
            verbose=watchers.verbose,
        )
        with blocks.session():
            keeper.begin(blocks, words(), _identity(start, settings))
            try:
                best = _best_start(blocks, start, words(), keeper, watch, settings)
            except (KeyboardInterrupt, SystemExit):
                keeper.interrupted()
                raise
        sink.keep(best.labels)
    labels = sink.result(best.labels)
    k = start.n_clusters
    warn_of_few_clusters(blocks.distinct_labels(best.labels, k), k)
    return KMeansResult(
        labels, from_numpy(best.centroids, x), best.inertia, best.n_iter, best.converged
    )


def _fit_tiny(
    x: Any, w: np.ndarray | None, start: Start, words: Callable[[], Words], settings: Settings
) -> KMeansResult | None:
    """Fit in one compiled call; None if that does not suit the problem, or cannot decide it.

    Takes nothing from the words.
    """
    known = start.given is not None or start.name in ("k-means++", "random")
    plain = known and start.init_size == "auto" and not start.metric.spherical
    if not plain or settings.algorithm != "auto":
        return None
    on_host = solver_for_one(x, start.n_clusters) if settings.device is None else None
    if on_host is None:
        return _fit_on_device(x, w, start, words, settings)
    k, n_starts = start.n_clusters, int(settings.n_init)
    first = start.init if start.given is None else start.given
    drawn = words().copy().words(most_words(k, n_starts))
    fitted = on_host.fit_one(x, k, first, drawn, n_starts, settings.max_iter, settings.tol, w)
    if fitted is None:
        return None
    labels, centroids, cost, n_iter, converged = fitted
    warn_of_few_clusters(int(np.count_nonzero(np.bincount(labels))), k)
    return KMeansResult(from_numpy(labels, x), from_numpy(centroids, x), cost, n_iter, converged)


def _fit_on_device(
    x: Any, w: np.ndarray | None, start: Start, words: Callable[[], Words], settings: Settings
) -> KMeansResult | None:
    """`_fit_tiny` on a CUDA device."""
    solver = device_solver(x, settings.device)
    sizes, clusters = np.array([int(x.shape[0])]), np.array([start.n_clusters])
    if solver is None or solver.refusable:  # the loop looks at such integers first
        return None
    if not solver.suits(sizes, clusters, w is not None).all():
        return None
    first = start.init if start.given is None else start.given[None]
    found = solver.fit(
        w,
        np.zeros(1, dtype=np.int64),
        sizes,
        clusters,
        np.zeros(1, dtype=np.int64),
        first,
        words().begun()[None],
        int(settings.n_init),
        settings.max_iter,
        settings.tol,
    )
    if found is None or found.n_iter[0] < 0:
        return None
    warn_of_few_clusters(int(found.used[0]), start.n_clusters)
    return KMeansResult(
        solver.on_caller(found.labels),
        solver.on_caller(found.centroids[0]),
        float(found.inertia[0]),
        int(found.n_iter[0]),
        bool(found.converged[0]),
    )


def _identity(start: Start, settings: Settings) -> dict[str, Any]:
    """What a fit must have in common with the checkpoint that it resumes, beside the data."""
    given = start.name or (start.init if start.given is None else start.given)
    parameters = {
        **described(given, settings.random_state),
        "n_clusters": start.n_clusters,
        "init_size": settings.init_size,
        "n_init": settings.n_init,
        "max_iter": settings.max_iter,
        "tol": settings.tol,
        "metric": settings.metric,
    }
    if start.name == "k-means||":
        parameters["oversampling_factor"] = start.oversampling_factor
    return parameters


def _best_start(
    blocks: Blocks,
    start: Start,
    words: Words,
    keeper: Keeper,
    watch: Callable[[int], Watch],
    settings: Settings,
) -> Best:
    """Make the starts that the keeper says are left; the one of lowest inertia."""
    best, n_starts = keeper.best, int(settings.n_init)
    for index in range(keeper.start, n_starts):
        loop = _one_start(blocks, start, words, keeper, watch(index), settings)
        cost = blocks.inertia(loop.centroids)
        if best is None or cost < best.inertia:
            centroids = blocks.fetch(loop.centroids)
            best = Best(cost, centroids, loop.n_iter, loop.converged)
            if blocks.label_store is None or index + 1 == n_starts:  # else another start takes it
                best.labels = blocks.labels()
        keeper.after_start(index, best)
    assert best is not None
    if best.labels is None:  # of a start before the interruption, or overwritten
        blocks.reset()
        blocks.assign(blocks.place(best.centroids))
        best.labels = blocks.labels()
    return best


def _one_start(
    blocks: Blocks, start: Start, words: Words, keeper: Keeper, watch: Watch, settings: Settings
) -> LoopResult:
    """Run the loop from a new start, or from where the keeper says it was interrupted."""
    blocks.reset()
    if keeper.centroids is None:
        handle = blocks.place(start.centroids(blocks, words))
    else:
        before, handle = (blocks.place(c) for c in keeper.centroids)
        blocks.settle(before)
    watch.begin(handle)
    with watch:
        loop = lloyd(
            blocks,
            handle,
            max_iter=settings.max_iter,
            tol=settings.tol,
            on_iteration=watch.on_iteration,
            on_going=functools.partial(keeper.after_iteration, blocks),
            done=keeper.iteration,
        )
    watch.end(loop, settings.tol)
    return loop
