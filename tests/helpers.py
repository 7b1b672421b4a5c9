"""Running and comparing, for every test file."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from unittest import mock

import numpy as np

from kmeans_xp import Checkpoint, kmeans, predict

from . import reference

BACKENDS = ("auto", "generic")  # the array's own backend, and the array-API one for every array


def run(X, n_clusters, **options):
    """`kmeans`, silent about too few distinct rows (test_errors.py sees to that warning)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*distinct.*")
        return kmeans(X, n_clusters, **options)


class StoppedError(Exception):
    """What ends a fit from outside."""


def interrupted(x, folder, iterations, **options):
    """Run a fit until so many iterations, over all starts, are done; whether it was stopped."""
    left = [iterations]

    def callback(state):
        if left[0] == 0:
            raise StoppedError
        left[0] -= 1

    try:
        kmeans(x, callback=callback, checkpoint=Checkpoint(folder, iterations=1), **options)
    except StoppedError:
        return True
    return False


@contextlib.contextmanager
def environment(**settings) -> Iterator[None]:
    """KMEANS_XP_<NAME> for each setting, and no other."""
    names = {f"KMEANS_XP_{name.upper()}": str(value) for name, value in settings.items()}
    rest = {name: value for name, value in os.environ.items() if not name.startswith("KMEANS_XP_")}
    with mock.patch.dict(os.environ, {**rest, **names}, clear=True):
        yield


def assert_bits(a, b):
    """Same dtype, shape and bits; -0 and +0 differ."""
    assert (a.dtype, a.shape) == (b.dtype, b.shape)
    assert np.array_equal(a, b)
    assert np.array_equal(np.signbit(a), np.signbit(b))


def assert_same(result, truth, labels=None):
    """The same run to the last bit; `labels` stands for those of `truth` where given."""
    assert (result.n_iter, result.converged) == (truth.n_iter, truth.converged)
    assert_bits(np.asarray(result.centroids), np.asarray(truth.centroids))
    assert_bits(np.asarray(result.labels), truth.labels if labels is None else labels)
    assert isinstance(result.inertia, float)
    assert result.inertia == truth.inertia


def check(X, n_clusters, truth=None, **options) -> reference.Result:
    """Both backends agree with the reference, whose result comes back; X is left alone."""
    truth = truth or reference.kmeans(X, n_clusters, **options)
    before = X.copy()
    for backend in BACKENDS:
        with environment(backend=backend):
            result = run(X, n_clusters, **options)
            assert_same(result, truth)
            metric = options.get("metric", "euclidean")
            assert_bits(predict(X, result.centroids, metric=metric), truth.labels)
            assert_bits(X, before)
    return truth


def check_labels(X, centroids, **options):
    """Both backends give the labels of the reference."""
    truth = reference.predict(X, centroids, **options)
    for backend in BACKENDS:
        with environment(backend=backend):
            assert_bits(predict(X, centroids, **options), truth)
