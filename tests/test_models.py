"""Models on disk: the same bits everywhere after loading, and one error for every spoilt file."""

from __future__ import annotations

import contextlib
import json
import os
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmeans_xp import (
    BisectingKMeans,
    KMeans,
    MiniBatchKMeans,
    ModelError,
    fingerprint,
    kmeans,
    load_model,
    predict,
    save_model,
)
from kmeans_xp import models as room
from kmeans_xp.pq import ProductQuantizer

from .datasets import blobs
from .helpers import assert_bits

safetensors = pytest.importorskip("safetensors.numpy")

X = blobs(21, 80, 3, 4)
NEW = blobs(33, 50, 3, 4)
NAMES = ["numpy", "torch", "jax.numpy", "array_api_strict"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_result_comes_back_whole(path, dtype):
    result = kmeans(X.astype(dtype), 4, random_state=0)
    save_model(result, path)
    found = load_model(path)
    assert fingerprint(found) == fingerprint(result)
    assert found.converged is result.converged
    assert_bits(found.centroids, result.centroids)
    assert_bits(found.labels, result.labels)
    assert_bits(predict(NEW, found.centroids), predict(NEW, result.centroids))
    assert os.listdir(path.parent) == [path.name]


def test_an_estimator_comes_back_whole(path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=["a", "b", "c"])
    model = KMeans(4, init=X[:4], tol=0.0, max_iter=np.int64(50)).fit(frame)
    save_model(model, path)
    found = load_model(path)
    assert type(found) is KMeans
    expected = {**model.get_params(), "init": None}
    assert {**found.get_params(), "init": None} == expected
    assert_bits(found.init, model.init)
    assert vars(found).keys() == vars(model).keys()
    assert (found.inertia_, found.n_iter_) == (model.inertia_, model.n_iter_)
    assert_bits(found.labels_, model.labels_)
    new = pandas.DataFrame(NEW, columns=frame.columns)
    assert list(found.feature_names_in_) == ["a", "b", "c"]
    assert_bits(found.predict(new), model.predict(new))
    assert_bits(found.transform(new), model.transform(new))


@pytest.mark.parametrize("n_clusters", [1, 6])
def test_a_tree_comes_back_whole(path, n_clusters):
    model = BisectingKMeans(n_clusters, random_state=0).fit(X)
    save_model(model, path)
    found = load_model(path)
    assert vars(found).keys() == vars(model).keys()
    assert_bits(found.predict(NEW), model.predict(NEW))


def batches():
    """Batches in each layout."""
    x = np.stack([X[:40], X[40:]])
    return {
        "equal": kmeans(x, 3, random_state=0),
        "padded": kmeans(x, [2, 4], lengths=[40, 25], random_state=0),
        "flat": kmeans(X, [2, 4], offsets=[0, 30, 80], random_state=0),
    }


@pytest.mark.parametrize("layout", ["equal", "padded", "flat"])
@pytest.mark.parametrize("labels", [True, False])
def test_a_batch_comes_back_whole(path, layout, labels):
    batch = batches()[layout]
    save_model(batch, path, labels=labels)
    found = load_model(path)
    assert repr(found) == repr(batch)
    for b in range(2):
        one, two = found[b], batch[b]
        assert_bits(one.centroids, two.centroids)
        assert (one.inertia, one.n_iter, one.converged) == (two.inertia, two.n_iter, two.converged)
        if labels:
            assert fingerprint(one) == fingerprint(two)
        else:
            assert one.labels is None


def test_a_quantizer_comes_back_whole(path):
    x = X.astype(np.float32)[:, [0, 1, 2, 0]]
    quantizer = ProductQuantizer(2, n_clusters=7, random_state=0).fit(x)
    save_model(quantizer, path)
    found = load_model(path)
    assert vars(found).keys() == vars(quantizer).keys() and repr(found) == repr(quantizer)
    assert_bits(found.encode(x), quantizer.encode(x))
    assert_bits(found.decode(found.encode(x)), quantizer.decode(quantizer.encode(x)))


def test_a_batch_and_a_quantizer_in_another_library(path):
    torch = pytest.importorskip("torch")
    batch = batches()["flat"]
    save_model(batch, path)
    found = load_model(path, xp="torch")
    assert isinstance(found.labels, torch.Tensor) and isinstance(found.inertia, np.ndarray)
    assert_bits(np.asarray(found.centroids), batch.centroids)
    save_model(ProductQuantizer(3, n_clusters=4, random_state=0).fit(X), path)
    assert load_model(path, xp="torch").encode(torch.asarray(X)).dtype == torch.uint8


@pytest.mark.parametrize("weighted", [False, True])
def test_a_stream_goes_on_after_loading(path, weighted):
    weights = np.linspace(0.1, 3, 80) if weighted else None
    model = MiniBatchKMeans(4, random_state=0, reassignment_ratio=0.3)
    model.partial_fit(X, sample_weight=weights)
    save_model(model, path)
    found = load_model(path)
    for part in (NEW, X[:30], NEW[:20]):
        model.partial_fit(part)
        found.partial_fit(part)
        assert_bits(found.cluster_centers_, model.cluster_centers_)
    assert_bits(found.counts_, model.counts_)
    save_model(MiniBatchKMeans(4, random_state=0).fit(X), path)
    truth = MiniBatchKMeans(4, random_state=0).fit(X)
    assert_bits(load_model(path).predict(NEW), truth.predict(NEW))


@pytest.mark.parametrize("xp", NAMES)
@pytest.mark.parametrize("estimator", [False, True])
def test_any_library_to_any_library(library, xp, estimator, path):
    module = pytest.importorskip(xp, exc_type=ImportError)
    x = library.asarray(X.astype(np.float32))
    result = KMeans(4, random_state=0).fit(x) if estimator else kmeans(x, 4, random_state=0)
    save_model(result, path)
    found = load_model(path, xp=module if estimator else xp)
    centroids = found.cluster_centers_ if estimator else found.centroids
    labels = found.labels_ if estimator else found.labels
    assert type(centroids) is type(module.asarray([1.0]))
    truth = kmeans(X.astype(np.float32), 4, random_state=0)
    assert_bits(np.asarray(centroids), truth.centroids)
    assert_bits(np.asarray(labels), truth.labels)
    new = module.asarray(NEW.astype(np.float32))
    found_labels = found.predict(new) if estimator else predict(new, centroids)
    assert_bits(np.asarray(found_labels), predict(NEW.astype(np.float32), truth.centroids))


def test_without_labels(path):
    result = kmeans(X, 4, random_state=0)
    save_model(result, path)
    whole = path.stat().st_size
    save_model(result, path, labels=False)
    assert path.stat().st_size <= whole - 4 * len(X)
    assert load_model(path).labels is None
    save_model(KMeans(4, random_state=0).fit(X), path, labels=False)
    assert not hasattr(load_model(path), "labels_")


def test_the_header_says_what_it_is(path):
    model = KMeans(4, random_state=0).fit(X)
    save_model(model, path)
    with safetensors.safe_open(path, framework="np") as file:
        body = json.loads(file.metadata()["model"])
    assert body["class"] == "KMeans"
    assert body["parameters"]["n_clusters"] == 4
    assert body["fingerprint"] == fingerprint(kmeans(X, 4, random_state=0))
    assert body["versions"]["numpy"] == np.__version__


def test_where_it_was_computed_is_forgotten(path):
    save_model(KMeans(4, random_state=0, device="cpu").fit(X), path)
    assert load_model(path).device is None


def test_a_device_of_the_library(path):
    torch = pytest.importorskip("torch")
    save_model(kmeans(X, 4, random_state=0), path)
    assert load_model(path, xp="torch", device="cpu").centroids.device == torch.device("cpu")
    assert load_model(path, device="cpu").centroids.dtype == np.float64
    with pytest.raises(ValueError, match="device must be None or 'cpu' for numpy, got 'cuda'"):
        load_model(path, device="cuda")


def test_jax_does_not_narrow_float64(path):
    jax = pytest.importorskip("jax")
    save_model(kmeans(X, 4, random_state=0), path)
    if jax.config.jax_enable_x64:
        pytest.skip("x64 is on")
    with pytest.raises(ValueError, match="jax_enable_x64"):
        load_model(path, xp="jax.numpy")


# What cannot be saved, and what is asked wrongly


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (ProductQuantizer(2), ValueError, r"call ProductQuantizer.fit\(X\) first"),
        (KMeans(2), ValueError, r"must be fitted before it is saved; call KMeans.fit\(X\) first"),
        ({"centroids": X}, TypeError, "model must be a KMeansResult or one of .*KMeans.*got dict"),
        (KMeans(2, init=lambda *_, **__: X[:2]).fit(X), TypeError, "init is function"),
        (KMeans(2, random_state=np.random.RandomState(0)).fit(X), TypeError, "random_state is"),
    ],
)
def test_what_cannot_be_saved(model, error, message, path):
    with pytest.raises(error, match=message):
        save_model(model, path)
    assert not path.exists()


def test_model_and_path_swapped(path):
    with pytest.raises(TypeError, match=r"path must be a path, got KMeansResult; .*\(model, path"):
        save_model(path, kmeans(X, 2, random_state=0))


def test_scikit_learns_own_estimator_is_not_ours(path):
    cluster = pytest.importorskip("sklearn.cluster")
    with pytest.raises(TypeError, match="of kmeans_xp, got KMeans"):
        save_model(cluster.KMeans(2, n_init=1).fit(X), path)


def test_a_folder_that_is_missing_or_a_file_that_is(tmp_path):
    result = kmeans(X, 2, random_state=0)
    with pytest.raises(OSError, match="cannot be written"):
        save_model(result, tmp_path / "no" / "model")
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "model")
    with pytest.raises(OSError, match=str(tmp_path)):
        load_model(tmp_path)


def test_an_unknown_library(path):
    save_model(kmeans(X, 2, random_state=0), path)
    with pytest.raises(ModuleNotFoundError, match="xp='nothing_here' needs nothing_here"):
        load_model(path, xp="nothing_here")
    with pytest.raises(TypeError, match="xp must be an array namespace"):
        load_model(path, xp=json)


def test_safetensors_missing(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ModuleNotFoundError, match=r"kmeans_xp\[io\]"):
        save_model(kmeans(X, 2, random_state=0), path)
    with pytest.raises(ModuleNotFoundError, match=r"kmeans_xp\[io\]"):
        load_model(path)


# Spoilt files


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("model") / "model"
    save_model(KMeans(4, random_state=0).fit(X), path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "model"


def refused(content: bytes, scratch) -> str:
    scratch.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        load_model(scratch)
    assert str(scratch) in str(caught.value)
    return str(caught.value)


def test_every_truncation(whole, scratch):
    for length in range(0, len(whole), 37):
        refused(whole[:length], scratch)
    refused(whole + b"more", scratch)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_changed_byte(whole, scratch, data):
    spoilt = bytearray(whole)
    place = data.draw(st.integers(0, len(whole) - 1))
    spoilt[place] ^= data.draw(st.integers(1, 255))
    scratch.write_bytes(spoilt)
    # A byte of JSON that means the same, as a space for another, is the only one to pass.
    with contextlib.suppress(ModelError):
        assert_bits(load_model(scratch).predict(NEW), KMeans(4, random_state=0).fit(X).predict(NEW))


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=200))
def test_anything_else(scratch, content):
    refused(content, scratch)


@settings(max_examples=60, deadline=None)
@given(tail=st.binary(max_size=100), header=st.text(max_size=60))
def test_anything_with_a_header(scratch, header, tail):
    text = header.encode("utf-8", "surrogatepass")
    refused(len(text).to_bytes(8, "little") + text + tail, scratch)


def test_foreign_safetensors_and_a_later_format(scratch):
    assert "no model of kmeans_xp" in refused(safetensors.save({"a": X}), scratch)
    later = {"format": "kmeans_xp", "version": "2"}
    assert "upgrade kmeans_xp" in refused(safetensors.save({"a": X}, metadata=later), scratch)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**30),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([{"$tensor": "t"}, {"$tensor": "u"}, {"$tensor": "none"}, {"$strings": 3}]),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def signed(body: object, tensors: dict) -> bytes:
    """A file with the right checksum, whatever it says."""
    text = json.dumps(body)
    sha256 = room._digest(text, tensors)
    header = {"format": "kmeans_xp", "version": "1", "model": text, "sha256": sha256}
    return safetensors.save(tensors, metadata=header)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_sound_file_that_says_nonsense(scratch, data):
    tensors = {"t": X, "u": np.arange(4, dtype=np.int32) % 3}
    body = data.draw(
        st.sampled_from(
            [
                {
                    "class": "KMeansResult",
                    "parameters": {},
                    "fitted": {
                        "centroids": {"$tensor": "t"},
                        "labels": {"$tensor": "u"},
                        "inertia": 1.0,
                        "n_iter": 2,
                        "converged": True,
                    },
                },
                {
                    "class": "KMeans",
                    "parameters": {"n_clusters": 3},
                    "fitted": {
                        "cluster_centers_": {"$tensor": "t"},
                        "labels_": {"$tensor": "u"},
                        "n_features_in_": 3,
                    },
                },
            ]
        )
    )
    part = data.draw(st.sampled_from(["parameters", "fitted"]))
    body = {**body, part: dict(body[part])}
    body["extra"] = {}
    names = [*body[part], "predict", "fit", "__class__", "_x", "labels_"]
    body[part][data.draw(st.sampled_from(names))] = data.draw(LEAVES)
    scratch.write_bytes(signed(body, tensors))
    try:
        model = load_model(scratch)
    except ModelError:
        return
    # What passed is a model: it predicts, or says that its parameters are wrong.
    centroids = getattr(model, "cluster_centers_", None)
    if centroids is None:
        centroids = model.centroids
    assert_bits(predict(NEW, centroids), predict(NEW, X))


@pytest.mark.parametrize(
    "children",
    [
        [[0, -1], [-2, -3]],
        [[1, -1], [0, -3]],
        [[1, -1], [-1, -3]],
        [[1, 1], [-2, -3]],
        [[1, -1], [-2, -9]],
        [[1, -1]],
        [[-1, -2], [1, -3]],
    ],
)
def test_splits_that_are_no_tree(scratch, children):
    model = BisectingKMeans(3, random_state=0).fit(X)
    model._split_children = np.array(children, dtype=np.int32)
    save_model(model, scratch)
    with pytest.raises(ModelError, match="tree"):
        load_model(scratch)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_stream_that_says_nonsense(scratch, data):
    tensors: dict = {}
    model = MiniBatchKMeans(4, random_state=0).partial_fit(X)
    fitted = {name: value for name, value in vars(model).items() if name.endswith("_")}
    state = room.state_data(model._state)
    state[data.draw(st.sampled_from(list(state)))] = data.draw(st.one_of(LEAVES, st.lists(LEAVES)))
    body = {
        "class": "MiniBatchKMeans",
        "parameters": {"n_clusters": 4},
        "fitted": room._encoded({**fitted, "n_features_in_": 3, "_state": state}, "", tensors),
        "extra": {},
    }
    scratch.write_bytes(signed(body, {**tensors, "t": X, "u": NEW}))
    with contextlib.suppress(ModelError):
        assert_bits(load_model(scratch).predict(NEW), model.predict(NEW))


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_batch_or_quantizer_that_says_nonsense(scratch, data):
    quantizer = ProductQuantizer(3, n_clusters=4, random_state=0).fit(X)
    model = data.draw(st.sampled_from([*batches().values(), quantizer]))
    tensors: dict = {}
    parts = room._parts(model, labels=True)
    body = {"class": type(model).__name__, **room._encoded(parts, "", tensors), "extra": {}}
    part = data.draw(st.sampled_from(["parameters", "fitted"]))
    names = [*body[part], "predict", "fit", "__class__"]
    body[part][data.draw(st.sampled_from(names))] = data.draw(LEAVES)
    small = np.arange(4, dtype=np.int32) % 3
    scratch.write_bytes(signed(body, {**tensors, "t": X, "u": small}))
    try:
        found = load_model(scratch)
    except ModelError:
        return
    if model is quantizer:
        assert_bits(found.encode(X), quantizer.encode(X))
    else:
        assert_bits(found[1].centroids, model[1].centroids)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("labels", np.full((2, 40), 2, dtype=np.int32), "a label has no centroid"),
        ("labels", np.zeros((2, 39), dtype=np.int32), "labels of shape"),
        ("first", np.zeros(2, dtype=np.int64), "one after the other"),
        ("lengths", np.array([40, 41]), "labels of shape"),
        ("n_clusters_used", np.array([2, 5]), "wrong number of clusters"),
        ("inertia", np.array([1.0, np.nan]), "not finite"),
        ("converged", np.zeros(3, dtype=bool), "converged is no array"),
    ],
)
def test_parts_of_a_batch_that_do_not_fit(scratch, name, value, words):
    batch = room.replace(batches()["padded"], **{name: value})
    save_model(batch, scratch)
    with pytest.raises(ModelError, match=words):
        load_model(scratch)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"class": []},
        {"class": "KMeans", "parameters": [], "fitted": []},
        {"class": "os.system", "parameters": {}, "fitted": {}},
        {"class": "KMeans", "parameters": {}, "fitted": {}},
    ],
)
def test_bodies_of_other_shapes(body, scratch):
    refused(signed(body, {"t": X}), scratch)


def test_deep_nesting_is_damage(scratch):
    text = "[" * 100_000 + "]" * 100_000
    header = {
        "format": "kmeans_xp",
        "version": "1",
        "model": text,
        "sha256": room._digest(text, {}),
    }
    refused(safetensors.save({}, metadata=header), scratch)
