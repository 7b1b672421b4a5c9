"""What the device must have computed: float64 with a bound, then fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np


class Random:
    """Draws from `PCG64.random_raw` alone, whose stream NumPy freezes."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def integers(self, low, high, shape):
        """Below `high`, from `low`, as int64."""
        raw = self._bits.random_raw(int(np.prod(shape))) >> np.uint64(11)
        return low + raw.astype(np.int64).reshape(shape) % (high - low)

    def random(self, shape):
        """Multiples of 2^-53 in [0, 1)."""
        return self.integers(0, 1 << 53, shape) * 2.0**-53

    def bell(self, shape):
        """Four uniforms added: mean 0, variance 1."""
        return (sum(self.random(shape) for _ in range(4)) - 2) * 3**0.5

    def choice(self, n, k):
        """Choose k different numbers below n."""
        return np.argsort(self.random(n), kind="stable")[:k]


def wrong_labels(cp, X, C, labels, *, exact: int = 60) -> int:
    """Rows whose label is not the lowest index of the nearest centroid; near ties by fractions."""
    scale = 1.0
    if X.dtype == np.float64 and X.any():
        scale = 2.0 ** -int(np.clip(np.frexp(np.abs(X).max())[1], -1000, 1000))
    rows, points = (cp.asarray(a).astype(cp.float64) * scale for a in (X, C))
    labels = cp.asarray(labels)
    N, D = X.shape
    wrong = examined = 0
    step = max(1, (1 << 25) // D)
    for lo in range(0, N, max(1, step // len(C))):
        x = rows[lo : lo + max(1, step // len(C))]
        squared = ((x[:, None] - points[None]) ** 2).sum(axis=2)
        limit = squared.min(axis=1) * (1 + 4e-16 * (D + 20)) + 1e-300
        close = squared <= limit[:, None]
        ours = labels[lo : lo + len(x)]
        single = close.sum(axis=1) == 1
        wrong += int(((squared.argmin(axis=1) != ours) & single).sum())
        several = cp.nonzero(~single)[0].get()
        for r in several[:: max(1, len(several) // 4)]:
            if examined < exact:
                examined += 1
                candidates = np.flatnonzero(close[int(r)].get())
                wrong += nearest(X[lo + r], C, candidates) != int(ours[int(r)])
    return wrong


def nearest(x, C, candidates) -> int:
    """The first of the candidates at the least real distance."""
    x = [Fraction(float(v)) for v in x]
    distances = [
        sum((a - Fraction(float(b))) ** 2 for a, b in zip(x, C[k], strict=True)) for k in candidates
    ]
    return int(candidates[distances.index(min(distances))])


def rounded(value: Fraction, dtype) -> np.floating:
    """The real number to the nearest float, ties to even."""
    near = dtype(float(value))
    options = [np.nextafter(near, dtype(-np.inf)), near, np.nextafter(near, dtype(np.inf))]
    options = [v for v in options if np.isfinite(v)]
    least = min(abs(Fraction(float(v)) - value) for v in options)
    tied = [v for v in options if abs(Fraction(float(v)) - value) == least]
    bits = np.int32 if dtype is np.float32 else np.int64
    if len(tied) > 1:
        tied = [v for v in tied if not int(v.view(bits)) & 1]
    return tied[0] + dtype(0)


def cluster_total(X, weights, members, column) -> tuple[Fraction, Fraction]:
    """Exact Σ w x and Σ w."""
    w = [Fraction(1)] * len(members) if weights is None else fractions(weights[members])
    x = fractions(X[members, column])
    return sum((a * b for a, b in zip(w, x, strict=True)), Fraction(0)), sum(w, Fraction(0))


def fractions(values) -> list[Fraction]:
    return [Fraction(float(v)) for v in values]


def wrong_means(X, weights, labels, old, new, sums, entries: int = 25) -> int:
    """Entries of the means, and of the exact sums, that differ from fractions; a random choice."""
    levels, exponents, weight_levels, weight_exponents = sums
    rng = Random(0)
    wrong = 0
    for _ in range(entries):
        k, d = (int(rng.integers(0, size, 1)[0]) for size in new.shape)
        total, weight = cluster_total(X, weights, np.flatnonzero(labels == k), d)
        wrong += total != from_levels(levels[:, k, d], exponents[:, d])
        wrong += weight != from_levels(weight_levels[:, k], weight_exponents)
        want = rounded(total / weight, new.dtype.type) if weight else old[k, d]
        wrong += want.tobytes() != new[k, d].tobytes()
    return wrong


def from_levels(levels, exponents) -> Fraction:
    terms = zip(levels, exponents, strict=True)
    return sum((Fraction(int(v)) * Fraction(2) ** int(e) for v, e in terms), Fraction(0))
