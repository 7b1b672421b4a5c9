"""Whole runs, bit for bit, against the definitions computed in fractions (`reference.py`)."""

import numpy as np
import pytest

from kmeans_xp import kmeans_plusplus, predict

from . import datasets, reference
from .helpers import BACKENDS, assert_bits, assert_same, check, check_labels, environment, run

N, D, K = 72, 3, 6
WEIGHTS = [None, "float32", "float64", "integer"]


def every_nth(X, k=K):
    return X[: len(X) // k * k : len(X) // k]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("init", ["k-means++", "random", "array"])
@pytest.mark.parametrize("dtype", datasets.FLOATS)
@pytest.mark.parametrize("kind", datasets.KINDS)
@pytest.mark.filterwarnings("ignore:inertia is inf:RuntimeWarning")
def test_run(kind, dtype, init, weights):
    seed = WEIGHTS.index(weights)
    X = datasets.make(kind, dtype, N, D, 4, seed)
    check(
        X,
        K,
        init=every_nth(X) if init == "array" else init,
        n_init=2 if init == "random" else 1,
        sample_weight=datasets.weights(weights, N, seed),
        random_state=seed,
        tol=1e-2 if weights == "float32" else 0,
    )


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint8", "uint64", "bool"])
def test_integers_and_bool_become_float64(dtype):
    high = {"bool": 2, "int8": 100}.get(dtype, 200)
    check(datasets.integers(1, (N, D), high).astype(dtype), K, random_state=3)


def test_integers_up_to_two_to_the_53():
    X = 2**53 - datasets.integers(1, (N, D), 5)
    check(X, K, random_state=3)


# Starts


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("kind", datasets.KINDS)
def test_plus_plus_rows(kind, weights):
    seed = WEIGHTS.index(weights) + 10
    X = datasets.make(kind, "float32", N, D, 4, seed)
    sample_weight = datasets.weights(weights, N, seed)
    words = reference.Words(seed)
    expected = reference.kmeans_plusplus(X, 9, sample_weight=sample_weight, words=words)
    for backend in BACKENDS:
        with environment(backend=backend):
            centroids, rows = kmeans_plusplus(X, 9, sample_weight=sample_weight, random_state=seed)
            assert list(rows) == expected
            assert_bits(centroids, X[expected] + np.float32(0))


@pytest.mark.parametrize("size", [9, 20, N // 2 - 1, N // 2, N // 2 + 1, 60, N - 1, N, 500])
def test_plus_plus_looks_at_init_size_rows(size):
    X = datasets.make("blobs", "float64", N, D)
    expected = reference.kmeans_plusplus(X, 9, init_size=size, words=reference.Words(5))
    assert list(kmeans_plusplus(X, 9, init_size=size, random_state=5)[1]) == expected
    check(X, 9, init_size=size, random_state=5)


def test_a_sample_without_weight_is_drawn_from_as_if_unweighted():
    X = datasets.make("uniform", "float32", N, D)
    for seed in range(3):
        weights = np.zeros(N)
        out = set(range(N)) - set(reference.sampled_rows(N, 9, reference.Words(seed)))
        weights[list(out)[:20]] = 3
        check(X, K, init_size=9, sample_weight=weights, random_state=seed)


def test_weighted_distances_too_small_count_as_zero():
    """Near the cutoff, and with weights whose products with the distances underflow."""
    X = np.ldexp(datasets.make("blobs", "float64", N, 2, 8), -484)
    X[0] = 1
    for power in (0, 1, 2, 3, 4):
        weights = np.ldexp(datasets.weights("float64", N), power)
        check(X, K, sample_weight=weights, random_state=power)
    weights = 2.0 ** (datasets.integers(1, N, 600) - 300)
    check(datasets.make("decades", "float64", N), K, sample_weight=weights, random_state=2)
    weights = [1.3541883942886104e-32, 1.7726933795392749e90, 6.5e-277, 1.8181003150939796e305]
    check(np.array([[0.0], [-1.0], [0.0], [3.0]]), 3, sample_weight=weights, random_state=827)


def test_distances_too_small_to_square_count_as_zero():
    X = datasets.make("uniform", "float64", N, 2) * 1e-150
    X[0] = 1
    for size in ("auto", 20):  # a sample counts what is too small by all rows
        check(X, K, init_size=size, random_state=1)
    truth = check(X, K, init=np.concatenate([X[:2], np.ones((4, 2))]), tol=0)
    assert (truth.empties > 0, truth.relocations) == (True, 0)


@pytest.mark.parametrize("n_init", ["auto", 1, 3])
@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_starts_share_one_stream(init, n_init):
    X = datasets.make("uniform", "float32", N, D)
    check(X, K, init=init, n_init=n_init, random_state=11)


@pytest.mark.parametrize("seed", [0, 2**70, np.random.SeedSequence(5)])
def test_seeds(seed):
    check(datasets.make("blobs", "float32", N, D), K, init="random", random_state=seed)


@pytest.mark.parametrize("n_init", ["auto", 1, 3])
def test_callable_init(n_init):
    def init(X, n_clusters, random_state):
        return X[random_state.permutation(len(X))[:n_clusters]]

    X = datasets.make("uniform", "float32", N, D)
    check(X, K, init=init, n_init=n_init, random_state=4, max_iter=5)


@pytest.mark.parametrize("kind", [np.random.RandomState, np.random.default_rng])
def test_a_generator_gives_one_word_as_the_seed(kind):
    """The seed is drawn with its own method for integers, whatever that makes of its stream."""
    X = datasets.make("uniform", "float32", N, D)
    draw = "randint" if kind is np.random.RandomState else "integers"
    seed = int(getattr(kind(7), draw)(0, 2**64, dtype=np.uint64))
    used, fresh = kind(7), kind(7)
    truth = reference.kmeans(X, K, init="random", n_init=1, random_state=seed)
    assert_same(run(X, K, init="random", n_init=1, random_state=used), truth)
    getattr(fresh, draw)(0, 2**64, dtype=np.uint64)
    assert used.bytes(8) == fresh.bytes(8)


@pytest.mark.parametrize("weight", [2.0**-30, np.nextafter(2.0**-30, 0)])
def test_weights_count_in_units_of_a_part_in_two_to_the_30(weight):
    """A smaller weight is none, and then the rows without weight are drawn too."""
    weights = np.array([1] + [weight] * 3 + [0] * 8)
    X = datasets.make("uniform", "float32", 12, 2)
    second = set()
    for seed in range(6):
        words = reference.Words(seed)
        second.add(reference.random_rows(reference.as_weights(weights, 12), 4, words)[1] > 3)
        options = {"n_init": 1, "sample_weight": weights, "random_state": seed, "max_iter": 1}
        check(X, 4, init="random", **options)
    assert second == ({False} if weight == 2.0**-30 else {False, True})


def test_no_seed_is_a_fresh_one():
    X = datasets.make("uniform", "float32", N, D)
    drawn = [tuple(kmeans_plusplus(X, K)[1].tolist()) for _ in range(4)]
    assert len(set(drawn)) > 1


def test_random_takes_rows_without_weight_last():
    X = datasets.make("uniform", "float32", 12, 2)
    weights = np.array([0, 3, 0, 0, 1e-30, 0, 1, 0, 0, 0, 0, 2.5])
    for seed in range(5):
        check(X, 7, init="random", sample_weight=weights, random_state=seed)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64"])
@pytest.mark.parametrize("init_dtype", ["float16", "float64", "int32"])
def test_given_centroids_are_rounded_first(dtype, init_dtype):
    X = datasets.make("grid", "float64", N, D).astype(dtype)
    init = (datasets.uniform(4, (K, D)) * 4).astype(init_dtype)
    check(X, K, init=init, tol=0)


@pytest.mark.parametrize("dtype", datasets.FLOATS)
def test_zeros_are_positive(dtype):
    X = np.array([[-0.0, -1], [0.0, 1], [-0.0, 5]], dtype=dtype)
    truth = check(X, 2, init=np.array([[-0.0, -0.0], [-0.0, 5]]), tol=0)
    assert not np.signbit(truth.centroids[:, 0]).any()
    centroids, _ = kmeans_plusplus(X, 3, random_state=0)
    assert not np.signbit(centroids[:, 0]).any()


# Labels


@pytest.mark.parametrize("k", [2, 5, 12])
@pytest.mark.parametrize("d", [2, 7, 40])
@pytest.mark.parametrize("dtype", datasets.FLOATS)
def test_labels_beside_bisectors(dtype, d, k):
    X, centroids = datasets.bisectors(dtype, 400, d, k)
    check_labels(X, centroids)


@pytest.mark.parametrize("dtype", datasets.FLOATS)
@pytest.mark.parametrize("kind", datasets.KINDS)
def test_labels_between_any_two_rows(kind, dtype):
    """Centroids are rows, and the rows half way between them are added."""
    X = datasets.make(kind, dtype, N, 5, 4, seed=3)
    middle = X[:36] / 2 + X[36:] / 2
    X = np.concatenate([X, middle])
    centroids = X[:72:5]
    check_labels(X, centroids)


def test_label_of_equal_centroids_is_the_lowest():
    X = datasets.make("blobs", "float32", N, D)
    centroids = X[[5, 9, 5, 9, 7]]
    assert set(predict(X, centroids).tolist()) <= {0, 1, 4}
    check_labels(X, centroids)


@pytest.mark.parametrize("far", [1e5, 1e20, 3e38])
def test_labels_with_a_far_centroid(far):
    X = datasets.make("blobs", "float32", N, D)
    centroids = np.concatenate([X[:4], np.full((1, D), far, np.float32)])
    check_labels(X, centroids)


def test_labels_of_data_smaller_than_the_centroids():
    X = datasets.make("blobs", "float32", N, D) * np.float32(2**-140)
    centroids = np.concatenate([X[:4], np.full((2, D), 1e10, np.float32)])
    check_labels(X, centroids)


# Empty clusters


def crowded(kind="blobs", dtype="float32", d=D):
    """X and six centroids of which only the first wins rows."""
    X = datasets.make(kind, dtype, N, d)
    return X, np.concatenate([X[:1], np.tile(X[:1], (2, 1)), np.full((3, d), 1e4, dtype)])


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("kind", ["blobs", "grid", "duplicates", "uniform", "outlier", "decades"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_relocation(kind, dtype, weights):
    X, init = crowded(kind, dtype)
    truth = check(X, K, init=init, sample_weight=datasets.weights(weights, N), tol=0)
    assert truth.relocations > 0


def test_relocation_ties_go_to_the_lowest_row():
    X = np.array([[0, 0], [3, 4], [5, 0], [4, 3], [-5, 0], [0, 1]], dtype=np.float32)
    far = np.full((3, 2), 100, dtype=np.float32)
    truth = check(X, 4, init=np.concatenate([X[:1], far]), tol=0, max_iter=1)
    assert truth.relocations == 3
    assert truth.centroids[1:].tolist() == X[1:4].tolist()


def test_relocation_compares_twelve_bits():
    X = np.array([[0.0], [10.0], [10.000001], [-3.0]])
    init = np.array([[0.0], [1e3]])
    truth = check(X, 2, init=init, tol=0, max_iter=1)
    assert truth.centroids[1] == 10


def test_more_empty_clusters_than_eligible_rows():
    X = np.array([[0.0], [0.0], [0.0], [2.0], [9.0]])
    weights = np.array([1.0, 1.0, 1.0, 1.0, 0.0])
    init = np.array([[0.0], [0.0], [50.0], [60.0]])
    truth = check(X, 4, init=init, sample_weight=weights, tol=0)
    assert 0 < truth.relocations < truth.empties


def test_a_cluster_that_gives_all_its_rows_away_keeps_its_centroid():
    X = np.array([[0.0], [0.0], [11.0]])
    init = np.array([[0.0], [6.0], [90.0]])
    truth = check(X, 3, init=init, tol=0, max_iter=1)
    assert truth.centroids.tolist() == [[0], [6], [11]]


def test_no_row_is_eligible():
    X = np.zeros((5, 2), dtype=np.float32)
    truth = check(X, 3, init=np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]), tol=0)
    assert (truth.empties, truth.relocations, truth.n_iter) == (2, 0, 1)


@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_fewer_distinct_rows_than_clusters(init, weights):
    X = datasets.make("grid", "float32", 30, 1)
    sample_weight = datasets.weights(weights, 30)
    check(X, 7, init=init, n_init=1, sample_weight=sample_weight, random_state=2)


# The end


@pytest.mark.parametrize("tol", [0, 1e-4, 1e-2, 0.3, 10])
@pytest.mark.parametrize("kind", ["uniform", "blobs", "tiny", "huge", "decades"])
def test_tolerance(kind, tol):
    X = datasets.make(kind, "float32", N, D)
    truth = check(X, 4, init=every_nth(X, 4), tol=tol)
    assert truth.converged


def test_tolerance_met_exactly():
    """The centroids move by 1 and 0, and tol * variance is exactly 1, then a little less."""
    X = np.array([[0.0], [2.0], [8.0], [8.0]])
    init = np.array([[0.0], [8.0]])
    variance = np.var(X)
    assert check(X, 2, init=init, tol=1 / 16, max_iter=9).n_iter == 2
    assert variance == 12.75
    Y = np.array([[0.0], [2.0], [10.0], [12.0]])  # variance 26: tol = 1/26 rounds to either side
    for tol in (1 / 26, np.nextafter(1 / 26, 0), np.nextafter(1 / 26, 1)):
        check(Y, 2, init=np.array([[0.0], [11.0]]), tol=tol)


@pytest.mark.parametrize("max_iter", [1, 2, 3, 4, 5, 6, 7])
def test_max_iter(max_iter):
    X = datasets.make("uniform", "float64", N, D)
    check(X, 4, init=every_nth(X, 4), tol=0, max_iter=max_iter)


def test_max_iter_is_reported():
    X = datasets.make("uniform", "float64", N, D)
    assert not check(X, 4, init=every_nth(X, 4), tol=0, max_iter=2).converged


@pytest.mark.parametrize("k", [1, 2, 11, 12])
@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_extreme_numbers_of_clusters(init, k):
    X = datasets.make("uniform", "float32", 12, D)
    check(X, k, init=init, random_state=1)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 1), (30, 1)])
def test_smallest_shapes(shape):
    X = datasets.make("uniform", "float32", *shape)
    check(X, 1, random_state=1)
