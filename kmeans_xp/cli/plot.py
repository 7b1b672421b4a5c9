"""``kmeans-xp plot``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from kmeans_xp.cli import options as opt
from kmeans_xp.cli.app import app, guarded, need, note
from kmeans_xp.cli.results import write_all
from kmeans_xp.cli.rows import Rows, cluster, read_rows
from kmeans_xp.history import History
from kmeans_xp.selection import select_k

__all__ = ["Kind", "plot"]

SUFFIXES = (".png", ".svg", ".pdf")


class Kind(StrEnum):
    """What to draw."""

    CLUSTERS = "clusters"
    SILHOUETTE = "silhouette"
    CENTROIDS = "centroids"
    CONVERGENCE = "convergence"
    ELBOW = "elbow"


@app.command()
@guarded()
def plot(
    data: opt.DataArgument,
    n_clusters: Annotated[
        int,
        typer.Option(
            "--n-clusters", "-k", help="Number of clusters; for the elbow the most to try.", min=1
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help=f"The picture: {', '.join(SUFFIXES)}.")],
    kind: Annotated[Kind, typer.Option(help="What to draw.")] = Kind.CLUSTERS,
    shape: Annotated[
        str | None,
        typer.Option(help="Height and width of centroids as images: 8x8.", show_default=False),
    ] = None,
    columns: opt.ColumnsOption = None,
    array: opt.ArrayOption = None,
    standardize: opt.StandardizeOption = False,
    weights: opt.WeightsOption = None,
    metric: opt.MetricOption = opt.Metric.EUCLIDEAN,
    seed: opt.SeedOption = 0,
    n_init: opt.NInitOption = "auto",
    device: opt.DeviceOption = "cpu",
    progress: opt.ProgressOption = None,
) -> None:
    """Cluster the rows of a file and draw a picture of it."""
    need("matplotlib", "plot")
    from matplotlib.figure import Figure

    if out.suffix.lower() not in SUFFIXES:
        raise typer.BadParameter(
            f"give a name that ends in {', '.join(SUFFIXES)}", param_hint="'--out'"
        )
    form = _shape(shape)
    rows = read_rows(data, columns, array, standardize)
    options = {
        "n_init": opt.as_n_init(n_init),
        "random_state": seed,
        "sample_weight": opt.as_weights(weights),
        "metric": str(metric),
        "device": opt.as_device(device),
        "progress": opt.as_progress(progress),
    }
    panels = 2 if kind is Kind.CONVERGENCE else 1
    figure = Figure(figsize=(8, 6), layout="constrained")
    axes = figure.subplots(panels, sharex=True)
    with opt.blaming(weights):
        _draw(kind, rows, n_clusters, form, axes, options)
    kind_of_file = out.suffix.lower()[1:]
    write_all({out: lambda file: figure.savefig(file, format=kind_of_file, dpi=120)})
    note(f"wrote {out}")


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) not in (2, 3) or not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"{text!r} is not as 8x8 or 8x8x3", param_hint="'--shape'")
    return tuple(map(int, parts))


def _draw(
    kind: Kind, rows: Rows, k: int, shape: tuple[int, ...] | None, ax: Any, options: dict[str, Any]
) -> None:
    from kmeans_xp import plot as displays

    X = rows.values
    if kind is Kind.ELBOW:
        found = select_k(X, range(1, min(k, len(X)) + 1), **options)
        note(f"k = {found.k}: {found.reason}")
        displays.ElbowDisplay.from_selection(found, criteria=["inertia"], ax=ax)
        return
    history = History() if kind is Kind.CONVERGENCE else None
    result = cluster(X, k, callback=history, **options)
    if kind is Kind.CLUSTERS:
        displays.ClusterDisplay.from_predictions(
            X, result.labels, result.centroids, feature_names=rows.names, ax=ax
        )
    elif kind is Kind.SILHOUETTE:
        metric = options["metric"]
        displays.SilhouetteDisplay.from_predictions(X, result.labels, metric=metric, ax=ax)
    elif kind is Kind.CENTROIDS:
        shown = rows.in_units(result.centroids)
        displays.CentroidDisplay.from_predictions(
            shown, result.labels, shape=shape, feature_names=rows.names, ax=ax
        )
    else:
        assert history is not None
        displays.ConvergenceDisplay.from_history(history, ax=ax)
