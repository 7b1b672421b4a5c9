"""CUDA on the host: a stand-in for CuPy, and the kernels compiled as C++.

See "The CUDA path without a GPU" in CONTRIBUTING.md.
"""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

_FOLDER = Path(__file__).parent / "cupy"
_kept: dict[str, ModuleType] = {}


def why_not() -> str | None:
    """Why the emulation cannot be used here, if so. It never takes the place of a real CuPy."""
    if importlib.util.find_spec("cupy") is not None:
        return "CuPy is installed: its own device or none"
    if platform.system() != "Linux":
        return "the emulation of CUDA is written for Linux"
    if stand_in().cuda.nvrtc.compiler() is None:
        return "the emulation of CUDA needs g++"
    return None


def stand_in() -> Any:
    """The stand-in, loaded once; `import cupy` does not find it."""
    if not _kept:
        with _in_place_of_cupy():
            spec = importlib.util.spec_from_file_location(
                "cupy", _FOLDER / "__init__.py", submodule_search_locations=[str(_FOLDER)]
            )
            assert spec is not None and spec.loader is not None
            sys.modules["cupy"] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules["cupy"])
            importlib.import_module("array_api_compat.cupy")
            _kept.update({name: sys.modules[name] for name in _ours()})
    return _kept["cupy"]


def _ours() -> list[str]:
    roots = "cupy", "array_api_compat.cupy"
    return [n for n in sys.modules if any(n == root or n.startswith(f"{root}.") for root in roots)]


@contextlib.contextmanager
def _in_place_of_cupy() -> Iterator[None]:
    before = {name: sys.modules.pop(name) for name in _ours()}
    try:
        sys.modules.update(_kept)
        yield
    finally:
        for name in _ours():
            del sys.modules[name]
        sys.modules.update(before)


@contextlib.contextmanager
def installed() -> Iterator[Any]:
    """`import cupy` finds the stand-in; at the end nothing may have gone wrong out of sight."""
    cupy = stand_in()
    with _in_place_of_cupy():
        cupy.cuda.memory.violations.clear()
        yield cupy
        cupy.cuda.stream.synchronize_all()
        assert not cupy.cuda.memory.violations
