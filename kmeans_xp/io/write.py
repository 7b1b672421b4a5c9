"""Writing files that appear under their names only when complete."""

from __future__ import annotations

import csv
import io
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

__all__ = ["atomic_files", "atomic_write", "write_csv", "write_npy"]


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
