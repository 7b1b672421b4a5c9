"""metric="cosine": directions, labels, means, inertia and starts against the definitions."""

from __future__ import annotations

from fractions import Fraction
from itertools import chain

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kmeans_xp import assignment, fingerprint, kmeans, kmeans_plusplus, predict
from kmeans_xp.exact import unit
from kmeans_xp.prediction import distances, inertia

from . import datasets, reference
from .conftest import entered
from .helpers import BACKENDS, assert_bits, check, check_labels, environment, run

N, D, K = 72, 3, 6
FLOATS = ["float32", "float64"]


def make(kind, dtype, n=N, d=D, k=4, seed=0):
    X = datasets.make(kind, dtype, n, d, k, seed)
    X[~X.any(axis=1)] = 1
    return X


def exact_directions(X):
    dtype = reference.centroid_dtype(X.dtype)
    return reference.as_array(reference.data(X, "cosine"), dtype)


# Directions


@pytest.mark.parametrize("d", [1, 2, 5, 40, 300])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", ["blobs", "grid", "outlier", "tiny", "decades", "huge"])
def test_directions(kind, dtype, d):
    X = make(kind, dtype, 40, d)
    assert_bits(unit.unit_rows(X), exact_directions(X))


def rows_of(dtype):
    bits = 32 if dtype == "float32" else 64
    value = st.floats(allow_nan=False, allow_infinity=False, width=bits)
    return st.lists(value, min_size=1, max_size=6).filter(any)


@pytest.mark.parametrize("dtype", FLOATS)
@given(st.data())
@settings(max_examples=300, deadline=None)
def test_directions_of_any_row(dtype, data):
    X = np.array([data.draw(rows_of(dtype))], dtype=dtype)
    assert_bits(unit.unit_rows(X), exact_directions(X))


PYTHAGOREAN = np.array([[80000001**2 - 60000000**2, 2 * 80000001 * 60000000]], dtype=np.float64)


@pytest.mark.parametrize("scale", [1.0, 2.0**960, 2.0**-1074])
def test_a_norm_between_two_numbers(scale):
    """80000001² + 60000000² is odd and has 54 bits: integers decide."""
    norm = 80000001**2 + 60000000**2
    assert norm**2 == sum(Fraction(v) ** 2 for v in PYTHAGOREAN[0].tolist())
    value, exponent = unit.rounded_norms(PYTHAGOREAN * scale)
    found = Fraction(value[0]) * Fraction(2) ** int(exponent[0]) / Fraction(scale)
    assert found == norm - 1 == int(float(norm))  # of the two next to it the even one


def middles():
    """Float32 rows whose first quotient is, in float64, in the very middle of two float32 numbers.

    Given the quotient, the norm is known; the other entries are chosen to bring it about.
    """
    rows = []
    for word in datasets.words(3, 400):
        target = Fraction(int(word) % 2**24 + 2**24 | 1, 2**26)  # 25 bits, the last one set
        first = Fraction(2**23 + int(word) % 2**22)
        rest = reference.rounded(first / target, 53) ** 2 - first**2
        row = [first]
        for _ in range(4):
            row.append(Fraction(float(np.float32(float(reference.root(rest)) * (1 - 2.0**-23)))))
            rest -= row[-1] ** 2
        rows.append([float(v) for v in row])
    return np.array(rows, dtype=np.float32)


def test_quotients_between_two_numbers():
    X = middles()
    truth = exact_directions(X)
    assert_bits(unit.unit_rows(X), truth)
    wide = X.astype(np.float64)
    norms = np.array([float(reference.root(sum(v * v for v in x))) for x in reference.as_rows(X)])
    twice = (wide / norms[:, None]).astype(np.float32)
    assert (twice != truth).sum() > 20  # rounded twice, some are wrong: this test can fail


def test_subnormal_quotients_tie_to_even():
    tiny = np.float32(2.0**-149)
    X = np.array([[2, tiny], [2, 3 * tiny], [2, -5 * tiny], [4, 7 * tiny]], dtype=np.float32)
    assert_bits(unit.unit_rows(X), exact_directions(X))


@pytest.mark.parametrize("dtype", FLOATS)
def test_directions_given_back_are_kept(dtype):
    rows = unit.unit_rows(make("uniform", dtype, 2000, 3))
    assert (unit.unit_rows(rows) != rows).any()
    assert_bits(unit.unit_centroids(rows, "init"), rows)
    excess = np.array([sum(v * v for v in row) - 1 for row in reference.as_rows(rows[:200])])
    found, slack = unit.norm_excess(rows[:200])
    assert (np.abs(excess - found.astype(object)) <= Fraction(slack)).all()
    assert np.abs(found).max() <= unit.UNIT_ERROR[rows.dtype]


@pytest.mark.parametrize("dtype", FLOATS)
def test_given_centroids_at_the_edge_of_length_one(dtype):
    step = 2.0**-22 if dtype == "float32" else 2.0**-51
    values = [1.0, 1 - step, 1 + step, 1 - 2 * step, 1 + 2 * step, 3.0, 2.0**-40]
    given = np.array([[v, 0.0] for v in values], dtype=dtype)
    expected = np.array([[v, 0.0] for v in values[:3]] + [[1.0, 0.0]] * 4, dtype=dtype)
    assert_bits(unit.unit_centroids(given, "init"), expected)


# Runs


@pytest.mark.parametrize(
    ("dtype", "init", "weights"),
    [
        ("float16", "k-means++", "integer"),
        ("float32", "array", None),
        ("float32", "k-means++", "float32"),
        ("float64", "array", "float64"),
        ("float64", "random", None),
    ],
)
@pytest.mark.parametrize("kind", [kind for kind in datasets.KINDS if kind != "digits"])
def test_run(kind, dtype, init, weights):
    X = make(kind, dtype, seed=2)
    check(
        X,
        K,
        init=X[:: N // K][:K] if init == "array" else init,
        n_init=2 if init == "random" else 1,
        sample_weight=datasets.weights(weights, N, 2),
        random_state=2,
        max_iter=6,
        tol=1e-2 if weights == "float32" else 0,
        metric="cosine",
    )


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint8", "bool"])
def test_integers(dtype):
    X = datasets.integers(1, (N, D), 2 if dtype == "bool" else 100).astype(dtype)
    X[~X.any(axis=1)] = 1
    check(X, K, random_state=3, metric="cosine")


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (9, 1), (1, 4), (9, 4)])
@pytest.mark.parametrize("k", [1, 2])
def test_small_shapes(shape, k):
    X = datasets.uniform(1, shape) - 0.5
    check(X, min(k, len(X)), random_state=1, metric="cosine")


def test_a_zero_mean_keeps_the_old_centroid():
    X = np.array([[3.0, 0], [-5, 0], [0, -2], [0, -4]])
    init = np.array([[0, 3.0], [0, -1]])
    truth = check(X, 2, init=init, tol=0, metric="cosine")
    assert truth.labels.tolist() == [0, 0, 1, 1]
    assert_bits(truth.centroids, unit.unit_rows(init))
    assert check(X[:2], 1, init=init[:1], metric="cosine").n_iter == 1


@pytest.mark.parametrize("weights", [None, "float32"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_relocation(dtype, weights):
    X = make("uniform", dtype) + 1
    init = np.concatenate([X[:1], -X[:5]])
    w = datasets.weights(weights, N)
    truth = check(X, K, init=init, sample_weight=w, tol=0, metric="cosine")
    assert truth.relocations > 0


@pytest.mark.parametrize("tol", [1e-4, 1e-2, 0.3])
def test_tolerance_counts_directions(tol):
    X = make("blobs", "float32") * datasets.uniform(5, (N, 1)).astype(np.float32)
    check(X, 4, init=X[:4], tol=tol, metric="cosine")


def test_inertia_can_be_below_zero():
    X = np.array([[1.0, 1, 1], [2, 2, 2], [3, 3, 3]])
    truth = check(X, 1, random_state=0, metric="cosine")
    assert -1e-15 < truth.inertia < 0
    assert inertia(X, truth.centroids, metric="cosine") == truth.inertia


def test_callable_init():
    X = make("uniform", "float32")

    def init(X, n_clusters, random_state):
        return 7 * X[random_state.permutation(len(X))[:n_clusters]]

    check(X, K, init=init, n_init=2, random_state=4, metric="cosine")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["numpy", "strict", "torch-1", "jax-x64", "jax-x32"])
def test_every_library(name, backend):
    X = make("decades", "float32", 60, 5)
    before = X.copy()
    words = reference.Words(3)
    rows = reference.kmeans_plusplus(X, 4, words=words, metric="cosine")
    with entered(name) as library, environment(backend=backend):
        Y = library.asarray(X)
        centroids, indices = kmeans_plusplus(Y, 4, random_state=3, metric="cosine")
        labels = predict(Y, centroids, metric="cosine")
        table = distances(Y, centroids, metric="cosine")
        assert all(library.owns(array) for array in (centroids, indices, labels, table))
        assert library.numpy(indices).tolist() == rows
        assert_bits(library.numpy(centroids), exact_directions(X)[rows])
        assert_bits(library.numpy(labels), reference.predict(X, X[rows], "cosine"))
        assert_bits(library.numpy(Y), before)
    assert np.argmin(library.numpy(table), axis=1).tolist() == library.numpy(labels).tolist()


@pytest.mark.parametrize("dtype", FLOATS)
def test_distances(dtype):
    X = make("blobs", dtype, 60, 5)
    X[:20] = X[0] * (1 + 1e-3 * datasets.uniform(1, (20, 5)))  # nearly parallel
    centroids = X[::7]
    table = distances(X, centroids, metric="cosine")
    rows = reference.data(X, "cosine")
    points = reference.given_centroids(centroids, np.dtype(dtype), "cosine")
    truth = reference.cosine_distances(rows, points)
    worst = 1e-6 if dtype == "float32" else 1e-12
    for found, exact in zip(table.ravel().tolist(), chain(*truth), strict=True):
        assert abs(Fraction(found) - exact) <= worst * abs(exact)


def test_scikit_learn_on_normalised_data():
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import normalize

    X = datasets.blobs(4, 600, 6, 5) * (0.1 + 9 * datasets.uniform(5, (600, 1)))
    init = normalize(X[:5])
    ours = kmeans(X, 5, init=init, tol=0, metric="cosine")
    theirs = KMeans(5, init=init, n_init=1, tol=0).fit(normalize(X))
    assert (ours.labels == theirs.labels_).all()
    assert np.abs(ours.centroids - normalize(theirs.cluster_centers_)).max() < 1e-14


# Labels


def near_ties(dtype, d=24, n=300):
    """Rows with nearly the same product with each of two centroids."""
    a, b = unit.unit_rows(datasets.bell(1, (2, d)).astype(dtype))
    along = datasets.bell(2, (n, d))
    normal = (a - b).astype(np.float64)
    along -= np.outer(along @ normal / (normal @ normal), normal)
    return along.astype(dtype), np.stack([a, b])


def swapped(dtype, n=200):
    """Rows with two equal entries, and centroids with these two swapped: exact ties."""
    X = (datasets.bell(3, (n, 5)) + 1).astype(dtype)
    X[:, 1] = X[:, 0]
    c = datasets.bell(4, (3, 5)).astype(dtype)
    return X, np.concatenate([c, c[:, [1, 0, 2, 3, 4]], c[:1]])


@pytest.mark.parametrize("d", [2, 3, 24, 200])
@pytest.mark.parametrize("dtype", FLOATS)
def test_labels_of_near_ties(dtype, d):
    check_labels(*near_ties(dtype, d, 60), metric="cosine")


@pytest.mark.parametrize("dtype", ["float16", *FLOATS])
def test_ties_go_to_the_lowest_index(dtype):
    X, centroids = swapped(dtype)
    assert predict(X, centroids, metric="cosine").max() < 3
    check_labels(X, centroids, metric="cosine")


@pytest.mark.parametrize("dtype", FLOATS)
def test_nearly_parallel_rows(dtype):
    """The lengths of the stored centroids, 1 up to rounding, decide many labels."""
    X = (1000 + datasets.bell(5, (200, 4))).astype(dtype)
    if dtype == "float64":
        X += 1e7
    check_labels(X, X[:40], metric="cosine")
    rows = unit.unit_rows(X)
    assert (predict(X, X[:40], metric="cosine") != predict(rows, rows[:40])).any()


@pytest.mark.parametrize("far", [-1.0, 1.0])
def test_labels_with_a_far_centroid(far):
    X = (1000 + datasets.bell(5, (200, 4))).astype(np.float32)
    opposite = np.array([[far, -1.0, 1.0, -1.0]], dtype=np.float32)
    check_labels(X, np.concatenate([X[:4], opposite]), metric="cosine")


@pytest.mark.parametrize("numba", ["0", "1"])
@pytest.mark.parametrize("dtype", FLOATS)
@given(
    kind=st.sampled_from(["blobs", "uniform", "duplicates", "parallel"]),
    seed=st.integers(0, 10**6),
    d=st.integers(1, 6),
    k=st.integers(2, 18),
)
@example(kind="parallel", seed=0, d=4, k=18)
@settings(max_examples=20, deadline=None, derandomize=True)
def test_pruned_has_the_bits_of_plain(numba, dtype, kind, seed, d, k):
    if numba == "1":
        pytest.importorskip("numba")
    if kind == "parallel":
        X = (300 + datasets.bell(seed, (300, d))).astype(dtype)
    else:
        X = make(kind, dtype, 300, d, k, seed)
    found = set()
    with environment(numba=numba):
        for algorithm in ("lloyd", "hamerly", "auto"):
            options = {"init": X[:k], "tol": 0, "max_iter": 40, "algorithm": algorithm}
            found.add(fingerprint(run(X, k, metric="cosine", **options)))
    assert len(found) == 1


# The certificates matter


def no_bound(*args, **kwargs):
    bound = bound_as_it_is(*args, **kwargs)
    return type(bound)(0.0, 0.0)


bound_as_it_is = assignment.score_bound


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_labels_are_wrong_without_the_bound(monkeypatch, dtype, backend):
    X, centroids = near_ties(dtype)
    monkeypatch.setattr(assignment, "score_bound", no_bound)
    with environment(backend=backend):
        labels = predict(X, centroids, metric="cosine")
    assert (labels != reference.predict(X, centroids, "cosine")).any()


def parallel(seed):
    return (datasets.bell(seed, (400, 3 + seed % 3)) + 10 ** (1 + seed % 3)).astype(np.float32)


def differing_fits():
    """How many of some fits have other bits with bounds than without."""
    found = 0
    for seed in range(9):
        X, k = parallel(seed), 4 + seed
        options = {"init": X[:k], "tol": 0, "max_iter": 20, "metric": "cosine"}
        plain = run(X, k, algorithm="lloyd", **options)
        found += fingerprint(run(X, k, algorithm="hamerly", **options)) != fingerprint(plain)
    return found


def test_pruning_needs_the_margin(monkeypatch):
    assert differing_fits() == 0
    none = dict.fromkeys(unit.UNIT_ERROR, 0.0)
    monkeypatch.setattr(assignment, "UNIT_ERROR", none)
    assert differing_fits() > 0


def test_directions_are_wrong_without_the_look_at_middles(monkeypatch):
    X = middles()
    monkeypatch.setattr(unit, "_leave_middles", lambda *args: None)
    assert (unit.unit_rows(X) != exact_directions(X)).any()


def test_a_norm_between_two_numbers_is_not_certified(monkeypatch):
    def reached(*args):
        raise RuntimeError("integers")

    monkeypatch.setattr(unit, "_norm_by_integers", reached)
    with pytest.raises(RuntimeError, match="integers"):
        unit.rounded_norms(PYTHAGOREAN)


# Errors


@pytest.mark.parametrize("name", ["numpy", "strict", "torch-1", "jax-x64"])
def test_rows_of_zeros_are_refused(name):
    X = datasets.uniform(1, (3000, 4)) + 1
    X[[1234, 2999]] = [0.0, -0.0, 0.0, 0.0]
    with entered(name) as library:
        Y = library.asarray(X)
        for call in (
            lambda: kmeans(Y, 2, metric="cosine"),
            lambda: predict(Y, X[:2], metric="cosine"),
            lambda: kmeans_plusplus(Y, 2, metric="cosine"),
        ):
            with pytest.raises(ValueError, match=r"X\[1234\] is one"):
                call()


def test_centroids_without_direction_are_refused():
    X = datasets.uniform(1, (30, 2)).astype(np.float32) + 1
    with pytest.raises(ValueError, match=r"init\[1\] is zero as float32"):
        kmeans(X, 2, init=np.array([[1.0, 0], [1e-80, 0]]), metric="cosine")
    with pytest.raises(ValueError, match=r"centroids\[0\] is zero"):
        predict(X, np.zeros((2, 2)), metric="cosine")


@pytest.mark.parametrize("metric", ["Cosine", "l2", None, 3])
def test_unknown_metrics(metric):
    X = np.eye(3)
    for call in (kmeans, predict, inertia, distances, kmeans_plusplus):
        with pytest.raises(ValueError, match="metric must be one of 'euclidean', 'cosine'"):
            call(X, 2 if call in (kmeans, kmeans_plusplus) else X, metric=metric)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(value):
    X = np.ones((5, 3))
    X[3, 1] = value
    with pytest.raises(ValueError, match=r"X\[3, 1\]"):
        kmeans(X, 2, metric="cosine")


# Batches


def test_every_problem_of_a_batch_is_its_single_run():
    X = (datasets.uniform(6, (5, 40, 3)) - 0.5).astype(np.float32)
    lengths = np.array([40, 7, 25, 40, 12])
    batch = kmeans(X, 3, lengths=lengths, random_state=2, metric="cosine")
    for b, seed in enumerate(np.random.SeedSequence(2).spawn(5)):
        single = kmeans(X[b, : lengths[b]], 3, random_state=seed, metric="cosine")
        assert fingerprint(batch[b]) == fingerprint(single)
    labels = predict(X, batch.centroids, lengths=lengths, metric="cosine")
    assert_bits(labels, batch.labels)


def test_rows_of_zeros_in_a_batch():
    X = np.ones((3, 4, 2))
    X[1, 3] = X[2, 1] = 0
    for rows, options, place in (
        (X, {"lengths": [4, 3, 4]}, "problem 2 has one, row 1 "),  # padding may hold anything
        (X.reshape(-1, 2)[4:], {"offsets": [0, 1, 8]}, "problem 1 has one, row 2 "),
    ):
        with pytest.raises(ValueError, match=place):
            kmeans(rows, 1, metric="cosine", **options)
        with pytest.raises(ValueError, match=place):
            predict(rows, [[1, 0]], metric="cosine", **options)


# Estimators and files


@pytest.mark.parametrize("name", ["numpy", "strict", "torch-1"])
def test_estimator_has_the_bits_of_kmeans(name):
    sklearn = pytest.importorskip("sklearn")
    from kmeans_xp import KMeans

    X = make("blobs", "float32")
    result = run(X, 4, random_state=0, metric="cosine")
    with entered(name) as library:
        Y = library.asarray(X)
        model = sklearn.base.clone(KMeans(4, random_state=0, metric="cosine")).fit(Y)
        assert fingerprint(result) == reference.fingerprint(
            library.numpy(model.labels_),
            library.numpy(model.cluster_centers_),
            model.inertia_,
            model.n_iter_,
        )
        assert_bits(library.numpy(model.predict(Y)), result.labels)
        assert model.score(Y) == -result.inertia
        table = distances(X, result.centroids, metric="cosine")
        assert_bits(library.numpy(model.transform(Y)), table)
        assert_bits(library.numpy(model.fit_transform(Y)), table)


def test_estimator_refuses_other_metrics():
    pytest.importorskip("sklearn")
    from kmeans_xp import KMeans

    with pytest.raises(ValueError, match="The 'metric' parameter of KMeans must be a str among"):
        KMeans(2, metric="l2").fit(np.eye(3))


def test_models_with_an_inertia_below_zero_are_sound(tmp_path):
    pytest.importorskip("safetensors")
    from kmeans_xp import load_model, save_model

    X = np.array([[1.0, 1, 1], [2, 2, 2], [3, 3, 3]])
    result = kmeans(X, 1, random_state=0, metric="cosine")
    assert result.inertia < 0
    save_model(result, tmp_path / "model")
    assert fingerprint(load_model(tmp_path / "model")) == fingerprint(result)


def test_exported_graphs_compare_cosines():
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from kmeans_xp import KMeans, to_onnx

    X = (datasets.blobs(4, 200, 4, 5) + 3).astype(np.float32)
    model = KMeans(5, random_state=0, metric="cosine").fit(X)
    rows = X * np.float32(1e-9)  # so short that the Euclidean graph would be wrong
    labels = model.predict(rows)
    assert (labels != predict(rows, model.cluster_centers_)).any()
    result = kmeans(X, 5, random_state=0, metric="cosine")
    for exported in (to_onnx(model), to_onnx(result, metric="cosine")):
        session = runtime.InferenceSession(exported.SerializeToString())
        assert (session.run(["labels"], {"X": rows})[0] == labels).all()


@pytest.mark.parametrize("name", ["numpy", "strict", "jax-x32"])
def test_mini_batches(name):
    pytest.importorskip("sklearn")
    from kmeans_xp import MiniBatchKMeans

    X = make("blobs", "float32", 300, 5)
    model = MiniBatchKMeans(4, batch_size=50, random_state=0, metric="cosine")
    expected = model.fit(X)
    labels = predict(X, expected.cluster_centers_, metric="cosine")
    assert_bits(expected.labels_, labels)
    assert expected.inertia_ == inertia(X, expected.cluster_centers_, metric="cosine")
    truth = run(X, 4, random_state=0, metric="cosine").inertia
    assert truth <= expected.inertia_ < 1.2 * truth
    with entered(name) as library:
        found = MiniBatchKMeans(**model.get_params()).fit(library.asarray(X))
        assert_bits(library.numpy(found.cluster_centers_), expected.cluster_centers_)
        assert_bits(library.numpy(found.predict(library.asarray(X))), labels)
