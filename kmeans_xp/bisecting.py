"""Bisecting k-means: leaves of a binary tree are split in two until there are enough of them.

M. Steinbach, G. Karypis, V. Kumar, "A comparison of document clustering techniques", KDD workshop
on text mining 2000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from kmeans_xp.backends.convert import from_numpy, take_rows, to_numpy
from kmeans_xp.exceptions import quiet_parts
from kmeans_xp.functional import kmeans
from kmeans_xp.prediction import inertia, labelled_inertia, predict
from kmeans_xp.result import SameBits
from kmeans_xp.seeding import words_kept
from kmeans_xp.validation import check_device, check_n_clusters, check_weights

__all__ = ["Bisection", "Tree", "bisect", "walk"]


@dataclass(frozen=True, eq=False)
class Tree(SameBits):
    """Splits by the nearer of two centroids, on the host.

    Attributes
    ----------
    centers : ndarray, shape (K − 1, 2, D)
        The two centroids of each split, the first of which is the root.
    children : ndarray of int32, shape (K − 1, 2)
        What is below each of them: a split, or leaf k written as −1 − k.
    """

    centers: np.ndarray
    children: np.ndarray

    def __len__(self) -> int:
        return len(self.children)


@dataclass(frozen=True, eq=False)
class Bisection(SameBits):
    """A tree of splits and its leaves, numbered from left to right.

    Attributes
    ----------
    labels : ndarray of int32, shape (N,)
        Leaf of each row.
    centroids : ndarray, shape (K, D)
        Centroids of the leaves.
    inertia : float
        Exact Σ w |x − c_label|², rounded once.
    tree : Tree
        The K − 1 splits.
    """

    labels: np.ndarray
    centroids: np.ndarray
    inertia: float
    tree: Tree


@dataclass
class _Leaf:
    """Rows that are to stay together so far (None: all), and where they hang."""

    rows: np.ndarray | None
    size: int
    center: np.ndarray | None
    score: float
    parent: tuple[int, int] | None


def bisect(
    x: Any,
    n_clusters: int,
    *,
    strategy: str,
    sample_weight: Any = None,
    random_state: Any = None,
    device: Any = None,
    verbose: int = 0,
    **options: Any,
) -> Bisection:
    """Split the rows of x into a tree with `n_clusters` leaves (docs/exactness.md, "Bisecting").

    Parameters
    ----------
    x : array, shape (N, D)
        As `as_array` returns it.
    n_clusters : int
        Number of leaves K.
    strategy : {"biggest_inertia", "largest_cluster"}
        Which leaf is split next.
    sample_weight, random_state, device, verbose
        As for `kmeans`.
    **options
        Of `kmeans`, for every split.
    """
    n_clusters = check_n_clusters(n_clusters, int(x.shape[0]))
    device = check_device(device, x)
    options |= {"device": device}
    w = check_weights(sample_weight, x)
    leaves = [_Leaf(None, int(x.shape[0]), None, 0.0, None)]
    centers: list[np.ndarray] = []
    children = np.zeros((n_clusters - 1, 2), dtype=np.int32)
    with words_kept(random_state) as words:
        for split in range(n_clusters - 1):
            open_leaves = [i for i, leaf in enumerate(leaves) if leaf.size > 1]
            at = max(open_leaves, key=lambda i: leaves[i].score)
            parts = _split(x, w, leaves[at], split, words.word(), strategy, verbose, options)
            _hang(children, leaves[at], split)
            leaves[at : at + 1] = parts
            centers.append(np.stack([part.center for part in parts if part.center is not None]))
            if verbose:
                print(f"New centroids from bisection: {centers[-1]}")
    labels = np.zeros(x.shape[0], dtype=np.int32)
    for k, leaf in enumerate(leaves):
        _hang(children, leaf, -1 - k)
        if leaf.rows is not None:
            labels[leaf.rows] = k
    found = np.stack([_center(x, w, leaf, device) for leaf in leaves])
    cost = labelled_inertia(x, found, labels, sample_weight=w)
    splits = np.stack(centers) if centers else np.empty((0, 2, *found.shape[1:]), found.dtype)
    return Bisection(labels, found, cost, Tree(splits, children))


def _hang(children: np.ndarray, leaf: _Leaf, what: int) -> None:
    """Write below the parent of a leaf what the leaf has become."""
    if leaf.parent is not None:
        children[leaf.parent] = what


def _center(x: Any, w: np.ndarray | None, leaf: _Leaf, device: str | None) -> np.ndarray:
    """Centroid of a leaf; that of the undivided root is the mean of all rows."""
    if leaf.center is not None:
        return leaf.center
    with quiet_parts():
        mean = kmeans(x, 1, init=x[:1, :], tol=0, max_iter=1, sample_weight=w, device=device)
    return to_numpy(mean.centroids)[0]


def _split(
    x: Any,
    w: np.ndarray | None,
    leaf: _Leaf,
    split: int,
    seed: int,
    strategy: str,
    verbose: int,
    options: dict[str, Any],
) -> list[_Leaf]:
    """Run k-means with two clusters on the rows of a leaf."""
    part, weights = _part(x, w, leaf.rows)
    drawn = weights if weights is None or weights.any() else None  # no weight: as if unweighted
    with quiet_parts():  # the caller hears of it once, at the end
        result = kmeans(part, 2, sample_weight=drawn, random_state=seed, verbose=verbose, **options)
    labels, centroids = to_numpy(result.labels), to_numpy(result.centroids)
    leaves = []
    for side in (0, 1):
        own = np.flatnonzero(labels == side)
        score = float(len(own))
        if strategy == "biggest_inertia":
            rest = _part(part, weights, own)
            score = _cost(*rest, centroids[side : side + 1], options["device"])
        rows = own if leaf.rows is None else leaf.rows[own]
        leaves.append(_Leaf(rows, len(rows), centroids[side], score, (split, side)))
    return leaves


def _part(x: Any, w: np.ndarray | None, rows: np.ndarray | None) -> tuple[Any, np.ndarray | None]:
    """Return some rows of the data and their weights."""
    if rows is None:
        return x, w
    return take_rows(x, rows), None if w is None else w[rows]


def _cost(x: Any, w: np.ndarray | None, center: np.ndarray, device: str | None) -> float:
    """Inertia of a leaf around its centroid; nothing weighs nothing."""
    if not x.shape[0] or (w is not None and not w.any()):
        return 0.0
    return inertia(x, center, sample_weight=w, device=device)


def walk(x: Any, tree: Tree, device: Any = None) -> Any:
    """Label rows by descending a tree: at each split to the nearer centroid, ties to the left.

    Parameters
    ----------
    x : array, shape (N, D)
        As `as_array` returns it.
    tree : Tree
        Of at least one split.
    device : optional
        As for `kmeans`.

    Returns
    -------
    array of int32, shape (N,)
        In the namespace and on the device of x.
    """
    labels = np.empty(x.shape[0], dtype=np.int32)
    todo = [(0, np.arange(x.shape[0]))]
    while todo:
        split, rows = todo.pop()
        part = x if len(rows) == len(labels) else take_rows(x, rows)
        sides = to_numpy(predict(part, tree.centers[split], device=device))
        for side, child in enumerate(tree.children[split].tolist()):
            own = rows[sides == side]
            if child < 0:
                labels[own] = -1 - child
            elif own.size:
                todo.append((child, own))
    return from_numpy(labels, x)
