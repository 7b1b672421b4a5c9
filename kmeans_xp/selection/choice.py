"""Which number of clusters a criterion chooses, and why, in words."""

from __future__ import annotations

import math

import numpy as np

from kmeans_xp.knee import first_gap, knee, speeds_up

__all__ = ["choose"]

# What a criterion is called in a sentence, and whether its highest value is the best.
_BEST = {
    "silhouette": ("mean silhouette coefficient", max),
    "calinski_harabasz": ("Calinski-Harabasz score", max),
    "davies_bouldin": ("Davies-Bouldin score", min),
    "bic": ("Bayesian information criterion", min),
}
# Values closer than this are a tie: the scores are not promised to the last bit.
_TIE = 1e-9


def choose(name: str, rows: list[dict[str, float]]) -> tuple[int | None, str]:
    """Return the chosen number of clusters and why it is chosen."""
    if name == "elbow":
        return _choose_knee(rows)
    if name == "gap":
        return _choose_gap(rows)
    what, better = _BEST[name]
    known = [row for row in rows if not math.isnan(row[name])]
    if not known:
        return None, f"the {what} needs at least 2 clusters, and fewer than there are rows"
    best = better(row[name] for row in known)
    limit = _TIE * abs(best) if math.isfinite(best) else 0.0
    first = next(row for row in known if row[name] == best or abs(row[name] - best) <= limit)
    word = "highest" if better is max else "lowest"
    return int(first["k"]), f"{word} {what}, {first[name]:.4g}"


def _choose_knee(rows: list[dict[str, float]]) -> tuple[int | None, str]:
    curve = np.asarray([row["elbow"] for row in rows])
    place = knee(curve)
    if place is not None:
        k = int(rows[place]["k"])
        return k, f"the inertia falls faster up to k = {k} than beyond: a knee in log-log axes"
    nothing_left = [int(row["k"]) for row in rows if row["inertia"] == 0.0]
    if nothing_left:
        k = nothing_left[0]
        return k, f"with k = {k} every row is its own centroid: the inertia is 0"
    if len(rows) < 3:
        return None, "a knee needs at least 3 numbers of clusters"
    if speeds_up(curve):
        last = int(rows[-1]["k"])
        return None, f"no knee up to k = {last}: the inertia falls faster and faster, try larger k"
    return None, (
        "no knee: the inertia falls about as a power of k, as it does for data without clusters"
    )


def _choose_gap(rows: list[dict[str, float]]) -> tuple[int | None, str]:
    place = first_gap([row["gap"] for row in rows], [row["gap_error"] for row in rows])
    if place is None:
        last = int(rows[-1]["k"])
        return None, f"the gap still grows at k = {last}, the largest one tried: try larger ones"
    here, after = rows[place], rows[place + 1]
    k = int(here["k"])
    return k, (
        f"the gap, {here['gap']:.4g}, is not clearly below that of k = {int(after['k'])}, "
        f"{after['gap']:.4g} ± {after['gap_error']:.2g}"
    )
