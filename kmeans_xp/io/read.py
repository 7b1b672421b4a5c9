"""Reading a matrix from any file the library knows."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kmeans_xp.io.base import DataError, Table, column_indices, damage_of, only_one
from kmeans_xp.io.stores import read_hdf5, read_image, read_zarr
from kmeans_xp.io.tables import read_arrow, read_parquet
from kmeans_xp.io.text import read_text

__all__ = ["IMAGES", "SUFFIXES", "read_array", "read_table"]

IMAGES = (".png", ".jpg", ".jpeg")
TEXT = (".csv", ".tsv")
SUFFIXES = (".npy", ".npz", *TEXT, ".parquet", ".arrow", ".feather", ".h5", ".hdf5", ".zarr")
STDIN = "-"
NPY_MAGIC = b"\x93NUMPY"


def read_table(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str] | None = None,
    array: str | None = None,
    note: Callable[[str], None] | None = None,
) -> Table:
    """Read numbers, and the names of their columns where there are any.

    Parameters
    ----------
    path : path-like
        By its suffix:

        - ``.npy`` is memory-mapped, so that a large one costs no memory;
        - ``.npz``, ``.h5``, ``.hdf5`` and ``.zarr`` give the array called `array`, else the one
          called ``X``, else their only one;
        - ``.csv`` and ``.tsv`` are numbers in UTF-8, with or without a header line;
        - ``.parquet``, ``.arrow`` and ``.feather`` give their columns, or the vectors in one column
          of lists;
        - ``.png``, ``.jpg`` and ``.jpeg`` have a row for each pixel, line by line, and a column
          for each colour.

        ``-`` is ``.csv`` on standard input.
    columns : sequence of str, optional
        Which columns, in this order: names, numbers from 0, or ranges as ``"2:5"``. Others may hold
        anything.
    array : str, optional
        Which array of a file of several.
    note : callable, optional
        Called with a sentence about what was taken for granted, as a header.

    Returns
    -------
    Table

    Raises
    ------
    OSError
        If the file cannot be opened.
    DataError
        If it is no such file, is damaged, or holds something else than numbers.
    ModuleNotFoundError
        If what reads such files is not installed.
    """
    if str(path) == STDIN:
        return read_text(None, ",", columns, note)
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir() and suffix != ".zarr":
        raise DataError(f"{path}: a folder; give a file in it")
    if suffix not in SUFFIXES + IMAGES:
        raise DataError(
            f"{path}: cannot read {path.suffix or 'a file without a suffix'!s}; "
            f"give one of {', '.join(SUFFIXES + IMAGES)}"
        )
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if suffix in TEXT:
        return read_text(path, "," if suffix == ".csv" else "\t", columns, note)
    if suffix in (".parquet", ".arrow", ".feather"):
        reader = read_parquet if suffix == ".parquet" else read_arrow
        return reader(path, columns)
    return _chosen(path, _read_values(path, suffix, array), columns)


def read_array(
    path: str | os.PathLike[str],
    note: Callable[[str], None] | None = None,
    *,
    columns: Sequence[str] | None = None,
    array: str | None = None,
) -> np.ndarray:
    """Return the values of `read_table`."""
    return read_table(path, columns=columns, array=array, note=note).values


def _read_values(path: Path, suffix: str, array: str | None) -> np.ndarray:
    if suffix in IMAGES:
        pixels = read_image(path)
        return pixels.reshape(-1, pixels.shape[2])
    if suffix == ".npy":
        return _read_npy(path)
    if suffix == ".npz":
        return _read_npz(path, array)
    return read_zarr(path, array) if suffix == ".zarr" else read_hdf5(path, array)


def _chosen(path: Path, values: np.ndarray, columns: Sequence[str] | None) -> Table:
    if values.dtype.kind not in "biuf":
        raise DataError(f"{path}: holds {values.dtype}, not real numbers")
    if columns is None:
        return Table(values)
    if values.ndim != 2:
        raise DataError(f"{path}: has shape {values.shape}, so no columns to choose")
    return Table(values[:, column_indices(path, columns, None, values.shape[1])])


def _read_npy(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        if file.read(len(NPY_MAGIC)) != NPY_MAGIC:
            raise DataError(f"{path}: not a .npy file")
    with damage_of(path):
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _read_npz(path: Path, array: str | None) -> np.ndarray:
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise DataError(f"{path}: not a .npz file")
        file.seek(0)
        with damage_of(path), np.load(file, allow_pickle=False) as archive:
            name = only_one(path, archive.files, array)
            values = archive[name]
    if not isinstance(values, np.ndarray):
        raise DataError(f"{path}: {name} is not an array")
    return values
