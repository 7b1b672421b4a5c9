"""Pictures: what is drawn, from which arrays, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest

from kmeans_xp import KMeans, kmeans

from .datasets import blobs

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

from kmeans_xp.plot import (  # noqa: E402 - the backend is chosen first
    CentroidDisplay,
    ClusterDisplay,
    ElbowDisplay,
    SilhouetteDisplay,
)
from kmeans_xp.plot._common import MARKERS, PALETTE, line_look, look  # noqa: E402
from kmeans_xp.plot._geometry import principal_plane, voronoi  # noqa: E402

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
    assert display.regions_ == []


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
        ((5, 1), r"X must have shape \(n, 2\) or more features, got \(5, 1\)"),
        ((5,), r"X must have shape \(n, 2\) or more features, got \(5,\)"),
    ],
)
def test_other_shapes_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        ClusterDisplay.from_predictions(np.zeros(shape), np.zeros(5, dtype=int))


def test_sparse_matrices_are_refused():
    sparse = pytest.importorskip("scipy.sparse").csr_array(X)
    with pytest.raises(TypeError, match=r"X is a sparse matrix.*pass X.toarray\(\)"):
        ClusterDisplay.from_predictions(sparse, np.zeros(90, dtype=int))


def test_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"each of the 90 rows of X, got shape \(89,\)"):
        ClusterDisplay.from_predictions(X, np.zeros(89, dtype=int))


def test_centroids_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"centroids must have shape \(n, 2\) as X, got \(2, 3\)"):
        ClusterDisplay.from_predictions(X, np.zeros(90, dtype=int), np.zeros((2, 3)))


def test_many_clusters_look_different():
    assert len({look(k) for k in range(len(PALETTE) * len(MARKERS))}) == 120
    assert len({line_look(k) for k in range(50)}) == 50


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


def test_a_dollar_in_a_name_is_a_dollar():
    display = ClusterDisplay.from_predictions(
        X, np.zeros(90, dtype=int), feature_names=["US$", r"$\no maths$"]
    )
    display.figure_.canvas.draw()  # refuses maths it cannot read
    assert display.ax_.get_ylabel() == r"$\no maths$"


def test_axes_carry_the_names_of_a_frame():
    frame = pytest.importorskip("pandas").DataFrame(X, columns=["height", "width"])
    ax = ClusterDisplay.from_estimator(KMeans(3, random_state=0).fit(frame), frame).ax_
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("height", "width")
    with pytest.raises(ValueError, match="feature_names must hold 2 names, got 1"):
        ClusterDisplay.from_predictions(X, np.zeros(90, dtype=int), feature_names=["a"])


# Many features, many rows, regions


def test_more_features_are_projected_on_the_plane_of_most_variance():
    x = np.column_stack([X, 0.01 * X[:, 0], np.full(90, 7.0)])
    result = kmeans(x, 3, random_state=0)
    display = ClusterDisplay.from_predictions(x, result.labels, result.centroids)
    svd = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    expected = svd.U[:, :2] * svd.S[:2]
    for found, truth in zip(display.X.T, expected.T, strict=True):
        sign = np.sign(found @ truth)
        np.testing.assert_allclose(found, sign * truth, atol=1e-9)
    share = svd.S[0] ** 2 / (svd.S**2).sum()
    label = f"first principal component ({share:.0%} of the variance)"
    assert display.ax_.get_xlabel() == label
    for k in range(3):  # a projected centroid is the mean of its projected rows
        mean = display.X[result.labels == k].mean(axis=0)
        np.testing.assert_allclose(display.centroids[k], mean, atol=1e-9)
    assert display.regions_ == []


@pytest.mark.parametrize("scale", [1.0, 1e300])
def test_a_plane_of_very_many_features(scale):
    x = np.zeros((30, 2500))
    x[:, [7, 2000]] = X[:30] * scale
    _, axes, shares = principal_plane(x)
    np.testing.assert_allclose(axes.T @ axes, np.eye(2), atol=1e-12)
    assert np.abs(np.delete(axes, [7, 2000], axis=0)).max() < 1e-12
    assert shares.sum() == pytest.approx(1)


def test_a_plane_of_identical_rows():
    display = ClusterDisplay.from_predictions(np.ones((5, 3)), np.zeros(5, dtype=int))
    assert np.array_equal(display.X, np.zeros((5, 2)))


def test_large_data_are_sampled_and_it_is_said(library):
    x = blobs(7, 3000, 3, 4).astype(np.float32)
    labels = np.arange(3000) % 4
    draw = ClusterDisplay.from_predictions
    display = draw(library.asarray(x), library.asarray(labels), max_points=500)
    assert display.X.shape == (500, 2)
    assert display.sizes == dict.fromkeys(range(4), 750)
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts[0] == "0 (750)"
    assert display.ax_.texts[-1].get_text() == "500 of 3,000 rows drawn"
    again = draw(x, labels, max_points=500)
    np.testing.assert_array_equal(display.labels, again.labels)
    assert len(draw(x, labels, max_points=None).X) == 3000


@pytest.mark.parametrize("k", [1, 2, 7, 40])
def test_regions_hold_the_points_nearest_to_their_centre(k):
    centers = blobs(3, k, 2, k)
    regions = voronoi(centers, (-20, 20), (-20, 20))
    area = 0.0
    for center, corners in zip(centers, regions, strict=True):
        x, y = corners.T
        area += 0.5 * abs(x @ np.roll(y, 1) - y @ np.roll(x, 1))
        inside = np.vstack([corners.mean(axis=0) * 0.999 + corners * 0.001, corners])
        own = np.square(inside - center).sum(axis=1)
        best = np.square(inside[:, None] - centers).sum(axis=2).min(axis=1)
        np.testing.assert_allclose(own, best, atol=1e-9)
    assert area == pytest.approx(1600)


def test_regions_of_huge_values():
    centers = np.array([[-1.0, 0.0], [1.0, 0.5]])
    for region, large in zip(
        voronoi(centers, (-2, 2), (-2, 2)),
        voronoi(centers * 2.0**1020, (-(2.0**1021), 2.0**1021), (-(2.0**1021), 2.0**1021)),
        strict=True,
    ):
        np.testing.assert_array_equal(large, region * 2.0**1020)


def test_equal_centres_have_one_region():
    regions = voronoi(np.array([[0.0, 0], [1, 0], [0, 0]]), (-1, 1), (-1, 1))
    assert [len(region) > 2 for region in regions] == [True, True, False]


def test_regions_are_drawn_where_they_mean_something():
    labels = np.arange(90) % 3
    draw = ClusterDisplay.from_predictions
    assert len(draw(X, labels, X[:3]).regions_) == 3
    assert draw(X, labels, X[:3], regions=False).regions_ == []
    assert draw(X, np.arange(90) % 2, np.tile(X, (2, 1))[:101]).regions_ == []
    for x, centroids in ((X, None), (np.column_stack([X, X]), np.column_stack([X, X])[:3])):
        with pytest.raises(ValueError, match="regions=True needs centroids and two features"):
            draw(x, labels, centroids, regions=True)


def spoilt(value, columns):
    x = np.arange(180.0).reshape(60, 3)[:, :columns].copy()
    x[41, 1] = value
    return x


@pytest.mark.parametrize("columns", [2, 3])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("most", [None, 59])
def test_what_has_no_place_is_refused_by_name(columns, value, most):
    x, labels = spoilt(value, columns), np.zeros(60, dtype=int)
    with pytest.raises(ValueError, match=rf"^X must hold finite .* X\[41, 1\] is {value}$"):
        ClusterDisplay.from_predictions(x, labels, max_points=most)
    with pytest.raises(ValueError, match=r"^centroids must hold finite .* centroids\[41, 1\]"):
        ClusterDisplay.from_predictions(spoilt(1.0, columns), labels, x)
    with pytest.raises(TypeError, match=r"^centroids must hold numbers: "):
        ClusterDisplay.from_predictions(spoilt(1.0, columns), labels, [["a"] * columns])


def from_x(display):
    return lambda estimator: display.from_estimator(estimator, X)


@pytest.mark.parametrize(
    "draw", [from_x(ClusterDisplay), from_x(SilhouetteDisplay), CentroidDisplay.from_estimator]
)
def test_what_is_no_estimator_is_told_where_it_goes(draw):
    for given, hint in (
        (kmeans(X, 3, random_state=0), "KMeansResult; a result goes to from_predictions"),
        (X, "ndarray$"),
    ):
        with pytest.raises(TypeError, match=rf"^estimator must be fitted, with .*, got {hint}"):
            draw(given)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda: ElbowDisplay([1], {"bic": ["b"]}), r"criteria\['bic'\] must hold numbers"),
        (lambda: ElbowDisplay.from_selection(3), "selection must be what select_k returned"),
        (lambda: ElbowDisplay.from_results([KMeans(3)]), r"got KMeans; call KMeans.fit\(X\) first"),
        (lambda: CentroidDisplay.from_estimator(KMeans(3)), r"KMeans; call KMeans.fit\(X\) first"),
    ],
)
def test_arguments_of_displays_are_named(draw, words):
    with pytest.raises(TypeError, match=words):
        draw()
