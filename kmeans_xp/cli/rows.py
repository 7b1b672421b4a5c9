"""The rows a command works on, read and prepared; and clustering them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmeans_xp.cli.app import CommandError, note
from kmeans_xp.cli.options import columns_of
from kmeans_xp.functional import kmeans
from kmeans_xp.io import ColumnError, column_indices, read_table
from kmeans_xp.result import KMeansResult
from kmeans_xp.streams import stream

__all__ = [
    "Rows",
    "check_converged",
    "cluster",
    "in_order",
    "noted",
    "prepared",
    "read_rows",
    "stream_rows",
]


@dataclass(frozen=True)
class Rows:
    """Rows of a file.

    Attributes
    ----------
    values : ndarray or Stream
        What is clustered.
    names : list of str or None
        Of the features.
    preparation : dict
        How the rows came out of the file, for the model: columns, their names, array, mean and
        scale.
    """

    values: Any
    names: list[str] | None
    preparation: dict[str, Any]

    def in_units(self, centroids: np.ndarray) -> np.ndarray:
        """Return centroids in the units of the file."""
        if self.preparation["scale"] is None:
            return centroids
        return centroids * self.preparation["scale"] + self.preparation["mean"]


def read_rows(
    path: Path, columns: str | list[str] | None, array: str | None, standardize: bool = False
) -> Rows:
    """Read a file; with `standardize`, bring its features to mean 0 and deviation 1."""
    chosen = columns_of(columns) if isinstance(columns, str) else columns
    try:
        table = read_table(path, columns=chosen, array=array, note=note)
    except ColumnError as error:
        raise CommandError(f"{error} with --columns") from error
    kept: dict[str, Any] = {"columns": chosen, "array": array, "mean": None, "scale": None}
    if table.names is not None and len(set(table.names)) == len(table.names):
        kept["names"] = table.names
    if not standardize:
        return Rows(table.values, table.names, kept)
    mean, scale = _moments(table.values)
    kept |= {"mean": mean, "scale": scale}
    return Rows(prepared(table.values, kept), table.names, kept)


def stream_rows(path: Path, columns: str | None, array: str | None) -> Rows:
    """Open a file whose rows are read block by block, as often as they are needed."""
    chosen = columns_of(columns)
    kept: dict[str, Any] = {"columns": chosen, "array": array, "mean": None, "scale": None}
    if chosen is None or path.suffix.lower() in (".parquet", ".arrow", ".feather"):
        opened = stream(path, columns=chosen, array=array)
        kept["names"] = opened.names
        return Rows(opened, None, kept)
    width = stream(path, array=array).shape[1]
    numbers = column_indices(path, chosen, None, width)
    return Rows(stream(path, columns=numbers, array=array), None, kept)


def in_order(path: Path, rows: Rows, names: list[str] | None) -> np.ndarray:
    """Return the features in the order of `names`, where both the file and the model have names."""
    if names is None or rows.names is None or rows.names == names:
        return np.asarray(rows.values)
    missing = [name for name in names if name not in rows.names]
    if missing:
        raise CommandError(
            f"{path}: no column {missing[0]!r}, which the model was fitted on; "
            f"say with --columns which stand for {', '.join(names[:10])}"
        )
    return np.asarray(rows.values[:, [rows.names.index(name) for name in names]])


def prepared(values: np.ndarray, preparation: dict[str, Any]) -> np.ndarray:
    """Apply the mean and the scale of a preparation."""
    if preparation.get("scale") is None:
        return values
    if values.ndim != 2 or values.shape[1:] != preparation["scale"].shape:
        raise CommandError(
            f"the rows have shape {values.shape} and the model was fitted on "
            f"{len(preparation['scale'])} features"
        )
    scaled = (values - preparation["mean"]) / preparation["scale"]
    narrow = values.dtype in (np.float16, np.float32)
    return np.asarray(scaled, dtype=np.float32 if narrow else np.float64)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if values.ndim != 2 or not values.size:
        raise CommandError(f"the rows have shape {values.shape}, so no features to standardize")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = (int(i) for i in bad[0])
        raise CommandError(
            f"X must hold finite numbers; X[{row}, {column}] is {values[row, column]}"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        mean = values.mean(axis=0, dtype=np.float64)
        scale = values.std(axis=0, dtype=np.float64)
    if not (np.isfinite(mean) & np.isfinite(scale)).all():
        raise CommandError("the features are too large to standardize")
    return mean, np.where(scale == 0, 1.0, scale)  # a constant feature stays one


def cluster(X: Any, n_clusters: int, **options: Any) -> KMeansResult:
    """Call `kmeans` with its warnings as lines on stderr."""
    with noted():
        result: KMeansResult = kmeans(X, n_clusters, **options)
    check_converged(result)
    return result


@contextmanager
def noted() -> Iterator[None]:
    """Make lines on stderr of warnings, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for message in dict.fromkeys(str(warning.message) for warning in caught):
        note(f"warning: {message}")


def check_converged(result: KMeansResult) -> None:
    """Say so if the fit was stopped."""
    if not result.converged:
        note("warning: stopped by the limit on iterations; more of them: --max-iter")
