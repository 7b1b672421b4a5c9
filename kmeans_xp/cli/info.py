"""``kmeans-xp info``: what is installed and what would run."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from kmeans_xp.backends.installation import installation
from kmeans_xp.cli import options as opt
from kmeans_xp.cli.app import app, guarded
from kmeans_xp.cli.report import print_json

__all__ = ["info"]

PACKAGES = {
    "numpy": None,
    "array-api-compat": None,
    "numba": "cpu",
    "threadpoolctl": "cpu",
    "scikit-learn": "sklearn",
    "torch": "torch",
    "jax": "jax",
    "cupy-cuda12x": "cuda12",
    "cupy-cuda13x": "cuda13",
    "matplotlib": "plot",
    "typer": "cli",
    "tqdm": "progress",
    "safetensors": "io",
    "pyarrow": "io",
    "h5py": "io",
    "zarr": "io",
    "onnx": "onnx",
}


@app.command()
@guarded()
def info(form: opt.FormatOption = opt.Format.TABLE) -> None:
    """Print versions, devices, kernels and threads: what to put in a bug report."""
    from kmeans_xp import __version__

    found: dict[str, Any] = {
        "kmeans_xp": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **installation(),
        "settings": {
            name: value for name, value in os.environ.items() if name.startswith("KMEANS_XP_")
        },
        "packages": {name: _version(name) for name in PACKAGES},
    }
    if form is opt.Format.JSON:
        print_json(found)
        return
    for name, value in found.items():
        if not isinstance(value, dict):
            print(f"{name if name == 'kmeans_xp' else name.replace('_', ' '):<16} {value}")
    for name, value in found["settings"].items():
        print(f"{name} = {value}")
    print()
    for name, value in found["packages"].items():
        extra = PACKAGES[name]
        missing = f'missing: pip install "kmeans_xp[{extra}]"' if extra else "missing"
        print(f"{name:<16} {value or missing}")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
