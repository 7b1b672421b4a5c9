"""Which devices the kernels serve; no device needed."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from kmeans_xp.backends.cuda_kernels import Target
from kmeans_xp.backends.nvrtc import DeviceUnsupported


def pretend(monkeypatch, capability: str) -> None:
    attributes = {"MultiProcessorCount": 100, "MaxSharedMemoryPerBlockOptin": 163 * 1024}
    found = SimpleNamespace(compute_capability=capability, attributes=attributes)
    cupy = SimpleNamespace(cuda=SimpleNamespace(Device=lambda: found))
    monkeypatch.setitem(sys.modules, "cupy", cupy)


def test_hopper_takes_wgmma(monkeypatch):
    pretend(monkeypatch, "90")
    target = Target.current()
    assert (target.arch, target.wgmma) == ("sm_90a", True)


@pytest.mark.parametrize("capability", ["75", "80", "89", "100", "120"])
def test_a_device_whose_rounding_is_not_measured_is_refused(monkeypatch, capability):
    pretend(monkeypatch, capability)
    with pytest.raises(
        DeviceUnsupported, match=f"{capability[:-1]}[.]{capability[-1]}; .*9.0 only"
    ):
        Target.current()


def test_an_explicit_engine_may_be_measured(monkeypatch):
    pretend(monkeypatch, "80")
    target = Target.current(engine="mma")
    assert (target.arch, target.wgmma) == ("sm_80", False)
    pretend(monkeypatch, "75")
    with pytest.raises(DeviceUnsupported, match=r"below 8\.0"):
        Target.current(engine="mma")
