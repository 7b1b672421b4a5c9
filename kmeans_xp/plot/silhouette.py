"""The knife plot of silhouette coefficients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kmeans_xp.metrics import silhouette_samples
from kmeans_xp.plot._common import (
    axes_for,
    check_estimator,
    check_labels,
    host,
    host_rows,
    look,
    sampled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SilhouetteDisplay"]

MOST_NAMED = 30
MAX_ROWS = 10_000  # the time grows with the square of the rows


class SilhouetteDisplay:
    """Silhouette coefficients of each cluster, sorted, as blades of a knife.

    A blade as long as the others and to the right of the dashed mean is a cluster well apart; what
    lies left of zero is nearer to another cluster.

    Make one with `from_predictions` or `from_estimator`.

    Parameters
    ----------
    silhouettes : ndarray of shape (n_rows,)
        From -1 to 1.
    labels : ndarray of int of shape (n_rows,)
        The cluster of each.
    n_total : int, optional
        Rows of the data, where these are a sample.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn; known after `plot`.
    figure_ : matplotlib Figure
        The figure of `ax_`.
    blades_ : list of matplotlib PolyCollection
        One for each cluster that has rows.

    References
    ----------
    P. J. Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster
    analysis", J. Comput. Appl. Math. 20 (1987).

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp.plot import SilhouetteDisplay
    >>> X = np.asarray([[0.0], [1.0], [8.0], [9.0]])
    >>> display = SilhouetteDisplay.from_predictions(X, [0, 0, 1, 1])
    >>> len(display.blades_)
    2
    """

    ax_: Axes
    figure_: Figure
    blades_: list[Any]

    def __init__(
        self, silhouettes: np.ndarray, labels: np.ndarray, *, n_total: int | None = None
    ) -> None:
        self.silhouettes = silhouettes
        self.labels = labels
        self.n_total = n_total

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        labels: Any,
        *,
        metric: str = "euclidean",
        max_rows: int | None = MAX_ROWS,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> SilhouetteDisplay:
        """Draw the silhouettes of labelled rows.

        Parameters
        ----------
        X : array of shape (n_samples, n_features)
            Of any array library and device.
        labels : array of int of shape (n_samples,)
            The cluster of each row, of at least two.
        metric : {"euclidean", "cosine"}, default="euclidean"
            As for `kmeans_xp.metrics.silhouette_samples`.
        max_rows : int or None, default=10_000
            Of more rows, so many are compared with each other, chosen at random but the same each
            time; None: all.
        ax, **kwargs
            As for `plot`.

        Returns
        -------
        SilhouetteDisplay
        """
        shape = tuple(np.shape(X))
        if len(shape) != 2:
            raise ValueError(f"X must be two-dimensional (rows, features), got shape {shape}")
        known = check_labels(labels, shape[0], None)
        rows = sampled(shape[0], max_rows, "max_rows")
        if rows is not None:
            X, known = host_rows(X, rows), known[rows]  # the rest stays where it is
        n_labels = len(np.unique(known))
        if not 1 < n_labels < len(known):
            raise ValueError(
                f"labels must have at least 2 different values, and fewer than the {len(known)} "
                f"rows {'looked at' if rows is not None else 'of X'}, got {n_labels}"
            )
        values = host(silhouette_samples(X, known, metric=metric)).astype(np.float64)
        return cls(values, known, n_total=shape[0]).plot(ax=ax, **kwargs)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        max_rows: int | None = MAX_ROWS,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> SilhouetteDisplay:
        """Draw the silhouettes of X as a fitted estimator clusters it.

        Parameters
        ----------
        estimator : object
            Fitted, with `predict`; its `metric`, where it has one, is used.
        X : array of shape (n_samples, n_features)
            What the estimator accepts.
        max_rows : int or None, default=10_000
            As for `from_predictions`.
        ax, **kwargs
            As for `plot`.

        Returns
        -------
        SilhouetteDisplay
        """
        check_estimator(estimator, "predict")
        return cls.from_predictions(
            X,
            estimator.predict(X),
            metric=getattr(estimator, "metric", "euclidean"),
            max_rows=max_rows,
            ax=ax,
            **kwargs,
        )

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> SilhouetteDisplay:
        """Draw (again).

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure is made without one.
        **kwargs
            For `matplotlib.axes.Axes.fill_betweenx`.

        Returns
        -------
        SilhouetteDisplay
            This object, with `ax_`, `figure_` and `blades_`.
        """
        (ax,) = axes_for(ax)
        self.ax_ = ax
        # it may be a SubFigure, which serves as well
        self.figure_ = ax.figure  # type: ignore[assignment]
        self.blades_ = []
        names = np.unique(self.labels)
        gap = max(1.0, 0.01 * len(self.labels))
        base, middles = gap, []
        for k in names:
            blade = np.sort(self.silhouettes[self.labels == k])
            # Steps, so that a cluster of one row can be seen too.
            height = base + np.repeat(np.arange(len(blade) + 1), 2)[1:-1]
            style = {"color": look(int(k))[0], "lw": 0, "alpha": 0.9, **kwargs}
            self.blades_.append(ax.fill_betweenx(height, 0, np.repeat(blade, 2), **style))
            middles.append(base + len(blade) / 2)
            base += len(blade) + gap
        self._finish(ax, base, middles, names)
        return self

    def _finish(self, ax: Axes, top: float, middles: list[float], names: np.ndarray) -> None:
        mean = float(self.silhouettes.mean())
        ax.axvline(mean, color="black", ls="--", lw=1, label=f"mean {mean:.3f}")
        ax.axvline(0, color="0.5", lw=0.8)
        low = min(-0.1, float(self.silhouettes.min()) - 0.05)
        # From the top down, as a list is read.
        ax.set(xlabel="silhouette coefficient", ylabel="cluster", xlim=(low, 1), ylim=(top, 0))
        ax.set_yticks(middles, [str(k) for k in names])
        ax.tick_params(axis="y", length=0)
        if len(names) > MOST_NAMED:
            ax.set_yticks([])
        ax.spines[["top", "right", "left"]].set_visible(False)
        title = None
        if self.n_total is not None and self.n_total > len(self.labels):
            title = f"{len(self.labels):,} of {self.n_total:,} rows"
        # Above the axes: a blade may be anywhere in them.
        ax.legend(frameon=False, title=title, loc="lower right", bbox_to_anchor=(1, 1))
