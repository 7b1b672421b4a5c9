"""The integers behind the starts."""

from __future__ import annotations

import inspect
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kmeans_xp
from kmeans_xp import kmeans, kmeans_plusplus, seeding
from kmeans_xp.blocks.compiled_potential import CompiledPotential
from kmeans_xp.blocks.memory import MemoryBlocks
from kmeans_xp.exact.potentials import integer_weights, rounded_products, weight_scale
from kmeans_xp.seeding import RowSampler, Words, _scaled, sample_rows

from . import reference
from .helpers import environment


@given(st.integers(1, 2**200))
@settings(deadline=None)
def test_below_uses_as_many_words_as_the_total_needs(total: int) -> None:
    stream = np.random.PCG64(5)
    count = max(1, -(-total.bit_length() // 64))
    bits = 0
    for _ in range(count):
        bits = (bits << 64) | int(stream.random_raw())
    words = Words(5)
    assert words.below(total) == (bits * total) >> (64 * count)
    assert words.word() == int(stream.random_raw())


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5), st.integers(1, 2**40))
def test_scaled_words(values: list[int], n: int) -> None:
    got = _scaled(np.asarray(values, dtype=np.uint64), n)
    assert got.tolist() == [(u * n) >> 64 for u in values]


@pytest.mark.parametrize(("n_rows", "size"), [(50, 7), (50, 25), (50, 44), (50, 49), (9000, 4000)])
def test_sample_rows_is_the_rule(n_rows: int, size: int) -> None:
    stream = np.random.PCG64(3)
    few = min(size, n_rows - size)
    drawn: list[int] = []
    while len(drawn) < few:
        row = (int(stream.random_raw()) * n_rows) >> 64
        if row not in drawn:
            drawn.append(row)
    expected = sorted(drawn) if few == size else sorted(set(range(n_rows)) - set(drawn))
    words = Words(3)
    assert sample_rows(n_rows, size, words).tolist() == expected
    assert words.word() == int(stream.random_raw())


def test_rows_without_weight_come_last() -> None:
    w = np.zeros(9000)
    w[[5, 4100, 8999]] = [1e-3, 2.0, 1.0]
    sampler, words = RowSampler(len(w), w), Words(0)
    rows = []
    for _ in range(40):
        rows.append(sampler.draw(words))
        sampler.remove(rows[-1])
    assert sorted(rows[:3]) == [5, 4100, 8999]
    assert len(set(rows)) == 40


KINDS = ["uniform", "offset", "lattice", "groups", "huge", "tiny", "underflow"]


def potentials_data(kind: str, dtype: type, n_features: int) -> np.ndarray:
    x = np.random.PCG64(4).random_raw(600 * n_features).astype(np.float64) * 2.0**-64
    x = x.reshape(600, n_features)
    odd = np.arange(600)[:, None] % 2
    return {
        "uniform": x,
        "offset": x + 1e5,
        "lattice": np.floor(x * 70),
        "groups": x * 0.1 + np.where(odd, 2e4, -2e4),
        "huge": x * 1e30,
        "tiny": x * 1e-30,
        "underflow": np.where(odd, x, x * 2e-23),  # squares of float32 differences are subnormal
    }[kind].astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_features", [5, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_potentials(kind: str, n_features: int, dtype: type) -> None:
    pytest.importorskip("numba")
    x = potentials_data(kind, dtype, n_features)
    found = []
    for numba in "01":
        with environment(numba=numba, block_rows=250):
            found.append(kmeans_plusplus(x, 25, random_state=1)[1].tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize("chosen", [None, np.arange(0, 600, 3)])
@pytest.mark.parametrize("n_features", [5, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_potentials_are_the_measured_ones(kind: str, n_features: int, chosen: Any) -> None:
    pytest.importorskip("numba")
    x = potentials_data(kind, np.float32, n_features)
    with environment(numba="1"):
        blocks = MemoryBlocks(x, None, np.dtype(np.float32), x)
        potential = blocks.potential(chosen)
    assert isinstance(potential, CompiledPotential)
    rows = x if chosen is None else x[chosen]

    def measured(row: int) -> np.ndarray:
        centers = np.broadcast_to(rows[row], rows.shape)
        return rounded_products(rows, centers, None, blocks.common.exponent)

    potential.start(7)
    expected = measured(7)
    for tried in ([3, 120], [4, 3, 80], [121, 9]):
        each = [np.minimum(expected, measured(row)) for row in tried]
        scale = weight_scale(expected.max())
        assert potential.costs(tried) == [int(integer_weights(p, scale).sum()) for p in each]
        potential.accept(tried[-1])
        expected = each[-1]
        assert (potential.p == expected).all()
        scale = weight_scale(expected.max())
        assert potential.total() == int(integer_weights(expected, scale).sum())


def test_rows_far_nearer_to_their_centre_are_passed_over() -> None:
    pytest.importorskip("numba")
    from kmeans_xp.backends import numba_seeding

    centers = np.array([[0.0], [1.0]])
    reach = numba_seeding.reach(centers, np.array([[0.5], [4.0]]))
    assert (reach <= 0.25**2).all() and (reach > 0.99 * 0.25**2).all()


def test_large_data_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.PCG64(1).random_raw(900).astype(np.float64).reshape(300, 3)
    monkeypatch.setattr(seeding, "_INIT_ROWS", 100)
    monkeypatch.setattr(seeding, "_ROWS_A_CLUSTER", 10)
    assert kmeans_plusplus(x, 4, random_state=2)[1].tolist() == (
        kmeans_plusplus(x, 4, init_size=100, random_state=2)[1].tolist()
    )
    rows = reference.kmeans_plusplus(x, 4, words=reference.Words(2), init_size=100)
    assert kmeans_plusplus(x, 4, random_state=2)[1].tolist() == rows


@pytest.mark.parametrize("trials", [1, 2, 3, 7, 40])
def test_number_of_trials(trials: int) -> None:
    x = np.random.PCG64(6).random_raw(120).astype(np.float64).reshape(60, 2)
    expected = reference.kmeans_plusplus(x, 5, words=reference.Words(1), n_local_trials=trials)
    for backend in ("auto", "generic"):
        with environment(backend=backend):
            _, rows = kmeans_plusplus(x, 5, random_state=1, n_local_trials=trials)
        assert rows.tolist() == expected


def test_arguments_of_scikit_learn_are_taken() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    x = np.random.PCG64(6).random_raw(120).astype(np.float64).reshape(60, 2) * 2.0**-64
    options = {
        "sample_weight": np.ones(60),
        "x_squared_norms": (x * x).sum(axis=1),
        "random_state": 3,
        "n_local_trials": 4,
    }
    for module in (kmeans_xp, cluster):
        centers, rows = module.kmeans_plusplus(x, 5, **options)
        assert np.array_equal(x[rows], centers)
    assert set(inspect.signature(cluster.kmeans_plusplus).parameters) <= set(
        inspect.signature(kmeans_plusplus).parameters
    )


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_number_of_trials_is_checked(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="n_local_trials"):
        kmeans_plusplus(np.zeros((3, 1)), 2, n_local_trials=value)


def test_sampled_rows_may_all_lack_weight() -> None:
    x = np.arange(50.0)[:, None]
    w = np.zeros(50)
    w[7] = 1
    centers, rows = kmeans_plusplus(x, 2, init_size=3, sample_weight=w, random_state=0)
    assert np.array_equal(x[rows], centers)
    assert kmeans(x, 2, init_size=3, sample_weight=w, random_state=0, tol=0).converged


def test_potentials_do_not_wait_for_their_own_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KMEANS_XP_NUM_THREADS", "2")
    monkeypatch.setenv("KMEANS_XP_BLOCK_ROWS", "7")
    x = np.random.PCG64(1).random_raw(200).astype(np.float64).reshape(100, 2)
    blocks = MemoryBlocks(x, None, np.dtype(np.float64), x)
    with blocks.session():
        potential = blocks.potential()
        potential.start(0)
        assert len(potential.costs([1, 2])) == 2


def far_apart() -> np.ndarray:
    """Two tight groups so far apart that float32 distances within one are noise."""
    raw = np.random.PCG64(9).random_raw(800).astype(np.float64).reshape(400, 2) * 2.0**-64
    return (raw * 0.1 + np.where(np.arange(400)[:, None] % 2, 2e4, -2e4)).astype(np.float32)


def squared(a: list[Fraction], b: list[Fraction]) -> Fraction:
    return sum(((u - v) ** 2 for u, v in zip(a, b, strict=True)), Fraction(0))


def costs(x: np.ndarray) -> list[int]:
    """Costs of candidates after two centres, one in each group."""
    blocks = MemoryBlocks(x, None, x.dtype, x)
    with blocks.session():
        potential = blocks.potential()
        potential.start(0)
        potential.accept(1)
        return potential.costs(list(range(2, 40)))


def test_costs_need_the_bound_of_the_fast_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    x = far_apart()
    rows = reference.as_rows(x)
    p = [[reference.rn12(squared(row, c)) for c in rows[:40]] for row in rows]
    current = [min(row[0], row[1]) for row in p]
    unit = Fraction(2) ** (31 - reference.exponent(max(current)))
    expected = [
        sum(int(min(row[c], old) * unit) for row, old in zip(p, current, strict=True))
        for c in range(2, 40)
    ]
    assert costs(x) == expected
    monkeypatch.setattr("kmeans_xp.blocks.potential.distance_slack", lambda *args: 0.0)
    assert costs(x) != expected
