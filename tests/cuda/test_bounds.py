"""Iterations that skip rows by bounds: the bits of plain ones, and bounds that hold."""

from __future__ import annotations

import numpy as np
import pytest

from kmeans_xp import kmeans
from kmeans_xp.backends.cuda import DeviceLloyd
from kmeans_xp.backends.cuda_bounds import BYTES_A_ROW, Choice, most_listed
from kmeans_xp.result import fingerprint

from .checks import Random
from .test_loop import blobs

SHAPES = [(1, 2), (2, 17), (3, 64), (16, 17), (33, 2), (64, 64), (128, 256), (200, 17), (800, 9)]


def run(cp, X, C, algorithm, *, weights=None, limit=40, look=None, **options):
    """Iterations to the end: their number, labels, centroids and sums, and the rows assigned."""
    given = None if weights is None else cp.asarray(weights)
    loop = DeviceLloyd(cp.asarray(X), given, algorithm=algorithm, **options)
    handle, states, changed = loop.start(C), [], 1
    while changed and len(states) < limit:
        state = loop.step(handle)
        if look is not None:
            look(loop, loop.fetch(handle))
        if state.n_empty:  # the host gives the empty clusters rows of the data
            new = loop.fetch(state.centroids)
            empty = (new == loop.fetch(handle)).all(axis=1)
            new[empty] = X[: empty.sum()].astype(new.dtype) + new.dtype.type(len(states))
            handle, changed = loop.upload(new), 1
        else:
            handle, changed = state.centroids, state.changed
        states.append(state)
    loop.settle(handle)
    sums = [total.tolist() for total in totals(loop.cluster_sums())]
    bits = len(states), loop.labels().get().tobytes(), loop.fetch(handle).tobytes(), sums
    counts = [(s.changed, s.n_empty) for s in states]
    return (*bits, counts), states


def totals(sums):
    """The exact sums as integers: values may be carried from level to level in many ways."""
    for levels in (sums[0], sums[2]):
        shifts = 32 * np.arange(len(levels) - 1, -1, -1)
        yield sum(level.astype(object) << int(by) for level, by in zip(levels, shifts, strict=True))


def same(cp, X, C, **options):
    """Plain iterations and bounded ones give the same; returns what the latter say."""
    want, _ = run(cp, X, C, "lloyd", **options)
    found, states = run(cp, X, C, "hamerly", **options)
    assert found == want
    assert all(s.details["listed"] == (i > 0) for i, s in enumerate(states) if not s.n_empty)
    assert states[0].details["n_todo"] == len(X)
    return states


def listed(states, n):
    return [s.details["n_todo"] / n for s in states if s.details["listed"]]


def clustered(n, d, k, seed=0):
    """Blobs far apart, and k of the rows."""
    X = blobs(n, d, k=k, seed=seed, spread=6.0)
    return X, X[Random(seed + 1).choice(n, k)]


@pytest.mark.parametrize(("D", "K"), SHAPES)
def test_the_bits_of_plain_iterations(cp, D, K):
    n = 600 if K > 64 else 250
    X = blobs(n, D)
    same(cp, X, X[Random(1).choice(n, K)], limit=5)


def test_sums_of_what_changed_are_those_of_all_rows(cp):
    X, C = clustered(500, 9, 7)
    w = Random(5).random(500)
    want, states = run(cp, X, C, "lloyd", weights=w)
    assert any(s.details["delta"] for s in states)
    found, states = run(cp, X, C, "hamerly", weights=w, testing=frozenset({"sums-anew"}))
    assert not any(s.details["delta"] for s in states)
    assert found == want


@pytest.mark.parametrize("engine", ["auto", "mma"])
def test_clustered_rows_are_skipped(cp, engine):
    X, C = clustered(900, 24, 12)
    states = same(cp, X, C, engine=engine)
    assert min(listed(states, len(X))) < 0.2


@pytest.mark.parametrize(
    "kind", ["integers", "repeated", "float64", "float16", "offset", "outlier"]
)
def test_hard_data(cp, kind):
    rng = Random(2)
    X = blobs(500, 12)
    X = {
        "integers": lambda: rng.integers(0, 4, (500, 3)).astype(np.float32),
        "repeated": lambda: X[rng.integers(0, 40, 500)],
        "float64": lambda: X.astype(np.float64) * np.pi,
        "float16": lambda: X.astype(np.float16),
        "offset": lambda: X + np.float32(1e4),
        "outlier": lambda: np.vstack([X, np.full((1, 12), 1e20, np.float32)]),
    }[kind]()
    C = np.unique(X, axis=0)
    C = C[Random(3).choice(len(C), 16)]
    same(cp, X, C.astype(np.float64 if kind == "float64" else np.float32), limit=12)


@pytest.mark.parametrize("weights", ["real", "integers with zeros"])
def test_weights(cp, weights):
    X, C = clustered(500, 9, 7)
    w = Random(5).random(500)
    same(cp, X, C, weights=w if weights == "real" else np.floor(3 * w))


def test_empty_clusters_and_equal_centroids(cp):
    X, C = clustered(400, 12, 8)
    C = np.vstack([C, C[:2], np.full((1, 12), 1e6, np.float32)])
    states = same(cp, X, C, limit=5)
    assert states[0].n_empty > 1
    assert not states[1].details["listed"]  # new centroids of the host: no bounds


def test_all_rows_are_skipped_once_nothing_moves(cp):
    X = np.repeat(4.0 * np.arange(8, dtype=np.float32), 50)[:, None] * np.ones((1, 5), np.float32)
    states = same(cp, X, X[::50].copy())
    assert listed(states, len(X)) == [0.0]


def test_a_start_anew_forgets_the_bounds(cp):
    X, C = clustered(400, 12, 8)
    loop = DeviceLloyd(cp.asarray(X), algorithm="hamerly")
    for start in (C, C[::-1].copy(), C[:5].copy()):
        handle = loop.start(start)
        state = loop.step(handle)
        assert (state.changed, state.details["n_todo"]) == (len(X), len(X))
        loop.step(state.centroids)


def hold(loop, C, X):
    """What is left of the margins on the device is not more than in float64; returns both."""
    kept, labels = loop._iteration.bounds, loop.labels().get()
    left = kept.values.get().astype(np.float64) - kept.passed.get()[labels]
    points = (a.astype(np.float64) * loop._rows.scale for a in (X, C))
    rows, centres = points
    distances = np.sqrt(((rows[:, None] - centres[None]) ** 2).sum(axis=2))
    own = distances[np.arange(len(X)), labels]
    distances[np.arange(len(X)), labels] = np.inf
    margins = distances.min(axis=1) - own
    assert (left <= margins + 1e-10).all()
    return left, margins


@pytest.mark.parametrize("engine", ["auto", "mma"])
@pytest.mark.parametrize("kind", ["blobs", "integers", "far centroid", "wide"])
def test_bounds_hold(cp, kind, engine):
    X = blobs(400, 160 if kind == "wide" else 16)
    if kind == "integers":
        X = np.rint(2 * X)
    C = X[Random(1).choice(400, 20)].copy()
    C[7] += np.float32(40.0) * (kind == "far centroid")
    loop = DeviceLloyd(cp.asarray(X), algorithm="hamerly", engine=engine)
    loop.settle(loop.start(C))
    left, margins = hold(loop, C, X)
    known = left > -np.inf
    assert known.mean() > 0.8
    assert (margins - left)[known].max() < 0.05 * loop._rows.limit


def test_bounds_hold_after_centroids_moved(cp):
    """The iteration that a step leaves queued belongs to the centroids that the step made."""
    X, C = clustered(600, 16, 10)
    kept = []

    def look(loop, centroids):
        if loop._ahead is not None:
            left, _ = hold(loop, loop.fetch(loop._ahead.source), X)
            kept.append((left > 0).mean())

    run(cp, X, C, "hamerly", look=look)
    assert len(kept) > 3
    assert min(kept) > 0.5


def test_bounds_that_are_wrong_would_show(cp):
    """A test of the tests: rows that should be listed and are not keep a wrong label."""
    X, C = clustered(600, 16, 10)
    want, _ = run(cp, X, C, "lloyd")

    def spoil(loop, _):
        if loop._iteration.bounds is not None:
            loop._iteration.bounds.values.fill(1e30)

    assert run(cp, X, C, "hamerly", look=spoil)[0] != want


def test_without_memory_for_bounds(cp, monkeypatch):
    X, C = clustered(400, 12, 8)
    want, _ = run(cp, X, C, "lloyd")
    wanted = 400 * (4 * 32 + 32)
    for limit, bounds in ((wanted + 400 * BYTES_A_ROW, True), (wanted, False)):
        found, states = run(cp, X, C, "hamerly", memory_limit=limit)
        assert found == want
        assert any(s.details["listed"] for s in states) == bounds

    def full(*args, **options):
        raise cp.cuda.memory.OutOfMemoryError(1, 1, 1)

    monkeypatch.setattr("kmeans_xp.backends.cuda_iteration.RowBounds", full)
    found, states = run(cp, X, C, "hamerly")
    assert found == want
    assert not any(s.details["listed"] for s in states)


@pytest.mark.parametrize("algorithm", ["auto", "lloyd", "hamerly", "elkan"])
@pytest.mark.parametrize("empty", [False, True])
def test_fits(cp, monkeypatch, algorithm, empty):
    X, C = clustered(600, 8, 12)
    C[5] = 1e5 if empty else C[5]
    seen, real = [], DeviceLloyd.step

    def step(self, handle):
        state = real(self, handle)
        seen.append(state.details["listed"])
        return state

    monkeypatch.setattr(DeviceLloyd, "step", step)
    monkeypatch.setattr("kmeans_xp.backends.cuda_bounds._FIRST_TRY", 1)
    options = {"init": C, "tol": 0.0, "algorithm": algorithm}
    assert fingerprint(kmeans(cp.asarray(X), 12, **options)) == fingerprint(
        kmeans(X, 12, **options)
    )
    assert any(seen) == (algorithm != "lloyd")


# ---- the choice


def follow(choice, changes, part):
    """Iterations that change these parts of 1000 rows; with bounds, `part` of the rows is left."""
    kept, before = [], False
    for changed in changes:
        bounded = choice.bounded
        n_listed = int(1000 * part) if bounded and before else None
        choice.saw(int(1000 * changed), n_listed, bounded=bounded)
        kept.append(bounded)
        before = bounded
    return kept


def test_auto_keeps_bounds_once_few_rows_change_and_while_they_settle_rows():
    assert follow(Choice("auto", 1000, 0.6), [0.5] * 20, 0.1) == [False] * 20
    kept = follow(Choice("auto", 1000, 0.6), [0.5] * 5 + [0.01] * 15, 0.1)
    assert kept == [False] * 6 + [True] * 14


def test_auto_gives_up_bounds_that_settle_too_little_and_waits_longer_each_time():
    kept = follow(Choice("auto", 1000, 0.6), [0.01] * 200, 0.9)
    tries = np.flatnonzero(np.diff(np.array(kept, int)) == 1)
    assert list(np.diff(tries)) == sorted(np.diff(tries))
    assert sum(kept) <= 0.1 * len(kept) + 2


def test_auto_gives_up_bounds_that_are_lost_each_time():
    choice = Choice("auto", 1000, 0.6)
    kept = []
    for _ in range(20):
        kept.append(choice.bounded)
        choice.saw(1, None, bounded=choice.bounded)
    assert sum(kept) <= 5


@pytest.mark.parametrize("algorithm", ["hamerly", "elkan", "lloyd"])
def test_others_do_as_they_are_told(algorithm):
    kept = follow(Choice(algorithm, 1000, 0.6), [0.5, 0.01] * 9, 0.99)
    assert set(kept) == {algorithm != "lloyd"}


def test_lists_pay_up_to_a_part_that_grows_with_the_pass():
    parts = [most_listed(Dp, K) for Dp, K in ((32, 2), (32, 64), (64, 256), (128, 1024))]
    assert parts == sorted(parts)
    assert 0.5 < parts[0] < parts[-1] < 0.85
