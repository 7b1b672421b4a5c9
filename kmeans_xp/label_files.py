"""Labels that go to a file: kept there during the fit, under their name only when it has ended."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from kmeans_xp.backends.convert import to_numpy
from kmeans_xp.io import atomic_write

__all__ = ["LabelSink", "check_labels_out"]

_LABEL = np.dtype(np.int32)
# Labels written together.
_CHUNK = 1 << 22


def check_labels_out(value: Any, n_rows: int) -> Path | np.ndarray | None:
    """Return where labels are to go: a path, an array, or None for memory.

    Raises
    ------
    TypeError, ValueError
        For an array that cannot hold them, and a path that is not of a .npy file.
    """
    if value is None:
        return None
    if isinstance(value, np.ndarray):
        if value.dtype != _LABEL or value.shape != (n_rows,):
            raise ValueError(
                f"labels_out must be int32 of shape ({n_rows},), one label a row of X, got "
                f"{value.dtype} of shape {value.shape}"
            )
        if not value.flags.writeable:
            raise ValueError("labels_out must be an array that can be written to; it is read-only")
        return value
    if not isinstance(value, str | os.PathLike):
        raise TypeError(
            f"labels_out must be the path of a .npy file or a NumPy array, got {value!r:.60}"
        )
    path = Path(value)
    if path.suffix != ".npy":
        raise ValueError(f"labels_out must be the path of a .npy file, got {path}")
    if path.is_dir():
        raise IsADirectoryError(f"labels_out: {path} is a folder; name a file")
    return path


class LabelSink:
    """Takes the labels of a fit, all or none of them.

    Parameters
    ----------
    target : Path, ndarray or None
        What `check_labels_out` gave.
    n_rows : int

    Attributes
    ----------
    store : ndarray of int32, shape (n_rows,), or None
        Where a fit may keep its labels: a map of the file, whose room on the disk is reserved.
    """

    def __init__(self, target: Path | np.ndarray | None, n_rows: int) -> None:
        self._target, self.n_rows = target, n_rows
        self.store: np.ndarray | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        if not isinstance(self._target, Path):
            return self
        with ExitStack() as opening:
            try:
                self._file = opening.enter_context(atomic_write(self._target))
                self._reserve(self._file)
            except OSError as error:
                raise self._named(error) from error
            self._stack = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _named(self, error: OSError) -> OSError:
        reason = error.strerror or str(error)
        room = f"{self.n_rows * _LABEL.itemsize} bytes of labels"
        message = f"labels_out: {self._target} cannot take {room}: {reason}"
        return OSError(message) if error.errno is None else type(error)(error.errno, message)

    def _reserve(self, file: BinaryIO) -> None:
        """Take the room: what is mapped and has none would end the process when it is written."""
        header = {"descr": _LABEL.str, "fortran_order": False, "shape": (self.n_rows,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        start = file.tell()
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), start, self.n_rows * _LABEL.itemsize)
            kept = np.memmap(file.name, _LABEL, "r+", start, (self.n_rows,))
            self.store = np.asarray(kept)

    def keep(self, labels: Any) -> None:
        """Take the labels of the fit."""
        if self._target is None:
            return
        host = to_numpy(labels)
        if isinstance(self._target, np.ndarray):
            self._target[:] = host
        elif self.store is not None:
            if not np.shares_memory(self.store, host):
                self.store[:] = host
        else:
            self._write(host)

    def _write(self, labels: np.ndarray) -> None:
        assert self._file is not None
        try:
            for lo in range(0, len(labels), _CHUNK):
                left = np.ascontiguousarray(labels[lo : lo + _CHUNK], _LABEL).view(np.uint8).data
                while left:  # past the buffer, which would fail once more when it is closed
                    left = left[os.write(self._file.fileno(), left) :]
        except OSError as error:
            raise self._named(error) from error

    def result(self, labels: Any) -> Any:
        """Return the labels of the result, once the file has its name: read-only."""
        if self._target is None:
            return labels
        if isinstance(self._target, np.ndarray):
            view = self._target.view()
            view.flags.writeable = False
            return view
        return np.load(self._target, mmap_mode="r")
