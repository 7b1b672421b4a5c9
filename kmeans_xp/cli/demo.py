"""``kmeans-xp demo``: handwritten digits on two principal components."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from kmeans_xp.cli import options as opt
from kmeans_xp.cli.app import CommandError, app, guarded, need, note
from kmeans_xp.cli.report import print_fit
from kmeans_xp.cli.results import OutOption, check_out, draw, save
from kmeans_xp.cli.rows import cluster

__all__ = ["demo"]


class Library(StrEnum):
    """Array libraries the demo can run on."""

    NUMPY = "numpy"
    CUPY = "cupy"
    TORCH = "torch"
    JAX = "jax"


@app.command()
@guarded()
def demo(
    backend: Annotated[Library, typer.Option(help="Array library to run on.")] = Library.NUMPY,
    out: OutOption = Path("kmeans-xp-demo"),
    seed: opt.SeedOption = 0,
    form: opt.FormatOption = opt.Format.TABLE,
) -> None:
    """Cluster scikit-learn's handwritten digits and draw the clusters."""
    need("matplotlib", "plot")
    check_out(out)
    points, digits = _digits()
    X = _asarray(points, backend)
    note(f"clustering {len(points)} digits on {backend}")
    result = cluster(X, 10, random_state=seed)
    figure = draw(points, result)
    assert figure is not None
    figure.axes[0].set(
        title="Handwritten digits in 10 clusters",
        xlabel="first principal component",
        ylabel="second principal component",
    )
    print_fit(points, result, save(out, result, figure), form, classes=digits)


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Digits on their first two principal components, and which digit each one is.

    The coordinates are multiples of 2**-10 that float32 holds exactly, so that every machine and
    library clusters the same numbers.
    """
    data = need("sklearn.datasets", "sklearn").load_digits()
    pixels = data.data.astype(np.float64)  # integers from 0 to 16
    # n² times the covariance: integers, hence the same on every machine.
    total = pixels.sum(axis=0)
    scatter = len(pixels) * (pixels.T @ pixels) - np.outer(total, total)
    axes = np.linalg.eigh(scatter)[1][:, :-3:-1]
    # An eigenvector's sign is arbitrary: its largest entry shall be positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    projected = (pixels - total / len(pixels)) @ axes
    return (np.rint(projected * 1024) / 1024).astype(np.float32), data.target


def _asarray(points: np.ndarray, library: Library) -> Any:
    extras = {Library.CUPY: "cuda13", Library.TORCH: "torch", Library.JAX: "jax"}
    if library is Library.NUMPY:
        return points
    xp = need("jax.numpy" if library is Library.JAX else str(library), extras[library])
    if library is Library.CUPY and not xp.cuda.is_available():
        raise CommandError("cupy finds no CUDA device here; try another --backend")
    return xp.asarray(points)
