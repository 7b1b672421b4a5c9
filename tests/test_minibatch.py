"""Mini-batches against their definition in `reference_minibatch`, bit for bit."""

import copy
import itertools
import pickle

import numpy as np
import pytest

from kmeans_xp.minibatch import Options, fit, partial_fit

from . import datasets
from . import reference_minibatch as reference
from .conftest import LIBRARIES, entered
from .helpers import BACKENDS, assert_bits, environment


def options(**given):
    small = {"n_clusters": 4, "batch_size": 20, "random_state": 3, "max_iter": 6, "n_init": 1}
    return Options(**{**small, **given})


def run_reference(X, asked, sample_weight=None):
    names = (
        "init max_iter batch_size tol max_no_improvement init_size reassignment_ratio random_state "
        "metric"
    )
    given = {name: getattr(asked, name) for name in names.split()}
    n_init = 3 if asked.n_init == "auto" else asked.n_init
    return reference.fit(X, asked.n_clusters, n_init=n_init, sample_weight=sample_weight, **given)


def check(X, asked, sample_weight=None):
    """Both backends agree with the reference, whose outcome comes back."""
    truth = run_reference(X, asked, sample_weight)
    before = X.copy()
    for backend in BACKENDS:
        with environment(backend=backend):
            result = fit(X, asked, sample_weight)
        assert_bits(np.asarray(result.centroids), truth.centroids)
        assert_bits(np.asarray(result.labels), truth.labels)
        assert (result.inertia, result.n_steps) == (truth.inertia, truth.n_steps)
        assert result.n_iter == truth.n_iter
        totals = result.state.totals
        assert [int(u) * 2**totals.exponent for u in totals.units] == truth.model.weights
        assert_bits(X, before)
    return truth


@pytest.mark.parametrize("dtype", datasets.FLOATS)
@pytest.mark.parametrize("kind", datasets.KINDS)
@pytest.mark.filterwarnings("ignore:inertia is inf:RuntimeWarning")
def test_every_kind_of_data(kind, dtype):
    check(datasets.make(kind, dtype, 90, 3, 4), options())


@pytest.mark.parametrize("weights", ["integer", "float32", "float64"])
@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_weights_draw_rows(init, weights):
    X = datasets.make("blobs", "float32", 80, 2, 4)
    asked = options(init=init, n_init=2)
    check(X, asked, datasets.weights(weights, 80))


def test_rare_clusters_start_anew():
    X = datasets.make("uniform", "float64", 100, 2)
    init = np.concatenate([X[:3], np.full((3, 2), [[50.0], [60.0], [70.0]])])
    truth = check(X, options(n_clusters=6, init=init, reassignment_ratio=0.3))
    assert truth.model.reassigned > 3
    assert check(X, options(n_clusters=6, init=init, reassignment_ratio=0)).model.reassigned == 0
    check(X, options(n_clusters=6, init=init, reassignment_ratio=5.0))


def test_at_most_half_a_batch_is_reassigned():
    X = datasets.make("uniform", "float32", 40, 2)
    far = np.arange(9.0)[:, None] * [100.0, 0.0] + 100
    truth = check(X, options(n_clusters=9, init=far, batch_size=6, max_iter=1))
    assert truth.model.reassigned > 0


@pytest.mark.parametrize(
    "given",
    [
        {"tol": 0.3, "max_no_improvement": None},
        {"max_no_improvement": 2},
        {"max_no_improvement": 0},
        {"max_no_improvement": None, "max_iter": 3},
        {"batch_size": 1000},
        {"batch_size": 1, "max_iter": 1},
        {"init_size": 7},
        {"init_size": 1000},
        {"n_clusters": 1},
    ],
    ids=str,
)
def test_stop_rules_and_sizes(given):
    X = datasets.make("blobs", "float64", 70, 2, 4)
    truth = check(X, options(**given))
    assert truth.n_steps > 1


def test_stop_rules_stop():
    X = datasets.make("blobs", "float64", 70, 2, 4)
    steps = [
        fit(X, options(max_iter=50, tol=tol, max_no_improvement=patience)).n_steps
        for tol, patience in [(0.0, None), (0.0, 3), (0.01, None)]
    ]
    assert steps[0] == 50 * 70 // 20
    assert max(steps[1:]) < steps[0]


def test_callable_and_several_starts():
    X = datasets.make("blobs", "float16", 60, 2, 4)

    def init(seen, n_clusters, random_state):
        return seen[random_state.permutation(len(seen))[:n_clusters]]

    for given in (init, "random", "k-means++"):
        check(X, options(init=given, n_init="auto"))
    assert_bits(fit(X, options(n_init="auto")).centroids, fit(X, options(n_init=3)).centroids)


def test_without_labels_the_inertia_is_estimated():
    X, w = datasets.make("blobs", "float32", 90, 3, 4), datasets.weights("float64", 90)
    asked = options(compute_labels=False)
    truth = run_reference(X, asked)
    result = fit(X, asked)
    assert result.labels is None
    assert result.inertia == truth.average * 90
    truth = run_reference(X, asked, w)
    assert fit(X, asked, w).inertia == truth.average * float(sum(map(reference.Fraction, w)))


# ---- batches that are given


def stream(X, asked, batches, weights=None):
    """Results of `partial_fit` on some rows at a time."""
    state, results = None, []
    for step, batch in enumerate(batches):
        w = None if weights is None else weights[batch]
        results.append(partial_fit(X[batch], asked, state, step, w))
        state = results[-1].state
    return results


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_stream_of_the_batches_of_a_fit(dtype):
    X = datasets.make("uniform", dtype, 100, 3)
    init = np.concatenate([X[:3], X[:3] + 40])
    asked = options(n_clusters=6, init=init, reassignment_ratio=0.2)
    truth = run_reference(X, asked)
    assert truth.model.reassigned > 3
    whole = fit(X, asked)
    for backend in BACKENDS:
        with environment(backend=backend):
            last = stream(X, asked, truth.batches)[-1]
        assert_bits(last.centroids, whole.centroids)
        assert_bits(last.counts, whole.counts)
        assert last.n_steps == whole.n_steps
        assert last.state.words.word() == copy.deepcopy(whole.state).words.word()


@pytest.mark.parametrize("weights", [None, "integer", "float32", "float64"])
@pytest.mark.parametrize("kind", ["blobs", "uniform", "decades", "tiny", "huge", "outlier"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_partial_fit(kind, dtype, weights):
    X, w = datasets.make(kind, dtype, 90, 3, 4), datasets.weights(weights, 90)
    asked = options(n_clusters=5, reassignment_ratio=0.2)
    batches = [slice(0, 30), slice(30, 37), slice(37, 90)]
    words = reference.Words(3)
    model = reference.Model([], X.dtype, reference.Words(words.next()))
    first = None if w is None else w[:30]
    model.centroids = reference.start(X[:30], first, 5, "k-means++", 30, 1, words)
    for backend in BACKENDS:
        with environment(backend=backend):
            results = stream(X, asked, batches, w)
        mine = copy.deepcopy(model)
        for batch, result in zip(batches, results, strict=True):
            rows = reference.data(X[batch], "euclidean")
            some = reference.as_weights(None if w is None else w[batch], len(rows))
            reference.step(mine, rows, some, 0.2)
            labels, inertia = reference.label(rows, some, mine.centroids)
            assert_bits(result.centroids, reference.as_array(mine.centroids, X.dtype))
            assert_bits(result.labels, labels)
            assert result.inertia == inertia


def test_float64_takes_over():
    X = datasets.make("uniform", "float64", 60, 2)
    batches = [X[:20].astype(np.float32), X[20:40], X[40:].astype(np.float32)]
    state, model = None, None
    for batch in batches:
        if model is None:
            model = reference.Model(
                reference.data(X[:2].astype(np.float32), "euclidean"), None, None
            )
        model.dtype = np.dtype(batch.dtype if state is None else np.float64)
        reference.step(model, reference.data(batch, "euclidean"), [1] * 20, 0.0)
        state = partial_fit(
            batch, options(n_clusters=2, init=X[:2], reassignment_ratio=0), state
        ).state
        assert_bits(state.centroids, reference.as_array(model.centroids, model.dtype))


def test_a_state_is_left_as_it_is_and_survives_pickling():
    X = datasets.make("uniform", "float32", 90, 2)
    asked = options(n_clusters=6, reassignment_ratio=0.5)
    batches = [slice(i, i + 15) for i in range(0, 90, 15)]
    straight = stream(X, asked, batches)
    state = straight[2].state
    kept = pickle.dumps(state)
    for again in (state, pickle.loads(kept), copy.deepcopy(state)):
        for step, batch in enumerate(batches[3:], 3):
            result = partial_fit(X[batch], asked, again, step)
            assert_bits(result.centroids, straight[step].centroids)
            again = result.state
    assert pickle.dumps(state) == kept


# ---- cosines


def directed(kind, dtype, n=90):
    X = datasets.make(kind, dtype, n, 3, 4)
    X[~X.any(axis=1)] = 1
    return X


@pytest.mark.parametrize(
    ("kind", "dtype", "given", "weights"),
    [
        ("blobs", "float32", {}, None),
        ("blobs", "float16", {"init": "random", "n_init": 2}, "float32"),
        ("grid", "float64", {"n_init": 2}, "integer"),
        ("uniform", "float64", {"tol": 0.3, "max_no_improvement": None}, None),
        ("decades", "float32", {"reassignment_ratio": 0.5}, "float64"),
        ("huge", "float64", {}, None),
        ("tiny", "float32", {"n_clusters": 1}, None),
    ],
)
def test_cosines(kind, dtype, given, weights):
    X = directed(kind, dtype)
    asked = options(metric="cosine", **given)
    check(X, asked, datasets.weights(weights, 90))


def test_a_blended_mean_of_zero_keeps_the_centroid():
    X = np.array([[2.0, 0], [-3, 0]])
    state = partial_fit(X, options(n_clusters=1, init=[[0, 5.0]], metric="cosine")).state
    assert state.centroids.tolist() == [[0, 1]]
    assert state.totals.units.tolist() == [2]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_stream_of_cosine_batches(dtype):
    X = directed("uniform", dtype, 100)
    asked = options(n_clusters=6, init=7 * X[:6], reassignment_ratio=0.2, metric="cosine")
    truth = run_reference(X, asked)
    last = stream(X, asked, truth.batches)[-1]
    assert_bits(last.centroids, truth.centroids)


def test_float64_takes_over_directions():
    """Float32 directions are no float64 ones: they are divided by their norms again."""
    X = directed("uniform", "float64", 60)
    asked = options(n_clusters=2, init=X[:2], reassignment_ratio=0, metric="cosine")
    first = X[:20].astype(np.float32)
    state = partial_fit(first, asked).state
    centroids = reference.given_centroids(state.centroids, np.dtype(np.float64), "cosine")
    assert (reference.as_array(centroids, np.float64) != state.centroids).any()
    weights = [reference.Fraction(int(n)) for n in state.totals.units]
    dtype = np.dtype(np.float64)
    model = reference.Model(centroids, dtype, None, weights, metric="cosine")
    reference.step(model, reference.data(X[20:], "cosine"), [1] * 40, 0.0)
    state = partial_fit(X[20:], asked, state).state
    assert_bits(state.centroids, reference.as_array(model.centroids, dtype))


# ---- the same bits everywhere


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LIBRARIES)
def test_every_library(name, backend):
    X, w = datasets.make("blobs", "float32", 300, 3, 4), datasets.weights("float32", 300)
    asked = options(batch_size=64, reassignment_ratio=0.2)
    truth, streamed = fit(X, asked, w), partial_fit(X, asked, sample_weight=w)
    with entered(name) as library, environment(backend=backend):
        Y = library.asarray(X)
        for result, expected in [
            (fit(Y, asked, w), truth),
            (partial_fit(Y, asked, sample_weight=w), streamed),
        ]:
            for field in ("centroids", "labels", "counts"):
                assert library.owns(getattr(result, field))
                assert_bits(library.numpy(getattr(result, field)), getattr(expected, field))
            assert (result.inertia, result.n_steps) == (expected.inertia, expected.n_steps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_block_size_thread_count_and_kernel(dtype):
    X, w = datasets.make("blobs", dtype, 2000, 5, 8), datasets.weights("float64", 2000)
    asked = options(n_clusters=8, batch_size=700, max_iter=2)
    truth, streamed = fit(X, asked), partial_fit(X, asked, sample_weight=w)
    for rows, threads, numba in itertools.product((64, 10**6), (1, 2), (0, 1)):
        if numba:
            pytest.importorskip("numba")
        with environment(block_rows=rows, num_threads=threads, numba=numba):
            result, other = fit(X, asked), partial_fit(X, asked, sample_weight=w)
        assert_bits(result.centroids, truth.centroids)
        assert (result.inertia, result.n_steps) == (truth.inertia, truth.n_steps)
        assert_bits(other.centroids, streamed.centroids)
        assert other.inertia == streamed.inertia
