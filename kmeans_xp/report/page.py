"""The page: sections of words, tables and pictures."""

from __future__ import annotations

from importlib import resources
from typing import Any

import numpy as np

from kmeans_xp.report import clusters, made, pictures
from kmeans_xp.report.content import Content
from kmeans_xp.report.html import Html, clean, element, fixed, join, number

__all__ = ["page"]


def page(content: Content) -> str:
    """Return the text of the page."""
    title = clean(content.title)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        # Nothing may be loaded, whatever a name in the data says.
        element(
            "meta",
            http_equiv="Content-Security-Policy",
            content="default-src 'none'; style-src 'unsafe-inline'; img-src data:",
        ),
        # An icon of its own: browsers ask the network for a missing one.
        element("link", rel="icon", href="data:,"),
        element("title", title),
        element("style", Html(_style())),
    )
    main = element("main", *_summary(content, title), *_sections(content))
    whole = element("html", head, element("body", main), lang="en")
    return f"<!doctype html>\n{whole}\n"


def _style() -> str:
    return resources.files("kmeans_xp.report").joinpath("page.css").read_text("utf-8")


def _summary(content: Content, title: str) -> list[Html]:
    n, d, k = content.n_rows, content.n_features, content.k
    result, silhouettes = content.result, content.silhouettes
    facts = {"rows": f"{n:,}", "features": f"{d:,}", "clusters": f"{k:,}"}
    if silhouettes is not None:
        facts["mean silhouette"] = fixed(silhouettes.values.mean(), 3)
    facts |= {"inertia": number(result.inertia, 6), "iterations": f"{result.n_iter:,}"}
    cells = [
        element("div", element("dt", name), element("dd", value)) for name, value in facts.items()
    ]
    parts = [
        element("h1", title),
        element(
            "p",
            f"k-means puts {plural(n, 'row')} of {plural(d, 'feature')} into "
            f"{plural(k, 'cluster')}. {_verdict(content)}",
            class_="lead",
        ),
        element("dl", *cells, class_="facts"),
    ]
    return [*parts, *(element("p", text, class_="soft") for text in _warnings(content))]


def plural(count: int, noun: str) -> str:
    """Write a number of things."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def _verdict(content: Content) -> str:
    """What Kaufman and Rousseeuw (Finding Groups in Data, 1990) read from a mean silhouette."""
    if content.silhouettes is None:
        return ""
    mean = content.silhouettes.values.mean()
    if mean > 0.7:
        return "They are clearly apart."
    if mean > 0.5:
        return "They are reasonably well apart."
    if mean > 0.25:
        return "They overlap: the structure is weak and may be artificial."
    return "They hardly stand apart: the data may not fall into clusters of this kind."


def _warnings(content: Content) -> list[str]:
    found = []
    if not content.result.converged:
        found.append("The fit was stopped by the limit on iterations before it had converged.")
    empty = int((content.portrait.sizes == 0).sum())
    if empty:
        found.append(f"{plural(empty, 'cluster')} without rows.")
    spread = content.portrait.deviation
    spread = spread[spread > 0]
    if content.scale is None and not content.cosine and len(spread) > 1:
        ratio = spread.max() / spread.min()
        if ratio > 10:
            wide = content.names[int(np.argmax(content.portrait.deviation))]
            found.append(
                f"The features differ in spread by a factor of {number(ratio, 2)}; those that vary "
                f"most, as {clean(wide)}, decide the clusters. Standardized features would have "
                "equal say."
            )
    return found


def _sections(content: Content) -> list[Html]:
    drawn = pictures.draw_all(content)
    parts = [
        section(
            "The clusters",
            element("div", drawn["clusters"], clusters.sizes(content), class_="pair"),
        ),
        section("What sets each cluster apart", *clusters.apart(content)),
        section("Silhouettes", *_silhouettes(content, drawn.get("silhouettes"))),
        section("Convergence", drawn["convergence"]),
        section("How this was made", *made.made(content)),
    ]
    if content.choice is not None:
        choice = section(
            "The number of clusters",
            *made.choice(content),
            element("div", drawn["elbow"], made.tried(content), class_="pair"),
        )
        parts.insert(1, choice)
    return parts


def section(title: str, *parts: Any) -> Html:
    """Make a part of the page with its heading."""
    name = title.lower().replace(" ", "-")
    return element("section", element("h2", title, id=name), join(parts), aria_labelledby=name)


def _silhouettes(content: Content, drawn: Html | None) -> list[Html]:
    if drawn is None:
        text = "Silhouettes need at least two clusters, and fewer of them than rows."
        return [element("p", text)]
    text = (
        "The silhouette of a row compares its mean distance to its own cluster with that to the "
        "nearest other one: near 1 the row lies well, near 0 between two clusters, below 0 nearer "
        "to another one."
    )
    return [element("p", text), drawn]
