"""scikit-learn's own checks of estimators, with its array API dispatch off and on."""

import pytest

pytest.importorskip("sklearn")

from sklearn import config_context
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import parametrize_with_checks

from kmeans_xp import BisectingKMeans, KMeans, MiniBatchKMeans

ESTIMATORS = [
    KMeans(n_clusters=2, n_init=2, max_iter=5),
    BisectingKMeans(n_clusters=2, n_init=2, max_iter=5),
    MiniBatchKMeans(n_clusters=2, n_init=2, max_iter=5, batch_size=10),
]


def expected_failures(estimator):
    """Drawing from weights is not drawing from repeated rows: the starts differ."""
    kinds = ["dense", "sparse"] if get_tags(estimator).input_tags.sparse else ["dense"]
    why = "the random starts differ"
    return {f"check_sample_weight_equivalence_on_{kind}_data": why for kind in kinds}


def checks():
    return parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)


@checks()
def test_checks(estimator, check):
    check(estimator)


@checks()
def test_checks_with_array_api_dispatch(estimator, check):
    with config_context(array_api_dispatch=True):
        check(estimator)
