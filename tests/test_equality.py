"""Two results are equal if they have the same bits, and then they hash alike."""

from dataclasses import replace

import numpy as np
import pytest

from kmeans_xp import kmeans, select_k
from kmeans_xp.bisecting import bisect

X = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)


def single(seed):
    return kmeans(X, 4, random_state=seed)


def batch(seed):
    return kmeans(X.reshape(4, 15, 3), 2, random_state=seed)


def states(seed):
    seen = []
    kmeans(X, 4, random_state=seed, callback=lambda state: seen.append(replace(state, seconds=0.0)))
    return seen[0]


def chosen(seed):
    found = select_k(X, (1, 2, 3), random_state=seed)
    for row in found.rows:
        row["seconds"] = 0.0
    return found


def tree(seed):
    return bisect(X, 3, strategy="biggest_inertia", random_state=seed)


@pytest.mark.parametrize("make", [single, batch, states, chosen, tree])
def test_same_bits_are_equal(make):
    one, other, different = make(0), make(0), make(1)
    assert one == other
    assert hash(one) == hash(other)
    assert one != different
    assert one != "another thing"
    assert len({one, other, different}) == 2


@pytest.mark.parametrize("name", ["labels", "centroids", "inertia", "n_iter", "converged"])
def test_every_value_counts(name):
    result = single(0)
    value = getattr(result, name)
    if isinstance(value, np.ndarray):
        other = value.copy()
        other.flat[-1] += 1
        changed = [other, value[1:], value.astype(np.float64), None]
    else:
        changed = [not value if isinstance(value, bool) else value + 1]
    for value in changed:
        assert replace(result, **{name: value}) != result


def test_the_library_does_not_count():
    torch = pytest.importorskip("torch")
    other = kmeans(torch.asarray(X), 4, random_state=0)
    assert other == single(0)
    assert hash(other) == hash(single(0))
