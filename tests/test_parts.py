"""Parts of the data in places of their own: nothing but centroids in and exact sums out."""

from __future__ import annotations

import pickle
from fractions import Fraction

import numpy as np
import pytest

from kmeans_xp.backends import backend_for
from kmeans_xp.blocks.common import Common, Far
from kmeans_xp.blocks.directions import directions
from kmeans_xp.blocks.memory import MemoryBlocks
from kmeans_xp.blocks.part import Part
from kmeans_xp.exact.dyadic import Dyadic
from kmeans_xp.exact.metric import METRICS
from tests import datasets
from tests.datasets import blobs
from tests.helpers import check

BOUNDS = [(0, 130), (130, 131), (131, 400)]


def whole_and_parts(metric: str, weighted: bool) -> tuple[MemoryBlocks, list[Part]]:
    """The data as one, and parts that know of the whole only what a pickle told them."""
    x = blobs(3, 400, 5, 6).astype(np.float32)
    if metric == "cosine":
        x = directions(x, x.dtype)
    w = np.arange(400, dtype=np.float32) % 7 if weighted else None
    whole = MemoryBlocks(x, w, x.dtype, x, METRICS[metric])
    parts = []
    for lo, hi in BOUNDS:
        common: Common = pickle.loads(pickle.dumps(whole.common))
        rows = x[lo:hi].copy()
        part_w = None if w is None else w[lo:hi].copy()
        parts.append(Part(common, backend_for(rows), hi - lo, part_w, rows))
    return whole, parts


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("ahead", [False, True])
def test_differences_of_parts_add_up_to_the_sums_of_the_whole(
    metric: str, weighted: bool, ahead: bool
) -> None:
    whole, parts = whole_and_parts(metric, weighted)
    handle = whole.place(whole.rows(np.arange(12)))
    sums = whole.common.cluster_sums(12)
    left_out = 0
    for part in parts:
        part.algorithm = "hamerly"
    for _ in range(25):
        changed = 0
        for part in parts:
            centers = part.prepare(handle)
            if ahead and not part.begin(handle, centers):
                left_out += 1
                continue
            difference = whole.common.cluster_sums(12)
            changed += part.relabel(handle, centers, difference)[0]
            sums.merge(difference)
        step = whole.step(handle)
        assert changed == step.changed
        assert np.array_equal(whole.means(sums, handle), step.centroids)
        handle = step.centroids
    labels = np.concatenate([part.labels for part in parts])
    assert np.array_equal(labels, whole.labels())
    squares = sum((part.squares(weighted) for part in parts), Dyadic())
    assert Fraction(*squares.as_ratio()) == Fraction(*whole.squares(weighted).as_ratio())
    assert left_out > 0 or not ahead


def test_the_farthest_rows_of_parts_are_those_of_the_whole() -> None:
    whole, parts = whole_and_parts("euclidean", True)
    handle = whole.place(whole.rows(np.arange(4)))
    whole.settle(handle)
    for part in parts:
        part.relabel(handle, part.prepare(handle), None)
    found = Far.best(
        [part.farthest(handle, 9).moved(lo) for part, (lo, _) in zip(parts, BOUNDS, strict=True)],
        9,
    )
    expected = whole.farthest(handle, 9)
    assert len(expected.rows) == 9
    assert np.array_equal(found.rows, expected.rows)
    assert np.array_equal(found.values, expected.values)
    assert np.array_equal(found.labels, expected.labels)


def test_labels_that_were_handed_over_are_left_alone() -> None:
    whole, _ = whole_and_parts("euclidean", False)
    whole.assign(whole.place(whole.rows(np.arange(3))))
    first = whole.labels()
    kept = first.copy()
    whole.reset()
    whole.settle(whole.place(whole.rows(np.arange(3, 6))))
    assert np.array_equal(first, kept)


def test_sums_may_be_asked_for_once_labels_are_there() -> None:
    whole, _ = whole_and_parts("euclidean", False)
    whole.algorithm = "hamerly"
    handle = whole.place(whole.rows(np.arange(8)))
    whole.settle(handle)
    expected = whole.inertia(handle)
    whole.reset()
    whole.assign(handle)
    whole.settle(handle)
    assert whole.inertia(handle) == expected


def test_wide_weights_of_narrow_rows() -> None:
    x, w = datasets.make("blobs", "float32"), datasets.weights("float64", 60)
    check(x, 5, init="random", sample_weight=w, random_state=3, max_iter=2)
