"""Iterations on the device: labels, sums and means against float64 and fractions."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from kmeans_xp.backends.cuda import DeviceLloyd

from .checks import Random, wrong_labels, wrong_means

pytestmark = pytest.mark.gpu

COLUMNS = (1, 2, 3, 16, 31, 33, 64, 100, 128, 200, 256, 384, 512, 768, 1536, 4096)
CLUSTERS = (1, 2, 3, 16, 17, 255, 256, 1000)


def blobs(n, d, k=60, seed=0, spread=0.7):
    rng = Random(seed)
    centres = rng.bell((k, d)) * spread
    return (centres[rng.integers(0, k, n)] + rng.bell((n, d))).astype(np.float32)


def verify(cp, X, C, weights=None, *, steps=3, **options):
    """Run a few steps; check the first and the last, and the bounds of the shift."""
    given = None if weights is None else cp.asarray(weights)
    loop = DeviceLloyd(cp.asarray(X), given, **options)
    loop._labels.fill(-7)  # poison: every label must be written
    handle = loop.start(C)
    old = loop.fetch(handle)
    for step in range(steps):
        state = loop.step(handle)
        new = loop.fetch(state.centroids)
        if step in (0, steps - 1) or state.n_empty:
            if not state.n_empty:
                loop.settle(handle)
            labels = loop.labels().get()
            assert wrong_labels(cp, X, old, labels) == 0
            assert wrong_means(X, weights, labels, old, new, loop.cluster_sums()) == 0
        with np.errstate(over="ignore", under="ignore"):
            shift = float(np.square(new.astype(np.float64) - old).sum())
        if 1e-280 < shift < np.inf:
            assert state.shift_low <= shift * (1 + 1e-9)
            assert state.shift_high >= shift * (1 - 1e-9)
        assert (state.shift_high == 0) == (new == old).all()
        handle, old = state.centroids, new
    return loop


@pytest.mark.parametrize("D", COLUMNS)
def test_shapes(cp, D):
    X = blobs(3001, D)
    rng = Random(1)
    for K in CLUSTERS[COLUMNS.index(D) % 2 :: 2]:
        verify(cp, X, X[rng.choice(len(X), K)])


def test_many_clusters(cp):
    X = blobs(20001, 20)
    verify(cp, X, X[:8192], steps=2)


def test_more_clusters_than_shared_memory_counts(cp):
    X = blobs(70001, 3)
    verify(cp, X, X[:60000], steps=2)


def hard_cases():
    rng = Random(5)
    X = blobs(12001, 32)
    few = X[:4000]
    outlier = few.copy()
    outlier[77, 3] = 1e30
    decades = (few * 10.0 ** rng.integers(-15, 15, 32)).astype(np.float32)
    repeated = rng.random((60, 8)).astype(np.float32)[rng.integers(0, 60, 9000)]
    wide = rng.bell((4000, 33))
    return {
        "offset 1e3": (X + 1000, 64),
        "offset 1e6": (X + np.float32(1e6), 64),
        "lattice": (rng.integers(-2, 3, (12000, 16)).astype(np.float32), 50),
        "coarse lattice": (rng.integers(0, 5, (12000, 4)).astype(np.float32), 9),
        "repeated rows": (repeated, 80),
        "heavy tails": ((rng.bell((12000, 16)) ** 5).astype(np.float32), 40),
        "1e-30": (X * np.float32(1e-30), 20),
        "subnormal": (few * np.float32(1e-40), 20),
        "2e36": (few * np.float32(2e36), 20),
        "outlier": (outlier, 20),
        "30 decades": (decades, 20),
        "constant": (np.full((500, 7), 3.25, np.float32), 3),
        "zeros": (np.zeros((100, 3), np.float32), 2),
        "one row": (X[:1], 1),
        "three rows": (X[:3], 3),
        "float16": (X.astype(np.float16), 50),
        "float64": (few[:, :16] + rng.bell((4000, 16)) * 1e-9, 20),
        "float64 huge": (wide * 1e300, 20),
        "float64 tiny": (wide * 1e-300, 20),
        "float64 outlier": (np.vstack([wide, np.full((1, 33), 1e200)]), 20),
    }


@pytest.mark.parametrize("name", hard_cases())
def test_hard_data(cp, name):
    X, K = hard_cases()[name]
    dtype = np.float64 if X.dtype == np.float64 else np.float32
    rng = Random(2)
    verify(cp, X, X[rng.choice(len(X), K)].astype(dtype))


@pytest.mark.parametrize("factor", [1.0, 1 + 2e-7, 1e4])
def test_duplicate_near_and_far_centroids(cp, factor):
    X = blobs(12001, 32)
    C = X[:200].copy()
    C[100:] = C[:100] * np.float32(factor)
    verify(cp, X, C, steps=2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["real", "small integers", "wide"])
def test_weights(cp, dtype, kind):
    rng = Random(3)
    X = blobs(8001, 32)
    w = rng.random(len(X))
    if kind == "small integers":
        w = rng.integers(0, 3, len(X)).astype(float)
        w[:6000] = 0
    if kind == "wide":
        w *= 10.0 ** rng.integers(-12, 12, len(X))
    verify(cp, X, X[:50], w.astype(dtype))
    verify(cp, X.astype(np.float64) * np.pi, X[:50].astype(np.float64), w.astype(dtype))


def test_layouts_are_copied_and_left_alone(cp):
    X = blobs(2000, 24)
    for view in (cp.asfortranarray(cp.asarray(X)), cp.asarray(np.repeat(X, 2, axis=1))[:, ::2]):
        before = view.copy()
        loop = DeviceLloyd(view)
        loop.settle(loop.start(X[:9]))
        assert wrong_labels(cp, X, X[:9], loop.labels().get()) == 0
        assert (view == before).all()


def fit(cp, X, C, *, limit=60, **options):
    loop = DeviceLloyd(cp.asarray(X), **options)
    handle = loop.start(C)
    iteration, changed = 0, 1
    while changed and iteration < limit:
        state = loop.step(handle)
        handle, changed = state.centroids, state.changed
        iteration += 1
    loop.settle(handle)
    return iteration, loop.labels().get().tobytes(), loop.fetch(handle).tobytes()


def test_repeated_runs_give_the_same_bits(cp):
    X = blobs(30000, 64, k=100)
    want = fit(cp, X, X[:100])
    assert all(fit(cp, X, X[:100]) == want for _ in range(100))


@pytest.mark.parametrize("D", [2, 48, 128, 200, 300])
def test_both_tensor_core_paths_give_the_same_bits(cp, D):
    X = blobs(20000, D, k=100)
    assert fit(cp, X, X[:100]) == fit(cp, X, X[:100], engine="mma")


def test_slow_means_give_the_same_bits(cp):
    X = blobs(20000, 20)
    assert fit(cp, X, X[:70]) == fit(cp, X, X[:70], testing=frozenset({"slow-means"}))


def test_without_the_certificate_labels_go_wrong(cp):
    """A test of the tests: the error bound is what makes labels right."""
    X = blobs(100000, 64, k=100, spread=1.0)
    loop = DeviceLloyd(cp.asarray(X), testing=frozenset({"no-certificate"}))
    loop.settle(loop.start(X[:100]))
    assert wrong_labels(cp, X, X[:100], loop.labels().get(), exact=0) > 0


def test_starting_again_with_other_numbers_of_clusters(cp):
    X = blobs(5000, 12)
    loop = DeviceLloyd(cp.asarray(X))
    kept = []
    for K in (5, 70, 5):
        handle = loop.start(X[:K])
        first = handle
        for _ in range(6):  # more than the ring of recent centroids holds
            handle = loop.step(handle).centroids
        loop.settle(handle)
        assert wrong_labels(cp, X, loop.fetch(handle), loop.labels().get()) == 0
        assert (loop.fetch(first) == X[:K]).all()
        kept.append((handle, loop.fetch(handle)))
    for handle, centroids in kept:
        assert (loop.fetch(handle) == centroids).all()


def test_a_step_with_empty_clusters_waits_for_the_host(cp):
    X = blobs(5000, 12)
    C = X[:10].copy()
    C[7] = C[3]
    C[9] = 1e6
    loop = DeviceLloyd(cp.asarray(X))
    handle = loop.start(C)
    state = loop.step(handle)
    assert state.n_empty == 2
    assert wrong_labels(cp, X, C, loop.labels().get()) == 0
    new = loop.fetch(state.centroids)
    assert (new[[7, 9]] == C[[7, 9]]).all()
    new[[7, 9]] = X[[100, 200]]
    state = loop.step(loop.upload(new))
    assert 0 < state.changed < len(X)


def check_threads(cp, X, C, n_threads, n_fits, **options):
    """Fits in several threads, each on a stream of its own, give what one alone gives."""
    want, found = fit(cp, X, C, **options), []

    def work():
        with cp.cuda.Stream(non_blocking=True):
            found.extend(fit(cp, X, C, **options) == want for _ in range(n_fits))

    threads = [threading.Thread(target=work) for _ in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * (n_threads * n_fits)


def test_streams_and_threads(cp):
    X = blobs(20000, 40)
    check_threads(cp, X, X[:50], 4, 5)


def test_a_memory_limit_says_how_much_is_wanted(cp):
    X = cp.asarray(blobs(5000, 32))
    with pytest.raises(MemoryError, match=r"wants [\d,]+ bytes.*stream"):
        DeviceLloyd(X, memory_limit=1000)
    loop = DeviceLloyd(X)
    loop.settle(loop.start(X[:4].get()))
    assert int(loop.labels().max()) <= 3


def test_column_sums(cp):
    from .checks import fractions, from_levels

    rng = Random(7)
    for X in (blobs(3000, 7), rng.bell((3000, 7)) * 1e200):
        w = rng.random(len(X))
        loop = DeviceLloyd(cp.asarray(X), cp.asarray(w))
        for power in (1, 2):
            for weighted in (False, True):
                levels, exponents = loop.column_sums(power=power, weighted=weighted)
                terms = [v**power for v in fractions(X[:, 3])]
                if weighted:
                    terms = [a * b for a, b in zip(terms, fractions(w), strict=True)]
                assert from_levels(levels[:, 3], exponents[:, 3]) == sum(terms)


@pytest.mark.slow
def test_more_than_two_to_the_31_elements(cp):
    free = cp.cuda.Device().mem_info[0]
    N, D = (1 << 31) // 256 + 4096, 256
    if free < N * D * 9:
        pytest.skip("needs about 20 GB on the device")
    X = cp.random.default_rng(0).standard_normal((N, D), dtype=cp.float32)
    C = X[-8:].get()
    loop = DeviceLloyd(X)
    loop.settle(loop.start(C))
    assert loop.labels()[-8:].get().tolist() == list(range(8))
    some = slice(N - 3000, N)
    assert wrong_labels(cp, X[some].get(), C, loop.labels()[some].get()) == 0
