"""Whatever is given: scikit-learn's outcome, taken or refused, and an exception of its type."""

from __future__ import annotations

import copy
import functools
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import cluster
from sklearn import metrics as sk_metrics
from sklearn.exceptions import ConvergenceWarning

import kmeans_xp
from kmeans_xp import metrics

from . import datasets
from .helpers import assert_bits

sp = pytest.importorskip("scipy.sparse")

X = datasets.make("uniform", "float64", 30, 3)
W = np.ones(30)
KINDS = ("KMeans", "MiniBatchKMeans", "BisectingKMeans")
SCORES = ("silhouette_score", "davies_bouldin_score", "calinski_harabasz_score")


def put(array, place, value):
    array = np.array(array)
    array[place] = value
    return array


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


class ArrayProtocol:
    def __array__(self, dtype=None, copy=None):
        return X


def matrix():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix(X)


OBJECTS = X.astype(object)
DATA = {
    "float32": X.astype(np.float32),
    "float16": X.astype(np.float16),
    "longdouble": X.astype(np.longdouble),
    "bool": X > 0.5,
    "int8": (X * 9).astype(np.int8),
    "uint64": (X * 9).astype(np.uint64),
    "big-endian": X.astype(">f8"),
    "big-endian float32": X.astype(">f4"),
    "big-endian integers": (X * 9).astype(">i4"),
    "Fortran order": np.asfortranarray(X),
    "read-only": read_only(X),
    "reversed": X[::-1, ::-1],
    "list": X.tolist(),
    "tuple": tuple(map(tuple, X)),
    "array protocol": ArrayProtocol(),
    "subclass": X.view(type("Sub", (np.ndarray,), {})),
    "nothing masked": np.ma.array(X),
    "objects": OBJECTS,
    "numbers in strings": X.astype(str),
    "datetime": (X * 9).astype("M8[s]"),
    "csr": sp.csr_array(X),
    "csc of integers": sp.csc_matrix((X * 9).astype(int)),
    "nan": put(X, (3, 1), np.nan),
    "inf": put(X, (3, 1), -np.inf),
    "nan in float32": put(X, (3, 1), np.nan).astype(np.float32),
    "nan in csr": sp.csr_array(put(X, (3, 1), np.nan)),
    "one dimension": X[:, 0],
    "three dimensions": X.reshape(5, 6, 3),
    "number": 3.0,
    "None": None,
    "string": "abc",
    "bytes": b"abc",
    "dict": {"a": [1, 2]},
    "set": {1, 2},
    "letters": np.array([["a", "b"]] * 30),
    "complex": X + 0j,
    "complex csr": sp.csr_array(X + 0j),
    "a string among objects": put(OBJECTS, (2, 1), "red"),
    "None among objects": put(OBJECTS, (2, 1), None),
    "nan among objects": put(OBJECTS, (2, 1), np.nan),
    "records": np.rec.fromarrays(X.T, names="a,b,c"),
    "no rows": X[:0],
    "no features": X[:, :0],
    "too few rows": X[:2],
    "ragged": [[1.0, 2.0], [3.0]] * 15,
    "matrix": matrix(),
}
# What is refused here on purpose: nothing silently rounded, nothing masked taken as data.
REFUSED = {
    "masked": np.ma.masked_less(X, 0.5),
    "integers beyond 2**53": put((X * 9).astype(int), (0, 0), 2**60),
}


def outcome(call):
    """None, or what was raised; scikit-learn's own RuntimeWarnings do not count."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            call()
        except (TypeError, ValueError) as error:
            return error
    return None


def check(ours, theirs):
    assert (ours is None) == (theirs is None), f"{ours!r} where scikit-learn: {theirs!r}"
    for kind in (TypeError, ValueError):
        if isinstance(theirs, kind):
            assert isinstance(ours, kind), f"{ours!r} where scikit-learn: {theirs!r}"
            return


def make(module, kind, **options):
    few = {"n_clusters": 3, "n_init": 1, "max_iter": 3, "random_state": 0}
    return getattr(module, kind)(**{**few, **options})


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
@pytest.mark.parametrize("kind", KINDS)
def test_fit(kind, data):
    check(*(outcome(lambda m=m: make(m, kind).fit(data)) for m in (kmeans_xp, cluster)))


@functools.cache
def fitted(module, kind):
    return make(module, kind).fit(X)


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
@pytest.mark.parametrize("kind", KINDS)
def test_predict(kind, data):
    if data is DATA["float32"]:  # refused by scikit-learn's after a fit of float64
        assert outcome(lambda: fitted(kmeans_xp, kind).predict(data)) is None
        return
    check(*(outcome(lambda m=m: fitted(m, kind).predict(data)) for m in (kmeans_xp, cluster)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["transform", "score"])
def test_transform_and_score(method, kind):
    for name in ("objects", "nan", "complex", "one dimension", "letters", "big-endian", "list"):
        if hasattr(getattr(cluster, kind), method):
            models = (fitted(module, kind) for module in (kmeans_xp, cluster))
            check(*(outcome(lambda m=m, d=DATA[name]: getattr(m, method)(d)) for m in models))


@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
def test_partial_fit(data):
    found = []
    for module in (kmeans_xp, cluster):
        model = copy.deepcopy(fitted(module, "MiniBatchKMeans"))
        found.append(outcome(lambda model=model: model.partial_fit(data)))
    if data is DATA["too few rows"] or data is DATA["float32"]:
        assert found[0] is None  # few are enough for a later batch; scikit-learn's refuses float32
        return
    check(*found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_taken_exactly_is_refused(name, kind):
    error = outcome(lambda: make(kmeans_xp, kind).fit(REFUSED[name]))
    assert "masked" in str(error) or "2**53" in str(error)


PARAMETERS = [
    *(("n_clusters", value) for value in (0, -1, 2.5, "3", None, 31)),
    *(("init", value) for value in ("far", 3, None, X[:4], X[:3, :2], X[0], X[:3] + 0j)),
    *(("init", put(X[:3], (1, 1), value)) for value in (np.nan, np.inf)),
    *(("init", value) for value in (OBJECTS[:3], X[:3].tolist(), lambda X, k, random_state: X[:2])),
    *(("n_init", value) for value in (0, -1, 2.5, "often", None)),
    *(("max_iter", value) for value in (0, -1, 2.5, "a", None)),
    *(("tol", value) for value in (-1, "a", None, np.nan, 0, 1)),
    *(("verbose", value) for value in ("yes", -1, None, 2.5)),
    *(("random_state", value) for value in (-1, 1.5, "seed", None)),
    *(("copy_x", value) for value in ("no", 1, None)),
    *(("algorithm", value) for value in ("full", "elkan", None, 3)),
    *(("batch_size", value) for value in (0, 2.5, None, 10**6)),
    *(("compute_labels", value) for value in ("a", None, 0)),
    *(("max_no_improvement", value) for value in (-1, 2.5, None, 0)),
    *(("init_size", value) for value in (0, 2.5, None, 10**6)),
    *(("reassignment_ratio", value) for value in (-1, "a", np.nan)),
    *(("bisecting_strategy", value) for value in ("x", None)),
]


@pytest.mark.parametrize("kind", KINDS)
def test_parameters(kind):
    known = make(cluster, kind).get_params()
    for name, value in PARAMETERS:
        if name in known:
            check(
                *(
                    outcome(lambda m=m, o={name: value}: make(m, kind, **o).fit(X))
                    for m in (kmeans_xp, cluster)
                )
            )


WEIGHTS = {
    "short": W[:29],
    "two-dimensional": W[:, None],
    "nan": put(W, 4, np.nan),
    "inf": put(W, 4, np.inf),
    "zero": W * 0,
    "negative": put(W, 4, -1.0),
    "complex": W + 0j,
    "objects": W.astype(object),
    "letters": "abc",
    "list": W.tolist(),
    "number": 2.0,
    "bool": W > 0,
    "integers": W.astype(int),
    "big-endian": W.astype(">f8"),
    "read-only": read_only(W),
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("kind", KINDS)
def test_weights(kind, weights):
    found = [
        outcome(lambda m=m: make(m, kind).fit(X, sample_weight=weights))
        for m in (kmeans_xp, cluster)
    ]
    if weights is WEIGHTS["negative"]:  # scikit-learn refuses them in a random start alone
        assert "non-negative" in str(found[0])
        return
    check(*found)


# Sparse rows and what would be rounded are refused by the functions, a matrix is taken; complex
# rows one of scikit-learn's takes, with a warning.
OTHERWISE = {
    *("csr", "csc of integers", "nan in csr", "complex csr", "matrix", "datetime", "longdouble"),
    *("complex", "numbers in strings"),
}


@pytest.mark.parametrize("name", SCORES)
def test_scores(name):
    labels = np.arange(30) % 3
    assert "complex" in str(outcome(lambda: getattr(metrics, name)(X, labels + 0j)))
    ours, theirs = getattr(metrics, name), getattr(sk_metrics, name)
    for kind, data in DATA.items():
        if kind in OTHERWISE:
            continue
        n_rows = len(data) if hasattr(data, "__len__") else 30
        own = np.arange(n_rows) % 3
        check(*(outcome(lambda f=f, d=data, n=own: f(d, n)) for f in (ours, theirs)))
    for own in (
        *(labels.tolist(), labels * 1.0, labels.astype(">i4"), labels.astype(str), labels > 0),
        *(labels[:29], labels * 0, np.arange(30), None, 3, "abc"),
        put(labels * 1.0, 2, np.nan),
        np.stack([labels, labels], 1),
        put(labels.astype(object), 1, "a"),
    ):
        check(outcome(lambda n=own: ours(X, n)), outcome(lambda n=own: theirs(X, n)))


@pytest.mark.parametrize("frames", ["pandas", "polars"])
@pytest.mark.parametrize("kind", KINDS)
def test_frames_of_mixed_columns(kind, frames):
    """Integers with and without missing ones, bool and strings beside floats."""
    library = pytest.importorskip(frames)
    columns = {"a": X[:, 0], "b": np.arange(30), "c": X[:, 1] > 0.5}
    frame = library.DataFrame(columns)
    plain = np.column_stack([X[:, 0], np.arange(30.0), columns["c"]])
    model = make(kmeans_xp, kind).fit(frame)
    assert_bits(model.cluster_centers_, make(kmeans_xp, kind).fit(plain).cluster_centers_)
    if kind == "KMeans":
        for function in (
            lambda x: kmeans_xp.kmeans(x, 3, random_state=0).centroids,
            lambda x: kmeans_xp.kmeans_plusplus(x, 3, random_state=0)[0],
        ):
            assert_bits(function(frame), function(plain))
    for other in ([None] + [1] * 29, list("ab") * 15):
        bad = library.DataFrame({"a": X[:, 0], "b": other})
        check(*(outcome(lambda m=m, b=bad: make(m, kind).fit(b)) for m in (kmeans_xp, cluster)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_layouts_and_byte_orders_have_the_same_bits(kind, dtype):
    x = X.astype(dtype)
    truth = make(kmeans_xp, kind).fit(x)
    for other in (np.asfortranarray(x), x.astype(x.dtype.newbyteorder(">")), read_only(x)):
        model = make(kmeans_xp, kind).fit(other)
        assert_bits(model.cluster_centers_, truth.cluster_centers_)
        assert_bits(model.predict(other), truth.labels_)
        assert model.cluster_centers_.dtype == dtype
        assert model.transform(other).dtype == dtype


@pytest.mark.parametrize("factor", [2.0**-450, 2.0**450])
@pytest.mark.parametrize("kind", KINDS)
def test_huge_and_small_values_raise_no_warning(kind, factor):
    truth = make(kmeans_xp, kind).fit(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = make(kmeans_xp, kind).fit(X * factor)
        assert np.array_equal(model.labels_, truth.labels_)
        assert np.allclose(model.transform(X * factor) / factor, truth.transform(X), rtol=1e-12)
        model.score(X * factor)
