"""What must hold whatever the data: symmetries of k-means, and layouts that change nothing."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from . import datasets, reference
from .helpers import assert_bits, assert_same, run

settings.register_profile("kmeans", deadline=None, max_examples=40, derandomize=True)
settings.load_profile("kmeans")

sizes = st.tuples(st.integers(4, 24), st.integers(1, 4))
few = st.tuples(st.integers(4, 8), st.integers(1, 3))
lattices = npst.arrays(np.int64, sizes, elements=st.integers(-6, 6)).map(lambda q: q / 4)
reals = npst.arrays(np.int64, sizes, elements=st.integers(-(2**24), 2**24)).map(np.float32)
data = st.one_of(lattices, reals, reals.map(lambda x: x / np.float64(3)))
seeds = st.integers(0, 2**32)


def started(X, k=3, **options):
    """X with its first distinct rows as init; assumes that no cluster is ever empty."""
    init = X[sorted(np.unique(X, axis=0, return_index=True)[1])][:k]
    options = {"init": init, "tol": 0, "max_iter": 20, **options}
    assume(len(init) == k)
    assume(reference.kmeans(X, k, **options).empties == 0)
    return k, options


@given(data, st.randoms(use_true_random=False))
def test_permuting_rows_permutes_labels(X, random):
    k, options = started(X)
    order = np.array(random.sample(range(len(X)), len(X)))
    result, permuted = run(X, k, **options), run(X[order], k, **options)
    assert_same(permuted, result, labels=result.labels[order])


@given(data, st.data())
def test_weight_two_is_a_row_twice(X, choice):
    counts = choice.draw(npst.arrays(np.int64, len(X), elements=st.integers(1, 3)))
    k, options = started(X, sample_weight=counts)
    weighted = run(X, k, **options)
    del options["sample_weight"]
    repeated = run(np.repeat(X, counts, axis=0), k, **options)
    assert_same(repeated, weighted, labels=np.repeat(weighted.labels, counts))


@given(data, st.integers(-40, 40), st.sampled_from(["array", "k-means++", "random"]), seeds)
def test_scaling_by_a_power_of_two(X, power, init, seed):
    k, options = started(X)
    if init != "array":
        options = {"init": init, "n_init": 1, "random_state": seed, "tol": 1e-3}
    result = run(X, k, **options)
    if init == "array":
        options["init"] = np.ldexp(options["init"], power)
    scaled = run(np.ldexp(X, power), k, **options)
    assert_bits(scaled.labels, result.labels)
    assert_bits(scaled.centroids, np.ldexp(result.centroids, power))
    assert scaled.inertia == np.ldexp(result.inertia, 2 * power)
    assert (scaled.n_iter, scaled.converged) == (result.n_iter, result.converged)


@given(
    npst.arrays(np.int64, few, elements=st.integers(-9, 9)),
    npst.arrays(np.int64, 3, elements=st.integers(-(2**20), 2**20)),
)
def test_translation_where_all_means_are_integers(steps, shift):
    X = steps * 840.0  # 840 is a multiple of 1, 2, ..., 8, the possible sizes of a cluster
    shift = shift[: X.shape[1]].astype(np.float64)
    k, options = started(X, k=2)
    result = run(X, k, **options)
    moved = run(X + shift, k, **{**options, "init": options["init"] + shift})
    assert_bits(moved.labels, result.labels)
    assert_bits(moved.centroids, result.centroids + shift)
    assert (moved.inertia, moved.n_iter) == (result.inertia, result.n_iter)


@given(data, st.sampled_from(["array", "k-means++", "random"]), seeds, st.sampled_from("fd"))
def test_weights_of_one_are_no_weights(X, init, seed, dtype):
    k, options = started(X)
    options = {**options, "random_state": seed, "n_init": 1}
    options = options if init == "array" else {**options, "init": init}
    ones = np.ones(len(X), dtype)
    assert_same(run(X, k, sample_weight=ones, **options), run(X, k, **options))


@given(data, st.integers(-30, 30))
def test_a_common_power_of_two_in_the_weights_changes_only_the_inertia(X, power):
    k, options = started(X)
    weights = np.linspace(1, 2, len(X))
    result = run(X, k, sample_weight=weights, **options)
    scaled = run(X, k, sample_weight=np.ldexp(weights, power), **options)
    assert_bits(scaled.labels, result.labels)
    assert_bits(scaled.centroids, result.centroids)
    assert scaled.inertia == np.ldexp(result.inertia, power)


@given(data, seeds)
def test_the_result_is_consistent(X, seed):
    """Labels and inertia belong to the centroids, and a run from there stops at once."""
    result = run(X, 3, random_state=seed, tol=0)
    assert_bits(result.labels, reference.predict(X, result.centroids))
    again = run(X, 3, init=result.centroids, tol=0)
    if result.converged and len(set(result.labels.tolist())) == 3:
        assert again.n_iter == 1
        assert_bits(again.labels, result.labels)
        assert_bits(again.centroids, result.centroids)
        assert again.inertia == result.inertia


# Layouts


def memmap(X, folder):
    path = folder / "X.bin"
    X.tofile(path)
    return np.memmap(path, dtype=X.dtype, mode="r", shape=X.shape)


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def misaligned(X):
    raw = np.zeros(X.nbytes + 1, np.uint8)
    view = raw[1:].view(X.dtype).reshape(X.shape)
    view[:] = X
    return view


LAYOUTS = {
    "Fortran": lambda X, _: np.asfortranarray(X),
    "every other row": lambda X, _: np.repeat(X, 2, axis=0)[::2],
    "every third column": lambda X, _: np.repeat(X, 3, axis=1)[:, ::3],
    "rows backwards": lambda X, _: X[::-1].copy()[::-1],
    "all backwards": lambda X, _: X[::-1, ::-1].copy()[::-1, ::-1],
    "transposed and strided": lambda X, _: np.repeat(X.T, 2, axis=1)[:, ::2].T,
    "read-only": lambda X, _: read_only(X),
    "other byte order": lambda X, _: X.astype(X.dtype.newbyteorder()),
    "misaligned": lambda X, _: misaligned(X),
    "memmap": memmap,
}


@pytest.mark.parametrize("init", ["k-means++", "array"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(layout, dtype, init, tmp_path, backend):
    X = datasets.make("grid", "float64", 90, 3).astype(dtype)
    Y = LAYOUTS[layout](X, tmp_path)
    weights = datasets.weights("float32", 90)
    options = {"sample_weight": weights, "random_state": 0}
    result = run(X, 5, init=X[:5] if init == "array" else init, **options)
    assert_same(run(Y, 5, init=Y[:5] if init == "array" else init, **options), result)
    assert np.array_equal(Y, X)


@pytest.mark.parametrize("view", [slice(None, None, 2), slice(None, None, -1)])
@pytest.mark.parametrize("order", [">", "<"])
def test_layout_of_weights(view, order, backend):
    X = datasets.make("uniform", "float32", 60, 3)
    weights = datasets.uniform(3, 120).astype(order + "f4")[view][:60]
    plain = np.ascontiguousarray(weights, dtype="f4")
    result = run(X, 4, sample_weight=plain, random_state=0)
    assert_same(run(X, 4, sample_weight=weights, random_state=0), result)
    assert_bits(np.ascontiguousarray(weights, dtype="f4"), plain)
