"""How a fit went: inertia and moved rows by iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from kmeans_xp.history import History
from kmeans_xp.plot._common import axes_for, line_look, number_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ConvergenceDisplay"]

MOST_NAMED = 20


class ConvergenceDisplay:
    """Inertia and rows that changed their cluster, by iteration, a line for every start.

    Make one with `from_history`.

    Parameters
    ----------
    history : History
        What was recorded.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The first panel; known after `plot`.
    axes_ : list of matplotlib Axes
        Inertia, where it was recorded, and changed rows.
    figure_ : matplotlib Figure
        Their figure.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp import History, kmeans
    >>> from kmeans_xp.plot import ConvergenceDisplay
    >>> X, history = np.arange(9.0)[:, None], History()
    >>> result = kmeans(X, 2, random_state=0, callback=history)
    >>> len(ConvergenceDisplay.from_history(history).axes_)
    2
    """

    ax_: Axes
    axes_: list[Axes]
    figure_: Figure

    def __init__(self, history: History) -> None:
        self.history = history

    @classmethod
    def from_history(cls, history: History, *, ax: Any = None, **kwargs: Any) -> ConvergenceDisplay:
        """Draw what a `History` recorded.

        Parameters
        ----------
        history : History
            After a fit with ``callback=history``.
        ax, **kwargs
            As for `plot`.

        Returns
        -------
        ConvergenceDisplay
        """
        if not isinstance(history, History):
            raise TypeError(f"history must be a History, got {type(history).__name__}")
        if not len(history):
            raise ValueError("history must hold an iteration: fit with callback=history first")
        return cls(history).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> ConvergenceDisplay:
        """Draw (again).

        Parameters
        ----------
        ax : matplotlib Axes or list of them, optional
            One for each panel; a new figure is made without.
        **kwargs
            For `matplotlib.axes.Axes.plot`.

        Returns
        -------
        ConvergenceDisplay
            This object, with `ax_`, `axes_` and `figure_`.
        """
        columns = {name: np.array(values) for name, values in self.history.to_dict().items()}
        names = ["changed"] if columns["inertia"][0] is None else ["inertia", "changed"]
        self.axes_ = axes_for(ax, len(names), (8, 1.5 + 2.5 * len(names)))
        self.ax_ = self.axes_[0]
        # it may be a SubFigure, which serves as well
        self.figure_ = self.ax_.figure  # type: ignore[assignment]
        starts = np.unique(columns["start"])
        for panel, name in zip(self.axes_, names, strict=True):
            for start in starts:
                rows = columns["start"] == start
                color, line = line_look(int(start))
                look = {"color": color, "ls": line, "marker": "o", "ms": 4, **kwargs}
                values = columns[name][rows].astype(np.float64)
                panel.plot(columns["iteration"][rows], values, label=f"start {start}", **look)
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
            number_axis(panel)
        last = self.axes_[-1]
        last.set_yscale("symlog", linthresh=1)  # from all rows down to none
        last.set(ylabel="rows that changed cluster", xlabel="iteration")
        last.set_ylim(bottom=0)
        if len(names) > 1:
            self.ax_.set_ylabel("inertia")
        if 1 < len(starts) <= MOST_NAMED:
            self.ax_.legend(frameon=False, ncols=2)
        return self
