"""The exact room against `fractions`: rounding, signs, sums, means, inertia, bounds."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmeans_xp.exact.bounds import is_exact_grid
from kmeans_xp.exact.dyadic import Dyadic, float_integers, lowest_bit, rn12, round_ratio
from kmeans_xp.exact.grid import Grid, square_sum
from kmeans_xp.exact.inertia import exact_inertia, exact_shift, exact_variance, shift_bounds
from kmeans_xp.exact.means import rounded_means
from kmeans_xp.exact.potentials import accurate_distances, rounded_products
from kmeans_xp.exact.predicate import compare_scores, sign_of_sums, two_product
from kmeans_xp.exact.sums import ClusterSums

DTYPES = [np.float32, np.float64]
finite = st.floats(allow_nan=False, allow_infinity=False)
finite32 = st.floats(allow_nan=False, allow_infinity=False, width=32)


def words(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform values in [0, 1) from the frozen stream."""
    count = int(np.prod(shape))
    raw = np.random.PCG64(seed).random_raw(count)
    return ((raw >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)


def fractions(values: np.ndarray) -> list[Fraction]:
    return [Fraction(float(v)) for v in values]


def make_sums(x: np.ndarray, w: np.ndarray | None, labels: np.ndarray, k: int) -> ClusterSums:
    magnitude = np.abs(x.astype(np.float64))
    positive = magnitude[magnitude > 0]
    smallest = float(positive.min()) if positive.size else 1.0
    weights = None if w is None else (float(w[w > 0].min()), float(w.max()))
    narrow = x.dtype == np.float32 and (w is None or w.dtype == np.float32)
    grid = Grid.fit(magnitude.max(axis=0), smallest, weights, len(x), 7, narrow)
    sums = ClusterSums(k, grid, w is not None)
    for lo in range(0, len(x), 7):
        part = slice(lo, lo + 7)
        sums.add(x[part], None if w is None else w[part], labels[part])
    return sums


DATA = {
    "plain": lambda d: words(1, (60, d)) - 0.5,
    "offset": lambda d: words(2, (60, d)) + 1e6,
    "scales": lambda d: (words(3, (60, d)) - 0.5) * 10.0 ** np.linspace(-15, 15, d),
    "outlier": lambda d: np.where(np.arange(60 * d).reshape(60, d) == 4, 1e30, words(4, (60, d))),
    "tiny": lambda d: (words(5, (60, d)) - 0.5) * 1e-38,
    "grid": lambda d: np.floor(words(6, (60, d)) * 4),
    "zero": lambda d: np.zeros((60, d)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(-(2**140), 2**140), st.integers(1, 2**70), st.integers(-1300, 1100))
@settings(max_examples=150, deadline=None)
def test_round_ratio_is_nearest_even(dtype: type, num: int, den: int, exp: int) -> None:
    got = round_ratio(num, den, exp, np.dtype(dtype))
    value = Fraction(num, den) * Fraction(2) ** exp
    info = np.finfo(dtype)
    edge = Fraction(float(info.max)) * (1 + Fraction(1, 2 ** (info.nmant + 2)))
    if abs(value) >= edge:
        assert got == math.copysign(math.inf, num)
        return
    assert dtype(got) == got
    assert math.copysign(1.0, got) == 1.0 or got != 0.0
    error = abs(Fraction(got) - value)
    for toward in (-np.inf, np.inf):
        with np.errstate(over="ignore"):
            other = float(np.nextafter(dtype(got), dtype(toward)))
        if math.isfinite(other):
            gap = abs(Fraction(other) - value)
            assert error <= gap
            if error == gap:  # a tie goes to the even mantissa
                unit = Fraction(float(info.smallest_subnormal))
                steps = abs(Fraction(got)) / max(unit, abs(Fraction(other) - Fraction(got)))
                assert steps.denominator != 1 or steps % 2 == 0


@given(st.lists(finite, min_size=1, max_size=5), st.lists(finite, min_size=1, max_size=5))
def test_dyadic_sum_is_exact(a: list[float], b: list[float]) -> None:
    total = Dyadic()
    for value in a + b:
        n, e = float_integers(np.asarray([value]))
        total = total + Dyadic(int(n[0]), e)
    assert Fraction(*total.as_ratio()) == sum(map(Fraction, a + b), Fraction(0))


@given(st.lists(finite, min_size=1, max_size=8))
def test_float_integers_and_lowest_bit(values: list[float]) -> None:
    array = np.asarray(values)
    integers, exponent = float_integers(array)
    assert [Fraction(int(i)) * Fraction(2) ** exponent for i in integers] == fractions(array)
    low = lowest_bit(array)
    if any(values):
        unit = Fraction(2) ** int(low)
        assert all((v / unit).denominator == 1 for v in fractions(array))
        assert any((v / unit) % 2 == 1 for v in fractions(array))
    else:
        assert low == math.inf


@given(st.floats(min_value=1e-280, max_value=1e300))
def test_rn12(value: float) -> None:
    got = float(rn12(np.asarray([value]))[0])
    mantissa, exponent = math.frexp(value)
    assert got == math.ldexp(round(Fraction(mantissa) * 4096), exponent - 12)


@given(st.floats(1e-100, 1e100), st.floats(-1e100, -1e-100))
def test_two_product(a: float, b: float) -> None:
    p, e = two_product(np.asarray([a]), np.asarray([b]))
    assert Fraction(float(p[0])) + Fraction(float(e[0])) == Fraction(a) * Fraction(b)


@given(st.lists(st.floats(-1e200, 1e200), min_size=1, max_size=12), st.booleans())
def test_sign_of_sums(terms: list[float], cancel: bool) -> None:
    if cancel:
        terms = terms + [-t for t in reversed(terms)] + [5e-324]
    total = sum(map(Fraction, terms), Fraction(0))
    assert sign_of_sums(np.asarray([terms]))[0] == (total > 0) - (total < 0)


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_compare_scores(dtype: type, data: st.DataObject) -> None:
    values = finite32 if dtype is np.float32 else finite
    x, a, b = (
        np.asarray([data.draw(st.lists(values, min_size=3, max_size=3))], dtype=dtype)
        for _ in range(3)
    )
    if data.draw(st.booleans()):  # a and b mirrored about x: a tie or nearly one
        with np.errstate(all="ignore"):
            b = np.nan_to_num(2 * x - a)
    to_a = sum((p - q) ** 2 for p, q in zip(fractions(x[0]), fractions(a[0]), strict=True))
    to_b = sum((p - q) ** 2 for p, q in zip(fractions(x[0]), fractions(b[0]), strict=True))
    assert compare_scores(x, a, b)[0] == (to_a < to_b) - (to_a > to_b)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", list(DATA))
@pytest.mark.parametrize("weighted", [None, np.float32, np.float64])
@pytest.mark.parametrize("d", [1, 3, 9])
def test_means_and_inertia(dtype: type, kind: str, weighted: type | None, d: int) -> None:
    x = DATA[kind](d).astype(dtype)
    labels = (np.arange(60) * 7 % 5).astype(np.int32)
    w = None if weighted is None else (words(9, (60,)) * 3).astype(weighted)
    if w is not None:
        w[::4] = 0
    sums = make_sums(x, w, labels, 6)
    old = np.full((6, d), 7, dtype=dtype)
    means = rounded_means(sums, old)
    wf = [Fraction(1)] * 60 if w is None else fractions(w)
    for k in range(5):
        rows = np.flatnonzero(labels == k)
        weight = sum(wf[i] for i in rows)
        for j in range(d):
            total = sum(wf[i] * Fraction(float(x[i, j])) for i in rows)
            mean = total / weight
            expected = round_ratio(mean.numerator, mean.denominator, 0, np.dtype(dtype))
            assert means[k, j] == expected
    assert (means[5] == 7).all()
    squares = sum(
        (
            square_sum(sums.grid, x[i : i + 7], None if w is None else w[i : i + 7])
            for i in range(0, 60, 7)
        ),
        Dyadic(),
    )
    cost = sum(
        wf[i]
        * sum(
            (a - b) ** 2 for a, b in zip(fractions(x[i]), fractions(means[labels[i]]), strict=True)
        )
        for i in range(60)
    )
    assert float(exact_inertia(squares, sums, means)) == round_ratio(
        cost.numerator, cost.denominator, 0, np.dtype(np.float64)
    )


def test_sums_survive_the_whole_exponent_range() -> None:
    x = np.array([[1.7e308, 5e-324], [-1.7e308, 1e-300], [3e-320, 2.0], [1e300, -1e308]])
    w = np.array([1e-300, 1e300, 3.0, 5e-324])
    labels = np.array([0, 0, 0, 1], dtype=np.int32)
    sums = make_sums(x, w, labels, 2)
    assert sums.grid.wide
    means = rounded_means(sums, np.zeros((2, 2)))
    for k in range(2):
        rows = np.flatnonzero(labels == k)
        for j in range(2):
            total = sum(Fraction(w[i]) * Fraction(x[i, j]) for i in rows)
            mean = total / sum(Fraction(w[i]) for i in rows)
            expected = round_ratio(mean.numerator, mean.denominator, 0, np.dtype(np.float64))
            assert means[k, j] == expected


def test_rows_taken_away_leave_the_same_integers() -> None:
    x = (words(11, (50, 6)) - 0.5).astype(np.float32)
    labels = (np.arange(50) % 4).astype(np.int32)
    sums = make_sums(x, None, labels, 4)
    moved = np.array([3, 17, 30])
    sums.add(x[moved], None, labels[moved], -1)
    labels[moved] = 2
    sums.add(x[moved], None, labels[moved], 1)
    fresh = make_sums(x, None, labels, 4)
    assert (sums.value_integers() == fresh.value_integers()).all()
    assert (sums.weight_integers() == fresh.weight_integers()).all()


@pytest.mark.parametrize("kind", list(DATA))
def test_variance_and_shift(kind: str) -> None:
    x = DATA[kind](3)
    sums = make_sums(x, None, np.zeros(60, dtype=np.int32), 1)
    squares = sum((square_sum(sums.grid, x[i : i + 7], None) for i in range(0, 60, 7)), Dyadic())
    columns = [fractions(c) for c in x.T]
    expected = sum(sum((v - sum(c) / 60) ** 2 for v in c) / 60 for c in columns) / 3
    assert exact_variance(squares, sums, 60) == expected
    moved = np.roll(x, 1, axis=0)
    shift = sum(
        (Fraction(a) - Fraction(b)) ** 2 for a, b in zip(moved.ravel(), x.ravel(), strict=True)
    )
    assert exact_shift(moved, x) == shift
    low, high = shift_bounds(moved, x)
    assert low <= shift <= high
    assert shift_bounds(x, x) == (0.0, 0.0)


@pytest.mark.parametrize("kind", list(DATA))
@pytest.mark.parametrize("dtype", DTYPES)
def test_rounded_products(kind: str, dtype: type) -> None:
    x = DATA[kind](5).astype(dtype)
    centers = np.roll(x, 3, axis=0)
    w = (words(12, (60,)) * 2).astype(dtype)
    exponent = int(np.frexp(np.abs(x).max())[1])
    for weights, top_weight in ((None, 0), (w, 1)):
        got = rounded_products(x, centers, weights, exponent, top_weight)
        for i in range(60):
            square = sum(
                (a - b) ** 2 for a, b in zip(fractions(x[i]), fractions(centers[i]), strict=True)
            )
            factor = Fraction(1) if weights is None else Fraction(float(weights[i]))
            value = square * factor / Fraction(2) ** (2 * exponent + top_weight)
            if square < Fraction(2) ** (2 * exponent - 960) or value == 0:
                assert got[i] == 0
                continue
            top = value.numerator.bit_length() - value.denominator.bit_length()
            top -= Fraction(2) ** top > value
            unit = Fraction(2) ** (top - 11)
            assert Fraction(got[i]) == round(value / unit) * unit


def test_exact_grid_tells_lattices_from_reals() -> None:
    lattice = np.floor(words(13, (40, 8)) * 17)
    assert is_exact_grid(8, lattice, lattice[:5] / 2)
    assert not is_exact_grid(8, words(13, (40, 8)))
    assert is_exact_grid(8, np.zeros((2, 8)))


def test_distances_keep_their_digits_near_zero() -> None:
    x = words(14, (30, 4)) + 1e8
    centers = x[:6] + 1e-7
    got = accurate_distances(x, centers, 27)
    direct = np.sqrt(np.square(x[:, None] - centers[None]).sum(axis=2))
    np.testing.assert_allclose(got, direct, rtol=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_sums_in_any_grouping_are_those_of_single_rows(share: float) -> None:
    n, d, k = 900, 150, 40
    x = words(7, (n, d)) - 0.25
    rng = np.random.default_rng(int(share * 10))
    labels, old = (np.where(rng.random(n) < share, 3, rng.integers(0, k, n)) for _ in range(2))
    grid = Grid.fit(np.abs(x).max(axis=0), float(np.abs(x).min()), None, n, n, False)
    sums, single = ClusterSums(k, grid, False), ClusterSums(k, grid, False)
    sums.add(x, None, labels, 1, old)
    for level, integers in grid.value_terms(x, None):
        np.add.at(single.value_level(level), labels, integers.astype(np.int64))
        np.subtract.at(single.value_level(level), old, integers.astype(np.int64))
    assert all((a == b).all() for a, b in zip(sums.values, single.values, strict=True))
    assert (
        sums.weights[0] == np.bincount(labels, minlength=k) - np.bincount(old, minlength=k)
    ).all()
