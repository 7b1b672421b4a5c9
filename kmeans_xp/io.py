"""Files: reading a matrix from .npy, .npz or .csv, writing results without leaving half a file.

What cannot be read raises `DataError`, whose message names the file and, in a .csv, the line and
the column.
"""

from __future__ import annotations

import csv
import io
import os
import secrets
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

__all__ = ["DataError", "atomic_files", "atomic_write", "read_array", "write_csv", "write_npy"]

SUFFIXES = (".npy", ".npz", ".csv")
NPY_MAGIC = b"\x93NUMPY"
MISSING = ("", "na", "n/a", "nan", "null", "none", "?", "-")


class DataError(ValueError):
    """A file does not hold what it should."""


def read_array(
    path: str | os.PathLike[str], note: Callable[[str], None] | None = None
) -> np.ndarray:
    """Read a numeric array from a file.

    Parameters
    ----------
    path : path-like
        ``.npy`` is memory-mapped, so that a large one costs no memory. ``.npz`` gives the array
        named ``X`` or else its only one. ``.csv`` is comma-separated numbers in UTF-8, with or
        without a header line.
    note : callable, optional
        Called with a sentence when the first line of a ``.csv`` is taken as its header.

    Returns
    -------
    ndarray
        Read-only where it is memory-mapped.

    Raises
    ------
    OSError
        If the file cannot be opened.
    DataError
        If it is no such file, is damaged, or holds something else than numbers.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if path.is_dir():
        raise DataError(f"{path}: a folder; give a file in it")
    if suffix not in SUFFIXES:
        raise DataError(
            f"{path}: cannot read {path.suffix or 'a file without a suffix'!s}; "
            f"give one of {', '.join(SUFFIXES)}"
        )
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    if suffix == ".csv":
        array = _read_csv(path, note)
    else:
        array = _read_npy(path) if suffix == ".npy" else _read_npz(path)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{path}: holds {array.dtype}, not real numbers")
    return array


def _read_npy(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        if file.read(len(NPY_MAGIC)) != NPY_MAGIC:
            raise DataError(f"{path}: not a .npy file")
    with _damage_of(path):
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _read_npz(path: Path) -> np.ndarray:
    with open(path, "rb") as file:
        if not zipfile.is_zipfile(file):
            raise DataError(f"{path}: not a .npz file")
        file.seek(0)
        with _damage_of(path), np.load(file, allow_pickle=False) as archive:
            names = archive.files
            if not names:
                raise DataError(f"{path}: holds no array")
            if len(names) > 1 and "X" not in names:
                raise DataError(f"{path}: holds {', '.join(sorted(names))}; name one of them X")
            array = archive["X" if "X" in names else names[0]]
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: {names[0]} is not an array")
    return array


@contextmanager
def _damage_of(path: Path) -> Iterator[None]:
    """Turn what NumPy raises for a spoilt file, which may be anything, into a `DataError`."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{path}: damaged or not a plain array: {error}") from error


# CSV


def _read_csv(path: Path, note: Callable[[str], None] | None) -> np.ndarray:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first_line = _skip_header(path, file, note)
            start = file.tell()
            try:
                return np.loadtxt(file, delimiter=",", quotechar='"', comments=None, ndmin=2)
            except UnicodeDecodeError:
                raise
            except ValueError as error:
                file.seek(start)
                _explain(path, file, first_line)
                raise DataError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: {error}") from error


def _skip_header(path: Path, file: io.TextIOWrapper, note: Callable[[str], None] | None) -> int:
    """Move to the first line of numbers and return its number, counted from 1."""
    number = 1
    start = file.tell()
    line = file.readline()
    while line and not line.strip():
        number += 1
        start = file.tell()
        line = file.readline()
    if not line:
        raise DataError(f"{path}: holds no rows")
    cells = [cell.strip() for cell in _cells(path, number, line)]
    missing = [cell.lower() in MISSING for cell in cells]
    if (
        any(map(_is_number, cells))
        or all(missing)
        or any(m and c for m, c in zip(missing, cells, strict=True))
    ):
        # Numbers from the start; one that is missing or spoilt is reported where it stands.
        file.seek(start)
        return number
    # Words: a header, if anything follows it.
    if "" in cells:
        raise DataError(
            f"{path}: line {number}, column {cells.index('') + 1}: an empty name in the header; "
            "if it is the index of a data frame, write it with to_csv(..., index=False)"
        )
    start = file.tell()
    if not any(line.strip() for line in iter(file.readline, "")):
        raise DataError(f"{path}: holds no numbers, only line {number}: {line.strip()[:60]!r}")
    file.seek(start)
    if note is not None:
        note(f"{path}: line {number} taken as header: {line.strip()[:60]}")
    return number + 1


def _explain(path: Path, file: Iterable[str], first_line: int) -> None:
    """Raise for the first cell that is not a number, or the first row of another length."""
    width = None
    for number, line in enumerate(file, first_line):
        if not line.strip():
            continue
        if line.count('"') % 2:
            raise DataError(f"{path}: line {number}: a quote is opened and not closed")
        cells = _cells(path, number, line)
        width = width or len(cells)
        for column, cell in enumerate(cells, 1):
            if not _is_number(cell):
                what = f"{cell.strip()[:60]!r} is not a number" if cell.strip() else "an empty cell"
                advice = "; separate the columns by commas" if width == 1 else ""
                raise DataError(f"{path}: line {number}, column {column}: {what}{advice}")
        if len(cells) != width:
            raise DataError(
                f"{path}: line {number} has {len(cells)} columns, the lines before it {width}"
            )


def _cells(path: Path, number: int, line: str) -> list[str]:
    try:
        return next(csv.reader([line]))
    except csv.Error as error:
        raise DataError(f"{path}: line {number}: {error}") from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python reads 1_000, data files do not hold it


# Writing


@contextmanager
def atomic_files(paths: Sequence[str | os.PathLike[str]]) -> Iterator[list[BinaryIO]]:
    """Open files for writing that appear under their names only when all are complete.

    The bytes go to temporary names in the same folders, which then take the places of `paths`. If
    the body raises, the temporary files go and `paths` stay as they were.

    Parameters
    ----------
    paths : sequence of path-like
        The files to make or replace; their folders must exist.

    Yields
    ------
    list of binary files
    """
    targets = [Path(path) for path in paths]
    # Not tempfile: its files are readable by their owner alone, whatever the umask says.
    temporaries = [path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp") for path in targets]
    try:
        with ExitStack() as stack:
            yield [
                stack.enter_context(_open_new(temporary, path))
                for temporary, path in zip(temporaries, targets, strict=True)
            ]
        for path in targets:
            if path.is_dir():  # the rename would fail after others were made
                raise IsADirectoryError(f"{path}: a folder stands where this file should be")
        for temporary, path in zip(temporaries, targets, strict=True):
            try:
                os.replace(temporary, path)
            except OSError as error:
                raise OSError(f"{path}: cannot be replaced: {error.strerror}") from error
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def _open_new(temporary: Path, path: Path) -> BinaryIO:
    """Open a new file; an error names the file that the user knows."""
    try:
        return open(temporary, "xb")
    except OSError as error:
        raise OSError(f"{path}: cannot be written: {error.strerror}") from error


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Do what `atomic_files` does, for one file."""
    with atomic_files([path]) as (file,):
        yield file


def write_npy(file: BinaryIO, array: np.ndarray) -> None:
    """Write `array` in the .npy format."""
    np.save(file, array, allow_pickle=False)


def write_csv(file: BinaryIO, header: Sequence[str], columns: Sequence[np.ndarray]) -> None:
    """Write equally long columns under a header line.

    Floats are written with the digits that give the same float when read again.
    """
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    # Python's numbers: their text is the shortest that reads back as the same value.
    writer.writerows(zip(*(column.tolist() for column in columns), strict=True))
    text.flush()
    text.detach()
