"""The scores of a clustering: scikit-learn's values, to more digits, on every array library."""

from __future__ import annotations

import decimal
import tracemalloc
from decimal import Decimal

import numpy as np
import pytest

from kmeans_xp import metrics
from kmeans_xp.seeding import Words, sample_rows

from . import datasets
from .helpers import environment

sk = pytest.importorskip("sklearn.metrics")

SCORES = ("silhouette_score", "davies_bouldin_score", "calinski_harabasz_score")
DISTANCES = ("euclidean", "l2", "sqeuclidean", "cosine")


def clustering(kind="blobs", dtype="float64", n=300, d=3, k=6):
    return datasets.make(kind, dtype, n, d, k, seed=3), datasets.integers(4, n, k)


def close(ours, theirs, tolerance=1e-10):
    assert np.allclose(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", ["blobs", "uniform", "grid", "duplicates", "decades"])
@pytest.mark.parametrize("name", SCORES)
def test_scores_are_those_of_scikit_learn(name, kind):
    X, labels = clustering(kind)
    close(getattr(metrics, name)(X, labels), getattr(sk, name)(X, labels))


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize("kind", ["blobs", "uniform", "duplicates"])
def test_samples_are_those_of_scikit_learn(kind, metric):
    X, labels = clustering(kind, n=700)
    X = X + 1.0  # no zero row
    ours = metrics.silhouette_samples(X, labels, metric=metric)
    close(ours, sk.silhouette_samples(X, labels, metric=metric), 1e-10)
    score = metrics.silhouette_score(X, labels, metric=metric)
    assert score == pytest.approx(float(ours.mean()), rel=1e-12)


@pytest.mark.parametrize("n_clusters", [2, 45, 299])
def test_few_and_many_clusters(n_clusters):
    X = datasets.uniform(1, (300, 4))
    labels = np.arange(300) * 7 % n_clusters
    close(metrics.silhouette_samples(X, labels), sk.silhouette_samples(X, labels))
    for name in SCORES:  # scikit-learn's distance of a row alone to its centroid is 1e-8, not 0
        tolerance = 1e-7 if name == "davies_bouldin_score" else 1e-10
        close(getattr(metrics, name)(X, labels), getattr(sk, name)(X, labels), tolerance)


def test_clusters_larger_than_a_block():
    X = datasets.blobs(2, 3000, 2, 3)
    labels = np.minimum(datasets.integers(3, 3000, 40), 2)  # one large cluster and two small ones
    close(metrics.silhouette_samples(X, labels), sk.silhouette_samples(X, labels))
    close(metrics.davies_bouldin_score(X, labels), sk.davies_bouldin_score(X, labels))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("offset", [0.0, 1e6, 2.0**40])
def test_an_offset_costs_no_digits(offset, dtype):
    """scikit-learn's own values of the same data without the offset, which is exact here."""
    X = datasets.integers(6, (400, 3), 64) * 2.0**-4
    shift = offset if dtype == "float64" else min(offset, 1e6)
    moved = (X + shift).astype(dtype)
    assert np.array_equal(moved.astype(np.float64) - shift, X)
    labels = (X[:, 0] > 2) * 2 + (X[:, 1] > 2)
    tolerance = 1e-12 if dtype == "float64" else 1e-6
    ours = metrics.silhouette_samples(moved, labels)
    assert ours.dtype == moved.dtype
    close(ours, sk.silhouette_samples(X, labels), tolerance)
    for name in SCORES:
        expected = getattr(sk, name)(X, labels)
        assert getattr(metrics, name)(moved, labels) == pytest.approx(expected, rel=1e-12)


def test_tight_clusters_far_apart():
    """Distances within a cluster survive although products of far rows are 10^12 times larger."""
    inner = datasets.integers(1, (200, 3), 64) * 2.0**-6
    labels = np.arange(200) % 4
    corners = np.array([[0, 0, 0], [2**20, 0, 0], [0, 2**20, 0], [-(2**20), 2**20, 0]])
    X = inner + corners[labels]
    wide = X.astype(np.longdouble)
    distances = np.sqrt(np.square(wide[:, None] - wide).sum(axis=2))
    sums = np.stack([distances[:, labels == k].sum(axis=1) for k in range(4)], axis=1)
    inside = sums[np.arange(200), labels] / 49
    outside = np.where(labels[:, None] == np.arange(4), np.inf, sums / 50).min(axis=1)
    for backend in ("auto", "generic"):
        with environment(backend=backend):
            ours = metrics.silhouette_samples(X, labels)
        close(1 - ours, (inside / outside).astype(np.float64), 1e-15)
    centers = np.stack([wide[labels == k].mean(axis=0) for k in range(4)])
    spread = np.sqrt(np.square(wide - centers[labels]).sum(axis=1))
    spread = np.array([spread[labels == k].mean() for k in range(4)])
    apart = np.sqrt(np.square(centers[:, None] - centers).sum(axis=2)) + np.eye(4) * 1e300
    expected = ((spread[:, None] + spread) / apart).max(axis=1).mean()
    assert metrics.davies_bouldin_score(X, labels) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("factor", [2.0**-1060, 2.0**-500, 2.0**500, 2.0**1018])
def test_scale_does_not_matter(factor):
    X, labels = datasets.integers(1, (60, 2), 30), np.arange(60) % 3
    for name in SCORES:
        score = getattr(metrics, name)
        assert score(X * factor, labels) == score(X.astype(np.float64), labels)


def test_every_library_agrees(library, backend):
    X, labels = clustering("blobs", "float32", n=333)
    array = library.asarray(X)
    ours = metrics.silhouette_samples(array, labels)
    assert library.owns(ours)
    assert ours.dtype == array.dtype
    close(library.numpy(ours), sk.silhouette_samples(X.astype("f8"), labels), 1e-6)
    for metric in ("euclidean", "cosine"):
        options = {"metric": metric, "sample_size": 100, "random_state": 5}
        expected = metrics.silhouette_score(X, labels, **options)
        score = metrics.silhouette_score(array, labels, **options)
        assert score == pytest.approx(expected, rel=1e-12)
    for name in SCORES:
        expected = getattr(sk, name)(X.astype("f8"), labels)
        assert getattr(metrics, name)(array, labels) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint8", "bool"])
def test_dtypes_and_labels_of_the_library(library, dtype):
    X, labels = clustering("grid", "float64")
    X = (X + 1).astype(dtype)
    ours = metrics.silhouette_samples(library.asarray(X), library.asarray(labels.astype("int32")))
    close(library.numpy(ours), sk.silhouette_samples(X.astype("f8"), labels), 1e-12)


def test_labels_may_be_anything_that_sorts():
    X, labels = clustering()
    expected = metrics.silhouette_samples(X, labels)
    for other in (labels * 10 - 25, labels.astype(float) + 0.5, labels.tolist()):
        assert np.array_equal(metrics.silhouette_samples(X, other), expected)
    names = np.array(list("abcdef"))[labels]
    assert np.array_equal(metrics.silhouette_samples(X, names), expected)
    assert metrics.davies_bouldin_score(X, names.astype(object)) == (
        metrics.davies_bouldin_score(X, labels)
    )


def test_rows_alone_score_zero():
    X = np.array([[0.0], [1.0], [5.0], [5.0]])
    assert metrics.silhouette_samples(X, [0, 0, 1, 2]).tolist()[2:] == [0.0, 0.0]


def test_equal_rows():
    X = np.repeat([[0.1], [0.7], [0.3]], 5, axis=0)
    labels = np.repeat([0, 1, 2], 5)
    assert metrics.silhouette_samples(X, labels).tolist() == [1.0] * 15
    assert metrics.davies_bouldin_score(X, labels) == 0.0
    assert metrics.calinski_harabasz_score(X, labels) == 1.0
    same = np.full((6, 2), 0.1)
    assert metrics.silhouette_score(same, [0, 0, 0, 1, 1, 1]) == 0.0
    assert metrics.davies_bouldin_score(same, [0, 0, 0, 1, 1, 1]) == 0.0


def test_clusters_around_one_centroid_are_not_compared():
    X = np.array([[0.1], [0.3], [0.0], [0.4], [1.0], [1.2]])
    labels = [0, 0, 1, 1, 2, 2]
    expected = [(0.1 + 0.1) / 0.9, (0.2 + 0.1) / 0.9, (0.2 + 0.1) / 0.9]
    assert metrics.davies_bouldin_score(X, labels) == pytest.approx(np.mean(expected), rel=1e-12)


def test_the_sample_is_the_rule(library):
    X, labels = clustering(dtype="float32")
    rows = sample_rows(len(X), 120, Words(8))
    expected = metrics.silhouette_score(X[rows], labels[rows])
    score = metrics.silhouette_score(library.asarray(X), labels, sample_size=120, random_state=8)
    assert score == pytest.approx(expected, rel=1e-12)
    everything = metrics.silhouette_score(X, labels, sample_size=10**6, random_state=8)
    assert everything == metrics.silhouette_score(X, labels)


def test_memory_is_not_that_of_all_distances():
    n = 23_000
    X = datasets.uniform(1, (n, 2))
    labels = (X[:, 0] * 8).astype(int)
    with environment(num_threads=2):
        tracemalloc.start()
        metrics.silhouette_samples(X, labels)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 50e6 < n * n * 8 / 50


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_matter(threads):
    X, labels = clustering(n=900)
    with environment(num_threads=1):
        expected = metrics.silhouette_samples(X, labels)
    with environment(num_threads=threads):
        assert np.array_equal(metrics.silhouette_samples(X, labels), expected)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("n_labels", [1, 20])
def test_number_of_labels(name, n_labels):
    X = datasets.uniform(1, (20, 2))
    labels = np.arange(20) % n_labels
    message = rf"Number of labels is {n_labels}\. Valid values are 2 to n_samples - 1"
    for module in (metrics, sk):
        with pytest.raises(ValueError, match=message):
            getattr(module, name)(X, labels)


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize(
    ("X", "labels", "error", "message"),
    [
        ([[1.0], [2.0], [3.0]], [0, 1], ValueError, "inconsistent numbers of samples.*2 for 3"),
        ([[1.0], [2.0], [3.0]], [[0], [1], [1]], ValueError, r"labels must be one-dim.*\(3, 1\)"),
        ([[1.0], [2.0], [3.0]], [0.0, 1.0, np.nan], ValueError, "labels must be finite"),
        ([[1.0], [2.0], [3.0]], np.array([0, "a", 1], object), TypeError, "labels must be of one"),
        ([[1.0], [np.nan], [3.0]], [0, 1, 1], ValueError, r"X\[1, 0\] is nan"),
        ([1.0, 2.0, 3.0], [0, 1, 1], ValueError, "X must be two-dimensional"),
    ],
)
def test_bad_input(name, X, labels, error, message):
    with pytest.raises(error, match=message):
        getattr(metrics, name)(X, labels)


@pytest.mark.parametrize("name", SCORES)
def test_sparse_rows_are_refused(name):
    sparse = pytest.importorskip("scipy.sparse").csr_array(np.eye(4))
    with pytest.raises(TypeError, match=r"X is a sparse matrix.*X\.toarray"):
        getattr(metrics, name)(sparse, [0, 1, 1, 0])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"metric": "manhattan"}, ValueError, "metric must be one of 'euclidean'.*'manhattan'"),
        ({"metric": "precomputed"}, ValueError, "precomputed distances are not supported"),
        ({"metric": max}, ValueError, "callables"),
        ({"sample_size": 0}, ValueError, "sample_size must be >= 1"),
        ({"sample_size": 0.5}, TypeError, "sample_size must be an integer"),
        ({"sample_size": 3, "random_state": -1}, ValueError, "random_state"),
        ({"metric": "cosine"}, ValueError, r"X\[2\] is zero.*metric='cosine'"),
    ],
)
def test_bad_options(options, error, message):
    X = np.array([[1.0, 2.0], [2.0, 1.0], [0.0, 0.0], [3.0, 3.0], [4.0, 1.0]])
    with pytest.raises(error, match=message):
        metrics.silhouette_score(X, [0, 1, 0, 1, 1], **options)


# ---- a spread far below the offset


def exact_scores(X, labels, power=1):
    """Silhouettes (of distances to this power) and Davies-Bouldin, by definition, to 900 digits."""
    with decimal.localcontext() as context:
        context.prec, context.Emin, context.Emax = 900, -(10**6), 10**6
        rows = [[Decimal(v) for v in row] for row in X.tolist()]

        def distance(a, b):
            square = sum(((u - v) ** 2 for u, v in zip(a, b, strict=True)), Decimal(0))
            return square if power == 2 else square.sqrt()

        clusters = {k: [r for r, own in zip(rows, labels, strict=True) if own == k] for k in labels}
        silhouettes = []
        for row, own in zip(rows, labels, strict=True):
            sums = {k: sum(distance(row, o) for o in c) for k, c in clusters.items()}
            inside = sums.pop(own) / (len(clusters[own]) - 1)
            outside = min(s / len(clusters[k]) for k, s in sums.items())
            larger = max(inside, outside)
            silhouettes.append(float((outside - inside) / larger) if larger else 0.0)
        middle = {k: [sum(v) / len(c) for v in zip(*c, strict=True)] for k, c in clusters.items()}
        spread = {k: sum(distance(r, middle[k]) for r in c) / len(c) for k, c in clusters.items()}
        ratios = [
            max((spread[i] + spread[k]) / distance(middle[i], middle[k]) for i in middle if i != k)
            for k in middle
        ]
        return np.array(silhouettes), float(sum(ratios) / len(ratios))


def nested(kind):
    """Rows in four clusters of 5 whose spread is far below something else in the data."""
    tiny = datasets.integers(7, (20, 2), 50) + 1.0
    labels = np.arange(20) % 4
    tiny[:, 0] += 40 * labels
    if kind == "constant feature":  # 1e200 in all rows
        return np.column_stack([tiny * 1e-100, np.full(20, 1e200)]), labels
    if kind == "subnormal":
        return np.column_stack([tiny * 5e-324, np.full(20, 1e-10)]), labels
    if kind == "one cluster far away":
        tiny[labels == 3] = (tiny * 1e190)[labels == 3]
        return tiny * 1e-180, labels
    # each pair of clusters in a scale of its own
    return tiny * np.array([1e-270, 1e-270, 1e-10, 1e300])[labels, None], labels


@pytest.mark.parametrize(
    "kind", ["constant feature", "subnormal", "one cluster far away", "scales"]
)
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
def test_a_spread_far_below_the_offset(kind, metric, backend):
    X, labels = nested(kind)
    silhouettes, ratio = exact_scores(X, labels, 2 if metric == "sqeuclidean" else 1)
    close(metrics.silhouette_samples(X, labels, metric=metric), silhouettes, 1e-12)
    if metric == "euclidean" and kind != "scales":
        assert metrics.davies_bouldin_score(X, labels) == pytest.approx(ratio, rel=1e-12)


def test_directions_that_differ_little():
    """Nearly equal directions: 1 − cosine is far below what float64 resolves next to 1."""
    angles = (datasets.integers(7, 20, 50) + 60.0 * (np.arange(20) % 3)) * 1e-200
    X = np.column_stack([np.full(20, 3.0), 3.0 * angles])
    labels = np.arange(20) % 3
    expected, _ = exact_scores(angles[:, None], labels, 2)
    close(metrics.silhouette_samples(X, labels, metric="cosine"), expected, 1e-12)


def test_calinski_harabasz_of_a_spread_far_below_the_offset():
    X, labels = nested("constant feature")
    expected = metrics.calinski_harabasz_score(X[:, :2] * 2.0**300, labels)
    assert metrics.calinski_harabasz_score(X, labels) == pytest.approx(expected, rel=1e-12)
    X, labels = nested("scales")
    X[labels == 3] = 1e300
    assert metrics.calinski_harabasz_score(X, labels) == np.inf


@pytest.mark.parametrize("name", SCORES)
def test_a_spread_far_below_the_offset_in_every_library(name, library):
    X = np.column_stack([nested("constant feature")[0][:, :2] * 1e70, np.full(20, 1e30)])
    X, labels = X.astype(np.float32), np.arange(20) % 4
    expected = getattr(sk, name)(X[:, :2].astype("f8") * 2.0**100, labels)
    assert getattr(metrics, name)(library.asarray(X), labels) == pytest.approx(expected, rel=1e-10)
