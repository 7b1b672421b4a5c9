"""Files: reading a matrix, writing results without leaving half a file.

What cannot be read raises `DataError`, whose message names the file and, in text, the line and the
column.
"""

from kmeans_xp.io.base import ColumnError, DataError, Table, column_indices
from kmeans_xp.io.read import SUFFIXES, read_array, read_table
from kmeans_xp.io.write import atomic_files, atomic_write, write_csv, write_npy

__all__ = [
    "SUFFIXES",
    "ColumnError",
    "DataError",
    "Table",
    "atomic_files",
    "atomic_write",
    "column_indices",
    "read_array",
    "read_table",
    "write_csv",
    "write_npy",
]
