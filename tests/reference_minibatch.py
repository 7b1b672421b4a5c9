"""docs/exactness.md, "Mini-batch", in pure Python, beside `reference`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from .reference import (
    DISTANCES,
    FORMATS,
    Words,
    as_array,
    as_weights,
    centroid_dtype,
    cutoff,
    data,
    direction,
    draw,
    exponent,
    given_centroids,
    integers,
    mean_variance,
    nearest,
    plus_plus_rows,
    random_rows,
    rounded,
    sampled_rows,
    scale_of,
    to_float,
)


@dataclass
class Model:
    """What one batch leaves to the next."""

    centroids: list
    dtype: np.dtype
    words: Words  # of reassignments
    weights: list = field(default_factory=list)
    waiting: int = 0
    reassigned: int = 0
    metric: str = "euclidean"


def step(model, rows, weights, ratio) -> float:
    """One batch; its inertia before the centroids move."""
    n_clusters, fmt = len(model.centroids), FORMATS[str(model.dtype)]
    model.weights = model.weights or [Fraction(0)] * n_clusters
    model.waiting += len(rows)
    look = model.waiting >= 10 * n_clusters or 0 in model.weights
    distances = DISTANCES[model.metric](rows, model.centroids)
    labels = nearest(distances)
    inertia = sum(w * d[k] for w, d, k in zip(weights, distances, labels, strict=True))
    for k in range(n_clusters):
        members = [i for i, label in enumerate(labels) if label == k]
        added = sum(weights[i] for i in members)
        if added == 0:
            continue
        total = model.weights[k] + added
        mean = []
        for j, c in enumerate(model.centroids[k]):
            moved = model.weights[k] * c + sum(weights[i] * rows[i][j] for i in members)
            mean.append(rounded(moved / total, *fmt))
        if model.metric == "euclidean":
            model.centroids[k] = mean
        elif any(mean):
            model.centroids[k] = direction(mean, model.dtype)
        model.weights[k] = total
    if look:
        model.waiting = 0
        reassign(model, rows, weights, Fraction(min(ratio, 1.0)))
    return to_float(Fraction(inertia))


def reassign(model, rows, weights, ratio) -> None:
    limit = ratio * max(model.weights)
    rare = [k for k, w in enumerate(model.weights) if w < limit]
    eligible = [i for i, w in enumerate(weights) if w > 0]
    rare = sorted(sorted(rare, key=lambda k: (model.weights[k], k))[: len(eligible) // 2])
    q = [2**30] * len(eligible)
    least = min((w for k, w in enumerate(model.weights) if k not in rare), default=None)
    for k in rare:
        place = draw(model.words, q)
        q[place] = 0
        model.centroids[k] = list(rows[eligible[place]])
        model.weights[k] = least
        model.reassigned += 1


def start(X, sample_weight, n_clusters, init, init_size, n_init, words, metric="euclidean") -> list:
    rows, weights = data(X, metric), as_weights(sample_weight, len(X))
    n, dtype = len(rows), centroid_dtype(X.dtype)
    if not (isinstance(init, str) or callable(init)):
        return given_centroids(init, dtype, metric)

    def sample():
        chosen = sampled_rows(n, init_size, words)
        some = [weights[i] for i in chosen]
        if sample_weight is None or not any(some):
            return chosen, as_weights(None, len(some)), Fraction(1)
        return chosen, some, Fraction(2) ** exponent(max(some))

    judge = sample() if n_init > 1 else None
    best = None
    for _ in range(n_init):
        chosen, some, unit = sample()
        mine = [rows[i] for i in chosen]
        if callable(init):
            state = np.random.RandomState(np.random.PCG64(words.next()))
            found = init(as_array(mine, dtype), n_clusters, random_state=state)
            centroids = given_centroids(found, dtype, metric)
        elif init == "random":
            centroids = [mine[i] for i in random_rows(some, n_clusters, words)]
        else:
            least = cutoff(mine) * unit
            centroids = [mine[i] for i in plus_plus_rows(mine, some, n_clusters, words, least)]
        cost = 0
        if judge is not None:
            distances = DISTANCES[metric]([rows[i] for i in judge[0]], centroids)
            cost = to_float(
                Fraction(sum(w * min(d) for w, d in zip(judge[1], distances, strict=True)))
            )
        if best is None or cost < best[0]:
            best = cost, centroids
    return [list(c) for c in best[1]]


@dataclass
class Outcome:
    model: Model
    centroids: np.ndarray
    labels: np.ndarray
    inertia: float
    n_steps: int
    n_iter: int
    average: float | None
    batches: list


def fit(
    X,
    n_clusters=8,
    *,
    init="k-means++",
    max_iter=100,
    batch_size=1024,
    tol=0.0,
    max_no_improvement=10,
    init_size=None,
    n_init=1,
    reassignment_ratio=0.01,
    sample_weight=None,
    random_state=0,
    metric="euclidean",
) -> Outcome:
    rows, weights = data(X, metric), as_weights(sample_weight, len(X))
    n, dtype = len(rows), centroid_dtype(X.dtype)
    batch_size = min(batch_size, n)
    if init_size is None:
        init_size = 3 * batch_size if 3 * batch_size >= n_clusters else 3 * n_clusters
    words = Words(random_state)
    model = Model([], dtype, Words(words.next()), metric=metric)
    size = min(init_size, n)
    model.centroids = start(X, sample_weight, n_clusters, init, size, n_init, words, metric)
    q = integers(weights, scale_of(weights))
    average = least = None
    in_vain, batches = 0, []
    n_steps = max_iter * n // batch_size
    for number in range(1, n_steps + 1):
        batch = [draw(words, q) for _ in range(batch_size)]
        batches.append(batch)
        old = [list(c) for c in model.centroids]
        some = [rows[i] for i in batch]
        mean = step(model, some, as_weights(None, batch_size), reassignment_ratio) / batch_size
        if number == 1:
            average = mean
            continue
        alpha = min(batch_size * 3.0 / (n + 1), 0.1)
        average = average * (1.0 - alpha) + mean * alpha
        pairs = zip(model.centroids, old, strict=True)
        shift = sum((a - b) ** 2 for c, o in pairs for a, b in zip(c, o, strict=True))
        if tol > 0 and shift <= Fraction(tol) * mean_variance(rows):
            break
        if least is None or average < least:
            in_vain, least = 0, average
        else:
            in_vain += 1
        if max_no_improvement is not None and in_vain >= max_no_improvement:
            break
    labels, inertia = label(rows, weights, model.centroids, metric)
    return Outcome(
        model,
        as_array(model.centroids, dtype),
        labels,
        inertia,
        number,
        math.ceil(number * batch_size / n),
        average,
        batches,
    )


def label(rows, weights, centroids, metric="euclidean") -> tuple[np.ndarray, float]:
    distances = DISTANCES[metric](rows, centroids)
    inertia = sum(w * min(d) for w, d in zip(weights, distances, strict=True))
    return np.array(nearest(distances), dtype=np.int32), to_float(Fraction(inertia))
