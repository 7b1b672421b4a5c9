"""Every way into the loop: what comes back has the bits of the CPU, and lives where it should."""

from __future__ import annotations

import numpy as np
import pytest

import kmeans_xp
from kmeans_xp import kmeans, predict
from kmeans_xp.backends import cuda_seeding, nvrtc
from kmeans_xp.backends.convert import to_numpy
from kmeans_xp.backends.installation import _cuda_device
from kmeans_xp.prediction import distances, inertia
from kmeans_xp.result import fingerprint
from tests import datasets
from tests.helpers import assert_bits, interrupted

X = datasets.make("blobs", "float32", 300, 3)
W = datasets.weights("float64", 300)
DOUBLED = np.repeat(X[:4], 20, axis=0)
EMPTY = X[:6].copy()
EMPTY[3], EMPTY[5] = EMPTY[1], 1e6

# what is fitted, and how
WAYS = {
    "several random starts": (X, {"init": "random", "n_init": 2}),
    "several seeded starts": (X, {"n_init": 2}),
    "float64": (X * np.pi, {}),
    "float16": (X.astype(np.float16), {}),
    "Fortran order": (np.asfortranarray(X), {}),
    "every other row": (X[::2], {}),
    "every other column": (X[:, ::2], {}),
    "bool": (X > 0, {"n_clusters": 2}),
    "int8": (np.abs(X).astype(np.int8), {}),
    "int64": (np.abs(X).astype(np.int64), {}),
    "weights": (X, {"sample_weight": W}),
    "float32 weights": (X, {"sample_weight": W.astype(np.float32)}),
    "mostly zero weights": (X, {"sample_weight": np.where(np.arange(300) < 250, 0, W)}),
    "empty clusters": (X, {"n_clusters": 6, "init": EMPTY}),
    "empty clusters and weights": (X, {"n_clusters": 6, "init": EMPTY, "sample_weight": W}),
    "empty float64 clusters": (X * np.pi, {"n_clusters": 6, "init": EMPTY.astype(float)}),
    "a callable init": (X, {"init": lambda X, n, random_state: X[:n]}),
    "seeding on a sample": (X, {"init_size": 100, "sample_weight": W}),
    "k-means||": (X, {"init": "k-means||"}),
    "cosine": (X, {"metric": "cosine"}),
    "elkan": (X, {"algorithm": "elkan"}),
    "one cluster": (X, {"n_clusters": 1}),
    "all rows": (X[:20], {"n_clusters": 20}),
    "a wide tolerance": (X, {"tol": 0.3}),
}


def same(found, truth, kind):
    """`found`, whose arrays are of this kind, is `truth` on the host."""
    assert isinstance(found.labels, kind)
    assert isinstance(found.centroids, kind)
    assert fingerprint(found) == fingerprint(truth)
    assert found.converged == truth.converged


@pytest.mark.parametrize("way", WAYS)
def test_ways(cp, way):
    data, options = WAYS[way]
    options = {"n_clusters": 5, "random_state": 0, **options}
    truth = kmeans(data, **options)
    x = cp.asarray(data)
    if way in ("float64", "int8", "empty clusters"):
        same(kmeans(data, **options, device="cuda"), truth, np.ndarray)
    if "sample_weight" in options:
        options["sample_weight"] = cp.asarray(options["sample_weight"])
    same(kmeans(x, **options), truth, cp.ndarray)
    assert_bits(x.get(), np.ascontiguousarray(data))  # left alone


@pytest.mark.filterwarnings("ignore::kmeans_xp.ConvergenceWarning")
@pytest.mark.parametrize("limit", [1, 3])
def test_the_limit_of_iterations(cp, limit):
    options = {"random_state": 0, "max_iter": limit, "tol": 0}
    same(kmeans(cp.asarray(X), 5, **options), kmeans(X, 5, **options), cp.ndarray)


@pytest.mark.filterwarnings("ignore::kmeans_xp.ConvergenceWarning")
def test_fewer_points_than_clusters(cp):
    truth = kmeans(DOUBLED, 6, random_state=0)
    same(kmeans(cp.asarray(DOUBLED), 6, random_state=0), truth, cp.ndarray)


@pytest.mark.parametrize("name", ["torch", "jax.numpy"])
def test_host_arrays_of_others_get_theirs_back(cp, name):
    xp = pytest.importorskip(name)
    x = xp.asarray(X.copy())
    found = kmeans(x, 5, random_state=0, device="cuda")
    same(found, kmeans(X, 5, random_state=0), type(x))


def test_callbacks_see_the_same(cp):
    seen = [], []
    for x, states in zip((X, cp.asarray(X)), seen, strict=True):

        def look(state, states=states):
            numbers = state.iteration, state.inertia, state.changed, state.relocated, state.start
            states.append((*numbers, to_numpy(state.centroids).tobytes()))

        kmeans(x, 5, random_state=0, n_init=2, callback=look)
    assert seen[0] == seen[1]
    assert len(seen[0]) > 2
    stopped = [kmeans(x, 5, random_state=0, callback=lambda _: True) for x in (X, cp.asarray(X))]
    same(stopped[1], stopped[0], cp.ndarray)


@pytest.mark.parametrize("at", [1, 4])
def test_checkpoints_move_between_host_and_device(cp, tmp_path, at):
    options = {"n_clusters": 5, "random_state": 0, "n_init": 2, "tol": 0}
    truth = kmeans(X, **options)
    places = cp.asarray(X), X
    for i, (before, after) in enumerate((places, places[::-1])):
        assert interrupted(before, tmp_path / str(i), at, **options)
        found = kmeans(after, **options, resume=tmp_path / str(i))
        same(found, truth, type(after))


def test_labels_in_memory_of_the_caller(cp):
    for x, device in ((cp.asarray(X), None), (X, "cuda")):
        out = np.full(300, -1, np.int32)
        found = kmeans(x, 5, random_state=0, labels_out=out, device=device)
        assert fingerprint(found) == fingerprint(kmeans(X, 5, random_state=0))
        assert (out == kmeans(X, 5, random_state=0).labels).all()


def test_functions(cp):
    x, C = cp.asarray(X), X[:5]
    for centroids in (C, cp.asarray(C)):
        assert_bits(predict(x, centroids).get(), predict(X, C))
        assert_bits(distances(x, centroids).get(), distances(X, C))
        assert inertia(x, centroids, sample_weight=W) == inertia(X, C, sample_weight=W)
    pairs = zip(
        kmeans_xp.kmeans_plusplus(x, 5, random_state=0, sample_weight=W),
        kmeans_xp.kmeans_plusplus(X, 5, random_state=0, sample_weight=W),
        strict=True,
    )
    for found, truth in pairs:
        assert_bits(found.get(), truth)


def test_batches(cp):
    data = X.reshape(3, 100, 3)
    truth = kmeans(data, 3, random_state=0)
    found = kmeans(cp.asarray(data), 3, random_state=0)
    assert_bits(found.labels.get(), truth.labels)
    assert_bits(found.centroids.get(), truth.centroids)
    assert_bits(found.inertia, truth.inertia)


def test_batches_of_rows(cp):
    models = [kmeans_xp.MiniBatchKMeans(5, random_state=0) for _ in range(2)]
    for lo in range(0, 300, 100):
        models[0].partial_fit(X[lo : lo + 100])
        models[1].partial_fit(cp.asarray(X[lo : lo + 100]))
    assert_bits(models[1].cluster_centers_.get(), models[0].cluster_centers_)


def test_chunks_of_dask(cp):
    array = pytest.importorskip("dask.array")
    chunks = array.from_array(X, chunks=(100, 3))
    truth = kmeans(chunks, 5, random_state=0)
    found = kmeans(chunks.map_blocks(cp.asarray), 5, random_state=0)
    labels = [found.labels.blocks[i].compute().get() for i in range(3)]
    assert_bits(np.concatenate(labels), truth.labels.compute())
    assert_bits(found.centroids, truth.centroids)


def test_models_are_loaded_onto_the_device(cp, tmp_path):
    model = kmeans_xp.KMeans(5, random_state=0).fit(cp.asarray(X))
    labels = model.labels_.get()
    kmeans_xp.save_model(model, tmp_path / "model.safetensors")
    loaded = kmeans_xp.load_model(tmp_path / "model.safetensors", xp="cupy")
    assert_bits(loaded.predict(cp.asarray(X)).get(), labels)


# ---- where the kernels cannot serve, and where memory ends


def warned(x, reason):
    """The result on the device, after a warning for this reason that names the caller's line."""
    with pytest.warns(RuntimeWarning, match=reason) as seen:
        result = kmeans(x, 5, random_state=0)
    assert {warning.filename for warning in seen} == {__file__}
    assert len([one for one in seen if "inertia is inf" not in str(one.message)]) == 1
    return result


@pytest.mark.filterwarnings("ignore:inertia is inf:RuntimeWarning")
def test_other_devices_and_numbers_of_many_bits_go_without_kernels(cp, monkeypatch):
    wide = X * 10.0 ** (datasets.integers(3, X.shape, 600) - 300.0)
    same(warned(cp.asarray(wide), "span .* bits"), kmeans(wide, 5, random_state=0), cp.ndarray)
    monkeypatch.setattr(cp.cuda.Device, "compute_capability", "80")
    same(warned(cp.asarray(X), "8.0; the error"), kmeans(X, 5, random_state=0), cp.ndarray)


def test_a_kernel_that_does_not_compile_is_done_without(cp, monkeypatch):
    monkeypatch.setattr(nvrtc, "OPTIONS", (*nvrtc.OPTIONS, "-DState=struct"))
    same(warned(cp.asarray(X), "could not compile"), kmeans(X, 5, random_state=0), cp.ndarray)


@pytest.mark.parametrize("passes", [0, 3])
def test_the_host_goes_on_with_potentials(cp, monkeypatch, passes):
    left = iter(range(passes))

    def gives_up(self, *args, real=cuda_seeding.DevicePotential._try, **options):
        if next(left, None) is None:
            raise nvrtc.DeviceUnsupported("too many potentials need rational arithmetic")
        return real(self, *args, **options)

    monkeypatch.setattr(cuda_seeding.DevicePotential, "_try", gives_up)
    same(kmeans(cp.asarray(X), 5, random_state=0), kmeans(X, 5, random_state=0), cp.ndarray)


def test_memory_that_does_not_suffice(cp, monkeypatch):
    x, pool = cp.asarray(X), cp.cuda.memory.pool
    with monkeypatch.context() as patch:
        patch.setattr(pool, "total", pool.used_bytes() + 20_000)
        with pytest.raises(MemoryError, match=r"wants [\d,]+ bytes .*stream"):
            kmeans(x, 5, random_state=0)
    same(kmeans(x, 5, random_state=0), kmeans(X, 5, random_state=0), cp.ndarray)


def test_errors_name_the_row(cp):
    data = X.copy()
    data[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"X\[3, 1\] is nan"):
        kmeans(cp.asarray(data), 3)


def test_the_device_is_reported(cp):
    assert _cuda_device() == "emulated on the host, compute capability 9.0"


def test_a_stream_of_the_caller(cp):
    truth = kmeans(X, 5, random_state=0)
    with cp.cuda.Stream(non_blocking=True):
        same(kmeans(cp.asarray(X), 5, random_state=0), truth, cp.ndarray)
