"""The exact parts of a mini-batch against `fractions`: running means and squared distances."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from kmeans_xp import kmeans
from kmeans_xp.backends.cpu import NumpyBackend
from kmeans_xp.backends.generic import Backend
from kmeans_xp.exact import blend, squares
from kmeans_xp.exact.blend import Totals, blended_means
from kmeans_xp.exact.potentials import integer_weights, weight_scale
from kmeans_xp.seeding import MiniBatchSampler, Words

from . import datasets, reference
from .test_exact import make_sums

DTYPES = ["float32", "float64"]


def exact_means(x, w, labels, old, seen):
    new = []
    for k, c in enumerate(reference.as_rows(old)):
        members = np.flatnonzero(labels == k).tolist()
        added = sum(w[i] for i in members)
        rows = reference.as_rows(x)
        sums = [seen[k] * v + sum(w[i] * rows[i][j] for i in members) for j, v in enumerate(c)]
        mean = (
            [
                reference.rounded(s / (seen[k] + added), *reference.FORMATS[str(old.dtype)])
                for s in sums
            ]
            if added
            else c
        )
        new.append(mean)
    return reference.as_array(new, old.dtype)


@pytest.mark.parametrize("unit", [1, Fraction(1, 2**70), 2**60])
@pytest.mark.parametrize("weights", [None, "integer", "float32", "float64"])
@pytest.mark.parametrize("kind", datasets.KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_blended_means(dtype, kind, weights, unit):
    X = datasets.make(kind, dtype, 60, 3, 4)
    x, old = X[:50], X[50:54]
    w = datasets.weights(weights, 50)
    labels = datasets.integers(5, 50, 3).astype(np.int32)  # the last cluster gets nothing
    units = np.array([0, 3, 10**6 + 1, 5])
    exponent = Fraction(unit).numerator.bit_length() - Fraction(unit).denominator.bit_length()
    totals = Totals(units) if unit == 1 else Totals(units.astype(object), exponent)
    sums = make_sums(
        x, None if w is None else (w if w.dtype == np.float32 else w.astype(np.float64)), labels, 4
    )
    some = reference.as_weights(w, 50)
    seen = [int(u) * Fraction(2) ** totals.exponent for u in units]
    truth = exact_means(x, some, labels, old, seen)
    got = blended_means(sums, totals, old)
    assert got.dtype == old.dtype
    assert np.array_equal(got, truth)
    assert not np.signbit(got[got == 0]).any()
    added = [sum(some[i] for i in np.flatnonzero(labels == k)) for k in range(4)]
    after = totals.plus(sums)
    assert [int(u) * Fraction(2) ** after.exponent for u in after.units] == [
        a + b for a, b in zip(seen, added, strict=True)
    ]


@pytest.mark.parametrize("few", [0, 16])
@pytest.mark.parametrize("dtype", DTYPES)
def test_means_on_midpoints_are_decided_by_integers(dtype, few, monkeypatch):
    """Means halfway between two floats, and by less than float64 can tell beside it."""
    monkeypatch.setattr(blend, "_FEW", few)
    ulp = float(np.finfo(dtype).eps)
    near = np.array([0.0, 0.0, 2.0**-60 if dtype == "float32" else 2.0**-140])
    x = np.array([[1 + ulp, 1 + 3 * ulp, 1 + ulp]], dtype=dtype)
    x = np.concatenate([x, near[None].astype(dtype)])
    old = np.array([[1.0, 1 + 2 * ulp, 1.0]], dtype=dtype)
    labels, asked = np.zeros(2, dtype=np.int32), []

    def spied(*args):
        asked.append(len(args[-1]))
        return by_integers(*args)

    by_integers = blend._by_integers
    monkeypatch.setattr(blend, "_by_integers", spied)
    for w in (None, np.ones(2, dtype=dtype)):
        sums = make_sums(x, w, labels, 1)
        truth = exact_means(x, [Fraction(1)] * 2, labels, old, [Fraction(0)])
        assert np.array_equal(blended_means(sums, Totals(np.zeros(1, np.int64)), old), truth)
        sums = make_sums(x[:1], None if w is None else w[:1], labels[:1], 1)
        truth = exact_means(x[:1], [Fraction(1)], labels[:1], old, [Fraction(1)])
        assert np.array_equal(blended_means(sums, Totals(np.ones(1, np.int64)), old), truth)
    assert asked


@pytest.mark.parametrize("weights", [None, "float32"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_batch_far_below_its_centroids(dtype, weights):
    """In units of the batch the means overflow float32."""
    x = np.array([[1e-40, -1e-44, 0.0], [3e-44, 2e-42, 7.0]], dtype=dtype)
    old = np.array([[-3.1, 1e20, 1e-30]], dtype=dtype)
    labels, w = np.zeros(2, dtype=np.int32), None
    if weights is not None:
        w = np.array([1.5, 2.0], dtype=weights)
    truth = exact_means(x, reference.as_weights(w, 2), labels, old, [Fraction(7)])
    assert np.isfinite(truth.astype(np.float64)).all()
    got = blended_means(make_sums(x, w, labels, 1), Totals(np.array([7])), old)
    assert np.array_equal(got, truth)


def test_a_batch_far_above_its_centroids():
    """In units of the batch the centroid is zero, and all that is left where the rows cancel."""
    x, old = np.array([[2.0**1000] * 2, [-(2.0**1000)] * 2]), np.array([[2.0**-86] * 2])
    got = blended_means(make_sums(x, None, np.zeros(2, np.int32), 1), Totals(np.array([2])), old)
    assert (got == 2.0**-87).all()


def test_rows_of_zeros_with_weights_far_apart():
    """No term of the sums has a digit, so there is no level of them."""
    x, w = np.zeros((3, 2)), np.array([1e-300, 1e300, 1.0])
    sums = make_sums(x, w, np.zeros(3, np.int32), 1)
    got = blended_means(sums, Totals(np.array([1])), np.array([[3.0, -1.0]]))
    some = reference.as_weights(w, 3)
    truth = exact_means(x, some, np.zeros(3, np.int32), np.array([[3.0, -1.0]]), [Fraction(1)])
    np.testing.assert_array_equal(got, truth)
    assert kmeans(x, 1, sample_weight=w).centroids.tolist() == [[0.0, 0.0]]


def test_totals():
    totals = Totals(np.array([1, 100, 7, 0]))
    assert totals.rare(0.01).tolist() == [True, False, False, True]  # 0.01 is above 1/100
    assert totals.rare(2.0**-7).tolist() == [False, False, False, True]
    assert totals.rare(0.0625).tolist() == [True, False, False, True]
    assert totals.rare(0.07).tolist() == [True, False, True, True]
    assert totals.rare(9.0).tolist() == [True, False, True, True]
    assert totals.rare(0.0).tolist() == [False] * 4
    assert totals.lifted(np.array([0, 3])).units.tolist() == [7, 100, 7, 7]
    fine = Totals(np.array([2**80, 2**79 - 1], dtype=object), -90)
    assert fine.rare(0.5).tolist() == [False, True]
    assert fine.floats().tolist() == [2.0**-10, float(Fraction(2**79 - 1, 2**90))]


def enclosed(backend, x, labels, c, w):
    exponent = int(np.frexp(max(np.abs(x).max(), np.abs(c).max()))[1])
    top = 0 if w is None else int(np.frexp(w.max())[1])
    return backend.squares(x, labels, c, w, exponent, top)


@pytest.mark.parametrize("numba", ["0", "1"])
@pytest.mark.parametrize("weights", [None, "integer", "float32", "float64"])
@pytest.mark.parametrize("kind", datasets.KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_squares(dtype, kind, weights, numba, monkeypatch):
    if numba == "1":
        pytest.importorskip("numba")
    monkeypatch.setenv("KMEANS_XP_NUMBA", numba)
    X = datasets.make(kind, dtype, 300, 3, 4)
    x, c, labels = X[:-4], X[-4:], datasets.integers(2, 296, 4).astype(np.int32)
    w = datasets.weights(weights, 296)
    some, centers = reference.as_weights(w, 296), reference.as_rows(c)
    w = None if w is None else (w if w.dtype == np.float32 else w.astype(np.float64))
    pairs = zip(some, reference.as_rows(x), labels.tolist(), strict=True)
    truth = sum(
        u * sum((a - b) ** 2 for a, b in zip(row, centers[k], strict=True)) for u, row, k in pairs
    )
    truth = Fraction(truth)
    assert Fraction(*squares.exact_squares(x, c[labels], w).as_ratio()) == truth
    for backend in (NumpyBackend(x), Backend(x)):
        parts = enclosed(backend, x, labels, c, w)
        with np.errstate(all="ignore"):
            rounded = squares.round_enclosures(parts)
        assert rounded in (None, reference.to_float(truth))
        middle = sum(
            (Fraction(p.whole) + Fraction(p.rest)) * Fraction(2) ** p.exponent for p in parts
        )
        error = sum(Fraction(p.error) * Fraction(2) ** p.exponent for p in parts)
        assert abs(middle - truth) <= error
        assert error <= Fraction(2) ** -60 * truth or kind in ("tiny", "duplicates")


def test_a_midpoint_is_not_certain():
    """A sum of squares that needs 54 bits is left to integers."""
    x = np.array([[2.0**27], [1.0], [1.0]])
    c = np.array([[0.0]])
    labels = np.zeros(3, dtype=np.int32)
    parts = Backend(x).squares(x, labels, c, None, 28, 0)
    assert squares.round_enclosures(parts) is None
    assert float(squares.exact_squares(x, c[labels], None)) == 2.0**54


def test_draws_far_beyond_32_bits():
    """Every target is (u * total) >> 64, whatever the total."""
    for total in (1, 3, 2**32 - 1, 2**32, 2**40 + 12345, 2**63 + 9, 2**64 - 1):
        sampler = MiniBatchSampler(total, None)
        words = Words(7).words(100).tolist()
        drawn = sampler.draw(100, Words(7)).view(np.uint64).tolist()
        assert drawn == [u * total >> 64 for u in words]
    with pytest.raises(ValueError, match="sample_weight"):
        MiniBatchSampler(2**33, np.ones(1))


@pytest.mark.parametrize("n", [1, 3, 700, 70_000])
def test_draws_by_weight_are_found(n):
    """Weights that differ by many powers of two, some of them zero, at either end too."""
    w = np.ldexp(1.0, (datasets.words(4, n) % 90).astype(np.int32)) * (datasets.words(5, n) % 3)
    w[n // 2] = 1.0
    for weights in (w, w + 1, np.where(np.arange(n) == n // 2, 5.0, 0.0)):
        sampler = MiniBatchSampler(n, weights)
        q = np.array(integer_weights(weights, weight_scale(float(weights.max()))), dtype=object)
        running = np.cumsum(q)
        drawn, words = sampler.draw(200, Words(9)), Words(9).words(200).tolist()
        for row, word in zip(drawn.tolist(), words, strict=True):
            target = word * running[-1] >> 64
            assert running[row] > target >= running[row] - q[row]


def test_one_enclosure_is_rounded_like_the_sum_of_two():
    """The short way of the usual case; halfway cases and values near the limits are left."""
    ulp = 2.0**-52
    found = []
    for i in range(400):
        whole = 1.0 + (i % 7) * ulp
        rest = (i % 13 - 6) * ulp / 8 + (i % 3) * ulp * 2.0**-40
        error = ulp * 2.0 ** -(i % 60)
        part = squares.Enclosure(whole, rest, error, i % 9 - 4)
        short = squares.round_enclosures([part])
        assert short == squares.round_enclosures([part, squares.Enclosure(0.0, 0.0, 0.0, 0)])
        found.append(short is None)
    assert 0 < sum(found) < 400
    assert squares.round_enclosures([squares.Enclosure(1.0, 0.0, 0.0, -1080)]) == 0.0
    assert squares.round_enclosures([squares.Enclosure(0.0, 0.0, 0.0, 0)]) == 0.0
