"""Words of a batch's streams, made many at once, are those that NumPy makes one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmeans_xp import children as module
from kmeans_xp.children import Children
from kmeans_xp.seeding import batch_seeds

SOME = np.array([0, 1, 2, 77, 4095, 4096, 65_535, 10**6, 2**31, 2**32 - 1])


def one_by_one(children, which, n_words):
    return np.stack([np.random.PCG64(children[b]).random_raw(n_words) for b in which])


number = st.integers(0, 1 << 300)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(number, st.lists(number, min_size=1, max_size=6)),
    st.lists(st.integers(0, 1 << 80), max_size=6),
    st.sampled_from([4, 4, 5, 8, 13]),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4),
)
def test_words_of_any_root(entropy, key, size, which):
    root = np.random.SeedSequence(entropy, spawn_key=tuple(key), pool_size=size)
    children, which = Children(root, 1 << 32), np.array(which)
    assert children._words_before() is not None
    assert np.array_equal(children.words(which, 3), one_by_one(children, which, 3))


def test_children_are_those_that_spawn_makes(monkeypatch):
    monkeypatch.setattr(module, "_TOGETHER", 3)
    root = np.random.SeedSequence(7, spawn_key=(3,))
    words = batch_seeds(root, 8).words(np.arange(8), 40)
    expected = [np.random.PCG64(child).random_raw(40) for child in root.spawn(8)]
    assert np.array_equal(words, expected)


@pytest.mark.parametrize("entropy", [np.array([1, 2**31], np.uint32), range(3), None, 2**130])
def test_whatever_the_entropy_is(entropy):
    children = Children(np.random.SeedSequence(entropy), 1 << 32)
    assert np.array_equal(children.words(SOME, 5), one_by_one(children, SOME, 5))
