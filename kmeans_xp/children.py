"""Raw words of many streams at once: those of the children that a SeedSequence spawns.

The seeds of a batch are a million objects that NumPy makes one by one; here the same arithmetic
runs over arrays. It is M. E. O'Neill's ("Developing a seed_seq alternative", 2015; "PCG", HMC-CS-
2014-0905) as NumPy has frozen it for `SeedSequence` and `PCG64`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy as np

__all__ = ["Children", "split_state"]

# Of the hashes of SeedSequence.
_INIT_A, _MULT_A, _INIT_B, _MULT_B = 0x43B0D7E5, 0x931E8875, 0x8B51F9DD, 0x58F38DED
_MIX_L, _MIX_R, _SHIFT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715), np.uint32(16)
_WORD, _HALF, _ONE = 1 << 32, np.uint64(32), np.uint64(1)
_LOW = np.uint64(_WORD - 1)
# Multiplier of PCG64, high and low.
_HIGH_FACTOR, _LOW_FACTOR = np.uint64(0x2360ED051FC65DA4), np.uint64(0x4385DF649FCCF645)
# Children looked at together: what they need stays in the cache.
_TOGETHER = 1 << 12


class Children(Sequence[Any]):
    """Children of a SeedSequence, as `spawn` makes them, each made when it is asked for.

    Parameters
    ----------
    root : numpy.random.SeedSequence
        Left as it is: its own counter of children does not count these.
    count : int
        How many.
    """

    def __init__(self, root: np.random.SeedSequence, count: int) -> None:
        self._root, self._count = root, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        root = self._root
        key = (*root.spawn_key, int(index))
        return np.random.SeedSequence(root.entropy, spawn_key=key, pool_size=root.pool_size)

    def words(self, which: np.ndarray, n_words: int) -> np.ndarray:
        """First words of the streams of some children.

        Parameters
        ----------
        which : ndarray of int, shape (n,)
            Below 2**32.
        n_words : int

        Returns
        -------
        ndarray of uint64, shape (n, n_words)
            Row i is ``PCG64(self[which[i]]).random_raw(n_words)``.
        """
        states, out = self.states(which), np.empty((len(which), n_words), dtype=np.uint64)
        for lo in range(0, len(which), _TOGETHER):
            _fill(list(states[lo : lo + _TOGETHER].T), out[lo : lo + _TOGETHER])
        return out

    def states(self, which: np.ndarray) -> np.ndarray:
        """Where the streams of some children begin.

        Parameters
        ----------
        which : ndarray of int, shape (n,)
            Below 2**32.

        Returns
        -------
        ndarray of uint64, shape (n, 4)
            State and increment of PCG64 before the first word, each the high 64 bits first.
        """
        out = np.empty((len(which), 4), dtype=np.uint64)
        used = self._words_before()
        if used is None:
            for row, child in zip(out, which, strict=True):
                row[:] = split_state(np.random.PCG64(self[child]).state)
            return out
        for lo in range(0, len(which), _TOGETHER):
            keys = which[lo : lo + _TOGETHER].astype(np.uint32)
            begun = _begun(_seeds(_pools(self._root, keys, used)))
            out[lo : lo + _TOGETHER] = np.stack(begun, axis=1)
        return out

    def _words_before(self) -> int | None:
        """32-bit words that the root hashes before a child's own number; None if not known."""
        entropy = _count_words(self._root.entropy)
        key = _count_words(self._root.spawn_key)
        if entropy is None or key is None:
            return None
        return max(entropy, self._root.pool_size) + key


def split_state(state: Any) -> list[int]:
    """State and increment of a PCG64, from its `state`, each the high 64 bits first."""
    numbers = state["state"]["state"], state["state"]["inc"]
    return [part for number in numbers for part in divmod(number, 1 << 64)]


def _count_words(value: Any) -> int | None:
    """32-bit words of a number or of numbers, None for what is neither."""
    if isinstance(value, Integral):
        return max(1, -(-int(value).bit_length() // 32))
    if not isinstance(value, list | tuple):
        return None
    counts = [_count_words(one) for one in value]
    return None if None in counts else sum(count for count in counts if count is not None)


def _factors(first: int, mult: int) -> Iterator[tuple[np.uint32, np.uint32]]:
    """What each value in turn is combined with by exclusive or, and multiplied by."""
    while True:
        after = first * mult % _WORD
        yield np.uint32(first), np.uint32(after)
        first = after


def _hashed(values: np.ndarray, factors: tuple[np.uint32, np.uint32]) -> np.ndarray:
    values = (values ^ factors[0]) * factors[1]
    return values ^ (values >> _SHIFT)


def _pools(root: np.random.SeedSequence, keys: np.ndarray, used: int) -> list[np.ndarray]:
    """Pools of the children of these numbers: the root's, into which a number is mixed."""
    size = root.pool_size
    before = size * size + size * (used - size)  # hashes; the pool hashes each of its pairs
    factors = _factors(_INIT_A * pow(_MULT_A, before, _WORD) % _WORD, _MULT_A)
    pools = []
    for word, factor in zip(root.pool, factors, strict=False):
        with np.errstate(over="ignore"):
            mixed = _MIX_L * word - _MIX_R * _hashed(keys, factor)
        pools.append(mixed ^ (mixed >> _SHIFT))
    return pools


def _seeds(pools: list[np.ndarray]) -> list[np.ndarray]:
    """Four 64-bit words of each child, those that seed PCG64."""
    factors = _factors(_INIT_B, _MULT_B)
    halves = [
        _hashed(pools[i % len(pools)], factor).astype(np.uint64)
        for i, factor in zip(range(8), factors, strict=False)
    ]
    return [low | high << _HALF for low, high in zip(halves[::2], halves[1::2], strict=True)]


def _begun(seeds: list[np.ndarray]) -> list[np.ndarray]:
    """States and increments before the first word, for seeds of four words."""
    high, low, more_high, more_low = seeds
    step = more_high << _ONE | more_low >> np.uint64(63), more_low << _ONE | _ONE
    high, low = _added(*step, high, low)  # the state 0 after a step, and the seed
    return [*_stepped(high, low, *step), *step]


def _fill(states: list[np.ndarray], out: np.ndarray) -> None:
    """Put the next words of the streams into `out`, one stream a row."""
    high, low, *step = states
    for i in range(out.shape[1]):
        high, low = _stepped(high, low, *step)
        mixed, turn = high ^ low, high >> np.uint64(58)
        out[:, i] = mixed >> turn | mixed << (-turn & np.uint64(63))


def _stepped(
    high: np.ndarray, low: np.ndarray, step_high: np.ndarray, step_low: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Multiply 128-bit states by the factor and add the step."""
    a1, a0, b1, b0 = low >> _HALF, low & _LOW, _LOW_FACTOR >> _HALF, _LOW_FACTOR & _LOW
    middle = a1 * b0 + (a0 * b0 >> _HALF)
    other = a0 * b1 + (middle & _LOW)
    carried = a1 * b1 + (middle >> _HALF) + (other >> _HALF)
    high = carried + high * _LOW_FACTOR + low * _HIGH_FACTOR
    return _added(high, low * _LOW_FACTOR, step_high, step_low)


def _added(
    high: np.ndarray, low: np.ndarray, more_high: np.ndarray, more_low: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sums of 128-bit numbers."""
    total = low + more_low
    return high + more_high + (total < low), total
