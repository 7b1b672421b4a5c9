"""Where the centroids start: random rows, k-means++, k-means||, and the integers that decide.

Randomness is raw 64-bit words of PCG64, whose stream is frozen; every draw is exact integer
arithmetic (docs/exactness.md, "The start").
"""

from __future__ import annotations

import bisect
import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from kmeans_xp.blocks.base import Blocks, Potential
from kmeans_xp.blocks.open import open_blocks
from kmeans_xp.children import Children, split_state
from kmeans_xp.exact.potentials import integer_weights, weight_scale
from kmeans_xp.oversampling import draw_candidates, draws_a_round
from kmeans_xp.validation import check_random_state

__all__ = [
    "MiniBatchSampler",
    "RowSampler",
    "Words",
    "batch_seeds",
    "most_words",
    "parallel",
    "plus_plus",
    "random_rows",
    "sample_rows",
    "shared_seed",
    "words_kept",
]

# Candidates' values times clusters that are worth a device, where the rows are on one.
_LARGE_POOL = 1 << 26
# k-means++ looks at all rows up to this many, and at no fewer than 256 a cluster.
_INIT_ROWS = 1 << 20
_ROWS_A_CLUSTER = 256
# Where a draw by weight lies is looked up by so many of its leading bits, at most.
_BUCKET_BITS = 16


class Words:
    """A stream of raw 64-bit words.

    Parameters
    ----------
    random_state : None, int, SeedSequence, RandomState or Generator
        An int or SeedSequence seeds PCG64. A RandomState or Generator gives one 64-bit draw as the
        seed.
    """

    def __init__(self, random_state: Any = None) -> None:
        self._source = np.random.PCG64(_seed(random_state))

    def copy(self) -> Words:
        """Return a stream that goes on alike."""
        same = copy.copy(self)
        same._source = np.random.PCG64(0)
        same._source.state = self._source.state
        return same

    def word(self) -> int:
        """Return the next 64 random bits."""
        return int(self._source.random_raw())

    @property
    def state(self) -> dict[str, Any]:
        """Where the stream stands, as plain data."""
        return dict(self._source.state)

    @state.setter
    def state(self, value: Any) -> None:
        self._source.state = value

    def begun(self) -> np.ndarray:
        """Return state and increment before the next word, as `Children.states` does: (4,)."""
        return np.array(split_state(self.state), dtype=np.uint64)

    def words(self, count: int) -> np.ndarray:
        """Return the next `count` words as uint64."""
        return self._source.random_raw(count)

    def below(self, total: int) -> int:
        """Return a random integer in [0, total), total > 0."""
        n_words = max(1, -(-total.bit_length() // 64))
        bits = 0
        for _ in range(n_words):
            bits = bits << 64 | self.word()
        return bits * total >> 64 * n_words


def _source(random_state: Any) -> Any:
    """Return what is drawn from: `np.random` is scikit-learn's name for the global state."""
    return np.random.mtrand._rand if random_state is np.random else random_state


def _seed(random_state: Any) -> Any:
    random_state = _source(random_state)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(0, 1 << 64, dtype=np.uint64))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(0, 1 << 64, dtype=np.uint64))
    if random_state is None or isinstance(random_state, np.random.SeedSequence):
        return random_state
    return int(random_state)


@contextmanager
def words_kept(random_state: Any) -> Iterator[Words]:
    """Give the words of a seed; a Generator is drawn from at the end, if nothing was refused.

    Raises
    ------
    TypeError, ValueError
        For what cannot seed.
    """
    check_random_state(random_state)
    yield Words(copy.deepcopy(_source(random_state)))
    Words(random_state)  # draws what was looked at


@contextmanager
def shared_seed(random_state: Any) -> Iterator[Any]:
    """Give one seed for several fits, by `words_kept`: what can be given again as it is, else 64
    bits.
    """
    with words_kept(random_state) as words:
        known = isinstance(random_state, np.random.SeedSequence | int | np.integer)
        yield random_state if known else words.word()


def most_words(n_clusters: int, n_starts: int) -> int:
    """Words that the starts of a problem of fewer than 2**32 rows use at most."""
    return n_starts * (n_clusters * (2 + int(math.log(n_clusters))) + 1)


def batch_seeds(random_state: Any, count: int) -> Children:
    """Seeds of the problems of a batch: the children of one `SeedSequence`, as `spawn` makes them.

    Parameters
    ----------
    random_state : None, int, SeedSequence, RandomState or Generator
        As for `Words`; a SeedSequence is left as it is.
    count : int
        Number of problems.
    """
    seed = _seed(random_state)
    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    return Children(root, count)


class RowSampler:
    """Draws rows with probability proportional to integer weights; drawn rows can be taken out.

    Parameters
    ----------
    n_rows : int
        Number of rows.
    w : ndarray, shape (n_rows,), or None
        Non-negative weights, not all zero; equal ones if None.
    """

    _block = 4096

    def __init__(self, n_rows: int, w: np.ndarray | None) -> None:
        self.n_rows = n_rows
        self._gone: list[int] = []
        self._q: np.ndarray | None = None
        if w is not None:
            self._q = integer_weights(w.astype(np.float64), weight_scale(float(w.max())))
            starts = np.arange(0, n_rows, self._block)
            self._totals = np.add.reduceat(self._q, starts).tolist()

    def draw(self, words: Words) -> int:
        """Draw one row."""
        total = 0 if self._q is None else sum(self._totals)
        if total == 0:  # equal weights: all rows, or those that are left when no weight is
            left = self.n_rows - len(self._gone)
            # p = 1 gives q = 2^30 for every row
            rank = words.below(left << 30) >> 30 if self._q is None else words.below(left)
            before = bisect.bisect_right(
                range(len(self._gone)), rank, key=lambda i: self._gone[i] - i
            )
            return rank + before
        assert self._q is not None
        target = words.below(total)
        block = 0
        while target >= self._totals[block]:
            target -= self._totals[block]
            block += 1
        lo = block * self._block
        running = np.cumsum(self._q[lo : lo + self._block])
        return lo + int(np.searchsorted(running, target, side="right"))

    def remove(self, row: int) -> None:
        """Take a row out."""
        bisect.insort(self._gone, row)
        if self._q is not None:
            self._totals[row // self._block] -= int(self._q[row])
            self._q[row] = 0


class MiniBatchSampler:
    """Draws rows with replacement, with probability proportional to integer weights.

    Parameters
    ----------
    n_rows : int
        Number of rows; below 2**33 where there are weights.
    w : ndarray, shape (n_rows,), or None
        Non-negative weights, not all zero; equal ones if None.
    """

    def __init__(self, n_rows: int, w: np.ndarray | None) -> None:
        self._total, self._running = n_rows, None
        if w is not None:
            if n_rows >= 1 << 33:  # the running sums would leave 64 bits
                raise ValueError(
                    "sample_weight: batches are drawn by weight from fewer than 2**33 rows, got "
                    f"{n_rows}"
                )
            q = integer_weights(w.astype(np.float64), weight_scale(float(w.max())))
            self._running = np.cumsum(q, dtype=np.uint64)
            self._total = int(self._running[-1])
            bits = min(n_rows.bit_length(), _BUCKET_BITS)
            self._shift = np.uint64(max(self._total.bit_length() - bits, 0))
            starts = np.arange((self._total - 1 >> int(self._shift)) + 1, dtype=np.uint64)
            first = self._running.searchsorted(starts << self._shift, side="right")
            self._first = np.append(first, n_rows - 1)

    def draw(self, count: int, words: Words) -> np.ndarray:
        """Indices of `count` rows, in the order drawn."""
        targets = _scaled(words.words(count), self._total)
        if self._running is None:
            return targets
        return self._search(targets.view(np.uint64))

    def _search(self, targets: np.ndarray) -> np.ndarray:
        """Where the running sums exceed the targets: `searchsorted` would miss the cache."""
        assert self._running is not None
        bucket = (targets >> self._shift).view(np.int64)
        low, high = self._first[bucket], self._first[bucket + 1]
        for _ in range(int((high - low).max()).bit_length()):
            middle = (low + high) >> 1
            beyond = self._running[middle] <= targets
            low, high = np.where(beyond, middle + 1, low), np.where(beyond, high, middle)
        return low


def random_rows(blocks: Blocks, n_clusters: int, words: Words) -> np.ndarray:
    """Indices of `n_clusters` different rows, weighted, in the order drawn."""
    sampler = RowSampler(blocks.n_rows, blocks.weights())
    rows = []
    for _ in range(n_clusters):
        rows.append(sampler.draw(words))
        sampler.remove(rows[-1])
    return np.asarray(rows)


def sample_rows(n_rows: int, size: int, words: Words) -> np.ndarray:
    """Increasing indices of `size` different rows out of `n_rows`, all equally likely."""
    few = min(size, n_rows - size)
    chosen = np.empty(0, dtype=np.int64)
    seen = np.zeros(n_rows, dtype=bool)
    while len(chosen) < few:
        drawn = _scaled(words.words(few - len(chosen)), n_rows)
        _, first = np.unique(drawn, return_index=True)
        fresh = drawn[np.sort(first)]  # the stream's order, repeats skipped
        fresh = fresh[~seen[fresh]]
        seen[fresh] = True
        chosen = np.concatenate([chosen, fresh])
    return np.flatnonzero(seen if few == size else ~seen)


def _scaled(words: np.ndarray, total: int) -> np.ndarray:
    """(u·total) >> 64 for uint64 words and total < 2^64, by products of 32-bit halves."""
    half, mask = np.uint64(32), np.uint64(0xFFFFFFFF)
    high, low = words >> half, words & mask
    t_high, t_low = np.uint64(total >> 32), np.uint64(total & 0xFFFFFFFF)
    cross = high * t_low + (low * t_low >> half)
    middle = (cross & mask) + low * t_high
    return (high * t_high + (cross >> half) + (middle >> half)).astype(np.int64)


def plus_plus(
    blocks: Blocks,
    n_clusters: int,
    words: Words,
    init_size: int | str = "auto",
    trials: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Greedy k-means++ on all rows, or on a sample of a large array.

    D. Arthur, S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007; the
    greedy variant with 2 + ⌊ln k⌋ trials a centre (unless told otherwise) is the one that
    scikit-learn uses.

    Returns
    -------
    centroids : ndarray, shape (n_clusters, D)
        On the host.
    indices : ndarray of int64, shape (n_clusters,)
        Rows of the data.
    """
    limit = max(_INIT_ROWS, _ROWS_A_CLUSTER * n_clusters) if init_size == "auto" else int(init_size)
    if trials is None:
        trials = 2 + int(math.log(n_clusters))  # ln k is never near an integer, except ln 1
    chosen, weights = _looked_at(blocks, limit, words)
    n_rows = blocks.n_rows if chosen is None else len(chosen)
    potential = blocks.potential(chosen, weighted=weights is not None)
    rows = _plus_plus_rows(potential, n_rows, weights, n_clusters, words, trials)
    rows = rows if chosen is None else chosen[rows]
    return blocks.rows(rows), rows


def _looked_at(
    blocks: Blocks, limit: int, words: Words
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Rows that a start looks at (None: all), drawn if there are more than `limit`; their weights,
    None where none counts.
    """
    weights = blocks.weights()
    if limit >= blocks.n_rows:
        return None, weights
    chosen = sample_rows(blocks.n_rows, limit, words)
    part = None if weights is None else weights[chosen]
    return chosen, part if part is not None and part.any() else None


def parallel(
    blocks: Blocks,
    n_clusters: int,
    words: Words,
    factor: float = 2.0,
    init_size: int | str = "auto",
) -> np.ndarray:
    """Centroids of k-means||: greedy k-means++ on candidates drawn many at a time, in few passes.

    B. Bahmani et al., "Scalable k-means++", PVLDB 5 (2012). With `init_size` "auto" all rows count.

    Returns
    -------
    centroids : ndarray, shape (n_clusters, D)
        On the host.
    """
    limit = blocks.n_rows if init_size == "auto" else int(init_size)
    chosen, weights = _looked_at(blocks, limit, words)
    n_rows = blocks.n_rows if chosen is None else len(chosen)
    potential = blocks.oversampling(chosen, weighted=weights is not None)
    first = RowSampler(n_rows, weights).draw(words)
    drawn = draw_candidates(
        potential, first, draws_a_round(factor, n_clusters), n_clusters, words.below
    )
    shares = potential.shares(drawn)
    candidates = blocks.rows(drawn if chosen is None else chosen[drawn])
    known = shares if shares.any() else None  # weights that all underflow are none
    device = blocks.device if candidates.size * n_clusters >= _LARGE_POOL else None
    # Euclidean, among directions too
    pool = open_blocks(candidates, known, blocks.dtype, device)
    with pool.session():
        return plus_plus(pool, n_clusters, words, len(candidates))[0]


def _plus_plus_rows(
    potential: Potential,
    n_rows: int,
    w: np.ndarray | None,
    n_clusters: int,
    words: Words,
    trials: int,
) -> np.ndarray:
    """Positions of the chosen rows among the `n_rows` that `potential` speaks of."""
    weighted = RowSampler(n_rows, w)
    rows = [weighted.draw(words)]
    if n_clusters > 1:
        potential.start(rows[0])
    while len(rows) < n_clusters:
        total = potential.total()
        if total == 0:  # every row coincides with a centre
            rows.append(weighted.draw(words))
            continue
        candidates = potential.locate([words.below(total) for _ in range(trials)])
        costs = potential.costs(candidates)
        best = candidates[costs.index(min(costs))]
        rows.append(best)
        if len(rows) < n_clusters:
            potential.accept(best)
    return np.asarray(rows)
