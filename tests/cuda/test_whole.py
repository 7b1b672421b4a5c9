"""Whole fits of tiny problems by a block each; `emulated` runs the same tests without a device."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from kmeans_xp import kmeans, predict, single
from kmeans_xp.backends import cuda_kernels, nvrtc
from kmeans_xp.backends.convert import to_numpy
from kmeans_xp.blocks import device_tiny
from kmeans_xp.result import fingerprint
from tests.helpers import assert_bits

from .checks import Random

B, N, D = 5, 70, 3
SIZES = np.array([70, 1, 33, 64, 50])
CLUSTERS = np.array([4, 1, 9, 2, 5])
OFFSETS = np.concatenate([[0], np.cumsum(SIZES)])
PADDED = {"lengths": SIZES, "n_clusters": CLUSTERS}


def data(kind="normal", dtype="float32", shape=(B, N, D)):
    rng = Random(1)
    x = rng.bell(shape)
    if kind == "lattice":
        x = np.rint(x * 2)
    if kind == "offset":
        x += 1e6
    if kind == "decades":
        x *= 10.0 ** rng.integers(-12, 12, shape[-1:])
    if kind == "few distinct":
        x = np.rint(x)[..., :1] * np.ones(shape)
    return x.astype(dtype)


def weights(shape=(B, N)):
    return np.where(np.arange(shape[-1]) % 4, Random(2).random(shape), 0)


@pytest.fixture
def left(monkeypatch):
    """Which problems each launch has left."""
    seen, fit = [], device_tiny.fit_whole

    def fitted(problems, which, *rest):
        found = fit(problems, which, *rest)
        seen.append([int(b) for b in which if found.n_iter[b] < 0])
        return found

    monkeypatch.setattr(device_tiny, "fit_whole", fitted)
    return seen


@pytest.fixture
def ones(monkeypatch):
    """Single fits are done whole, whatever other tests do."""
    monkeypatch.setattr(single, "device_solver", device_tiny.device_solver)


def check(cp, x, n_clusters=4, **options):
    """The batch on the device is that of the host."""
    options = {"random_state": 3, **options}
    truth = kmeans(x, n_clusters, **options)
    if "sample_weight" in options:
        options["sample_weight"] = cp.asarray(options["sample_weight"])
    found = kmeans(cp.asarray(x), n_clusters, **options)
    assert isinstance(found.labels, cp.ndarray) and isinstance(found.centroids, cp.ndarray)
    assert_bits(found.labels.get(), to_numpy(truth.labels))
    assert_bits(found.centroids.get(), truth.centroids)
    for name in ("inertia", "n_iter", "converged", "n_clusters_used", "lengths"):
        assert_bits(getattr(found, name), getattr(truth, name))
    return found


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("init", ["k-means++", "random"])
@pytest.mark.parametrize("weighted", [False, True])
def test_starts_types_and_weights(cp, left, dtype, init, weighted):
    options = {"sample_weight": weights()} if weighted else {}
    check(cp, data(dtype=dtype), init=init, n_init=2, **options)
    assert left == [[]]


@pytest.mark.filterwarnings("ignore::kmeans_xp.ConvergenceWarning")
@pytest.mark.parametrize("kind", ["lattice", "offset", "decades", "few distinct"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_hard_numbers(cp, left, kind, dtype):
    check(cp, data(kind, dtype))
    assert left == [[]]


def test_integers(cp, left):
    check(cp, data("lattice", "int32"))
    assert left == [[]]


@pytest.mark.filterwarnings("ignore::kmeans_xp.ConvergenceWarning")
@pytest.mark.parametrize("layout", ["padded", "flat"])
@pytest.mark.parametrize("weighted", [False, True])
def test_layouts(cp, left, layout, weighted):
    x, w, options = data(), weights(), dict(PADDED)
    if layout == "flat":
        rows = np.arange(N) < SIZES[:, None]
        x, w = x[rows], w[rows]
        options = {"offsets": OFFSETS, "n_clusters": CLUSTERS}
    else:
        x[1, 5:] = np.nan
    if weighted:
        options["sample_weight"] = np.where(w == 0, 0.5, w)
    found = check(cp, x, **options)
    assert left == [[]]
    again = predict(cp.asarray(x), found.centroids, **{k: v for k, v in options.items() if k in
                    ("lengths", "offsets")})  # fmt: skip
    assert_bits(again.get(), found.labels.get())
    assert left == [[], []]


@pytest.mark.filterwarnings("ignore::kmeans_xp.ConvergenceWarning")
@pytest.mark.parametrize(("tol", "limit"), [(0.0, 1), (0.0, 3), (0.5, 300), (1e-4, 2)])
def test_stop_rules(cp, left, tol, limit):
    check(cp, data(dtype="float64"), tol=tol, max_iter=limit)
    assert left == [[]]


@pytest.mark.filterwarnings("ignore::kmeans_xp.ConvergenceWarning")
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_empty_clusters_and_given_centroids(cp, left, weighted, dtype):
    x = data(dtype=dtype)
    init = np.concatenate([x[:, :3], np.full((B, 3, D), 1e3, dtype)], axis=1)
    options = {"sample_weight": weights()} if weighted else {}
    for given in (init, init[2]):
        check(cp, x, 6, init=given, **options)
    assert left == [[], []]


def test_problems_that_are_left_are_fitted_otherwise(cp, ones, left):
    x = data()
    x[2, 4] = 1e30
    x[4] *= np.float32(1e-42)
    w = weights()
    check(cp, x)
    w[3, 5] = 1e200
    check(cp, data(), sample_weight=w)
    assert left == [[2], [0], [3], [0]]  # each tried once more by itself


@pytest.mark.filterwarnings("ignore::kmeans_xp.ConvergenceWarning")
def test_rows_that_shared_memory_does_not_hold(cp, left, monkeypatch):
    current = cuda_kernels.Target.current

    def little(engine="auto"):
        return dataclasses.replace(current(engine=engine), shared_bytes=3000)

    monkeypatch.setattr(cuda_kernels.Target, "current", little)
    check(cp, data(), **PADDED)
    check(cp, data(dtype="float64"), 3, sample_weight=weights())
    assert left == [[], []]


@pytest.mark.filterwarnings("ignore::kmeans_xp.ConvergenceWarning")
def test_more_rows_than_threads(cp, left):
    x = data(shape=(1, 1100, 2))
    check(cp, x, 40, max_iter=2)
    assert left == [[]]


def test_a_batch_of_the_host(cp, left):
    x = data()
    truth = kmeans(x, 3, random_state=0)
    found = kmeans(x, 3, random_state=0, device="cuda")
    for name in ("labels", "centroids", "inertia", "n_iter"):
        assert_bits(getattr(found, name), getattr(truth, name))
    assert_bits(predict(x, found.centroids, device="cuda"), truth.labels)
    assert left == [[], []]


def test_a_kernel_that_does_not_compile_is_done_without(cp, monkeypatch):
    def refused(*_):
        raise nvrtc.DeviceUnsupported("no")

    monkeypatch.setattr(device_tiny, "fit_whole", refused)
    x = data(shape=(2, 40, 3))
    check(cp, x)
    assert_bits(predict(cp.asarray(x), x[0, :3]).get(), predict(x, x[0, :3]))


WAYS = {
    "several starts": {"n_init": 3},
    "random": {"init": "random"},
    "given": {"init": data()[0, :4]},
    "weights": {"sample_weight": weights()[0]},
    "numpy": {"device": "cuda"},
}


@pytest.mark.parametrize("way", WAYS)
def test_single_fits(cp, ones, left, way):
    x, options = data()[0], {"random_state": 5, **WAYS[way]}
    truth = kmeans(x, 4, **{k: v for k, v in options.items() if k != "device"})
    there = x if "device" in options else cp.asarray(x)
    found = kmeans(there, 4, **options)
    assert isinstance(found.labels, type(there)) and isinstance(found.centroids, type(there))
    assert fingerprint(found) == fingerprint(truth) and found.converged == truth.converged
    assert left == [[]]


def test_single_fits_that_are_left(cp, ones, left):
    x = data()[0]
    x[3] = 1e30
    found = kmeans(cp.asarray(x), 4, random_state=0)
    assert fingerprint(found) == fingerprint(kmeans(x, 4, random_state=0))
    assert left == [[0]]
    x[7, 1] = np.nan
    with pytest.raises(ValueError, match=r"X\[7, 1\] is nan"):
        kmeans(cp.asarray(x), 4)


def test_integers_beyond_float64_are_refused(cp, ones, left):
    x = np.arange(40).reshape(20, 2)
    x[3, 1] = 2**53 + 1
    for rows, device in ((cp.asarray(x), None), (x, "cuda")):
        with pytest.raises(ValueError, match=r"X\[3, 1\] is 9007199254740993"):
            kmeans(rows, 2, device=device)
    assert left == []


@pytest.mark.parametrize("place", ["host", "device"])
def test_rows_that_are_not_tiny_are_not_copied(cp, monkeypatch, place):
    x = np.zeros((2, (1 << 17) + 1, 2), np.float32)
    there = x if place == "host" else cp.asarray(x).transpose(0, 2, 1).copy().transpose(0, 2, 1)

    def refused(*_, **__):
        raise AssertionError("copied")

    for name in ("asarray", "ascontiguousarray"):
        monkeypatch.setattr(cp, name, refused)
    solver = device_tiny.device_solver(there, "cuda" if place == "host" else None)
    assert not solver.suits(np.full(2, x.shape[1]), np.full(2, 8), False).any()


def test_seeds_of_generators_are_drawn_from_once(cp, ones):
    x, states = data()[0], [np.random.default_rng(7) for _ in range(2)]
    pairs = zip((x, cp.asarray(x)), states, strict=True)
    found = [[kmeans(where, 4, random_state=state) for _ in range(2)] for where, state in pairs]
    for a, b in zip(*found, strict=True):
        assert fingerprint(a) == fingerprint(b)
