"""The compiled CPU kernels against NumPy, and whole fits with and without them."""

import itertools
import sys
from fractions import Fraction
from importlib import import_module
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmeans_xp import fingerprint, kmeans, predict, warmup
from kmeans_xp.assignment import choose_frame, prepare, resolve
from kmeans_xp.backends.cpu import NumpyBackend, kernels
from kmeans_xp.backends.records import Frame, Task, Tile
from kmeans_xp.exact.bounds import score_bound
from kmeans_xp.exact.dyadic import rn12
from kmeans_xp.exact.grid import Grid
from kmeans_xp.exact.metric import METRICS
from kmeans_xp.exact.sums import ClusterSums
from kmeans_xp.exact.unit import unit_rows
from kmeans_xp.pruning import Bounds, bound_terms

pytest.importorskip("numba")
cpu_numba = pytest.importorskip("kmeans_xp.backends.cpu_numba")
numba_batch = pytest.importorskip("kmeans_xp.backends.numba_batch")
numba_seeding = pytest.importorskip("kmeans_xp.backends.numba_seeding")

# Rows around the block of 256, centroids around the group of four, features around the direct limit
ROWS = (1, 7, 255, 256, 257, 600)
CLUSTERS = (1, 2, 3, 4, 5, 17, 64, 65)
FEATURES = (*range(1, 21), 31, 32, 33, 64, 200)


def scores_of(rows, centers, bias):
    return rows.astype(np.float64) @ centers.T.astype(np.float64) + bias.astype(np.float64)


def check_top_two(rows, centers, bias):
    best, score, lead = cpu_numba.top_two(rows, centers, bias)
    assert (best.dtype, score.dtype, lead.dtype) == (np.int32, np.float32, np.float32)
    exact = scores_of(rows, centers, bias)
    norm = float(np.sqrt(np.square(centers, dtype=np.float64).sum(axis=1).max()))
    bound = score_bound(rows.shape[1], norm, 0.0)
    error = bound.slope * np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1)) + bound.offset
    every = np.arange(len(rows))
    assert (exact[every, best] >= exact.max(axis=1) - 2 * error).all()
    assert (np.abs(score - exact[every, best]) <= error).all()
    if len(centers) > 1:
        exact.sort(axis=1)
        gap = exact[:, -1] - exact[:, -2]
        assert (np.abs(lead - gap) <= 2 * error + 2.0**-23 * np.abs(gap)).all()


def problem(rng, n, n_features, n_clusters):
    rows = rng.standard_normal((n, n_features)).astype(np.float32)
    centers = rng.standard_normal((n_clusters, n_features)).astype(np.float32)
    bias = (-0.5 * np.square(centers, dtype=np.float64).sum(axis=1)).astype(np.float32)
    return rows, centers, bias


@pytest.mark.parametrize("n_features", FEATURES)
@pytest.mark.parametrize("n_clusters", CLUSTERS)
def test_top_two_is_within_the_bound(n_features, n_clusters):
    rng = np.random.default_rng(n_features * 1000 + n_clusters)
    for n in ROWS:
        check_top_two(*problem(rng, n, n_features, n_clusters))


def test_many_centroids_make_small_tiles():
    check_top_two(*problem(np.random.default_rng(0), 100, 40, 3001))


@pytest.mark.parametrize("n_features", [1, 2, 4, 9, 33])
def test_no_rows(n_features):
    _, centers, bias = problem(np.random.default_rng(0), 1, n_features, 5)
    rows = np.empty((0, n_features), dtype=np.float32)
    assert [len(a) for a in cpu_numba.top_two(rows, centers, bias)] == [0, 0, 0]


@pytest.mark.parametrize("n_features", [2, 5, 40])
def test_equal_scores_have_no_lead(n_features):
    rows, centers, bias = problem(np.random.default_rng(1), 300, n_features, 1)
    for copies in (2, 3, 4, 6, 20):
        lead = cpu_numba.top_two(rows, centers.repeat(copies, axis=0), bias.repeat(copies))[2]
        assert (lead == 0).all()


@pytest.mark.parametrize("n_features", [1, 2, 3, 4, 8, 32, 33, 100])
@pytest.mark.parametrize("n_clusters", [2, 3, 5, 16, 17, 70])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, -3e38])
def test_scores_that_are_not_finite_are_never_certified(n_features, n_clusters, bad):
    rng = np.random.default_rng(2)
    for place in ("row", "center", "bias"):
        rows, centers, bias = problem(rng, 300, n_features, n_clusters)
        centers[centers == 0] = 1
        hit = rng.integers(n_clusters)
        if place == "row":
            rows[::3, rng.integers(n_features)] = bad
        elif place == "center":
            centers[hit, rng.integers(n_features)] = bad
        else:
            bias[hit] = bad
        with np.errstate(all="ignore"):
            lead = cpu_numba.top_two(rows, centers, bias)[2]
            scores = scores_of(rows, centers, bias)
        doubtful = ~(np.abs(scores) < 3.4e38).all(axis=1)
        assert not ((lead > 0) & (lead < 3e38))[doubtful].any()


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(1, 300),
    n_features=st.integers(1, 40),
    n_clusters=st.integers(1, 30),
    seed=st.integers(0, 2**32 - 1),
    exponent=st.integers(-40, 40),
    lattice=st.booleans(),
)
def test_top_two_on_any_shape(n, n_features, n_clusters, seed, exponent, lattice):
    rows, centers, bias = problem(np.random.default_rng(seed), n, n_features, n_clusters)
    if lattice:
        rows, centers = np.rint(rows), np.rint(centers)
    scale = np.float32(2.0**exponent)
    rows, centers = rows * scale, centers * scale
    bias = (-0.5 * np.square(centers, dtype=np.float64).sum(axis=1)).astype(np.float32)
    check_top_two(rows, centers, bias)


# ---- exact sums


def grid_of(x, rows=1 << 14):
    largest = np.abs(x).max(axis=0)
    smallest = float(np.abs(x[x != 0]).min()) if x.any() else 1.0
    return Grid.fit(largest, smallest, None, len(x), rows, x.dtype == np.float32)


def check_sums(x, labels, n_clusters, rng):
    """Every row into its cluster, then some into others, then those back in reverse order."""
    expected, found = (ClusterSums(n_clusters, grid_of(x), False) for _ in range(2))
    backend = NumpyBackend(x)
    everything, none = np.arange(len(x)), np.full(len(x), -1, dtype=np.int32)
    some = np.flatnonzero(rng.random(len(x)) < 0.3)
    others = labels.copy()
    others[some] = rng.integers(0, n_clusters, len(some))
    steps = (everything, none, labels), (some, labels, others), (some[::-1], others, labels)
    for rows, old, new in steps:
        for place, sign in ((new[rows], 1), (old[rows], -1)):
            if (place >= 0).all():
                expected.add(x[rows], None, place, sign)
        backend.move_rows(x, rows, None, old[rows], new, found)
        levels = zip_longest(found.values, expected.values, fillvalue=0)
        assert all((a == b).all() for a, b in levels)
        assert (found.weights[0] == expected.weights[0]).all()


@pytest.mark.parametrize("n_features", [1, 2, 3, 5, 16, 33])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_clusters", [1, 3, 200])
def test_sums_are_the_same_integers(n_features, dtype, n_clusters, monkeypatch):
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    rng = np.random.default_rng(3)
    for spread in (0, 3, 30):
        for n in (1, 6, 1000):
            x = rng.standard_normal((n, n_features))
            x *= 10.0 ** rng.uniform(-spread, spread, x.shape).round()
            x[rng.random(x.shape) < 0.1] = 0
            labels = rng.integers(0, n_clusters, n).astype(np.int32)
            check_sums(x.astype(dtype), labels, n_clusters, rng)


@pytest.mark.parametrize(
    "values",
    [
        [0.0, 0.0],
        [5e-324, -5e-324],
        [1.7e308, 1e300],
        [1e-300, 1e300],
        [1.0, 2.0**-200],
        [2.0**900, 2.0**600],
    ],
)
def test_sums_at_the_ends_of_the_range(values, monkeypatch):
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    x = np.asarray([values, values[::-1]] * 20)
    labels = (np.arange(40) % 3).astype(np.int32)
    check_sums(x, labels, 3, np.random.default_rng(4))


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(1, 100),
    n_features=st.integers(1, 9),
    n_clusters=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
    spread=st.integers(0, 300),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_sums_on_any_data(n, n_features, n_clusters, seed, spread, dtype):
    rng = np.random.default_rng(seed)
    exponents = rng.integers(-spread, spread + 1, (n, n_features))
    top = 120 if dtype == np.float32 else 1000
    x = np.ldexp(rng.standard_normal((n, n_features)), np.clip(exponents, -top, top)).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KMEANS_XP_NUMBA", "1")
        check_sums(x, rng.integers(0, n_clusters, n).astype(np.int32), n_clusters, rng)


# ---- the whole pass


def swept(x, centroids, rows, keep_bounds):
    """Labels after one pass over some rows, what it lists, its sums and its bounds."""
    backend = NumpyBackend(x)
    frame = choose_frame(x[:100])
    centers = prepare(centroids, frame)
    bounds = Bounds(len(x)) if keep_bounds else None
    labels = (np.arange(len(x)) % len(centroids)).astype(np.int32)
    task = Task(
        frame,
        centers.tile,
        centers.first,
        backend.row_norms(backend.frame_rows(x, slice(None), frame)),
        labels.copy(),
        (centers.slope, centers.offset, centers.limit, *bound_terms(centers)),
        None if bounds is None else (bounds.upper, bounds.lower),
    )
    sums = ClusterSums(len(centroids), grid_of(x), False)
    part = backend.sweep(x, rows, task, sums)
    return labels, task, part, sums, bounds, centers


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_features", [1, 2, 3, 6, 16, 31, 40, 70])
@pytest.mark.parametrize("n_clusters", [2, 7, 16, 17, 50])
@pytest.mark.parametrize("listed", [False, True])
def test_a_pass_labels_lists_and_sums_what_changed(
    dtype, n_features, n_clusters, listed, monkeypatch
):
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    rng = np.random.default_rng(n_features + 100 * n_clusters)
    x = rng.standard_normal((700, n_features)).astype(dtype)
    centroids = x[:n_clusters].copy()
    centroids[-1] = centroids[0] if n_clusters > 7 else centroids[-1]  # an equal one never wins
    rows = np.flatnonzero(rng.random(700) < 0.5) if listed else slice(3, 690)
    old, task, part, sums, bounds, centers = swept(x, centroids, rows, n_clusters <= 7)
    inside = np.zeros(700, dtype=bool)
    inside[rows] = True
    assert (task.labels[~inside] == old[~inside]).all()
    expected = centers.first[resolve(x, centers)]
    sure = inside.copy()
    sure[part.left] = False
    assert sure.sum() > 0.9 * inside.sum()
    assert (task.labels[sure] == expected[sure]).all()
    assert (task.labels[part.left] == old[part.left]).all()
    changed = np.flatnonzero(task.labels != old)
    assert part.changed == len(changed)
    # the sums hold every change but those that are handed back
    done = np.setdiff1d(changed, part.moved)
    moved = ClusterSums(n_clusters, sums.grid, False)
    moved.add(x[done], None, task.labels[done], 1)
    moved.add(x[done], None, old[done], -1)
    for a, b in zip_longest(sums.values, moved.values, fillvalue=0):
        assert np.array_equal(a, np.broadcast_to(b, np.shape(a)))
    assert (sums.weights[0] == moved.weights[0]).all()
    assert (part.old == old[part.moved]).all()
    if bounds is None:
        return
    distances = np.sqrt(np.square(x[:, None].astype(np.float64) - centroids).sum(axis=2))
    every = np.arange(700)
    own = distances[every, task.labels]
    distances[every, task.labels] = np.inf
    assert (bounds.upper[inside] >= own[inside]).all()
    assert (bounds.lower[inside] <= distances.min(axis=1)[inside]).all()
    assert (bounds.upper[sure] <= own[sure] + 0.05).all()
    assert np.isinf(bounds.upper[~inside]).all()


def test_twelve_bits_are_those_of_the_definition():
    rng = np.random.default_rng(11)
    values = np.ldexp(rng.random(20_000) + 1, rng.integers(-900, 900, 20_000))
    middle = np.ldexp(rng.integers(1 << 12, 1 << 13, 2000) * 2.0 + 1, rng.integers(-300, 300, 2000))
    values = np.concatenate([values, middle, [1.0, 2.0 - 2.0**-52, 4095.5, 4096.0]])
    found = [numba_seeding._rn12(value) for value in values.tolist()]
    assert (np.asarray(found) == rn12(values)).all()


# ---- passes made once a fit


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(1, 700),
    n_features=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
    spread=st.integers(0, 300),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_squares_and_magnitudes_on_any_data(n, n_features, seed, spread, dtype):
    rng = np.random.default_rng(seed)
    exponents = rng.integers(-spread, spread + 1, (n, n_features))
    top = 120 if dtype == np.float32 else 1000
    x = np.ldexp(rng.standard_normal((n, n_features)), np.clip(exponents, -top, top)).astype(dtype)
    x[rng.random(x.shape) < 0.1] = 0
    grid = grid_of(x)
    size = np.abs(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KMEANS_XP_NUMBA", "1")
        backend = NumpyBackend(x)
        largest, smallest = backend.magnitudes(x, 0, n)
        assert (largest == size.max(axis=0)).all()
        assert smallest == np.where(size > 0, size, np.inf).min()
        found = backend.square_sum(x, slice(0, n), None, grid, x.dtype).as_ratio()
        patch.setenv("KMEANS_XP_NUMBA", "0")
        assert NumpyBackend(x).magnitudes(x, 0, n) is None
        plain = NumpyBackend(x).square_sum(x, slice(0, n), None, grid, x.dtype).as_ratio()
    assert found[0] * plain[1] == found[1] * plain[0]
    if spread < 100:
        assert Fraction(*found) == sum(Fraction(value) ** 2 for value in x.ravel().tolist())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_features", [1, 2, 7, 8, 40])
def test_norms_are_upper_bounds(dtype, n_features, monkeypatch):
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    rng = np.random.default_rng(n_features)
    x = np.ldexp(rng.standard_normal((600, n_features)), rng.integers(-70, 50, (600, 1)))
    x = x.astype(dtype)
    frame = Frame(4.0, rng.standard_normal(n_features).astype(np.float32))
    backend = NumpyBackend(x)
    framed = backend.frame_rows(x, slice(3, 590), frame).astype(np.float64)
    exact = np.sqrt(np.square(framed).sum(axis=1))
    found = backend.framed_norms(x, slice(3, 590), frame)
    assert found.dtype == np.float32
    assert (found >= exact).all()
    assert (found <= exact * (1 + 1e-5) + 1e-18).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_magnitudes_leave_what_is_not_finite(value, dtype, monkeypatch):
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    x = np.ones((900, 3), dtype=dtype)
    backend = NumpyBackend(x)
    assert backend.magnitudes(x, 0, 900) is not None
    x[700, 1] = value
    assert backend.magnitudes(x, 0, 900) is None
    with pytest.raises(ValueError, match=r"X\[700, 1\]"):
        kmeans(x, 2)


# ---- framing and the switch


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, 2.0**-30, 2.0**40])
def test_framed_rows_have_the_same_bits(dtype, scale, monkeypatch):
    rng = np.random.default_rng(5)
    x = rng.standard_normal((300, 5)).astype(dtype)
    frame = Frame(scale, (rng.standard_normal(5) * scale).astype(np.float32))
    rows = (slice(3, 290), rng.integers(0, 300, 50))
    monkeypatch.setenv("KMEANS_XP_NUMBA", "0")
    plain = [NumpyBackend(x).frame_rows(x, some, frame) for some in rows]
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    for a, some in zip(plain, rows, strict=True):
        b = NumpyBackend(x).frame_rows(x, some, frame)
        assert b.dtype == np.float32
        assert (a.view(np.uint32) == b.view(np.uint32)).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("n_features", [2, 7, 40, 784])
@pytest.mark.parametrize("n_clusters", [3, 10, 30])
def test_nearest_is_top_two_of_framed_rows(dtype, n_features, n_clusters, monkeypatch):
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    rng = np.random.default_rng(8)
    _, centers, bias = problem(rng, 1, n_features, n_clusters)
    x = rng.standard_normal((400, n_features)).astype(dtype)
    x[::50, 0] = np.nan
    frame = Frame(1.0, rng.standard_normal(n_features).astype(np.float32))
    norms = rng.uniform(0, 3, 390).astype(np.float32)
    terms = (0.1, 0.2, 2.5)
    backend, tile = NumpyBackend(x), Tile(centers, bias)
    framed = backend.frame_rows(x, slice(5, 395), frame)
    best, score, lead, certified = backend.nearest(x, slice(5, 395), norms, frame, tile, terms)
    for a, b in zip((best, score, lead), backend.top_two(framed, tile), strict=True):
        np.testing.assert_array_equal(a, b)
    expected = (lead > 0.1 * norms.astype(np.float64) + 0.2) & (lead < 3e38) & (norms < 2.5)
    assert (certified == expected).all()
    assert certified.any()
    assert not certified[np.isnan(framed).any(axis=1)].any()


def test_the_switch_is_read_at_call_time(monkeypatch):
    small, large = np.zeros((2, 2)), np.zeros((1 << 14, 2))
    monkeypatch.delenv("KMEANS_XP_NUMBA", raising=False)
    assert kernels(small) is None
    assert kernels(large) is cpu_numba
    monkeypatch.setenv("KMEANS_XP_NUMBA", "0")
    assert kernels(large) is None
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    assert kernels(small) is cpu_numba
    monkeypatch.setenv("KMEANS_XP_NUMBA", "yes")
    with pytest.raises(ValueError, match="KMEANS_XP_NUMBA"):
        kernels(small)


def test_modest_arrays_do_not_wait_for_the_kernels(monkeypatch):
    monkeypatch.delenv("KMEANS_XP_NUMBA", raising=False)
    modest, large = np.zeros((1 << 15, 2)), np.zeros((1 << 17, 2))
    assert kernels(modest) is cpu_numba  # they are loaded here
    monkeypatch.delitem(sys.modules, cpu_numba.__name__)
    assert kernels(modest) is None
    assert kernels(large) is cpu_numba


def test_warmup_compiles_what_a_batch_needs(monkeypatch):
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    numba_batch.warmup()
    compiled = [len(kernel.signatures) for kernel in (numba_batch.solve, numba_batch.label)]
    for dtype in (np.float32, np.float64):
        x = np.random.default_rng(0).standard_normal((3, 20, 2)).astype(dtype)
        for init in ("k-means++", "random", x[0, :2]):
            predict(x, kmeans(x, 2, init=init, random_state=0).centroids)
    assert [len(kernel.signatures) for kernel in (numba_batch.solve, numba_batch.label)] == compiled


def test_warmup_is_that_of_every_module_of_kernels(monkeypatch):
    called = []
    folder = Path(cpu_numba.__file__).parent
    names = [p.stem for p in folder.glob("*numba*.py") if "\ndef warmup(" in p.read_text("utf-8")]
    for name in names:
        module = import_module(f"kmeans_xp.backends.{name}")
        monkeypatch.setattr(module, "warmup", lambda name=name: called.append(name))
    warmup()
    assert sorted(called) == sorted(names)


def test_arrays_that_kernels_read_in_place():
    assert cpu_numba.suits(np.ones((2, 2)))
    assert not cpu_numba.suits(np.ones((2, 2)).T[:, ::-1])
    assert not cpu_numba.suits(np.ones((2, 2), dtype=">f8"))
    assert not cpu_numba.suits(np.ones((2, 2), dtype=np.int64))


# ---- whole fits

DATASETS = {
    "blobs": lambda rng: rng.standard_normal((900, 3)) + 4 * rng.integers(0, 5, (900, 1)),
    "lattice": lambda rng: rng.integers(0, 6, (800, 2)).astype(float),
    "duplicates": lambda rng: rng.standard_normal((7, 4))[rng.integers(0, 7, 500)],
    "offset": lambda rng: rng.standard_normal((600, 12)) + 1e6,
    "tiny": lambda rng: rng.standard_normal((500, 5)) * 1e-30,
    "wide": lambda rng: rng.standard_normal((300, 40)),
    "outlier": lambda rng: np.vstack([rng.standard_normal((400, 3)), [[1e30, 0, 0]]]),
}


@pytest.mark.filterwarnings("ignore::kmeans_xp.ConvergenceWarning")
@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "fortran"])
@pytest.mark.parametrize("weighted", [False, True])
def test_fits_have_equal_bits(name, dtype, weighted, monkeypatch):
    rng = np.random.default_rng(6)
    x = DATASETS[name](rng)
    with np.errstate(over="ignore", under="ignore"):
        x = np.asfortranarray(x) if dtype == "fortran" else x.astype(dtype)
    if not np.isfinite(x).all():
        pytest.skip("float16 does not reach that far")
    w = rng.integers(0, 4, len(x)).astype(np.float64) if weighted else None
    found = set()
    for mode in ("0", "1"):
        monkeypatch.setenv("KMEANS_XP_NUMBA", mode)
        for clusters, algorithm in itertools.product((2, 9), ("auto", "lloyd")):
            options = {"random_state": 3, "max_iter": 20, "algorithm": algorithm}
            result = kmeans(x, clusters, sample_weight=w, **options)
            found.add((clusters, fingerprint(result)))
    assert len(found) == 2


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("n_features", "n_clusters"), [(1, 2), (3, 64), (17, 33), (300, 200)])
def test_a_compiled_recheck_leaves_only_near_ties_to_numpy(
    metric, dtype, n_features, n_clusters, monkeypatch
):
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    rng = np.random.default_rng(n_features)
    x = (rng.standard_normal((500, n_features)) * 1e-30 + 3e-29).astype(dtype)
    centroids = x[rng.choice(np.arange(20, 500), n_clusters, replace=False)]
    x[:20] = np.ldexp(np.rint(np.ldexp(x[0], 110)), -110)  # in the very middle of two
    centroids[0], centroids[1] = x[0] - dtype(2.0**-105), x[0] + dtype(2.0**-105)
    if metric.spherical:
        x, centroids = unit_rows(x), unit_rows(centroids)
    centers = prepare(centroids, choose_frame(x), metric=metric)
    backend = NumpyBackend(x)
    alone = backend.recheck(x, centers.doubles(float(np.abs(x).max())))
    assert (alone is None) == (n_features == 300)
    expected = resolve(x, centers)
    assert np.array_equal(resolve(x, centers, backend), expected)
    if alone is not None:
        assert (alone[20:] >= 0).mean() > 0.9
        assert metric.spherical or (alone[:20] < 0).all()
        assert np.array_equal(alone[alone >= 0], expected[alone >= 0])
