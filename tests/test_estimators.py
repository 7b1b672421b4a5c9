"""The estimators at home in scikit-learn: every library, pipelines, moving, pickling."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import config_context, exceptions
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils import get_tags

import kmeans_xp
from kmeans_xp import BisectingKMeans, KMeans, MiniBatchKMeans, fingerprint, k_means, kmeans

from . import datasets, reference
from .conftest import entered
from .helpers import BACKENDS, assert_bits, environment

ESTIMATORS = [KMeans, BisectingKMeans, MiniBatchKMeans]
every_estimator = pytest.mark.parametrize("kind", ESTIMATORS)

X = datasets.make("blobs", "float32", 90, 3)
W = datasets.weights("float64", 90)


def bits(model, convert=np.asarray):
    """One hash of all that a fit is promised to find."""
    n_iter = getattr(model, "n_iter_", 0)
    labels, centers = convert(model.labels_), convert(model.cluster_centers_)
    return reference.fingerprint(labels, centers, model.inertia_, n_iter)


# Every array library


@pytest.mark.parametrize("dispatch", [False, True])
@every_estimator
def test_every_library(library, kind, dispatch):
    truth = kind(5, random_state=0).fit(X, sample_weight=W)
    here = library.asarray(X)
    model = kind(5, random_state=0)
    with config_context(array_api_dispatch=dispatch):
        assert model.fit(here, sample_weight=library.asarray(W.astype(np.float32))) is model
        model.fit(here, sample_weight=W)  # weights of another library go along
        found = [model.labels_, model.cluster_centers_, model.predict(here), model.transform(here)]
        assert model.score(here, sample_weight=W) == truth.score(X, sample_weight=W)
        again = clone(model)
        found += [again.fit_predict(here), again.fit_transform(here)]
    assert all(library.owns(array) for array in found)
    assert bits(model, library.numpy) == bits(truth)
    numpy = [library.numpy(array) for array in found]
    assert_bits(numpy[2], truth.predict(X))
    assert np.allclose(numpy[3], truth.transform(X), rtol=1e-6)
    assert_bits(numpy[4], kind(5, random_state=0).fit_predict(X))
    assert np.array_equal(numpy[5], library.numpy(again.transform(here)))
    assert isinstance(model.inertia_, float)
    assert model.n_features_in_ == 3


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "bool"])
def test_a_fit_has_the_bits_of_kmeans(dtype, backend):
    data = datasets.make("digits", "float64", 60, 4).astype(dtype)
    options = {"init": "random", "n_init": 3, "random_state": 5, "tol": 0.01, "max_iter": 9}
    with environment(backend=backend):
        result = kmeans(data, 2, sample_weight=W[:60], **options)
        model = KMeans(2, **options).fit(data, sample_weight=W[:60])
    assert bits(model) == fingerprint(result)
    assert model.n_iter_ == result.n_iter


def test_k_means():
    truth = KMeans(4, random_state=3, init="random").fit(X, sample_weight=W)
    options = {"sample_weight": W, "random_state": 3, "init": "random"}
    *found, n_iter = k_means(X, 4, return_n_iter=True, **options)
    assert_bits(found[0], truth.cluster_centers_)
    assert_bits(found[1], truth.labels_)
    assert (found[2], n_iter) == (truth.inertia_, truth.n_iter_)
    assert len(k_means(X, 4, **options)) == 3
    with pytest.raises(ValueError, match="The 'max_iter' parameter of KMeans must be an int"):
        k_means(X, 4, max_iter=0)


@every_estimator
def test_one_weight_for_all_rows(kind):
    model = kind(3, random_state=0)
    assert bits(model.fit(X, sample_weight=2.0)) == bits(
        model.fit(X, sample_weight=np.full(90, 2.0))
    )
    assert model.score(X, sample_weight=3) == model.score(X, sample_weight=np.full(90, 3.0))


@every_estimator
def test_x_is_never_modified(kind):
    data = np.asfortranarray(X)
    before = data.tobytes()
    for options in [{"copy_x": True}, {"copy_x": False}] if hasattr(kind(), "copy_x") else [{}]:
        kind(3, random_state=0, **options).fit(data).transform(data)
        assert data.tobytes() == before


def test_bfloat16_and_other_namespaces_reach_the_same_centroids():
    with entered("torch-1") as torch:
        here = torch.asarray(X).bfloat16()
        model = KMeans(4, random_state=0).fit(here)
        truth = KMeans(4, random_state=0).fit(torch.numpy(here.float()))
        assert bits(model, torch.numpy) == bits(truth)
        assert_bits(torch.numpy(model.predict(here)), truth.labels_)


@every_estimator
def test_what_is_no_dense_array_is_refused(kind):
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(TypeError, match="masked"):
        kind(2).fit(np.ma.masked_less(X, 0))
    if not get_tags(kind()).input_tags.sparse:
        with pytest.raises(TypeError, match=r"(?i)sparse"):
            kind(2).fit(sparse.csr_array(X))


# Another namespace or device than that of the fit


@every_estimator
@pytest.mark.parametrize("method", ["predict", "transform", "score"])
def test_another_namespace_says_what_to_do(library, kind, method):
    here = library.asarray(X)
    model = kind(3, random_state=0).fit(X)
    if isinstance(here, np.ndarray):
        getattr(model, method)(X.tolist())  # what becomes NumPy counts as NumPy
        return
    text = rf"{kind.__name__}\.{method}\(\) must use the same namespace.*\.to\('{library.name}'"
    with pytest.raises(ValueError, match=text):
        getattr(model, method)(here)
    model = kind(3, random_state=0).fit(here)
    with pytest.raises(ValueError, match=r"must use the same namespace.*\.to\('numpy'\)"):
        getattr(model, method)(X)


@every_estimator
def test_to_moves_there_and_back(library, kind):
    model = kind(5, random_state=0).fit(X, sample_weight=W)
    truth = bits(model), model.predict(X), model.score(X)
    assert model.to(library.name) is model
    here = library.asarray(X)
    assert library.owns(model.labels_)
    assert library.owns(model.cluster_centers_)
    assert bits(model, library.numpy) == truth[0]
    assert_bits(library.numpy(model.predict(here)), truth[1])
    assert model.score(here) == truth[2]
    assert library.owns(model.transform(here))
    for name in ("numpy", library.xp, np):
        model.to(name)
    assert bits(model) == truth[0]
    assert_bits(model.predict(X), truth[1])


@every_estimator
def test_to_a_device(kind):
    with entered("strict") as strict:
        device = strict.xp.Device("device1")
        there = strict.asarray(X).to_device(device)
        model = kind(4, random_state=0).fit(there)
        assert model.labels_.device == model.transform(there).device == device
        with pytest.raises(ValueError, match=r"on .*CPU_DEVICE.*on .*device1.*device=X\.device"):
            model.predict(strict.asarray(X))
        truth = bits(kind(4, random_state=0).fit(X))
        model.to(strict.xp, device=strict.asarray(X).device)
        assert_bits(strict.numpy(model.predict(strict.asarray(X))), strict.numpy(model.labels_))
        model.to("array_api_strict", device=device)
        assert model.labels_.device == model.predict(there).device == device
        assert bits(model.to("numpy")) == truth


def test_to_refuses():
    with pytest.raises(exceptions.NotFittedError):
        KMeans().to("numpy")
    model = KMeans(2, random_state=0).fit(X.astype(np.float64))
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        model.to("no_such_library")
    with pytest.raises(TypeError, match="array namespace or its name"):
        model.to(3)
    for name in ("cpu", "cuda", "cuda:1", "gpu"):
        text = rf"xp must name an array library .*'{name}' is a device; .* device="
        with pytest.raises(ValueError, match=text):
            model.to(name)
    with pytest.raises(ValueError, match="cuda"):
        model.to("numpy", device="cuda")
    with entered("jax-x32"), pytest.raises(ValueError, match="jax_enable_x64"):
        model.to("jax.numpy")
    assert_bits(model.predict(X.astype(np.float64)), model.labels_)  # nothing was moved


# Copies


@every_estimator
def test_pickles_hold_numpy(library, kind):
    here = library.asarray(X)
    init = {} if kind is BisectingKMeans else {"init": here[:3, :]}
    model = kind(3, random_state=0, **init).fit(here)
    data = pickle.dumps(model)
    assert library.module == "numpy" or library.module.split(".")[0].encode() not in data
    found = pickle.loads(data)
    assert type(found.labels_) is type(found.cluster_centers_) is np.ndarray
    assert bits(found) == bits(model, library.numpy)
    assert_bits(found.predict(X), library.numpy(model.predict(here)))
    assert library.owns(model.labels_)  # the pickled one is as it was
    assert bits(clone(found).fit(X)) == bits(found)


@every_estimator
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_stay_where_they_are(library, kind, copied):
    here = library.asarray(X)
    model = kind(3, random_state=0).fit(here)
    found = copied(model)
    assert found is not model
    assert library.owns(found.labels_)
    assert np.array_equal(library.numpy(found.predict(here)), library.numpy(model.labels_))
    if copied is copy.deepcopy:
        assert found.cluster_centers_ is not model.cluster_centers_


@every_estimator
def test_clone_takes_parameters_alone(kind):
    state = np.random.RandomState(3)
    model = kind(3, random_state=state, max_iter=7).fit(X)
    found = clone(model)
    assert not hasattr(found, "labels_")
    assert found.get_params().keys() == model.get_params().keys()
    assert found.max_iter == 7


# Frames and names


@pytest.mark.parametrize("frames", ["pandas", "polars"])
@every_estimator
def test_frames(kind, frames):
    library = pytest.importorskip(frames)
    frame = library.DataFrame(dict(zip("abc", X.T.astype(float), strict=True)))
    model = kind(3, random_state=0).fit(frame, sample_weight=library.Series(W))
    assert bits(model) == bits(kind(3, random_state=0).fit(X.astype(float), sample_weight=W))
    assert list(model.feature_names_in_) == ["a", "b", "c"]
    assert_bits(model.predict(frame), model.labels_)
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(frame[["c", "b", "a"]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X.astype(float))
    names = [f"{kind.__name__.lower()}{i}" for i in range(3)]
    assert list(model.get_feature_names_out()) == names
    wide = model.set_output(transform=frames).transform(frame)
    assert isinstance(wide, library.DataFrame)
    assert list(wide.columns) == names
    assert np.array_equal(wide.to_numpy(), model.set_output(transform="default").transform(frame))
    again = clone(model).set_output(transform=frames).fit_transform(frame)
    assert isinstance(again, library.DataFrame)


def test_the_number_of_features_is_compared():
    model = KMeans(2, random_state=0).fit(X)
    with pytest.raises(ValueError, match="X has 2 features, but KMeans is expecting 3"):
        model.predict(X[:, :2])
    with entered("torch-1") as torch, pytest.raises(ValueError, match="X has 2 features"):
        KMeans(2).fit(torch.asarray(X)).transform(torch.asarray(X[:, :2]))


# Parameters


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_clusters", 0),
        ("n_clusters", 2.5),
        ("init", "farthest"),
        ("init", 3),
        ("n_init", "often"),
        ("n_init", 0),
        ("max_iter", -1),
        ("tol", -1.0),
        ("tol", "small"),
        ("verbose", "yes"),
        ("random_state", "seed"),
        ("random_state", -1),
        ("copy_x", "no"),
        ("algorithm", "full"),
        ("bisecting_strategy", "smallest"),
    ],
)
def test_parameters_are_checked_with_scikit_learns_messages(name, value):
    for kind in ESTIMATORS:
        if name not in kind().get_params():
            continue
        with pytest.raises(ValueError, match=f"The '{name}' parameter of {kind.__name__} must be"):
            kind(**{name: value}).fit(X)
        with pytest.raises(TypeError, match=name):  # scikit-learn's error is both
            kind(**{name: value}).fit(X)


def test_bisecting_takes_no_array_and_counts_its_starts():
    for options in ({"init": X[:2]}, {"n_init": "auto"}):
        with pytest.raises(ValueError, match="parameter of BisectingKMeans"):
            BisectingKMeans(2, **options).fit(X)


@pytest.mark.parametrize(
    "make",
    [
        lambda: 7,
        lambda: 2**63,
        lambda: np.random.SeedSequence(5),
        lambda: np.random.RandomState(5),
        lambda: np.random.default_rng(5),
    ],
)
def test_seeds(make):
    truth = kmeans(X, 3, init="random", random_state=make())
    assert bits(KMeans(3, init="random", random_state=make()).fit(X)) == fingerprint(truth)


# Warnings


@pytest.mark.parametrize("fit", [lambda x: kmeans(x, 3), KMeans(3).fit, BisectingKMeans(3).fit])
def test_convergence_warning_is_scikit_learns_too(fit):
    with pytest.warns(exceptions.ConvergenceWarning, match=r"clusters \(1\) found") as caught:
        fit(np.ones((5, 2)))
    assert [issubclass(w.category, kmeans_xp.ConvergenceWarning) for w in caught] == [True]
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
        fit(np.ones((5, 2)))


def test_the_package_needs_no_scikit_learn():
    code = """
import sys
sys.modules["sklearn"] = None
import warnings, numpy, kmeans_xp
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    kmeans_xp.kmeans(numpy.ones((5, 2)), 3)
assert [w.category for w in caught] == [kmeans_xp.ConvergenceWarning], caught
try:
    kmeans_xp.KMeans
except ModuleNotFoundError as error:
    assert "kmeans_xp[sklearn]" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# In scikit-learn's machinery


def test_grid_search():
    data = datasets.make("blobs", "float64", 120, 3)
    search = GridSearchCV(KMeans(random_state=0), {"n_clusters": [2, 3, 4]}, cv=3).fit(data)
    assert search.best_params_["n_clusters"] == 4
    best = search.best_estimator_
    assert bits(best) == bits(KMeans(4, random_state=0).fit(data))
    assert np.array_equal(search.predict(data), best.labels_)


@every_estimator
def test_pipeline_as_a_feature_maker(kind):
    data = datasets.make("blobs", "float64", 150, 4)
    classes = reference.predict(data, data[:4]) % 2
    pipe = make_pipeline(StandardScaler(), kind(8, random_state=0), LogisticRegression())
    assert pipe.fit(data, classes).score(data, classes) > 0.9
    name = kind.__name__.lower()
    grid = GridSearchCV(pipe, {f"{name}__n_clusters": [2, 8]}, cv=2).fit(data, classes)
    assert grid.best_params_[f"{name}__n_clusters"] == 8
    assert list(pipe[:-1].get_feature_names_out()) == [f"{name}{i}" for i in range(8)]


def test_column_transformer():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["lat", "lon", "price"])
    frame["kind"] = np.where(X[:, 0] > 0, "house", "flat")
    make = ColumnTransformer(
        [
            ("place", KMeans(4, random_state=0), ["lat", "lon"]),
            ("kind", OneHotEncoder(sparse_output=False), ["kind"]),
        ],
        remainder="passthrough",
    ).set_output(transform="pandas")
    wide = make.fit_transform(frame)
    assert list(wide.columns)[:4] == [f"place__kmeans{i}" for i in range(4)]
    assert wide.shape == (90, 4 + frame["kind"].nunique() + 1)
    alone = KMeans(4, random_state=0).fit(X[:, :2])
    assert np.allclose(wide.iloc[:, :4], alone.transform(X[:, :2]), rtol=1e-6)


@every_estimator
def test_metadata_routing_of_weights(kind):
    with config_context(enable_metadata_routing=True):
        model = kind(3, random_state=0).set_fit_request(sample_weight=True)
        model.set_score_request(sample_weight=True)
        pipe = Pipeline([("cluster", model)]).fit(X, sample_weight=W)
        truth = kind(3, random_state=0).fit(X, sample_weight=W)
        assert bits(pipe["cluster"]) == bits(truth)
        score = pipe.score(X, sample_weight=W)
        assert score == truth.score(X, sample_weight=W) != truth.score(X)
        unset = Pipeline([("cluster", kind(3, random_state=0))])
        with pytest.raises(exceptions.UnsetMetadataPassedError):
            unset.fit(X, sample_weight=W)


def test_pipeline_on_another_library():
    with entered("torch-1") as torch, config_context(array_api_dispatch=True):
        pipe = make_pipeline(StandardScaler(), KMeans(4, random_state=0))
        labels = pipe.fit(torch.asarray(X)).predict(torch.asarray(X))
        assert torch.owns(labels)
        assert torch.owns(pipe["kmeans"].cluster_centers_)


@pytest.mark.parametrize("estimator", [KMeans, MiniBatchKMeans, BisectingKMeans])
def test_batches_of_problems_are_for_kmeans(estimator):
    with pytest.raises(ValueError, match="kmeans and predict take batches"):
        estimator(2).fit(np.ones((3, 4, 5)))


# Where NumPy arrays are computed


@every_estimator
def test_the_device_is_a_parameter(kind):
    model = clone(kind(2, device="cuda:1"))
    assert model.get_params()["device"] == model.device == "cuda:1"
    assert repr(model).count("cuda:1") == 1
    assert_bits(
        kind(2, random_state=0, device="cpu").fit(X).labels_, kind(2, random_state=0).fit(X).labels_
    )
    with pytest.raises(ValueError, match="device must be None, 'cpu', 'cuda', 'cuda:N' or the num"):
        kind(2, device="gpu").fit(X)


@every_estimator
def test_a_device_that_is_not_there_is_refused_before_any_work(kind, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    spoilt = np.full((3, 2), np.nan)
    fitted = kind(2, random_state=0).fit(X).set_params(device="cuda")
    for call in (
        lambda: kind(2, device="cuda").fit(spoilt),
        lambda: fitted.predict(np.full(X.shape, np.nan)),
        lambda: fitted.score(np.full(X.shape, np.nan)),
    ):
        with pytest.raises(ModuleNotFoundError, match="device='cuda' needs CuPy"):
            call()
