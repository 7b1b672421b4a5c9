"""Interrupted fits that go on from a checkpoint end with the bits of one that ran through."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from kmeans_xp import Checkpoint, CheckpointError, fingerprint, kmeans, stream
from kmeans_xp.checkpoint import FILE

from .helpers import interrupted

OPTIONS = dict(n_clusters=7, init="random", n_init=3, random_state=5, tol=0.0)


def data(dtype=np.float32):
    return np.random.default_rng(0).standard_normal((400, 3)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_every_interruption_ends_with_the_same_bits(tmp_path, dtype, metric):
    x = data(dtype)
    options = {**OPTIONS, "metric": metric}
    whole = fingerprint(kmeans(x, **options))
    stopped, count = True, 0
    while stopped:
        count += 1
        folder = tmp_path / str(count)
        stopped = interrupted(x, folder, count, **options)
        assert fingerprint(kmeans(x, resume=folder, **options)) == whole
    assert count > 15  # all three starts were interrupted


@pytest.mark.parametrize(
    "options",
    [
        dict(init="k-means++", n_clusters=5, random_state=1),
        dict(init=data()[:6], n_clusters=6),
        dict(init="random", n_clusters=5, random_state=np.random.SeedSequence(3), max_iter=4),
        dict(init="random", n_clusters=9, n_init=2, random_state=2, tol=0.05),
    ],
)
def test_starts_weights_and_stop_rules(tmp_path, options):
    x = data()
    options = {"sample_weight": np.arange(len(x)) % 3, "n_init": 1, **options}
    whole = fingerprint(kmeans(x, **options))
    for count in (1, 2, 3):
        folder = tmp_path / str(count)
        interrupted(x, folder, count, **options)
        assert fingerprint(kmeans(x, resume=folder, checkpoint=folder, **options)) == whole
        assert fingerprint(kmeans(x, resume=folder, **options)) == whole  # a finished one too


def test_relocation_before_the_interruption(tmp_path):
    x = data(np.float64)
    far = np.vstack([x[:3], [[50.0] * 3] * 3])
    whole = fingerprint(kmeans(x, 6, init=far, tol=0.0))
    for count in (1, 2):
        interrupted(x, tmp_path, count, n_clusters=6, init=far, tol=0.0)
        assert fingerprint(kmeans(x, 6, init=far, tol=0.0, resume=tmp_path)) == whole


def test_fresh_entropy_is_kept(tmp_path):
    x = data()
    options = {**OPTIONS, "random_state": None}
    interrupted(x, tmp_path, 12, **options)
    one = kmeans(x, resume=tmp_path, **options)
    two = kmeans(x, resume=tmp_path, **options)
    assert fingerprint(one) == fingerprint(two)


def test_libraries_and_layouts_go_on_from_each_other(tmp_path, library):
    x = data()
    whole = kmeans(x, **OPTIONS)
    interrupted(np.asfortranarray(x), tmp_path, 9, **OPTIONS)
    result = kmeans(library.asarray(x), resume=tmp_path, **OPTIONS)
    assert library.numpy(result.labels).tobytes() == whole.labels.tobytes()
    assert library.numpy(result.centroids).tobytes() == whole.centroids.tobytes()
    assert (result.inertia, result.n_iter) == (whole.inertia, whole.n_iter)


STOPPED = textwrap.dedent(
    """
    import signal, sys, time
    import numpy as np
    from kmeans_xp import Checkpoint, kmeans, stream

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    x = np.random.default_rng(0).standard_normal((400, 3)).astype(np.float32)
    rows = stream(sys.argv[2], block_rows=70) if len(sys.argv) > 2 else x
    slow = lambda state: time.sleep(0.05)
    kmeans(rows, n_clusters=7, init="random", n_init=3, random_state=5, tol=0.0, callback=slow,
           checkpoint=Checkpoint(sys.argv[1], iterations=1))
    """
)


@pytest.mark.skipif(os.name == "nt", reason="no such signals on this system")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_stopped_process(tmp_path, name, streamed):
    x, folder = data(), tmp_path / "state"
    np.save(tmp_path / "x.npy", x)
    source = [str(tmp_path / "x.npy")] if streamed else []
    command = [sys.executable, "-c", STOPPED, str(folder), *source]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 60
            while not (folder / FILE).exists():
                assert process.poll() is None and time.monotonic() < deadline
                time.sleep(0.02)
            time.sleep(0.2)
            process.send_signal(getattr(signal, name))
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    if name == "SIGKILL":
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode != 0 and said.rstrip().endswith("KeyboardInterrupt")
        assert [path.name for path in folder.iterdir()] == [FILE]  # nothing half-written
    rows = stream(tmp_path / "x.npy", block_rows=111) if streamed else x
    found = kmeans(rows, resume=folder, **OPTIONS)
    assert fingerprint(found) == fingerprint(kmeans(x, **OPTIONS))


def test_checkpoints_are_written_when_they_are_due(tmp_path, monkeypatch):
    x, written = data(), []
    replace = os.replace

    def counted(source, target):
        written.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", counted)
    starts = kmeans(x, checkpoint=tmp_path, **OPTIONS)
    assert starts.n_iter > 2 and len(written) == 3  # 30 seconds do not pass: one a start
    written.clear()
    kmeans(x, checkpoint=Checkpoint(tmp_path, seconds=0), **OPTIONS)
    every = len(written)
    written.clear()
    kmeans(x, checkpoint=Checkpoint(tmp_path, iterations=5), **OPTIONS)
    assert 3 < len(written) < every
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_fit_writes_what_it_has_finished(tmp_path, count, error):
    x, seen = data(), []

    def stop(state):
        seen.append(state)
        if len(seen) == count:
            raise error

    with pytest.raises(error):
        kmeans(x, checkpoint=tmp_path, callback=stop, **OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    again = []
    found = kmeans(x, resume=tmp_path, callback=again.append, **OPTIONS)
    assert again[0].iteration == seen[-1].iteration + 1  # not one is made twice
    assert found == kmeans(x, **OPTIONS)


@pytest.mark.parametrize("inside", ["", "deeper/still"])
def test_a_file_in_the_way_of_the_folder(tmp_path, inside):
    file = tmp_path / "model.bin"
    file.write_bytes(b"precious")
    with pytest.raises(NotADirectoryError, match=r"checkpoint must be a folder, .*model.bin is a"):
        kmeans(data(), checkpoint=file / inside, **OPTIONS)
    assert file.read_bytes() == b"precious"


def test_a_failed_write_leaves_the_last_one(tmp_path, monkeypatch):
    x = data()
    interrupted(x, tmp_path, 5, **OPTIONS)
    before = (tmp_path / FILE).read_bytes()

    def full(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        kmeans(x, checkpoint=tmp_path, resume=tmp_path, **OPTIONS)
    assert (tmp_path / FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(n_clusters=6), "another n_clusters: 7 there, 6 here"),
        (dict(random_state=6), "another random_state: 5 there, 6 here"),
        (dict(init="k-means++"), "another init"),
        (dict(init=data()[:7]), "another init"),
        (dict(n_init=2), "another n_init"),
        (dict(tol=0.5), "another tol"),
        (dict(max_iter=5), "another max_iter"),
        (dict(metric="cosine"), "another metric"),
        (dict(sample_weight=np.ones(400)), "another sample_weight"),
        (dict(X=data()[::-1]), "another X"),
        (dict(X=data()[:399]), "another n_samples"),
        (dict(X=data(np.float64)), "another dtype"),
    ],
)
def test_another_fit_is_refused(tmp_path, change, words):
    interrupted(data(), tmp_path, 5, **OPTIONS)
    arguments = {"X": data(), **OPTIONS, **change}
    if "init" in change and not isinstance(change["init"], str):
        arguments["n_init"] = 1
    with pytest.raises(CheckpointError, match=words):
        kmeans(resume=tmp_path, **arguments)


def test_damaged_files(tmp_path):
    x = data()
    interrupted(x, tmp_path, 12, **OPTIONS)
    sound, whole = (tmp_path / FILE).read_bytes(), fingerprint(kmeans(x, **OPTIONS))
    rng = np.random.default_rng(0)
    spoilt = [b"", b"text", sound[:100], sound[:-30]]
    for place in rng.integers(0, len(sound), size=60):
        spoilt.append(sound[:place] + bytes([sound[place] ^ 0x55]) + sound[place + 1 :])
    refused = 0
    for content in spoilt:
        (tmp_path / FILE).write_bytes(content)
        try:  # a changed byte may be one that says nothing, as a date
            assert fingerprint(kmeans(x, resume=tmp_path, **OPTIONS)) == whole
        except CheckpointError:
            refused += 1
    assert refused > 40


def test_arguments(tmp_path):
    x = data()
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        kmeans(x, 3, resume=tmp_path / "none")
    with pytest.raises(TypeError, match="checkpoint must be a folder"):
        kmeans(x, 3, checkpoint=3)
    with pytest.raises(TypeError, match="resume must be a folder"):
        kmeans(x, 3, resume=3)
    with pytest.raises(ValueError, match="iterations"):
        Checkpoint(tmp_path, iterations=0)
    with pytest.raises(TypeError, match="iterations"):
        Checkpoint(tmp_path, iterations=True)
    for seconds in (-1, float("nan"), True, "1"):
        with pytest.raises(ValueError, match="seconds"):
            Checkpoint(tmp_path, seconds=seconds)
    often = Checkpoint(tmp_path, iterations=np.int64(2), seconds=np.float32(0.5))
    assert (often.iterations, often.seconds) == (2, 0.5)
    with pytest.raises(ValueError, match="not for batches"):
        kmeans(x[None], 3, checkpoint=tmp_path)
    assert not list(tmp_path.iterdir())
