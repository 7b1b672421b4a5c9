"""Potentials of k-means++ and the rows for relocation, against certified host arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from kmeans_xp.backends.convert import centroid_dtype
from kmeans_xp.backends.cuda import DeviceLloyd
from kmeans_xp.blocks.memory import MemoryBlocks
from kmeans_xp.exact.potentials import rounded_products
from tests.helpers import assert_bits

from .checks import Random

pytestmark = pytest.mark.gpu


def data():
    rng = Random(11)
    real = rng.bell((6001, 20)).astype(np.float32)
    empty_column = rng.bell((3000, 5)) * 1e-200
    empty_column[:, 2] = 0
    return {
        "real": (real, None),
        "one column": (real[:, :1].copy(), None),
        "weights": (real, rng.random(len(real))),
        "integer weights": (real, rng.integers(0, 3, len(real)).astype(np.float32)),
        "lattice": (rng.integers(0, 60, (6001, 3)).astype(np.float32), None),
        "offset": (real + np.float32(1e4), None),
        "float16": (real.astype(np.float16), None),
        "float64": (rng.bell((3000, 150)), None),
        "float64 tiny": (rng.bell((3000, 5)) * 1e-200, None),
        "float64 tiny, a column of zeros": (empty_column, None),
        "float64 outlier": (np.vstack([real[:, :3].astype(float), [[1e200, 0, 0]]]), None),
        "subnormal": (real * np.float32(1e-41), None),
    }


class Reference:
    """The same protocol in NumPy."""

    def __init__(self, X, w, exponents=None):
        self.X = X.astype(np.float32) if X.dtype == np.float16 else X
        self.w = w
        self.exponent = int(np.frexp(np.abs(self.X).max())[1])
        self.weight_exponent = 0 if w is None else int(np.frexp(w.max())[1])
        if exponents is not None:
            self.exponent, self.weight_exponent = exponents
        self.p = np.full(len(X), np.inf)

    def to(self, row):
        centre = np.broadcast_to(self.X[row], self.X.shape)
        return rounded_products(self.X, centre, self.w, self.exponent, self.weight_exponent)

    def accept(self, row):
        self.p = np.minimum(self.p, self.to(row))
        self.scale = 31 - int(np.frexp(self.p.max())[1])

    def q(self, p):
        return np.floor(np.ldexp(p, self.scale)).astype(np.int64)

    def cost(self, row):
        return int(self.q(np.minimum(self.p, self.to(row))).sum())


@pytest.mark.parametrize("name", data())
def test_potentials(cp, name):
    X, w = data()[name]
    loop = DeviceLloyd(cp.asarray(X), None if w is None else cp.asarray(w))
    ours, reference = loop.potential(), Reference(X, w)
    rng = Random(0)
    first, *others = (int(i) for i in rng.choice(len(X), 6))
    ours.start(first)
    reference.accept(first)
    for row in others:
        q = reference.q(reference.p)
        assert ours.total() == int(q.sum())
        targets = [int(t) for t in rng.integers(0, ours.total(), 9)] + [0, ours.total() - 1]
        want = np.searchsorted(np.cumsum(q), targets, side="right")
        assert ours.locate(targets) == want.tolist()
        candidates = [int(i) for i in rng.choice(len(X), 11)]
        assert ours.costs(candidates) == [reference.cost(i) for i in candidates]
        ours.accept(row)
        reference.accept(row)


@pytest.mark.parametrize("weight", [1.0, 1e60, 1e250])
def test_a_part_counts_what_the_whole_array_counts(cp, weight):
    """What is too small beside a far row or a heavy one stays too small without it."""
    rng = Random(12)
    X = np.vstack([rng.bell((2000, 3)) * 10.0 ** rng.integers(-5, 80, (2000, 1)), np.ones((1, 3))])
    X[-1] *= 1e200
    w = rng.random(2001) * 10.0 ** rng.integers(-20, 20, 2001)
    w[-1] = weight
    exponents = tuple(int(np.frexp(np.abs(a).max())[1]) for a in (X, w))
    rows, parts = X[:-1], w[:-1]
    ours = DeviceLloyd(cp.asarray(rows), cp.asarray(parts)).potential(exponents)
    reference = Reference(rows, parts, exponents)
    ours.start(5)
    reference.accept(5)
    for row in (70, 200):
        assert ours.total() == int(reference.q(reference.p).sum())
        assert ours.costs([row]) == [reference.cost(row)]
        ours.accept(row)
        reference.accept(row)


@pytest.mark.parametrize("name", data())
def test_many_centres_at_a_time(cp, name):
    X, w = data()[name]
    host = MemoryBlocks(X, w, centroid_dtype(X), X)
    exponents = host.common.exponent, host.common.grid.weight_exponent
    loop = DeviceLloyd(cp.asarray(X), None if w is None else cp.asarray(w))
    both = loop.oversampling(exponents), host.oversampling()
    rng = Random(1)
    for potential in both:
        potential.start(3)
    chosen = rng.choice(len(X), 12)
    for lot in (chosen[:1], chosen[1:8], np.append(chosen[8:], chosen[2])):
        for potential in both:
            potential.accept_all(np.sort(lot))
        total = both[0].total()
        assert total == both[1].total()
        targets = [int(t) for t in rng.integers(0, total, 9)] + [0, total - 1]
        assert both[0].locate(targets) == both[1].locate(targets)
    shares = [potential.shares(np.sort(chosen)) for potential in both]
    assert_bits(*shares)


def test_centres_off_the_grid_of_a_block(cp):
    """Distances are not exact to centres that the values of the block say nothing of."""
    X = np.array([[64.0, 1.0], [63.0, 0.0], [0.0, 3.0]])
    block = DeviceLloyd(cp.asarray(X)).oversampling((7, 0))
    centres = np.array([[-(2.0**-50), 0.0], [500.0, 500.0]])
    found = block.lowered(np.full(3, np.inf), centres)
    assert_bits(found, rounded_products(X, np.broadcast_to(centres[0], X.shape), None, 7))
    assert found[0] == 4098 / 2**14  # |x - c|^2 = 4097 and a little: half a unit of 12 bits
    assert_bits(block.nearest(centres), np.zeros(3, np.int32))
    assert_bits(block.lowered(np.array([0.5, 0.0, 1.0]), centres)[:2], np.array([4098 / 2**14, 0]))


def test_all_potentials_zero(cp):
    loop = DeviceLloyd(cp.full((300, 4), 2.5, cp.float32))
    potential = loop.potential()
    potential.start(7)
    assert potential.total() == 0


@pytest.mark.parametrize("name", data())
def test_farthest_rows(cp, name):
    X, w = data()[name]
    loop = DeviceLloyd(cp.asarray(X), None if w is None else cp.asarray(w))
    C = X[:6].astype(np.float64 if X.dtype == np.float64 else np.float32)
    handle = loop.start(C)
    loop.settle(handle)
    labels = loop.labels().get()
    rows = X.astype(C.dtype)
    exponent = int(np.frexp(max(np.abs(X).max(), np.abs(C).max()))[1])
    p = rounded_products(rows, C[labels], None, exponent)
    if w is not None:
        p[w == 0] = 0
    order = np.argsort(-p, kind="stable")
    for count in (1, 5, 700, len(X)):
        want = [i for i in order[:count] if p[i] > 0]
        assert loop.farthest(handle, count).tolist() == want
