"""Clusters the data, looks at the outcome, and puts the page together."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kmeans_xp.backends import backend_for
from kmeans_xp.backends.convert import centroid_dtype, take_rows, to_numpy
from kmeans_xp.blocks.directions import directions
from kmeans_xp.blocks.survey import survey
from kmeans_xp.exceptions import quiet_parts
from kmeans_xp.functional import kmeans
from kmeans_xp.grouped import in_float64
from kmeans_xp.history import History
from kmeans_xp.io import atomic_write
from kmeans_xp.metrics import silhouette_samples
from kmeans_xp.plot._common import matplotlib
from kmeans_xp.progress import check_progress
from kmeans_xp.report.content import Choice, Content, Silhouettes
from kmeans_xp.report.numbers import portrait
from kmeans_xp.report.page import page
from kmeans_xp.result import KMeansResult
from kmeans_xp.seeding import Words, sample_rows, shared_seed
from kmeans_xp.selection import KSelection, select_k
from kmeans_xp.validation import (
    as_array,
    check_count,
    check_device,
    check_metric,
    check_n_clusters,
    check_n_init,
    check_tol,
    check_weights,
)

__all__ = ["Report", "cluster_report"]

# Looked at while k is chosen: at most so many rows, and fewer of wide ones.
CHOICE_ROWS, CHOICE_ROWS_AT_LEAST, CHOICE_ENTRIES = 10_000, 500, 2_000_000
SILHOUETTE_ROWS = 3_000  # the time grows with their square
CHOICE_STARTS = 5


@dataclass(frozen=True)
class Report:
    """A page about a clustering, and the clustering.

    Attributes
    ----------
    html : str
        The page. It needs nothing else: no network, no script.
    result : KMeansResult
        What `kmeans` returned.
    selection : KSelection or None
        How the number of clusters was chosen, if it was.
    """

    html: str = field(repr=False)
    result: KMeansResult = field(repr=False)
    selection: KSelection | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file that appears when it is complete.

        Parameters
        ----------
        path : path-like
            Replaced if it exists; its folder must.
        """
        with atomic_write(path) as file:
            file.write(self.html.encode("utf-8"))


def cluster_report(
    X: Any,
    n_clusters: int | str = "auto",
    *,
    title: str = "Clusters",
    feature_names: Sequence[str] | None = None,
    units: tuple[Any, Any] | None = None,
    details: Mapping[str, str] | None = None,
    n_init: int | str = "auto",
    max_iter: int = 300,
    tol: float = 1e-4,
    sample_weight: Any = None,
    metric: str = "euclidean",
    random_state: Any = None,
    device: str | None = None,
    progress: bool = False,
) -> Report:
    """Cluster the rows of X and write a page about it that can be sent to anyone.

    The page shows the clusters on two principal components, their sizes, what sets each apart, how
    the number of clusters was chosen, silhouettes, convergence, the rows nearest to each centroid,
    and with what the result can be had again. It contains a few rows of the data. The same data,
    parameters and versions give the same page.

    Parameters
    ----------
    X : array, shape (N, D)
        Any dense array `kmeans` takes.
    n_clusters : int or "auto", default "auto"
        Number of clusters. "auto" tries 1 to 20 by `select_k` and takes the knee of the inertia, or
        where there is none the highest silhouette; beyond 10,000 rows, or 2 million values, on a
        random sample, as the page then says.
    title : str
        Heading of the page.
    feature_names : sequence of str, optional
        Names of the D features; those of a data frame by default.
    units : tuple (mean, scale), optional
        If X holds standardized features, (data - mean) / scale: the page shows values of the data.
    details : mapping of str to str, optional
        More lines for the table of parameters, as where the data are from.
    n_init : int or "auto", default "auto"
        As for `kmeans`; "auto" is 5 where the number of clusters is chosen.
    max_iter, tol, sample_weight, metric, random_state, device, progress
        As for `kmeans`. The number of clusters is chosen without the weights.

    Returns
    -------
    Report
        `html`, `result`, `selection`, and a method ``save(path)``.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.
    ModuleNotFoundError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp.report import cluster_report
    >>> corners = np.array([[0.0, 0.0], [0.0, 50.0], [50.0, 0.0]])
    >>> x = np.concatenate([corners + [i % 4, i // 4] for i in range(16)])
    >>> report = cluster_report(x, title="Three corners", random_state=0)
    >>> report.selection.k
    3
    """
    matplotlib("figure")  # or nothing could be drawn in the end
    x = as_array(X)
    names = _names(X, feature_names, int(x.shape[1]))
    mean, scale = _units(units, int(x.shape[1]))
    k = _number(n_clusters, int(x.shape[0]))
    options = _options(x, n_init, max_iter, tol, device, choosing=k is None)
    check_metric(metric)
    check_progress(progress)
    weights = check_weights(sample_weight, x)
    largest = _largest(x)

    history, choice = History(), None
    with shared_seed(random_state) as seed:
        if k is None:
            choice = _choose(x, seed, metric, options)
            k = choice.k
        settings = {**options, "metric": metric, "random_state": seed}
        watched: dict[str, Any] = {"callback": history, "progress": progress}
        result = kmeans(x, k, sample_weight=sample_weight, **watched, **settings)
    labels, centroids = to_numpy(result.labels), to_numpy(result.centroids)
    content = Content(
        title=title,
        x=x,
        names=names,
        mean=mean,
        scale=scale,
        result=result,
        labels=labels,
        centroids=centroids,
        portrait=portrait(x, labels, centroids, weights, metric, largest),
        choice=choice,
        silhouettes=_silhouettes(x, labels, metric, seed),
        history=history,
        settings=settings,
        details=dict(details or {}),
        seed=seed,
    )
    return Report(page(content), result, None if choice is None else choice.selection)


def _number(n_clusters: Any, n_rows: int) -> int | None:
    """Return the number of clusters; None if it is to be chosen."""
    if not isinstance(n_clusters, str):
        return check_n_clusters(n_clusters, n_rows)
    if n_clusters != "auto":
        raise ValueError(f"n_clusters must be 'auto' or an integer, got {n_clusters!r}")
    return None


def _options(
    x: Any, n_init: Any, max_iter: Any, tol: Any, device: Any, *, choosing: bool
) -> dict[str, Any]:
    """Return what every fit is told."""
    check_n_init(n_init, "k-means++")
    return {
        "n_init": CHOICE_STARTS if choosing and n_init == "auto" else n_init,
        "max_iter": check_count(max_iter, "max_iter"),
        "tol": check_tol(tol),
        "device": check_device(device, x),
    }


def _names(X: Any, names: Any, n_features: int) -> list[str]:
    if names is None:
        columns = getattr(X, "columns", None)
        names = range(n_features) if columns is None else columns
        return [f"feature {name}" if isinstance(name, int) else str(name) for name in names]
    if isinstance(names, str | bytes) or len(names) != n_features:
        raise ValueError(
            f"feature_names must hold a name for each of the {n_features} features of X, "
            f"got {names!r:.60}"
        )
    return [str(name) for name in names]


def _units(units: Any, n_features: int) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    if units is None:
        return None, None
    try:
        mean, scale = (np.asarray(part, dtype=np.float64) for part in units)
    except (TypeError, ValueError):
        mean = scale = np.empty(0)
    if mean.shape != (n_features,) or scale.shape != (n_features,):
        raise ValueError(
            f"units must be the mean and the scale of the {n_features} features of X, "
            f"got {units!r:.60}"
        )
    return mean, scale


def _largest(x: Any) -> float:
    """Largest magnitude; refuses what is not finite before k is chosen on a part of the rows."""
    rows = in_float64(x)
    backend = backend_for(rows)
    with backend.session():
        return float(survey(backend, rows, None).largest.max())


def _choose(x: Any, seed: Any, metric: str, options: dict[str, Any]) -> Choice:
    n_rows, n_features = (int(n) for n in x.shape)
    most = min(CHOICE_ROWS, max(CHOICE_ROWS_AT_LEAST, CHOICE_ENTRIES // n_features))
    if metric == "cosine":
        # On the unit sphere the squared distance is twice the cosine distance.
        x = directions(x, centroid_dtype(x))
    some = x if n_rows <= most else take_rows(x, sample_rows(n_rows, most, Words(seed)))
    criteria = ("elbow", "silhouette")
    with quiet_parts():  # where rows repeat, the larger numbers are tried in vain
        selection = select_k(
            some, criterion=criteria, sample_size=SILHOUETTE_ROWS, random_state=seed, **options
        )
    n_seen = int(some.shape[0])
    if selection.k is not None:
        return Choice(selection.k, selection.reason, selection, n_seen)
    known = [row for row in selection.rows if not math.isnan(row["silhouette"])]
    best = max(known, key=lambda row: row["silhouette"], default=None)
    if best is None:
        return Choice(1, selection.reason, selection, n_seen)
    reason = f"{selection.reason}; of the numbers tried this one has the highest mean silhouette"
    return Choice(int(best["k"]), reason, selection, n_seen)


def _silhouettes(x: Any, labels: np.ndarray, metric: str, seed: Any) -> Silhouettes | None:
    """Silhouettes of the rows, or of some; None where they are not defined."""
    n_rows = len(labels)
    some = labels
    if n_rows > SILHOUETTE_ROWS:
        rows = sample_rows(n_rows, SILHOUETTE_ROWS, Words(seed))
        x, some = take_rows(x, rows), labels[rows]
    if not 1 < len(np.unique(some)) < len(some):
        return None
    values = to_numpy(silhouette_samples(x, some, metric=metric)).astype(np.float64)
    return Silhouettes(values, some, n_rows)
