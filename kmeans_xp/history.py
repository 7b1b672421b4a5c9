"""A callback that remembers the iterations of a fit."""

from __future__ import annotations

from typing import Any

from kmeans_xp.lloyd import State

__all__ = ["History"]

NAMES = ("start", "iteration", "inertia", "changed", "relocated", "rechecked", "shift", "seconds")


class History:
    """Callback of `kmeans` that keeps a row of numbers for every iteration.

    `kmeans_xp.plot.ConvergenceDisplay` draws them.

    Parameters
    ----------
    inertia : bool, default True
        Whether to compute the inertia, in exact arithmetic: work in proportion to the size of the
        centroids every iteration, and one more pass over X.

    Attributes
    ----------
    rows : list of dict
        For every iteration its ``start``, ``iteration``, ``inertia`` (None if not asked for),
        ``changed``, ``relocated``, ``rechecked``, ``shift`` and ``seconds``, as in `State`.

    Examples
    --------
    >>> import numpy as np
    >>> from kmeans_xp import History, kmeans
    >>> history = History()
    >>> X = np.array([[0.0], [1.0], [5.0], [9.0]])
    >>> result = kmeans(X, 2, init=X[:2], callback=history)
    >>> history.to_dict()["changed"]
    [4, 1, 0]
    """

    def __init__(self, *, inertia: bool = True) -> None:
        self.inertia = inertia
        self.rows: list[dict[str, Any]] = []

    def __call__(self, state: State) -> None:
        """Remember an iteration."""
        names = NAMES if self.inertia else [name for name in NAMES if name != "inertia"]
        self.rows.append(dict.fromkeys(NAMES) | {name: getattr(state, name) for name in names})

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"History({len(self)} iterations)"

    def to_dict(self) -> dict[str, list[Any]]:
        """Return the columns by name, as a data frame takes them."""
        return {name: [row[name] for row in self.rows] for name in NAMES}
