"""What the readers share: the table they return, the error, and how columns are named."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

__all__ = ["ColumnError", "DataError", "Table", "column_indices", "damage_of", "only_one"]


class DataError(ValueError):
    """A file does not hold what it should."""


class ColumnError(DataError):
    """A column holds something else than numbers, and others may be read."""

    def __init__(self, message: str) -> None:
        super().__init__(f"{message}; name the columns to read")


@dataclass(frozen=True)
class Table:
    """Numbers of a file.

    Attributes
    ----------
    values : ndarray
        Mostly of two dimensions; read-only where it is memory-mapped.
    names : list of str or None
        Of the columns, where the file has them.
    """

    values: np.ndarray
    names: list[str] | None = None


@contextmanager
def damage_of(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what a library raises for a spoilt file, which may be anything, into a `DataError`."""
    try:
        yield
    except (DataError, ModuleNotFoundError):
        raise
    except MemoryError:
        raise DataError(f"{path}: needs more memory than there is, or is damaged") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path}: damaged or not a plain array: {reason}") from error


def only_one(path: str | os.PathLike[str], names: Sequence[str], wanted: str | None) -> str:
    """Choose the array called `wanted`, else X, else the only one.

    Raises
    ------
    DataError
        If there is none, or no such one.
    """
    listed = ", ".join(sorted(names)[:10])
    if not names:
        raise DataError(f"{path}: holds no array")
    if wanted is not None:
        if wanted not in names:
            raise DataError(f"{path}: holds no array {wanted!r}; it holds {listed}")
        return wanted
    if "X" in names:
        return "X"
    if len(names) > 1:
        raise DataError(
            f"{path}: holds {listed}; name one of them X, or say with array which to read"
        )
    return names[0]


def column_indices(
    path: str | os.PathLike[str],
    wanted: Sequence[str] | None,
    names: Sequence[str] | None,
    width: int,
) -> list[int] | None:
    """Find columns by name, by number from 0, or by a range of numbers as "2:5".

    Raises
    ------
    DataError
        If one is not there.
    """
    if wanted is None:
        return None
    found: list[int] = []
    for text in wanted:
        first, colon, last = text.partition(":")
        if names is not None and text in names:
            found.append(list(names).index(text))
        elif colon and first.isdecimal() and last.isdecimal() and int(first) < int(last) <= width:
            found += range(int(first), int(last))
        elif text.isdecimal() and int(text) < width:
            found.append(int(text))
        else:
            known = f", called {', '.join(names[:10])}" if names else ""
            raise DataError(
                f"{path}: no column {text!r}; there are {width}, numbered from 0{known}"
            )
    if not found:
        raise DataError(f"{path}: no column is asked for")
    return found
