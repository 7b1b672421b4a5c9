"""CuPy's sparse matrices: computed on the host, never dense, with results in CuPy.

Without a device a stand-in for `cupyx.scipy.sparse` takes its place, whose arrays are those of
another library: only the three arrays of the matrix are touched.
"""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

import kmeans_xp
from kmeans_xp import kmeans, kmeans_plusplus, predict
from kmeans_xp.prediction import distances, inertia

from . import datasets
from .conftest import entered
from .helpers import assert_bits

sp = pytest.importorskip("scipy.sparse")
pytest.importorskip("sklearn")

X = datasets.make("blobs", "float32", 80, 9, 4) * (datasets.uniform(5, (80, 9)) < 0.4)
X = X.astype(np.float32)
W = datasets.weights("float64", 80)


@pytest.fixture(params=["numpy", "strict", "torch-1"])
def made(request, monkeypatch):
    """(library, a function that makes the stand-in's matrix of a dense array)."""
    with entered(request.param) as library:

        class Matrix:
            def __init__(self, dense):
                csr = sp.csr_matrix(dense)
                self.shape, self.dtype, self.ndim = csr.shape, csr.dtype, 2
                parts = csr.data, csr.indices, csr.indptr
                self.data, self.indices, self.indptr = map(library.asarray, parts)

            def tocsr(self):
                return self

            def toarray(self):
                raise AssertionError("X was made dense")

            get = todense = __array__ = toarray

        Matrix.__module__ = "cupyx.scipy.sparse._csr"
        module = ModuleType("cupyx.scipy.sparse")
        module.csr_matrix = Matrix
        for name in ("cupyx", "cupyx.scipy"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        yield library, Matrix


def check_functions(library, matrix):
    """The functions give the bits of SciPy's matrix, as arrays of the library."""

    def same(found, truth):
        assert library.owns(found)
        assert_bits(library.numpy(found), truth)

    host = sp.csr_matrix(X)
    for options in ({}, {"sample_weight": W}, {"metric": "cosine", "init": "random"}):
        truth = kmeans(host, 4, random_state=0, **options)
        found = kmeans(matrix, 4, random_state=0, **options)
        same(found.labels, truth.labels)
        same(found.centroids, truth.centroids)
        assert (found.inertia, found.n_iter) == (truth.inertia, truth.n_iter)
        metric = {"metric": options.get("metric", "euclidean")}
        same(predict(matrix, truth.centroids, **metric), truth.labels)
        same(predict(matrix, found.centroids, **metric), truth.labels)
        assert inertia(matrix, found.centroids, **metric) == inertia(
            host, truth.centroids, **metric
        )
        same(
            distances(matrix, found.centroids, **metric), distances(host, truth.centroids, **metric)
        )
    for found, truth in zip(
        kmeans_plusplus(matrix, 4, random_state=0),
        kmeans_plusplus(host, 4, random_state=0),
        strict=True,
    ):
        same(found, truth)


def check_estimator(library, matrix, kind):
    truth = kind(3, random_state=0).fit(sp.csr_matrix(X), sample_weight=W)
    model = kind(3, random_state=0).fit(matrix, sample_weight=W)
    for name in ("cluster_centers_", "labels_"):
        assert library.owns(getattr(model, name))
        assert_bits(library.numpy(getattr(model, name)), getattr(truth, name))
    assert model.inertia_ == truth.inertia_
    assert model.n_features_in_ == 9
    for name in ("predict", "transform"):
        found = getattr(model, name)(matrix)
        assert library.owns(found)
        assert_bits(library.numpy(found), getattr(truth, name)(sp.csr_matrix(X)))
    assert model.score(matrix) == truth.score(sp.csr_matrix(X))
    return model


def test_functions(made):
    library, csr_matrix = made
    check_functions(library, csr_matrix(X))


@pytest.mark.parametrize("kind", ["KMeans", "MiniBatchKMeans", "BisectingKMeans"])
def test_estimators(made, kind):
    library, csr_matrix = made
    model = check_estimator(library, csr_matrix(X), getattr(kmeans_xp, kind))
    if library.module != "numpy":  # as for dense arrays, what was fitted there stays there
        with pytest.raises(ValueError, match=r"must use the same namespace.*\.to\('numpy'\)"):
            model.predict(sp.csr_matrix(X))
    with pytest.raises(ValueError, match=r"X has 8 features, but .* is expecting 9"):
        model.predict(csr_matrix(X[:, :8]))


def test_partial_fit(made):
    library, csr_matrix = made
    model, truth = (kmeans_xp.MiniBatchKMeans(3, random_state=0) for _ in range(2))
    for rows in (X[:40], X[40:]):
        model.partial_fit(csr_matrix(rows))
        truth.partial_fit(sp.csr_matrix(rows))
    assert library.owns(model.cluster_centers_)
    assert_bits(library.numpy(model.cluster_centers_), truth.cluster_centers_)


def test_weights_and_starts_of_the_same_library(made):
    library, csr_matrix = made
    init = X[:4].copy()
    truth = kmeans(sp.csr_matrix(X), 4, init=init, sample_weight=W)
    found = kmeans(csr_matrix(X), 4, init=library.asarray(init), sample_weight=library.asarray(W))
    assert_bits(library.numpy(found.labels), truth.labels)
    seen = []

    def start(rows, n_clusters, random_state):
        seen.append(sp.issparse(rows))
        return init

    assert_bits(
        library.numpy(kmeans(csr_matrix(X), 4, init=start, n_init=1).labels),
        kmeans(X, 4, init=init).labels,
    )
    assert seen == [True]


def test_what_is_refused(made):
    _, csr_matrix = made
    with pytest.raises(TypeError, match=r"X is a sparse matrix, and this takes dense arrays"):
        kmeans_xp.metrics.silhouette_score(csr_matrix(X), [0, 1] * 40)
    bad = X.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"X\[3, 1\] is nan"):
        kmeans(csr_matrix(bad), 2)


def test_on_a_device():
    cupy = pytest.importorskip("cupy", exc_type=ImportError)
    if not cupy.cuda.is_available():
        pytest.skip("cupy finds no device")
    from cupyx.scipy.sparse import csc_matrix, csr_matrix

    with entered("cupy") as library:
        for matrix in (csr_matrix(sp.csr_matrix(X)), csc_matrix(sp.csc_matrix(X))):
            check_functions(library, matrix)
            for kind in ("KMeans", "MiniBatchKMeans", "BisectingKMeans"):
                check_estimator(library, matrix, getattr(kmeans_xp, kind))
