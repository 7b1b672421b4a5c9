"""What the displays share: colours, axes, and the way to the host."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import is_array_api_obj

from kmeans_xp.backends.convert import is_sparse, take_rows, to_numpy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "MARKERS",
    "PALETTE",
    "as_floats",
    "axes_for",
    "check_estimator",
    "check_labels",
    "host",
    "host_rows",
    "line_look",
    "look",
    "matplotlib",
    "number_axis",
    "numbers",
    "sampled",
]

# Ten colours that stay apart under the common kinds of colour blindness (M. A. Petroff, 2021,
# arXiv:2107.02270). Further clusters take them again with another marker or line.
PALETTE = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))


def look(k: int) -> tuple[str, str]:
    """Colour and marker of cluster k."""
    return PALETTE[k % len(PALETTE)], MARKERS[k // len(PALETTE) % len(MARKERS)]


def line_look(k: int) -> tuple[str, Any]:
    """Colour and line style of cluster k."""
    return PALETTE[k % len(PALETTE)], LINES[k // len(PALETTE) % len(LINES)]


def host(x: Any) -> np.ndarray:
    """Bring an array of any library, a list or a data frame to NumPy."""
    return to_numpy(x) if is_array_api_obj(x) else np.asarray(x)


def sampled(n_rows: int, most: int | None, name: str) -> np.ndarray | None:
    """Choose at most `most` rows, increasing and the same each time; None stands for all."""
    if most is not None and (not isinstance(most, int | np.integer) or most < 1):
        raise ValueError(f"{name} must be None or an integer >= 1, got {most!r}")
    if most is None or n_rows <= most:
        return None
    return np.sort(np.random.default_rng(0).choice(n_rows, most, replace=False))


def host_rows(x: Any, rows: np.ndarray | None) -> np.ndarray:
    """Bring some rows to the host; on a device only those are copied."""
    if is_sparse(x):
        raise TypeError("X is a sparse matrix, and pictures take dense arrays; pass X.toarray()")
    if rows is None:
        return host(x)
    if is_array_api_obj(x) and not isinstance(x, np.ndarray):
        return to_numpy(take_rows(x, rows))
    return np.asarray(x)[rows]


def as_floats(values: Any, name: str) -> np.ndarray:
    """Return a float64 copy.

    Raises
    ------
    TypeError
        If it is not numbers.
    """
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must hold numbers: {error}") from None


def numbers(values: Any, name: str, rows: np.ndarray | None = None) -> np.ndarray:
    """Return what is drawn as float64; `rows` says which rows of `name` it is.

    Raises
    ------
    TypeError, ValueError
        If it is not numbers, or one of them has no place in a picture.
    """
    found = as_floats(values, name)
    bad = np.argwhere(~np.isfinite(found))
    if len(bad):
        first, *rest = bad[0].tolist()
        place = ", ".join(map(str, [first if rows is None else int(rows[first]), *rest]))
        raise ValueError(
            f"{name} must hold finite numbers, not NaN or infinity; {name}[{place}] is "
            f"{found[tuple(bad[0])]}"
        )
    return found


def check_estimator(estimator: Any, attribute: str) -> None:
    """Refuse what has no such attribute, as an estimator has.

    Raises
    ------
    TypeError
        Saying where a result goes, if it is one.
    """
    if hasattr(estimator, attribute):
        return
    given = type(estimator).__name__
    hint = ""
    if hasattr(estimator, "centroids"):
        hint = "; a result goes to from_predictions, as its labels and centroids"
    elif hasattr(estimator, "fit"):
        hint = f"; call {given}.fit(X) first"
    raise TypeError(f"estimator must be fitted, with {attribute}, got {given}{hint}")


def check_labels(labels: Any, n_rows: int, n_clusters: int | None) -> np.ndarray:
    """Return the labels of n_rows rows as int64.

    Raises
    ------
    TypeError, ValueError
        If they are not that, or one has no centroid.
    """
    found = host(labels)
    if found.shape != (n_rows,):
        raise ValueError(
            f"labels must have one entry for each of the {n_rows} rows of X, "
            f"got shape {found.shape}"
        )
    if found.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers, got {found.dtype}")
    if n_clusters is not None and len(found):
        low, high = int(found.min()), int(found.max())
        if low < 0 or high >= n_clusters:
            raise ValueError(
                f"labels must lie in 0..{n_clusters - 1}, one for each centroid, "
                f"got {low if low < 0 else high}"
            )
    return found.astype(np.int64)


def axes_for(ax: Any, n_panels: int = 1, size: tuple[float, float] = (8, 6)) -> list[Axes]:
    """Return the axes to draw on: given ones, or those of a new figure, one below the other.

    Raises
    ------
    TypeError, ValueError
        If `ax` is not None, Axes or `n_panels` of them.
    """
    if ax is None:
        _, made = matplotlib("pyplot").subplots(
            n_panels, figsize=size, sharex=True, squeeze=False, layout="constrained"
        )
        return list(made[:, 0])
    given = list(np.ravel(ax)) if isinstance(ax, Sequence | np.ndarray) else [ax]
    wrong = [one for one in given if not hasattr(one, "scatter")]
    if wrong:
        raise TypeError(f"ax must be matplotlib Axes or None, got {wrong[0]!r}")
    if len(given) != n_panels:
        raise ValueError(f"ax must be {n_panels} Axes, one for each panel, got {len(given)}")
    return given


def number_axis(ax: Axes) -> None:
    """Mark whole numbers only along x."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def matplotlib(module: str) -> Any:
    """Import a module of matplotlib, or say how to install it."""
    try:
        return import_module(f"matplotlib.{module}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "matplotlib":
            raise
        raise ModuleNotFoundError(
            'drawing needs matplotlib: pip install "kmeans_xp[plot]"', name=error.name
        ) from error
