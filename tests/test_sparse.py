"""SciPy's sparse matrices: the bits of the dense array, without ever making one."""

from __future__ import annotations

import itertools
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest

import kmeans_xp
from kmeans_xp import kmeans, kmeans_plusplus, metrics, predict
from kmeans_xp.backends import numba_means
from kmeans_xp.backends.sparse import CsrRows, SparseBackend
from kmeans_xp.blocks import sparse_nearest
from kmeans_xp.exact.grid import Grid
from kmeans_xp.exact.means import rounded_means
from kmeans_xp.exact.sums import ClusterSums
from kmeans_xp.exact.totals import exact_total, square_total
from kmeans_xp.prediction import distances, inertia

from . import datasets
from .helpers import assert_bits, assert_same, environment, run

sp = pytest.importorskip("scipy.sparse")

PATHS = [{"numba": 0}, {"numba": 1}]


def sparse_data(kind="blobs", dtype="float64", n=80, d=12, k=4, density=0.3, seed=0):
    """A dense array most of whose entries are zero."""
    X = datasets.make(kind, "float64" if dtype in ("int64", "bool") else dtype, n, d, k, seed)
    X = X * (datasets.uniform(seed + 50, X.shape) < density)
    return X.astype(dtype)


def agree(X, n_clusters, matrix=None, **options):
    """Everything computed from the sparse matrix has the bits of the dense array."""
    sparse = sp.csr_array(X) if matrix is None else matrix
    truth = run(X, n_clusters, **options)
    found = run(sparse, n_clusters, **options)
    assert_same(found, truth)
    metric = {"metric": options.get("metric", "euclidean")}
    assert_bits(predict(sparse, truth.centroids, **metric), predict(X, truth.centroids, **metric))
    w = options.get("sample_weight")
    costs = [inertia(data, truth.centroids, sample_weight=w, **metric) for data in (sparse, X)]
    assert costs[0] == costs[1]
    return truth


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("weights", [None, "float32", "float64", "integer"])
@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_same_bits_as_the_dense_array(dtype, init, weights, path):
    with environment(**path):
        for d, density in ((12, 0.3), (300, 0.02)):
            X = sparse_data(dtype=dtype, d=d, density=density)
            w = datasets.weights(weights, len(X))
            agree(X, 5, init=init, sample_weight=w, random_state=1, n_init=2)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", [kind for kind in datasets.KINDS if kind != "digits"])
@pytest.mark.filterwarnings("ignore:inertia is inf:RuntimeWarning")
def test_adversarial_values(kind, dtype, path):
    """Values of all sizes, lattices and near-ties, with and without zeros among them."""
    with environment(**path):
        for density in (0.5, 1.0):
            X = sparse_data(kind, dtype, n=50, d=6, density=density)
            agree(X, 4, random_state=0)
            agree(X, 4, init="random", random_state=0, n_init=1, max_iter=3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_on_bisectors(dtype):
    X, centroids = datasets.bisectors(np.dtype(dtype), 200, 5, 6)
    assert_bits(predict(sp.csr_array(X), centroids), predict(X, centroids))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_rows_of_length_one_that_share_nothing(dtype):
    """Text: squared norms differ in the last place, and rows share no word with any centroid."""
    X = sparse_data("uniform", dtype, n=150, d=400, density=0.01)
    X[X.sum(axis=1) == 0, 0] = 1
    X /= np.sqrt((X * X).sum(axis=1, keepdims=True))
    truth = agree(X, 8, init="random", n_init=2, random_state=0)
    assert len(set(truth.labels)) > 1
    first = run(sp.csr_array(X), 8, init=X[:8], max_iter=1)
    assert_same(first, run(X, 8, init=X[:8], max_iter=1))


@pytest.mark.parametrize("settings", [{"block_rows": 1}, {"block_rows": 7}, {"num_threads": 3}])
def test_blocks_and_threads(settings):
    X = sparse_data(dtype="float32", n=200)
    truth = run(sp.csr_array(X), 6, random_state=0)
    for path in PATHS:
        with environment(**settings, **path):
            assert_same(run(sp.csr_array(X), 6, random_state=0), truth)
    with environment(backend="generic"):
        assert_same(run(sp.csr_array(X), 6, random_state=0), truth)


def test_init_size():
    X = sparse_data(n=200)
    agree(X, 4, init_size=30, random_state=3, sample_weight=datasets.weights("float64", 200))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("weights", [None, "float64"])
def test_empty_clusters_take_far_rows(weights, path):
    X = sparse_data(n=60, d=8)
    far = np.full((5, 8), [[100.0], [200.0], [300.0], [0.0], [0.0]])
    w = datasets.weights(weights, 60)
    with environment(**path):
        agree(X, 5, init=far, sample_weight=w)
        agree(np.repeat(X[:3], 20, axis=0), 5, init=far)  # too few different rows
        agree(X, 5, init=far, max_iter=1)


def test_rows_and_columns_of_zeros():
    X = sparse_data(n=60, d=20)
    X[::3], X[:, ::4] = 0, 0
    for init in ("k-means++", "random"):
        agree(X, 4, init=init, random_state=0)
    agree(np.zeros((5, 3)), 2, random_state=0)
    agree(X, 1, random_state=0)


def test_layouts_of_the_matrix():
    """Formats, index types, order within rows, explicit zeros, read-only memory."""
    X = sparse_data(n=50, d=9)
    for kind in (sp.csr_array, sp.csr_matrix, sp.csc_array, sp.coo_matrix, sp.lil_array):
        agree(X, 3, kind(X), random_state=0)
    wide = sp.csr_array(X)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    agree(X, 3, wide, random_state=0)
    mixed = sp.csr_array(X)
    for lo, hi in itertools.pairwise(mixed.indptr):
        mixed.indices[lo:hi], mixed.data[lo:hi] = (
            mixed.indices[lo:hi][::-1],
            mixed.data[lo:hi][::-1],
        )
    mixed.data[::5] = 0
    for part in (mixed.data, mixed.indices, mixed.indptr):
        part.flags.writeable = False
    before = mixed.copy()
    agree(mixed.toarray(), 3, mixed, random_state=0)
    for part in ("data", "indices", "indptr"):
        assert_bits(getattr(mixed, part), getattr(before, part))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_start_and_distances(dtype):
    X = sparse_data(dtype=dtype, n=70, d=40, density=0.1)
    X[5], X[6] = X[7], 0
    for w in (None, datasets.weights("integer", 70)):
        found = kmeans_plusplus(sp.csr_array(X), 6, sample_weight=w, random_state=2)
        truth = kmeans_plusplus(X, 6, sample_weight=w, random_state=2)
        for a, b in zip(found, truth, strict=True):
            assert_bits(a, b)
    centroids = np.concatenate([X[:5], X[:1] + X[1:2] * dtype.count("2") * 1e-3])
    found, truth = (distances(data, centroids) for data in (sp.csr_array(X), X))
    assert found.dtype == truth.dtype
    assert found[0, 0] == 0.0
    assert np.allclose(found, truth, rtol=1e-6 if dtype == "float32" else 1e-12, atol=0)


def test_a_callable_init_gets_the_matrix():
    X = sp.csr_array(sparse_data())

    def init(data, n_clusters, random_state):
        assert sp.issparse(data)
        return data[:n_clusters].toarray()

    assert_same(run(X, 3, init=init, n_init=1), run(X, 3, init=X[:3].toarray()))


def test_nothing_is_made_dense(monkeypatch):
    """160 GB as a dense array; a few centroids are all that may be dense."""
    n, d, per_row = 50_000, 400_000, 4
    columns = datasets.integers(1, (n, per_row), d // per_row) * per_row + np.arange(per_row)
    data = datasets.uniform(2, n * per_row) + 0.5
    X = sp.csr_array((data, columns.ravel(), np.arange(0, n * per_row + 1, per_row)), shape=(n, d))
    for name in ("toarray", "todense"):
        monkeypatch.setattr(sp.csr_array, name, None)
    run(X[:10], 2, random_state=0)  # imports and compiles
    tracemalloc.start()
    result = kmeans(X, 3, random_state=0, max_iter=2, tol=0)
    labels = predict(X, result.centroids)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 8 * result.centroids.size
    assert_bits(labels, result.labels)
    used = np.unique(X.indices)  # the same problem without the features that no row has
    small = sp.csr_array((X.data, np.searchsorted(used, X.indices), X.indptr), shape=(n, len(used)))
    other = kmeans(small, 3, random_state=0, max_iter=2, tol=0)
    assert_bits(other.labels, result.labels)
    assert other.inertia == result.inertia


def test_estimator():
    pytest.importorskip("sklearn")
    X = sparse_data(n=100, d=15)
    w = datasets.weights("float64", 100)
    sparse, dense = (kmeans_xp.KMeans(4, random_state=0) for _ in range(2))
    sparse.fit(sp.csr_array(X), sample_weight=w)
    dense.fit(X, sample_weight=w)
    assert_bits(sparse.cluster_centers_, dense.cluster_centers_)
    assert_bits(sparse.labels_, dense.labels_)
    assert (sparse.inertia_, sparse.n_iter_) == (dense.inertia_, dense.n_iter_)
    for matrix in (sp.csr_array(X), sp.csc_matrix(X)):
        assert_bits(sparse.predict(matrix), dense.predict(X))
        assert np.allclose(sparse.transform(matrix), dense.transform(X), rtol=1e-12)
        assert sparse.score(matrix, sample_weight=w) == dense.score(X, sample_weight=w)
    assert_bits(sparse.fit_predict(sp.csr_matrix(X)), dense.fit_predict(X))


@pytest.mark.parametrize("name", ["BisectingKMeans", "MiniBatchKMeans"])
def test_other_estimators(name):
    pytest.importorskip("sklearn")
    X = sparse_data(n=100, d=15)
    kind = getattr(kmeans_xp, name)
    sparse, dense = (kind(4, random_state=0).fit(data) for data in (sp.csr_array(X), X))
    assert_bits(sparse.cluster_centers_, dense.cluster_centers_)
    assert_bits(sparse.labels_, dense.labels_)
    assert sparse.inertia_ == dense.inertia_
    assert_bits(sparse.predict(sp.csr_array(X)), dense.labels_)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_scikit_learn_agrees(dtype):
    cluster = pytest.importorskip("sklearn.cluster")
    X = sp.csr_matrix(sparse_data(dtype=dtype, n=300, d=60, density=0.2, seed=3))
    options = {"n_clusters": 5, "init": X[:5].toarray(), "n_init": 1, "tol": 0}
    ours, theirs = kmeans_xp.KMeans(**options).fit(X), cluster.KMeans(**options).fit(X)
    assert ours.n_iter_ == theirs.n_iter_ > 1
    assert np.array_equal(ours.labels_, theirs.labels_)
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-5)
    assert np.allclose(ours.transform(X), theirs.transform(X), rtol=1e-4)


# ---- refusals


def broken(change):
    X = sp.csr_array(sparse_data(n=12, d=5, density=0.6) + np.eye(12, 5))
    change(X)
    return X


def put(X, place, value):
    X.data[X.indptr[place[0]] + np.flatnonzero(row(X, place[0]) == place[1])] = value


def row(X, i):
    return X.indices[X.indptr[i] : X.indptr[i + 1]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda X: put(X, (3, 3), np.nan), ["finite", "X[3, 3]", "nan"]),
        (lambda X: (put(X, (4, 4), np.nan), put(X, (1, 1), -np.inf)), ["X[1, 1]", "-inf"]),
        (lambda X: X.indices.__setitem__(slice(0, 2), 2), ["X[0, 2]", "more than once", "sum_dup"]),
        (lambda X: X.indices.__setitem__(0, 5), ["not a valid sparse matrix", "check_format"]),
        (lambda X: X.indices.__setitem__(0, -1), ["not a valid sparse matrix"]),
        (lambda X: X.indptr.__setitem__(1, 60), ["not a valid sparse matrix"]),
    ],
)
def test_unusable_data(change, words):
    X = broken(change)
    for function in (kmeans, kmeans_plusplus, lambda X, k: predict(X, np.ones((k, 5)))):
        with pytest.raises(ValueError, match=r"^X ") as caught:
            function(X, 2)
        for word in words:
            assert word in str(caught.value)


def test_unusable_arguments():
    X = sp.csr_array(sparse_data())
    large = sp.csr_array(np.array([[0, 2**53 + 1], [1, 0]]))
    with pytest.raises(ValueError, match=r"2\*\*53.*X\[0, 1\]"):
        kmeans(large, 1)
    with pytest.raises(TypeError, match="dtype complex128"):
        kmeans(X.astype(complex), 2)
    with pytest.raises(ValueError, match="at least one row"):
        kmeans(X[:0], 2)
    for dense_only in (
        lambda: kmeans(X, 2, offsets=[0, 10, 80]),
        lambda: metrics.silhouette_score(X, np.arange(80) % 2),
    ):
        with pytest.raises(TypeError, match=r"dense arrays alone; pass X.toarray"):
            dense_only()
    with pytest.raises(ValueError, match="n_features"):
        predict(X, np.ones((2, 5)))


# ---- cosines


def with_directions(X):
    X[~X.any(axis=1), 0] = 1
    return X


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("weights", [None, "float64"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
def test_cosines_have_the_bits_of_the_dense_array(dtype, weights, path):
    with environment(**path):
        for d, density in ((12, 0.3), (300, 0.01)):
            X = with_directions(sparse_data(dtype=dtype, d=d, density=density))
            w = datasets.weights(weights, len(X))
            options = {"sample_weight": w, "metric": "cosine"}
            agree(X, 5, random_state=1, **options)
            agree(X, 5, init=3 * X[:5], tol=0, **options)  # few rows share a feature with these


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["grid", "decades", "huge", "tiny", "outlier", "duplicates"])
def test_cosines_of_adversarial_values(kind, dtype):
    X = with_directions(sparse_data(kind, dtype, n=50, d=6, density=0.6))
    agree(X, 4, random_state=0, metric="cosine")
    agree(X, 6, init=np.concatenate([X[:2], -X[:4]]), tol=0, metric="cosine")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cosine_distances(dtype):
    X = with_directions(sparse_data("blobs", dtype, n=40, d=8, density=0.5))
    X[:10] = X[0] * (1 + 1e-3 * datasets.uniform(1, (10, 8)))  # nearly parallel
    table = distances(X, X[::5], metric="cosine")
    found = distances(sp.csr_array(X), X[::5], metric="cosine")
    worst = 1e-6 if dtype == "float32" else 1e-12
    assert found.dtype == table.dtype
    assert (np.abs(found - table) <= worst * np.abs(table)).all()


def test_rows_of_zeros_have_no_direction():
    X = sp.csr_array(np.array([[1.0, 0], [0, 2], [0, 0], [0, 0]]))
    stored = sp.csr_array((np.array([1.0, 2, 0]), np.array([0, 1, 0]), np.array([0, 1, 2, 3, 3])))
    for matrix in (X, stored):
        with pytest.raises(ValueError, match=r"X\[2\] is one"):
            kmeans(matrix, 2, metric="cosine")


# ---- the parts


def test_totals_are_exact():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(300) * 10.0 ** rng.uniform(-300, 300, 300)
    x[::7] = 0
    scale = rng.integers(-2000, 2000, 300)
    truth = sum((Fraction(v) * Fraction(2) ** int(e) for v, e in zip(x, scale, strict=True)), 0)
    assert Fraction(*exact_total(x, scale).as_ratio()) == truth
    for dtype in (np.float32, np.float64):
        small = (rng.standard_normal(100) * 10.0 ** rng.uniform(-40, 30, 100)).astype(dtype)
        w = rng.random(100)
        plain = sum(Fraction(float(v)) ** 2 for v in small)
        weighted = sum(Fraction(f) * Fraction(float(v)) ** 2 for f, v in zip(w, small, strict=True))
        assert Fraction(*square_total(small).as_ratio()) == plain
        assert Fraction(*square_total(small, w).as_ratio()) == weighted


@pytest.mark.parametrize("unit", ["FLOAT32", "FLOAT64"])
def test_the_bounds_are_needed(monkeypatch, unit):
    """Without its error bound a pass decides near-ties wrongly."""
    dtype = {"FLOAT32": np.float32, "FLOAT64": np.float64}[unit]
    X, centroids = datasets.bisectors(np.dtype(dtype), 4000, 5, 40)
    centroids = centroids + datasets.uniform(5, centroids.shape).astype(dtype)
    pairs = datasets.integers(7, (2, len(X)), len(centroids))
    X = ((centroids[pairs[0]] + centroids[pairs[1]]) / 2).astype(dtype)
    truth = predict(X, centroids)
    assert_bits(predict(sp.csr_array(X), centroids), truth)
    for name in ("FLOAT32", "FLOAT64", "TINY32", "TINY64"):
        monkeypatch.setattr(sparse_nearest, name, 0.0)
    monkeypatch.setattr(sparse_nearest, "gamma", lambda n, u: 0.0)
    assert not np.array_equal(predict(sp.csr_array(X), centroids), truth)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_means_are_rounded_once(dtype):
    rng = np.random.default_rng(4)
    with environment(numba=1):
        backend = SparseBackend(CsrRows(np.ones(1), np.zeros(1, int), np.array([0, 1]), (1, 1)))
    decided = 0
    for trial in range(60):
        n, d, k = (int(rng.integers(1, top)) for top in (60, 40, 9))
        spread = (0, 2, 8)[trial % 3]
        x = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-spread, spread, (n, d))
        x = (np.rint(x) if trial % 5 == 0 else x).astype(dtype)
        smallest = float(np.abs(x[x != 0]).min(initial=1.0))
        narrow = dtype == np.float32
        grid = Grid.fit(np.abs(x).max(axis=0), smallest, None, n, (2, 1024)[trial % 2], narrow)
        sums = ClusterSums(k, grid, False)
        sums.add(x, None, rng.integers(0, k, n).astype(np.int32))
        old = np.full((k, d), 7, dtype)
        assert_bits(backend.means(sums, old), rounded_means(sums, old))
        if numba_means.suits(sums):
            decided += numba_means.plain_means(sums, np.arange(k), old.dtype)[1].sum()
    assert decided > 50
