"""Choosing the number of clusters: fit several, score each, and say which and why."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from kmeans_xp.backends.convert import centroid_dtype, from_numpy, is_sparse, take_rows, to_numpy
from kmeans_xp.functional import kmeans
from kmeans_xp.knee import bend, first_gap, knee, speeds_up
from kmeans_xp.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_score
from kmeans_xp.progress import check_progress, problem_bar
from kmeans_xp.seeding import Words, sample_rows
from kmeans_xp.validation import (
    as_array,
    check_count,
    check_device,
    check_metric,
    check_n_clusters,
    check_n_init,
    check_random_state,
    check_tol,
    check_weights,
)

__all__ = ["KSelection", "select_k"]

CRITERIA = ("elbow", "silhouette", "calinski_harabasz", "davies_bouldin", "gap", "bic")
# What a criterion is called in a sentence, and whether its highest value is the best.
_BEST = {
    "silhouette": ("mean silhouette coefficient", max),
    "calinski_harabasz": ("Calinski-Harabasz score", max),
    "davies_bouldin": ("Davies-Bouldin score", min),
    "bic": ("Bayesian information criterion", min),
}
# What can be scored where not every criterion has a meaning, or would need X to be made dense.
_WITH_WEIGHTS, _WITH_COSINE, _OF_SPARSE = ("elbow",), ("elbow", "silhouette"), ("elbow",)
# Values closer than this are a tie: the scores are not promised to the last bit.
_TIE = 1e-9
_MOST_CLUSTERS = 20
_SILHOUETTE_ROWS = 10_000


@dataclass(frozen=True)
class KSelection:
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
    check_device(device)
    check_progress(progress)
    seed = _seed(random_state)  # may draw: once all is checked
    options: dict[str, Any] = {"n_init": n_init, "max_iter": max_iter, "tol": tol, "device": device}
    measure = {"sample_weight": sample_weight, "metric": metric}
    score = _Scores(x, size, seed, metric)
    rows = []
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
            _add(rows, "elbow", bend(sizes, [row["inertia"] for row in rows]).tolist())
        if "gap" in names:
            _add_gaps(rows, x, sizes, n_references, seed, options, on_done)
    chosen, reason = _choose(names[0], rows)
    if names[0] == "silhouette" and score.sampled and chosen is not None:
        reason += f" (of {size} rows drawn at random)"
    return KSelection(chosen, names[0], reason, rows)


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
    sizes = sorted({check_n_clusters(check_count(k, "k_values"), n_rows) for k in value})
    if not sizes:
        raise ValueError("k_values must hold at least one number of clusters, got none")
    return sizes


def _check_sample_size(value: Any, n_rows: int) -> int:
    if isinstance(value, str):
        if value != "auto":
            raise ValueError(f"sample_size must be an integer, None or 'auto', got {value!r}")
        return min(n_rows, _SILHOUETTE_ROWS)
    return n_rows if value is None else min(n_rows, check_count(value, "sample_size"))


def _seed(random_state: Any) -> Any:
    """Return something that seeds every fit alike."""
    check_random_state(random_state)
    if isinstance(random_state, np.random.SeedSequence | int | np.integer):
        return random_state
    return Words(random_state).word()


class _Scores:
    """Criteria of one clustering of the data."""

    def __init__(self, x: Any, sample_size: int, seed: Any, metric: str) -> None:
        self.metric = metric
        self.x, self.sampled = x, sample_size < x.shape[0]
        self._seed, self._size = seed, sample_size
        self._sample: tuple[Any, np.ndarray] | None = None

    def __call__(self, name: str, result: Any) -> float:
        value: float = getattr(self, name)(result)
        return value

    def silhouette(self, result: Any) -> float:
        if not self.sampled:
            return self._silhouette(self.x, to_numpy(result.labels))
        if self._sample is None:
            rows = sample_rows(int(self.x.shape[0]), self._size, Words(self._seed))
            self._sample = take_rows(self.x, rows), rows
        some, rows = self._sample
        return self._silhouette(some, to_numpy(result.labels)[rows])

    def _silhouette(self, x: Any, labels: np.ndarray) -> float:
        return _defined(partial(silhouette_score, metric=self.metric), x, labels)

    def calinski_harabasz(self, result: Any) -> float:
        return _defined(calinski_harabasz_score, self.x, to_numpy(result.labels))

    def davies_bouldin(self, result: Any) -> float:
        return _defined(davies_bouldin_score, self.x, to_numpy(result.labels))

    def bic(self, result: Any) -> float:
        n_rows, n_features = (int(n) for n in self.x.shape)
        counts = np.unique(to_numpy(result.labels), return_counts=True)[1]
        if result.inertia == 0.0:
            return -math.inf
        variance = result.inertia / (n_rows * n_features)
        likelihood = float(counts @ np.log(counts / n_rows))
        likelihood -= 0.5 * n_rows * n_features * (math.log(2 * math.pi * variance) + 1)
        parameters = len(counts) * (n_features + 1)  # means, shares less one, one variance
        return parameters * math.log(n_rows) - 2 * likelihood


def _defined(score: Callable[[Any, np.ndarray], float], x: Any, labels: np.ndarray) -> float:
    """Score of a clustering, NaN where it has one cluster or as many as rows."""
    return score(x, labels) if 1 < len(np.unique(labels)) < len(labels) else math.nan


def _add(rows: list[dict[str, float]], name: str, values: Sequence[float]) -> None:
    for row, value in zip(rows, values, strict=True):
        row[name] = value


def _add_gaps(
    rows: list[dict[str, float]],
    x: Any,
    sizes: list[int],
    n_references: int,
    seed: Any,
    options: dict[str, Any],
    on_done: Callable[[int], None],
) -> None:
    """Gap statistic against data uniform in the box around X, drawn on the host."""
    low, high = _box(x)
    words = Words(seed)
    logs = np.empty((n_references, len(sizes)))
    for i in range(n_references):
        raw = words.words(int(x.shape[0]) * len(low)).reshape(int(x.shape[0]), len(low))
        unit = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
        drawn = (low * (1 - unit) + high * unit).astype(centroid_dtype(x))
        reference, word = from_numpy(drawn, x), words.word()
        for j, k in enumerate(sizes):
            logs[i, j] = _log(kmeans(reference, k, random_state=word, **options).inertia)
            on_done(1)
    with np.errstate(invalid="ignore"):
        gaps = logs.mean(axis=0) - [_log(row["inertia"]) for row in rows]
        errors = logs.std(axis=0) * math.sqrt(1 + 1 / n_references)
    _add(rows, "gap", gaps.tolist())
    _add(rows, "gap_error", errors.tolist())


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _box(x: Any) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest value of every feature, float64 on the host."""
    xp = array_namespace(x)
    if not xp.isdtype(x.dtype, "real floating"):
        x = xp.astype(x, xp.float64)
    low, high = to_numpy(xp.min(x, axis=0)), to_numpy(xp.max(x, axis=0))
    return low.astype(np.float64), high.astype(np.float64)


def _choose(name: str, rows: list[dict[str, float]]) -> tuple[int | None, str]:
    """Return the chosen number of clusters and why it is chosen."""
    if name == "elbow":
        return _choose_knee(rows)
    if name == "gap":
        return _choose_gap(rows)
    what, better = _BEST[name]
    known = [row for row in rows if not math.isnan(row[name])]
    if not known:
        return None, f"the {what} needs at least 2 clusters, and fewer than there are rows"
    best = better(row[name] for row in known)
    limit = _TIE * abs(best) if math.isfinite(best) else 0.0
    first = next(row for row in known if row[name] == best or abs(row[name] - best) <= limit)
    word = "highest" if better is max else "lowest"
    return int(first["k"]), f"{word} {what}, {first[name]:.4g}"


def _choose_knee(rows: list[dict[str, float]]) -> tuple[int | None, str]:
    curve = np.asarray([row["elbow"] for row in rows])
    place = knee(curve)
    if place is not None:
        k = int(rows[place]["k"])
        return k, f"the inertia falls faster up to k = {k} than beyond: a knee in log-log axes"
    nothing_left = [int(row["k"]) for row in rows if row["inertia"] == 0.0]
    if nothing_left:
        k = nothing_left[0]
        return k, f"with k = {k} every row is its own centroid: the inertia is 0"
    if len(rows) < 3:
        return None, "a knee needs at least 3 numbers of clusters"
    if speeds_up(curve):
        last = int(rows[-1]["k"])
        return None, f"no knee up to k = {last}: the inertia falls faster and faster, try larger k"
    return None, (
        "no knee: the inertia falls about as a power of k, as it does for data without clusters"
    )


def _choose_gap(rows: list[dict[str, float]]) -> tuple[int | None, str]:
    place = first_gap([row["gap"] for row in rows], [row["gap_error"] for row in rows])
    if place is None:
        last = int(rows[-1]["k"])
        return None, f"the gap still grows at k = {last}, the largest one tried: try larger ones"
    here, after = rows[place], rows[place + 1]
    k = int(here["k"])
    return k, (
        f"the gap, {here['gap']:.4g}, is not clearly below that of k = {int(after['k'])}, "
        f"{after['gap']:.4g} ± {after['gap_error']:.2g}"
    )
