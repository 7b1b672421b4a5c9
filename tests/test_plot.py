"""Pictures: what is drawn, from which arrays, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest

from kmeans_xp import KMeans, kmeans

from .datasets import blobs

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from kmeans_xp.plot import MARKERS, PALETTE, ClusterDisplay, _look  # noqa: E402

X = blobs(5, 90, 2, 3)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def test_every_row_is_drawn_once_in_the_colour_of_its_cluster():
    result = kmeans(X, 3, random_state=0)
    display = ClusterDisplay.from_predictions(X, result.labels, result.centroids)
    assert len(display.scatters_) == 3
    for k, scatter in enumerate(display.scatters_):
        np.testing.assert_array_equal(scatter.get_offsets(), X[result.labels == k])
        color = matplotlib.colors.to_hex(scatter.get_facecolor()[0])
        assert color == PALETTE[k]
    assert display.figure_ is display.ax_.figure


def test_legend_names_clusters_sizes_and_centroids():
    display = ClusterDisplay.from_predictions(X, np.arange(90) % 2, [[0, 0], [1, 1]])
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["0 (45)", "1 (45)", "centroid"]


def test_without_legend_and_centroids():
    display = ClusterDisplay.from_predictions(X, np.zeros(90, dtype=int), legend=False)
    assert display.ax_.get_legend() is None
    assert len(display.ax_.collections) == 1


def test_given_axes_and_style():
    _, ax = matplotlib.pyplot.subplots()
    display = ClusterDisplay.from_predictions(X, np.zeros(90, dtype=int), ax=ax, s=7, alpha=0.1)
    assert display.ax_ is ax
    assert display.scatters_[0].get_sizes() == [7]
    assert display.scatters_[0].get_alpha() == 0.1


def test_plot_again():
    display = ClusterDisplay.from_predictions(X, np.zeros(90, dtype=int))
    first = display.ax_
    assert display.plot() is display
    assert display.ax_ is not first


def test_from_estimator():
    estimator = KMeans(3, random_state=0).fit(X)
    display = ClusterDisplay.from_estimator(estimator, X)
    np.testing.assert_array_equal(display.labels, estimator.labels_)
    np.testing.assert_array_equal(display.centroids, estimator.cluster_centers_)


def test_any_library(library):
    x = library.asarray(X.astype(np.float32))
    result = kmeans(x, 3, random_state=0)
    display = ClusterDisplay.from_predictions(x, result.labels, result.centroids)
    np.testing.assert_array_equal(display.X, X.astype(np.float32))
    np.testing.assert_array_equal(display.labels, library.numpy(result.labels))
    np.testing.assert_array_equal(display.centroids, library.numpy(result.centroids))


@pytest.mark.parametrize("module", ["torch", "jax.numpy"])
def test_bfloat16(module):
    xp = pytest.importorskip(module)
    x = xp.asarray(X.astype(np.float32))
    x = x.bfloat16() if module == "torch" else x.astype("bfloat16")
    display = ClusterDisplay.from_predictions(x, np.zeros(90, dtype=int))
    np.testing.assert_allclose(display.X, X, rtol=2**-8)


def test_lists_and_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X)
    np.testing.assert_array_equal(ClusterDisplay.from_predictions(frame, [0] * 90).X, X)
    np.testing.assert_array_equal(ClusterDisplay.from_predictions(X.tolist(), [0] * 90).X, X)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 3), r"X has 3 features and a scatter shows two; draw two of them, X\[:, \[0, 1\]\]"),
        ((5, 1), r"X must have shape \(n, 2\), got \(5, 1\)"),
        ((5,), r"X must have shape \(n, 2\), got \(5,\)"),
    ],
)
def test_other_shapes_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        ClusterDisplay.from_predictions(np.zeros(shape), np.zeros(5, dtype=int))


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"each of the 90 rows of X, got shape \(89,\)"):
        ClusterDisplay.from_predictions(X, np.zeros(89, dtype=int))


def test_centroids_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="centroids has 3 features"):
        ClusterDisplay.from_predictions(X, np.zeros(90, dtype=int), np.zeros((2, 3)))


def test_many_clusters_look_different():
    looks = {_look(k) for k in range(len(PALETTE) * len(MARKERS))}
    assert len(looks) == 120


@pytest.mark.parametrize(("k", "columns"), [(25, 2), (30, 2), (31, None), (80, None)])
def test_many_clusters(k, columns):
    display = ClusterDisplay.from_predictions(X, np.arange(90) % k, X[:k])
    display.figure_.savefig(io.BytesIO(), format="png")
    legend = display.ax_.get_legend()
    assert (legend._ncols if legend else None) == columns
    assert len(display.ax_.texts) == (k if k <= 30 else 0)


def test_axes_of_another_type():
    with pytest.raises(TypeError, match="ax must be matplotlib Axes or None, got 3"):
        ClusterDisplay.from_predictions(X, np.zeros(90, dtype=int), ax=3)


def test_labels_that_fit_no_centroid():
    for label in (-1, 2):
        with pytest.raises(ValueError, match=rf"labels must lie in 0\.\.1, .* got {label}"):
            ClusterDisplay.from_predictions(X, np.full(90, label), X[:2])
    with pytest.raises(TypeError, match="labels must be integers, got float64"):
        ClusterDisplay.from_predictions(X, np.zeros(90))


def test_labels_need_not_be_consecutive():
    display = ClusterDisplay.from_predictions(X, np.where(np.arange(90) < 30, 7, -1))
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["-1 (60)", "7 (30)"]


def test_missing_matplotlib_names_the_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "kmeans_xp\[plot\]"'):
        ClusterDisplay.from_predictions(X, np.zeros(90, dtype=int))
