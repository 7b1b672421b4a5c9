"""What a fit prints: a table of the clusters, or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmeans_xp.backends.convert import to_numpy
from kmeans_xp.cli.options import Format
from kmeans_xp.report.numbers import cluster_costs
from kmeans_xp.result import KMeansResult, fingerprint
from kmeans_xp.streams import is_stream

__all__ = ["percent", "print_fit", "print_json", "print_table"]


def print_fit(
    X: np.ndarray,
    result: KMeansResult,
    paths: Sequence[Path],
    form: Format,
    *,
    weights: np.ndarray | None = None,
    metric: str = "euclidean",
    classes: np.ndarray | None = None,
) -> None:
    """Print the clusters and what was written."""
    labels, centroids = to_numpy(result.labels), to_numpy(result.centroids)
    sizes = np.bincount(labels, minlength=len(centroids))
    if is_stream(X):  # a share is not worth another pass
        parts = np.zeros(len(centroids))
    else:
        parts = cluster_costs(X, labels, centroids, weights, metric)
    if form is Format.JSON:
        print_json(_as_json(result, sizes, parts, paths))
        return
    header = ["cluster", "size", "share of inertia"]
    whole = parts.sum()
    rows = [[str(k), f"{n}", percent(parts[k], whole)] for k, n in enumerate(sizes)]
    rows.append(["all", f"{sizes.sum()}", percent(whole, whole)])
    if classes is not None:
        _add_classes(header, rows, labels, classes, sizes)
    print_table([header, *rows])
    print()
    print(f"inertia     {result.inertia!r}")
    print(f"iterations  {result.n_iter}")
    print(f"hash        {fingerprint(result)}")
    for path in paths:
        print(f"wrote       {path}")


def _as_json(
    result: KMeansResult, sizes: np.ndarray, parts: np.ndarray, paths: Sequence[Path]
) -> dict[str, Any]:
    whole = float(parts.sum())
    return {
        "clusters": [
            {"cluster": k, "size": int(n), "share_of_inertia": float(p) / whole if whole else None}
            for k, (n, p) in enumerate(zip(sizes, parts, strict=True))
        ],
        "inertia": result.inertia,
        "iterations": result.n_iter,
        "converged": result.converged,
        "hash": fingerprint(result),
        "files": [str(path) for path in paths],
    }


def _add_classes(
    header: list[str],
    rows: list[list[str]],
    labels: np.ndarray,
    classes: np.ndarray,
    sizes: np.ndarray,
) -> None:
    header += ["most frequent digit", "purity"]
    counts = np.zeros((len(sizes), int(classes.max()) + 1), dtype=int)
    np.add.at(counts, (labels, classes), 1)
    for k, size in enumerate(sizes):
        digit = str(counts[k].argmax()) if size else "-"
        rows[k] += [digit, percent(counts[k].max(), size)]
    rows[-1] += ["", percent(counts.max(axis=1).sum(), sizes.sum())]


def percent(part: float, whole: float) -> str:
    """Format a share."""
    return f"{100 * part / whole:.1f} %" if whole > 0 else "-"


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print cells in right-aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def print_json(value: Any) -> None:
    """Print JSON; what is not a finite number is null."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
