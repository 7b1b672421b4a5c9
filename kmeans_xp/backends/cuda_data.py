"""What is done once per array: scale, centring point, half-precision copies, grids of columns."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kmeans_xp.backends.cuda_kernels import Kernel, Target, padded, plain_variant
from kmeans_xp.backends.nvrtc import DeviceUnsupported

LONGEST = 255.0  # scaled rows and centroids stay below 256, where packed scores are exact
SAMPLE_ROWS, SAMPLE_SIZE = 1024, 1 << 19
MAX_LEVELS = 24
NO_BIT = 4096  # column_stats found no nonzero element


def _sample_frame(sample: np.ndarray) -> tuple[int, np.ndarray, float]:
    """Return (e, middle, size).

    sample * 2^e has its median at `middle` and typical rows of length `size` about it.
    """
    with np.errstate(all="ignore"):
        reach = np.quantile(np.abs(sample).max(axis=1), 0.995, method="lower")
        if reach == 0:
            reach = np.abs(sample).max()
        e = -int(np.clip(np.frexp(reach)[1], -1000, 1000)) if reach > 0 else 0
        rows = np.ldexp(sample, e)
        middle = np.median(rows, axis=0)
        lengths = np.sqrt(((rows - middle) ** 2).sum(axis=1))
        size = float(np.quantile(lengths, 0.995, method="lower"))
        if size == 0 or not math.isfinite(size):
            size = float(np.max(lengths[np.isfinite(lengths)], initial=0.0))
    return e, np.nan_to_num(middle), size


def free_bytes() -> int:
    """Bytes that CuPy's pool may still give."""
    import cupy as cp

    pool = cp.get_default_memory_pool()
    free = cp.cuda.Device().mem_info[0] + pool.free_bytes()
    limit = pool.get_limit()
    return int(min(free, limit - pool.used_bytes()) if limit else free)


class Grid:
    """The frame of the exact sums: per column |x| < 2^top, every x a multiple of 2^bottom."""

    def __init__(self, largest: np.ndarray, lowest: np.ndarray) -> None:
        # a column of zeros takes the top of the largest: it must not stretch the common frame
        self.top = np.frexp(np.where(largest > 0, largest, largest.max()))[1].astype(np.int64)
        self.bottom = np.where(lowest == NO_BIT, self.top, lowest).astype(np.int64)
        self.spread = int((self.top - self.bottom).max())

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """Return two factors per column whose product is 2^-top."""
        return split_power(-self.top)


def split_power(exponents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two floats whose product is 2^exponent, which may be out of range itself."""
    first = np.clip(exponents, -1000, 1000)
    return np.ldexp(1.0, first), np.ldexp(1.0, exponents - first)


def levels_for(spread: int) -> int:
    """Return how many levels of 32 bits hold sums of values that span `spread` bits."""
    levels = max(1, -(-(spread - 24) // 32) + 1)
    if levels > MAX_LEVELS:
        raise DeviceUnsupported(f"values span {spread} bits, more than the device sums hold")
    return levels


class Rows:
    """An array on its device, with everything the kernels need to know about it.

    Parameters
    ----------
    X : cupy.ndarray
        (N, D) float16, float32 or float64, finite. Copied only if it is not C-contiguous.
    weights : cupy.ndarray or None
        (N,) non-negative.
    target : Target
        The device.
    memory_limit : int or None
        Bytes the half-precision copies and lists may take; by default what the device has free.
    """

    remedy = "stream the rows from host memory instead"
    bytes_a_row = 8 + 24  # norms and lists

    def __init__(self, X: Any, weights: Any, target: Target, memory_limit: int | None) -> None:
        import cupy as cp

        self.X = cp.ascontiguousarray(X)
        self.N, self.D = map(int, X.shape)
        self._check_shape()
        self.bits = X.dtype.itemsize * 8
        self.Dp = padded(self.D)
        self._claim(memory_limit)
        kernels = plain_variant(("prepare.cu",), X_BITS=self.bits)

        def kernel(name: str) -> Kernel:
            return Kernel(kernels, name, target, threads=256)

        blocks = target.multiprocessors * 8
        self._read_columns(kernel("column_stats"), target)
        self._read_weights(weights, kernel("weight_stats"), blocks)
        self._choose_frame(kernel("largest_norm"), blocks)
        self._allocate_copies()
        self._split(kernel("split_rows"), blocks)

    def _check_shape(self) -> None:
        if self.N >= 1 << 31 or self.D > 1 << 16:
            raise DeviceUnsupported(
                f"shape ({self.N}, {self.D}) exceeds 2^31 rows or 65,536 columns"
            )

    def _allocate_copies(self) -> None:
        import cupy as cp

        self.hi = cp.empty((self.N, self.Dp), cp.uint16)
        self.lo = cp.empty((self.N, self.Dp), cp.uint16)
        self.norms = cp.empty((self.N, 2), cp.float32)

    def _split(self, kernel: Kernel, blocks: int) -> None:
        """Make the half-precision copies."""
        kernel(
            blocks,
            self.X,
            self.centre,
            np.int32(self.N),
            np.int32(self.D),
            np.int32(self.Dp),
            np.float64(self.scale),
            np.float64(self.limit),
            self.hi,
            self.lo,
            self.norms,
        )

    def on_host(self, index: np.ndarray) -> np.ndarray:
        """Return rows of X on the host."""
        import cupy as cp

        return np.asarray(self.X[cp.asarray(np.asarray(index, dtype=np.int64))].get())

    def column_sums(
        self, target: Target, *, power: int, weighted: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return exact column sums of x or x^2 as (levels, exponents), both (L, D)."""
        import cupy as cp

        weighted = weighted and self.weights is not None
        spread, top = power * self.grid.spread, power * self.grid.top
        factors: tuple[float, ...] = (1.0, 1.0)
        weights = self.X
        if weighted:
            spread, top = spread + self.weight_grid.spread, top + self.weight_grid.top
            factors = tuple(float(f[0]) for f in self.weight_grid.factors())
            weights = self.weights
        n_levels = levels_for(spread)
        levels = cp.zeros((n_levels, self.D), cp.int64)
        variant = plain_variant(
            ("moments.cu",), X_BITS=self.bits, POWER=power, WEIGHTED=int(weighted)
        )
        threads = self.D * -(-target.multiprocessors * 1024 // self.D)
        Kernel(variant, "column_sums", target, threads=256)(
            -(-threads // 256),
            self.X,
            weights,
            np.int64(self.N) * self.D,
            np.int32(self.D),
            np.int64(threads),
            *(cp.asarray(f) for f in self.grid.factors()),
            *(np.float64(f) for f in factors),
            levels,
            np.int32(n_levels),
        )
        return levels.get(), (-24 - 32 * np.arange(n_levels))[:, None] + top

    def _claim(self, memory_limit: int | None) -> None:
        wanted = self.N * (4 * self.Dp + self.bytes_a_row)
        if memory_limit is None:
            free = free_bytes()
            memory_limit = free - free // 20
        self.spare = memory_limit - wanted
        if self.spare < 0:
            raise MemoryError(
                f"the CUDA loop wants {wanted:,} bytes beside X and may use {memory_limit:,}; "
                f"{self.remedy}"
            )

    def _read_columns(self, kernel: Kernel, target: Target) -> None:
        import cupy as cp

        N, D = self.N, self.D
        largest = cp.zeros(D, cp.uint64)
        lowest = cp.full(D, NO_BIT, cp.int32)
        threads = D * -(-target.multiprocessors * 2048 // D)
        size = np.int64(N) * D
        kernel(-(-threads // 256), self.X, size, np.int32(D), np.int64(threads), largest, lowest)
        self._set_grid(Grid(largest.get().view(np.float64), lowest.get()))

    def _set_grid(self, grid: Grid) -> None:
        self.grid = grid
        # float64 distances are taken on x * distance_scale, below 1; narrower data need no scale
        top = int(self.grid.top.max()) if self.bits == 64 else 0
        self.distance_scale = math.ldexp(1.0, -max(-1000, min(1000, top)))

    def _read_weights(self, weights: Any, kernel: Kernel, blocks: int) -> None:
        import cupy as cp

        self.weights: Any = None
        spread = self.grid.spread
        if weights is not None:
            self.weights = cp.ascontiguousarray(weights, dtype=cp.float64)
            largest = cp.zeros(1, cp.uint64)
            lowest = cp.full(1, NO_BIT, cp.int32)
            kernel(blocks, self.weights, np.int64(self.N), largest, lowest)
            self.weight_grid = Grid(largest.get().view(np.float64), lowest.get())
            self.weight_levels = levels_for(self.weight_grid.spread)
            spread += self.weight_grid.spread
        self.spread = spread
        self.levels = levels_for(spread)

    def _choose_frame(self, kernel: Kernel, blocks: int) -> None:
        """Pick scale and centre from a sample; far rows must not cost others their precision."""
        import cupy as cp

        count = max(1, min(self.N, SAMPLE_ROWS, SAMPLE_SIZE // self.D))
        rows = np.linspace(0, self.N - 1, count).astype(np.int64)
        e, middle, size = _sample_frame(self.X[cp.asarray(rows)].get().astype(np.float64))
        shift = -math.frexp(size)[1] if size > 0 else 0
        e = max(-1000, min(1000, e + shift))
        middle, size = np.ldexp(middle, shift), math.ldexp(size, shift)
        largest = cp.zeros(1, cp.uint32)
        frame = (cp.asarray(middle), np.int32(self.N), np.int32(self.D))
        kernel(blocks, self.X, *frame, np.float64(math.ldexp(1.0, e)), largest)
        reach = float(largest.get().view(np.float32)[0])
        limit = min(reach, 8 * size) if size > 0 else reach
        if not 0 < limit < math.inf:
            limit = 1.0
        k = math.floor(math.log2(LONGEST / limit))
        k = max(-1000, min(1000, e + k)) - e
        self.scale = math.ldexp(1.0, e + k)
        self.centre = cp.asarray(np.ldexp(middle, k))
        self.limit = math.ldexp(limit, k) * (1 + 1e-6)
