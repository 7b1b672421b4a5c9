"""One hash per dataset and seed, whatever the library, backend, block size and thread count.

The expected hashes come from `reference.py`; see `make_hashes.py` for writing them anew.
"""

import json

import numpy as np
import pytest

from kmeans_xp import kmeans_plusplus, predict
from kmeans_xp.result import fingerprint

from . import datasets, reference
from .conftest import LIBRARIES, entered
from .helpers import BACKENDS, assert_bits, environment, run
from .make_hashes import FILE, LARGE, SMALL

EXPECTED = json.loads(FILE.read_text())


def fit(library, case, **settings):
    """The hash of one run, after a look at where its arrays live."""
    X = library.asarray(case.data())
    with environment(**settings):
        result = run(X, sample_weight=case.sample_weight(), **case.options())
    assert library.owns(result.labels)
    assert library.owns(result.centroids)
    labels, centroids = library.numpy(result.labels), library.numpy(result.centroids)
    bits = reference.fingerprint(labels, centroids, result.inertia, result.n_iter)
    assert fingerprint(result) == bits
    return bits


@pytest.fixture(scope="module", params=LIBRARIES)
def library(request):
    """Entered once for all cases, so that JAX compiles once."""
    with entered(request.param) as found:
        yield found


# Small data leave torch's threads little to share: a quarter of it is for them, and LARGE.
PLACES = [(name, case) for name in LIBRARIES for case in SMALL[:: 4 if name == "torch-2" else 1]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("library", "case"), PLACES, ids=lambda of: getattr(of, "name", of), indirect=["library"]
)
@pytest.mark.filterwarnings("ignore:inertia is inf:RuntimeWarning")
def test_every_library(library, case, backend):
    assert fit(library, case, backend=backend) == EXPECTED[case.name]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rows", [1000, 7001, 10**9])
@pytest.mark.parametrize("case", LARGE, ids=lambda case: case.name)
def test_every_block_size_and_thread_count(case, rows, threads, backend):
    with entered("numpy") as numpy:
        bits = fit(numpy, case, block_rows=rows, num_threads=threads, backend=backend)
    assert bits == EXPECTED[case.name]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("algorithm", ["lloyd", "hamerly", "elkan"])
@pytest.mark.parametrize("case", SMALL + LARGE, ids=lambda case: case.name)
@pytest.mark.filterwarnings("ignore:inertia is inf:RuntimeWarning")
def test_every_algorithm(case, algorithm, backend):
    with environment(backend=backend):
        options = {**case.options(), "algorithm": algorithm}
        result = run(case.data(), sample_weight=case.sample_weight(), **options)
    assert fingerprint(result) == EXPECTED[case.name]


@pytest.mark.parametrize("rows", [1000, 7001, 10**9])
def test_every_block_size_in_every_library(library, rows):
    bits = fit(library, LARGE[0], block_rows=rows, num_threads=2, backend="generic")
    assert bits == EXPECTED[LARGE[0].name]


@pytest.mark.parametrize("backend", BACKENDS)
def test_starts_and_predictions_in_every_library(library, backend):
    X = datasets.make("uniform", "float32", 60, 3)
    Y = library.asarray(X)
    rows = reference.kmeans_plusplus(X, 4, words=reference.Words(3))
    with environment(backend=backend):
        centroids, indices = kmeans_plusplus(Y, 4, random_state=3)
        labels = predict(Y, centroids)
    assert all(library.owns(array) for array in (centroids, indices, labels))
    assert library.numpy(indices).tolist() == rows
    assert_bits(library.numpy(centroids), X[rows])
    assert_bits(library.numpy(labels), reference.predict(X, X[rows]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_init_from_another_library(library, backend):
    X = datasets.make("uniform", "float32", 60, 3)
    expected = fingerprint(reference.kmeans(X, 4, init=X[:4]))
    mine, other = library.asarray(X), library.asarray(X[:4])
    with environment(backend=backend):
        assert fingerprint(run(mine, 4, init=X[:4])) == expected
        assert fingerprint(run(X, 4, init=other)) == expected
        assert_bits(predict(X, other), reference.predict(X, X[:4]))


def test_results_stay_on_the_device():
    X = datasets.make("uniform", "float32", 60, 3)
    with entered("strict") as strict:
        device = strict.xp.Device("device1")
        result = run(strict.asarray(X).to_device(device), 4, random_state=0)
        assert result.labels.device == result.centroids.device == device
        assert fingerprint(result) == fingerprint(reference.kmeans(X, 4, random_state=0))


def test_weights_in_the_same_namespace(library):
    case = SMALL[1]
    X, weights = library.asarray(case.data()), library.asarray(case.sample_weight())
    for backend in BACKENDS:
        with environment(backend=backend):
            result = run(X, sample_weight=weights, **case.options())
        assert fingerprint(result) == EXPECTED[case.name]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_integers_in_every_library(library, dtype, backend):
    X = (datasets.integers(1, (60, 3), 9) // (5 if dtype == "bool" else 1)).astype(dtype)
    with environment(backend=backend):
        result = run(library.asarray(X), 3, random_state=0)
    truth = reference.kmeans(X, 3, random_state=0)
    assert library.numpy(result.centroids).dtype == np.float64
    assert fingerprint(result) == fingerprint(truth)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["torch-1", "jax-x64", "jax-x32"])
def test_bfloat16(name, backend):
    X = datasets.make("blobs", "float32", 300, 3)
    with entered(name) as library, environment(backend=backend):
        Y = library.asarray(X)
        Y = Y.bfloat16() if name == "torch-1" else Y.astype("bfloat16")
        stored = library.numpy(Y.float() if name == "torch-1" else Y.astype("float32"))
        assert (stored != X).any()
        result = run(Y, 5, random_state=0)
    truth = reference.kmeans(stored, 5, random_state=0)
    assert library.numpy(result.centroids).dtype == np.float32
    assert fingerprint(result) == fingerprint(truth)


@pytest.mark.parametrize("backend", BACKENDS)
def test_torch_layouts(backend):
    X = datasets.make("blobs", "float32", 300, 3)
    expected = fingerprint(run(X, 5, random_state=0))
    with entered("torch-1") as torch, environment(backend=backend):
        tensor = torch.asarray(X)
        wide = torch.xp.zeros(600, 6)
        wide[::2, ::2] = tensor
        for view in (tensor.T.contiguous().T, wide[::2, ::2], tensor.requires_grad_()):
            assert fingerprint(run(view, 5, random_state=0)) == expected


def test_every_committed_hash_is_used():
    assert sorted(EXPECTED) == sorted(case.name for case in SMALL + LARGE)
