"""The self-test of a device: the error constant covers it, and it refuses what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from kmeans_xp.backends import cuda_kernels, cuda_selftest, nvrtc
from kmeans_xp.backends.cuda import DeviceLloyd, DeviceUnsupported

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("engine", ["auto", "mma"])
@pytest.mark.parametrize("D", [32, 128, 256])
def test_the_error_constant_covers_this_device(cp, engine, D):
    target = cuda_kernels.Target.current(engine=engine)
    worst = max(cuda_selftest.lost_units(target, D))
    assert 0 < worst <= cuda_kernels.lost_units_allowed(target) * D


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    monkeypatch.setattr(cuda_selftest, "_passed", set())
    monkeypatch.setenv("KMEANS_XP_CACHE_DIR", str(tmp_path))
    return tmp_path


def test_a_device_is_tested_once_and_marked(cp, fresh, monkeypatch):
    X = cp.asarray(np.arange(12, dtype=np.float32).reshape(6, 2))
    DeviceLloyd(X)
    assert len(list(fresh.glob("*.passed"))) == 1
    monkeypatch.setattr(cuda_selftest, "_run", None)  # a second test would fail
    monkeypatch.setattr(cuda_selftest, "_passed", set())
    DeviceLloyd(X)


@pytest.mark.parametrize("what", ["constant", "answers"])
def test_a_device_that_fails_is_refused(cp, fresh, monkeypatch, what):
    if what == "constant":
        monkeypatch.setattr(cuda_kernels, "LOST_WGMMA", 1e-3)
        monkeypatch.setattr(cuda_kernels, "LOST_MMA", 1e-3)
    else:
        monkeypatch.setattr(cuda_selftest, "_known_answers", lambda *_: "labels")
    with pytest.raises(DeviceUnsupported, match=r"tensor cores lose|labels"):
        DeviceLloyd(cp.zeros((5, 2), cp.float32))
    assert not list(fresh.glob("*.passed"))
    assert nvrtc.cache_directory() == fresh
