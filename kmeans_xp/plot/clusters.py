"""Scatter of clustered points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kmeans_xp.plot._common import (
    PALETTE,
    axes_for,
    check_estimator,
    check_labels,
    host,
    host_rows,
    look,
    numbers,
    sampled,
)
from kmeans_xp.plot._geometry import principal_plane, voronoi

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ClusterDisplay"]

LEGEND_ROWS = 20
MOST_NAMED = 30  # clusters with a number and a line in the legend; more are a wall of text
MOST_REGIONS = 100  # clusters whose regions are drawn
MAX_POINTS = 50_000
SMALLEST_SHAPE = 6  # points² of a mark whose shape can be told


class ClusterDisplay:
    """Scatter of clustered points in two dimensions, with their centroids and regions.

    Make one with `from_predictions` or `from_estimator`.

    Parameters
    ----------
    X : ndarray of shape (n_points, 2)
        The points.
    labels : ndarray of shape (n_points,)
        The cluster of each.
    centroids : ndarray of shape (n_clusters, 2), optional
        Drawn as crosses that carry the number of their cluster.
    sizes : dict of int to int, optional
        Rows of each cluster for the legend, where `X` is a sample of them.
    names : tuple of str, optional
        Of the two axes.
    projected : bool, default=False
        Whether the points are a projection, in which regions mean nothing.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where the clusters are drawn; known after `plot`.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    scatters_ : list of matplotlib PathCollection
        The points of each cluster that has any.
    regions_ : list of matplotlib Polygon
        The region of each centroid that has one in view.

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
    regions_: list[Any]

    def __init__(
        self,
        X: np.ndarray,
        labels: np.ndarray,
        centroids: np.ndarray | None = None,
        *,
        sizes: dict[int, int] | None = None,
        names: tuple[str, str] = ("feature 0", "feature 1"),
        projected: bool = False,
    ) -> None:
        self.X = X
        self.labels = labels
        self.centroids = centroids
        self.sizes = sizes
        self.names = names
        self.projected = projected

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        labels: Any,
        centroids: Any = None,
        *,
        max_points: int | None = MAX_POINTS,
        feature_names: Sequence[str] | None = None,
        ax: Axes | None = None,
        legend: bool = True,
        regions: bool | None = None,
        **kwargs: Any,
    ) -> ClusterDisplay:
        """Draw points by their labels.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Of any array library and device. More than two features are projected on the two
            principal components of what is drawn.
        labels : array of int of shape (n_samples,)
            The cluster of each row.
        centroids : array of shape (n_clusters, n_features), optional
            The centre of each cluster.
        max_points : int or None, default=50_000
            Of more rows, so many are drawn, chosen at random but the same each time; None: all.
        feature_names : sequence of str, optional
            Along the axes, where there are two features.
        ax, legend, regions, **kwargs
            As for `plot`.

        Returns
        -------
        ClusterDisplay
        """
        shape = tuple(np.shape(X))
        if len(shape) != 2 or shape[1] < 2:
            raise ValueError(f"X must have shape (n, 2) or more features, got {shape}")
        centers = None if centroids is None else numbers(host(centroids), "centroids")
        if centers is not None and (centers.ndim != 2 or centers.shape[1] != shape[1]):
            raise ValueError(f"centroids must have shape (n, {shape[1]}) as X, got {centers.shape}")
        known = check_labels(labels, shape[0], None if centers is None else len(centers))
        rows = sampled(shape[0], max_points, "max_points")
        points = numbers(host_rows(X, rows), "X", rows)
        if feature_names is not None and len(feature_names) != shape[1]:
            raise ValueError(f"feature_names must hold {shape[1]} names, got {len(feature_names)}")
        given = ("feature 0", "feature 1") if feature_names is None else feature_names
        names, projected = (str(given[0]), str(given[1])), shape[1] > 2
        if projected:
            middle, axes, shares = principal_plane(points)
            points = (points - middle) @ axes
            centers = None if centers is None else (centers - middle) @ axes
            names = (
                f"first principal component ({shares[0]:.0%} of the variance)",
                f"second principal component ({shares[1]:.0%})",
            )
        found, counts = np.unique(known, return_counts=True)
        display = cls(
            points,
            known if rows is None else known[rows],
            centers,
            sizes=dict(zip(found.tolist(), counts.tolist(), strict=True)),
            names=names,
            projected=projected,
        )
        return display.plot(ax=ax, legend=legend, regions=regions, **kwargs)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        max_points: int | None = MAX_POINTS,
        ax: Axes | None = None,
        legend: bool = True,
        regions: bool | None = None,
        **kwargs: Any,
    ) -> ClusterDisplay:
        """Draw X as a fitted estimator clusters it.

        Parameters
        ----------
        estimator : object
            Fitted, with `predict` and `cluster_centers_`.
        X : array of shape (n_samples, n_features)
            What the estimator accepts.
        max_points : int or None, default=50_000
            As for `from_predictions`.
        ax, legend, regions, **kwargs
            As for `plot`.

        Returns
        -------
        ClusterDisplay
        """
        check_estimator(estimator, "predict")
        return cls.from_predictions(
            X,
            estimator.predict(X),
            getattr(estimator, "cluster_centers_", None),
            max_points=max_points,
            feature_names=getattr(estimator, "feature_names_in_", None),
            ax=ax,
            legend=legend,
            regions=regions,
            **kwargs,
        )

    def plot(
        self,
        ax: Axes | None = None,
        *,
        legend: bool = True,
        regions: bool | None = None,
        **kwargs: Any,
    ) -> ClusterDisplay:
        """Draw (again).

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure is made without one.
        legend : bool, default=True
            Whether to list the clusters and their sizes beside the axes; above 30 they are not.
        regions : bool, optional
            Whether to shade the part of the plane nearest to each centroid; by default where there
            are at most 100 centroids and the points are no projection.
        **kwargs
            For `matplotlib.axes.Axes.scatter`.

        Returns
        -------
        ClusterDisplay
            This object, with `ax_`, `figure_`, `scatters_` and `regions_`.
        """
        (ax,) = axes_for(ax)
        self.ax_ = ax
        # it may be a SubFigure, which serves as well
        self.figure_ = ax.figure  # type: ignore[assignment]
        self.scatters_ = self._draw_points(ax, kwargs)
        self.regions_ = self._draw_regions(ax) if self._regions_wanted(regions) else []
        if self.centroids is not None:
            self._draw_centroids(ax)
        if legend and len(self.scatters_) <= MOST_NAMED:
            self._draw_legend(ax)
        # A dollar in a name is a dollar.
        ax.set_xlabel(self.names[0], parse_math=False)
        ax.set_ylabel(self.names[1], parse_math=False)
        self._say_what_is_shown(ax)
        return self

    def _regions_wanted(self, wanted: bool | None) -> bool:
        if wanted is not None:
            if wanted and (self.projected or self.centroids is None):
                raise ValueError(
                    "regions=True needs centroids and two features: a projection has no regions"
                )
            return wanted
        return (
            not self.projected
            and self.centroids is not None
            and 1 < len(self.centroids) <= MOST_REGIONS
        )

    def _draw_points(self, ax: Axes, kwargs: dict[str, Any]) -> list[Any]:
        # Many points want small and faint marks, or one cluster hides the next.
        n_points = max(len(self.X), 1)
        size = float(np.clip(20_000 / n_points, 1.5, 24))
        alpha = 0.75 if n_points <= 10_000 else 0.35
        style = {"s": size, "alpha": alpha, "linewidths": 0, **kwargs}
        drawn = []
        for k in np.unique(self.labels):
            rows = self.labels == k
            color, marker = look(int(k))
            if size < SMALLEST_SHAPE:
                marker = "o"
            count = rows.sum() if self.sizes is None else self.sizes[int(k)]
            own = {"color": color, "marker": marker, "label": f"{k} ({count:,})", **style}
            drawn.append(ax.scatter(self.X[rows, 0], self.X[rows, 1], **own))
        return drawn

    def _draw_regions(self, ax: Axes) -> list[Any]:
        assert self.centroids is not None
        x, y = self.centroids.T
        ax.scatter(x, y, s=0)  # or a centroid away from the points would be out of view
        limits = ax.get_xlim(), ax.get_ylim()
        drawn = []
        for k, corners in enumerate(voronoi(self.centroids, *limits)):
            if len(corners) > 2:
                color = PALETTE[k % len(PALETTE)]
                (polygon,) = ax.fill(*corners.T, color=color, alpha=0.13, lw=0, zorder=0)
                ax.fill(*corners.T, fill=False, ec="0.6", lw=0.6, zorder=0.5)
                drawn.append(polygon)
        ax.set(xlim=limits[0], ylim=limits[1])
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

    def _say_what_is_shown(self, ax: Axes) -> None:
        total = len(self.X) if self.sizes is None else sum(self.sizes.values())
        if total > len(self.X):
            ax.text(
                0.995,
                0.005,
                f"{len(self.X):,} of {total:,} rows drawn",
                transform=ax.transAxes,
                ha="right",
                va="bottom",
                fontsize="small",
                color="0.3",
            )
