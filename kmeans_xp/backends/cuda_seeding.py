"""Potentials on the device: greedy k-means++, and the rows that relocation takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmeans_xp.backends.cuda_data import Rows, split_power
from kmeans_xp.backends.cuda_kernels import Kernel, Target, plain_variant
from kmeans_xp.backends.nvrtc import DeviceUnsupported
from kmeans_xp.exact.potentials import rounded_products

UNIT = 2.0**-53
BLOCK = 1024  # rows whose integer weights are added up together
LOCATED = 1024  # draws that are looked up together: each looks at a block
CANDIDATES = (1, 4, 8)


def _lanes(D: int) -> int:
    """Threads that share a row: about four columns each."""
    return min(32, 1 << max(0, math.ceil(math.log2(D / 4)) if D > 4 else 0))


def seed_kernel(name: str, rows: Rows, target: Target, candidates: int = 1) -> Kernel:
    """Return a kernel of seed.cu for these rows."""
    variant = plain_variant(
        ("seed.cu",), X_BITS=rows.bits, LANES=_lanes(rows.D), CANDIDATES=candidates
    )
    return Kernel(variant, name, target, threads=256)


class Frame:
    """Scale and error of squared distances: |x|, |c| < 2^exponent, perhaps on one grid."""

    def __init__(self, rows: Rows, exponent: int, on_grid: bool) -> None:
        self.exponent = exponent
        # float32 rows are scaled in float32 as well
        self.shift = max(-1022, min(1000 if rows.bits == 64 else 120, -exponent))
        self.scale = math.ldexp(1.0, self.shift)
        bits = 2 * (exponent - int(rows.grid.bottom.min()) + 1) + (rows.D - 1).bit_length()
        exact = on_grid and bits <= 53
        self.relative = 0.0 if exact else (rows.D + 8) * UNIT
        lowest = 2 * exponent - 960 + 2 * self.shift
        self.flush = math.ldexp(1.0, lowest) if lowest > -1074 else 0.0

    @classmethod
    def around(cls, rows: Rows, exponent: int, points: np.ndarray) -> Frame:
        """Frame of distances to any points, which may lie off the grid of these rows."""
        with np.errstate(over="ignore"):
            steps = np.ldexp(points.astype(np.float64), -int(rows.grid.bottom.min()))
        on_grid = np.isfinite(steps) & (steps == np.rint(steps))
        return cls(rows, exponent, on_grid=bool(on_grid.all()))

    def settle(
        self,
        rows: Rows,
        index: np.ndarray,
        centres: np.ndarray,
        weight_exponent: int | None = None,
    ) -> Any:
        """Return the potentials of some rows against one centre each, by rational numbers.

        Rows count with their weights if these have an exponent.
        """
        x, w = rows.on_host(index), None
        if weight_exponent is not None:
            import cupy as cp

            w = rows.weights[cp.asarray(index)].get()
        value = rounded_products(x, centres, w, self.exponent, weight_exponent or 0)
        return np.ldexp(value, 2 * (self.exponent + self.shift))


class DevicePotential:
    """Potentials p_i of greedy k-means++ on the device, 8 bytes a row.

    Parameters
    ----------
    rows : Rows
        The array.
    target : Target
        The kind of device.
    device, stream : cupy.cuda.Device, cupy.cuda.Stream
        Where the work is queued.
    exponents : tuple of int, optional
        E and W: every value is below 2^E and every weight below 2^W. They decide what is too small
        to count (docs/exactness.md), so a part of an array takes those of the whole; by default
        those of `rows`.
    """

    def __init__(
        self,
        rows: Rows,
        target: Target,
        device: Any,
        stream: Any,
        exponents: tuple[int, int] | None = None,
    ) -> None:
        import cupy as cp

        self._device, self._stream = device, stream
        self._rows, self._target = rows, target
        self._weight_exponent: int | None = None
        if rows.weights is not None:
            self._weight_exponent = exponents[1] if exponents else int(rows.weight_grid.top[0])
        exponent = exponents[0] if exponents else int(rows.grid.top.max())
        self._frame = Frame(rows, exponent, on_grid=True)
        self._p = cp.zeros(-(-rows.N // BLOCK) * BLOCK, cp.float64)
        self._capacity = max(1 << 16, rows.N // 4)
        self._open = cp.empty((self._capacity, 2), cp.int32)
        self._counters = cp.zeros(2 + max(CANDIDATES), cp.uint64)  # open, largest, costs
        self._totals: np.ndarray = np.zeros(1, np.int64)
        self._block_totals = seed_kernel("block_totals", rows, target)
        self._try_centres: dict[int, Kernel] = {}
        self._power = 1.0
        self._blocks = target.multiprocessors * 8

    def start(self, row: int) -> None:
        """Make p the potentials with this row as the only centre."""
        with self._device, self._stream:
            self._p[: self._rows.N] = math.inf
        self.accept(row)

    def total(self) -> int:
        """Exact Σ q of the current potentials."""
        return int(self._totals.sum())

    def locate(self, targets: list[int]) -> list[int]:
        """For each target the first row whose running sum of q exceeds it."""
        found: list[int] = []
        for lo in range(0, len(targets), LOCATED):
            found += self._located(np.asarray(targets[lo : lo + LOCATED], np.int64))
        return found

    def _located(self, targets: np.ndarray) -> list[int]:
        import cupy as cp

        running = np.cumsum(self._totals)
        blocks = np.searchsorted(running, targets, side="right")
        with self._device, self._stream:
            p = self._p.reshape(-1, BLOCK)[cp.asarray(blocks)].get()
        q = np.floor(p * self._power).astype(np.int64)
        before = running[blocks] - self._totals[blocks]
        inside = np.cumsum(q, axis=1) > (targets - before)[:, None]
        return [int(b * BLOCK + i) for b, i in zip(blocks, inside.argmax(axis=1), strict=True)]

    def costs(self, rows: list[int]) -> list[int]:
        """For each row the exact Σ q after adding it as a centre."""
        costs: list[int] = []
        for first in range(0, len(rows), CANDIDATES[-1]):
            with self._device, self._stream:
                costs += self._costs(rows[first : first + CANDIDATES[-1]])
        return costs

    def _costs(self, rows: list[int]) -> list[int]:
        centres, counters, left = self._try(rows, costs=True)
        costs = [int(c) for c in counters[2 : 2 + len(rows)]]
        if len(left):
            value = self._settle(left, centres)
            for j, q in zip(
                left[:, 1], np.floor(value * self._power).astype(np.int64), strict=True
            ):
                costs[j] += int(q)
        return costs

    def accept(self, row: int) -> None:
        """Add a centre."""
        with self._device, self._stream:
            self._accept(row)

    def _accept(self, row: int) -> None:
        centres, counters, left = self._try([row], costs=False)
        self._settle_lowered(left, centres, counters)

    def _settle_lowered(self, left: np.ndarray, centres: np.ndarray, counters: np.ndarray) -> None:
        """Finish a pass that lowered the potentials: those that are left, scale and totals."""
        import cupy as cp

        largest = float(counters[1:2].view(np.float64)[0])
        if len(left):
            value = self._settle(left, centres)
            self._p[cp.asarray(left[:, 0])] = cp.asarray(value)
            largest = float(self._p[: self._rows.N].max())
        self._power = math.ldexp(1.0, 31 - math.frexp(largest)[1]) if largest > 0 else 1.0
        n_blocks = self._p.size // BLOCK
        totals = cp.empty(n_blocks, cp.uint64)
        self._block_totals(
            n_blocks, self._p, np.int32(self._rows.N), np.float64(self._power), totals
        )
        self._totals = totals.get().astype(np.int64)

    def _settle(self, pairs: np.ndarray, centres: np.ndarray) -> np.ndarray:
        """Return min(p, p_j) of pairs (row, centre j) that the device could not certify."""
        import cupy as cp

        index = pairs[:, 0]
        value = self._frame.settle(self._rows, index, centres[pairs[:, 1]], self._weight_exponent)
        return np.minimum(value, self._p[cp.asarray(index)].get())

    def _try(self, chosen: list[int], *, costs: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One pass: returns the centres, the counters and the pairs (row, centre) left open."""
        import cupy as cp

        rows, frame, n = self._rows, self._frame, len(chosen)
        centres = rows.on_host(np.asarray(chosen)).astype(np.float64)
        scaled = np.ldexp(centres, frame.shift)
        self._counters.fill(0)
        width = next(c for c in CANDIDATES if c >= n)
        if width not in self._try_centres:
            self._try_centres[width] = seed_kernel("try_centres", rows, self._target, width)
        null = np.uint64(0)
        self._try_centres[width](
            self._blocks,
            rows.X,
            null if rows.weights is None else rows.weights,
            *self.weight_factors(),
            np.int32(rows.N),
            np.int32(rows.D),
            np.float64(frame.scale),
            cp.asarray(scaled),
            cp.asarray(scaled.astype(np.float32)),
            np.int32(n),
            np.float64(frame.relative),
            np.float64(frame.flush),
            self._p,
            np.float64(self._power),
            self._counters[2:] if costs else null,
            self._counters[1:],
            self._open,
            np.int32(self._capacity),
            self._counters,
        )
        return (centres, *self._counted())

    def weight_factors(self) -> tuple[np.float64, np.float64]:
        """Two factors that bring weights below 1, as the kernels take them."""
        first, second = split_power(np.asarray(-(self._weight_exponent or 0)))
        return np.float64(first), np.float64(second)

    def _counted(self) -> tuple[np.ndarray, np.ndarray]:
        """Counters of the pass, and the pairs that it left open."""
        counters = self._counters.get()
        left = int(counters[0])
        if left > self._capacity:
            raise DeviceUnsupported(f"{left} potentials need rational arithmetic")
        return counters, self._open[:left].get()


def farthest_rows(
    rows: Rows, target: Target, labels: Any, centroids: Any, count: int
) -> np.ndarray:
    """Return up to `count` rows with positive weight by decreasing rn12(|x − c_label|²) > 0.

    Ties go to the lowest row.
    """
    import cupy as cp

    host = centroids.get().astype(np.float64)
    exponent = max(int(rows.grid.top.max()), int(np.frexp(np.abs(host).max())[1]))
    frame = Frame.around(rows, exponent, host)
    p = cp.empty(rows.N, cp.float64)
    left, n_left = cp.empty((rows.N, 2), cp.int32), cp.zeros(1, cp.int32)
    null = np.uint64(0)
    seed_kernel("own_distances", rows, target)(
        target.multiprocessors * 8,
        rows.X,
        null if rows.weights is None else rows.weights,
        np.int32(rows.N),
        np.int32(rows.D),
        np.float64(frame.scale),
        centroids,
        labels,
        np.float64(frame.relative),
        np.float64(frame.flush),
        p,
        left,
        n_left,
    )
    pairs = left[: int(n_left[0])].get()
    if len(pairs):
        value = frame.settle(rows, pairs[:, 0], host[pairs[:, 1]])
        p[cp.asarray(pairs[:, 0])] = cp.asarray(value)
    return _largest(p, count)


def _largest(p: Any, count: int) -> np.ndarray:
    """Indices of the largest positive values, decreasing, ties to the lowest index."""
    import cupy as cp

    count = min(count, p.size)
    threshold = float(cp.partition(p, p.size - count)[p.size - count])
    above = cp.nonzero(p > threshold)[0].get()
    ties = np.empty(0, np.int64)
    if threshold > 0:
        ties = cp.nonzero(p == threshold)[0][: count - len(above)].get()
    index = np.concatenate([above, ties])
    value = p[cp.asarray(index)].get()
    return index[np.lexsort((index, -value))]
