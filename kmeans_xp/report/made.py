"""How the result came about: the choice of k, parameters, versions, and the hash."""

from __future__ import annotations

import math
import platform
from importlib.metadata import version

import numpy as np

from kmeans_xp.report.content import Content
from kmeans_xp.report.html import Html, clean, element, fixed, number, table
from kmeans_xp.result import fingerprint

__all__ = ["choice", "made", "tried"]


def choice(content: Content) -> list[Html]:
    """Say which number of clusters was chosen and why."""
    chosen = content.choice
    assert chosen is not None
    parts = [
        element(
            "p", element("strong", f"k = {chosen.k}"), f": {chosen.reason}. Read it as a proposal."
        )
    ]
    notes = []
    if chosen.n_rows < content.n_rows:
        notes.append(
            f"This was looked at on {chosen.n_rows:,} rows drawn at random from "
            f"{content.n_rows:,}; the clusters of this page are those of all rows."
        )
    if content.cosine:
        notes.append("Inertia and silhouettes here are Euclidean, of rows brought to length 1.")
    if content.portrait.weights is not None:
        notes.append("The weights played no part in it.")
    return parts + ([element("p", " ".join(notes), class_="soft")] if notes else [])


def tried(content: Content) -> Html:
    """Make the table of the numbers of clusters."""
    chosen = content.choice
    assert chosen is not None
    rows = []
    for row in chosen.selection.rows:
        cells = [f"{int(row['k'])}", number(row["inertia"], 5)]
        cells.append(_or_dash(row["silhouette"]))
        if row["k"] == chosen.k:
            cells = [element("span", cell, class_="chosen") for cell in cells]
            cells.append("chosen")
        rows.append([*cells, *[""] * (4 - len(cells))])
    header = ["clusters", "inertia", "mean silhouette", ""]
    return table("The numbers of clusters tried", header, rows, words=(3,))


def _or_dash(value: float) -> str:
    return "–" if math.isnan(value) else fixed(value, 4)


def made(content: Content) -> list[Html]:
    """Make the tables with what the result can be had again."""
    from kmeans_xp import __version__

    settings = content.settings
    seed = content.seed
    parameters = {
        **{clean(name): clean(value) for name, value in content.details.items()},
        "values": f"{content.n_rows} × {content.n_features}, "
        f"{str(content.x.dtype).rpartition('.')[2]}",
        "n_clusters": f"{content.k}" + (" (chosen)" if content.choice is not None else ""),
        "n_init": settings["n_init"],
        "max_iter": settings["max_iter"],
        "tol": settings["tol"],
        "metric": settings["metric"],
        "sample_weight": "none" if content.portrait.weights is None else "given",
        "random_state": seed.entropy if isinstance(seed, np.random.SeedSequence) else seed,
        "device": settings["device"] or "that of the data",
    }
    result = content.result
    outcome = {
        "hash": fingerprint(result),
        "inertia": repr(result.inertia),
        "iterations": result.n_iter,
        "converged": "yes" if result.converged else "no",
    }
    versions = {
        "kmeans_xp": __version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "matplotlib": version("matplotlib"),
    }
    parts = [("Parameters", parameters), ("Result", outcome), ("Versions", versions)]
    tables = [
        table(name, ["name", "value"], [(key, _code(v)) for key, v in rows.items()], words=(0, 1))
        for name, rows in parts
    ]
    text = (
        "k-means is computed exactly here: the same data and parameters give the same labels, "
        "centroids, inertia and iterations to the last bit, and so this hash, on any machine and "
        "in any array library."
    )
    return [element("p", text), element("div", *tables, class_="pair how")]


def _code(value: object) -> Html:
    return element("code", str(value))
