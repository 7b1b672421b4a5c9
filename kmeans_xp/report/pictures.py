"""The pictures of the page, each with a caption and words for those who do not see it."""

from __future__ import annotations

from typing import Any

import numpy as np

from kmeans_xp.backends.convert import take_rows, to_numpy
from kmeans_xp.plot import ClusterDisplay, ConvergenceDisplay, ElbowDisplay, SilhouetteDisplay
from kmeans_xp.report.content import Content
from kmeans_xp.report.figures import draw, histogram
from kmeans_xp.report.html import Html, clean, element, fixed, number
from kmeans_xp.report.numbers import directions
from kmeans_xp.seeding import Words, sample_rows

__all__ = ["draw_all"]

MOST_POINTS = 2_000  # each costs some 80 bytes of the page


def draw_all(content: Content) -> dict[str, Html]:
    """Draw what there is to draw, by name."""
    drawn = {"clusters": _clusters(content), "convergence": _convergence(content)}
    if content.silhouettes is not None:
        drawn["silhouettes"] = _silhouettes(content)
    if content.choice is not None:
        drawn["elbow"] = _elbow(content)
    return drawn


def _figure(svg: str, caption: str) -> Html:
    return element("figure", Html(svg), element("figcaption", caption))


def _points(content: Content) -> tuple[np.ndarray, np.ndarray, str]:
    """Rows to draw, their labels, and a sentence where they are not all."""
    n, x, labels = content.n_rows, content.x, content.labels
    which = ""
    if n > MOST_POINTS:
        rows = sample_rows(n, MOST_POINTS, Words(content.seed))
        x, labels = take_rows(x, rows), labels[rows]
        which = f" {MOST_POINTS:,} of {n:,} rows are drawn, chosen at random."
    points = to_numpy(x).astype(np.float64)
    return directions(points) if content.cosine else points, labels, which


def _clusters(content: Content) -> Html:
    points, labels, which = _points(content)
    names = [clean(name) for name in content.names]
    if content.scale is not None:
        names = [f"{name}, standardized" for name in names]
    if content.n_features == 1:
        svg = draw(
            "clusters",
            f"Histogram of {names[0]}, in the colours of {content.k} clusters.",
            lambda ax: histogram(ax, points[:, 0], labels, content.k, names[0]),
        )
        return _figure(svg, f"The rows by {names[0]}.{which}")

    def plot(ax: Any) -> None:
        options = {"feature_names": names, "ax": ax, "legend": False}
        ClusterDisplay.from_predictions(points, labels, content.centroids, **options)

    if content.n_features == 2:
        plane = "the two features"
        caption = f"The rows by {plane}, with the regions nearest to each centroid (cross).{which}"
    else:
        plane = "two principal components"
        caption = (
            f"The rows and centroids (crosses) on {plane}, the directions in which the rows vary "
            f"most. Clusters that overlap here may be apart in other directions.{which}"
        )
    text = f"Scatter plot of the rows on {plane}, in the colours of {content.k} clusters."
    return _figure(draw("clusters", text, plot, height=4.2), caption)


def _silhouettes(content: Content) -> Html:
    known = content.silhouettes
    assert known is not None
    mean, below = known.values.mean(), float((known.values < 0).mean())
    text = (
        f"Silhouettes of the rows, sorted within each cluster; their mean is {fixed(mean, 3)}, and "
        f"{below:.1%} of them are below 0."
    )
    caption = text
    if known.n_total > len(known.values):
        caption += f" Of {len(known.values):,} rows drawn at random from {known.n_total:,}."
    display = SilhouetteDisplay(known.values, known.labels)
    return _figure(draw("silhouettes", text, lambda ax: display.plot(ax), height=4.0), caption)


def _elbow(content: Content) -> Html:
    choice = content.choice
    assert choice is not None
    columns = choice.selection.to_dict()
    criteria = {name: columns[name] for name in ("inertia", "silhouette")}
    display = ElbowDisplay([int(k) for k in columns["k"]], criteria, choice.k)
    low, high = int(columns["k"][0]), int(columns["k"][-1])
    text = (
        f"Inertia and mean silhouette for {low} to {high} clusters; {choice.k} is marked. The "
        "numbers are in the table."
    )
    svg = draw("elbow", text, lambda axes: display.plot(axes), height=4.4, panels=2)
    return _figure(svg, f"Inertia and mean silhouette for {low} to {high} clusters.")


def _convergence(content: Content) -> Html:
    rows = content.history.rows
    starts = len({row["start"] for row in rows})
    caption = "Inertia, and rows that changed their cluster, by iteration"
    caption += f" for each of {starts} starts." if starts > 1 else "."
    first, last = rows[0]["inertia"], rows[-1]["inertia"]
    text = (
        f"{caption} The first start begins at {number(first, 6)}; the last one ends at "
        f"{number(last, 6)}."
    )
    display = ConvergenceDisplay(content.history)
    svg = draw("convergence", text, lambda axes: display.plot(axes), height=4.4, panels=2)
    return _figure(svg, caption)
