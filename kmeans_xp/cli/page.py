"""``kmeans-xp report``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from kmeans_xp.cli import options as opt
from kmeans_xp.cli.app import CommandError, app, guarded, need, note
from kmeans_xp.cli.report import print_fit
from kmeans_xp.cli.rows import Rows, check_converged, noted, read_rows

__all__ = ["report"]


@app.command()
@guarded()
def report(
    data: opt.DataArgument,
    n_clusters: Annotated[
        str,
        typer.Option(
            "--n-clusters",
            "-k",
            help="Number of clusters; auto tries 1 to 20 (on a sample of large data).",
        ),
    ] = "auto",
    out: Annotated[
        Path, typer.Option("--out", "-o", help="The page, .html; replaced if it exists.")
    ] = Path("report.html"),
    title: Annotated[
        str | None, typer.Option(help="Heading. Default: the name of the file.", show_default=False)
    ] = None,
    columns: opt.ColumnsOption = None,
    array: opt.ArrayOption = None,
    standardize: opt.StandardizeOption = False,
    weights: opt.WeightsOption = None,
    metric: opt.MetricOption = opt.Metric.EUCLIDEAN,
    seed: opt.SeedOption = 0,
    n_init: opt.NInitOption = "auto",
    max_iter: opt.MaxIterOption = 300,
    tol: opt.TolOption = 1e-4,
    device: opt.DeviceOption = "cpu",
    progress: opt.ProgressOption = None,
    form: opt.FormatOption = opt.Format.TABLE,
) -> None:
    """Cluster the rows of a file and write a page about it: one file that needs no network.

    It holds pictures, tables, what the result can be had again with, and some rows of the data.
    With --standardize values are shown in the units of the file.
    """
    need("matplotlib", "plot")
    from kmeans_xp.report import cluster_report

    k = _clusters(n_clusters)
    choices: dict[str, Any] = {
        "n_init": opt.as_n_init(n_init),
        "max_iter": max_iter,
        "tol": tol,
        "sample_weight": opt.as_weights(weights),
        "metric": str(metric),
        "device": opt.as_device(device),
        "progress": opt.as_progress(progress),
    }
    _check_page(out)
    rows = read_rows(data, columns, array, standardize)
    X = rows.values
    note(f"clustering {' x '.join(map(str, X.shape))} {X.dtype} values")
    kept = rows.preparation
    units = None if kept["scale"] is None else (kept["mean"], kept["scale"])
    with opt.blaming(weights), noted():
        made = cluster_report(
            X,
            k,
            title=title or _title(data),
            feature_names=rows.names,
            units=units,
            details=_details(data, rows, weights),
            random_state=seed,
            **choices,
        )
    check_converged(made.result)
    made.save(out)
    weighted = choices["sample_weight"]
    print_fit(X, made.result, [out], form, weights=weighted, metric=str(metric))


def _clusters(text: str) -> int | str:
    if text == "auto":
        return text
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise typer.BadParameter(f"{text!r} is neither auto nor 1 or more", param_hint="'-k'")


def _check_page(out: Path) -> None:
    """Refuse a place that cannot take the page, before any work."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter("give a name that ends in .html", param_hint="'--out'")
    folder = out.absolute().parent
    if not folder.is_dir():
        raise CommandError(f"--out {out}: there is no folder {folder}; make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"--out {out}: {folder} is not writable; name another folder")
    if out.is_dir():
        raise CommandError(f"--out {out}: a folder; name a file")


def _title(data: Path) -> str:
    return "Clusters" if str(data) == "-" else f"Clusters of {data.name}"


def _details(data: Path, rows: Rows, weights: Path | None) -> dict[str, str]:
    found = {"data": "standard input" if str(data) == "-" else data.name}
    if rows.preparation["columns"] is not None:
        found["columns"] = ", ".join(rows.preparation["columns"])
    if rows.preparation["array"] is not None:
        found["array"] = rows.preparation["array"]
    found["standardized"] = "no" if rows.preparation["scale"] is None else "yes"
    if weights is not None:
        found["weights"] = weights.name
    return found
