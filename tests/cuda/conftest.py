"""These tests need CuPy; most need a device. Both skip with their reason."""

from __future__ import annotations

import os

import pytest

from kmeans_xp.backends import cuda_blocks


@pytest.fixture
def device():
    """CuPy with a device that has the tensor-core instructions of the kernels."""
    cupy = pytest.importorskip("cupy", exc_type=ImportError)
    if not cupy.cuda.is_available():
        pytest.skip("cupy finds no CUDA device")
    if int(cupy.cuda.Device().compute_capability) < 80:
        pytest.skip("the CUDA kernels need compute capability 8.0")
    return cupy


@pytest.fixture
def cp(device):
    """CuPy with a device that the loop serves."""
    if device.cuda.Device().compute_capability != "90":
        pytest.skip("the error bound of the tensor cores has been measured on 9.0 only")
    return device


@pytest.fixture
def kernels(monkeypatch):
    """Counts the blocks that go to the kernels."""
    enqueue, seen = cuda_blocks.BlockPasses.enqueue, []

    def counted(self, place, **options):
        seen.append(place.n_rows)
        enqueue(self, place, **options)

    monkeypatch.setattr(cuda_blocks.BlockPasses, "enqueue", counted)
    return seen


def absent(reason: str) -> None:
    """Skip, but fail where ci/kernels.sh has installed all that is needed: a skip would hide it."""
    if os.environ.get("KMEANS_XP_TEST_KERNELS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def nvrtc():
    """The NVRTC bindings, which need no device."""
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        absent(f"no NVRTC library: {error}")
    return nvrtc
