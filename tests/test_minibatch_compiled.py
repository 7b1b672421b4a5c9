"""Compiled steps of mini-batches: exact where they say they are, and the bits of the plain path."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from kmeans_xp import warmup
from kmeans_xp.backends.cpu import NumpyBackend
from kmeans_xp.blocks import minibatch as blocks
from kmeans_xp.exact.squares import round_enclosures
from kmeans_xp.minibatch import Options, fit, partial_fit

from . import datasets, reference
from .helpers import assert_bits, environment
from .test_minibatch_exact import exact_means

step = pytest.importorskip("kmeans_xp.backends.numba_minibatch_step")
DTYPES = ["float32", "float64"]


@pytest.fixture(scope="module", autouse=True)
def compiled():
    warmup()


@pytest.mark.parametrize("shape", [(40, 1, 2), (40, 3, 5), (300, 16, 7)])
@pytest.mark.parametrize("kind", datasets.KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_labels_are_exact_or_left(dtype, kind, shape):
    n, d, k = shape
    X = datasets.make(kind, dtype, n, d, k)
    c = X[:: n // k][:k] + X.dtype.type(0)
    labels, left = step.nearest(X, c)
    distances = reference.squared_distances(reference.as_rows(X), reference.as_rows(c))
    truth = reference.nearest(distances)
    sure = np.setdiff1d(np.arange(n), left)
    assert labels[sure].tolist() == [truth[i] for i in sure]
    for i in left.tolist():
        first, second = sorted(distances[i])[:2]
        assert second - first <= second * Fraction(1, 10**14) or kind in ("tiny", "huge")
    assert kind not in ("blobs", "uniform", "offset") or sure.size > 0.9 * n


def test_threads_share_a_large_batch(monkeypatch):
    monkeypatch.setattr(blocks, "_PRODUCTS_A_THREAD", 1 << 10)
    X = datasets.make("grid", "float32", 500, 5, 6)  # with ties
    asked = Options(6, batch_size=333, max_iter=3, random_state=2)
    for threads in (2, 3):
        both(lambda: fit(X, asked), num_threads=threads)


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_centroids_are_left(dtype):
    X = datasets.make("blobs", dtype, 60, 3, 4)
    c = X[[0, 1, 1, 2]]
    _, left = step.nearest(X, c)
    truth = reference.nearest(
        reference.squared_distances(reference.as_rows(X), reference.as_rows(c))
    )
    assert left.tolist() == [i for i, k in enumerate(truth) if k == 1]


@pytest.mark.parametrize("seen", [0, 3, 10**6 + 1, 2**40 + 1])
@pytest.mark.parametrize("kind", datasets.KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_means_and_inertia(dtype, kind, seen):
    X = datasets.make(kind, dtype, 60, 5, 4)
    x, c = X[:50], X[50:54] + X.dtype.type(0)
    labels = datasets.integers(5, 50, 3).astype(np.int32)  # the last cluster gets nothing
    units = np.array([seen, 2 * seen, seen, 5])
    found = step.blend(x, labels, c, units)
    if found is None:
        assert kind in ("tiny", "decades", "huge", "outlier")
        return
    means, counts, enclosure = found
    ones = [Fraction(1)] * 50
    assert_bits(means, exact_means(x, ones, labels, c, [Fraction(int(u)) for u in units]))
    assert counts.tolist() == np.bincount(labels, minlength=4).tolist()
    rows, centers = reference.as_rows(x), reference.as_rows(c)
    truth = sum(
        (a - b) ** 2
        for row, k in zip(rows, labels.tolist(), strict=True)
        for a, b in zip(row, centers[k], strict=True)
    )
    part = Fraction(enclosure.whole) + Fraction(enclosure.rest)
    unit = Fraction(2) ** enclosure.exponent
    assert abs(part * unit - truth) <= Fraction(enclosure.error) * unit
    with np.errstate(all="ignore"):
        assert round_enclosures([enclosure]) in (None, reference.to_float(Fraction(truth)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_means_on_midpoints_are_rounded_to_even(dtype):
    ulp = float(np.finfo(dtype).eps)
    x = np.array([[1 + ulp, 1 + 3 * ulp, 2 - ulp, -1 - ulp, 1 + ulp]], dtype=dtype)
    c = np.array([[1, 1 + 2 * ulp, 2, -1, 1 + ulp]], dtype=dtype)
    for near in (0.0, ulp * 2.0**-20, -ulp * 2.0**-20):
        rows = np.concatenate([x, np.full((1, 5), near, dtype=dtype)])
        labels = np.zeros(2, dtype=np.int32)
        for batch, units in ((x, [1]), (x, [3]), (rows, [2])):
            found = step.blend(batch, labels[: len(batch)], c, np.array(units))
            truth = exact_means(
                batch, [Fraction(1)] * 2, labels[: len(batch)], c, [Fraction(units[0])]
            )
            assert found is not None
            assert_bits(found[0], truth)


def test_what_is_not_certain_is_left():
    """Values near the limits, and counts that float64 does not hold."""
    labels, one = np.zeros(2, dtype=np.int32), np.ones(1, dtype=np.int64)
    huge = np.full((2, 1), 1.7e308)
    assert step.blend(huge, labels, huge[:1], one) is None
    tiny = np.array([[3e-320], [4e-320]])
    assert step.blend(tiny, labels, tiny[:1], one) is None
    x = np.ones((2, 1))
    assert step.blend(x, labels, x[:1], one << 53) is None
    # a midpoint, but for a part that two floats do not hold beside it
    rows = np.array([[1.0], [1 + 2.0**-52], [2.0**-110], [2.0**-170]])
    assert step.blend(rows, np.array([0, 0, 1, 1], dtype=np.int32), rows[:2], one * [0, 0])
    assert step.blend(rows, np.zeros(4, dtype=np.int32), rows[:1], one * 0) is None


def both(function, **settings):
    """Results with compiled kernels, and the bits of those without."""
    found = []
    for numba in (0, 1):
        with environment(numba=numba, **settings):
            found.append(function())
    plain, fast = found
    assert_bits(fast.centroids, plain.centroids)
    assert_bits(fast.labels, plain.labels)
    assert_bits(fast.counts, plain.counts)
    assert (fast.inertia, fast.n_steps) == (plain.inertia, plain.n_steps)
    assert fast.state.words.state == plain.state.words.state
    return fast


@pytest.mark.parametrize("shape", [(400, 3, 5, 50), (400, 17, 9, 128), (300, 70, 6, 60)])
@pytest.mark.parametrize("kind", datasets.KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore:inertia is inf:RuntimeWarning")
def test_fits_have_the_bits_of_the_plain_path(dtype, kind, shape):
    n, d, k, size = shape
    X = datasets.make(kind, dtype, n, d, k)
    asked = Options(k, batch_size=size, max_iter=3, random_state=1, reassignment_ratio=0.2)
    both(lambda: fit(X, asked))
    both(lambda: partial_fit(X, asked))


@pytest.mark.parametrize("weights", [None, "integer", "float64"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_reassignment_and_empty_clusters(dtype, weights):
    X, w = datasets.make("uniform", dtype, 500, 6), datasets.weights(weights, 500)
    init = np.concatenate([X[:4], X[:4] + 50, X[:2]])  # some far away, some equal
    for ratio in (0.0, 0.3):
        asked = Options(10, init=init, batch_size=90, reassignment_ratio=ratio, random_state=5)
        result = both(lambda asked=asked: fit(X, asked, w))
        assert (ratio == 0) == (result.counts == 0).any()
        both(lambda asked=asked: partial_fit(X, asked, sample_weight=w))


def test_common_batches_need_nothing_else(monkeypatch):
    """The plain path is not taken."""

    def refused(*_):
        raise AssertionError("the plain path")

    monkeypatch.setattr(blocks, "blended_means", refused)
    X, wide = (datasets.make("blobs", "float32", 3000, d, 8) for d in (16, 48))
    with environment(numba=1):
        assert NumpyBackend(X).minibatch_kernels(X) is step
        for rows in (X, X.astype(np.float64), X + np.float32(1e4), wide):
            found = fit(rows, Options(8, batch_size=500, max_iter=3, random_state=0))
            assert found.n_steps > 3
    with environment(numba=0):
        assert NumpyBackend(X).minibatch_kernels(X) is None
