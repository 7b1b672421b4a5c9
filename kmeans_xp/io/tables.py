"""Columns in Parquet and Arrow files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmeans_xp.io.base import ColumnError, DataError, Table, column_indices, damage_of
from kmeans_xp.streams.base import needed

__all__ = ["read_arrow", "read_parquet"]


def read_parquet(path: Path, columns: Sequence[str] | None) -> Table:
    """Read columns, or one column of vectors, from a Parquet file."""
    parquet = needed("pyarrow.parquet", path, "io")
    path.open("rb").close()  # what the system refuses is no damage
    with damage_of(path), parquet.ParquetFile(path, memory_map=True) as file:
        names = file.schema_arrow.names
        chosen = _names(path, columns, names)
        return _matrix(path, file.read(columns=chosen), chosen)


def read_arrow(path: Path, columns: Sequence[str] | None) -> Table:
    """Read the same from an Arrow file, a stream or a Feather file."""
    arrow = needed("pyarrow", path, "io")
    needed("pyarrow.ipc", path, "io")
    with open(path, "rb"), damage_of(path), arrow.memory_map(str(path)) as source:
        try:
            reader = arrow.ipc.open_file(source)
        except arrow.ArrowInvalid:
            source.seek(0)
            reader = arrow.ipc.open_stream(source)
        chosen = _names(path, columns, reader.schema.names)
        table = reader.read_all()
        table.validate(full=True)  # a spoilt file may point anywhere
        return _matrix(path, table.select(chosen), chosen)


def _names(path: Path, columns: Sequence[str] | None, names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise DataError(f"{path}: two columns have the same name")
    indices = column_indices(path, columns, names, len(names))
    return names if indices is None else [names[i] for i in indices]


def _matrix(path: Path, table: Any, names: list[str]) -> Table:
    """Put the columns side by side in their common type."""
    if not names:
        raise DataError(f"{path}: has no columns")
    if len(names) == 1 and "list" in str(table.column(0).type):
        return Table(_vectors(path, names[0], table.column(0)))
    parts = [_values(path, name, table.column(name)) for name in names]
    dtype = np.result_type(*parts)
    values = np.empty((table.num_rows, len(parts)), dtype)
    for j, part in enumerate(parts):
        values[:, j] = part
    return Table(values, names)


def _values(path: Path, name: str, column: Any) -> np.ndarray:
    """Return a column of numbers."""
    kind = str(column.type)
    if not kind.startswith(("int", "uint", "half", "float", "double", "bool")):
        raise ColumnError(f"{path}: column {name!r} holds {kind}, not real numbers")
    if column.null_count:
        row = column.is_null().index(True).as_py()
        raise DataError(f"{path}: column {name!r} has no value in row {row}, counted from 0")
    return np.asarray(column.to_numpy())


def _vectors(path: Path, name: str, column: Any) -> np.ndarray:
    """Return the rows of a column of lists, which must be of one length."""
    if column.null_count:
        raise DataError(f"{path}: column {name!r} has rows without a list")
    lists = column.combine_chunks()
    lists = lists.chunk(0) if hasattr(lists, "num_chunks") and lists.num_chunks else lists
    lengths = np.unique(lists.value_lengths().to_numpy(zero_copy_only=False))
    if len(lengths) != 1:
        raise DataError(f"{path}: column {name!r} has lists of lengths {lengths[:5].tolist()}")
    return _values(path, name, lists.flatten()).reshape(-1, int(lengths[0]))
