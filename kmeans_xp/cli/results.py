"""The folder of results: checked before any work, written whole or not at all."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import numpy as np
import typer

from kmeans_xp.backends.convert import to_numpy
from kmeans_xp.cli.app import CommandError, note
from kmeans_xp.io import atomic_files, write_csv, write_npy
from kmeans_xp.models import write_model
from kmeans_xp.result import KMeansResult
from kmeans_xp.streams import is_stream

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["OutOption", "check_out", "draw", "save", "write_all"]

NAMES = ("labels.csv", "centroids.npy", "clusters.png", "model.safetensors")
OutOption = Annotated[
    Path,
    typer.Option(
        help="Folder for the results; made if missing, existing results are replaced.",
        file_okay=False,
    ),
]


def check_out(out: Path) -> None:
    """Refuse a folder that cannot take the results, before any work."""
    folder = out.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise CommandError(f"--out {out}: {folder} is a file; name another folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"--out {out}: {folder} is not writable; name another folder")
    for name in NAMES:
        if (out / name).is_dir():
            raise CommandError(f"--out {out}: {name} there is a folder; name another --out")


def draw(X: np.ndarray, result: KMeansResult, names: Sequence[str] | None = None) -> Figure | None:
    """Draw the clusters, if there is something to draw and to draw with."""
    if is_stream(X):
        note("no picture: it would need all rows in memory")
        return None
    if X.ndim != 2 or X.shape[1] < 2:
        note("no picture: it needs two features or more")
        return None
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        note('no picture: it needs matplotlib: pip install "kmeans_xp[plot]"')
        return None
    # Not through pyplot: a command needs no window and no global state.
    from matplotlib.figure import Figure

    from kmeans_xp.plot import ClusterDisplay

    figure = Figure(figsize=(8, 6), layout="constrained")
    ClusterDisplay.from_predictions(
        X, result.labels, result.centroids, feature_names=names, ax=figure.subplots()
    )
    return figure


def save(
    out: Path,
    result: KMeansResult,
    figure: Figure | None,
    *,
    centroids: np.ndarray | None = None,
    preparation: dict[str, Any] | None = None,
    labels: bool = True,
) -> list[Path]:
    """Write labels, centroids, the picture and, with a `preparation`, the model."""
    shown = to_numpy(result.centroids) if centroids is None else centroids
    writers: dict[str, Callable[[BinaryIO], Any]] = {}
    if labels:
        writers["labels.csv"] = lambda file: write_csv(file, ["label"], [to_numpy(result.labels)])
    writers["centroids.npy"] = lambda file: write_npy(file, shown)
    if figure is not None:
        writers["clusters.png"] = lambda file: figure.savefig(file, format="png", dpi=120)
    if preparation is not None and find_spec("safetensors") is None:
        note('no model for predict: it needs safetensors: pip install "kmeans_xp[io]"')
    elif preparation is not None:
        writers["model.safetensors"] = lambda file: write_model(
            result, file, labels=False, extra=preparation
        )
    out.mkdir(parents=True, exist_ok=True)
    paths = write_all({out / name: write for name, write in writers.items()})
    for name in NAMES:
        if name not in writers and (out / name).exists():
            # It would tell of other clusters than the files beside it.
            (out / name).unlink()
            note(f"removed {out / name} of an earlier run")
    return paths


def write_all(writers: dict[Path, Callable[[BinaryIO], Any]]) -> list[Path]:
    """Write all files or none."""
    with atomic_files(list(writers)) as files:
        for file, write in zip(files, writers.values(), strict=True):
            write(file)
    return list(writers)
