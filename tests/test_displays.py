"""The other displays: what they draw of which numbers, and how the pictures look."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from kmeans_xp import History, KMeans, kmeans, select_k

from .datasets import blobs, digits

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.testing.compare import compare_images  # noqa: E402

from kmeans_xp import metrics  # noqa: E402
from kmeans_xp.plot import (  # noqa: E402
    CentroidDisplay,
    ClusterDisplay,
    ConvergenceDisplay,
    ElbowDisplay,
    SilhouetteDisplay,
)
from kmeans_xp.plot._common import PALETTE  # noqa: E402

X = blobs(5, 90, 2, 3)
RESULT = kmeans(X, 3, random_state=0)
D = digits(300, 16)
FIT = kmeans(D, 6, random_state=0)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


# Elbow


def test_elbow_of_a_selection():
    chosen = select_k(X, range(1, 5), criterion=["elbow", "bic"], n_init=1, random_state=0)
    display = ElbowDisplay.from_selection(chosen)
    assert list(display.criteria) == ["inertia", "elbow"]
    assert display.criteria["elbow"].tolist() == [row["elbow"] for row in chosen]
    assert display.n_clusters.tolist() == [1, 2, 3, 4]
    assert display.chosen == chosen.k == 3
    assert list(ElbowDisplay.from_selection(chosen, criteria=["bic"]).criteria) == ["bic"]
    with pytest.raises(ValueError, match=r"criteria must be columns.*'gap'"):
        ElbowDisplay.from_selection(chosen, criteria=["gap"])


def test_elbow_of_results_in_any_order():
    results = [kmeans(X, k, random_state=0) for k in (4, 1, 2)]
    results.append(KMeans(3, random_state=0).fit(X))
    display = ElbowDisplay.from_results(results, chosen=3)
    (line, ring) = (line for line in display.ax_.lines if len(line.get_xdata()) != 2)
    np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3, 4])
    expected = [results[1].inertia, results[2].inertia, results[3].inertia_, results[0].inertia]
    np.testing.assert_array_equal(line.get_ydata(), expected)
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([3], [results[3].inertia_])
    assert display.ax_.get_legend().get_texts()[0].get_text() == "chosen: 3"


def test_elbow_of_several_criteria_has_a_panel_for_each():
    display = ElbowDisplay([2, 3], {"inertia": [5, 1], "davies_bouldin": [0.3, np.nan]}).plot()
    assert [ax.get_ylabel() for ax in display.axes_] == ["inertia", "davies bouldin"]
    assert display.ax_ is display.axes_[0]
    assert display.ax_.get_legend() is None


def test_elbow_on_given_axes():
    figure, axes = plt.subplots(1, 2)
    display = ElbowDisplay([2, 3], {"a": [5, 1], "b": [1, 2]}).plot(axes, color="red")
    assert display.axes_ == list(axes)
    assert display.figure_ is figure
    assert axes[0].lines[0].get_color() == "red"
    with pytest.raises(ValueError, match="ax must be 2 Axes, one for each panel, got 1"):
        display.plot(axes[0])


def test_elbow_of_wrong_input():
    with pytest.raises(ValueError, match=r"criteria\['a'\] must have one value for each of the 2"):
        ElbowDisplay([2, 3], {"a": [1]})
    with pytest.raises(ValueError, match="must not be empty"):
        ElbowDisplay([], {})
    with pytest.raises(ValueError, match="at least one result"):
        ElbowDisplay.from_results([])
    with pytest.raises(TypeError, match="KMeansResults or fitted estimators, got dict"):
        ElbowDisplay.from_results([{}])
    with pytest.raises(TypeError, match=r"results must be several .*, got KMeansResult"):
        ElbowDisplay.from_results(RESULT)
    with pytest.raises(TypeError, match="selection must be what select_k returned, got int"):
        ElbowDisplay.from_selection(3)


# Silhouette


def test_silhouette_blades_are_the_sorted_coefficients(library):
    x = library.asarray(X.astype(np.float32))
    labels = library.asarray(RESULT.labels)
    display = SilhouetteDisplay.from_predictions(x, labels)
    truth = metrics.silhouette_samples(X.astype(np.float32), RESULT.labels)
    np.testing.assert_allclose(display.silhouettes, truth, rtol=1e-4)
    assert len(display.blades_) == 3
    for k, blade in enumerate(display.blades_):
        edge = np.unique(np.round(blade.get_paths()[0].vertices[:, 0], 12))
        own = np.round(display.silhouettes[RESULT.labels == k], 12)
        np.testing.assert_array_equal(np.setdiff1d(edge, [0]), np.unique(own))
        assert matplotlib.colors.to_hex(blade.get_facecolor()[0]) == PALETTE[k]
    mean = f"mean {truth.mean():.3f}"
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == [mean]


def test_silhouette_of_an_estimator_and_of_a_sample():
    x = blobs(5, 900, 2, 3)
    model = KMeans(3, random_state=0).fit(x)
    display = SilhouetteDisplay.from_estimator(model, x, max_rows=100)
    assert display.silhouettes.shape == (100,)
    assert display.ax_.get_legend().get_title().get_text() == "100 of 900 rows"
    whole = SilhouetteDisplay.from_estimator(model, x)
    np.testing.assert_array_equal(whole.labels, model.labels_)


def test_silhouette_of_wrong_input():
    with pytest.raises(ValueError, match=r"rows, features\), got shape \(3,\)"):
        SilhouetteDisplay.from_predictions([1, 2, 3], [0, 1, 0])
    with pytest.raises(ValueError, match="one entry for each of the 90 rows"):
        SilhouetteDisplay.from_predictions(X, [0, 1, 0])
    with pytest.raises(ValueError, match=r"labels must have at least 2 different .* of X, got 1$"):
        SilhouetteDisplay.from_predictions(X, [1] * 90)
    with pytest.raises(ValueError, match=r"fewer than the 1 rows looked at, got 1$"):
        SilhouetteDisplay.from_predictions(X, RESULT.labels, max_rows=1)


# Centroids


def test_centroids_as_images_side_by_side():
    values = np.arange(24.0).reshape(4, 6)
    display = CentroidDisplay.from_predictions(values, [0, 1, 1, 3], shape=(2, 3))
    image = display.image_.get_array()
    tiles = [image[r : r + 2, c : c + 3] for r, c in itertools.product((0, 3), (0, 4))]
    np.testing.assert_array_equal(np.array(tiles).reshape(4, 6), values)
    assert image.mask[2].all()
    names = [text.get_text() for text in display.ax_.texts]
    assert names == ["0 (1)", "1 (2)", "2 (0)", "3 (1)"]


@pytest.mark.parametrize("most", [1.0, 255.0])
def test_centroids_as_colour_images(most):
    values = np.linspace(0, most, 24).reshape(2, 12)
    display = CentroidDisplay.from_predictions(values, shape=(2, 2, 3))
    image = display.image_.get_array()
    np.testing.assert_allclose(image[:2, :2, :3], values[0].reshape(2, 2, 3) / most)
    assert image.shape[2] == 4
    assert image[:2, :2, 3].all()
    assert not image[:, 2, 3].any()


def test_centroids_as_profiles(library):
    centroids = library.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    display = CentroidDisplay.from_predictions(centroids, feature_names=["a", "b", "c"])
    for line, truth in zip(display.lines_, np.arange(6).reshape(2, 3), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), truth)
    assert [text.get_text() for text in display.ax_.get_xticklabels()] == ["a", "b", "c"]
    assert display.image_ is None


def test_centroids_of_an_estimator_fitted_on_a_frame():
    frame = pytest.importorskip("pandas").DataFrame(X, columns=["height", "width"])
    display = CentroidDisplay.from_estimator(KMeans(3, random_state=0).fit(frame))
    assert [text.get_text() for text in display.ax_.get_xticklabels()] == ["height", "width"]
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == [f"{k} ({n})" for k, n in enumerate(np.bincount(RESULT.labels))]


@pytest.mark.parametrize("shape", [(2, 2), (6,), (1, 2, 3, 1), (3, 2, 1), (-2, -3)])
def test_centroids_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"shape must be \(height, width\) or"):
        CentroidDisplay.from_predictions(np.zeros((2, 6)), shape=shape)


def test_centroids_of_wrong_input():
    with pytest.raises(ValueError, match=r"centroids must have shape \(n_clusters, n_features\)"):
        CentroidDisplay.from_predictions([1.0, 2.0])
    with pytest.raises(ValueError, match="feature_names must hold 2 names, got 1"):
        CentroidDisplay.from_predictions(X, feature_names=["a"])


# Convergence


def history_of(n_init: int = 1, **options) -> History:
    history = History(**options)
    kmeans(D, 5, init="random", n_init=n_init, random_state=1, tol=0, callback=history)
    return history


def test_convergence_shows_every_start():
    history = history_of(3)
    display = ConvergenceDisplay.from_history(history)
    columns = {name: np.array(values) for name, values in history.to_dict().items()}
    for ax, name in zip(display.axes_, ("inertia", "changed"), strict=True):
        for start, line in enumerate(ax.lines):
            rows = columns["start"] == start
            np.testing.assert_array_equal(line.get_xdata(), columns["iteration"][rows])
            np.testing.assert_array_equal(line.get_ydata(), columns[name][rows])
    assert len(display.ax_.get_legend().get_texts()) == 3


def test_convergence_without_inertia():
    display = ConvergenceDisplay.from_history(history_of(inertia=False))
    assert [ax.get_ylabel() for ax in display.axes_] == ["rows that changed cluster"]


def test_convergence_of_wrong_input():
    with pytest.raises(ValueError, match="history must hold an iteration"):
        ConvergenceDisplay.from_history(History())
    with pytest.raises(TypeError, match="history must be a History, got list"):
        ConvergenceDisplay.from_history([])


# How the pictures look

BASELINES = Path(__file__).parent / "baselines"
# Root mean square of the difference of the pixels, from 0 to 255. Another version of matplotlib may
# draw letters another way; the tests below show what is told apart.
TOLERANCE = 8.0
PICTURES = {
    "clusters": lambda: ClusterDisplay.from_predictions(X, RESULT.labels, RESULT.centroids, s=90),
    "projected": lambda: ClusterDisplay.from_predictions(D, FIT.labels, FIT.centroids),
    "elbow": lambda: ElbowDisplay(
        [1, 2, 3, 4, 5],
        {"inertia": [9, 4, 1, 0.8, 0.7], "silhouette": [np.nan, 0.5, 0.7, 0.6, 0.4]},
        3,
    ).plot(),
    "silhouette": lambda: SilhouetteDisplay.from_predictions(D, FIT.labels),
    "images": lambda: CentroidDisplay.from_predictions(FIT.centroids, FIT.labels, shape=(4, 4)),
    "profiles": lambda: CentroidDisplay.from_predictions(FIT.centroids),
    "convergence": lambda: ConvergenceDisplay.from_history(history_of(2)),
}


def save(display, path: Path) -> str:
    """Save a small picture whose axes stand where they do whatever the letters take."""
    display.figure_.set_layout_engine(None)
    display.figure_.subplots_adjust(left=0.12, right=0.78, bottom=0.12, top=0.9)
    display.figure_.savefig(path, dpi=45, metadata={"Software": None})
    return str(path)


@pytest.fixture
def _plain():
    with matplotlib.style.context("default"):
        yield


@pytest.mark.usefixtures("_plain")
@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_looks_as_it_did(name, tmp_path):
    found = save(PICTURES[name](), tmp_path / f"{name}.png")
    assert compare_images(str(BASELINES / f"{name}.png"), found, TOLERANCE) is None


@pytest.mark.usefixtures("_plain")
def test_the_tolerance_tells_other_clusters_apart(tmp_path):
    labels = (RESULT.labels + 1) % 3
    other = ClusterDisplay.from_predictions(X, labels, RESULT.centroids, s=90)
    found = save(other, tmp_path / "other.png")
    assert compare_images(str(BASELINES / "clusters.png"), found, TOLERANCE) is not None


@pytest.mark.usefixtures("_plain")
def test_the_tolerance_tells_missing_curves_apart(tmp_path):
    display = CentroidDisplay.from_predictions(FIT.centroids)
    for line in display.lines_[:2]:
        line.remove()
    found = save(display, tmp_path / "other.png")
    assert compare_images(str(BASELINES / "profiles.png"), found, TOLERANCE) is not None


def redraw() -> None:
    """Make the baselines anew: ``python -m tests.test_displays``, then look at each."""
    BASELINES.mkdir(exist_ok=True)
    for name in PICTURES:
        save(PICTURES[name](), BASELINES / f"{name}.png")


if __name__ == "__main__":
    redraw()


@pytest.mark.parametrize("most", [0, -1, "all", 1.5])
def test_most_rows_to_draw(most):
    with pytest.raises(ValueError, match="max_points must be None or an integer >= 1, got"):
        ClusterDisplay.from_predictions(X, RESULT.labels, max_points=most)
    with pytest.raises(ValueError, match="max_rows must be None or an integer >= 1, got"):
        SilhouetteDisplay.from_predictions(X, RESULT.labels, max_rows=most)


@pytest.mark.parametrize("shape", [4, "4x4"])
def test_a_shape_that_is_no_tuple(shape):
    with pytest.raises(TypeError, match="shape must be a tuple of integers"):
        CentroidDisplay.from_predictions(FIT.centroids, shape=shape)


def test_one_criterion_by_name():
    selection = select_k(X, range(1, 4), random_state=0)
    assert list(ElbowDisplay.from_selection(selection, criteria="inertia").criteria) == ["inertia"]
