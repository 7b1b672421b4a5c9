"""Choosing the number of clusters: fit several, score each, and say which and why."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kmeans_xp.backends.convert import is_sparse
from kmeans_xp.functional import kmeans
from kmeans_xp.knee import bend
from kmeans_xp.progress import check_progress, problem_bar
from kmeans_xp.result import SameBits
from kmeans_xp.seeding import shared_seed
from kmeans_xp.selection.choice import choose
from kmeans_xp.selection.scores import Scores, add_column, add_gaps
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

__all__ = ["KSelection", "select_k"]

CRITERIA = ("elbow", "silhouette", "calinski_harabasz", "davies_bouldin", "gap", "bic")
# What can be scored where not every criterion has a meaning, or would need X to be made dense.
_WITH_WEIGHTS, _WITH_COSINE, _OF_SPARSE = ("elbow",), ("elbow", "silhouette"), ("elbow",)
_MOST_CLUSTERS = 20
_SILHOUETTE_ROWS = 10_000


@dataclass(frozen=True, eq=False)
class KSelection(SameBits):
    """Outcome of `select_k`.

    Attributes
    ----------
    k : int or None
        The chosen number of clusters; None if the criterion prefers none.
    criterion : str
        What chose it.
    reason : str
        Why, in words.
    rows : list of dict
        For each number tried: "k", "inertia", "n_iter", "seconds" and each criterion by its name;
        NaN where one is not defined. "gap" comes with "gap_error".
    """

    k: int | None
    criterion: str
    reason: str
    rows: list[dict[str, float]] = field(repr=False)

    def to_dict(self) -> dict[str, list[float]]:
        """Return the columns by name, as ``pandas.DataFrame(selection.to_dict())`` takes them."""
        return {name: [row[name] for row in self.rows] for name in self.rows[0]}

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.rows)

    def __str__(self) -> str:
        names = list(self.rows[0])
        cells = [["", *names]]
        for row in self.rows:
            mark = "*" if row["k"] == self.k else ""
            cells.append([mark] + [f"{row[name]:.6g}" for name in names])
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in cells
        ]
        return "\n".join([*lines, "", f"k = {self.k}: {self.reason}"])


def select_k(
    X: Any,
    k_values: Iterable[int] | None = None,
    *,
    criterion: str | Sequence[str] = "elbow",
    n_init: int | str = 5,
    max_iter: int = 300,
    tol: float = 1e-4,
    sample_size: int | str | None = "auto",
    n_references: int = 20,
    sample_weight: Any = None,
    metric: str = "euclidean",
    random_state: Any = None,
    device: str | None = None,
    progress: bool = False,
) -> KSelection:
    """Cluster X into several numbers of clusters and choose one of them.

    Parameters
    ----------
    X : array, shape (N, D)
        Any array `kmeans` takes; for SciPy's sparse ones by "elbow" alone.
    k_values : iterable of int, optional
        Numbers of clusters to try, ``range(1, 21)`` (up to N) by default.
    criterion : str or sequence of str, default "elbow"
        What chooses; of several the first does, and the others are computed for the table.

        - "elbow": the knee of the inertia, by Kneedle (Satopaa et al. 2011) on log k and log
          inertia. Data without clusters have none.
        - "silhouette": highest mean silhouette coefficient (Rousseeuw 1987).
        - "calinski_harabasz": highest ratio of dispersions (Caliński & Harabasz 1974).
        - "davies_bouldin": lowest mean similarity of clusters (Davies & Bouldin 1979).
        - "gap": first k whose gap to uniform data is not clearly below the next one (Tibshirani,
          Walther & Hastie 2001). It and "bic" can say 1.
        - "bic": lowest Bayesian information criterion of spherical Gaussians of one variance, with
          its maximum-likelihood estimate (after Pelleg & Moore 2000).
    n_init, max_iter, tol, device
        As for `kmeans`.
    sample_weight
        As for `kmeans`; "elbow" alone has a meaning with weights.
    metric : {"euclidean", "cosine"}
        As for `kmeans`; with "cosine" there are "elbow" and "silhouette".
    sample_size : int, None or "auto"
        Rows whose silhouettes are taken: None for all, "auto" for up to 10,000 random ones.
    n_references : int, default 20
        Uniform data sets that "gap" compares with, each clustered into every k.
    random_state : None, int, SeedSequence, RandomState or Generator
        Seed. With an int or a SeedSequence, each line of the table belongs to
        ``kmeans(X, k, n_init=n_init, random_state=random_state)``, weights and metric as given.
    progress : bool, default False
        Show a progress bar over the fits (needs tqdm).

    Returns
    -------
    KSelection
        The same choice on every backend.

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp import select_k
    >>> corners = np.array([[0.0, 0.0], [0.0, 50.0], [50.0, 0.0]])
    >>> x = np.concatenate([corners + [i % 4, i // 4] for i in range(16)])
    >>> selection = select_k(x, range(1, 9), random_state=0)
    >>> selection.k
    3
    """
    x = as_array(X, sparse=True)
    names = _check_criteria(criterion)
    check_metric(metric)
    check_weights(sample_weight, x)
    _check_meaning(names, is_sparse(x), sample_weight is not None, metric)
    sizes = _check_k_values(k_values, int(x.shape[0]))
    n_references = check_count(n_references, "n_references")
    size = _check_sample_size(sample_size, int(x.shape[0]))
    check_n_init(n_init, "k-means++")
    check_count(max_iter, "max_iter")
    check_tol(tol)
    device = check_device(device, x)
    check_progress(progress)
    options: dict[str, Any] = {"n_init": n_init, "max_iter": max_iter, "tol": tol, "device": device}
    measure = {"sample_weight": sample_weight, "metric": metric}
    with shared_seed(random_state) as seed:
        score = Scores(x, size, seed, metric)
        rows = _table(score, names, sizes, n_references, options, measure, progress)
    chosen, reason = choose(names[0], rows)
    if names[0] == "silhouette" and score.sampled and chosen is not None:
        reason += f" (of {size} rows drawn at random)"
    return KSelection(chosen, names[0], reason, rows)


def _table(
    score: Scores,
    names: list[str],
    sizes: list[int],
    n_references: int,
    options: dict[str, Any],
    measure: dict[str, Any],
    progress: bool,
) -> list[dict[str, float]]:
    """Fit every number of clusters; the rows of the table."""
    x, seed, rows = score.x, score.seed, []
    fits = len(sizes) * (1 + n_references * ("gap" in names))
    with problem_bar(fits, progress, "fit") as on_done:
        for k in sizes:
            began = time.perf_counter()
            result = kmeans(x, k, random_state=seed, **options, **measure)
            row = {"k": k, "inertia": result.inertia, "n_iter": result.n_iter}
            row |= {name: score(name, result) for name in names if name not in ("elbow", "gap")}
            rows.append({**row, "seconds": time.perf_counter() - began})
            on_done(1)
        if "elbow" in names:
            add_column(rows, "elbow", bend(sizes, [row["inertia"] for row in rows]).tolist())
        if "gap" in names:
            add_gaps(rows, x, sizes, n_references, seed, options, on_done)
    return rows


def _check_criteria(value: Any) -> list[str]:
    several = isinstance(value, Iterable) and not isinstance(value, str)
    names = list(value) if several else [value]
    if not names or any(name not in CRITERIA for name in names):
        raise ValueError(
            f"criterion must be one or several of {', '.join(map(repr, CRITERIA))}, got {value!r}"
        )
    return names


def _check_meaning(names: list[str], sparse: bool, weighted: bool, metric: str) -> None:
    """Refuse criteria that say nothing about such a clustering."""
    for name in names:
        if sparse and name not in _OF_SPARSE:
            raise ValueError(
                f"criterion {name!r} needs dense rows, and X is a sparse matrix; choose by "
                "'elbow', or pass X.toarray()"
            )
        if weighted and name not in _WITH_WEIGHTS:
            raise ValueError(
                f"criterion {name!r} knows no sample_weight; with weights choose by 'elbow'"
            )
        if metric == "cosine" and name not in _WITH_COSINE:
            raise ValueError(
                f"criterion {name!r} is for metric='euclidean'; with 'cosine' choose by 'elbow' or "
                "'silhouette'"
            )


def _check_k_values(value: Any, n_rows: int) -> list[int]:
    if value is None:
        return list(range(1, min(_MOST_CLUSTERS, n_rows) + 1))
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"k_values must be several integers, as range(2, 21), got {value!r}")
    sizes = sorted({check_n_clusters(k, n_rows, "k_values") for k in value})
    if not sizes:
        raise ValueError("k_values must hold at least one number of clusters, got none")
    return sizes


def _check_sample_size(value: Any, n_rows: int) -> int:
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f"sample_size must be an integer, None or 'auto', got {value!r}")
        return min(n_rows, _SILHOUETTE_ROWS)
    return n_rows if value is None else min(n_rows, check_count(value, "sample_size"))
