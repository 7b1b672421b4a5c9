"""The ONNX graph labels as `predict` does, but for rows that floating point cannot tell apart."""

from __future__ import annotations

import sys
from fractions import Fraction

import numpy as np
import pytest

from kmeans_xp import BisectingKMeans, KMeans, KMeansResult, kmeans, predict, to_onnx

from .datasets import bisectors, blobs, make

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")

X = blobs(41, 300, 5, 6)


def run(model, x: np.ndarray) -> np.ndarray:
    """Labels by onnxruntime."""
    return runtime.InferenceSession(model.SerializeToString()).run(["labels"], {"X": x})[0]


def result_of(centroids: np.ndarray) -> KMeansResult:
    return KMeansResult(np.zeros(1, np.int32), centroids, 0.0, 0, True)


def real_gap(x: np.ndarray, a: np.ndarray, b: np.ndarray) -> Fraction:
    """The real |x − a|² − |x − b|²."""
    x, a, b = ([Fraction(float(v)) for v in row] for row in (x, a, b))
    return sum((p - q) ** 2 - (p - r) ** 2 for p, q, r in zip(x, a, b, strict=True))


def error_bound(x: np.ndarray, centroids: np.ndarray) -> float:
    """Of a difference of two squared distances, from the graph's operations.

    Each of the D products and D + 1 sums, the centred row, centroid and bias round once: relative
    to |x − μ|, |c − μ| that is less than (2 D + 8) u for each of the two scores, doubled for
    squared distances.
    """
    middle = centroids.mean(axis=0, dtype=np.float64)
    reach = np.abs(centroids.astype(np.float64) - middle).sum(axis=1).max()
    far = np.abs(x.astype(np.float64) - middle).sum()
    ulps = np.finfo(centroids.dtype).eps * (2 * len(x) + 8)
    return float(4 * ulps * (far + reach) * reach)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_are_those_of_predict(dtype, tmp_path):
    x = X.astype(dtype)
    result = kmeans(x, 6, random_state=0)
    model = to_onnx(result, tmp_path / "model.onnx")
    labels = run(onnx.load(tmp_path / "model.onnx"), x)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, result.labels)
    np.testing.assert_array_equal(run(model, x[:1]), result.labels[:1])  # any number of rows
    assert run(model, x[:0]).shape == (0,)
    assert model.opset_import[0].version == 13


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0, 1_000_000])
def test_only_near_ties_differ(dtype, offset):
    rows, centroids = bisectors(dtype, 600, 4, 7)
    rows, centroids = rows + dtype(offset), centroids + dtype(offset)
    truth = predict(rows, centroids)
    labels = run(to_onnx(result_of(centroids)), rows)
    for i in np.flatnonzero(labels != truth):
        gap = real_gap(rows[i], centroids[labels[i]], centroids[truth[i]])
        assert 0 <= gap <= error_bound(rows[i], centroids)


@pytest.mark.parametrize("kind", ["blobs", "digits", "uniform", "offset", "grid", "duplicates"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_only_near_ties_differ_on_data(kind, dtype):
    rows = make(kind, dtype)
    centroids = rows[::17].copy()
    truth = predict(rows, centroids)
    labels = run(to_onnx(result_of(centroids)), rows)
    for i in np.flatnonzero(labels != truth):
        gap = real_gap(rows[i], centroids[labels[i]], centroids[truth[i]])
        assert 0 <= gap <= error_bound(rows[i], centroids)


def test_ties_go_to_the_lowest_index():
    centroids = np.array([[4.0], [0.0], [2.0], [2.0]])
    labels = run(to_onnx(result_of(centroids)), np.array([[1.0], [3.0], [2.0]]))
    np.testing.assert_array_equal(labels, [1, 0, 2])


def test_any_library(library):
    x = library.asarray(X.astype(np.float32))
    model = to_onnx(kmeans(x, 6, random_state=0))
    truth = kmeans(X.astype(np.float32), 6, random_state=0)
    np.testing.assert_array_equal(run(model, X.astype(np.float32)), truth.labels)


def test_an_estimator():
    model = KMeans(6, random_state=0).fit(X)
    np.testing.assert_array_equal(run(to_onnx(model), X), model.labels_)


def test_what_is_no_model(tmp_path):
    for wrong in (KMeans(2), X):
        with pytest.raises(TypeError, match="model must be a KMeansResult or a fitted estimator"):
            to_onnx(wrong)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_clusters", [1, 2, 3, 12])
def test_a_tree(dtype, n_clusters):
    x = X.astype(dtype)
    model = BisectingKMeans(n_clusters, random_state=0).fit(x)
    new = blobs(77, 200, 5, 9).astype(dtype)
    graph = to_onnx(model)
    np.testing.assert_array_equal(run(graph, new), model.predict(new))
    assert run(graph, new[:0]).shape == (0,)


def test_a_tree_sends_ties_to_the_left():
    model = BisectingKMeans(3, random_state=0).fit(np.array([[0.0], [2.0], [10.0], [12.0]]))
    middles = np.unique(model.tree_.centers.mean(axis=1))[:, None]
    np.testing.assert_array_equal(run(to_onnx(model), middles), model.predict(middles))


def test_squares_that_overflow():
    with pytest.raises(ValueError, match="whose squares float32 cannot hold"):
        to_onnx(result_of(np.array([[1e30], [-1e30]], dtype=np.float32)))


def test_onnx_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModuleNotFoundError, match=r"kmeans_xp\[onnx\]"):
        to_onnx(result_of(X))
