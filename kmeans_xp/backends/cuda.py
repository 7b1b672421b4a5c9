"""Lloyd iterations on one CUDA device: exact labels, exact sums, correctly rounded means.

An iteration is one chain of kernels without a host read in between:

    write_images   half-precision tiles of the centroids and the scalars of the error bounds
    (bounds)       rows whose label cannot have changed are left out (`cuda_bounds`)
    certify        every other row on the tensor cores; rows without a proof go to a list
    recheck        those rows with hi + lo halves
    decide_*       what is left in float64, then by an exact sign
    list_moved     the rows whose label changed
    *_entries      counting sort of all rows, or of the moved ones when they are few
    segment_sums   exact integer sums (new, or the difference)
    means          correctly rounded centroids, the shift, the empty clusters
    finish         the state block goes to pinned host memory

The chain, with and without bounds, is captured once as a CUDA graph. The host launches the next
iteration before it has read the last one.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmeans_xp.backends.cuda_bounds import BYTES_A_ROW, Choice, most_listed
from kmeans_xp.backends.cuda_data import Rows
from kmeans_xp.backends.cuda_iteration import STATE, Iteration
from kmeans_xp.backends.cuda_kernels import Target
from kmeans_xp.backends.cuda_oversampling import DeviceOversampling
from kmeans_xp.backends.cuda_seeding import DevicePotential, farthest_rows
from kmeans_xp.backends.nvrtc import DeviceUnsupported

__all__ = ["DeviceLloyd", "DevicePotential", "DeviceUnsupported", "Handle", "StepState"]

LOG_SLOTS, CENTROID_SLOTS = 8, 4


class Handle:
    """Centroids on the device."""

    def __init__(self, serial: int | None, array: Any = None) -> None:
        self.serial = serial  # the iteration that wrote them; None: given by the host
        self.array = array  # a copy of its own, once the ring of recent centroids needs the place


@dataclass(frozen=True)
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
        Rows that the half-precision pass left open.
    centroids : Handle
        The new centroids.
    details : dict
        Counts of the later tiers, for benchmarks and tests.
    """

    changed: int
    n_empty: int
    shift_low: float
    shift_high: float
    rechecked: int
    centroids: Handle
    details: dict[str, int]


@dataclass
class _Launched:
    serial: int
    source: Handle
    result: Handle
    event: Any
    bounded: bool


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
    algorithm : {"lloyd", "auto", "hamerly", "elkan"}, default "lloyd"
        Whether to keep bounds of distances: never, while they pay, or always if there is memory;
        counts from the next `start` on.
    engine : {"auto", "mma"}, default "auto"
        "mma" does without the tensor cores' newest instructions, for tests, and runs where "auto"
        is not known to be within the error bound.
    testing : frozenset of str
        Parts to switch off or on, as `cuda_iteration.Iteration` says; for tests only.

    Raises
    ------
    DeviceUnsupported
        If the compute capability is not 9.0, a kernel does not compile, or the numbers span more
        bits than the integer sums hold.
    MemoryError
        If the copies do not fit.
    """

    def __init__(
        self,
        X: Any,
        weights: Any = None,
        *,
        memory_limit: int | None = None,
        algorithm: str = "lloyd",
        engine: str = "auto",
        testing: frozenset[str] = frozenset(),
    ) -> None:
        import cupy as cp

        self._device = cp.cuda.Device(X.device.id)
        with self._device:
            self._stream = cp.cuda.get_current_stream()
            self._target = Target.current(engine=engine)
            self._rows = Rows(X, weights, self._target, memory_limit)
            N = self._rows.N
            self._labels = cp.full(N, -1, cp.int32)
            self._memory = cp.cuda.alloc_pinned_memory(LOG_SLOTS * STATE.itemsize)
            # an iteration begun ahead writes there: it must end before the memory is given away
            weakref.finalize(self, self._stream.synchronize).atexit = False
            self._log = np.frombuffer(self._memory, STATE, LOG_SLOTS)
        self.algorithm = algorithm
        self._testing = testing
        self._dtype = np.dtype(np.float64 if self._rows.bits == 64 else np.float32)
        self._iteration: Iteration | None = None
        self._choice = self._new_choice(1)
        self._serial = 0
        self._ahead: _Launched | None = None
        self._slots: list[weakref.ref[Handle] | None] = [None] * CENTROID_SLOTS

    # ---- centroids

    def start(self, centroids: np.ndarray) -> Handle:
        """Begin with (K, D) centroids and forget all labels.

        The next step counts every row as changed.
        """
        K = len(centroids)
        with self._device, self._stream:
            self._ahead = None
            for slot in range(CENTROID_SLOTS):
                self._save(slot)
            if self._iteration is None or self._iteration.K != K:
                self._iteration = None  # frees its memory before the next one takes its own
                self._iteration = Iteration(
                    self._rows, self._labels, K, self._target, self._memory.ptr, self._testing
                )
                self._serial = 0
                self._slots = [None] * CENTROID_SLOTS
            self._iteration.forget()
            self._choice = self._new_choice(K)
        return self.upload(centroids)

    def _new_choice(self, K: int) -> Choice:
        rows = self._rows
        room = rows.spare >= BYTES_A_ROW * rows.N
        algorithm = self.algorithm if K > 1 and room else "lloyd"
        return Choice(algorithm, rows.N, most_listed(rows.Dp, K))

    def upload(self, centroids: np.ndarray) -> Handle:
        """Bring (K, D) centroids to the device; labels and sums stay (used after a relocation)."""
        import cupy as cp

        with self._device, self._stream:
            host = np.ascontiguousarray(centroids, dtype=self._dtype) + self._dtype.type(0)
            return Handle(None, cp.asarray(host))

    def fetch(self, handle: Handle) -> np.ndarray:
        """Return the centroids on the host."""
        with self._device, self._stream:
            return np.asarray(self._array(handle).get())

    def _array(self, handle: Handle) -> Any:
        if handle.array is not None:
            return handle.array
        assert self._iteration is not None and handle.serial is not None
        return self._iteration.ring[handle.serial % CENTROID_SLOTS]

    def _save(self, slot: int) -> None:
        """Give the handle whose place in the ring is about to be written a copy of its own."""
        reference = self._slots[slot]
        handle = reference() if reference is not None else None
        if handle is not None and handle.array is None:
            handle.array = self._array(handle).copy()
        self._slots[slot] = None

    # ---- iterations

    def _launch(self, source: Handle, *, speculated: bool) -> _Launched:
        """Enqueue one iteration.

        A speculated one starts from where the last one ended, if nothing was empty.
        """
        import cupy as cp

        iteration = self._iteration
        if iteration is None:
            raise RuntimeError("call start first")
        slot = self._serial % CENTROID_SLOTS
        self._save(slot)
        if not speculated:
            iteration.place(self._array(source))
        bounded = self._bounded(iteration)
        iteration.run(self._stream, bounded=bounded)
        result = Handle(self._serial)
        self._slots[slot] = weakref.ref(result)
        event = cp.cuda.Event(block=False, disable_timing=True)
        event.record(self._stream)
        launched = _Launched(self._serial, source, result, event, bounded)
        self._serial += 1
        return launched

    def _bounded(self, iteration: Iteration) -> bool:
        """Whether the next iteration keeps bounds; their memory is taken when it first does."""
        from cupy.cuda.memory import OutOfMemoryError

        if self._choice.bounded:
            try:
                iteration.make_bounds()
            except (OutOfMemoryError, DeviceUnsupported):
                self._choice.refuse()
        return self._choice.bounded

    def step(self, handle: Handle) -> StepState:
        """Assign every row to its nearest centroid of `handle` and compute the means.

        One further iteration is queued from the result; it does nothing if a cluster came out
        empty. After a stop call `settle`, which uses it.
        """
        with self._device, self._stream:
            ahead = self._ahead
            if ahead is None or ahead.source is not handle:
                ahead = self._launch(handle, speculated=False)
            self._ahead = self._launch(ahead.result, speculated=True)
            ahead.event.synchronize()
            state = self._log[ahead.serial % LOG_SLOTS].copy()
            if state["n_empty"]:
                self._ahead = None
        listed = int(state["n_todo"]) if state["listed"] else None
        self._choice.saw(int(state["n_changed"]), listed, bounded=ahead.bounded)
        low, high = self._shift(state)
        return StepState(
            changed=int(state["n_changed"]),
            n_empty=int(state["n_empty"]),
            shift_low=low,
            shift_high=high,
            rechecked=int(state["n_open"]),
            centroids=ahead.result,
            details={name: int(state[name]) for name in (*STATE.names[4:16], "listed")},  # type: ignore[index] # has names
        )

    def _shift(self, state: Any) -> tuple[float, float]:
        """Bounds of the squared shift: a float64 sum of squares is within a few units per term."""
        assert self._iteration is not None
        if not state["n_moved"]:
            return 0.0, 0.0
        total = float(state["shift"])
        slack = (self._iteration.K * self._rows.D + 16) * 2.0**-51
        unit = -2 * int(math.log2(self._rows.distance_scale))
        with np.errstate(all="ignore"):
            low = float(np.ldexp(total * (1 - slack) - 1e-290, unit))
            high = float(np.ldexp(total * (1 + slack) + 1e-290, unit))
        tiny, huge = 5e-324, 1.7976931348623157e308
        return min(max(low, 0.0), huge) if low == low else 0.0, max(high, tiny)

    def settle(self, handle: Handle) -> None:
        """Make labels and sums belong to these centroids."""
        with self._device, self._stream:
            if self._ahead is None or self._ahead.source is not handle:
                self._ahead = self._launch(handle, speculated=False)

    # ---- results

    def labels(self) -> Any:
        """Return the labels of the last assignment, (N,) int32, as a new array."""
        with self._device, self._stream:
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
        with self._device, self._stream:
            return self._iteration.sums_on_host()

    def gather(self, rows: np.ndarray) -> np.ndarray:
        """Return rows of X on the host."""
        with self._device, self._stream:
            return self._rows.on_host(rows)

    def column_sums(self, *, power: int, weighted: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return exact sums over all rows of x (power 1) or x^2 (power 2).

        The sum of column d is Σ levels[l, d] 2^exponents[l, d].
        """
        with self._device, self._stream:
            return self._rows.column_sums(self._target, power=power, weighted=weighted)

    # ---- seeding and relocation

    def potential(self, exponents: tuple[int, int] | None = None) -> DevicePotential:
        """Return the potentials of greedy k-means++ on the device.

        `exponents` are those of the array that this one is a part of.
        """
        with self._device, self._stream:
            return DevicePotential(self._rows, self._target, self._device, self._stream, exponents)

    def oversampling(self, exponents: tuple[int, int] | None = None) -> DeviceOversampling:
        """Return the potentials of k-means|| on the device, as `potential`."""
        with self._device, self._stream:
            places = self._device, self._stream
            return DeviceOversampling(self._rows, self._target, *places, exponents)

    def farthest(self, handle: Handle, count: int) -> np.ndarray:
        """Return up to `count` rows that relocation may take, farthest first."""
        with self._device, self._stream:
            return farthest_rows(self._rows, self._target, self._labels, self._array(handle), count)
