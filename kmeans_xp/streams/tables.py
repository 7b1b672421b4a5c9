"""Parquet and Arrow files, a row group or record batch a block."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from kmeans_xp.streams.base import checked_dtype, needed, stamp

__all__ = ["Tables"]


class Tables:
    """Row groups of a Parquet file or record batches of an Arrow file."""

    sequential = False

    def __init__(self, path: Path, columns: Any) -> None:
        self._path, self._stamp = path, stamp(path)
        self._parquet = path.suffix.lower() == ".parquet"
        needed("pyarrow.parquet" if self._parquet else "pyarrow.ipc", path)
        with self._file() as file:
            names = list((file.schema_arrow if self._parquet else file.schema).names)
            self._names = names if columns is None else [_named(path, c, names) for c in columns]
            if self._parquet:
                sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            else:
                sizes = [file.get_batch(i).num_rows for i in range(file.num_record_batches)]
            self._groups = [i for i, size in enumerate(sizes) if size]
            ends = np.cumsum([size for size in sizes if size]).tolist()
            if not ends:
                raise ValueError(f"{path}: holds no rows")
            self.bounds = list(zip([0, *ends[:-1]], ends, strict=True))
            first = self._block(file, self._groups[0], None)
        self.dtype, self.n_features = first.dtype, first.shape[1]
        # None of one column of vectors
        self.names = list(self._names) if len(self._names) == self.n_features else None

    def _file(self) -> Any:
        if self._parquet:
            return import_module("pyarrow.parquet").ParquetFile(self._path)
        return import_module("pyarrow.ipc").open_file(str(self._path))

    def _block(self, file: Any, group: int, dtype: np.dtype[Any] | None) -> np.ndarray:
        if self._parquet:
            table = file.read_row_group(group, columns=self._names)
        else:
            table = file.get_batch(group).select(self._names)
        parts = []
        for name in self._names:
            column = table.column(name)
            if column.null_count:
                raise ValueError(f"{self._path}: column {name!r} has rows without a value")
            parts.append(
                column.to_numpy(zero_copy_only=False) if not self._parquet else column.to_numpy()
            )
        wide = np.result_type(*parts) if dtype is None else dtype
        return np.stack([part.astype(checked_dtype(wide), copy=False) for part in parts], axis=1)

    def check(self) -> None:
        """The file is the one that was opened."""
        if stamp(self._path) != self._stamp:
            raise ValueError(f"X changed while it was read: {self._path} was written to")

    def pick(self, indices: np.ndarray) -> np.ndarray | None:
        """A group is the least that can be read."""
        return None

    def each(self, wanted: Sequence[int]) -> Generator[np.ndarray, None, None]:
        """Read row groups."""
        with self._file() as file:
            for i in wanted:
                yield self._block(file, self._groups[i], self.dtype)


def _named(path: Path, column: Any, names: list[str]) -> str:
    if isinstance(column, int | np.integer) and 0 <= column < len(names):
        return names[int(column)]
    if column not in names:
        raise ValueError(f"{path}: has no column {column!r}; it has {', '.join(names[:10])}")
    return str(column)
