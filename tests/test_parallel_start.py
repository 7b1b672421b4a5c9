"""k-means||: the definition in docs/exactness.md, the same bits everywhere, and a good start."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from kmeans_xp import Checkpoint, KMeansResult, fingerprint, kmeans, stream
from kmeans_xp.blocks.open import open_blocks
from kmeans_xp.oversampling import draws_a_round
from kmeans_xp.seeding import Words, parallel

from . import datasets, reference
from .helpers import check, environment, run

NAME = "k-means||"


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weights", [None, "integer", "float64"])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("blobs", "float32"),
        ("bisectors", "float32"),
        ("grid", "float64"),
        ("duplicates", "float16"),
        ("outlier", "float64"),
        ("tiny", "float32"),
        ("huge", "float64"),
    ],
)
@pytest.mark.filterwarnings("ignore:inertia is inf:RuntimeWarning")
def test_the_definition(kind, dtype, weights, metric):
    x = datasets.make(kind, dtype, 60)
    x[~x.any(axis=1)] = 1
    w = datasets.weights(weights, 60)
    options = dict(init=NAME, sample_weight=w, metric=metric, random_state=3, max_iter=2)
    check(x, 5, oversampling_factor=0.7, **options)


@pytest.mark.parametrize("factor", [1e-3, 0.5, 1, 2.0, 20])
@pytest.mark.parametrize("init_size", ["auto", 9, 31, 60])
def test_factors_and_sizes(factor, init_size):
    x = datasets.make("blobs", "float64", 60)
    w = datasets.weights("float64", 60)
    for weights in (None, w):
        options = dict(init=NAME, oversampling_factor=factor, init_size=init_size, max_iter=1)
        check(x, 6, sample_weight=weights, random_state=1, **options)


def test_fewer_distinct_rows_than_clusters():
    x = np.repeat([[0.0, 1.0], [2.0, 0.0]], 20, axis=0)
    check(x, 5, init=NAME, random_state=0)
    check(np.ones((7, 1)), 3, init=NAME, random_state=0)
    assert kmeans(x, 1, init=NAME, random_state=0).converged


def test_sampled_rows_without_any_weight():
    x = np.arange(50.0)[:, None]
    w = np.zeros(50)
    w[7] = 1e300
    check(x, 2, init=NAME, init_size=3, sample_weight=w, random_state=0, tol=0)


@pytest.mark.parametrize("seed", range(3))
def test_sampled_weights_far_below_the_largest(seed):
    x = datasets.make("blobs", "float64", 50)
    w = np.full(50, 1e-300)
    w[7] = 1e300
    check(x, 4, init=NAME, init_size=10, sample_weight=w, random_state=seed)


@pytest.mark.filterwarnings("ignore:inertia is inf:RuntimeWarning")
def test_weights_near_the_largest_float():
    x = datasets.make("blobs", "float64", 60)
    w = np.where(np.arange(60) % 2, 1e308, 1e-300)
    check(x, 4, init=NAME, sample_weight=w, random_state=2, max_iter=1)


def containers(x, folder):
    sparse = pytest.importorskip("scipy.sparse")
    np.save(folder / "x.npy", x)
    yield sparse.csr_array(x)
    yield stream(folder / "x.npy", block_rows=700)
    yield stream(lambda: (x[i : i + 99] for i in range(0, len(x), 99)))
    yield np.asfortranarray(x)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_same_bits_in_every_container(tmp_path, metric, weighted):
    x = datasets.make("blobs", "float32", 2000, 4, 6)
    x[~x.any(axis=1)] = 1
    w = np.arange(2000) % 3 + 0.5 if weighted else None
    options = dict(init=NAME, sample_weight=w, metric=metric, random_state=4)
    whole = fingerprint(kmeans(x, 9, **options))
    for other in containers(x, tmp_path):
        assert fingerprint(kmeans(other, 9, **options)) == whole
    options["init"] = "scalable-k-means++"
    for settings in (dict(numba=0), dict(num_threads=2, block_rows=333), dict(backend="generic")):
        with environment(**settings):
            assert fingerprint(kmeans(x, 9, **options)) == whole


def test_batches(tmp_path):
    x = np.stack([datasets.make("blobs", "float32", 50, seed=seed) for seed in range(3)])
    found = kmeans(x, 4, init=NAME, oversampling_factor=1.5, random_state=0)
    for b, seed in enumerate(np.random.SeedSequence(0).spawn(3)):
        single = kmeans(x[b], 4, init=NAME, oversampling_factor=1.5, random_state=seed)
        assert fingerprint(found[b]) == fingerprint(single)


def test_a_stream_is_passed_over_not_gathered(tmp_path):
    x = datasets.make("blobs", "float32", 3000, 4, 6)
    np.save(tmp_path / "x.npy", x)
    rows = stream(tmp_path / "x.npy", block_rows=250)
    blocks = open_blocks(rows, None, np.dtype(np.float32))
    largest, gathered = 0, rows.rows

    def counted(indices):
        nonlocal largest
        largest = max(largest, len(indices))
        return gathered(indices)

    rows.rows = counted
    before = rows.bytes_read
    found = parallel(blocks, 8, Words(0), 2.0)
    assert largest <= 5 * 16 + 1
    assert rows.bytes_read - before <= 12 * x.nbytes  # however many clusters
    whole = open_blocks(x, None, np.dtype(np.float32))
    assert np.array_equal(found, parallel(whole, 8, Words(0), 2.0))


def test_as_good_as_greedy_plus_plus():
    which = datasets.integers(0, 4000, 25)
    x = 20.0 * np.stack([which % 5, which // 5], axis=1) + datasets.bell(1, (4000, 2))
    start = {
        init: [
            run(x, 25, init=init, random_state=s, n_init=1, max_iter=1).inertia for s in range(8)
        ]
        for init in (NAME, "k-means++", "random")
    }
    mean = {init: np.mean(costs) for init, costs in start.items()}
    assert mean[NAME] < 1.05 * mean["k-means++"]
    assert mean[NAME] < 0.7 * mean["random"]


def test_draws_a_round_are_exact():
    for factor, k in [(0.1, 30), (2.0, 7), (1 / 3, 3), (1e-9, 5), (0.7, 10)]:
        assert draws_a_round(factor, k) == math.ceil(Fraction(factor) * k)


def test_estimators_take_the_name():
    pytest.importorskip("sklearn")
    from kmeans_xp import BisectingKMeans, KMeans, MiniBatchKMeans

    x = datasets.make("blobs", "float64", 300)
    model = KMeans(4, init=NAME, oversampling_factor=1.5, random_state=0).fit(x)
    found = kmeans(x, 4, init=NAME, oversampling_factor=1.5, random_state=0)
    assert isinstance(found, KMeansResult)
    assert model.labels_.tobytes() == found.labels.tobytes()
    alias = KMeans(4, init="scalable-k-means++", random_state=0).fit(x)
    assert alias.inertia_ == kmeans(x, 4, init=NAME, random_state=0).inertia
    for other in (BisectingKMeans, MiniBatchKMeans):
        assert other(4, init=NAME, random_state=0).fit(x).cluster_centers_.shape == (4, 3)


def test_mini_batches_start_from_it_on_their_sample():
    pytest.importorskip("sklearn")
    from kmeans_xp import MiniBatchKMeans

    x = datasets.make("blobs", "float64", 200)
    options = dict(init=NAME, n_init=1, max_iter=1, batch_size=50, random_state=2)
    one = MiniBatchKMeans(4, **options).fit(x)
    two = MiniBatchKMeans(4, oversampling_factor=9.0, **options).fit(x)
    assert one.cluster_centers_.tobytes() != two.cluster_centers_.tobytes()


def test_a_checkpoint_knows_the_factor(tmp_path):
    x = datasets.make("blobs", "float64", 200)
    kept = Checkpoint(tmp_path, iterations=1)
    whole = kmeans(x, 5, init=NAME, random_state=0, checkpoint=kept)
    again = kmeans(x, 5, init="scalable-k-means++", random_state=0, resume=tmp_path)
    assert fingerprint(again) == fingerprint(whole)
    with pytest.raises(ValueError, match=r"another oversampling_factor: 2\.0 there, 3\.0 here"):
        kmeans(x, 5, init=NAME, oversampling_factor=3.0, random_state=0, resume=tmp_path)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (dict(init="k-means|||"), ValueError, r"init must be .*'k-means\|\|'"),
        (dict(oversampling_factor=0), ValueError, "oversampling_factor must be above 0, got 0"),
        (dict(oversampling_factor=-1), ValueError, "oversampling_factor must be finite"),
        (dict(oversampling_factor=math.nan), ValueError, "oversampling_factor must be finite"),
        (dict(oversampling_factor="2"), TypeError, "oversampling_factor must be a number"),
        (dict(init=NAME, init_size=2), ValueError, "init_size must be at least n_clusters=4"),
    ],
)
def test_bad_arguments(options, error, words):
    x = datasets.make("blobs", "float64", 60)
    for rows in (x, x[None]):
        with pytest.raises(error, match=words):
            kmeans(rows, 4, **options)


def test_the_reference_draws_what_it_should():
    """The reference itself: candidates are increasing, different, and enough."""
    x = datasets.make("blobs", "float64", 60)
    rows, w = reference.as_rows(x), [Fraction(1)] * 60
    drawn = reference.parallel_candidates(rows, w, 6, reference.Words(0), Fraction(0), 0.1)
    assert drawn == sorted(set(drawn)) and len(drawn) == 6
