"""The centroids themselves: as images, or as lines over the features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kmeans_xp.plot._common import (
    axes_for,
    check_estimator,
    check_labels,
    host,
    line_look,
    number_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["CentroidDisplay"]

MOST_NAMED = 30
MOST_TICKS = 40  # features named along the axis


class CentroidDisplay:
    """Centroids side by side as images where a shape is given, else as profiles.

    Make one with `from_predictions` or `from_estimator`.

    Parameters
    ----------
    centroids : ndarray of shape (n_clusters, n_features)
        What to draw.
    sizes : ndarray of int of shape (n_clusters,), optional
        Rows of each cluster.
    shape : tuple of int, optional
        (height, width), or (height, width, 3) for colours from 0 to 1 or 0 to 255.
    feature_names : sequence of str, optional
        Along the axis of a profile.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn; known after `plot`.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    image_ : matplotlib AxesImage or None
        The mosaic of images.
    lines_ : list of matplotlib Line2D
        The profiles.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp.plot import CentroidDisplay
    >>> display = CentroidDisplay.from_predictions(np.eye(4), shape=(2, 2))
    >>> display.image_.get_array().shape
    (5, 5)
    """

    ax_: Axes
    figure_: Figure
    image_: Any
    lines_: list[Any]

    def __init__(
        self,
        centroids: np.ndarray,
        sizes: np.ndarray | None = None,
        *,
        shape: tuple[int, ...] | None = None,
        feature_names: Sequence[str] | None = None,
    ) -> None:
        self.centroids = centroids
        self.sizes = sizes
        self.shape = shape
        self.feature_names = feature_names

    @classmethod
    def from_predictions(
        cls,
        centroids: Any,
        labels: Any = None,
        *,
        shape: Sequence[int] | None = None,
        feature_names: Sequence[str] | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> CentroidDisplay:
        """Draw centroids.

        Parameters
        ----------
        centroids : array of shape (n_clusters, n_features)
            Of any array library and device.
        labels : array of int of shape (n_samples,), optional
            To write the number of rows beside each.
        shape : sequence of int, optional
            Of an image: (height, width), or (height, width, 3) for colours.
        feature_names : sequence of str, optional
            Along the axis of a profile.
        ax, **kwargs
            As for `plot`.

        Returns
        -------
        CentroidDisplay
        """
        values = host(centroids).astype(np.float64)
        if values.ndim != 2 or 0 in values.shape:
            raise ValueError(
                f"centroids must have shape (n_clusters, n_features), got {values.shape}"
            )
        if isinstance(shape, str | int):
            raise TypeError(f"shape must be a tuple of integers, as (8, 8), got {shape!r}")
        form = None if shape is None else tuple(int(n) for n in shape)
        if form is not None and (
            len(form) not in (2, 3)
            or form[2:] not in ((), (3,))
            or min(form) < 1
            or np.prod(form) != len(values[0])
        ):
            raise ValueError(
                f"shape must be (height, width) or (height, width, 3) of {values.shape[1]} "
                f"features, got {shape}"
            )
        if feature_names is not None and len(feature_names) != values.shape[1]:
            raise ValueError(
                f"feature_names must hold {values.shape[1]} names, got {len(feature_names)}"
            )
        sizes = None
        if labels is not None:
            known = check_labels(labels, int(np.shape(labels)[0]), len(values))
            sizes = np.bincount(known, minlength=len(values))
        return cls(values, sizes, shape=form, feature_names=feature_names).plot(ax=ax, **kwargs)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        shape: Sequence[int] | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> CentroidDisplay:
        """Draw the centroids of a fitted estimator.

        Parameters
        ----------
        estimator : object
            Fitted, with `cluster_centers_`.
        shape : sequence of int, optional
            As for `from_predictions`.
        ax, **kwargs
            As for `plot`.

        Returns
        -------
        CentroidDisplay
        """
        check_estimator(estimator, "cluster_centers_")
        return cls.from_predictions(
            estimator.cluster_centers_,
            getattr(estimator, "labels_", None),
            shape=shape,
            feature_names=getattr(estimator, "feature_names_in_", None),
            ax=ax,
            **kwargs,
        )

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> CentroidDisplay:
        """Draw (again).

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure is made without one.
        **kwargs
            For `matplotlib.axes.Axes.imshow` or `plot`.

        Returns
        -------
        CentroidDisplay
            This object, with `ax_`, `figure_`, `image_` and `lines_`.
        """
        (ax,) = axes_for(ax)
        self.ax_ = ax
        # it may be a SubFigure, which serves as well
        self.figure_ = ax.figure  # type: ignore[assignment]
        self.image_, self.lines_ = None, []
        if self.shape is None:
            self._draw_profiles(ax, kwargs)
        else:
            self._draw_images(ax, self.shape, kwargs)
        return self

    def _name(self, k: int) -> str:
        return str(k) if self.sizes is None else f"{k} ({self.sizes[k]:,})"

    def _draw_images(self, ax: Axes, shape: tuple[int, ...], kwargs: dict[str, Any]) -> None:
        """Draw one mosaic, transparent between the tiles."""
        height, width, *colors = shape
        tiles = self.centroids.reshape(-1, *shape)
        if colors:
            tiles = np.clip(tiles / (255 if tiles.max() > 1 else 1), 0, 1)
            tiles = np.concatenate([tiles, np.ones((*tiles.shape[:3], 1))], axis=3)
        gap = max(1, round(0.25 * height))
        across = int(np.ceil(np.sqrt(len(tiles) * (height + gap) / (width + gap))))
        across = min(max(across, 1), len(tiles))
        down = -(-len(tiles) // across)
        blank = 0.0 if colors else np.nan
        size = (down * (height + gap) - gap, across * (width + gap) - gap, *tiles.shape[3:])
        mosaic = np.full(size, blank)
        for k, tile in enumerate(tiles):
            top, left = (k // across) * (height + gap), (k % across) * (width + gap)
            mosaic[top : top + height, left : left + width] = tile
            middle = left + (width - 1) / 2
            ax.text(middle, top - 0.6, self._name(k), ha="center", va="bottom", fontsize="small")
        style = {"cmap": "viridis", "interpolation": "nearest", **kwargs}
        self.image_ = ax.imshow(mosaic if colors else np.ma.masked_invalid(mosaic), **style)
        ax.set_ylim(size[0] - 0.5, -0.5 - gap)  # room for the names of the first row
        ax.set_axis_off()

    def _draw_profiles(self, ax: Axes, kwargs: dict[str, Any]) -> None:
        n_features = self.centroids.shape[1]
        places = np.arange(n_features)
        for k, centroid in enumerate(self.centroids):
            color, line = line_look(k)
            marker = "o" if n_features <= MOST_TICKS else ""
            style = {"color": color, "ls": line, "marker": marker, "ms": 4, **kwargs}
            self.lines_ += ax.plot(places, centroid, label=self._name(k), **style)
        if self.feature_names is not None and n_features <= MOST_TICKS:
            turn: dict[str, Any] = {"rotation": 45, "ha": "right"} if n_features > 6 else {}
            ax.set_xticks(places, [str(name) for name in self.feature_names], **turn)
        else:
            number_axis(ax)
            ax.set_xlabel("feature")
        ax.set_ylabel("centroid")
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
        if len(self.centroids) <= MOST_NAMED:
            title = "cluster" if self.sizes is None else "cluster (rows)"
            place: dict[str, Any] = {
                "loc": "upper left",
                "bbox_to_anchor": (1.01, 1),
                "borderaxespad": 0,
            }
            ax.legend(title=title, frameon=False, ncols=-(-len(self.lines_) // 20), **place)
