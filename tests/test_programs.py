"""Every command as a program of its own: it works, or says in one line what keeps it from it."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from kmeans_xp import kmeans, save_model

from .datasets import blobs

for needed in ("typer", "matplotlib", "safetensors", "sklearn", "PIL"):
    pytest.importorskip(needed)

from kmeans_xp import cli  # noqa: E402

X = blobs(11, 120, 3, 4)
# What each command is called with; the data come first but for predict.
COMMANDS = {
    "fit": ["x.npy", "-k", "3", "--out", "out"],
    "predict": ["model.safetensors", "x.npy"],
    "select-k": ["x.npy", "--to", "4", "--n-init", "1"],
    "plot": ["x.npy", "-k", "3", "-o", "plot.png"],
    "report": ["x.npy", "-k", "3", "-o", "report.html"],
    "quantize": ["x.png", "-k", "3", "-o", "small.png"],
    "demo": ["--out", "demo"],
    "bench": ["--rows", "200", "-k", "3", "--repeat", "1"],
    "info": [],
}
READS = [name for name, args in COMMANDS.items() if {"x.npy", "x.png"} & set(args)]
PRINTS = [name for name in COMMANDS if name != "plot"]
SAYS = {
    "fit": "hash",
    "predict": "label\n",
    "select-k": "reason",
    "plot": "",
    "report": "report.html",
    "quantize": "#",
    "demo": "1708bde29bd7b4fc",
    "bench": "ms an iteration",
    "info": "cpu kernels",
}
WRITES = {
    "fit": ["out/clusters.png", "out/model.safetensors"],
    "plot": ["plot.png"],
    "report": ["report.html"],
    "quantize": ["small.png"],
    "demo": ["demo/clusters.png"],
}
# A missing library, who misses it, and the extra that brings it.
MISSING = [
    ("typer", ["info"], "cli"),
    ("matplotlib", ["plot", *COMMANDS["plot"]], "plot"),
    ("matplotlib", ["report", *COMMANDS["report"]], "plot"),
    ("matplotlib", ["demo"], "plot"),
    ("PIL", ["quantize", *COMMANDS["quantize"]], "plot"),
    ("sklearn", ["demo"], "sklearn"),
    ("safetensors", ["predict", *COMMANDS["predict"]], "io"),
    ("pyarrow", ["fit", "x.parquet", "-k", "3"], "io"),
    ("h5py", ["select-k", "x.h5"], "io"),
    ("zarr", ["plot", "x.zarr", "-k", "3", "-o", "plot.png"], "io"),
    ("tqdm", ["fit", "x.npy", "-k", "3", "--progress"], "progress"),
]


class Case(NamedTuple):
    """A program call: what it is about, its arguments, a library that is not there, its stdout."""

    about: str
    args: tuple[str, ...]
    missing: str | None = None
    closed: bool = False


def with_data(name: str, data: str) -> tuple[str, ...]:
    args = [data if arg in ("x.npy", "x.png") else arg for arg in COMMANDS[name]]
    return (name, *args)


def cases() -> list[Case]:
    found = [Case("works", (name, *args)) for name, args in COMMANDS.items()]
    found += [Case("closed pipe", (name, *COMMANDS[name]), closed=True) for name in PRINTS]
    found += [Case("no model", ("fit", *COMMANDS["fit"]), "safetensors")]
    found += [Case("missing extra", tuple(args), library) for library, args, _ in MISSING]
    return found


def call(case: Case, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it; a closed stdout is a pipe whose reader has gone."""
    script = "import sys; from kmeans_xp.__main__ import main; main()"
    if case.missing:
        script = script.replace(";", f"; sys.modules[{case.missing!r}] = None;", 1)
    settings = {"KMEANS_XP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.PIPE
    if case.closed:
        reader, out = os.pipe()
        os.close(reader)
    try:
        return subprocess.run(
            [sys.executable, "-c", script, *case.args],
            cwd=folder,
            env={**os.environ, **settings},
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=300,
        )
    finally:
        if case.closed:
            os.close(out)


def prepared(folder: Path) -> Path:
    """The same folder, with files to read in it."""
    from PIL import Image

    np.save(folder / "x.npy", X)
    pixels = (np.arange(6 * 7 * 3) * 37 % 256).astype(np.uint8).reshape(6, 7, 3)
    Image.fromarray(pixels).save(folder / "x.png")
    (folder / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n, or so it says")
    (folder / "letter.docx").write_text("Dear reader")
    for name in ("x.parquet", "x.h5", "x.zarr"):
        (folder / name).write_bytes(b"")
    save_model(kmeans(X, 3, random_state=0), folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> dict[Case, tuple[subprocess.CompletedProcess[str], Path]]:
    """All cases, each in a folder of its own, as many at a time as there are cores."""
    folders = {case: prepared(tmp_path_factory.mktemp("program")) for case in cases()}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = pool.map(lambda case: call(case, folders[case]), folders)
        return {
            case: (result, folders[case]) for case, result in zip(folders, results, strict=True)
        }


def told(done, case: Case, code: int) -> tuple[str, str, Path]:
    """What a call printed; it ended with this code, without a traceback."""
    result, folder = done[case]
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout or "", result.stderr, folder


@pytest.mark.parametrize("name", COMMANDS)
def test_works(done, name):
    out, _, folder = told(done, Case("works", (name, *COMMANDS[name])), 0)
    assert SAYS[name] in out
    for path in WRITES.get(name, []):
        assert (folder / path).stat().st_size > 0


@pytest.mark.parametrize("name", PRINTS)
@pytest.mark.skipif(os.name == "nt", reason="needs POSIX pipes")
def test_a_reader_that_has_gone(done, name):
    _, err, folder = told(done, Case("closed pipe", (name, *COMMANDS[name]), closed=True), 141)
    assert "error" not in err.lower()
    for path in WRITES.get(name, []):
        assert (folder / path).stat().st_size > 0


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        *((name, "missing.npy", "missing.npy") for name in READS),
        *((name, "letter.docx", "cannot read .docx") for name in READS),
        *((name, "damaged.png", "damaged.png") for name in ("fit", "quantize")),
    ],
)
def test_files_that_cannot_be_read(tmp_path, monkeypatch, capsys, name, data, message):
    """In this process: what a program adds are the cases above."""
    folder = prepared(tmp_path)
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        cli.run(list(with_data(name, data)))
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert (ended.value.code, out) == (1, "")
    assert "Traceback" not in err
    assert last.startswith("error: ")
    assert data in last
    if name != "quantize":  # which takes pictures alone, and says that
        assert message in last
    assert not [path for path in WRITES.get(name, []) if (folder / path).exists()]


@pytest.mark.parametrize(("library", "args", "extra"), MISSING)
def test_a_missing_extra(done, library, args, extra):
    out, err, folder = told(done, Case("missing extra", tuple(args), library), 1)
    assert out == ""
    assert f'pip install "kmeans_xp[{extra}]"' in err
    assert not [path for path in WRITES.get(args[0], []) if (folder / path).exists()]


def test_fit_without_the_library_for_models_says_so(done):
    out, err, folder = told(done, Case("no model", ("fit", *COMMANDS["fit"]), "safetensors"), 0)
    assert SAYS["fit"] in out
    assert 'pip install "kmeans_xp[io]"' in err
    assert sorted(os.listdir(folder / "out")) == ["centroids.npy", "clusters.png", "labels.csv"]
