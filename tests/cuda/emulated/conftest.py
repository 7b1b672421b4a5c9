"""`cp` is the stand-in for CuPy here; kernels are compiled once a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kmeans_xp import single
from kmeans_xp.backends import nvrtc

from . import installed, why_not


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Where compiled kernels are kept: away from those of a real device, whatever tests set."""
    kept = os.environ.get("KMEANS_XP_CACHE_DIR") or tmp_path_factory.mktemp("kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nvrtc, "cache_directory", lambda: Path(kept))
        yield


@pytest.fixture
def cp(compiled, monkeypatch):
    reason = why_not()
    if reason:
        pytest.skip(reason)
    # small as they are, single fits go through the loop here; tests/cuda/test_whole.py has others
    monkeypatch.setattr(single, "device_solver", lambda *_: None)
    with installed() as cupy:
        yield cupy
