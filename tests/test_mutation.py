"""The certificates matter: without the error bound, labels come out wrong."""

import sys
from dataclasses import fields

import numpy as np
import pytest

from kmeans_xp import predict
from kmeans_xp.exact import bounds

from . import datasets, reference
from .helpers import BACKENDS, environment


def near_ties(dtype):
    """Rows so near the bisector of two centroids that a float32 score cannot tell the side."""
    centroids = datasets.bell(1, (2, 24)).astype(dtype)
    middle = centroids.astype(np.float64).mean(axis=0)
    along = datasets.bell(2, (300, 24))
    normal = (centroids[0] - centroids[1]).astype(np.float64)
    along -= np.outer(along @ normal / (normal @ normal), normal)
    return (middle + along).astype(dtype), centroids


def without_bound(*args, **kwargs):
    bound = bounds_as_they_are(*args, **kwargs)
    return type(bound)(**{field.name: 0.0 for field in fields(bound)})


bounds_as_they_are = bounds.score_bound


@pytest.fixture
def no_bound(monkeypatch):
    """Every name of the library for `score_bound` now means a bound of zero."""
    patched = 0
    for name, module in list(sys.modules.items()):
        if name.startswith("kmeans_xp") and hasattr(module, "score_bound"):
            monkeypatch.setattr(module, "score_bound", without_bound)
            patched += 1
    assert patched >= 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_labels_with_the_bound(dtype, backend):
    X, centroids = near_ties(dtype)
    with environment(backend=backend):
        assert (predict(X, centroids) == reference.predict(X, centroids)).all()


@pytest.mark.usefixtures("no_bound")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_labels_are_wrong_without_it(dtype, backend):
    X, centroids = near_ties(dtype)
    with environment(backend=backend):
        assert (predict(X, centroids) != reference.predict(X, centroids)).any()
