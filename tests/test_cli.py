"""The command line end to end: results, streams, exit codes, and nothing half-written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kmeans_xp import kmeans, predict
from kmeans_xp.io import read_array
from kmeans_xp.result import fingerprint

from .datasets import blobs

pytest.importorskip("typer")
pytest.importorskip("matplotlib")

from kmeans_xp import cli
from kmeans_xp.cli import demo as demo_room
from kmeans_xp.cli import results as results_room
from kmeans_xp.cli import rows as rows_room

X = blobs(11, 200, 2, 4)
PNG = b"\x89PNG\r\n\x1a\n"


def call(capsys, *args) -> tuple[int, str, str]:
    """Run a command in this process: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as caught:
        cli.run([str(arg) for arg in args])
    captured = capsys.readouterr()
    return caught.value.code, captured.out, captured.err


def found_hash(out: str) -> str:
    return re.search(r"^hash +([0-9a-f]{16})$", out, re.M)[1]


@pytest.fixture
def data(tmp_path) -> Path:
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> tuple[str, Path]:
    """What the demo prints on NumPy, and its folder."""
    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    done = subprocess.run(
        [sys.executable, "-m", "kmeans_xp", "demo", "--out", out],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "clustering 1797 digits on numpy\n"
    return done.stdout, out


# Demo


def test_demo_writes_three_files(demo):
    text, out = demo
    assert sorted(os.listdir(out)) == ["centroids.npy", "clusters.png", "labels.csv"]
    assert (out / "clusters.png").read_bytes().startswith(PNG)
    for name in os.listdir(out):
        assert f"wrote       {out / name}" in text


def test_demo_prints_the_table_of_its_files(demo):
    text, out = demo
    labels = read_array(out / "labels.csv")[:, 0].astype(int)
    table = [line.split() for line in text.splitlines()[1:12]]
    sizes = np.bincount(labels)
    assert [int(line[1]) for line in table] == [*sizes, 1797]
    assert abs(sum(float(line[2]) for line in table[:-1]) - 100) < 1
    _, digits = demo_room._digits()
    for k, line in enumerate(table[:-1]):
        counts = np.bincount(digits[labels == k], minlength=10)
        assert int(line[4]) == counts.argmax()
        assert line[5] == f"{100 * counts.max() / sizes[k]:.1f}"


def test_demo_files_are_the_result(demo):
    text, out = demo
    result = kmeans(demo_room._digits()[0], 10, random_state=0)
    # the projection is rounded so that every machine clusters the same numbers
    assert found_hash(text) == fingerprint(result) == "1708bde29bd7b4fc"
    np.testing.assert_array_equal(read_array(out / "labels.csv")[:, 0], result.labels)
    np.testing.assert_array_equal(read_array(out / "centroids.npy"), result.centroids)
    assert read_array(out / "centroids.npy").dtype == np.float32


@pytest.mark.parametrize("backend", ["torch", "jax", "cupy"])
def test_demo_prints_the_same_on_every_library(demo, backend, tmp_path, capsys):
    module = pytest.importorskip(backend)
    if backend == "cupy" and not module.cuda.is_available():
        pytest.skip("cupy finds no device")
    code, out, err = call(capsys, "demo", "--backend", backend, "--out", tmp_path)
    assert (code, err) == (0, f"clustering 1797 digits on {backend}\n")
    assert out == demo[0].replace(str(demo[1]), str(tmp_path))
    for name in ("labels.csv", "centroids.npy"):
        assert (tmp_path / name).read_bytes() == (demo[1] / name).read_bytes()


def test_demo_takes_a_seed(demo, tmp_path, capsys):
    code, out, _ = call(capsys, "demo", "--seed", 1, "--out", tmp_path)
    assert code == 0
    assert found_hash(out) == fingerprint(kmeans(demo_room._digits()[0], 10, random_state=1))


def test_digits_are_multiples_that_no_lapack_can_move():
    points, digits = demo_room._digits()
    assert points.shape == (1797, 2)
    assert points.dtype == np.float32
    assert digits.shape == (1797,)
    assert (points * 1024 == np.rint(points * 1024)).all()
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA

    other = PCA(2, svd_solver="full").fit_transform(load_digits().data)
    other *= np.sign((other * points).sum(axis=0))
    # Far from the middle between two multiples, compared with the error of any LAPACK.
    assert (np.abs(other * 1024 - points * 1024) < 0.5 - 1e-6).all()


# Fit


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv"])
def test_fit(suffix, tmp_path, capsys):
    path = tmp_path / f"x{suffix}"
    if suffix == ".csv":
        np.savetxt(path, X, delimiter=",", fmt="%.17g", header="a,b", comments="")
    else:
        {".npy": np.save, ".npz": np.savez}[suffix](path, X)
    out = tmp_path / "out"
    code, text, err = call(capsys, "fit", path, "-k", 4, "--out", out)
    result = kmeans(X, 4, random_state=0)
    header = f"{path}: line 1 taken as header: a,b\n" if suffix == ".csv" else ""
    assert (code, err) == (0, f"{header}clustering 200 x 2 float64 values\n")
    assert found_hash(text) == fingerprint(result)
    labels, centroids = read_array(out / "labels.csv")[:, 0], read_array(out / "centroids.npy")
    np.testing.assert_array_equal(labels, result.labels)
    np.testing.assert_array_equal(centroids, result.centroids)
    np.testing.assert_array_equal(labels, predict(X, np.asarray(centroids)))
    assert (out / "clusters.png").read_bytes().startswith(PNG)


def test_fit_options(data, tmp_path, capsys):
    weights = np.linspace(0, 2, 200)
    np.savetxt(tmp_path / "w.csv", weights, fmt="%.17g")
    np.save(tmp_path / "init.npy", X[:3])
    common = ("fit", data, "--out", tmp_path / "out", "--weights", tmp_path / "w.csv")
    code, text, _ = call(capsys, *common, "-k", 3, "--init", tmp_path / "init.npy", "--tol", 0)
    assert code == 0
    expected = kmeans(X, 3, init=X[:3], tol=0, sample_weight=weights)
    assert found_hash(text) == fingerprint(expected)
    options = ("--init", "random", "--n-init", 3, "--max-iter", 50, "--seed", 5)
    code, text, _ = call(capsys, *common, "--n-clusters", 3, *options)
    assert code == 0
    expected = kmeans(
        X, 3, init="random", n_init=3, max_iter=50, random_state=5, sample_weight=weights
    )
    assert found_hash(text) == fingerprint(expected)


def test_fit_shares_are_those_of_the_inertia(data, tmp_path, capsys):
    _, text, _ = call(capsys, "fit", data, "-k", 4, "--out", tmp_path / "out")
    result = kmeans(X, 4, random_state=0)
    distances = np.square(X - result.centroids[result.labels]).sum(axis=1)
    for k, line in enumerate(text.splitlines()[1:5]):
        share = 100 * distances[result.labels == k].sum() / result.inertia
        assert line.split()[:3] == [str(k), str((result.labels == k).sum()), f"{share:.1f}"]


def test_fit_without_a_picture(tmp_path, capsys):
    np.save(tmp_path / "x.npy", blobs(3, 50, 1, 2))
    code, text, err = call(capsys, "fit", tmp_path / "x.npy", "-k", 2, "--out", tmp_path / "out")
    assert code == 0
    assert "no picture: it needs two features or more" in err
    assert "clusters.png" not in text
    files = ["centroids.npy", "labels.csv", "model.safetensors"]
    assert sorted(os.listdir(tmp_path / "out")) == files


def test_fit_without_a_folder_writes_nothing(data, monkeypatch, capsys):
    monkeypatch.chdir(data.parent)
    code, text, _ = call(capsys, "fit", data, "-k", 4)
    assert code == 0
    assert found_hash(text) == fingerprint(kmeans(X, 4, random_state=0))
    assert os.listdir(data.parent) == ["x.npy"]


def test_fit_on_integers_and_on_identical_rows(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.full((20, 2), 3, dtype=np.uint8))
    code, text, err = call(capsys, "fit", tmp_path / "x.npy", "-k", 2, "--out", tmp_path / "out")
    assert code == 0
    assert "warning: " in err
    assert "0.0" in text


def test_stopped_by_the_limit_is_said(data, tmp_path, capsys):
    args = ("fit", data, "-k", 9, "--out", tmp_path / "out", "--max-iter", 1, "--tol", 0)
    code, _, err = call(capsys, *args)
    assert code == 0
    assert "--max-iter" in err


# Failures


def damaged(tmp_path) -> Path:
    path = tmp_path / "damaged.npy"
    np.save(path, X)
    path.write_bytes(path.read_bytes()[:-9])
    return path


def with_nan(tmp_path) -> Path:
    path = tmp_path / "nan.csv"
    path.write_text("1,2\n3,nan\n4,5\n")
    return path


def with_text(tmp_path) -> Path:
    path = tmp_path / "text.csv"
    path.write_text("1,2\n3,oops\n4,5\n")
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "missing.npy", "missing.npy: there is no such file"),
        (lambda p: p / "x.xlsx", "cannot read .xlsx"),
        (lambda p: p, "a folder; give a file"),
        (damaged, "damaged.npy: damaged"),
        (with_text, "text.csv: line 2, column 2: 'oops' is not a number"),
        (with_nan, "X[1, 1]"),
    ],
)
def test_bad_files_end_with_1_and_leave_nothing(make, message, tmp_path, capsys):
    out = tmp_path / "out"
    code, text, err = call(capsys, "fit", make(tmp_path), "-k", 2, "--out", out)
    assert (code, text) == (1, "")
    assert err.splitlines()[-1].startswith("error: ")
    assert message in err
    assert not out.exists()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_of_words_names_the_option(suffix, tmp_path, capsys):
    frame = pytest.importorskip("pandas").DataFrame({"a": [1, 2], "kind": ["x", "y"]})
    path = tmp_path / f"words.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
    code, _, err = call(capsys, "fit", path, "-k", 2)
    assert code == 1
    assert err.endswith("; name the columns to read with --columns\n")
    assert call(capsys, "fit", path, "-k", 2, "--columns", "a")[0] == 0


def test_a_word_below_a_missing_one_names_the_option_too(tmp_path, capsys):
    path = tmp_path / "words.csv"
    path.write_text("a,kind\n1,NA\n2,\n3,red\n")
    err = call(capsys, "fit", path, "-k", 2)[2]
    assert err.endswith("'NA' is not a number; name the columns to read with --columns\n")
    path.write_text("a,b\n1,NA\n2,\n3,4\n")  # a spoilt column of numbers
    assert call(capsys, "fit", path, "-k", 2)[2].endswith("'NA' is not a number\n")


@pytest.mark.parametrize("name", ["model.safetensors", "centroids.npy"])
def test_a_missing_model_is_told_like_missing_data(name, data, tmp_path, capsys):
    path = tmp_path / name
    expected = 1, "", f"error: {path}: there is no such file\n"
    assert call(capsys, "predict", path, data) == expected
    assert call(capsys, "predict", data, path.with_suffix(".npy"))[2].endswith("no such file\n")
    code, _, err = call(capsys, "predict", tmp_path, data)
    assert (code, err) == (1, f"error: {tmp_path}: a folder; give a file in it\n")


def test_more_clusters_than_rows(data, tmp_path, capsys):
    code, text, err = call(capsys, "fit", data, "-k", 201, "--out", tmp_path / "out")
    assert (code, text) == (1, "")
    assert "n_clusters" in err
    assert not (tmp_path / "out").exists()


def test_bad_weights(data, tmp_path, capsys):
    np.save(tmp_path / "w.npy", np.ones(3))
    args = ("fit", data, "-k", 2, "--out", tmp_path / "out", "--weights", tmp_path / "w.npy")
    code, text, err = call(capsys, *args)
    assert (code, text) == (1, "")
    assert f"--weights {tmp_path / 'w.npy'}: sample_weight" in err


def test_missing_weights_name_the_option(data, tmp_path, capsys):
    args = ("fit", data, "-k", 2, "--out", tmp_path / "out", "--weights", tmp_path / "no.npy")
    code, _, err = call(capsys, *args)
    assert code == 1
    assert f"--weights {tmp_path / 'no.npy'}: there is no such file" in err
    assert "Errno" not in err


def test_bad_init_names_the_option(data, tmp_path, capsys):
    np.save(tmp_path / "c.npy", np.ones((3, 7)))
    args = ("fit", data, "-k", 2, "--out", tmp_path / "out", "--init", tmp_path / "c.npy")
    code, _, err = call(capsys, *args)
    assert code == 1
    assert f"--init {tmp_path / 'c.npy'}: init" in err


@pytest.mark.parametrize("name", ["labels.csv", "centroids.npy", "clusters.png"])
def test_a_folder_in_the_place_of_a_result_is_found_before_any_work(name, data, capsys, tmp_path):
    (tmp_path / "out" / name).mkdir(parents=True)
    code, text, err = call(capsys, "fit", data, "-k", 2, "--out", tmp_path / "out")
    assert (code, text) == (1, "")
    assert f"{name} there is a folder; name another --out" in err
    assert os.listdir(tmp_path / "out") == [name]


def test_a_folder_that_cannot_be_written(data, capsys, tmp_path, monkeypatch):
    access = os.access  # typer calls it too; root may write anywhere, so it has to be told
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode))
    code, _, err = call(capsys, "fit", data, "-k", 2, "--out", tmp_path / "new" / "out")
    assert code == 1
    assert "is not writable; name another folder" in err
    assert "clustering" not in err


def test_a_stale_picture_goes(data, tmp_path, capsys):
    out = tmp_path / "out"
    call(capsys, "fit", data, "-k", 2, "--out", out)
    np.save(tmp_path / "x1.npy", blobs(3, 50, 1, 2))
    code, _, err = call(capsys, "fit", tmp_path / "x1.npy", "-k", 2, "--out", out)
    assert code == 0
    assert f"removed {out / 'clusters.png'} of an earlier run" in err
    assert sorted(os.listdir(out)) == ["centroids.npy", "labels.csv", "model.safetensors"]


def test_interrupted(data, tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(rows_room, "kmeans", interrupt)
    code, text, err = call(capsys, "fit", data, "-k", 2, "--out", tmp_path / "out")
    assert (code, text) == (130, "")
    assert err.splitlines()[-1] == "interrupted"
    assert not (tmp_path / "out").exists()


def test_interrupted_says_how_to_go_on(data, tmp_path, monkeypatch, capsys):
    def interrupt(*_, **__):
        (tmp_path / "state").mkdir(exist_ok=True)
        (tmp_path / "state" / "kmeans.checkpoint.npz").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(rows_room, "kmeans", interrupt)
    code, _, err = call(capsys, "fit", data, "-k", 2, "--checkpoint", tmp_path / "state")
    assert code == 130
    assert f"--resume {tmp_path / 'state'} go on from" in err


def test_version(capsys):
    from kmeans_xp import __version__

    assert call(capsys, "--version") == (0, f"kmeans-xp {__version__}\n", "")


def test_progress(data, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tqdm")
    args = ("fit", data, "-k", 2, "--out", tmp_path / "out")
    assert "k-means, start" in call(capsys, *args, "--progress")[2]
    assert "k-means, start" not in call(capsys, *args, "--no-progress")[2]
    assert "k-means, start" not in call(capsys, *args)[2]
    monkeypatch.setitem(sys.modules, "tqdm", None)
    code, _, err = call(capsys, *args, "--progress")
    assert code == 1
    assert "kmeans_xp[progress]" in err


@pytest.mark.parametrize(
    "args",
    [
        ("nonsense",),
        ("demo", "--nonsense"),
        ("demo", "--backend", "abacus"),
        ("demo", "--seed", "-1"),
        ("fit",),
        ("fit", "x.npy", "--out", "o"),
        ("fit", "x.npy", "-k", "2", "--metric", "manhattan"),
        ("fit", "x.npy", "-k", "2", "--format", "xml"),
        ("fit", "x.npy", "-k", "2", "--device", "tpu"),
        ("fit", "x.npy", "-k", "2", "--device", "1"),
        ("predict", "m.safetensors", "x.npy", "--device", "cuda:"),
        ("predict", "m.safetensors"),
        ("predict", "m.safetensors", "x.npy", "--out", "labels.txt"),
        ("plot", "x.npy", "-k", "2", "-o", "x.gif"),
        ("plot", "x.npy", "-k", "2", "-o", "x.png", "--kind", "pie"),
        ("plot", "x.npy", "-k", "2", "-o", "x.png", "--shape", "2by2"),
        ("quantize", "x.png", "-k", "257", "-o", "y.png"),
        ("quantize", "x.png", "-k", "2", "-o", "y.jpg"),
        ("bench", "--rows", "3", "-k", "4"),
        ("select-k", "x.npy", "--criterion", "luck"),
        ("select-k", "x.npy", "--from", "3", "--to", "2"),
        ("fit", "x.npy", "-k", "0", "--out", "o"),
        ("fit", "x.npy", "-k", "two", "--out", "o"),
        ("fit", "x.npy", "-k", "2", "--out", "o", "--init", "k-means+++"),
        ("fit", "x.npy", "-k", "2", "--out", "o", "--n-init", "0"),
        ("fit", "x.npy", "-k", "2", "--out", "o", "--max-iter", "0"),
        ("fit", "x.npy", "-k", "2", "--out", "o", "--tol", "-1"),
        ("fit", "x.npy", "-k", "2", "--out", "o", "--tol", "inf"),
        ("fit", "x.npy", "-k", "2", "--out", "o", "--tol", "nan"),
    ],
)
def test_wrong_usage_ends_with_2(args, data, monkeypatch, capsys):
    monkeypatch.chdir(data.parent)
    code, text, err = call(capsys, *args)
    assert (code, text) == (2, "")
    assert "rror" in err
    assert os.listdir(data.parent) == ["x.npy"]


def test_out_that_is_a_file(data, capsys):
    code, _, err = call(capsys, "fit", data, "-k", 2, "--out", data)
    assert code == 2
    assert "--out" in err
    np.testing.assert_array_equal(np.load(data), X)


def test_a_failure_while_writing_leaves_the_old_files(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    call(capsys, "fit", data, "-k", 2, "--out", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(results_room, "write_npy", full)  # the second of four files
    code, _, err = call(capsys, "fit", data, "-k", 3, "--out", out)
    assert code == 1
    assert "No space left on device" in err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize(
    ("module", "args", "command"),
    [
        ("matplotlib", ["demo"], "kmeans_xp[plot]"),
        ("sklearn.datasets", ["demo"], "kmeans_xp[sklearn]"),
        ("torch", ["demo", "--backend", "torch"], "kmeans_xp[torch]"),
        ("jax.numpy", ["demo", "--backend", "jax"], "kmeans_xp[jax]"),
        ("cupy", ["demo", "--backend", "cupy"], "kmeans_xp[cuda13]"),
    ],
)
def test_a_missing_extra_names_the_command(module, args, command, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, module, None)
    code, text, err = call(capsys, *args, "--out", tmp_path / "out")
    assert (code, text) == (1, "")
    assert f'pip install "{command}"' in err
    assert not (tmp_path / "out").exists()


def test_fit_does_without_matplotlib(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, text, err = call(capsys, "fit", data, "-k", 2, "--out", tmp_path / "out")
    assert code == 0
    assert "kmeans_xp[plot]" in err
    assert "clusters.png" not in text


def test_help_and_a_closed_pipe(data, tmp_path, capsys):
    code, text, _ = call(capsys, "--help")
    assert code == 0
    assert "demo" in text
    assert "fit" in text
    script = f'"{sys.executable}" -m kmeans_xp fit "{data}" -k 4 --out "{tmp_path}/o" | head -n 1'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "cluster"
    assert "Traceback" not in done.stderr
