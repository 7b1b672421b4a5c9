"""What a stream reads from: archives, maps and stores, what they cost, and how they may be bad."""

from __future__ import annotations

import io
import os
import zipfile

import numpy as np
import pytest

from kmeans_xp import fingerprint, kmeans, predict, stream

from . import datasets


def data(n=2000):
    return datasets.make("blobs", "float32", n, 4, 5)


OPTIONS = dict(n_clusters=6, random_state=0)


def same(source, x):
    return fingerprint(kmeans(source, **OPTIONS)) == fingerprint(kmeans(x, **OPTIONS))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives(tmp_path, save):
    x = data()
    path = tmp_path / "x.npz"
    save(path, other=np.zeros(3), X=x, Y=x[:, :2])
    rows = stream(path, block_rows=300)
    assert same(rows, x)
    assert same(stream(path, array="Y", columns=[1]), x[:, 1:2])
    save(path, only=x.astype(">f8"))
    assert same(stream(path, block_rows=500), x.astype(np.float64))
    with pytest.raises(ValueError, match=r"X changed while it was read: .*x\.npz was written to"):
        kmeans(rows, 3)
    with pytest.raises(ValueError, match="holds only; say which with array="):
        stream(path, array="Z")


def test_bad_archives(tmp_path):
    x, path = data(), tmp_path / "x.npz"
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"no \.npz file"):
        stream(path)
    np.savez(path, f=np.asfortranarray(x))
    with pytest.raises(ValueError, match="Fortran"):
        stream(path)
    np.savez(path, words=np.asarray([["a"]]))
    with pytest.raises(TypeError, match="real numbers"):
        stream(path)
    np.savez_compressed(path, x=np.random.default_rng(0).standard_normal((3000, 4)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.npz: damaged"):
        kmeans(stream(path, block_rows=500), 3)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("x.npy", "w") as file,
    ):
        header = {"descr": "<f8", "fortran_order": False, "shape": (3000, 4)}
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(80))
    with pytest.raises(ValueError, match=r"x\.npz: cut off"):
        kmeans(stream(path), 3)


def test_raw_files_through_a_memory_map(tmp_path):
    x, path = data(), tmp_path / "rows.bin"
    path.write_bytes(b"header!" + x.tobytes())
    mapped = np.memmap(path, np.float32, "r", offset=7, shape=x.shape)
    for view, rows in [(mapped, x), (mapped[500:1200], x[500:1200]), (mapped[::2], x[::2])]:
        assert same(stream(view, block_rows=130), rows)
    assert same(stream(mapped[:, 1:3], block_rows=130), x[:, 1:3])
    source = stream(mapped, block_rows=130)
    path.write_bytes(path.read_bytes()[:-1000])  # reading through the map would end the process
    with pytest.raises(ValueError, match="was written to"):
        kmeans(source, 3)
    with pytest.raises(ValueError, match="cut off"):
        stream(mapped)


def test_maps_that_are_written_through(tmp_path):
    x = data()
    for mode in ("w+", "r+", "c"):
        mapped = np.memmap(tmp_path / "rows.bin", np.float32, mode, shape=x.shape)
        mapped[:] = x
        assert same(stream(mapped, block_rows=300), x)


def opened(path):
    """Descriptors of this process that are of a path."""
    count = 0
    for one in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{one}").startswith(os.fspath(path))
        except OSError:
            continue
    return count


def write(kind, path, x):
    if kind == "h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["X"] = x
    elif kind == "zarr":
        pytest.importorskip("zarr").save_array(str(path), x)
    elif kind == "parquet":
        arrow = pytest.importorskip("pyarrow")
        table = arrow.table({name: x[:, j] for j, name in enumerate("abcd")})
        pytest.importorskip("pyarrow.parquet").write_table(table, path, row_group_size=400)
    elif kind == "npz":
        np.savez_compressed(path, x)
    else:
        np.save(path, x)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux")
@pytest.mark.parametrize("kind", ["npy", "npz", "h5", "zarr", "parquet"])
def test_files_are_closed_and_watched(tmp_path, kind):
    x, path = data(), tmp_path / f"x.{kind}"
    write(kind, path, x)
    rows = stream(path, block_rows=400)
    assert opened(path) == 0
    assert same(rows, x)
    assert opened(path) == 0
    passes = rows.each()
    next(passes)
    passes.close()  # a pass that is given up
    assert opened(path) == 0
    if kind == "zarr":
        chunk = next(p for p in path.rglob("*") if p.is_file() and p.name != "zarr.json")
        chunk.write_bytes(chunk.read_bytes()[::-1])
    else:
        write(kind, path, x[:1500])
    with pytest.raises(ValueError, match="X changed while it was read"):
        kmeans(rows, 3)


def test_opened_stores_are_watched(tmp_path):
    h5py, zarr = pytest.importorskip("h5py"), pytest.importorskip("zarr")
    x = data()
    write("h5", tmp_path / "x.h5", x)
    write("zarr", tmp_path / "x.zarr", x)
    with h5py.File(tmp_path / "x.h5", "r") as file:
        rows = stream(file["X"], block_rows=300)
        assert same(rows, x)
        os.utime(tmp_path / "x.h5", (1, 1))
        with pytest.raises(ValueError, match=r"x\.h5 was written to"):
            kmeans(rows, 3)
    rows = stream(zarr.open(str(tmp_path / "x.zarr"), mode="r"))
    assert same(rows, x)
    os.utime(tmp_path / "x.zarr" / "zarr.json", (1e10, 1e10))
    with pytest.raises(ValueError, match=r"x\.zarr was written to"):
        kmeans(rows, 3)


def test_few_rows_are_read_alone(tmp_path):
    x = datasets.make("blobs", "float32", 60_000, 4, 5)
    np.save(tmp_path / "x.npy", x)
    rows = stream(tmp_path / "x.npy", block_rows=20_000, columns=[2, 0])
    picked = np.asarray([59_999, 3, 3, 31_000])
    assert np.array_equal(rows.rows(picked), x[picked][:, [2, 0]])
    assert rows.bytes_read == 4 * 2 * 4
    many = np.arange(0, 60_000, 2)
    assert np.array_equal(rows.rows(many), x[many][:, [2, 0]])
    mixed = np.concatenate([np.arange(20_000), [25_000, 45_000]])
    before = rows.bytes_read
    assert np.array_equal(rows.rows(mixed), x[mixed][:, [2, 0]])
    assert rows.bytes_read - before == 20_002 * 2 * 4
    assert rows.bytes_skipped == 0  # nothing was left out


def test_iterations_tell_what_they_read(tmp_path, capsys):
    rng = np.random.default_rng(0)
    still = np.asarray([100.0, 0.0]) + rng.standard_normal((4000, 2))  # its own centroid
    x = np.vstack([still, rng.uniform(0, 10, size=(2000, 2))])
    init = np.vstack([[[100.0, 0.0]], rng.uniform(0, 2, size=(8, 2))])
    np.save(tmp_path / "x.npy", x)
    sources = {
        "file": stream(tmp_path / "x.npy", block_rows=500),
        "function": stream(lambda: (x[i : i + 500] for i in range(0, 6000, 500))),
    }
    for name, rows in sources.items():
        seen = []
        options = dict(init=init, tol=0.0, algorithm="hamerly")
        found = kmeans(rows, 9, callback=seen.append, verbose=1, **options)
        assert fingerprint(found) == fingerprint(kmeans(x, 9, init=init, tol=0.0))
        assert seen[0].bytes_skipped == 0 and seen[0].bytes_read >= x.nbytes
        if name == "file":  # the first blocks are left unread
            assert seen[-2].bytes_skipped >= 8 * 500 * 16
            assert seen[-2].bytes_read + seen[-2].bytes_skipped == x.nbytes
            said = f" Read {seen[-2].bytes_read} bytes, left {seen[-2].bytes_skipped} unread."
            assert said in capsys.readouterr().out
        else:  # a function runs through them all the same
            assert seen[-2].bytes_read + seen[-2].bytes_skipped == x.nbytes
            assert seen[-2].bytes_skipped < 8 * 500 * 16
        assert rows.bytes_skipped >= sum(state.bytes_skipped for state in seen)
    seen = []
    kmeans(x, 9, init=init, callback=seen.append)
    assert (seen[0].bytes_read, seen[0].bytes_skipped) == (0, 0)


def test_progress_shows_every_pass(tmp_path, monkeypatch):
    tqdm_auto = pytest.importorskip("tqdm.auto")
    bars = []

    class Bar(tqdm_auto.tqdm):
        def __init__(self, *args, **options):
            super().__init__(*args, **options, file=io.StringIO())
            self.shown = options
            bars.append(self)

        def close(self):
            self.sealed = True
            super().close()

    monkeypatch.setattr(tqdm_auto, "tqdm", Bar)
    x = data()
    np.save(tmp_path / "x.npy", x)
    rows = stream(tmp_path / "x.npy", block_rows=300)
    found = kmeans(rows, progress=True, verbose=1, **OPTIONS)
    reading = [bar for bar in bars if bar.shown["unit"] == "B"]
    assert len(reading) >= found.n_iter + 2  # a look at the values, the start, iterations
    assert all(bar.n == bar.shown["total"] and bar.sealed for bar in reading)
    assert reading[0].n == x.nbytes
    (iterations,) = (bar for bar in bars if bar.shown["unit"] == "iteration")
    assert iterations.n == found.n_iter and "inertia=" in iterations.postfix
    bars.clear()
    kmeans(rows, **OPTIONS)
    assert not bars


def test_a_bad_value_deep_in_the_stream():
    x = np.zeros((5100, 2))
    x[:, 0] = np.arange(5100)
    x[5003, 1] = np.nan
    with pytest.raises(ValueError, match=r"X\[5003, 1\] is nan"):
        kmeans(stream(x, block_rows=5), 2)  # block 1,000
    with pytest.raises(ValueError, match=r"X\[5003, 1\] is nan"):
        predict(stream(x, block_rows=5), np.zeros((1, 2)))


def test_blocks_that_differ_in_columns_or_dtype():
    x = data()
    for other in (x[:, :3], x.astype(np.float64)):
        with pytest.raises(ValueError, match="all blocks must have 4 columns of float32"):
            stream(lambda other=other: [x, other])
    state = {"calls": 0}

    def changing():
        state["calls"] += 1
        yield x
        yield x if state["calls"] == 1 else x.astype(np.float64)

    with pytest.raises(ValueError, match="all blocks must have 4 columns of float32"):
        kmeans(stream(changing), 3)
