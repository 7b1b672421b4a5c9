"""MiniBatchKMeans: scikit-learn's behaviour around the bits of `kmeans_xp.minibatch`."""

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import cluster
from sklearn.base import clone

from kmeans_xp import MiniBatchKMeans
from kmeans_xp.minibatch import Options, fit

from . import datasets
from .conftest import LIBRARIES, entered
from .helpers import assert_bits

X = datasets.make("blobs", "float32", 200, 3, 4)
W = datasets.weights("float32", 200)
ASKED = {"n_clusters": 4, "batch_size": 32, "random_state": 1, "max_iter": 5}


def batches(array, size=40):
    return [array[i : i + size] for i in range(0, len(array), size)]


def test_a_fit_is_that_of_the_function():
    model, result = MiniBatchKMeans(**ASKED).fit(X, sample_weight=W), fit(X, Options(**ASKED), W)
    assert_bits(model.cluster_centers_, result.centroids)
    assert_bits(model.labels_, result.labels)
    assert_bits(model.counts_, result.counts)
    assert model.inertia_ == result.inertia == -model.score(X, sample_weight=W)
    assert (model.n_steps_, model.n_iter_) == (result.n_steps, result.n_iter)
    assert model.counts_.sum() >= model.n_steps_ * 32
    assert_bits(model.predict(X), model.labels_)
    assert model.transform(X).shape == (200, 4)


@pytest.mark.parametrize("name", LIBRARIES)
def test_attributes_follow_the_data(name):
    straight = MiniBatchKMeans(**ASKED)
    for batch in batches(X):
        straight.partial_fit(batch)
    with entered(name) as library:
        model = MiniBatchKMeans(**ASKED)
        for batch in batches(X):
            model.partial_fit(library.asarray(batch))
        for attribute in ("cluster_centers_", "labels_", "counts_"):
            assert library.owns(getattr(model, attribute))
            assert_bits(library.numpy(getattr(model, attribute)), getattr(straight, attribute))
        assert model.inertia_ == straight.inertia_
        assert library.owns(model.predict(library.asarray(X)))
        moved = model.to("numpy").partial_fit(X)
    assert_bits(moved.cluster_centers_, straight.partial_fit(X).cluster_centers_)


def test_pickles_in_mid_stream():
    parts = batches(datasets.make("uniform", "float64", 200, 2), 20)
    model = MiniBatchKMeans(8, random_state=2, reassignment_ratio=0.5)
    for batch in parts[:4]:
        model.partial_fit(batch)
    others = [pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)]
    for batch in parts[4:]:
        model.partial_fit(batch)
    for other in others:
        for batch in parts[4:]:
            other.partial_fit(batch)
        assert_bits(other.cluster_centers_, model.cluster_centers_)
        assert other.n_steps_ == model.n_steps_ == 10
    assert not hasattr(clone(model), "cluster_centers_")


def test_partial_fit_goes_on_from_a_fit_and_from_given_centers():
    model = MiniBatchKMeans(**ASKED).fit(X)
    seen, steps = model.counts_.sum(), model.n_steps_
    model.partial_fit(X[:50])
    assert (model.counts_.sum(), model.n_steps_) == (seen + 50, steps + 1)
    model.cluster_centers_ = X[:4] + 100
    model.partial_fit(X[:1])
    assert (model.cluster_centers_ > 80).all()
    assert_bits(model.fit(X).labels_, MiniBatchKMeans(**ASKED).fit(X).labels_)


def test_sparse_batches_are_those_of_the_dense_array():
    csr_array = pytest.importorskip("scipy.sparse").csr_array
    rows = np.where(datasets.integers(1, (200, 3), 3) > 0, X, np.float32(0))
    dense, sparse = MiniBatchKMeans(**ASKED), MiniBatchKMeans(**ASKED)
    for batch in batches(rows):
        dense.partial_fit(batch)
        sparse.partial_fit(csr_array(batch))
        assert_bits(sparse.cluster_centers_, dense.cluster_centers_)
        assert_bits(sparse.labels_, dense.labels_)
    assert_bits(sparse.fit(csr_array(rows)).labels_, dense.fit(rows).labels_)


def test_without_labels_none_stay():
    model = MiniBatchKMeans(**ASKED).fit(X)
    model.set_params(compute_labels=False).fit(X)
    assert not hasattr(model, "labels_")
    assert model.inertia_ > 0
    model.partial_fit(X)
    assert not hasattr(model, "inertia_")


def test_verbose_lines_are_scikit_learns(capsys):
    options = {"init": X[:4], "n_init": 1, "verbose": 1, "tol": 0.0, "batch_size": 20}
    MiniBatchKMeans(4, random_state=0, **options).fit(X)
    mine = capsys.readouterr().out.splitlines()
    cluster.MiniBatchKMeans(4, random_state=0, **options).fit(X)
    theirs = capsys.readouterr().out.splitlines()

    def form(lines):
        words = (line.replace(",", "").split() for line in lines)
        return {" ".join(word for word in w if not word[0].isdigit()) for w in words}

    assert {line for line in form(theirs) if "Init" not in line} >= form(mine)
    assert len(form(mine)) >= 3


# ---- scikit-learn as an oracle


@pytest.mark.parametrize("weights", [None, "float64", "integer"])
def test_the_same_steps(weights):
    """Without reassignment nothing is random: the same centers but for rounding."""
    X, w = datasets.make("uniform", "float64", 300, 4), datasets.weights(weights, 300)
    options = {"n_clusters": 5, "init": X[:5], "n_init": 1, "reassignment_ratio": 0}
    mine, theirs = MiniBatchKMeans(**options), cluster.MiniBatchKMeans(**options)
    for i in range(0, 300, 30):
        part = slice(i, i + 30)
        for model in (mine, theirs):
            model.partial_fit(X[part], sample_weight=None if w is None else w[part])
        assert np.allclose(mine.cluster_centers_, theirs.cluster_centers_, rtol=1e-12)
        assert np.array_equal(mine.labels_, theirs.labels_)
        assert mine.inertia_ == pytest.approx(theirs.inertia_, rel=1e-10)
    assert np.allclose(mine.counts_, theirs._counts)


@pytest.mark.parametrize("kind", ["uniform", "digits", "blobs"])
def test_fits_are_as_good(kind):
    """Not the same random numbers, so compare the mean over a few seeds."""
    X = datasets.make(kind, "float64", 400, 6, 8)
    options = {"batch_size": 50, "max_iter": 10}
    costs = {}
    for module in (MiniBatchKMeans, cluster.MiniBatchKMeans):
        models = [module(8, random_state=s, **options).fit(X) for s in range(6)]
        costs[module] = np.mean([model.inertia_ for model in models])
    assert costs[MiniBatchKMeans] <= 1.1 * costs[cluster.MiniBatchKMeans]


# ---- bad input


def test_bad_batches():
    with pytest.raises(ValueError, match=r"n_samples=3.*n_clusters=4|n_clusters=4.*n_samples=3"):
        MiniBatchKMeans(4).partial_fit(X[:3])
    model = MiniBatchKMeans(4, random_state=0).partial_fit(X)
    before = pickle.dumps(model)
    bad = X[:9].copy()
    bad[3, 1] = np.nan
    for batch, weight, message in [
        (X[:9, :2], None, "2 features.*expecting 3"),
        (bad, None, "NaN"),
        (X[:9], np.full(9, -1.0), "sample_weight"),
        (X[:9], np.ones(8), "sample_weight"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.partial_fit(batch, sample_weight=weight)
    assert pickle.dumps(model) == before


def test_a_small_init_size_is_raised():
    with pytest.warns(RuntimeWarning, match="init_size=2"):
        small = fit(X, Options(**ASKED, init_size=2))
    assert_bits(small.centroids, fit(X, Options(**ASKED, init_size=12)).centroids)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("max_iter", 0),
        ("tol", -1.0),
        ("reassignment_ratio", -0.1),
        ("reassignment_ratio", float("nan")),
        ("max_no_improvement", -1),
        ("init_size", 0),
        ("n_init", 0),
        ("n_clusters", 999),
        ("init", "best"),
        ("init", np.zeros((3, 3))),
        ("random_state", -1),
    ],
)
def test_bad_options(name, value):
    with pytest.raises(ValueError, match=name):
        fit(X, Options(**{**ASKED, name: value}))


def test_what_is_stored_twice_is_refused_in_a_batch_too():
    csr_array = pytest.importorskip("scipy.sparse").csr_array
    twice = csr_array((np.ones(3), np.array([0, 0, 1]), np.array([0, 2, 3])), shape=(2, 2))
    with pytest.raises(ValueError, match=r"X stores X\[0, 0\] more than once"):
        MiniBatchKMeans(2).partial_fit(twice)


def test_an_array_is_one_start():
    model = MiniBatchKMeans(4, init=X[:4], n_init=5, random_state=0)
    with pytest.warns(RuntimeWarning, match="making one instead of n_init=5"):
        model.fit(X)
    once = MiniBatchKMeans(4, init=X[:4], n_init=1, random_state=0).fit(X)
    assert_bits(model.cluster_centers_, once.cluster_centers_)


# ---- what is kept from batch to batch


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_kept_of_a_stream_only_saves_time(dtype):
    """A pickle keeps nothing but the state, so that its every batch is prepared anew."""
    X = datasets.make("blobs", dtype, 240, 3, 4)
    kept, anew = MiniBatchKMeans(**ASKED), MiniBatchKMeans(**ASKED)
    for i, batch in enumerate(batches(X, 12)):
        moved = batch * np.asarray(4.0**i, dtype)  # out of the frame of the first batch
        kept = kept.partial_fit(moved)
        anew = pickle.loads(pickle.dumps(anew)).partial_fit(moved)
        assert_bits(kept.cluster_centers_, anew.cluster_centers_)
        assert_bits(kept.labels_, anew.labels_)
        assert kept.inertia_ == anew.inertia_


def test_centers_changed_in_place_are_seen():
    kept, anew = (MiniBatchKMeans(**ASKED).partial_fit(X) for _ in range(2))
    kept.cluster_centers_[2] += 5
    anew.cluster_centers_ = kept.cluster_centers_.copy()
    anew = pickle.loads(pickle.dumps(anew))
    assert_bits(kept.partial_fit(X).labels_, anew.partial_fit(X).labels_)
    assert_bits(kept.cluster_centers_, anew.cluster_centers_)


def test_parameters_are_checked_before_the_first_batch_alone():
    for kind in (MiniBatchKMeans, cluster.MiniBatchKMeans):
        with pytest.raises(ValueError, match="'max_iter' parameter of MiniBatchKMeans"):
            kind(4, max_iter=0).partial_fit(X)
        model = kind(4, random_state=0).partial_fit(X).set_params(max_iter=0)
        model.partial_fit(X)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (X[:0], ValueError, "0 sample"),
        (X[:, 0], ValueError, "1D array"),
        (X[:, :2], ValueError, "2 features.*expecting 3"),
        (X + 0j, ValueError, "Complex"),
        (X[None], ValueError, "two-dimensional"),
    ],
)
def test_later_batches_are_looked_at_too(batch, error, message):
    model = MiniBatchKMeans(**ASKED).partial_fit(X)
    with pytest.raises(error, match=message):
        model.partial_fit(batch)
