"""SciPy's `scipy.cluster.vq` for every array library: whiten, vq, kmeans, kmeans2.

Names, arguments and return values are SciPy's; codes and code books are exact, as everywhere in
this package. Random starts draw other numbers than SciPy's.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from kmeans_xp.backends import backend_for
from kmeans_xp.backends.abilities import has_float64
from kmeans_xp.backends.convert import centroid_dtype, from_numpy, on_cpu, to_numpy
from kmeans_xp.blocks.base import Blocks
from kmeans_xp.blocks.open import open_blocks
from kmeans_xp.grouped import in_float64
from kmeans_xp.prediction import predict
from kmeans_xp.seeding import Words, plus_plus, random_rows
from kmeans_xp.validation import check_centroids, check_count, outside
from kmeans_xp.vq._arguments import (
    check_book,
    check_observations,
    check_rows,
    check_thresh,
    random_words,
    scalar,
)
from kmeans_xp.vq._gaussian import gaussian

__all__ = ["ClusterError", "kmeans", "kmeans2", "vq", "whiten"]

MINITS = ("random", "points", "++", "matrix")
# Values of the rows whose distances are taken at a time, on a CPU and on a device.
_ENTRIES, _DEVICE_ENTRIES = 1 << 18, 1 << 25


class ClusterError(Exception):
    """A cluster of `kmeans2` has no observation, with ``missing="raise"``."""


def whiten(obs: Any, check_finite: bool = True) -> Any:
    """Divide each feature by its standard deviation, so that all have unit variance.

    Parameters
    ----------
    obs : array, shape (N, D) or (N,)
        Observations; integers become float64.
    check_finite : bool, default True
        Refuse NaN and infinity, and warn of features that do not vary.

    Returns
    -------
    array, shape of `obs`
        In the namespace and on the device of `obs`. A feature that does not vary is left as it is.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.

    Warns
    -----
    RuntimeWarning
        If a feature does not vary.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp.vq import whiten
    >>> whiten(np.array([[1.0, 10.0], [3.0, 50.0]]))
    array([[1. , 0.5],
           [3. , 2.5]])
    """
    x, flat = check_observations(obs, "obs", check_finite)
    xp = array_namespace(x)
    if not xp.isdtype(x.dtype, "real floating"):
        x = xp.astype(x, xp.float64)
    deviation = xp.std(x, axis=0)
    constant = deviation == 0
    if check_finite and bool(xp.any(constant)):
        warnings.warn(
            "Some columns have standard deviation zero. The values of these columns will not "
            "change.",
            RuntimeWarning,
            stacklevel=outside(),
        )
    white = x / xp.where(constant, xp.ones_like(deviation), deviation)[None, :]
    return white[:, 0] if flat else white


def vq(obs: Any, code_book: Any, check_finite: bool = True) -> tuple[Any, Any]:
    """Nearest code of each observation and its distance.

    Parameters
    ----------
    obs : array, shape (N, D) or (N,)
        Observations.
    code_book : array, shape (K, D) or (K,)
        Codes, of any namespace. If either is float64 or integer, all is computed as float64 (where
        the namespace has it).
    check_finite : bool, default True
        Look for NaN and infinity first. They are refused in any case.

    Returns
    -------
    code : array of int32, shape (N,)
        Index of the nearest code, exactly; ties go to the lowest.
    dist : array, shape (N,)
        Euclidean distance to it, float32 or float64. Relative error about 1e-7 or 1e-15.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp.vq import vq
    >>> code, dist = vq(np.array([[0.0, 1.0], [5.0, 8.0]]), np.array([[0.0, 0.0], [5.0, 5.0]]))
    >>> code, dist
    (array([0, 1], dtype=int32), array([1., 3.]))
    """
    x, flat = check_observations(obs, "obs", check_finite)
    xp = array_namespace(x)
    given = check_book(code_book, flat, "code_book")
    wide = centroid_dtype(x) == np.float64 or centroid_dtype(given) == np.float64
    if wide and centroid_dtype(x) == np.float32 and has_float64(xp, x):
        x = xp.astype(x, xp.float64)
    dtype = centroid_dtype(x)
    book = check_centroids(given, (None, int(x.shape[1])), dtype, "code_book")
    code = predict(x, book)
    dist = to_numpy(_own_distances(x, book, code))
    return code, from_numpy(dist.astype(dtype), x)


def kmeans(
    obs: Any,
    k_or_guess: Any,
    iter: int = 20,  # noqa: A002
    thresh: float = 1e-5,
    check_finite: bool = True,
    *,
    rng: Any = None,
    seed: Any = None,
) -> tuple[Any, Any]:
    """Code book of least distortion from several random starts, or from a given one.

    A start ends when the mean distance of the observations to their codes changes by no more than
    `thresh`. Codes that lose all their observations are dropped.

    Parameters
    ----------
    obs : array, shape (N, D) or (N,)
        Observations, usually from `whiten`.
    k_or_guess : int or array, shape (K, D) or (K,)
        Number of codes, started from random observations, or the first code book.
    iter : int, default 20
        Number of starts; without meaning for a given code book.
    thresh : float, default 1e-5
        Change of the mean distance at which a start ends.
    check_finite : bool, default True
        Look for NaN and infinity first. They are refused in any case.
    rng, seed : None, int, SeedSequence, RandomState or Generator
        Seed of the starts, by its new and its old name. One seed gives the same code book in every
        array library.

    Returns
    -------
    code_book : array, shape (at most K, D) or (at most K,)
        In the namespace and on the device of `obs`: exact means, float32 for float16, bfloat16 and
        float32 observations, else float64.
    distortion : scalar array
        Mean distance (not squared) of the observations to the code book of the iteration before
        the last, as in SciPy.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.

    See Also
    --------
    kmeans_xp.kmeans : the library's own function.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp.vq import kmeans
    >>> book, distortion = kmeans(np.array([0.0, 2.0, 10.0, 12.0]), np.array([0.0, 10.0]))
    >>> book, float(distortion)
    (array([ 1., 11.]), 1.0)
    """
    x, flat = check_observations(obs, "obs", check_finite)
    iter = check_count(iter, "iter")  # noqa: A001
    thresh = check_thresh(thresh)
    words = random_words(rng, seed)
    count = scalar(k_or_guess, "k_or_guess")
    guess = None
    if count is None:
        given = check_book(k_or_guess, flat, "k_or_guess")
        guess = check_centroids(given, (None, int(x.shape[1])), centroid_dtype(x), "k_or_guess")
    elif count != int(count):
        raise ValueError(f"k_or_guess must be an integer or a code book, got {k_or_guess!r}")
    else:
        check_rows(int(count), x, "k_or_guess")
    blocks = open_blocks(x, None, centroid_dtype(x))
    best, least = None, math.inf
    with blocks.session():
        for _ in range(1 if count is None else iter):
            if count is not None:
                guess = blocks.rows(random_rows(blocks, int(count), words))
            assert guess is not None
            book, distortion = _until_thresh(blocks, x, guess, thresh)
            if best is None or distortion < least:
                best, least = book, distortion
    assert best is not None
    return _shaped(best, x, flat), from_numpy(np.asarray([least], dtype=best.dtype), x)[0]


def kmeans2(
    data: Any,
    k: Any,
    iter: int = 10,  # noqa: A002
    thresh: float = 1e-5,
    minit: str = "random",
    missing: str = "warn",
    check_finite: bool = True,
    *,
    rng: Any = None,
    seed: Any = None,
) -> tuple[Any, Any]:
    """Centroids after a number of iterations, and labels.

    Parameters
    ----------
    data : array, shape (N, D) or (N,)
        Observations.
    k : int or array, shape (K, D) or (K,)
        Number of clusters, or the first centroids.
    iter : int, default 10
        Number of iterations.
    thresh : float
        Without effect, as in SciPy.
    minit : {"random", "points", "++", "matrix"}
        Where the centroids start: drawn from a Gaussian with mean and covariance of the data,
        random observations, greedy k-means++ as in `kmeans_xp.kmeans`, or `k` itself.
    missing : {"warn", "raise"}
        What to do about a cluster without observations; with "warn" it stays where it is.
    check_finite : bool, default True
        Look for NaN and infinity first. They are refused in any case.
    rng, seed : None, int, SeedSequence, RandomState or Generator
        Seed of the start, by its new and its old name.

    Returns
    -------
    centroid : array, shape (K, D) or (K,)
        Exact means of the labels, in the namespace and on the device of `data`.
    label : array of int32, shape (N,)
        Nearest of the centroids of the iteration before.

    Raises
    ------
    ClusterError
        If a cluster has no observation and `missing` is "raise".
    TypeError, ValueError
        For bad input, naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp.vq import kmeans2
    >>> data = np.array([[0.0, 1.0], [0.0, 3.0], [9.0, 5.0], [9.0, 7.0]])
    >>> centroid, label = kmeans2(data, 2, minit="++", rng=0)
    >>> sorted(centroid.tolist())
    [[0.0, 2.0], [9.0, 6.0]]
    """
    x, flat = check_observations(data, "data", check_finite)
    iter = check_count(iter, "iter")  # noqa: A001
    if missing not in ("warn", "raise"):
        raise ValueError(f"missing must be 'warn' or 'raise', got {missing!r}")
    if minit not in MINITS:
        raise ValueError(f"minit must be one of {', '.join(map(repr, MINITS))}, got {minit!r}")
    words = random_words(rng, seed)
    count = None if minit == "matrix" else scalar(k, "k")
    book = None
    if count is None:
        given = check_book(k, flat, "k")
        book = check_centroids(given, (None, int(x.shape[1])), centroid_dtype(x), "k")
    else:
        if count != int(count):
            warnings.warn("k was not an integer, was converted.", stacklevel=outside())
        if minit != "random":
            check_rows(int(count), x, "k")
    blocks = open_blocks(x, None, centroid_dtype(x))
    with blocks.session():
        if book is None:
            assert count is not None
            book = _start(blocks, x, int(count), minit, words)
        for _ in range(iter):
            labels, kept, means = _update(blocks, book)
            if not kept.all():
                _report_missing(missing)
            old, book = book, book.copy()
            book[kept] = means
            if np.array_equal(old, book):  # and so it would go on
                break
    return _shaped(book, x, flat), from_numpy(labels, x)


def _shaped(book: np.ndarray, x: Any, flat: bool) -> Any:
    return from_numpy(book[:, 0] if flat else book, x)


def _update(blocks: Blocks, book: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels for a code book, which codes have observations, and the means of those that have.

    The library's loop gives far rows to empty clusters, SciPy's does not. Without the empty ones
    every label stays, so a step with the others gives the means SciPy asks for.
    """
    step = blocks.step(blocks.place(book))
    labels = to_numpy(blocks.labels())
    kept = np.bincount(labels, minlength=len(book)) > 0
    if not kept.all():
        blocks.reset()
        step = blocks.step(blocks.place(book[kept]))
        blocks.reset()
    return labels, kept, blocks.fetch(step.centroids)


def _until_thresh(
    blocks: Blocks, x: Any, book: np.ndarray, thresh: float
) -> tuple[np.ndarray, float]:
    """SciPy's loop, whose stop rule looks at distances that the library's own loop never forms."""
    blocks.reset()
    before = math.inf
    while True:
        labels, _, means = _update(blocks, book)
        distances = _own_distances(x, book, labels)
        distortion = float(array_namespace(distances).mean(distances))
        book = means
        if abs(before - distortion) <= thresh:
            return book, distortion
        before = distortion


def _own_distances(x: Any, book: np.ndarray, codes: Any) -> Any:
    """Distance of every row to its code, float64, where `in_float64` puts the rows."""
    x, codes = in_float64(x), to_numpy(codes)
    xp = array_namespace(x)
    backend = backend_for(x)
    points = from_numpy(book.astype(np.float64), x)
    step = max(1, (_ENTRIES if on_cpu(x) else _DEVICE_ENTRIES) // int(x.shape[1]))

    def part(lo: int) -> Any:
        rows = xp.astype(x[lo : min(lo + step, len(codes)), :], xp.float64)
        index = from_numpy(codes[lo : lo + step].astype(backend.index_dtype), x)
        difference = xp.abs(rows - xp.take(points, index, axis=0))
        unit = xp.max(difference, axis=1, keepdims=True)
        unit = xp.where(unit == 0, xp.ones_like(unit), unit)
        difference = difference / unit  # squares neither over- nor underflow
        return xp.sqrt(xp.sum(difference * difference, axis=1)) * unit[:, 0]

    with backend.session():
        return xp.concat(backend.map(part, range(0, len(codes), step)))


def _report_missing(missing: str) -> None:
    message = "One of the clusters is empty. Re-run kmeans with a different initialization."
    if missing == "raise":
        raise ClusterError(message)
    warnings.warn(message, stacklevel=outside())


def _start(blocks: Blocks, x: Any, k: int, minit: str, words: Words) -> np.ndarray:
    if minit == "points":
        return blocks.rows(random_rows(blocks, k, words))
    if minit == "++":
        return plus_plus(blocks, k, words)[0]
    return gaussian(to_numpy(x).astype(np.float64), k, words).astype(blocks.dtype)
