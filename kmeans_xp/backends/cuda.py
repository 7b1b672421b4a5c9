"""Lloyd iterations on one CUDA device: exact labels, exact sums, correctly rounded means.

An iteration is one chain of kernels without a host read in between:

    write_images   half-precision tiles of the centroids and the scalars of the error bounds
    list_unsafe    (pruned iterations) the rows whose distance bounds do not settle their label
    certify        rows on the tensor cores; those without a proof go to a list
    recheck        that list with hi + lo halves
    decide_*       what is left in float64, then by an exact sign
    list_moved     the rows whose label changed
    *_entries      counting sort of all rows, or of the moved ones when they are few
    segment_sums   exact integer sums (new, or the difference)
    means          correctly rounded centroids, the shift, the empty clusters; the state block goes
                   to pinned host memory

Few columns and clusters take `label_small` instead of the tensor cores, small arrays `sum_moved`
instead of the sort. The chain is captured once as a CUDA graph. The host launches the next
iteration before it has read the last one.
"""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from kmeans_xp.backends import cuda_selftest
from kmeans_xp.backends.cuda_data import Rows
from kmeans_xp.backends.cuda_iteration import COUNTS, STATE, Iteration
from kmeans_xp.backends.cuda_kernels import Target
from kmeans_xp.backends.cuda_seeding import DevicePotential, farthest_rows
from kmeans_xp.backends.nvrtc import DeviceUnsupported

__all__ = ["DeviceLloyd", "DevicePotential", "DeviceUnsupported", "Handle", "StepState"]

LOG_SLOTS, CENTROID_SLOTS = 8, 4
ALGORITHMS = ("auto", "lloyd", "hamerly")
# "auto" prunes once fewer than 1 row in SETTLED changes its label, and stops for a while when the
# bounds still leave more than this share of the rows to look at.
SETTLED, USELESS = 12, 0.6


class Handle:
    """Centroids on the device."""

    __slots__ = ("__weakref__", "array", "serial")

    def __init__(self, serial: int, array: Any = None) -> None:
        self.serial = serial  # the iteration that wrote them
        self.array = array  # a copy of its own, once the ring of recent centroids needs the place


class StepState:
    """What one iteration did.

    Attributes
    ----------
    changed : int
        Rows whose label differs from the previous assignment.
    n_empty : int
        Clusters whose total weight is zero.
    shift_low, shift_high : float
        Bounds of the real sum of |c_new - c_old|^2; both 0.0 if and only if no centroid moved.
    rechecked : int
        Rows that the fast pass left open.
    centroids : Handle
        The new centroids.
    """

    __slots__ = (
        "_counts",
        "centroids",
        "changed",
        "n_empty",
        "rechecked",
        "shift_high",
        "shift_low",
    )

    def __init__(self, counts: list[int], shift: tuple[float, float], centroids: Handle) -> None:
        self._counts = counts
        self.rechecked = counts[0]
        self.changed = counts[4]
        self.n_empty = counts[7]
        self.shift_low, self.shift_high = shift
        self.centroids = centroids

    @property
    def details(self) -> dict[str, int]:
        """Counts of every tier, for benchmarks and tests."""
        return dict(zip(COUNTS, self._counts, strict=True))


class _Launched:
    """An iteration in flight."""

    __slots__ = ("event", "pruned", "result", "serial", "source")

    def __init__(self, serial: int, source: Handle, event: Any, pruned: bool) -> None:
        self.serial, self.source, self.event, self.pruned = serial, source, event, pruned
        self.result = Handle(serial)


class _Policy:
    """When "auto" works with distance bounds: a matter of speed only."""

    def __init__(self, algorithm: str, n_rows: int) -> None:
        self._algorithm, self._n_rows = algorithm, n_rows
        self.restart()

    def restart(self) -> None:
        """Begin a fit."""
        self.pruned = self._algorithm == "hamerly"
        self._pause, self._next_pause, self._age = 0, 8, 0

    def learn(self, changed: int, todo: int, pruned: bool) -> None:
        """Look at a finished iteration."""
        if self._algorithm != "auto":
            return
        if not self.pruned:
            self._pause -= 1
            self.pruned = self._pause < 0 and changed * SETTLED < self._n_rows
            self._age = 0
        elif pruned:
            self._age += 1
            if self._age > 2 and todo > USELESS * self._n_rows:
                self.pruned = False
                self._pause, self._next_pause = self._next_pause, 2 * self._next_pause


class DeviceLloyd:
    """One array on one CUDA device, ready for Lloyd iterations.

    All work is queued on the stream that is current when the object is made. One object serves one
    thread at a time; different objects are independent.

    Parameters
    ----------
    X : cupy.ndarray
        (N, D) float16, float32 or float64, finite; never modified. Copied once if not C-contiguous.
    weights : cupy.ndarray, optional
        (N,) float32 or float64, not negative.
    memory_limit : int, optional
        Bytes that may be taken beside X; by default nearly what the device has free.
    algorithm : {"auto", "lloyd", "hamerly"}
        Whether rows may be skipped by distance bounds. The results are the same bits.

    Raises
    ------
    DeviceUnsupported
        If the device is older than compute capability 8.0, a kernel does not compile, or the
        numbers span more bits than the integer sums hold.
    MemoryError
        If the copies do not fit; `start` may raise it as well.
    """

    def __init__(
        self,
        X: Any,
        weights: Any = None,
        *,
        memory_limit: int | None = None,
        algorithm: str = "auto",
        engine: str = "auto",
        testing: frozenset[str] = frozenset(),
    ) -> None:
        import cupy as cp

        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {ALGORITHMS}, got {algorithm!r}")
        self._device = cp.cuda.Device(X.device.id)
        with self._device:
            self._stream = cp.cuda.get_current_stream()
            self._target = Target.current(engine=engine)
            if "no-self-test" not in testing:
                cuda_selftest.require(self._target, self._twin(engine))
            self._rows = Rows(X, weights, self._target, memory_limit)
            self._labels = cp.full(self._rows.N, -1, cp.int32)
            self._memory = cp.cuda.alloc_pinned_memory(LOG_SLOTS * STATE.itemsize)
            self._events = [
                cp.cuda.Event(block=False, disable_timing=True) for _ in range(LOG_SLOTS)
            ]
        self._log = np.frombuffer(self._memory, np.int32, LOG_SLOTS * STATE.itemsize // 4)
        self._shifts = self._log.view(np.float64)
        self._testing = testing
        self._policy = _Policy(algorithm, self._rows.N)
        self._dtype = np.dtype(np.float64 if self._rows.bits == 64 else np.float32)
        self._iteration: Iteration | None = None
        self._serial = 0
        self._ahead: _Launched | None = None
        self._speculate = True
        self._was_pruned = False
        self._slots: list[weakref.ref[Handle] | None] = [None] * CENTROID_SLOTS

    @staticmethod
    def _twin(engine: str) -> Callable[[Any, str], DeviceLloyd]:
        """Make loops for the self-test."""
        untested = frozenset({"no-self-test"})
        return lambda X, algorithm: DeviceLloyd(
            X, algorithm=algorithm, engine=engine, testing=untested
        )

    def _here(self) -> contextlib.ExitStack:
        """Make our device and stream the current ones."""
        stack = contextlib.ExitStack()
        stack.enter_context(self._device)
        stack.enter_context(self._stream)
        return stack

    # ---- centroids -----------------------------------------------------------------------------
    def start(self, centroids: np.ndarray) -> Handle:
        """Begin with (K, D) centroids and forget all labels.

        The next step counts every row as changed.
        """
        K = len(centroids)
        with self._here():
            self._ahead = None
            for slot in range(CENTROID_SLOTS):
                self._save(slot)
            if self._iteration is None or self._iteration.K != K:
                self._iteration = None  # frees its memory before the next one takes its own
                self._iteration = Iteration(
                    self._rows, self._labels, K, self._target, self._memory.ptr, self._testing
                )
                self._serial = 0
            self._iteration.forget()
            self._policy.restart()
            self._speculate = True
            return self.upload(centroids)

    def upload(self, centroids: np.ndarray) -> Handle:
        """Bring (K, D) centroids to the device; labels and sums stay (for a relocation)."""
        import cupy as cp

        with self._here():
            host = np.ascontiguousarray(centroids, dtype=self._dtype) + self._dtype.type(0)
            return Handle(-1, cp.asarray(host))

    def fetch(self, handle: Handle) -> np.ndarray:
        """Return the centroids on the host."""
        with self._here():
            return np.asarray(self._array(handle).get())

    def _array(self, handle: Handle) -> Any:
        if handle.array is not None:
            return handle.array
        assert self._iteration is not None
        return self._iteration.ring[handle.serial % CENTROID_SLOTS]

    def _save(self, slot: int) -> None:
        """Give the handle whose place in the ring is about to be written a copy of its own."""
        reference = self._slots[slot]
        handle = reference() if reference is not None else None
        if handle is not None and handle.array is None:
            with self._here():
                handle.array = self._array(handle).copy()
        self._slots[slot] = None

    # ---- iterations ----------------------------------------------------------------------------
    def _launch(self, source: Handle, *, speculated: bool) -> _Launched:
        """Enqueue one iteration; a speculated one starts from where the last one ended."""
        iteration = self._iteration
        if iteration is None:
            raise RuntimeError("call start first")
        slot = self._serial % CENTROID_SLOTS
        if self._slots[slot] is not None:
            self._save(slot)
        pruned = self._policy.pruned and not iteration.small
        begins = pruned and not self._was_pruned
        with self._device:
            if speculated and not begins and iteration.ready(pruned):
                iteration.run(self._stream, pruned)
            else:
                with self._stream:
                    if not speculated:
                        iteration.place(self._array(source))
                    if begins:
                        iteration.prune()
                    iteration.run(self._stream, pruned)
            event = self._events[self._serial % LOG_SLOTS]
            event.record(self._stream)
        self._was_pruned = pruned
        launched = _Launched(self._serial, source, event, pruned)
        self._slots[slot] = weakref.ref(launched.result)
        self._serial += 1
        return launched

    def step(self, handle: Handle) -> StepState:
        """Assign every row to its nearest centroid of `handle` and compute the means.

        One further iteration may be queued from the result; it does nothing if a cluster came out
        empty. After a stop call `settle`, which uses it.
        """
        current = self._ahead
        if current is None or current.source is not handle:
            current = self._launch(handle, speculated=False)
        self._ahead = self._launch(current.result, speculated=True) if self._speculate else None
        current.event.synchronize()
        at = current.serial % LOG_SLOTS * (STATE.itemsize // 4)
        counts = self._log[at + 4 : at + 4 + len(COUNTS)].tolist()
        moved, shift = counts[8], float(self._shifts[at // 2 + 8])
        state = StepState(counts, self._bounds(shift) if moved else (0.0, 0.0), current.result)
        self._speculate = not state.n_empty
        if state.n_empty:
            self._ahead = None
        self._policy.learn(state.changed, counts[5], current.pruned)
        return state

    def _bounds(self, total: float) -> tuple[float, float]:
        """Bounds of the squared shift: a float64 sum of squares is good to a few units a term."""
        assert self._iteration is not None
        slack = (self._iteration.K * self._rows.D + 16) * 2.0**-51
        low, high = total * (1 - slack) - 1e-290, total * (1 + slack) + 1e-290
        if self._rows.distance_scale != 1.0:
            unit = -2 * int(math.log2(self._rows.distance_scale))
            with np.errstate(all="ignore"):
                low, high = float(np.ldexp(low, unit)), float(np.ldexp(high, unit))
        tiny, huge = 5e-324, 1.7976931348623157e308
        return min(max(low, 0.0), huge) if low == low else 0.0, max(high, tiny)

    def settle(self, handle: Handle) -> None:
        """Make labels and sums belong to these centroids."""
        if self._ahead is None or self._ahead.source is not handle:
            self._ahead = self._launch(handle, speculated=False)

    # ---- results -------------------------------------------------------------------------------
    def labels(self) -> Any:
        """Return the labels of the last assignment, (N,) int32, as a new array."""
        with self._here():
            return self._labels.copy()

    def cluster_sums(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return the exact sums of the last assignment.

        Returns
        -------
        levels, exponents : (L, K, D) int64 and (L, D) int64
            The sum of column d over cluster k is Σ levels[l, k, d] 2^exponents[l, d].
        weight_levels, weight_exponents : (M, K) int64 and (M,) int64
            The cluster's total weight likewise; without weights the number of its rows.
        """
        if self._iteration is None:
            raise RuntimeError("call start first")
        with self._here():
            return self._iteration.sums.on_host()

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of X on the host."""
        with self._here():
            return self._rows.on_host(rows)

    def column_sums(self, *, power: int, weighted: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return exact sums over all rows of x (power 1) or x^2 (power 2).

        Returns
        -------
        levels, exponents : (L, D) int64
            The sum of column d is Σ levels[l, d] 2^exponents[l, d].
        """
        with self._here():
            return self._rows.column_sums(self._target, power=power, weighted=weighted)

    # ---- seeding and relocation ----------------------------------------------------------------
    def potential(self) -> DevicePotential:
        """Return the potentials of greedy k-means++ on the device."""
        with self._here():
            return DevicePotential(self._rows, self._target, self._device, self._stream)

    def farthest(self, handle: Handle, count: int) -> np.ndarray:
        """Return up to `count` rows that relocation may take, farthest first.

        These are rows with positive weight, by decreasing rn12(|x - c_label|^2) > 0, ties to the
        lowest row; `handle` are the centroids of the last assignment.
        """
        with self._here():
            return farthest_rows(self._rows, self._target, self._labels, self._array(handle), count)
