"""Projection on two principal components, and Voronoi regions in the plane: for the eye alone."""

from __future__ import annotations

import math

import numpy as np

__all__ = ["principal_plane", "voronoi"]

MOST_ROWS = 2_000  # looked at where the rows are longer than that


def principal_plane(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the two directions of largest variance.

    Parameters
    ----------
    x : ndarray of float64, shape (N, D), D > 2

    Returns
    -------
    middle : ndarray, shape (D,)
        The mean.
    axes : ndarray, shape (D, 2)
        Orthonormal; the largest entry of each is positive, so that pictures do not flip.
    shares : ndarray, shape (2,)
        Of the variance.
    """
    scale = np.abs(x).max() or 1.0
    middle = (x / scale).mean(axis=0)
    centred = x / scale - middle
    if x.shape[1] > MOST_ROWS:
        step = -(-len(x) // MOST_ROWS)
        _, s, vt = np.linalg.svd(centred[::step], full_matrices=False)
        values, axes = np.append(s, 0)[:2] ** 2, np.zeros((x.shape[1], 2))
        axes[:, : min(2, len(vt))] = vt[:2].T
        total = float((s**2).sum())
    else:
        spectrum, vectors = np.linalg.eigh(centred.T @ centred)
        values, axes = spectrum[:-3:-1], vectors[:, :-3:-1]
        total = float(spectrum.sum())
    signs = np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    return middle * scale, axes * np.where(signs == 0, 1, signs), values / (total or 1.0)


def voronoi(
    centers: np.ndarray, x_limits: tuple[float, float], y_limits: tuple[float, float]
) -> list[np.ndarray]:
    """Cut a rectangle into the regions of points nearest to each centre.

    Returns
    -------
    list of ndarray of shape (corners, 2)
        Empty where a region is; the first of equal centres has it.
    """
    (left, right), (low, high) = x_limits, y_limits
    box = np.array([[left, low], [right, low], [right, high], [left, high]])
    # A power of two that changes no digit, so that no product overflows.
    scale = 2.0 ** (math.frexp(max(np.abs(box).max(), np.abs(centers).max(initial=0)))[1] - 1)
    box, centers = box / scale, centers / scale
    regions = []
    for k, center in enumerate(centers):
        region = box
        for other, rival in enumerate(centers):
            if other == k or not len(region):
                continue
            if np.array_equal(center, rival):
                region = region if k < other else region[:0]
            else:
                normal = rival - center
                region = _clipped(region, normal, float(normal @ (center + rival)) / 2)
        regions.append(region * scale)
    return regions


def _clipped(corners: np.ndarray, normal: np.ndarray, limit: float) -> np.ndarray:
    """Keep the part of a convex polygon where corner · normal <= limit."""
    excess = corners @ normal - limit
    if (excess <= 0).all():
        return corners
    kept = []
    for i, (corner, over) in enumerate(zip(corners, excess, strict=True)):
        before, over_before = corners[i - 1], excess[i - 1]
        if (over > 0) != (over_before > 0):
            kept.append(before + (corner - before) * (over_before / (over_before - over)))
        if over <= 0:
            kept.append(corner)
    return np.array(kept).reshape(-1, 2)
