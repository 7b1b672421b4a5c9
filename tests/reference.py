"""docs/exactness.md in pure Python: slow, short, and meant to be obviously right.

Numbers are `fractions.Fraction`, points are lists of them. Nothing here is shared with the library.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate

import numpy as np

FORMATS = {"float32": (24, -149), "float64": (53, -1074)}
LARGEST = {name: Fraction(float(np.finfo(name).max)) for name in FORMATS}
Point = list[Fraction]


@dataclass(frozen=True)
class Result:
    labels: np.ndarray
    centroids: np.ndarray
    inertia: float
    n_iter: int
    converged: bool
    empties: int = 0  # empty clusters met, summed over the iterations
    relocations: int = 0  # of them, those that were given a row


# Numbers


def rounded(value: Fraction, bits: int, least: int | None = None) -> Fraction:
    """`value` to `bits` significant bits, ties to even; no bit lower than 2**least."""
    if value == 0:
        return Fraction(0)
    ulp = Fraction(2) ** (exponent(value) - bits)
    if least is not None:
        ulp = max(ulp, Fraction(2) ** least)
    return round(value / ulp) * ulp  # round() of a Fraction takes ties to even


def exponent(value: Fraction) -> int:
    """The e for which |value| = f * 2**e with 1/2 <= f < 1."""
    value = abs(value)
    e = value.numerator.bit_length() - value.denominator.bit_length()
    return e + 1 if value >= Fraction(2) ** e else e


def root(value: Fraction) -> Fraction:
    """The square root of a value > 0 to 53 significant bits, ties to even."""
    ulp = Fraction(2) ** ((exponent(value) + 1) // 2 - 53)
    below = math.isqrt(math.floor(value / ulp**2))  # the root in units of ulp, rounded down
    assert 2**52 <= below < 2**53
    middle = (Fraction(2 * below + 1, 2) * ulp) ** 2
    return (below + (value > middle or (value == middle and below % 2 == 1))) * ulp


def direction(x: Point, dtype) -> Point:
    """x divided by its norm, each rounded."""
    norm = root(sum(v * v for v in x))
    return [rounded(v / norm, *FORMATS[str(dtype)]) for v in x]


def rn12(value: Fraction) -> Fraction:
    return rounded(value, 12)


def to_float(value: Fraction) -> float:
    """rn to float64, infinite beyond the largest float64."""
    value = rounded(value, *FORMATS["float64"])
    return math.inf if value > LARGEST["float64"] else float(value)


def centroid_dtype(dtype) -> np.dtype:
    return np.dtype("float32" if str(dtype) in ("float16", "bfloat16", "float32") else "float64")


def as_rows(array) -> list[Point]:
    """The stored numbers as exact reals."""
    array = np.asarray(array)
    wide = array.tolist() if array.dtype.kind in "iub" else array.astype(np.float64).tolist()
    return [[Fraction(value) for value in row] for row in wide]


def as_array(points, dtype) -> np.ndarray:
    array = np.array([[float(value) for value in row] for row in points], dtype=np.float64)
    narrow = array.astype(dtype)
    assert (narrow == array).all()
    return narrow


def as_weights(weights, n: int) -> list[Fraction]:
    if weights is None:
        return [Fraction(1)] * n
    weights = np.asarray(weights)
    weights = weights if weights.dtype == np.float32 else weights.astype(np.float64)
    return [Fraction(value) for value in weights.tolist()]


# One iteration


def on_grid(points) -> tuple[list[list[int]], int]:
    """The points times the least integer that makes them integers; that integer."""
    grid = max(value.denominator for point in points for value in point)  # all powers of two
    return [[v.numerator * (grid // v.denominator) for v in point] for point in points], grid


def squared_distances(rows, centroids) -> list[Point]:
    """|x - c|^2 for every row and centroid."""
    points, grid = on_grid([*rows, *centroids])
    rows, centroids = points[: len(rows)], points[len(rows) :]
    return [
        [Fraction(sum((a - b) ** 2 for a, b in zip(x, c, strict=True)), grid**2) for c in centroids]
        for x in rows
    ]


def cosine_distances(rows, centroids) -> list[Point]:
    """1 - x.c for every row and centroid."""
    points, grid = on_grid([*rows, *centroids])
    rows, centroids = points[: len(rows)], points[len(rows) :]
    return [
        [1 - Fraction(sum(a * b for a, b in zip(x, c, strict=True)), grid**2) for c in centroids]
        for x in rows
    ]


DISTANCES = {"euclidean": squared_distances, "cosine": cosine_distances}


def nearest(distances: list[Point]) -> list[int]:
    """The lowest k that minimises |x - c_k|^2."""
    return [row.index(min(row)) for row in distances]


def cutoff(points) -> Fraction:
    """The squared distance without weight that is the least above zero: 2**(2E - 960)."""
    largest = max(abs(value) for point in points for value in point)
    return Fraction(2) ** (2 * exponent(largest) - 960) if largest else Fraction(0)


def owners(weights, labels, distances, least) -> tuple[list[int | None], int, int]:
    """The owner of each row after relocation; clusters found empty; clusters given a row."""
    owner: list[int | None] = [k if w > 0 else None for k, w in zip(labels, weights, strict=True)]
    empty = [k for k in range(len(distances[0])) if k not in owner]
    eligible = []
    for i, k in enumerate(owner if empty else []):
        if k is not None and distances[i][k] > 0 and distances[i][k] >= least:
            eligible.append((-rn12(distances[i][k]), i))
    taken = list(zip(empty, sorted(eligible), strict=False))
    for k, (_, i) in taken:
        owner[i] = k
    return owner, len(empty), len(taken)


def means(rows, weights, owner, old, dtype, metric) -> list[Point]:
    """The rounded mean of every cluster; a cluster without weight keeps its old centroid.

    With cosines the direction of that mean; a cluster whose mean is zero keeps its old centroid.
    """
    new = []
    for k, c in enumerate(old):
        members = [i for i, j in enumerate(owner) if j == k]
        total = sum(weights[i] for i in members)
        sums = [sum(weights[i] * rows[i][j] for i in members) for j in range(len(c))]
        mean = [rounded(s / total, *FORMATS[str(dtype)]) for s in sums] if members else c
        if metric == "cosine" and members:
            mean = direction(mean, dtype) if any(mean) else c
        new.append(mean)
    return new


def lloyd(rows, weights, centroids, dtype, max_iter, tol, metric="euclidean") -> Result:
    threshold = Fraction(tol) * mean_variance(rows)
    previous, converged, n_iter, empties, relocations = None, False, 0, 0, 0
    while n_iter < max_iter and not converged:
        n_iter += 1
        old = centroids
        distances = squared_distances(rows, old)
        labels = nearest(DISTANCES[metric](rows, old))
        owner, empty, moved = owners(weights, labels, distances, cutoff([*rows, *old]))
        centroids = means(rows, weights, owner, old, dtype, metric)
        pairs = zip(centroids, old, strict=True)
        shift = sum((a - b) ** 2 for c, o in pairs for a, b in zip(c, o, strict=True))
        converged = (labels == previous and not moved) or shift <= threshold
        previous = labels
        empties, relocations = empties + empty, relocations + moved
    distances = DISTANCES[metric](rows, centroids)
    labels = nearest(distances)
    inertia = sum(w * d[k] for w, d, k in zip(weights, distances, labels, strict=True))
    return Result(
        labels=np.array(labels, dtype=np.int32),
        centroids=as_array(centroids, dtype),
        inertia=to_float(inertia),
        n_iter=n_iter,
        converged=converged,
        empties=empties,
        relocations=relocations,
    )


def mean_variance(rows) -> Fraction:
    n = len(rows)
    columns = [list(column) for column in zip(*rows, strict=True)]
    variances = [sum(v * v for v in c) / n - (sum(c) / n) ** 2 for c in columns]
    return sum(variances) / len(variances)


# The start


class Words:
    """The stream of 64-bit words."""

    def __init__(self, seed):
        self._pcg = np.random.PCG64(seed)

    def next(self) -> int:
        return int(self._pcg.random_raw())


def scale_of(potentials) -> int:
    return 31 - exponent(max(potentials))


def integers(potentials, s: int) -> list[int]:
    return [math.floor(p * Fraction(2) ** s) for p in potentials]


def draw(words: Words, q: list[int]) -> int:
    total = sum(q)
    assert total > 0
    count = -(-total.bit_length() // 64)
    u = 0
    for _ in range(count):
        u = (u << 64) | words.next()
    r = (u * total) >> (64 * count)
    return next(i for i, prefix in enumerate(accumulate(q)) if prefix > r)


def random_rows(weights, n_clusters: int, words: Words) -> list[int]:
    q = integers(weights, scale_of(weights))
    chosen: list[int] = []
    for _ in range(n_clusters):
        if sum(q) == 0:
            q = [0 if i in chosen else 1 for i in range(len(q))]
        chosen.append(draw(words, q))
        q[chosen[-1]] = 0
    return chosen


def plus_plus_rows(
    rows, weights, n_clusters: int, words: Words, least: Fraction, trials: int | None = None
) -> list[int]:
    trials = trials or 2 + math.floor(math.log(n_clusters))

    def closer(distances, i):
        new = squared_distances(rows, [rows[i]])
        return [min(d, e) for d, (e,) in zip(distances, new, strict=True)]

    def potentials(distances):
        pairs = zip(weights, distances, strict=True)
        return [rn12(w * d) if w * d >= least else Fraction(0) for w, d in pairs]

    first = integers(weights, scale_of(weights))
    chosen = [draw(words, first)]
    distances = [d for (d,) in squared_distances(rows, [rows[chosen[0]]])]
    while len(chosen) < n_clusters:
        p = potentials(distances)
        if max(p) == 0:
            chosen.append(draw(words, first))
        else:
            s = scale_of(p)
            q = integers(p, s)
            candidates = [draw(words, q) for _ in range(trials)]
            costs = [sum(integers(potentials(closer(distances, i)), s)) for i in candidates]
            chosen.append(candidates[costs.index(min(costs))])
        distances = closer(distances, chosen[-1])
    return chosen


def parallel_candidates(
    rows, weights, n_clusters: int, words: Words, least: Fraction, factor
) -> list[int]:
    """The rows that k-means|| draws, in increasing order."""
    draws = math.ceil(Fraction(factor) * n_clusters)
    chosen = {draw(words, integers(weights, scale_of(weights)))}
    rounds = 0
    while rounds < 5 or len(chosen) < n_clusters:
        nearest_ones = squared_distances(rows, [rows[i] for i in sorted(chosen)])
        products = [w * min(d) for w, d in zip(weights, nearest_ones, strict=True)]
        p = [rn12(v) if v >= least else Fraction(0) for v in products]
        if max(p) == 0:
            break
        q = integers(p, scale_of(p))
        chosen |= {draw(words, q) for _ in range(draws)}
        rounds += 1
    return sorted(chosen)


def kmeans_parallel(
    X,
    n_clusters,
    *,
    init_size="auto",
    sample_weight=None,
    words: Words,
    oversampling_factor=2.0,
    metric="euclidean",
):
    """The indices of the rows that k-means|| chooses."""
    rows, weights = data(X, metric), as_weights(sample_weight, len(X))
    least, unit = cutoff(rows), Fraction(1)
    seen = sampled_rows(len(rows), len(rows) if init_size == "auto" else init_size, words)
    some, some_weights = [rows[i] for i in seen], [weights[i] for i in seen]
    if not any(some_weights):
        some_weights = as_weights(None, len(some))
    elif sample_weight is not None:
        unit = Fraction(2) ** exponent(max(weights))
    drawn = parallel_candidates(
        some, some_weights, n_clusters, words, least * unit, oversampling_factor
    )
    candidates = [some[i] for i in drawn]
    shares = [Fraction(0)] * len(drawn)
    for k, w in zip(nearest(squared_distances(some, candidates)), some_weights, strict=True):
        shares[k] += w / unit
    shares = [rounded(v, *FORMATS["float64"]) for v in shares]
    if not any(shares):
        shares = as_weights(None, len(shares))
    least = cutoff(candidates) * Fraction(2) ** exponent(max(shares))
    chosen = plus_plus_rows(candidates, shares, n_clusters, words, least)
    return [seen[drawn[i]] for i in chosen]


def sampled_rows(n: int, size: int, words: Words) -> list[int]:
    if size >= n:
        return list(range(n))
    few: set[int] = set()
    while len(few) < min(size, n - size):
        few.add((words.next() * n) >> 64)
    return [i for i in range(n) if (i in few) == (2 * size <= n)]


def kmeans_plusplus(
    X,
    n_clusters,
    *,
    init_size="auto",
    sample_weight=None,
    words: Words,
    n_local_trials=None,
    metric="euclidean",
):
    """The indices of the chosen rows."""
    rows, weights = data(X, metric), as_weights(sample_weight, len(X))
    least = cutoff(rows)
    size = max(2**20, 256 * n_clusters) if init_size == "auto" else init_size
    seen = sampled_rows(len(rows), size, words)
    some, some_weights = [rows[i] for i in seen], [weights[i] for i in seen]
    if not any(some_weights):
        some_weights = as_weights(None, len(some))
    elif sample_weight is not None:
        least *= Fraction(2) ** exponent(max(weights))
    chosen = plus_plus_rows(some, some_weights, n_clusters, words, least, n_local_trials)
    return [seen[i] for i in chosen]


# The whole run


def data(X, metric) -> list[Point]:
    rows = as_rows(X)
    return [direction(x, centroid_dtype(X.dtype)) for x in rows] if metric == "cosine" else rows


def given_centroids(values, dtype, metric) -> list[Point]:
    """Rounded to the dtype; with cosines also divided by their norms, unless these are 1 as is."""
    bits, least = FORMATS[str(dtype)]
    points = [[rounded(value, bits, least) for value in row] for row in as_rows(values)]
    if metric == "euclidean":
        return points
    near = Fraction(1, 2 ** (bits - 2))
    return [
        c if abs(root(sum(v * v for v in c)) - 1) <= near else direction(c, dtype) for c in points
    ]


def kmeans(
    X,
    n_clusters=8,
    *,
    init="k-means++",
    init_size="auto",
    n_init="auto",
    max_iter=300,
    tol=1e-4,
    sample_weight=None,
    random_state=0,
    metric="euclidean",
    oversampling_factor=2.0,
) -> Result:
    rows, weights = data(X, metric), as_weights(sample_weight, len(X))
    dtype = centroid_dtype(X.dtype)
    words = Words(random_state)
    if n_init == "auto":
        n_init = 10 if callable(init) or (isinstance(init, str) and init == "random") else 1
    best = None
    for _ in range(n_init):
        if not isinstance(init, str):
            given = init
            if callable(init):
                state = np.random.RandomState(np.random.PCG64(words.next()))
                given = init(X, n_clusters, random_state=state)
            start = given_centroids(given, dtype, metric)
        elif init == "random":
            start = [rows[i] for i in random_rows(weights, n_clusters, words)]
        else:
            options = {"init_size": init_size, "sample_weight": sample_weight, "metric": metric}
            choose = kmeans_plusplus
            if init == "k-means||":
                choose, options["oversampling_factor"] = kmeans_parallel, oversampling_factor
            start = [rows[i] for i in choose(X, n_clusters, words=words, **options)]
        result = lloyd(rows, weights, start, dtype, max_iter, tol, metric)
        if best is None or result.inertia < best.inertia:
            best = result
    return best


def predict(X, centroids, metric="euclidean") -> np.ndarray:
    points = given_centroids(centroids, centroid_dtype(X.dtype), metric)
    return np.array(nearest(DISTANCES[metric](data(X, metric), points)), dtype=np.int32)


def fingerprint(labels, centroids, inertia: float, n_iter: int) -> str:
    """16 hexadecimal digits over the bits of a result held in NumPy arrays."""
    labels, centroids = np.asarray(labels), np.asarray(centroids)
    digest = hashlib.sha256()
    digest.update(labels.astype("<i4").tobytes())
    digest.update(np.ascontiguousarray(centroids, centroids.dtype.newbyteorder("<")).tobytes())
    digest.update(np.float64(inertia).astype("<f8").tobytes())
    digest.update(str(int(n_iter)).encode())
    return digest.hexdigest()[:16]
