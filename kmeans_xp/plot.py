"""Pictures of a clustering, in the manner of scikit-learn's Display classes.

matplotlib is imported when something is drawn. It draws NumPy arrays only, so arrays of any library
and device are copied to the host here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from array_api_compat import is_array_api_obj

from kmeans_xp.backends.convert import to_numpy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ClusterDisplay"]

# Ten colours that stay apart under the common kinds of colour blindness (M. A. Petroff, 2021,
# arXiv:2107.02270). Further clusters take them again with another marker.
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
LEGEND_ROWS = 20
MOST_NAMED = 30  # clusters with a number and a line in the legend; more are a wall of text


class ClusterDisplay:
    """Scatter of clustered points in two dimensions, with their centroids.

    Make one with `from_predictions` or `from_estimator`.

    Parameters
    ----------
    X : ndarray of shape (n_samples, 2)
        The points.
    labels : ndarray of shape (n_samples,)
        The cluster of each.
    centroids : ndarray of shape (n_clusters, 2), optional
        Drawn as crosses that carry the number of their cluster.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where the clusters are drawn; known after `plot`.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    scatters_ : list of matplotlib PathCollection
        The points of each cluster that has any.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp import kmeans
    >>> from kmeans_xp.plot import ClusterDisplay
    >>> X = np.asarray([[0.0, 0.0], [0.0, 1.0], [5.0, 5.0], [5.0, 6.0]])
    >>> result = kmeans(X, 2, random_state=0)
    >>> display = ClusterDisplay.from_predictions(X, result.labels, result.centroids)
    >>> len(display.scatters_)
    2
    """

    ax_: Axes
    figure_: Figure
    scatters_: list[Any]

    def __init__(
        self, X: np.ndarray, labels: np.ndarray, centroids: np.ndarray | None = None
    ) -> None:
        self.X = X
        self.labels = labels
        self.centroids = centroids

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        labels: Any,
        centroids: Any = None,
        *,
        ax: Axes | None = None,
        legend: bool = True,
        **kwargs: Any,
    ) -> ClusterDisplay:
        """Draw points by their labels.

        Parameters
        ----------
        X : array of shape (n_samples, 2)
            Of any array library and device.
        labels : array of int of shape (n_samples,)
            The cluster of each row.
        centroids : array of shape (n_clusters, 2), optional
            The centre of each cluster.
        ax : matplotlib Axes, optional
            Where to draw; a new figure is made without one.
        legend : bool, default=True
            Whether to list the clusters and their sizes beside the axes; above 30 they are not.
        **kwargs
            For `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        ClusterDisplay
        """
        points = _points(X, "X")
        host_labels = _host(labels)
        if host_labels.shape != (len(points),):
            raise ValueError(
                f"labels must have one entry for each of the {len(points)} rows of X, "
                f"got shape {host_labels.shape}"
            )
        if host_labels.dtype.kind not in "iu":
            raise TypeError(f"labels must be integers, got {host_labels.dtype}")
        centers = None if centroids is None else _points(centroids, "centroids")
        if centers is not None and len(host_labels):
            low, high = int(host_labels.min()), int(host_labels.max())
            if low < 0 or high >= len(centers):
                raise ValueError(
                    f"labels must lie in 0..{len(centers) - 1}, one for each centroid, "
                    f"got {low if low < 0 else high}"
                )
        display = cls(points, host_labels.astype(np.int64), centers)
        return display.plot(ax=ax, legend=legend, **kwargs)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, *, ax: Axes | None = None, legend: bool = True, **kwargs: Any
    ) -> ClusterDisplay:
        """Draw X as a fitted estimator clusters it.

        Parameters
        ----------
        estimator : object
            Fitted, with `predict` and `cluster_centers_`.
        X : array of shape (n_samples, 2)
            What the estimator accepts.
        ax : matplotlib Axes, optional
            Where to draw; a new figure is made without one.
        legend : bool, default=True
            Whether to list the clusters and their sizes beside the axes.
        **kwargs
            For `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        ClusterDisplay
        """
        return cls.from_predictions(
            X,
            estimator.predict(X),
            getattr(estimator, "cluster_centers_", None),
            ax=ax,
            legend=legend,
            **kwargs,
        )

    def plot(self, ax: Axes | None = None, *, legend: bool = True, **kwargs: Any) -> ClusterDisplay:
        """Draw (again).

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure is made without one.
        legend : bool, default=True
            Whether to list the clusters and their sizes beside the axes.
        **kwargs
            For `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        ClusterDisplay
            This object, with `ax_`, `figure_` and `scatters_`.
        """
        if ax is not None and not hasattr(ax, "scatter"):
            raise TypeError(f"ax must be matplotlib Axes or None, got {ax!r}")
        if ax is None:
            _, ax = _pyplot().subplots(figsize=(8, 6), layout="constrained")
        self.ax_ = ax
        self.figure_ = ax.figure  # type: ignore[assignment]
        self.scatters_ = self._draw_points(ax, kwargs)
        if self.centroids is not None:
            self._draw_centroids(ax)
        if legend and len(self.scatters_) <= MOST_NAMED:
            self._draw_legend(ax)
        ax.set(xlabel="feature 0", ylabel="feature 1")
        return self

    def _draw_points(self, ax: Axes, kwargs: dict[str, Any]) -> list[Any]:
        # Many points want small marks, or one cluster hides the next.
        size = float(np.clip(20_000 / max(len(self.X), 1), 1.5, 24))
        style = {"s": size, "alpha": 0.75, "linewidths": 0, **kwargs}
        drawn = []
        for k in np.unique(self.labels):
            rows = self.labels == k
            color, marker = _look(int(k))
            look = {"color": color, "marker": marker, "label": f"{k} ({rows.sum():,})", **style}
            drawn.append(ax.scatter(self.X[rows, 0], self.X[rows, 1], **look))
        return drawn

    def _draw_centroids(self, ax: Axes) -> None:
        assert self.centroids is not None
        x, y = self.centroids[:, 0], self.centroids[:, 1]
        # A white rim keeps the crosses visible on every colour.
        many = len(x) > MOST_NAMED
        size = 40 if many else 130
        ax.scatter(x, y, marker="X", s=size, c="black", edgecolors="white", zorder=3)
        if many:
            return
        for k, center in enumerate(self.centroids):
            ax.annotate(
                str(k),
                center,
                xytext=(7, 6),
                textcoords="offset points",
                weight="bold",
                bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.7},
                zorder=4,
            )

    def _draw_legend(self, ax: Axes) -> None:
        from matplotlib.lines import Line2D

        handles: list[Any] = list(self.scatters_)
        if self.centroids is not None:
            handles.append(
                Line2D([], [], ls="", marker="X", c="black", mec="white", ms=11, label="centroid")
            )
        legend = ax.legend(
            handles=handles,
            title="cluster (rows)",
            loc="upper left",
            bbox_to_anchor=(1.01, 1),
            borderaxespad=0,
            frameon=False,
            ncols=-(-len(handles) // LEGEND_ROWS),
        )
        for handle in legend.legend_handles:
            if handle is not None and hasattr(handle, "set_sizes"):
                handle.set_sizes([45])
                handle.set_alpha(1)


def _look(k: int) -> tuple[str, str]:
    """Colour and marker of cluster k."""
    return PALETTE[k % len(PALETTE)], MARKERS[k // len(PALETTE) % len(MARKERS)]


def _host(x: Any) -> np.ndarray:
    return to_numpy(x) if is_array_api_obj(x) else np.asarray(x)


def _points(x: Any, name: str) -> np.ndarray:
    """Bring an (n, 2) array to the host in float64."""
    shape = tuple(np.shape(x))
    if len(shape) == 2 and shape[1] > 2:
        raise ValueError(
            f"{name} has {shape[1]} features and a scatter shows two; draw two of them, "
            f"{name}[:, [0, 1]], or project the data first, for example with "
            "sklearn.decomposition.PCA(2)"
        )
    if len(shape) != 2 or shape[1] != 2:
        raise ValueError(f"{name} must have shape (n, 2), got {shape}")
    return _host(x).astype(np.float64)


def _pyplot() -> Any:
    try:
        import matplotlib.pyplot as plt
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "matplotlib":
            raise
        raise ModuleNotFoundError(
            'drawing needs matplotlib: pip install "kmeans_xp[plot]"', name=error.name
        ) from error
    return plt
