"""BisectingKMeans: its definition, its tree, and scikit-learn's on easy data."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import cluster

from kmeans_xp import BisectingKMeans, kmeans

from . import datasets, reference
from .helpers import BACKENDS, assert_bits, environment


def cost(rows, weights, center) -> Fraction:
    """Exact Σ w |x − c|²."""
    around = reference.squared_distances(rows, reference.as_rows(center[None]))
    return sum((w * d for w, (d,) in zip(weights, around, strict=True)), Fraction(0))


def bisected(X, n_clusters, strategy="biggest_inertia", sample_weight=None, seed=0, **options):
    """The definition in docs/exactness.md: labels, centroids, inertia."""
    words = reference.Words(seed)
    points, weights = reference.as_rows(X), reference.as_weights(sample_weight, len(X))
    leaves = [(list(range(len(X))), None, 0)]
    for _ in range(n_clusters - 1):
        scores = [score if len(rows) > 1 else -1 for rows, _, score in leaves]
        at = scores.index(max(scores))
        rows = leaves[at][0]
        w = None if sample_weight is None else sample_weight[rows]
        w = None if w is None or not w.any() else w
        options = {"init": "random", "n_init": 1, **options}
        split = reference.kmeans(X[rows], 2, sample_weight=w, random_state=words.next(), **options)
        children = []
        for side in (0, 1):
            own = [row for row, label in zip(rows, split.labels, strict=True) if label == side]
            score = len(own)
            if strategy == "biggest_inertia":
                inner = cost(
                    [points[i] for i in own], [weights[i] for i in own], split.centroids[side]
                )
                score = reference.to_float(inner)
            children.append((own, split.centroids[side], score))
        leaves[at : at + 1] = children
    labels = np.zeros(len(X), np.int32)
    total = Fraction(0)
    for k, (rows, center, _) in enumerate(leaves):
        labels[rows] = k
        total += cost([points[i] for i in rows], [weights[i] for i in rows], center)
    return labels, np.stack([center for _, center, _ in leaves]), reference.to_float(total)


CASES = {
    "uniform": ("uniform", "float64", None, {}),
    "float32": ("uniform", "float32", None, {}),
    "float16": ("blobs", "float16", None, {}),
    "integers": ("digits", "int64", None, {}),
    "weighted": ("blobs", "float32", "float64", {}),
    "many starts": ("uniform", "float64", None, {"n_init": 3}),
    "plus plus": ("blobs", "float64", "float32", {"init": "k-means++"}),
    "offset": ("offset", "float64", None, {"tol": 0}),
}


def data(kind, dtype, n=60):
    return datasets.make(kind, "float64" if dtype == "int64" else dtype, n, 3).astype(dtype)


def same(model, labels, centroids, inertia, convert=np.asarray):
    assert_bits(convert(model.labels_), labels)
    assert_bits(convert(model.cluster_centers_), centroids)
    assert model.inertia_ == inertia


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("strategy", ["biggest_inertia", "largest_cluster"])
@pytest.mark.parametrize("name", CASES)
def test_definition(name, strategy, backend):
    kind, dtype, weighted, options = CASES[name]
    X, w = data(kind, dtype), datasets.weights(weighted, 60)
    before = X.copy()
    truth = bisected(X, 6, strategy, w, seed=3, **options)
    with environment(backend=backend):
        model = BisectingKMeans(6, random_state=3, bisecting_strategy=strategy, **options)
        same(model.fit(X, sample_weight=w), *truth)
        assert_bits(model.predict(X), truth[0])
    assert_bits(X, before)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_every_library(library, dtype):
    check_library(library, dtype, 5)


def test_every_library_by_the_generic_backend(library):
    with environment(backend="generic"):  # JAX compiles for every shape it meets
        check_library(library, "float32", 2)


def check_library(library, dtype, n_clusters):
    X, w = data("blobs", dtype, 200), datasets.weights("float64", 200)
    new = np.concatenate([X[::3], X[::5]])
    truth = BisectingKMeans(n_clusters, random_state=1).fit(X, sample_weight=w)
    model = BisectingKMeans(n_clusters, random_state=1).fit(library.asarray(X), sample_weight=w)
    found = model.predict(library.asarray(new))
    assert all(library.owns(a) for a in (model.labels_, model.cluster_centers_, found))
    same(model, truth.labels_, truth.cluster_centers_, truth.inertia_, library.numpy)
    assert_bits(library.numpy(found), truth.predict(new))


def test_predict_descends_the_tree():
    """A row next to one leaf's centroid may lie on the other side of an earlier split."""
    X = np.array([[0.0], [1.0], [10.0], [11.0], [12.0], [13.0], [24.0], [25.0]])
    model = BisectingKMeans(4, init=lambda X, k, random_state: X[[0, -1]], random_state=0).fit(X)
    new = np.linspace(-5, 30, 141)[:, None]
    nearest = np.abs(new - model.cluster_centers_[:, 0]).argmin(axis=1)
    descended = model.predict(new)
    assert (descended != nearest).any()
    split = model._split_centers[0, :, 0]
    left = np.abs(new[:, 0] - split[0]) <= np.abs(new[:, 0] - split[1])
    on_left = np.abs(model.cluster_centers_[descended, 0] - split[0]) < np.abs(
        model.cluster_centers_[descended, 0] - split[1]
    )
    assert np.array_equal(left, on_left)
    assert model.score(new) == -float(((new - model.cluster_centers_[nearest]) ** 2).sum())


def test_one_cluster_is_the_weighted_mean(library):
    X, w = data("uniform", "float32"), datasets.weights("float64", 60)
    model = BisectingKMeans(1).fit(library.asarray(X), sample_weight=w)
    truth = kmeans(X, 1, init=X[:1], sample_weight=w, tol=0)
    same(model, truth.labels, truth.centroids, truth.inertia, library.numpy)
    assert_bits(library.numpy(model.predict(library.asarray(X))), truth.labels)


def test_refused_values_draw_nothing():
    rng = np.random.default_rng(3)
    with pytest.raises(ValueError, match="is nan"):
        BisectingKMeans(2, random_state=rng).fit([[0.0], [np.nan], [1.0]])
    assert rng.bit_generator.state == np.random.default_rng(3).bit_generator.state


def test_the_tree_is_there_and_on_the_host(library):
    X = data("blobs", "float32", 30)
    model = BisectingKMeans(4, random_state=0).fit(library.asarray(X))
    assert model.tree_.centers.shape == (3, 2, 3) and len(model.tree_) == 3
    assert sorted(model.tree_.children.ravel()) == [-4, -3, -2, -1, 1, 2]
    assert not hasattr(BisectingKMeans(4), "tree_")


@pytest.mark.parametrize("strategy", ["biggest_inertia", "largest_cluster"])
def test_equal_rows_and_rows_without_weight(strategy):
    X = np.repeat(np.array([[0.0, 1.0], [5.0, 5.0], [9.0, 0.0]]), 4, axis=0)
    w = np.ones(12)
    w[4:] = 0
    model = BisectingKMeans(5, random_state=0, bisecting_strategy=strategy)
    for weights in (None, w):
        with pytest.warns(UserWarning, match=r"distinct clusters \(\d\) found smaller") as caught:
            model.fit(X, sample_weight=weights)
        assert len(caught) == 1
        same(model, *bisected(X, 5, strategy, weights))
        assert np.array_equal(model.predict(X), model.labels_)


@pytest.mark.parametrize("strategy", ["biggest_inertia", "largest_cluster"])
@pytest.mark.parametrize("seed", range(4))
def test_leaves_of_one_row_and_leaves_without_weight(seed, strategy):
    """Where one row has all the weight, every score of an inertia is zero."""
    X, w = data("uniform", "float64", 8), np.zeros(8)
    w[3] = 2.0
    model = BisectingKMeans(7, random_state=seed, bisecting_strategy=strategy)
    same(model.fit(X, sample_weight=w), *bisected(X, 7, strategy, w, seed))
    assert np.array_equal(model.predict(X), model.labels_)


def test_as_many_clusters_as_rows_and_a_deep_tree():
    X = 4.0 ** np.arange(150)[:, None]
    model = BisectingKMeans(150, init="k-means++", random_state=0).fit(X)
    assert sorted(model.labels_) == list(range(150))
    assert model.inertia_ == 0
    assert np.array_equal(model.predict(X), model.labels_)
    with pytest.raises(ValueError, match="n_clusters"):
        BisectingKMeans(151).fit(X)


@pytest.mark.parametrize("strategy", ["biggest_inertia", "largest_cluster"])
@pytest.mark.parametrize("weights", [None, "float64"])
def test_scikit_learn_on_easy_data(strategy, weights):
    corners = np.array([[i & 1, i & 2, i & 4] for i in range(8)]) / [1, 2, 4]
    X = np.repeat(corners * [1e4, 1e3, 1e2], 20, axis=0) + datasets.bell(0, (160, 3))
    w = datasets.weights(weights, len(X))
    options = {"init": "k-means++", "n_init": 10, "random_state": 0, "tol": 0}
    ours, theirs = (
        kind(8, bisecting_strategy=strategy, **options).fit(X, sample_weight=w)
        for kind in (BisectingKMeans, cluster.BisectingKMeans)
    )
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-9)
    pairs = set(zip(ours.labels_.tolist(), theirs.labels_.tolist(), strict=True))
    assert len(pairs) == 8
    new = datasets.uniform(1, (200, 3)) * [1e4, 1e3, 1e2]
    told = set(zip(ours.predict(new).tolist(), theirs.predict(new).tolist(), strict=True))
    assert told <= pairs


def test_verbose_tells_of_every_split(capsys):
    model = BisectingKMeans(3, random_state=0, verbose=1).fit(data("blobs", "float64"))
    told = capsys.readouterr().out
    assert told.count("Initialization complete") == 2
    for pair in model._split_centers:
        assert f"New centroids from bisection: {pair}" in told
