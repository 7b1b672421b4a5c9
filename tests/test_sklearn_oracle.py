"""scikit-learn agrees, from the same init with tol=0, where its rounding cannot matter."""

import numpy as np
import pytest

import kmeans_xp

from . import datasets

cluster = pytest.importorskip("sklearn.cluster")

K = 5
D = 16
KINDS = ["blobs", "uniform", "digits"]


def fitted(kind, dtype, weights=None, init=None, n=400):
    """Both libraries' estimators, fitted to the same data from the same init."""
    X = datasets.make(kind, dtype, n, D, K, seed=6)
    init = X[:: n // K][:K] if init is None else init
    sample_weight = datasets.weights(weights, n)
    options = {"n_clusters": K, "init": init, "n_init": 1, "tol": 0}
    ours, theirs = kmeans_xp.KMeans(**options), cluster.KMeans(algorithm="lloyd", **options)
    for estimator in (ours, theirs):
        assert estimator.fit(X, sample_weight=sample_weight) is estimator
    return X, sample_weight, ours, theirs


@pytest.mark.parametrize("weights", [None, "float64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_fit(kind, dtype, weights):
    _, _, ours, theirs = fitted(kind, dtype, weights)
    assert ours.n_iter_ == theirs.n_iter_ > 1
    assert np.array_equal(ours.labels_, theirs.labels_)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-6)
    assert np.allclose(ours.cluster_centers_, theirs.cluster_centers_, atol=1e-4)
    assert ours.n_features_in_ == theirs.n_features_in_
    assert ours.labels_.dtype == theirs.labels_.dtype
    assert ours.cluster_centers_.dtype == theirs.cluster_centers_.dtype


def test_relocation_of_empty_clusters():
    X = datasets.make("blobs", "float64", 400, D, K, seed=6)
    init = np.concatenate([X[:2], np.full((3, D), [[90.0], [95.0], [99.0]])])
    _, _, ours, theirs = fitted("blobs", "float64", init=init)
    assert len(set(ours.labels_)) == K
    assert ours.n_iter_ == theirs.n_iter_
    assert np.array_equal(ours.labels_, theirs.labels_)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predict_transform_and_score(dtype):
    X, sample_weight, ours, theirs = fitted("uniform", dtype, "float32")
    tolerance = 1e-5 if dtype == "float32" else 1e-10
    new = datasets.make("uniform", dtype, 50, D, seed=9)
    assert np.array_equal(ours.predict(X), ours.labels_)
    assert np.array_equal(ours.predict(new), theirs.predict(new))
    assert ours.transform(new).dtype == theirs.transform(new).dtype
    assert np.allclose(ours.transform(new), theirs.transform(new), rtol=tolerance)
    assert ours.score(new) == pytest.approx(theirs.score(new), rel=1e-5)
    assert ours.score(X, sample_weight=sample_weight) == -ours.inertia_


def test_fit_predict_and_fit_transform():
    X, sample_weight, ours, _ = fitted("uniform", "float64", "float64")
    again = kmeans_xp.KMeans(**ours.get_params())
    assert np.array_equal(again.fit_predict(X, sample_weight=sample_weight), ours.labels_)
    transformed = again.fit_transform(X, sample_weight=sample_weight)
    assert np.array_equal(transformed, ours.transform(X))


def test_transform_keeps_its_promised_accuracy():
    """Distances are promised to 1e-6 and 1e-12, also of rows beside their centroid far from 0."""
    for dtype, promised in [("float32", 1e-6), ("float64", 1e-12)]:
        X = datasets.make("offset", dtype, 100, 3, K)
        centers = X[:K] + np.array([1, 0, 0], dtype)
        model = kmeans_xp.KMeans(K, init=centers, max_iter=1).fit(X)
        wide = X.astype(np.longdouble)[:, None] - model.cluster_centers_.astype(np.longdouble)
        exact = np.sqrt((wide**2).sum(axis=2)).astype(np.float64)
        assert np.allclose(model.transform(X), exact, rtol=promised, atol=0)


def test_not_fitted():
    exceptions = pytest.importorskip("sklearn.exceptions")
    with pytest.raises(exceptions.NotFittedError):
        kmeans_xp.KMeans(2).predict(np.zeros((3, 2)))


def test_parameters_are_kept_as_given():
    options = {"n_clusters": 3, "init": "random", "n_init": 4, "max_iter": 7, "tol": 0.5}
    assert kmeans_xp.KMeans(**options).get_params().items() >= options.items()


@pytest.mark.parametrize("kind", KINDS)
def test_plus_plus_starts_are_as_good(kind):
    """Not the same random numbers, so compare the mean cost over a few seeds."""
    X = datasets.make(kind, "float64", 300, D, K)
    costs = {}
    for module in (kmeans_xp, cluster):
        models = [module.KMeans(K, n_init=1, random_state=s, max_iter=1) for s in range(8)]
        costs[module] = np.mean([model.fit(X).inertia_ for model in models])
    assert costs[kmeans_xp] <= 1.25 * costs[cluster]
