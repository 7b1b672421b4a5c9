"""`cp` is the stand-in for CuPy here; kernels are compiled once a session."""

from __future__ import annotations

import os

import pytest

from . import installed, why_not


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    """Where compiled kernels are kept: away from those of a real device."""
    with pytest.MonkeyPatch.context() as patch:
        if "KMEANS_XP_CACHE_DIR" not in os.environ:
            patch.setenv("KMEANS_XP_CACHE_DIR", str(tmp_path_factory.mktemp("kernels")))
        yield


@pytest.fixture
def cp(compiled):
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with installed() as cupy:
        yield cupy
