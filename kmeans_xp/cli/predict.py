"""``kmeans-xp predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import numpy as np
import typer

from kmeans_xp.backends.convert import to_numpy
from kmeans_xp.cli import options as opt
from kmeans_xp.cli.app import CommandError, app, guarded, note, sentence
from kmeans_xp.cli.report import print_json
from kmeans_xp.cli.results import write_all
from kmeans_xp.cli.rows import in_order, prepared, read_rows
from kmeans_xp.io import SUFFIXES, read_array, write_csv, write_npy
from kmeans_xp.models import ModelError, read_model
from kmeans_xp.prediction import predict as assign
from kmeans_xp.result import KMeansResult

__all__ = ["predict"]


@app.command()
@guarded()
def predict(
    model: Annotated[
        Path,
        typer.Argument(help="A model.safetensors of fit or save_model, or a file of centroids."),
    ],
    data: opt.DataArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File for the labels, .csv or .npy. Default: stdout.", show_default=False
        ),
    ] = None,
    columns: opt.ColumnsOption = None,
    array: opt.ArrayOption = None,
    device: opt.DeviceOption = "cpu",
    form: opt.FormatOption = opt.Format.TABLE,
) -> None:
    """Print the cluster of every row of a file, one a line.

    A model of fit prepares the rows as fit did: the same columns, found by name where the file has
    names, standardized with the same mean and deviation.
    """
    if out is not None and out.suffix.lower() not in (".csv", ".npy"):
        raise typer.BadParameter("give a name that ends in .csv or .npy", param_hint="'--out'")
    fitted, kept = _model(model)
    rows = read_rows(data, columns or kept.get("columns"), array or kept.get("array"))
    values = in_order(data, rows, kept.get("names") if columns is None else None)
    labels = _labels(fitted, prepared(values, kept), kept, opt.as_device(device))

    def write(file: BinaryIO) -> None:
        if out is not None and out.suffix.lower() == ".npy":
            write_npy(file, labels)
        else:
            write_csv(file, ["label"], [labels])

    if out is not None:
        write_all({out: write})
        note(f"wrote {out}")
    elif form is opt.Format.JSON:
        print_json({"labels": labels.tolist()})
    else:
        sys.stdout.write("label\n")
        sys.stdout.writelines(f"{label}\n" for label in labels.tolist())


def _model(path: Path) -> tuple[Any, dict[str, Any]]:
    """Read a model and how its rows are prepared."""
    if path.suffix.lower() in SUFFIXES:
        centroids = read_array(path, note)
        return KMeansResult(None, centroids, 0.0, 0, True), {}
    if not path.exists():
        raise CommandError(f"{path}: there is no such file")
    if path.is_dir():
        raise CommandError(f"{path}: a folder; give a file in it")
    try:
        model, kept = read_model(path)
    except OSError as error:
        raise CommandError(sentence(error)) from error
    _check_preparation(path, kept)
    return model, kept


def _check_preparation(path: Path, kept: dict[str, Any]) -> None:
    array = kept.get("array")
    named = all(
        part is None or (isinstance(part, list) and all(isinstance(name, str) for name in part))
        for part in (kept.get("columns"), kept.get("names"))
    )
    numbers = [kept.get("mean"), kept.get("scale")]
    scaled = all(isinstance(part, np.ndarray) and part.ndim == 1 for part in numbers)
    known = isinstance(kept.get("metric", ""), str) and isinstance(array, str | None)
    if not named or not known or not (scaled or numbers == [None, None]):
        raise ModelError(f"{path}: does not say soundly how its rows are prepared")


def _labels(model: Any, X: np.ndarray, kept: dict[str, Any], device: str | None) -> np.ndarray:
    if isinstance(model, KMeansResult):
        metric = kept.get("metric", "euclidean")
        found = assign(X, model.centroids, metric=metric, device=device)
        return to_numpy(found)
    if device is not None:
        if "device" not in model.get_params():
            raise CommandError(f"--device {device} is not for a {type(model).__name__}")
        model.set_params(device=device)
    return to_numpy(model.predict(X))
