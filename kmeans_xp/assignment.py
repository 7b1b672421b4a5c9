"""The cascade: a fast pass with a certificate, float64 for what it leaves open, exact signs for
real near-ties.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kmeans_xp.backends import Backend
from kmeans_xp.backends.records import Doubles, Frame, Swept, Task, Tile
from kmeans_xp.exact.bounds import (
    FLOAT32,
    FLOAT64,
    TINY32,
    TINY64,
    gamma,
    is_exact_grid,
    score_bound,
)
from kmeans_xp.exact.metric import EUCLIDEAN, Metric
from kmeans_xp.exact.unit import UNIT_ERROR, norm_excess

__all__ = [
    "Assigned",
    "Centers",
    "assign_rows",
    "choose_frame",
    "prepare",
    "resolve",
    "settle_left",
]

# Scores beyond this could overflow float32 together with their error.
_LARGEST_SCORE = 1e36
# The bias of a centroid that takes no part in the fast pass.
_OUT_OF_REACH = -1e38
# Centroids this many times farther out than usual are left to the triangle inequality.
_FAR = 16.0
# Float64 entries one step of the recheck may hold.
_RECHECK_ENTRIES = 1 << 20


def choose_frame(sample: np.ndarray) -> Frame:
    """Centre and scale the fast pass from a sample of rows (any dtype). Changes speed only.

    The centre is the lower median of each feature: a value of the data itself, so that integer
    lattices stay on their grid. The scale brings most rows near 1 where the data's own scale would
    be dangerous.
    """
    narrow = sample.dtype == np.float32
    columns = sample.T.copy()
    median = np.sort(columns, axis=1)[:, (len(sample) - 1) // 2].astype(np.float64)
    with np.errstate(over="ignore"):
        reach = np.abs(columns * 0.5 - (median * 0.5)[:, None]).max(axis=0, initial=0.0) * 2
    usual = float(np.sort(reach)[int(0.9 * (len(reach) - 1))])
    exponent = math.frexp(usual)[1] if 0 < usual < math.inf else 0
    limit = 120 if narrow else 1000  # the scale is a normal number of the working dtype
    scale = 1.0 if abs(exponent) < 20 else math.ldexp(1.0, max(min(-exponent, limit), -limit))
    with np.errstate(over="ignore", under="ignore"):
        center = (median * scale).astype(np.float32)
        usable = np.isfinite(center.astype(np.float64) / scale)  # rounding up may leave the range
        center = np.where(usable, center, np.float32(0))
        columns = columns * scale - center[:, None]
        norms = np.sqrt(np.einsum("ij,ij->j", columns, columns, dtype=np.float64))
        near = norms <= 2 * np.sort(norms)[int(0.9 * (len(norms) - 1))]
        norm = norms[near].max(initial=0.0)
        largest = np.abs(columns[:, near]).max(initial=0.0)
    return Frame(scale, center, 1.1 * float(norm), 1.1 * float(largest))


@dataclass(frozen=True)
class Centers:
    """Centroids of one iteration, prepared for every level of the cascade.

    Attributes
    ----------
    values : ndarray, shape (U, D)
        Distinct centroids in order of first appearance.
    first : ndarray of int32, shape (U,)
        The lowest index each of them has among the given ones.
    tile : Tile
        For the fast pass.
    points : ndarray of float32, shape (U, D)
        All of them, scaled and centred.
    errors : ndarray of float64, shape (U,)
        How far each point is from the centroid it stands for, at most.
    slope, offset, limit : float
        A row x̂ is certified if its lead exceeds slope·|x̂| + offset, twice the error of a score,
        and |x̂| < limit.
    far_norm : float
        Smallest norm of the centroids left to the triangle inequality.
    metric : Metric
    spread : float
        At most how far the |c|² of two centroids of a fit differ where labels do not depend on
        them, in the scale of the frame: 0 for the Euclidean metric.
    """

    values: np.ndarray
    first: np.ndarray
    frame: Frame
    tile: Tile
    points: np.ndarray
    errors: np.ndarray
    slope: float
    offset: float
    limit: float
    far_norm: float
    metric: Metric
    spread: float
    _doubles: dict[int, Doubles] = field(default_factory=dict)

    @functools.cached_property
    def between(self) -> np.ndarray:
        """Lower bounds of the distances between the centroids in the frame; infinite to itself."""
        n_clusters, n_features = self.values.shape
        out = np.empty((n_clusters, n_clusters), dtype=np.float32)
        with np.errstate(all="ignore"):
            points = self.values.astype(np.float64) * self.frame.scale - self.frame.center
            squares = np.einsum("ij,ij->i", points, points)
            squares *= 1 - 16 * gamma(n_features + 8, FLOAT64)
            step = max(1, (1 << 18) // n_clusters)
            for lo in range(0, n_clusters, step):
                some = slice(lo, lo + step)
                squared = squares[some, None] + squares
                squared -= (2 * points[some]) @ points.T
                squared -= 2.0**-120  # what float32 could round upwards
                np.fmax(squared, 0, out=squared)
                np.sqrt(np.fmin(squared, 1e36).astype(np.float32), out=out[some])
        out *= np.float32(1 - 2.0**-20)
        np.fill_diagonal(out, np.inf)
        return out

    @functools.cached_property
    def middle(self) -> np.ndarray:
        """The centre of the frame, in the units of the rows."""
        middle: np.ndarray = self.frame.center.astype(np.float64) / self.frame.scale
        return middle

    def doubles(self, largest: float) -> Doubles:
        """The centroids in float64, in a scale for rows of values up to `largest`.

        Computed once for each exponent that the rows of an iteration bring.
        """
        top = max(largest, float(np.abs(self.values).max()), float(np.abs(self.middle).max()))
        exponent = math.frexp(top)[1]
        if exponent not in self._doubles:
            center = np.ldexp(self.middle, -exponent)
            points = np.ldexp(self.values.astype(np.float64), -exponent) - center
            squares = np.einsum("ij,ij->i", points, points)
            bias, size = -0.5 * squares, squares
            if self.metric.spherical:  # x·c but for terms that all centroids share
                bias, size = points @ center, np.sqrt(squares * (center @ center))
            unit = 3 * gamma(points.shape[1] + 12, FLOAT64)
            slope, offset = unit * np.sqrt(squares), unit * size + TINY64
            self._doubles[exponent] = Doubles(exponent, center, points, bias, slope, offset)
        return self._doubles[exponent]


def prepare(
    centroids: np.ndarray, frame: Frame, input_unit: float = 0.0, metric: Metric = EUCLIDEAN
) -> Centers:
    """Merge equal centroids, build the fast pass's tile and its error bound."""
    first = _different(centroids)
    values = centroids[first]
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        exact = values.astype(np.float64) * frame.scale - frame.center
        rounded = exact.astype(np.float32)
        rounded[np.abs(rounded) < TINY32] = 0  # as some libraries would; `error` counts it
        squares = np.einsum("ij,ij->i", exact, exact)
        norms = np.sqrt(squares) * (1 + 1e-9)
        near = ~(norms > _FAR * np.sort(norms)[len(norms) // 2])
        exact -= rounded
        error = np.sqrt(np.einsum("ij,ij->i", exact, exact)) * (1 + 1e-9) + 2 * FLOAT64 * norms
        shift, largest_shift, spread = _score_shift(values, frame.scale, metric)
        bias = (shift - 0.5 * squares).astype(np.float32)
    points = rounded
    if not near.all():
        rounded = np.where(near[:, None], rounded, np.float32(0))
        bias[~near] = _OUT_OF_REACH
    norm, far_norm = float(norms[near].max()), float(norms[~near].min(initial=math.inf))
    largest_error = float(error[near].max())
    bound = score_bound(
        values.shape[1], norm, largest_error, input_unit=input_unit, shift=largest_shift
    )
    # closer rows are nearer to every near centroid
    reach = (far_norm - norm - spread / (far_norm + norm)) / 2 * (1 - 1e-6)
    limit = min(reach, _LARGEST_SCORE / max(norm, 1e-30), 1e18)
    if not (norm * norm < _LARGEST_SCORE and math.isfinite(bound.slope + bound.offset)):
        limit = -math.inf
    # the lead is rounded once when it is formed
    widen = 2 * (1 + 4 * FLOAT32)
    tile = Tile(rounded, bias)
    slope, offset = bound.slope * widen, bound.offset * widen
    return Centers(
        values, first, frame, tile, points, error, slope, offset, limit, far_norm, metric, spread
    )


def _different(centroids: np.ndarray) -> np.ndarray:
    """Lowest index of each different centroid, in order."""
    step, data = centroids[0].nbytes, centroids.tobytes()
    keys = [data[i : i + step] for i in range(0, len(data), step)]
    if len(set(keys)) == len(keys):
        return np.arange(len(keys), dtype=np.int32)
    seen: dict[bytes, int] = {}
    for k, key in enumerate(keys):
        seen.setdefault(key, k)
    return np.fromiter(seen.values(), dtype=np.int32, count=len(seen))


def _score_shift(
    values: np.ndarray, scale: float, metric: Metric
) -> tuple[np.ndarray | float, float, float]:
    """What makes x·c − |c|²/2 the score of this metric, its largest size, and `Centers.spread`."""
    if not metric.spherical:
        return 0.0, 0.0, 0.0
    excess, slack = norm_excess(values)
    unit = np.float64(scale) ** 2
    # float32 rounds its own 2**-24 off the size: this pays for the float64 slack
    largest = unit * (0.5 * float(np.abs(excess).max()) + slack / FLOAT32)
    spread = 2 * UNIT_ERROR[values.dtype] * unit
    return 0.5 * unit * excess, float(largest), float(spread)


@dataclass(frozen=True)
class Assigned:
    """Outcome of `assign_rows`.

    Attributes
    ----------
    labels : ndarray of int32, shape (n,)
        Nearest centroid of each row.
    score, lead : ndarray of float32, shape (n,), or None
        Fast score of the best centroid and its lead over the second best (at least); None with one
        centroid.
    certified : ndarray of bool, shape (n,)
        Rows whose score and lead are within the bound and decided the label.
    """

    labels: np.ndarray
    score: np.ndarray | None
    lead: np.ndarray | None
    certified: np.ndarray


def assign_rows(
    backend: Backend,
    x: Any,
    rows: slice | np.ndarray,
    norms: np.ndarray,
    centers: Centers,
    dtype: np.dtype[Any],
    tight: bool = True,
    decide: bool = True,
    known: np.ndarray | None = None,
) -> Assigned:
    """Nearest centroid of some rows, exactly; ties go to the lowest index.

    Parameters
    ----------
    backend : Backend
    x : array, shape (N, D)
        In the backend's namespace.
    rows : slice or ndarray of int64
        Which rows.
    norms : ndarray of float32, shape (N,)
        Upper bounds of |x̂| (`Backend.row_norms`).
    centers : Centers
    dtype : numpy.dtype
        Working dtype of rows on the host.
    tight : bool, default True
        Whether leads must be measured where a certificate needs less.
    decide : bool, default True
        False leaves rows that are not certified with any label: `settle_left` is for many of them.
    known : ndarray of int32, shape (N,), optional
        Labels that most rows have likely kept, -1 where there is none.
    """
    size = norms[rows]
    if len(centers.values) == 1:
        labels = np.full(len(size), centers.first[0], dtype=np.int32)
        return Assigned(labels, None, None, np.ones(len(size), dtype=bool))
    bound = centers.slope, centers.offset, centers.limit
    distinct = len(centers.first) > centers.first[-1]  # then labels are places in the tile
    guess = known[rows] if known is not None and distinct else None
    nearest, score, lead, certified = backend.nearest(
        x, rows, size, centers.frame, centers.tile, bound, tight, guess
    )
    left = np.flatnonzero(~certified)
    if not decide:
        nearest[left] = 0  # some passes leave any number there
        left = left[:0]
    step = max(1, _RECHECK_ENTRIES // max(len(centers.values), 4 * x.shape[1]))
    for i in range(0, len(left), step):
        some = left[i : i + step]
        which = some + rows.start if isinstance(rows, slice) else rows[some]
        nearest[some] = resolve(backend.gather(x, which, dtype), centers, backend)
    if not distinct:
        nearest = centers.first[nearest]
    return Assigned(nearest, score, lead, certified)


def settle_left(
    backend: Backend, x: Any, left: np.ndarray, centers: Centers, task: Task, dtype: np.dtype[Any]
) -> Swept:
    """Label rows that a pass left open, by the rest of the cascade."""
    now = np.empty(len(left), dtype=np.int32)
    step = max(1, _RECHECK_ENTRIES // max(len(centers.values), 4 * x.shape[1]))
    for i in range(0, len(left), step):
        some = backend.gather(x, left[i : i + step], dtype)
        now[i : i + step] = centers.first[resolve(some, centers, backend)]
    old = task.labels[left]
    task.labels[left] = now
    moved = np.flatnonzero(now != old)
    return Swept(len(moved), left[moved], old[moved], left[:0])


def resolve(rows: np.ndarray, centers: Centers, backend: Backend | None = None) -> np.ndarray:
    """Index into `centers.values` of the exact nearest centroid of each row; ties to the lowest.

    A backend may know a faster way for the rows that float64 scores tell apart.
    """
    doubles = centers.doubles(float(np.abs(rows).max()))
    nearest = None if backend is None else backend.recheck(rows, doubles)
    if nearest is None:
        return _resolve(rows, doubles, centers)
    left = np.flatnonzero(nearest < 0)
    if left.size:
        nearest[left] = _resolve(rows[left], doubles, centers)
    return nearest


def _resolve(rows: np.ndarray, doubles: Doubles, centers: Centers) -> np.ndarray:
    candidates = _float64_candidates(rows, doubles, centers)
    nearest = candidates.argmax(axis=1)
    count = candidates.sum(axis=1)
    open_rows = np.flatnonzero(count > 1)
    if not open_rows.size:
        return nearest
    values = centers.values
    order = np.argsort(~candidates[open_rows], axis=1, kind="stable")
    current = nearest[open_rows]
    for place in range(1, int(count[open_rows].max())):
        still = np.flatnonzero(count[open_rows] > place)
        rival = order[still, place]
        batch = max(1, _RECHECK_ENTRIES // (8 * rows.shape[1]))
        for i in range(0, len(still), batch):
            s, r = still[i : i + batch], rival[i : i + batch]
            some = rows[open_rows[s]]
            sign = centers.metric.compare(some, values[r], values[current[s]])
            current[s] = np.where(sign > 0, r, current[s])
    nearest[open_rows] = current
    return nearest


def _float64_candidates(rows: np.ndarray, doubles: Doubles, centers: Centers) -> np.ndarray:
    """Centroids that float64 scores cannot rule out; exactly the best ones on a coarse grid."""
    x = np.ldexp(rows.astype(np.float64), -doubles.exponent) - doubles.middle
    norms = np.sqrt(np.einsum("ij,ij->i", x, x))[:, None]
    scores = x @ doubles.points.T + doubles.bias
    error = norms * doubles.slope + doubles.offset
    candidates = scores + error >= (scores - error).max(axis=1)[:, None]
    tied = (candidates.sum(axis=1) > 1).any()
    if tied and is_exact_grid(rows.shape[1], rows, centers.values, centers.middle):
        return scores == scores.max(axis=1)[:, None]
    return candidates
