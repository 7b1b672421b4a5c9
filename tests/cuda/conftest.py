"""These tests need CuPy; most need a device. Both skip with their reason."""

from __future__ import annotations

import pytest


@pytest.fixture
def cp():
    """CuPy with a device that the kernels serve."""
    cupy = pytest.importorskip("cupy")
    if not cupy.cuda.is_available():
        pytest.skip("cupy finds no CUDA device")
    if int(cupy.cuda.Device().compute_capability) < 80:
        pytest.skip("the CUDA kernels need compute capability 8.0")
    return cupy


@pytest.fixture
def nvrtc():
    """The NVRTC bindings, which need no device."""
    pytest.importorskip("cupy")
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"no NVRTC library: {error}")
    return nvrtc
