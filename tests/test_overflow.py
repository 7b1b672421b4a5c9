"""An inertia beyond float64 is inf, with one warning; labels and centroids are exact."""

import warnings

import numpy as np
import pytest

from kmeans_xp import BisectingKMeans, KMeans, MiniBatchKMeans, kmeans

LARGE = 2.0**700
X = np.random.default_rng(0).standard_normal((90, 2))
OPTIONS = dict(n_init=1, random_state=0, tol=0.0)


@pytest.mark.parametrize("how", ["tiny", "loop", "starts"])
def test_one_warning_and_the_labels_of_the_scaled_rows(how):
    options = {**OPTIONS, **({"algorithm": "lloyd"} if how == "loop" else {})}
    options["n_init"] = 3 if how == "starts" else 1
    with pytest.warns(RuntimeWarning, match="^inertia is inf: ") as caught:
        found = kmeans(X * LARGE, 4, **options)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert found.inertia == np.inf
    expected = kmeans(X, 4, **{**options, "n_init": 1})  # all starts are ties: the first one
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.centroids, expected.centroids * LARGE)


def test_one_warning_for_a_batch():
    with pytest.warns(RuntimeWarning, match="^inertia is inf: ") as caught:
        found = kmeans(X.reshape(3, 30, 2) * LARGE, 2, init="k-means||", **OPTIONS)
    assert len(caught) == 1
    assert np.isinf(found.inertia).all()


@pytest.mark.parametrize("kind", [KMeans, MiniBatchKMeans, BisectingKMeans])
def test_one_warning_of_an_estimator(kind):
    pytest.importorskip("sklearn")
    with pytest.warns(RuntimeWarning, match="^inertia is inf: ") as caught:
        found = kind(3, random_state=0).fit(X * LARGE)
    assert len(caught) == 1
    assert found.inertia_ == np.inf


def test_no_warning_as_long_as_it_fits():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kmeans(X * 2.0**500, 4, **OPTIONS).inertia < np.inf
