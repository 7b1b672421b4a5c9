"""Streams: the bits of the array in memory, whatever the blocks; clear words for bad sources."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from kmeans_xp import KMeansResult, fingerprint, kmeans, kmeans_plusplus, predict, stream
from kmeans_xp.prediction import distances, inertia

from .helpers import interrupted


def data(kind="blobs", n=3000, d=4, dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, d)) + 6 * rng.integers(0, 4, size=(n, 1))
    if kind == "lattice":
        x = np.round(x)
    if kind == "decades":
        x *= 10.0 ** np.arange(0, 4 * d, 4)
    return x.astype(dtype)


def saved(x, folder, **options):
    np.save(folder / "x.npy", x)
    return stream(folder / "x.npy", **options)


def pieces(x, size):
    return stream(lambda: (x[i : i + size] for i in range(0, len(x), size)))


@pytest.mark.parametrize("kind", ["blobs", "lattice", "decades"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_the_bits_of_the_array_in_memory(tmp_path, kind, dtype, init):
    if dtype == np.float16 and kind == "decades":
        kind = "blobs"
    x = data(kind, dtype=dtype if kind != "decades" or dtype != np.int32 else np.int64)
    options = dict(init=init, n_init=2, random_state=0)
    whole = fingerprint(kmeans(x, 6, **options))
    for rows in (70, 1000, 10_000) if dtype == np.float32 else (997,):
        assert fingerprint(kmeans(saved(x, tmp_path, block_rows=rows), 6, **options)) == whole


def test_blocks_of_one_row(tmp_path):
    x = data(n=60)
    streamed = saved(x, tmp_path, block_rows=np.int64(1))
    assert fingerprint(kmeans(streamed, 4, random_state=0)) == fingerprint(
        kmeans(x, 4, random_state=0)
    )


@pytest.mark.parametrize("algorithm", ["auto", "lloyd", "hamerly"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("weighted", [False, True])
def test_algorithms_metrics_and_weights(tmp_path, algorithm, metric, weighted):
    x = data()
    w = np.arange(len(x)) % 4 if weighted else None
    options = dict(metric=metric, sample_weight=w, random_state=3, tol=0.0)
    whole = kmeans(x, 25, **options)
    found = kmeans(saved(x, tmp_path, block_rows=450), 25, algorithm=algorithm, **options)
    assert fingerprint(found) == fingerprint(whole)


@pytest.mark.parametrize("tol", [0.0, 1e-4, 0.3])
@pytest.mark.parametrize("max_iter", [1, 2, 300])
def test_stop_rules(tmp_path, tol, max_iter):
    x = data(dtype=np.float64)
    options = dict(tol=tol, max_iter=max_iter, random_state=1)
    whole = fingerprint(kmeans(x, 9, **options))
    assert fingerprint(kmeans(saved(x, tmp_path, block_rows=700), 9, **options)) == whole


def test_empty_clusters_take_rows_of_any_block(tmp_path):
    x = data(dtype=np.float64)
    far = np.vstack([x[:3], np.full((3, 4), 900.0)])
    whole = kmeans(x, 6, init=far)
    assert fingerprint(kmeans(saved(x, tmp_path, block_rows=311), 6, init=far)) == fingerprint(
        whole
    )


def test_a_sample_starts_large_streams(tmp_path):
    x = data()
    options = dict(init_size=500, random_state=2)
    whole = kmeans_plusplus(x, 6, **options)
    found = kmeans_plusplus(saved(x, tmp_path, block_rows=400), 6, **options)
    assert all(np.array_equal(a, b) for a, b in zip(found, whole, strict=True))
    options |= dict(sample_weight=np.arange(len(x)) % 3)
    one = kmeans(x, 6, **options)
    assert fingerprint(kmeans(saved(x, tmp_path, block_rows=400), 6, **options)) == fingerprint(one)


def test_predict_inertia_distances(tmp_path):
    x = data()
    result = kmeans(x, 5, random_state=0)
    streamed = saved(x, tmp_path, block_rows=800)
    assert np.array_equal(predict(streamed, result.centroids), result.labels)
    assert inertia(streamed, result.centroids) == result.inertia
    assert np.allclose(distances(streamed, result.centroids), distances(x, result.centroids))


def test_functions_that_give_blocks():
    x = data()
    whole = fingerprint(kmeans(x, 6, random_state=0))
    for size in (100, 999, 5000):
        assert fingerprint(kmeans(pieces(x, size), 6, random_state=0)) == whole
    ragged = [x[:5], x[5:5], x[5:2000], x[2000:]]
    assert fingerprint(kmeans(stream(lambda: iter(ragged)), 6, random_state=0)) == whole


def test_stores(tmp_path):
    x = data()
    whole = fingerprint(kmeans(x, 6, random_state=0))
    h5py, zarr = pytest.importorskip("h5py"), pytest.importorskip("zarr")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["other"], file["X"] = np.zeros(3), x
    zarr.save_array(str(tmp_path / "x.zarr"), x)
    np.save(tmp_path / "x.npy", x)
    sources = [
        stream(tmp_path / "x.h5", block_rows=700),
        stream(tmp_path / "x.zarr", block_rows=1000),
        stream(np.load(tmp_path / "x.npy", mmap_mode="r"), block_rows=512),
        stream(zarr.open(str(tmp_path / "x.zarr"), mode="r")),
    ]
    for source in sources:
        assert fingerprint(kmeans(source, 6, random_state=0)) == whole


def test_tables(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    x = data()
    table = arrow.table({name: x[:, j] for j, name in enumerate("abcd")})
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=640)
    with arrow.ipc.new_file(str(tmp_path / "x.arrow"), table.schema) as file:
        file.write_table(table, max_chunksize=900)
    for name in ("x.parquet", "x.arrow"):
        found = kmeans(stream(tmp_path / name), 6, random_state=0)
        assert fingerprint(found) == fingerprint(kmeans(x, 6, random_state=0))
        part = kmeans(stream(tmp_path / name, columns=["d", "b"]), 6, random_state=0)
        assert fingerprint(part) == fingerprint(kmeans(x[:, [3, 1]], 6, random_state=0))
    with pytest.raises(ValueError, match="no column 'z'"):
        stream(tmp_path / "x.parquet", columns=["z"])


def test_dask_arrays():
    dask_array = pytest.importorskip("dask.array")
    x = data()
    array = dask_array.from_array(x, chunks=(700, 3))
    streamed = stream(array)
    assert streamed.n_blocks == 5
    assert fingerprint(kmeans(streamed, 6, random_state=0)) == fingerprint(
        kmeans(x, 6, random_state=0)
    )
    with pytest.raises(ValueError, match="compute_chunk_sizes"):
        stream(array[array[:, 0] > 0])


def test_columns(tmp_path):
    x = data()
    found = kmeans(saved(x, tmp_path, block_rows=999, columns=[2, 0]), 6, random_state=0)
    assert fingerprint(found) == fingerprint(kmeans(x[:, [2, 0]], 6, random_state=0))


def test_late_passes_leave_blocks_unread(tmp_path):
    rng = np.random.default_rng(0)
    still = np.asarray([100.0, 0.0]) + rng.standard_normal((4000, 2))  # its own centroid, far away
    busy = rng.uniform(0, 10, size=(2000, 2))
    x = np.vstack([still, busy])
    init = np.vstack([[[100.0, 0.0]], rng.uniform(0, 2, size=(8, 2))])
    streamed = saved(x, tmp_path, block_rows=500)
    found = kmeans(streamed, 9, init=init, tol=0.0, algorithm="hamerly")
    assert fingerprint(found) == fingerprint(kmeans(x, 9, init=init, tol=0.0))
    assert found.n_iter > 10
    assert streamed.bytes_skipped > 0.4 * (streamed.bytes_read + streamed.bytes_skipped)


def test_resumed_from_a_checkpoint_of_the_array(tmp_path):
    x = data()
    assert interrupted(x, tmp_path, 2, n_clusters=6, random_state=0, tol=0.0)
    found = kmeans(pieces(x, 700), 6, random_state=0, tol=0.0, resume=tmp_path)
    assert isinstance(found, KMeansResult)
    assert fingerprint(found) == fingerprint(kmeans(x, 6, random_state=0, tol=0.0))


LIMITED = textwrap.dedent(
    """
    import resource, sys
    import numpy as np
    from kmeans_xp import kmeans, stream

    rows = stream(sys.argv[1], block_rows=20_000)
    kmeans(rows, 3, max_iter=1, init=np.arange(96.0).reshape(3, 32))  # everything is loaded
    room = 64 << 20
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + room, used + room))
    result = kmeans(rows, 3, max_iter=3, init=np.arange(96.0).reshape(3, 32))
    print(result.inertia)
    """
)


def test_a_checkpoint_reads_each_block_once_more(tmp_path):
    x = data()
    options = dict(init=x[:3], max_iter=2)
    plain = saved(x, tmp_path, block_rows=900)
    kept = stream(tmp_path / "x.npy", block_rows=900)
    kmeans(plain, 3, **options)
    kmeans(kept, 3, checkpoint=tmp_path / "state", **options)
    assert kept.bytes_read == plain.bytes_read + x.nbytes


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux")
def test_memory_is_that_of_some_blocks(tmp_path):
    n, d = 1_000_000, 32  # 128 MB
    rng = np.random.default_rng(0)
    file = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (n, d))
    for lo in range(0, n, 100_000):
        file[lo : lo + 100_000] = rng.standard_normal((100_000, d), dtype=np.float32)
    expected = kmeans(file, 3, max_iter=3, init=np.arange(96.0).reshape(3, 32)).inertia
    del file
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "x.npy")],
        capture_output=True, text=True, env={**os.environ, "KMEANS_XP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == expected


def test_the_estimator(tmp_path):
    pytest.importorskip("sklearn")
    from kmeans_xp import BisectingKMeans, KMeans, MiniBatchKMeans, select_k

    x = data()
    streamed = saved(x, tmp_path, block_rows=800)
    model = KMeans(5, random_state=0).fit(streamed)
    expected = KMeans(5, random_state=0).fit(x)
    assert model.labels_.tobytes() == expected.labels_.tobytes()
    assert model.score(streamed) == expected.score(x) == -expected.inertia_
    assert np.array_equal(model.predict(streamed), expected.predict(x))
    assert model.transform(streamed).shape == (len(x), 5)
    with pytest.raises(ValueError, match="4 features"):
        model.predict(saved(x[:, :3], tmp_path))
    with pytest.raises(
        TypeError, match=r"X is a stream.*; kmeans, KMeans and MiniBatchKMeans\.fit"
    ):
        BisectingKMeans(3).fit(streamed)
    with pytest.raises(TypeError, match="X is a stream"):
        select_k(streamed, [2, 4])
    with pytest.raises(TypeError, match="X is a stream"):
        MiniBatchKMeans(3).partial_fit(streamed)


@pytest.mark.parametrize(
    "options",
    [{}, dict(metric="cosine"), dict(compute_labels=False), dict(max_no_improvement=3)],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_mini_batches_of_a_stream(tmp_path, options, weighted):
    pytest.importorskip("sklearn")
    from kmeans_xp import MiniBatchKMeans

    x = data()
    w = np.arange(len(x)) % 4 if weighted else None
    options = dict(max_no_improvement=None, random_state=1) | options
    options |= dict(batch_size=90, max_iter=3)
    expected = MiniBatchKMeans(5, **options).fit(x, sample_weight=w)
    for streamed in (saved(x, tmp_path, block_rows=800), pieces(x, 500)):
        before = streamed.bytes_read
        model = MiniBatchKMeans(5, **options).fit(streamed, sample_weight=w)
        assert model.cluster_centers_.tobytes() == expected.cluster_centers_.tobytes()
        assert (model.inertia_, model.n_steps_) == (expected.inertia_, expected.n_steps_)
        assert (expected.n_steps_ == 100) == (options["max_no_improvement"] is None)
        assert streamed.bytes_read - before < 30 * x.nbytes  # no pass for every batch
        if expected.compute_labels:
            assert model.labels_.tobytes() == expected.labels_.tobytes()
            assert model.score(streamed) == expected.score(x)
            assert np.array_equal(model.predict(streamed), expected.predict(x))
            assert np.allclose(model.transform(streamed), expected.transform(x))


# Bad sources


def test_a_bad_value_is_named_by_its_row(tmp_path):
    x = data()
    x[2345, 2] = np.nan
    with pytest.raises(ValueError, match=r"X\[2345, 2\] is nan"):
        kmeans(saved(x, tmp_path, block_rows=100), 3)
    x[2345] = 0
    with pytest.raises(ValueError, match=r"X\[2345\] is one"):
        kmeans(saved(x, tmp_path, block_rows=100), 3, metric="cosine")


def test_sources_that_change(tmp_path):
    x = data()
    calls = []

    def changing():
        calls.append(1)
        yield x[:1000]
        yield x[1000:] + len(calls)

    with pytest.raises(ValueError, match="another block 1 than before"):
        kmeans(stream(changing), 3)

    def shrinking():
        calls.append(1)
        yield x[:1000]
        if len(calls) % 2:
            yield x[1000:]

    calls.clear()
    with pytest.raises(ValueError, match="another block 1 than before"):
        kmeans(stream(shrinking), 3)
    streamed = saved(x, tmp_path, block_rows=500)
    np.save(tmp_path / "x.npy", x[:1500])
    with pytest.raises(ValueError, match="was written to"):
        kmeans(streamed, 3)


def test_cut_off_and_foreign_files(tmp_path):
    x = data()
    np.save(tmp_path / "x.npy", x)
    content = (tmp_path / "x.npy").read_bytes()
    (tmp_path / "x.npy").write_bytes(content[:-10])
    with pytest.raises(ValueError, match="cut off"):
        stream(tmp_path / "x.npy")
    (tmp_path / "x.npy").write_bytes(b"no array at all")
    with pytest.raises(ValueError, match=r"no \.npy file"):
        stream(tmp_path / "x.npy")
    np.save(tmp_path / "f.npy", np.asfortranarray(x))
    with pytest.raises(ValueError, match="Fortran"):
        stream(tmp_path / "f.npy")
    with pytest.raises(FileNotFoundError):
        stream(tmp_path / "none.npy")
    (tmp_path / "x.csv").write_text("1,2\n")
    with pytest.raises(ValueError, match=r"cannot stream \.csv"):
        stream(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: stream(3), TypeError, "source must be a path"),
        (lambda: stream(data(), block_rows=0), ValueError, "block_rows must be"),
        (lambda: stream(data(), block_rows=True), ValueError, "block_rows must be"),
        (lambda: stream(data(), resident_bytes=-1), ValueError, "resident_bytes must be 'auto' or"),
        (lambda: stream(data(), resident_bytes="all"), ValueError, "resident_bytes must be"),
        (
            lambda: stream(data(), resident_bytes=1e9),
            ValueError,
            "an integer >= 0, got 1000000000.0",
        ),
        (lambda: stream(data()[:, 0]), ValueError, "two-dimensional"),
        (lambda: stream(data().astype(complex)), TypeError, "real numbers"),
        (lambda: stream(data(), columns=[9]), ValueError, "columns must be below 4"),
        (lambda: stream(data(), columns="ab"), TypeError, "columns must be numbers"),
        (lambda: stream(list), ValueError, "no block"),
        (lambda: stream(lambda: [data(), data()[:, :2]]), ValueError, "4 columns of float32"),
        (lambda: kmeans(stream(data()), 3, device="cuda"), (ValueError, ImportError), "cuda"),
        (lambda: kmeans(stream(data()), 3, init=len), TypeError, "callable for a stream"),
        (lambda: kmeans(stream(data()), 3001), ValueError, "n_clusters"),
    ],
)
def test_errors(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_others_say_that_they_take_arrays():
    from kmeans_xp.metrics import silhouette_score

    with pytest.raises(TypeError, match="is a stream"):
        silhouette_score(stream(data()), np.zeros(3000))
