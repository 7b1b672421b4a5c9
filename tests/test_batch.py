"""Batches of problems: every problem has the bits of its own single run, in every layout."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kmeans_xp
from kmeans_xp import BatchResult, ConvergenceWarning, fingerprint, kmeans, predict, single
from kmeans_xp.backends.threads import thread_count
from kmeans_xp.blocks.tiny import solver_for_one

from .conftest import entered

numba = pytest.mark.parametrize("compiled", ["0", "1"])


@pytest.fixture(autouse=True)
def _numba(request, monkeypatch):
    """Whether compiled kernels fit tiny problems."""
    choice = (
        request.node.callspec.params.get("compiled") if hasattr(request.node, "callspec") else 0
    )
    if choice == "1":
        pytest.importorskip("numba")
    if choice:
        monkeypatch.setenv("KMEANS_XP_NUMBA", choice)


def same(found, expected):
    assert np.array_equal(np.asarray(found.labels), np.asarray(expected.labels))
    a, b = np.asarray(found.centroids), np.asarray(expected.centroids)
    assert a.dtype == b.dtype and a.tobytes() == b.tobytes()
    assert found.inertia == expected.inertia
    assert (found.n_iter, found.converged) == (expected.n_iter, expected.converged)


def data(kind="normal", shape=(6, 40, 3), dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    if kind == "lattice":
        x = np.round(x * 2)
    if kind == "offset":
        x += 1e6
    if kind == "decades":
        x *= 10.0 ** rng.integers(-12, 12, size=shape[2])
    return x.astype(dtype)


def seeds(random_state, count):
    return np.random.SeedSequence(random_state).spawn(count)


KINDS = ("normal", "lattice", "offset", "decades")


@numba
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_every_problem_is_its_single_run(compiled, kind, dtype, init):
    x = data(kind, dtype=dtype)
    result = kmeans(x, 4, init=init, n_init=2, random_state=5)
    assert isinstance(result, BatchResult) and len(result) == 6
    for b, seed in enumerate(seeds(5, 6)):
        same(result[b], kmeans(x[b], 4, init=init, n_init=2, random_state=seed, algorithm="lloyd"))
    assert np.array_equal(predict(x, result.centroids), result.labels)


@numba
@pytest.mark.parametrize("tol", [0.0, 1e-4, 0.5])
@pytest.mark.parametrize("max_iter", [1, 3, 300])
def test_stop_rules(compiled, tol, max_iter):
    x = data(dtype=np.float64, shape=(5, 50, 2))
    result = kmeans(x, 5, tol=tol, max_iter=max_iter, random_state=1)
    for b, seed in enumerate(seeds(1, 5)):
        same(
            result[b],
            kmeans(x[b], 5, tol=tol, max_iter=max_iter, random_state=seed, algorithm="lloyd"),
        )


@numba
def test_given_starts_of_each_problem_or_shared(compiled):
    x = data()
    own = kmeans(x, 3, init=x[:, 5:8])
    shared = kmeans(x, 3, init=x[0, :3])
    for b in range(len(x)):
        same(own[b], kmeans(x[b], 3, init=x[b, 5:8]))
        same(shared[b], kmeans(x[b], 3, init=x[0, :3]))


@numba
@pytest.mark.parametrize("dtype", [np.float16, np.int32, np.uint8, ">f4"])
def test_other_dtypes(compiled, dtype):
    x = np.abs(data("lattice") * 3).astype(dtype)
    result = kmeans(x, 3, random_state=0)
    for b, seed in enumerate(seeds(0, len(x))):
        same(result[b], kmeans(x[b], 3, random_state=seed, algorithm="lloyd"))


@numba
def test_padded_and_flat_rows_agree(compiled):
    x, lengths, clusters = data(), np.array([40, 7, 1, 23, 40, 12]), np.array([4, 7, 1, 2, 3, 1])
    padded = x.copy()
    for b, n in enumerate(lengths):
        padded[b, n:] = np.nan  # padding may hold anything
    flat = np.concatenate([x[b, :n] for b, n in enumerate(lengths)])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    one = kmeans(padded, clusters, lengths=lengths, random_state=2)
    two = kmeans(flat, clusters, offsets=offsets, random_state=2)
    for b, seed in enumerate(seeds(2, 6)):
        n = lengths[b]
        expected = kmeans(x[b, :n], int(clusters[b]), random_state=seed)
        same(one[b], expected)
        same(two[b], expected)
        assert (np.asarray(one.labels)[b, n:] == -1).all()
    assert np.isfinite(one.centroids).all()
    assert one.n_clusters_used.tolist() == clusters.tolist()
    assert np.array_equal(predict(flat, two.centroids, offsets=offsets), two.labels)
    assert np.array_equal(predict(padded, one.centroids, lengths=lengths), one.labels)


def weights(kind, shape):
    """Whole numbers and zeros, numbers of either precision, one that no sum holds, ten decades."""
    rng = np.random.default_rng(1)
    if kind == "whole":
        return rng.integers(0, 3, size=shape).astype(np.float32)
    if kind == "equal":
        return np.full(shape, 0.1)
    if kind == "decades":
        return 10.0 ** rng.uniform(-10, 0, size=shape) * (rng.random(shape) < 0.7)
    return rng.random(shape, dtype=kind)


@numba
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighing", ["whole", "float32", "float64", "equal", "decades"])
@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_weights(compiled, kind, weighing, init):
    for dtype in (np.float32, np.float64):
        x = data(kind, dtype=dtype)
        w = weights(weighing, x.shape[:2])
        result = kmeans(x, 4, init=init, n_init=2, sample_weight=w, random_state=4)
        for b, seed in enumerate(seeds(4, 6)):
            options = {"init": init, "n_init": 2, "random_state": seed, "algorithm": "lloyd"}
            same(result[b], kmeans(x[b], 4, sample_weight=w[b], **options))


@pytest.mark.parametrize("weighing", ["whole", "float32", "float64", "equal", "decades"])
@pytest.mark.filterwarnings("ignore::kmeans_xp.ConvergenceWarning")
def test_kernels_fit_weighted_problems(weighing, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    x = data(shape=(8, 300, 5), seed=2)
    w = weights(weighing, x.shape[:2])
    far = x[:, :6] + np.float32([0, 0, 50, 0, 50, 0])[:, None]  # two find no row
    inits = {"k-means++": "k-means++", "random": "random", "given": far}
    monkeypatch.setattr(single, "open_blocks", lambda *a: pytest.fail("the loop ran"))
    found = {
        name: kmeans(x, 6, init=init, n_init=1, sample_weight=w, random_state=0)
        for name, init in inits.items()
    }
    one = kmeans(x[0], 6, n_init=1, sample_weight=w[0], random_state=0)
    monkeypatch.undo()
    same(one, kmeans(x[0], 6, n_init=1, sample_weight=w[0], random_state=0, algorithm="lloyd"))
    for name, init in inits.items():
        for b, seed in enumerate(seeds(0, 8)):
            start = init if isinstance(init, str) else init[b]
            options = {"sample_weight": w[b], "random_state": seed, "algorithm": "lloyd"}
            same(found[name][b], kmeans(x[b], 6, init=start, n_init=1, **options))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weight", [None, 0.5, 3.0])
def test_kernels_round_an_inertia_that_is_a_tie(dtype, weight, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    monkeypatch.setattr(single, "open_blocks", lambda *a: pytest.fail("the loop ran"))
    for tiny, expected in ((2, 2.0), (3, 2 + 2.0**-51), (6, 2 + 2.0**-50)):
        row = np.array([1.0] + [2.0**-27] * tiny)  # a square is a quarter of an ulp of the sum
        x = np.stack([row, -row]).astype(dtype)
        w = None if weight is None else np.full(2, weight)
        found = kmeans(x, 1, sample_weight=w, n_init=1, random_state=0)
        whole = (2 + 2 * tiny * Fraction(1, 1 << 54)) * Fraction(weight or 1)
        assert found.inertia == float(whole)
        assert weight == 3.0 or found.inertia == expected * (weight or 1)


def test_weights_of_ragged_problems_are_checked_where_they_count():
    x, lengths = data(), np.array([40, 7, 1, 23, 40, 12])
    w = np.ones((6, 40))
    w[1, 7:] = np.nan  # padding
    flat = np.concatenate([x[b, :n] for b, n in enumerate(lengths)])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    one = kmeans(x, 1, lengths=lengths, sample_weight=w)
    two = kmeans(flat, 1, offsets=offsets, sample_weight=np.ones(len(flat)))
    assert one.inertia.tobytes() == two.inertia.tobytes()
    for bad, words in ((np.inf, "problem 3: .* must be finite"), (0, "problem 2: .* positive")):
        w = np.ones((6, 40))
        w[3 if bad else 2, 0] = bad
        with pytest.raises(ValueError, match=words):
            kmeans(x, 1, lengths=lengths, sample_weight=w)
        flat_w = np.concatenate([w[b, :n] for b, n in enumerate(lengths)])
        with pytest.raises(ValueError, match=words):
            kmeans(flat, 1, offsets=offsets, sample_weight=flat_w)


@numba
def test_empty_clusters_and_duplicates(compiled):
    x = np.zeros((3, 6, 2))
    x[1, :3] = 1
    x[2] = data(shape=(1, 6, 2), dtype=np.float64)[0]
    far = np.array([[0.0, 0.0], [1e3, 1e3], [2e3, 2e3]])
    with pytest.warns(ConvergenceWarning, match="2 of 3 problems"):
        result = kmeans(x, 3, init=far)
    for b in range(2):
        with pytest.warns(ConvergenceWarning):
            same(result[b], kmeans(x[b], 3, init=far, algorithm="lloyd"))
    same(result[2], kmeans(x[2], 3, init=far))


@numba
@pytest.mark.parametrize("below", [2.0**-112, -(2.0**-112), 0.0])
def test_a_mean_that_misses_a_midpoint_by_far_less_than_two_doubles_hold(compiled, below):
    x = np.asarray([[1.0, 0.3], [2.0**-53, 0.1], [below, 0.7], [0.0, 0.45]])
    found = kmeans(np.stack([x, x]), 1, random_state=0)
    expected = (0.25 if below <= 0 else 0.25 + 2.0**-54), found.centroids[0, 0, 1]
    assert found.centroids.tolist() == [[list(expected)]] * 2


@numba
@pytest.mark.filterwarnings("ignore:inertia is inf:RuntimeWarning")
def test_values_beyond_the_kernels_range(compiled):
    x = data(dtype=np.float64, shape=(4, 20, 2))
    x[0] *= 1e200
    x[1] *= 1e-200
    x[2, 0, 0] = 1e300
    result = kmeans(x, 2, random_state=0)
    for b, seed in enumerate(seeds(0, 4)):
        same(result[b], kmeans(x[b], 2, random_state=seed, algorithm="lloyd"))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 30),
    st.integers(1, 9),
    st.integers(1, 6),
    st.sampled_from(KINDS),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 2**32),
)
def test_tiny_problems_property(n, d, k, kind, dtype, seed):
    pytest.importorskip("numba")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KMEANS_XP_NUMBA", "1")
        x, k = data(kind, (2, n, d), dtype, seed), min(n, k)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            result = kmeans(x, k, random_state=seed, tol=0.0)
            patch.setenv("KMEANS_XP_NUMBA", "0")
            for b, child in enumerate(seeds(seed, 2)):
                same(result[b], kmeans(x[b], k, random_state=child, tol=0.0, algorithm="lloyd"))


def test_kernels_decide_most_problems(monkeypatch):
    pytest.importorskip("numba")
    from kmeans_xp.blocks.tiny import tiny_solver

    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    x = data(shape=(50, 64, 4))
    solver = tiny_solver(x)
    sizes = np.full(50, 64)
    assert solver.suits(sizes, 4).all()
    labels = np.full(50 * 64, -1, dtype=np.int32)
    _, _, n_iter, _, used = solver.fit(
        x.reshape(-1, 4), None, np.arange(50) * 64, sizes, np.full(50, 4), x[:, :4],
        np.zeros((1, 1), np.uint64), 1, 300, 1e-4, np.dtype(np.float32), labels,
    )  # fmt: skip
    assert (n_iter > 0).all() and (used == 4).all() and (labels >= 0).all()


@pytest.mark.filterwarnings("ignore::kmeans_xp.ConvergenceWarning")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernels_relocate_empty_clusters(dtype, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    x = np.concatenate([data("normal", (8, 60, 3), dtype), data("lattice", (4, 60, 3), dtype)])
    init = x[:, :6].copy()
    init[:, 1:4] += 50  # nobody's
    monkeypatch.setattr(single, "open_blocks", lambda *a: pytest.fail("the loop ran"))
    normal = kmeans(x[:8], 6, init=init[:8])
    monkeypatch.undo()
    result = kmeans(x, 6, init=init)
    monkeypatch.setenv("KMEANS_XP_NUMBA", "0")
    for b in range(12):
        expected = kmeans(x[b], 6, init=init[b], algorithm="lloyd")
        same(result[b], expected)
        if b < 8:
            same(normal[b], expected)


@pytest.mark.filterwarnings("ignore::kmeans_xp.ConvergenceWarning")
def test_negative_zeros_become_positive(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    x = np.full((2, 5, 3), -0.0)
    for init in ("random", "k-means++"):
        result = kmeans(x, 3, init=init, n_init=1, random_state=0)
        assert not np.signbit(result.centroids).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("init", ["random", "k-means++"])
def test_problems_with_bounds(kind, dtype, init, monkeypatch):
    """More rows than a kernel looks at together, and clusters enough for bounds of each row."""
    pytest.importorskip("numba")
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    x = data(kind, (2, 700, 5), dtype)
    x[:, :350] += 5
    options = {"init": init, "n_init": 2, "tol": 0.0}
    result = kmeans(x, 34, random_state=1, **options)
    monkeypatch.setenv("KMEANS_XP_NUMBA", "0")
    for b, seed in enumerate(seeds(1, 2)):
        same(result[b], kmeans(x[b], 34, random_state=seed, algorithm="lloyd", **options))
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    assert np.array_equal(predict(x, result.centroids), result.labels)


@numba
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("large", [1, 1 << 30])
def test_problems_that_no_kernel_takes_run_in_threads(compiled, metric, large, monkeypatch):
    monkeypatch.setattr(kmeans_xp.batch, "_LARGE", large)
    x = data(shape=(7, 90, 4), dtype=np.float64)
    w = np.random.default_rng(2).random((7, 90))
    options = {"sample_weight": w, "metric": metric, "random_state": 3}
    outcomes = []
    for threads in ("1", "3"):
        monkeypatch.setenv("KMEANS_XP_NUM_THREADS", threads)
        outcomes.append(kmeans(x, 4, **options))
        assert thread_count() == int(threads)
        labels = predict(x, outcomes[-1].centroids, metric=metric)
        assert np.array_equal(labels, outcomes[-1].labels)
    for b, seed in enumerate(seeds(3, 7)):
        options = {"sample_weight": w[b], "metric": metric, "random_state": seed}
        expected = kmeans(x[b], 4, **options)
        same(outcomes[0][b], expected)
        same(outcomes[1][b], expected)


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch):
    monkeypatch.setenv("KMEANS_XP_NUM_THREADS", "2")
    monkeypatch.setenv("KMEANS_XP_NUMBA", "0")
    monkeypatch.setattr(single, "open_blocks", lambda *a, **b: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        kmeans(data(), 2)


@pytest.mark.parametrize("layout", ["equal", "padded", "flat"])
def test_libraries(library, layout):
    x, lengths = data(), np.array([40, 7, 5, 23, 40, 12])
    w = np.random.default_rng(0).random((6, 40))
    options, counts = {}, np.arange(40) < lengths[:, None]
    if layout == "padded":
        options = {"lengths": lengths}
    if layout == "flat":
        x, w = x[counts], w[counts]
        options = {"offsets": np.concatenate([[0], np.cumsum(lengths)])}
    given = library.asarray(x)
    for weights in (None, w):
        expected = kmeans(x, 3, random_state=0, sample_weight=weights, **options)
        result = kmeans(given, 3, random_state=0, sample_weight=weights, **options)
        assert library.owns(result.labels) and library.owns(result.centroids)
        assert len(list(result)) == 6
        for b, (one, two) in enumerate(zip(result, expected, strict=True)):
            assert fingerprint(one) == fingerprint(two)
            n = 40 if layout == "equal" else lengths[b]
            lo = 0 if layout != "flat" else options["offsets"][b]
            part = slice(lo, lo + n) if layout == "flat" else (b, slice(0, n))
            own = None if weights is None else weights[part]
            seed = seeds(0, 6)[b]
            alone = kmeans(x[part], 3, random_state=seed, sample_weight=own)
            assert fingerprint(one) == fingerprint(alone)
    labels = predict(given, result.centroids, **options)
    assert library.owns(labels)
    assert np.array_equal(library.numpy(labels), np.asarray(expected.labels))


def test_many_problems_in_threads(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    x = data(shape=(300, 16, 2))
    outcomes = []
    for threads in ("1", "3"):
        monkeypatch.setenv("KMEANS_XP_NUM_THREADS", threads)
        outcomes.append(kmeans(x, 2, random_state=0))
    one, two = outcomes
    assert one.labels.tobytes() == two.labels.tobytes()
    assert one.centroids.tobytes() == two.centroids.tobytes()
    assert one.inertia.tobytes() == two.inertia.tobytes()


def test_seeds_of_any_kind():
    x = data()
    root = np.random.SeedSequence(7)
    first = kmeans(x, 3, random_state=root)
    again = kmeans(x, 3, random_state=root)  # the sequence is left as it was
    named = kmeans(x, 3, random_state=7)
    assert first.labels.tobytes() == again.labels.tobytes() == named.labels.tobytes()
    drawn = int(np.random.RandomState(3).randint(0, 1 << 64, dtype=np.uint64))
    one = kmeans(x, 3, random_state=np.random.RandomState(3))
    assert one.labels.tobytes() == kmeans(x, 3, random_state=drawn).labels.tobytes()


def test_callable_start():
    x = data()

    def start(rows, n_clusters, random_state):
        return rows[random_state.permutation(len(rows))[:n_clusters]]

    result = kmeans(x, 3, init=start, n_init=1, random_state=1)
    for b, seed in enumerate(seeds(1, 6)):
        same(result[b], kmeans(x[b], 3, init=start, n_init=1, random_state=seed, algorithm="lloyd"))


def nan_at(*place):
    x = data()
    x[place] = np.nan
    return x


@pytest.mark.parametrize(
    ("x", "arguments", "error", "words"),
    [
        (nan_at(3, 4, 1), {}, ValueError, "problem 3 has nan in row 4, column 1"),
        (data(), dict(n_clusters=41), ValueError, "problem 0 has 40 rows for 41"),
        (data(), dict(n_clusters=[1, 2, 3, 4, 5, 0]), ValueError, "for problem 5 it is 0"),
        (data(), dict(n_clusters=[1, 2]), TypeError, "6 integers"),
        (data(), dict(n_clusters=2.5), TypeError, "n_clusters must be an integer"),
        (data(), dict(lengths=[1, 2, 3]), ValueError, r"shape \(6,\)"),
        (data(), dict(lengths=[1, 2, 3, 4, 5, 41]), ValueError, r"lengths\[5\] is 41"),
        (data(), dict(lengths=np.ones(6)), TypeError, "lengths must be .* integers"),
        (data()[0], dict(offsets=[0, 5, 5, 40]), ValueError, r"offsets\[2\] is 5"),
        (data()[0], dict(offsets=[0, 30]), ValueError, "end with the 40 rows"),
        (data()[0], dict(lengths=[40]), ValueError, "three-dimensional"),
        (data(), dict(lengths=[1] * 6, offsets=[0, 40]), ValueError, "not both"),
        (data(), dict(init=np.zeros((2, 3))), ValueError, r"\(8, 3\)"),
        (data(), dict(init="kmeans"), ValueError, "init must be"),
        (data(), dict(sample_weight=np.ones(40)), ValueError, r"shape \(6, 40\)"),
        (data(), dict(sample_weight=-np.ones((6, 40))), ValueError, "problem 0: sample_weight"),
        (data(), dict(callback=print), ValueError, "callback is not for batches"),
        (np.full((1, 9, 1), 1 << 60), {}, ValueError, r"within ±2\*\*53"),
        (np.zeros((2, 0, 3)), {}, ValueError, "not empty"),
        (data(), dict(offsets=[0, 40]), ValueError, "flat rows of shape .* give lengths"),
        ([np.ones((4, 2)), np.ones((3, 2))], {}, ValueError, "different lengths .* offsets"),
    ],
)
def test_errors(x, arguments, error, words):
    with pytest.raises(error, match=words):
        kmeans(x, **arguments)


def test_a_result_is_no_array_of_centroids_and_no_list():
    result = kmeans(data(), 2, random_state=0)
    with pytest.raises(TypeError, match=r"pass its \.centroids"):
        predict(data(), result)
    with pytest.raises(TypeError, match="slice"):
        result[1:3]


def test_nothing_runs_before_all_are_checked(monkeypatch):
    monkeypatch.setattr(kmeans_xp.batch, "tiny_solver", lambda x: pytest.fail("it ran"))
    with pytest.raises(ValueError, match="problem 5"):
        kmeans(nan_at(5, 39, 2), 2)


def test_other_functions_say_where_batches_go():
    with pytest.raises(ValueError, match="kmeans and predict take batches"):
        kmeans_xp.kmeans_plusplus(data(), 2)


def test_verbose_names_the_problem(capsys):
    kmeans(data(), 2, random_state=0, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("Problem")] == [
        f"Problem {b}" for b in range(6)
    ]
    assert lines[:2] == ["Problem 0", "Initialization complete"]


def test_progress_bar_counts_problems(capsys):
    pytest.importorskip("tqdm")
    kmeans(data(), 2, random_state=0, progress=True)
    assert "6/6" in capsys.readouterr().err


def test_weights_of_another_namespace_are_refused_as_in_a_single_run():
    x, w = np.arange(48.0).reshape(2, 12, 2), np.ones((2, 12))
    with entered("strict") as library:
        kmeans(library.asarray(x), 2, sample_weight=w)  # NumPy goes with all
        with pytest.raises(TypeError, match="sample_weight is in the namespace"):
            kmeans(x, 2, sample_weight=library.asarray(w))


@numba
@pytest.mark.filterwarnings("ignore:.*distinct")
def test_potentials_that_count_as_zero(compiled):
    """Rows far out whose distances are below the cutoff of docs/exactness.md."""
    x = np.full((1, 12, 2), 1e89)
    x[0, :, 1] = 1e-60 * (np.arange(12) * 5 % 8)
    result = kmeans(x, 4, max_iter=1, random_state=0)
    options = {"max_iter": 1, "random_state": seeds(0, 1)[0]}
    same(result[0], kmeans(x[0], 4, algorithm="lloyd", **options))
    same(result[0], kmeans(x[0], 4, **options))


@numba
def test_distances_at_the_top_of_float32(compiled):
    """Two squared distances on both sides of 2**128, and closer than float32 can tell."""
    rng = np.random.default_rng(0)
    c = rng.choice([-1, 1], (200, 2, 512)) * 2.0**59.5 * rng.uniform(0.99, 1.01, (200, 2, 512))
    wanted = 2.0**128 * (1 + 3e-7 * rng.standard_normal((200, 2, 1)))
    c = (c * np.sqrt(wanted / (c**2).sum(axis=2, keepdims=True))).astype(np.float32)
    x = np.zeros((200, 1, 512), dtype=np.float32)
    nearest = (c.astype(np.float64) ** 2).sum(axis=2).argmin(axis=1)
    assert np.array_equal(predict(x, c)[:, 0], nearest)


# ---- one problem


@pytest.mark.filterwarnings("ignore::kmeans_xp.ConvergenceWarning")
@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", ">f8", "int32", "uint8", "bool"]
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("init", ["k-means++", "random", "given"])
def test_one_tiny_problem_has_the_bits_of_the_loop(kind, dtype, init, monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    x = data(kind, (1, 150, 5), dtype="float64", seed=4)[0]
    x = np.clip(x, -6e4, 6e4) if dtype == "float16" else x
    with np.errstate(all="ignore"):
        x = np.asfortranarray(x.astype(dtype))
    options = {"init": x[3:10] if init == "given" else init, "n_init": 1 if init == "given" else 3}
    options |= {"random_state": np.random.SeedSequence(5)}
    same(kmeans(x, 7, **options), kmeans(x, 7, algorithm="lloyd", **options))


def test_starts_of_another_layout_compile_nothing(monkeypatch):
    pytest.importorskip("numba")
    from kmeans_xp.backends import numba_batch

    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    x = data(shape=(1, 60, 4))[0]
    truth = kmeans(x, 3, init=x[5:8])
    batch = predict(x[None], truth.centroids[None])
    known = len(numba_batch.solve.signatures), len(numba_batch.label.signatures)
    for layout in (np.asfortranarray(x)[5:8], x[::-1][-8:-5][::-1]):
        same(kmeans(x, 3, init=layout), truth)
        assert np.array_equal(predict(x[None], np.asfortranarray(truth.centroids)[None]), batch)
    assert (len(numba_batch.solve.signatures), len(numba_batch.label.signatures)) == known


def test_one_problem_is_fitted_by_the_kernel(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    monkeypatch.setattr(single, "open_blocks", lambda *a: pytest.fail("the loop ran"))
    x = data(shape=(1, 200, 4))[0]
    assert kmeans(x, 3, random_state=0).converged
    with pytest.raises(pytest.fail.Exception):
        kmeans(x, 3, random_state=0, callback=lambda state: None)


def test_a_kernel_that_is_not_ready_is_left_alone(monkeypatch):
    numba_batch = pytest.importorskip("kmeans_xp.backends.numba_batch")
    x = data(shape=(1, 4500, 4))[0]
    monkeypatch.delenv("KMEANS_XP_NUMBA", raising=False)
    monkeypatch.setattr(numba_batch, "ready", lambda dtype: False)
    assert solver_for_one(x, 3) is None
    monkeypatch.setattr(numba_batch, "ready", lambda dtype: True)
    assert solver_for_one(x, 3) is not None
    assert solver_for_one(x, 2000) is None  # too much for one thread
    monkeypatch.setenv("KMEANS_XP_NUMBA", "0")
    assert solver_for_one(x, 3) is None


def test_kernels_are_ready_once_compiled():
    numba_batch = pytest.importorskip("kmeans_xp.backends.numba_batch")
    numba_batch.warmup()
    assert numba_batch.ready(np.dtype(np.float32)) and numba_batch.ready(np.dtype(np.float64))
