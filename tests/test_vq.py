"""SciPy's vector quantization: side by side with SciPy where nothing is drawn at random."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

from kmeans_xp import vq
from kmeans_xp.seeding import Words
from kmeans_xp.vq._gaussian import gaussian

from . import datasets
from .helpers import assert_bits

scipy_vq = pytest.importorskip("scipy.cluster.vq")

# The data of the examples in SciPy's documentation of whiten, vq and kmeans.
WHITEN = np.array([[1.9, 2.3, 1.7], [1.5, 2.5, 2.2], [0.8, 0.6, 1.7]])
BOOK = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
FEATURES = np.array(
    [[1.9, 1.5, 0.8, 0.4, 0.1, 0.2, 2.0, 0.3, 1.0], [2.3, 2.5, 0.6, 1.8, 0.1, 1.8, 0.5, 1.5, 1.0]]
).T


def observations(dtype="float64", n=200, d=3):
    return datasets.make("blobs", dtype, n, d, 5, seed=8)


def same(ours, theirs, tolerance=1e-12):
    assert type(ours) is type(theirs)
    assert ours.dtype == theirs.dtype
    assert np.shape(ours) == np.shape(theirs)
    assert np.allclose(ours, theirs, rtol=tolerance, atol=tolerance)


class TestAgainstScipy:
    @pytest.mark.parametrize("dtype", ["float32", "float64", "int64"])
    def test_whiten(self, dtype):
        for obs in (WHITEN, observations(), observations()[:, 0]):
            obs = (obs * 8).astype(dtype)
            same(vq.whiten(obs), scipy_vq.whiten(obs), 1e-5 if dtype == "float32" else 1e-14)

    def test_whiten_leaves_constant_features(self):
        obs = np.array([[1.0, 7.0], [3.0, 7.0]])
        for module in (vq, scipy_vq):
            with pytest.warns(RuntimeWarning, match="standard deviation zero"):
                assert module.whiten(obs).tolist() == [[1.0, 7.0], [3.0, 7.0]]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            vq.whiten(obs, check_finite=False)

    def test_documented_example_of_vq(self):
        code, dist = vq.vq(WHITEN, BOOK)
        theirs = scipy_vq.vq(WHITEN, BOOK)
        assert_bits(code, theirs[0])
        same(dist, theirs[1], 1e-15)

    @pytest.mark.parametrize(
        "dtypes", list(itertools.product(["float32", "float64", "int64"], repeat=2))
    )
    @pytest.mark.parametrize("flat", [False, True])
    def test_vq(self, dtypes, flat):
        obs = observations()
        book = obs[::23] + 0.25
        obs, book = obs.astype(dtypes[0]), book.astype(dtypes[1])
        if flat:
            obs, book = obs[:, 0], book[:, 0]
        code, dist = vq.vq(obs, book)
        theirs = scipy_vq.vq(obs, book)
        assert np.array_equal(code, theirs[0])
        assert code.dtype == np.int32
        same(dist, theirs[1], 1e-6 if dtypes == ("float32",) * 2 else 1e-12)

    def test_documented_example_of_kmeans(self):
        white = vq.whiten(FEATURES)
        book = white[[0, 2]]
        for ours, theirs in zip(vq.kmeans(white, book), scipy_vq.kmeans(white, book), strict=True):
            same(ours, theirs)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("flat", [False, True])
    @pytest.mark.parametrize("thresh", [1e-5, 0.1, 0.0, 10.0])
    def test_kmeans_with_a_guess(self, thresh, flat, dtype):
        obs = observations(dtype)
        guess = obs[:11] + obs.dtype.type(0.5)
        if flat:
            obs, guess = obs[:, 0], guess[:, 0]
        ours = vq.kmeans(obs, guess, thresh=thresh)
        theirs = scipy_vq.kmeans(obs, guess, thresh=thresh)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b, 1e-5 if dtype == "float32" else 1e-12)

    def test_kmeans_drops_codes_without_observations(self):
        obs = observations()
        guess = np.concatenate([obs[:3], obs[:1], np.full((2, 3), 1e3), obs[3:5]])
        ours, theirs = vq.kmeans(obs, guess), scipy_vq.kmeans(obs, guess)
        assert len(ours[0]) == len(theirs[0]) < len(guess)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("flat", [False, True])
    @pytest.mark.parametrize("count", [1, 2, 5, 60])
    def test_kmeans2_with_a_matrix(self, count, flat, dtype):
        data = observations(dtype)
        start = data[5:16] + data.dtype.type(0.5)
        if flat:
            data, start = data[:, 0], start[:, 0]
        for minit in ("matrix", "random"):  # an array is a start whatever minit says
            ours = vq.kmeans2(data, start, count, minit=minit)
            theirs = scipy_vq.kmeans2(data, start, count, minit=minit)
            same(ours[0], theirs[0], 1e-5 if dtype == "float32" else 1e-12)
            assert_bits(ours[1], theirs[1])

    @pytest.mark.parametrize("count", [1, 2, 7])
    def test_kmeans2_with_missing_clusters(self, count):
        data = observations()
        start = np.concatenate([data[:2], data[:1], np.full((1, 3), 1e3), data[3:5]])
        found = []
        for module in (vq, scipy_vq):
            with pytest.warns(UserWarning, match="One of the clusters is empty"):
                found.append(module.kmeans2(data, start, count, minit="matrix"))
            with pytest.raises(module.ClusterError, match="One of the clusters is empty"):
                module.kmeans2(data, start, count, minit="matrix", missing="raise")
        same(found[0][0], found[1][0])
        assert_bits(found[0][1], found[1][1])

    @pytest.mark.parametrize("minit", ["random", "points", "++"])
    @pytest.mark.parametrize("flat", [False, True])
    @pytest.mark.parametrize("k", [3, np.array([3])])
    def test_shapes_of_random_starts(self, minit, flat, k):
        data = observations()[:, 0] if flat else observations()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="One of the clusters")
            ours = vq.kmeans2(data, k, minit=minit, rng=2)
            theirs = scipy_vq.kmeans2(data, 3, minit=minit, rng=2)
        for a, b in zip(ours, theirs, strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
        for a, b in zip(vq.kmeans(data, k, rng=1), scipy_vq.kmeans(data, 3, rng=1), strict=True):
            assert (type(a), np.shape(a), a.dtype) == (type(b), np.shape(b), b.dtype)

    def test_random_starts_are_as_good(self):
        """Other random numbers, so compare the mean distortion over many seeds."""
        data = observations()
        mean = {
            module: np.mean([module.kmeans(data, 5, 1, rng=s)[1] for s in range(60)])
            for module in (vq, scipy_vq)
        }
        assert mean[vq] <= 1.2 * mean[scipy_vq]

    def test_the_best_of_several_starts_is_kept(self):
        data = observations()
        costs = [float(vq.kmeans(data, 5, n, rng=1)[1]) for n in range(1, 9)]
        assert costs == sorted(costs, reverse=True)
        assert len(set(costs)) > 1

    def test_a_number_that_is_no_integer_is_converted(self):
        data = observations()
        for module in (vq, scipy_vq):
            with pytest.warns(UserWarning, match="k was not an integer"):
                assert module.kmeans2(data, 2.5, minit="points", rng=0)[0].shape == (2, 3)
            with pytest.raises(ValueError, match="integer"):
                module.kmeans(data, 2.5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_library_agrees(library, backend, dtype):
    data = observations(dtype, n=30)
    obs = library.asarray(data)
    white = vq.whiten(obs)
    assert library.owns(white)
    assert np.allclose(library.numpy(white), vq.whiten(data), rtol=1e-5)
    code, dist = vq.vq(obs, obs[:7, :])
    assert library.owns(code) and library.owns(dist)
    expected = vq.vq(data, data[:7])
    assert_bits(library.numpy(code), expected[0])
    assert np.allclose(library.numpy(dist), expected[1], rtol=1e-6)
    if backend == "generic" and library.name == "jax":
        return  # what follows is `kmeans`, which test_bits.py runs so; JAX compiles for every shape
    for found, expected in (
        (vq.kmeans(obs, 3, 2, rng=5), vq.kmeans(data, 3, 2, rng=5)),
        (vq.kmeans(obs, obs[:9, :]), vq.kmeans(data, data[:9])),
    ):
        assert library.owns(found[0])
        assert_bits(library.numpy(found[0]), expected[0])
        assert float(found[1]) == pytest.approx(float(expected[1]), rel=1e-6)
    for minit in ("random", "points", "++") if backend == "native" else ("random",):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="One of the clusters")
            found = vq.kmeans2(obs, 4, 3, minit=minit, seed=5)
            expected = vq.kmeans2(data, 4, 3, minit=minit, rng=5)
        for a, b in zip(found, expected, strict=True):
            assert library.owns(a)
            assert_bits(library.numpy(a), b)


def test_one_dimension_on_every_library(library):
    data = observations("float32", n=30)[:, 0]
    obs = library.asarray(data)
    assert_bits(library.numpy(vq.vq(obs, obs[:4])[0]), vq.vq(data, data[:4])[0])
    book, _ = vq.kmeans(obs, 3, 2, rng=1)
    assert_bits(library.numpy(book), vq.kmeans(data, 3, 2, rng=1)[0])
    assert vq.whiten(obs).shape == (30,)


def test_a_wide_code_book_is_not_rounded(library):
    """Observations between two codes that are one float32."""
    obs = library.asarray(np.array([[1.0], [2.0]], dtype="float32"))
    code, dist = vq.vq(obs, np.array([[1 + 2.0**-40], [1 + 2.0**-41]]))
    if library.__class__.__name__ == "Jax32":  # it has no float64 to compute in
        assert library.numpy(code).tolist() == [0, 0]
    else:
        assert library.numpy(code).tolist() == [1, 0]
        assert library.numpy(dist).tolist() == [2.0**-41, 1 - 2.0**-40]


def test_distances_neither_over_nor_underflow():
    for scale in (2.0**1000, 2.0**-1000):
        _, dist = vq.vq(np.array([[3.0, 4.0]]) * scale, np.zeros((1, 2)))
        assert dist.tolist() == [5.0 * scale]


def test_the_gaussian_has_the_moments_of_the_data():
    data = observations() @ np.array([[1.0, 2.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.0, 0.0]]) + 50
    drawn = gaussian(data, 20_000, Words(1))
    assert np.allclose(drawn.mean(axis=0), data.mean(axis=0), atol=0.3)
    assert np.allclose(np.cov(drawn.T), np.cov(data.T), rtol=0.05, atol=0.01)
    wide = data[:3].T  # more features than... rows: 3 rows would do
    wide = np.concatenate([wide, wide**2 / 50], axis=1)[:3]
    few = gaussian(wide, 20_000, Words(2))
    assert np.allclose(np.cov(few.T), np.cov(wide.T), rtol=0.05, atol=0.5)


def test_lists():
    assert vq.kmeans([1.0, 2.0, 9.0, 11.0], [1.0, 9.0])[0].tolist() == [1.5, 10.0]
    code, dist = vq.vq([[0, 0], [4, 3]], [[0, 0]])
    assert (code.tolist(), dist.tolist()) == ([0, 0], [0.0, 5.0])


def test_sparse_observations_are_refused():
    sparse = pytest.importorskip("scipy.sparse").csr_array(OBS)
    for call in (vq.whiten, lambda obs: vq.vq(obs, OBS), lambda obs: vq.kmeans(obs, 2)):
        with pytest.raises(TypeError, match=r"obs is a sparse matrix.*obs\.toarray"):
            call(sparse)


OBS = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: vq.vq(OBS, OBS[:, :1]), ValueError, "code_book must have shape"),
        (lambda: vq.vq(OBS, [1.0, 2.0]), ValueError, "code_book must have as many dimensions"),
        (lambda: vq.vq(OBS[:, 0], OBS), ValueError, "code_book must have as many dimensions"),
        (lambda: vq.vq(OBS, OBS[:0]), ValueError, "code_book must hold at least one"),
        (lambda: vq.vq(OBS[None], OBS), ValueError, "obs must be two-dimensional"),
        (lambda: vq.vq(OBS * np.nan, OBS), ValueError, "obs must not hold infinity or NaN"),
        (lambda: vq.vq(OBS * np.inf, OBS, False), ValueError, "finite"),
        (lambda: vq.vq(OBS, OBS * np.nan), ValueError, "code_book must be finite"),
        (lambda: vq.whiten(OBS * np.nan), ValueError, "obs must not hold"),
        (lambda: vq.whiten(None), TypeError, "obs must be an array"),
        (lambda: vq.kmeans(OBS, 0), ValueError, "k_or_guess must be at least 1"),
        (lambda: vq.kmeans(OBS, 4), ValueError, "k_or_guess must be at most.*4 for 3"),
        (lambda: vq.kmeans(OBS, None), TypeError, "k_or_guess must be a number of clusters"),
        (lambda: vq.kmeans(OBS, "++"), TypeError, "k_or_guess must be a number of clusters"),
        (lambda: vq.kmeans(OBS, np.zeros((0, 2))), ValueError, "k_or_guess must hold at least"),
        (lambda: vq.kmeans(OBS, 2, 0), ValueError, "iter must be >= 1"),
        (lambda: vq.kmeans(OBS, 2, thresh=-1), ValueError, "thresh must be a number >= 0"),
        (lambda: vq.kmeans(OBS, 2, thresh=np.nan), ValueError, "thresh must be a number >= 0"),
        (lambda: vq.kmeans(OBS, 2, rng=1, seed=1), TypeError, "rng and seed are one argument"),
        (lambda: vq.kmeans(OBS, 2, rng="x"), TypeError, "random_state"),
        (lambda: vq.kmeans2(OBS, 2, 0), ValueError, "iter must be >= 1"),
        (lambda: vq.kmeans2(OBS, 0), ValueError, "k must be at least 1"),
        (lambda: vq.kmeans2(OBS, 4, minit="points"), ValueError, "k must be at most"),
        (lambda: vq.kmeans2(OBS, 2, minit="matrix"), ValueError, "k must have as many dim"),
        (lambda: vq.kmeans2(OBS, OBS[:, :1]), ValueError, "k must have shape"),
        (lambda: vq.kmeans2(OBS, 2, minit="kmeans"), ValueError, "minit must be one of"),
        (lambda: vq.kmeans2(OBS, 2, missing="drop"), ValueError, "missing must be 'warn'"),
        (lambda: vq.kmeans2(OBS * np.inf, 2), ValueError, "data must not hold"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
