"""Choosing k: the number of groups that the data were made of, and none where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kmeans_xp import KSelection, kmeans, knee, metrics, select_k, selection
from kmeans_xp.seeding import Words, sample_rows
from kmeans_xp.selection.choice import choose

from . import datasets

FAST = {"n_init": 2, "n_references": 5, "random_state": 0}


CORNERS = 40.0 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])


def groups(k, n=180, d=3, seed=1, dtype="float64"):
    """Well separated groups."""
    return (CORNERS[np.arange(n) % k, :d] + datasets.bell(seed, (n, d))).astype(dtype)


def uniform(d, n=250):
    return datasets.uniform(d, (n, d))


@pytest.mark.parametrize("criterion", selection.CRITERIA)
@pytest.mark.parametrize("k", [2, 3, 5])
def test_every_criterion_finds_the_groups(k, criterion):
    chosen = select_k(groups(k), range(1, 9), criterion=criterion, **FAST)
    assert chosen.k == k
    assert chosen.criterion == criterion


@pytest.mark.parametrize("d", [1, 2, 5])
def test_uniform_data_have_no_knee_and_one_cluster(d):
    chosen = select_k(uniform(d), range(1, 9), criterion=["elbow", "gap"], **FAST)
    assert chosen.k is None
    assert "no knee" in chosen.reason
    assert select_k(uniform(d), range(1, 4), criterion="gap", **FAST).k == 1


def test_iris_has_three():
    load_iris = pytest.importorskip("sklearn.datasets").load_iris
    assert select_k(load_iris().data, range(1, 11), random_state=0).k == 3


def test_every_library_chooses_alike(library):
    X = groups(3, n=40, d=2, dtype="float32")
    options = {"criterion": list(selection.CRITERIA), "n_references": 2, "n_init": 1}
    expected = select_k(X, [2, 3, 4], random_state=7, **options)
    found = select_k(library.asarray(X), [2, 3, 4], random_state=7, **options)
    assert (found.k, found.reason) == (expected.k, expected.reason)
    for a, b in zip(found, expected, strict=True):
        for name in ("k", "inertia", "n_iter", "elbow", "gap", "gap_error", "bic"):
            assert a[name] == b[name]
        for name in ("silhouette", "calinski_harabasz", "davies_bouldin"):
            assert a[name] == pytest.approx(b[name], rel=1e-10)


@pytest.mark.parametrize("random_state", [4, np.random.SeedSequence(4)])
def test_rows_are_those_of_kmeans(random_state):
    X = groups(3)
    names = ["silhouette", "calinski_harabasz", "davies_bouldin"]
    chosen = select_k(X, (5, 2, 3, 2), criterion=names, n_init=2, random_state=random_state)
    assert [row["k"] for row in chosen] == [2, 3, 5]
    for row in chosen:
        result = kmeans(X, row["k"], n_init=2, random_state=random_state)
        assert (row["inertia"], row["n_iter"]) == (result.inertia, result.n_iter)
        for name in names:
            assert row[name] == getattr(metrics, f"{name}_score")(X, result.labels)


def test_a_generator_seeds_once():
    states = [np.random.default_rng(3), np.random.default_rng(3)]
    a, b = (select_k(uniform(2), [2, 3], n_init=1, random_state=state) for state in states)
    assert [row["inertia"] for row in a] == [row["inertia"] for row in b]
    assert len(select_k(uniform(2), [2])) == 1


def test_silhouettes_of_a_sample():
    X = groups(3)
    options = {"criterion": "silhouette", "n_init": 1, "random_state": 5}
    chosen = select_k(X, [2, 3], sample_size=60, **options)
    rows = sample_rows(len(X), 60, Words(5))
    for row in chosen:
        labels = kmeans(X, row["k"], n_init=1, random_state=5).labels
        expected = metrics.silhouette_score(X, labels, sample_size=60, random_state=5)
        assert row["silhouette"] == expected
        assert row["silhouette"] == metrics.silhouette_score(X[rows], labels[rows])
    assert "of 60 rows" in chosen.reason
    assert "rows" not in select_k(X, [2, 3], sample_size=None, **options).reason


def test_the_sample_may_miss_a_cluster():
    X = np.concatenate([np.zeros((200, 1)), [[9.0]]]) + datasets.bell(1, (201, 1)) * 0.01
    chosen = select_k(X, [2], criterion="silhouette", sample_size=5, random_state=0)
    assert chosen.k is None
    assert math.isnan(chosen.rows[0]["silhouette"])


def test_scores_that_are_not_defined():
    X = uniform(2, n=4)
    for criterion in ("silhouette", "calinski_harabasz", "davies_bouldin"):
        chosen = select_k(X, [1, 4], criterion=criterion, random_state=0)
        assert chosen.k is None
        assert "needs at least 2 clusters" in chosen.reason
        assert select_k(X, [1, 2, 4], criterion=criterion, random_state=0).k == 2


def test_the_bayesian_information_criterion():
    """Of spherical Gaussians, from their log-likelihood row by row."""
    X = groups(3, n=60)
    row = select_k(X, [3], criterion="bic", random_state=0).rows[0]
    labels = kmeans(X, 3, n_init=5, random_state=0).labels
    centers = np.stack([X[labels == k].mean(axis=0) for k in range(3)])
    squares = np.square(X - centers[labels]).sum(axis=1)
    variance = squares.sum() / X.size
    share = np.bincount(labels)[labels] / len(X)
    log_density = -squares / (2 * variance) - 1.5 * np.log(2 * np.pi * variance) + np.log(share)
    expected = (2 + 9 + 1) * np.log(60) - 2 * log_density.sum()
    assert row["bic"] == pytest.approx(expected, rel=1e-10)


def test_the_gap_is_that_of_the_paper():
    X = uniform(2, n=30).astype(np.float32)
    options = {"n_init": 1, "random_state": 3}
    row = select_k(X, [2], criterion="gap", n_references=3, **options).rows[0]
    words, logs = np.random.PCG64(3), []
    for _ in range(3):
        unit = (words.random_raw(60) >> np.uint64(11)).reshape(30, 2) * 2.0**-53
        low, high = X.min(axis=0).astype(float), X.max(axis=0).astype(float)
        drawn = (low * (1 - unit) + high * unit).astype(np.float32)
        seed = int(words.random_raw())
        logs.append(math.log(kmeans(drawn, 2, n_init=1, random_state=seed).inertia))
    gap = np.mean(logs) - math.log(kmeans(X, 2, **options).inertia)
    assert row["gap"] == pytest.approx(gap, rel=1e-12)
    assert row["gap_error"] == pytest.approx(np.std(logs) * math.sqrt(4 / 3), rel=1e-12)


def test_rule_of_the_gap():
    assert knee.first_gap([1, 2, 3, 3.1, 3.0], [0, 0.1, 0.1, 0.2, 0.1]) == 2
    assert knee.first_gap([1.0, 2.0], [0.1, 0.1]) is None
    assert knee.first_gap([1.0, math.inf], [0.1, 0.1]) is None
    assert knee.first_gap([1.0, math.inf, math.inf], [0.1, 0.1, math.nan]) == 1
    growing = select_k(groups(5), [2, 3], criterion="gap", **FAST)
    assert growing.k is None
    assert "still grows at k = 3" in growing.reason


@pytest.mark.parametrize("power", [0.3, 1.0, 2.0])
def test_powers_have_no_knee(power):
    sizes = range(1, 21)
    curve = knee.bend(sizes, [k**-power for k in sizes])
    assert np.allclose(curve, 0, atol=1e-12)
    assert knee.knee(curve) is None


def test_knees_are_those_of_kneed():
    kneed = pytest.importorskip("kneed")
    for corner in range(2, 10):
        for steep, flat in ((3.0, 0.2), (2.0, 0.5), (1.0, 0.9)):
            sizes = np.arange(1, 13)
            inertia = np.minimum(sizes, corner) ** -steep * np.maximum(sizes / corner, 1) ** -flat
            locator = kneed.KneeLocator(
                np.log(sizes), np.log(inertia), S=1.0, curve="convex", direction="decreasing"
            )
            place = knee.knee(knee.bend(sizes, inertia), 1 / 11)  # the mean step
            theirs = None if locator.knee is None else round(math.exp(locator.knee))
            assert (None if place is None else sizes[place]) == theirs


def test_the_highest_of_several_knees():
    assert knee.knee(np.array([0, 0.3, 0.0, 0.2, 0.5, 0.1, 0.0])) == 4
    assert knee.knee(np.array([0, 0.05, 0.0, -0.02, 0.0])) is None
    assert knee.knee(np.array([np.nan] * 5)) is None


def test_a_knee_beyond_the_numbers_tried():
    chosen = select_k(groups(5), range(1, 6), n_init=2, random_state=0)
    assert chosen.k is None
    assert "up to k = 5" in chosen.reason
    assert "at least 3" in select_k(groups(5), [4, 5], random_state=0).reason


def test_progress_over_all_fits(capsys):
    pytest.importorskip("tqdm")
    select_k(groups(2), [1, 2, 3], criterion=["elbow", "gap"], progress=True, **FAST)
    assert "18/18" in capsys.readouterr().err
    select_k(groups(2), [1, 2, 3], **FAST)
    assert capsys.readouterr().err == ""


def test_few_distinct_rows():
    """The inertia reaches 0, and the curve ends there."""
    X = np.repeat([[0.0, 0.0], [1.0, 0.0], [0.0, 5.0]], 10, axis=0)
    chosen = select_k(X, [1, 2, 3], random_state=0)
    assert (chosen.k, chosen.rows[2]["inertia"]) == (3, 0.0)
    assert "inertia is 0" in chosen.reason
    assert select_k(X, [1, 2, 3], criterion="bic", random_state=0).k == 3
    assert select_k(np.zeros((5, 2)), [1], random_state=0).k == 1


def test_scores_that_tie_give_the_fewest_clusters():
    rows = [{"k": k, "silhouette": v} for k, v in ((2, 0.5), (3, 0.7), (4, 0.7 + 1e-13))]
    assert choose("silhouette", rows)[0] == 3


def test_defaults():
    chosen = select_k(uniform(2, n=12), n_init=1, random_state=0)
    assert [row["k"] for row in chosen] == list(range(1, 13))
    assert chosen.criterion == "elbow"


def test_the_table():
    chosen = select_k(groups(3), [2, 3, 4], criterion=["bic", "gap"], **FAST)
    columns = chosen.to_dict()
    assert list(columns) == ["k", "inertia", "n_iter", "bic", "seconds", "gap", "gap_error"]
    assert columns["k"] == [2, 3, 4]
    assert all(seconds > 0 for seconds in columns["seconds"])
    pandas = pytest.importorskip("pandas")
    assert pandas.DataFrame(columns).shape == (3, 7)
    lines = str(chosen).splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["k", "2", "*", "4"]
    assert lines[-1] == f"k = 3: {chosen.reason}"
    assert isinstance(chosen, KSelection)
    assert "rows" not in repr(chosen)


def test_weights_and_metric_are_those_of_the_fits():
    X, w = groups(3), np.arange(180) % 3 + 0.5
    for given in ({"sample_weight": w}, {"metric": "cosine"}):
        chosen = select_k(X + 1, [2, 3, 4], n_init=1, random_state=5, **given)
        for row in chosen:
            assert row["inertia"] == kmeans(X + 1, row["k"], random_state=5, **given).inertia


def test_weights_count():
    """Of five groups two hardly weigh anything."""
    X, w = groups(5), np.where(np.arange(180) % 5 < 3, 1.0, 1e-9)
    assert select_k(X, range(1, 9), random_state=0).k == 5
    assert select_k(X, range(1, 9), sample_weight=w, random_state=0).k == 3


def test_directions():
    """Four directions, at lengths that hide them from the Euclidean metric."""
    angles = (np.arange(160) % 4) * (math.pi / 2) + 0.05 * datasets.bell(3, (160, 1))[:, 0]
    lengths = 1.0 + np.arange(160) % 23
    X = lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    chosen = select_k(X, range(2, 9), criterion=["silhouette", "elbow"], metric="cosine", **FAST)
    assert chosen.k == 4
    labels = kmeans(X, 4, n_init=2, metric="cosine", random_state=0).labels
    expected = metrics.silhouette_score(X, labels, metric="cosine")
    assert chosen.to_dict()["silhouette"][2] == pytest.approx(expected, rel=1e-12)
    assert select_k(X, range(1, 9), metric="cosine", random_state=0).k == 4


def test_sparse_rows_have_the_elbow_of_the_dense_ones():
    sparse = pytest.importorskip("scipy.sparse")
    X = np.where(np.abs(groups(3)) < 2, 0, groups(3))
    expected = select_k(X, range(1, 7), random_state=0)
    found = select_k(sparse.csr_array(X), range(1, 7), random_state=0)
    assert (found.k, found.reason) == (expected.k, expected.reason)
    assert found.to_dict()["inertia"] == expected.to_dict()["inertia"]
    for name in set(selection.CRITERIA) - {"elbow"}:
        with pytest.raises(ValueError, match=f"criterion '{name}' needs dense rows"):
            select_k(sparse.csr_array(X), criterion=["elbow", name])


@pytest.mark.parametrize("name", ["calinski_harabasz", "davies_bouldin", "gap", "bic"])
def test_criteria_that_would_say_nothing(name):
    with pytest.raises(ValueError, match=f"criterion '{name}' is for metric='euclidean'"):
        select_k(groups(2), criterion=name, metric="cosine")
    for other in (name, "silhouette"):
        with pytest.raises(ValueError, match=f"criterion '{other}' knows no sample_weight"):
            select_k(groups(2), criterion=["elbow", other], sample_weight=np.ones(180))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"metric": "manhattan"}, ValueError, "metric must be one of"),
        ({"sample_weight": np.ones(3)}, ValueError, r"sample_weight must have shape \(10,\)"),
        ({"criterion": "knee"}, ValueError, "criterion must be one or several of 'elbow'.*'knee'"),
        ({"criterion": []}, ValueError, "criterion must be one or several"),
        ({"criterion": 3}, ValueError, "criterion must be one or several of 'elbow'.*3"),
        ({"k_values": []}, ValueError, "k_values must hold at least one"),
        ({"k_values": 5}, TypeError, r"k_values must be several integers, as range\(2, 21\)"),
        ({"k_values": [2.5]}, TypeError, "k_values must be an integer"),
        ({"k_values": [0, 2]}, ValueError, "k_values must be >= 1"),
        ({"k_values": [2, 11]}, ValueError, "k_values=11 for n_samples=10"),
        ({"sample_size": "all"}, ValueError, "sample_size must be an integer, None or 'auto'"),
        ({"sample_size": 0}, ValueError, "sample_size must be >= 1"),
        ({"n_references": 0}, ValueError, "n_references must be >= 1"),
        ({"random_state": -1}, ValueError, "random_state must be non-negative"),
        ({"random_state": True}, TypeError, "random_state"),
        ({"n_init": 0}, ValueError, "n_init"),
        ({"max_iter": 0}, ValueError, "max_iter"),
        ({"tol": -1}, ValueError, "tol"),
        ({"device": "gpu"}, ValueError, "device"),
    ],
)
def test_bad_input(options, error, message):
    generator = np.random.default_rng(0)
    before = generator.bit_generator.state
    with pytest.raises(error, match=message):
        select_k(uniform(2, n=10), **{"random_state": generator, **options})
    assert generator.bit_generator.state == before  # nothing was drawn


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
def test_refused_values_draw_nothing(make):
    X = uniform(2, n=10)
    X[7, 1] = np.nan
    state, untouched = make(0), make(0)
    with pytest.raises(ValueError, match=r"X\[7, 1\] is nan"):
        select_k(X, [1, 2], random_state=state)
    assert state.bytes(8) == untouched.bytes(8)
    select_k(np.nan_to_num(X), [1, 2], random_state=state)
    Words(untouched)
    assert state.bytes(8) == untouched.bytes(8)  # once for all fits
