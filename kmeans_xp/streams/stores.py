"""Arrays in HDF5 and Zarr stores, open only while they are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from kmeans_xp.streams.base import needed, only_array

__all__ = ["open_hdf5", "open_zarr", "store_of"]

Reopen = Callable[[], AbstractContextManager[Any]]


def open_hdf5(path: Path, name: str | None) -> Reopen:
    """Return what opens a dataset of an HDF5 file, and closes the file."""
    h5py = needed("h5py", path)

    @contextmanager
    def reopen() -> Iterator[Any]:
        with h5py.File(path, "r") as file:
            yield _only(path, file, name)

    return reopen


def open_zarr(path: Path, name: str | None) -> Reopen:
    """Return what opens an array of a Zarr store."""
    zarr = needed("zarr", path)

    @contextmanager
    def reopen() -> Iterator[Any]:
        yield _only(path, zarr.open(str(path), mode="r"), name)

    return reopen


def _only(path: Path, store: Any, name: str | None) -> Any:
    if hasattr(store, "dtype"):
        return store
    return store[only_array(path, [key for key in store if hasattr(store[key], "dtype")], name)]


def store_of(array: Any) -> Path | None:
    """File or folder of an opened HDF5 dataset or Zarr array that is only read."""
    library = type(array).__module__.partition(".")[0]
    if library == "h5py" and array.file.mode == "r":
        return Path(array.file.filename)
    root = getattr(getattr(array, "store", None), "root", None)
    return root if library == "zarr" and array.read_only and isinstance(root, Path) else None
