"""The pass in 16-bit integers: what it claims of scores, and the same bits with and without it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmeans_xp import fingerprint, kmeans, predict
from kmeans_xp.assignment import choose_frame, prepare
from kmeans_xp.backends.records import Frame, Task, Tile

pytest.importorskip("numba")

from kmeans_xp.backends import cpu_numba
from kmeans_xp.backends import numba_integer as integer
from kmeans_xp.backends import numba_vectors as vectors
from kmeans_xp.backends.jit import frozen, jit

pytestmark = pytest.mark.skipif(
    not vectors.available(), reason="no vector instructions for 16-bit integers here"
)


@jit
def _panel_scores(rows, pairs, centers, blocks, bias, found):
    panel = np.empty(-(-pairs // vectors.LANES) * vectors.LANES * vectors.ROWS, np.int32)
    vectors.turn(vectors.address(rows), pairs, -(-pairs // vectors.LANES), vectors.address(panel))
    vectors.best_two(
        vectors.address(panel),
        pairs,
        vectors.address(centers),
        blocks,
        vectors.address(bias),
        vectors.address(found),
    )


def check_panels():
    """Scores of panels against NumPy's integers; also run by `test_narrow_vectors`."""
    rng = np.random.default_rng(0)
    for pairs, blocks in [(1, 1), (3, 2), (8, 1), (16, 3), (17, 2), (40, 5)]:
        n_clusters = blocks * vectors.CENTERS
        rows = rng.integers(-3000, 3000, (vectors.ROWS, 2 * pairs)).astype(np.int16)
        points = rng.integers(-3000, 3000, (n_clusters, 2 * pairs)).astype(np.int16)
        points[-1] = points[0]  # the lower index wins
        bias = rng.integers(-(2**30), 2**28, n_clusters).astype(np.int32)
        bias[-1] = bias[0]
        memory = np.zeros(rows.size // 2 + vectors.LANES, np.int32)
        memory[: rows.size // 2] = rows.view(np.int32).ravel()
        packed = points.view(np.int32).reshape(blocks, vectors.CENTERS, pairs).transpose(0, 2, 1)
        found = np.full(3 * vectors.ROWS, -(2**31), np.int32)
        _panel_scores(memory, pairs, np.ravel(packed), blocks, bias, found)
        best, second, index = found.reshape(3, -1)
        scores = rows.astype(np.int64) @ points.T.astype(np.int64) + bias
        order = np.sort(scores, axis=1)
        np.testing.assert_array_equal(index, scores.argmax(axis=1))
        np.testing.assert_array_equal(best, order[:, -1])
        np.testing.assert_array_equal(second, order[:, -2])


def test_panels():
    check_panels()


@pytest.mark.skipif(vectors.LANES == 8, reason="the vectors here are the narrow ones")
def test_narrow_vectors(tmp_path):
    """The code for AVX2, on a processor that has more."""
    narrow = "+avx,+avx2,+fma,+sse4.2,+popcnt,+bmi,+bmi2"
    env = dict(
        os.environ,
        NUMBA_CPU_NAME="haswell",
        NUMBA_CPU_FEATURES=narrow,
        NUMBA_CACHE_DIR=str(tmp_path),
    )
    code = "from tests import test_integer_pass as t; assert t.vectors.LANES == 8; t.check_panels()"
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=300)


def _exact(x, frame):
    """Rows as the pass frames them, in float64."""
    return (x * x.dtype.type(frame.scale) - frame.center.astype(x.dtype)).astype(np.float64)


@settings(max_examples=40, deadline=None)
@given(
    n_features=st.sampled_from([1, 2, 5, 16, 33, 64, 65, 130]),
    n_clusters=st.sampled_from([2, 7, 12, 13, 40]),
    spread=st.sampled_from([1e-12, 1.0, 1e9]),
    offset=st.sampled_from([0.0, 1e3]),
    wild=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 10_000),
)
def test_scores_keep_their_promise(n_features, n_clusters, spread, offset, wild, dtype, seed):
    """A score is not above the exact one, a lead not above the exact lead."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((300, n_features)) * spread + offset * spread).astype(dtype)
    if wild:
        x[::17] *= rng.choice([30, 1e6], (18, 1)).astype(dtype)
    frame = choose_frame(x[::3])
    centers = prepare(x[rng.permutation(300)[:n_clusters]].copy(), frame)
    tile = integer.integer_tile(centers.tile, frame)
    assert tile is not None
    framed = _exact(x, frame)
    norms = (np.sqrt((framed**2).sum(axis=1)) * (1 + 1e-6)).astype(np.float32)
    best, score, lead = np.empty(300, np.int32), *np.empty((2, 300), np.float32)
    view = x.dtype.type(frame.scale), frame.center.astype(dtype)
    integer.integer_top_two(frozen(x), view, tile.arguments(x.dtype), norms, best, score, lead)
    exact = framed @ centers.tile.centers.T.astype(np.float64) + centers.tile.bias
    sure = lead > 0
    assert sure.mean() > 0.5 or n_features == 1
    at = np.flatnonzero(sure)
    mine = exact[at, best[at]]
    exact[at, best[at]] = -np.inf
    gap = mine - exact[at].max(axis=1)
    tolerance = 1e-6 * np.abs(gap) + 1e-12 * np.abs(mine)  # one rounding to float32
    assert (score[at] <= mine + 1e-6 * np.abs(mine)).all()
    assert (lead[at] <= gap + tolerance).all()


def _fits(monkeypatch, x, init, **arguments):
    """Fingerprints of a fit without the pass in integers and of one with it wherever it can be."""
    for least in ((1 << 60,) * 2, (0, 0)):
        monkeypatch.setattr(cpu_numba, "_LEAST_PRODUCTS", least)
        monkeypatch.setattr(cpu_numba, "_LEAST_CENTERS", 2)
        monkeypatch.setattr(cpu_numba, "_LEAST_ROWS", 1)
        yield fingerprint(kmeans(x, len(init), init=init, tol=0, **arguments))


CASES = [
    ("uniform", 2000, 16, 24),
    ("blobs", 2000, 7, 12),
    ("lattice", 1500, 3, 9),
    ("duplicates", 1500, 34, 11),
    ("heavy", 1500, 12, 30),
    ("offset", 1500, 8, 20),
]


def _data(kind, n, n_features, dtype):
    rng = np.random.default_rng(3)
    if kind == "uniform":
        x = rng.random((n, n_features))
    elif kind == "blobs":
        x = rng.standard_normal((n, n_features)) + 9 * rng.integers(0, 3, (n, 1))
    elif kind == "lattice":
        x = rng.integers(-3, 4, (n, n_features))
    elif kind == "duplicates":
        x = rng.standard_normal((60, n_features))[rng.integers(0, 60, n)]
    elif kind == "heavy":
        x = rng.standard_cauchy((n, n_features))
    else:
        x = rng.standard_normal((n, n_features)) + 1e5
    return x.astype(dtype)


@pytest.mark.parametrize("algorithm", ["lloyd", "hamerly"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("kind", "n", "n_features", "n_clusters"), CASES)
def test_same_bits(monkeypatch, kind, n, n_features, n_clusters, dtype, algorithm):
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    x = _data(kind, n, n_features, dtype)
    init = x[:: n // n_clusters][:n_clusters].copy()
    plain, fast = _fits(monkeypatch, x, init, max_iter=12, algorithm=algorithm)
    assert plain == fast


def test_same_bits_of_directions(monkeypatch):
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    x = _data("blobs", 3000, 20, np.float32)
    for metric in ("euclidean", "cosine"):
        plain, fast = _fits(monkeypatch, x, x[:30].copy(), max_iter=5, metric=metric)
        assert plain == fast


def test_same_predictions(monkeypatch):
    monkeypatch.setenv("KMEANS_XP_NUMBA", "1")
    x = _data("blobs", 3000, 20, np.float32)
    fit = kmeans(x, 40, random_state=0)
    np.testing.assert_array_equal(predict(x, fit.centroids), fit.labels)


def _task(x, n_clusters):
    frame = choose_frame(x[:500])
    centers = prepare(x[:n_clusters].copy(), frame)
    norms = np.sqrt((_exact(x, frame) ** 2).sum(axis=1)).astype(np.float32) * np.float32(1.001)
    terms = (centers.slope, centers.offset, centers.limit, 0.0, 1.0, 0.0, np.inf)
    labels = np.full(len(x), -1, np.int32)
    return Task(frame, centers.tile, centers.first, norms, labels, terms, None)


def test_the_pass_is_taken_and_leaves_few_rows():
    x = _data("uniform", 4096, 16, np.float32)
    task = _task(x, 64)
    swept = cpu_numba.sweep(x, slice(0, len(x)), task, None)
    framed = _exact(x, task.frame)
    scores = framed @ task.tile.centers.T.astype(np.float64) + task.tile.bias
    decided = np.setdiff1d(np.arange(len(x)), swept.left)
    assert len(decided) > 0.99 * len(x)
    np.testing.assert_array_equal(task.labels[decided], scores.argmax(axis=1)[decided])


def _side_by_side(n_rows):
    """Rows that the pass in integers cannot tell apart."""
    x = _data("uniform", n_rows, 16, np.float32)
    x[:, 1:] = 0.5
    x[:, 0] += np.float32(1e-5) * np.arange(n_rows, dtype=np.float32)
    x[:64] = x[0]
    x[:64, 0] += np.arange(64, dtype=np.float32) * np.float32(1e-6)
    return x


def _watched(monkeypatch):
    """How many rows the passes in integers look at, call by call."""
    seen, sweep, top_two = [], integer.integer_sweep, integer.integer_top_two

    def watched_sweep(x, lo, hi, *rest):
        seen.append(hi - lo)
        sweep(x, lo, hi, *rest)

    def watched_top_two(x, *rest):
        seen.append(len(x))
        top_two(x, *rest)

    monkeypatch.setattr(cpu_numba, "integer_sweep", watched_sweep)
    monkeypatch.setattr(cpu_numba, "integer_top_two", watched_top_two)
    return seen


@pytest.mark.parametrize("listed", [False, True])
def test_a_pass_that_leaves_many_rows_is_not_repeated(monkeypatch, listed):
    x = _side_by_side(4096)
    seen = _watched(monkeypatch)
    rows = np.arange(4096)[::-1].copy() if listed else slice(0, 4096)
    task = _task(x, 64)
    swept = cpu_numba.sweep(x, rows, task, None)
    assert seen == [512]
    found = cpu_numba.nearest(x, task.frame, task.tile, task.norms, task.terms[:3])
    assert seen == [512, 512]
    sure = np.setdiff1d(np.arange(4096), swept.left)
    assert found[3][sure].all()
    np.testing.assert_array_equal(found[0][sure], task.labels[sure])


def test_what_a_sweep_answers_does_not_depend_on_sweeps_before():
    x = np.concatenate([_data("uniform", 4096, 16, np.float32), _side_by_side(4096)])
    x[:500:2] = x[4096 : 4096 + 250]  # the frame and the centroids are of both kinds
    answers = []
    for order in ((0, 4096), (4096, 0)):
        bounds = np.zeros((2, len(x)), np.float32)
        task = replace(_task(x, 64), bounds=tuple(bounds))
        found = {lo: cpu_numba.sweep(x, slice(lo, lo + 4096), task, None).left for lo in order}
        answers.append((found[0], found[4096], *bounds))
    for one, other in zip(*answers, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_scale_no_integers():
    tile = Tile(np.ones((3, 4), np.float32), np.zeros(3, np.float32))
    assert integer.integer_tile(tile, Frame(1.0, np.zeros(4, np.float32))) is None
    for zeros in (tile.centers * 0, tile.centers * np.float32(1e30)):
        made = Tile(zeros, tile.bias)
        assert integer.integer_tile(made, Frame(1.0, np.zeros(4, np.float32), 1.0, 1.0)) is None


def test_centroids_out_of_reach_take_no_part():
    x = _data("uniform", 2048, 16, np.float32)
    centroids = x[:40].copy()
    centroids[5] = 1e6
    frame = choose_frame(x[:500])
    centers = prepare(centroids, frame)
    assert (centers.tile.bias < -1e37).sum() == 1
    assert integer.integer_tile(centers.tile, frame).bias[5] == -(2**31)
