"""Pruned iterations against plain ones: the same bits, and bounds that bound."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmeans_xp import fingerprint, kmeans
from kmeans_xp.assignment import prepare
from kmeans_xp.backends.records import Frame
from kmeans_xp.blocks.memory import MemoryBlocks
from kmeans_xp.pruning import Bounds

from .helpers import environment


def words(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    raw = np.random.PCG64(seed).random_raw(int(np.prod(shape)))
    return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)


def make(kind: str, seed: int, n: int, d: int, k: int) -> np.ndarray:
    x = words(seed, (n, d))
    if kind == "clusters":
        return x + 6 * words(seed + 1, (k, d))[np.arange(n) % k]
    if kind == "duplicates":
        return x[np.arange(n) % max(2, n // 4)]
    if kind == "integers":
        return np.floor(x * 4)
    if kind == "outlier":
        x[0] = 1e6
    return x


KINDS = ["uniform", "clusters", "duplicates", "integers", "outlier"]


@pytest.mark.parametrize("numba", ["0", "1"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 10**6),
    n=st.integers(20, 300),
    d=st.integers(1, 6),
    k=st.integers(2, 18),
)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_pruned_has_the_bits_of_plain(
    numba: str, dtype: type, kind: str, seed: int, n: int, d: int, k: int
) -> None:
    if numba == "1":
        pytest.importorskip("numba")
    x = make(kind, seed, n, d, k).astype(dtype)
    init = x[np.arange(k) % n]
    found = set()
    with environment(numba=numba), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer clusters than asked for is fine here
        for algorithm in ("lloyd", "hamerly", "auto"):
            result = kmeans(x, k, init=init, tol=0, max_iter=40, algorithm=algorithm)
            found.add(fingerprint(result))
    assert len(found) == 1


@pytest.mark.parametrize("numba", ["0", "1"])
@pytest.mark.parametrize("kind", ["uniform", "clusters", "outlier"])
def test_bounds_hold_and_settle_rows(numba: str, kind: str) -> None:
    if numba == "1":
        pytest.importorskip("numba")
    x = make(kind, 5, 2000, 4, 20).astype(np.float32)
    with environment(numba=numba):
        blocks = MemoryBlocks(x, None, np.dtype(np.float32), x)
        blocks.algorithm = "hamerly"
        handle = blocks.place(x[:20])
        with blocks.session():
            for _ in range(6):
                previous = handle
                handle = blocks.step(handle).centroids
    bounds, labels = blocks.part.bounds, blocks.part.labels
    frame = blocks.common.frame
    rows = x.astype(np.float64) * frame.scale - frame.center
    centers = previous.astype(np.float64) * frame.scale - frame.center
    distances = np.sqrt(np.square(rows[:, None] - centers[None]).sum(axis=2))
    own = distances[np.arange(len(x)), labels]
    distances[np.arange(len(x)), labels] = np.inf
    assert (bounds.upper >= own).all()
    assert (bounds.lower <= distances.min(axis=1)).all()
    assert (bounds.upper < bounds.lower).mean() > 0.5


@pytest.mark.parametrize("still", [0, 15, 20])
def test_what_bounds_give_way_for(still: int) -> None:
    before = 4 * words(1, (20, 3))
    after = before + words(2, (20, 3))
    after[:still] = before[:still]
    frame = Frame(1.0, np.zeros(3, dtype=np.float32))
    labels = (np.arange(400) % 20).astype(np.int32)
    bounds = Bounds(400)
    assert bounds.follow(before, prepare(before, frame), labels) is None
    bounds.upper[:] = 0.5
    drift = bounds.follow(after, prepare(after, frame), labels)
    assert drift is not None
    moved = np.sqrt(np.square(after - before).sum(axis=1))
    apart = np.sqrt(np.square(after[:, None] - after).sum(axis=2))
    np.fill_diagonal(apart, np.inf)
    assert (drift.own >= moved).all() and (drift.own[:still] == 0).all()
    assert (drift.half <= apart.min(axis=1) / 2).all()
    for k in range(20):
        followed = moved <= drift.others[k]
        followed[k] = True
        assert (followed | (apart[k] >= drift.beyond[k])).all()
    assert still == 20 or (drift.beyond < apart.max()).any()


def looks(spread: float, n_rows: int = 400) -> list[bool]:
    """In which of ten iterations the distances between 20 centroids were looked at."""
    frame = Frame(1.0, np.zeros(3, dtype=np.float32))
    labels = (np.arange(n_rows) % 20).astype(np.int32)
    bounds, at = Bounds(n_rows), spread * words(1, (20, 3))
    bounds.follow(at, prepare(at, frame), labels)
    looked = []
    for turn in range(10):
        bounds.upper[:] = 0.5
        at = at + 0.01 * words(2 + turn, (20, 3))
        centers = prepare(at, frame)
        bounds.follow(at, centers, labels)
        looked.append("between" in vars(centers))
    return looked


def test_centroids_are_compared_where_that_tells_something() -> None:
    assert all(looks(1000.0))
    crowded = looks(0.1)
    assert crowded == [True, False, True, False, False, False, True, False, False, False]
    assert not any(looks(1000.0, n_rows=6))  # more pairs than is worth it for so few rows
