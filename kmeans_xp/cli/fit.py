"""``kmeans-xp fit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kmeans_xp.cli import options as opt
from kmeans_xp.cli.app import CommandError, app, guarded, note
from kmeans_xp.cli.report import print_fit
from kmeans_xp.cli.results import check_out, draw, save
from kmeans_xp.cli.rows import cluster, read_rows, stream_rows
from kmeans_xp.validation import INIT_NAMES

__all__ = ["fit"]

LABELS = "labels.npy"


@app.command()
@guarded()
def fit(
    data: opt.DataArgument,
    n_clusters: opt.ClustersOption,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for labels.csv, centroids.npy, clusters.png and model.safetensors; made "
            "if missing, existing results are replaced. Without it nothing is written.",
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    columns: opt.ColumnsOption = None,
    array: opt.ArrayOption = None,
    standardize: opt.StandardizeOption = False,
    weights: opt.WeightsOption = None,
    metric: opt.MetricOption = opt.Metric.EUCLIDEAN,
    seed: opt.SeedOption = 0,
    init: opt.InitOption = "k-means++",
    n_init: opt.NInitOption = "auto",
    max_iter: opt.MaxIterOption = 300,
    tol: opt.TolOption = 1e-4,
    device: opt.DeviceOption = "cpu",
    streamed: opt.StreamOption = False,
    checkpoint: opt.CheckpointOption = None,
    resume: opt.ResumeOption = None,
    labels_out: opt.LabelsOption = None,
    progress: opt.ProgressOption = None,
    form: opt.FormatOption = opt.Format.TABLE,
) -> None:
    """Cluster the rows of a file; print the clusters, write labels, centroids, picture and model.

    With --standardize the centroids are written in the units of the file; inertia and hash are
    those of the standardized rows, and the model standardizes what it predicts.
    """
    choices = {
        "init": opt.as_init(init),
        "n_init": opt.as_n_init(n_init),
        "max_iter": max_iter,
        "tol": tol,
        "sample_weight": opt.as_weights(weights),
        "metric": str(metric),
        "device": opt.as_device(device),
        "progress": opt.as_progress(progress),
        "checkpoint": checkpoint,
        "resume": resume,
    }
    if streamed and standardize:
        raise typer.BadParameter("--standardize would need all rows in memory; not with --stream")
    if out is not None:
        check_out(out)
        if streamed:
            labels_out = labels_out or out / LABELS
            out.mkdir(parents=True, exist_ok=True)
    if streamed:
        rows = stream_rows(data, columns, array)
    else:
        rows = read_rows(data, columns, array, standardize)
    X = rows.values
    note(f"clustering {' x '.join(map(str, X.shape))} {X.dtype} values")
    try:
        result = cluster(X, n_clusters, random_state=seed, labels_out=labels_out, **choices)
    except KeyboardInterrupt:
        if checkpoint is not None and any(checkpoint.glob("*.checkpoint.npz")):
            note(f"the same options and --resume {checkpoint} go on from the last checkpoint")
        raise
    except (TypeError, ValueError) as error:
        raise CommandError(_with_option(str(error), init, weights)) from error
    paths = [] if labels_out is None else [labels_out]
    if out is not None:
        kept = {**rows.preparation, "metric": str(metric)}
        shown, figure = rows.in_units(result.centroids), draw(X, result, rows.names)
        paths += save(out, result, figure, centroids=shown, preparation=kept, labels=not streamed)
    weighted = choices["sample_weight"]
    print_fit(X, result, paths, form, weights=weighted, metric=metric)


def _with_option(message: str, init: str, weights: Path | None) -> str:
    """Name the option and the file behind an argument of `kmeans`."""
    if weights is not None and message.startswith("sample_weight"):
        return f"--weights {weights}: {message}"
    if message.startswith("labels_out"):
        return message.replace("labels_out", "--labels-out", 1)
    if message.startswith("init") and init not in INIT_NAMES:
        return f"--init {init}: {message}"
    return message
