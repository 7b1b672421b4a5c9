"""Labels that go to a file or an array: all of them or none, and the bits of those in memory."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from kmeans_xp import fingerprint, kmeans, stream

from . import datasets


def data():
    return datasets.make("blobs", "float32", 900, 4, 5)


def rows_of(kind, x, folder):
    if kind == "sparse":
        return pytest.importorskip("scipy.sparse").csr_array(x)
    if kind == "torch":
        return pytest.importorskip("torch").asarray(x.copy())
    if kind == "stream":
        np.save(folder / "x.npy", x)
        return stream(folder / "x.npy", block_rows=200)
    return x


@pytest.mark.parametrize("kind", ["memory", "sparse", "torch", "stream"])
@pytest.mark.parametrize("n_init", [1, 4])
def test_a_file(tmp_path, kind, n_init):
    x = data()
    options = dict(init="random", n_init=n_init, random_state=2)
    whole = kmeans(x, 7, **options)
    path = tmp_path / "labels.npy"
    path.write_bytes(b"an older file is replaced")
    found = kmeans(rows_of(kind, x, tmp_path), 7, labels_out=path, **options)
    assert fingerprint(found) == fingerprint(whole)
    assert isinstance(found.labels, np.memmap) and not found.labels.flags.writeable
    stored = np.load(path)
    assert stored.dtype == np.int32 and np.array_equal(stored, whole.labels)
    assert {p.name for p in tmp_path.iterdir()} <= {"labels.npy", "x.npy"}


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no room")
@pytest.mark.parametrize("kind", ["memory", "stream"])
def test_labels_are_kept_in_the_file_during_the_fit(tmp_path, kind):
    x, seen = data(), []

    def look(state):
        (unfinished,) = tmp_path.glob(".labels.npy.*.tmp")
        seen.append(np.load(unfinished))

    rows = rows_of(kind, x, tmp_path)
    options = dict(init=x[:9], tol=0.0, labels_out=tmp_path / "labels.npy")
    found = kmeans(rows, 9, callback=look, **options)
    assert all(labels.min() >= 0 for labels in seen)
    assert any((labels != found.labels).any() for labels in seen)
    assert np.array_equal(seen[-1], found.labels)


@pytest.mark.parametrize("kind", ["memory", "stream"])
def test_an_array(tmp_path, kind):
    x = data()
    whole = kmeans(x, 7, random_state=2)
    out = np.full(900, -7, dtype=np.int32)
    found = kmeans(rows_of(kind, x, tmp_path), 7, labels_out=out, random_state=2)
    assert fingerprint(found) == fingerprint(whole)
    assert np.shares_memory(found.labels, out) and not found.labels.flags.writeable
    mapped = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.int32, (900,))
    kmeans(x, 7, labels_out=mapped, random_state=2)
    assert np.array_equal(mapped, whole.labels)


def test_a_resumed_fit_writes_them_too(tmp_path):
    x = data()
    whole = kmeans(x, 7, random_state=2, checkpoint=tmp_path / "state")
    path = tmp_path / "labels.npy"
    kmeans(x, 7, random_state=2, resume=tmp_path / "state", labels_out=os.fspath(path))
    assert np.array_equal(np.load(path), whole.labels)


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (3, TypeError, "labels_out must be the path"),
        ("labels.csv", ValueError, r"labels_out must be the path of a \.npy file, got labels.csv"),
        (np.zeros(899, np.int32), ValueError, r"int32 of shape \(900,\).*got int32 of shape"),
        (np.zeros(900), ValueError, r"int32 of shape \(900,\).*got float64"),
        (np.broadcast_to(np.int32(0), 900), ValueError, "read-only"),
    ],
)
def test_bad_arguments(value, error, words):
    with pytest.raises(error, match=words):
        kmeans(data(), 3, labels_out=value)
    with pytest.raises(ValueError, match="labels_out is not for batches"):
        kmeans(data()[None], 3, labels_out=np.zeros(900, np.int32))


def test_paths_that_are_refused_before_any_work(tmp_path):
    calls = []

    def start(x, n_clusters, random_state):
        calls.append(1)
        return x[:n_clusters]

    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(IsADirectoryError, match=r"labels_out: .* is a folder"):
        kmeans(data(), 3, init=start, n_init=1, labels_out=tmp_path / "folder.npy")
    with pytest.raises(OSError, match=r"^labels_out: .*l\.npy cannot take 3600 bytes"):
        kmeans(data(), 3, init=start, n_init=1, labels_out=tmp_path / "none" / "l.npy")
    assert not calls and [p.name for p in tmp_path.iterdir()] == ["folder.npy"]


def test_a_fit_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "labels.npy"
    path.write_bytes(b"old")

    def stop(state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kmeans(data(), 7, random_state=0, callback=stop, labels_out=path)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["labels.npy"]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no room")
def test_a_full_disk(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"l\.npy cannot take 3600 bytes .*No space left") as caught:
        kmeans(data(), 3, init=data()[:3], labels_out=tmp_path / "l.npy")
    assert caught.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_without_reserved_room(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    x = data()
    kmeans(x, 7, random_state=2, labels_out=tmp_path / "l.npy")
    assert np.array_equal(np.load(tmp_path / "l.npy"), kmeans(x, 7, random_state=2).labels)


LIMITED = textwrap.dedent(
    """
    import os, resource, sys
    import numpy as np
    from kmeans_xp import Checkpoint, kmeans

    x = np.random.default_rng(0).standard_normal((5000, 4))
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000))
    if "late" in sys.argv:
        del os.posix_fallocate
    try:
        kmeans(x, 600, random_state=0, max_iter=3, **eval(sys.argv[1]))
    except OSError as error:
        print(error)
    """
)


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on files")
@pytest.mark.parametrize("argument", ["labels_out", "labels_out late", "checkpoint"])
def test_a_file_that_may_not_grow(tmp_path, argument):
    """The system itself refuses more bytes, as a full disk does."""
    folder = tmp_path / "out"
    folder.mkdir()
    name, *late = argument.split()
    target = folder / "labels.npy" if name == "labels_out" else folder
    code = repr({name: os.fspath(target)})
    limited = dict(os.environ, KMEANS_XP_NUMBA="0")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, code, *late], capture_output=True, text=True, env=limited
    )
    assert "File too large" in done.stdout, done.stderr
    assert not list(folder.iterdir())
