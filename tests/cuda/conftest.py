"""These tests need CuPy; most need a device. Both skip with their reason."""

from __future__ import annotations

import pytest


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
def nvrtc():
    """The NVRTC bindings, which need no device."""
    pytest.importorskip("cupy", exc_type=ImportError)
    try:
        from cupy.cuda import nvrtc

        nvrtc.getVersion()
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"no NVRTC library: {error}")
    return nvrtc
