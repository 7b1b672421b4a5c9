"""What is installed and what an import costs."""

from __future__ import annotations

import importlib.metadata
import itertools
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import kmeans_xp

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    *("cuda12", "cuda13", "cpu", "torch", "jax"),
    *("sklearn", "dask", "plot", "cli", "progress", "io", "onnx", "all", "test", "lint"),
}


def test_version_is_the_installed_one():
    assert kmeans_xp.__version__ == importlib.metadata.version("kmeans_xp")
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", kmeans_xp.__version__)


def test_two_hard_dependencies():
    names = [Requirement(text).name for text in PROJECT["dependencies"]]
    assert names == ["numpy", "array-api-compat"]
    assert PROJECT["requires-python"] == ">=3.11"


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_extras_exist(extra):
    assert PROJECT["optional-dependencies"][extra]


def test_all_is_everything_but_cuda():
    (everything,) = PROJECT["optional-dependencies"]["all"]
    assert Requirement(everything).extras == EXTRAS - {"cuda12", "cuda13", "all", "test", "lint"}


def test_no_version_has_an_upper_limit():
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for text in itertools.chain(*groups):
        assert {part.operator for part in Requirement(text).specifier} <= {">="}, text


def test_cupy_is_never_built_from_source():
    for cuda in ("12", "13"):
        assert PROJECT["optional-dependencies"][f"cuda{cuda}"] == [f"cupy-cuda{cuda}x[ctk]"]


def test_import_needs_numpy_and_array_api_compat_alone():
    code = (
        "import sys; before = set(sys.modules); import kmeans_xp;"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    foreign = set(done.stdout.split()) - sys.stdlib_module_names
    assert {name for name in foreign if not name.startswith("_")} == {
        "kmeans_xp",
        "numpy",
        "array_api_compat",
    }


def test_public_names():
    for name in kmeans_xp.__all__:
        assert getattr(kmeans_xp, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kmeans_xp.nothing  # noqa: B018


def test_the_manual_installs_pandas_for_its_examples():
    named = {Requirement(text).name for text in PROJECT["optional-dependencies"]["docs"]}
    examples = (ROOT / "docs" / "examples").glob("*.py")
    if any("as_frame=True" in path.read_text(encoding="utf-8") for path in examples):
        assert "pandas" in named


def test_help_works_without_scikit_learn():
    code = (
        "import importlib.util as u, pydoc, sys; sys.modules['sklearn'] = None;"
        "find = u.find_spec; u.find_spec = lambda name: name != 'sklearn' and find(name);"
        "import kmeans_xp; assert 'select_k' in pydoc.render_doc(kmeans_xp);"
        "assert 'KMeans' not in dir(kmeans_xp)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_modules_are_there_without_an_import_of_their_own():
    code = "import kmeans_xp as k; k.metrics.silhouette_score, k.pq.ProductQuantizer, k.vq.vq"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_command_without_its_extra_names_the_command():
    code = (
        "import sys; sys.modules['typer'] = None; sys.argv = ['kmeans-xp', 'demo'];"
        "from kmeans_xp.__main__ import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1
    assert done.stdout == ""
    assert 'pip install "kmeans_xp[cli]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_wheel_holds_the_package_and_nothing_else(tmp_path):
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    # kernels are read at run time, py.typed by type checkers
    package = {
        path.relative_to(ROOT).as_posix()
        for suffix in ("*.py", "*.cu", "*.cuh", "py.typed")
        for path in (ROOT / "kmeans_xp").rglob(suffix)
    }
    assert package <= names
    assert all(name.startswith("kmeans_xp/") for name in names)
    assert not any(name.endswith((".pyc", ".so", ".o", ".cubin")) for name in names)
