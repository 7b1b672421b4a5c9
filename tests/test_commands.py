"""The commands beside fit and demo, the options they share, and pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from kmeans_xp import KMeans, fingerprint, kmeans, load_model, predict, save_model, select_k
from kmeans_xp.io import read_array
from kmeans_xp.models import write_model
from kmeans_xp.pq import ProductQuantizer

from .datasets import blobs
from .test_cli import PNG, call, found_hash

pytest.importorskip("typer")
pytest.importorskip("matplotlib")

X = blobs(11, 200, 3, 4)


@pytest.fixture
def data(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


@pytest.fixture
def table(tmp_path):
    """A .csv with names and a column of text."""
    lines = ["id,a,b,c", *(f"row {i},{a!r},{b!r},{c!r}" for i, (a, b, c) in enumerate(X.tolist()))]
    path = tmp_path / "x.csv"
    path.write_text("\n".join(lines))
    return path


def fitted(capsys, tmp_path, *args):
    """The folder of a fit."""
    out = tmp_path / "out"
    code, text, err = call(capsys, "fit", *args, "--out", out)
    assert code == 0, err
    return out, text


# Options of fit


def test_json_is_the_result(data, tmp_path, capsys):
    out, text = fitted(capsys, tmp_path, data, "-k", 4, "--format", "json")
    found, result = json.loads(text), kmeans(X, 4, random_state=0)
    assert found["hash"] == fingerprint(result)
    assert (found["inertia"], found["iterations"]) == (result.inertia, result.n_iter)
    assert [c["size"] for c in found["clusters"]] == np.bincount(result.labels).tolist()
    assert sum(c["share_of_inertia"] for c in found["clusters"]) == pytest.approx(1)
    assert found["files"] == [str(out / name) for name in found_names(out)]


def found_names(out):
    names = ["labels.csv", "centroids.npy", "clusters.png", "model.safetensors"]
    assert sorted(names) == sorted(os.listdir(out))
    return names


@pytest.mark.parametrize("columns", ["c,a", "3,1", "1:2, 3"])
def test_columns(table, tmp_path, columns, capsys):
    code, text, _ = call(capsys, "fit", table, "-k", 3, "--columns", columns)
    assert code == 0
    order = [0, 2] if ":" in columns else [2, 0]
    assert found_hash(text) == fingerprint(kmeans(X[:, order], 3, random_state=0))


def test_a_column_that_is_not_there(table, capsys):
    code, _, err = call(capsys, "fit", table, "-k", 3, "--columns", "d")
    assert code == 1
    assert "no column 'd'; there are 4, numbered from 0, called id, a, b, c" in err


def test_an_array_of_several(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", a=X, b=X[:, :2])
    code, text, _ = call(capsys, "fit", tmp_path / "x.npz", "-k", 3, "--array", "b")
    assert code == 0
    assert found_hash(text) == fingerprint(kmeans(X[:, :2], 3, random_state=0))


def test_standardize(tmp_path, capsys):
    x = np.column_stack([X[:, 0] * 1e6, X[:, 1], np.full(200, 3.0)])
    np.save(tmp_path / "x.npy", x)
    out, text = fitted(capsys, tmp_path, tmp_path / "x.npy", "-k", 4, "--standardize")
    scale = x.std(axis=0)
    scale[2] = 1
    truth = kmeans((x - x.mean(axis=0)) / scale, 4, random_state=0)
    assert found_hash(text) == fingerprint(truth)
    means = [x[truth.labels == k].mean(axis=0) for k in range(4)]
    np.testing.assert_allclose(read_array(out / "centroids.npy"), means, rtol=1e-9)
    code, text, _ = call(capsys, "predict", out / "model.safetensors", tmp_path / "x.npy")
    assert code == 0
    assert text.split() == ["label", *map(str, truth.labels)]


def test_standardize_refuses_what_has_no_mean(tmp_path, capsys):
    for value, message in ((np.nan, r"X[1, 0] is nan"), (1e308, "too large")):
        x = np.array([[1.0], [value], [-value]])
        np.save(tmp_path / "x.npy", x)
        code, _, err = call(capsys, "fit", tmp_path / "x.npy", "-k", 1, "--standardize")
        assert code == 1
        assert message in err


def test_metric(data, tmp_path, capsys):
    out, text = fitted(capsys, tmp_path, data, "-k", 4, "--metric", "cosine")
    truth = kmeans(X, 4, metric="cosine", random_state=0)
    assert found_hash(text) == fingerprint(truth)
    shares = [float(line.split()[2]) for line in text.splitlines()[1:5]]
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    cost = 1 - (unit * truth.centroids[truth.labels]).sum(axis=1)
    expected = 100 * np.bincount(truth.labels, cost) / cost.sum()
    np.testing.assert_allclose(shares, expected, atol=0.051)
    _, text, _ = call(capsys, "predict", out / "model.safetensors", data)
    assert text.split()[1:] == [*map(str, truth.labels)]


def test_cuda_that_is_missing_names_the_command(data, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cupy", None)
    for name in ("cuda", "cuda:1"):
        code, _, err = call(capsys, "fit", data, "-k", 2, "--device", name)
        assert code == 1
        assert f"device='{name}' needs CuPy: pip install 'kmeans_xp[cuda12]'" in err


def test_saved_estimators_are_computed_where_one_says(data, tmp_path, monkeypatch, capsys):
    model, quantizer = KMeans(4, random_state=0).fit(X), ProductQuantizer(1, 4).fit(X)
    for name, one in (("model", model), ("quantizer", quantizer)):
        save_model(one, tmp_path / f"{name}.safetensors")
    _, text, _ = call(capsys, "predict", tmp_path / "model.safetensors", data, "--device", "cpu")
    assert text.split()[1:] == [*map(str, model.labels_)]
    monkeypatch.setitem(sys.modules, "cupy", None)
    for name, message in (
        ("model", "device='cuda' needs CuPy"),
        ("quantizer", "--device cuda is not for a ProductQuantizer"),
    ):
        path = tmp_path / f"{name}.safetensors"
        code, _, err = call(capsys, "predict", path, data, "--device", "cuda")
        assert code == 1
        assert message in err


def test_a_missing_reader_names_the_command(tmp_path, monkeypatch, capsys):
    (tmp_path / "x.parquet").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    code, _, err = call(capsys, "fit", tmp_path / "x.parquet", "-k", 2)
    assert code == 1
    assert 'pip install "kmeans_xp[io]"' in err


# Predict


def test_predict_uses_the_columns_of_the_fit(table, tmp_path, capsys):
    out, _ = fitted(capsys, tmp_path, table, "-k", 3, "--columns", "c,a")
    truth = kmeans(X[:, [2, 0]], 3, random_state=0)
    code, text, _ = call(capsys, "predict", out / "model.safetensors", table)
    assert (code, text.split()) == (0, ["label", *map(str, truth.labels)])
    code, text, _ = call(capsys, "predict", out / "model.safetensors", table, "--format", "json")
    assert json.loads(text) == {"labels": truth.labels.tolist()}


def test_predict_finds_the_columns_by_name(tmp_path, capsys):
    for name, order in ("abc", [0, 1, 2]), ("cab", [2, 0, 1]), ("xabc", [1, 0, 1, 2]):
        rows = [",".join(name), *(",".join(map(repr, row)) for row in X[:, order].tolist())]
        (tmp_path / f"{name}.csv").write_text("\n".join(rows))
    out, _ = fitted(capsys, tmp_path, tmp_path / "abc.csv", "-k", 4)
    truth = [*map(str, kmeans(X, 4, random_state=0).labels)]
    for name in "abc", "cab", "xabc":
        code, text, err = call(
            capsys, "predict", out / "model.safetensors", tmp_path / f"{name}.csv"
        )
        assert (code, text.split()[1:]) == (0, truth), err
    np.save(tmp_path / "x.npy", X)  # has no names: the order counts
    _, text, _ = call(capsys, "predict", out / "model.safetensors", tmp_path / "x.npy")
    assert text.split()[1:] == truth
    (tmp_path / "other.csv").write_text("a,b,d\n1,2,3\n")
    code, text, err = call(capsys, "predict", out / "model.safetensors", tmp_path / "other.csv")
    assert (code, text) == (1, "")
    assert "no column 'c', which the model was fitted on; say with --columns" in err
    code, _, err = call(
        capsys, "predict", out / "model.safetensors", tmp_path / "other.csv", "--columns", "a,b,d"
    )
    assert code == 0, err


@pytest.mark.parametrize("suffix", [".csv", ".npy"])
def test_predict_to_a_file(data, tmp_path, suffix, capsys):
    save_model(KMeans(4, random_state=0).fit(X), tmp_path / "model.safetensors")
    target = tmp_path / f"labels{suffix}"
    code, text, err = call(capsys, "predict", tmp_path / "model.safetensors", data, "--out", target)
    assert (code, text, err) == (0, "", f"wrote {target}\n")
    labels = read_array(target)
    np.testing.assert_array_equal(labels.reshape(-1), kmeans(X, 4, random_state=0).labels)


def test_predict_with_centroids(data, tmp_path, capsys):
    np.save(tmp_path / "centroids.npy", X[:5])
    code, text, _ = call(capsys, "predict", tmp_path / "centroids.npy", data)
    assert code == 0
    assert text.split()[1:] == [*map(str, predict(X, X[:5]))]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "model.safetensors: there is no such file"), (b"junk", "damaged or no model file")],
)
def test_predict_with_a_bad_model(data, tmp_path, content, message, capsys):
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    code, text, err = call(capsys, "predict", path, data)
    assert (code, text) == (1, "")
    assert message in err


def test_predict_of_other_features(data, tmp_path, capsys):
    save_model(kmeans(X[:, :2], 3, random_state=0), tmp_path / "model.safetensors")
    code, text, err = call(capsys, "predict", tmp_path / "model.safetensors", data)
    assert (code, text) == (1, "")
    assert "centroids must have shape" in err


@pytest.mark.parametrize(
    "extra",
    [
        {"columns": 3},
        {"columns": [1]},
        {"names": [1]},
        {"array": 1},
        {"mean": np.zeros(3)},
        {"mean": "a", "scale": "b"},
        {"mean": np.zeros((3, 1)), "scale": np.zeros((3, 1))},
        {"mean": np.zeros(2), "scale": np.ones(2)},
        {"metric": 2},
        {"metric": "manhattan"},
    ],
)
def test_predict_with_a_preparation_that_is_nonsense(data, tmp_path, extra, capsys):
    with open(tmp_path / "model.safetensors", "wb") as file:
        write_model(kmeans(X, 3, random_state=0), file, extra=extra)
    code, text, err = call(capsys, "predict", tmp_path / "model.safetensors", data)
    assert (code, text) == (1, "")
    assert err.startswith("error: ")


def test_fit_leaves_a_model_for_python(data, tmp_path, capsys):
    out, _ = fitted(capsys, tmp_path, data, "-k", 4)
    model = load_model(out / "model.safetensors")
    assert model.labels is None
    np.testing.assert_array_equal(model.centroids, kmeans(X, 4, random_state=0).centroids)


# Pictures


@pytest.mark.parametrize(
    "options",
    [
        ("--kind", "clusters"),
        ("--kind", "silhouette", "--metric", "cosine"),
        ("--kind", "centroids", "--columns", "c,a"),
        ("--kind", "centroids", "--shape", "1x3", "--standardize"),
        ("--kind", "convergence", "--n-init", "2"),
        ("--kind", "elbow"),
        ("--kind", "elbow", "--metric", "cosine"),
    ],
)
def test_plot(table, tmp_path, options, capsys):
    target = tmp_path / "x.png"
    columns = () if "--columns" in options else ("--columns", "a,b,c")
    code, text, err = call(capsys, "plot", table, "-k", 3, "-o", target, *columns, *options)
    assert (code, text) == (0, ""), err
    assert target.read_bytes().startswith(PNG)
    assert f"wrote {target}" in err


def test_plot_as_svg(data, tmp_path, capsys):
    code, _, _ = call(capsys, "plot", data, "-k", 3, "-o", tmp_path / "x.svg")
    assert code == 0
    assert b"<svg" in (tmp_path / "x.svg").read_bytes()


def test_plot_into_a_folder_that_is_missing(data, tmp_path, capsys):
    code, _, err = call(capsys, "plot", data, "-k", 3, "-o", tmp_path / "no" / "x.png")
    assert code == 1
    assert "cannot be written" in err


@pytest.mark.parametrize("grey", [False, True])
def test_quantize(tmp_path, grey, capsys):
    image = pytest.importorskip("PIL.Image")
    pixels = blobs(5, 24, 1 if grey else 3, 4) * 7 + 120
    pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    array = pixels.reshape(4, 6) if grey else pixels.reshape(4, 6, 3)
    image.fromarray(array).save(tmp_path / "in.png")
    args = ("quantize", tmp_path / "in.png", "-k", 4, "-o", tmp_path / "out.png")
    code, text, _ = call(capsys, *args)
    assert code == 0
    truth = kmeans(pixels, 4, random_state=0)
    expected = np.broadcast_to(np.rint(truth.centroids)[truth.labels], (24, 3))
    new = np.asarray(image.open(tmp_path / "out.png").convert("RGB")).reshape(24, 3)
    np.testing.assert_array_equal(new, expected)
    sizes = [int(line.split()[1]) for line in text.splitlines()[1:5]]
    assert sizes == sorted(np.bincount(truth.labels).tolist(), reverse=True)
    _, text, _ = call(capsys, *args, "--format", "json")
    colors = json.loads(text)["colors"]
    assert {color["color"] for color in colors} == {"#" + row.tobytes().hex() for row in new}


def test_quantize_what_is_no_picture(data, tmp_path, capsys):
    for path in (data, tmp_path / "broken.png"):
        (tmp_path / "broken.png").write_bytes(PNG)
        code, _, err = call(capsys, "quantize", path, "-k", 2, "-o", tmp_path / "out.png")
        assert code == 1
        assert path.name in err
        assert not (tmp_path / "out.png").exists()


# Select-k, bench and info


def test_select_k(data, capsys):
    args = ("select-k", data, "--from", 2, "--to", 6)
    code, text, _ = call(capsys, *args, "--criterion", "silhouette", "--criterion", "bic")
    found = select_k(X, range(2, 7), criterion=["silhouette", "bic"], random_state=0)
    assert code == 0
    assert f"k       {found.k}\n" in text
    assert f"reason  {found.reason}\n" in text
    code, text, _ = call(capsys, *args, "--format", "json")
    found = select_k(X, range(2, 7), random_state=0)
    answer = json.loads(text)
    assert (answer["k"], answer["criterion"]) == (found.k, "elbow")
    assert [row["inertia"] for row in answer["rows"]] == found.to_dict()["inertia"]


def test_select_k_with_weights_and_a_metric(data, tmp_path, capsys):
    weights = np.arange(200) % 5 + 0.5
    np.save(tmp_path / "w.npy", weights)
    args = ("select-k", data, "--from", 2, "--to", 4, "--format", "json", "--metric", "cosine")
    code, text, _ = call(capsys, *args, "--weights", tmp_path / "w.npy")
    found = select_k(X, range(2, 5), sample_weight=weights, metric="cosine", random_state=0)
    assert code == 0
    assert [row["inertia"] for row in json.loads(text)["rows"]] == found.to_dict()["inertia"]
    code, _, err = call(capsys, *args, "--criterion", "bic")
    assert code == 1
    assert "criterion 'bic' is for metric='euclidean'" in err
    np.save(tmp_path / "w.npy", weights[:3])
    for command in (args, ("plot", data, "-k", 3, "--kind", "elbow", "-o", tmp_path / "x.png")):
        code, _, err = call(capsys, *command, "--weights", tmp_path / "w.npy")
        assert code == 1
        assert f"--weights {tmp_path / 'w.npy'}: sample_weight must have shape (200,)" in err


def test_select_k_of_few_rows(tmp_path, capsys):
    np.save(tmp_path / "x.npy", X[:5])
    code, _, err = call(capsys, "select-k", tmp_path / "x.npy")
    assert code == 0
    assert "k = 1 to 5" in err


def test_select_k_tells_warnings_in_a_line(tmp_path, capsys):
    np.save(tmp_path / "x.npy", X[[0, 0, 0, 1, 1, 1]])
    code, _, err = call(capsys, "select-k", tmp_path / "x.npy", "--to", 3)
    assert code == 0
    assert "\nwarning: Number of distinct clusters (2) found smaller than n_clusters (3)" in err


def test_bench(capsys):
    args = ("bench", "--rows", 500, "-k", 5, "--repeat", 1)
    code, text, _ = call(capsys, *args, "--format", "json")
    assert code == 0
    found = json.loads(text)["milliseconds_an_iteration"]
    assert set(found) == {"kmeans_xp", "scikit-learn"}
    assert all(value > 0 for value in found.values())


def test_info(monkeypatch, capsys):
    monkeypatch.setenv("KMEANS_XP_NUM_THREADS", "3")
    code, text, _ = call(capsys, "info", "--format", "json")
    found = json.loads(text)
    assert code == 0
    assert found["packages"]["numpy"] == np.__version__
    assert (found["threads"], found["settings"]["KMEANS_XP_NUM_THREADS"]) == (3, "3")
    code, text, _ = call(capsys, "info")
    assert code == 0
    assert f"numpy            {np.__version__}\n" in text


# As a program


def shell(script: str) -> subprocess.CompletedProcess:
    script = script.replace("kmeans-xp", f'"{sys.executable}" -m kmeans_xp')
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_pipes(table, tmp_path):
    model = f'"{tmp_path}/out/model.safetensors"'
    script = f'cut -d, -f2-4 "{table}" | kmeans-xp fit - -k 4 --out "{tmp_path}/out" > /dev/null'
    done = shell(f'set -eo pipefail; {script}; kmeans-xp predict {model} "{table}" --columns a,b,c')
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1:] == [*map(str, kmeans(X, 4, random_state=0).labels)]


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_reader_that_goes_away(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((200_000, 1)))
    np.save(tmp_path / "c.npy", np.zeros((1, 1)))
    pipe = f'kmeans-xp predict "{tmp_path}/c.npy" "{tmp_path}/x.npy" | head -n 1'
    done = shell(pipe + '; echo "${PIPESTATUS[0]}"')
    assert done.stdout == "label\n141\n"
    assert done.stderr == ""


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_shell_completion(shell_name, monkeypatch, capsys):
    monkeypatch.setenv("_KMEANS_XP_COMPLETE", f"source_{shell_name}")
    code, text, _ = call(capsys)
    assert code == 0
    assert "_KMEANS_XP_COMPLETE=complete_" + shell_name in text


def test_every_command_has_help(capsys):
    _, text, _ = call(capsys, "--help")
    for name in (
        "fit",
        "predict",
        "select-k",
        "plot",
        "report",
        "quantize",
        "demo",
        "bench",
        "info",
    ):
        assert name in text
        code, help_text, _ = call(capsys, name, "--help")
        assert code == 0
        assert "Usage: kmeans-xp " + name in help_text
