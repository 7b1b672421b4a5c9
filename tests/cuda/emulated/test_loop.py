"""The tests of the loop on small data: labels, sums and means against float64 and fractions."""

from __future__ import annotations

import numpy as np
import pytest

from kmeans_xp.backends.cuda import DeviceLloyd
from tests.cuda import test_loop as real
from tests.cuda.checks import Random, wrong_labels
from tests.cuda.test_loop import blobs, fit, verify

# Rows in one register file, in several, and in chunks; columns by 1, 2 and 4.
SHAPES = [(2, 17), (33, 70), (200, 100), (800, 9)]


@pytest.mark.parametrize(("D", "K"), SHAPES)
def test_shapes(cp, D, K):
    X = blobs(301, D)
    verify(cp, X, X[Random(1).choice(len(X), K)], steps=2)


@pytest.mark.parametrize(("D", "K"), [(48, 20), (300, 70)])
def test_both_tensor_core_paths_give_the_same_bits(cp, D, K):
    X = blobs(300, D, k=20)
    assert fit(cp, X, X[:K], limit=5) == fit(cp, X, X[:K], limit=5, engine="mma")


def hard(name):
    X, K = real.hard_cases()[name]
    return X[-250:], min(K, 20, len(X))


@pytest.mark.parametrize(
    "name",
    """offset 1e6;lattice;repeated rows;heavy tails;subnormal;2e36;outlier;30 decades;constant;zeros
one row;three rows;float16;float64;float64 outlier""".replace("\n", ";").split(";"),
)
def test_hard_data(cp, name):
    X, K = hard(name)
    dtype = np.float64 if X.dtype == np.float64 else np.float32
    verify(cp, X, X[Random(2).choice(len(X), K)].astype(dtype))


@pytest.mark.parametrize("factor", [1.0, 1 + 2e-7, 1e4])
def test_duplicate_near_and_far_centroids(cp, factor):
    X = blobs(401, 32)
    C = X[:60].copy()
    C[30:] = C[:30] * np.float32(factor)
    verify(cp, X, C, steps=2)


@pytest.mark.parametrize("kind", ["real", "small integers", "wide"])
def test_weights(cp, kind):
    rng, X = Random(3), blobs(401, 32)
    w = rng.random(len(X))
    if kind == "small integers":
        w = rng.integers(0, 3, len(X)).astype(float)
        w[:300] = 0
    if kind == "wide":
        w *= 10.0 ** rng.integers(-12, 12, len(X))
    verify(cp, X, X[:20], w.astype(np.float32))
    verify(cp, X.astype(np.float64) * np.pi, X[:20].astype(np.float64), w)


def test_slow_means_give_the_same_bits(cp):
    X = blobs(400, 32)
    slow = frozenset({"slow-means"})
    assert fit(cp, X, X[:20], limit=4) == fit(cp, X, X[:20], limit=4, testing=slow)


def test_without_the_certificate_labels_go_wrong(cp):
    """A test of the tests: half precision cannot tell rows between two centroids."""
    rng, C = Random(4), blobs(20, 32)
    pairs = rng.integers(0, 20, (2, 500))
    X = (C[pairs[0]] + C[pairs[1]]) / 2 + rng.bell((500, 32)) * 1e-4
    X = X.astype(np.float32)
    loop = DeviceLloyd(cp.asarray(X), testing=frozenset({"no-certificate"}))
    loop.settle(loop.start(C))
    assert wrong_labels(cp, X, C, loop.labels().get(), exact=0) > 0


def small(monkeypatch):
    monkeypatch.setattr(real, "blobs", lambda n, d, **options: blobs(min(n, 300), d, **options))


@pytest.mark.parametrize(
    "check",
    [
        real.test_layouts_are_copied_and_left_alone,
        real.test_starting_again_with_other_numbers_of_clusters,
        real.test_a_step_with_empty_clusters_waits_for_the_host,
        real.test_a_memory_limit_says_how_much_is_wanted,
        real.test_column_sums,
    ],
    ids=lambda check: check.__name__,
)
def test_as_on_a_device(cp, monkeypatch, check):
    small(monkeypatch)
    check(cp)


def test_streams_and_threads(cp):
    X = blobs(300, 32)
    real.check_threads(cp, X, X[:9], 3, 1, limit=5)


def test_a_loop_that_is_given_up_leaves_nothing_behind(cp):
    """An iteration begun ahead ends before the memory it writes to is given away."""
    X = blobs(200, 32)
    loop = DeviceLloyd(cp.asarray(X))
    loop.step(loop.start(X[:5]))
    del loop
    cp.cuda.stream.synchronize_all()
    assert not cp.cuda.memory.violations
