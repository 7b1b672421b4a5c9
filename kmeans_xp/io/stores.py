"""Arrays in HDF5 and Zarr stores, and pixels of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from kmeans_xp.io.base import DataError, damage_of, only_one
from kmeans_xp.streams.base import needed

__all__ = ["read_hdf5", "read_image", "read_zarr"]


def read_hdf5(path: Path, array: str | None) -> np.ndarray:
    """Read a dataset of an HDF5 file, at any depth."""
    h5py = needed("h5py", path, "io")
    with open(path, "rb"):
        if not h5py.is_hdf5(path):
            raise DataError(f"{path}: not an HDF5 file")
    with damage_of(path), h5py.File(path, "r") as file:
        names: list[str] = []

        def note(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset):
                names.append(name)

        file.visititems(note)
        dataset = file[only_one(path, names, array)]
        _check_kind(path, dataset.dtype)
        return np.asarray(dataset[()])


def read_zarr(path: Path, array: str | None) -> np.ndarray:
    """Read a Zarr array, or one of a group."""
    zarr = needed("zarr", path, "io")
    with damage_of(path):
        store = zarr.open(str(path), mode="r")
        if not hasattr(store, "dtype"):
            names = [name for name, _ in store.arrays()]
            store = store[only_one(path, names, array)]
        _check_kind(path, store.dtype)
        return np.asarray(store[...])


def _check_kind(path: Path, dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "biuf":
        raise DataError(f"{path}: holds {dtype}, not real numbers")


def read_image(path: Path) -> np.ndarray:
    """Read the colours of a picture; what is transparent has the colour that it hides.

    Returns
    -------
    ndarray of uint8, shape (height, width, 1 or 3)
    """
    pillow = needed("PIL.Image", path, "plot")
    with open(path, "rb") as file, damage_of(path), pillow.open(file) as image:
        if image.format not in ("PNG", "JPEG"):
            raise DataError(f"{path}: a picture of type {image.format}; give PNG or JPEG")
        grey = image.mode in ("1", "L", "LA")
        pixels = np.asarray(image.convert("L" if grey else "RGB"))
    return pixels[:, :, None] if grey else pixels
