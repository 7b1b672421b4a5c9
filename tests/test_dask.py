"""Dask arrays: the bits of the array in memory on every scheduler, and what travels."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal

import numpy as np
import pytest

from kmeans_xp import (
    BisectingKMeans,
    KMeans,
    MiniBatchKMeans,
    fingerprint,
    kmeans,
    kmeans_plusplus,
    predict,
    stream,
)
from kmeans_xp.blocks.chunk import Fit, advance, labels_of, open_chunk
from kmeans_xp.blocks.memory import MemoryBlocks
from kmeans_xp.blocks.open import open_blocks
from kmeans_xp.exact.metric import EUCLIDEAN
from kmeans_xp.prediction import distances, inertia

from .helpers import interrupted

dask = pytest.importorskip("dask")
da = pytest.importorskip("dask.array")

CHUNKS = [1000, (1, 0, 2000, 999), 3000]


def data(n=3000, d=4, dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d)) + 6 * rng.integers(0, 4, size=(n, 1))
    return x.astype(dtype)


def chunked(x, rows=700):
    return da.from_array(x, chunks=(rows, x.shape[1]))


@pytest.fixture(scope="module")
def cluster():
    """Worker processes on this machine, one to begin with."""
    distributed = pytest.importorskip("distributed")
    with contextlib.ExitStack() as stack:
        made = distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",  # without one it would take the port of another cluster
            silence_logs=logging.CRITICAL,
        )
        stack.enter_context(made)
        yield stack.enter_context(distributed.Client(made))


def scaled(client, n_workers):
    client.cluster.scale(n_workers)
    client.wait_for_workers(n_workers, timeout=60)
    return n_workers


@pytest.fixture
def local():
    """The scheduler of this process, also while there is a cluster."""
    with dask.config.set(scheduler="synchronous"):
        yield


# The same bits


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
@pytest.mark.parametrize("rows", CHUNKS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_the_bits_of_the_array_in_memory(scheduler, rows, dtype):
    x = data(dtype=dtype)
    options = dict(n_init=2, init="random", random_state=0)
    with dask.config.set(scheduler=scheduler):
        found = kmeans(chunked(x, rows), 6, **options)
    assert fingerprint(found) == fingerprint(kmeans(x, 6, **options))
    assert isinstance(found.centroids, np.ndarray)
    assert found.labels.chunks == (chunked(x, rows).chunks[0],)
    assert found.labels.dtype == np.int32


@pytest.mark.parametrize("algorithm", ["auto", "lloyd", "hamerly"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighted", [False, True])
def test_algorithms_metrics_and_weights(local, algorithm, metric, weighted):
    x = data()
    w = np.arange(len(x)) % 4 if weighted else None
    options = dict(metric=metric, sample_weight=w, random_state=3, tol=0.0)
    whole = kmeans(x, 25, **options)
    assert fingerprint(kmeans(chunked(x), 25, algorithm=algorithm, **options)) == fingerprint(whole)
    if weighted:
        options["sample_weight"] = da.from_array(w, chunks=499)
        assert fingerprint(kmeans(chunked(x), 25, **options)) == fingerprint(whole)


@pytest.mark.parametrize("tol", [0.0, 1e-4, 0.3])
@pytest.mark.parametrize("max_iter", [1, 2, 300])
def test_stop_rules(local, tol, max_iter):
    x = data(dtype=np.float64)
    w = np.arange(len(x)) % 3 + 0.5
    options = dict(tol=tol, max_iter=max_iter, random_state=1, sample_weight=w)
    assert fingerprint(kmeans(chunked(x), 9, **options)) == fingerprint(kmeans(x, 9, **options))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("values", [(-1, 1, 3, -3), (0, 0, 0, 0)])
def test_sums_that_cancel(local, values, weighted):
    x = np.asarray(values, dtype=np.float32)[:, None]
    w = np.ones(4) if weighted else None
    start = np.ones((1, 1), dtype=np.float32)
    for rows in (1, 2, 4):
        found = kmeans(chunked(x, rows), 1, init=start, sample_weight=w)
        assert fingerprint(found) == fingerprint(kmeans(x, 1, init=start, sample_weight=w))


def test_the_generic_backend(local, monkeypatch):
    monkeypatch.setenv("KMEANS_XP_BACKEND", "generic")
    x = data()
    found = kmeans(chunked(x), 6, random_state=0)
    monkeypatch.delenv("KMEANS_XP_BACKEND")
    assert fingerprint(found) == fingerprint(kmeans(x, 6, random_state=0))


def test_empty_clusters_take_rows_of_any_chunk(local):
    x = data(dtype=np.float64)
    x[[3, 2990]] = 40.0  # a tie between chunks goes to the lowest row
    w = np.ones(len(x))
    w[5] = 0
    far = np.vstack([x[:3], np.full((3, 4), 900.0)])
    for weights in (None, w):
        options = dict(init=far, sample_weight=weights)
        found = kmeans(chunked(x, 311), 6, **options)
        assert fingerprint(found) == fingerprint(kmeans(x, 6, **options))


def test_starts(local):
    x = data()
    for options in (dict(init_size=500, random_state=2), dict(random_state=4)):
        whole = kmeans_plusplus(x, 6, **options)
        found = kmeans_plusplus(chunked(x), 6, **options)
        assert all(np.array_equal(a, b) for a, b in zip(found, whole, strict=True))

    def first(rows, k, random_state):
        return np.asarray(rows[:k]) + random_state.randint(3)

    for init in ("random", x[:6], first):
        options = dict(init=init, random_state=0)
        assert fingerprint(kmeans(chunked(x), 6, **options)) == fingerprint(kmeans(x, 6, **options))


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("init_size", ["auto", 500])
def test_k_means_parallel(local, metric, weighted, init_size):
    x = data()
    w = (np.arange(len(x)) % 4) * 0.3 if weighted else None
    options = dict(init="k-means||", init_size=init_size, metric=metric, sample_weight=w)
    whole = kmeans(x, 12, random_state=0, max_iter=1, **options)
    found = kmeans(chunked(x), 12, random_state=0, max_iter=1, **options)
    assert fingerprint(found) == fingerprint(whole)


def test_unknown_chunk_sizes(local):
    x = data()
    kept = x[x[:, 0] > 3]
    array = chunked(x)
    array = array[array[:, 0] > 3]
    w = np.arange(len(kept)) % 3
    options = dict(sample_weight=w, random_state=0)
    found = kmeans(array, 6, **options)
    assert fingerprint(found) == fingerprint(kmeans(kept, 6, **options))
    assert np.isnan(array.shape[0])  # the caller's array is as it was
    labels = predict(array, found.centroids).compute()
    assert np.array_equal(labels, predict(kept, found.centroids))
    assert float(inertia(array, found.centroids)) == inertia(kept, found.centroids)
    assert float(inertia(array, found.centroids, sample_weight=w)) == found.inertia
    model = KMeans(6, random_state=0).fit(array, sample_weight=2)
    assert model.inertia_ == KMeans(6, random_state=0).fit(kept, sample_weight=2).inertia_
    assert float(model.score(array, sample_weight=2)) == -model.inertia_


def test_chunks_along_features_are_put_together(local):
    x = data()
    with pytest.warns(da.PerformanceWarning, match="2 chunks along its features"):
        found = kmeans(da.from_array(x, chunks=(700, 3)), 6, random_state=0)
    assert fingerprint(found) == fingerprint(kmeans(x, 6, random_state=0))


def test_resumed_from_a_checkpoint_of_the_array(local, tmp_path):
    x = data()
    assert interrupted(x, tmp_path, 2, n_clusters=6, random_state=0, tol=0.0)
    found = kmeans(chunked(x), 6, random_state=0, tol=0.0, resume=tmp_path)
    assert fingerprint(found) == fingerprint(kmeans(x, 6, random_state=0, tol=0.0))


@pytest.mark.parametrize("weighted", [False, True])
def test_inertia_and_distances_of_given_labels(local, weighted):
    x = data()
    w = np.arange(len(x)) % 4 * 0.5 if weighted else None
    labels, centers = np.arange(len(x), dtype=np.int32) % 5, x[:5].copy()
    whole, parts = (open_blocks(rows, w, x.dtype) for rows in (x, chunked(x, (1, 0, 2999))))
    expected = whole.labelled_inertia(labels, centers)
    assert parts.labelled_inertia(labels, centers) == expected
    assert parts.variance() == whole.variance()
    assert np.allclose(parts.distances(centers), whole.distances(centers))
    assert all(map(np.array_equal, parts.in_order(), (x[:1], x[1:])))


def test_labels_in_a_file_and_a_bar(local, tmp_path, capsys):
    x = data()
    target = tmp_path / "labels.npy"
    found = kmeans(chunked(x), 6, random_state=0, labels_out=target, progress=True)
    assert np.array_equal(np.load(target), kmeans(x, 6, random_state=0).labels)
    assert isinstance(found.labels, np.ndarray)
    assert "start 0" in capsys.readouterr().err


# Lazy results


def refuse(chunk):
    raise AssertionError("computed")


def test_predictions_compute_nothing_until_asked(local):
    x = data()
    result = kmeans(x, 5, random_state=0)
    array = chunked(x, (1, 0, 2000, 999))
    never = array.map_blocks(refuse, dtype=array.dtype, meta=array._meta)
    for rows in (array, never):
        labels = predict(rows, result.centroids)
        lengths = distances(rows, result.centroids)
        cost = inertia(rows, result.centroids)
        assert labels.chunks == array.chunks[:1] and labels.dtype == np.int32
        assert lengths.chunks == (array.chunks[0], (5,)) and lengths.dtype == np.float32
        assert cost.shape == () and cost.dtype == np.float64
        if rows is array:
            assert np.array_equal(labels.compute(), result.labels)
            assert np.allclose(lengths.compute(), distances(x, result.centroids))
            assert cost.compute() == result.inertia


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_estimator(local, metric):
    x = data()
    w = np.arange(len(x)) % 3
    array = chunked(x)
    model = KMeans(5, random_state=0, metric=metric).fit(array, sample_weight=w)
    expected = KMeans(5, random_state=0, metric=metric).fit(x, sample_weight=w)
    assert np.array_equal(model.labels_.compute(), expected.labels_)
    assert model.cluster_centers_.tobytes() == expected.cluster_centers_.tobytes()
    assert model.inertia_ == expected.inertia_
    assert np.array_equal(model.predict(array).compute(), expected.predict(x))
    assert np.array_equal(model.predict(x), expected.predict(x))
    score = model.score(array, sample_weight=w)
    assert isinstance(score, da.Array) and float(score) == expected.score(x, sample_weight=w)
    assert np.allclose(model.transform(array).compute(), expected.transform(x))
    assert isinstance(model.fit_predict(array), da.Array)
    assert "rows" not in model._clusters_html()  # nothing is computed to show a model
    assert isinstance(pickle.loads(pickle.dumps(model)).labels_, np.ndarray)


# A cluster


@pytest.mark.parametrize("algorithm", ["lloyd", "hamerly"])
def test_what_a_worker_keeps_is_a_cache(algorithm):
    x = data()
    fit = Fit(MemoryBlocks(x, None, x.dtype, x).common, algorithm, 1000)
    first, second, third = (x[i : i + 6].copy() for i in (0, 50, 100))
    chunk = open_chunk(x[500:1500], None, x.dtype, EUCLIDEAN, x.dtype)

    def same(a, b):
        arrays = [[one.clusters, *one.values, *one.weights] for one in (a, b)]
        return a.changed == b.changed and all(map(np.array_equal, *arrays))

    advance(chunk, fit, None, first)
    anew = pickle.loads(pickle.dumps(chunk))  # as it reaches another worker
    moved = advance(chunk, fit, first, second)
    assert moved.changed and same(advance(anew, fit, first, second), moved)
    labels = labels_of(chunk, fit, second)
    again = advance(chunk, fit, first, third)  # it has gone on to the second
    assert same(again, advance(pickle.loads(pickle.dumps(chunk)), fit, first, third))
    assert not same(again, advance(anew, fit, second, third))
    assert np.array_equal(labels_of(chunk, fit, second), labels)


def check_bits(cluster, n_workers):
    scaled(cluster, n_workers)
    x = data()
    for rows, options in (
        ((1000, 100, 0, 1500, 400), dict(random_state=0)),
        (600, dict(random_state=1, metric="cosine", sample_weight=np.arange(len(x)) % 3)),
        (1500, dict(random_state=1, init="k-means||", n_init=2, max_iter=1)),
    ):
        options = {"max_iter": 4, **options}
        found = kmeans(chunked(x, rows), 6, **options)
        assert fingerprint(found) == fingerprint(kmeans(x, 6, **options))


@pytest.mark.parametrize("n_workers", [1, 2])
def test_worker_processes(cluster, n_workers):
    check_bits(cluster, n_workers)


def sent(dask_worker):
    return dask_worker.transfer_outgoing_bytes_total


def test_traffic_does_not_grow_with_rows_or_chunks(cluster):
    workers = scaled(cluster, 2)
    k, d, levels = 10, 8, 2
    sums = k * (8 + 8 * d * levels + 8) + 16  # which clusters, sums, row counts; two numbers
    most = workers * (4 * k * d + sums)
    for n, rows in ((2000, 500), (20_000, 1000)):
        x = data(n, d)
        moved, measured = [], []

        def callback(state, moved=moved, measured=measured):
            moved.append(state.bytes_moved)
            measured.append(sum(cluster.run(sent).values()))

        kmeans(chunked(x, rows), k, init=x[:k], max_iter=4, tol=0.0, callback=callback)
        assert all(workers * k * 4 * d < bytes_moved <= most for bytes_moved in moved)
        # what the workers count themselves, but for some bytes about each result
        assert 0 < measured[-1] - measured[0] <= sum(moved[1:]) + 3 * 1000
        assert most < x.nbytes / 8


def test_nothing_travels_in_one_process(local):
    moved = []
    kmeans(chunked(data()), 6, random_state=0, callback=lambda s: moved.append(s.bytes_moved))
    assert set(moved) == {0}


def killed(cluster):
    os.kill(next(iter(cluster.run(os.getpid).values())), signal.SIGKILL)


def retired(cluster):
    cluster.cluster.scale(1)


@pytest.mark.parametrize("lose", [killed, retired])
def test_a_worker_lost_in_the_middle(cluster, lose):
    scaled(cluster, 2)
    x = data()
    seen = []

    def callback(state):
        seen.append(state.iteration)
        if state.iteration == 2:
            lose(cluster)

    options = dict(random_state=0, tol=0.0, max_iter=5, sample_weight=np.arange(len(x)) % 5)
    found = kmeans(chunked(x, 500), 6, callback=callback, **options)
    assert seen == [1, 2, 3, 4, 5]
    assert fingerprint(found) == fingerprint(kmeans(x, 6, **options))


def test_four_worker_processes(cluster):
    check_bits(cluster, 4)  # the last one: workers that retire take their time


# Bad input


def test_a_bad_value_is_named_by_its_row(local):
    x = data()
    x[2345, 2] = np.nan
    with pytest.raises(ValueError, match=r"X\[2345, 2\] is nan"):
        kmeans(chunked(x), 3)
    labels = predict(chunked(x), x[:3])
    with pytest.raises(ValueError, match=r"X\[2345, 2\] is nan"):
        labels.compute()
    some = chunked(x)[da.from_array(x[:, 0] < 90)]
    with pytest.raises(ValueError, match=r"X\[245, 2\] is nan .* first row of chunk 3"):
        predict(some, x[:3]).compute()
    x[2345] = 0
    with pytest.raises(ValueError, match=r"X\[2345\] is one"):
        kmeans(chunked(x), 3, metric="cosine")


def test_chunks_that_are_not_what_the_array_says(local):
    array = chunked(data())
    doubles = array.map_blocks(lambda rows: rows.astype(float), dtype=np.float32, meta=array._meta)
    with pytest.raises(TypeError, match="gave float64"):
        kmeans(doubles, 3)
    shorter = array.map_blocks(lambda rows: rows[1:], dtype=np.float32, meta=array._meta)
    with pytest.raises(ValueError, match="chunk 0 has 700 rows, but computing it gave 699"):
        kmeans(shorter, 3)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda x: kmeans(x, 3001), ValueError, "n_clusters must be at most"),
        (lambda x: kmeans(x, 3, tol=-1), ValueError, "tol"),
        (lambda x: kmeans(x[:, 0], 3), ValueError, "two-dimensional"),
        (lambda x: kmeans(x[None], 3), TypeError, "is a Dask array, and this takes"),
        (lambda x: kmeans(x.astype(complex), 3), TypeError, "real numbers"),
        (lambda x: kmeans(x, 3, sample_weight=np.ones(7)), ValueError, "sample_weight must have"),
        (lambda x: kmeans(x, 3, device="cuda"), (ValueError, ImportError), "CuPy"),
        (lambda x: kmeans(x[x[:, 0] > 0], 0), ValueError, "n_clusters must be >= 1"),
        (lambda x: predict(x, np.ones((3, 5))), ValueError, "centroids must have shape"),
        (lambda x: BisectingKMeans(3).fit(x), TypeError, "arrays in memory"),
        (lambda x: MiniBatchKMeans(3).fit(x), TypeError, "arrays in memory"),
    ],
)
def test_errors_come_before_any_work(local, make, error, words):
    array = chunked(data())
    never = array.map_blocks(refuse, dtype=array.dtype, meta=array._meta)
    with pytest.raises(error, match=words):
        make(never)


def test_chunks_of_other_libraries(local):
    class Other:
        ndim, shape, dtype = 2, (0, 0), np.dtype(float)

    array = chunked(data())
    array._meta = Other()
    with pytest.raises(TypeError, match="chunks of NumPy or CuPy arrays, got Other"):
        kmeans(array, 3)


def test_streams_still_read_dask_arrays_here(local):
    x = data()
    found = kmeans(stream(chunked(x)), 6, random_state=0)
    assert isinstance(found.labels, np.ndarray)
    assert fingerprint(found) == fingerprint(kmeans(x, 6, random_state=0))
