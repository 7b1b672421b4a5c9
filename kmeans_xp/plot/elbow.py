"""Criteria over the number of clusters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kmeans_xp.plot._common import PALETTE, as_floats, axes_for, number_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ElbowDisplay"]


class ElbowDisplay:
    """Inertia and other criteria over the number of clusters, the chosen one marked.

    Make one with `from_selection` or `from_results`.

    Parameters
    ----------
    n_clusters : sequence of int
        The numbers tried.
    criteria : mapping of str to sequence of float
        Values for each of them, by name; one panel each. NaN where there is none.
    chosen : int, optional
        The number to mark.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The first panel; known after `plot`.
    axes_ : list of matplotlib Axes
        All panels.
    figure_ : matplotlib Figure
        Their figure.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp import kmeans
    >>> from kmeans_xp.plot import ElbowDisplay
    >>> X = np.asarray([[0.0], [1.0], [8.0], [9.0]])
    >>> display = ElbowDisplay.from_results([kmeans(X, k, random_state=0) for k in (1, 2, 3)])
    >>> display.criteria["inertia"]
    array([65. ,  1. ,  0.5])
    """

    ax_: Axes
    axes_: list[Axes]
    figure_: Figure

    def __init__(
        self,
        n_clusters: Sequence[int],
        criteria: Mapping[str, Sequence[float]],
        chosen: int | None = None,
    ) -> None:
        self.n_clusters = np.asarray(n_clusters, dtype=np.int64)
        self.criteria = {name: as_floats(v, f"criteria[{name!r}]") for name, v in criteria.items()}
        self.chosen = chosen
        if not self.n_clusters.size or not self.criteria:
            raise ValueError("n_clusters and criteria must not be empty")
        for name, values in self.criteria.items():
            if values.shape != self.n_clusters.shape:
                raise ValueError(
                    f"criteria[{name!r}] must have one value for each of the "
                    f"{len(self.n_clusters)} n_clusters, got shape {values.shape}"
                )

    @classmethod
    def from_selection(
        cls,
        selection: Any,
        *,
        criteria: str | Sequence[str] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> ElbowDisplay:
        """Draw the table of `kmeans_xp.select_k`.

        Parameters
        ----------
        selection : KSelection
            What `select_k` returned.
        criteria : str or sequence of str, optional
            Columns to draw; the inertia and what chose k by default.
        ax, **kwargs
            As for `plot`.

        Returns
        -------
        ElbowDisplay
        """
        if not all(hasattr(selection, name) for name in ("to_dict", "criterion", "k")):
            raise TypeError(
                f"selection must be what select_k returned, got {type(selection).__name__}"
            )
        columns = selection.to_dict()
        criteria = [criteria] if isinstance(criteria, str) else criteria
        if not isinstance(criteria, Iterable | None):
            raise TypeError(f"criteria must be names of columns or None, got {criteria!r}")
        names = dict.fromkeys(["inertia", selection.criterion]) if criteria is None else criteria
        unknown = [name for name in names if name not in columns]
        if unknown:
            raise ValueError(
                f"criteria must be columns of the selection, {', '.join(map(repr, columns))}, got "
                f"{unknown[0]!r}"
            )
        values = {name: columns[name] for name in names}
        return cls(columns["k"], values, selection.k).plot(ax=ax, **kwargs)

    @classmethod
    def from_results(
        cls, results: Iterable[Any], *, chosen: int | None = None, ax: Any = None, **kwargs: Any
    ) -> ElbowDisplay:
        """Draw the inertia of several fits of the same data.

        Parameters
        ----------
        results : iterable of KMeansResult or fitted estimators
            In any order.
        chosen : int, optional
            The number of clusters to mark.
        ax, **kwargs
            As for `plot`.

        Returns
        -------
        ElbowDisplay
        """
        if not isinstance(results, Iterable):
            raise TypeError(
                f"results must be several KMeansResults or fitted estimators, got "
                f"{type(results).__name__}"
            )
        points = sorted(_size_and_inertia(result) for result in results)
        if not points:
            raise ValueError("results must hold at least one result")
        sizes, inertia = zip(*points, strict=True)
        return cls(sizes, {"inertia": inertia}, chosen).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> ElbowDisplay:
        """Draw (again).

        Parameters
        ----------
        ax : matplotlib Axes or list of them, optional
            One for each criterion; a new figure is made without.
        **kwargs
            For `matplotlib.axes.Axes.plot`.

        Returns
        -------
        ElbowDisplay
            This object, with `ax_`, `axes_` and `figure_`.
        """
        n_panels = len(self.criteria)
        self.axes_ = axes_for(ax, n_panels, (8, 2 + 2.2 * n_panels))
        self.ax_ = self.axes_[0]
        # it may be a SubFigure, which serves as well
        self.figure_ = self.ax_.figure  # type: ignore[assignment]
        panels = zip(self.axes_, self.criteria.items(), strict=True)
        for i, (panel, (name, values)) in enumerate(panels):
            color = PALETTE[i % len(PALETTE)]
            style = {"marker": "o", "ms": 5, "color": color, **kwargs}
            panel.plot(self.n_clusters, values, **style)
            panel.set_ylabel(name.replace("_", " "))
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
            self._mark(panel, values)
            number_axis(panel)
        self.axes_[-1].set_xlabel("number of clusters")
        return self

    def _mark(self, panel: Axes, values: np.ndarray) -> None:
        here = np.flatnonzero(self.n_clusters == (0 if self.chosen is None else self.chosen))
        if not len(here):
            return
        label = f"chosen: {self.chosen}"
        point = self.n_clusters[here[0]], values[here[0]]
        panel.axvline(point[0], color="0.35", ls="--", lw=1, zorder=0)
        panel.plot(*point, "o", ms=12, mfc="none", mec="black", mew=1.6, label=label)
        if panel is self.ax_:
            panel.legend(frameon=False)


def _size_and_inertia(result: Any) -> tuple[int, float]:
    if hasattr(result, "cluster_centers_"):
        return int(result.cluster_centers_.shape[0]), float(result.inertia_)
    if hasattr(result, "centroids"):
        return int(result.centroids.shape[0]), float(result.inertia)
    hint = f"; call {type(result).__name__}.fit(X) first" if hasattr(result, "fit") else ""
    raise TypeError(
        f"results must hold KMeansResults or fitted estimators, got {type(result).__name__}{hint}"
    )
