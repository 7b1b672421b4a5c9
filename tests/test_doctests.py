"""The examples in docstrings run, and everything that users call has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
import tempfile
from dataclasses import is_dataclass
from pathlib import Path

import pytest

import kmeans_xp

PACKAGE = Path(kmeans_xp.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
# What an example uses that its module imports only then.
NEEDS = {"models": "safetensors", "export": "onnx", "plot": "matplotlib"}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    pytest.importorskip(NEEDS.get(name.split(".")[1], "numpy"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    try:
        module = importlib.import_module(name.removesuffix(".__init__"))
    except ModuleNotFoundError as error:
        pytest.skip(f"{name} needs {error.name}")
    found = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize("name", dir(kmeans_xp))
def test_everything_public_has_an_example(name):
    try:
        thing = getattr(kmeans_xp, name)
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    handed_out = is_dataclass(thing) or (inspect.isclass(thing) and issubclass(thing, Exception))
    if inspect.ismodule(thing) or handed_out:
        return
    assert ">>> " in inspect.getdoc(thing), f"{name} has no example"
