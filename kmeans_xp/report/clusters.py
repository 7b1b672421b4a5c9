"""Tables of the clusters: how large they are, what sets them apart, which rows stand for them."""

from __future__ import annotations

import math

import numpy as np

from kmeans_xp.backends.convert import take_rows, to_numpy
from kmeans_xp.plot._common import PALETTE
from kmeans_xp.report.content import Content
from kmeans_xp.report.html import Html, clean, element, fixed, number, table

__all__ = ["apart", "sizes"]

MOST_LISTED = 50  # clusters
MOST_FEATURES = 5  # that tell of a cluster, and that are shown of a row
NOTABLE = 0.5  # standard deviations


def sizes(content: Content) -> Html:
    """Make the table of sizes."""
    seen = content.portrait
    header = ["cluster", "rows", "share", "share of inertia"]
    header += ["weight"] if seen.weights is not None else []
    header += ["mean silhouette"] if content.silhouettes is not None else []
    rows = []
    for k in _listed(content):
        row = [
            element("span", _mark(k), str(k)),
            f"{seen.sizes[k]:,}",
            f"{seen.sizes[k] / content.n_rows:.1%}",
        ]
        row.append(f"{seen.shares[k]:.1%}" if math.isfinite(seen.shares[k]) else "–")
        row += [number(seen.weights[k])] if seen.weights is not None else []
        row += [_silhouette(content, k)] if content.silhouettes is not None else []
        rows.append(row)
    return table(f"Sizes of the clusters{_which(content)}", header, rows)


def apart(content: Content) -> list[Html]:
    """Make a card for each cluster."""
    which = "features" if content.n_features <= MOST_FEATURES else f"{MOST_FEATURES} features"
    text = (
        f"Each cluster by the {which} in which its centroid lies farthest from the mean of all "
        "rows, in standard deviations, and the rows nearest to the centroid, counted from 0."
    )
    cards = [_card(content, k) for k in _listed(content)]
    parts = [element("p", text), element("div", *cards, class_="pair")]
    if content.k > MOST_LISTED:
        parts.insert(1, element("p", f"Shown are the {MOST_LISTED} largest of {content.k:,}."))
    return parts


def _listed(content: Content) -> list[int]:
    if content.k <= MOST_LISTED:
        return list(range(content.k))
    largest = np.argsort(-content.portrait.sizes, kind="stable")[:MOST_LISTED]
    return sorted(int(k) for k in largest)


def _which(content: Content) -> str:
    return f" (the {MOST_LISTED} largest)" if content.k > MOST_LISTED else ""


def _mark(k: int) -> Html:
    return element("span", class_="mark", style=f"background: var(--c{k % len(PALETTE)})")


def _silhouette(content: Content, k: int) -> str:
    assert content.silhouettes is not None
    own = content.silhouettes.values[content.silhouettes.labels == k]
    return fixed(own.mean(), 3) if len(own) else "–"


def _card(content: Content, k: int) -> Html:
    seen = content.portrait
    heading = element("h3", _mark(k), f"Cluster {k}", id=f"cluster-{k}")
    size = int(seen.sizes[k])
    if not size:
        body = [element("p", "No rows.")]
    else:
        features = np.argsort(-np.abs(seen.contrast[k]), kind="stable")[:MOST_FEATURES]
        body = [
            element("p", _sentence(content, k, features)),
            _features(content, k, features),
            _nearest(content, k, np.sort(features)),
        ]
    return element("article", heading, *body, aria_labelledby=f"cluster-{k}")


def _sentence(content: Content, k: int, features: np.ndarray) -> str:
    z = content.portrait.contrast[k]
    high = [clean(content.names[j]) for j in features if z[j] >= NOTABLE]
    low = [clean(content.names[j]) for j in features if z[j] <= -NOTABLE]
    parts = [f"high {', '.join(high)}"] if high else []
    parts += [f"low {', '.join(low)}"] if low else []
    size = content.portrait.sizes[k]
    rows = "1 row" if size == 1 else f"{size:,} rows"
    if not parts:
        return f"{rows}; near the mean in every feature."
    return f"{rows}; {'; '.join(parts)}."


def _features(content: Content, k: int, features: np.ndarray) -> Html:
    z = content.portrait.contrast
    # Bars of all clusters have one scale.
    widest = float(np.abs(z).max()) or 1.0
    value = content.in_units(content.centroids[k])
    mean = content.in_units(content.portrait.mean)
    rows = [
        [
            clean(content.names[j]),
            _bar(float(z[k, j]) / widest),
            fixed(z[k, j], 2, sign=True),
            number(value[j]),
            number(mean[j]),
        ]
        for j in features
    ]
    header = ["feature", "", "deviations", "centroid", "mean"]
    return table(f"What sets cluster {k} apart", header, rows, words=(0, 1))


def _bar(part: float) -> Html:
    """Draw a bar to the right or left of the middle; the number stands beside it."""
    left, width = (50.0, 50 * part) if part >= 0 else (50 + 50 * part, -50 * part)
    bar = element(
        "rect",
        class_="above" if part >= 0 else "below",
        x=f"{left:.1f}",
        y="1",
        width=f"{width:.1f}",
        height="8",
    )
    middle = element("line", x1="50", x2="50", y1="0", y2="10")
    look = {"viewBox": "0 0 100 10", "preserveAspectRatio": "none"}
    return element("svg", bar, middle, class_="bar", aria_hidden="true", **look)


def _nearest(content: Content, k: int, features: np.ndarray) -> Html:
    rows, distances = content.portrait.nearest[k], content.portrait.distances[k]
    values = content.in_units(to_numpy(take_rows(content.x, rows)))
    cells = [
        [f"{row:,}", number(distance, 3), *(number(one[j], 6) for j in features)]
        for row, distance, one in zip(rows, distances, values, strict=True)
    ]
    header = ["row", "distance", *(clean(content.names[j]) for j in features)]
    return table(f"Rows nearest to the centroid of cluster {k}", header, cells)
