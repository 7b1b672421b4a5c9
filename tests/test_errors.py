"""Every refusal names the argument, the value and the remedy, before any work."""

from decimal import Decimal

import numpy as np
import pytest

from kmeans_xp import KMeans, kmeans, kmeans_plusplus, predict

from . import datasets
from .conftest import entered
from .helpers import environment

X = datasets.make("uniform", "float64", 12, 3)
W = np.ones(12)


def put(array, place, value):
    array = np.array(array)
    array[place] = value
    return array


def not_to_be_called(*args, **kwargs):
    raise AssertionError("work was done before the arguments were checked")


def refused(error, words, data=X, **options):
    """`kmeans` raises `error` with all `words`; no callback, init or random draw happened."""
    state = np.random.RandomState(0)
    options = {"n_clusters": 3, "random_state": state, **options}
    options.setdefault("init", not_to_be_called)
    before = data.copy() if isinstance(data, np.ndarray) else None
    with pytest.raises(error) as caught:
        kmeans(data, callback=not_to_be_called, **options)
    for word in words:
        assert word in str(caught.value)
    assert state.bytes(8) == np.random.RandomState(0).bytes(8)
    assert before is None or before.tobytes() == data.tobytes()


@pytest.mark.parametrize("dtype", datasets.FLOATS)
@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
@pytest.mark.parametrize("place", [(0, 0), (7, 1), (11, 2)])
def test_values_that_are_not_finite(place, value, shown, dtype, backend):
    bad = put(X.astype(dtype), place, value)
    row, column = place
    words = ["X", "finite", f"[{row}, {column}]", shown, "Remove"]
    refused(ValueError, words, put(bad, (11, 2), value))
    with pytest.raises(ValueError, match=rf"X\[{row}, {column}\]"):
        predict(bad, X[:2])
    with pytest.raises(ValueError, match=rf"X\[{row}, {column}\]"):
        kmeans_plusplus(bad, 2)
    with pytest.raises(ValueError, match=rf"X\[{row}, {column}\]"):
        KMeans(2).fit(bad)


def test_the_first_bad_value_by_rows_is_named(backend):
    bad = put(put(X, (5, 2), np.nan), (6, 0), np.inf)
    refused(ValueError, ["[5, 2]", "nan"], bad)


@pytest.mark.parametrize("rows", [1, 5, 100])
def test_the_first_bad_value_is_named_for_any_block_size(rows):
    with environment(block_rows=rows, num_threads=2):
        refused(ValueError, ["[5, 2]"], put(put(X, (5, 2), np.nan), (9, 0), np.nan))


@pytest.mark.parametrize(
    ("error", "words", "data"),
    [
        (ValueError, ["X", "(12,)", "reshape(-1, 1)", "reshape(1, -1)"], X[:, 0]),
        (ValueError, ["X", "(12, 3, 1, 1)", "two-dimensional"], X[:, :, None, None]),
        (ValueError, ["X", "()", "two-dimensional"], np.float64(3)),
        (ValueError, ["X", "(0, 3)", "at least one row"], X[:0]),
        (ValueError, ["X", "(12, 0)", "one feature"], X[:, :0]),
        (TypeError, ["X", "complex128", "real"], X + 0j),
        (TypeError, ["X", "complex64", "real"], X.astype(np.complex64)),
        (TypeError, ["X[0, 1]", "Decimal", "number"], put(X.astype(object), (0, 1), Decimal(1))),
        (ValueError, ["X", "[0, 1]", "2**53"], put(X.astype(object), (0, 1), 2**60)),
        (TypeError, ["X[2, 1]", "'red'", "encode"], put(X.astype(object), (2, 1), "red")),
        (TypeError, ["X[2, 1]", "None", "impute"], put(X.astype(object), (2, 1), None)),
        (TypeError, ["X", "<U", "astype"], X.astype(str)),
        (TypeError, ["X", "datetime64", "real"], X.astype("M8[s]")),
        (
            ValueError,
            ["X", "[4, 1]", str(2**53 + 1), "2**53"],
            put(X.astype(int), (4, 1), 2**53 + 1),
        ),
        (ValueError, ["X", "[4, 1]", str(-(2**60))], put(X.astype(int), (4, 1), -(2**60))),
        (ValueError, ["X", "[4, 1]", str(2**63)], put(X.astype(np.uint64), (4, 1), 2**63)),
    ],
)
def test_data(error, words, data, backend):
    refused(error, words, data)


@pytest.mark.parametrize(
    ("error", "words", "options"),
    [
        (ValueError, ["n_clusters", "0", ">= 1"], {"n_clusters": 0}),
        (ValueError, ["n_clusters", "-2", ">= 1"], {"n_clusters": -2}),
        (ValueError, ["n_clusters", "13", "12", "fewer"], {"n_clusters": 13}),
        (TypeError, ["n_clusters", "2.5", "integer"], {"n_clusters": 2.5}),
        (TypeError, ["n_clusters", "'3'", "integer"], {"n_clusters": "3"}),
        (TypeError, ["n_clusters", "True", "integer"], {"n_clusters": True}),
        (ValueError, ["max_iter", "0", ">= 1"], {"max_iter": 0}),
        (TypeError, ["max_iter", "1.5", "integer"], {"max_iter": 1.5}),
        (ValueError, ["tol", "-0.1", ">= 0"], {"tol": -0.1}),
        (ValueError, ["tol", "nan", ">= 0"], {"tol": np.nan}),
        (ValueError, ["tol", "inf", "finite"], {"tol": np.inf}),
        (TypeError, ["tol", "'small'", "number"], {"tol": "small"}),
        (ValueError, ["n_init", "0", ">= 1"], {"n_init": 0}),
        (ValueError, ["n_init", "'many'", "'auto'"], {"n_init": "many"}),
        (TypeError, ["n_init", "None", "integer"], {"n_init": None}),
        (ValueError, ["init_size", "2", "n_clusters=3"], {"init_size": 2}),
        (ValueError, ["init_size", "'all'", "'auto'"], {"init_size": "all"}),
        (TypeError, ["init_size", "7.0", "integer"], {"init_size": 7.0}),
        (ValueError, ["algorithm", "'magic'", "'lloyd'"], {"algorithm": "magic"}),
        (ValueError, ["random_state", "-1", "non-negative"], {"random_state": -1}),
        (TypeError, ["random_state", "str", "int"], {"random_state": "seed"}),
        (TypeError, ["random_state", "float", "int"], {"random_state": 1.5}),
        (ValueError, ["init", "'k-means'", "'k-means++'", "'random'"], {"init": "k-means"}),
        (ValueError, ["init", "(3, 3)", "(4, 3)"], {"init": X[:4]}),
        (ValueError, ["init", "(3, 3)", "(3, 2)"], {"init": X[:3, :2]}),
        (ValueError, ["init", "(3, 3)", "(9,)"], {"init": X[:3].ravel()}),
        (TypeError, ["init", "complex128", "real"], {"init": X[:3] + 0j}),
        (TypeError, ["init[0, 0]", "'a'"], {"init": put(X[:3].astype(object), (0, 0), "a")}),
        (ValueError, ["init", "[1, 2]", "nan", "finite"], {"init": put(X[:3], (1, 2), np.nan)}),
    ],
)
def test_options(error, words, options):
    refused(error, words, **options)


def test_init_beyond_float32():
    init = put(X[:3], (2, 0), 1e39)
    refused(ValueError, ["init", "[2, 0]", "1e+39", "float32"], X.astype("f4"), init=init)
    kmeans(X, 3, init=init)


@pytest.mark.parametrize(
    ("error", "words", "weights"),
    [
        (ValueError, ["(12,)", "(11,)", "one weight a row"], W[:11]),
        (ValueError, ["(12,)", "(12, 1)", "one weight a row"], W[:, None]),
        (ValueError, ["(12,)", "()", "one weight a row"], 2.0),
        (ValueError, ["[4]", "-1", "non-negative"], put(W, 4, -1)),
        (ValueError, ["[4]", "nan", "finite"], put(W, 4, np.nan)),
        (ValueError, ["[4]", "inf", "finite"], put(W, 4, np.inf)),
        (ValueError, ["12", "zero", "positive"], W * 0),
        (TypeError, ["complex128", "real"], W + 0j),
        (TypeError, ["[4]", "None"], put(W.astype(object), 4, None)),
    ],
)
def test_weights(error, words, weights):
    refused(error, ["sample_weight", *words], sample_weight=weights)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("torch-1", "strict"), ("strict", "torch-1"), ("numpy", "strict")]
)
def test_weights_in_another_namespace(ours, theirs):
    with entered(ours) as library, entered(theirs) as other:
        data, weights = library.asarray(X), other.asarray(W)
        words = ["sample_weight", library.module, other.module]
        refused(TypeError, words, data, sample_weight=weights)


def test_weights_on_another_device():
    with entered("strict") as library:
        weights = library.asarray(W).to_device(library.xp.Device("device1"))
        words = ["sample_weight", "device", "device1", "move"]
        refused(TypeError, words, library.asarray(X), sample_weight=weights)


@pytest.mark.parametrize("weights", [W, W.tolist(), tuple(W)])
def test_weights_as_numpy_or_list_go_with_any_array(weights, library):
    data = library.asarray(X.astype(np.float32))
    assert library.owns(kmeans(data, 2, sample_weight=weights, random_state=0).labels)


def test_a_callable_init_is_checked_too():
    with pytest.raises(ValueError, match=r"init .*\(2, 3\).*\(3, 3\)"):
        kmeans(X, 2, init=lambda X, n_clusters, random_state: X[:3])


def test_several_starts_from_one_array():
    with pytest.warns(RuntimeWarning, match="init is an array.*n_init=5"):
        result = kmeans(X, 2, init=X[:2], n_init=5)
    assert result.inertia == kmeans(X, 2, init=X[:2]).inertia


def test_integers_without_float64():
    with entered("jax-x32") as jax, pytest.raises(TypeError, match=r"X .*int32.*float32"):
        kmeans(jax.xp.asarray(np.ones((4, 2), np.int32)), 2)


@pytest.mark.parametrize(
    ("error", "words", "centroids"),
    [
        (ValueError, ["(n_clusters, 3)", "(2, 2)"], X[:2, :2]),
        (ValueError, ["(n_clusters, 3)", "(3,)"], X[0]),
        (ValueError, ["at least one", "(0, 3)"], X[:0]),
        (ValueError, ["[1, 1]", "nan", "finite"], put(X[:2], (1, 1), np.nan)),
        (TypeError, ["complex128", "real"], X[:2] + 0j),
    ],
)
def test_predict(error, words, centroids):
    with pytest.raises(error) as caught:
        predict(X, centroids)
    for word in ["centroids", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("setting", ["block_rows", "num_threads"])
@pytest.mark.parametrize("value", ["0", "-3", "1.5", "many", ""])
def test_environment(setting, value):
    with (
        environment(**{setting: value}),
        pytest.raises(ValueError, match=f"KMEANS_XP_{setting.upper()}.*positive.*'{value}'"),
    ):
        kmeans(X, 2)


def test_unknown_backend():
    with (
        environment(backend="magic"),
        pytest.raises(ValueError, match=r"KMEANS_XP_BACKEND.*'magic'"),
    ):
        kmeans(X, 2)


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_fewer_distinct_rows_than_clusters(init):
    from kmeans_xp import ConvergenceWarning

    data = np.repeat(X[:2], 6, axis=0)
    with pytest.warns(ConvergenceWarning, match=r"\(2\).*n_clusters \(5\)"):
        result = kmeans(data, 5, init=init, random_state=0)
    assert result.centroids.shape == (5, 3)
    assert result.inertia == 0
    assert {tuple(row) for row in result.centroids[result.labels]} == {tuple(row) for row in data}


def test_the_warning_is_that_of_the_caller():
    from kmeans_xp import ConvergenceWarning

    with pytest.warns(ConvergenceWarning) as caught:
        kmeans(np.ones((4, 2)), 2)
    assert caught[0].filename == __file__


def test_predict_with_an_estimator():
    with pytest.raises(TypeError, match="centroids must be an array, got KMeans"):
        predict(X, KMeans(2, random_state=0).fit(X))


def test_what_a_batch_is_indexed_by():
    batch = kmeans(np.arange(24.0).reshape(2, 6, 2), 2, random_state=0)
    for wrong in (slice(0, 1), "a", [0, 1]):
        with pytest.raises(TypeError, match=f"number of a problem, got {type(wrong).__name__}"):
            batch[wrong]


def test_numbers_of_clusters_of_another_length_are_not_listed():
    with pytest.raises(TypeError, match=r"2 integers, one a problem, got int64 of shape \(3,\)$"):
        kmeans(np.arange(24.0).reshape(2, 6, 2), [2, 2, 2])
