"""Blocks of rows that come from the host one after the other: copies that run ahead of the passes,
and the kernels of `cuda_iteration` over one block at a time.

Pinned memory and two places on the device are taken once. A block is copied on a stream of its own
while the one before it is computed; events order the two. Exact sums of what blocks change are
added up on the device and fetched once a pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kmeans_xp.backends.cuda_data import LONGEST, Grid, Rows, levels_for
from kmeans_xp.backends.cuda_iteration import STATE, Iteration
from kmeans_xp.backends.cuda_kernels import Kernel, Target, padded, plain_variant
from kmeans_xp.backends.cuda_resident import Resident
from kmeans_xp.backends.nvrtc import DeviceUnsupported
from kmeans_xp.backends.records import Frame
from kmeans_xp.exact import grid as host
from kmeans_xp.exact.sums import ClusterSums

__all__ = [
    "BlockCopies",
    "BlockPasses",
    "CopiedPlace",
    "DeviceUnsupported",
    "Facts",
    "Place",
    "host_grid",
]

LOG_SLOTS = 8
# Bits of a level of the device's sums, and how far its first unit is below the top of a column.
LEVEL_BITS, FIRST_BITS = 32, 24
# Rows whose changes the levels hold before they are fetched.
MOST_ROWS = 1 << 27
# Rows this much longer than usual ones are left to the exact tiers.
FAR = 4
# Bits of a mantissa, and the exponent of the smallest number, by item size.
FORMATS = {2: (11, -24), 4: (24, -149), 8: (53, -1074)}


@dataclass(frozen=True)
class Facts:
    """What is known of all rows before their blocks come.

    Attributes
    ----------
    n_rows : int
        Of the largest block.
    dtype : numpy.dtype
        float16, float32 or float64: that of the rows on the device.
    largest : ndarray of float64, shape (D,)
        Largest magnitude a feature.
    smallest : float
        A lower bound of the smallest magnitude that is not zero.
    weight_dtype : numpy.dtype or None
    weight_range : tuple of float or None
        Smallest positive and largest weight.
    frame : Frame
    """

    n_rows: int
    dtype: np.dtype[Any]
    largest: np.ndarray
    smallest: float
    weight_dtype: np.dtype[Any] | None
    weight_range: tuple[float, float] | None
    frame: Frame


def lowest_bit(smallest: float, dtype: np.dtype[Any]) -> int:
    """Exponent of the lowest bit that a magnitude of at least `smallest` may have."""
    bits, least = FORMATS[dtype.itemsize]
    return max(math.frexp(smallest)[1] - bits, least)


def sum_grids(facts: Facts) -> tuple[Grid, Grid | None]:
    """Where the device's sums of values and of weights lie.

    Raises
    ------
    DeviceUnsupported
        If the numbers span more bits than the sums hold.
    """
    low = lowest_bit(facts.smallest, facts.dtype)
    values, weights = Grid(facts.largest, np.full(len(facts.largest), low)), None
    spread = values.spread
    if facts.weight_range is not None:
        assert facts.weight_dtype is not None
        least, high = facts.weight_range
        lowest = np.array([lowest_bit(least, facts.weight_dtype)])
        weights = Grid(np.array([high]), lowest)
        spread += weights.spread
    levels_for(spread)
    return values, weights


def host_grid(facts: Facts, own: host.Grid) -> host.Grid:
    """Levels of the host that lie where the device's are; `own` are those it would choose.

    Raises
    ------
    DeviceUnsupported
        As for `sum_grids`.
    """
    values, weights = sum_grids(facts)
    first = LEVEL_BITS - FIRST_BITS
    if weights is None:
        tops, weight_top = values.top + first, 0
    else:
        tops, weight_top = values.top, int(weights.top[0]) + first
    return host.Grid(tops, weight_top, LEVEL_BITS, own.rows, own.narrow, own.wide)


class Place:
    """Where the passes find a block on the device, and memory for what they tell of it.

    Attributes
    ----------
    x, weights : cupy.ndarray
        The rows; their weights in float64, or None.
    old : cupy.ndarray
        Their labels before the pass; those after it come to `host_labels`.
    """

    x: Any = None
    weights: Any = None

    def __init__(self, n_rows: int) -> None:
        import cupy as cp

        self.n_rows, self.serial = 0, -1
        self.host_labels, self.old = _pair((n_rows,), np.int32)
        self.host_bounds: np.ndarray | None = None
        self.done = cp.cuda.Event(block=False, disable_timing=True)  # the pass over the block is


class CopiedPlace(Place):
    """Likewise for a block on its way from the host: pinned memory there, and on the device."""

    def __init__(self, n_rows: int, n_features: int, dtype: Any, weighted: bool) -> None:
        import cupy as cp

        super().__init__(n_rows)
        self.host_x, self.x = _pair((n_rows, n_features), dtype)
        self.host_weights: np.ndarray | None = None
        if weighted:
            self.host_weights, self.weights = _pair((n_rows,), np.float64)
        self.copied = cp.cuda.Event(block=False, disable_timing=True)  # the copy is over


def _pinned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Pinned memory on the host."""
    import cupy as cp

    size = math.prod(shape)
    memory = cp.cuda.alloc_pinned_memory(size * np.dtype(dtype).itemsize)
    return np.frombuffer(memory, dtype, size).reshape(shape)


def _pair(shape: tuple[int, ...], dtype: Any) -> tuple[np.ndarray, Any]:
    """Pinned memory, and as much on the device."""
    import cupy as cp

    return _pinned(shape, dtype), cp.empty(shape, dtype)


class BlockCopies:
    """Two places that blocks pass through.

    Parameters
    ----------
    n_rows : int
        Of the largest block.
    n_features : int
    dtype : numpy.dtype
        On the device.
    weighted : bool
    """

    def __init__(self, n_rows: int, n_features: int, dtype: Any, weighted: bool) -> None:
        import cupy as cp

        self.stream = cp.cuda.get_current_stream()
        self._copying = cp.cuda.Stream(non_blocking=True)
        self._places = [CopiedPlace(n_rows, n_features, dtype, weighted) for _ in range(2)]
        self._sent = 0
        self.stream.synchronize()  # the memory may have had a use before, on this stream

    def next(self) -> CopiedPlace:
        """Return the place of the next block, once the one before it there is done."""
        place = self._places[self._sent % len(self._places)]
        self._sent += 1
        place.copied.synchronize()
        place.done.synchronize()
        return place

    def send(self, place: CopiedPlace, n_rows: int, *, labels: bool) -> None:
        """Copy what the pinned memory holds; work queued from now on waits for it."""
        place.n_rows = n_rows
        pairs: list[tuple[Any, Any]] = [(place.host_x, place.x)]
        if labels:
            pairs.append((place.host_labels, place.old))
            if place.weights is not None:
                pairs.append((place.host_weights, place.weights))
        for here, there in pairs:
            size = here[:n_rows].nbytes
            there.data.copy_from_host_async(here.ctypes.data, size, self._copying)
        place.copied.record(self._copying)
        self.stream.wait_event(place.copied)

    def wait(self) -> None:
        """Wait until nothing is on its way, whatever has happened."""
        self._copying.synchronize()
        self.stream.synchronize()


class BlockRows(Rows):
    """The rows of whatever block is there, in memory for the largest one."""

    remedy = "open the stream with fewer block_rows"
    bytes_a_row = Rows.bytes_a_row + 8  # and bounds

    def __init__(self, facts: Facts, target: Target) -> None:
        import cupy as cp

        self.N, self.D = facts.n_rows, len(facts.largest)
        self._check_shape()
        self.bits, self.Dp = facts.dtype.itemsize * 8, padded(self.D)
        self._claim(None)
        grid, weight_grid = sum_grids(facts)
        self._set_grid(grid)
        spread = self.grid.spread
        if weight_grid is not None:
            self.weight_grid = weight_grid
            self.weight_levels = levels_for(self.weight_grid.spread)
            spread += self.weight_grid.spread
        self.spread, self.levels = spread, levels_for(spread)
        self._use_frame(facts)
        self._allocate_copies()
        self._passing = self.hi, self.norms
        kernels = plain_variant(("prepare.cu",), X_BITS=self.bits)
        self._split_kernel = Kernel(kernels, "split_rows", target, threads=256)
        self._blocks = target.multiprocessors * 8
        self.X = cp.empty((1, self.D), facts.dtype)  # stands for the first block
        self.weights = self.X if facts.weight_range is not None else None

    def _use_frame(self, facts: Facts) -> None:
        """Scale and centre as the host's pass does, but into the range of the scores."""
        import cupy as cp

        frame, center = facts.frame, facts.frame.center.astype(np.float64)
        with np.errstate(over="ignore"):
            sides = facts.largest * frame.scale + np.abs(center)
            limit = float(np.sqrt(np.square(sides).sum()))
        limit = min(limit, FAR * frame.norm) if frame.norm > 0 else limit
        if not 0 < limit < math.inf:
            limit = 1.0
        e = int(math.log2(frame.scale))
        k = max(-1000, min(1000, e + math.floor(math.log2(LONGEST / limit)))) - e
        self.scale = math.ldexp(1.0, e + k)
        self.centre = cp.asarray(np.ldexp(center, k))
        self.limit = math.ldexp(limit, k) * (1 + 1e-6)

    def show(self, place: Place, kept: tuple[Any, Any] | None = None) -> None:
        """Make the block at this place the rows; their copies go where they are kept, if so."""
        self.X, self.weights, self.N = place.x, place.weights, place.n_rows
        self.hi, self.norms = kept or self._passing
        self._split(self._split_kernel, self._blocks)

    def show_kept(self, kept: tuple[Any, Any]) -> None:
        """Make a block the rows of which there are no more than these copies."""
        self.hi, self.norms = kept
        self.N = len(self.norms)


class BlockPasses:
    """Passes of the kernels over blocks, a block at a time.

    Parameters
    ----------
    facts : Facts
    resident_bytes : int or "auto"
        What half-precision copies may take that stay on the device.

    Raises
    ------
    DeviceUnsupported
        As for `cuda.DeviceLloyd`.
    MemoryError
        If the memory of a block does not fit.
    """

    def __init__(self, facts: Facts, resident_bytes: int | Literal["auto"] = 0) -> None:
        import cupy as cp

        self._facts, self._target = facts, Target.current()
        self._stream = cp.cuda.get_current_stream()
        self._rows = BlockRows(facts, self._target)
        self._labels = cp.empty(facts.n_rows, cp.int32)
        self._memory = cp.cuda.alloc_pinned_memory(LOG_SLOTS * STATE.itemsize)
        self._log = np.frombuffer(self._memory, STATE, LOG_SLOTS)
        row_bytes = self._rows.D * facts.dtype.itemsize
        self._resident = Resident(resident_bytes, self._rows.Dp, row_bytes)
        self._iteration: Iteration | None = None
        self._serial = self._since = 0

    def begin(self, centroids: np.ndarray) -> None:
        """Begin a pass from these centroids."""
        import cupy as cp

        K = len(centroids)
        with self._stream:
            if self._iteration is None or self._iteration.K != K:
                self._iteration = None  # frees its memory before the next one takes its own
                self._rows.N = self._facts.n_rows
                self._iteration = Iteration(
                    *(self._rows, self._labels, K, self._target, self._memory.ptr), differences=True
                )
                self._serial = 0
            self._iteration.place(cp.asarray(centroids))
            self._forget()

    def _forget(self) -> None:
        assert self._iteration is not None
        self._iteration.all_levels.fill(0)
        self._iteration.counts.fill(0)
        self._since = 0

    def enqueue(self, place: Place, *, bounded: bool, keep: int | None = None) -> None:
        """Assign the block at this place, and copy its labels to the pinned memory there.

        With `bounded`, the bounds of its distances too. With `keep`, the number of a block that is
        there in its whole, its half-precision copy stays on the device if there is room.
        """
        iteration = self._iteration
        assert iteration is not None
        with self._stream:
            iteration.old = place.old
            results = [(self._labels, place.host_labels)]
            if bounded:
                results.append((self._bounds(iteration), self._host_bounds(place)))
            kept = None if keep is None else self._resident.make(keep, place.n_rows)
            self._rows.show(place, kept)
            iteration.enqueue(bounded=bounded)
            self._fetch(place, results)
        place.serial = self._serial
        self._serial += 1
        self._since += place.n_rows

    def bring_labels(self, place: Place) -> None:
        """Copy the labels in its pinned memory to the device, in turn with the passes."""
        size = place.host_labels[: place.n_rows].nbytes
        place.old.data.copy_from_host_async(place.host_labels.ctypes.data, size, self._stream)

    def _fetch(self, place: Place, results: list[tuple[Any, np.ndarray]]) -> None:
        """Copy what was found of a block to pinned memory."""
        for there, here in results:
            size = here[: place.n_rows].nbytes
            there.data.copy_to_host_async(here.ctypes.data, size, self._stream)
        place.done.record(self._stream)

    def keeps(self, block: int) -> bool:
        """Whether a copy of this block is on the device."""
        return self._resident.get(block) is not None

    def look(self, block: int, place: Place) -> None:
        """Assign a block by its copy, after `begin`: −2 for rows whose label that does not prove.

        The labels go to the pinned memory of the place.
        """
        iteration, kept = self._iteration, self._resident.get(block)
        assert iteration is not None and kept is not None
        with self._stream:
            self._rows.show_kept(kept)
            place.n_rows = self._rows.N
            iteration.look()
            self._fetch(place, [(self._labels, place.host_labels)])

    def _bounds(self, iteration: Iteration) -> Any:
        """Memory for the bounds of the largest block."""
        if iteration.bounds is None:
            shown, self._rows.N = self._rows.N, self._facts.n_rows
            iteration.make_bounds()
            self._rows.N = shown
        assert iteration.bounds is not None
        return iteration.bounds.values

    def _host_bounds(self, place: Place) -> np.ndarray:
        if place.host_bounds is None:
            place.host_bounds = _pinned((self._facts.n_rows, 2), np.float32)
        return place.host_bounds

    def bounds(self, place: Place) -> tuple[np.ndarray, np.ndarray]:
        """Upper and lower bounds of a finished block, in the frame of the host's pass."""
        assert place.host_bounds is not None
        values = place.host_bounds[: place.n_rows].astype(np.float64)
        values *= self._facts.frame.scale / self._rows.scale  # a power of two
        with np.errstate(over="ignore", under="ignore"):
            upper = (values[:, 0] * (1 + 2.0**-22) + 1e-37).astype(np.float32)
            lower = np.minimum(values[:, 1] * (1 - 2.0**-22) - 1e-37, 1e30).astype(np.float32)
        return upper, np.maximum(lower, 0)

    def finished(self, place: Place) -> tuple[int, int]:
        """Wait for the pass over this block; counts changed and rechecked rows."""
        place.done.synchronize()
        state = self._log[place.serial % LOG_SLOTS]
        return int(state["n_changed"]), int(state["n_open"])

    @property
    def full(self) -> bool:
        """Whether the sums must be fetched before the next block."""
        return self._since >= MOST_ROWS

    def add_to(self, sums: ClusterSums) -> None:
        """Add what the blocks since the last call have changed, to sums on `host_grid`."""
        iteration = self._iteration
        assert iteration is not None
        K = iteration.K
        with self._stream:
            values, _, weights, _ = iteration.sums_on_host()
            self._forget()
        for level, value in enumerate(_carried(values[:, :K])):
            sums.value_level(level)[...] += value
        for level, weight in enumerate(_carried(weights[:, :K])):
            sums.weight_level(level)[...] += weight


def _carried(levels: np.ndarray) -> np.ndarray:
    """Levels of the same sums with at most 32 bits in all but the first: passes may add them up."""
    for lower, upper in zip(levels[:0:-1], levels[-2::-1], strict=True):
        carry = (lower + (1 << (LEVEL_BITS - 1))) >> LEVEL_BITS
        lower -= carry << LEVEL_BITS
        upper += carry
    return levels
