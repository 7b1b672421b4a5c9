"""`kmeans-xp fit` on rows that do not fit in memory, with checkpoints and a file of labels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kmeans_xp import fingerprint, kmeans

from .datasets import blobs
from .test_cli import call, found_hash

pytest.importorskip("typer")

X = blobs(11, 300, 3, 4)


@pytest.fixture
def data(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


def test_streamed(data, tmp_path, capsys):
    whole = kmeans(X, 4, random_state=0)
    out = tmp_path / "out"
    code, text, err = call(capsys, "fit", data, "-k", 4, "--stream", "--out", out)
    assert code == 0, err
    assert found_hash(text) == fingerprint(whole)
    assert "no picture" in err
    assert np.array_equal(np.load(out / "labels.npy"), whole.labels)
    assert np.array_equal(np.load(out / "centroids.npy"), whole.centroids)
    assert {p.name for p in out.iterdir()} <= {"labels.npy", "centroids.npy", "model.safetensors"}
    for path in out.iterdir():
        assert f"wrote       {path}" in text
    code, text, _ = call(capsys, "fit", data, "-k", 3, "--stream", "--columns", "2,0", "--format",
                         "json")  # fmt: skip
    assert code == 0
    found = json.loads(text)
    assert found["hash"] == fingerprint(kmeans(X[:, [2, 0]], 3, random_state=0))
    assert [c["share_of_inertia"] for c in found["clusters"]] == [None] * 3


def test_streamed_archives_and_tables(tmp_path, capsys):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    np.savez_compressed(tmp_path / "x.npz", X=X, Y=X[:, :2])
    code, text, _ = call(capsys, "fit", tmp_path / "x.npz", "-k", 3, "--stream", "--array", "Y")
    assert code == 0 and found_hash(text) == fingerprint(kmeans(X[:, :2], 3, random_state=0))
    table = arrow.table({name: X[:, j] for j, name in enumerate("abc")})
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=90)
    arguments = tmp_path / "x.parquet", "-k", 3, "--stream", "--columns", "c,a"
    code, text, _ = call(capsys, "fit", *arguments)
    assert code == 0 and found_hash(text) == fingerprint(kmeans(X[:, [2, 0]], 3, random_state=0))
    model = tmp_path / "out" / "model.safetensors"
    code, *_ = call(
        capsys, "fit", tmp_path / "x.parquet", "-k", 3, "--stream", "--out", model.parent
    )
    parquet.write_table(table.select(["c", "a", "b"]), tmp_path / "turned.parquet")
    _, text, _ = call(capsys, "predict", model, tmp_path / "turned.parquet")
    assert text.split()[1:] == [*map(str, kmeans(X, 3, random_state=0).labels)]


def test_labels_and_checkpoints(data, tmp_path, capsys):
    whole = kmeans(X, 4, init="k-means||", random_state=0)
    labels, state = tmp_path / "l.npy", tmp_path / "state"
    options = "-k", 4, "--init", "k-means||", "--labels-out", labels
    code, text, err = call(capsys, "fit", data, *options, "--checkpoint", state)
    assert code == 0, err
    assert found_hash(text) == fingerprint(whole) and f"wrote       {labels}" in text
    assert np.array_equal(np.load(labels), whole.labels)
    labels.unlink()
    code, text, _ = call(capsys, "fit", data, *options, "--resume", state, "--stream")
    assert code == 0 and found_hash(text) == fingerprint(whole)
    assert np.array_equal(np.load(labels), whole.labels)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--stream", "--standardize"], 2, "not with --stream"),
        (["--labels-out", "labels.txt"], 1, "--labels-out must be the path of a .npy file"),
        (["--labels-out", "none/l.npy"], 1, "none/l.npy cannot take 1200 bytes of labels"),
        (["--resume", "none"], 1, "resume: there is no checkpoint in none"),
        (["--stream", "--columns", "d"], 1, "no column 'd'"),
        (["--stream", "--device", "cuda"], 1, "cuda"),
    ],
)
def test_bad_options(data, capsys, monkeypatch, tmp_path, options, code, words):
    monkeypatch.chdir(tmp_path)
    found, text, err = call(capsys, "fit", data, "-k", 3, *options)
    assert (found, text) == (code, "") and words in err
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def test_text_is_not_streamed(tmp_path, capsys):
    (tmp_path / "x.csv").write_text("1,2\n3,4\n")
    code, _, err = call(capsys, "fit", tmp_path / "x.csv", "-k", 1, "--stream")
    assert code == 1 and "cannot stream .csv" in err
