"""Mini-batch k-means: small batches move centroids that remember how much weight they have seen.

D. Sculley, "Web-scale k-means clustering", WWW 2010, with the start, the reassignment of rare
clusters and the stop rules that scikit-learn adds. docs/exactness.md, "Mini-batch", defines it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from kmeans_xp.assignment import Centers
from kmeans_xp.backends.convert import centroid_dtype, from_numpy
from kmeans_xp.backends.devices import on_cuda_device
from kmeans_xp.blocks.base import Blocks
from kmeans_xp.blocks.minibatch import MiniBatchPass, host_rows
from kmeans_xp.blocks.open import open_blocks
from kmeans_xp.exact.blend import Totals
from kmeans_xp.exact.inertia import exact_shift, shift_bounds
from kmeans_xp.exceptions import warn_of_overflow
from kmeans_xp.minibatch_options import Options, Plan
from kmeans_xp.seeding import MiniBatchSampler, RowSampler, Words, sample_rows
from kmeans_xp.streams import is_stream
from kmeans_xp.validation import as_array, check_metric, check_tol, check_weights

__all__ = ["MiniBatchResult", "MiniBatchState", "Options", "fit", "partial_fit"]

# Weight of the newest batch in the moving average, at most: one batch alone says little.
_NEWEST = 0.1
# Rows of batches that are gathered together, from a stream and from memory.
_STREAM_BYTES, _MEMORY_BYTES = 1 << 26, 1 << 20
# Rows that choose the frame of the fast pass.
_SAMPLE = 1000
# Batches of `partial_fit` that are seen in one frame: a stream may drift away from it.
_FRAME_STEPS = 16


@dataclass(eq=False)
class MiniBatchState:
    """All that a further batch needs; it can be pickled.

    Attributes
    ----------
    centroids : ndarray, shape (K, D)
        On the host.
    totals : Totals
        Weight each of them has seen.
    waiting : int
        Rows since rare clusters were last looked for.
    words : Words
        Random stream of reassignments.
    prepared : Centers or None
        What the fast pass keeps of the centroids; only saves time.
    """

    centroids: np.ndarray
    totals: Totals
    waiting: int
    words: Words
    prepared: Centers | None = None

    @classmethod
    def begin(cls, centroids: np.ndarray, words: Words) -> MiniBatchState:
        """Centroids that have seen nothing."""
        return cls(centroids, Totals.none(len(centroids)), 0, words)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "prepared": None}


@dataclass(frozen=True, eq=False)
class MiniBatchResult:
    """Outcome of `fit` or `partial_fit`; arrays are in the namespace and on the device of X.

    Attributes
    ----------
    state : MiniBatchState
    centroids : array, shape (K, D)
    counts : array, shape (K,)
        Weight each cluster has seen, in the dtype of the centroids.
    labels : array of int32, shape (N,), or None
    inertia : float or None
    n_steps : int
    n_iter : int or None
    """

    state: MiniBatchState
    centroids: Any
    counts: Any
    labels: Any
    inertia: float | None
    n_steps: int
    n_iter: int | None


# ---- one step


def advance(
    state: MiniBatchState,
    batches: MiniBatchPass,
    rows: np.ndarray,
    w: np.ndarray | None,
    options: Options,
) -> float:
    """Move the centroids by one batch; returns its inertia before that, rounded once."""
    state.waiting += len(rows)
    look = state.waiting >= 10 * len(state.centroids) or not state.totals.units.all()
    if look:
        state.waiting = 0
    stepped = batches.step(rows, w, state.centroids, state.totals)
    state.centroids, state.totals = stepped.centroids, stepped.totals
    if look and options.reassignment_ratio > 0:
        _reassign(state, rows, w, options)
    return stepped.inertia


def _reassign(
    state: MiniBatchState, rows: np.ndarray, w: np.ndarray | None, options: Options
) -> None:
    """Rare clusters start anew at rows of the batch."""
    rare = np.flatnonzero(state.totals.rare(options.reassignment_ratio))
    if not rare.size:
        return
    eligible = np.arange(len(rows)) if w is None else np.flatnonzero(w > 0)
    most = len(eligible) // 2
    if len(rare) > most:
        rarest = np.argsort(state.totals.units[rare], kind="stable")[:most]
        rare = np.sort(rare[rarest])
    if not rare.size:
        return
    if options.verbose:
        print(f"[MiniBatchKMeans] Reassigning {len(rare)} cluster centers.")
    sampler = RowSampler(len(eligible), None)
    state.centroids, state.words = state.centroids.copy(), state.words.copy()
    for k in rare.tolist():
        place = sampler.draw(state.words)
        sampler.remove(place)
        state.centroids[k] = rows[eligible[place]] + rows.dtype.type(0)
    state.totals = state.totals.lifted(rare)


# ---- when to stop


@dataclass
class _Monitor:
    """The moving average of the inertia, in float64, and the rules that stop a fit early.

    It begins at the inertia of the start, above all that follow, and forgets it within a pass or
    two: a batch that is good by chance stops nothing.
    """

    options: Options
    blocks: Blocks
    n_batch: int
    n_steps: int
    average: float | None = None
    least: float | None = None
    in_vain: int = 0

    def stops(self, step: int, inertia: float, new: np.ndarray, old: np.ndarray) -> bool:
        """Take in a step, counted from 1; True if it is to be the last one."""
        mean = inertia / self.n_batch
        said = f"Minibatch step {step}/{self.n_steps}: mean batch inertia: {mean}"
        if self.average is None:  # it speaks of the start
            self.average = mean
            self._say(said)
            return False
        alpha = min(self.n_batch * 3.0 / (self.blocks.n_rows + 1), _NEWEST)
        self.average = self.average * (1.0 - alpha) + mean * alpha
        self._say(f"{said}, ewa inertia: {self.average}")
        if self.options.tol > 0 and self._still(new, old):
            self._say(f"Converged (small centers change) at step {step}/{self.n_steps}")
            return True
        if self.least is None or self.average < self.least:
            self.in_vain, self.least = 0, self.average
        else:
            self.in_vain += 1
        patience = self.options.max_no_improvement
        if patience is not None and self.in_vain >= patience:
            self._say(f"Converged (lack of improvement in inertia) at step {step}/{self.n_steps}")
            return True
        return False

    def _still(self, new: np.ndarray, old: np.ndarray) -> bool:
        """Whether the real shift is at most tol times the mean variance."""
        limit = Fraction(self.options.tol) * self.blocks.variance()
        low, high = shift_bounds(new, old)
        if Fraction(low) > limit:
            return False
        return (high < math.inf and Fraction(high) <= limit) or exact_shift(new, old) <= limit

    def _say(self, line: str) -> None:
        if self.options.verbose:
            print(line)


# ---- fits


def fit(X: Any, options: Options, sample_weight: Any = None) -> MiniBatchResult:
    """Move centroids by batches drawn from X, with replacement and by weight, until a rule stops.

    Parameters
    ----------
    X : array, shape (N, D)
        As for `kmeans`; of a stream the rows of many batches are gathered together, in a pass.
    options : Options
    sample_weight : array, shape (N,), optional
        Weights of the rows: rows are drawn by them, and count equally once drawn.

    Returns
    -------
    MiniBatchResult

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument, before any work.
    """
    x = as_array(X, sparse=True, streams=True)
    plan = options.checked(x)
    w = check_weights(sample_weight, x)
    n_rows, n_batch, metric = int(x.shape[0]), plan.n_batch, plan.start.metric
    with on_cuda_device(plan.device, x):
        blocks = open_blocks(x, w, centroid_dtype(x), plan.device, metric=metric)
    words = Words(options.random_state)
    reassignments = Words(words.word())
    n_steps = options.max_iter * n_rows // n_batch
    monitor = _Monitor(options, blocks, n_batch, n_steps)
    sampler = MiniBatchSampler(n_rows, w)
    with on_cuda_device(plan.device, x), blocks.session():
        centroids = _start(blocks, x, plan, words, options.verbose)
        state = MiniBatchState.begin(centroids, reassignments)
        batches = MiniBatchPass(
            blocks.rows(np.arange(0, n_rows, -(-n_rows // _SAMPLE))),
            n_rows * blocks.n_features,
            metric,
        )
        with batches.session():
            size = n_batch * blocks.n_features * blocks.dtype.itemsize
            most = (_STREAM_BYTES if is_stream(x) else _MEMORY_BYTES) // size
            drawn = _drawn(blocks, lambda n: sampler.draw(n, words), n_batch, n_steps, most)
            for step, rows in enumerate(drawn, 1):
                old = state.centroids
                inertia = advance(state, batches, rows, None, options)
                if monitor.stops(step, inertia, state.centroids, old):
                    break
        labels = None
        if options.compute_labels:
            labels, inertia = _label(blocks, state.centroids)
        else:
            assert monitor.average is not None
            inertia = monitor.average * (n_rows if w is None else math.fsum(w.tolist()))
    warn_of_overflow(inertia)
    return _result(state, x, labels, inertia, step, -(-step * n_batch // n_rows))


def _drawn(
    blocks: Blocks, draw: Callable[[int], np.ndarray], n_batch: int, n_steps: int, most: int
) -> Iterator[np.ndarray]:
    """Rows of batches in turn, drawn ahead of their use, more and more of them together: no words
    are drawn after the last batch's.
    """
    together = 1
    while n_steps > 0:
        count = min(together, n_steps)
        n_steps -= count
        rows = blocks.rows(draw(count * n_batch))
        for lo in range(0, len(rows), n_batch):
            yield rows[lo : lo + n_batch]
        together = max(1, min(2 * together, most))


def partial_fit(
    X: Any,
    options: Options,
    state: MiniBatchState | None = None,
    n_steps: int = 0,
    sample_weight: Any = None,
) -> MiniBatchResult:
    """Move centroids by one batch, all of X.

    Parameters
    ----------
    X : array, shape (n, D)
        The batch; the first one has at least as many rows as clusters.
    options : Options
    state : MiniBatchState, optional
        Of the result before, which is left as it is; None starts from X.
    n_steps : int, default 0
        Steps made before.
    sample_weight : array, shape (n,), optional
        Weights of the rows.

    Returns
    -------
    MiniBatchResult

    Raises
    ------
    TypeError, ValueError
        For bad input, naming the argument, before any work.
    """
    x = as_array(X, sparse=True)
    check_tol(options.reassignment_ratio, "reassignment_ratio")
    dtype, metric = centroid_dtype(x), check_metric(options.metric)
    if state is None:
        plan = replace(options.checked(x), n_init=1)
    elif x.shape[1] != state.centroids.shape[1]:
        raise ValueError(
            f"X must have the {state.centroids.shape[1]} features of the batches before, got "
            f"{x.shape[1]}"
        )
    elif dtype != state.centroids.dtype:  # it holds both exactly
        dtype = np.dtype(np.float64)
    w = check_weights(sample_weight, x)
    rows = host_rows(x, dtype, metric)
    if state is None:
        words = Words(options.random_state)
        reassignments = Words(words.word())
        blocks = open_blocks(rows, w, dtype)
        with blocks.session():
            centroids = _start(blocks, x, plan, words, options.verbose)
        state = MiniBatchState.begin(centroids, reassignments)
    else:
        centroids = metric.given(state.centroids.astype(dtype), "centroids")
        state = replace(state, centroids=centroids)
    labels, inertia = None, None
    prepared = state.prepared if n_steps % _FRAME_STEPS else None
    if prepared is not None and prepared.values.dtype != dtype:
        prepared = None
    batches = MiniBatchPass(rows, rows.size * (n_steps + 1), metric, prepared)
    with batches.session(rows.size * len(state.centroids)):
        advance(state, batches, rows, w, options)
        if options.compute_labels:
            found, inertia = batches.label(rows, w, state.centroids)
            labels = from_numpy(found, x)
    state.prepared = batches.prepared
    return _result(state, x, labels, inertia, n_steps + 1, None)


def _start(blocks: Blocks, x: Any, plan: Plan, words: Words, verbose: int) -> np.ndarray:
    """The best of some starts on a few rows each, by the inertia of as many other rows."""
    start, n_init = plan.start, plan.n_init
    if start.given is not None:
        return start.given
    judge: tuple[np.ndarray, np.ndarray | None] | None = None
    if n_init > 1:
        judge = _sample(blocks, plan.size, words)
    best: tuple[float, np.ndarray] | None = None
    for index in range(n_init):
        rows, w = _sample(blocks, plan.size, words)
        place = open_blocks(rows, w, blocks.dtype)  # the start is Euclidean, among directions too
        with place.session():
            centroids = start.centroids(place, words, from_numpy(rows, x))
        if judge is None:
            return centroids + centroids.dtype.type(0)
        batches = MiniBatchPass(judge[0], judge[0].size, start.metric)
        with batches.session():
            cost = batches.label(*judge, centroids)[1]
        if verbose:
            print(f"Inertia for init {index + 1}/{n_init}: {cost}")
        if best is None or cost < best[0]:
            best = cost, centroids
    assert best is not None
    return best[1] + best[1].dtype.type(0)


def _sample(blocks: Blocks, size: int, words: Words) -> tuple[np.ndarray, np.ndarray | None]:
    """Different rows and their weights: `size` drawn ones, or all there are."""
    n_rows = blocks.n_rows
    chosen = np.arange(n_rows) if size >= n_rows else sample_rows(n_rows, size, words)
    w = blocks.weights()
    part = None if w is None else w[chosen]
    if part is not None and not part.any():
        part = None  # as if they had no weights
    return blocks.rows(chosen), part


def _label(blocks: Blocks, centroids: np.ndarray) -> tuple[Any, float]:
    handle = blocks.place(centroids)
    blocks.settle(handle)
    inertia = blocks.inertia(handle)
    return blocks.labels(), inertia


def _result(
    state: MiniBatchState,
    x: Any,
    labels: Any,
    inertia: float | None,
    n_steps: int,
    n_iter: int | None,
) -> MiniBatchResult:
    counts = state.totals.floats().astype(state.centroids.dtype)
    return MiniBatchResult(
        state,
        from_numpy(state.centroids.copy(), x),
        from_numpy(counts, x),
        labels,
        inertia,
        n_steps,
        n_iter,
    )
