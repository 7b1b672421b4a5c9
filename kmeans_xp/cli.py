"""The command line: ``kmeans-xp demo`` and ``kmeans-xp fit``.

What was asked for goes to stdout, everything else to stderr. The exit code is 0, 1 if something
failed (a file that is missing or damaged among it), 2 for wrong usage, 130 if interrupted.
"""

from __future__ import annotations

import importlib
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import numpy as np
import typer

from kmeans_xp.backends.convert import to_numpy
from kmeans_xp.functional import kmeans
from kmeans_xp.io import SUFFIXES, atomic_files, read_array, write_csv, write_npy
from kmeans_xp.result import KMeansResult, fingerprint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["app", "run"]

# The plain look of typer: its boxes need a wide terminal and do not survive a pipe.
app = typer.Typer(
    name="kmeans-xp",
    help="Exact k-means for every array library.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class CommandError(Exception):
    """A failure whose message is all the user needs."""


class Interrupted(Exception):  # noqa: N818
    """Ctrl-C."""


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C pass by typer, which would call it a failure."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted from None


class Library(StrEnum):
    """Array libraries the demo can run on."""

    NUMPY = "numpy"
    CUPY = "cupy"
    TORCH = "torch"
    JAX = "jax"


OutOption = Annotated[
    Path,
    typer.Option(
        help="Folder for the results; made if missing, existing results are replaced.",
        file_okay=False,
    ),
]
SeedOption = Annotated[int, typer.Option(help="Seed of the random start.", min=0)]


def _version(wanted: bool) -> None:
    if wanted:
        from kmeans_xp import __version__

        print(f"kmeans-xp {__version__}")
        raise typer.Exit


def _finite(tol: float) -> float:
    if not math.isfinite(tol):
        raise typer.BadParameter(f"{tol} is not a finite number")
    return tol


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    # With a callback typer keeps the commands' names even if there is only one.
    pass


@app.command()
@_interruptible()
def demo(
    backend: Annotated[Library, typer.Option(help="Array library to run on.")] = Library.NUMPY,
    out: OutOption = Path("kmeans-xp-demo"),
    seed: SeedOption = 0,
) -> None:
    """Cluster scikit-learn's handwritten digits and draw the clusters."""
    _need("matplotlib", "plot")
    _check_out(out)
    points, digits = _digits()
    X = _asarray(points, backend)
    _note(f"clustering {len(points)} digits on {backend}")
    result = _fit(X, 10, random_state=seed)
    figure = _draw(points, result)
    figure.axes[0].set(
        title="Handwritten digits in 10 clusters",
        xlabel="first principal component",
        ylabel="second principal component",
    )
    paths = _save(out, result, figure)
    _print_table(points, result, None, digits)
    _print_summary(result, paths)


@app.command()
@_interruptible()
def fit(
    data: Annotated[Path, typer.Argument(help=f"Rows to cluster: {', '.join(SUFFIXES)}.")],
    n_clusters: Annotated[
        int, typer.Option("--n-clusters", "-k", help="Number of clusters.", min=1)
    ],
    out: OutOption,
    seed: SeedOption = 0,
    init: Annotated[
        str, typer.Option(help="k-means++, random, or a file with the first centroids.")
    ] = "k-means++",
    n_init: Annotated[str, typer.Option(help="auto, or how many starts to try.")] = "auto",
    max_iter: Annotated[int, typer.Option(help="Most iterations of one start.", min=1)] = 300,
    tol: Annotated[
        float, typer.Option(help="When to stop; 0: no change at all.", min=0, callback=_finite)
    ] = 1e-4,
    weights: Annotated[
        Path | None, typer.Option(help=f"Weight of each row: {', '.join(SUFFIXES)}.")
    ] = None,
    progress: Annotated[
        bool | None,
        typer.Option(
            "--progress/--no-progress",
            help="Progress bar on stderr; without either, where stderr is a terminal.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Cluster the rows of a file; write labels, centroids and, in two dimensions, a picture."""
    options = {
        "init": _start(init),
        "n_init": _starts(n_init),
        "max_iter": max_iter,
        "tol": tol,
        "sample_weight": None if weights is None else _weights(weights),
        "progress": _bar(progress),
    }
    X = read_array(data, _note)
    _check_out(out)
    _note(f"clustering {' x '.join(map(str, X.shape))} {X.dtype} values")
    try:
        result = _fit(X, n_clusters, random_state=seed, **options)
    except (TypeError, ValueError) as error:
        raise CommandError(_with_option(str(error), init, weights)) from error
    figure = _draw(X, result) if _can_draw(X) else None
    paths = _save(out, result, figure)
    _print_table(X, result, options["sample_weight"])
    _print_summary(result, paths)


def run(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit; failures become one line on stderr."""
    try:
        app(args, prog_name="kmeans-xp")
    except Interrupted:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (CommandError, ValueError, OSError, MemoryError) as error:
        print(f"error: {_sentence(error)}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _sentence(error: BaseException) -> str:
    """Say what failed without the number of the operating system."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error) or type(error).__name__


def _with_option(message: str, init: str, weights: Path | None) -> str:
    """Name the option and the file behind an argument of `kmeans`."""
    if weights is not None and message.startswith("sample_weight"):
        return f"--weights {weights}: {message}"
    if message.startswith("init") and init not in ("k-means++", "random"):
        return f"--init {init}: {message}"
    return message


# Arguments


def _check_out(out: Path) -> None:
    """Refuse a folder that cannot take the results, before any work."""
    folder = out.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise CommandError(f"--out {out}: {folder} is a file; name another folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CommandError(f"--out {out}: {folder} is not writable; name another folder")
    for name in ("labels.csv", "centroids.npy", "clusters.png"):
        if (out / name).is_dir():
            raise CommandError(f"--out {out}: {name} there is a folder; name another --out")


def _bar(wanted: bool | None) -> bool:
    """Whether to show a progress bar; one that is asked for needs tqdm."""
    if wanted:
        _need("tqdm", "progress")
    if wanted is None:
        return sys.stderr.isatty() and find_spec("tqdm") is not None
    return wanted


def _read(path: str | Path, option: str) -> np.ndarray:
    try:
        return read_array(path, _note)
    except (OSError, ValueError) as error:
        raise CommandError(f"{option} {_sentence(error)}") from error


def _start(init: str) -> Any:
    if init in ("k-means++", "random"):
        return init
    if Path(init).suffix.lower() in SUFFIXES:
        return _read(init, "--init")
    raise typer.BadParameter(
        f"{init!r} is neither k-means++ nor random nor a file ({', '.join(SUFFIXES)})",
        param_hint="'--init'",
    )


def _starts(n_init: str) -> Any:
    if n_init == "auto":
        return n_init
    if n_init.isdecimal() and int(n_init) > 0:
        return int(n_init)
    raise typer.BadParameter(f"{n_init!r} is neither auto nor 1 or more", param_hint="'--n-init'")


def _weights(path: Path) -> np.ndarray:
    array = _read(path, "--weights")
    # A .csv has columns, and one of them is a list of weights.
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _need(module: str, extra: str) -> Any:
    """Import a module that an extra brings."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CommandError(
            f"{module.partition('.')[0]} cannot be imported ({error})\n"
            f'  pip install "kmeans_xp[{extra}]"\n'
            f'or, in a checkout: .venv/bin/python -m pip install -e ".[{extra}]"'
        ) from error


# The digits


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """Digits on their first two principal components, and which digit each one is.

    The coordinates are multiples of 2**-10 that float32 holds exactly, so that every machine and
    library clusters the same numbers.
    """
    data = _need("sklearn.datasets", "sklearn").load_digits()
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
    xp = _need("jax.numpy" if library is Library.JAX else str(library), extras[library])
    if library is Library.CUPY and not xp.cuda.is_available():
        raise CommandError("cupy finds no CUDA device here; try another --backend")
    return xp.asarray(points)


# Work


def _fit(X: Any, n_clusters: int, **options: Any) -> KMeansResult:
    """Call `kmeans` with its warnings as lines on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = kmeans(X, n_clusters, **options)
    for warning in caught:
        _note(f"warning: {warning.message}")
    if not result.converged:
        _note("warning: stopped by the limit on iterations; more of them: --max-iter")
    return result


def _can_draw(X: np.ndarray) -> bool:
    if X.ndim != 2 or X.shape[1] != 2:
        _note("no picture: only data with two features can be drawn so far")
        return False
    try:
        importlib.import_module("matplotlib")
    except ImportError:
        _note('no picture: it needs matplotlib: pip install "kmeans_xp[plot]"')
        return False
    return True


def _draw(points: np.ndarray, result: KMeansResult) -> Figure:
    # Not through pyplot: a command needs no window and no global state.
    from matplotlib.figure import Figure

    from kmeans_xp.plot import ClusterDisplay

    figure = Figure(figsize=(8, 6), layout="constrained")
    ax = figure.subplots()
    ClusterDisplay.from_predictions(points, result.labels, result.centroids, ax=ax)
    return figure


def _save(out: Path, result: KMeansResult, figure: Figure | None) -> list[Path]:
    """Write all files or none."""
    out.mkdir(parents=True, exist_ok=True)
    paths = [out / "labels.csv", out / "centroids.npy"]
    picture = out / "clusters.png"
    if figure is not None:
        paths.append(picture)
    with atomic_files(paths) as files:
        write_csv(files[0], ["label"], [to_numpy(result.labels)])
        write_npy(files[1], to_numpy(result.centroids))
        if figure is not None:
            figure.savefig(files[2], format="png", dpi=120)
    if figure is None and picture.exists():
        # It would show other clusters than the files beside it.
        picture.unlink()
        _note(f"removed {picture} of an earlier run")
    return paths


# What the user sees


def _print_table(
    X: np.ndarray,
    result: KMeansResult,
    weights: np.ndarray | None,
    classes: np.ndarray | None = None,
) -> None:
    labels, centroids = to_numpy(result.labels), to_numpy(result.centroids)
    k = len(centroids)
    sizes = np.bincount(labels, minlength=k)
    spread = _spread(X, labels, centroids, weights)
    header = ["cluster", "size", "share of inertia"]
    rows = [[str(i), f"{sizes[i]}", _percent(spread[i], spread.sum())] for i in range(k)]
    rows.append(["all", f"{sizes.sum()}", _percent(spread.sum(), spread.sum())])
    if classes is not None:
        header += ["most frequent digit", "purity"]
        counts = np.zeros((k, int(classes.max()) + 1), dtype=int)
        np.add.at(counts, (labels, classes), 1)
        for i in range(k):
            digit = str(counts[i].argmax()) if sizes[i] else "-"
            rows[i] += [digit, _percent(counts[i].max(), sizes[i])]
        rows[k] += ["", _percent(counts.max(axis=1).sum(), sizes.sum())]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def _print_summary(result: KMeansResult, paths: Sequence[Path]) -> None:
    print()
    print(f"inertia     {result.inertia!r}")
    print(f"iterations  {result.n_iter}")
    print(f"hash        {fingerprint(result)}")
    for path in paths:
        print(f"wrote       {path}")


def _spread(
    X: np.ndarray, labels: np.ndarray, centroids: np.ndarray, weights: np.ndarray | None
) -> np.ndarray:
    """Inertia of each cluster over a common factor, in plain float64: shown, never used."""
    unit = max(abs(float(a)) for a in (X.max(), X.min(), centroids.max(), centroids.min())) or 1.0
    spread = np.zeros(len(centroids))
    step = max(1, 2**20 // X.shape[1])
    for lo in range(0, len(X), step):
        k = labels[lo : lo + step]
        gap = X[lo : lo + step] / unit - centroids[k] / unit
        part = np.square(gap, dtype=np.float64).sum(axis=1)
        if weights is not None:
            part *= weights[lo : lo + step]
        spread += np.bincount(k, part, minlength=len(centroids))
    return spread


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole > 0 else "-"


def _note(text: str) -> None:
    print(text, file=sys.stderr)
