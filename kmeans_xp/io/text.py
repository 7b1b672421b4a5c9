"""Numbers in text: comma- or tab-separated."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from kmeans_xp.io.base import ColumnError, DataError, Table, column_indices

__all__ = ["read_text"]

MISSING = ("", "na", "n/a", "nan", "null", "none", "?", "-")


def read_text(
    path: Path | None,
    delimiter: str,
    columns: Sequence[str] | None,
    note: Callable[[str], None] | None,
) -> Table:
    """Read a file, or standard input where `path` is None."""
    name = Path("standard input") if path is None else path
    try:
        if path is None:
            return _read(
                name,
                io.StringIO(sys.stdin.buffer.read().decode("utf-8-sig")),
                delimiter,
                columns,
                note,
            )
        with open(path, encoding="utf-8-sig", newline="") as file:
            return _read(name, file, delimiter, columns, note)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not UTF-8 text: {error}") from error


def _read(
    path: Path,
    file: TextIO,
    delimiter: str,
    columns: Sequence[str] | None,
    note: Callable[[str], None] | None,
) -> Table:
    first_line, names = _skip_header(path, file, delimiter, note)
    start = file.tell()
    width = len(_cells(path, first_line, _first_full(file), delimiter))
    file.seek(start)
    chosen = column_indices(path, columns, names, width)
    try:
        values = np.loadtxt(
            file, delimiter=delimiter, quotechar='"', comments=None, ndmin=2, usecols=chosen
        )
    except UnicodeDecodeError:
        raise
    except ValueError as error:
        file.seek(start)
        _explain(path, file, first_line, delimiter, chosen)
        raise DataError(f"{path}: {error}") from error
    if names is not None and chosen is not None:
        names = [names[i] for i in chosen]
    return Table(values, names)


def _first_full(file: TextIO) -> str:
    return next(line for line in iter(file.readline, "") if line.strip())


def _skip_header(
    path: Path, file: TextIO, delimiter: str, note: Callable[[str], None] | None
) -> tuple[int, list[str] | None]:
    """Move to the first line of numbers; return its number, counted from 1, and the names above."""
    number = 1
    start = file.tell()
    line = file.readline()
    while line and not line.strip():
        number += 1
        start = file.tell()
        line = file.readline()
    if not line:
        raise DataError(f"{path}: holds no rows")
    cells = [cell.strip() for cell in _cells(path, number, line, delimiter)]
    missing = [cell.lower() in MISSING for cell in cells]
    if (
        any(map(_is_number, cells))
        or all(missing)
        or any(m and c for m, c in zip(missing, cells, strict=True))
    ):
        # Numbers from the start; one that is missing or spoilt is reported where it stands.
        file.seek(start)
        return number, None
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
    return number + 1, cells


def _explain(
    path: Path, file: Iterable[str], first_line: int, delimiter: str, chosen: list[int] | None
) -> None:
    """Raise for the first cell that is not a number, or the first row of another length."""
    width = None
    separator = "tabs" if delimiter == "\t" else "commas"
    lines = iter(file)
    for number, line in enumerate(lines, first_line):
        if not line.strip():
            continue
        if line.count('"') % 2:
            raise DataError(f"{path}: line {number}: a quote is opened and not closed")
        cells = _cells(path, number, line, delimiter)
        width = width or len(cells)
        for column, cell in enumerate(cells, 1):
            if not _is_number(cell) and (chosen is None or column - 1 in chosen):
                what = f"{cell.strip()[:60]!r} is not a number" if cell.strip() else "an empty cell"
                advice = f"; separate the columns by {separator}" if width == 1 else ""
                text = number == first_line and width > 1
                text = text and _is_word(cell, (_cell(row, delimiter, column) for row in lines))
                kind = ColumnError if text else DataError  # a column of words, or a spoilt cell
                raise kind(f"{path}: line {number}, column {column}: {what}{advice}")
        if len(cells) != width:
            raise DataError(
                f"{path}: line {number} has {len(cells)} column{'s' * (len(cells) != 1)}, "
                f"the lines before it {width}"
            )


def _is_word(cell: str, below: Iterable[str]) -> bool:
    """Whether a cell is a word, or a missing one above a word."""
    below = iter(below)
    while cell.strip().lower() in MISSING:
        following = next(below, None)
        if following is None:
            return False
        cell = following
    return not _is_number(cell)


def _cell(line: str, delimiter: str, column: int) -> str:
    """A cell of a line that may be spoilt, by its number from 1."""
    try:
        cells = next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:
        return ""
    return cells[column - 1] if column <= len(cells) else ""


def _cells(path: Path, number: int, line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter))
    except csv.Error as error:
        raise DataError(f"{path}: line {number}: {error}") from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python reads 1_000, data files do not hold it
