"""Starts are computed on the device, and the host goes on where it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from kmeans_xp import kmeans, seeding
from kmeans_xp.backends import nvrtc
from kmeans_xp.backends.cuda_oversampling import DeviceOversampling
from kmeans_xp.blocks.oversampling import HostOversampling
from kmeans_xp.blocks.potential import HostPotential

from .test_paths import DOUBLED, W, X, same


@pytest.fixture
def no_host(monkeypatch):
    """No potential is computed on the host."""

    def refuse(*_):
        raise AssertionError("on the host")

    for name in ("accept", "accept_all", "lower", "nearest"):
        monkeypatch.setattr(HostOversampling, name, refuse)


PARALLEL = {
    "float32": (X, {}),
    "float16": (X.astype(np.float16), {}),
    "float64 and weights": (X * np.pi, {"sample_weight": W}),
    "every other row and column": (X[::2, ::2], {"sample_weight": W[::2]}),
    "Fortran order": (np.asfortranarray(X), {"oversampling_factor": 0.5}),
    "integers": (np.rint(3 * X).astype(np.int32), {}),
    "a sample": (X, {"init_size": 100, "sample_weight": W.astype(np.float32)}),
    "few distinct rows": (DOUBLED, {"n_clusters": 4}),
}


@pytest.mark.parametrize("way", PARALLEL)
def test_many_candidates_at_a_time_on_the_device(cp, request, monkeypatch, way):
    data, options = PARALLEL[way]
    options = {"n_clusters": 5, "random_state": 0, "init": "k-means||", "max_iter": 3, **options}
    truth = kmeans(data, **options)
    request.getfixturevalue("no_host")
    if way in ("float32", "float64 and weights"):  # the candidates' own start is computed there too
        monkeypatch.setattr(seeding, "_LARGE_POOL", 0)
        monkeypatch.setattr(HostPotential, "accept", None)
        same(kmeans(data, **options, device="cuda"), truth, np.ndarray)
    same(kmeans(cp.asarray(data), **options), truth, cp.ndarray)


@pytest.mark.parametrize("way", PARALLEL)
def test_greedy_starts_stay_on_the_device(cp, monkeypatch, way):
    data, options = PARALLEL[way]
    options = {"n_clusters": 4, "random_state": 0, "max_iter": 1, **options}
    truth = kmeans(data, **options)

    def refuse(*_):
        raise AssertionError("on the host")

    for name in ("start", "accept", "costs", "locate"):
        monkeypatch.setattr(HostPotential, name, refuse)
    same(kmeans(cp.asarray(data), **options), truth, cp.ndarray)


@pytest.mark.parametrize("error", [nvrtc.DeviceUnsupported("many left"), MemoryError("no room")])
@pytest.mark.parametrize("at", [0, 2, 5])
def test_the_host_goes_on_with_candidates(cp, monkeypatch, error, at):
    left = iter(range(at))

    def gives_up(self, *args, real=DeviceOversampling._labelled):
        if next(left, None) is None:
            raise error
        return real(self, *args)

    monkeypatch.setattr(DeviceOversampling, "_labelled", gives_up)
    options = {"random_state": 0, "init": "k-means||", "sample_weight": W}
    same(kmeans(cp.asarray(X), 5, **options), kmeans(X, 5, **options), cp.ndarray)
