"""Dask arrays whose chunks are on the device; `emulated` runs the same tests without one."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest

from kmeans_xp import fingerprint, kmeans, predict
from kmeans_xp.backends import cuda_blocks
from kmeans_xp.backends.nvrtc import DeviceUnsupported
from kmeans_xp.blocks import device_chunk
from kmeans_xp.blocks.part import Part
from tests.helpers import environment

from .checks import Random

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

K = 6


def data(dtype="float32", n=700, d=5):
    rng = Random(0)
    return (3 * rng.bell((K, d))[rng.integers(0, K, n)] + rng.bell((n, d))).astype(dtype)


def chunked(cp, x, sizes):
    held = da.from_array(x, chunks=(sizes, x.shape[1]))
    return held.map_blocks(cp.asarray, dtype=x.dtype, meta=cp.empty((0, 0), x.dtype))


@pytest.fixture(autouse=True)
def one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("weights", [None, "float32", "float64"])
def test_the_bits_of_the_array_in_memory(cp, kernels, dtype, weights):
    x = data(dtype)
    w = None if weights is None else (np.arange(700) % 4 * 0.3).astype(weights)
    options = dict(random_state=0, tol=0.0, sample_weight=w, n_init=2, init="random")
    whole = kmeans(x, K, **options)
    sizes = (150, 1, 0, 349, 200)
    found = kmeans(chunked(cp, x, sizes), K, **options)
    labels = found.labels.compute()
    assert isinstance(labels, cp.ndarray)
    assert np.array_equal(labels.get(), whole.labels)
    assert fingerprint(found) == fingerprint(whole)
    assert set(kernels) == {150, 1, 349, 200}


def test_chunks_go_to_the_kernels_alone(cp, kernels, monkeypatch):
    def refuse(*_):
        raise AssertionError("by functions")

    monkeypatch.setattr(Part, "relabel", refuse)
    x = data()
    found = kmeans(chunked(cp, x, 300), K, init=x[:K].copy(), tol=0.0, max_iter=3)
    assert sorted(kernels[:3]) == [100, 300, 300]
    assert found.n_iter == 3


def test_empty_clusters_take_rows_of_any_chunk(cp):
    x = data("float64")
    for w in (None, np.arange(len(x)) % 3):
        options = dict(init=np.vstack([x[:3], np.full((3, 5), 900.0)]), sample_weight=w, tol=0.0)
        assert fingerprint(kmeans(chunked(cp, x, 211), K, **options)) == fingerprint(
            kmeans(x, K, **options)
        )


def test_starts_and_what_is_asked_afterwards(cp):
    x = data()
    array = chunked(cp, x, 257)
    for init in ("k-means++", "k-means||"):
        options = dict(init=init, random_state=1, tol=0.0, sample_weight=np.arange(700) % 4 * 0.3)
        found = kmeans(array, K, **options)
        assert fingerprint(found) == fingerprint(kmeans(x, K, **options))
    assert np.array_equal(
        predict(array, found.centroids).compute().get(), found.labels.compute().get()
    )


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_values_far_from_one(cp, scale):
    x = data() * np.float32(scale)
    x[17] *= 100  # beyond what the half-precision copy holds
    options = dict(random_state=0, max_iter=4)
    assert fingerprint(kmeans(chunked(cp, x, 333), K, **options)) == fingerprint(
        kmeans(x, K, **options)
    )


def test_where_no_kernels_serve(cp, monkeypatch):
    x = data()
    truth = fingerprint(kmeans(x, K, random_state=0))
    wide = np.array([[1e-300], [1e300]] * 50)
    assert fingerprint(kmeans(chunked(cp, wide, 30), 2, random_state=0)) == fingerprint(
        kmeans(wide, 2, random_state=0)
    )
    assert fingerprint(kmeans(chunked(cp, x, 333), K, random_state=0, metric="cosine")) == (
        fingerprint(kmeans(x, K, random_state=0, metric="cosine"))
    )
    with environment(backend="generic"):
        assert fingerprint(kmeans(chunked(cp, x, 333), K, random_state=0)) == truth
    for refusal in (DeviceUnsupported("not this one"), MemoryError("no room")):

        def refuse(*_, refusal=refusal):
            raise refusal

        monkeypatch.setattr(device_chunk, "BlockPasses", refuse)
        assert fingerprint(kmeans(chunked(cp, x, 333), K, random_state=0)) == truth


def test_chunks_in_threads_share_the_memory_of_one(cp, monkeypatch):
    made, make = [], cuda_blocks.BlockPasses.__init__

    def counted(self, *args):
        made.append(threading.get_ident())
        make(self, *args)

    monkeypatch.setattr(cuda_blocks.BlockPasses, "__init__", counted)
    x = data()
    with dask.config.set(scheduler="threads", num_workers=4):
        found = kmeans(chunked(cp, x, 100), K, random_state=0, tol=0.0)
    assert fingerprint(found) == fingerprint(kmeans(x, K, random_state=0, tol=0.0))
    assert len(made) == 1


def test_what_is_shared_is_not_sent():
    shared = device_chunk.Shared()
    assert isinstance(pickle.loads(pickle.dumps(shared)), device_chunk.Shared)
