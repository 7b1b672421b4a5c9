"""Options that several commands have, and what their values mean."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from kmeans_xp.backends.devices import device_name
from kmeans_xp.cli.app import CommandError, need, note, sentence
from kmeans_xp.io import SUFFIXES, read_array
from kmeans_xp.validation import INIT_NAMES

__all__ = [
    "ArrayOption",
    "CheckpointOption",
    "ClustersOption",
    "ColumnsOption",
    "DataArgument",
    "DeviceOption",
    "Format",
    "FormatOption",
    "InitOption",
    "LabelsOption",
    "MaxIterOption",
    "Metric",
    "MetricOption",
    "NInitOption",
    "ProgressOption",
    "ResumeOption",
    "SeedOption",
    "StandardizeOption",
    "StreamOption",
    "TolOption",
    "WeightsOption",
    "as_device",
    "as_init",
    "as_n_init",
    "as_progress",
    "as_weights",
    "blaming",
    "columns_of",
]

KINDS = ", ".join(SUFFIXES)


class Metric(StrEnum):
    """What near means."""

    EUCLIDEAN = "euclidean"
    COSINE = "cosine"


class Format(StrEnum):
    """How results are printed."""

    TABLE = "table"
    JSON = "json"


def _finite(tol: float) -> float:
    if not math.isfinite(tol):
        raise typer.BadParameter(f"{tol} is not a finite number")
    return tol


def _device(device: str) -> str:
    name = device_name(device)
    if name is None:
        raise typer.BadParameter(f"{device!r} is none of cpu, cuda, cuda:0, cuda:1 and so on")
    return name


DataArgument = Annotated[
    Path,
    typer.Argument(
        help=f"Rows: {KINDS}, a picture (.png, .jpg: pixels are rows), or - for CSV on stdin.",
        allow_dash=True,
    ),
]
ClustersOption = Annotated[
    int, typer.Option("--n-clusters", "-k", help="Number of clusters.", min=1)
]
SeedOption = Annotated[int, typer.Option(help="Seed of the random start.", min=0)]
ColumnsOption = Annotated[
    str | None,
    typer.Option(
        help="Columns to use, by name or number from 0: age,income or 0,3:6. Default: all.",
        show_default=False,
    ),
]
ArrayOption = Annotated[
    str | None,
    typer.Option(
        help="Name of the array in .npz, .h5 or .zarr. Default: X, or the only one.",
        show_default=False,
    ),
]
StandardizeOption = Annotated[
    bool,
    typer.Option(
        "--standardize", help="Bring every feature to mean 0 and standard deviation 1 first."
    ),
]
WeightsOption = Annotated[
    Path | None, typer.Option(help="Weight of each row: a file of one column.", show_default=False)
]
DeviceOption = Annotated[
    str,
    typer.Option(
        help="Where to compute: cpu, cuda, or one of several GPUs, as cuda:1.", callback=_device
    ),
]
MetricOption = Annotated[Metric, typer.Option(help="What near means; cosine is spherical k-means.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How to print the result.")]
InitOption = Annotated[
    str, typer.Option(help="k-means++, k-means||, random, or a file with the first centroids.")
]
NInitOption = Annotated[str, typer.Option(help="auto, or how many starts to try.")]
MaxIterOption = Annotated[int, typer.Option(help="Most iterations of one start.", min=1)]
TolOption = Annotated[
    float, typer.Option(help="When to stop; 0: no change at all.", min=0, callback=_finite)
]
StreamOption = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Read the file block by block, for rows that do not fit in memory; --out then gets "
        "labels.npy for labels.csv, and no picture.",
    ),
]
CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder in which to keep the state of the fit, every 30 seconds.",
        file_okay=False,
        show_default=False,
    ),
]
ResumeOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder with the --checkpoint of an interrupted fit of the same rows: go on from it.",
        file_okay=False,
        show_default=False,
    ),
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(help="File for the labels: .npy, int32.", dir_okay=False, show_default=False),
]
ProgressOption = Annotated[
    bool | None,
    typer.Option(
        "--progress/--no-progress",
        help="Progress bar on stderr; without either, where stderr is a terminal.",
        show_default=False,
    ),
]


def columns_of(text: str | None) -> list[str] | None:
    """Return the names in a comma-separated list."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def as_device(device: str) -> str | None:
    """Return the `device` of the functions."""
    return None if device == "cpu" else device


def as_progress(wanted: bool | None) -> bool:
    """Whether to show a progress bar; one that is asked for needs tqdm."""
    if wanted:
        need("tqdm", "progress")
    if wanted is None:
        return sys.stderr.isatty() and find_spec("tqdm") is not None
    return wanted


def as_init(init: str) -> Any:
    """Return a name of a start, or the centroids in a file."""
    if init in INIT_NAMES:
        return init
    if Path(init).suffix.lower() in SUFFIXES:
        return _read(init, "--init")
    raise typer.BadParameter(
        f"{init!r} is no start (k-means++, k-means||, random) and no file ({KINDS})",
        param_hint="'--init'",
    )


def as_n_init(n_init: str) -> Any:
    """Return "auto" or a number of starts."""
    if n_init == "auto":
        return n_init
    if n_init.isdecimal() and int(n_init) > 0:
        return int(n_init)
    raise typer.BadParameter(f"{n_init!r} is neither auto nor 1 or more", param_hint="'--n-init'")


def as_weights(path: Path | None) -> np.ndarray | None:
    """Return the weights in a file."""
    if path is None:
        return None
    array = _read(path, "--weights")
    # A .csv has columns, and one of them is a list of weights.
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


@contextmanager
def blaming(weights: Path | None) -> Iterator[None]:
    """Make one line of what a function refuses, and name the file behind its `sample_weight`."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if weights is not None and str(error).startswith("sample_weight"):
            raise CommandError(f"--weights {weights}: {error}") from error
        raise CommandError(str(error)) from error


def _read(path: str | Path, option: str) -> np.ndarray:
    try:
        return read_array(path, note)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise CommandError(f"{option} {sentence(error)}") from error
