"""Finding centroids: validate, choose blocks, seed, run the loop."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np

from kmeans_xp.backends.convert import centroid_dtype, from_numpy
from kmeans_xp.batch import kmeans_batch
from kmeans_xp.blocks.base import Blocks
from kmeans_xp.blocks.open import open_blocks
from kmeans_xp.blocks.tiny import TinySolver, solver_for_one
from kmeans_xp.checkpoint import Best, Keeper, described, open_keeper
from kmeans_xp.exceptions import ConvergenceWarning, warn_of_few_clusters
from kmeans_xp.label_files import LabelSink, check_labels_out
from kmeans_xp.lloyd import State, lloyd
from kmeans_xp.problems import is_batch, open_problems
from kmeans_xp.progress import Watch, check_progress, pass_bars, problem_bar
from kmeans_xp.result import BatchResult, KMeansResult
from kmeans_xp.seeding import Start, Words, most_words, plus_plus
from kmeans_xp.validation import (
    as_array,
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
    check_weights,
    with_rows_counted,
)

__all__ = ["kmeans", "kmeans_plusplus"]


def kmeans(
    X: Any,
    n_clusters: int = 8,
    *,
    init: Any = "k-means++",
    init_size: int | str = "auto",
    oversampling_factor: float = 2.0,
    n_init: int | str = "auto",
    max_iter: int = 300,
    tol: float = 1e-4,
    sample_weight: Any = None,
    metric: str = "euclidean",
    random_state: Any = None,
    algorithm: str = "auto",
    device: str | None = None,
    lengths: Any = None,
    offsets: Any = None,
    checkpoint: Any = None,
    resume: Any = None,
    labels_out: Any = None,
    progress: bool = False,
    callback: Callable[[State], bool | None] | None = None,
    verbose: int = 0,
) -> Any:
    """Cluster the rows of X by k-means, exactly.

    The same data and seed give the same labels, centroids, inertia and iteration count to the last
    bit, in any array library, on any device, with any number of threads; docs/exactness.md defines
    them.

    Parameters
    ----------
    X : array, shape (N, D); or (B, N, D) for a batch of B independent problems
        NumPy, CuPy, PyTorch, JAX or any other array-API array; bool, integer (computed as float64),
        float16, bfloat16, float32 or float64. Any memory layout; never modified. Lists and data
        frames become NumPy. SciPy's sparse matrices and arrays are computed as CSR, never made
        dense; CuPy's (`cupyx.scipy.sparse`) are computed on the host, with results in CuPy. A
        `stream` gives rows that need not fit in memory. A Dask array of NumPy or CuPy chunks is
        computed where its chunks are.
    n_clusters : int, default 8
        Number of clusters K, 1 <= K <= N. A batch takes one for all or one a problem.
    init : {"k-means++", "k-means||", "random"}, array of shape (K, D), or callable
        Where the centroids start: greedy k-means++ (Arthur & Vassilvitskii 2007), k-means|| (also
        "scalable-k-means++": Bahmani et al. 2012), which needs a few passes over the rows however
        many clusters there are, rows drawn without replacement, given centroids (any namespace and
        real dtype), or the outcome of ``init(X, n_clusters, random_state=RandomState)``. Arrays of
        shape (B, K, D) give every problem of a batch its own.
    init_size : int or "auto", default "auto"
        Rows that k-means++ and k-means|| look at. "auto": for k-means++ all up to 2**20, beyond
        that max(2**20, 256 * K) drawn ones; for k-means|| all.
    oversampling_factor : float, default 2.0
        k-means|| draws this many candidates a cluster in each round.
    n_init : int or "auto", default "auto"
        Starts to make; the one of lowest inertia is returned. "auto": 10 for "random" and
        callables, else 1.
    max_iter : int, default 300
        Largest number of iterations of a start.
    tol : float, default 1e-4
        Stop when the centroids move by Σ|Δ|² <= tol times the mean variance of the features. 0:
        only when nothing moves or no label changes.
    sample_weight : array of the shape of the rows, optional
        Weights of the rows, non-negative: float32 or float64 as given, anything else as float64.
    metric : {"euclidean", "cosine"}
        "cosine" is spherical k-means (Dhillon & Modha 2001): rows and centroids count by their
        direction alone, each row goes to the centroid of largest cosine, and the inertia is
        Σ w (1 − cosine). Works on a copy of X with rows of length 1; refuses rows of zeros.
    random_state : None, int, SeedSequence, RandomState or Generator
        Seed of the start.
    algorithm : {"auto", "lloyd", "hamerly", "elkan"}
        How to compute; the result has the same bits with each.
    device : {"cuda", None}
        "cuda" computes NumPy input on the current CUDA device (needs CuPy) and returns NumPy.
    lengths : array of int, shape (B,), optional
        Of a padded batch X of shape (B, N, D): how many rows of each problem count.
    offsets : array of int, shape (B + 1,), optional
        Of a batch of flat rows X of shape (M, D): where each problem begins and the last one ends.
    checkpoint : path-like or Checkpoint, optional
        Folder in which to keep the state of the fit: after every start and every 30 seconds, or as
        a `Checkpoint` says.
    resume : path-like, optional
        Folder with the checkpoint of an interrupted fit of the same data and parameters: goes on
        from there and ends with the bits of a fit that was never interrupted.
    labels_out : path-like or ndarray, optional
        Where the labels are to go, all or none of them: a ``.npy`` file, whose room on the disk is
        taken before any work and in which the fit keeps them, or a NumPy array of int32. ``labels``
        of the result is then a read-only view of it, NumPy whatever X is. Not for batches.
    progress : bool, default False
        Show a progress bar, and of a stream one of each pass (needs tqdm).
    callback : callable, optional
        Called with a `State` after every iteration; returning True stops. Not for batches.
    verbose : int, default 0
        Print a line for every iteration, in scikit-learn's format: the inertia of its labels around
        the centroids it began with.

    Returns
    -------
    KMeansResult or BatchResult
        labels (int32), centroids (float32 for float16, bfloat16 and float32 X, else float64),
        inertia, n_iter, converged. A `BatchResult` has one of each a problem, and problem b has
        the bits of ``kmeans(X[b], random_state=seeds[b])`` with
        ``seeds = numpy.random.SeedSequence(random_state).spawn(B)``. For a Dask array labels are
        one too, with its chunks, and centroids are NumPy.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument, before any work.

    Warns
    -----
    ConvergenceWarning
        If X has fewer distinct rows than `n_clusters`.
    dask.array.PerformanceWarning
        If X is a Dask array with several chunks along its features.

    References
    ----------
    S. P. Lloyd, "Least squares quantization in PCM", IEEE Trans. Inf. Theory 28 (1982).

    B. Bahmani, B. Moseley, A. Vattani, R. Kumar, S. Vassilvitskii, "Scalable k-means++", PVLDB 5
    (2012).

    I. S. Dhillon, D. S. Modha, "Concept decompositions for large sparse text data using
    clustering", Machine Learning 42 (2001).

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp import kmeans
    >>> x = np.array([[0.0, 0.0], [0.0, 1.0], [9.0, 9.0], [9.0, 8.0]])
    >>> result = kmeans(x, 2, random_state=0)
    >>> result.inertia, result.converged
    (1.0, True)
    """
    if is_batch(X, lengths, offsets):
        if checkpoint is not None or resume is not None:
            raise ValueError("checkpoint and resume are not for batches")
        if labels_out is not None:
            raise ValueError("labels_out is not for batches")
        return _kmeans_batch(
            X,
            n_clusters,
            lengths,
            offsets,
            sample_weight,
            callback,
            progress,
            init=init,
            init_size=init_size,
            oversampling_factor=oversampling_factor,
            n_init=n_init,
            max_iter=max_iter,
            tol=tol,
            metric=metric,
            random_state=random_state,
            algorithm=algorithm,
            device=device,
            verbose=verbose,
        )
    x = as_array(X, sparse=True, streams=True, chunked=True)
    n_clusters = check_n_clusters(n_clusters, x.shape[0])
    max_iter, tol = check_count(max_iter, "max_iter"), check_tol(tol)
    algorithm = check_algorithm(algorithm)
    check_device(device)
    measure = check_metric(metric)
    start = Start(x, init, n_clusters, init_size, measure, oversampling_factor)
    n_starts = check_n_init(n_init, init)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be callable, got {callback!r}")
    check_progress(progress)
    check_random_state(random_state)
    keeper = open_keeper(checkpoint, resume)
    x = with_rows_counted(x, n_clusters)
    w = check_weights(sample_weight, x)
    target = check_labels_out(labels_out, int(x.shape[0]))
    watched = callback is not None or progress or verbose or checkpoint or resume
    watched = watched or target is not None
    ordinary = w is None and device is None and algorithm == "auto" and not watched
    words, solver = None, _tiny_solver(x, start) if ordinary else None
    if solver is not None:
        words = Words(random_state)
        fitted = _fit_tiny(solver, x, start, words, n_starts, max_iter, tol)
        if fitted is not None:
            return fitted
    given = start.name or (start.init if start.given is None else start.given)
    parameters = {
        **described(given, random_state),
        **dict(n_clusters=n_clusters, init_size=init_size, n_init=n_starts),
        **dict(max_iter=max_iter, tol=tol, metric=metric),
    }
    if start.name == "k-means||":
        parameters["oversampling_factor"] = start.oversampling_factor
    with LabelSink(target, int(x.shape[0])) as sink, pass_bars(x, progress):
        blocks = open_blocks(x, w, centroid_dtype(x), device, algorithm, measure)
        words = words or Words(random_state)  # not before X is known to be usable
        blocks.label_store = sink.store
        watches = functools.partial(
            Watch,
            blocks,
            x,
            max_iter=max_iter,
            progress=progress,
            callback=callback,
            verbose=verbose,
        )
        with blocks.session():
            keeper.begin(blocks, words, parameters)
            best = _best_start(blocks, start, words, keeper, watches, n_starts, max_iter, tol)
        sink.keep(best.labels)
    labels = sink.result(best.labels)
    warn_of_few_clusters(blocks.distinct_labels(best.labels, n_clusters), n_clusters)
    return KMeansResult(
        labels, from_numpy(best.centroids, x), best.inertia, best.n_iter, best.converged
    )


def _tiny_solver(x: Any, start: Start) -> TinySolver | None:
    """What fits x in one compiled call, if it is small enough and starts in a plain way."""
    known = start.given is not None or start.name in ("k-means++", "random")
    plain = known and start.init_size == "auto" and not start.metric.spherical
    return solver_for_one(x, start.n_clusters) if plain else None


def _fit_tiny(
    solver: TinySolver,
    x: Any,
    start: Start,
    words: Words,
    n_starts: int,
    max_iter: int,
    tol: float,
) -> KMeansResult | None:
    """Fit in one compiled call; None if that cannot decide. Takes nothing from `words`."""
    k = start.n_clusters
    first = start.init if start.given is None else start.given
    drawn = words.copy().words(most_words(k, n_starts))
    fitted = solver.fit_one(x, k, first, drawn, n_starts, max_iter, tol)
    if fitted is None:
        return None
    labels, centroids, cost, n_iter, converged = fitted
    warn_of_few_clusters(int(np.count_nonzero(np.bincount(labels))), k)
    return KMeansResult(from_numpy(labels, x), from_numpy(centroids, x), cost, n_iter, converged)


def _best_start(
    blocks: Blocks,
    start: Start,
    words: Words,
    keeper: Keeper,
    watches: Callable[[int], Watch],
    n_starts: int,
    max_iter: int,
    tol: float,
) -> Best:
    """Make the starts that the keeper says are left; the one of lowest inertia."""
    best = keeper.best
    for index in range(keeper.start, n_starts):
        watch = watches(index)
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
                max_iter=max_iter,
                tol=tol,
                on_iteration=watch.on_iteration,
                on_going=functools.partial(keeper.after_iteration, blocks),
                done=keeper.iteration,
            )
        watch.end(loop, tol)
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


def _kmeans_batch(
    X: Any,
    n_clusters: Any,
    lengths: Any,
    offsets: Any,
    sample_weight: Any,
    callback: Any,
    progress: bool,
    *,
    random_state: Any,
    **settings: Any,
) -> BatchResult:
    """`kmeans` for a batch: everything is checked before the first problem is fitted."""
    if callback is not None:
        raise ValueError("callback is not for batches: fit the problems one by one to watch them")
    check_progress(progress)
    check_random_state(random_state)
    max_iter, tol = check_count(settings["max_iter"], "max_iter"), check_tol(settings["tol"])
    check_algorithm(settings["algorithm"])
    check_device(settings["device"])
    init, init_size = check_init_name(settings["init"]), settings["init_size"]
    check_oversampling_factor(settings["oversampling_factor"])
    if not isinstance(init_size, str) or init_size != "auto":
        check_init_size(init_size, int(np.max(np.asarray(n_clusters))))
    settings["n_init"] = check_n_init(settings["n_init"], init)
    spherical = check_metric(settings["metric"]).spherical
    problems = open_problems(X, lengths, offsets, sample_weight, directions=spherical)
    plain = settings["device"] is None and init_size == "auto" and not settings["verbose"]
    numbers = count()

    def single(rows: Any, k: int, first: Any, w: Any, seed: Any) -> KMeansResult:
        weights = None if w is None else from_numpy(w, rows)
        given = {**settings, "init": first, "sample_weight": weights, "random_state": seed}
        if settings["verbose"]:  # then all problems come here, in order
            print(f"Problem {next(numbers)}")
        with warnings.catch_warnings():  # one warning speaks for all problems
            warnings.simplefilter("ignore", ConvergenceWarning)
            found: KMeansResult = kmeans(rows, k, **given)
        return found

    with problem_bar(len(problems), progress) as on_done:
        return kmeans_batch(
            problems,
            n_clusters,
            init=init,
            n_init=settings["n_init"],
            max_iter=max_iter,
            tol=tol,
            random_state=random_state,
            single=single,
            tiny=plain and not spherical,
            on_done=on_done,
        )


def kmeans_plusplus(
    X: Any,
    n_clusters: int,
    *,
    init_size: int | str = "auto",
    sample_weight: Any = None,
    x_squared_norms: Any = None,
    metric: str = "euclidean",
    random_state: Any = None,
    n_local_trials: int | None = None,
) -> tuple[Any, Any]:
    """Choose starting centroids by greedy k-means++, as `kmeans` does.

    Parameters
    ----------
    X, n_clusters, init_size, sample_weight, metric, random_state
        As for `kmeans`.
    x_squared_norms : None
        Ignored: scikit-learn's callers may pass it, but no squared norms are needed here.
    n_local_trials : int, optional
        Candidates for each centre after the first, of which the one that lowers the potential most
        is taken; 2 + ⌊ln K⌋ by default, and 1 is k-means++ as first published.

    Returns
    -------
    centroids : array, shape (K, D)
        Rows of X (their directions for "cosine"), float32 or float64.
    indices : array of int64, shape (K,)
        Which rows they are (int32 where the namespace has no int64).

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.

    References
    ----------
    D. Arthur, S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp import kmeans_plusplus
    >>> x = np.array([[0.0, 0.0], [0.0, 1.0], [9.0, 9.0], [9.0, 8.0]])
    >>> centroids, indices = kmeans_plusplus(x, 2, random_state=0)
    >>> bool((x[indices] == centroids).all())
    True
    """
    x = as_array(X, sparse=True, streams=True, chunked=True)
    n_clusters = check_n_clusters(n_clusters, x.shape[0])
    size = check_init_size(init_size, n_clusters)
    if n_local_trials is not None:
        n_local_trials = check_count(n_local_trials, "n_local_trials")
    check_random_state(random_state)
    measure = check_metric(metric)
    x = with_rows_counted(x, n_clusters)
    w = check_weights(sample_weight, x)
    blocks = open_blocks(x, w, centroid_dtype(x), metric=measure)
    words = Words(random_state)
    with blocks.session():
        centroids, indices = plus_plus(blocks, n_clusters, words, size, n_local_trials)
    return from_numpy(centroids + centroids.dtype.type(0), x), from_numpy(indices, x)
