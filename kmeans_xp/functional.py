"""Finding centroids: `kmeans` for one problem or a batch, and the start alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np

from kmeans_xp.backends.convert import centroid_dtype, from_numpy
from kmeans_xp.backends.devices import on_cuda_device
from kmeans_xp.batch import kmeans_batch
from kmeans_xp.blocks.open import open_blocks
from kmeans_xp.lloyd import State
from kmeans_xp.problems import is_batch, open_problems
from kmeans_xp.progress import problem_bar
from kmeans_xp.result import BatchResult, KMeansResult
from kmeans_xp.seeding import Words, plus_plus
from kmeans_xp.settings import Settings, Watchers
from kmeans_xp.single import fit_one
from kmeans_xp.validation import (
    as_array,
    check_count,
    check_init_name,
    check_init_size,
    check_metric,
    check_n_clusters,
    check_random_state,
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
    device: Any = None,
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
    device : None, "cuda", "cuda:N", int or "cpu"
        "cuda" computes NumPy input, or the blocks of a stream, on the current CUDA device (needs
        CuPy) and returns NumPy; "cuda:1", or 1, names another one. None computes where X is, and
        "cpu" too, but refuses X that is not on the host.
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
    RuntimeWarning
        If the inertia is beyond float64, and so inf; labels and centroids are exact all the same.
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
    settings = Settings(
        init,
        init_size,
        oversampling_factor,
        n_init,
        max_iter,
        tol,
        metric,
        random_state,
        algorithm,
        device,
    )
    watchers = Watchers(progress, callback, verbose, checkpoint, resume, labels_out)
    if is_batch(X, lengths, offsets):
        return _kmeans_batch(X, n_clusters, lengths, offsets, sample_weight, settings, watchers)
    return fit_one(X, n_clusters, settings, sample_weight, watchers)


def _kmeans_batch(
    X: Any,
    n_clusters: Any,
    lengths: Any,
    offsets: Any,
    sample_weight: Any,
    settings: Settings,
    watchers: Watchers,
) -> BatchResult:
    """`kmeans` for a batch: everything is checked before the first problem is fitted."""
    if watchers.checkpoint is not None or watchers.resume is not None:
        raise ValueError("checkpoint and resume are not for batches")
    if watchers.labels_out is not None:
        raise ValueError("labels_out is not for batches")
    if watchers.callback is not None:
        raise ValueError("callback is not for batches: fit the problems one by one to watch them")
    watchers.check()
    settings = settings.checked(X)
    init, init_size = check_init_name(settings.init), settings.init_size
    if not isinstance(init_size, str) or init_size != "auto":
        check_init_size(init_size, int(np.max(np.asarray(n_clusters))))
    spherical, verbose = settings.measure.spherical, watchers.verbose
    problems = open_problems(X, lengths, offsets, sample_weight, directions=spherical)
    plain = init_size == "auto" and not verbose
    numbers = count()

    def single(rows: Any, k: int, first: Any, w: Any, seed: Any) -> KMeansResult:
        weights = None if w is None else from_numpy(w, rows)
        if verbose:  # then all problems come here, in order
            print(f"Problem {next(numbers)}")
        own = replace(settings, init=first, random_state=seed)
        return fit_one(rows, k, own, weights, Watchers(verbose=verbose))

    with problem_bar(len(problems), watchers.progress) as on_done:
        return kmeans_batch(
            problems,
            n_clusters,
            init=init,
            n_init=int(settings.n_init),
            max_iter=settings.max_iter,
            tol=settings.tol,
            random_state=settings.random_state,
            single=single,
            tiny=plain and not spherical,
            device=settings.device,
            threads=settings.device is None and not verbose,
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
    with on_cuda_device(None, x):
        blocks = open_blocks(x, w, centroid_dtype(x), metric=measure)
        words = Words(random_state)
        with blocks.session():
            centroids, indices = plus_plus(blocks, n_clusters, words, size, n_local_trials)
    return from_numpy(centroids + centroids.dtype.type(0), x), from_numpy(indices, x)
