"""`device=` of functions and estimators: host arrays that are computed there."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import kmeans_xp
from kmeans_xp import kmeans, predict
from kmeans_xp.prediction import distances, inertia
from tests.helpers import assert_bits

from .test_paths import W, X, same

sklearn = pytest.importorskip("sklearn")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("KMeans", {}),
        ("KMeans", {"metric": "cosine"}),
        ("MiniBatchKMeans", {}),
        ("BisectingKMeans", {}),
    ],
)
def test_estimators(cp, kind, options):
    x, model = cp.asarray(X), getattr(kmeans_xp, kind)
    truth = model(5, random_state=0, **options).fit(X, sample_weight=W)
    found = model(5, random_state=0, **options).fit(x, sample_weight=W)
    for name in ("cluster_centers_", "labels_"):
        assert_bits(getattr(found, name).get(), getattr(truth, name))
    for name in ("predict", "transform"):
        assert_bits(getattr(found, name)(x).get(), getattr(truth, name)(X))
    assert (found.inertia_, found.score(x)) == (truth.inertia_, truth.score(X))
    assert_bits(found.to("numpy").predict(X), truth.predict(X))
    labels = truth.predict(X)
    assert_bits(truth.to("cupy").predict(x).get(), labels)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("KMeans", {}),
        ("KMeans", {"metric": "cosine"}),
        ("MiniBatchKMeans", {}),
        ("BisectingKMeans", {"n_clusters": 3}),
    ],
)
def test_estimators_compute_host_arrays_there(cp, kind, options, monkeypatch):
    seen, brought = [], cp.asarray
    monkeypatch.setattr(cp, "asarray", lambda x, *a, **o: seen.append(x) or brought(x, *a, **o))

    def used():
        there = any(isinstance(a, np.ndarray) and a.shape == X.shape for a in seen)
        seen.clear()
        return there

    options = {"n_clusters": 5, "random_state": 0, **options}
    truth = getattr(kmeans_xp, kind)(**options).fit(X, sample_weight=W)
    given = getattr(kmeans_xp, kind)(**options, device="cuda")
    model = sklearn.clone(given).fit(X, sample_weight=W)
    assert used()
    assert model.get_params()["device"] == "cuda"
    for name in ("cluster_centers_", "labels_"):
        assert_bits(getattr(model, name), getattr(truth, name))
    assert_bits(model.predict(X), truth.predict(X))
    assert used()
    assert (model.inertia_, model.score(X)) == (truth.inertia_, truth.score(X))
    assert used()
    assert_bits(model.transform(X), truth.transform(X))
    again = pickle.loads(pickle.dumps(model))
    assert again.device == "cuda"
    assert_bits(again.predict(X), truth.predict(X))
    assert_bits(again.set_params(device=None).predict(X), truth.predict(X))
    x = cp.asarray(X)
    assert_bits(again.to("cupy").predict(x).get(), truth.predict(X))
    assert_bits(again.set_params(device="cuda:0").predict(x).get(), truth.predict(X))


def test_estimators_take_streams_there(cp):
    truth = kmeans_xp.KMeans(4, random_state=0).fit(X)
    for kind in (kmeans_xp.KMeans, kmeans_xp.MiniBatchKMeans):
        pieces = kmeans_xp.stream(lambda: (X[i : i + 90] for i in range(0, len(X), 90)))
        model = kind(4, random_state=0, device="cuda").fit(pieces)
        truth = kind(4, random_state=0).fit(X)
        assert_bits(model.labels_, truth.labels_)
        assert_bits(model.predict(pieces), truth.labels_)
        assert model.score(pieces) == truth.score(X)


def test_names_of_the_device(cp):
    truth = kmeans(X, 3, random_state=0)
    for name in ("cuda:0", 0, np.int64(0), cp.cuda.Device(0)):
        same(kmeans(X, 3, random_state=0, device=name), truth, np.ndarray)
        assert_bits(predict(X, truth.centroids, device=name), truth.labels)
    x = cp.asarray(X)
    same(kmeans(x, 3, random_state=0, device="cuda:0"), truth, cp.ndarray)
    for call in (
        lambda: kmeans(X, 3, device="cuda:1"),
        lambda: kmeans_xp.MiniBatchKMeans(3, device=1).fit(X),
    ):
        with pytest.raises(
            ValueError, match="device='cuda:1' is not here: there is 'cuda:0' alone"
        ):
            call()
    with pytest.raises(ValueError, match="device='cpu' takes data on the host"):
        kmeans(x, 3, device="cpu")


def test_another_device_than_that_of_the_data(cp, monkeypatch):
    x = cp.asarray(X)
    monkeypatch.setattr(cp.cuda.runtime, "getDeviceCount", lambda: 3)
    with pytest.raises(ValueError, match=r"device='cuda:2' is another than that of X, <CUDA Devi"):
        kmeans(x, 3, device=2)


def test_a_named_device_is_the_current_one_meanwhile(cp, monkeypatch):
    """The stand-in has one device: here it answers to other numbers too."""
    events = []

    class Numbered(cp.cuda.Device):
        def __init__(self, device=None):
            super().__init__(0)
            self.number = device

        def __enter__(self):
            events.append(("in", self.number))
            return self

        def __exit__(self, *_):
            events.append(("out", self.number))

    monkeypatch.setattr(cp.cuda.runtime, "getDeviceCount", lambda: 3)
    monkeypatch.setattr(cp.cuda, "Device", Numbered)
    C = X[:3]
    labels = predict(X, C)
    streamed = kmeans_xp.stream(lambda: iter([X]))
    for call in (
        lambda: predict(X, C, device="cuda:2"),
        lambda: predict(streamed, C, device="cuda:2"),
        lambda: kmeans(X, 3, init=C, max_iter=1, device=2).labels,
        lambda: inertia(X, C, device="cuda:2"),
        lambda: kmeans_xp.MiniBatchKMeans(3, init=C, n_init=1, device=2).fit(X).labels_,
    ):
        events.clear()
        call()
        assert events[0] == ("in", 2)
        assert events[-1] == ("out", 2)
    assert_bits(predict(X, C, device="cuda:2"), labels)
    x = cp.asarray(X)  # on number 0
    for call in (
        lambda: kmeans(x, 3, init=C, max_iter=1),
        lambda: predict(x, C),
        lambda: distances(x, C),
        lambda: kmeans_xp.kmeans_plusplus(x, 3, random_state=0),
    ):
        events.clear()
        call()
        assert events[0] == ("in", 0)


def test_fitted_arrays_go_to_a_named_device(cp):
    model = kmeans_xp.KMeans(3, random_state=0).fit(X)
    labels = model.labels_
    for name in ("cuda", "cuda:0", 0, cp.cuda.Device(0)):
        assert_bits(model.to("cupy", name).predict(cp.asarray(X)).get(), labels)
    for name in ("cpu", "gpu"):
        with pytest.raises(ValueError, match="device must be None, 'cuda', 'cuda:N' or a number"):
            model.to("cupy", name)
